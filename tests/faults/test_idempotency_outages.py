"""A key is neither billed twice nor stuck where the database is slow or away for a while (R07)."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import orjson
import psutil
import psycopg
import pytest

from sestet.store import ledger_process
from sestet.store.answers import Answers, Claim
from sestet.store.database import Database, StoreError, open_database
from sestet.store.servers import KEPT_US, Servers
from tests.conftest import ServerFactory
from tests.databases import database, database_url, fresh_url, postgresql
from tests.fault_proxy import fault_proxy
from tests.faults.test_idempotency import FAST, QUICK, Answer, ask, insist, until
from tests.faults.wire import wait_for
from tests.ledger_check import check, number_of
from tests.running import RunningServer
from tests.unit.store.rows import add_request
from tests.unit.store.test_writer import settled

__all__ = ["database", "database_url"]  # fixtures

FAILING = QUICK.replace('say = ["tick "]', 'say = ["tick "]\nthen = "error"')
FREE_WITHIN_S = 20.0
# Replies that have come to their end; whether their bill is written is another matter.
SETTLED = "sestet_replies_total"
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
            await asyncio.to_thread(wait_for, server, SETTLED, 2.0, 10)
            leaving.cancel()
            await asyncio.to_thread(wait_for, server, GONE, 1.0, 10)
            writer.resume()
            return await insist(client, server, 1, "FAST")

    answer = asyncio.run(all_of_it())

    assert (200, True) == (answer.status, answer.replayed)
    assert [(0, "finished", FAST), (1, "finished", FAST)] == billed(url)


def test_what_a_killed_server_still_writes_is_the_one_bill(serve: ServerFactory) -> None:
    url = postgresql().fresh()
    first, second = (serve(script=QUICK, config=f'[store]\nurl = "{url}"\n') for _ in range(2))

    async def all_of_it() -> Answer:
        async with httpx2.AsyncClient(timeout=30) as client:
            await ask(client, first, 0)
            writer = writer_of(first)
            writer.suspend()
            cut = asyncio.create_task(ask(client, first, 1))
            await asyncio.to_thread(wait_for, first, SETTLED, 2.0, 10)
            first.process.kill()
            await cut
            again = asyncio.create_task(insist(client, second, 1, "FAST"))
            await asyncio.sleep(8)  # the second one has looked for dead servers once at least
            writer.resume()
            return await again

    answer = asyncio.run(all_of_it())

    assert (200, True) == (answer.status, answer.replayed)
    assert [(0, "finished", FAST), (1, "finished", FAST)] == billed(url)


@pytest.mark.slow
def test_who_writes_for_a_server_that_is_gone_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A database that never answers would keep the server from being taken for dead."""
    url = postgresql().fresh()
    with closing(open_database(url)) as opened, fault_proxy(postgresql().port) as proxy:
        opened.upgrade()
        place = {"url": url.replace(f":{postgresql().port}/", f":{proxy.port}/"), "outbox": str(tmp_path / "one.jsonl")}
        ours, theirs = socket.socketpair()  # as asyncio makes it
        command = (sys.executable, "-m", ledger_process.__name__)
        with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE) as process:
            try:
                theirs.close()
                ours.sendall(orjson.dumps(place) + b"\n" + settled(1).line())
                assert process.stdout is not None
                process.stdout.readline()
                proxy.swallow()
                ours.sendall(settled(2).line())
                ours.close()
                process.wait(2 * ledger_process.END_S)
            finally:
                process.kill()


def test_a_key_that_is_given_up_during_an_outage_is_free_afterwards(serve: ServerFactory) -> None:
    server = serve(script=FAILING, config=f'[store]\nurl = "{postgresql().fresh()}"\n')

    async def all_of_it() -> list[int]:
        async with httpx2.AsyncClient(timeout=60) as client:
            failing = asyncio.create_task(ask(client, server, 1, "TICK"))
            await asyncio.to_thread(wait_for, server, "sestet_ledger_running", 1.0, 10)
            postgresql().stop()
            try:
                failed = await failing
            finally:
                postgresql().start()
            deadline = time.monotonic() + FREE_WITHIN_S
            again = await ask(client, server, 1, "TICK")
            while again.status in (409, 529) and time.monotonic() < deadline:
                await asyncio.sleep(0.5)
                again = await ask(client, server, 1, "TICK")
            return [failed.status, again.status]

    assert [500, 500] == asyncio.run(all_of_it())


@contextmanager
def commits_without_an_answer() -> Iterator[psycopg.Connection]:
    """Everybody's commits wait for a replica that does not exist; they have happened all the same."""
    with psycopg.connect(postgresql().url("postgres"), autocommit=True) as administrator:
        administrator.execute("SET synchronous_commit = local")
        administrator.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        administrator.execute("SELECT pg_reload_conf()")
        try:
            yield administrator
        finally:
            administrator.execute("ALTER SYSTEM RESET synchronous_standby_names")
            administrator.execute("SELECT pg_reload_conf()")


def test_a_claim_whose_commit_is_not_answered_is_given_up_later() -> None:
    claims: list[Claim] = []

    def claim_on(answers: Answers) -> None:
        while len(claims) < 10_000:  # PostgreSQL takes over its settings a moment later
            claims.append(Claim("wrkspc_default", f"key {len(claims)}", "digest", "req_1"))
            answers.claim(claims[-1], 1)

    with closing(open_database(postgresql().fresh())) as opened, ThreadPoolExecutor(1) as thread:
        opened.upgrade()
        answers = Answers(opened, "server_1")
        with commits_without_an_answer() as administrator:

            def cut() -> bool:
                ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                return administrator.execute(ended).fetchone() is not None

            claiming = thread.submit(claim_on, answers)
            until(cut, 10)
            with pytest.raises(StoreError):
                claiming.result()
        second = replace(claims[-1], request_id="req_2")
        left = answers.claim(second, 1)
        answers.release_again()
        given_up = answers.claim(second, 1)

    assert ("running", "claimed") == (left.outcome, given_up.outcome)


def test_a_claim_without_an_answer_is_forgotten_after_a_day_unless_it_runs(database: Database, tmp_path: Path) -> None:
    names = ("lost", "runs", "young")
    answers = Answers(database, "server_1")
    for name in names:
        answers.claim(Claim("wrkspc_default", name, "digest", f"req_{name}"), KEPT_US if name == "young" else 0)
    with database.writing() as connection:
        add_request(connection, "req_runs", server_id="server_1")
    servers = Servers(database, "server_1", tmp_path)
    servers.register(KEPT_US + 1)
    servers.sweep(KEPT_US + 1)
    found = [answers.claim(Claim("wrkspc_default", name, "digest", "req_again"), KEPT_US + 1) for name in names]

    assert ["claimed", "running", "running"] == [one.outcome for one in found]
