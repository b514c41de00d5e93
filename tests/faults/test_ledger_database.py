"""The database goes away and comes back: what runs is finished, what is new is refused, no bill is lost (R22, R23).

And clocks that jump: no server that lives is taken for dead (R24)."""

import asyncio
import itertools
import resource
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import psycopg
import pytest

from sestet.store.answers import Answers, Claim
from sestet.store.database import Database
from sestet.store.servers import STALE_S, Servers, Swept
from tests.conftest import ServerFactory
from tests.databases import database, database_url, postgresql
from tests.fault_proxy import fault_proxy
from tests.faults.test_ledger_kills import write_lock
from tests.faults.wire import gauge, wait_for
from tests.ledger_check import Heard, Visit, check, number_of, visit, visits
from tests.running import RunningServer
from tests.unit.store.rows import add_request

__all__ = ["database", "database_url"]  # fixtures

RUNNING = 12
REFUSED_WITHIN_S = 0.1
BACK_WITHIN_S = 5.0
CONNECTIONS_MAX = 6

FAST, TICKS = 40, 200

SCRIPT = f"""
slots = 200

[[reply]]
when = "TICK"
say = ["tick "]
repeat = {TICKS}
tokens_per_s = 100

[[reply]]
when = "LONG"
say = ["long "]
repeat = 10000
tokens_per_s = 100

[[reply]]
say = ["fast "]
repeat = {FAST}
"""


@dataclass
class Traffic:
    """Short requests to one server, and all that was heard of them."""

    port: int
    told: list[Heard] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1_000))

    async def ask(self) -> Heard:
        heard = await visit(self.port, Visit(next(self.numbers), "FAST", FAST, stream=False))
        self.told.append(heard)
        return heard

    async def until(self, status: int, timeout_s: float) -> float:
        """Asks ten times a second until one is answered so; the seconds it took."""
        started = time.monotonic()
        asked: set[asyncio.Task[Heard]] = set()
        while status not in {one.result().status for one in asked if one.done()}:
            assert time.monotonic() - started < timeout_s, f"no {status} within {timeout_s} s"
            asked.add(asyncio.create_task(self.ask()))
            await asyncio.sleep(0.1)
        took_s = time.monotonic() - started
        await asyncio.gather(*asked)
        return took_s


Fault = Callable[[RunningServer], AbstractContextManager[None]]
Place = tuple[str, Fault]  # the URL of a database, and how it goes away


@contextmanager
def locked(folder: Path) -> Iterator[Place]:
    yield f"sqlite:///{folder / 'sestet.db'}", lambda _server: write_lock(folder / "sestet.db")


@contextmanager
def no_room(folder: Path) -> Iterator[Place]:
    """No file of the server grows any more: neither the database, nor the outbox, nor the log."""

    @contextmanager
    def full(server: RunningServer) -> Iterator[None]:
        pids = [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
        yield
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    yield f"sqlite:///{folder / 'sestet.db'}", full


@contextmanager
def stopped(_folder: Path, how: signal.Signals = signal.SIGINT) -> Iterator[Place]:
    database = postgresql()

    @contextmanager
    def away(_server: RunningServer) -> Iterator[None]:
        database.stop(how)
        try:
            yield
        finally:
            database.start()

    yield database.fresh(), away


def crashed(folder: Path) -> AbstractContextManager[Place]:
    return stopped(folder, signal.SIGQUIT)


@contextmanager
def swallowed(_folder: Path) -> Iterator[Place]:
    """Connections that stay, and through which nothing comes."""
    database = postgresql()
    with fault_proxy(database.port) as proxy:

        @contextmanager
        def away(_server: RunningServer) -> Iterator[None]:
            proxy.swallow()
            yield
            proxy.pass_on()

        yield database.fresh().replace(f":{database.port}/", f":{proxy.port}/"), away


FAULTS = (locked, no_room, stopped, crashed, swallowed)


def lost(found_in: str, told: list[Heard]) -> list[int]:
    """Requests that were finished and have no bill for it, and bills that nobody got anything for."""
    billed = sorted(number_of(row) for row in check(found_in) if row["state"] == "finished")
    finished = sorted(heard.visit.number for heard in told if heard.finished)
    return sorted(set(billed) ^ set(finished)) + [one for one, two in itertools.pairwise(billed) if one == two]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_runs_is_finished_what_is_new_is_refused(
    serve: ServerFactory, tmp_path: Path, fault: Callable[[Path], AbstractContextManager[Place]]
) -> None:
    with fault(tmp_path) as (url, down):
        server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n')
        traffic = Traffic(server.port)
        running = [Visit(number, "TICK", TICKS, number % 3 != 0) for number in range(RUNNING)]

        async def all_of_it() -> tuple[list[Heard], float]:
            begun = asyncio.create_task(visits(server.port, running, RUNNING))
            await asyncio.to_thread(wait_for, server, "sestet_ledger_running", float(RUNNING), 10)
            await traffic.ask()
            with down(server):
                await traffic.until(529, 8)
                refused = [await traffic.ask() for _ in range(9)]
                async with asyncio.timeout(20):
                    finished = await begun
            back_s = await traffic.until(200, 30)
            traffic.told += finished
            return refused, back_s

        refused, back_s = asyncio.run(all_of_it())
        wait_for(server, "sestet_ledger_backlog", 0.0, 10)
        wait_for(server, "sestet_ledger_running", 0.0, 10)
        server.stop()

        assert [529] * 9 == [heard.status for heard in refused]
        assert statistics.median(heard.lasted_s for heard in refused) < REFUSED_WITHIN_S
        assert {200, 529} == {heard.status for heard in traffic.told}
        assert [] == [one for one in traffic.told if one.finished and one.output_tokens != one.visit.tokens]
        assert set(range(RUNNING)) <= {heard.visit.number for heard in traffic.told if heard.finished}
        assert [] == lost(url, traffic.told)
        assert back_s < BACK_WITHIN_S


@pytest.mark.slow
def test_where_it_is_wanted_requests_are_served_meanwhile_and_billed_afterwards(
    serve: ServerFactory, tmp_path: Path
) -> None:
    with crashed(tmp_path) as (url, down):
        server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\nwhen_down = "serve"\n')
        traffic = Traffic(server.port)
        with down(server):
            asyncio.run(traffic.until(200, 5))
            wait_for(server, "sestet_ledger_running", 0.0, 10)
            waiting = gauge(server, "sestet_ledger_backlog")
        wait_for(server, "sestet_ledger_backlog", 0.0, BACK_WITHIN_S)

        assert waiting > 0
        assert {200} == {heard.status for heard in traffic.told}
        assert [] == lost(url, traffic.told)


@pytest.mark.slow
def test_who_is_killed_while_it_is_down_is_read_back_at_the_next_start(serve: ServerFactory, tmp_path: Path) -> None:
    with crashed(tmp_path) as (url, down):
        server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n')
        running = [Visit(number, "TICK", TICKS, number % 3 != 0) for number in range(RUNNING)]
        longer = [Visit(100 + number, "LONG", 10_000) for number in range(RUNNING)]

        async def all_of_it() -> tuple[list[Heard], list[Heard]]:
            finishing = asyncio.create_task(visits(server.port, running, RUNNING))
            cut = asyncio.create_task(visits(server.port, longer, RUNNING))
            await asyncio.to_thread(wait_for, server, "sestet_ledger_running", 2.0 * RUNNING, 10)
            with down(server):
                finished = await finishing
                await asyncio.sleep(1)
                server.process.kill()
                return finished, await cut

        finished, cut = asyncio.run(all_of_it())
        serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n').stop()
        billed = {number_of(row): row["output_tokens"] for row in check(url) if row["state"] == "interrupted"}
        deltas = {heard.visit.number: heard.deltas for heard in cut}

        assert [] == lost(url, finished)
        assert deltas.keys() == billed.keys()
        assert [] == [number for number in billed if not deltas[number] - 100 <= billed[number] <= deltas[number] + 2]
        assert [] == sorted((tmp_path / "sestet" / "outbox").glob("*.jsonl"))


def connections(url: str) -> int:
    """How many the server has to its database."""
    with psycopg.connect(url) as connection:
        statement = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()"
        (count,) = connection.execute(statement).fetchone() or (0,)
        return int(count)


@pytest.mark.slow
def test_connections_that_are_ended_cost_nobody_anything(serve: ServerFactory, tmp_path: Path) -> None:
    url = postgresql().fresh()
    server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n')
    traffic = Traffic(server.port)
    running = [Visit(number, "TICK", TICKS, number % 3 != 0) for number in range(RUNNING)]

    async def all_of_it() -> list[float]:
        begun = asyncio.create_task(visits(server.port, running, RUNNING))
        back_s = []
        for _ in range(5):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            back_s.append(await traffic.until(200, 30))
        traffic.told += await begun
        return back_s

    back_s = asyncio.run(all_of_it())
    wait_for(server, "sestet_ledger_backlog", 0.0, BACK_WITHIN_S)

    assert [] == [seconds for seconds in back_s if seconds > BACK_WITHIN_S]
    assert set(range(RUNNING)) <= {heard.visit.number for heard in traffic.told if heard.finished}
    assert [] == lost(url, traffic.told)
    assert connections(url) <= CONNECTIONS_MAX


HOUR_US = 3_600_000_000
JUMPS_US = (HOUR_US, -HOUR_US, 40 * 24 * HOUR_US, -40 * 24 * HOUR_US)


@pytest.mark.parametrize("jump_us", JUMPS_US)
def test_whose_clock_jumps_takes_nobody_for_dead(database: Database, tmp_path: Path, jump_us: int) -> None:
    """The other server is elsewhere, so that only its heartbeat tells that it lives."""
    now = time.time_ns() // 1_000
    claim = Claim("wrkspc_default", "key", "digest", "req_1")
    with database.writing() as connection:
        add_request(connection, "req_1", server_id="server_other", started_at=now)
    Servers(database, "server_other", tmp_path / "other").register(now)
    Answers(database, "server_other").claim(claim, now)
    ours = Servers(database, "server_ours", tmp_path / "ours")
    ours.register(now + jump_us)
    swept = []
    for at in (now, now + jump_us, now + 2 * jump_us):
        ours.beat(at)
        swept.append(ours.sweep(at))

    assert [Swept(0, 0)] * 3 == swept
    assert "running" == Answers(database, "server_ours").claim(claim, now + jump_us).outcome


def test_who_is_elsewhere_and_has_not_been_heard_of_for_long_is_taken_for_dead(
    database: Database, tmp_path: Path
) -> None:
    """Its request is closed, and whoever asked for it may ask again."""
    now, seconds = time.time_ns() // 1_000, [0.0]
    claim = Claim("wrkspc_default", "key", "digest", "req_1")
    with database.writing() as connection:
        add_request(connection, "req_1", server_id="server_other", started_at=now)
    Servers(database, "server_other", tmp_path / "other").register(now)
    Answers(database, "server_other").claim(claim, now)
    ours = Servers(database, "server_ours", tmp_path / "ours", lambda: seconds[-1])
    ours.register(now)
    swept = []
    for at in (0.0, 8.0, 16.0, STALE_S, STALE_S + 1):
        seconds.append(at)
        ours.beat(now)
        swept.append(ours.sweep(now))

    assert [*[Swept(0, 0)] * 4, Swept(1, 0)] == swept
    assert "claimed" == Answers(database, "server_ours").claim(replace(claim, request_id="req_2"), now).outcome
