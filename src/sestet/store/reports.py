"""Sums of the ledger, by time and by whom. Only what is settled counts, when it was settled, however it ended."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Label, Row, case, func, select

from sestet.ledger.prices import Kind
from sestet.ledger.reports import LONG_CONTEXT, Cost, Dimension, Group, Query, Sums
from sestet.store.database import Database
from sestet.store.tables import ledger

_TOKENS: Final[Mapping[Kind, ColumnElement[int]]] = {
    "input": ledger.c.input_tokens,
    "cache_write_5m": ledger.c.cache_write_5m_tokens,
    "cache_write_1h": ledger.c.cache_write_1h_tokens,
    "cache_read": ledger.c.cache_read_tokens,
    "output": ledger.c.output_tokens,
}
_PRICES: Final[Mapping[Kind, ColumnElement[int]]] = {
    "input": ledger.c.price_input,
    "cache_write_5m": ledger.c.price_cache_write_5m,
    "cache_write_1h": ledger.c.price_cache_write_1h,
    "cache_read": ledger.c.price_cache_read,
    "output": ledger.c.price_output,
}
_OWN_PRICES: Final = (ledger.c.own_price_input, ledger.c.own_price_output)
_PROMPT: Final = (
    ledger.c.input_tokens + ledger.c.cache_write_5m_tokens + ledger.c.cache_write_1h_tokens + ledger.c.cache_read_tokens
)
_DIMENSIONS: Final[Mapping[Dimension, ColumnElement[str]]] = {
    "api_key_id": ledger.c.key_id,
    "workspace_id": ledger.c.workspace_id,
    "model": ledger.c.model,
    "service_tier": ledger.c.tier,
    "context_window": case((_PROMPT > LONG_CONTEXT, "200k-1M"), else_="0-200k"),
}


def sums(database: Database, query: Query) -> list[Group]:
    """Ordered by bucket and values. Blocks for as long as the database takes; raises `StoreError`."""
    # The database adds up tokens at one price, and Python multiplies: the products of a busy month are beyond 64 bits.
    columns: dict[str, ColumnElement[Any]] = {
        "bucket": ledger.c.settled_at // query.width,
        **{dimension: _DIMENSIONS[dimension] for dimension in sorted(query.by)},
    }
    if query.itemised:
        columns |= {column.name: column for column in (*_PRICES.values(), *_OWN_PRICES)}
    added: list[Label[Any]] = [
        func.count().label("requests"),
        *(func.sum(column).label(kind) for kind, column in _TOKENS.items()),
        func.sum(ledger.c.cost).label("cost"),
        func.sum(ledger.c.own_cost).label("own_cost"),
    ]
    statement = (
        select(*(column.label(name) for name, column in columns.items()), *added)
        .where(ledger.c.settled_at >= query.start, ledger.c.settled_at < query.end)
        .where(*(_DIMENSIONS[dimension].in_(sorted(values)) for dimension, values in query.only.items()))
        .group_by(*columns.values())
    )
    with database.plainly(), database.reading() as connection:
        rows = connection.execute(statement).all()
    return _groups(rows, query)


def _groups(rows: Sequence[Row[Any]], query: Query) -> list[Group]:
    """The rows of a group, one for each set of prices, added. Sorted here, for databases sort text differently."""
    by = sorted(query.by)
    found: dict[tuple[Any, ...], Sums] = {}
    for row in rows:
        columns = row._mapping
        key = (int(row.bucket), *(columns[dimension] for dimension in by))
        one = _sums(columns, query)
        found[key] = found[key] + one if key in found else one
    return [
        Group(bucket * query.width, dict(zip(by, values, strict=True)), found[bucket, *values])
        for bucket, *values in sorted(found)
    ]


def _sums(row: Mapping[Any, Any], query: Query) -> Sums:
    # PostgreSQL adds integers up to a decimal.
    tokens: dict[Kind, int] = {kind: int(row[kind]) for kind in _TOKENS}
    cost, own_cost = int(row["cost"]), int(row["own_cost"])
    if not query.itemised:
        return Sums(int(row["requests"]), tokens, Cost(cost), Cost(own_cost))
    parts = {kind: tokens[kind] * row[column.key] for kind, column in _PRICES.items()}
    own_parts: dict[Kind, int] = {
        kind: number * row["own_price_output" if kind == "output" else "own_price_input"]
        for kind, number in tokens.items()
    }
    return Sums(int(row["requests"]), tokens, Cost(cost, parts), Cost(own_cost, own_parts))
