"""The process that writes the ledger: lines of entries come in, everything that waits goes into one transaction, and
what is safe is said. It ends with its standard input, and so with the server, after it has written what it was told.

A process of its own because a transaction in a thread would take the interpreter from every stream, again and again.
The first line says where to write: `{"url": ..., "outbox": ...}`. After that each line is an `Entry`, counted from 1.
Answers are lines too, `Said`.
"""

import contextlib
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypedDict

import orjson
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import PoolProxiedConnection

from sestet.store.database import Database, open_database, reason
from sestet.store.outbox import Entry, Outbox
from sestet.store.rows import SettledBefore, write_again, write_rows

RETRY_S: Final = 0.5
END_S: Final = 10.0  # well before a server elsewhere counts as dead, whose heartbeat may be 5 s old
BATCH: Final = 500
_CHUNK: Final = 1 << 16  # what a pipe holds; memory for more would be mapped and unmapped with every read


class Said(TypedDict, total=False):
    """`safe`: so many entries are in the database or the outbox, or only here if there is no room anywhere.
    `written`: so many are in the database. `spent`: new totals of days, as `[workspace, day, micro-dollars]`.
    `trouble`: why the database takes nothing, empty when it does again. `refused`: the request whose row it took
    exception to."""

    safe: int
    written: int
    spent: list[tuple[str, int, int]]
    trouble: str
    refused: str


class Ledger:
    """The entries of one server, in their order."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox
        self._refusals: tuple[type[Exception], ...] = (SettledBefore, *database.refusals)
        self._connection: PoolProxiedConnection | None = None  # kept, since taking one takes longer than a transaction
        self._safe = 0
        self._spent: dict[tuple[str, int], int] = {}  # not said yet
        self._tried = 0.0
        # What a process before this one could not write.
        self._backlog = deque(outbox.read())
        self._before = len(self._backlog)

    @property
    def behind(self) -> bool:
        return bool(self._backlog)

    def take(self, entries: Sequence[Entry]) -> None:
        """New entries. They are safe when this returns."""
        if self._backlog or not self._write(entries):
            try:
                self._outbox.append(entries)
            except OSError as error:
                self._say(trouble=f"outbox: {error.strerror}")
            self._backlog += entries
        self._safe += len(entries)
        self._say()

    def retry(self) -> None:
        """Tries again what the database has not taken, oldest first."""
        if time.monotonic() - self._tried < RETRY_S:
            return
        while self._backlog:
            batch = [self._backlog[position] for position in range(min(BATCH, len(self._backlog)))]
            if not self._write(batch):
                return
            for _ in batch:
                self._backlog.popleft()
            self._before = max(0, self._before - len(batch))
        self._outbox.clear()
        self._say(trouble="")

    def _write(self, entries: Sequence[Entry]) -> bool:
        """Whether the database answered."""
        self._tried = time.monotonic()
        try:
            with self._transaction() as cursor:
                kept = [entry.kept for entry in entries if entry.kept is not None]
                spent = write_rows(self._database.dialect, cursor, [entry.row for entry in entries], kept)
        except self._refusals:
            return all(self._write_one(entry) for entry in entries)
        except Exception as error:  # whatever it is, bills are kept and tried again
            self._say(trouble=reason(error) or type(error).__name__)
            return False
        self._spent.update(spent)
        return True

    def _write_one(self, entry: Entry) -> bool:
        """A row that the database takes exception to must not keep the others out: it is put where a person finds
        it."""
        try:
            with self._transaction() as cursor:
                spent = write_again(self._database.dialect, cursor, entry.row, entry.kept)
        except self._database.refusals:
            self._outbox.reject(entry)
            self._say(refused=entry.row["request_id"])
        except Exception as error:
            self._say(trouble=reason(error) or type(error).__name__)
            return False
        else:
            self._spent.update(spent)
        return True

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[DBAPICursor]:
        if self._connection is None:
            self._connection = self._database.engine.raw_connection()
        try:
            with self._database.writing_on(self._connection) as cursor:
                yield cursor
        except SettledBefore:
            raise
        except Exception:  # whatever it was, the next one begins with another connection
            self._connection.invalidate()
            self._connection = None
            raise

    def _say(self, **said: object) -> None:
        written = self._safe - (len(self._backlog) - self._before)
        if self._spent:
            said["spent"] = [(workspace, day, total) for (workspace, day), total in self._spent.items()]
            self._spent.clear()
        line = orjson.dumps({"safe": self._safe, "written": written, **said}) + b"\n"
        with contextlib.suppress(OSError):  # nobody listens any more
            while line:
                line = line[os.write(1, line) :]


class _Lines:
    """Whole lines from standard input."""

    def __init__(self) -> None:
        self._rest = b""

    def read(self, timeout_s: float | None) -> list[bytes] | None:
        """Those that are there; none after this time; None at the end."""
        if timeout_s is not None and not select.select([0], [], [], timeout_s)[0]:
            return []
        piece = os.read(0, _CHUNK)
        if not piece:
            return None
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return lines


def _end_in_time() -> None:
    """Waits until nothing more can come, then ends the process whatever it waits for: until then the server counts as
    alive."""
    incoming = select.poll()
    incoming.register(0, 0)  # that the other side is closed is told unasked
    incoming.poll()
    time.sleep(END_S)
    os._exit(1)


def main() -> None:
    threading.Thread(target=_end_in_time, daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):  # the server says when it is over
        signal.signal(number, signal.SIG_IGN)
    incoming = _Lines()
    lines: list[bytes] | None = []
    while not lines:
        lines = incoming.read(None)
        if lines is None:
            return
    order = orjson.loads(lines.pop(0))
    ledger = Ledger(open_database(order["url"]), Outbox(Path(order["outbox"])))
    while lines is not None:
        for start in range(0, len(lines), BATCH):
            ledger.take([Entry.of(line) for line in lines[start : start + BATCH]])
        if ledger.behind:
            ledger.retry()
        lines = incoming.read(RETRY_S if ledger.behind else None)
    ledger.retry()


if __name__ == "__main__":
    main()
