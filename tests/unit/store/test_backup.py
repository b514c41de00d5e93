"""A backup is the database as it was at one moment, whole and checked, whoever writes meanwhile."""

import contextlib
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pysqlite3 import dbapi2
from sqlalchemy import insert, update

from sestet.store.backup import PAGES, back_up
from sestet.store.checks import check
from sestet.store.database import Database, StoreError, open_database
from sestet.store.tables import US_PER_DAY, daily_spend, idempotency
from tests.unit.store.rows import add_day, add_request

DAY = 20_000
NOON = DAY * US_PER_DAY + US_PER_DAY // 2
PAGE_BYTES = 4096


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path}/data/sestet.db")
    opened.upgrade()
    with opened.writing() as connection:
        add_day(connection, DAY, 0)
    yield opened
    opened.close()


def bill(database: Database, number: int) -> None:
    """Three micro-dollars more, in the ledger and in the sum of their day."""
    with database.writing() as connection:
        add_request(connection, f"req_{number}", state="finished", settled_at=NOON, cost=3)
        connection.execute(update(daily_spend).values(cost=daily_spend.c.cost + 3))


def fill(database: Database, pages: int) -> None:
    """Makes the file larger by so many pages."""
    with database.writing() as connection:
        for number in range(pages // 256):
            connection.execute(
                insert(idempotency).values(
                    workspace_id="w",
                    key=str(number),
                    request_digest="",
                    request_id="",
                    server_id="",
                    body=bytes(256 * PAGE_BYTES),
                    created_at=1,
                )
            )


def nothing(copied: int, pages: int) -> None:
    """No progress is shown."""


def spent(file: Path) -> int:
    """What the ledger of a restored copy adds up to; everything that has to hold in it does."""
    restored = open_database(f"sqlite:///{file}")
    results = [(finding.subject, finding.result) for finding in check(restored, NOON)]
    restored.close()
    with contextlib.closing(dbapi2.connect(file)) as connection:
        total = int(connection.execute("SELECT coalesce(sum(cost), 0) FROM ledger").fetchone()[0])

    assert [(subject, "ok") for subject in ("schema", "file", "requests", "spending", "running")] == results
    return total


def test_a_backup_of_a_database_in_use_is_one_moment_of_it(sqlite: Database, tmp_path: Path) -> None:
    fill(sqlite, 4 * PAGES)
    started, stop = threading.Event(), threading.Event()
    billed: list[int] = []

    def go_on() -> None:
        while not stop.is_set():
            bill(sqlite, len(billed))
            billed.append(3)
            if len(billed) == 5:
                started.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    assert started.wait(30)
    before = sum(billed)
    back_up(sqlite, tmp_path / "copy.db", nothing)
    stop.set()
    thread.join()
    copied = spent(tmp_path / "copy.db")

    assert before <= copied <= sum(billed)


def test_what_is_written_meanwhile_neither_gets_into_it_nor_makes_it_begin_anew(
    sqlite: Database, tmp_path: Path
) -> None:
    fill(sqlite, 4 * PAGES)
    bill(sqlite, 0)
    other = open_database(f"sqlite:///{sqlite.file}")  # as another process would
    steps: list[int] = []

    def write_between_the_pages(copied: int, pages: int) -> None:
        steps.append(copied)
        assert len(steps) < 100  # or it would begin anew for ever
        bill(other, len(steps))

    back_up(sqlite, tmp_path / "copy.db", write_between_the_pages)
    other.close()

    assert len(steps) > 3
    assert sorted(set(steps)) == steps
    assert 3 == spent(tmp_path / "copy.db")


def test_a_backup_is_one_file_for_its_owner_alone(sqlite: Database, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    back_up(sqlite, tmp_path / "backups" / "copy.db", nothing)

    assert ["copy.db"] == [path.name for path in (tmp_path / "backups").iterdir()]
    assert 0o600 == stat.S_IMODE((tmp_path / "backups" / "copy.db").stat().st_mode)


def test_a_file_that_is_there_already_stays(sqlite: Database, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / "copy.db").write_text("mine")
    with pytest.raises(StoreError, match=r"copy\.db: there is such a file already$"):
        back_up(sqlite, tmp_path / "backups" / "copy.db", nothing)

    assert ["copy.db"] == [path.name for path in (tmp_path / "backups").iterdir()]
    assert "mine" == (tmp_path / "backups" / "copy.db").read_text()


def test_a_folder_that_is_not_there_is_said(sqlite: Database, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as refused:
        back_up(sqlite, tmp_path / "nowhere" / "copy.db", nothing)

    assert f"{tmp_path}/nowhere/copy.db: the copy could not be made (No such file or directory)" == str(refused.value)


def test_a_backup_that_is_broken_off_leaves_nothing(sqlite: Database, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    fill(sqlite, 2 * PAGES)

    def break_off(copied: int, pages: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(sqlite, tmp_path / "backups" / "copy.db", break_off)

    assert [] == list((tmp_path / "backups").iterdir())


def test_a_damaged_database_is_not_copied(sqlite: Database, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    fill(sqlite, PAGES)
    for number in range(200):
        bill(sqlite, number)
    sqlite.close()
    file = tmp_path / "data" / "sestet.db"
    with contextlib.closing(dbapi2.connect(file)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'ix_ledger_settled_at'").fetchone()[
            0
        ]
    with file.open("r+b") as raw:
        raw.seek((page - 1) * PAGE_BYTES)
        raw.write(bytes(PAGE_BYTES))
    with pytest.raises(StoreError) as refused:
        back_up(sqlite, tmp_path / "backups" / "copy.db", nothing)

    assert str(refused.value).startswith(f"{file}: it is damaged (")
    assert [] == list((tmp_path / "backups").iterdir())
