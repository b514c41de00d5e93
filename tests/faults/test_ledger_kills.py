"""A server that is killed loses no bill, and bills nobody twice (R06)."""

import asyncio
import itertools
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.conftest import ServerFactory
from tests.databases import KINDS, Kind, fresh_url
from tests.faults.wire import wait_for
from tests.ledger_check import Heard, Row, Visit, check, number_of, rows, visit
from tests.lengths import length
from tests.running import RunningServer

KILLS = length(2, 100)  # of each kind of database
SERVERS = length(2, 4)  # at once
LONGS = 9  # of each server, that are killed in the middle
LOST_AT_MOST_S = 2.0  # on a busy machine; on a quiet one it is to be half of that

LONG_PER_S = 100
FAST = 40

SCRIPT = f"""
slots = 200

[[reply]]
when = "LONG"
say = ["long "]
repeat = 1000
tokens_per_s = {LONG_PER_S}

[[reply]]
when = "LATE"
say = ["late"]
delay_s = 60

[[reply]]
say = ["fast "]
repeat = {FAST}
"""


async def until_killed(server: RunningServer, numbers: Iterator[int], chance: random.Random) -> list[Heard]:
    """Long replies, and beside them short ones one after another, until the server dies under them."""

    async def short_ones() -> list[Heard]:
        told = []
        while server.process.poll() is None:
            await asyncio.sleep(0.02)
            told.append(await visit(server.port, Visit(next(numbers), "FAST", FAST, chance.random() < 0.6)))
        return told

    async def long_one() -> list[Heard]:
        await asyncio.sleep(chance.uniform(0.0, 0.8))
        return [await visit(server.port, Visit(next(numbers), "LONG", 1_000, chance.random() < 0.8))]

    async def killer() -> list[Heard]:
        await asyncio.sleep(chance.uniform(0.2, 4.0))
        server.process.kill()
        await asyncio.to_thread(server.process.wait)
        return []

    told = await asyncio.gather(killer(), short_ones(), short_ones(), *(long_one() for _ in range(LONGS)))
    return list(itertools.chain.from_iterable(told))


def expected(heard: Heard) -> range:
    """A stream is billed as far as it was heard, a token on the way and a second's worth aside; of a whole reply only
    the time is known."""
    if heard.finished:
        return range(heard.visit.tokens, heard.visit.tokens + 1)
    if heard.visit.word == "FAST":
        return range(FAST + 1)
    lost = round(LOST_AT_MOST_S * LONG_PER_S)
    if heard.visit.stream:
        return range(max(0, heard.deltas - lost), heard.deltas + 3)
    return range(round(heard.lasted_s * LONG_PER_S) + 3)


def phase(heard: Heard) -> str:
    """Where the kill found this request."""
    if heard.finished:
        return "finished"
    return "before the first byte" if not heard.data else "in the middle"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_loses_no_bill_and_bills_nobody_twice(serve: ServerFactory, tmp_path: Path, kind: Kind) -> None:
    chance = random.Random(6)
    numbers = itertools.count()
    told: list[Heard] = []
    # PostgreSQL has all servers on one database. A file of SQLite is for one at a time, so there each has its own.
    places = [tmp_path / f"{number if kind == 'sqlite' else 0}" for number in range(SERVERS)]
    for place in set(places):
        place.mkdir()
    urls = {place: fresh_url(kind, place) for place in set(places)}

    def start(place: Path) -> RunningServer:
        store = f'[store]\nurl = "{urls[place]}"\noutbox = "{place}"\n'
        return serve(script=SCRIPT, config=f'{store}[log]\nlevel = "warning"\n')

    async def killed(servers: list[RunningServer]) -> None:
        for heard in await asyncio.gather(*(until_killed(server, numbers, chance) for server in servers)):
            told.extend(heard)

    for _ in range(KILLS // SERVERS):
        with ThreadPoolExecutor(SERVERS) as starters:
            asyncio.run(killed(list(starters.map(start, places))))
    for place in urls:
        start(place).stop()
    found = [row for url in urls.values() for row in check(url)]
    bills: dict[int, Row] = {number_of(row): row for row in found}
    phases = Counter(map(phase, told))
    assert [] == [heard for heard in told if heard.status == 200 and heard.visit.number not in bills]
    short = [heard.deltas - bills[heard.visit.number]["output_tokens"] for heard in told if heard.status == 200]
    print(f"{phases}, {Counter(row['state'] for row in found)}; at most {max(short)} tokens short")

    assert [] == [number for number, times in Counter(map(number_of, found)).items() if times > 1]
    assert {"finished", "interrupted"} == {row["state"] for row in found}
    assert [] == [heard for heard in told if heard.finished and bills[heard.visit.number]["state"] != "finished"]
    assert [] == [
        (heard.deltas, heard.lasted_s, row)
        for heard in told
        if (row := bills.get(heard.visit.number)) is not None and row["output_tokens"] not in expected(heard)
    ]
    assert {"before the first byte", "in the middle", "finished"} == phases.keys()


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Another program writes to the file meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.parametrize(("word", "after_s"), [("LONG", 0.4), ("LATE", 2.5)])
def test_no_byte_leaves_before_the_request_is_written_down(
    serve: ServerFactory, tmp_path: Path, word: str, after_s: float
) -> None:
    """What waits for the database must not have been heard of: a kill would make it a request that never was. `LATE`
    says nothing for so long that its stream would be opened for its silence."""
    url = fresh_url("sqlite", tmp_path)
    server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n')

    async def killed_while_waiting() -> Heard:
        waiting = asyncio.create_task(visit(server.port, Visit(1, word, 1_000)))
        await asyncio.to_thread(wait_for, server, "sestet_ledger_running", 1.0, 10)
        await asyncio.sleep(after_s)
        server.process.kill()
        return await waiting

    with write_lock(tmp_path / "sestet.db"):
        heard = asyncio.run(killed_while_waiting())
        server.wait(10)
    restarted = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n')
    restarted.stop()

    assert b"" == heard.data or [1] == [number_of(row) for row in check(url)]


def test_a_bill_waits_for_its_day(serve: ServerFactory, tmp_path: Path) -> None:
    """A row and the sum that it is part of are one transaction: where the one cannot be written, the other is not."""
    url = fresh_url("sqlite", tmp_path)
    server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n')

    def rename(before: str, after: str) -> None:
        with closing(sqlite3.connect(tmp_path / "sestet.db", isolation_level=None)) as connection:
            connection.execute(f"ALTER TABLE {before} RENAME TO {after}")

    asyncio.run(visit(server.port, Visit(1, "FAST", FAST)))
    rename("daily_spend", "elsewhere")
    heard = asyncio.run(visit(server.port, Visit(2, "FAST", FAST)))
    settled = [number_of(row) for row in rows(url) if row["state"] == "finished"]
    rename("elsewhere", "daily_spend")
    wait_for(server, "sestet_ledger_backlog", 0.0, 5)

    assert heard.finished
    assert [1] == settled
    assert [(1, "finished"), (2, "finished")] == [(number_of(row), row["state"]) for row in check(url)]
