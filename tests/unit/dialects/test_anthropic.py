"""The wire: frames, bodies and headers of the Messages API, key by key."""

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from sestet.contract.errors import ApiError, invalid
from sestet.contract.events import (
    BlockDelta,
    BlockSignature,
    BlockStart,
    BlockStop,
    Event,
    Failed,
    MessageDelta,
    MessageStart,
    MessageStop,
    Usage,
)
from sestet.contract.models import ModelInfo
from sestet.dialects import anthropic
from sestet.turn.fold import Block, Message
from tests.unit.refusals import refusal

USAGE = Usage(10, 5, cache_creation_5m=1, cache_creation_1h=2, cache_read_input_tokens=4, thinking_tokens=3)
DELTA_USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 4,
    "output_tokens": 5,
    "output_tokens_details": {"thinking_tokens": 3},
    "server_tool_use": None,
}
WHOLE_USAGE = {
    **DELTA_USAGE,
    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
    "service_tier": "standard",
    "inference_geo": "not_available",
    "speed": "standard",
}
HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "card"}
NOTHING_YET = {
    "stop_reason": None,
    "stop_sequence": None,
    "stop_details": None,
    "container": None,
    "diagnostics": None,
}
LINE_ENDS = "\r\n\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


def read_frame(frame: bytes) -> tuple[str, dict[str, Any]]:
    """Name and data of one frame, which must be two lines and an empty one whatever splits its lines."""
    name, data, *rest = frame.decode().splitlines()

    assert [""] == rest
    assert frame.endswith(b"\n\n")
    assert name.startswith("event: ")
    assert data.startswith("data: ")
    parsed = json.loads(data.removeprefix("data: "))
    assert name.removeprefix("event: ") == parsed["type"]
    return name.removeprefix("event: "), parsed


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (
            MessageStart("msg_1", "card", USAGE),
            {"type": "message_start", "message": {**HEAD, "content": [], **NOTHING_YET, "usage": WHOLE_USAGE}},
        ),
        (
            BlockStart(0, "text"),
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ),
        (
            BlockDelta(2, "text", 'a"\\\n'),
            {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": 'a"\\\n'}},
        ),
        (
            BlockStart(0, "thinking"),
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "thinking", "thinking": "", "signature": ""},
            },
        ),
        (
            BlockStart(1, "redacted_thinking", "c2VhbA=="),
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "redacted_thinking", "data": "c2VhbA=="},
            },
        ),
        (
            BlockDelta(2, "thinking", 'h"m'),
            {"type": "content_block_delta", "index": 2, "delta": {"type": "thinking_delta", "thinking": 'h"m'}},
        ),
        (
            BlockSignature(2, "c2VhbA=="),
            {"type": "content_block_delta", "index": 2, "delta": {"type": "signature_delta", "signature": "c2VhbA=="}},
        ),
        (
            BlockStart(1, "tool_use", "toolu_1", "a"),
            {
                "type": "content_block_start",
                "index": 1,
                "content_block": {"type": "tool_use", "id": "toolu_1", "name": "a", "input": {}},
            },
        ),
        (
            BlockDelta(2, "tool_use", '{"b": "c'),
            {
                "type": "content_block_delta",
                "index": 2,
                "delta": {"type": "input_json_delta", "partial_json": '{"b": "c'},
            },
        ),
        (
            BlockDelta(2, "tool_use", ""),
            {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}},
        ),
        (BlockStop(3), {"type": "content_block_stop", "index": 3}),
        (
            MessageDelta("stop_sequence", "END", USAGE),
            {
                "type": "message_delta",
                "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END", "stop_details": None},
                "usage": DELTA_USAGE,
            },
        ),
        (MessageStop(), {"type": "message_stop"}),
        (
            Failed(ApiError("overloaded_error", "later")),
            {"type": "error", "error": {"type": "overloaded_error", "message": "later"}, "request_id": "req_1"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_event_has_its_frame(event: Event, data: dict[str, Any]) -> None:
    assert (data["type"], data) == read_frame(anthropic.encode_event(event, "req_1"))


@pytest.mark.parametrize("text", [LINE_ENDS, f"a{LINE_ENDS}\u00e9\0"])
def test_no_line_reader_can_cut_a_frame_that_holds_a_models_or_a_clients_text(text: str) -> None:
    _, block_delta = read_frame(anthropic.encode_event(BlockDelta(0, "text", text), "req_1"))
    _, message_delta = read_frame(anthropic.encode_event(MessageDelta("stop_sequence", text, USAGE), "req_1"))

    assert [text, text] == [block_delta["delta"]["text"], message_delta["delta"]["stop_sequence"]]


def test_a_ping_is_a_frame_of_its_own() -> None:
    assert ("ping", {"type": "ping"}) == read_frame(anthropic.PING)


def test_a_whole_reply_has_every_field() -> None:
    message = Message("msg_1", "card", (Block("text", "a\u2028"),), "end_turn", None, USAGE)

    assert json.loads(anthropic.encode_message(message)) == {
        **HEAD,
        "content": [{"type": "text", "text": "a\u2028"}],
        **NOTHING_YET,
        "stop_reason": "end_turn",
        "usage": WHOLE_USAGE,
    }


def test_thoughts_are_blocks_of_their_own_kind() -> None:
    content = (Block("thinking", "hm", "sig"), Block("redacted_thinking", "", "data"), Block("text", "so"))
    message = Message("msg_1", "card", content, "end_turn", None, USAGE)

    assert [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "data"},
        {"type": "text", "text": "so"},
    ] == json.loads(anthropic.encode_message(message))["content"]


def called(text: str) -> Message:
    return Message("msg_1", "card", (Block("tool_use", text, "toolu_1", "a"),), "tool_use", None, USAGE)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"b": [1, {"c": null}]}',
        '{"n": 9007199254740993, "m": 18446744073709551616}',
        '{"n": -123456789012345678901234567890}',
        '{"x": 1.10, "y": 1E5}',
        '{"a": "\\ud83d\\ude00 \U0001f600 é"}',
    ],
)
def test_an_input_is_what_the_model_wrote_digit_for_digit(text: str) -> None:
    body = anthropic.encode_message(called(text))

    assert text.encode() in body
    assert [{"type": "tool_use", "id": "toolu_1", "name": "a", "input": json.loads(text)}] == json.loads(body)[
        "content"
    ]


def test_no_line_reader_can_cut_an_input() -> None:
    text = '{"a": "\u2028\u2029\x85"}'
    body = anthropic.encode_message(called(text))

    assert 1 == len(body.decode().splitlines())
    assert json.loads(text) == json.loads(body)["content"][0]["input"]


@pytest.mark.parametrize("length", [4_000, 100_000])
def test_an_input_of_many_digits_keeps_them(length: int) -> None:
    assert b'{"n": ' + b"9" * length + b"}" in anthropic.encode_message(called('{"n": ' + "9" * length + "}"))


def test_a_deep_input_is_sent() -> None:
    text = '{"a": ' + "[" * 3_000 + "]" * 3_000 + "}"

    assert text.encode() in anthropic.encode_message(called(text))


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("", {}),
        ("{", {}),
        ('{"a', {}),
        ('{"a": ', {}),
        ('{"a": 1, "b": [1, 2', {"a": 1, "b": [1]}),
        ('{"a": 1, "b": {"c": true, "d', {"a": 1, "b": {"c": True}}),
        ('{"a": "whole", "b": "hal', {"a": "whole"}),
        ('{"n": 18446744073709551616, "b": "x', {"n": 18446744073709551616}),
        ('{"n": 123456789012345678901234567890, "b": [', {"n": 123456789012345678901234567890, "b": []}),
        ('{"a": 1, "b": "\\ud83d', {"a": 1}),
        ('{"a": 1, "b": "\\u00', {"a": 1}),
        ('{"a": 1, "b": "x\\', {"a": 1}),
    ],
)
def test_of_an_input_that_was_cut_there_is_what_is_whole(text: str, sent: dict[str, Any]) -> None:
    (block,) = json.loads(anthropic.encode_message(called(text)))["content"]

    assert sent == block["input"]


@pytest.mark.parametrize("text", ['{"a": ' + "[" * 3_000, '{"a": ' + '{"b": ' * 3_000, '{"n": ' + "9" * 10_000])
def test_a_monstrous_input_that_was_cut_is_an_object_all_the_same(text: str) -> None:
    (block,) = json.loads(anthropic.encode_message(called(text)))["content"]

    assert isinstance(block["input"], dict)


def test_a_count_is_one_number() -> None:
    assert b'{"input_tokens":12}' == anthropic.encode_token_count(12)


def test_an_error_names_the_request() -> None:
    body = json.loads(anthropic.encode_error(invalid("no such role", "messages.0.role"), "req_1", 0.0).body)

    assert {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "messages.0.role: no such role"},
        "request_id": "req_1",
    } == body


def test_an_errors_code_is_in_its_details() -> None:
    error = ApiError("invalid_request_error", "no", code="request_body_encoding_unsupported")

    assert {"error_code": "request_body_encoding_unsupported"} == json.loads(
        anthropic.encode_error(error, "r", 0.0).body
    )["error"]["details"]


def entry(identifier: str, alias_of: str | None = None) -> ModelInfo:
    return ModelInfo(
        identifier,
        "Card One",
        date(2025, 2, 19),
        "active",
        "sonnet",
        200_000,
        64_000,
        "weights",
        alias_of,
        frozenset(("enabled", "disabled")),
        frozenset(("low", "max")),
    )


def test_a_model_has_every_field_of_the_contract() -> None:
    model = json.loads(anthropic.encode_model(entry("card-latest", "card-1")))
    capabilities = model.pop("capabilities")

    assert {
        "type": "model",
        "id": "card-latest",
        "display_name": "Card One",
        "created_at": "2025-02-19T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": "sonnet",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "served_by": "weights",
        "alias_of": "card-1",
    } == model
    assert [
        "batch",
        "citations",
        "code_execution",
        "context_management",
        "effort",
        "image_input",
        "pdf_input",
        "server_tools",
        "structured_outputs",
        "thinking",
    ] == sorted(capabilities)
    assert {"effort", "structured_outputs", "thinking"} == {
        name for name, value in capabilities.items() if value["supported"]
    }
    assert {
        "supported": True,
        "types": {
            "enabled": {"supported": True},
            "adaptive": {"supported": False},
            "disabled": {"supported": True},
            "between_tools": {"supported": False},
        },
    } == capabilities["thinking"]
    assert {
        "supported": True,
        "low": {"supported": True},
        "medium": {"supported": False},
        "high": {"supported": False},
        "xhigh": {"supported": False},
        "max": {"supported": True},
    } == capabilities["effort"]


def test_a_model_that_cannot_think_says_so() -> None:
    info = replace(entry("card-1"), thinking=frozenset(("disabled",)), efforts=frozenset())
    capabilities = json.loads(anthropic.encode_model(info))["capabilities"]

    assert ["structured_outputs"] == [name for name, value in capabilities.items() if value["supported"]]
    assert {"disabled"} == {name for name, value in capabilities["thinking"]["types"].items() if value["supported"]}


@pytest.mark.parametrize(("ids", "first", "last"), [([], None, None), (["a"], "a", "a"), (["a", "b", "c"], "a", "c")])
def test_a_page_says_where_it_begins_and_ends(ids: list[str], first: str | None, last: str | None) -> None:
    page = json.loads(anthropic.encode_models(map(entry, ids), has_more=True))

    assert (ids, True, first, last) == (
        [model["id"] for model in page["data"]],
        page["has_more"],
        page["first_id"],
        page["last_id"],
    )


@pytest.mark.parametrize(
    ("values", "version"),
    [
        ([], "2023-06-01"),
        ([b"2023-06-01"], "2023-06-01"),
        ([b"2026-10-21"], "2026-10-21"),
        ([b" 2026-10-21 "], "2026-10-21"),
    ],
)
def test_both_versions_are_spoken_and_none_means_the_oldest(values: list[bytes], version: str) -> None:
    assert version == anthropic.decode_version({b"anthropic-version": values})


@pytest.mark.parametrize("value", [b"", b"2024-01-01", b"latest", b"2026-10-21,2023-06-01", b"\xff\xfe"])
def test_an_unknown_version_is_refused_with_those_there_are(value: bytes) -> None:
    error = refusal(lambda: anthropic.decode_version({b"anthropic-version": [value]}))

    assert "anthropic-version" == error.param
    assert "2023-06-01 and 2026-10-21" in error.message


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([], set()),
        ([b""], set()),
        ([b"a,b"], {"a", "b"}),
        ([b"a, b ,,"], {"a", "b"}),
        ([b"a", b"b,c"], {"a", "b", "c"}),
        ([b"\xff"], {"\xff"}),
    ],
)
def test_beta_names_come_in_any_spelling_and_unknown_ones_do_no_harm(values: list[bytes], names: set[str]) -> None:
    assert names == anthropic.decode_betas({b"anthropic-beta": values})
