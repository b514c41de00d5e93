"""From an engine's deltas to the contract's events: the only code that knows of blocks, indices and their order."""

from collections.abc import Sequence
from dataclasses import replace

from sestet.contract.deltas import Delta, Finished, Text
from sestet.contract.events import (
    BlockDelta,
    BlockKind,
    BlockStart,
    BlockStop,
    Event,
    MessageDelta,
    MessageStart,
    MessageStop,
    StopReason,
    Usage,
)
from sestet.turn.stops import StopMatcher


class Assembler:
    """One reply. `usage` is true at every moment; after `finished` nothing more is taken.

    `length_reason` is what it means here that the engine drew as many tokens as it was allowed: the request's
    own `max_tokens`, or the end of the context window.
    """

    def __init__(self, usage: Usage, stop_sequences: Sequence[str], length_reason: StopReason) -> None:
        self.finished = False
        self.stop_reason: StopReason | None = None
        self._usage = usage
        self._output_tokens = 0
        self._length_reason = length_reason
        self._stops = StopMatcher(stop_sequences) if stop_sequences else None
        self._index = -1
        self._open: BlockKind | None = None

    @property
    def usage(self) -> Usage:
        if self._usage.output_tokens != self._output_tokens:
            self._usage = replace(self._usage, output_tokens=self._output_tokens)
        return self._usage

    def start(self, message_id: str, model: str) -> MessageStart:
        return MessageStart(message_id, model, self.usage)

    def feed(self, delta: Delta) -> list[Event]:
        """The events that this fact calls for, in order; often none or one."""
        assert not self.finished, "an engine spoke after its last word"
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
            case Finished(reason):
                held = self._stops.flush() if self._stops is not None else ""
                return [
                    *self._extend("text", held),
                    *self._finish("end_turn" if reason == "end" else self._length_reason),
                ]

    def _extend(self, kind: BlockKind, text: str) -> list[Event]:
        if not text:
            return []
        if self._open == kind:
            return [BlockDelta(self._index, kind, text)]
        events = self._close()
        self._index += 1
        self._open = kind
        return [*events, BlockStart(self._index, kind), BlockDelta(self._index, kind, text)]

    def _close(self) -> list[Event]:
        if self._open is None:
            return []
        self._open = None
        return [BlockStop(self._index)]

    def _finish(self, reason: StopReason, stop_sequence: str | None = None) -> list[Event]:
        self.finished = True
        self.stop_reason = reason
        return [*self._close(), MessageDelta(reason, stop_sequence, self.usage), MessageStop()]
