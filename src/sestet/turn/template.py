"""A family's chat template: messages to prompt text, without letting a client's text become control tokens.

Templates come from strangers (they are inside the weights' file), so they run in minijinja with a bounded number
of steps. A client's text may spell control tokens (`<|im_end|>`); such spellings are cut in two by a guard, a
Unicode noncharacter that no text of the request holds, and the prompt is split at the guards before it is
tokenised. So the template's own control tokens are the only ones, and ordinary text is tokenised as ever.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import pairwise

from minijinja import Environment, TemplateError

from sestet.contract.caching import Level, Lifetime
from sestet.contract.deltas import Weights
from sestet.contract.errors import invalid

FUEL = 20_000_000  # steps of one rendering; a hundred thousand short messages take about a quarter
_NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))

_SOME_DAY = date(2026, 1, 1)


class Marker(str):
    """Text of ours within a message, such as how a call begins: its control tokens stay what they are."""

    __slots__ = ()


class BlockEnd(Marker):
    """Where a block of the request ends: the prompt is cut there, so that what comes before has the same tokens
    whatever follows."""

    level: Level
    lifetime: Lifetime | None

    def __new__(cls, level: Level, lifetime: Lifetime | None) -> "BlockEnd":
        self = super().__new__(cls)
        self.level = level
        self.lifetime = lifetime
        return self


Content = Sequence[str]  # pieces of one message's text, a client's and ours
Segment = tuple[str, ...]  # pieces that are tokenised apart from each other


class TemplateRefused(ValueError):
    """The template cannot render this conversation; the text is the template's own."""


class ChatTemplate:
    """The compiled template of one set of weights."""

    def __init__(self, weights: Weights, strftime_now: Callable[[str], str] = _SOME_DAY.strftime) -> None:
        """`strftime_now` is how a template writes today's date; without one it is always the same day."""
        self._environment = Environment(
            trim_blocks=True, lstrip_blocks=True, undefined_behavior="chainable", auto_escape_callback=_never
        )
        self._environment.fuel = FUEL
        self._environment.add_global("raise_exception", _raise_exception)
        self._environment.add_global("strftime_now", strftime_now)
        try:
            self._environment.add_template("chat", _TRAINING_TAG.sub(_without_effect, weights.chat_template))
        except TemplateError as error:
            raise TemplateRefused(_first_line(error)) from error
        self._variables = {"bos_token": weights.bos_token, "eos_token": weights.eos_token}
        spellings = sorted(filter(None, weights.special_tokens), key=len, reverse=True)
        # The look-ahead takes one character at a time, so that overlapping spellings are all found.
        self._special = re.compile(f"(?={'|'.join(map(re.escape, spellings))}).", re.DOTALL) if spellings else None
        self.takes_system = self._takes("system", "user")
        self.takes_late_system = self._takes("user", "system") and self._takes("user", "system", "assistant", "user")

    def render(
        self,
        messages: Sequence[Mapping[str, str | Content]],
        *,
        continue_last: bool = False,
        thinking: bool = False,
        effort: str | None = None,
    ) -> tuple[Segment, ...]:
        """The prompt, cut where blocks end: one segment for each `BlockEnd` in it, in their order, and one for what
        follows the last. A template that leaves out or repeats what it is given yields a single segment.

        With `continue_last` the text ends inside the last message, otherwise where the assistant begins. `thinking`
        and `effort` are what families with such switches are told.
        """
        guard, cut = _guards(messages)
        guarded = [
            {"role": str(message["role"]), "content": self._guarded(message["content"], guard, cut)}
            for message in messages
        ]
        if continue_last:
            guarded[-1]["content"] += guard
        text = self._run(guarded, not continue_last, thinking, effort)
        if continue_last:
            if guard not in text:
                raise TemplateRefused("it leaves out the message that is to be continued")
            text = text[: text.rindex(guard)]
        segments = text.split(cut)
        if len(segments) - 1 != sum(isinstance(one, BlockEnd) for message in messages for one in message["content"]):
            segments = ["".join(segments)]
        return tuple([tuple(filter(None, segment.split(guard))) for segment in segments])

    def _guarded(self, content: str | Content, guard: str, cut: str) -> str:
        return "".join([self._as_text(one, guard, cut) for one in _pieces(content)])

    def _as_text(self, piece: str, guard: str, cut: str) -> str:
        if isinstance(piece, Marker):
            return cut if isinstance(piece, BlockEnd) else str(piece)
        return self._cut_specials(piece, guard)

    def _cut_specials(self, text: str, guard: str) -> str:
        """A match at a time, not one `sub`: other requests run between two of thirty million characters' worth."""
        cuts = [match.end() for match in self._special.finditer(text)] if self._special else []
        return guard.join(text[start:end] for start, end in pairwise((0, *cuts, len(text)))) if cuts else text

    def ending(self, *, thinking: bool) -> str:
        """How the prompt of a short conversation ends, with the family's switch for thoughts on or off."""
        return self._run([{"role": "user", "content": "probe"}], True, thinking, None).rpartition("probe")[2]

    def _run(
        self,
        messages: Sequence[Mapping[str, str]],
        add_generation_prompt: bool,
        thinking: bool = False,
        effort: str | None = None,
    ) -> str:
        # Families name the switch differently; a template that does not know a name does not look.
        switches: dict[str, object] = {"enable_thinking": thinking, "thinking": thinking}
        if effort is not None:
            switches["reasoning_effort"] = _TEMPLATE_EFFORT.get(effort, effort)
        try:
            return self._environment.render_template(
                "chat",
                messages=messages,
                add_generation_prompt=add_generation_prompt,
                **switches,
                **self._variables,
            )
        except Exception as error:  # a stranger's code may fail in any way
            raise TemplateRefused(_first_line(error)) from error

    def _takes(self, *roles: str) -> bool:
        """Some templates refuse or drop system messages, or late ones: each is asked once, at load."""
        probe = [{"role": role, "content": f"{role}-probe"} for role in roles]
        try:
            return "system-probe" in self._run(probe, True)
        except TemplateRefused:
            return False


# Families know three efforts at most.
_TEMPLATE_EFFORT = {"xhigh": "high", "max": "high"}

# Some templates mark what a training run learns from; here the mark means nothing.
_TRAINING_TAG = re.compile(r"({%-?)\s*(end)?generation\s*(-?%})")


def _without_effect(tag: re.Match[str]) -> str:
    return f"{tag[1]} {'endif' if tag[2] else 'if true'} {tag[3]}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or "it fails without saying why"


def _guards(messages: Sequence[Mapping[str, str | Content]]) -> tuple[str, str]:
    """Two characters that no text holds."""
    free = []
    for candidate in _NONCHARACTERS:
        if not any(candidate in piece for message in messages for piece in _pieces(message["content"])):
            free.append(candidate)
            if len(free) == 2:
                return free[0], free[1]
    raise invalid("the text holds nearly all of the Unicode noncharacters U+FDD0 to U+FDEF; leave two out", "messages")


def _pieces(content: str | Content) -> Content:
    return (content,) if isinstance(content, str) else content


def _never(_name: str) -> bool:
    return False


def _raise_exception(message: str) -> None:
    raise TemplateRefused(message)
