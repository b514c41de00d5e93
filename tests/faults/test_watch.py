"""The watch itself: it must see what it is there to see."""

import socket

import httpx2
import pytest

from tests.conftest import ServerFactory
from tests.faults.conftest import SCRIPT
from tests.faults.watch import under_watch
from tests.faults.wire import body, connected, post, read_until, wait_for
from tests.running import RunningServer


def test_a_quiet_server_passes(open_server: RunningServer) -> None:
    with under_watch(open_server, secrets=("sentinel-that-nobody-says",)) as watch:
        watch.hear(httpx2.get(f"{open_server.url}/healthz").content)

    assert len(watch.canary) >= 1


def test_a_secret_that_was_heard_is_told(open_server: RunningServer) -> None:
    with pytest.raises(AssertionError, match="alive"), under_watch(open_server, secrets=("alive",)) as watch:
        watch.hear(httpx2.get(f"{open_server.url}/healthz").content)


def test_a_secret_in_the_log_is_told(open_server: RunningServer) -> None:
    with pytest.raises(AssertionError, match="count_tokens"), under_watch(open_server, secrets=("count_tokens",)):
        pass


def test_a_server_that_dies_is_told(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT)

    def kill() -> None:
        server.process.kill()
        server.wait(10)

    with pytest.raises(AssertionError, match="the server ended"), under_watch(server):
        kill()


def test_a_slot_that_is_not_given_back_is_told(open_server: RunningServer) -> None:
    def occupy(connection: socket.socket) -> None:
        connection.sendall(post(body("TICK", stream=True, max_tokens=10_000)))
        read_until(connection, b"tick")

    with (
        connected(open_server.port) as left_behind,
        pytest.raises(AssertionError, match="left behind"),
        under_watch(open_server, settle_s=1.0),
    ):
        occupy(left_behind)
    wait_for(open_server, "sestet_slots_running", 0.0, 10)


def test_a_server_that_holds_its_breath_is_told(open_server: RunningServer) -> None:
    with pytest.raises(AssertionError, match="p99"), under_watch(open_server, canary_max_s=0.0):
        httpx2.get(f"{open_server.url}/healthz")
