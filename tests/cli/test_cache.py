"""`sestet cache`: what a server keeps of prompts, as a table, CSV and JSON; clearing it; and how it fails."""

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import orjson
import pytest
from click.testing import Result

from sestet.cli.cache import duration, size
from tests.cli.conftest import Run, refusal
from tests.running import RunningServer, free_port, start_server

ADMIN = "sk-cache-admin"
MODEL = "scripted-20260101"
ENTRIES: list[dict[str, Any]] = [
    {
        "type": "cache_entry",
        "id": "00112233445566aa",
        "weights": "scripted-20260101",
        "workspace_id": "wrkspc_search",
        "model": "claude-3-7-sonnet-20250219",
        "tokens": 1_234,
        "bytes": 31_000_000,
        "lifetime": "5m",
        "expires_in_s": 252,
        "hits": 12,
    },
    {
        "type": "cache_entry",
        "id": "00112233445566bb",
        "weights": "scripted-20260101",
        "workspace_id": "wrkspc_default",
        "model": "red\x1b[31m\nline",
        "tokens": 99,
        "bytes": 900,
        "lifetime": "1h",
        "expires_in_s": 3_540,
        "hits": 0,
    },
]
LISTING: dict[str, Any] = {
    "data": ENTRIES,
    "has_more": False,
    "total": {"entries": 2, "bytes": 31_000_900, "budget_bytes": 10 * 2**30},
}

TABLE = """
   time left      of   tokens    size   hits   model                        workspace
 ─────────────────────────────────────────────────────────────────────────────────────────
  4 min 12 s   5 min    1,234   31 MB     12   claude-3-7-sonnet-20250219   wrkspc_search
 59 min  0 s     1 h       99   900 B      0   red␛[31m line                wrkspc_default

2 entries in 31 MB of the 10.7 GB that `cache.disk` allows.
"""

CSV = """\
id,weights,workspace_id,model,tokens,bytes,lifetime,expires_in_s,hits
00112233445566aa,scripted-20260101,wrkspc_search,claude-3-7-sonnet-20250219,1234,31000000,5m,252,12
00112233445566bb,scripted-20260101,wrkspc_default,red␛[31m line,99,900,1h,3540,0
"""


class Pretender:
    """A server that answers as it is told, and remembers what it was asked and with which key."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.status = 200
        self.body = orjson.dumps(LISTING)
        of = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                of.asked.append((self.command, self.path, self.headers["x-api-key"]))
                self.send_response(of.status)
                self.send_header("content-length", str(len(of.body)))
                self.end_headers()
                self.wfile.write(of.body)

            do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                """Nothing on standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def says(self, body: object, status: int = 200) -> None:
        self.status, self.body = status, body if isinstance(body, bytes) else orjson.dumps(body)

    def refuses(self, status: int, kind: str, message: str) -> None:
        self.says({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}, status)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def pretender() -> Iterator[Pretender]:
    one = Pretender()
    yield one
    one.close()


@pytest.fixture
def cache(run: Run, pretender: Pretender) -> Callable[..., Result]:
    """`sestet cache ...` with the pretender's address."""
    return lambda *arguments, **options: run("cache", *arguments, "--url", pretender.url, **options)


def printed(result: Result) -> str:
    """What was printed, without what fills lines up."""
    assert 0 == result.exit_code, result.output
    return "\n".join(line.rstrip() for line in result.output.splitlines()) + "\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((), TABLE), (("list",), TABLE), (("--csv",), CSV), (("list", "--csv"), CSV)],
)
def test_what_is_printed(cache: Callable[..., Result], arguments: tuple[str, ...], expected: str) -> None:
    assert expected == printed(cache(*arguments))


def test_json_is_what_the_server_says(cache: Callable[..., Result]) -> None:
    shown = printed(cache("list", "--json"))

    assert LISTING == json.loads(shown)
    assert "\x1b" not in shown


def test_the_server_is_asked_for_a_workspace_with_the_key_of_the_environment(
    cache: Callable[..., Result], pretender: Pretender
) -> None:
    cache("list", "--workspace", "wrkspc_a b", env={"ANTHROPIC_API_KEY": "sk-environment"})
    cache(env={"ANTHROPIC_API_KEY": "sk-environment"})
    cache("--key", "sk-option")
    pretender.says({"type": "cache_cleared", "entries": 1})
    cache("clear", "--yes", "--workspace", "wrkspc_a&b")
    cache("clear", "--yes", "--key", "sk-option")

    assert [
        ("GET", "/v1/cache?limit=1000&workspace_id=wrkspc_a+b", "sk-environment"),
        ("GET", "/v1/cache?limit=1000", "sk-environment"),
        ("GET", "/v1/cache?limit=1000", "sk-option"),
        ("DELETE", "/v1/cache?workspace_id=wrkspc_a%26b", None),
        ("DELETE", "/v1/cache", "sk-option"),
    ] == [(method, path.replace("%20", "+"), key) for method, path, key in pretender.asked]


def test_what_was_cleared_is_told(cache: Callable[..., Result], pretender: Pretender) -> None:
    told = []
    for count in (0, 1, 2_000):
        pretender.says({"type": "cache_cleared", "entries": count})
        told.append(cache("clear", "--yes").output)

    assert ["0 entries cleared.\n", "1 entry cleared.\n", "2,000 entries cleared.\n"] == told


@pytest.mark.parametrize(
    ("arguments", "question"),
    [((), "of all workspaces"), (("--workspace", "wrkspc_a"), "of wrkspc_a")],
)
def test_before_it_clears_it_asks(
    cache: Callable[..., Result], pretender: Pretender, arguments: tuple[str, ...], question: str
) -> None:
    pretender.says({"type": "cache_cleared", "entries": 3})
    answers = [cache("clear", *arguments, stdin=stdin) for stdin in ("n\n", "", "y\n")]

    assert [1, 1, 0] == [answer.exit_code for answer in answers]
    assert 3 * [True] == [f"Forget the cached prompts {question}?" in answer.output for answer in answers]
    assert ["DELETE"] == [method for method, _, _ in pretender.asked]


def test_a_cache_that_holds_nothing_says_what_it_would_hold(cache: Callable[..., Result], pretender: Pretender) -> None:
    pretender.says({"data": [], "has_more": False, "total": {"entries": 0, "bytes": 0, "budget_bytes": 10 * 2**30}})
    empty = printed(cache())
    pretender.says({"data": [], "has_more": False, "total": {"entries": 0, "bytes": 0, "budget_bytes": 0}})
    off = printed(cache())

    assert (
        "Nothing is kept, of the 10.7 GB that `cache.disk` allows. What requests mark with `cache_control` is, for 5 "
        "minutes or an hour.\n"
    ) == empty
    assert (
        "This server keeps nothing of prompts: `cache.disk` is 0, or the server's log says why (prompts_not_cached).\n"
    ) == off


@pytest.mark.parametrize("form", [(), ("--csv",), ("--json",)])
def test_where_there_are_more_than_are_shown_that_is_said_beside_them(
    cache: Callable[..., Result], pretender: Pretender, form: tuple[str, ...]
) -> None:
    pretender.says({**LISTING, "has_more": True, "total": {**LISTING["total"], "entries": 1_234}})

    assert "These 2 end first; there are more.\n" == cache(*form).stderr


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (
            401,
            "authentication_error",
            "invalid x-api-key",
            "invalid x-api-key; give the key with --key or in ANTHROPIC_API_KEY",
        ),
        (
            403,
            "permission_error",
            "this API key lacks the scope `operations`",
            "this API key lacks the scope `operations`; give another with --key, or make one: "
            "sestet keys create NAME --organization --scope operations",
        ),
        (400, "invalid_request_error", "workspace_id: bad\x1b[31m", "workspace_id: bad␛[31m"),
    ],
)
@pytest.mark.parametrize("command", [("list",), ("clear", "--yes")])
def test_a_refusal_says_what_to_do_next(
    cache: Callable[..., Result],
    pretender: Pretender,
    command: tuple[str, ...],
    status: int,
    kind: str,
    message: str,
    expected: str,
) -> None:
    pretender.refuses(status, kind, message)

    assert expected == refusal(cache(*command))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"error":{"type":"not_found_error","message":"there is nothing at this path"}}'),
        (404, b"<html>"),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b"[]"),
        (500, b"[]"),
        (200, orjson.dumps({**LISTING, "data": [{**ENTRIES[0], "lifetime": "1d"}]})),
    ],
)
@pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("clear", "--yes")])
def test_what_is_no_cache_is_not_taken_for_one(
    cache: Callable[..., Result], pretender: Pretender, command: tuple[str, ...], status: int, body: bytes
) -> None:
    pretender.says(body, status)

    assert (
        f"what answers at {pretender.url} tells nothing of a prompt cache; is it a Sestet, and as new as this one?"
    ) == refusal(cache(*command))


@pytest.mark.parametrize("command", [("list",), ("clear", "--yes")])
def test_where_nothing_answers_that_is_said(run: Run, command: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    assert (
        f"nothing answers at {url}; start `sestet serve` in another terminal, or give --url. Without a server nothing "
        "is read from the cache"
    ) == refusal(run("cache", *command, "--url", url))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--json", "--csv"), "--json and --csv are two answers; ask for one of them"),
        (("--json", "list"), "options come after `list`, not before it"),
        (("--workspace", "wrkspc_a", "clear", "--yes"), "options come after `clear`, not before it"),
        (("--url", "nowhere"), "`nowhere` is not an address: it must begin with https:// (or http://) and a host"),
        (("--key", "schlüssel"), "--key cannot be used: "),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_asked(
    run: Run, arguments: tuple[str, ...], expected: str
) -> None:
    assert refusal(run("cache", *arguments)).startswith(expected)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1 kB"),
        (9_949, "9.95 kB"),
        (31_000_000, "31 MB"),
        (31_250_000, "31.2 MB"),
        (999_400_000, "999 MB"),
        (999_500_000, "1 GB"),
        (10_737_418_240, "10.7 GB"),
        (2_500_000_000_000, "2.5 TB"),
    ],
)
def test_a_size_is_for_people(count: int, expected: str) -> None:
    assert expected == size(count)


def test_a_time_is_for_people() -> None:
    assert ["0 s", "59 s", "1 min  0 s", "4 min 12 s", "59 min 59 s"] == [
        duration(seconds) for seconds in (0, 59, 60, 252, 3_599)
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that asks for keys and has a prompt of 1,000 characters in its cache."""
    folder: Path = tmp_path_factory.mktemp("cache")
    config = f'[access]\nadmin_keys = ["{ADMIN}"]\nkeys = ["sk-cache-user"]\n'
    one = start_server(folder, script="", config=config)
    system = [{"type": "text", "text": 1_000 * "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}], "system": system}
    headers = {"x-api-key": "sk-cache-user", "anthropic-version": "2023-06-01"}
    assert 200 == httpx2.post(f"{one.url}/v1/messages", json=body, headers=headers).status_code
    yield one
    one.stop()


def test_a_real_server_is_listed_and_cleared(run: Run, server: RunningServer) -> None:
    of = ("--url", server.url, "--key", ADMIN)
    listed = json.loads(run("cache", "list", "--json", *of).output)
    table = run("cache", *of).output
    cleared = [run("cache", "clear", "--yes", *of).output for _ in range(2)]
    left = run("cache", *of).output

    assert [(MODEL, "wrkspc_default", "1h", 0)] == [
        (one["model"], one["workspace_id"], one["lifetime"], one["hits"]) for one in listed["data"]
    ]
    assert listed["data"][0]["tokens"] > 1_000
    assert "\n1 entry in 4.08 kB of the 10.7 GB that `cache.disk` allows.\n" in table
    assert ["1 entry cleared.\n", "0 entries cleared.\n"] == cleared
    assert left.startswith("Nothing is kept, of the 10.7 GB")
    assert "sss" not in table
