"""The process that writes the ledger, from the server's side: killed, refused by the database, ended."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sestet.contract.events import Usage
from sestet.ledger.entry import Opening, Settlement
from sestet.ledger.prices import PriceList
from sestet.store.database import Database, open_database
from sestet.store.outbox import Entry, Outbox
from sestet.store.rows import Spent, running_row, settled_row
from sestet.store.writer import Writer

PRICES = PriceList(3_000_000, 3_750_000, 6_000_000, 300_000, 15_000_000)
DAY_US = 86_400_000_000


def opening(number: int) -> Opening:
    return Opening(f"req_{number}", 1, "key", "wrkspc_1", "m", "w", "standard", "anthropic", True, PRICES, PRICES)


def running(number: int, output_tokens: int = 0) -> Entry:
    return Entry({**running_row(opening(number), Usage(10, output_tokens)), "server_id": "server_1"})


def settled(number: int, output_tokens: int = 1) -> Entry:
    told = Settlement(opening(number), DAY_US, "finished", Usage(10, output_tokens), "end_turn", None, 0.0, 0.1, 0.2)
    return Entry({**settled_row(told), "server_id": "server_1"})


COST = 10 * 3 + 15  # micro-dollars of what is settled with one token

Act = Callable[[Writer, list[Spent]], Awaitable[Any]]


def write(tmp_path: Path, act: Act) -> tuple[list[tuple[Any, ...]], list[Spent]]:
    """The ledger's rows as (request, state, output tokens), and what was said of spending."""
    url = f"sqlite:///{tmp_path}/sestet.db"
    database = open_database(url)
    database.upgrade()
    spent: list[Spent] = []

    async def play() -> None:
        writer = Writer(url, tmp_path / "outbox" / "server_1", spent.append)
        writer.start()
        try:
            await act(writer, spent)
        finally:
            await writer.stop()

    asyncio.run(play())
    return rows(database), spent


def rows(database: Database) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        found = connection.exec_driver_sql("SELECT request_id, state, output_tokens FROM ledger ORDER BY request_id")
        return [tuple(row) for row in found]


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - it is another process that makes it true
            await asyncio.sleep(0.01)


def _processes() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if _writes(one)]


def _writes(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # it is ending
        return "ledger_process" in " ".join(process.cmdline())
    return False


async def process_of_the_writer() -> psutil.Process:
    await eventually(lambda: 1 == len(_processes()))
    return _processes()[0]


def test_what_is_done_is_in_the_database(tmp_path: Path) -> None:
    async def act(writer: Writer, spent: list[Spent]) -> None:
        await writer.put(running(1))
        await asyncio.gather(*(writer.put(settled(number)) for number in range(1, 4)))

    written, spent = write(tmp_path, act)

    assert [(f"req_{number}", "finished", 1) for number in range(1, 4)] == written
    assert {("wrkspc_1", 1): 3 * COST} == spent[-1]


def test_a_row_that_is_settled_stays_as_it_is_and_is_counted_once(tmp_path: Path) -> None:
    async def act(writer: Writer, spent: list[Spent]) -> None:
        for entry in (settled(1), settled(1, 7), running(1, 9), settled(2)):
            await writer.put(entry)

    written, spent = write(tmp_path, act)

    assert [("req_1", "finished", 1), ("req_2", "finished", 1)] == written
    assert {("wrkspc_1", 1): 2 * COST} == spent[-1]


def test_a_process_that_is_killed_is_replaced_and_nothing_is_lost_or_counted_twice(tmp_path: Path) -> None:
    async def act(writer: Writer, spent: list[Spent]) -> None:
        for start in range(0, 60, 20):
            waiting = [writer.put(settled(number)) for number in range(start, start + 20)]
            await asyncio.sleep(0)
            (await process_of_the_writer()).kill()
            await asyncio.gather(*waiting)
            await eventually(lambda: writer.healthy)

    written, spent = write(tmp_path, act)

    assert 60 == len(written)
    assert {("wrkspc_1", 1): 60 * COST} == spent[-1]


def test_what_hangs_is_rescued_and_whoever_waits_is_told(tmp_path: Path) -> None:
    async def act(writer: Writer, spent: list[Spent]) -> None:
        hung = await process_of_the_writer()
        hung.suspend()
        waiting = writer.put(settled(1))
        await eventually(lambda: writer.stuck)
        assert not writer.healthy
        await writer.rescue()
        await waiting
        kept = Outbox(tmp_path / "outbox" / "server_1.rescued.jsonl").read()
        assert ["req_1"] == [entry.row["request_id"] for entry in kept]
        os.kill(hung.pid, signal.SIGCONT)
        await eventually(lambda: not writer.backlog and writer.healthy)

    written, _ = write(tmp_path, act)

    assert [("req_1", "finished", 1)] == written
    assert [] == list((tmp_path / "outbox").glob("*.jsonl"))


def test_a_row_that_the_database_refuses_keeps_no_other_out(tmp_path: Path) -> None:
    async def act(writer: Writer, spent: list[Spent]) -> None:
        wrong = Entry({**settled(1).row, "state": "no such state"})
        await asyncio.gather(*(writer.put(entry) for entry in (wrong, settled(2))))
        await eventually(lambda: not writer.backlog)

    written, _ = write(tmp_path, act)
    rejected = Outbox(tmp_path / "outbox" / "server_1.rejected").read()

    assert [("req_2", "finished", 1)] == written
    assert ["req_1"] == [entry.row["request_id"] for entry in rejected]


def test_nothing_of_where_it_writes_is_in_its_arguments_or_environment(tmp_path: Path) -> None:
    async def act(writer: Writer, spent: list[Spent]) -> None:
        process = await process_of_the_writer()
        shown = " ".join([*process.cmdline(), *process.environ(), *process.environ().values()])
        assert str(tmp_path) not in shown

    write(tmp_path, act)


@pytest.mark.parametrize("line", [b"", b"{", b'{"row": {}, "kept": nul'])
def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "one.jsonl"
    Outbox(path).append([settled(1)])
    with path.open("ab") as file:
        file.write(line)
    Outbox(path).append([settled(2)])

    assert ["req_1", "req_2"] == [entry.row["request_id"] for entry in Outbox(path).read()]
