"""OpenAI's Responses on the wire: requests in the contract's terms, refusals by the client's paths, every event."""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from sestet.contract.errors import ApiError
from sestet.contract.events import (
    BlockDelta,
    BlockKind,
    BlockSignature,
    BlockStart,
    BlockStop,
    Event,
    Failed,
    MessageDelta,
    MessageStart,
    MessageStop,
    StopReason,
    Usage,
)
from sestet.contract.models import ModelInfo
from sestet.contract.requests import (
    CountTokensRequest,
    LooseJsonSchemaFormat,
    MessagesRequest,
    RedactedThinkingBlock,
    ThinkingBlock,
)
from sestet.dialects.dialect import Asked, Asking, renamed
from sestet.dialects.responses import DIALECT, decode_count, decode_reply
from sestet.turn.fold import fold
from tests.faults.test_internal_parameters import NAMES
from tests.unit.in_process import Answer, application, ask
from tests.unit.refusals import refusal

MODEL = "claude-3-7-sonnet-latest"
HEX = "0123456789abcdef0123456789abcdef"
CARD = ModelInfo(
    "card",
    "Card",
    date(2025, 2, 19),
    "active",
    None,
    200_000,
    64_000,
    "weights",
    None,
    frozenset(("enabled", "disabled")),
    frozenset(),
)
EFFORTS = ModelInfo(
    "own",
    "Own",
    date(2026, 1, 1),
    "active",
    None,
    200_000,
    64_000,
    "weights",
    None,
    frozenset(("adaptive", "disabled")),
    frozenset(("low", "high")),
)
HOUR = {"type": "ephemeral", "ttl": "1h"}
USAGE = Usage(10, 5, cache_creation_5m=1, cache_creation_1h=2, cache_read_input_tokens=4, thinking_tokens=3)
TOLD_USAGE = {
    "input_tokens": 17,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 22,
}
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
TIME = {"type": "function", "name": "time"}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Paris"}'}
ANSWER = {"type": "function_call_output", "call_id": "call_1", "output": "sun"}


def asking(card: ModelInfo = CARD) -> Asking:
    def model(name: str) -> ModelInfo:
        if name != MODEL:
            raise ApiError("not_found_error", "there is no such model", param="model")
        return card

    return Asking("/v1/responses", {}, "req_1", f"msg_{HEX}", 1_800_000_000.5, model)


def decode(card: ModelInfo = CARD, **fields: object) -> Asked:
    body = {"model": MODEL, "input": "Hi", **fields}
    return decode_reply(asking(card), json.dumps(body).encode())


def contract(**fields: object) -> MessagesRequest:
    """The contract's request that says hello, changed by `fields`."""
    messages = [{"role": "user", "content": "Hi"}]
    return MessagesRequest.model_validate(
        {"model": MODEL, "max_tokens": 64_000, "messages": messages, "service_tier": "auto", **fields}
    )


def user(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": texts[0] if len(texts) == 1 else [text(one) for one in texts]}


def text(said: str, **more: object) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


TRANSLATED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"instructions": "Be brief"}, {"system": [text("Be brief")]}),
    ({"instructions": ""}, {}),
    ({"max_output_tokens": 7, "temperature": 1.5, "top_p": 0.5}, {"max_tokens": 7, "temperature": 1.0, "top_p": 0.5}),
    ({"stream": True, "stream_options": {"include_obfuscation": False}}, {"stream": True}),
    ({"service_tier": "default"}, {"service_tier": "standard_only"}),
    ({"service_tier": "priority"}, {}),
    ({"store": False, "background": False, "truncation": "disabled", "top_logprobs": 0}, {}),
    ({"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "metadata": {"a": "b"}}, {}),
    ({"reasoning": {"effort": None}, "text": {"format": {"type": "text"}, "verbosity": "medium"}}, {}),
    ({"reasoning": {"effort": "none"}}, {"thinking": {"type": "disabled"}}),
    ({"reasoning": {"effort": "medium"}}, {"thinking": {"type": "enabled", "budget_tokens": 4096}}),
    (
        {"reasoning": {"effort": "low", "summary": "concise"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024, "display": "summarized"}},
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "it", "schema": {"type": "string"}}}},
        {"output_config": {"format": LooseJsonSchemaFormat(type="json_schema", schema={"type": "string"})}},
    ),
    (
        {"text": {"format": {"type": "json_object"}}},
        {"output_config": {"format": LooseJsonSchemaFormat(type="json_schema", schema={"type": "object"})}},
    ),
    ({"temperature": 1.5, "top_p": 1}, {"temperature": 1.0}),
    ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
    ({"prompt_cache_options": {"mode": "implicit", "ttl": "30m"}}, {"cache_control": HOUR}),
    ({"prompt_cache_options": {"mode": "explicit"}}, {}),
    ({"tool_choice": "auto", "tools": [], "parallel_tool_calls": False}, {}),
    (
        {"tools": [WEATHER, {**TIME, "strict": True, "description": "now"}]},
        {
            "tools": [
                {"type": "custom", "name": "weather", "input_schema": WEATHER["parameters"]},
                {
                    "type": "custom",
                    "name": "time",
                    "description": "now",
                    "input_schema": {"type": "object", "properties": {}, "additionalProperties": False},
                    "strict": True,
                },
            ]
        },
    ),
]


@pytest.mark.parametrize(("fields", "expected"), TRANSLATED)
def test_a_request_is_told_in_the_contracts_terms(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert contract(**expected) == decode(**fields).request


CHOICES: list[tuple[dict[str, Any], dict[str, Any] | None, list[str]]] = [
    ({}, None, ["weather", "time"]),
    ({"tool_choice": "none"}, {"type": "none"}, ["weather", "time"]),
    ({"tool_choice": "required"}, {"type": "any"}, ["weather", "time"]),
    ({"parallel_tool_calls": True}, None, ["weather", "time"]),
    ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}, ["weather", "time"]),
    (
        {"tool_choice": {"type": "function", "name": "time"}, "parallel_tool_calls": False},
        {"type": "tool", "name": "time", "disable_parallel_tool_use": True},
        ["weather", "time"],
    ),
    (
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "time"}]}},
        None,
        ["time"],
    ),
    (
        {"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "time"}]}},
        {"type": "any"},
        ["time"],
    ),
]


@pytest.mark.parametrize(("fields", "choice", "names"), CHOICES)
def test_which_functions_may_be_called_is_told(
    fields: dict[str, Any], choice: dict[str, Any] | None, names: list[str]
) -> None:
    request = decode(tools=[WEATHER, TIME], **fields).request

    assert contract(tools=[{"name": "x", "input_schema": {}}], tool_choice=choice).tool_choice == request.tool_choice
    assert names == [tool.name for tool in request.tools or ()]


def said(role: str, content: object, **more: object) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CALLED = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Paris"}}
ANSWERED = {"type": "tool_result", "tool_use_id": "call_1", "content": "sun"}
REPLY = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "phase": None,
    "content": [
        {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": None},
        {"type": "refusal", "refusal": "I cannot"},
    ],
}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VhbA==.SG0="}

CONVERSATIONS: list[tuple[list[dict[str, Any]], list[dict[str, Any]], list[str] | None]] = [
    ([said("user", "a")], [user("a")], None),
    ([said("user", [{"type": "input_text", "text": "a"}], type="message")], [user("a")], None),
    ([said("user", "a"), said("user", "b")], [user("a", "b")], None),
    (
        [said("developer", "d"), said("system", [{"type": "input_text", "text": "s"}]), said("user", "a")],
        [user("a")],
        ["d", "s"],
    ),
    (
        [said("user", "a"), said("developer", "d")],
        [user("a"), {"role": "system", "content": "d"}],
        None,
    ),
    (
        # What the system says comes after what the user says, in the contract.
        [said("user", "a"), REPLY, said("developer", "d"), said("user", "b"), said("system", "s"), said("user", "c")],
        [
            user("a"),
            {"role": "assistant", "content": [text("Hello"), text("I cannot")]},
            user("b", "c"),
            {"role": "system", "content": [text("d"), text("s")]},
        ],
        None,
    ),
    (
        [said("user", "a"), REPLY, said("user", "b")],
        [user("a"), {"role": "assistant", "content": [text("Hello"), text("I cannot")]}, user("b")],
        None,
    ),
    (
        [said("user", "a"), THOUGHT, REPLY, CALL, ANSWER, said("user", "b")],
        [
            user("a"),
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": "c2VhbA=="},
                    text("Hello"),
                    text("I cannot"),
                    CALLED,
                ],
            },
            {"role": "user", "content": [ANSWERED, text("b")]},
        ],
        None,
    ),
    (
        # Answers come first in the contract; a call with nothing said has an empty message before it.
        [said("user", "a"), said("assistant", ""), {**CALL, "arguments": ""}, said("user", "b"), ANSWER],
        [
            user("a"),
            {"role": "assistant", "content": [{**CALLED, "input": {}}]},
            {"role": "user", "content": [ANSWERED, text("b")]},
        ],
        None,
    ),
    (
        [said("user", "a"), CALL, {**ANSWER, "output": [{"type": "input_text", "text": "sun"}]}],
        [
            user("a"),
            {"role": "assistant", "content": [CALLED]},
            {"role": "user", "content": [{**ANSWERED, "content": [text("sun")]}]},
        ],
        None,
    ),
    (
        [
            said(
                "user",
                [
                    {
                        "type": "input_text",
                        "text": "a",
                        "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"},
                    }
                ],
            )
        ],
        [{"role": "user", "content": [text("a", cache_control=HOUR)]}],
        None,
    ),
]


@pytest.mark.parametrize(("items", "messages", "system"), CONVERSATIONS)
def test_items_become_messages(
    items: list[dict[str, Any]], messages: list[dict[str, Any]], system: list[str] | None
) -> None:
    blocks = None if system is None else [text(one) for one in system]

    assert contract(messages=messages, system=blocks) == decode(input=items).request


THOUGHTS: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({"encrypted_content": "c2VhbA==.SG0="}, [{"type": "thinking", "thinking": "Hm", "signature": "c2VhbA=="}]),
    ({"encrypted_content": "c2VhbA==."}, [{"type": "thinking", "thinking": "", "signature": "c2VhbA=="}]),
    ({"encrypted_content": "c2VhbA==.!"}, [{"type": "thinking", "thinking": "", "signature": "c2VhbA=="}]),
    ({"encrypted_content": "a.7aCA"}, [{"type": "thinking", "thinking": "", "signature": "a"}]),  # half a character
    ({"encrypted_content": "a.né"}, [{"type": "thinking", "thinking": "", "signature": "a"}]),
    ({"encrypted_content": "gAAAA"}, [{"type": "redacted_thinking", "data": "gAAAA"}]),
    (
        {"content": [{"type": "reasoning_text", "text": "Hm"}]},
        [{"type": "thinking", "thinking": "Hm", "signature": ""}],
    ),
    (
        {"summary": [{"type": "summary_text", "text": "Hm"}], "encrypted_content": None},
        [{"type": "thinking", "thinking": "Hm", "signature": ""}],
    ),
    ({"content": None, "summary": []}, [{"type": "thinking", "thinking": "", "signature": ""}]),
]


@pytest.mark.parametrize(("fields", "blocks"), THOUGHTS)
def test_a_thought_that_comes_back_is_what_its_encrypted_content_holds(
    fields: dict[str, Any], blocks: list[dict[str, Any]]
) -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], **fields}
    messages = [user("a"), {"role": "assistant", "content": [*blocks, text("b"), text("c")]}, user("d")]
    items = [said("user", "a"), item, said("assistant", "b"), said("assistant", "c"), said("user", "d")]

    assert contract(messages=messages) == decode(input=items).request


def test_a_card_that_takes_efforts_is_told_the_effort() -> None:
    format_ = {"type": "json_schema", "name": "it", "schema": {"type": "string"}}
    request = decode(EFFORTS, reasoning={"effort": "high"}, text={"format": format_}).request

    assert ("adaptive", "high", {"type": "string"}) == (
        request.thinking and request.thinking.type,
        request.output_config and request.output_config.effort,
        request.output_config and request.output_config.format and request.output_config.format.schema_,
    )


def test_a_count_asks_for_the_same_prompt_and_is_told_as_this_api_does() -> None:
    fields = {
        "model": MODEL,
        "input": "Hi",
        "instructions": "Be brief",
        "tools": [TIME],
        "reasoning": {"effort": "low"},
    }
    counted = decode_count(asking(), json.dumps(fields).encode())
    shared = decode(**fields).request.model_dump(exclude_none=True, include=set(CountTokensRequest.model_fields))

    assert shared == counted.request.model_dump(exclude_none=True)
    assert {"object": "response.input_tokens", "input_tokens": 12} == json.loads(counted.encode(12))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": 1}, "input"),
    ({"input": [said("developer", "only this")]}, "input"),
    ({"input": [1]}, "input.0"),
    ({"input": [{"type": "message"}]}, "input.0.role"),
    ({"input": [{"id": "msg_1"}]}, "input.0.type"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.type"),
    ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input.0.type"),
    ({"input": [said("tool", "x")]}, "input.0.role"),
    ({"input": [said("user", "")]}, "input.0.content"),
    ({"input": [said("system", ""), said("user", "x")]}, "input.0.content"),
    ({"input": [said("user", "a"), said("user", [{"type": "input_text", "text": ""}])]}, "input.1.content.0.text"),
    ({"input": [said("user", [{"type": "input_image", "image_url": "x"}])]}, "input.0.content.0.type"),
    ({"input": [said("user", [{"type": "input_file", "file_id": "x"}])]}, "input.0.content.0.type"),
    ({"input": [said("user", [{"type": "video"}])]}, "input.0.content.0.type"),
    ({"input": [said("user", "x", name="Ada")]}, "input.0.name"),
    (
        {
            "input": [
                said(
                    "user",
                    [
                        {
                            "type": "input_text",
                            "text": "a",
                            "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"},
                        }
                    ],
                )
            ]
        },
        "input.0.content.0.prompt_cache_breakpoint.ttl",
    ),
    ({"input": [said("user", "x"), {**CALL, "arguments": "[]"}]}, "input.1.arguments"),
    ({"input": [said("user", "x"), {**CALL, "arguments": '{"a": NaN}'}]}, "input.1.arguments"),
    ({"input": [said("user", "x"), {**CALL, "arguments": '{"a": 1, "a": 2}'}]}, "input.1.arguments"),
    ({"input": [said("user", "x"), {**CALL, "call_id": "a b"}]}, "input.1.call_id"),
    ({"input": [said("user", "x"), {**CALL, "name": ""}]}, "input.1.name"),
    ({"input": [said("user", "x"), {**CALL, "namespace": "n"}]}, "input.1.namespace"),
    ({"input": [said("user", "x"), CALL, {**ANSWER, "call_id": "a b"}]}, "input.2.call_id"),
    ({"input": [said("user", "x"), CALL, {**ANSWER, "output": [{"type": "input_image"}]}]}, "input.2.output.0.type"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"tools": [{**WEATHER, "name": "two words"}]}, "tools.0.name"),
    ({"tools": [{**WEATHER, "more": 1}]}, "tools.0.more"),
    ({"tools": [{**WEATHER, "parameters": []}]}, "tools.0.parameters"),
    ({"tools": [WEATHER], "tool_choice": "any"}, "tool_choice"),
    ({"tools": [WEATHER], "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
    (
        {"tools": [WEATHER], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [TIME]}},
        "tool_choice.tools.0.name",
    ),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_object", "schema": {}}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}}, "text.format.name"),
    ({"text": {"verbosity": "low"}}, "text.verbosity"),
    ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
    ({"reasoning": {"effort": "low"}, "max_output_tokens": 100}, "max_output_tokens"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"top_p": "1"}, "top_p"),
    ({"include": ["message.output_text.logprobs"]}, "include.0"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"prompt_cache_options": {"ttl": "12h"}}, "prompt_cache_options.ttl"),
    ({"store": True}, "store"),
    ({"store": 0}, "store"),
    ({"background": True}, "background"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"truncation": "auto"}, "truncation"),
    ({"max_tool_calls": 1}, "max_tool_calls"),
    ({"top_logprobs": 1}, "top_logprobs"),
    ({"moderation": {"model": "m"}}, "moderation"),
    ({"context_management": [{"type": "compaction"}]}, "context_management"),
    ({"messages": []}, "messages"),
]


@pytest.mark.parametrize(("fields", "path"), REFUSED)
def test_what_is_not_taken_is_refused_by_the_path_of_this_api(fields: dict[str, Any], path: str) -> None:
    assert path == refusal(lambda: decode(**fields)).param


WHOLE: dict[str, Any] = {
    "model": MODEL,
    "instructions": "Be brief",
    "input": [
        said("developer", "d"),
        said("user", [{"type": "input_text", "text": "a"}]),
        THOUGHT,
        REPLY,
        CALL,
        ANSWER,
    ],
    "tools": [WEATHER, TIME],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "time"}]},
    "text": {"format": {"type": "json_schema", "name": "it", "schema": {"type": "string"}}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_options": {"mode": "implicit"},
}


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


# Whatever is in these is the client's own.
FREE = ("metadata", "parameters", "schema")


@pytest.mark.parametrize("name", NAMES)
def test_no_parameter_that_is_not_of_this_api_is_taken_anywhere(name: str) -> None:
    objects = [()] + [place for place in places(WHOLE) if not any(key in FREE for key in place)]
    spoiled = []
    for place in objects:
        body = json.loads(json.dumps(WHOLE))
        inner = body
        for key in place:
            inner = inner[key]
        if isinstance(inner, dict):
            inner[name] = 1
            spoiled.append((".".join(map(str, (*place, name))), json.dumps(body).encode()))
    refused = [refusal(partial(decode_reply, asking(), body)).param for _, body in spoiled]

    assert len(spoiled) > 10
    assert [path for path, _ in spoiled] == refused


def test_a_model_that_is_not_served_is_not_found() -> None:
    assert "model" == refusal(lambda: decode(model="nobody"), "not_found_error").param


@pytest.mark.parametrize(
    "schema",
    [
        b'{"type": "object", "maximum": 1e999}',
        b'{"a": ' * 5000 + b"1" + b"}" * 5000,
    ],
)
def test_what_cannot_be_told_again_is_refused(schema: bytes) -> None:
    body = b'{"model": "%b", "input": "x", "tools": [{"type": "function", "name": "a", "parameters": %b}]}'

    refusal(lambda: decode_reply(asking(), body % (MODEL.encode(), schema)))


@pytest.mark.parametrize(
    ("inside", "path"),
    [
        ("messages", "input"),
        ("messages.0.role", "input.1.role"),
        ("messages.0.content", "input.1.content"),
        ("messages.1", "input.4"),
        ("messages.1.content.0", "input.2"),
        ("messages.1.content.1.text", "input.3.content.0.text"),
        ("messages.1.content.3.id", "input.4.call_id"),
        ("messages.1.content.3.input", "input.4.arguments"),
        ("messages.2.content.0", "input.5"),
        ("messages.2.content.0.tool_use_id", "input.5.call_id"),
        ("messages.2.content.0.content.0.text", "input.5.output.0.text"),
        ("messages.2.content.1", "input.6.content"),
        ("system.0", "instructions"),
        ("system.0.text", "instructions"),
        ("system.1.text", "input.0.content"),
        ("tools", "tools"),
        ("tools.0.name", "tools.1.name"),
        ("tools.0.input_schema.properties.a", "tools.1.parameters.properties.a"),
        ("tool_choice.type", "tool_choice"),
        ("max_tokens", "max_output_tokens"),
        ("thinking.type", "reasoning.effort"),
        ("output_config.effort", "reasoning.effort"),
        ("output_config.format.schema.type", "text.format.schema.type"),
        ("temperature", "temperature"),
        ("model", "model"),
    ],
)
def test_every_path_of_the_contract_has_its_name_here(inside: str, path: str) -> None:
    asked = decode(
        instructions="Be brief",
        input=[said("developer", "d"), said("user", "a"), THOUGHT, REPLY, CALL, ANSWER, said("user", "b")],
        tools=[WEATHER, TIME],
        tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "time"}]},
    )

    assert path == renamed(inside, asked.paths)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
        ({"input": [said("assistant", "a")]}, "input.0.role"),
        ({"input": [said("user", "a"), CALL]}, "input.1"),
        ({"input": [said("user", "a"), ANSWER]}, "input.1"),
        ({"input": [said("user", "a"), said("assistant", "b"), said("developer", "d")]}, "input"),
        ({"reasoning": {"effort": "low"}, "temperature": 0.5}, "temperature"),
        ({"reasoning": {"effort": "low"}, "tools": [WEATHER], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "b"}}, "tool_choice.name"),
        ({"tools": [WEATHER, WEATHER]}, "tools.1.name"),
        ({"tools": [{**WEATHER, "strict": True}]}, "tools.0.parameters.additionalProperties"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"not": {}}}}},
            "text.format.schema.not",
        ),
    ],
)
def test_what_the_turn_refuses_is_told_by_the_path_of_this_api(fields: dict[str, Any], path: str) -> None:
    answer = asyncio.run(posted({"model": MODEL, "input": "Hi", **fields}))

    assert (400, path) == (answer.status, answer.json["error"]["param"])
    assert answer.json["error"]["message"].startswith(f"{path}: ")


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens", "/v1/responses/resp_1"])
def test_whatever_goes_wrong_at_these_paths_is_told_in_openais_shape(path: str) -> None:
    answer = asyncio.run(posted({}, path))

    assert {"message", "type", "param", "code"} == answer.json["error"].keys()
    assert answer.headers[b"x-request-id"] == answer.headers[b"request-id"]


async def posted(body: Mapping[str, Any], path: str = "/v1/responses") -> Answer:
    app = await application()
    try:
        return await ask(app, "POST", path, body)
    finally:
        await app.stop()


SUMMARY = {"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}
START = MessageStart("msg_x", "card", Usage(10))
DONE = [MessageDelta("end_turn", None, USAGE), MessageStop()]
CUT = [MessageDelta("max_tokens", None, USAGE), MessageStop()]


def block(index: int, kind: BlockKind, *texts: str, data: str = "", name: str = "") -> list[Event]:
    """The events of a block."""
    start = BlockStart(index, kind, "" if kind == "thinking" else data, name)
    sealed = [BlockSignature(index, data)] if kind == "thinking" else []
    return [start, *(BlockDelta(index, kind, one) for one in texts), *sealed, BlockStop(index)]


def events_in(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream read byte by byte by the official client's own reader; names and numbers must be right."""
    frames = list(SSEDecoder().iter_bytes(bytes([one]) for one in stream))
    events = [json.loads(frame.data) for frame in frames]
    assert [frame.event for frame in frames] == [event["type"] for event in events]
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    return events


def told(events: Iterable[Event], **fields: object) -> list[dict[str, Any]]:
    teller = decode(**fields).teller
    return events_in(b"".join(map(teller.event, events)))


def short(events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Without numbers, and without what every whole response says."""
    left_out = {"sequence_number", "response"}
    return [{name: value for name, value in event.items() if name not in left_out} for event in events]


BEGUN = [{"type": "response.created"}, {"type": "response.in_progress"}]
MESSAGE = {"type": "message", "id": f"msg_{HEX}0", "role": "assistant"}
AT = {"item_id": f"msg_{HEX}0", "output_index": 0, "content_index": 0}
PART = {"type": "output_text", "annotations": [], "logprobs": []}


def text_events(status: str) -> list[dict[str, Any]]:
    return [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**MESSAGE, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **AT, "part": {**PART, "text": ""}},
        {"type": "response.output_text.delta", **AT, "delta": 'a"\n', "logprobs": []},
        {"type": "response.output_text.delta", **AT, "delta": "\u2028é", "logprobs": []},
        {"type": "response.output_text.done", **AT, "text": 'a"\n\u2028é', "logprobs": []},
        {"type": "response.content_part.done", **AT, "part": {**PART, "text": 'a"\n\u2028é'}},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {**MESSAGE, "status": status, "content": [{**PART, "text": 'a"\n\u2028é'}]},
        },
    ]


def test_text_is_told_as_a_message() -> None:
    events = told([START, *block(0, "text", 'a"\n', "\u2028é"), *DONE])

    assert [*BEGUN, *text_events("completed"), {"type": "response.completed"}] == short(events)


def test_text_that_was_cut_is_told_as_an_incomplete_message() -> None:
    events = told([START, *block(0, "text", 'a"\n', "\u2028é"), *CUT])

    assert [*BEGUN, *text_events("incomplete"), {"type": "response.incomplete"}] == short(events)
    assert ("incomplete", {"reason": "max_output_tokens"}) == (
        events[-1]["response"]["status"],
        events[-1]["response"]["incomplete_details"],
    )


def test_a_call_is_told_as_a_function_call() -> None:
    events = told([START, *block(0, "tool_use", "", '{"a"', ": 1}", data="toolu_1", name="add"), *DONE])
    item = {"type": "function_call", "id": f"fc_{HEX}0", "call_id": "toolu_1", "name": "add"}
    at = {"item_id": f"fc_{HEX}0", "output_index": 0}

    assert [
        *BEGUN,
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", **at, "delta": '{"a"'},
        {"type": "response.function_call_arguments.delta", **at, "delta": ": 1}"},
        {"type": "response.function_call_arguments.done", **at, "arguments": '{"a": 1}'},
        {
            "type": "response.output_item.done",
            "output_index": 0,
            "item": {**item, "status": "completed", "arguments": '{"a": 1}'},
        },
        {"type": "response.completed"},
    ] == short(events)


REASONING = {"type": "reasoning", "id": f"rs_{HEX}0"}
AT_THOUGHT = {"item_id": f"rs_{HEX}0", "output_index": 0}
NOTHING_YET = {**REASONING, "status": "in_progress", "summary": [], "content": [], "encrypted_content": None}
THOUGHT_ADDED = {"type": "response.output_item.added", "output_index": 0, "item": NOTHING_YET}
SHOWN = {**AT_THOUGHT, "content_index": 0}
SUMMED = {**AT_THOUGHT, "summary_index": 0}


def thought_done(**fields: object) -> dict[str, Any]:
    item = {**NOTHING_YET, "status": "completed", **fields}
    return {"type": "response.output_item.done", "output_index": 0, "item": item}


def test_a_thought_is_told_as_reasoning() -> None:
    events = told([START, *block(0, "thinking", "Let", " me", data="c2Vh"), *DONE])

    assert [
        *BEGUN,
        THOUGHT_ADDED,
        {"type": "response.content_part.added", **SHOWN, "part": {"type": "reasoning_text", "text": ""}},
        {"type": "response.reasoning_text.delta", **SHOWN, "delta": "Let"},
        {"type": "response.reasoning_text.delta", **SHOWN, "delta": " me"},
        {"type": "response.reasoning_text.done", **SHOWN, "text": "Let me"},
        {"type": "response.content_part.done", **SHOWN, "part": {"type": "reasoning_text", "text": "Let me"}},
        thought_done(content=[{"type": "reasoning_text", "text": "Let me"}]),
        {"type": "response.completed"},
    ] == short(events)


def test_a_thought_is_its_own_summary_where_one_is_asked_for() -> None:
    events = told([START, *block(0, "thinking", "Let", " me", data="c2Vh"), *DONE], **SUMMARY)
    part, summed = ({"type": kind, "text": "Let me"} for kind in ("reasoning_text", "summary_text"))

    assert [
        *BEGUN,
        THOUGHT_ADDED,
        {"type": "response.content_part.added", **SHOWN, "part": {"type": "reasoning_text", "text": ""}},
        {"type": "response.reasoning_summary_part.added", **SUMMED, "part": {"type": "summary_text", "text": ""}},
        {"type": "response.reasoning_text.delta", **SHOWN, "delta": "Let"},
        {"type": "response.reasoning_summary_text.delta", **SUMMED, "delta": "Let"},
        {"type": "response.reasoning_text.delta", **SHOWN, "delta": " me"},
        {"type": "response.reasoning_summary_text.delta", **SUMMED, "delta": " me"},
        {"type": "response.reasoning_text.done", **SHOWN, "text": "Let me"},
        {"type": "response.content_part.done", **SHOWN, "part": part},
        {"type": "response.reasoning_summary_text.done", **SUMMED, "text": "Let me"},
        {"type": "response.reasoning_summary_part.done", **SUMMED, "part": summed},
        thought_done(content=[part], summary=[summed], encrypted_content="c2Vh.TGV0IG1l"),
        {"type": "response.completed"},
    ] == short(events)


@pytest.mark.parametrize(
    ("events", "sealed"),
    [
        (block(0, "thinking", data="c2Vh"), "c2Vh."),
        (block(0, "redacted_thinking", data="c2Vh"), "c2Vh"),
    ],
)
def test_a_thought_without_a_text_is_an_item_without_parts(events: list[Event], sealed: str) -> None:
    assert [*BEGUN, THOUGHT_ADDED, thought_done(encrypted_content=sealed), {"type": "response.completed"}] == short(
        told([START, *events, *DONE], **SUMMARY)
    )


def test_what_a_response_says_of_its_request() -> None:
    schema = {"type": "object", "properties": {"é\u2028": {"maximum": 2**64}}}
    format_ = {"type": "json_schema", "name": "it", "schema": {"type": "string"}, "description": "It"}
    (created, *_, completed) = told(
        [START, *DONE],
        instructions="Be brief",
        tools=[{**WEATHER, "parameters": schema}],
        tool_choice={"type": "function", "name": "weather"},
        text={"format": format_},
        metadata={"a": "b"},
        user="u",
        temperature=0.5,
        max_output_tokens=9,
        parallel_tool_calls=False,
    )
    whole = {
        "id": f"resp_{HEX}",
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": "card",
        "output": [],
        "service_tier": "default",
        "usage": None,
        "object": "response",
        "created_at": 1_800_000_000,
        "background": False,
        "instructions": "Be brief",
        "max_output_tokens": 9,
        "max_tool_calls": None,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "store": False,
        "temperature": 0.5,
        "text": {"format": {**format_, "strict": True}, "verbosity": "medium"},
        "tool_choice": {"type": "function", "name": "weather"},
        "tools": [{**WEATHER, "parameters": schema, "description": None, "strict": False}],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "user": "u",
    }

    assert whole == created["response"]
    assert {**whole, "status": "completed", "usage": TOLD_USAGE} == completed["response"]


@pytest.mark.parametrize(("tier", "expected"), [("standard", "default"), ("priority", "priority"), ("batch", "flex")])
def test_a_response_says_which_service_it_had(tier: Any, expected: str) -> None:
    events = told([MessageStart("msg_x", "card", Usage(10), tier), *DONE])

    assert [expected] * 3 == [event["response"]["service_tier"] for event in events]


OPEN: list[tuple[list[Event], list[tuple[str, str]]]] = [
    ([], []),
    ([START], []),
    ([START, BlockStart(0, "text"), BlockDelta(0, "text", "Half")], [("message", "incomplete")]),
    ([START, BlockStart(0, "thinking"), BlockDelta(0, "thinking", "Half")], [("reasoning", "incomplete")]),
    ([START, BlockStart(0, "thinking")], [("reasoning", "incomplete")]),
    (
        [START, *block(0, "text", "a"), BlockStart(1, "tool_use", "toolu_1", "a"), BlockDelta(1, "tool_use", "{")],
        [("message", "completed"), ("function_call", "incomplete")],
    ),
    ([START, *block(0, "text", "a")], [("message", "completed")]),
    ([START, *block(0, "text", "a"), DONE[0]], [("message", "completed")]),
]


@pytest.mark.parametrize(("events", "items"), OPEN)
def test_a_failure_ends_the_stream_with_what_came_of_the_response(
    events: list[Event], items: list[tuple[str, str]]
) -> None:
    received = told([*events, Failed(ApiError("api_error", "it broke"))])
    response = received[-1]["response"]

    assert ["response.created", "response.in_progress"] == [event["type"] for event in received[:2]]
    assert ["response.failed"] == [event["type"] for event in received if event["type"][9:] in ENDS]
    assert ("failed", {"code": "server_error", "message": "it broke"}) == (response["status"], response["error"])
    assert items == [(item["type"], item["status"]) for item in response["output"]]
    check_types(received)


ENDS = {"completed", "incomplete", "failed"}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("rate_limit_error", "rate_limit_exceeded"),
        ("invalid_request_error", "invalid_prompt"),
        ("overloaded_error", "server_error"),
        ("timeout_error", "server_error"),
    ],
)
def test_a_failure_has_a_code_that_the_official_client_knows(kind: Any, code: str) -> None:
    events = told([START, Failed(ApiError(kind, "no", param="input.0"))])

    assert {"code": code, "message": "input.0: no"} == events[-1]["response"]["error"]
    check_types(events)


def test_a_silence_is_broken_by_what_no_client_sees() -> None:
    teller = decode().teller

    assert [] == events_in(teller.ping)
    assert [*BEGUN] == short(events_in(teller.ping + teller.event(START) + teller.ping))


# The official types of the events by their names.
TYPES: Mapping[str, type[BaseModel]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(ResponseStreamEvent)[0])
}


def check_types(events: Iterable[Mapping[str, Any]]) -> None:
    """Every event is exactly what the official client says it is, and holds nothing that it does not know."""
    for event in events:
        read = TYPES[event["type"]].model_validate_json(json.dumps(event), strict=True)
        assert [] == list(unknown(read))


def unknown(value: object) -> Iterator[str]:
    """Names of what the official types have no field for. `store` is in the API, and not in them."""
    match value:
        case BaseModel():
            yield from set(value.model_extra or ()) - {"store"}
            for name in type(value).model_fields:
                yield from unknown(getattr(value, name))
        case list():
            for one in value:
                yield from unknown(one)


TEXTS = st.lists(st.text(min_size=1, max_size=5), max_size=4)
KINDS = st.sampled_from(("text", "thinking", "redacted_thinking", "tool_use"))
STOPS: st.SearchStrategy[StopReason] = st.sampled_from(
    ("end_turn", "tool_use", "stop_sequence", "max_tokens", "model_context_window_exceeded")
)


@st.composite
def replies(draw: st.DrawFn) -> list[Event]:
    events: list[Event] = [START]
    for index in range(draw(st.integers(0, 4))):
        kind: BlockKind = draw(KINDS)
        texts = [] if kind == "redacted_thinking" else draw(TEXTS)
        events += block(index, kind, *texts, data=draw(st.sampled_from(("c2Vh", "toolu_1"))), name="add")
    return [*events, MessageDelta(draw(STOPS), None, USAGE), MessageStop()]


@settings(max_examples=60, deadline=None)
@given(replies(), st.sampled_from(({}, SUMMARY)))
def test_the_last_event_holds_the_whole_reply_and_every_event_is_as_the_official_types_say(
    events: list[Event], fields: dict[str, Any]
) -> None:
    received = told(events, **fields)
    whole = decode(**fields).teller.message(fold(events))

    assert json.loads(whole) == received[-1]["response"]
    check_types(received)
    assert [] == list(unknown(Response.model_validate_json(whole, strict=True)))


@settings(max_examples=60, deadline=None)
@given(replies(), st.sampled_from(({}, SUMMARY)))
def test_what_the_events_tell_piece_by_piece_is_what_the_items_hold(
    events: list[Event], fields: dict[str, Any]
) -> None:
    received = told(events, **fields)
    items = [event["item"] for event in received if event["type"] == "response.output_item.done"]
    pieces: dict[tuple[int, str], str] = {}
    for event in received:
        if event["type"].endswith(".delta"):
            place = event["output_index"], event["type"].split(".")[1]
            pieces[place] = pieces.get(place, "") + event["delta"]
    found = {(at, kind): held for at, item in enumerate(items) for kind, held in texts_of(item).items() if held}

    assert items == received[-1]["response"]["output"]
    assert pieces == found


def texts_of(item: Mapping[str, Any]) -> dict[str, str]:
    match item["type"]:
        case "message":
            return {"output_text": item["content"][0]["text"]}
        case "function_call":
            return {"function_call_arguments": item["arguments"]}
        case _:
            parts = {"reasoning_text": item["content"], "reasoning_summary_text": item["summary"]}
            return {kind: "".join(part["text"] for part in held) for kind, held in parts.items()}


@settings(max_examples=100, deadline=None)
@given(replies())
def test_an_output_can_be_sent_back(events: list[Event]) -> None:
    """Every item of a whole reply is taken as input; thoughts come back with what proves them."""
    events = [one for one in events if not isinstance(one, BlockDelta) or one.kind != "tool_use"]
    message = fold(events)
    output = json.loads(decode(**SUMMARY).teller.message(message))["output"]
    request = decode(input=[said("user", "a"), *output]).request
    expected = [
        {"thinking": (one.text, one.data), "redacted_thinking": ("", one.data)}[one.kind]
        for one in message.content
        if one.kind in ("thinking", "redacted_thinking")
    ]
    blocks = [one for message in request.messages[1:] for one in message.content]

    assert expected == [
        (one.thinking, one.signature) if isinstance(one, ThinkingBlock) else ("", one.data)
        for one in blocks
        if isinstance(one, ThinkingBlock | RedactedThinkingBlock)
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_the_request_that_is_spoiled_below_is_sound() -> None:
    assert ["time"] == [tool.name for tool in decode(**WHOLE).request.tools or ()]


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(list(places(WHOLE))), JSON)
def test_whatever_stands_anywhere_is_taken_or_refused(place: tuple[Any, ...], value: object) -> None:
    body = json.loads(json.dumps(WHOLE))
    inner = body
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with suppress(ApiError):
        asked = decode_reply(asking(), json.dumps(body).encode())
        events_in(b"".join(map(asked.teller.event, [START, *block(0, "thinking", "a", data="b"), *DONE])))


def test_the_dialect_says_where_it_is_spoken() -> None:
    assert ("responses", ("/v1/responses",), ["/v1/responses"], ["/v1/responses/input_tokens"]) == (
        DIALECT.name,
        DIALECT.prefixes,
        [*DIALECT.replies],
        [*DIALECT.counts],
    )
