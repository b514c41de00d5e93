"""The ledger's rows, and the transaction that writes them with everything that follows from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import BindParameter, ClauseElement, bindparam, literal_column, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.engine.interfaces import DBAPICursor

from sestet.contract.events import Usage
from sestet.gate.spend import day_of
from sestet.ledger.entry import Kept, Opening, Settlement
from sestet.ledger.prices import cost
from sestet.store.database import Dialect, insert_of
from sestet.store.tables import daily_spend, idempotency, ledger

Row = dict[str, Any]
Spent = Mapping[tuple[str, int], int]  # (workspace, day since 1970) -> micro-dollars of that day

# What a later write of the same request may change; the rest is said once.
_CHANGING: Final = (
    "state",
    "settled_at",
    "input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
    "thinking_tokens",
    "stop_reason",
    "error",
    "cost",
    "own_cost",
    "queue_us",
    "first_token_us",
    "duration_us",
)


def running_row(opening: Opening, usage: Usage) -> Row:
    """The row of a request that goes on, as if it ended with this usage."""
    return {
        "request_id": opening.request_id,
        "state": "running",
        "started_at": opening.started_at,
        "settled_at": None,
        "key_id": opening.key_id,
        "workspace_id": opening.workspace_id,
        "model": opening.model,
        "weights_id": opening.weights_id,
        "tier": opening.tier,
        "dialect": opening.dialect,
        "stream": opening.stream,
        "input_tokens": usage.input_tokens,
        "cache_write_5m_tokens": usage.cache_creation_5m,
        "cache_write_1h_tokens": usage.cache_creation_1h,
        "cache_read_tokens": usage.cache_read_input_tokens,
        "output_tokens": usage.output_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "stop_reason": None,
        "error": None,
        "price_input": opening.prices.input,
        "price_cache_write_5m": opening.prices.cache_write_5m,
        "price_cache_write_1h": opening.prices.cache_write_1h,
        "price_cache_read": opening.prices.cache_read,
        "price_output": opening.prices.output,
        "cost": cost(usage, opening.prices),
        "own_price_input": opening.own_prices.input,
        "own_price_output": opening.own_prices.output,
        "own_cost": cost(usage, opening.own_prices),
        "queue_us": None,
        "first_token_us": None,
        "duration_us": None,
    }


def settled_row(settlement: Settlement) -> Row:
    return {
        **running_row(settlement.opening, settlement.usage),
        "state": settlement.ending,
        "settled_at": settlement.settled_at,
        "stop_reason": settlement.stop_reason,
        "error": settlement.error,
        "queue_us": _us(settlement.queue_s),
        "first_token_us": _us(settlement.first_token_s),
        "duration_us": _us(settlement.duration_s),
    }


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


class SettledBefore(Exception):
    """A row among those that were to be written was settled already, by this server or by one that thought it dead."""


def write_rows(dialect: Dialect, cursor: DBAPICursor, rows: Sequence[Row], kept: Iterable[Kept]) -> Spent:
    """Rows, the spending of their days, and the answers that are kept; the new totals of those days.

    Raises `SettledBefore` with nothing settled that may stay: then `write_again` is the way.
    """
    last = list({row["request_id"]: row for row in rows}.values())  # of one request the last word counts
    if _write(dialect, cursor, last) != len(last):
        raise SettledBefore
    _keep(dialect, cursor, kept)
    return add_spending(dialect, cursor, [(_place(row), row["cost"], row["own_cost"]) for row in last])


def write_again(dialect: Dialect, cursor: DBAPICursor, row: Row, kept: Kept | None) -> Spent:
    """As `write_rows` for one row, which stays as it is, and is not counted again, if it was settled before."""
    changed = _write(dialect, cursor, [row])
    _keep(dialect, cursor, [] if kept is None else [kept])
    return add_spending(dialect, cursor, [(_place(row), row["cost"], row["own_cost"])] if changed else [])


def _write(dialect: Dialect, cursor: DBAPICursor, rows: list[Row]) -> int:
    """How many of them were not settled before."""
    cursor.executemany(*_upsert(dialect).given_all(rows))
    return cursor.rowcount


Place = tuple[str, int]


def _place(row: Mapping[str, Any]) -> Place | None:
    """The workspace and day that a row counts for; None while it is not settled."""
    return None if row["settled_at"] is None else (row["workspace_id"], day_of(row["settled_at"]))


def add_spending(dialect: Dialect, cursor: DBAPICursor, settled: Iterable[tuple[Place | None, int, int]]) -> Spent:
    """Adds (place, cost, own cost) of settled rows to their days; the new totals of those days."""
    days: dict[Place, list[int]] = {}
    for place, cost_of_row, own_cost in settled:
        if place is not None:
            sums = days.setdefault(place, [0, 0])
            sums[0] += cost_of_row
            sums[1] += own_cost
    totals: dict[Place, int] = {}
    for (workspace_id, day), (spent, own) in sorted(days.items()):  # in one order, so that servers never deadlock
        cursor.execute(*_add(dialect).given(workspace_id=workspace_id, day=day, cost=spent, own_cost=own))
        (totals[workspace_id, day],) = cursor.fetchall()[0]
    return totals


def _keep(dialect: Dialect, cursor: DBAPICursor, kept: Iterable[Kept]) -> None:
    for one in kept:
        cursor.execute(*_answer(dialect).given(**{f"kept_{name}": value for name, value in asdict(one).items()}))


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement as its driver takes it. Building and looking it up again takes longer than running it, so it is done
    once: these run with every request."""

    text: str
    names: Sequence[str]
    positional: bool  # the driver takes no names

    @classmethod
    def of(cls, statement: ClauseElement, dialect: Dialect) -> "_Compiled":
        kind: Any = sqlite.dialect if dialect == "sqlite" else psycopg.dialect
        compiled: Any = statement.compile(dialect=kind())
        return cls(str(compiled), tuple(compiled.positiontup or compiled.params), compiled.positional)

    def given(self, **values: str | int | bytes) -> tuple[str, Any]:
        return self.text, self._values(values)

    def given_all(self, rows: Iterable[Mapping[str, Any]]) -> tuple[str, Any]:
        """For `executemany`. What a row does not say is NULL."""
        return self.text, [self._values(row) for row in rows]

    def _values(self, given: Mapping[str, Any]) -> Any:
        values = map(given.get, self.names)
        return tuple(values) if self.positional else dict(zip(self.names, values, strict=True))


@cache
def _upsert(dialect: Dialect) -> _Compiled:
    statement = insert_of(dialect, ledger)
    changing = statement.on_conflict_do_update(
        index_elements=[ledger.c.request_id],
        set_={column: statement.excluded[column] for column in _CHANGING},
        where=ledger.c.state == literal_column("'running'"),
    )
    return _Compiled.of(changing, dialect)


@cache
def _add(dialect: Dialect) -> _Compiled:
    statement = insert_of(dialect, daily_spend)
    adding = statement.on_conflict_do_update(
        index_elements=[daily_spend.c.workspace_id, daily_spend.c.day],
        set_={
            "cost": daily_spend.c.cost + statement.excluded.cost,
            "own_cost": daily_spend.c.own_cost + statement.excluded.own_cost,
        },
    )
    return _Compiled.of(adding.returning(daily_spend.c.cost), dialect)


@cache
def _answer(dialect: Dialect) -> _Compiled:
    given: dict[str, BindParameter[Any]] = {
        name: bindparam(f"kept_{name}") for name in ("workspace_id", "key", "request_id", "status", "body")
    }
    here = [idempotency.c[name] == given[name] for name in ("workspace_id", "key", "request_id")]
    keeping = update(idempotency).where(*here).values(status=given["status"], body=given["body"])
    return _Compiled.of(keeping, dialect)
