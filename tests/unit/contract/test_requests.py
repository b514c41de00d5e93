"""Every bound, every type and every field of a request: taken, or refused by its path."""

import json
from typing import Any

import pytest

from sestet.contract.errors import ApiError
from sestet.contract.requests import UNSUPPORTED, UNSUPPORTED_BLOCKS, CountTokensRequest, MessagesRequest
from sestet.dialects.json_body import parse
from tests.unit.refusals import refusal

MINIMAL: dict[str, Any] = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}


def read(**fields: Any) -> MessagesRequest:
    """The request of the minimal body with these fields put in."""
    return parse(json.dumps({**MINIMAL, **fields}).encode(), MessagesRequest)


def refused(**fields: Any) -> str:
    """The path that the refusal of these fields names."""
    error = refusal(lambda: read(**fields))

    assert error.param is not None
    assert error.message.startswith(f"{error.param}: ")
    return error.param


def message(content: object, role: object = "user") -> list[dict[str, object]]:
    return [{"role": role, "content": content}]


def block(**fields: object) -> list[dict[str, object]]:
    return message([{"type": "text", "text": "x", **fields}])


def test_the_least_request_has_nothing_else_set() -> None:
    request = read()

    assert {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "system": None,
        "thinking": None,
        "tools": None,
        "tool_choice": None,
        "output_config": None,
        "output_format": None,
        "cache_control": None,
        "max_tokens": 1,
        "stream": False,
        "stop_sequences": None,
        "temperature": None,
        "top_p": None,
        "top_k": None,
        "metadata": None,
        "diagnostics": None,
        "service_tier": None,
    } == request.model_dump()


@pytest.mark.parametrize("field", ["model", "max_tokens", "messages"])
def test_a_missing_field_is_named(field: str) -> None:
    body = {key: value for key, value in MINIMAL.items() if key != field}

    assert field == refusal(lambda: parse(json.dumps(body).encode(), MessagesRequest)).param


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 2**31 - 1),
        ("temperature", 0),
        ("temperature", 0.0),
        ("temperature", 1),
        ("temperature", 1.0),
        ("temperature", None),
        ("top_p", 0),
        ("top_p", 1.0),
        ("top_k", 0),
        ("top_k", 2**31 - 1),
        ("model", "m" * 256),
        ("stream", True),
        ("stop_sequences", []),
        ("stop_sequences", None),
        ("stop_sequences", ["s" * 1000]),
        ("stop_sequences", ["s"] * 1000),
        ("metadata", None),
        ("metadata", {}),
        ("metadata", {"user_id": None}),
        ("metadata", {"user_id": "u" * 256}),
        ("service_tier", "auto"),
        ("service_tier", "standard_only"),
        ("system", ""),
        ("system", []),
        ("system", None),
        ("cache_control", {"type": "ephemeral"}),
        ("cache_control", {"type": "ephemeral", "ttl": "1h"}),
        ("cache_control", None),
    ],
)
def test_a_value_at_its_bound_is_taken(field: str, value: object) -> None:
    assert {field: value} == read(**{field: value}).model_dump(include={field}, exclude_unset=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", -1),
        ("max_tokens", 2**31),
        ("max_tokens", 10**400),
        ("temperature", -0.001),
        ("temperature", 1.001),
        ("temperature", 10**400),
        ("top_p", -0.1),
        ("top_p", 1.1),
        ("top_k", -1),
        ("top_k", 2**31),
        ("model", ""),
        ("model", "m" * 257),
        ("messages", []),
        ("messages", MINIMAL["messages"] * 100_001),
        ("stop_sequences", ["s"] * 1001),
        ("service_tier", "priority"),
        ("service_tier", ""),
    ],
)
def test_a_value_beyond_its_bound_is_refused_by_its_path(field: str, value: object) -> None:
    assert field == refused(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", True),
        ("max_tokens", 1.0),
        ("max_tokens", "1"),
        ("max_tokens", None),
        ("max_tokens", [1]),
        ("temperature", True),
        ("temperature", "1"),
        ("top_p", False),
        ("top_p", "0.5"),
        ("top_k", True),
        ("top_k", 1.0),
        ("top_k", "1"),
        ("stream", 1),
        ("stream", 0),
        ("stream", "true"),
        ("stream", None),
        ("model", 1),
        ("model", None),
        ("model", ["m"]),
        ("messages", None),
        ("messages", "x"),
        ("messages", {"role": "user", "content": "x"}),
        ("system", 1),
        ("system", {"type": "text", "text": "x"}),
        ("stop_sequences", "s"),
        ("stop_sequences", {"0": "s"}),
        ("metadata", "u"),
        ("metadata", []),
        ("service_tier", 1),
        ("cache_control", "ephemeral"),
        ("cache_control", True),
    ],
)
def test_a_value_of_another_type_is_never_converted(field: str, value: object) -> None:
    assert field == refused(**{field: value})


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"messages": [5]}, "messages.0"),
        ({"messages": [{}]}, "messages.0.role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": message("x", "tool")}, "messages.0.role"),
        ({"messages": message("x", 1)}, "messages.0.role"),
        ({"messages": message(None)}, "messages.0.content"),
        ({"messages": message(5)}, "messages.0.content"),
        ({"messages": message({"type": "text", "text": "x"})}, "messages.0.content"),
        ({"messages": message(["x"])}, "messages.0.content.0"),
        ({"messages": message([None])}, "messages.0.content.0"),
        ({"messages": message([{}])}, "messages.0.content.0.type"),
        ({"messages": message([{"type": "text"}])}, "messages.0.content.0.text"),
        ({"messages": block(text="")}, "messages.0.content.0.text"),
        ({"messages": block(text=5)}, "messages.0.content.0.text"),
        ({"messages": block(type=5)}, "messages.0.content.0.type"),
        ({"messages": block(type="hologram")}, "messages.0.content.0.type"),
        ({"messages": block(colour="red")}, "messages.0.content.0.colour"),
        ({"messages": block(citations=[{"type": "char_location"}])}, "messages.0.content.0.citations"),
        ({"messages": block(citations=5)}, "messages.0.content.0.citations"),
        ({"messages": block(cache_control={"type": "eternal"})}, "messages.0.content.0.cache_control.type"),
        (
            {"messages": block(cache_control={"type": "ephemeral", "ttl": "2h"})},
            "messages.0.content.0.cache_control.ttl",
        ),
        ({"messages": [*MINIMAL["messages"], {"role": "user", "content": 5}]}, "messages.1.content"),
        ({"messages": [{**MINIMAL["messages"][0], "name": "bob"}]}, "messages.0.name"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"system": [{"type": "text", "text": ""}]}, "system.0.text"),
        ({"metadata": {"user_id": "u" * 257}}, "metadata.user_id"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id"),
        ({"metadata": {"email": "a@b"}}, "metadata.email"),
        ({"cache_control": {}}, "cache_control.type"),
        ({"stop_sequences": ["ok", ""]}, "stop_sequences.1"),
        ({"stop_sequences": [" \n\t"]}, "stop_sequences.0"),
        ({"stop_sequences": ["s" * 1001]}, "stop_sequences.0"),
        ({"stop_sequences": [5]}, "stop_sequences.0"),
        ({"stop_sequences": ["ok", None]}, "stop_sequences.1"),
        ({"stop_sequences": [["s"]]}, "stop_sequences.0"),
        ({"stop_sequences": [True]}, "stop_sequences.0"),
    ],
)
def test_what_is_wrong_inside_is_named_by_its_whole_path(fields: dict[str, Any], path: str) -> None:
    assert path == refused(**fields)


@pytest.mark.parametrize("key", ["max_token", "messages_", "n", "", "a.b", "<x>", "<text>", "0"])
def test_an_unknown_key_is_refused_by_its_name(key: str) -> None:
    error = refusal(lambda: read(**{key: 1}))

    assert (key or None, "Extra inputs are not permitted") == (error.param, error.args[0])


def test_an_unknown_key_is_shown_printable_and_cut_short() -> None:
    assert "?" + "k" * 79 == refused(**{"\u2028" + "k" * 200: 1})


@pytest.mark.parametrize("field", sorted(UNSUPPORTED))
@pytest.mark.parametrize(
    "value", [True, 1, "on", {"type": "made up"}, ["x"], {"type": "enabled", "budget_tokens": 2048}]
)
def test_a_field_not_supported_yet_is_refused_by_its_path(field: str, value: object) -> None:
    assert field == refused(**{field: value})


@pytest.mark.parametrize(
    ("field", "off"), [(field, off) for field in UNSUPPORTED for off in (None, *UNSUPPORTED[field])]
)
def test_a_field_not_supported_yet_is_taken_with_the_value_that_asks_for_nothing(field: str, off: object) -> None:
    assert read() == read(**{field: off})


def test_the_fields_refused_are_those_of_the_contract() -> None:
    assert [
        "billing_policy",
        "compaction",
        "container",
        "context_management",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "mcp_servers",
        "speed",
        "thread",
    ] == sorted(UNSUPPORTED)


def test_of_two_unsupported_fields_one_is_named_and_always_the_same() -> None:
    assert ["speed", "speed"] == [refused(speed="fast", thread="t"), refused(thread="t", speed="fast")]


@pytest.mark.parametrize("kind", sorted(UNSUPPORTED_BLOCKS))
def test_a_block_not_supported_yet_is_told_from_one_that_does_not_exist(kind: str) -> None:
    error = refusal(lambda: read(messages=message([{"type": kind}])))

    assert ("messages.0.content.0.type", f"`{kind}` blocks are not supported by this server yet") == (
        error.param,
        error.args[0],
    )


def test_a_long_block_type_is_cut_in_the_answer() -> None:
    error = refusal(lambda: read(messages=message([{"type": "k" * 10_000}])))

    assert len(error.message) < 250


def test_a_request_cannot_be_changed_after_reading() -> None:
    request = read()

    with pytest.raises(ValueError, match="frozen"):
        request.max_tokens = 5


def test_a_count_takes_what_shapes_the_prompt() -> None:
    body = {"model": "m", "messages": MINIMAL["messages"], "system": "s", "cache_control": None}

    assert "s" == parse(json.dumps(body).encode(), CountTokensRequest).system


@pytest.mark.parametrize("field", ["max_tokens", "stream", "temperature", "stop_sequences", "metadata"])
def test_a_count_refuses_what_only_a_reply_has(field: str) -> None:
    body = {"model": "m", "messages": MINIMAL["messages"], field: 1}

    assert field == refusal(lambda: parse(json.dumps(body).encode(), CountTokensRequest)).param


def test_a_refusal_never_shows_the_value() -> None:
    with pytest.raises(ApiError) as caught:
        read(metadata={"user_id": "sentinel-secret" * 100})

    assert "sentinel" not in caught.value.message
