"""A thought and its answer from any engine, with the budget kept to the token (docs/decisions/0008).

The engine is asked for the thought's budget and no more. If the model is still thinking when that is used up, or ends
its turn in the middle of a thought, the thought is closed for it and the engine goes on from there: same prompt, what
was said, the closing tag. If the answer is what reached the budget, the engine goes on without a tag. Either way the
engine has all but the last few tokens of the second prompt in its cache.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from sestet.contract.deltas import Delta, Finished, Generation, Text
from sestet.services.ports import Encoder, Slot
from sestet.turn.thinking import ThinkingStyle, ThoughtSplitter


@dataclass(frozen=True, slots=True)
class Thinker:
    """How these weights think, in texts and in their own tokens. `forbidden` tokens would begin a thought anew."""

    style: ThinkingStyle
    closing: tuple[int, ...]
    forbidden: tuple[int, ...]

    @classmethod
    async def of(cls, style: ThinkingStyle, encoder: Encoder) -> "Thinker":
        tags = style.tags
        closing, *spelled = await encoder.encode((tags.closing, *tags.forbidden), begins=False)
        return cls(style, closing, tuple(tokens[0] for tokens in spelled if len(tokens) == 1))


async def think(
    encoder: Encoder, slot: Slot, thinker: Thinker, job: Generation, budget: int
) -> AsyncGenerator[Delta, None]:
    """Deltas of a reply whose prompt ends where a thought begins: at most `budget` tokens of thought, and at most
    `job.max_tokens` together with the answer."""
    tags = thinker.style.tags
    thoughts, said = ThoughtSplitter(tags), _Said()
    # The tags that an answer must not hold are how a thought ends.
    first = replace(
        job,
        max_tokens=min(budget, job.max_tokens),
        shown=(*job.shown, *tags.shown),
        forbidden=(),
        keep_tokens=True,
        grammar=None,
        # What follows a thought must keep to the grammar, so the first generation ends with the thought.
        stop=(tags.close,) if job.grammar is not None else (),
    )
    finished: Finished | None = None
    async with aclosing(_phase(slot, first, thoughts, said, 0)) as parts:
        async for part in parts:
            if isinstance(part, Finished):
                finished = part
            else:
                yield part
    if finished is None:
        return
    spent = finished.output_tokens
    if spent == job.max_tokens or (finished.reason == "end" and not thoughts.inside):
        for held in thoughts.flush(spent):
            yield held
        yield Finished("length" if thoughts.inside else finished.reason, spent)
        return
    prompt = job.prompt + await said.tokens(encoder, exactly=finished.reason == "stop")
    if thoughts.inside:
        # The model may have begun to write the tag itself; then only the rest of it is missing.
        rest = thoughts.closing
        prompt += thinker.closing if rest == tags.closing else (await encoder.encode((rest,), begins=False))[0]
    for held in thoughts.answer_only(spent):
        yield held
    second = replace(job, prompt=prompt, max_tokens=job.max_tokens - spent)
    async with aclosing(_phase(slot, second, thoughts, said, spent)) as parts:
        async for part in parts:
            yield part


async def _phase(
    slot: Slot, job: Generation, thoughts: ThoughtSplitter, said: "_Said", before: int
) -> AsyncGenerator[Delta, None]:
    """One generation, told apart into thought and answer; `before` is how many tokens were drawn before it."""
    async with aclosing(slot.generate(job)) as deltas:
        async for delta in deltas:
            drawn = before + delta.output_tokens
            if isinstance(delta, Finished):
                yield Finished(delta.reason, drawn)
                return
            assert isinstance(delta, Text), "an engine knows nothing of thoughts"
            said.append(delta)
            for part in thoughts.feed(delta.text, drawn):
                yield part


class _Said:
    """What a model has said, as a prompt that goes on from it needs it."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._all_known = True

    def append(self, delta: Text) -> None:
        self._text.append(delta.text)
        self._tokens += delta.tokens
        self._all_known = self._all_known and bool(delta.tokens)

    async def tokens(self, encoder: Encoder, *, exactly: bool) -> tuple[int, ...]:
        """An engine may not know every token, such as those of a character that took several, and the last one may hold
        more than was said (`exactly`): then the text is tokenised anew, which costs at worst the reading of what comes
        after the first difference."""
        if self._all_known and not exactly:
            return tuple(self._tokens)
        text = "".join(self._text)
        return (await encoder.encode((text,), begins=False))[0] if text else ()
