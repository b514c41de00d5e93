"""A request that comes again with its `Idempotency-Key` is answered once and billed once, to whichever server it comes
and whichever of them is killed in between (R07)."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import func, select

from sestet.store.database import open_database
from sestet.store.tables import servers
from tests.conftest import ServerFactory
from tests.databases import KINDS, Kind, fresh_url
from tests.faults.wire import gauge
from tests.ledger_check import Visit, check, number_of, rows
from tests.lengths import SOAK, length
from tests.running import RunningServer

REPLICAS: dict[Kind, int] = {"sqlite": 1, "postgresql": 2}  # a file of SQLite is for one server at a time
AT_ONCE = 100
KEYS, CLIENTS_OF_A_KEY = length(20, 40), 3
SWEPT_WITHIN_S = 20.0  # servers of one machine look every 5 s for dead ones
SWEPT_ELSEWHERE_WITHIN_S = 60.0  # and take those of another one for dead after 20 s

FAST, TICKS = 40, 50

QUICK = f"""
slots = 200

[[reply]]
when = "TICK"
say = ["tick "]
repeat = {TICKS}
tokens_per_s = 100

[[reply]]
say = ["fast "]
repeat = {FAST}
"""

# Who asks it for something long waits until it is killed.
SLOW = f"""{QUICK.partition("[[")[0]}
[[reply]]
when = "LONG"
say = ["long "]
repeat = 10000
tokens_per_s = 20

[[reply]]{QUICK.partition("[[reply]]")[2]}"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client heard. Status 0: nothing, the server died."""

    status: int
    body: bytes = b""
    replayed: bool = False


async def ask(client: httpx2.AsyncClient, server: RunningServer, number: int, word: str = "FAST") -> Answer:
    """Once. Each number is another request, with a key of its own."""
    body = Visit(number, word, FAST, stream=False).payload.partition(b"\r\n\r\n")[2]
    headers = {"content-type": "application/json", "idempotency-key": f"key {number}"}
    try:
        answer = await client.post(f"{server.url}/v1/messages", content=body, headers=headers)
    except httpx2.TransportError:
        return Answer(0)
    return Answer(answer.status_code, answer.content, "idempotent-replayed" in answer.headers)


async def insist(
    client: httpx2.AsyncClient, server: RunningServer, number: int, word: str, within_s: float = SWEPT_WITHIN_S
) -> Answer:
    """Again and again, for as long as somebody else is said to be answered."""
    deadline = time.monotonic() + within_s
    while (answer := await ask(client, server, number, word)).status == 409:
        assert time.monotonic() < deadline, f"409 for {within_s} s"
        await asyncio.sleep(0.2)
    return answer


def known_servers(url: str) -> int:
    with closing(open_database(url)) as database, database.reading() as connection:
        return connection.execute(select(func.count()).select_from(servers)).scalar_one()


def until(holds: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the servers of one database run; `outboxes` are what two of them must have in common to be on the same
    machine."""

    serve: ServerFactory
    folder: Path
    kind: Kind
    url: str
    outboxes: tuple[str, str] = ("one", "one")

    def start(self, number: int, script: str) -> RunningServer:
        store = f'[store]\nurl = "{self.url}"\noutbox = "{self.folder / self.outboxes[number]}"\n'
        return self.serve(script=script, config=store)

    def replicas(self, first_script: str) -> list[RunningServer]:
        return [self.start(number, (first_script, QUICK)[number]) for number in range(REPLICAS[self.kind])]

    def after_the_kill(self, replicas: list[RunningServer]) -> RunningServer:
        """Another replica, or the one after a restart."""
        first, *others = replicas
        first.wait(10)
        return others[0] if others else self.start(0, QUICK)


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, serve: ServerFactory, tmp_path: Path) -> Site:
    return Site(serve, tmp_path, request.param, fresh_url(request.param, tmp_path))


def test_a_hundred_at_once_are_one_execution_and_one_bill(site: Site) -> None:
    replicas = site.replicas(QUICK)

    async def everybody() -> tuple[list[Answer], list[Answer]]:
        async with httpx2.AsyncClient(timeout=60) as client:
            place = [replicas[number % len(replicas)] for number in range(AT_ONCE)]
            first = await asyncio.gather(*(ask(client, server, 1, "TICK") for server in place))
            return first, await asyncio.gather(*(insist(client, server, 1, "TICK") for server in place))

    first, again = asyncio.run(everybody())
    executed = sum(gauge(server, "sestet_replies_total") for server in replicas)

    assert {200, 409} >= {answer.status for answer in first}
    assert [(200, True)] * AT_ONCE == [(answer.status, answer.replayed) for answer in again]
    assert 1 == len({answer.body for answer in (*first, *again) if answer.status == 200})
    assert 1 == executed
    assert [("finished", TICKS)] == [(row["state"], row["output_tokens"]) for row in check(site.url)]


@pytest.mark.parametrize(
    ("kind", "outboxes", "within_s"),
    [
        ("sqlite", ("one", "one"), SWEPT_WITHIN_S),
        ("postgresql", ("one", "one"), SWEPT_WITHIN_S),
        pytest.param(
            *("postgresql", ("one", "other"), SWEPT_ELSEWHERE_WITHIN_S),
            marks=pytest.mark.skipif(not SOAK, reason="waits 20 s; test_ledger_database has the same by another clock"),
        ),
    ],
    ids=["restarted", "beside it", "elsewhere"],
)
def test_who_asks_again_after_a_kill_is_answered_and_billed_once(
    serve: ServerFactory, tmp_path: Path, kind: Kind, outboxes: tuple[str, str], within_s: float
) -> None:
    site = Site(serve, tmp_path, kind, fresh_url(kind, tmp_path), outboxes)
    replicas = site.replicas(SLOW)

    async def all_of_it() -> tuple[Answer, Answer, list[Answer]]:
        async with httpx2.AsyncClient(timeout=60) as client:
            waiting = asyncio.create_task(ask(client, replicas[0], 1, "LONG"))
            await asyncio.to_thread(until, lambda: bool(rows(site.url)), 10)
            meanwhile = await ask(client, replicas[-1], 1, "LONG")
            replicas[0].process.kill()
            cut = await waiting
            left = await asyncio.to_thread(site.after_the_kill, replicas)
            again = (insist(client, left, 1, "LONG", within_s) for _ in range(10))
            return meanwhile, cut, await asyncio.gather(*again)

    meanwhile, cut, answers = asyncio.run(all_of_it())

    assert [409, 0] == [meanwhile.status, cut.status]
    assert [200] * 10 == [answer.status for answer in answers]
    assert (1, 9) == (len({answer.body for answer in answers}), sum(answer.replayed for answer in answers))
    assert ["interrupted", "finished"] == [row["state"] for row in check(site.url)]


def test_an_answer_outlives_the_server_that_gave_it(site: Site) -> None:
    replicas = site.replicas(QUICK)

    async def all_of_it() -> list[Answer]:
        async with httpx2.AsyncClient(timeout=60) as client:
            given = await ask(client, replicas[0], 1)
            replicas[0].process.kill()
            left = await asyncio.to_thread(site.after_the_kill, replicas)
            before = await ask(client, left, 1)
            await asyncio.to_thread(until, lambda: known_servers(site.url) == 1, SWEPT_WITHIN_S)
            return [given, before, await ask(client, left, 1)]

    answers = asyncio.run(all_of_it())

    assert [(200, False), (200, True), (200, True)] == [(answer.status, answer.replayed) for answer in answers]
    assert 1 == len({answer.body for answer in answers})
    assert [("finished", FAST)] == [(row["state"], row["output_tokens"]) for row in check(site.url)]


def test_whenever_a_server_is_killed_a_key_is_one_answer_and_one_bill(site: Site) -> None:
    """Many keys at once, so that the kill finds requests everywhere on their way: not claimed yet, answered, billed,
    and heard of; one is certainly in the middle, one certainly over."""
    replicas = site.replicas(SLOW)
    chance = random.Random(7)
    words = {0: "FAST", 1: "LONG"} | {number: chance.choice(("FAST", "TICK")) for number in range(2, KEYS)}
    heard: dict[int, list[Answer]] = defaultdict(list)

    async def all_of_it() -> None:
        async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=None)) as client:

            async def visit(number: int, server: RunningServer, after_s: float) -> None:
                await asyncio.sleep(after_s)
                heard[number].append(await ask(client, server, number, words[number]))

            async def come_again(number: int) -> None:
                heard[number].append(await insist(client, left, number, words[number]))

            await visit(0, replicas[0], 0.0)
            long_one = asyncio.create_task(visit(1, replicas[0], 0.0))
            await asyncio.to_thread(until, lambda: len(rows(site.url)) == 2, 10)
            visits = [
                asyncio.create_task(visit(number, chance.choice(replicas), chance.uniform(0.0, 1.0)))
                for number in range(2, KEYS)
                for _ in range(CLIENTS_OF_A_KEY)
            ]
            await asyncio.sleep(0.8)
            replicas[0].process.kill()
            await asyncio.gather(long_one, *visits)
            left = await asyncio.to_thread(site.after_the_kill, replicas)
            await asyncio.gather(*map(come_again, range(KEYS)))

    asyncio.run(all_of_it())
    found = check(site.url)
    finished = Counter(number_of(row) for row in found if row["state"] == "finished")

    assert {0, 200, 409} >= {answer.status for answers in heard.values() for answer in answers}
    assert [200] * KEYS == [heard[number][-1].status for number in range(KEYS)]
    assert [1] * KEYS == [len({one.body for one in heard[number] if one.status == 200}) for number in range(KEYS)]
    assert dict.fromkeys(range(KEYS), 1) == finished
    assert {"finished", "interrupted"} == {row["state"] for row in found}
    assert ([200, 200], [0, 200]) == tuple([answer.status for answer in heard[number]] for number in (0, 1))
