"""Limits that several servers count together: the answers of one limiter, nothing lost, nobody locked out."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Row, delete, select, text

from sestet.contract.errors import ApiError
from sestet.gate.limits import Decision, Kind, Limiter, Limits, Place, ScopeLimiter
from sestet.store.database import Database, open_database
from sestet.store.meters import ANSWER_S, FLUSH_S, Ask, Batch, Meters, SharedMeters
from sestet.store.tables import meters
from tests.databases import postgresql

SECOND, MINUTE, HOUR = 1_000_000, 60_000_000, 3_600_000_000
START = 1_800_000_000_000_000
TOKEN = 60 * 10**9  # parts of a token, as gate/limits.py has it

OURS, THEIRS, ORGANIZATION, FIRST = ("ours", "large"), ("theirs", "large"), ("", "large"), ("ours", "")

# The database's clock as a test sets it; it is found before the real one.
CLOCK = """
CREATE TABLE clock (us bigint NOT NULL);
INSERT INTO clock VALUES (1800000000000000);
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT to_timestamp(0) + us * interval ''1 microsecond'' FROM clock';
"""


class Clocked:
    """A PostgreSQL whose clock stands still until it is turned; servers of it have a connection pool each."""

    def __init__(self) -> None:
        self.url = f"{postgresql().fresh()}?options=-csearch_path%3Dpublic,pg_catalog"
        self._opened: list[Database] = []
        self.database = self.open()
        self.database.upgrade()
        with self.connect() as connection:
            connection.execute(CLOCK.encode())

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.url, autocommit=True)

    def open(self) -> Database:
        self._opened.append(open_database(self.url))
        return self._opened[-1]

    def turn(self, now_us: int) -> None:
        with self.database.writing() as connection:
            connection.execute(text("UPDATE clock SET us = :now_us"), {"now_us": now_us})

    def rows(self) -> list[Row[tuple[str, str, str, int, int]]]:
        with self.database.reading() as connection:
            return list(connection.execute(select(meters).order_by(*meters.primary_key)))

    def used(self, place: Place, kind: Kind) -> float:
        """Tokens that are missing to full."""
        found = {(row.workspace_id, row.model_class): json.loads(row.levels) for row in self.rows()}
        capacity, level = found[place][kind]
        return float(capacity - level / TOKEN)

    def close(self) -> None:
        for database in self._opened:
            database.close()


@pytest.fixture(scope="module")
def shared_clocked() -> Iterator[Clocked]:
    with closing(Clocked()) as clocked:
        yield clocked


@pytest.fixture
def clocked(shared_clocked: Clocked) -> Clocked:
    with shared_clocked.database.writing() as connection:
        connection.execute(delete(meters))
    shared_clocked.turn(START)
    return shared_clocked


def limiter(
    workspace: Limits | None = None,
    organization: Limits | None = None,
    priority: Limits | None = None,
    name: str = "ours",
    model_class: str = "large",
) -> Limiter:
    """What one server knows of a workspace's buckets."""
    return Limiter(
        ScopeLimiter(workspace or Limits(), (name, model_class)),
        ScopeLimiter(organization or Limits(), ("", model_class)),
        ScopeLimiter(priority or Limits(), (name, "")),
    )


@asynccontextmanager
async def server(clocked: Clocked, *, serve_when_down: bool = False) -> AsyncIterator[SharedMeters]:
    """One of the servers; it stops as servers do."""
    one = SharedMeters(Meters(clocked.open()), serve_when_down=serve_when_down)
    yield one
    await one.stop()


async def take(one: SharedMeters, of: Limiter, input_tokens: int = 1) -> Decision:
    return await one.take(of, input_tokens, priority=False)


async def refusal_of(one: SharedMeters, of: Limiter) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await take(one, of)
    return refused.value


async def until(holds: Callable[[], bool]) -> float:
    """The seconds it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < 20
        await asyncio.sleep(0.02)
    return time.monotonic() - started


# The same answers as one limiter in memory.

CAPACITIES = st.one_of(st.none(), st.integers(1, 60), st.just(10**10))
LIMITS = st.builds(Limits, requests=CAPACITIES, input_tokens=CAPACITIES, output_tokens=CAPACITIES)
PRIORITY = st.builds(Limits, requests=st.none(), input_tokens=CAPACITIES, output_tokens=CAPACITIES)
FOUR = st.tuples(LIMITS, LIMITS, LIMITS, PRIORITY)
ONWARD = st.one_of(
    st.integers(0, 3 * SECOND), st.integers(0, 2 * MINUTE), st.sampled_from([0, -1, -SECOND, -HOUR, HOUR])
)
STEPS = st.lists(
    st.tuples(st.sampled_from([OURS, OURS, THEIRS]), ONWARD, st.integers(0, 80), st.integers(0, 80), st.booleans()),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=FOUR, after=FOUR, changed_at=st.integers(0, 12), steps=STEPS)
def test_every_answer_is_that_of_one_limiter_in_memory(
    clocked: Clocked,
    before: tuple[Limits, ...],
    after: tuple[Limits, ...],
    changed_at: int,
    steps: list[tuple[Place, int, int, int, bool]],
) -> None:
    """Also when limits change and when the clock is set back."""
    with clocked.database.writing() as connection:
        connection.execute(delete(meters))
    places = (OURS, THEIRS, ORGANIZATION, FIRST)
    alone = {place: ScopeLimiter(limits, place) for place, limits in zip(places, before, strict=True)}
    rows, limits, now_us = Meters(clocked.database), dict(zip(places, before, strict=True)), START
    for number, (place, onward, output_tokens, input_tokens, priority) in enumerate(steps):
        now_us += onward
        clocked.turn(now_us)
        now = now_us / 1e6
        if number == changed_at:
            limits = dict(zip(places, after, strict=True))
            for each, scope in alone.items():
                scope.change(limits[each], now)
        for scope in alone.values():
            scope.levels(now)  # only who looks at the clock can notice that it went back
            scope.spend("output_tokens", output_tokens, now)
        first = FIRST if place == OURS else ("theirs", "")
        expected = Limiter(alone[place], alone[ORGANIZATION], alone.get(first)).decide(
            input_tokens, now, priority=priority
        )
        outcome = rows.settle(
            Batch(
                {each: limits[each] for each in places if limits[each] != Limits()},
                {each: {"output_tokens": output_tokens} for each in places},
                [Ask((place, ORGANIZATION, first), input_tokens, priority)],
            )
        )

        assert [expected] == outcome.decisions


def test_a_batch_is_decided_in_its_order_after_what_was_used(clocked: Clocked) -> None:
    asks = [Ask((OURS, ORGANIZATION, FIRST), tokens, priority=False) for tokens in (30, 30, 20)]
    outcome = Meters(clocked.database).settle(
        Batch({OURS: Limits(input_tokens=60)}, {OURS: {"input_tokens": 10}}, asks)
    )

    assert [True, False, True] == [decision.refusal is None for decision in outcome.decisions]
    assert {OURS: {"input_tokens": (60, 0)}} == outcome.levels


# Several servers.


@pytest.mark.parametrize("servers", [4])
def test_nothing_that_servers_count_at_once_is_lost_and_nobody_waits_for_ever(clocked: Clocked, servers: int) -> None:
    """The clock stands still, so every token must be found again; the rows are made in the same rush."""
    chance = random.Random(14)
    names, classes = ("a", "b", "c"), ("large", "small")
    everything = Limits(10**6, 10**6, 10**6)
    asks = [
        (chance.choice(names), chance.choice(classes), chance.randint(1, 9), chance.randint(0, 9)) for _ in range(240)
    ]

    async def client(
        one: SharedMeters, of: dict[tuple[str, str], Limiter], asked: list[tuple[str, str, int, int]]
    ) -> None:
        for name, model_class, input_tokens, output_tokens in asked:
            decision = await one.take(of[name, model_class], input_tokens, priority=True)
            assert (None, "priority") == (decision.refusal, decision.tier)
            one.produced(of[name, model_class], output_tokens, "priority")
            one.ended(of[name, model_class])

    async def part(number: int) -> None:
        every = itertools.product(names, classes)
        shared = {model_class: ScopeLimiter(everything, ("", model_class)) for model_class in classes}
        first = {name: ScopeLimiter(Limits(None, 10**6, 10**6), (name, "")) for name in names}
        of = {
            (name, model_class): Limiter(
                ScopeLimiter(everything, (name, model_class)), shared[model_class], first[name]
            )
            for name, model_class in every
        }
        async with server(clocked) as one:
            mine = asks[number::servers]
            await asyncio.gather(*(client(one, of, mine[start::6]) for start in range(6)))

    async def all_parts() -> None:
        await asyncio.gather(*(part(number) for number in range(servers)))

    asyncio.run(all_parts())
    places = [*itertools.product(names, classes), *itertools.product([""], classes), *itertools.product(names, [""])]
    wanted = {place: [0.0, 0.0, 0.0] for place in places}
    for name, model_class, input_tokens, output_tokens in asks:
        for place, requests in {(name, model_class): 1, ("", model_class): 1, (name, ""): 0}.items():
            for kind, amount in enumerate((requests, input_tokens, output_tokens)):
                wanted[place][kind] += amount
    found = {
        place: [
            clocked.used(place, kind) if place[1] or kind != "requests" else 0.0
            for kind in ("requests", "input_tokens", "output_tokens")
        ]
        for place in places
    }

    assert wanted == {place: [round(amount, 6) for amount in amounts] for place, amounts in found.items()}


def test_who_waits_for_anothers_new_row_holds_nothing_that_the_other_may_wait_for(clocked: Clocked) -> None:
    rows, limits = Meters(clocked.database), dict.fromkeys((OURS, THEIRS), Limits(requests=60))
    ask = Ask((OURS, THEIRS, FIRST), 1, priority=False)
    rows.settle(Batch({OURS: limits[OURS]}, {}, [ask]))
    with closing(psycopg.connect(clocked.url)) as other, ThreadPoolExecutor() as pool:
        other.execute("INSERT INTO meters VALUES ('theirs', 'large', '{}', 0, 0)")
        waits = pool.submit(rows.settle, Batch(limits, {}, [ask]))
        while not other.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            assert not waits.done()
        found = other.execute("SELECT FROM meters WHERE workspace_id = 'ours' FOR UPDATE NOWAIT").fetchall()
        other.commit()
        outcome = waits.result(20)

    assert [()] == found
    assert [None] == [decision.refusal for decision in outcome.decisions]
    assert 2 == clocked.used(OURS, "requests")


def test_what_waited_for_another_one_counts_from_the_end_of_its_waiting(clocked: Clocked) -> None:
    """Earlier, the time that the other one has refilled already would be refilled again."""
    rows, limits = Meters(clocked.database), dict.fromkeys((OURS, THEIRS), Limits(requests=60))
    rows.settle(Batch(limits, {}, []))
    with closing(psycopg.connect(clocked.url)) as other, ThreadPoolExecutor() as pool:
        other.execute("SELECT FROM meters WHERE workspace_id = 'theirs' FOR UPDATE")
        waits = pool.submit(rows.settle, Batch(limits, {}, []))
        while not other.execute("SELECT FROM pg_locks WHERE NOT granted").fetchall():
            assert not waits.done()
        clocked.turn(START + 10 * SECOND)
        other.commit()
        waits.result(20)

    assert [START + 10 * SECOND] * 2 == [row.at for row in clocked.rows()]


def test_output_is_told_to_the_other_servers_within_the_second_and_when_a_request_ends(clocked: Clocked) -> None:
    async def run() -> tuple[list[float], list[bool]]:
        async with server(clocked) as here, server(clocked) as there:
            ours, theirs = limiter(Limits(output_tokens=100)), limiter(Limits(output_tokens=100))
            await take(here, ours)
            here.produced(ours, 60, "standard")
            await until(lambda: clocked.used(OURS, "output_tokens") == 60)
            let_in = [(await take(there, theirs)).refusal is None]
            took_s = []
            for in_all in range(70, 111, 10):
                here.produced(ours, 10, "standard")
                here.ended(ours)
                took_s.append(await until(lambda: clocked.used(OURS, "output_tokens") == in_all))  # noqa: B023 - awaited
            let_in.append((await take(there, theirs)).refusal is None)
        return took_s, let_in

    took_s, let_in = asyncio.run(run())

    assert min(took_s) < FLUSH_S
    assert [True, False] == let_in


def test_a_server_that_starts_again_goes_on_where_it_was(clocked: Clocked) -> None:
    async def left() -> int:
        async with server(clocked) as one:
            decision = await take(one, limiter(Limits(input_tokens=100)), 30)
        return decision.states[0].remaining

    assert [70, 40, 10, 10] == [asyncio.run(left()) for _ in range(4)]


def test_limits_that_change_on_one_server_before_the_other_keep_their_proportion(clocked: Clocked) -> None:
    async def run() -> list[int]:
        async with server(clocked) as here, server(clocked) as there:
            ours, theirs = limiter(Limits(input_tokens=100)), limiter(Limits(input_tokens=100))
            decisions = [await take(here, ours, 50)]
            ours.scopes[0].change(Limits(input_tokens=10), time.monotonic())
            decisions += [await take(here, ours, 1), await take(there, theirs, 1), await take(here, ours, 1)]
        return [decision.states[0].remaining for decision in decisions]

    assert [50, 4, 39, 2] == asyncio.run(run())


def test_what_was_refused_is_refused_without_the_database_and_not_told_to_come_too_early(clocked: Clocked) -> None:
    async def run() -> tuple[float, float, bool]:
        async with server(clocked) as one:
            ours = limiter(Limits(requests=1))
            await take(one, ours)
            let_in = one.check(limiter(Limits(requests=1)), time.monotonic()) is None
            told = await take(one, ours)
            with locked(clocked):
                known = one.check(ours, time.monotonic())
            assert told.refusal is not None
            assert known is not None
        return told.refusal.retry_after_s, known.retry_after_s, let_in

    exact, known, let_in = asyncio.run(run())

    assert let_in
    assert 60 == exact
    assert 50 < known < 70


# The database does not answer, or nobody waits for its answer.


@contextmanager
def locked(clocked: Clocked) -> Iterator[None]:
    """Somebody holds every row and does not let go."""
    with closing(psycopg.connect(clocked.url)) as connection:
        connection.execute("SELECT * FROM meters FOR UPDATE")
        yield


def test_what_was_taken_for_nobody_is_given_back(clocked: Clocked) -> None:
    async def run() -> ApiError:
        async with server(clocked) as one:
            ours = limiter(Limits(60, 600, 600), Limits(60, 600, 600))
            await take(one, ours, 100)
            with locked(clocked):
                left = asyncio.create_task(take(one, ours, 100))
                refused = asyncio.create_task(refusal_of(one, ours))
                await asyncio.sleep(0.1)
                left.cancel()
                error = await refused
                at_once = await refusal_of(one, ours)
            await asyncio.gather(left, return_exceptions=True)
            assert error.message == at_once.message
        return error

    error = asyncio.run(run())

    assert ("overloaded_error", 529) == (error.kind, error.status)
    assert [1, 100, 1, 100] == [
        clocked.used(place, kind) for place in (OURS, ORGANIZATION) for kind in ("requests", "input_tokens")
    ]


def test_who_leaves_before_the_transaction_begins_has_taken_nothing_and_holds_nobody_up(clocked: Clocked) -> None:
    async def run() -> Decision:
        async with server(clocked) as one:
            ours = limiter(Limits(requests=2))
            left = asyncio.create_task(take(one, ours))
            await asyncio.sleep(0)
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            await asyncio.sleep(ANSWER_S + 0.1)  # by then it would be held for one that does not answer
            return await take(one, ours)

    assert [1] == [state.remaining for state in asyncio.run(run()).states]


def test_while_the_database_is_away_who_serves_all_the_same_goes_by_what_was_last_known(clocked: Clocked) -> None:
    async def run() -> list[bool]:
        async with server(clocked, serve_when_down=True) as one:
            ours = limiter(Limits(requests=3, output_tokens=100))
            let_in = [(await take(one, ours)).refusal is None]
            one.produced(ours, 10, "standard")
            postgresql().stop()
            try:
                let_in += [(await take(one, ours)).refusal is None for _ in range(3)]
                one.produced(ours, 20, "standard")
                one.ended(ours)
            finally:
                postgresql().start()
            await until(lambda: clocked.used(OURS, "output_tokens") >= 30)
        return let_in

    assert [True, True, True, False] == asyncio.run(run())
    assert (3, 30) == (clocked.used(OURS, "requests"), clocked.used(OURS, "output_tokens"))


def test_while_the_database_is_away_requests_are_refused_and_what_was_used_is_kept(clocked: Clocked) -> None:
    async def run() -> tuple[ApiError, bool]:
        async with server(clocked) as one:
            ours = limiter(Limits(output_tokens=100))
            await take(one, ours)
            postgresql().stop()
            try:
                one.produced(ours, 40, "standard")
                error = await refusal_of(one, ours)
                one.produced(ours, 80, "standard")
            finally:
                postgresql().start()
            await until(lambda: clocked.used(OURS, "output_tokens") >= 120)
            return error, (await take(one, ours)).refusal is None

    error, let_in = asyncio.run(run())

    assert ("overloaded_error", 529, "limits cannot be counted at the moment", 1.0) == (
        error.kind,
        error.status,
        error.message,
        error.retry_after_s,
    )
    assert not let_in


# What says nothing any more.


def test_rows_are_forgotten_an_hour_after_they_were_full_and_not_while_somebody_holds_them(clocked: Clocked) -> None:
    rows = Meters(clocked.database)
    used: dict[Place, dict[Kind, int]] = {OURS: {"requests": 30}, THEIRS: {"requests": 60 * 60}}
    rows.settle(Batch(dict.fromkeys(used, Limits(requests=60)), used, []))
    left = []
    for now_us in (START + 30 * SECOND + HOUR, START + 30 * SECOND + HOUR + 1, START + HOUR + HOUR + 1):
        clocked.turn(now_us)
        with locked(clocked):
            rows.forget()
            held = len(clocked.rows())
        rows.forget()
        left.append((held, [row.workspace_id for row in clocked.rows()]))

    assert [(2, ["ours", "theirs"]), (2, ["theirs"]), (1, [])] == left
