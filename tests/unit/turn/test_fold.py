"""A whole reply is the fold of its events."""

import pytest

from sestet.contract.errors import ApiError
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
from sestet.turn.fold import Block, Message, fold

START = MessageStart("msg_1", "card", Usage(7))
END: list[Event] = [MessageDelta("stop_sequence", "END", Usage(7, 3)), MessageStop()]


def test_deltas_of_a_block_are_one_text() -> None:
    events = [START, BlockStart(0, "text"), BlockDelta(0, "text", "a"), BlockDelta(0, "text", "b"), BlockStop(0), *END]

    assert Message("msg_1", "card", (Block("text", "ab"),), "stop_sequence", "END", Usage(7, 3)) == fold(events)


def test_blocks_stay_apart() -> None:
    texts = [
        event
        for index, text in enumerate("ab")
        for event in (BlockStart(index, "text"), BlockDelta(index, "text", text), BlockStop(index))
    ]

    assert (Block("text", "a"), Block("text", "b")) == fold([START, *texts, *END]).content


def test_a_thought_keeps_its_seal() -> None:
    thoughts = [
        BlockStart(0, "thinking"),
        BlockDelta(0, "thinking", "h"),
        BlockDelta(0, "thinking", "m"),
        BlockSignature(0, "sig"),
        BlockStop(0),
        BlockStart(1, "redacted_thinking", "data"),
        BlockStop(1),
    ]

    assert (Block("thinking", "hm", "sig"), Block("redacted_thinking", "", "data")) == fold(
        [START, *thoughts, *END]
    ).content


def test_a_reply_may_be_empty() -> None:
    assert () == fold([START, *END]).content


def test_a_failed_reply_raises_its_error() -> None:
    error = ApiError("api_error", "the engine failed")

    with pytest.raises(ApiError) as caught:
        fold([START, BlockStart(0, "text"), BlockDelta(0, "text", "a"), Failed(error)])

    assert error is caught.value


@pytest.mark.parametrize("events", [[], END, [START], [START, BlockStart(0, "text"), BlockStop(0)]])
def test_half_a_reply_is_no_message(events: list[Event]) -> None:
    with pytest.raises(AssertionError):
        fold(events)


def test_a_call_keeps_its_id_its_name_and_every_digit() -> None:
    calls = [
        BlockStart(0, "text"),
        BlockDelta(0, "text", "so"),
        BlockStop(0),
        BlockStart(1, "tool_use", "toolu_1", "a"),
        BlockDelta(1, "tool_use", ""),
        BlockDelta(1, "tool_use", '{"n": 1844674407'),
        BlockDelta(1, "tool_use", "3709551616}"),
        BlockStop(1),
        BlockStart(2, "tool_use", "toolu_2", "b"),
        BlockDelta(2, "tool_use", ""),
        BlockStop(2),
    ]

    assert (
        Block("text", "so"),
        Block("tool_use", '{"n": 18446744073709551616}', "toolu_1", "a"),
        Block("tool_use", "", "toolu_2", "b"),
    ) == fold([START, *calls, *END]).content
