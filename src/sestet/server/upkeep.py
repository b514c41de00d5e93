"""What a server does beside answering: it notices changes of keys and limits, says that it lives, and closes what dead
servers left behind."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from sestet.gate.directory import Directory
from sestet.store.database import StoreError
from sestet.store.directory import Directories
from sestet.store.servers import Servers

LOOK_EVERY_S: Final = 0.5  # a revoked key is out within a second (RELIABILITY.md T09)
BEAT_EVERY_S: Final = 5.0


class Upkeep:
    """`on_change` is told the new directory. `refresh` is called, in a thread, with every heartbeat."""

    def __init__(
        self,
        directories: Directories,
        servers: Servers,
        on_change: Callable[[Directory], None],
        refresh: Callable[[], Callable[[], None]],
    ) -> None:
        self._directories = directories
        self._servers = servers
        self._on_change = on_change
        self._refresh = refresh
        self._generation = -1
        self._looking = asyncio.Lock()  # a slow look must not undo what a later one has taken over
        self._log = structlog.get_logger("sestet")

    async def run(self) -> None:
        beaten = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
                if time.monotonic() - beaten >= BEAT_EVERY_S:
                    beaten = time.monotonic()
                    await self._beat()
            except StoreError as error:
                self._log.warning("store_not_read", reason=str(error)[:200])
            except Exception:  # whatever it is, the next look must come
                self._log.exception("upkeep_failed")

    async def look(self) -> None:
        """Takes over what has changed since the last look."""
        async with self._looking:
            generation = await asyncio.to_thread(self._directories.generation)
            if generation != self._generation:
                directory = await asyncio.to_thread(self._directories.read)
                self._generation = directory.generation
                self._on_change(directory)

    async def _beat(self) -> None:
        now = time.time_ns() // 1000
        await asyncio.to_thread(self._servers.beat, now)
        swept = await asyncio.to_thread(self._servers.sweep, now)
        if swept.interrupted or swept.recovered:
            self._log.warning("swept", interrupted=swept.interrupted, recovered=swept.recovered)
        (await asyncio.to_thread(self._refresh))()
