"""What is to be written to the ledger, and the file that holds it while the database cannot take it."""

import contextlib
import errno
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from sestet.ledger.entry import Kept
from sestet.store.rows import Row


@dataclass(frozen=True, slots=True)
class Entry:
    """A row to write, and with it perhaps the answer to keep."""

    row: Row
    kept: Kept | None = None

    def line(self) -> bytes:
        """As one line of JSON."""
        kept = None if self.kept is None else {**asdict(self.kept), "body": b64encode(self.kept.body).decode()}
        return orjson.dumps({"row": self.row, "kept": kept}) + b"\n"

    @classmethod
    def of(cls, line: bytes) -> "Entry":
        saved = orjson.loads(line)
        kept = saved["kept"]
        return cls(saved["row"], kept and Kept(**{**kept, "body": b64decode(kept["body"])}))


class Outbox:
    """A file of entries, one a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, entries: Iterable[Entry]) -> None:
        """All of it is on disk when this returns; `OSError` if there is no room."""
        _append(self._path, entries)

    def reject(self, entry: Entry) -> None:
        """Puts what the database refuses aside for good, for a person to look at."""
        with contextlib.suppress(OSError):
            _append(self._path.with_suffix(".rejected"), [entry])

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def read(self) -> list[Entry]:
        """What is whole; a line that a kill or a full disk cut off was promised to nobody."""
        entries = []
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_bytes().splitlines():
                with contextlib.suppress(orjson.JSONDecodeError):
                    entries.append(Entry.of(line))
        return entries


def _append(path: Path, entries: Iterable[Entry]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Begins with a line end, for the line before it may have been cut off.
    lines = b"\n" + b"".join(entry.line() for entry in entries)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(descriptor, lines) != len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
