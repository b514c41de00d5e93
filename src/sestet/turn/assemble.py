"""From an engine's deltas to the contract's events: the only code that knows of blocks, indices and their order."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from sestet.contract.caching import CacheMiss
from sestet.contract.deltas import Delta, Finished, Text, Thinking, ToolCall, ToolInput
from sestet.contract.events import (
    BlockDelta,
    BlockKind,
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
from sestet.contract.tiers import Tier
from sestet.turn.stops import StopMatcher

# What a client gets of a thought: its text, its signature alone, or the whole of it encrypted.
Shown = Literal["summarized", "omitted", "redacted"]

# A block's index and the text of its thought -> the signature, or the encrypted data of a redacted one.
Seal = Callable[[int, str], str]


class Assembler:
    """One reply. `usage` is true at every moment; after `finished` nothing more is taken.

    `length_reason` is what it means here that the engine drew as many tokens as it was allowed: the request's
    own `max_tokens`, or the end of the context window. `seal` is needed by a reply that may think,
    `call_id` by one that may call tools.
    """

    def __init__(
        self,
        usage: Usage,
        stop_sequences: Sequence[str],
        length_reason: StopReason,
        shown: Shown = "summarized",
        seal: Seal | None = None,
        call_id: Callable[[], str] | None = None,
    ) -> None:
        self.finished = False
        self.stop_reason: StopReason | None = None
        self._usage = usage
        self._output_tokens = 0
        self._thinking_tokens = 0
        self._shown = shown
        self._seal = seal
        self._call_id = call_id
        self._calls = 0
        self._thought: list[str] = []
        self._length_reason = length_reason
        self._stops = StopMatcher(stop_sequences) if stop_sequences else None
        self._index = -1
        self._open: BlockKind | None = None

    @property
    def usage(self) -> Usage:
        if self._usage.output_tokens != self._output_tokens:
            self._usage = replace(self._usage, output_tokens=self._output_tokens, thinking_tokens=self._thinking_tokens)
        return self._usage

    def start(
        self, message_id: str, model: str, tier: Tier = "standard", cache_miss: CacheMiss | None = None
    ) -> MessageStart:
        return MessageStart(message_id, model, self.usage, tier, cache_miss)

    def read(self, usage: Usage) -> None:
        """What the prompt turned out to cost, before anything was said."""
        self._usage = usage

    def feed(self, delta: Delta) -> list[Event]:
        """The events that this fact calls for, in order; often none or one."""
        assert not self.finished, "an engine spoke after its last word"
        drawn = delta.output_tokens - self._output_tokens
        self._output_tokens = delta.output_tokens
        match delta:
            case Text(text):
                if self._stops is None:
                    return self._extend("text", text)
                released = self._stops.feed(text)
                events = self._extend("text", released.text)
                if released.stop_sequence is not None:
                    events += self._finish("stop_sequence", released.stop_sequence)
                return events
            case Thinking(text):
                self._thinking_tokens += drawn
                return self._think(text)
            case ToolCall(name):
                return self._call(name)
            case ToolInput(text):
                return [BlockDelta(self._index, "tool_use", text)]
            case Finished(reason):
                held = self._held()
                if reason == "length":
                    return [*held, *self._finish(self._length_reason)]
                return [*held, *self._finish("tool_use" if self._calls else "end_turn")]

    def _extend(self, kind: BlockKind, text: str) -> list[Event]:
        if not text:
            return []
        if self._open == kind:
            return [BlockDelta(self._index, kind, text)]
        return [*self._begin(kind), BlockDelta(self._index, kind, text)]

    def _think(self, text: str) -> list[Event]:
        """A thought that is not shown is kept until it ends, for its seal to enclose."""
        if not text:
            return []
        kind: BlockKind = "redacted_thinking" if self._shown == "redacted" else "thinking"
        events = self._held()
        if self._open != kind:
            events += self._begin(kind)
        self._thought.append(text)
        if self._shown == "summarized":
            events.append(BlockDelta(self._index, kind, text))
        return events

    def _call(self, name: str) -> list[Event]:
        assert self._call_id is not None, "a reply that may call tools can name its calls"
        events = [*self._held(), *self._close()]
        self._index += 1
        self._open = "tool_use"
        self._calls += 1
        start = BlockStart(self._index, "tool_use", self._call_id(), name)
        return [*events, start, BlockDelta(self._index, "tool_use", "")]

    def _held(self) -> list[Event]:
        """Text that can no longer be the beginning of a stop sequence, because something else follows it."""
        return self._extend("text", self._stops.flush()) if self._stops is not None else []

    def _begin(self, kind: BlockKind) -> list[Event]:
        events = self._close()
        self._index += 1
        self._open = kind
        if kind == "redacted_thinking":  # begins with its whole content, which is not known yet
            return events
        return [*events, BlockStart(self._index, kind)]

    def _close(self) -> list[Event]:
        kind, self._open = self._open, None
        match kind:
            case None:
                return []
            case "text" | "tool_use":
                return [BlockStop(self._index)]
        assert self._seal is not None, "a reply that may think can seal its thoughts"
        seal = self._seal(self._index, "".join(self._thought))
        self._thought.clear()
        first = BlockSignature(self._index, seal) if kind == "thinking" else BlockStart(self._index, kind, seal)
        return [first, BlockStop(self._index)]

    def _finish(self, reason: StopReason, stop_sequence: str | None = None) -> list[Event]:
        self.finished = True
        self.stop_reason = reason
        return [*self._close(), MessageDelta(reason, stop_sequence, self.usage), MessageStop()]
