"""HTTP by hand: the bytes of a request as a test wants them, and the answers read back strictly."""

import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.running import RunningServer

MODEL = "scripted"
END_WITHIN_S = 60.0
HEADERS = {"anthropic-version": "2023-06-01", "content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One response of a byte stream. `body` is without its chunking; `whole` says that its end was seen."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def body(content: str = "Hi", **fields: object) -> dict[str, object]:
    return {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": content}], **fields}


def counting(max_tokens: int, **fields: object) -> dict[str, object]:
    """A request that the embedded model answers for as long as it may: it goes on counting."""
    messages = [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": "1 2 3 4 5 6 7 8 9 10 11 12 13"},
    ]
    return {
        "model": "smollm2-135m-instruct",
        "max_tokens": max_tokens,
        "temperature": 0,
        "messages": messages,
        **fields,
    }


def request_bytes(
    payload: bytes = b"",
    *,
    line: str = "POST /v1/messages HTTP/1.1",
    host: str | None = "127.0.0.1",
    headers: tuple[str, ...] = (),
    length: int | None = None,
) -> bytes:
    """A request. `length` is the Content-Length to tell instead of the true one; -1 tells none."""
    told = len(payload) if length is None else length
    lines = [
        line,
        *([f"Host: {host}"] if host is not None else []),
        *([f"Content-Length: {told}"] if told >= 0 else []),
        *headers,
    ]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + payload


def post(fields: Mapping[str, object], *headers: str) -> bytes:
    return request_bytes(json.dumps(fields).encode(), headers=headers)


@contextmanager
def connected(port: int, timeout_s: float = 15.0) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
        yield connection


def send_and_read(port: int, payload: bytes, timeout_s: float = 15.0) -> bytes:
    """Everything the server says to these bytes until it closes. We keep our half open: closing it is leaving."""
    with connected(port, timeout_s) as connection:
        # A server that has refused does not want to hear the rest; what it said is still to be read.
        with suppress(ConnectionError):
            connection.sendall(payload)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Up to the end; a connection that is not ended in time fails the test."""
    received = b""
    deadline = time.monotonic() + END_WITHIN_S
    with suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
            assert time.monotonic() < deadline, f"no end within {END_WITHIN_S} s: {received[-200:]!r}"
    return received


def read_until(connection: socket.socket, mark: bytes, received: bytes = b"") -> bytes:
    while mark not in received:
        chunk = connection.recv(65536)
        assert chunk, f"closed before {mark!r}: {received!r}"
        received += chunk
    return received


def answers(received: bytes) -> list[Answer]:
    """The responses in these bytes; anything that is no response fails the test."""
    found = []
    while received:
        head, mark, rest = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [^\r\n]*", lines[0])
        assert match is not None, f"no HTTP response: {received[:200]!r}"
        assert mark, "the connection closed inside the headers"
        pairs = [line.partition(":") for line in lines[1:]]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if match[1] == "100":
            received = rest
            continue
        if headers.get("transfer-encoding") == "chunked":
            content, whole, received = _dechunk(rest)
        else:
            length = int(headers.get("content-length", "0"))
            content, whole, received = rest[:length], len(rest) >= length, rest[length:]
        found.append(Answer(int(match[1]), headers, content, whole))
    return found


def _dechunk(data: bytes) -> tuple[bytes, bool, bytes]:
    content = b""
    while True:
        size_line, mark, rest = data.partition(b"\r\n")
        if not mark:
            return content, False, b""
        size = int(size_line, 16)
        if size == 0:
            return content, rest.startswith(b"\r\n"), rest[2:]
        content += rest[:size]
        if len(rest) < size + 2:
            return content, False, b""
        data = rest[size + 2 :]


def events(stream: bytes) -> list[tuple[str, Any]]:
    """The server-sent events of a whole body, strictly: an event line, a data line, an empty line."""
    frames = stream.decode().split("\n\n")
    assert frames.pop() == "", "the stream ends inside a frame"
    found = []
    for frame in frames:
        match = re.fullmatch(r"event: ([a-z_]+)\ndata: (\{.*\})", frame)
        assert match is not None, f"no event: {frame!r}"
        found.append((match[1], json.loads(match[2])))
    return found


def names(stream: bytes) -> list[str]:
    """The events' names, with repetitions of one after another left out, and pings too."""
    found: list[str] = []
    for name, _ in events(stream):
        if name != "ping" and found[-1:] != [name]:
            found.append(name)
    return found


def check_error(answer: Answer, status: int, kind: str) -> str:
    """The one shape of an error; its message."""
    content = answer.json
    assert (status, kind) == (answer.status, content["error"]["type"]), content
    assert ["type", "error", "request_id"] == list(content)
    assert "error" == content["type"]
    assert {"type", "message"} <= content["error"].keys() <= {"type", "message", "details", "param", "code"}
    assert re.fullmatch(r"req_[0-9a-f]{32}", content["request_id"])
    assert content["request_id"] == answer.headers["request-id"]
    assert answer.whole
    message: str = content["error"]["message"]
    assert message
    return message


def gauge(server: RunningServer, name: str, key: str | None = None) -> float:
    """The sum of a metric over its labels."""
    headers = {"x-api-key": key} if key else {}
    text = httpx2.get(f"{server.url}/metrics", headers=headers, timeout=10).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


def wait_for(server: RunningServer, name: str, value: float, timeout_s: float, key: str | None = None) -> float:
    """Waits for a metric to have this value; the seconds it took. Nothing tells of a change, so it is asked."""
    started = time.monotonic()
    while (found := gauge(server, name, key)) != value:
        assert time.monotonic() - started < timeout_s, f"{name} is {found}, not {value}, after {timeout_s} s"
        time.sleep(0.01)
    return time.monotonic() - started
