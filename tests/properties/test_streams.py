"""Every stream obeys the grammar of events, and any split of the same tokens tells the same message."""

from collections.abc import Sequence
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from sestet.contract.deltas import Delta, Finished, FinishReason, Text
from sestet.contract.events import (
    FOLLOWS,
    BlockDelta,
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
from sestet.turn.assemble import Assembler
from sestet.turn.fold import fold
from tests.lengths import length
from tests.properties.test_stop_sequences import LETTERS, STOPS, cut, oracle

PIECES = st.lists(st.text("ab\né", max_size=6), max_size=12)
REASONS = st.sampled_from(("end", "length"))
LENGTH_REASONS = st.sampled_from(("max_tokens", "model_context_window_exceeded"))


def deltas(pieces: Sequence[str], steps: Sequence[int], reason: FinishReason) -> list[Delta]:
    """Text in these pieces, each counting for some tokens, and the engine's last word."""
    counts = list(accumulate(steps[position % len(steps)] for position in range(len(pieces))))
    last = counts[-1] if counts else 0
    return [*map(Text, pieces, counts), Finished(reason, last)]


def told(said: Sequence[Delta], stops: Sequence[str], length_reason: StopReason) -> list[Event]:
    """All events of a reply, as the service hands them out."""
    assembler = Assembler(Usage(7), stops, length_reason)
    events: list[Event] = [assembler.start("msg_1", "card")]
    for delta in said:
        events += assembler.feed(delta)
        if assembler.finished:
            break
    return events


def check_grammar(events: Sequence[Event]) -> None:
    """The invariants of a stream, whatever it says."""
    before: type[Event] | None = None
    for event in events:
        assert type(event) in FOLLOWS[before], f"{type(event)} after {before}"
        before = type(event)

    assert FOLLOWS[before] == ()
    assert 1 == sum(isinstance(event, MessageStop | Failed) for event in events)
    starts = [event.index for event in events if isinstance(event, BlockStart)]
    assert list(range(len(starts))) == starts
    open_index = -1
    for event in events:
        match event:
            case BlockStart(index):
                open_index = index
            case BlockDelta(index, _, text):
                assert open_index == index
                assert text
            case BlockStop(index):
                assert open_index == index
    spent = [event.usage.output_tokens for event in events if isinstance(event, MessageStart | MessageDelta)]
    assert sorted(spent) == spent


@settings(max_examples=length(150, 1000), deadline=None)
@given(PIECES, st.lists(st.integers(0, 3), min_size=1, max_size=5), STOPS, REASONS, LENGTH_REASONS)
def test_every_stream_obeys_the_grammar(
    pieces: list[str], steps: list[int], stops: list[str], reason: FinishReason, length_reason: StopReason
) -> None:
    check_grammar(told(deltas(pieces, steps, reason), stops, length_reason))


@settings(max_examples=length(150, 1000), deadline=None)
@given(LETTERS, STOPS, st.lists(st.integers(0, 40), max_size=10), REASONS, LENGTH_REASONS)
def test_any_split_of_the_deltas_folds_to_the_same_message(
    text: str, stops: list[str], places: list[int], reason: FinishReason, length_reason: StopReason
) -> None:
    message = fold(told(deltas(cut(text, places), [1], reason), stops, length_reason))
    expected, match = oracle(text, stops)

    assert ([expected] if expected else [], match) == ([block.text for block in message.content], message.stop_sequence)
    ended = "end_turn" if reason == "end" else length_reason
    assert (ended if match is None else "stop_sequence") == message.stop_reason


@settings(max_examples=length(100, 500), deadline=None)
@given(PIECES, STOPS)
def test_usage_is_what_the_engine_had_counted_when_the_reply_ended(pieces: list[str], stops: list[str]) -> None:
    events = told(deltas(pieces, [1], "end"), stops, "max_tokens")
    message = fold(events)
    text, match = oracle("".join(pieces), stops)
    needed = len(text + match) if match is not None else None
    totals = list(accumulate(map(len, pieces)))
    ended_at = next((at + 1 for at, total in enumerate(totals) if needed is not None and total >= needed), len(pieces))

    assert Usage(7, ended_at) == message.usage
