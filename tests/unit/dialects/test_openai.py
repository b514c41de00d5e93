"""OpenAI's chat: what a request becomes in the contract's terms, what a reply becomes in OpenAI's, key by key."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sestet.contract.errors import ApiError, ErrorKind, invalid
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
    StopReason,
    Usage,
)
from sestet.contract.limits import LimitState
from sestet.contract.models import ModelInfo
from sestet.contract.requests import LooseJsonSchemaFormat
from sestet.contract.tiers import Tier
from sestet.dialects import anthropic, openai, openai_replies
from sestet.dialects.dialect import Asked, Asking, renamed
from sestet.dialects.openai_requests import ChatRequest
from sestet.turn.fold import Message, fold
from tests.unit.refusals import refusal

INFO = ModelInfo(
    id="card-20250219",
    display_name="Card",
    snapshot=date(2025, 2, 19),
    lifecycle="active",
    line=None,
    max_input_tokens=200_000,
    max_tokens=64_000,
    served_by="weights",
    alias_of=None,
    thinking=frozenset(("enabled", "disabled")),
    efforts=frozenset(),
)
ADAPTIVE = replace(INFO, thinking=frozenset(("adaptive",)), efforts=frozenset(("low", "medium", "high")))
HELLO = {"role": "user", "content": "Hi"}
USAGE = Usage(10, 5, cache_creation_5m=1, cache_creation_1h=2, cache_read_input_tokens=4, thinking_tokens=3)
TOLD_USAGE = {
    "prompt_tokens": 17,
    "completion_tokens": 5,
    "total_tokens": 22,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 3,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def asking(info: ModelInfo = INFO) -> Asking:
    return Asking("/v1/chat/completions", {}, "req_1", "msg_1", 1_744_218_600.9, lambda _name: info)


def decoded(info: ModelInfo = INFO, **fields: object) -> Asked:
    """What becomes of a request that says hello, changed by `fields`."""
    body = {"model": "card", "messages": [HELLO], **fields}
    return openai.DIALECT.replies["/v1/chat/completions"](asking(info), json.dumps(body).encode())


def request(info: ModelInfo = INFO, **fields: object) -> dict[str, Any]:
    """The contract's request as JSON has it, without what is not set."""
    dumped = decoded(info, **fields).request.model_dump(exclude_unset=True, by_alias=True, warnings=False)
    return {name: value for name, value in dumped.items() if value is not None}


def changed(info: ModelInfo = INFO, **fields: object) -> dict[str, Any]:
    """What `fields` add to the contract's request that says hello."""
    plain = request(info)
    return {name: value for name, value in request(info, **fields).items() if plain.get(name) != value}


def function(name: str, **more: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def call(identifier: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": identifier, **function(name, arguments=arguments)}


def test_model_and_messages_are_enough() -> None:
    assert {"model": "card", "messages": [HELLO], "max_tokens": 64_000} == request()


AUTO = {"type": "auto", "disable_parallel_tool_use": False}
EMPTY = {"type": "object", "properties": {}, "additionalProperties": False}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
TWO = [function("one"), function("two", description="Two", parameters=CITY, strict=True)]
TWO_TOLD = [
    {"name": "one", "input_schema": EMPTY},
    {"name": "two", "input_schema": CITY, "description": "Two", "strict": True},
]
EPHEMERAL = {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 5}, {"max_tokens": 5}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 2}, {"temperature": 1}),
        ({"top_p": 0.5, "top_k": 3}, {"top_p": 0.5, "top_k": 3}),
        ({"temperature": 1, "top_p": 1}, {"temperature": 1}),
        ({"top_p": 1}, {"top_p": 1}),
        ({"stop": "a"}, {"stop_sequences": ["a"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop": None}, {}),
        ({"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": True}}, {"stream": True}),
        ({"stream": None, "stream_options": {"include_obfuscation": False}}, {}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"safety_identifier": "s", "prompt_cache_key": "k"}, {"metadata": {"user_id": "s"}}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"cache_control": EPHEMERAL}, {"cache_control": EPHEMERAL}),
        ({"seed": 7, "n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}}, {}),
        ({"logprobs": False, "top_logprobs": 0, "store": False, "metadata": {}, "modalities": ["text"]}, {}),
        ({"verbosity": "medium", "prediction": None, "functions": [], "function_call": "none", "tools": []}, {}),
        ({"tool_choice": "auto", "parallel_tool_calls": False}, {}),
        ({"tools": TWO}, {"tools": TWO_TOLD, "tool_choice": AUTO}),
        ({"tools": TWO, "tool_choice": "none"}, {"tools": TWO_TOLD, "tool_choice": {"type": "none"}}),
        ({"tools": TWO, "tool_choice": "required"}, {"tools": TWO_TOLD, "tool_choice": {**AUTO, "type": "any"}}),
        (
            {"tools": TWO, "tool_choice": function("two")},
            {"tools": TWO_TOLD, "tool_choice": {**AUTO, "type": "tool", "name": "two"}},
        ),
        (
            {"tools": TWO, "parallel_tool_calls": False},
            {"tools": TWO_TOLD, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        ),
        (
            {
                "tools": TWO,
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [function("two")]},
                },
            },
            {"tools": TWO_TOLD[1:], "tool_choice": {**AUTO, "type": "any"}},
        ),
        (
            {"tools": [{**TWO[0], "cache_control": EPHEMERAL}]},
            {"tools": [{**TWO_TOLD[0], "cache_control": EPHEMERAL}], "tool_choice": AUTO},
        ),
        ({"response_format": {"type": "text"}}, {}),
        (
            {"response_format": {"type": "json_object"}},
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": CITY, "strict": False}}},
            {"output_config": {"format": {"type": "json_schema", "schema": CITY}}},
        ),
    ],
)
def test_a_field_becomes_the_contracts(fields: dict[str, object], told: dict[str, object]) -> None:
    assert told == changed(**fields)


def enabled(budget: int, **more: str) -> dict[str, object]:
    return {"thinking": {"type": "enabled", "budget_tokens": budget, **more}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"reasoning_effort": "minimal"}, enabled(1_024)),
        ({"reasoning_effort": "low"}, enabled(1_024)),
        ({"reasoning_effort": "medium"}, enabled(4_096)),
        ({"reasoning_effort": "high"}, enabled(16_384)),
        ({"reasoning_effort": "xhigh"}, enabled(32_768)),
        ({"reasoning_effort": "max"}, enabled(48_000)),
        ({"reasoning_effort": None}, {}),
        ({"reasoning": {"effort": "high"}}, enabled(16_384)),
        ({"reasoning": {"max_tokens": 2_000}}, enabled(2_000)),
        ({"reasoning": {"max_tokens": 2_000, "exclude": True}}, enabled(2_000, display="omitted")),
        ({"reasoning": {"enabled": True}}, enabled(4_096)),
        ({"reasoning": {"enabled": False, "exclude": True}}, {"thinking": {"type": "disabled"}}),
        ({"reasoning": {"exclude": True}}, {}),
        (enabled(3_000), enabled(3_000)),
    ],
)
def test_an_effort_becomes_a_budget(fields: dict[str, object], told: dict[str, object]) -> None:
    assert told == changed(**fields)


def test_an_effort_stays_one_where_the_card_decides_how_long_to_think() -> None:
    told = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}

    assert told == changed(ADAPTIVE, reasoning_effort="low")
    both = changed(ADAPTIVE, reasoning_effort="low", response_format={"type": "json_object"})
    assert {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}} == both["output_config"]


def text(said: str, **more: object) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def system(said: object, role: str = "system") -> dict[str, object]:
    return {"role": role, "content": said}


def user(said: object, **more: object) -> dict[str, object]:
    return {"role": "user", "content": said, **more}


def assistant(said: object, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": said, **more}


def answer(identifier: str, said: object) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": identifier, "content": said}


def use(identifier: str, name: str, **input_: object) -> dict[str, object]:
    return {"type": "tool_use", "id": identifier, "name": name, "input": input_}


def result(identifier: str, said: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": identifier, "content": said}


def thinking(said: str, signature: str) -> dict[str, object]:
    return {"type": "thinking", "thinking": said, "signature": signature}


SIGNED = {"type": "reasoning.text", "text": "Hm", "signature": "c2ln", "index": 0, "format": "anthropic-claude-v1"}
HIDDEN = {"type": "reasoning.encrypted", "data": "c2ln", "index": 1, "format": "anthropic-claude-v1"}


@pytest.mark.parametrize(
    ("messages", "prompt", "told"),
    [
        (
            [system("a"), system([text("b"), text("c", cache_control=EPHEMERAL)], "developer"), user("d")],
            [text("a"), text("b"), text("c", cache_control=EPHEMERAL)],
            [user("d")],
        ),
        ([user([text("a"), text("b")], name="Ada")], None, [user([text("a"), text("b")])]),
        ([user("a", cache_control=EPHEMERAL)], None, [user([text("a", cache_control=EPHEMERAL)])]),
        (
            [user([text("a", prompt_cache_breakpoint={"mode": "explicit"})])],
            None,
            [user([text("a", cache_control={"type": "ephemeral", "ttl": "1h"})])],
        ),
        # The contract has a system message after what the user says.
        (
            [user("a"), assistant("b"), system("c"), user("d"), assistant("e")],
            None,
            [user("a"), assistant("b"), user("d"), system("c"), assistant("e")],
        ),
        ([user("a"), system("b")], None, [user("a"), system("b")]),
        (
            [user("a"), assistant(None, tool_calls=[call("1", "f", '{"a": 1}'), call("2", "g", "")])],
            None,
            [user("a"), assistant([use("1", "f", a=1), use("2", "g")])],
        ),
        (
            [
                user("a"),
                assistant("", refusal=None, tool_calls=[call("1", "f", "{}"), call("2", "f", "{}")]),
                answer("1", "x"),
                answer("2", [text("y"), text("")]),
                user("b"),
                assistant([text("c"), {"type": "refusal", "refusal": "No"}]),
            ],
            None,
            [
                user("a"),
                assistant([use("1", "f"), use("2", "f")]),
                user([result("1", "x"), result("2", [text("y")]), text("b")]),
                assistant([text("c"), text("No")]),
            ],
        ),
        (
            [user("a"), assistant("b", reasoning_content="Hm", reasoning="Hm", reasoning_details=[SIGNED, HIDDEN])],
            None,
            [
                user("a"),
                assistant([thinking("Hm", "c2ln"), {"type": "redacted_thinking", "data": "c2ln"}, text("b")]),
            ],
        ),
        (
            [user("a"), assistant("b", reasoning_content="Hm")],
            None,
            [user("a"), assistant([thinking("Hm", ""), text("b")])],
        ),
        ([user("a"), assistant("b", reasoning="Hm")], None, [user("a"), assistant([thinking("Hm", ""), text("b")])]),
        ([user("a"), assistant("b", reasoning_content="", reasoning="")], None, [user("a"), assistant("b")]),
        # A reply that said nothing, sent back as it was.
        ([user("a"), assistant(None)], None, [user("a")]),
        ([user("a"), assistant(""), user("b")], None, [user("a"), user("b")]),
        ([user("a"), assistant([]), user(""), assistant("c")], None, [user("a"), user(""), assistant("c")]),
        ([system("a"), system(""), user("b"), system("")], [text("a")], [user("b")]),
    ],
)
def test_messages_become_the_contracts(
    messages: list[dict[str, object]], prompt: object, told: list[dict[str, object]]
) -> None:
    found = request(messages=messages)

    assert (prompt, told) == (found.get("system"), found["messages"])


PART = {"type": "image_url", "image_url": {"url": "data:,"}}
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [7]}, "messages.0"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "function", "name": "f", "content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": 7, "content": "Hi"}]}, "messages.0.role"),
        ({"messages": [user(None)]}, "messages.0.content"),
        ({"messages": [user(7)]}, "messages.0.content"),
        ({"messages": [system("a"), user([text("")])]}, "messages.1.content.0.text"),
        ({"messages": [system("a"), user([text("b"), PART])]}, "messages.1.content.1.type"),
        ({"messages": [user([{"type": "file", "file": {}}])]}, "messages.0.content.0.type"),
        ({"messages": [user([{"type": "video"}])]}, "messages.0.content.0.type"),
        ({"messages": [user("a", nickname="b")]}, "messages.0.nickname"),
        ({"messages": [user("a"), assistant("b", audio={"id": "c"})]}, "messages.1.audio"),
        ({"messages": [user("a"), assistant("b", function_call={"name": "f"})]}, "messages.1.function_call"),
        *(
            (
                {"messages": [system("a"), user("b"), assistant(None, tool_calls=[call("1", "f", arguments)])]},
                "messages.2.tool_calls.0.function.arguments",
            )
            for arguments in ("[1]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "9" * 5_000, '{"a": "\\ud800"}', DEEP)
        ),
        (
            {"messages": [system("a"), user("b"), assistant("c", tool_calls=[call("not ok", "f", "")])]},
            "messages.2.tool_calls.0.id",
        ),
        (
            {"messages": [system("a"), user("b"), assistant("c", tool_calls=[call("1", "", "")])]},
            "messages.2.tool_calls.0.function.name",
        ),
        (
            {"messages": [user("a"), assistant("c", tool_calls=[{"id": "1", "type": "custom", "custom": {}}])]},
            "messages.1.tool_calls.0.type",
        ),
        (
            {"messages": [user("a"), assistant(None, tool_calls=[call("1", "f", "")]), answer("?", "b")]},
            "messages.2.tool_call_id",
        ),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 2**31}, "max_completion_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"stop": 7}, "stop"),
        ({"stop": " "}, "stop"),
        ({"stop": ["a", " "]}, "stop.1"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"n": 10**400}, "n"),
        ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"presence_penalty": False}, "presence_penalty"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"logprobs": True}, "logprobs"),
        ({"store": True}, "store"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"verbosity": "low"}, "verbosity"),
        ({"prediction": {"type": "content", "content": "a"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"seed": "7"}, "seed"),
        ({"user": "u" * 257}, "user"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"max_token": 5}, "max_token"),
        ({"stream_options": {"usage": True}}, "stream_options.usage"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type"),
        ({"tools": [function("f"), function("not ok")]}, "tools.1.function.name"),
        ({"tools": [function("f", parameters=[])]}, "tools.0.function.parameters"),
        ({"tools": [function("f")], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [function("f")], "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice.type"),
        (
            {
                "tools": [function("f")],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [function("f"), function("g")]},
                },
            },
            "tool_choice.allowed_tools.tools.1.function.name",
        ),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"reasoning_effort": "low", "max_tokens": 1_000}, "reasoning_effort"),
        ({"reasoning_effort": "low", "reasoning": {"effort": "low"}}, "reasoning"),
        ({"reasoning_effort": "low", "thinking": {"type": "disabled"}}, "thinking"),
        ({"reasoning": {"effort": "low", "max_tokens": 2_000}}, "reasoning.max_tokens"),
        ({"reasoning": {"effort": "low", "enabled": False}}, "reasoning.enabled"),
        ({"reasoning": {"max_tokens": 5}}, "reasoning.max_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.enabled.budget_tokens"),
    ],
)
def test_what_is_not_taken_is_refused_by_the_clients_own_path(fields: dict[str, object], path: str) -> None:
    assert path == refusal(lambda: decoded(**fields)).param


def test_a_body_that_is_no_object_is_refused() -> None:
    decode = openai.DIALECT.replies["/v1/chat/completions"]
    bodies = (b"", b"[]", b"{", b'{"model": "a", "model": "b"}', b"\xff", b'{"model": NaN}', DEEP.encode())

    told = [refusal(lambda body=body: decode(asking(), body)).kind for body in bodies]

    assert ["invalid_request_error"] * len(bodies) == told


# Anything at all, and what looks like something.
SCRAPS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "role", "content", "text", "function", "name", "id", "effort", "tool_calls", "schema"]
            )
            | st.text(max_size=4),
            inner
            | st.sampled_from(
                ["text", "function", "user", "tool", "assistant", "system", "json_schema", "allowed_tools", "refusal"]
            ),
            max_size=4,
        )
    ),
    max_leaves=12,
)


TAKEN = "taken"


def refused_path(fields: dict[str, object]) -> str:
    """The path that a bad request is refused with; every other error fails the test."""
    try:
        decoded(**fields)
    except ApiError as error:
        return f"{error.param}" if error.kind == "invalid_request_error" else error.kind
    return TAKEN


@given(st.sampled_from([*ChatRequest.model_fields]), SCRAPS)
def test_whatever_a_field_holds_is_taken_or_refused_by_a_path_that_begins_with_it(name: str, value: object) -> None:
    assert refused_path({name: value}).split(".")[0] in (TAKEN, name)


@given(st.lists(SCRAPS, min_size=1, max_size=3), st.sampled_from(["user", "assistant", "tool", "system"]))
def test_whatever_a_message_holds_is_taken_or_refused_by_its_path(scraps: list[object], role: str) -> None:
    keys = ("content", "tool_calls", "reasoning_details")
    messages = [{"role": role, **dict(zip(keys, scraps, strict=False))}]

    assert refused_path({"messages": [HELLO, *messages]}).startswith((TAKEN, "messages.1"))


def test_what_the_turn_refuses_later_is_told_by_the_clients_path() -> None:
    messages = [
        system("a"),
        user("b"),
        assistant("c", reasoning_details=[SIGNED], tool_calls=[call("1", "f", "{}")]),
        answer("1", "d"),
        user([text("e"), text("f")]),
    ]
    paths = decoded(messages=messages, tools=[function("f")], max_tokens=5, stop="a").paths
    allowed = {"mode": "auto", "tools": [function("two")]}
    filtered = decoded(tools=TWO, tool_choice={"type": "allowed_tools", "allowed_tools": allowed}).paths

    told = {
        "system.0.text": "messages.0.content",
        "messages.0.content": "messages.1.content",
        "messages.1.content.0.signature": "messages.2.reasoning_details.0.signature",
        "messages.1.content.1": "messages.2.content",
        "messages.1.content.2.input": "messages.2.tool_calls.0.function.arguments",
        "messages.2.content.0.tool_use_id": "messages.3.tool_call_id",
        "messages.2.content.0": "messages.3",
        "messages.2.content.2.text": "messages.4.content.1.text",
        "tools.0.input_schema.properties": "tools.0.function.parameters.properties",
        "output_config.format.schema.properties.a": "response_format.json_schema.schema.properties.a",
        "max_tokens": "max_tokens",
        "stop_sequences.0": "stop",
        "temperature": "temperature",
    }
    assert told == {path: renamed(path, paths) for path in told}
    assert "tools.1.function.strict" == renamed("tools.0.strict", filtered)
    assert "tools.1.cache_control.ttl" == renamed("tools.0.cache_control.ttl", filtered)
    assert "max_completion_tokens" == renamed("max_tokens", decoded().paths)


def test_a_schema_is_not_bound_to_the_contracts_documented_subset() -> None:
    asked = decoded(response_format={"type": "json_object"}).request

    assert asked.output_config is not None
    assert isinstance(asked.output_config.format, LooseJsonSchemaFormat)


THOUGHT_AND_CALLS: list[Event] = [
    MessageStart("msg_1", "card", Usage(17)),
    BlockStart(0, "thinking"),
    BlockDelta(0, "thinking", "H\u2028"),
    BlockDelta(0, "thinking", "m"),
    BlockSignature(0, "c2ln"),
    BlockStop(0),
    BlockStart(1, "redacted_thinking", "ZGF0YQ=="),
    BlockStop(1),
    BlockStart(2, "text"),
    BlockDelta(2, "text", 'a"\n\u2028'),
    BlockDelta(2, "text", "b"),
    BlockStop(2),
    BlockStart(3, "tool_use", "toolu_1", "f"),
    BlockDelta(3, "tool_use", ""),
    BlockDelta(3, "tool_use", '{"a": '),
    BlockDelta(3, "tool_use", "1}"),
    BlockStop(3),
    BlockStart(4, "tool_use", "toolu_2", "g"),
    BlockDelta(4, "tool_use", ""),
    BlockDelta(4, "tool_use", "{}"),
    BlockStop(4),
    MessageDelta("tool_use", None, USAGE),
    MessageStop(),
]


def lines_of(stream: bytes) -> list[str]:
    """The data of the events that a parser finds which is fed one byte at a time."""
    found: list[str] = []
    line = b""
    for byte in stream:
        if byte != ord("\n"):
            line += bytes((byte,))
            continue
        assert 1 == len(line.decode().splitlines() or [""]), "no line reader may cut a line"
        if line:
            assert line.startswith((b"data: ", b":"))
            found += [line.decode().removeprefix("data: ")] if line.startswith(b"data: ") else []
        line = b""

    assert b"" == line
    return found


def stream(events: Sequence[Event], *, include_usage: bool = False) -> bytes:
    told = openai_replies.Told(asking(), include_usage=include_usage)
    return b"".join([told.event(event) for event in events])


def chunks(events: Sequence[Event], *, include_usage: bool = False) -> list[dict[str, Any]]:
    *data, last = lines_of(stream(events, include_usage=include_usage))

    assert "[DONE]" == last
    return [json.loads(one) for one in data]


HEAD = {
    "id": "msg_1",
    "object": "chat.completion.chunk",
    "created": 1_744_218_600,
    "model": "card",
    "service_tier": "default",
    "system_fingerprint": None,
}


def chunk(delta: object, finish_reason: str | None = None) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}


def test_every_event_becomes_a_chunk_or_nothing() -> None:
    def piece(index: int, arguments: str) -> dict[str, object]:
        return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}

    def begun(index: int, identifier: str, name: str) -> dict[str, object]:
        return {"tool_calls": [{"index": index, **call(identifier, name, "")}]}

    signed = {**SIGNED, "text": "H\u2028m"}
    deltas = [
        {"role": "assistant"},
        {"reasoning_content": "H\u2028", "reasoning": "H\u2028"},
        {"reasoning_content": "m", "reasoning": "m"},
        {"reasoning_details": [signed]},
        {"reasoning_details": [{**HIDDEN, "data": "ZGF0YQ=="}]},
        {"content": 'a"\n\u2028'},
        {"content": "b"},
        begun(0, "toolu_1", "f"),
        piece(0, '{"a": '),
        piece(0, "1}"),
        begun(1, "toolu_2", "g"),
        piece(1, "{}"),
    ]

    assert [*map(chunk, deltas), chunk({}, "tool_calls")] == chunks(THOUGHT_AND_CALLS)


def test_usage_is_told_once_at_the_end_of_a_stream_that_asks_for_it() -> None:
    *before, last = chunks(THOUGHT_AND_CALLS, include_usage=True)

    assert [{**one, "usage": None} for one in chunks(THOUGHT_AND_CALLS)] == before
    assert {**HEAD, "choices": [], "usage": TOLD_USAGE} == last


def test_a_stream_that_fails_has_no_end() -> None:
    failed = Failed(invalid("gone", "messages.0"))
    error = {"message": "messages.0: gone", "type": "invalid_request_error", "param": "messages.0", "code": None}

    told = [json.loads(one) for one in lines_of(stream([*THOUGHT_AND_CALLS[:10], failed], include_usage=True))]
    at_once = lines_of(stream([failed]))

    assert [{"error": error}] == told[-1:]
    assert [None] * 6 == [one["choices"][0]["finish_reason"] for one in told[:-1]]
    assert [{"error": error}] == [json.loads(one) for one in at_once]


def test_silence_is_broken_by_a_comment() -> None:
    assert [] == lines_of(openai_replies.PING)


def test_a_whole_reply_has_every_key() -> None:
    told = json.loads(openai_replies.Told(asking(), include_usage=False).message(fold(THOUGHT_AND_CALLS)))

    message = {
        "role": "assistant",
        "content": 'a"\n\u2028b',
        "refusal": None,
        "tool_calls": [call("toolu_1", "f", '{"a": 1}'), call("toolu_2", "g", "{}")],
        "reasoning_content": "H\u2028m",
        "reasoning": "H\u2028m",
        "reasoning_details": [{**SIGNED, "text": "H\u2028m"}, {**HIDDEN, "data": "ZGF0YQ=="}],
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    assert {**HEAD, "object": "chat.completion", "choices": [choice], "usage": TOLD_USAGE} == told


def test_what_was_not_said_is_empty_or_null() -> None:
    def told(*events: Event) -> dict[str, Any]:
        message = fold([MessageStart("msg_1", "card", USAGE), *events, MessageDelta("end_turn", None, USAGE)])
        return json.loads(openai_replies.Told(asking(), include_usage=False).message(message))["choices"][0]["message"]

    nothing = {"role": "assistant", "content": "", "refusal": None, "reasoning_content": "", "reasoning": ""}
    called = told(
        BlockStart(0, "tool_use", "toolu_1", "f"), BlockDelta(0, "tool_use", ""), BlockDelta(0, "tool_use", "{")
    )
    assert nothing == told()
    # The reply was cut in the middle of its call.
    assert {**nothing, "content": None, "tool_calls": [call("toolu_1", "f", "{")]} == called


@pytest.mark.parametrize(
    ("reason", "told"),
    [*zip(get_args(StopReason), ["stop", "length", "stop", "tool_calls", "length"], strict=True)],
)
def test_every_reason_to_stop_has_its_word(reason: StopReason, told: str) -> None:
    events = [MessageStart("msg_1", "card", USAGE), MessageDelta(reason, None, USAGE), MessageStop()]
    whole = json.loads(openai_replies.Told(asking(), include_usage=False).message(fold(events)))

    assert [None, told] == [one["choices"][0]["finish_reason"] for one in chunks(events)]
    assert told == whole["choices"][0]["finish_reason"]


@pytest.mark.parametrize(("tier", "told"), [*zip(get_args(Tier), ["priority", "default", "default"], strict=True)])
def test_every_tier_has_its_word(tier: Tier, told: str) -> None:
    events = [MessageStart("msg_1", "card", USAGE, tier), MessageDelta("end_turn", None, USAGE), MessageStop()]
    whole = json.loads(openai_replies.Told(asking(), include_usage=False).message(fold(events)))

    assert [told] * 3 == [whole["service_tier"], *[one["service_tier"] for one in chunks(events)]]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20))
def test_a_stream_adds_up_to_the_whole_reply(texts: list[str]) -> None:
    said = [BlockDelta(0, "text", one) for one in texts]
    end: list[Event] = [BlockStop(0), MessageDelta("end_turn", None, USAGE), MessageStop()]
    events = [MessageStart("msg_1", "card", USAGE), BlockStart(0, "text"), *said, *end]
    whole = json.loads(openai_replies.Told(asking(), include_usage=False).message(fold(events)))
    streamed = [one["choices"][0]["delta"].get("content", "") for one in chunks(events)]

    assert whole["choices"][0]["message"]["content"] == "".join(streamed) == "".join(texts)


def test_a_reply_sent_back_is_what_it_was() -> None:
    """The message goes back as it came; calls are answered as they must be."""
    message = fold(THOUGHT_AND_CALLS)
    told = json.loads(openai_replies.Told(asking(), include_usage=False).message(message))["choices"][0]["message"]
    answers = [answer("toolu_1", "x"), answer("toolu_2", "y")]
    again = request(messages=[user("a"), told, *answers])["messages"][1]

    sent = json.loads(anthropic.encode_message(Message("msg_1", "card", message.content, "tool_use", None, USAGE)))
    assert {"role": "assistant", "content": sent["content"]} == again


ERRORS: dict[ErrorKind, tuple[int, str, str | None]] = {
    "invalid_request_error": (400, "invalid_request_error", None),
    "authentication_error": (401, "invalid_request_error", "invalid_api_key"),
    "billing_error": (402, "insufficient_quota", "insufficient_quota"),
    "permission_error": (403, "invalid_request_error", "permission_denied"),
    "not_found_error": (404, "invalid_request_error", None),
    "conflict_error": (409, "invalid_request_error", "conflict"),
    "request_too_large": (413, "invalid_request_error", "request_too_large"),
    "rate_limit_error": (429, "rate_limit_error", "rate_limit_exceeded"),
    "api_error": (500, "server_error", None),
    "timeout_error": (504, "server_error", "timeout"),
    "overloaded_error": (503, "server_error", "overloaded"),
}


@pytest.mark.parametrize("kind", get_args(ErrorKind))
def test_every_kind_of_error_has_openais_status_type_and_code(kind: ErrorKind) -> None:
    refused = openai.DIALECT.encode_error(ApiError(kind, "text", retry_after_s=1.5), "req_1", 0.0)

    status, type_, code = ERRORS[kind]
    told = {"message": "text", "type": type_, "param": None, "code": code}
    assert (status, {"error": told}) == (refused.status, json.loads(refused.body))
    assert (b"retry-after", b"2") in refused.headers


def test_a_code_of_ours_takes_the_place_of_openais() -> None:
    error = ApiError("rate_limit_error", "spent", code="enforced_spend_limit_reached")
    refused = openai.DIALECT.encode_error(error, "req_1", 0.0)

    assert "enforced_spend_limit_reached" == json.loads(refused.body)["error"]["code"]
    assert ((b"x-should-retry", b"false"),) == refused.headers


@pytest.mark.parametrize(
    ("reset_s", "told"),
    [(0, b"0ms"), (0.0204, b"20ms"), (1, b"1s"), (59.999, b"60s"), (61.5, b"1m1.5s"), (360, b"6m0s"), (3600, b"60m0s")],
)
def test_limits_are_told_as_openai_spells_them(reset_s: float, told: bytes) -> None:
    states = [
        LimitState("requests", 10, 9, reset_s),
        LimitState("input_tokens", 5, 4, 1),
        LimitState("tokens", 7, 0, 1),
    ]

    assert (
        (b"x-ratelimit-limit-requests", b"10"),
        (b"x-ratelimit-remaining-requests", b"9"),
        (b"x-ratelimit-reset-requests", told),
        (b"x-ratelimit-limit-tokens", b"7"),
        (b"x-ratelimit-remaining-tokens", b"0"),
        (b"x-ratelimit-reset-tokens", b"1s"),
    ) == openai.DIALECT.encode_limits(states, 0.0)


def test_an_error_at_the_paths_of_models_suits_both_clients() -> None:
    error = ApiError("not_found_error", "no such model", param="model")
    refused = openai.FOR_BOTH.encode_error(error, "req_1", 0.0)

    told = {"type": "not_found_error", "message": "model: no such model", "param": "model", "code": "model_not_found"}
    assert (404, {"type": "error", "error": told, "request_id": "req_1"}) == (refused.status, json.loads(refused.body))
