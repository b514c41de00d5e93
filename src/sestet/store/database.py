"""A database by its URL: how it is opened, written, read, upgraded, and how its failures are said.

Nothing here knows what the tables mean. No text of an error holds a URL or a password.
"""

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

from pysqlite3 import dbapi2
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoFreeConnection
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

Dialect = Literal["sqlite", "postgresql"]
Insert = sqlite.Insert | postgresql.Insert

# Two connections that write and checkpoint at once could corrupt the file: https://sqlite.org/wal.html
WAL_RESET_BUG = ((3, 7, 0), (3, 51, 3))  # from, up to before

BUSY_S = 5.0  # how long a writer waits for its turn
UPGRADE_BUSY_S = 60.0  # how long a start waits for another one's upgrade
CONNECT_S = 5  # PostgreSQL: until the server answers
STATEMENT_S = 10  # PostgreSQL: for one statement
UNACKNOWLEDGED_S = 10  # PostgreSQL: until a peer that has gone silent is given up
POOL = 5
POOL_OVERFLOW = 10
UPGRADE_LOCK = 0x5E57E7  # PostgreSQL: the advisory lock that upgrades take turns with

MIGRATIONS = Path(__file__).parent / "migrations"


class StoreError(Exception):
    """The database cannot be used; the text says which one, why, and what to do."""


class Driver(Protocol):
    """What is asked of a SQLite driver before it is used."""

    sqlite_version: str
    sqlite_version_info: tuple[int, int, int]


def insert_of(dialect: Dialect, table: Table) -> Insert:
    """An insert that can also update."""
    return sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)


class Database:
    """A database that is open. Connections are made when they are needed, so that one that is down fails then."""

    def __init__(self, engine: Engine, dialect: Dialect, place: str, file: Path | None = None) -> None:
        self.engine = engine
        self.dialect: Dialect = dialect
        self.place = place
        self.file = file
        driver: Any = engine.dialect.dbapi
        # What is said against a row, by SQLAlchemy or by a driver itself; everything else is said by the database of
        # itself.
        self.refusals: tuple[type[Exception], ...] = (
            *(DataError, IntegrityError, ProgrammingError),
            *(driver.DataError, driver.IntegrityError, driver.ProgrammingError),
        )
        self._readers = engine.execution_options(sestet_reads=True)
        self._turn = threading.Lock()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: committed at the end, rolled back if the block fails.

        On SQLite, writers of this process take turns here, and those of all by the file's lock, taken at the start: one
        taken at the first write would be refused to whoever had read before. Raises what SQLAlchemy raises:
        `OperationalError` if the database is down, busy or full, `TimeoutError` if no connection is free.
        """
        with self._alone(), self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing_on(self, connection: PoolProxiedConnection) -> Iterator[DBAPICursor]:
        """The same on a connection of the driver that the caller keeps, `engine.raw_connection()`: in a third of the
        time, with the driver's own errors."""
        with self._alone():
            cursor = connection.cursor()
            if self.dialect == "sqlite":
                cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads: it waits for no writer, and none for it. Raises as `writing`."""
        with self._readers.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def plainly(self) -> Iterator[None]:
        """Around a use of the database whose failure a person is told: it becomes a `StoreError` that says it."""
        try:
            yield
        except DBAPIError as error:
            said, _, _ = str(error.orig).partition("\nDETAIL:")  # what follows are values of the row
            raise StoreError(f"{self.place}: {' '.join(said.split())}") from error
        except NoFreeConnection as error:
            raise StoreError(f"{self.place}: every connection is in use") from error

    def insert(self, table: Table) -> Insert:
        """An insert that can also update: `.on_conflict_do_update(index_elements=[...], set_={...})` on both."""
        return insert_of(self.dialect, table)

    def is_there(self) -> bool:
        """Whether a database was made here; PostgreSQL's always was."""
        return self.file is None or self.file.exists()

    def upgrade(self, migrations: Path = MIGRATIONS) -> None:
        """Brings the schema to the newest revision, from nothing too. One transaction: all of it happens or none.

        Several at once wait for each other. Raises `StoreError`, above all where a newer program made the database.
        """
        if self.file is not None:
            _make_private(self.file)
        if self.revision() == newest_revision(migrations):
            return
        # Alembic keeps what it is working on in a global.
        with self.plainly(), _upgrading, self._alone(), self.engine.connect() as connection:
            if self.dialect == "sqlite":
                self._upgrade_sqlite(connection, migrations)
            else:
                self._upgrade_postgresql(connection, migrations)

    def revision(self) -> str | None:
        """The revision of the schema; none: there is no schema yet. Raises `StoreError`."""
        with self.plainly(), self.reading() as connection:
            return _revision(connection)

    def close(self) -> None:
        self.engine.dispose()

    def _upgrade_sqlite(self, connection: Connection, migrations: Path) -> None:
        # A table is changed by making it anew, which must not delete the rows that refer to the old one.
        connection.detach()
        driver: Any = connection.connection.dbapi_connection
        driver.execute("PRAGMA foreign_keys = OFF")
        driver.execute(f"PRAGMA busy_timeout = {UPGRADE_BUSY_S * 1000:.0f}")
        with connection.begin():
            self._migrate(connection, migrations)
            broken = connection.execute(text("PRAGMA foreign_key_check")).first()
            if broken:
                raise StoreError(f"{self.place}: a row of {broken[0]} refers to a row of {broken[2]} that is missing")

    def _upgrade_postgresql(self, connection: Connection, migrations: Path) -> None:
        with connection.begin():
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text(f"SET LOCAL lock_timeout = '{UPGRADE_BUSY_S:.0f}s'"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"))
            self._migrate(connection, migrations)

    def _migrate(self, connection: Connection, migrations: Path) -> None:
        # Imported when it is needed, which is once in the life of a schema: that takes longer than all of a start that
        # needs no migration.
        from alembic import command, config  # noqa: PLC0415

        found, newest = _revision(connection), newest_revision(migrations)
        if found is not None and found not in _revisions(migrations):
            raise StoreError(
                f"{self.place}: a newer program made this database (its revision is {found}, "
                f"the newest one here {newest}); run that program, or go back to a backup"
            )
        settings = config.Config()
        settings.set_main_option("script_location", str(migrations).replace("%", "%%"))
        settings.set_main_option("path_separator", "os")
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """The only writer of this process, where the database has one writer."""
        if self.dialect == "postgresql":
            yield
            return
        if not self._turn.acquire(timeout=BUSY_S):
            raise OperationalError("BEGIN IMMEDIATE", None, dbapi2.OperationalError("database is locked"))
        try:
            yield
        finally:
            self._turn.release()


_upgrading = threading.Lock()


def open_database(url: str, *, driver: Driver = dbapi2) -> Database:
    """`sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://user:password@host:port/database`.

    Connects to nothing yet, and makes no file: `upgrade` does. Raises `StoreError`, whose text never holds the URL.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(f"store.url: this is no URL of a database; {_FORMS}") from None
    match parsed.drivername:
        case "sqlite":
            return _sqlite(parsed, driver)
        case "postgresql" | "postgresql+psycopg":
            return _postgresql(parsed)
        case other:
            raise StoreError(f"store.url: `{other}` is no database we know; {_FORMS}")


def reason(error: Exception) -> str:
    """The driver's first words; they name neither a row nor a password."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return str(said).partition("\n")[0][:200]


def newest_revision(migrations: Path = MIGRATIONS) -> str:
    """The revision that `upgrade` leads to."""
    return _revisions(migrations)[-1]


def _revisions(migrations: Path) -> list[str]:
    """In their order: the names of their files begin with them."""
    return sorted(file.name.partition("_")[0] for file in (migrations / "versions").glob("[0-9]*.py"))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


_FORMS = "write sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def _sqlite(url: URL, driver: Driver) -> Database:
    if url.host or url.query or not url.database or url.database == ":memory:":
        raise StoreError(
            "store.url: SQLite needs a file and nothing more: sqlite:///relative.db or sqlite:////absolute.db"
        )
    if WAL_RESET_BUG[0] <= driver.sqlite_version_info < WAL_RESET_BUG[1]:
        raise StoreError(
            f"SQLite {driver.sqlite_version} can corrupt a database that is written and checkpointed at once "
            "(the WAL-reset bug); install pysqlite3 0.6.1 or newer, which brings SQLite 3.51.3 or newer"
        )
    file = Path(url.database).expanduser().absolute()

    def connect() -> dbapi2.Connection:
        if not file.exists():
            raise StoreError(f"{file}: there is no such database; `sestet db upgrade` makes it")
        # `mode=rw` makes no file, should this one go in between.
        name = f"file:{quote(str(file))}?mode=rw"
        connection = dbapi2.connect(name, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            if _with_write_ahead_log(connection) != "wal":
                raise StoreError(f"{file}: this file system cannot hold a write-ahead log; use a local disk")
            # Neither a power cut nor a wild pointer may cost a bill: every commit is on the disk, no page is mapped.
            for setting in ("synchronous = FULL", "foreign_keys = ON", "mmap_size = 0"):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite+pysqlite://",
        creator=connect,
        module=dbapi2,
        poolclass=QueuePool,
        pool_size=POOL,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_S,
        hide_parameters=True,
    )
    event.listen(engine, "begin", _begin)
    return Database(engine, "sqlite", str(file), file)


def _with_write_ahead_log(connection: dbapi2.Connection) -> str:
    """The mode that the file has then. Of several that open a new file at once, SQLite refuses some without making them
    wait for their turn."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except dbapi2.OperationalError as error:
            if error.sqlite_errorcode != dbapi2.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return str(mode)


def _begin(connection: Connection) -> None:
    reads = connection.get_execution_options().get("sestet_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _postgresql(url: URL) -> Database:
    if not url.database:
        raise StoreError(f"store.url: it names no database; {_FORMS}")
    given = url.query.get("options", "")
    ours: dict[str, str | int] = {
        "connect_timeout": CONNECT_S,
        "application_name": "sestet",
        "tcp_user_timeout": UNACKNOWLEDGED_S * 1000,
        # A peer that is gone after it had acknowledged everything is found out by asking: after about ten seconds.
        "keepalives_idle": 4,
        "keepalives_interval": 2,
        "keepalives_count": 3,
    }
    arguments = {name: value for name, value in ours.items() if name not in url.query}
    # What is given in the URL comes last, and so wins.
    arguments["options"] = f"-c statement_timeout={STATEMENT_S}s {given if isinstance(given, str) else ' '.join(given)}"
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=arguments,
        pool_size=POOL,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=BUSY_S,
        pool_pre_ping=True,
        hide_parameters=True,
    )
    host = url.host or "the local socket"
    return Database(engine, "postgresql", f"PostgreSQL at {host}{f':{url.port}' if url.port else ''}/{url.database}")


def _make_private(file: Path) -> None:
    """The file, and a folder made for it, are for the owner alone; SQLite gives its other files the same mode."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        for one in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
            with contextlib.suppress(FileNotFoundError):
                if stat.S_IMODE(one.stat().st_mode) & 0o077:
                    one.chmod(0o600)
    except OSError as error:
        raise StoreError(f"{file}: it cannot be made or kept private ({error.strerror}); set store.url") from None
