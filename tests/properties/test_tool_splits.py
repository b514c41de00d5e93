"""Any split of what an engine says, thoughts, text and calls, folds to the same message."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sestet.catalog.card import profiles
from sestet.contract.deltas import Delta, Finished, FinishReason, Text
from sestet.contract.events import FOLLOWS, BlockDelta, BlockStart, BlockStop, Event, Usage
from sestet.contract.tools import ToolSyntax
from sestet.dialects import anthropic
from sestet.turn.assemble import Assembler
from sestet.turn.fold import Block, Message, fold
from sestet.turn.thinking import ThoughtSplitter
from sestet.turn.tools import CallSplitter, ToolPlan
from tests.lengths import length
from tests.properties.test_stop_sequences import cut, oracle
from tests.unit.thoughts import TAGS

SYNTAXES = tuple({profile.tools.begin: profile.tools for profile in profiles()}.values())
NAMES = ("get_weather", "a", "A-b_0", "name")

# What strings are made of: braces, quotes, markers of every family, stop sequences, ends of lines, astral characters.
_FRAGMENTS = st.sampled_from(
    ("{", "}", "[", "]", '"', "\\", '"}', "\\u007d", "<", "<tool_call>", "</tool_call>", "}\n</tool_call>", "[ARGS]",
     "[TOOL_CALLS]", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", '{"name": "a", "arguments": {}}', "; ", "STOP", "ab", "é",
     "\u2028", "\U0001f600", "\0", "</think>")
)  # fmt: skip
_STRINGS = st.lists(_FRAGMENTS, max_size=4).map("".join)
_NUMBERS = st.sampled_from((0, -1, 2**53 + 1, 2**64, -(2**64), 123456789012345678901234567890, 1.5, -2.5e-7))
_VALUES = st.recursive(
    _STRINGS | _NUMBERS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_STRINGS, inner, max_size=3),
    max_leaves=6,
)
_INPUTS = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only),
    st.dictionaries(_STRINGS, _VALUES, max_size=3),
    st.booleans(),
)
_WORDS = st.lists(
    st.sampled_from(
        ("a", "b", " ", "\n", "é", "<", "<tool", "[TOOL", "{", '{"', '{"na', "<｜tool", "STO", "STOP", ".")
    ),
    max_size=6,
).map("".join)
_THOUGHTS = st.lists(st.sampled_from(("hm ", "STOP", "<", "</th", "<tool_call>", "[TOOL_CALLS]", "é")), max_size=4)


@dataclass(frozen=True, slots=True)
class Said:
    """What an engine says, and what it means."""

    syntax: ToolSyntax
    thought: str | None
    text: str
    calls: tuple[tuple[str, str], ...]
    stops: tuple[str, ...]

    @property
    def words(self) -> str:
        syntax = self.syntax
        thought = "" if self.thought is None else self.thought + TAGS.closing
        calls = syntax.between.join(
            f"{syntax.begin}{syntax.before_name}{name}{syntax.before_input}{text}{syntax.after_input}"
            for name, text in self.calls
        )
        return thought + self.text + calls

    def message(self) -> tuple[list[Block], str, str | None]:
        """Blocks, stop reason and stop sequence, read from the whole at once."""
        thought = [] if self.thought is None or not self.thought.strip() else [_thought(self.thought.strip())]
        spoken = self.text if self.thought is None else self.text.lstrip()
        text, match = oracle(spoken, self.stops)
        texts = [Block("text", text)] if text else []
        if match is not None:
            return [*thought, *texts], "stop_sequence", match
        calls = [Block("tool_use", given, f"toolu_{at}", name) for at, (name, given) in enumerate(self.calls)]
        return [*thought, *texts, *calls], "tool_use" if calls else "end_turn", None


def _thought(text: str) -> Block:
    return Block("thinking", text, f"seal of {text}")


def _sayable(said: Said) -> bool:
    """Text spells no whole marker (the grammar forbids it), not even together with the beginning of the first call."""
    return (said.text + said.syntax.begin).index(said.syntax.begin) == len(said.text)


SAID = st.builds(
    Said,
    st.sampled_from(SYNTAXES),
    st.none() | _THOUGHTS.map("".join),
    _WORDS,
    st.lists(st.tuples(st.sampled_from(NAMES), _INPUTS), max_size=3).map(tuple),
    st.lists(st.sampled_from(("STOP", "STO", "}", '"', "a.", "<")), max_size=2, unique=True).map(tuple),
).filter(_sayable)


def deltas(said: Said, pieces: Sequence[str], reason: FinishReason) -> Iterator[Delta]:
    """What the stages before the assembler make of these pieces."""
    thoughts = None if said.thought is None else ThoughtSplitter(TAGS)
    calls = CallSplitter(said.syntax, ToolPlan((), "auto", tuple(NAMES), parallel=True))
    for at, piece in enumerate((*pieces, None), 1):
        if thoughts is None:
            parts: Iterable[Delta] = () if piece is None else (Text(piece, at),)
        else:
            parts = thoughts.flush(at) if piece is None else thoughts.feed(piece, at)
        for part in parts:
            yield from calls.feed(part.text, at) if isinstance(part, Text) else (part,)
    yield from calls.flush(len(pieces) + 1)
    yield Finished(reason, len(pieces) + 1)


def told(said: Said, pieces: Sequence[str], reason: FinishReason = "end") -> list[Event]:
    """All events of a reply that says these pieces, as the services put the stages together."""
    ids = map("toolu_{}".format, count())
    assembler = Assembler(
        Usage(7), said.stops, "max_tokens", "summarized", lambda _, text: f"seal of {text}", ids.__next__
    )
    events: list[Event] = [assembler.start("msg_1", "card")]
    for delta in deltas(said, pieces, reason):
        events += assembler.feed(delta)
        if assembler.finished:
            break
    return events


def check_stream(events: Sequence[Event]) -> None:
    """The invariants of a stream with calls: one empty piece of input first, and none of any other block is empty."""
    assert all(type(after) in FOLLOWS[type(before)] for before, after in pairwise(events))
    starts = [event for event in events if isinstance(event, BlockStart)]
    assert list(range(len(starts))) == [start.index for start in starts]
    assert len(starts) == sum(isinstance(event, BlockStop) for event in events)
    for start in starts:
        pieces = [event.text for event in events if isinstance(event, BlockDelta) and event.index == start.index]
        assert ([""] if start.kind == "tool_use" else []) == [piece for piece in pieces if not piece]
        assert start.kind != "tool_use" or pieces[0] == ""


@settings(max_examples=length(1000, 5000), deadline=None)
@given(SAID, st.lists(st.integers(0, 400), max_size=25))
def test_any_split_of_thoughts_text_and_calls_folds_to_the_same_message(said: Said, places: list[int]) -> None:
    events = told(said, cut(said.words, places))
    message = fold(events)

    assert said.message() == (list(message.content), message.stop_reason, message.stop_sequence)
    check_stream(events)
    inputs = [block["input"] for block in wire(message) if block["type"] == "tool_use"]
    assert [json.loads(block.text) for block in message.content if block.kind == "tool_use"] == inputs


@settings(max_examples=length(60, 300), deadline=None)
@given(SAID)
def test_a_reply_said_a_character_at_a_time_is_the_same_message(said: Said) -> None:
    assert fold(told(said, said.words)).content == fold(told(said, [said.words])).content


@settings(max_examples=length(100, 500), deadline=None)
@given(SAID, st.integers(0, 10**6), st.lists(st.integers(0, 400), max_size=10))
def test_a_reply_cut_anywhere_holds_the_beginning_of_what_it_would_have_held(
    said: Said, end: int, places: list[int]
) -> None:
    said = Said(said.syntax, None, said.text, said.calls, ())
    words = said.words[: end % (len(said.words) + 1)]
    events = told(said, cut(words, places), "length")
    message = fold(events)
    texts = [block.text for block in message.content if block.kind == "text"]
    calls = [(block.name, block.text) for block in message.content if block.kind == "tool_use"]

    check_stream(events)
    assert "max_tokens" == message.stop_reason
    # Before the first call, half a marker cannot be told from text.
    whole = said.text + said.syntax.begin if len(words) < len(said.text + said.syntax.begin) else said.text
    assert whole.startswith("".join(texts))
    assert ([said.text] if said.text else []) == texts or not calls
    names = [name for name, _ in said.calls]
    assert names[: len(calls)] == [name for name, _ in calls]
    assert [text for _, text in said.calls][: max(len(calls) - 1, 0)] == [text for _, text in calls[:-1]]
    assert all(given.startswith(text) for (_, given), (_, text) in zip(said.calls, calls, strict=False))
    assert all(isinstance(block["input"], dict) for block in wire(message) if block["type"] == "tool_use")


def wire(message: Message) -> list[dict[str, object]]:
    content: list[dict[str, object]] = json.loads(anthropic.encode_message(message))["content"]
    return content
