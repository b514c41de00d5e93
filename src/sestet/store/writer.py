"""The thread that writes the ledger, and the file that holds what the database cannot take."""

import asyncio
import contextlib
import errno
import os
import queue
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
import structlog
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, SQLAlchemyError

from sestet.ledger.entry import Kept
from sestet.store.database import Database
from sestet.store.rows import Row, Spent, write_rows

RETRY_S: Final = 0.5
BATCH: Final = 500
REFUSALS: Final = (DataError, IntegrityError, ProgrammingError)  # of a row; everything else is of the database
STUCK_S: Final = 1.0  # a transaction that takes longer is a database that does not answer


@dataclass(slots=True)
class Entry:
    """A row to write, and with it perhaps the answer to keep; `waiter` is told when neither can be lost any more."""

    row: Row
    kept: Kept | None = None
    waiter: asyncio.Future[None] | None = None


class Writer:
    """`put` never blocks. `on_spent` is told, in the event loop, the totals of the days that a transaction changed."""

    def __init__(self, database: Database, outbox: "Outbox", on_spent: Callable[[Spent], None]) -> None:
        self._database = database
        self._outbox = outbox
        self._on_spent = on_spent
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._backlog: list[Entry] = []
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._log = structlog.get_logger("sestet")

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def put(self, entry: Entry) -> None:
        self._queue.put(entry)

    def stop(self) -> None:
        """Returns when everything that was put is in the database, or in the outbox."""
        self._queue.put(None)
        self._thread.join()

    @property
    def backlog(self) -> int:
        return len(self._backlog)

    @property
    def healthy(self) -> bool:
        since = self._busy_since
        return not self._backlog and (since is None or time.monotonic() - since < STUCK_S)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._next()
            if self._backlog:
                self._set_aside(batch)
                self._write_backlog()
            elif batch:
                self._write(batch)

    def _next(self) -> tuple[list[Entry], bool]:
        """What waits, at least one entry; nothing after a while if the backlog is to be tried again."""
        batch: list[Entry] = []
        try:
            entry = self._queue.get(timeout=RETRY_S if self._backlog else None)
            while entry is not None:
                batch.append(entry)
                if len(batch) == BATCH:
                    return batch, False
                entry = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _write(self, batch: list[Entry]) -> None:
        try:
            spent = self._transaction(batch)
        except SQLAlchemyError as error:
            self._log.error("ledger_not_written", rows=len(batch), reason=_reason(error))
            self._set_aside(batch)
        else:
            self._tell(batch, spent)

    def _write_backlog(self) -> None:
        """Oldest first; what comes meanwhile waits behind it."""
        while self._backlog:
            batch = self._backlog[:BATCH]
            try:
                self._tell([], self._transaction(batch))
            except REFUSALS:
                if not self._write_singly(batch):
                    return
            except SQLAlchemyError:
                return
            del self._backlog[: len(batch)]
        self._outbox.clear()
        self._log.warning("ledger_written_again")

    def _write_singly(self, batch: Sequence[Entry]) -> bool:
        """One row that the database takes exception to must not keep the others out: it is put where a person finds
        it. Whether the database answered throughout; what was written before is not counted twice."""
        for entry in batch:
            try:
                self._tell([], self._transaction([entry]))
            except REFUSALS as error:
                self._log.error("ledger_row_refused", request_id=entry.row["request_id"], reason=_reason(error))
                self._outbox.reject(entry)
            except SQLAlchemyError:
                return False
        return True

    def _set_aside(self, batch: Sequence[Entry]) -> None:
        """Who waits for these need not wait for the database: they are on disk, or there is no room for them there."""
        if not batch:
            return
        self._backlog += batch
        try:
            self._outbox.append(batch)
        except OSError as error:
            self._log.error("outbox_not_written", rows=len(batch), reason=error.strerror)
        self._tell(batch, {})

    def _transaction(self, batch: Sequence[Entry]) -> Spent:
        self._busy_since = time.monotonic()
        try:
            with self._database.writing() as connection:
                rows = [entry.row for entry in batch]
                return write_rows(self._database, connection, rows, [one.kept for one in batch if one.kept is not None])
        finally:
            self._busy_since = None

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


def _reason(error: SQLAlchemyError) -> str:
    """The driver's first words; they name neither a row nor a password."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return str(said).partition("\n")[0][:200]
