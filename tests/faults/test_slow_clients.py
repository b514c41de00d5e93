"""Clients that are slow to speak or slow to listen (T19, R12). All of them at once, so that they wait together."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import psutil
import pytest

from sestet.server.protocol import BODY_TIMEOUT_S, HEADER_TIMEOUT_S
from tests.faults.watch import under_watch
from tests.faults.wire import answers, body, gauge, post, request_bytes, wait_for
from tests.running import RunningServer

EACH = 20
STUCK_READER_BYTES_MAX = 256 * 1024
STALL_S = 2.0  # of the shared server


async def drip(port: int, beginning: bytes, drops: bytes) -> tuple[float, bytes]:
    """Sends the beginning, then a byte a second; the seconds until the server ended it, and what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()
    writer.write(beginning)
    hearing = asyncio.create_task(hear(reader))
    async for drop in every_second(drops):
        if hearing.done():
            break
        with suppress(ConnectionError):
            writer.write(drop)
    received = await hearing
    writer.close()
    return time.monotonic() - started, received


async def every_second(drops: bytes) -> AsyncIterator[bytes]:
    for position in range(len(drops)):
        await asyncio.sleep(1)
        yield drops[position : position + 1]


async def hear(reader: asyncio.StreamReader) -> bytes:
    received = b""
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            received += chunk
    return received


async def sip(port: int) -> int:
    """Reads slowly, for longer than a reader may stall; how many bytes came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(post(body("FLOOD", stream=True, max_tokens=150_000)))
    total = 0
    for _ in range(8):
        await asyncio.sleep(0.5)
        for _ in range(200):
            chunk = await reader.read(65536)
            assert chunk
            total += len(chunk)
    writer.close()
    return total


async def begin_another(port: int) -> bytes:
    """Hears a reply of twelve seconds, with a line end behind its request, as some clients send it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(body("TICK", stream=True, max_tokens=600), "Connection: close"))
    await reader.readuntil(b"text_delta")
    writer.write(b"\r\n")
    received = await hear(reader)
    writer.close()
    return received


@pytest.mark.slow
def test_slow_speakers_are_ended_in_time_and_a_slow_reader_is_not_and_nobody_is_hurt(
    open_server: RunningServer,
) -> None:
    """A little every second is reading: it may go on for longer than the server waits for one that does not."""
    port = open_server.port
    slow = b"a" * 40
    healthz = request_bytes(line="GET /healthz HTTP/1.1")
    cases = {
        "silent": (b"", b""),
        "line ends and nothing else": (b"\r\n", b"\r\n" * 40),
        "slow first line": (b"GET /he", slow),
        "slow headers": (b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ", slow),
        "slow headers of a second request": (healthz + b"GET /healthz HTTP/1.1\r\nX-A: ", slow),
        "slow body": (request_bytes(b"{", length=1_000), slow),
        "slow chunks": (request_bytes(b"", length=-1, headers=("Transfer-Encoding: chunked",)), b"1\r\n{\r\n" * 7),
        "silent body": (request_bytes(b"", length=1_000), b""),
    }

    async def all_at_once() -> tuple[int, bytes, dict[str, list[tuple[float, bytes]]]]:
        async with asyncio.timeout(60):
            reading, hearing = asyncio.create_task(sip(port)), asyncio.create_task(begin_another(port))
            gathered = {name: asyncio.gather(*(drip(port, *case) for _ in range(EACH))) for name, case in cases.items()}
            return await reading, await hearing, {name: await tasks for name, tasks in gathered.items()}

    with under_watch(open_server):
        read_bytes, heard, found = asyncio.run(all_at_once())
        wait_for(open_server, "sestet_slots_running", 0.0, 5)

    statuses = {
        name: {tuple(answer.status for answer in answers(received)) for _, received in given}
        for name, given in found.items()
    }
    assert read_bytes > 2**20
    assert (1, 0) == (heard.count(b"event: message_stop"), heard.count(b"HTTP/1.1"))
    assert {
        "silent": {()},
        "line ends and nothing else": {(408,)},
        "slow first line": {(408,)},
        "slow headers": {(408,)},
        "slow headers of a second request": {(200, 408)},
        "slow body": {(408,)},
        "slow chunks": {(408,)},
        "silent body": {(408,)},
    } == statuses
    for name, given in found.items():
        limit_s = BODY_TIMEOUT_S if name in ("slow body", "slow chunks", "silent body") else HEADER_TIMEOUT_S
        assert [] == [seconds for seconds, _ in given if not limit_s - 1 < seconds < limit_s + 5]


@pytest.mark.slow
def test_readers_that_stop_reading_are_cut_off_and_cost_little(open_server: RunningServer) -> None:
    flood = post(body("FLOOD", stream=True, max_tokens=150_000))

    async def stop_reading() -> tuple[int, float]:
        """Memory at its highest while they are stuck; the seconds until the last was cut off."""
        writers = []
        for _ in range(EACH):
            reader, writer = await asyncio.open_connection("127.0.0.1", open_server.port, limit=1024)
            writer.write(flood)
            assert await reader.read(512)
            writers.append(writer)
        started = time.monotonic()
        highest = 0
        while await asyncio.to_thread(gauge, open_server, "sestet_slots_running"):
            assert time.monotonic() - started < 30
            highest = max(highest, psutil.Process(open_server.pid).memory_info().rss)
            await asyncio.sleep(0.1)
        cut_s = time.monotonic() - started
        for writer in writers:
            writer.close()
        return highest, cut_s

    before = psutil.Process(open_server.pid).memory_info().rss
    with under_watch(open_server):
        highest, cut_s = asyncio.run(stop_reading())

    assert highest - before < EACH * STUCK_READER_BYTES_MAX + 8 * 2**20
    assert STALL_S - 1 < cut_s < STALL_S + 8
