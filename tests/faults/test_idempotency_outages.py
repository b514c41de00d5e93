"""A key is neither billed twice nor stuck where the database is slow or away for a while (R07)."""

import asyncio
from pathlib import Path

import httpx2
import psutil

from tests.conftest import ServerFactory
from tests.databases import fresh_url
from tests.faults.test_idempotency import FAST, QUICK, Answer, ask, insist
from tests.faults.wire import wait_for
from tests.ledger_check import check, number_of
from tests.running import RunningServer

GONE = r'sestet_http_requests_total\{.*status="499"\}'


def writer_of(server: RunningServer) -> psutil.Process:
    """The process that writes the server's ledger. Suspended, it is a database that takes its time."""
    (one,) = [one for one in psutil.Process(server.pid).children() if "ledger_process" in " ".join(one.cmdline())]
    return one


def billed(url: str) -> list[tuple[int, str, int]]:
    return [(number_of(row), row["state"], row["output_tokens"]) for row in check(url)]


def test_who_leaves_while_the_bill_is_written_is_not_answered_anew(serve: ServerFactory, tmp_path: Path) -> None:
    url = fresh_url("sqlite", tmp_path)
    server = serve(script=QUICK, config=f'[store]\nurl = "{url}"\n')

    async def all_of_it() -> Answer:
        async with httpx2.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as tasks:
            await ask(client, server, 0)
            writer = writer_of(server)
            writer.suspend()
            leaving = tasks.create_task(ask(client, server, 1))
            await asyncio.to_thread(wait_for, server, "sestet_ledger_backlog", 1.0, 10)
            leaving.cancel()
            await asyncio.to_thread(wait_for, server, GONE, 1.0, 10)
            writer.resume()
            return await insist(client, server, 1, "FAST")

    answer = asyncio.run(all_of_it())

    assert (200, True) == (answer.status, answer.replayed)
    assert [(0, "finished", FAST), (1, "finished", FAST)] == billed(url)
