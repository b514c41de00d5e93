"""Clients that leave: their slot is free within a second, their neighbours notice nothing (R11)."""

import itertools
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.conftest import ServerFactory
from tests.faults.conftest import SCRIPT
from tests.faults.watch import under_watch
from tests.faults.wire import body, connected, counting, events, gauge, post, read_until, wait_for
from tests.lengths import length
from tests.running import RunningServer

FREE_WITHIN_S = 1.0
ROUNDS, ROUNDS_OF_THE_MODEL = length(2, 5), length(1, 2)
RUNNING = "sestet_slots_running"
WAITING = "sestet_queue_waiting"


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half_close(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


WAYS: tuple[Callable[[socket.socket], None], ...] = (close, reset, half_close)


@contextmanager
def asking(port: int, fields: dict[str, object]) -> Iterator[socket.socket]:
    with connected(port) as connection:
        connection.sendall(post(fields))
        yield connection


@pytest.mark.slow
def test_whoever_leaves_frees_a_slot_within_a_second(serve: ServerFactory) -> None:
    """Two slots: a neighbour holds one from beginning to end. Each round leaves once while decoding, and once
    while waiting, by every way there is to leave: 12 cuts a round."""
    server = serve(script=SCRIPT.replace("slots = 64", "slots = 2"))
    ticks = body("TICK", max_tokens=100_000)
    freed_s = []
    with under_watch(server), asking(server.port, {**ticks, "stream": True}) as neighbour:
        received = read_until(neighbour, b"tick")
        for _, way, stream in itertools.product(range(ROUNDS), WAYS, (True, False)):
            with asking(server.port, {**ticks, "stream": stream}) as decoding:
                wait_for(server, RUNNING, 2.0, 5)
                with asking(server.port, {**ticks, "stream": stream}) as queued:
                    wait_for(server, WAITING, 1.0, 5)
                    way(queued)
                    freed_s.append(wait_for(server, WAITING, 0.0, 5))
                way(decoding)
                freed_s.append(wait_for(server, RUNNING, 1.0, 5))
        cut_at = time.monotonic()
        received = read_until(neighbour, b"tick", received.rpartition(b"\r\n\r\n")[2])
        assert time.monotonic() - cut_at < 5
        assert 1.0 == gauge(server, RUNNING)

    assert 2 * ROUNDS * len(WAYS) * 2 == len(freed_s)
    assert [] == [seconds for seconds in freed_s if seconds > FREE_WITHIN_S]


def test_whoever_leaves_before_the_first_token_frees_a_slot(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT.replace("slots = 64", "slots = 1"))
    freed_s = []
    with under_watch(server):
        for way, stream in itertools.product(WAYS, (True, False)):
            with asking(server.port, body("NEVER", stream=stream)) as reading:
                wait_for(server, RUNNING, 1.0, 5)
                way(reading)
                freed_s.append(wait_for(server, RUNNING, 0.0, 5))

    assert [] == [seconds for seconds in freed_s if seconds > FREE_WITHIN_S]


def test_a_neighbour_is_told_every_token_while_others_leave(open_server: RunningServer) -> None:
    with under_watch(open_server), asking(open_server.port, body("TICK", stream=True, max_tokens=60)) as neighbour:
        received = read_until(neighbour, b"tick")
        for way in WAYS:
            with asking(open_server.port, body("TICK", stream=True, max_tokens=100_000)) as leaver:
                read_until(leaver, b"tick")
                way(leaver)
        received = read_until(neighbour, b"message_stop", received)

    assert 60 == received.count(b'"text":"tick "')
    assert b'"output_tokens":60' in received


def test_a_client_that_leaves_is_settled_with_the_tokens_made_so_far(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT)
    with asking(server.port, body("TICK", stream=True, max_tokens=100_000)) as connection:
        read_until(connection, b"tick")
    wait_for(server, RUNNING, 0.0, 5)
    wait_for(server, "sestet_replies_total", 1.0, 5)
    settled = [json.loads(line) for line in server.log.splitlines() if '"event":"reply"' in line]

    assert ["abandoned"] == [line["ending"] for line in settled]
    assert 1 <= settled[0]["output_tokens"] < 100


@pytest.mark.slow
@pytest.mark.engine
def test_the_embedded_model_stops_when_its_client_leaves(serve: ServerFactory) -> None:
    server = serve(config="[engine]\nslots = 1\nthreads = 1\nwindow = 2048\n")
    freed_s, next_s = [], []
    with under_watch(server):
        for way, stream in [*itertools.product(WAYS, (True, False))] * ROUNDS_OF_THE_MODEL:
            with asking(server.port, counting(1_500, stream=stream)) as decoding:
                wait_for(server, RUNNING, 1.0, 10)
                # A reply that is not streamed tells nothing, so give it the time of a few tokens.
                time.sleep(0.2)
                way(decoding)
                freed_s.append(wait_for(server, RUNNING, 0.0, 10))
                started = time.monotonic()
                after = httpx2.post(f"{server.url}/v1/messages", json=counting(1), timeout=60)
                next_s.append(time.monotonic() - started)
                assert 200 == after.status_code

    assert 6 * ROUNDS_OF_THE_MODEL == len(freed_s)
    assert [] == [seconds for seconds in freed_s if seconds > FREE_WITHIN_S]
    # 1,500 tokens take half a minute or more; had one of them been gone on with, this would have waited for it.
    assert [] == [seconds for seconds in next_s if seconds > 15.0]


def test_a_stream_that_is_read_to_its_end_leaves_the_connection_usable(open_server: RunningServer) -> None:
    with under_watch(open_server), httpx2.Client(base_url=open_server.url) as client:
        for _ in range(5):
            answer = client.post("/v1/messages", json=body(stream=True))
            assert "message_stop" == events(answer.content)[-1][0]
