"""Whether a database is as it must be: its file, its schema, and what has to hold between the ledger and the rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, text

from sestet.store.database import Database, newest_revision
from sestet.store.servers import STALE_S
from sestet.store.tables import US_PER_DAY, daily_spend, ledger, servers

Result = Literal["ok", "wrong", "not checked"]

_SHOWN = 3  # examples of what is wrong
_STATES = ("running", "finished", "failed", "abandoned", "interrupted")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what was found."""

    subject: str
    result: Result
    detail: str


def check(database: Database, now: int) -> Iterator[Finding]:
    """Looks at everything as it is at one moment, servers may go on. `now` is in microseconds since 1970 UTC.

    Raises `StoreError` if the database cannot be read.
    """
    revision = database.revision()
    if revision != newest_revision():
        yield Finding("schema", "wrong", _schema(revision))
        return
    with database.plainly(), database.reading() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        yield Finding("schema", "ok", f"revision {revision}, the newest")
        yield _file(connection, database)
        yield _states(connection)
        yield _spending(connection)
        yield _running(connection, now)


def _schema(revision: str | None) -> str:
    if revision is None:
        return "there is none yet; `sestet db upgrade` makes it"
    return f"revision {revision}, the newest one here is {newest_revision()}; try `sestet db upgrade`"


def _file(connection: Connection, database: Database) -> Finding:
    if database.dialect == "postgresql":
        return Finding("file", "not checked", "PostgreSQL checks its files itself: pg_amcheck")
    problems = [row[0] for row in connection.execute(text(f"PRAGMA integrity_check({_SHOWN})")) if row[0] != "ok"]
    for row in connection.execute(text("PRAGMA foreign_key_check")):
        problems.append(f"a row of {row[0]} refers to a row of {row[2]} that is missing")
    return _finding("file", problems, "integrity_check and foreign_key_check")


def _states(connection: Connection) -> Finding:
    """Running or settled, and never both."""
    running, settled = ledger.c.state == "running", ledger.c.settled_at.is_not(None)
    wrong = or_(ledger.c.state.not_in(_STATES), and_(running, settled), and_(~running, ~settled))
    rows = connection.execute(select(ledger.c.request_id, ledger.c.state).where(wrong).limit(_SHOWN))
    count = connection.scalar(select(func.count()).select_from(ledger))
    problems = [f"{row.request_id} is {row.state} and yet {_other(row.state)}" for row in rows]
    return _finding("requests", problems, f"{count} in the ledger, each running or settled")


def _other(state: str) -> str:
    return "settled" if state == "running" else "not settled"


def _spending(connection: Connection) -> Finding:
    """What every workspace spent in a day is the sum of what was settled that day."""
    settled = ledger.c.settled_at.is_not(None)
    day = ledger.c.settled_at // US_PER_DAY
    sums = _days(
        connection,
        select(ledger.c.workspace_id, day, func.sum(ledger.c.cost), func.sum(ledger.c.own_cost))
        .where(settled)
        .group_by(ledger.c.workspace_id, day),
    )
    kept = _days(
        connection, select(daily_spend.c.workspace_id, daily_spend.c.day, daily_spend.c.cost, daily_spend.c.own_cost)
    )
    nothing = (0, 0)
    problems = [
        f"{workspace} on day {number}: {_money(sums, place)} in the ledger, {_money(kept, place)} in daily_spend"
        for place in sorted(sums.keys() | kept.keys())
        if sums.get(place, nothing) != kept.get(place, nothing)
        for workspace, number in [place]
    ]
    return _finding("spending", problems, f"{len(kept)} sums of a workspace and a day equal the ledger")


def _days(connection: Connection, statement: Select[Any]) -> dict[tuple[str, int], tuple[int, int]]:
    rows = connection.execute(statement)
    return {(workspace, int(day)): (int(cost), int(own)) for workspace, day, cost, own in rows}


def _money(days: dict[tuple[str, int], tuple[int, int]], place: tuple[str, int]) -> str:
    cost, own = days.get(place, (0, 0))
    return f"{cost} (own {own})"


def _running(connection: Connection, now: int) -> Finding:
    """Requests that run do so in a server that is alive."""
    alive: ColumnElement[bool] = servers.c.heartbeat_at >= now - round(STALE_S * 1e6)
    left = and_(ledger.c.state == "running", ledger.c.server_id.not_in(select(servers.c.id).where(alive)))
    count = func.count().label("requests")
    rows = connection.execute(select(ledger.c.server_id, count).where(left).group_by(ledger.c.server_id))
    problems = [f"{row.requests} of {row.server_id}, which is gone" for row in rows]
    if problems:
        problems[-1] += "; the next start of `sestet serve` closes them"
    return _finding("running", problems, "every running request has its server")


def _finding(subject: str, problems: list[str], otherwise: str) -> Finding:
    if not problems:
        return Finding(subject, "ok", otherwise)
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Finding(subject, "wrong", "; ".join(problems[:_SHOWN]) + more)
