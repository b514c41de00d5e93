"""Alive, able to answer, draining: what the server is at the moment, and the requests in it."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from sestet.contract.errors import ApiError
from sestet.server.exchange import Exchange

DRAIN_RETRY_S = 5.0
END_S = 1.0


class Lifecycle:
    """Running requests, and whether new ones are taken."""

    def __init__(self) -> None:
        self.draining = False
        self._exchanges: set[Exchange] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        return len(self._exchanges)

    @contextmanager
    def exchange(self) -> Iterator[Exchange]:
        """Counts a request for as long as it is answered."""
        exchange = Exchange()
        self._exchanges.add(exchange)
        self._idle.clear()
        try:
            yield exchange
        finally:
            self._exchanges.discard(exchange)
            if not self._exchanges:
                self._idle.set()

    def refuse_if_draining(self) -> None:
        if self.draining:
            raise shutting_down()

    async def drain(self, deadline_s: float) -> None:
        """Takes no new request, lets the running ones finish, and ends with an error those that do not."""
        self.draining = True
        try:
            async with asyncio.timeout(deadline_s):
                await self._idle.wait()
        except TimeoutError:
            await self.end()

    async def end(self) -> None:
        """Ends with an error whatever still runs, and waits until that is said and settled."""
        for exchange in list(self._exchanges):
            exchange.interrupt(shutting_down())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._idle.wait()


def shutting_down() -> ApiError:
    return ApiError("overloaded_error", "the server is shutting down", retry_after_s=DRAIN_RETRY_S)
