"""Bodies and headers that are too large, lie about their size, or are not JSON (T15, T18, T20)."""

import gzip
import json
from collections.abc import Iterator

import httpx2
import pytest

from tests.faults.watch import under_watch
from tests.faults.wire import answers, body, check_error, connected, read_all, request_bytes, send_and_read
from tests.running import RunningServer

LIMIT = 32 * 2**20
MIB = 2**20
CLOSE = "Connection: close"


def padded(size: int) -> bytes:
    """A good request of exactly this many bytes."""
    content = json.dumps(body()).encode()
    return content + b" " * (size - len(content))


def chunked(content: bytes, chunk_bytes: int = MIB) -> Iterator[bytes]:
    for start in range(0, len(content), chunk_bytes):
        chunk = content[start : start + chunk_bytes]
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


def send_chunked(port: int, content: bytes) -> bytes:
    return send_and_read(
        port,
        request_bytes(b"".join(chunked(content)), length=-1, headers=("Transfer-Encoding: chunked", CLOSE)),
        timeout_s=30,
    )


@pytest.mark.slow
def test_the_limit_is_kept_to_the_byte_however_the_body_comes(open_server: RunningServer) -> None:
    port = open_server.port
    with under_watch(open_server, input_bytes=2 * LIMIT, canary_max_s=3.0):
        found = {
            "at the limit": send_and_read(port, request_bytes(padded(LIMIT), headers=(CLOSE,)), 30),
            "above the limit": send_and_read(port, request_bytes(padded(LIMIT + 1), headers=(CLOSE,)), 30),
            "chunked, at the limit": send_chunked(port, padded(LIMIT)),
            "chunked, above the limit": send_chunked(port, padded(LIMIT + 1)),
            "twice the limit": send_chunked(port, padded(2 * LIMIT)),
            "far above the limit": send_chunked(port, b" " * (9 * LIMIT)),
        }

    given = {name: answers(received) for name, received in found.items()}
    assert {
        "at the limit": [200],
        "above the limit": [413],
        "chunked, at the limit": [200],
        "chunked, above the limit": [413],
        "twice the limit": [413],
        "far above the limit": [413],
    } == {name: [answer.status for answer in one] for name, one in given.items()}
    assert "32" in check_error(given["above the limit"][0], 413, "request_too_large")


def test_a_token_count_has_the_same_limit(open_server: RunningServer) -> None:
    content = padded(LIMIT + 1)
    line = "POST /v1/messages/count_tokens HTTP/1.1"

    found = answers(send_and_read(open_server.port, request_bytes(content, line=line, headers=(CLOSE,)), 30))

    assert [413] == [answer.status for answer in found]


def test_an_oversize_body_without_a_key_is_not_read(keyed_server: RunningServer) -> None:
    payload = request_bytes(b" " * MIB, length=10 * 2**30, headers=(CLOSE,))

    with under_watch(keyed_server, key="sk-sestet-sentinel-key-MzQ1Njc4OTAxMjM0"):
        found = answers(send_and_read(keyed_server.port, payload))

    assert [401] == [answer.status for answer in found]


def test_a_length_that_is_too_small_ends_the_connection(open_server: RunningServer) -> None:
    payload = request_bytes(json.dumps(body()).encode() + b"GARBAGE" * 100, length=len(json.dumps(body())))

    with under_watch(open_server):
        found = answers(send_and_read(open_server.port, payload))

    assert 400 == found[-1].status
    assert "close" == found[-1].headers["connection"]


def test_a_length_that_is_too_large_is_a_client_that_leaves(open_server: RunningServer) -> None:
    with under_watch(open_server), connected(open_server.port) as connection:
        connection.sendall(request_bytes(json.dumps(body()).encode(), length=10_000))
        connection.shutdown(1)
        received = read_all(connection)

    assert b"" == received


@pytest.fixture(scope="module")
def bomb() -> bytes:
    return gzip.compress(b" " * (64 * MIB))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x-unknown"])
def test_a_compressed_body_is_refused_and_never_opened(open_server: RunningServer, bomb: bytes, encoding: str) -> None:
    with under_watch(open_server):
        answer = httpx2.post(
            f"{open_server.url}/v1/messages", content=bomb, headers={"content-encoding": encoding}, timeout=30
        )

    assert 400 == answer.status_code
    assert "request_body_encoding_unsupported" == answer.json()["error"]["details"]["error_code"]


# Headers (T20).


def flood(count: int, size: int) -> tuple[str, ...]:
    return tuple(f"X-{number}: {'a' * size}" for number in range(count))


def test_headers_have_a_limit_of_64_kib_all_together(open_server: RunningServer) -> None:
    line = "GET /healthz HTTP/1.1"
    cases = {
        "60 KiB in one": flood(1, 60 * 1024),
        "4,000 small ones": flood(4_000, 1),
        "66 KiB in one": flood(1, 66 * 1024),
        "1 MiB in one": flood(1, MIB),
        "10,000 small ones": flood(10_000, 8),
        "64 MiB in one": flood(1, 64 * MIB),
    }

    with under_watch(open_server):
        found = {
            name: answers(send_and_read(open_server.port, request_bytes(line=line, headers=(*headers, CLOSE))))
            for name, headers in cases.items()
        }

    assert {
        "60 KiB in one": [200],
        "4,000 small ones": [200],
        "66 KiB in one": [431],
        "1 MiB in one": [431],
        "10,000 small ones": [431],
        "64 MiB in one": [431],
    } == {name: [answer.status for answer in given] for name, given in found.items()}


def test_a_path_counts_as_a_header(open_server: RunningServer) -> None:
    with under_watch(open_server):
        found = answers(send_and_read(open_server.port, request_bytes(line=f"GET /{'a' * MIB} HTTP/1.1")))

    assert [431] == [answer.status for answer in found]
    check_error(found[0], 431, "invalid_request_error")


def going_on(content: bytes, trailers: bytes) -> bytes:
    """A request whose headers go on after its body."""
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(content), content)
    return request_bytes(chunks + trailers + b"\r\n", length=-1, headers=("Transfer-Encoding: chunked", CLOSE))


BODY = json.dumps(body()).encode()
ENDLESS = {
    "many trailers": going_on(BODY, b"".join(b"X-%d: %b\r\n" % (number, b"a" * 1_000) for number in range(40_000))),
    "one trailer": going_on(BODY, b"X: " + b"a" * 40 * MIB + b"\r\n"),
    "what may follow the length of a chunk": going_on(BODY, b"").replace(b"\r\n0\r\n", b"\r\n0;" + b"a" * 40 * MIB),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_follows_a_body_is_no_longer_than_headers(open_server: RunningServer, name: str) -> None:
    with under_watch(open_server):
        found = answers(send_and_read(open_server.port, ENDLESS[name]))

    assert [answer.status for answer in found] in ([431], [])


def test_what_follows_a_body_is_no_header(open_server: RunningServer) -> None:
    with under_watch(open_server):
        found = answers(
            send_and_read(open_server.port, going_on(BODY, b"Host: evil.example\r\nContent-Encoding: gzip\r\n"))
        )

    assert [200] == [answer.status for answer in found]


# JSON (T15). The shapes of every field are the contract tests' business; here it is what a parser may choke on.

HOSTILE_JSON = {
    "nothing": b"",
    "white space": b" \n\t",
    "NUL": b"\0",
    "not UTF-8": b'{"model":"\xff"}',
    "UTF-16": '{"model":"scripted"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"model":"scripted"}',
    "cut": json.dumps(body()).encode()[:-1],
    "two values": json.dumps(body()).encode() * 2,
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "NaN": b'{"model":"scripted","max_tokens":NaN,"messages":[]}',
    "infinity": b'{"model":"scripted","max_tokens":1e999,"messages":[]}',
    "5,000 digits": b'{"model":"scripted","max_tokens":' + b"9" * 5_000 + b"}",
    "a million digits": b'{"model":"scripted","max_tokens":' + b"9" * 1_000_000 + b"}",
    "lone surrogate": b'{"model":"scripted","max_tokens":1,"messages":[{"role":"user","content":"\\ud800"}]}',
    "duplicate key": b'{"model":"scripted","model":"scripted"}',
    "deep lists": b"[" * 100_000,
    "deep lists, closed": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 100_000,
    "deep content": b'{"model":"scripted","max_tokens":1,"messages":' + b'[{"role":"user","content":' * 50_000,
    "a million keys": b"{" + b",".join(b'"%d":1' % number for number in range(1_000_000)) + b"}",
    "long key": b'{"' + b"k" * MIB + b'":1}',
    "control characters": b'{"model":"\x01"}',
    "comment": b'{/* */"model":"scripted"}',
    "trailing comma": b'{"model":"scripted",}',
    "single quotes": b"{'model':'scripted'}",
}


@pytest.mark.slow
def test_json_that_is_none_is_told_so(open_server: RunningServer) -> None:
    with under_watch(open_server, input_bytes=64 * MIB):
        found = {
            name: answers(send_and_read(open_server.port, request_bytes(content, headers=(CLOSE,)), 30))
            for name, content in HOSTILE_JSON.items()
        }

    for given in found.values():
        assert len(check_error(given[0], 400, "invalid_request_error")) < 500
    assert [1] * len(HOSTILE_JSON) == [len(given) for given in found.values()]
