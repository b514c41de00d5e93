"""The engines that the capability tests are run on: how each is started and told to speak without an end."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final, TypeVar

from sestet.contract.deltas import Delta, Finished, Generation, Sampling, Text
from sestet.engines.llamacpp.embedded import embedded_weights
from sestet.engines.llamacpp.engine import LlamaCppEngine
from sestet.engines.llamacpp.process import LlamaCppSettings
from sestet.engines.scripted import Script, ScriptedEngine, ScriptedReply
from sestet.services.ports import Engine

_Result = TypeVar("_Result")

WINDOW: Final = 512
SLOTS: Final = 4
LIKELIEST: Final = Sampling(temperature=0.0, top_p=1.0, top_k=0)

# Both engines answer these without an end: the scripted one by its script, the model because it goes on counting.
COUNTING: Final = "1 2 3 4 5 6 7 8 9 10 11"
LETTERS: Final = "a a a a a a a a a a a a"
# Both engines end their turn after a few words.
GREETING: Final = "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n"

SCRIPT: Final = Script(
    window=WINDOW,
    slots=SLOTS,
    reply=[
        ScriptedReply(when=GREETING, say=["Hi", " there", "."]),
        ScriptedReply(when=COUNTING, say=[" ", "1"], repeat=100_000),
        ScriptedReply(when=LETTERS, say=[" a"], repeat=100_000),
    ],
)


@dataclass(slots=True)
class Subject:
    """An engine that runs, on an event loop that lives as long as it does."""

    name: str
    engine: Engine
    runner: asyncio.Runner
    snapshots: Path
    reports: list[str] = field(default_factory=list)

    def run(self, test: Callable[[Engine], Awaitable[_Result]]) -> _Result:
        async def bounded() -> _Result:
            async with asyncio.timeout(120):
                return await test(self.engine)

        return self.runner.run(bounded())


def embedded_path() -> Path:
    path = embedded_weights()
    assert path is not None, "the embedded weights are a dependency of the tests"
    return path


def llamacpp_settings(
    *, window: int = WINDOW, slots: int = SLOTS, stall_timeout_s: float = 30.0, snapshots: Path | None = None
) -> LlamaCppSettings:
    return LlamaCppSettings(
        embedded_path(), window=window, slots=slots, threads=1, stall_timeout_s=stall_timeout_s, snapshots=snapshots
    )


async def start_llamacpp(reports: list[str], settings: LlamaCppSettings) -> LlamaCppEngine:
    """An engine whose reports are kept by name; whoever asks for it stops it."""
    engine = LlamaCppEngine(settings, lambda event, _facts: reports.append(event))
    await engine.start()
    return engine


def scripted(snapshots: Path | None = None) -> ScriptedEngine:
    return ScriptedEngine(SCRIPT, snapshots)


async def tokens_of(engine: Engine, *pieces: str) -> tuple[int, ...]:
    """All pieces as one prompt."""
    return tuple(chain.from_iterable(await engine.encode(pieces)))


async def job(engine: Engine, text: str, max_tokens: int) -> Generation:
    return Generation("req_test", await tokens_of(engine, text), max_tokens, LIKELIEST)


@asynccontextmanager
async def saying(
    engine: Engine, job: Generation, tenant: str = "tenant"
) -> AsyncGenerator[AsyncGenerator[Delta, None]]:
    """A reply in a slot of its own, both closed when they are left."""
    async with engine.slot(tenant, job.prompt) as slot, aclosing(slot.generate(job)) as deltas:
        yield deltas


async def say(engine: Engine, job: Generation, tenant: str = "tenant") -> list[Delta]:
    """Every delta of one reply, in order."""
    async with saying(engine, job, tenant) as deltas:
        return [delta async for delta in deltas]


async def generate(engine: Engine, text: str, max_tokens: int) -> list[Delta]:
    return await say(engine, await job(engine, text, max_tokens))


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Text))


def ends_of(deltas: list[Delta]) -> list[Finished]:
    return [delta for delta in deltas if isinstance(delta, Finished)]
