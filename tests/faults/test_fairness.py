"""More work than there are slots, from two tenants: the modest one waits for turns and not for the other's crowd, and
what is let in is finished, whatever comes beside it (R13, R16).

When requests came and were let in is read from the ledger, so that how busy the machine is does not matter."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.conftest import ServerFactory
from tests.faults.wire import gauge, wait_for
from tests.ledger_check import Row, check
from tests.lengths import length
from tests.running import RunningServer

ADMIN = "sk-sestet-admin-of-the-fairness-tests"
SLOTS, QUEUE = 4, 24
CROWD = 60  # requests of the flooding tenant at any time: more than run and wait together
TICKS = 10
OFFERED = length(150, 300)

SCRIPT = f"""
slots = {SLOTS}

[[reply]]
say = ["tick "]
repeat = {TICKS}
tokens_per_s = 100
"""

HELLO = {"model": "scripted", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A workspace with a key of its own."""

    url: str
    workspace_id: str
    key: str

    async def ask(self, client: httpx2.AsyncClient) -> httpx2.Response:
        return await client.post(f"{self.url}/v1/messages", json=HELLO, headers={"x-api-key": self.key})


@dataclass(frozen=True, slots=True)
class Busy:
    """A server and its two tenants."""

    server: RunningServer
    ledger_url: str
    flooding: Tenant
    modest: Tenant

    def settled(self) -> list[Row]:
        wait_for(self.server, "sestet_ledger_running", 0.0, 10, ADMIN)
        return check(self.ledger_url)


@pytest.fixture
def busy(serve: ServerFactory, tmp_path: Path) -> Busy:
    config = f'[access]\nadmin_keys = ["{ADMIN}"]\n[server]\nqueue = {QUEUE}\n'
    server = serve(script=SCRIPT, config=config)

    def made(path: str, **fields: object) -> str:
        url = f"{server.url}/v1/organizations/{path}"
        answer = httpx2.post(url, json=fields, headers={"x-api-key": ADMIN}, timeout=30).json()
        return str(answer["key" if path == "api_keys" else "id"])

    def tenant(name: str) -> Tenant:
        workspace_id = made("workspaces", name=name)
        key = made("api_keys", name=name, workspace_id=workspace_id, scopes=["inference"])
        return Tenant(server.url, workspace_id, key)

    return Busy(server, f"sqlite:///{tmp_path / 'sestet' / 'sestet.db'}", tenant("flooding"), tenant("modest"))


def connected() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=20, limits=httpx2.Limits(max_connections=None))


def came(row: Row) -> int:
    return int(row["started_at"])


def let_in(row: Row) -> int:
    return came(row) + int(row["queue_us"])


def overtaken(row: Row, others: Sequence[Row]) -> int:
    """How many of the others were let in while this one waited."""
    return sum(came(row) < let_in(other) <= let_in(row) for other in others)


def most_waiting(found: Sequence[Row]) -> int:
    """How many waited at once, at most. Who comes in the moment in which another one is let in counts as the later."""
    changes = sorted([*((came(row), 1) for row in found), *((let_in(row), -1) for row in found)])
    waiting = most = 0
    for _, change in changes:
        waiting += change
        most = max(most, waiting)
    return most


async def flood(tenant: Tenant, client: httpx2.AsyncClient, over: asyncio.Event) -> Counter[int]:
    """A crowd each of whom asks again at once, and in a moment when there was no room."""

    async def one() -> list[int]:
        told = []
        while not over.is_set():
            told.append((await tenant.ask(client)).status_code)
            if told[-1] == 529:
                await asyncio.sleep(0.1)
        return told

    crowd = await asyncio.gather(*(one() for _ in range(CROWD)))
    return Counter(status for told in crowd for status in told)


def test_the_modest_tenant_waits_for_turns_and_is_never_refused(busy: Busy) -> None:
    """First one request after another, then some at once: each waits for one turn of the crowd, and the crowd for one
    of theirs."""
    one_by_one, at_once = 8, 12

    async def all_of_it() -> tuple[Counter[int], list[int]]:
        over = asyncio.Event()
        async with connected() as client:
            crowd = asyncio.create_task(flood(busy.flooding, client, over))
            try:
                await asyncio.to_thread(wait_for, busy.server, "sestet_queue_waiting", float(QUEUE), 10, ADMIN)
                told = [(await busy.modest.ask(client)).status_code for _ in range(one_by_one)]
                together = await asyncio.gather(*(busy.modest.ask(client) for _ in range(at_once)))
            finally:
                over.set()
                await crowd
            return crowd.result(), [*told, *(answer.status_code for answer in together)]

    crowd, told = asyncio.run(all_of_it())
    finished = [row for row in busy.settled() if row["state"] == "finished"]
    modest = [row for row in finished if row["workspace_id"] == busy.modest.workspace_id]
    flooding = [row for row in finished if row["workspace_id"] == busy.flooding.workspace_id]
    alone, together = modest[:one_by_one], modest[one_by_one:]

    assert [200] * (one_by_one + at_once) == told
    assert {200, 529} == crowd.keys()
    assert len(flooding) == crowd[200]
    # A turn, and those who had been given a slot already when it came and had not begun.
    assert [] == [passed for row in alone if (passed := overtaken(row, flooding)) > 1 + SLOTS]
    assert max(overtaken(row, flooding) for row in together) <= at_once + SLOTS


def test_what_is_let_in_is_finished_and_the_rest_is_refused_with_a_time_to_come_back(busy: Busy) -> None:
    """Everything comes at once, many times what runs and waits, and half of it from each tenant."""

    async def offered() -> list[httpx2.Response]:
        async with connected() as client:
            tenants = (busy.flooding, busy.modest)
            return await asyncio.gather(*(tenants[number % 2].ask(client) for number in range(OFFERED)))

    async def once_more() -> list[int]:
        async with connected() as client:
            return [(await tenant.ask(client)).status_code for tenant in (busy.flooding, busy.modest)]

    answers = asyncio.run(offered())
    refused = [answer for answer in answers if answer.status_code == 529]
    finished = [answer for answer in answers if answer.status_code == 200]
    found = busy.settled()
    held = [gauge(busy.server, name, ADMIN) for name in ("sestet_slots_running", "sestet_queue_waiting")]

    assert OFFERED == len(refused) + len(finished)
    assert len(finished) >= SLOTS + QUEUE
    assert [] == [answer for answer in refused if not 1 <= int(answer.headers["retry-after"]) <= 60]
    assert {"overloaded_error"} == {answer.json()["error"]["type"] for answer in refused}
    assert {TICKS} == {answer.json()["usage"]["output_tokens"] for answer in finished}
    assert {("finished", TICKS): len(finished), ("failed", 0): len(refused)} == Counter(
        (row["state"], row["output_tokens"]) for row in found
    )
    assert most_waiting([row for row in found if row["state"] == "finished"]) <= QUEUE + SLOTS
    assert [0.0, 0.0] == held
    assert [200, 200] == asyncio.run(once_more())
