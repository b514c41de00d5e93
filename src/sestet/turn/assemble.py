"""From an engine's deltas to the contract's events: the only code that knows of blocks, indices and their order."""

from collections.abc import Iterator, Sequence
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
        self._stops = StopMatcher(stop_sequences)
        self._index = -1
        self._open: BlockKind | None = None

    @property
    def usage(self) -> Usage:
        if self._usage.output_tokens != self._output_tokens:
            self._usage = replace(self._usage, output_tokens=self._output_tokens)
        return self._usage

    def start(self, message_id: str, model: str) -> MessageStart:
        return MessageStart(message_id, model, self.usage)

    def feed(self, delta: Delta) -> Iterator[Event]:
        assert not self.finished, "an engine spoke after its last word"
        self._output_tokens = delta.output_tokens
        match delta:
            case Text(text):
                released = self._stops.feed(text)
                yield from self._extend("text", released.text)
                if released.stop_sequence is not None:
                    yield from self._finish("stop_sequence", released.stop_sequence)
            case Finished(reason):
                yield from self._extend("text", self._stops.flush())
                yield from self._finish("end_turn" if reason == "end" else self._length_reason)

    def _extend(self, kind: BlockKind, text: str) -> Iterator[Event]:
        if not text:
            return
        if self._open != kind:
            yield from self._close()
            self._index += 1
            self._open = kind
            yield BlockStart(self._index, kind)
        yield BlockDelta(self._index, kind, text)

    def _close(self) -> Iterator[Event]:
        if self._open is not None:
            self._open = None
            yield BlockStop(self._index)

    def _finish(self, reason: StopReason, stop_sequence: str | None = None) -> Iterator[Event]:
        self.finished = True
        self.stop_reason = reason
        yield from self._close()
        yield MessageDelta(reason, stop_sequence, self.usage)
        yield MessageStop()
