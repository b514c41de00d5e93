"""The application in this process, so that a test can read the prompts its engine was sent."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from sestet.config import Config
from sestet.contract.deltas import Sampling
from sestet.engines.scripted import Record, ScriptedEngine
from sestet.server.compose import build
from tests.contract.scenes import MODEL

# Calls a coroutine function with an `Inside` of its own (the fixture `inside`).
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
async def open_inside(folder: Path, script: str, config: Mapping[str, object]) -> AsyncIterator[Inside]:
    path = folder / "script.toml"
    path.write_text(script)
    settings = Config.model_validate({**config, "engine": {"kind": "scripted", "script": path}})
    application = await build(settings)
    engine = next(iter(application.served.values())).engine
    assert isinstance(engine, ScriptedEngine)
    transport = httpx2.ASGITransport(app=application.asgi)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as client:
        yield Inside(client, engine)
    await application.stop()
