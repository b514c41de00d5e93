"""From deltas to events: blocks, indices, endings, usage."""

import pytest

from sestet.contract.deltas import Delta, Finished, Text, Thinking, ToolCall, ToolInput
from sestet.contract.events import (
    BlockDelta,
    BlockSignature,
    BlockStart,
    BlockStop,
    Event,
    MessageDelta,
    MessageStart,
    MessageStop,
    StopReason,
    Usage,
)
from sestet.turn.assemble import Assembler, Shown


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


def thought(*deltas: Delta, shown: Shown = "summarized", stops: tuple[str, ...] = ()) -> list[Event]:
    """The events of a reply that may think; its seals say what they were made of."""
    assembler = Assembler(Usage(7), stops, "max_tokens", shown, lambda index, text: f"seal of {index}: {text}")
    return [event for delta in deltas for event in assembler.feed(delta)]


def told(output_tokens: int, thinking_tokens: int) -> list[Event]:
    usage = Usage(7, output_tokens, thinking_tokens=thinking_tokens)
    return [MessageDelta("end_turn", None, usage), MessageStop()]


THOUGHT = (Thinking("h", 1), Thinking("m", 2), Thinking("", 5), Text("so", 6), Finished("end", 7))


def test_a_thought_is_a_block_that_ends_with_its_signature() -> None:
    assert [
        BlockStart(0, "thinking"),
        BlockDelta(0, "thinking", "h"),
        BlockDelta(0, "thinking", "m"),
        BlockSignature(0, "seal of 0: hm"),
        BlockStop(0),
        BlockStart(1, "text"),
        BlockDelta(1, "text", "so"),
        BlockStop(1),
        *told(7, 5),
    ] == thought(*THOUGHT)


def test_an_omitted_thought_is_its_signature_alone() -> None:
    assert [
        BlockStart(0, "thinking"),
        BlockSignature(0, "seal of 0: hm"),
        BlockStop(0),
        BlockStart(1, "text"),
        BlockDelta(1, "text", "so"),
        BlockStop(1),
        *told(7, 5),
    ] == thought(*THOUGHT, shown="omitted")


def test_a_redacted_thought_begins_with_all_there_is_of_it() -> None:
    assert [
        BlockStart(0, "redacted_thinking", "seal of 0: hm"),
        BlockStop(0),
        BlockStart(1, "text"),
        BlockDelta(1, "text", "so"),
        BlockStop(1),
        *told(7, 5),
    ] == thought(*THOUGHT, shown="redacted")


def test_a_thought_of_nothing_is_no_block_and_is_counted_all_the_same() -> None:
    assert [
        BlockStart(0, "text"),
        BlockDelta(0, "text", "so"),
        BlockStop(0),
        *told(5, 3),
    ] == thought(Thinking("", 3), Text("so", 4), Finished("end", 5))


def test_a_second_thought_is_sealed_apart_from_the_first() -> None:
    signatures = [
        event
        for event in thought(
            Thinking("a", 1), Text("x", 2), Thinking("b", 3), Thinking("", 4), Text("y", 5), Finished("end", 6)
        )
        if isinstance(event, BlockSignature | MessageDelta)
    ]

    assert [BlockSignature(0, "seal of 0: a"), BlockSignature(2, "seal of 2: b"), told(6, 3)[0]] == signatures


def test_stop_sequences_fire_in_answers_and_not_in_thoughts() -> None:
    events = thought(Thinking("a STOP b", 1), Text("c STO", 2), Text("P d", 3), stops=("STOP",))

    assert [
        BlockStart(0, "thinking"),
        BlockDelta(0, "thinking", "a STOP b"),
        BlockSignature(0, "seal of 0: a STOP b"),
        BlockStop(0),
        BlockStart(1, "text"),
        BlockDelta(1, "text", "c "),
        BlockStop(1),
        MessageDelta("stop_sequence", "STOP", Usage(7, 3, thinking_tokens=1)),
        MessageStop(),
    ] == events


def test_a_reply_that_ends_in_its_thought_seals_it() -> None:
    assert [
        BlockStart(0, "thinking"),
        BlockDelta(0, "thinking", "hm"),
        BlockSignature(0, "seal of 0: hm"),
        BlockStop(0),
        MessageDelta("max_tokens", None, Usage(7, 2, thinking_tokens=2)),
        MessageStop(),
    ] == thought(Thinking("hm", 1), Thinking("", 2), Finished("length", 2))


def called(*deltas: Delta, stops: tuple[str, ...] = (), shown: Shown = "summarized") -> list[Event]:
    """The events of a reply that may think and call tools; its calls are numbered."""
    ids = iter(("toolu_1", "toolu_2", "toolu_3"))
    assembler = Assembler(Usage(7), stops, "max_tokens", shown, lambda _, text: f"seal of {text}", ids.__next__)
    return [event for delta in deltas for event in assembler.feed(delta)]


def test_a_call_is_a_block_that_begins_with_an_empty_piece_of_input() -> None:
    assert [
        BlockStart(0, "tool_use", "toolu_1", "a"),
        BlockDelta(0, "tool_use", ""),
        BlockDelta(0, "tool_use", '{"b": '),
        BlockDelta(0, "tool_use", "1}"),
        BlockStop(0),
        *ending("tool_use", 4),
    ] == called(ToolCall("a", 1), ToolInput('{"b": ', 2), ToolInput("1}", 3), Finished("end", 4))


def test_thought_text_and_calls_are_blocks_in_their_order() -> None:
    events = called(
        Thinking("hm", 1),
        Text("so", 2),
        ToolCall("a", 3),
        ToolInput("{}", 4),
        ToolCall("b", 5),
        ToolInput("{}", 6),
        Finished("end", 7),
    )

    assert [
        BlockStart(0, "thinking"),
        BlockDelta(0, "thinking", "hm"),
        BlockSignature(0, "seal of hm"),
        BlockStop(0),
        BlockStart(1, "text"),
        BlockDelta(1, "text", "so"),
        BlockStop(1),
        BlockStart(2, "tool_use", "toolu_1", "a"),
        BlockDelta(2, "tool_use", ""),
        BlockDelta(2, "tool_use", "{}"),
        BlockStop(2),
        BlockStart(3, "tool_use", "toolu_2", "b"),
        BlockDelta(3, "tool_use", ""),
        BlockDelta(3, "tool_use", "{}"),
        BlockStop(3),
        MessageDelta("tool_use", None, Usage(7, 7, thinking_tokens=1)),
        MessageStop(),
    ] == events


def test_a_redacted_thought_ends_before_the_call() -> None:
    assert [
        BlockStart(0, "redacted_thinking", "seal of hm"),
        BlockStop(0),
        BlockStart(1, "tool_use", "toolu_1", "a"),
        BlockDelta(1, "tool_use", ""),
    ] == called(Thinking("hm", 1), ToolCall("a", 2), shown="redacted")


def test_a_call_that_is_cut_ends_at_max_tokens() -> None:
    assert [BlockStop(0), *ending("max_tokens", 3)] == called(
        ToolCall("a", 1), ToolInput('{"b', 2), Finished("length", 3)
    )[-3:]


def test_stop_sequences_do_not_fire_in_calls() -> None:
    events = called(ToolCall("a", 1), ToolInput('{"b": "STOP"}', 2), Finished("end", 3), stops=("STOP", "}"))

    assert [BlockDelta(0, "tool_use", '{"b": "STOP"}'), BlockStop(0), *ending("tool_use", 3)] == events[2:]


def test_half_a_stop_sequence_before_a_call_is_text() -> None:
    assert [
        BlockStart(0, "text"),
        BlockDelta(0, "text", "a "),
        BlockDelta(0, "text", "ST"),
        BlockStop(0),
        BlockStart(1, "tool_use", "toolu_1", "a"),
        BlockDelta(1, "tool_use", ""),
    ] == called(Text("a ST", 1), ToolCall("a", 2), stops=("STOP",))


def test_a_stop_sequence_before_a_call_ends_the_reply() -> None:
    assert ending("stop_sequence", 1, "STOP") == called(Text("a STOP b", 1), stops=("STOP",))[-2:]
