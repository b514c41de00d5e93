"""Every request is one row, with the engine's own tokens at exact prices, however it ends (R05)."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from sestet.engines.scripted import RECORDS_MAX, ScriptedEngine
from tests.conftest import ServerFactory
from tests.databases import KINDS, Kind, fresh_url
from tests.faults.wire import body, wait_for
from tests.ledger_check import Heard, Row, Visit, check, number_of, visits
from tests.lengths import length
from tests.unit.in_process import OWN_ID, application, ask

REQUESTS: dict[Kind, int] = {"sqlite": length(300, 1_000), "postgresql": length(100, 200)}
AT_THE_END = 40
AT_ONCE = 64

TICKS, TICKS_PER_S = 60, 100
FAST = 40
FAULT_AFTER = 2

SCRIPT = f"""
slots = 200
stall_timeout_s = 0.5
restart_s = 0.1

[[reply]]
when = "TICK"
say = ["tick "]
repeat = {TICKS}
tokens_per_s = {TICKS_PER_S}

[[reply]]
when = "LONG"
say = ["long "]
repeat = 1000
tokens_per_s = {TICKS_PER_S}

[[reply]]
when = "CRASH"
say = ["one ", "two "]
then = "crash"

[[reply]]
when = "ERROR"
say = ["one ", "two "]
then = "error"

[[reply]]
when = "SHORT"
say = ["one ", "two "]
then = "stop_short"

[[reply]]
when = "HANG"
say = ["one ", "two "]
then = "hang"

[[reply]]
say = ["fast "]
repeat = {FAST}
"""

# Of the cards' own documents, in micro-dollars for a million tokens: input and output.
PRICES = {"claude-3-5-haiku-20241022": (800_000, 4_000_000), "claude-opus-4-1-20250805": (15_000_000, 75_000_000)}
ENDINGS = ("fast", "tick", "cut", "cut late", "timeout", "error", "short", "hang", "crash")
WEIGHTS = (25, 15, 25, 10, 8, 8, 4, 4, 1)


def random_visit(chance: random.Random, number: int) -> Visit:
    stream = chance.random() < 0.6
    model = chance.choice(list(PRICES))
    match chance.choices(ENDINGS, WEIGHTS)[0]:
        case "fast":
            return Visit(number, "FAST", FAST, stream, model=model)
        case "tick":
            return Visit(number, "TICK", TICKS, stream, model=model)
        case "cut":
            return Visit(number, "TICK", TICKS, bytes_max=chance.randint(1, 8_000), model=model)
        case "cut late":
            return Visit(number, "FAST", FAST, bytes_max=chance.randint(1, 6_000), model=model)
        case "timeout":
            return Visit(number, "TICK", TICKS, stream, seconds_max=chance.uniform(0.2, 0.6), model=model)
        case fault:
            return Visit(number, fault.upper(), FAULT_AFTER, stream, model=model)


def expected(heard: Heard) -> range:
    """What may be billed: all that a client was told, nothing that the engine had not made when it left."""
    if heard.finished:
        return range(heard.visit.tokens, heard.visit.tokens + 1)
    made = heard.visit.tokens if heard.visit.word != "LONG" else round((heard.lasted_s + 1) * TICKS_PER_S)
    return range(heard.deltas, made + 1)


def wrong_bills(found: dict[int, Row], told: list[Heard]) -> list[tuple[Heard, Row]]:
    return [
        (heard, row)
        for heard in told
        if (row := found.get(heard.visit.number)) is not None
        and not (
            row["output_tokens"] in expected(heard)
            and (row["price_input"], row["price_output"]) == PRICES[heard.visit.model]
            and row["request_id"] == (heard.request_id or row["request_id"])
            and row["stream"] == heard.visit.stream
            and (row["state"] == "finished") >= heard.finished
        )
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_request_is_one_row_with_its_own_tokens(serve: ServerFactory, tmp_path: Path, kind: Kind) -> None:
    url = fresh_url(kind, tmp_path)
    own = f'[store]\nurl = "{url}"\n[own_prices."{OWN_ID}"]\ninput = 0.12345\noutput = 1.1\n'
    server = serve(script=SCRIPT, config=f"{own}[server]\ndrain_s = 0.5\n")
    chance = random.Random(5)
    planned = [random_visit(chance, number) for number in range(REQUESTS[kind])]
    last = [Visit(REQUESTS[kind] + number, "LONG", 1_000, number % 3 != 0) for number in range(AT_THE_END)]

    async def all_of_them() -> list[Heard]:
        told = await visits(server.port, planned, AT_ONCE)
        wait_for(server, "sestet_ledger_running", 0.0, 10)
        at_the_end = asyncio.create_task(visits(server.port, last, AT_THE_END))
        await asyncio.to_thread(wait_for, server, "sestet_ledger_running", float(AT_THE_END), 10)
        server.terminate()
        return [*told, *await at_the_end]

    told = asyncio.run(all_of_them())
    status = server.wait(10)
    found = check(url)
    counted = Counter(map(number_of, found))
    silent = {heard.visit.number for heard in told if not heard.data}

    assert 0 == status
    assert set() == counted.keys() - {heard.visit.number for heard in told}
    assert set() == {heard.visit.number for heard in told} - counted.keys() - silent
    assert [] == [(number, times) for number, times in counted.items() if times > 1]
    assert [] == [row for row in found if row["state"] in {"running", "interrupted"}]
    assert [] == wrong_bills({number_of(row): row for row in found}, told)
    assert [] == [heard for heard in told if heard.finished and heard.output_tokens != heard.visit.tokens]
    assert {"finished", "failed", "abandoned"} == {row["state"] for row in found}
    assert "Traceback" not in server.log


@pytest.mark.parametrize("kind", KINDS)
def test_the_engines_own_count_is_what_is_billed(tmp_path: Path, kind: Kind) -> None:
    """In this process, where the engine can be asked what it had said when it was stopped."""
    url = fresh_url(kind, tmp_path)
    script = tmp_path / "script.toml"
    script.write_text(SCRIPT)
    chance = random.Random(7)

    async def said() -> dict[str, int]:
        engine = {"kind": "scripted", "script": str(script)}
        running = await application(engine=engine, store={"url": url, "outbox": str(tmp_path / "outbox")})

        async def one() -> None:
            fields = {**body(chance.choice(["TICK", "FAST", "ERROR", "SHORT", "HANG"])), "max_tokens": 1_000}
            gone_after = chance.randint(1, TICKS) if chance.random() < 0.5 else None
            with suppress(TimeoutError):  # a handler that is ended from within, at any moment at all
                async with asyncio.timeout(chance.uniform(0.0, 1.0) if chance.random() < 0.5 else None):
                    fields["stream"] = chance.random() < 0.6
                    await ask(running, "POST", "/v1/messages", fields, gone_after=gone_after)

        await asyncio.gather(*(one() for _ in range(RECORDS_MAX)))
        assert 0 == running.books.running
        scripted = running.served[OWN_ID].engine
        await running.stop()
        assert isinstance(scripted, ScriptedEngine)
        return {record.job.request_id: record.said for record in scripted.records}

    truth = asyncio.run(said())
    billed = {row["request_id"]: row["output_tokens"] for row in check(url)}

    assert len(truth) > RECORDS_MAX / 2
    assert truth == {request_id: billed[request_id] for request_id in truth}
    assert {0} >= {tokens for request_id, tokens in billed.items() if request_id not in truth}


def test_whoever_is_cut_off_by_a_second_signal_is_settled(serve: ServerFactory, tmp_path: Path) -> None:
    url = fresh_url("sqlite", tmp_path)
    server = serve(script=SCRIPT, config=f'[store]\nurl = "{url}"\n[server]\ndrain_s = 60\n')
    running = [Visit(number, "LONG", 1_000, number % 2 == 0) for number in range(20)]

    async def all_of_them() -> list[Heard]:
        told = asyncio.create_task(visits(server.port, running, len(running)))
        await asyncio.to_thread(wait_for, server, "sestet_ledger_running", float(len(running)), 10)
        await asyncio.sleep(0.3)
        server.terminate()
        await asyncio.sleep(0.3)
        server.terminate()
        return await told

    told = asyncio.run(all_of_them())
    server.wait(10)
    found = check(url)

    assert list(range(20)) == sorted(map(number_of, found))
    assert [] == [row for row in found if row["state"] == "running"]
    assert [] == [
        heard
        for heard in told
        for row in found
        if number_of(row) == heard.visit.number and row["output_tokens"] not in expected(heard)
    ]
