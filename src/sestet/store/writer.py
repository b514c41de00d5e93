"""The thread that writes the ledger, and the file that holds what the database cannot take."""

import asyncio
import contextlib
import errno
import os
import threading
import time
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
import psycopg
import sqlalchemy.exc
import structlog
from pysqlite3 import dbapi2
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import PoolProxiedConnection

from sestet.ledger.entry import Kept
from sestet.store.database import Database
from sestet.store.rows import Row, SettledBefore, Spent, write_again, write_rows

RETRY_S: Final = 0.5
STOP_S: Final = 5.0
BATCH: Final = 500
# What is said against a row, by SQLAlchemy or by a driver itself; everything else is said by the database of itself.
REFUSALS: Final = (
    *(sqlalchemy.exc.DataError, sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError),
    *(dbapi2.DataError, dbapi2.IntegrityError, dbapi2.ProgrammingError),
    *(psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError),
)
STUCK_S: Final = 1.0  # a transaction that takes longer is a database that does not answer


@dataclass(slots=True)
class Entry:
    """A row to write, and with it perhaps the answer to keep; `waiter` is told when neither can be lost any more,
    because they are in the database or, `saved`, in the outbox."""

    row: Row
    kept: Kept | None = None
    waiter: asyncio.Future[None] | None = None
    saved: bool = False


class Writer:
    """`put` never blocks. `on_spent` is told, in the event loop, the totals of the days that a transaction changed."""

    def __init__(self, database: Database, outbox: "Outbox", on_spent: Callable[[Spent], None]) -> None:
        self._database = database
        self._outbox = outbox
        self._on_spent = on_spent
        self._pending: deque[Entry] = deque()
        self._writing: list[Entry] = []
        self._arrived = threading.Condition()
        self._stopping = False
        self._failing = False
        self._busy_since: float | None = None
        self._connection: PoolProxiedConnection | None = None  # kept, since taking one takes longer than a transaction
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = structlog.get_logger("sestet")

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def put(self, entry: Entry) -> None:
        with self._arrived:
            self._pending.append(entry)
            self._arrived.notify()

    def stop(self) -> None:
        """Returns when everything that was put is in the database or in the outbox. Blocks."""
        with self._arrived:
            self._stopping = True
            self._arrived.notify()
        self._thread.join(STOP_S)
        self.rescue()

    @property
    def backlog(self) -> int:
        """Rows that are put and not in the database."""
        return len(self._pending) + len(self._writing)

    @property
    def stuck(self) -> bool:
        since = self._busy_since
        return since is not None and time.monotonic() - since > STUCK_S

    @property
    def healthy(self) -> bool:
        return not (self._failing or self.stuck)

    def rescue(self) -> None:
        """Puts what waits for the database into the outbox, and tells whoever waits for it. Blocks for the disk."""
        with self._arrived:
            entries = [entry for entry in (*self._writing, *self._pending) if not entry.saved]
            if not entries:
                return
            try:
                self._outbox.append(entries)
            except OSError as error:  # no room there either: it is kept here, until there is
                self._log.error("outbox_not_written", rows=len(entries), reason=error.strerror)
            for entry in entries:
                entry.saved = True
        self._tell(entries, {})

    def _run(self) -> None:
        while self._next():
            self._failing = not self._write(self._writing)
            if self._failing:
                self.rescue()
            with self._arrived:
                if self._failing:
                    self._pending.extendleft(reversed(self._writing))
                    self._arrived.wait_for(lambda: self._stopping, RETRY_S)
                self._writing = []
                if not any(entry.saved for entry in self._pending):
                    self._outbox.clear()

    def _next(self) -> bool:
        """Waits for something to write; not so if there is nothing more to come, or no use in trying."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._pending or self._stopping)
            if not self._pending or (self._stopping and self._failing):
                return False
            self._writing = [self._pending.popleft() for _ in range(min(BATCH, len(self._pending)))]
            return True

    def _write(self, batch: Sequence[Entry]) -> bool:
        """Whether the database answered."""
        self._busy_since = time.monotonic()
        try:
            spent = self._transaction(batch)
        except (SettledBefore, *REFUSALS):
            return all(self._write_one(entry) for entry in batch)
        except Exception as error:  # whatever it is, bills are kept and tried again
            self._log.error("ledger_not_written", rows=len(batch), reason=reason(error))
            return False
        finally:
            self._busy_since = None
        self._tell(batch, spent)
        return True

    def _write_one(self, entry: Entry) -> bool:
        """A row that the database takes exception to must not keep the others out: it is put where a person finds
        it."""
        try:
            with self._transacting() as cursor:
                spent = write_again(self._database.dialect, cursor, entry.row, entry.kept)
        except REFUSALS as error:
            self._log.error("ledger_row_refused", request_id=entry.row["request_id"], reason=reason(error))
            self._outbox.reject(entry)
            spent = {}
        except Exception as error:
            self._log.error("ledger_not_written", rows=1, reason=reason(error))
            return False
        self._tell([entry], spent)
        return True

    def _transaction(self, batch: Sequence[Entry]) -> Spent:
        kept = [entry.kept for entry in batch if entry.kept is not None]
        with self._transacting() as cursor:
            return write_rows(self._database.dialect, cursor, [entry.row for entry in batch], kept)

    @contextlib.contextmanager
    def _transacting(self) -> Iterator[DBAPICursor]:
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

    def _tell(self, batch: Iterable[Entry], spent: Spent) -> None:
        waiters = [entry.waiter for entry in batch if entry.waiter is not None]
        if self._loop is None or not (waiters or spent):
            return

        def tell() -> None:
            if spent:
                self._on_spent(spent)
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            self._loop.call_soon_threadsafe(tell)


class Outbox:
    """A file of rows that the database has not taken, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, batch: Iterable[Entry]) -> None:
        """All of it is on disk when this returns; `OSError` if there is no room."""
        _append(self._path, batch)

    def reject(self, entry: Entry) -> None:
        """Puts a row aside for good, for a person to look at."""
        with contextlib.suppress(OSError):
            _append(self._path.with_suffix(".rejected"), [entry])

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def read(self) -> list[Entry]:
        """What is whole; a line that a kill or a full disk cut off was promised to nobody."""
        entries = []
        for line in self._path.read_bytes().splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                saved = orjson.loads(line)
                kept = saved["kept"]
                entries.append(Entry(saved["row"], kept and Kept(**{**kept, "body": b64decode(kept["body"])})))
        return entries


def _append(path: Path, batch: Iterable[Entry]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Begins with a line end, for the line before it may have been cut off.
    lines = b"\n" + b"".join(orjson.dumps({"row": entry.row, "kept": _plain(entry.kept)}) + b"\n" for entry in batch)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(descriptor, lines) != len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(kept: Kept | None) -> dict[str, object] | None:
    return None if kept is None else {**asdict(kept), "body": b64encode(kept.body).decode()}


def reason(error: Exception) -> str:
    """The driver's first words; they name neither a row nor a password."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return str(said).partition("\n")[0][:200]
