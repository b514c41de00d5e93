"""Calls in an engine's deltas: told apart, whole, or the engine's fault."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from sestet.contract.deltas import Delta, Finished, Text, Thinking, ToolCall, ToolInput
from sestet.contract.errors import ApiError
from sestet.services.calls import with_calls, with_value
from sestet.turn.tools import CallSplitter, ToolPlan
from tests.unit.thoughts import TOOLS

CALL = '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>'


PLAN = ToolPlan((), "auto", ("a",), parallel=True)


class Source:
    """An engine's deltas; remembers how far it was read and whether it was closed."""

    def __init__(self, deltas: Sequence[Delta]) -> None:
        self.closed = False
        self._deltas = deltas

    async def stream(self) -> AsyncGenerator[Delta, None]:
        try:
            for delta in self._deltas:
                yield delta
        finally:
            self.closed = True


def passed(*deltas: Delta) -> list[Delta]:
    async def run() -> list[Delta]:
        source = Source(deltas)
        async with aclosing(with_calls(source.stream(), CallSplitter(TOOLS, PLAN))) as parts:
            return [part async for part in parts]

    return asyncio.run(run())


def valued(*deltas: Delta) -> list[Delta]:
    async def run() -> list[Delta]:
        async with aclosing(with_value(Source(deltas).stream())) as parts:
            return [part async for part in parts]

    return asyncio.run(run())


def test_thoughts_and_text_pass() -> None:
    assert [Thinking("<tool_call>", 1), Text("so", 2), Finished("end", 3)] == passed(
        Thinking("<tool_call>", 1), Text("so", 2), Finished("end", 3)
    )


def test_calls_are_told_apart_and_counted() -> None:
    assert [Text("so ", 1), ToolCall("a", 2), ToolInput("{}", 2), Finished("end", 4)] == passed(
        Text("so ", 1), Text(CALL[:-3], 2), Text(CALL[-3:], 3), Finished("end", 4)
    )


def test_what_was_held_comes_before_the_end() -> None:
    assert [Text("a ", 1), Text("<tool", 2), Finished("end", 2)] == passed(Text("a <tool", 1), Finished("end", 2))


@pytest.mark.parametrize("length", range(len("<tool_call>"), len(CALL)))
def test_a_call_that_the_engine_leaves_unfinished_is_its_fault(length: int) -> None:
    with pytest.raises(ApiError) as caught:
        passed(Text(CALL[:length], 1), Finished("end", 2))

    assert "api_error" == caught.value.kind


@pytest.mark.parametrize("length", range(len("<tool_call>"), len(CALL)))
def test_a_call_that_the_allowance_cuts_is_not(length: int) -> None:
    assert Finished("length", 2) == passed(Text(CALL[:length], 1), Finished("length", 2))[-1]


def test_a_reader_who_leaves_closes_the_engine() -> None:
    source = Source([Text("a", 1), Text("b", 2), Finished("end", 3)])

    async def run() -> None:
        async with aclosing(with_calls(source.stream(), CallSplitter(TOOLS, PLAN))) as parts:
            await anext(parts)

    asyncio.run(run())

    assert source.closed


@pytest.mark.parametrize("text", ["{}", '{"a": 1}', '"x"', "5", "null", "[1, 2]", "9" * 5_000])
def test_a_json_value_is_an_answer_however_it_comes(text: str) -> None:
    deltas = [*(Text(character, at) for at, character in enumerate(text)), Finished("end", len(text))]

    assert deltas == valued(*deltas)


@pytest.mark.parametrize("text", ["", "so", '{"a": ', "{} {}", "NaN", "[" * 3_000])
def test_an_answer_that_is_no_json_value_is_the_engines_fault(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        valued(Text(text, 1), Finished("end", 2))

    assert "api_error" == caught.value.kind


@pytest.mark.parametrize(
    "deltas",
    [
        [Text('{"a": ', 1), Finished("length", 2)],
        [ToolCall("a", 1), ToolInput("{}", 2), Finished("end", 3)],
        [Thinking("hm", 1), Text("{}", 2), Finished("end", 3)],
    ],
)
def test_a_cut_answer_a_call_and_a_thought_need_be_none(deltas: list[Delta]) -> None:
    assert deltas == valued(*deltas)
