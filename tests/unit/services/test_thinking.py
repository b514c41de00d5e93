"""What an engine is asked for a thought and its answer."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from sestet.contract.deltas import Delta, Finished, Generation, Sampling, Text, Thinking
from sestet.contract.thinking import ThinkingTags
from sestet.services.thinking import Thinker, think
from sestet.turn.thinking import ThinkingStyle

OPEN, CLOSE = 1, 2  # tokens of a vocabulary in which the tags are one each; a character is its own token
TAGS = ThinkingTags("<t>", "</t>", "</t>", shown=("<t>",), forbidden=("<t>", "</t>", "<unknown>"))
SPELLED = {"<t>": (OPEN,), "</t>": (CLOSE,)}


class OneAnswer:
    """An engine and its slot, which says what it is told, and keeps the jobs."""

    reused = 0

    def __init__(self, *answers: Sequence[Delta]) -> None:
        self.jobs: list[Generation] = []
        self._answers = list(answers)

    async def encode(self, pieces: Sequence[str], *, begins: bool = True) -> list[tuple[int, ...]]:
        assert not begins
        return [SPELLED.get(piece, tuple(map(ord, piece))) for piece in pieces]

    async def snapshot(self, prompt: tuple[int, ...], name: str) -> int:
        raise NotImplementedError

    async def generate(self, job: Generation) -> AsyncGenerator[Delta, None]:
        self.jobs.append(job)
        for delta in self._answers[len(self.jobs) - 1]:
            yield delta


def thought(engine: OneAnswer, budget: int = 3, max_tokens: int = 10) -> list[Delta]:
    async def run() -> list[Delta]:
        thinker = await Thinker.of(ThinkingStyle(TAGS, "<t>", ""), engine)
        job = Generation("r", (7, OPEN), max_tokens, Sampling(1, 1, 0), thinker.forbidden)
        async with aclosing(think(engine, engine, thinker, job, budget)) as deltas:
            return [delta async for delta in deltas]

    return asyncio.run(run())


def test_the_tags_are_forbidden_in_the_answer_and_not_in_the_thought() -> None:
    engine = OneAnswer([Text("a", 1, (97,)), Finished("end", 2)], [Text("b", 1, (98,)), Finished("end", 2)])
    thought(engine)

    assert [(), (OPEN, CLOSE)] == [job.forbidden for job in engine.jobs]
    assert [("<t>",), ()] == [job.shown for job in engine.jobs]


def test_a_used_up_budget_closes_the_thought_and_goes_on_from_what_was_said() -> None:
    engine = OneAnswer(
        [Text("a", 1, (97,)), Text("b", 2, (98,)), Text("c", 3, (99,)), Finished("length", 3)],
        [Text("d", 1, (100,)), Finished("end", 2)],
    )
    deltas = thought(engine)

    assert [
        Thinking("a", 1), Thinking("b", 2), Thinking("c", 3), Thinking("", 3), Text("d", 4), Finished("end", 5),
    ] == deltas  # fmt: skip
    assert [(7, OPEN), (7, OPEN, 97, 98, 99, CLOSE)] == [job.prompt for job in engine.jobs]
    assert [3, 7] == [job.max_tokens for job in engine.jobs]


def test_tokens_that_the_engine_does_not_know_are_made_anew_from_the_text() -> None:
    engine = OneAnswer(
        [Text("a", 1, (97,)), Text("é", 3), Finished("length", 3)], [Text("d", 1, (100,)), Finished("end", 2)]
    )
    thought(engine)

    assert (7, OPEN, 97, ord("é"), CLOSE) == engine.jobs[1].prompt


def test_an_engine_that_stops_short_in_its_thought_is_not_asked_again() -> None:
    engine = OneAnswer([Text("a", 1, (97,))])

    assert [Thinking("a", 1)] == thought(engine)
    assert 1 == len(engine.jobs)
