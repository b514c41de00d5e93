"""From deltas to events: blocks, indices, endings, usage."""

import pytest

from sestet.contract.deltas import Delta, Finished, Text
from sestet.contract.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Event,
    MessageDelta,
    MessageStart,
    MessageStop,
    StopReason,
    Usage,
)
from sestet.turn.assemble import Assembler


def assembled(*deltas: Delta, stops: tuple[str, ...] = (), length_reason: StopReason = "max_tokens") -> list[Event]:
    """The events after `message_start`."""
    assembler = Assembler(Usage(7), stops, length_reason)
    return [event for delta in deltas for event in assembler.feed(delta)]


def ending(reason: StopReason, output_tokens: int, stop_sequence: str | None = None) -> list[Event]:
    return [MessageDelta(reason, stop_sequence, Usage(7, output_tokens)), MessageStop()]


def test_a_reply_starts_with_the_usage_of_its_prompt() -> None:
    assert MessageStart("msg_1", "card", Usage(7)) == Assembler(Usage(7), (), "max_tokens").start("msg_1", "card")


def test_text_is_one_block() -> None:
    assert [
        BlockStart(0, "text"),
        BlockDelta(0, "text", "Hel"),
        BlockDelta(0, "text", "lo"),
        BlockStop(0),
        *ending("end_turn", 3),
    ] == assembled(Text("Hel", 1), Text("lo", 2), Finished("end", 3))


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
def test_the_end_of_the_allowance_is_called_what_it_is(reason: StopReason) -> None:
    assert ending(reason, 5) == assembled(Text("x", 5), Finished("length", 5), length_reason=reason)[-2:]


@pytest.mark.parametrize(("finished", "reason"), [("end", "end_turn"), ("length", "max_tokens")])
def test_a_reply_without_text_has_no_block(finished: str, reason: StopReason) -> None:
    assert ending(reason, 1) == assembled(Text("", 1), Finished(finished, 1))  # type: ignore[arg-type]


def test_a_token_that_shows_nothing_is_counted_and_not_sent() -> None:
    assert [
        BlockStart(0, "text"),
        BlockDelta(0, "text", "x"),
        BlockStop(0),
        *ending("end_turn", 3),
    ] == assembled(Text("", 1), Text("x", 2), Text("", 3), Finished("end", 3))


def test_a_stop_sequence_over_two_tokens_ends_the_reply_and_is_not_shown() -> None:
    assert [
        BlockStart(0, "text"),
        BlockDelta(0, "text", "a"),
        BlockStop(0),
        *ending("stop_sequence", 3, "END"),
    ] == assembled(Text("aE", 1), Text("N", 2), Text("D and more", 3), stops=("END",))


def test_a_reply_that_is_only_a_stop_sequence_has_no_block() -> None:
    assert ending("stop_sequence", 1, "END") == assembled(Text("END", 1), stops=("END",))


def test_half_a_stop_sequence_at_the_end_is_text() -> None:
    assert [
        BlockStart(0, "text"),
        BlockDelta(0, "text", "EN"),
        BlockStop(0),
        *ending("end_turn", 2),
    ] == assembled(Text("EN", 1), Finished("end", 2), stops=("END",))


def test_usage_is_true_at_every_moment() -> None:
    assembler = Assembler(Usage(7), (), "max_tokens")
    seen = [assembler.usage.output_tokens]
    for delta in (Text("a", 1), Text("b", 4), Finished("end", 5)):
        list(assembler.feed(delta))
        seen.append(assembler.usage.output_tokens)

    assert [0, 1, 4, 5] == seen
    assert (True, "end_turn") == (assembler.finished, assembler.stop_reason)


def test_nothing_is_taken_after_the_end() -> None:
    assembler = Assembler(Usage(7), (), "max_tokens")
    list(assembler.feed(Finished("end", 1)))

    with pytest.raises(AssertionError):
        list(assembler.feed(Text("x", 2)))
