"""The ledger's reports in plain Python: rows made from a seed, and what a query must say of them."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, insert

from sestet.ledger.reports import Query
from sestet.store.tables import ledger

Row = Mapping[str, Any]

DAY: Final = 86_400_000_000
START: Final = 20_240 * DAY  # 2025-06-01
DAYS: Final = 4
STATES: Final = ("finished", "finished", "failed", "abandoned", "interrupted")
KINDS: Final = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
MODELS: Final = ("claude-opus-4-1-20250805", "claude-sonnet-4-20250514", "weights", "Ünusual_name")
# Not multiples of a million, so that nearly every request is rounded.
PRICES: Final = ((15_000_000, 1_000), (3_000_010, 333_330), (250_010, 0), (0, 77_770))


def rows(count: int, *, running: bool = True, seed: int = 5) -> list[Row]:
    """Requests of some days, of every kind, some of them on the very edges of days, hours and minutes."""
    chance = random.Random(seed)
    return [_row(chance, number, running=running) for number in range(count)]


def _row(chance: random.Random, number: int, *, running: bool) -> Row:
    price, own_price = chance.choice(PRICES)
    long = chance.random() < 0.2
    edge = chance.choice((DAY, DAY // 24, DAY // 1440, 1))
    settled_at = START + chance.randrange(-DAY, (DAYS + 1) * DAY) // edge * edge + chance.choice((0, 0, -1))
    goes_on = running and chance.random() < 0.1
    row: dict[str, Any] = {
        "request_id": f"req_{number:04}",
        "state": "running" if goes_on else chance.choice(STATES),
        "started_at": settled_at - 1_000,
        "settled_at": None if goes_on else settled_at,
        "server_id": "srv_1",
        "key_id": f"apikey_{chance.randrange(4)}",
        "workspace_id": f"wrkspc_{chance.randrange(3)}",
        "model": chance.choice(MODELS),
        "weights_id": "weights",
        "tier": chance.choice(("standard", "standard", "priority", "batch")),
        "dialect": "anthropic",
        "stream": False,
        "input_tokens": chance.choice((200_000, 200_001, 150_000)) if long else chance.randrange(3_000),
        "cache_write_5m_tokens": chance.choice((0, 0, chance.randrange(60_000))),
        "cache_write_1h_tokens": chance.choice((0, 0, 0, chance.randrange(5_000))),
        "cache_read_tokens": chance.choice((0, 0, chance.randrange(20_000))),
        "output_tokens": chance.randrange(1_000),
        "price_input": price,
        "price_cache_write_5m": price * 5 // 4,
        "price_cache_write_1h": price * 2,
        "price_cache_read": price // 10,
        "price_output": price * 5,
        "own_price_input": own_price,
        "own_price_output": own_price * 2,
    }
    return {**row, "cost": _rounded(parts(row)), "own_cost": _rounded(own_parts(row))}


def parts(row: Row) -> dict[str, int]:
    """Of the cost, by kind: millionths of a micro-dollar."""
    return {kind: row[f"{kind}_tokens"] * row[f"price_{kind}"] for kind in KINDS}


def own_parts(row: Row) -> dict[str, int]:
    prices = {kind: row["own_price_output" if kind == "output" else "own_price_input"] for kind in KINDS}
    return {kind: row[f"{kind}_tokens"] * prices[kind] for kind in KINDS}


def _rounded(amounts: Mapping[str, int]) -> int:
    return (sum(amounts.values()) + 500_000) // 1_000_000


def add(connection: Connection, some: Iterable[Row]) -> None:
    connection.execute(insert(ledger), [dict(row) for row in some])


def values(row: Row) -> dict[str, str]:
    """What a request can be grouped and filtered by."""
    prompt = sum(row[f"{kind}_tokens"] for kind in KINDS if kind != "output")
    return {
        "api_key_id": row["key_id"],
        "workspace_id": row["workspace_id"],
        "model": row["model"],
        "service_tier": row["tier"],
        "context_window": "200k-1M" if prompt > 200_000 else "0-200k",
    }


def matching(some: Iterable[Row], query: Query) -> list[Row]:
    return [
        row
        for row in some
        if row["settled_at"] is not None
        and query.start <= row["settled_at"] < query.end
        and all(values(row)[dimension] in wanted for dimension, wanted in query.only.items())
    ]


def added(some: Sequence[Row]) -> dict[str, Any]:
    """The sums of these requests."""
    return {
        "requests": len(some),
        "tokens": {kind: sum(row[f"{kind}_tokens"] for row in some) for kind in KINDS},
        "cost": sum(row["cost"] for row in some),
        "own_cost": sum(row["own_cost"] for row in some),
        "parts": {kind: sum(parts(row)[kind] for row in some) for kind in KINDS},
        "own_parts": {kind: sum(own_parts(row)[kind] for row in some) for kind in KINDS},
    }


def grouped(some: Iterable[Row], query: Query) -> dict[tuple[Any, ...], list[Row]]:
    """The requests of each bucket and group, in the order of reports: (start of the bucket, values...)."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in matching(some, query):
        bucket = row["settled_at"] - row["settled_at"] % query.width
        found.setdefault((bucket, *(values(row)[dimension] for dimension in sorted(query.by))), []).append(row)
    return {key: found[key] for key in sorted(found)}
