"""Sums of the ledger against the same sums in plain Python, on both databases."""

import random
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import pytest

from sestet.ledger.reports import WIDTHS_US, Dimension, Group, Query
from sestet.store.database import Database, StoreError, open_database
from sestet.store.reports import sums
from tests import reports_model as model
from tests.reports_model import DAY, DAYS, START
from tests.unit.store.rows import PRICES, add_request

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
GROUPINGS = [frozenset(some) for number in range(6) for some in combinations(DIMENSIONS, number)]
WHOLE = (START, START + DAYS * DAY)


def told(groups: list[Group], *, itemised: bool) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What was read, in the model's words."""
    found = []
    for group in groups:
        told = group.sums
        numbers = {
            "requests": told.requests,
            "tokens": told.tokens,
            "cost": told.cost.total,
            "own_cost": told.own_cost.total,
            **({"parts": told.cost.parts, "own_parts": told.own_cost.parts} if itemised else {}),
        }
        found.append(((group.starting_at, *(group.values[name] for name in sorted(group.values))), numbers))
    return found


def expected(rows: list[model.Row], query: Query) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    found = [(key, model.added(some)) for key, some in model.grouped(rows, query).items()]
    names = {"requests", "tokens", "cost", "own_cost", *(("parts", "own_parts") if query.itemised else ())}
    return [(key, {name: numbers[name] for name in numbers if name in names}) for key, numbers in found]


def check(database: Database, rows: list[model.Row], query: Query) -> None:
    groups = sums(database, query)

    assert expected(rows, query) == told(groups, itemised=query.itemised)
    assert [sorted(query.by)] * len(groups) == [sorted(group.values) for group in groups]


@pytest.fixture
def rows(database: Database) -> list[model.Row]:
    made = model.rows(300)
    with database.writing() as connection:
        model.add(connection, made)
    return made


def test_every_grouping_in_every_width_is_what_plain_python_adds_up(database: Database, rows: list[model.Row]) -> None:
    for by in GROUPINGS:
        for width in WIDTHS_US.values():
            check(database, rows, Query(*WHOLE, width, by))
            check(database, rows, Query(*WHOLE, width, by, itemised=True))


def queries(count: int) -> Iterator[Query]:
    chance = random.Random(7)
    known = {
        "api_key_id": [f"apikey_{number}" for number in range(5)],
        "workspace_id": [f"wrkspc_{number}" for number in range(4)],
        "model": [*model.MODELS, "'; drop table ledger; --"],
        "service_tier": ["standard", "priority", "batch"],
        "context_window": ["0-200k", "200k-1M"],
    }
    for _ in range(count):
        filtered = chance.sample(DIMENSIONS, chance.randrange(1, 4))
        only = {one: frozenset(chance.sample(known[one], chance.randrange(1, 3))) for one in filtered}
        width = chance.choice(list(WIDTHS_US.values()))
        start = START + chance.randrange(-DAY, DAYS * DAY) // width * width
        end = start + chance.randrange(1, 100) * width
        yield Query(start, end, width, chance.choice(GROUPINGS), only, chance.random() < 0.5)


def test_every_filter_leaves_in_what_plain_python_does(database: Database, rows: list[model.Row]) -> None:
    asked = list(queries(120))
    for query in asked:
        check(database, rows, query)

    assert 40 < sum(bool(model.matching(rows, query)) for query in asked) < 120


def test_parts_and_rounding_add_up_to_what_requests_cost(database: Database, rows: list[model.Row]) -> None:
    by: frozenset[Dimension] = frozenset(("model", "service_tier", "context_window"))
    groups = sums(database, Query(*WHOLE, DAY, by, itemised=True))
    costs = [group.sums.cost for group in groups]
    own_costs = [group.sums.own_cost for group in groups]
    settled = model.matching(rows, Query(*WHOLE, DAY))

    assert sum(row["cost"] for row in settled) * 1_000_000 == sum(
        sum(cost.parts.values()) + cost.rounding for cost in costs
    )
    assert sum(row["own_cost"] for row in settled) * 1_000_000 == sum(
        sum(cost.parts.values()) + cost.rounding for cost in own_costs
    )
    assert any(cost.rounding > 0 for cost in costs)
    assert any(cost.rounding < 0 for cost in costs)


def test_a_filter_without_values_leaves_nothing_in(database: Database, rows: list[model.Row]) -> None:
    assert [] == sums(database, Query(*WHOLE, DAY, only={"workspace_id": frozenset()}))


def test_a_request_counts_when_it_ended_however_it_ended(database: Database) -> None:
    with database.writing() as connection:
        for number, state in enumerate(("finished", "failed", "abandoned", "interrupted")):
            add_request(connection, f"req_{state}", state=state, settled_at=START + number, output_tokens=1)
        add_request(connection, "req_running", state="running", started_at=START, output_tokens=1)
        add_request(connection, "req_before", state="finished", settled_at=START - 1, output_tokens=1)
        add_request(connection, "req_after", state="finished", settled_at=START + DAY, output_tokens=1)
    groups = sums(database, Query(START, START + DAY, DAY))

    assert [(START, 4, 4)] == [
        (group.starting_at, group.sums.requests, group.sums.tokens["output"]) for group in groups
    ]


def test_sums_of_products_beyond_64_bits_are_exact(database: Database) -> None:
    prices = {name: 10_000_000_000 for name in PRICES}
    tokens = {f"{kind}_tokens": 100_000_000 for kind in model.KINDS}
    settled = {"state": "finished", "settled_at": START, "cost": 5_000_000_000_000, **prices, **tokens}
    with database.writing() as connection:
        for number in range(20):
            add_request(connection, f"req_{number}", **settled)
    [group] = sums(database, Query(START, START + DAY, DAY, itemised=True))

    assert dict.fromkeys(model.KINDS, 20 * 10**18) == group.sums.cost.parts
    assert dict.fromkeys(model.KINDS, 20 * 10**18) == group.sums.own_cost.parts
    assert 0 == group.sums.cost.rounding


def test_a_change_of_price_in_between_is_added_up_at_both(database: Database) -> None:
    with database.writing() as connection:
        settled = {"state": "finished", "settled_at": START, "output_tokens": 10}
        add_request(connection, "req_1", **settled, price_output=15_000_000, cost=150)
        add_request(connection, "req_2", **settled, price_output=75_000_001, cost=750)
    [group] = sums(database, Query(START, START + DAY, DAY, itemised=True))

    assert 900_000_010 == group.sums.cost.parts["output"]
    assert (900, -10) == (group.sums.cost.total, group.sums.cost.rounding)


def test_a_database_that_is_not_there_is_said(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(StoreError, match="there is no such database"):
        sums(database, Query(*WHOLE, DAY))
