"""Which servers run on a database, so that what a dead one left behind can be closed by another, or by itself when it
starts again (RELIABILITY.md R06)."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select, update

from sestet.gate.spend import day_of
from sestet.store.database import Database
from sestet.store.outbox import Outbox
from sestet.store.rows import add_spending, write_again
from sestet.store.tables import idempotency, ledger, servers

STALE_S: Final = 20.0  # a server elsewhere whose heartbeat stands still for so long counts as dead
KEPT_US: Final = 24 * 3600 * 1_000_000  # how long an idempotency key is remembered


@dataclass(frozen=True, slots=True)
class Swept:
    """What dead servers left: requests closed as interrupted, rows read back from their outboxes."""

    interrupted: int
    recovered: int


class Servers:
    """This server's own entry, and the sweeping up after others. Every method blocks. `clock` tells seconds, from any
    beginning."""

    def __init__(
        self, database: Database, server_id: str, outboxes: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._server_id = server_id
        self._outboxes = outboxes
        self._clock = clock
        self._lock: int | None = None
        self._heard: dict[str, tuple[int, float]] = {}
        self._beaten = self._clock()

    @property
    def lock(self) -> int:
        """The descriptor that says, as long as any process holds it, that this server may still write. It is there from
        `register` to `leave`."""
        assert self._lock is not None
        return self._lock

    def register(self, now: int) -> None:
        # Held until this process and the one that writes its ledger have ended, however they end: it tells others of
        # this machine that this server may still write.
        self._outboxes.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._outboxes / f"{self._server_id}.lock"
        while self._lock is None:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # whoever sweeps at this very moment lets go of it at once
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                self._lock = descriptor
            else:
                os.close(descriptor)
        self.beat(now)

    def beat(self, now: int) -> None:
        """Says that this server lives, again if another one has thought it dead."""
        if self._clock() - self._beaten > STALE_S / 2:
            self._heard.clear()  # the database was away for all, so nobody's heartbeat could go on
        with self._database.plainly(), self._database.writing() as connection:
            statement = self._database.insert(servers).values(
                id=self._server_id, host=machine(), pid=os.getpid(), started_at=now, heartbeat_at=now
            )
            connection.execute(
                statement.on_conflict_do_update(index_elements=[servers.c.id], set_={"heartbeat_at": now})
            )
        self._beaten = self._clock()

    def leave(self, now: int) -> None:
        """Nothing more comes from this server; what it could not settle is closed."""
        with self._database.plainly(), self._database.writing() as connection:
            self._close(connection, self._server_id, now)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        (self._outboxes / f"{self._server_id}.lock").unlink(missing_ok=True)

    def sweep(self, now: int) -> Swept:
        """Reads back what dead servers could not write, then closes what they left running, billed as far as it was
        written down. Idempotency keys that are too old are forgotten, but for those of requests that still run: a
        clock may be wrong."""
        with contextlib.ExitStack() as held, self._database.plainly():
            others = {path.name.partition(".")[0] for path in self._outboxes.glob("server_*")} - {self._server_id}
            dead = {one for one in others if held.enter_context(_taken(self._outboxes / f"{one}.lock"))}
            left = (path for server_id in sorted(dead) for path in sorted(self._outboxes.glob(f"{server_id}*.jsonl")))
            recovered = sum(self._recover(path) for path in left)
            alive = others - dead | {self._server_id}
            interrupted = 0
            with self._database.writing() as connection:
                for server in connection.execute(select(servers)).all():
                    if server.id in dead or (server.id not in alive and self._stands_still(server)):
                        interrupted += self._close(connection, server.id, now)
                running = select(ledger.c.request_id).where(ledger.c.state == "running")
                connection.execute(
                    delete(idempotency).where(
                        idempotency.c.created_at < now - KEPT_US, idempotency.c.request_id.not_in(running)
                    )
                )
        return Swept(interrupted, recovered)

    def _close(self, connection: Connection, server_id: str, now: int) -> int:
        closed = connection.execute(
            update(ledger)
            .where(ledger.c.state == "running", ledger.c.server_id == server_id)
            .values(state="interrupted", settled_at=now)
            .returning(ledger.c.workspace_id, ledger.c.cost, ledger.c.own_cost)
        ).all()
        day = day_of(now)
        spent = [((row.workspace_id, day), row.cost, row.own_cost) for row in closed]
        add_spending(self._database.dialect, connection.connection.cursor(), spent)
        # Who asked for these may ask again.
        connection.execute(
            delete(idempotency).where(idempotency.c.server_id == server_id, idempotency.c.body.is_(None))
        )
        connection.execute(delete(servers).where(servers.c.id == server_id))
        return len(closed)

    def _stands_still(self, server: Row[Any]) -> bool:
        """Whether a server elsewhere has not said that it lives for so long that it counts as dead. How long is
        measured here, so that nobody's wall clock can make a server look dead."""
        heartbeat, since = self._heard.get(server.id, (None, 0.0))
        if heartbeat != server.heartbeat_at:
            self._heard[server.id] = (server.heartbeat_at, self._clock())
            return False
        return self._clock() - since > STALE_S

    def _recover(self, path: Path) -> int:
        outbox = Outbox(path)
        entries = outbox.read()
        for entry in entries:
            try:
                with self._database.writing() as connection:
                    write_again(self._database.dialect, connection.connection.cursor(), entry.row, entry.kept)
            except self._database.refusals:
                outbox.reject(entry)
        outbox.clear()
        return len(entries)


@contextlib.contextmanager
def _taken(lock: Path) -> Iterator[bool]:
    """Whether nobody alive holds this file, which is gone then; while the body runs nobody else will."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
        lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def machine() -> str:
    """This machine, as far as processes of it can see each other's locks."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}"[:255]
