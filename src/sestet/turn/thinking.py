"""Thinking as text and numbers: where a thought ends, how a prompt begins one, how long it may be."""

from collections.abc import Iterator
from dataclasses import dataclass

from sestet.contract.deltas import Text, Thinking
from sestet.contract.requests import Effort
from sestet.contract.thinking import ThinkingTags
from sestet.turn.stops import StopMatcher
from sestet.turn.template import ChatTemplate

# The longest thought in tokens where the request leaves it to the effort; `max` is bounded by `max_tokens` alone.
EFFORT_BUDGET: dict[Effort, int] = {"low": 1_024, "medium": 4_096, "high": 16_384, "xhigh": 32_768, "max": 2**31 - 1}
EFFORT_DEFAULT: Effort = "high"
# At least this share of `max_tokens` is kept for the answer where the request does not say how much is.
_ANSWER_SHARE = 4


@dataclass(frozen=True, slots=True)
class ThinkingStyle:
    """What is appended to a rendered prompt: `opening` where a thought is to come, `skipping` where none is."""

    tags: ThinkingTags
    opening: str
    skipping: str

    @classmethod
    def found(cls, tags: ThinkingTags, template: ChatTemplate) -> "ThinkingStyle":
        """What the family's template already writes, with its switch on and off, is not written again."""
        opens = template.ending(thinking=True).rstrip().endswith(tags.open.strip())
        without = template.ending(thinking=False).rstrip()
        if without.endswith(tags.open.strip()):  # it has no switch, and begins a thought whatever it is asked
            skipping = tags.closing
        elif tags.instruction is not None or without.endswith(tags.closing.strip()):
            skipping = ""
        else:
            skipping = tags.open + tags.closing if tags.no_thought is None else tags.no_thought
        return cls(tags, "" if opens else tags.open, skipping)


def effort_budget(effort: Effort | None, max_tokens: int) -> int:
    """The budget of a thought whose length is left to the model."""
    return max(1, min(EFFORT_BUDGET[effort or EFFORT_DEFAULT], max_tokens - max_tokens // _ANSWER_SHARE))


def budget_within(room: int, max_tokens: int, budget: int) -> int:
    """The tokens a thought may take of `room`, so that an answer still follows: `budget` where all that was asked for
    fits, otherwise its part of the room. A budget above `max_tokens` leaves the answer a quarter."""
    if budget >= max_tokens:
        budget = max_tokens - max(1, max_tokens // _ANSWER_SHARE)
    return budget if room >= max_tokens else min(budget, room * budget // max_tokens)


class ThoughtSplitter:
    """Tells thoughts from answers in a model's text, however it is cut. Begins inside a thought.

    White space around a thought is not part of it, nor is that between a thought and the answer.
    """

    def __init__(self, tags: ThinkingTags) -> None:
        self.inside = True
        self._tags = tags
        self._matcher = StopMatcher((tags.close,))
        self._begun = False
        self._space = ""

    def feed(self, text: str, output_tokens: int) -> Iterator[Thinking | Text]:
        while text:
            released = self._matcher.feed(text)
            yield from self._shown(released.text, output_tokens)
            if released.stop_sequence is None:
                return
            yield from self._turn(output_tokens)
            text = released.rest

    @property
    def closing(self) -> str:
        """What is to follow the model's words to end this thought: less, where it has begun to write the tag itself."""
        tags, begun = self._tags, self._matcher.held
        return tags.closing[tags.closing.index(tags.close) + len(begun) :] if begun else tags.closing

    def flush(self, output_tokens: int) -> Iterator[Thinking | Text]:
        """What was held back, once no more text comes."""
        yield from self._shown(self._matcher.flush(), output_tokens)
        if self.inside:
            yield Thinking("", output_tokens)

    def answer_only(self, output_tokens: int) -> Iterator[Thinking | Text]:
        """From here on everything is answer, tags too; an open thought ends as `closing` says."""
        if self.inside:
            yield from self._turn(output_tokens)
        else:
            yield from self.flush(output_tokens)
        self._matcher = StopMatcher(())

    def _turn(self, output_tokens: int) -> Iterator[Thinking]:
        if self.inside:
            yield Thinking("", output_tokens)  # the tokens of the tag itself
        self.inside = not self.inside
        self._matcher = StopMatcher((self._tags.close if self.inside else self._tags.open.strip(),))
        self._begun, self._space = False, ""

    def _shown(self, text: str, output_tokens: int) -> Iterator[Thinking | Text]:
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
        if not text:
            return
        if not self.inside:
            yield Text(text, output_tokens)
            return
        text = self._space + text
        shown = text.rstrip()
        self._space = text[len(shown) :]
        if shown:
            yield Thinking(shown, output_tokens)
