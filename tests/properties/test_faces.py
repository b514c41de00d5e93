"""The same call through every dialect is the same request to the engine and the same bill (RELIABILITY.md R39)."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sestet.contract.deltas import Generation
from sestet.engines.scripted import ScriptedReply
from sestet.ledger.entry import Settlement
from tests.faces import DIALECTS, NoWords
from tests.lengths import length
from tests.unit.gates import door
from tests.unit.in_process import ask, house

MODELS = ("scripted", "claude-3-7-sonnet-20250219", "anthropic/claude-3.7-sonnet")

texts = st.text(st.sampled_from('ab \n<|>{}"\\é\u2028😀'), min_size=1, max_size=12).filter(
    lambda text: bool(text.strip())
)
marks = st.sampled_from([{}, {}, {}, *({"cache_control": {"type": "ephemeral", **ttl}} for ttl in ({}, {"ttl": "1h"}))])

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
tools = st.lists(st.sampled_from(["weather", "time", "a-b_c"]), min_size=1, max_size=3, unique=True)


@st.composite
def text_blocks(draw: st.DrawFn) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": text, **draw(marks)} for text in draw(st.lists(texts, min_size=1, max_size=2))]


@st.composite
def conversations(draw: st.DrawFn) -> list[Mapping[str, Any]]:
    """Turns of user and assistant, some with calls and their results."""
    messages: list[Mapping[str, Any]] = [{"role": "user", "content": draw(texts | text_blocks())}]
    for turn in range(draw(st.integers(0, 2))):
        called = draw(st.booleans())
        if not called:
            messages.append({"role": "assistant", "content": draw(texts)})
            messages.append({"role": "user", "content": draw(texts | text_blocks())})
            continue
        ids = [f"toolu_{turn}_{number}" for number in range(draw(st.integers(1, 2)))]
        said = [{"type": "text", "text": draw(texts)}] if draw(st.booleans()) else []
        calls = [{"type": "tool_use", "id": one, "name": "weather", "input": {"city": draw(texts)}} for one in ids]
        results = [{"type": "tool_result", "tool_use_id": one, "content": draw(texts)} for one in ids]
        messages.append({"role": "assistant", "content": [*said, *calls]})
        messages.append({"role": "user", "content": [*results, *draw(text_blocks() | st.just([]))]})
    return messages


@st.composite
def calls(draw: st.DrawFn) -> Mapping[str, Any]:
    """A request for a reply that every dialect, or all but a few, can say."""
    request: dict[str, Any] = {
        "model": draw(st.sampled_from(MODELS)),
        "max_tokens": draw(st.sampled_from([1, 3, 50, 8_000])),
        "messages": draw(conversations()),
        "stream": draw(st.booleans()),
    }
    uses_tools = any(
        not isinstance(message["content"], str) and any(block["type"] != "text" for block in message["content"])
        for message in request["messages"]
    )
    if draw(st.booleans()):
        request["system"] = draw(texts)
    if uses_tools or draw(st.booleans()):
        request["tools"] = [
            {"name": name, "description": "About " + name, "input_schema": SCHEMA, **draw(marks)}
            for name in dict.fromkeys(["weather", *draw(tools)])
        ]
        if draw(st.booleans()):
            choice: dict[str, Any] = {"type": draw(st.sampled_from(["auto", "none"]))}
            request["tool_choice"] = choice
            if choice["type"] == "auto" and draw(st.booleans()):
                choice["disable_parallel_tool_use"] = True
    elif draw(st.booleans()):
        request["output_config"] = {"format": {"type": "json_schema", "schema": SCHEMA}}
    if request["max_tokens"] == 8_000 and "output_config" not in request and draw(st.booleans()):
        request["thinking"] = draw(
            st.sampled_from([{"type": "disabled"}, *({"type": "enabled", "budget_tokens": n} for n in (1_024, 4_096))])
        )
    elif draw(st.booleans()):
        request |= draw(st.sampled_from([{"temperature": 0.5}, {"top_p": 0.9}, {"temperature": 1, "top_p": 1}]))
    if draw(st.booleans()):
        request["stop_sequences"] = draw(st.lists(texts, min_size=1, max_size=4, unique=True))
    if draw(st.booleans()):
        request["service_tier"] = draw(st.sampled_from(["auto", "standard_only"]))
    if draw(st.booleans()):
        request["metadata"] = {"user_id": "u-1"}
    return request


@dataclass(frozen=True)
class Came:
    """What came of a request: the status, what the engine was sent, and the bill."""

    status: int
    jobs: list[Generation]
    bills: list[Settlement]


async def came_of(request: Mapping[str, Any], dialect: str) -> Came:
    spelled = DIALECTS[dialect](request)
    OF.engine.records.clear()
    OF.ledger.settled.clear()
    answer = await ask(DOOR, "POST", spelled.path, spelled.body, headers=spelled.headers)
    jobs = [replace(record.job, request_id="") for record in OF.engine.records]
    return Came(answer.status, jobs, [alike(bill) for bill in OF.ledger.settled])


def alike(bill: Settlement) -> Settlement:
    """What is not the bill's: names and times of one request."""
    opening = replace(bill.opening, request_id="", dialect="")
    return replace(bill, opening=opening, queue_s=None, first_token_s=None, duration_s=0.0)


# Text that is good where a schema is asked for too.
OF = house(ScriptedReply(think=["Hm", "."], say=['{"city":', ' "', "Os", "lo", '"}']))
DOOR = door(OF)


@given(calls())
@settings(max_examples=length(300, 2_000), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_dialect_asks_the_engine_the_same_and_pays_the_same(request: Mapping[str, Any]) -> None:
    expected = asyncio.run(came_of(request, "anthropic"))
    for dialect in DIALECTS.keys() - {"anthropic"}:
        try:
            came = asyncio.run(came_of(request, dialect))
        except NoWords:
            continue
        assert (dialect, expected) == (dialect, came)
    assert ([] if expected.status == 400 else [200]) == [bill_status(bill) for bill in expected.bills]
    assert 200 == expected.status or marked(request)


def bill_status(bill: Settlement) -> int:
    return 200 if bill.ending == "finished" else 500


def marked(request: Mapping[str, Any]) -> bool:
    """Whether it has breakpoints, of which there may be too many, or in no good order."""
    return b"cache_control" in orjson.dumps(request)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_ledger_knows_the_dialect(dialect: str) -> None:
    request = {"model": "scripted", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    spelled = DIALECTS[dialect](request)
    OF.ledger.settled.clear()
    asyncio.run(ask(DOOR, "POST", spelled.path, spelled.body, headers=spelled.headers))

    assert [dialect] == [bill.opening.dialect for bill in OF.ledger.settled]
