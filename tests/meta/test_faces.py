"""What each dialect carries, in a table of the manual that is made here: every cell has been tried."""

import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from sestet.contract.errors import ApiError
from sestet.contract.events import Failed, Usage
from sestet.contract.limits import LimitState
from sestet.dialects.dialect import Asked, Asking, Dialect
from sestet.dialects.responses_replies import SEAL_END
from sestet.server import dialects
from sestet.turn.fold import Block, Message
from tests.faces import DIALECTS
from tests.unit.in_process import house

ROOT: Final = Path(__file__).parents[2]
MANUAL: Final = ROOT / "docs" / "manual.md"
BEGIN, END = "<!-- made by tests/meta/test_faces.py: begin -->\n", "<!-- made by tests/meta/test_faces.py: end -->\n"
NAMES: Final = tuple(DIALECTS)
TITLES: Final = {
    "anthropic": "Anthropic",
    "openai": "OpenAI chat",
    "responses": "OpenAI Responses",
    "bedrock": "Bedrock",
    "vertex": "Vertex",
}
BASE: Final[Mapping[str, Any]] = {
    "model": "scripted",
    "max_tokens": 4_000,
    "messages": [{"role": "user", "content": "Hi"}],
}
TOOL: Final = {"name": "weather", "description": "About it", "input_schema": {"type": "object", "properties": {}}}
CALLED: Final = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "Rain"}]},
]
MARKED: Final = [
    {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}
]
FORMAT: Final = {"format": {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}}
THOUGHT: Final = [
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Hm.", "signature": "abc"}, {"type": "text", "text": "Well."}],
    },
    {"role": "user", "content": "Go on."},
]


def same(word: str) -> Mapping[str, str]:
    """A field that the three that speak the contract's JSON have in common."""
    return dict.fromkeys(("anthropic", "bedrock", "vertex"), word)


@dataclass(frozen=True)
class Feature:
    """What is added to a request, and what each dialect calls it; one that is missing has no word for it."""

    what: str
    asked: Mapping[str, Any]
    words: Mapping[str, str]


FEATURES: Final = (
    Feature(
        "system prompt", {"system": "Be brief."}, same("system") | {"openai": "system", "responses": "instructions"}
    ),
    Feature(
        "longest reply",
        {"max_tokens": 77},
        same("max_tokens") | {"openai": "max_completion_tokens", "responses": "max_output_tokens"},
    ),
    Feature("stop sequences", {"stop_sequences": ["STOP"]}, same("stop_sequences") | {"openai": "stop"}),
    Feature("temperature", {"temperature": 0.5}, dict.fromkeys(NAMES, "temperature")),
    Feature("top p", {"top_p": 0.5}, dict.fromkeys(NAMES, "top_p")),
    Feature("top k", {"top_k": 5}, same("top_k") | {"openai": "top_k"}),
    Feature("tools", {"tools": [TOOL]}, dict.fromkeys(NAMES, "tools")),
    Feature("strict tools", {"tools": [{**TOOL, "strict": True}]}, dict.fromkeys(NAMES, "strict")),
    Feature(
        "a call is demanded", {"tools": [TOOL], "tool_choice": {"type": "any"}}, dict.fromkeys(NAMES, "tool_choice")
    ),
    Feature(
        "one call at a time",
        {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
        same("disable_parallel_tool_use") | dict.fromkeys(("openai", "responses"), "parallel_tool_calls"),
    ),
    Feature(
        "calls sent back",
        {"tools": [TOOL], "messages": CALLED},
        same("tool_use_id") | {"openai": "tool_calls", "responses": "call_id"},
    ),
    Feature(
        "JSON of a schema",
        {"output_config": FORMAT},
        same("output_config") | {"openai": "response_format", "responses": "text"},
    ),
    Feature(
        "thinking",
        {"thinking": {"type": "enabled", "budget_tokens": 1_024}},
        same("thinking") | {"openai": "thinking", "responses": "reasoning"},
    ),
    Feature(
        "thoughts sent back",
        {"messages": THOUGHT},
        same("signature") | {"openai": "reasoning_details", "responses": "encrypted_content"},
    ),
    Feature(
        "cache breakpoints",
        {"messages": MARKED},
        same("cache_control") | {"openai": "cache_control", "responses": "prompt_cache_breakpoint"},
    ),
    Feature("service tier", {"service_tier": "standard_only"}, dict.fromkeys(NAMES, "service_tier")),
    Feature("the user's id", {"metadata": {"user_id": "u"}}, same("metadata") | {"openai": "user"}),
    Feature("why the cache missed", {"diagnostics": {"previous_message_id": "msg_1"}}, same("diagnostics")),
)

USAGE: Final = Usage(100, 50, 20, 3, 7, 30)
MESSAGE: Final = Message(
    "msg_" + "0" * 32,
    "scripted-20260101",
    (
        Block("thinking", "Hm.", "signature-of-it"),
        Block("text", "Well."),
        Block("tool_use", '{"city": "Oslo"}', "toolu_1", "weather"),
    ),
    "tool_use",
    None,
    USAGE,
)


@dataclass(frozen=True)
class Told:
    """A fact of `MESSAGE`, and where each dialect's whole reply has it."""

    what: str
    places: Mapping[str, tuple[str, object]]


def told(what: str, ours: tuple[str, object], chat: tuple[str, object], responses: tuple[str, object]) -> Told:
    clouds = dict.fromkeys(("anthropic", "bedrock", "vertex"), ours)
    return Told(what, {**clouds, "openai": chat, "responses": responses})


TOLD: Final = (
    told(
        "text",
        ("content.1.text", "Well."),
        ("choices.0.message.content", "Well."),
        ("output.1.content.0.text", "Well."),
    ),
    told(
        "thought",
        ("content.0.thinking", "Hm."),
        ("choices.0.message.reasoning_content", "Hm."),
        ("output.0.content.0.text", "Hm."),
    ),
    told(
        "proof of a thought",
        ("content.0.signature", "signature-of-it"),
        ("choices.0.message.reasoning_details.0.signature", "signature-of-it"),
        ("output.0.encrypted_content", "signature-of-it" + SEAL_END + urlsafe_b64encode(b"Hm.").decode()),
    ),
    told(
        "tool called",
        ("content.2.name", "weather"),
        ("choices.0.message.tool_calls.0.function.name", "weather"),
        ("output.2.name", "weather"),
    ),
    told(
        "id of the call",
        ("content.2.id", "toolu_1"),
        ("choices.0.message.tool_calls.0.id", "toolu_1"),
        ("output.2.call_id", "toolu_1"),
    ),
    told(
        "why it ended",
        ("stop_reason", "tool_use"),
        ("choices.0.finish_reason", "tool_calls"),
        ("status", "completed"),
    ),
    told(
        "tokens of the prompt", ("usage.input_tokens", 100), ("usage.prompt_tokens", 130), ("usage.input_tokens", 130)
    ),
    told(
        "of these read from the cache",
        ("usage.cache_read_input_tokens", 7),
        ("usage.prompt_tokens_details.cached_tokens", 7),
        ("usage.input_tokens_details.cached_tokens", 7),
    ),
    told(
        "of these written to it",
        ("usage.cache_creation_input_tokens", 23),
        ("usage.prompt_tokens_details.cache_write_tokens", 23),
        ("usage.input_tokens_details.cache_write_tokens", 23),
    ),
    told(
        "tokens of the reply", ("usage.output_tokens", 50), ("usage.completion_tokens", 50), ("usage.output_tokens", 50)
    ),
    told(
        "of these thought",
        ("usage.output_tokens_details.thinking_tokens", 30),
        ("usage.completion_tokens_details.reasoning_tokens", 30),
        ("usage.output_tokens_details.reasoning_tokens", 30),
    ),
)

# What the error of a stream that has begun looks like.
FAILURES: Final = {
    "anthropic": b"event: error\n",
    "openai": b'data: {"error":',
    "responses": b"event: response.failed\n",
    "bedrock": b":exception-type",
    "vertex": b"event: error\n",
}
RATES: Final = {
    name: b"x-ratelimit-remaining-requests"
    if name in ("openai", "responses")
    else b"anthropic-ratelimit-requests-remaining"
    for name in NAMES
}


def dialect(name: str) -> Dialect:
    (found,) = [one for one in dialects.DIALECTS if one.name == name]
    return found


def template_of(known: Mapping[str, Any], path: str) -> str:
    """The route that takes this path."""
    for template in known:
        pattern = re.sub(r"\\\{\w+(:path)?\\\}", ".+", re.escape(template).replace(r"\:path", ":path"))
        if re.fullmatch(pattern, path):
            return template
    raise AssertionError(path)


def asking(path: str, headers: Mapping[str, str]) -> Asking:
    given = {key.encode(): [value.encode()] for key, value in headers.items()}
    return Asking(path, given, "req_1", "msg_" + "0" * 32, 0.0, house().models.find)


def decoded(name: str, request: Mapping[str, Any]) -> Asked:
    spelled = DIALECTS[name](request)
    known = dialect(name).replies
    decode = known[template_of(known, spelled.path)]
    return decode(asking(spelled.path, spelled.headers), orjson.dumps(spelled.body))


def meaning(asked: Asked) -> object:
    """The request without what says nothing: absent fields, defaults, text in one block instead of a string."""
    return plain(asked.request.model_dump(by_alias=True, exclude_none=True, warnings=False))


def plain(value: object) -> object:
    match value:
        case dict():
            told = {key: plain(inner) for key, inner in value.items() if (key, inner) not in MEAN_NOTHING}
            for key in {"content", "system"} & told.keys():
                if isinstance(told[key], str):
                    told[key] = [{"type": "text", "text": told[key]}]
            return told
        case list():
            return [plain(inner) for inner in value]
        case _:
            return value


MEAN_NOTHING: Final = (
    ("service_tier", "auto"),
    ("strict", False),
    ("type", "custom"),
    ("disable_parallel_tool_use", False),
    ("stream", False),
    ("tool_choice", {"type": "auto", "disable_parallel_tool_use": False}),
)


def words_in(value: object) -> Iterator[str]:
    match value:
        case dict():
            for key, inner in value.items():
                yield key
                yield from words_in(inner)
        case list():
            for inner in value:
                yield from words_in(inner)
        case str():
            yield value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.what)
def test_what_is_asked_in_a_dialects_words_is_what_is_understood(feature: Feature, name: str) -> None:
    if name not in feature.words:
        pytest.skip("it has no word for it")
    request = {**BASE, **feature.asked}

    assert feature.words[name] in set(words_in(DIALECTS[name](request).body))
    assert meaning(decoded("anthropic", request)) == meaning(decoded(name, request))
    assert meaning(decoded("anthropic", BASE)) != meaning(decoded(name, request))


def at(body: Any, path: str) -> object:
    for step in path.split("."):
        body = body[int(step) if step.isdigit() else step]
    return body


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fact", TOLD, ids=lambda fact: fact.what)
def test_a_fact_of_a_reply_is_where_the_table_says(fact: Told, name: str) -> None:
    path, value = fact.places[name]
    thinking = {"type": "enabled", "budget_tokens": 1_024}
    body = orjson.loads(decoded(name, {**BASE, "thinking": thinking}).teller.message(MESSAGE))

    assert value == at(body, path)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_that_fails_says_so_in_the_dialects_own_form(name: str) -> None:
    teller = decoded(name, {**BASE, "stream": True}).teller

    assert FAILURES[name] in teller.event(Failed(ApiError("overloaded_error", "no more")))


@pytest.mark.parametrize("name", NAMES)
def test_limits_are_told_in_the_dialects_own_headers(name: str) -> None:
    headers = dialect(name).encode_limits((LimitState("requests", 10, 9, 6.0),), 0.0)

    assert b"9" == dict(headers)[RATES[name]]


def table() -> str:
    lines = ["| | " + " | ".join(TITLES[name] for name in NAMES) + " |", "|---" * (len(NAMES) + 1) + "|"]

    def row(what: str, cells: Mapping[str, str]) -> None:
        lines.append(f"| {what} | " + " | ".join(cells.get(name) or "-" for name in NAMES) + " |")

    def routes(known: Mapping[str, object]) -> str:
        return "<br>".join(f"`{path.replace(':path}', '}')}`" for path in known)

    row("replies", {name: routes(dialect(name).replies) for name in NAMES})
    row("counting tokens", {name: routes(dialect(name).counts) for name in NAMES})
    for feature in FEATURES:
        row(feature.what, {name: f"`{word}`" for name, word in feature.words.items()})
    for fact in TOLD:
        row(f"reply: {fact.what}", {name: f"`{path}`" for name, (path, _) in fact.places.items()})
    row("rate headers", {name: f"`{RATES[name].decode()}`" for name in NAMES})
    row("request id", {name: f"`{dialect(name).request_id_header.decode()}`" for name in NAMES})
    row("a stream that fails", {name: f"`{FAILURES[name].decode().strip()}`" for name in NAMES})
    return "\n".join(lines) + "\n"


def test_the_manual_has_this_table() -> None:
    text = MANUAL.read_text("utf-8")
    head, begun, rest = text.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    wanted = head + BEGIN + table() + END + tail
    if os.environ.get("UPDATE_GOLDEN"):
        MANUAL.write_text(wanted, "utf-8")

    assert (BEGIN, END) == (begun, ended)
    assert wanted == MANUAL.read_text("utf-8")
