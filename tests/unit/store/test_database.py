"""A database: opened as it is meant to be, private, shared by writers and readers, and clear about what is wrong."""

import signal
import socket
import stat
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from pysqlite3 import dbapi2
from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from sestet.store.database import BUSY_S, Database, StoreError, open_database
from sestet.store.tables import daily_spend, ledger, organization
from tests.databases import PASSWORD, postgresql
from tests.unit.store.rows import add_request

SECRET = "a-password-of-the-url"


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path}/data/sestet.db")
    opened.upgrade()
    yield opened
    opened.close()


def setting(connection: Connection, name: str) -> object:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def generation(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(select(organization.c.generation)).scalar_one())


def raise_generation(connection: Connection) -> None:
    connection.execute(update(organization).values(generation=organization.c.generation + 1))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_sqlite_writes_ahead_syncs_every_commit_keeps_references_and_maps_nothing(sqlite: Database) -> None:
    with sqlite.reading() as connection:
        found = [
            setting(connection, name)
            for name in ("journal_mode", "synchronous", "foreign_keys", "mmap_size", "busy_timeout")
        ]

    assert ["wal", 2, 1, 0, BUSY_S * 1000] == found


def test_postgresql_knows_who_is_connected_and_ends_long_statements() -> None:
    opened = open_database(postgresql().fresh())
    with opened.reading() as connection:
        found = [
            connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("application_name", "statement_timeout")
        ]
    opened.close()

    assert ["sestet", "10s"] == found


def test_what_the_url_says_to_postgresql_wins() -> None:
    opened = open_database(f"{postgresql().fresh()}?application_name=ours&options=-c%20statement_timeout%3D200ms")
    with opened.reading() as connection:
        name = connection.exec_driver_sql("SHOW application_name").scalar_one()
    with pytest.raises(StoreError) as refused, opened.plainly(), opened.reading() as connection:
        connection.execute(text("SELECT pg_sleep(30)"))
    opened.close()

    assert "ours" == name
    assert f"{opened.place}: canceling statement due to statement timeout" == str(refused.value)


def test_a_sqlite_database_is_for_its_owner_alone(sqlite: Database, tmp_path: Path) -> None:
    with sqlite.writing() as connection:
        raise_generation(connection)
        files = sorted(path.name for path in (tmp_path / "data").iterdir())
        modes = {mode(path) for path in (tmp_path / "data").iterdir()}

    assert ["sestet.db", "sestet.db-shm", "sestet.db-wal"] == files
    assert {0o600} == modes
    assert 0o700 == mode(tmp_path / "data")


def test_a_sqlite_database_that_others_could_read_is_closed_to_them(sqlite: Database, tmp_path: Path) -> None:
    for path in (tmp_path / "data").iterdir():
        path.chmod(0o664)
    sqlite.upgrade()

    assert {0o600} == {mode(path) for path in (tmp_path / "data").iterdir()}


def test_a_sqlite_database_that_is_not_there_is_not_made_by_asking(tmp_path: Path) -> None:
    opened = open_database(f"sqlite:///{tmp_path}/sestet.db")
    with pytest.raises(StoreError) as refused:
        opened.revision()

    assert f"{tmp_path}/sestet.db: there is no such database; `sestet db upgrade` makes it" == str(refused.value)
    assert [] == list(tmp_path.iterdir())
    assert not opened.is_there()


def test_a_sqlite_path_may_hold_any_character(tmp_path: Path) -> None:
    opened = open_database(f"sqlite:///{tmp_path}/a%20b%3Fc%23d%25.db")
    opened.upgrade()
    opened.close()

    assert ["a b?c#d%.db"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("version", [(3, 7, 0), (3, 40, 1), (3, 50, 7), (3, 51, 2)])
def test_a_sqlite_with_the_wal_reset_bug_is_refused(version: tuple[int, int, int], tmp_path: Path) -> None:
    number = ".".join(map(str, version))
    with pytest.raises(StoreError) as refused:
        open_database(
            f"sqlite:///{tmp_path}/a.db",
            driver=SimpleNamespace(sqlite_version=number, sqlite_version_info=version),
        )

    assert str(refused.value).startswith(f"SQLite {number} can corrupt a database")
    assert "install pysqlite3 0.6.1 or newer" in str(refused.value)


@pytest.mark.parametrize("version", [(3, 51, 3), (3, 53, 0), (4, 0, 0), dbapi2.sqlite_version_info])
def test_a_sqlite_without_the_bug_is_taken(version: tuple[int, int, int], tmp_path: Path) -> None:
    opened = open_database(
        f"sqlite:///{tmp_path}/a.db", driver=SimpleNamespace(sqlite_version="", sqlite_version_info=version)
    )

    assert "sqlite" == opened.dialect


WRONG = [
    ("", "this is no URL of a database"),
    ("sestet.db", "this is no URL of a database"),
    (f"postgresql://sestet:{SECRET}@host:port/sestet", "this is no URL of a database"),
    (f"postgres://sestet:{SECRET}@host/sestet", "`postgres` is no database we know"),
    (f"mysql://sestet:{SECRET}@host/sestet", "`mysql` is no database we know"),
    (f"postgresql+asyncpg://sestet:{SECRET}@host/sestet", "`postgresql+asyncpg` is no database we know"),
    (f"postgresql://sestet:{SECRET}@host", "it names no database"),
    ("sqlite://", "SQLite needs a file"),
    ("sqlite:///:memory:", "SQLite needs a file"),
    (f"sqlite://sestet:{SECRET}@host/sestet.db", "SQLite needs a file"),
    (f"sqlite:///sestet.db?key={SECRET}", "SQLite needs a file"),
]


@pytest.mark.parametrize(("url", "why"), WRONG)
def test_a_wrong_url_is_refused_with_what_is_right_and_never_repeated(url: str, why: str) -> None:
    with pytest.raises(StoreError) as refused:
        open_database(url)

    assert str(refused.value).startswith(f"store.url: {why}")
    assert "sqlite:///" in str(refused.value)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    opened = open_database(f"sqlite:///{tmp_path}/file/sestet.db")
    with pytest.raises(StoreError) as refused:
        opened.upgrade()

    assert str(refused.value).startswith(f"{tmp_path}/file/sestet.db: it cannot be made or kept private (")


def test_a_file_that_is_no_database_is_said_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sestet.db").write_text("Dear diary, " * 100)
    opened = open_database(f"sqlite:///{tmp_path}/sestet.db")
    with pytest.raises(StoreError) as refused:
        opened.upgrade()

    assert f"{tmp_path}/sestet.db: file is not a database" == str(refused.value)
    assert "Dear diary, " * 100 == (tmp_path / "sestet.db").read_text()


def unreachable(url: str) -> str:
    """What is said of a database that cannot be used, without its password anywhere in what a log would show."""
    opened = open_database(url)
    began = time.monotonic()
    with pytest.raises(StoreError) as refused:
        opened.upgrade()
    opened.close()

    assert time.monotonic() - began < 30
    assert SECRET not in "".join(traceback.format_exception(refused.value))
    assert [str(refused.value)] == str(refused.value).splitlines()
    return str(refused.value)


def test_a_postgresql_that_is_down_is_said() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        port = nobody.getsockname()[1]
        said = unreachable(f"postgresql://sestet:{SECRET}@127.0.0.1:{port}/sestet")

    assert said.startswith(f"PostgreSQL at 127.0.0.1:{port}/sestet: ")
    assert "Connection refused" in said


def test_a_postgresql_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        said = unreachable(f"postgresql://sestet:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/sestet?connect_timeout=2")

    assert "timeout" in said


def test_a_wrong_password_is_said_and_not_repeated() -> None:
    port = postgresql().port
    said = unreachable(f"postgresql://sestet:{SECRET}@127.0.0.1:{port}/postgres")

    assert said.startswith(f"PostgreSQL at 127.0.0.1:{port}/postgres: ")
    assert 'password authentication failed for user "sestet"' in said


def test_a_user_who_may_not_make_tables_is_told() -> None:
    url = postgresql().fresh()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD '{SECRET}'".encode())
    said = unreachable(url.replace(f"sestet:{PASSWORD}", f"guest:{SECRET}"))

    assert "permission denied for schema public" in said


def test_a_postgresql_that_crashed_is_used_again_as_soon_as_it_is_back() -> None:
    server = postgresql()
    opened = open_database(server.fresh())
    opened.upgrade()
    server.stop(signal.SIGQUIT)
    with pytest.raises(StoreError) as refused:
        opened.revision()
    server.start()
    before = generation(opened)
    with opened.writing() as connection:
        raise_generation(connection)

    assert str(refused.value).startswith(f"{opened.place}: ")
    assert (0, 1) == (before, generation(opened))
    opened.close()


def test_connections_that_died_while_nobody_used_them_are_replaced() -> None:
    server = postgresql()
    opened = open_database(server.fresh())
    opened.upgrade()
    server.stop(signal.SIGQUIT)
    server.start()
    with opened.writing() as connection:
        raise_generation(connection)

    assert 1 == generation(opened)
    opened.close()


def test_what_is_wrong_with_a_row_is_ours_to_see_without_its_values(database: Database) -> None:
    with pytest.raises(IntegrityError) as wrong, database.writing() as connection:
        add_request(connection, "req_1", state="unheard of", settled_at=1)
    with pytest.raises(StoreError) as said, database.plainly(), database.writing() as connection:
        add_request(connection, "req_1", state="unheard of", settled_at=1)

    assert "ck_ledger_state" in str(wrong.value)
    assert "[SQL parameters hidden" in str(wrong.value)
    assert "unheard of" not in str(said.value)


@pytest.mark.parametrize("fields", [{"state": "running", "settled_at": 5}, {"state": "finished"}, {"state": "done"}])
def test_a_request_is_running_or_settled(database: Database, fields: dict[str, object]) -> None:
    with pytest.raises(IntegrityError), database.writing() as connection:
        add_request(connection, "req_1", **fields)


def test_the_organisation_too_has_one_spend_limit_a_period(database: Database) -> None:
    statement = text(
        "INSERT INTO spend_limits (id, period, amount, created_at, updated_at) VALUES (:id, 'daily', 1, 1, 1)"
    )
    with database.writing() as connection:
        connection.execute(statement, {"id": "spl_1"})

    with pytest.raises(IntegrityError), database.writing() as connection:
        connection.execute(statement, {"id": "spl_2"})


def test_an_insert_becomes_an_update_where_there_is_a_row(database: Database) -> None:
    statement = database.insert(daily_spend)
    for cost in (3, 4):
        with database.writing() as connection:
            connection.execute(
                statement.values(workspace_id="w", day=1, cost=cost).on_conflict_do_update(
                    index_elements=["workspace_id", "day"],
                    set_={"cost": daily_spend.c.cost + statement.excluded.cost},
                )
            )
    with database.reading() as connection:
        found = connection.execute(select(daily_spend)).all()

    assert [("w", 1, 7, 0)] == found


def test_whole_numbers_keep_every_digit(database: Database) -> None:
    largest = 2**63 - 1
    with database.writing() as connection:
        add_request(connection, "req_1", cost=largest, output_tokens=largest)
    with database.reading() as connection:
        found = connection.execute(select(ledger.c.cost, ledger.c.output_tokens, ledger.c.stream)).all()

    assert [(largest, largest, False)] == found


def test_a_block_that_fails_has_written_nothing(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            raise_generation(connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert 0 == generation(database)


def test_a_reader_waits_for_no_writer_and_sees_what_was_committed(database: Database) -> None:
    with database.writing() as connection:
        raise_generation(connection)
        during = generation(database)

    assert (0, 1) == (during, generation(database))


def test_a_writer_waits_for_no_reader(database: Database) -> None:
    with database.reading() as reader:
        before = reader.execute(select(organization.c.generation)).scalar_one()
        with database.writing() as writer:
            raise_generation(writer)
        after = generation(database)

    assert (0, 1) == (before, after)


def test_writers_that_look_before_they_write_take_turns(sqlite: Database) -> None:
    """Twice open is as two processes are: they share nothing but the file."""
    other = open_database(f"sqlite:///{sqlite.file}")

    def count_up(database: Database) -> None:
        for _ in range(20):
            with database.writing() as connection:
                seen = connection.execute(select(organization.c.generation)).scalar_one()
                connection.execute(update(organization).values(generation=seen + 1))

    threads = [threading.Thread(target=count_up, args=[one]) for one in (sqlite, sqlite, other, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()

    assert 80 == generation(sqlite)


def test_who_opens_a_file_without_a_log_yet_waits_for_who_writes_to_it(tmp_path: Path) -> None:
    """SQLite itself refuses that at once, whatever its timeout: two servers that start on a new file do it."""
    file = tmp_path / "new.db"
    with closing(dbapi2.connect(str(file), isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("CREATE TABLE one (id)")
        writer.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.3, writer.execute, ["ROLLBACK"])
        ending.start()
        opened = open_database(f"sqlite:///{file}")
        revision = opened.revision()
        ending.join()
    opened.close()

    assert revision is None


@pytest.mark.slow
def test_a_writer_whose_turn_does_not_come_gives_up(sqlite: Database) -> None:
    other = open_database(f"sqlite:///{sqlite.file}")
    said: list[str] = []

    def try_to_write(database: Database) -> None:
        try:
            with database.writing() as connection:
                raise_generation(connection)
        except OperationalError as error:
            said.append(str(error.orig))

    threads = [threading.Thread(target=try_to_write, args=[one]) for one in (sqlite, other)]
    with sqlite.writing():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    other.close()

    assert ["database is locked"] * 2 == said
    assert 0 == generation(sqlite)


def test_more_threads_than_connections_all_get_their_turn(database: Database) -> None:
    failed: list[DBAPIError] = []

    def add(number: int) -> None:
        try:
            with database.writing() as connection:
                add_request(connection, f"req_{number}")
        except DBAPIError as error:
            failed.append(error)

    threads = [threading.Thread(target=add, args=[number]) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as connection:
        count = connection.scalar(select(func.count()).select_from(ledger))

    assert [] == failed
    assert 40 == count
