"""A copy of a SQLite database as it is at one moment, while servers go on writing to it."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2
from sqlalchemy import text

from sestet.store.database import Database, StoreError

PAGES = 1024  # copied between two calls of `progress`

Progress = Callable[[int, int], None]  # pages copied, pages in all


def back_up(database: Database, target: Path, progress: Progress) -> None:
    """Copies to a new file, readable by its owner alone, which is there when it is whole and checked, or not at all.

    Raises `StoreError`.
    """
    assert database.dialect == "sqlite", "PostgreSQL has a tool of its own"
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
        os.close(descriptor)
        try:
            _copy(database, name, progress)
            os.link(name, target)  # which a rename would put over a file that came in between
        finally:
            Path(name).unlink()
        _sync(target.parent)
    except FileExistsError:
        raise StoreError(f"{target}: there is such a file already") from None
    except (OSError, dbapi2.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{target}: the copy could not be made ({reason})") from None


def _copy(database: Database, name: str, progress: Progress) -> None:
    with database.plainly(), contextlib.closing(dbapi2.connect(name)) as copy:
        with database.reading() as connection:
            # Reading holds on to this moment. Otherwise every write of a server would begin the copy anew.
            connection.execute(text("SELECT count(*) FROM sqlite_schema")).scalar_one()
            driver: Any = connection.connection.dbapi_connection
            driver.backup(copy, pages=PAGES, progress=lambda _, left, pages: progress(pages - left, pages))
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, and no other beside it
        problem = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if problem != "ok":
            raise StoreError(f"{database.place}: it is damaged ({problem}), and so the copy would be")


def _sync(folder: Path) -> None:
    """Until then a power cut could take the name of a new file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
