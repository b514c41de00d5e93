"""A hub for `sestet pull`: an HTTP server with the routes of Hugging Face that it uses, and the faults of the web."""

import hashlib
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

REPOSITORY = "owner/repo"


def gguf(size: int, seed: int = 0) -> bytes:
    """Bytes that begin as a GGUF file does and repeat nowhere soon."""
    blocks = (hashlib.sha256(b"%d %d" % (seed, number)).digest() for number in range(size // 32 + 1))
    return (b"GGUF" + b"".join(blocks))[:size]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@dataclass
class Hub:
    """What it has, how it misbehaves, and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"v1"'
    listed: list[dict[str, Any]] | None = None  # instead of a true list
    content_type: str = "application/octet-stream"
    ranges: bool = True
    if_range: bool = True  # false: continues whatever the validator says
    lengths: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which one answer each breaks off
    statuses: list[int] = field(default_factory=list)  # one answer each
    status_headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None  # another origin, which files are fetched from
    linked: dict[str, str] = field(default_factory=dict)  # headers of the redirect
    hold_after: int | None = None  # the answer stops there until `go_on` is set
    go_on: threading.Event = field(default_factory=threading.Event)
    answers: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # by path, of GET and POST: type and body
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def address(self, path: str) -> str:
        return f"{self.url}/{REPOSITORY}/resolve/main/{path}"

    def asked(self, *names: str) -> list[tuple[str | None, ...]]:
        """These headers of every request for a file, in order."""
        return [tuple(headers.get(name) for name in names) for path, headers in self.requests if "/resolve/" in path]

    def tree(self) -> list[dict[str, Any]]:
        if self.listed is not None:
            return self.listed
        return [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": "sub"},
            *(
                {
                    "type": "file",
                    "oid": "0" * 40,
                    "size": len(body),
                    "path": path,
                    "lfs": {"oid": sha256(body), "size": len(body), "pointerSize": 130},
                }
                for path, body in self.files.items()
            ),
        ]


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    server = _Server(hub)
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients of these tests leave early
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """The test's output is not a log."""

    def do_GET(self) -> None:
        self.server.hub.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.path in self.server.hub.answers:
            content_type, body = self.server.hub.answers[self.path]
            self._plain(200, body, {"content-type": content_type})
        elif self.server.hub.statuses:
            self._plain(self.server.hub.statuses.pop(0), b"no", self.server.hub.status_headers)
        elif self.path.startswith(f"/api/models/{REPOSITORY}/tree/main"):
            self._plain(200, json.dumps(self.server.hub.tree()).encode(), {"content-type": "application/json"})
        elif self.server.hub.redirect is not None:
            self._plain(302, b"", {"location": f"{self.server.hub.redirect}{self.path}", **self.server.hub.linked})
        else:
            path = unquote(self.path.partition("?")[0]).partition("/resolve/main/")[2]
            body = self.server.hub.files.get(path)
            if body is None:
                self._plain(404, b"no such file", {})
            else:
                self._file(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()

    def _plain(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _file(self, body: bytes) -> None:
        start = self._start()
        if start is not None and start >= len(body):
            self._plain(416, b"", {"content-range": f"bytes */{len(body)}"})
            return
        self.send_response(200 if start is None else 206)
        self.send_header("content-type", self.server.hub.content_type)
        if self.server.hub.etag is not None:
            self.send_header("etag", self.server.hub.etag)
        if start is not None:
            self.send_header("content-range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.server.hub.lengths:
            self.send_header("content-length", str(len(body) - (start or 0)))
        else:
            self.send_header("connection", "close")
        self.end_headers()
        self._send(body[start or 0 :])

    def _start(self) -> int | None:
        asked = self.headers.get("range")
        if asked is None or not self.server.hub.ranges:
            return None
        if self.server.hub.if_range and self.headers.get("if-range") not in (None, self.server.hub.etag):
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _send(self, rest: bytes) -> None:
        if self.server.hub.cuts:
            self.wfile.write(rest[: self.server.hub.cuts.pop(0)])
            self.close_connection = True
        elif self.server.hub.hold_after is not None:
            self.wfile.write(rest[: self.server.hub.hold_after])
            self.wfile.flush()
            self.server.hub.go_on.wait(30)
            self.close_connection = True
        else:
            self.wfile.write(rest)
