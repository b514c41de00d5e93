"""The books: one row a request, written by one process, everything that waits in one transaction.

A row is begun before the first byte of a stream leaves, brought up to date four times a second, and settled before the
last one, so what a kill leaves behind is a moment short at most and never too much. A row that is settled never changes
again. What the database cannot take goes to a file, and from there to the database when it is back; meanwhile nothing
new is begun (RELIABILITY.md R05, R06, R22, R23).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from sestet.contract.errors import ApiError
from sestet.contract.events import Usage
from sestet.ledger.entry import Kept, Opening, Settlement
from sestet.store.outbox import Entry
from sestet.store.rows import Row, running_row, settled_row
from sestet.store.writer import Writer

CHECKPOINT_S: Final = 0.25


class Observer(Protocol):
    """Told of every settlement, such as metrics and the log."""

    def settled(self, settlement: Settlement) -> None: ...


class Account:
    """One request's line in the books, from its beginning to its settlement."""

    def __init__(self, books: "Books", opening: Opening, usage: Callable[[], Usage]) -> None:
        self._books = books
        self.opening = opening
        self.usage = usage
        self.written: Usage | None = None

    def begin(self) -> Awaitable[None]:
        """Done when a kill could no longer lose that there is such a request."""
        self.written = self.usage()
        return self._books.write(running_row(self.opening, self.written), alone=self._books.running == 1)

    def settle(self, settlement: Settlement, kept: Kept | None = None) -> Awaitable[None]:
        """Takes effect at once and for good; what is returned is done when a kill could no longer lose it."""
        return self._books.close_account(self, settlement, kept)


class Books:
    """Every request that a server answers. Not to `serve_when_down` refuses what could not be accounted for."""

    def __init__(self, writer: Writer, server_id: str, observer: Observer, *, serve_when_down: bool = False) -> None:
        self._writer = writer
        self._serve_when_down = serve_when_down
        self._server_id = server_id
        self._observer = observer
        self._open: set[Account] = set()
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._ticker = asyncio.create_task(self._tick())

    def warm(self) -> None:
        """Starts the process that writes, which the first request would do otherwise."""
        self._writer.start()

    async def stop(self) -> None:
        """Whatever is to be written is written, to the database or else to the outbox."""
        if self._ticker is not None:
            self._ticker.cancel()
        await self._writer.stop()

    @property
    def running(self) -> int:
        return len(self._open)

    @property
    def backlog(self) -> int:
        """Rows that the database has not taken yet."""
        return self._writer.backlog

    def check(self) -> None:
        """529 while a request could not be accounted for."""
        if not (self._serve_when_down or self._writer.healthy):
            raise ApiError("overloaded_error", "requests cannot be accounted for at the moment", retry_after_s=1.0)

    def open(self, opening: Opening, usage: Callable[[], Usage]) -> Account:
        """`usage` is asked now and then for what was used so far."""
        account = Account(self, opening, usage)
        self._open.add(account)
        return account

    def write(self, row: Row, kept: Kept | None = None, *, alone: bool = False) -> asyncio.Future[None]:
        """`alone`: no other request is running, so nothing is to be gained by waiting for others."""
        return self._writer.put(Entry({**row, "server_id": self._server_id}, kept), at_once=alone)

    def close_account(self, account: Account, settlement: Settlement, kept: Kept | None) -> asyncio.Future[None]:
        assert account in self._open, "a request is settled once"
        self._open.discard(account)
        written = self.write(settled_row(settlement), kept, alone=not self._open)
        self._observer.settled(settlement)
        return written

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_S)
            if self._writer.stuck:  # who waits for the database need not wait for ever
                await self._writer.rescue()
            for account in self._open:
                usage = account.usage()
                if usage != account.written:
                    account.written = usage
                    self.write(running_row(account.opening, usage))
