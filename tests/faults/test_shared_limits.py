"""Servers that share a PostgreSQL give out together what one of them would: at most a request a server more, and
nobody is refused what is there (R14). And when that database goes away."""

import asyncio
import itertools
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest

from sestet.catalog.card import family_cards
from sestet.contract.errors import ApiError
from sestet.gate.directory import DEFAULT_WORKSPACE, Allowance, Directory, RateKind
from sestet.services.quotas import Quotas
from sestet.store.database import open_database
from sestet.store.directory import Directories
from sestet.store.meters import Meters, SharedMeters
from tests.conftest import ServerFactory
from tests.databases import postgresql
from tests.ledger_check import Visit, visit

MODEL = "claude-opus-4-1-20250805"
CLASS = "claude-opus-4"

SERVERS = 2
A_MINUTE = 1_200
CLIENTS, REQUESTS_EACH = 200, 10

FAST = 40

SCRIPT = f"""
slots = 200

[[reply]]
say = ["fast "]
repeat = {FAST}
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and between which moments it was decided on."""

    sent: float
    status: int
    received: float
    retry_after_s: float = 0.0

    @property
    def admitted(self) -> bool:
        return self.status == 200


def limited(rates: dict[RateKind, int]) -> Directory:
    return Directory(1, "org", "", Allowance(rates={CLASS: rates}), {}, ())


@contextmanager
def servers(url: str, rates: dict[RateKind, int]) -> Iterator[list[Quotas]]:
    """What of the servers decides, each with connections of its own."""
    opened = [open_database(url) for _ in range(SERVERS)]
    opened[0].upgrade()
    yield [Quotas(limited(rates), lambda _model: CLASS, lambda: 0, SharedMeters(Meters(one))) for one in opened]
    for one in opened:
        one.close()


async def ask(quotas: Quotas, workspace_id: str = DEFAULT_WORKSPACE) -> Asked:
    (card,) = (card for card in family_cards() if card.id == MODEL)
    sent = time.monotonic()
    try:
        permit = await quotas.admit(workspace_id, card, 1, priority=False)
    except ApiError as error:
        return Asked(sent, error.status, time.monotonic(), error.retry_after_s or 0.0)
    received = time.monotonic()
    permit.produced(FAST)
    permit.ended()
    return Asked(sent, 200, received)


def falsely_refused(asked: list[Asked], a_minute: int = A_MINUTE) -> list[Asked]:
    """Refused although there was one left, whenever in its interval it was decided: full until the first was let in,
    at most all that had been sent by then taken, refilled since at least the beginning of the interval."""
    let_in = [one for one in asked if one.admitted]
    sent = sorted(one.sent for one in let_in)
    since = min(one.received for one in let_in)
    return [
        one
        for one in asked
        if not one.admitted and a_minute - bisect_right(sent, one.received) + a_minute / 60 * (one.sent - since) >= 1
    ]


def overshoot(asked: list[Asked], a_minute: int = A_MINUTE) -> float:
    """How many more were let in than the bucket and its refill allow."""
    let_in = [one for one in asked if one.admitted]
    lasted_s = max(one.received for one in let_in) - min(one.sent for one in let_in)
    return len(let_in) - a_minute - a_minute / 60 * lasted_s


def test_two_servers_together_let_in_what_one_would() -> None:
    async def run(both: list[Quotas]) -> tuple[list[Asked], Asked]:
        async def client(number: int) -> list[Asked]:
            return [await ask(both[(number + turn) % SERVERS]) for turn in range(REQUESTS_EACH)]

        asked = list(itertools.chain(*await asyncio.gather(*map(client, range(CLIENTS)))))
        while (refused := await ask(both[0])).admitted:
            asked.append(refused)
        await asyncio.sleep(refused.retry_after_s)
        waited = await ask(both[1])
        await asyncio.gather(*(quotas.meters.stop() for quotas in both))
        return asked, waited

    with servers(postgresql().fresh(), {"requests": A_MINUTE}) as both:
        asked, waited = asyncio.run(run(both))

    assert {200, 429} == {one.status for one in asked}
    assert [] == falsely_refused(asked)
    assert overshoot(asked) <= SERVERS
    assert waited.admitted


def test_the_database_may_stop_in_between() -> None:
    """It is 529 then, and before and after it together they let in no more than one server would."""

    async def run(both: list[Quotas]) -> tuple[list[Asked], list[Asked], list[Asked]]:
        async def everybody(requests: int) -> list[Asked]:
            return list(await asyncio.gather(*(ask(both[number % SERVERS]) for number in range(requests))))

        before = await everybody(A_MINUTE // 2)
        postgresql().stop()
        try:
            during = await everybody(40)
        finally:
            postgresql().start()
        deadline = time.monotonic() + 20
        after = [await ask(quotas) for quotas in both]
        while 529 in {one.status for one in after[-SERVERS:]}:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
            after += [await ask(quotas) for quotas in both]
        after += await everybody(2 * A_MINUTE)  # more than there is, however long it was away
        await asyncio.gather(*(quotas.meters.stop() for quotas in both))
        return before, during, after

    with servers(postgresql().fresh(), {"requests": A_MINUTE, "output_tokens": 10**6}) as both:
        before, during, after = asyncio.run(run(both))

    assert {200} == {one.status for one in before}
    assert {529} == {one.status for one in during}
    assert {200, 429} == {one.status for one in after} - {529}
    assert overshoot(before + after) <= SERVERS


@pytest.mark.slow
def test_two_running_servers_share_a_limit_and_its_refusals(serve: ServerFactory) -> None:
    url = postgresql().fresh()
    with closing(open_database(url)) as database:
        database.upgrade()
        Directories(database).set_rates(DEFAULT_WORKSPACE, CLASS, {"requests": A_MINUTE // 4, "output_tokens": 10**6})
    ports = [serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n').port for _ in range(SERVERS)]
    numbers = itertools.count()

    async def one(port: int) -> Asked:
        sent = time.monotonic()
        heard = await visit(port, Visit(next(numbers), "FAST", FAST, stream=False, model=MODEL))
        return Asked(sent, heard.status, time.monotonic())

    async def client(number: int) -> list[Asked]:
        return [await one(ports[(number + turn) % SERVERS]) for turn in range(REQUESTS_EACH)]

    async def run() -> list[Asked]:
        return list(itertools.chain(*await asyncio.gather(*map(client, range(CLIENTS // 4)))))

    asked = asyncio.run(run())

    assert {200, 429} == {one.status for one in asked}
    assert [] == falsely_refused(asked, A_MINUTE // 4)
    assert overshoot(asked, A_MINUTE // 4) <= SERVERS


@pytest.mark.slow
@pytest.mark.parametrize(("when_down", "meanwhile"), [("refuse", {529}), ("serve", {200})])
def test_a_running_server_goes_on_as_configured_while_the_database_is_away(
    serve: ServerFactory, when_down: str, meanwhile: set[int]
) -> None:
    url = postgresql().fresh()
    with closing(open_database(url)) as database:
        database.upgrade()
        Directories(database).set_rates(DEFAULT_WORKSPACE, CLASS, {"requests": A_MINUTE, "output_tokens": 10**6})
    port = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\nwhen_down = "{when_down}"\n').port
    numbers = itertools.count()

    async def statuses(requests: int) -> set[int]:
        visits = (visit(port, Visit(next(numbers), "FAST", FAST, stream=False, model=MODEL)) for _ in range(requests))
        return {heard.status for heard in await asyncio.gather(*visits)}

    async def run() -> tuple[set[int], set[int], set[int]]:
        before = await statuses(20)
        postgresql().stop()
        try:
            during = await statuses(20) | await statuses(20)
        finally:
            postgresql().start()
        deadline = time.monotonic() + 20
        while (after := await statuses(1)) != {200}:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        return before, during, after

    assert ({200}, meanwhile, {200}) == asyncio.run(run())
