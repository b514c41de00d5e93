"""`sestet db`: upgrades, copies and checks the database it is told of, and never says a password."""

import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from sqlalchemy import text

from sestet.store.database import newest_revision, open_database
from tests.cli.conftest import Run, refusal
from tests.databases import KINDS, PASSWORD, PROGRAMS, WHEEL, Kind, fresh_url

Db = Callable[..., Result]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind: Kind = request.param
    return fresh_url(kind, tmp_path)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return fresh_url("sqlite", tmp_path)


@pytest.fixture
def postgresql(tmp_path: Path) -> str:
    return fresh_url("postgresql", tmp_path)


@pytest.fixture
def db(run: Run, tmp_path: Path) -> Db:
    """`db(url, "check")`: with this URL in a configuration file."""

    def invoke(url: str, *arguments: str) -> Result:
        config = tmp_path / "sestet.toml"
        config.write_text(f'[store]\nurl = "{url}"\n')
        return run("db", *arguments, "--config", str(config), env={"COLUMNS": "200"})

    return invoke


def rows(result: Result) -> list[list[str]]:
    """Subject and result of every line of the table."""
    return [line.split()[:2] for line in result.stdout.splitlines()[2:]]


def test_an_upgrade_makes_the_database_and_a_second_one_says_there_was_nothing_to_do(db: Db, url: str) -> None:
    first, second = db(url, "upgrade"), db(url, "upgrade")
    opened = open_database(url)
    revision = opened.revision()
    opened.close()

    assert f"{opened.place}: upgraded from nothing to {newest_revision()}\n" == first.stdout
    assert f"{opened.place}: at revision {newest_revision()} already\n" == second.stdout
    assert (0, 0) == (first.exit_code, second.exit_code)
    assert newest_revision() == revision


def test_a_database_in_order_ends_with_status_0(db: Db, url: str) -> None:
    db(url, "upgrade")
    checked = db(url, "check")
    file = {"sqlite": "ok", "postgresql": "not"}[url.partition(":")[0]]  # "not checked"

    assert [["schema", "ok"], ["file", file], ["requests", "ok"], ["spending", "ok"], ["running", "ok"]] == rows(
        checked
    )
    assert 0 == checked.exit_code


def test_what_does_not_add_up_ends_with_status_1(db: Db, url: str) -> None:
    db(url, "upgrade")
    opened = open_database(url)
    with opened.writing() as connection:
        connection.execute(text("INSERT INTO daily_spend (workspace_id, day, cost) VALUES ('wrkspc_default', 1, 5)"))
    opened.close()
    checked = db(url, "check")

    assert 1 == checked.exit_code
    assert "wrkspc_default on day 1: 0 (own 0) in the ledger, 5 (own 0) in daily_spend" in checked.stdout


def test_what_has_no_schema_yet_ends_with_status_1(db: Db, postgresql: str) -> None:
    checked = db(postgresql, "check")

    assert [["schema", "wrong"]] == rows(checked)
    assert 1 == checked.exit_code


@pytest.mark.parametrize("command", [("check",), ("backup", "copy.db")])
def test_a_file_that_is_not_there_is_not_made_by_looking(
    db: Db, sqlite: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    said = refusal(db(sqlite, *command))

    assert f"{tmp_path}/sestet.db: there is no such database; `sestet db upgrade` makes it" == said
    assert ["sestet.toml"] == [path.name for path in tmp_path.iterdir()]


def test_a_backup_is_a_database_that_is_in_order(db: Db, sqlite: str, tmp_path: Path) -> None:
    db(sqlite, "upgrade")
    copied = db(sqlite, "backup", str(tmp_path / "copy.db"))
    size = (tmp_path / "copy.db").stat()
    checked = db(f"sqlite:///{tmp_path}/copy.db", "check")

    assert f"{tmp_path}/copy.db: {size.st_size:,} bytes, integrity ok\n" == copied.output
    assert 0o600 == stat.S_IMODE(size.st_mode)
    assert 0 == checked.exit_code


def test_a_backup_replaces_no_file(db: Db, sqlite: str, tmp_path: Path) -> None:
    db(sqlite, "upgrade")
    (tmp_path / "copy.db").write_text("mine")

    assert f"{tmp_path}/copy.db: there is such a file already" == refusal(
        db(sqlite, "backup", str(tmp_path / "copy.db"))
    )
    assert "mine" == (tmp_path / "copy.db").read_text()


def test_for_postgresql_the_command_to_use_is_said_and_works(db: Db, postgresql: str, tmp_path: Path) -> None:
    db(postgresql, "upgrade")
    said = refusal(db(postgresql, "backup", str(tmp_path / "a copy.dump")))
    explanation, command = said.split(": ", 1)
    program, *arguments = shlex.split(command)
    done = subprocess.run(
        [WHEEL.parent / PROGRAMS / program, *arguments], env={"PGPASSWORD": PASSWORD}, capture_output=True, check=False
    )

    assert "PostgreSQL has a tool for this, which works while it is in use" == explanation
    assert "pg_dump" == program
    assert PASSWORD not in said
    assert 0 == done.returncode, done.stderr
    assert (tmp_path / "a copy.dump").read_bytes().startswith(b"PGDMP")


@pytest.mark.parametrize("command", [("upgrade",), ("check",), ("backup", "copy.db")])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://sestet:a-password-of-the-url@127.0.0.1:1/sestet",
        "postgres://sestet:a-password-of-the-url@127.0.0.1:1/sestet",
        "postgresql://sestet:a-password-of-the-url@127.0.0.1:port/sestet",
    ],
)
def test_no_password_is_said(db: Db, url: str, command: tuple[str, ...]) -> None:
    result = db(url, *command)

    assert "a-password-of-the-url" not in refusal(result) + result.output


def test_the_environment_wins_over_the_file(db: Db, run: Run, sqlite: str, tmp_path: Path) -> None:
    db(sqlite, "upgrade")
    other = f"sqlite:///{tmp_path}/other.db"
    upgraded = run(
        "db", "upgrade", "--config", str(tmp_path / "sestet.toml"), env={"SESTET_STORE_URL": other, "COLUMNS": "200"}
    )

    assert upgraded.stdout.startswith(f"{tmp_path}/other.db: upgraded from nothing")


def test_by_default_it_is_beside_the_signing_keys(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sestet.toml").touch()
    home = tmp_path / "a 100% home?"
    upgraded = run("db", "upgrade", "--config", str(tmp_path / "sestet.toml"), env={"XDG_DATA_HOME": str(home)})

    assert 0 == upgraded.exit_code
    assert ["sestet.db"] == [path.name for path in (home / "sestet").iterdir()]


@pytest.mark.parametrize("command", ["upgrade", "backup", "check"])
def test_the_help_teaches(run: Run, command: str) -> None:
    said = " ".join(run("db", command, "--help").stdout.split())

    assert {"upgrade": "Back up first", "backup": "To go back", "check": "Status 1 if not"}[command] in said
