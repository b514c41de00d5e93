"""Who gets in, and by which door: Host and path tricks, smuggling, exposure, pages of other sites, keys."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx2
import psutil
import pytest

from sestet.contract.errors import ApiError
from tests.conftest import ServerFactory
from tests.faults.conftest import KEY, SCRIPT
from tests.faults.watch import under_watch
from tests.faults.wire import (
    answers,
    body,
    check_error,
    connected,
    post,
    read_all,
    read_until,
    request_bytes,
    send_and_read,
)
from tests.running import RunningServer
from tests.unit.keyrings import keyring

CLOSE = "Connection: close"
SECOND = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

# Host and path (T03). A public path in a Host header or beside the true path must open nothing.

HOSTS = {
    "foreign": ("evil.example", 401),
    "slash": ("127.0.0.1/healthz", 400),
    "slash and query": ("127.0.0.1/healthz?", 400),
    "question mark": ("127.0.0.1?/healthz", 400),
    "fragment": ("127.0.0.1#/healthz", 400),
    "user": ("healthz@127.0.0.1", 400),
    "backslash": ("127.0.0.1\\healthz", 400),
    "percent": ("127.0.0.1%2fhealthz", 400),
    "space": ("127.0.0.1 /healthz", 400),
    "empty": ("", 400),
    "port that is none": ("127.0.0.1:80:80", 400),
    "port with letters": ("127.0.0.1:8o", 400),
    "long": ("a" * 300, 400),
    "not ASCII": ("ex\udcc3\udca4mple", 400),
    "NUL": ("127.0.0.1\0", 400),
    "list": ("127.0.0.1, evil.example", 400),
    "missing": (None, 400),
}

TARGETS = {
    "double slash": ("//v1/models", 401),
    "triple slash": ("///healthz", 401),
    "dot segments": ("/healthz/../v1/models", 401),
    "encoded dot segments": ("/healthz/%2e%2e/v1/models", 401),
    "parameter": ("/v1/models;/healthz", 401),
    "parameter behind a public path": ("/healthz;/../v1/models", 401),
    "encoded slash": ("/healthz%2f..%2fv1%2fmodels", 401),
    "encoded question mark": ("/v1/models%3f/healthz", 401),
    "encoded NUL": ("/v1/models%00/healthz", 401),
    "encoded line end": ("/v1/models%0d%0aX-Api-Key:x", 401),
    "backslash": ("/v1\\models", 401),
    "query": ("/v1/models?/healthz", 401),
    "key in the query": (f"/v1/models?key={KEY}&api_key={KEY}&x-api-key={KEY}", 401),
    "trailing slash": ("/v1/models/", 401),
    "upper case": ("/V1/MODELS", 401),
    "public path with a tail": ("/healthz/", 401),
    "public path, encoded": ("/%68ealthz%2f", 401),
    "absolute": ("http://127.0.0.1/v1/models", 401),
    "absolute, foreign": ("http://evil.example/v1/models", 401),
    "absolute, to a public path's host": ("http://healthz/v1/models", 401),
    "no slash": ("v1/models", 400),
    "star": ("*", 401),
}


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_header_opens_nothing(keyed_server: RunningServer, name: str) -> None:
    host, status = HOSTS[name]
    payload = request_bytes(line="GET /v1/models HTTP/1.1", host=host, headers=(CLOSE,))

    found = answers(send_and_read(keyed_server.port, payload))

    assert [status] == [answer.status for answer in found]
    check_error(found[0], status, "authentication_error" if status == 401 else "invalid_request_error")


@pytest.mark.parametrize("name", TARGETS)
def test_a_path_that_looks_like_another_opens_nothing(keyed_server: RunningServer, name: str) -> None:
    target, status = TARGETS[name]
    payload = request_bytes(line=f"GET {target} HTTP/1.1", headers=(CLOSE,))

    found = answers(send_and_read(keyed_server.port, payload))

    assert [status] == [answer.status for answer in found]
    check_error(found[0], status, "authentication_error" if status == 401 else "invalid_request_error")


def test_two_host_headers_are_refused(keyed_server: RunningServer) -> None:
    payload = request_bytes(line="GET /healthz HTTP/1.1", headers=("Host: 127.0.0.1", CLOSE))

    assert [400] == [answer.status for answer in answers(send_and_read(keyed_server.port, payload))]


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "OPTIONS", "DELETE", "PATCH", "PUT", "HEAD"])
def test_no_method_opens_a_route_without_a_key(keyed_server: RunningServer, method: str) -> None:
    payload = request_bytes(line=f"{method} /v1/models HTTP/1.1", headers=(CLOSE,))

    received = send_and_read(keyed_server.port, payload)

    assert received.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))


def test_a_websocket_is_not_spoken(keyed_server: RunningServer) -> None:
    upgrade = (
        "Upgrade: websocket",
        "Connection: Upgrade, close",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: eA==",
    )
    payload = request_bytes(line="GET /v1/messages HTTP/1.1", headers=upgrade)

    assert [401] == [answer.status for answer in answers(send_and_read(keyed_server.port, payload))]


# Smuggling (T04): one request goes in, so one answer comes out.

BODY = b'{"model":"scripted"}'

SMUGGLED = {
    "length and chunked": request_bytes(b"0\r\n\r\n" + SECOND, headers=("Transfer-Encoding: chunked",)),
    "chunked and length": (
        b"POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
        b"0\r\n\r\n" + SECOND
    ),
    "two lengths": request_bytes(BODY + SECOND, length=20, headers=("Content-Length: 0",)),
    "two equal lengths": request_bytes(BODY, headers=("Content-Length: 20",)),
    "list of lengths": request_bytes(BODY + SECOND, length=-1, headers=("Content-Length: 20, 20",)),
    "signed length": request_bytes(BODY + SECOND, length=-1, headers=("Content-Length: +20",)),
    "negative length": request_bytes(BODY + SECOND, length=-1, headers=("Content-Length: -1",)),
    "hexadecimal length": request_bytes(BODY + SECOND, length=-1, headers=("Content-Length: 0x14",)),
    "length with a space": request_bytes(BODY + SECOND, length=-1, headers=("Content-Length: 2 0",)),
    "huge length": request_bytes(BODY + SECOND, length=2**64 + 20),
    "unknown coding": request_bytes(SECOND, length=-1, headers=("Transfer-Encoding: xchunked",)),
    "identity": request_bytes(SECOND, length=-1, headers=("Transfer-Encoding: identity",)),
    "chunked twice": request_bytes(b"0\r\n\r\n" + SECOND, length=-1, headers=("Transfer-Encoding: chunked, chunked",)),
    "coding behind chunked": request_bytes(
        b"0\r\n\r\n" + SECOND, length=-1, headers=("Transfer-Encoding: chunked, identity",)
    ),
    "vertical tab": request_bytes(b"0\r\n\r\n" + SECOND, length=-1, headers=("Transfer-Encoding: \x0bchunked",)),
    "space before the colon": request_bytes(b"0\r\n\r\n" + SECOND, length=-1, headers=("Transfer-Encoding : chunked",)),
    "folded header": request_bytes(
        b"0\r\n\r\n" + SECOND, length=-1, headers=("X-A: b\r\n Transfer-Encoding: chunked",)
    ),
    "bare line feeds": b"POST /v1/messages HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 0\n\n" + SECOND,
    "bare carriage return": b"POST /v1/messages HTTP/1.1\rHost: 127.0.0.1\r\r" + SECOND,
    "line feed in a chunk's extension": request_bytes(
        b"2;x\nxx\r\n{}\r\n0\r\n\r\n" + SECOND, length=-1, headers=("Transfer-Encoding: chunked",)
    ),
    "chunk size that is none": request_bytes(b"x\r\n\r\n" + SECOND, length=-1, headers=("Transfer-Encoding: chunked",)),
    "chunk size too large": request_bytes(
        b"ffffffffffffffff1\r\n\r\n" + SECOND, length=-1, headers=("Transfer-Encoding: chunked",)
    ),
    "chunk longer than told": request_bytes(
        b"1\r\n{}\r\n0\r\n\r\n" + SECOND, length=-1, headers=("Transfer-Encoding: chunked",)
    ),
    "NUL in a header": request_bytes(BODY, headers=("X-A: b\0c",)),
    "header without a name": request_bytes(BODY, headers=(": x",)),
    "space in a header's name": request_bytes(BODY, headers=("X A: b",)),
    "HTTP/9.9": b"GET /v1/models HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n" + SECOND,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SECOND,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SECOND,
    "nothing but junk": bytes(range(256)),
}


def test_a_request_with_two_ends_is_refused_and_the_connection_closed(open_server: RunningServer) -> None:
    with under_watch(open_server):
        found = {name: answers(send_and_read(open_server.port, payload)) for name, payload in SMUGGLED.items()}

    assert {name: [400] for name in SMUGGLED} == {
        name: [answer.status for answer in given] for name, given in found.items()
    }
    for given in found.values():
        assert "close" == given[0].headers["connection"]
        check_error(given[0], 400, "invalid_request_error")


def test_a_request_of_the_first_version_is_one_request_like_any_other(keyed_server: RunningServer) -> None:
    found = answers(send_and_read(keyed_server.port, b"GET /v1/models\r\n\r\n" + SECOND))

    assert [401] == [answer.status for answer in found]


def test_pipelined_requests_are_answered_in_order(open_server: RunningServer) -> None:
    whole = post(body())
    last = request_bytes(line="GET /healthz HTTP/1.1", headers=(CLOSE,))

    found = answers(send_and_read(open_server.port, whole + SECOND + last))

    assert ["message", None, None] == [answer.json.get("type") for answer in found]
    assert [200, 200, 200] == [answer.status for answer in found]
    assert {"status": "alive"} == found[2].json


# Exposure (T12).


@pytest.mark.parametrize(
    ("way", "host"),
    [
        ("option", "0.0.0.0"),  # noqa: S104 - that this is refused is the point
        ("option", "::"),
        ("option", "10.0.0.1"),
        ("option", "example.com"),
        ("option", "0"),
        ("file", "0.0.0.0"),  # noqa: S104 - as above
        ("file", "::"),
        ("environment", "0.0.0.0"),  # noqa: S104 - as above
        ("environment", "192.168.1.1"),
    ],
)
def test_an_open_address_without_keys_is_refused(tmp_path: Path, way: str, host: str) -> None:
    config = tmp_path / "sestet.toml"
    config.write_text(f'[server]\nhost = "{host}"\n' if way == "file" else "")
    environment = {"SESTET_SERVER_HOST": host} if way == "environment" else {}
    option = ["--host", host] if way == "option" else []

    ended = subprocess.run(
        [sys.executable, "-m", "sestet.cli.main", "serve", "--engine", "scripted", *option, "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, **environment},
        check=False,
    )

    assert 2 == ended.returncode
    assert [f"sestet: refusing to listen on {host} without API keys"] == [
        line.partition(":")[0] + ":" + line.partition(":")[2][: len(f" refusing to listen on {host} without API keys")]
        for line in ended.stderr.strip().splitlines()
    ]
    assert "access.keys" in ended.stderr


def test_by_default_only_this_machine_is_listened_to(open_server: RunningServer) -> None:
    process = psutil.Process(open_server.pid)
    listening = [
        (connection.laddr.ip, connection.laddr.port)
        for one in (process, *process.children(recursive=True))
        for connection in one.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert [("127.0.0.1", open_server.port)] == listening


def test_with_keys_an_open_address_may_be_listened_on(serve: ServerFactory) -> None:
    server = serve(script=SCRIPT, config=f'[access]\nkeys = ["{KEY}"]\n', arguments=("--host", "0.0.0.0"))  # noqa: S104

    assert 401 == httpx2.get(f"{server.url}/v1/models").status_code
    assert 200 == httpx2.get(f"{server.url}/v1/models", headers={"x-api-key": KEY}).status_code


# Pages of other sites (T13). Without keys the address is the only protection.

PAGES = {
    "this machine": (("Host: 127.0.0.1",), 200),
    "this machine by name": (("Host: LocalHost:8000",), 200),
    "this machine, IPv6": (("Host: [::1]:8000",), 200),
    "own page": (("Host: localhost", "Origin: http://localhost:3000"), 200),
    "rebound name": (("Host: evil.example",), 403),
    "rebound name with our port": (("Host: evil.example:8000",), 403),
    "name that begins like ours": (("Host: localhost.evil.example",), 403),
    "name that ends like ours": (("Host: evil-localhost",), 403),
    "other address of this machine": (("Host: 127.0.0.2",), 403),
    "address in other digits": (("Host: 2130706433",), 403),
    "foreign page": (("Host: 127.0.0.1", "Origin: https://evil.example"), 403),
    "page of nowhere": (("Host: 127.0.0.1", "Origin: null"), 403),
    "page of a file": (("Host: 127.0.0.1", "Origin: file://"), 403),
    "page with our name as user": (("Host: 127.0.0.1", "Origin: http://localhost@evil.example"), 403),
    "page with our name in its path": (("Host: 127.0.0.1", "Origin: http://evil.example/localhost"), 403),
    "empty page": (("Host: 127.0.0.1", "Origin: "), 403),
    "own page and a foreign one": (("Host: 127.0.0.1", "Origin: http://localhost", "Origin: http://evil.example"), 403),
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_without_keys_a_page_of_another_site_is_kept_out(
    open_server: RunningServer, name: str, content_type: str
) -> None:
    headers, status = PAGES[name]
    payload = request_bytes(
        post(body()).partition(b"\r\n\r\n")[2], host=None, headers=(*headers, CLOSE, f"Content-Type: {content_type}")
    )

    found = answers(send_and_read(open_server.port, payload))

    assert [status] == [answer.status for answer in found]
    assert {200: "message", 403: "error"}[status] == found[0].json["type"]


@pytest.mark.parametrize("name", PAGES)
def test_with_keys_the_key_alone_decides(keyed_server: RunningServer, name: str) -> None:
    headers, _ = PAGES[name]
    asking = request_bytes(line="GET /v1/models HTTP/1.1", host=None, headers=(*headers, CLOSE))
    with_key = request_bytes(line="GET /v1/models HTTP/1.1", host=None, headers=(*headers, CLOSE, f"X-Api-Key: {KEY}"))

    assert [401] == [answer.status for answer in answers(send_and_read(keyed_server.port, asking))]
    assert [200] == [answer.status for answer in answers(send_and_read(keyed_server.port, with_key))]


def test_no_page_is_told_that_it_may_read_us(open_server: RunningServer) -> None:
    answer = httpx2.options(
        f"{open_server.url}/v1/messages",
        headers={"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"},
    )

    assert [] == [name for name in answer.headers if name.startswith("access-control-")]


# Keys (T10).


def test_a_key_is_looked_up_by_a_digest_and_kept_nowhere() -> None:
    kept = [repr(vars(keyring([KEY], pepper * 32))) for pepper in (b"a", b"b")]

    assert KEY[:16] not in kept[0]
    assert kept[0] != kept[1]


def test_keys_that_are_alike_at_their_beginning_are_different_callers() -> None:
    keys = [f"{'k' * 200}{number}" for number in range(100)]
    ring = keyring(keys[:50])

    callers = {ring.admit({b"x-api-key": [key.encode()]}, 0).key_id for key in keys[:50]}
    refused = []
    for key in [*keys[50:], "k" * 200, keys[0][:-1], f"{keys[0]} x"]:
        with pytest.raises(ApiError) as refusal:
            ring.admit({b"x-api-key": [key.encode()]}, 0)
        refused.append(refusal.value.status)

    assert 50 == len(callers)
    assert [401] * 53 == refused


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": KEY, "authorization": "Bearer other"},
        {"x-api-key": "other", "authorization": f"Bearer {KEY}"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"authorization": f"Bearer Bearer {KEY}"},
        {"x-api-key": f"{KEY},{KEY}"},
        {"x-api-key": KEY.upper()},
        {"x-api-key": KEY[:-1]},
        {"x-api-key": f"{KEY}x"},
        {"x-api-key": ""},
        {"cookie": f"x-api-key={KEY}"},
        {"x-goog-api-key": KEY},
        {"proxy-authorization": f"Bearer {KEY}"},
    ],
)
def test_a_credential_in_another_shape_is_none(keyed_server: RunningServer, headers: dict[str, str]) -> None:
    answer = httpx2.get(f"{keyed_server.url}/v1/models", headers=headers)

    assert 401 == answer.status_code
    assert "authentication_error" == answer.json()["error"]["type"]


def test_a_key_behind_the_body_opens_nothing(keyed_server: RunningServer) -> None:
    """Trailers are no headers: whoever stands in front did not look at them."""
    content = json.dumps(body()).encode()
    chunks = b"%x\r\n%b\r\n0\r\nX-Api-Key: %b\r\n\r\n" % (len(content), content, KEY.encode())
    payload = request_bytes(chunks, length=-1, headers=("Transfer-Encoding: chunked", CLOSE))
    with under_watch(keyed_server, key=KEY):
        found = answers(send_and_read(keyed_server.port, payload))

    assert [401] == [answer.status for answer in found]


@pytest.mark.parametrize("more", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\0"])
def test_nothing_is_written_into_a_reply_that_has_begun(open_server: RunningServer, more: bytes) -> None:
    with under_watch(open_server), connected(open_server.port, 15) as connection:
        connection.sendall(post(body("TICK", stream=True, max_tokens=500)))
        heard = read_until(connection, b"text_delta")
        connection.sendall(more)
        heard += read_all(connection)

    assert 1 == heard.count(b"HTTP/1.1")
    assert b"message_stop" not in heard
