"""The schema: made from nothing, the same as the tables, all of it or none of it, and never by an older program."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, insert, inspect, select, text
from sqlalchemy.engine.interfaces import ReflectedIndex
from sqlalchemy.exc import IntegrityError

from sestet.gate.directory import DEFAULT_WORKSPACE
from sestet.store.database import MIGRATIONS, Database, StoreError, newest_revision, open_database
from sestet.store.tables import api_keys, metadata, organization, workspaces
from tests.databases import fresh_url
from tests.unit.store.rows import add_request
from tests.unit.store.upgrades import STEP, TOGETHER

ROOT = Path(__file__).parents[3]

# What a later program might bring: a table made anew on SQLite, on which rows of another depend.
LATER = '''"""Workspaces are owned."""

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{before}"


def upgrade() -> None:
    with op.batch_alter_table("workspaces", recreate="auto") as table:
        table.add_column(sa.Column("owner", sa.Text(), nullable=False, server_default="nobody"))
        table.alter_column("display_color", nullable=True)
'''


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The migrations of a later program."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9001_owners.py").write_text(LATER.format(before=newest_revision()))
    return folder


def add_key(connection: Connection, key_id: str, workspace_id: str = DEFAULT_WORKSPACE) -> None:
    connection.execute(
        insert(api_keys).values(
            id=key_id,
            workspace_id=workspace_id,
            name="a key",
            digest=key_id.ljust(64, "0"),
            hint="sk-sestet-a",
            scopes="inference",
            status="active",
            created_at=1,
        )
    )


def upgrades(how: str, url: str, migrations: Path) -> Any:
    """What tests/unit/store/upgrades.py says."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.store.upgrades", how, url, str(migrations)],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def counts(database: Database) -> tuple[int | None, int | None]:
    with database.reading() as connection:
        return (
            connection.scalar(select(func.count()).select_from(organization)),
            connection.scalar(select(func.count()).select_from(workspaces)),
        )


def test_from_nothing_there_is_one_organisation_and_its_default_workspace(database: Database) -> None:
    with database.reading() as connection:
        generations = connection.execute(select(organization.c.generation)).scalars().all()
        made = connection.execute(select(workspaces.c.id, workspaces.c.name, workspaces.c.archived_at)).all()

    assert [0] == generations
    assert [(DEFAULT_WORKSPACE, "Default", None)] == made
    assert newest_revision() == database.revision()


def test_the_newest_revision_is_the_head_of_the_migrations() -> None:
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))

    assert [newest_revision()] == ScriptDirectory.from_config(settings).get_heads()


def test_a_second_upgrade_changes_nothing(database: Database) -> None:
    with database.writing() as connection:
        add_request(connection, "req_1")
    database.upgrade()
    with database.reading() as connection:
        requests = connection.execute(text("SELECT request_id FROM ledger")).scalars().all()

    assert ["req_1"] == requests
    assert (1, 1) == counts(database)


def test_the_migrations_lead_to_the_tables(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = compare_metadata(context, metadata)

    assert [] == differences


def shape(database: Database) -> dict[str, Any]:
    """Everything a database says of its tables, in an order that does not depend on how they were made."""
    asked = inspect(database.engine)
    return {
        table: {
            "columns": {column["name"]: str(column) for column in asked.get_columns(table)},
            "key": asked.get_pk_constraint(table),
            "foreign": sorted(map(str, asked.get_foreign_keys(table))),
            "unique": sorted(map(str, asked.get_unique_constraints(table))),
            "checks": sorted(map(str, asked.get_check_constraints(table))),
            "indexes": sorted(map(plain, asked.get_indexes(table))),
        }
        for table in sorted(metadata.tables)
    }


def plain(index: ReflectedIndex) -> str:
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return str({**index, "dialect_options": options})


def test_the_migrations_lead_to_what_the_tables_would_be_made_as(database: Database, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = open_database(fresh_url(database.dialect, tmp_path / "other"))
    if other.file:
        other.file.touch()
    metadata.create_all(other.engine)
    wanted, found = shape(other), shape(database)
    other.close()

    assert wanted == found


@pytest.mark.slow
def test_an_upgrade_that_is_killed_at_any_statement_has_not_happened_and_can_be_run_again(
    database_url: str, later: Path
) -> None:
    opened = open_database(database_url)
    opened.upgrade()
    with opened.writing() as connection:
        add_key(connection, "apikey_1")
    before = opened.revision()
    opened.close()
    revisions = upgrades("killed", database_url, later)
    after = open_database(database_url)

    assert STEP * len(revisions) > 3
    assert {before} == set(revisions)
    assert "9001" == after.revision()
    assert (1, 1) == counts(after)
    after.close()


@pytest.mark.slow
def test_the_first_upgrade_that_is_killed_at_any_statement_can_be_run_again(database_url: str) -> None:
    opened = open_database(database_url)
    if opened.file:
        opened.file.touch()
    revisions = upgrades("killed", database_url, MIGRATIONS)

    assert STEP * len(revisions) > len(metadata.tables)
    assert {None} == set(revisions)
    assert newest_revision() == opened.revision()
    assert (1, 1) == counts(opened)
    opened.close()


def test_processes_that_upgrade_at_once_do_it_once(database_url: str) -> None:
    statuses = upgrades("together", database_url, MIGRATIONS)
    opened = open_database(database_url)

    assert [0] * TOGETHER == statuses
    assert (1, 1) == counts(opened)
    opened.close()


def test_threads_that_upgrade_at_once_do_it_once(database_url: str) -> None:
    opened = [open_database(database_url) for _ in range(TOGETHER)]
    threads = [threading.Thread(target=one.upgrade) for one in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [newest_revision()] * TOGETHER == [one.revision() for one in opened]
    assert (1, 1) == counts(opened[0])
    for one in opened:
        one.close()


def test_rows_that_depend_on_a_table_that_is_made_anew_stay(database: Database, later: Path) -> None:
    with database.writing() as connection:
        add_key(connection, "apikey_1")
    database.upgrade(later)
    with database.reading() as connection:
        keys = connection.execute(select(api_keys.c.id, api_keys.c.workspace_id)).all()
        owners = connection.execute(text("SELECT id, owner FROM workspaces")).all()

    assert [("apikey_1", DEFAULT_WORKSPACE)] == keys
    assert [(DEFAULT_WORKSPACE, "nobody")] == owners


def test_after_an_upgrade_rows_must_still_refer_to_rows(database: Database, later: Path) -> None:
    database.upgrade(later)

    with pytest.raises(IntegrityError), database.writing() as connection:
        add_key(connection, "apikey_1", workspace_id="wrkspc_of_nobody")


def test_the_database_of_a_newer_program_is_refused_and_left_alone(database: Database, later: Path) -> None:
    database.upgrade(later)
    with pytest.raises(StoreError) as refused:
        database.upgrade()

    assert (
        f"{database.place}: a newer program made this database (its revision is 9001, "
        f"the newest one here {newest_revision()}); run that program, or go back to a backup"
    ) == str(refused.value)
    assert "9001" == database.revision()
