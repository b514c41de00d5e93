"""`check` finds what must not be, says where, and is content with what may be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, text

from sestet.store.checks import check
from sestet.store.database import Database, newest_revision, open_database
from sestet.store.servers import STALE_S
from sestet.store.tables import US_PER_DAY, servers
from tests.unit.store.rows import add_day, add_request

DAY = 20_000
MIDNIGHT = DAY * US_PER_DAY
NOW = MIDNIGHT + US_PER_DAY // 2
STALE_US = round(STALE_S * 1e6)

Write = Callable[[Connection], None]


def found(database: Database, write: Write) -> dict[str, str]:
    """What is wrong after this was written, by subject."""
    with database.writing() as connection:
        write(connection)
    return {finding.subject: finding.detail for finding in check(database, NOW) if finding.result == "wrong"}


def add_server(connection: Connection, server_id: str, heartbeat_at: int) -> None:
    connection.execute(
        insert(servers).values(id=server_id, host="here", pid=1, started_at=1, heartbeat_at=heartbeat_at)
    )


def without_rules(database: Database) -> None:
    """Lets rows in that the schema refuses, as a hand that edits the database might."""
    with database.writing() as connection:
        if database.dialect == "postgresql":
            connection.execute(
                text("ALTER TABLE ledger DROP CONSTRAINT ck_ledger_state, DROP CONSTRAINT ck_ledger_settled")
            )
        else:
            connection.execute(text("PRAGMA ignore_check_constraints = ON"))


def test_a_database_in_order_is_said_to_be(database: Database) -> None:
    with database.writing() as connection:
        add_server(connection, "srv_1", NOW - STALE_US)
        add_request(connection, "req_1", state="finished", settled_at=MIDNIGHT - 1, cost=3, own_cost=1)
        add_request(connection, "req_2", state="failed", settled_at=MIDNIGHT, cost=4)
        add_request(connection, "req_3", state="interrupted", settled_at=NOW, cost=5)
        add_request(connection, "req_4", cost=6)
        add_day(connection, DAY - 1, 3, 1)
        add_day(connection, DAY, 9)
    findings = [(one.subject, one.result, one.detail) for one in check(database, NOW)]
    file = {
        "sqlite": ("file", "ok", "integrity_check and foreign_key_check"),
        "postgresql": ("file", "not checked", "PostgreSQL checks its files itself: pg_amcheck"),
    }

    assert [
        ("schema", "ok", f"revision {newest_revision()}, the newest"),
        file[database.dialect],
        ("requests", "ok", "4 in the ledger, each running or settled"),
        ("spending", "ok", "2 sums of a workspace and a day equal the ledger"),
        ("running", "ok", "every running request has its server"),
    ] == findings


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "running", "settled_at": 1}, "req_1 is running and yet settled"),
        ({"state": "finished", "settled_at": None}, "req_1 is finished and yet not settled"),
    ],
)
def test_a_request_in_two_states_is_found(database: Database, fields: dict[str, object], said: str) -> None:
    without_rules(database)

    assert said == found(database, lambda connection: add_request(connection, "req_1", **fields))["requests"]


def test_a_request_in_a_state_that_there_is_not_is_found(database: Database) -> None:
    without_rules(database)
    wrong = found(database, lambda connection: add_request(connection, "req_1", state="lost", settled_at=1))

    assert "req_1 is lost" in wrong["requests"]


def spending(first: int, own: int, second: int) -> Write:
    """What was settled is 3 (own 1) yesterday and 4 today; what the days say is given."""

    def write(connection: Connection) -> None:
        add_request(connection, "req_1", state="finished", settled_at=MIDNIGHT - 1, cost=3, own_cost=1)
        add_request(connection, "req_2", state="abandoned", settled_at=MIDNIGHT, cost=4)
        for day, cost, own_cost in ((DAY - 1, first, own), (DAY, second, 0)):
            if cost:
                add_day(connection, day, cost, own_cost)

    return write


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (spending(4, 1, 4), f"wrkspc_default on day {DAY - 1}: 3 (own 1) in the ledger, 4 (own 1) in daily_spend"),
        (spending(3, 0, 4), f"wrkspc_default on day {DAY - 1}: 3 (own 1) in the ledger, 3 (own 0) in daily_spend"),
        (spending(3, 1, 0), f"wrkspc_default on day {DAY}: 4 (own 0) in the ledger, 0 (own 0) in daily_spend"),
        (
            lambda connection: add_day(connection, DAY, 7),
            f"wrkspc_default on day {DAY}: 0 (own 0) in the ledger, 7 (own 0) in daily_spend",
        ),
        (
            lambda connection: add_request(connection, "req_1", state="finished", settled_at=NOW, cost=1),
            f"wrkspc_default on day {DAY}: 1 (own 0) in the ledger, 0 (own 0) in daily_spend",
        ),
    ],
)
def test_a_day_that_is_not_the_sum_of_its_ledger_is_found(database: Database, write: Write, said: str) -> None:
    assert {"spending": said} == found(database, write)


def test_of_many_that_are_wrong_some_are_named_and_all_counted(database: Database) -> None:
    def write(connection: Connection) -> None:
        for day in range(1, 6):
            add_day(connection, day, day)

    said = found(database, write)["spending"].split("; ")

    assert ["wrkspc_default on day 1", "wrkspc_default on day 2", "wrkspc_default on day 3", "and 2 more"] == [
        one.split(":")[0] for one in said
    ]


def test_a_request_that_a_dead_server_left_running_is_found(database: Database) -> None:
    def write(connection: Connection) -> None:
        add_server(connection, "srv_alive", NOW)
        add_server(connection, "srv_stale", NOW - STALE_US - 1)
        for number, server in enumerate(["srv_alive", "srv_stale", "srv_stale"]):
            add_request(connection, f"req_{number}", server_id=server)

    wrong = found(database, write)

    assert {"running": "2 of srv_stale, which is gone; the next start of `sestet serve` closes them"} == wrong


def test_a_request_of_a_server_that_nobody_knows_is_found(database: Database) -> None:
    wrong = found(database, lambda connection: add_request(connection, "req_1", server_id="srv_9"))

    assert {"running": "1 of srv_9, which is gone; the next start of `sestet serve` closes them"} == wrong


def test_a_row_whose_workspace_is_missing_is_found_in_a_file(tmp_path: Path) -> None:
    """PostgreSQL never lets it happen."""
    database = open_database(f"sqlite:///{tmp_path}/sestet.db")
    database.upgrade()
    with database.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        cursor = driver.cursor()
        cursor.execute("PRAGMA foreign_keys = OFF")
        cursor.execute(
            "INSERT INTO spend_limits (id, workspace_id, period, amount, created_at, updated_at) "
            "VALUES ('spl_1', 'wrkspc_gone', 'daily', 1, 1, 1)"
        )
    wrong = found(database, lambda connection: None)
    database.close()

    assert {"file": "a row of spend_limits refers to a row of workspaces that is missing"} == wrong


def test_a_database_without_a_schema_is_told_what_to_do(database_url: str) -> None:
    opened = open_database(database_url)
    if opened.file:
        opened.file.touch()
    findings = [(one.subject, one.result, one.detail) for one in check(opened, NOW)]
    opened.close()

    assert [("schema", "wrong", "there is none yet; `sestet db upgrade` makes it")] == findings


def test_a_database_of_another_revision_is_looked_at_no_further(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    findings = [(one.subject, one.result, one.detail) for one in check(database, NOW)]

    assert [
        (
            "schema",
            "wrong",
            f"revision 0000, the newest one here is {newest_revision()}; try `sestet db upgrade`",
        )
    ] == findings
