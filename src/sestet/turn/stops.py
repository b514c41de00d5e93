"""Stop sequences over a stream of text whose cuts mean nothing.

The match is the one that ends first, the longest of those that end together: the same however the text was cut.
No part of a match is ever released.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Released:
    """Text that can no longer be part of a match, the stop sequence that ended it, if one did, and what followed."""

    text: str
    stop_sequence: str | None = None
    rest: str = ""


class StopMatcher:
    """Feed it text until it reports a match; `flush` at the end of the reply gives back what it held."""

    def __init__(self, stop_sequences: Sequence[str]) -> None:
        self._stops = sorted(stop_sequences)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""

    def feed(self, text: str) -> Released:
        text = self._held + text
        ends = [(start + len(stop), -len(stop)) for stop in self._stops if (start := text.find(stop)) >= 0]
        if ends:
            end, minus_length = min(ends)
            start = end + minus_length
            self._held = ""
            return Released(text[:start], text[start:end], text[end:])
        cut = self._first_open(text)
        self._held = text[cut:]
        return Released(text[:cut])

    @property
    def held(self) -> str:
        """The end of the text so far, which may be the beginning of a match."""
        return self._held

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held

    def _first_open(self, text: str) -> int:
        """Where the longest end of the text begins that is the beginning of some stop sequence."""
        for start in range(max(0, len(text) - self._longest + 1), len(text)):
            tail = text[start:]
            # Sequences that begin with `tail` stand together, from where `tail` itself would be inserted.
            candidate = bisect_left(self._stops, tail)
            if candidate < len(self._stops) and self._stops[candidate].startswith(tail):
                return start
        return len(text)
