"""SIGTERM: no new requests, running replies end well or are told why not, nothing is left behind (R25)."""

import signal
import time

import httpx2
import psutil
import pytest

from tests.conftest import ServerFactory
from tests.faults.conftest import SCRIPT
from tests.faults.wire import (
    answers,
    body,
    check_error,
    connected,
    counting,
    events,
    names,
    post,
    read_all,
    read_until,
    request_bytes,
    send_and_read,
)

CLOSE = "Connection: close"
RUNNING_STREAM = ["message_start", "content_block_start", "content_block_delta"]


def test_a_running_stream_is_finished_and_new_requests_are_refused(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT, config="[server]\ndrain_s = 20\n")
    with connected(server.port, 20) as stream, connected(server.port) as whole:
        stream.sendall(post(body("TICK", stream=True, max_tokens=100), CLOSE))
        whole.sendall(post(body("TICK", max_tokens=90), CLOSE))
        received = read_until(stream, b"tick")
        server.terminate()
        deadline = time.monotonic() + 5
        while (ready := httpx2.get(f"{server.url}/readyz")).status_code == 200:
            assert time.monotonic() < deadline
        refused = answers(send_and_read(server.port, post(body(), CLOSE)))
        counted = answers(
            send_and_read(server.port, post(body(), CLOSE).replace(b"/v1/messages ", b"/v1/messages/count_tokens "))
        )
        alive = answers(send_and_read(server.port, request_bytes(line="GET /healthz HTTP/1.1", headers=(CLOSE,))))
        received += read_all(stream)
        reply = answers(read_all(whole))
    status = server.wait(10)

    assert (503, {"status": "draining"}) == (ready.status_code, ready.json())
    assert [529, 529, 200] == [answer.status for answer in (*refused, *counted, *alive)]
    check_error(refused[0], 529, "overloaded_error")
    assert int(refused[0].headers["retry-after"]) >= 1
    (streamed,) = answers(received)
    assert streamed.whole
    assert [*RUNNING_STREAM, "content_block_stop", "message_delta", "message_stop"] == names(streamed.body)
    assert 100 == streamed.body.count(b'"text":"tick "')
    assert [(200, True)] == [(answer.status, answer.whole) for answer in reply]
    assert 90 == reply[0].json["usage"]["output_tokens"]
    assert 0 == status


def test_at_the_deadline_a_stream_is_told_and_ended_cleanly(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT, config="[server]\ndrain_s = 3\n")
    with connected(server.port) as stream, connected(server.port) as whole, connected(server.port) as late:
        stream.sendall(post(body("TICK", stream=True, max_tokens=100_000)))
        whole.sendall(post(body("TICK", max_tokens=100_000)))
        late.sendall(post(body("NEVER", stream=True)))
        received = read_until(stream, b"tick")
        server.terminate()
        signalled = time.monotonic()
        (streamed,) = answers(received + read_all(stream))
        (unstreamed,) = answers(read_all(whole))
        (unbegun,) = answers(read_all(late))
    status = server.wait(10)
    ended_s = time.monotonic() - signalled

    assert streamed.whole
    assert [*RUNNING_STREAM, "error"] == names(streamed.body)
    assert "overloaded_error" == events(streamed.body)[-1][1]["error"]["type"]
    check_error(unstreamed, 529, "overloaded_error")
    assert unbegun.whole
    assert ["message_start", "error"] == names(unbegun.body)
    assert 0 == status
    assert 2.9 < ended_s < 8.0


def test_a_second_signal_ends_it_at_once(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT, config="[server]\ndrain_s = 60\n")
    with connected(server.port) as stream:
        stream.sendall(post(body("TICK", stream=True, max_tokens=100_000)))
        read_until(stream, b"tick")
        server.terminate()
        deadline = time.monotonic() + 5
        while httpx2.get(f"{server.url}/readyz").status_code == 200:
            assert time.monotonic() < deadline
        server.terminate()
        signalled = time.monotonic()
        status = server.wait(10)

    assert 0 == status
    assert time.monotonic() - signalled < 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_idle_server_ends_at_once(serve: ServerFactory, number: signal.Signals) -> None:
    server = serve(script=SCRIPT)
    with connected(server.port) as idle:
        idle.sendall(request_bytes(line="GET /healthz HTTP/1.1"))
        read_until(idle, b"alive")
        started = time.monotonic()
        server.process.send_signal(number)
        status = server.wait(10)

    assert 0 == status
    assert time.monotonic() - started < 3
    assert "Traceback" not in server.log


def test_a_queue_is_told_at_the_deadline_too(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT.replace("slots = 64", "slots = 1"), config="[server]\ndrain_s = 0.5\n")
    with connected(server.port) as stream, connected(server.port) as queued:
        stream.sendall(post(body("TICK", stream=True, max_tokens=100_000)))
        read_until(stream, b"tick")
        queued.sendall(post(body("Hi")))
        server.terminate()
        (answer,) = answers(read_all(queued))

    check_error(answer, 529, "overloaded_error")
    assert 0 == server.wait(10)


@pytest.mark.engine
def test_no_engine_is_left_behind(serve: ServerFactory) -> None:
    server = serve(config="[engine]\nslots = 1\nthreads = 1\nwindow = 512\n[server]\ndrain_s = 0.5\n")
    engines = psutil.Process(server.pid).children()
    with connected(server.port) as stream:
        stream.sendall(post(counting(400, stream=True)))
        received = read_until(stream, b"text_delta")
        server.terminate()
        (answer,) = answers(received + read_all(stream))
    status = server.wait(10)
    _, alive = psutil.wait_procs(engines, timeout=2)

    assert [*RUNNING_STREAM, "error"] == names(answer.body)
    assert answer.whole
    assert 0 == status
    assert (2, []) == (len(engines), alive)  # llama.cpp, and who writes the ledger
    assert "Traceback" not in server.log
