"""Limits of a server that runs: nobody gets more than there is or is refused what there is (R14, R15, R24, T46)."""

import asyncio
import itertools
import random
import re
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from sestet.catalog.card import family_cards
from sestet.contract.errors import ApiError
from sestet.gate.directory import DEFAULT_WORKSPACE, Allowance, Directory
from sestet.ledger.entry import Use
from sestet.services.quotas import Quotas
from sestet.store.database import open_database
from sestet.store.directory import Directories
from tests.conftest import ServerFactory
from tests.faults.wire import wait_for
from tests.ledger_check import Heard, Visit, check, visit, visits

MODEL = "claude-opus-4-1-20250805"
CLASS = "claude-opus-4"  # its limits are shared by all cards of the line

CLIENTS, REQUESTS_EACH = 100, 14
A_MINUTE = 1_000
RATE = A_MINUTE / 60

IN_FLIGHT = 8
FAST, TICKS = 40, 50

SCRIPT = f"""
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


@contextmanager
def directories(url: str) -> Iterator[Directories]:
    """The limits as another program changes them: the server is not told, it looks."""
    with closing(open_database(url)) as database:
        database.upgrade()
        yield Directories(database)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, and between which moments it was decided on."""

    sent: float
    heard: Heard
    received: float

    @property
    def admitted(self) -> bool:
        return self.heard.status == 200


async def ask(port: int, number: int) -> Asked:
    sent = time.monotonic()
    heard = await visit(port, Visit(number, "FAST", FAST, stream=False, model=MODEL))
    return Asked(sent, heard, time.monotonic())


def headers(heard: Heard) -> dict[str, str]:
    found = re.findall(rb"(?im)^([a-z-]+): (.*)\r$", heard.data.partition(b"\r\n\r\n")[0])
    return {name.decode().lower(): value.decode() for name, value in found}


def falsely_refused(asked: list[Asked]) -> list[Asked]:
    """Refused although the bucket had one left, whenever in its interval it was decided: full until the first was let
    in, at most all that had been sent by then taken, refilled since at least the beginning of the interval."""
    let_in = [one for one in asked if one.admitted]
    sent = sorted(one.sent for one in let_in)
    since = min(one.received for one in let_in)
    return [
        one
        for one in asked
        if not one.admitted and A_MINUTE - bisect_right(sent, one.received) + RATE * (one.sent - since) >= 1
    ]


def overshoot(asked: list[Asked]) -> float:
    """How many more were let in, in any window, than the bucket and its refill allow."""
    let_in = [(one.sent, one.received) for one in asked if one.admitted]
    return max(
        count - A_MINUTE - RATE * (end - begin)
        for begin in sorted(sent for sent, _ in let_in)[:: CLIENTS // 2]
        for count, end in enumerate(sorted(received for sent, received in let_in if sent >= begin), 1)
    )


@pytest.mark.slow
def test_a_hundred_clients_get_what_the_bucket_holds(serve: ServerFactory, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sestet.db'}"
    with directories(url) as directory:
        directory.set_rates(DEFAULT_WORKSPACE, CLASS, {"requests": A_MINUTE})
    server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n')
    numbers = itertools.count()

    async def client() -> list[Asked]:
        return [await ask(server.port, next(numbers)) for _ in range(REQUESTS_EACH)]

    async def everybody() -> tuple[list[Asked], Asked, Asked]:
        asked = list(itertools.chain(*await asyncio.gather(*(client() for _ in range(CLIENTS)))))
        refused = next(one for one in reversed(asked) if not one.admitted)
        while (alone := await ask(server.port, next(numbers))).admitted:
            pass
        await asyncio.sleep(float(headers(alone.heard)["retry-after"]))
        return asked, refused, await ask(server.port, next(numbers))

    asked, refused, waited = asyncio.run(everybody())
    wait_for(server, "sestet_ledger_running", 0.0, 5)
    told = [headers(one.heard) for one in asked if not one.admitted]

    assert {200, 429} == {one.heard.status for one in asked}
    assert [] == falsely_refused(asked)
    assert overshoot(asked) <= 1
    assert waited.admitted
    assert [] == [one for one in told if not 1 <= int(one["retry-after"]) <= 60]
    assert {(str(A_MINUTE), "0")} == {
        (one["anthropic-ratelimit-requests-limit"], one["anthropic-ratelimit-requests-remaining"]) for one in told
    }
    assert "anthropic-ratelimit-requests-reset" in headers(refused.heard)
    assert "rate_limit_error" in refused.heard.data.decode()


@pytest.mark.slow
@pytest.mark.parametrize(("workspace", "refusal"), [(DEFAULT_WORKSPACE, 400), (None, 429)], ids=["own", "organisation"])
def test_spending_ends_at_its_limit_and_not_before(
    serve: ServerFactory, tmp_path: Path, workspace: str | None, refusal: int
) -> None:
    url = f"sqlite:///{tmp_path / 'sestet.db'}"
    server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n')
    chance = random.Random(15)
    numbers = itertools.count(1_000)
    asked: list[Asked] = []

    async def until(status: int) -> None:
        deadline = time.monotonic() + 5
        while (one := await ask(server.port, next(numbers))).heard.status != status:
            assert time.monotonic() < deadline, one.heard.data
            await asyncio.sleep(0.05)
        asked.append(one)

    async def until_refused() -> None:
        while (one := await ask(server.port, next(numbers))).admitted:
            asked.append(one)
        asked.append(one)

    async def eager() -> None:
        await until(200)
        await asyncio.gather(*(until_refused() for _ in range(IN_FLIGHT)))

    def spent() -> int:
        wait_for(server, "sestet_ledger_running", 0.0, 5)
        return sum(row["cost"] for row in check(url))

    def limit(directory: Directories, amount: int) -> int:
        directory.set_spend("spl_1", workspace, "daily", amount, time.time_ns() // 1_000)
        return amount

    cancelled = [Visit(number, "TICK", TICKS, bytes_max=chance.randint(1, 9_000), model=MODEL) for number in range(150)]
    asyncio.run(visits(server.port, cancelled, 50))
    with directories(url) as directory:
        limit(directory, 1)
        asyncio.run(until(refusal))
        allowed = limit(directory, spent() + 30_000)
        asyncio.run(eager())
        reached = spent()
        dearest = max(row["cost"] for row in check(url))
        limit(directory, reached + 1)
        asyncio.run(until(200))
        asyncio.run(until(refusal))
        limit(directory, reached + 1_000_000)
        asyncio.run(until(200))
        server.stop()
        limit(directory, spent_of(url))
    server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n')
    asyncio.run(until(refusal))

    assert allowed <= reached <= allowed + IN_FLIGHT * dearest
    assert {200, refusal} == {one.heard.status for one in asked}
    assert [] == [one for one in asked if not one.admitted and "retry-after" in headers(one.heard)]


def spent_of(url: str) -> int:
    return sum(row["cost"] for row in check(url))


HOUR_US = 3_600_000_000


@pytest.mark.parametrize("jump_us", [HOUR_US, -HOUR_US, 40 * 24 * HOUR_US, -40 * 24 * HOUR_US])
def test_a_wall_clock_that_jumps_locks_nobody_out(jump_us: int) -> None:
    """Neither while the server runs nor when it starts again: nobody waits for longer than one refill (R24)."""
    (card,) = (card for card in family_cards() if card.id == MODEL)
    limited = Allowance(rates={CLASS: {"requests": 60}})
    directory = Directory(1, "org", "", limited, {}, ())
    now = 1_800_000_000_000_000
    clock = [now]

    def admit(of: Quotas) -> None:
        asyncio.run(of.admit(DEFAULT_WORKSPACE, card, 1, priority=False))

    quotas = Quotas(directory, lambda _model: CLASS, lambda: clock[0])
    for _ in range(60):
        admit(quotas)
    waits_s = []
    for at in (now, now + jump_us, now + 2 * jump_us):
        clock[0] = at
        with pytest.raises(ApiError) as refused:
            admit(quotas)
        waits_s.append(refused.value.retry_after_s or 0.0)
    restarted = Quotas(directory, lambda _model: CLASS, lambda: clock[0])
    restarted.replay([Use(DEFAULT_WORKSPACE, MODEL, now, now + jump_us, 1, 1)] * 60, now + jump_us)
    with suppress(ApiError):
        for _ in range(60):
            admit(restarted)
    with pytest.raises(ApiError) as refused:
        admit(restarted)
    waits_s.append(refused.value.retry_after_s or 0.0)

    assert [] == [wait_s for wait_s in waits_s if not 0 < wait_s <= 1]
