"""Breakpoints that break a rule are refused by their path; the automatic one belongs to the last block."""

from typing import Any

import pytest

from sestet.contract.caching import Lifetime
from sestet.contract.requests import CountTokensRequest
from sestet.turn.breakpoints import check_breakpoints
from tests.unit.refusals import refusal

SHORT = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def text(**fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": "x", **fields}


def tool(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object"}, **fields}


def asked(*blocks: dict[str, Any], **fields: Any) -> CountTokensRequest:
    content = list(blocks) or [text()]
    return CountTokensRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": content}], **fields}
    )


@pytest.mark.parametrize(
    ("request_", "lifetime"),
    [
        (asked(), None),
        (asked(**SHORT), "5m"),
        (asked(**HOUR), "1h"),
        (asked(text(**SHORT)), None),
        (asked(text(**HOUR), **HOUR), None),  # the last block has it already
        (asked(text(**HOUR), text(), **SHORT), "5m"),
        (asked(*[text(**SHORT)] * 4), None),
        (asked(*[text(**SHORT)] * 4, **SHORT), None),
        (asked(text(**SHORT), tools=[tool(**HOUR)], system=[text(**HOUR)]), None),
        (asked(cache_control=None), None),
    ],
)
def test_what_keeps_to_the_rules_is_taken(request_: CountTokensRequest, lifetime: Lifetime | None) -> None:
    assert lifetime == check_breakpoints(request_)


@pytest.mark.parametrize(
    ("request_", "path", "says"),
    [
        (asked(*[text(**SHORT)] * 5), "messages.0.content.4", "Found 5"),
        (asked(*[text(**SHORT)] * 4, text(), **SHORT), "cache_control", "Found 5"),
        (asked(*[text(**SHORT)] * 3, system=[text(**SHORT)], tools=[tool(**SHORT)]), "messages.0.content.2", "Found 5"),
        (asked(text(**SHORT), text(**HOUR)), "messages.0.content.1.cache_control.ttl", "messages.0.content.0"),
        (asked(text(**HOUR), system=[text(**SHORT)]), "messages.0.content.0.cache_control.ttl", "system.0"),
        (asked(system=[text(**HOUR)], tools=[tool(**SHORT)]), "system.0.cache_control.ttl", "tools.0"),
        (asked(text(**SHORT), text(), **HOUR), "cache_control.ttl", "messages.0.content.0"),
        (asked(text(**SHORT), **HOUR), "cache_control", "another ttl (5m)"),
        (asked(text(**HOUR), **SHORT), "cache_control", "another ttl (1h)"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_path(request_: CountTokensRequest, path: str, says: str) -> None:
    error = refusal(lambda: check_breakpoints(request_))

    assert path == error.param
    assert says in error.message


def test_breakpoints_within_an_answer_of_a_tool_count() -> None:
    answer = {"type": "tool_result", "tool_use_id": "t", "content": [text(**SHORT)] * 3, **SHORT}
    error = refusal(lambda: check_breakpoints(asked(answer, text(**SHORT))))

    assert "messages.0.content.1" == error.param
