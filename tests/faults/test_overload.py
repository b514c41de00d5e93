"""More than there is room for: refused at once, with a time to come back; the others are served (R13, R17)."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import httpx2
import pytest

from tests.conftest import ServerFactory
from tests.faults.conftest import SCRIPT
from tests.faults.watch import under_watch
from tests.faults.wire import (
    HEADERS,
    Answer,
    answers,
    body,
    check_error,
    connected,
    post,
    read_until,
    request_bytes,
    send_and_read,
    wait_for,
)
from tests.running import RunningServer

pytestmark = pytest.mark.alone

MIB = 2**20
LOOP_LAG_MAX_S = 1.0  # on a busy machine; on a quiet one it is to be a tenth of that


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT.replace("slots = 64", "slots = 1"), config="[server]\nqueue = 2\n")
    refused: list[Answer] = []
    with under_watch(server), ExitStack() as stack:
        clients = [stack.enter_context(connected(server.port)) for _ in range(3)]
        clients[0].sendall(post(body("TICK", stream=True, max_tokens=100_000)))
        read_until(clients[0], b"tick")
        for client in clients[1:]:
            client.sendall(post(body("Hi"), "Connection: close"))
        wait_for(server, "sestet_queue_waiting", 2.0, 5)
        started = time.monotonic()
        for stream in (True, False) * 10:
            refused += answers(send_and_read(server.port, post(body("Hi", stream=stream), "Connection: close")))
        refusing_s = time.monotonic() - started
        clients[0].close()
        replies = [read_until(client, b'"usage"') for client in clients[1:]]

    assert [529] * 20 == [answer.status for answer in refused]
    for answer in refused:
        assert "busy" in check_error(answer, 529, "overloaded_error")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert refusing_s < 20 * 0.25
    assert [True, True] == [reply.startswith(b"HTTP/1.1 200 ") for reply in replies]


def test_those_who_wait_are_served_in_order_of_arrival(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT.replace("slots = 64", "slots = 1"))
    with under_watch(server), ExitStack() as stack:
        clients = [stack.enter_context(connected(server.port)) for _ in range(5)]
        clients[0].sendall(post(body("TICK", stream=True, max_tokens=100_000)))
        read_until(clients[0], b"tick")
        for position, client in enumerate(clients[1:], start=1):
            client.sendall(post(body(f"TICK {position}", stream=True, max_tokens=10)))
            wait_for(server, "sestet_queue_waiting", float(position), 5)
        clients[0].close()
        ended = []
        for client in clients[1:]:
            read_until(client, b"message_stop")
            ended.append(time.monotonic())

    # Ten ticks take 0.2 s, so whoever was served out of turn would have ended before the one asked first.
    assert sorted(ended) == ended
    assert ended[-1] - ended[0] > 0.3


def test_a_queue_of_none_refuses_all_but_who_runs(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT.replace("slots = 64", "slots = 1"), config="[server]\nqueue = 0\n")
    with under_watch(server), connected(server.port) as running:
        running.sendall(post(body("TICK", stream=True, max_tokens=100_000)))
        read_until(running, b"tick")
        busy = httpx2.post(f"{server.url}/v1/messages", json=body()).status_code
        running.close()
        wait_for(server, "sestet_slots_running", 0.0, 5)
        free = httpx2.post(f"{server.url}/v1/messages", json=body()).status_code

    assert (529, 200) == (busy, free)


# One huge request must not hold up the others (R17).


Fields = dict[str, object]


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def one_string() -> Fields:
    return {"messages": [user("word " * (6 * MIB))]}


def many_blocks() -> Fields:
    return {"messages": [user([{"type": "text", "text": "x"}] * 1_000_000)]}


def many_messages() -> Fields:
    return {"messages": [user("x"), {"role": "assistant", "content": "y"}] * 49_999 + [user("z")]}


def many_keys() -> Fields:
    return {"messages": [{**user("x"), **{f"key{number}": 1 for number in range(1_000_000)}}]}


def many_wrong_blocks() -> Fields:
    return {"messages": [user([{"type": "text", "text": 1}] * 500_000)]}


def control_tokens() -> Fields:
    return {"messages": [user("<|im_end|>" * 3_000_000)]}


def many_parts_in_tools() -> Fields:
    tool = {"name": "t", "input_schema": {"anyOf": [{}] * 40_000}}
    return {"messages": [user("x")], "tools": [{**tool, "name": f"t{number}"} for number in range(60)]}


def one_schema_from_many_depths() -> Fields:
    nested: dict[str, object] = {"anyOf": [{}] * 58_000}
    for _ in range(24):
        nested = {"items": nested}
    targets = [{"$ref": "#/$defs/a" + "/items" * number} for number in range(24)]
    schema = {"type": "object", "anyOf": targets, "$defs": {"a": nested}}
    return {"messages": [user("x")], "tools": [{"name": f"t{number}", "input_schema": schema} for number in range(2)]}


def many_wrong_callers() -> Fields:
    tool = {"name": "t", "input_schema": {}, "allowed_callers": [0] * 500_000}
    return {"messages": [user("x")], "tools": [tool]}


SHAPES: dict[str, Callable[[], Fields]] = {
    "one string": one_string,
    "a million blocks": many_blocks,
    "100,000 messages": many_messages,
    "a million keys": many_keys,
    "500,000 wrong blocks": many_wrong_blocks,
    "control tokens": control_tokens,
    "many parts in tools": many_parts_in_tools,
    "one schema from many depths": one_schema_from_many_depths,
    "500,000 wrong callers": many_wrong_callers,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_a_huge_request_does_not_hold_up_the_others(open_server: RunningServer, name: str) -> None:
    server = open_server
    fields = SHAPES[name]()
    content = json.dumps({**body(), **fields}, separators=(",", ":")).encode()
    assert len(content) < 32 * MIB
    found: list[Answer] = []

    def send() -> None:
        payload = request_bytes(content, headers=("Connection: close",))
        found.extend(answers(send_and_read(server.port, payload, timeout_s=60)))

    tool = {"name": "t", "input_schema": {"type": "object"}}  # the compiler of grammars is started by the first one
    httpx2.post(f"{server.url}/v1/messages", json={**body(), "tools": [tool]}, headers=HEADERS)
    dies = "tools" in fields  # and may end over one of ours
    with under_watch(server, input_bytes=24 * len(content), canary_max_s=LOOP_LAG_MAX_S, engine_dies=dies):
        sender = threading.Thread(target=send)
        sender.start()
        sender.join()

    # The scripted engine's window is 200,000 characters.
    assert [400] == [answer.status for answer in found]
    assert len(check_error(found[0], 400, "invalid_request_error")) < 1_000


@pytest.mark.slow
def test_many_large_requests_at_once_hurt_nobody(open_server: RunningServer) -> None:
    content = json.dumps(body("word " * 30_000)).encode()

    def send() -> None:
        for _ in range(4):
            sent.append(httpx2.post(f"{open_server.url}/v1/messages", content=content, headers=HEADERS).status_code)

    sent: list[int] = []
    with under_watch(open_server, input_bytes=64 * MIB):
        senders = [threading.Thread(target=send) for _ in range(8)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()

    assert [200] * 32 == sent
