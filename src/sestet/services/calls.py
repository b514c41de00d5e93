"""Calls of tools in what an engine says."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from sestet.contract.deltas import Delta, Finished, Text, ToolCall
from sestet.contract.errors import ApiError
from sestet.turn.tools import CallSplitter, is_json


async def with_calls(deltas: AsyncGenerator[Delta, None], calls: CallSplitter) -> AsyncGenerator[Delta, None]:
    """The same deltas, with the calls among the text told apart from it. A call is whole unless the reply was cut at
    its `max_tokens`."""
    async with aclosing(deltas):
        async for delta in deltas:
            match delta:
                case Text(text, output_tokens):
                    for part in calls.feed(text, output_tokens):
                        yield part
                case Finished(reason, output_tokens):
                    for part in calls.flush(output_tokens):
                        yield part
                    if reason != "length":
                        calls.end()
                    yield delta
                case _:
                    yield delta


async def with_value(deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
    """The same deltas, whose text is one JSON value unless the reply was cut or calls tools instead: an engine that
    lost its grammar on the way must not pass for one that kept to it."""
    text: list[str] = []
    called = False
    async with aclosing(deltas):
        async for delta in deltas:
            if isinstance(delta, Text):
                text.append(delta.text)
            elif isinstance(delta, ToolCall):
                called = True
            elif isinstance(delta, Finished) and not (called or delta.reason == "length" or is_json("".join(text))):
                raise ApiError("api_error", "the model's answer is not the JSON that was asked for")
            yield delta


async def within(
    deltas: AsyncGenerator[Delta, None], keep: Callable[[str, bool], Awaitable[None]]
) -> AsyncGenerator[Delta, None]:
    """The same deltas; `keep` is asked at the end whether their text, whole or cut, kept to the grammar."""
    text: list[str] = []
    async with aclosing(deltas):
        async for delta in deltas:
            if isinstance(delta, Text):
                text.append(delta.text)
            elif isinstance(delta, Finished):
                await keep("".join(text), delta.reason != "length")
            yield delta
