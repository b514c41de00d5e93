"""The application in this process, so that a test can read the prompts its engine was sent."""

import asyncio
import tempfile
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from sestet.config import Config
from sestet.contract.deltas import Sampling
from sestet.engines.scripted import Record, Script, ScriptedEngine
from sestet.server.compose import build
from tests.background import BackgroundLoop, Result
from tests.contract.scenes import MODEL
from tests.running import give_database

# Calls a coroutine function with an `Inside` (the fixture `inside`).
InsideRunner = Callable[..., Any]

OLD_VERSION = {"anthropic-version": "2023-06-01"}
NEW_VERSION = {"anthropic-version": "2026-10-21"}


def prompt_tokens(usage: Mapping[str, Any]) -> int:
    """The tokens of a reply's prompt: what was read from the cache, written to it, and the rest."""
    return sum(
        usage.get(kind, 0) for kind in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )


@dataclass(slots=True)
class Inside:
    """A client of the application, and the engine behind it."""

    client: httpx2.AsyncClient
    engine: ScriptedEngine

    async def post(
        self, *, path: str = "/v1/messages", headers: Mapping[str, str] | None = None, **fields: object
    ) -> httpx2.Response:
        """A request that says hello, changed by `fields`; a field of `...` is left out."""
        body = {
            "model": MODEL,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "Hi"}],
            **fields,
        }
        kept = {name: value for name, value in body.items() if value is not ...}
        return await self.client.post(path, json=kept, headers=headers)

    @property
    def last(self) -> Record:
        return self.engine.records[-1]

    @property
    def prompt(self) -> str:
        """What the engine was last sent."""
        return self.last.prompt

    @property
    def sampling(self) -> Sampling:
        return self.last.job.sampling


@asynccontextmanager
async def open_inside(folder: Path, script: Script, config: Mapping[str, object]) -> AsyncIterator[Inside]:
    place = Path(tempfile.mkdtemp(dir=folder))
    give_database(place / "sestet.db")
    path = place / "script.toml"
    fixed = script.model_dump(exclude={"reply"}, exclude_none=True)
    path.write_text("".join(f"{name} = {value}\n" for name, value in fixed.items()))
    parts = {"store": {"url": f"sqlite:///{place / 'sestet.db'}"}, "engine": {"kind": "scripted", "script": path}}
    settings = Config.model_validate({**config, **parts})
    application = await build(settings)
    engine = next(iter(application.served.values())).engine
    assert isinstance(engine, ScriptedEngine)
    transport = httpx2.ASGITransport(app=application.asgi)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
        yield Inside(client, engine)
    await application.stop()


class Insides:
    """Applications that the tests of a module share: one for each configuration, whose engine is told what to say."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[str, Inside] = {}
        self._stack = AsyncExitStack()
        self._loop = BackgroundLoop()

    def run(
        self, work: Callable[[Inside], Awaitable[Result]], script: str = "", *, anew: bool = False, **config: object
    ) -> Result:
        """What `work` returns. `anew`: with an application that nobody else has had."""
        return self._loop.run(self._work(work, Script.model_validate(tomllib.loads(script)), anew, config))

    def close(self) -> None:
        self._loop.run(self._stack.aclose())
        self._loop.close()

    async def _work(
        self, work: Callable[[Inside], Awaitable[Result]], script: Script, anew: bool, config: Mapping[str, object]
    ) -> Result:
        built_with = f"{script.model_dump(exclude={'reply'})} {config}"
        if anew or built_with not in self._opened:
            self._opened[built_with] = await self._stack.enter_async_context(open_inside(self._folder, script, config))
        inside = self._opened[built_with]
        engine = inside.engine
        if not engine.ready:  # it was made to crash
            await asyncio.sleep(engine.script.restart_s)
        engine.script = script
        engine.records.clear()
        engine.places.forget()
        return await work(inside)
