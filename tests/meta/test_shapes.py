"""Requests that are wrong in many places are refused by the first, or one small body would fill the memory with what is
wrong with it."""

from collections.abc import Iterator
from typing import Any

import pytest

from sestet.contract.requests import CountTokensRequest, MessagesRequest, Shape
from sestet.dialects.openai_requests import ChatRequest
from sestet.dialects.responses_requests import InputTokensRequest, ResponsesRequest

REQUESTS = (MessagesRequest, CountTokensRequest, ChatRequest, ResponsesRequest, InputTokensRequest)


def lists_in(schema: Any, at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    match schema:
        case dict():
            if schema.get("type") == "list":
                yield at, schema
            for key, inner in schema.items():
                if key not in ("metadata", "serialization"):
                    yield from lists_in(inner, f"{at}.{key}")
        case list() | tuple():
            for position, inner in enumerate(schema):
                yield from lists_in(inner, f"{at}.{position}")


@pytest.mark.parametrize("request_type", REQUESTS)
def test_every_list_of_a_request_is_refused_at_its_first_mistake(request_type: type[Shape]) -> None:
    found = list(lists_in(request_type.__pydantic_core_schema__))

    assert found
    assert [] == [
        at
        for at, schema in found
        if not schema.get("fail_fast") and schema.get("items_schema", {"type": "any"})["type"] != "any"
    ]
