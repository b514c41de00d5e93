"""Rows of the ledger for tests of the store: everything that has no default, and what the test says otherwise."""

from typing import Any

from sqlalchemy import Connection, insert

from sestet.store.tables import daily_spend, ledger

PRICES = {
    "price_input": 3_000_000,
    "price_cache_write_5m": 3_750_000,
    "price_cache_write_1h": 6_000_000,
    "price_cache_read": 300_000,
    "price_output": 15_000_000,
    "own_price_input": 0,
    "own_price_output": 0,
}
ORDINARY = {
    "state": "running",
    "started_at": 1,
    "server_id": "srv_1",
    "key_id": "apikey_1",
    "workspace_id": "wrkspc_default",
    "model": "claude-sonnet-4-20250514",
    "weights_id": "weights",
    "tier": "standard",
    "dialect": "anthropic",
    "stream": False,
    **PRICES,
}


def add_request(connection: Connection, request_id: str, **fields: Any) -> None:
    connection.execute(insert(ledger).values({**ORDINARY, "request_id": request_id, **fields}))


def add_day(connection: Connection, day: int, cost: int, own_cost: int = 0) -> None:
    connection.execute(insert(daily_spend).values(workspace_id="wrkspc_default", day=day, cost=cost, own_cost=own_cost))
