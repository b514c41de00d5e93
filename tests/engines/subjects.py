"""The engines that the capability tests are run on: how each is started and told to speak without an end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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
    *, model: Path | None = None, window: int = WINDOW, slots: int = SLOTS, stall_timeout_s: float = 30.0
) -> LlamaCppSettings:
    return LlamaCppSettings(
        model or embedded_path(), window=window, slots=slots, threads=1, stall_timeout_s=stall_timeout_s
    )


async def start_llamacpp(reports: list[str], settings: LlamaCppSettings) -> LlamaCppEngine:
    """An engine whose reports are kept by name; whoever asks for it stops it."""
    engine = LlamaCppEngine(settings, lambda event, _facts: reports.append(event))
    await engine.start()
    return engine


def scripted() -> ScriptedEngine:
    return ScriptedEngine(SCRIPT)


async def job(engine: Engine, text: str, max_tokens: int) -> Generation:
    return Generation("req_test", await engine.encode([text]), max_tokens, LIKELIEST)


async def generate(engine: Engine, text: str, max_tokens: int) -> list[Delta]:
    """Every delta of one reply, in order."""
    return [delta async for delta in engine.generate(await job(engine, text, max_tokens))]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, Text))


def ends_of(deltas: list[Delta]) -> list[Finished]:
    return [delta for delta in deltas if isinstance(delta, Finished)]
