"""The application behind its gate, without a socket: routes, errors, streams, who is let in, what is measured."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from openapi_spec_validator import validate as validate_openapi

from sestet.server.compose import Application
from sestet.server.gate import PUBLIC
from tests.background import BackgroundLoop
from tests.unit.in_process import Answer, application, ask

BODY: dict[str, Any] = {
    "model": "claude-3-7-sonnet-latest",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hi"}],
}
TEXT = "This is the scripted engine."
ROUTES = [
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/claude-3-7-sonnet-latest"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/"),
]


class Shared:
    """Applications that are only asked, one for each configuration."""

    def __init__(self) -> None:
        self._loop = BackgroundLoop()
        self._opened: dict[str, Application] = {}

    def ask(self, sections: Mapping[str, Any], *request: Any, **options: Any) -> Answer:
        built_with = str(sections)
        if built_with not in self._opened:
            self._opened[built_with] = self._loop.run(_composed(sections))
        return self._loop.run(ask(self._opened[built_with], *request, **options))

    def close(self) -> None:
        for one in self._opened.values():
            self._loop.run(one.stop())
        self._loop.close()


async def _composed(sections: Mapping[str, Any]) -> Application:
    return await application(**sections)


@cache
def shared() -> Shared:
    return Shared()


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    yield
    shared().close()
    shared.cache_clear()


def visit(play: Callable[[Application], Awaitable[Any]], **sections: Mapping[str, Any]) -> Any:
    """Runs this against an application of its own."""

    async def run() -> Any:
        app = await application(**sections)
        try:
            return await play(app)
        finally:
            await app.stop()

    return asyncio.run(run())


def answer(
    method: str, path: str, body: Any = None, *, sections: Mapping[str, Any] | None = None, **options: Any
) -> Answer:
    """From an application that others ask too."""
    return shared().ask(sections or {}, method, path, body, **options)


async def let_others_run() -> None:
    """Turns of the loop, enough for a request to come as far as it can without a clock."""
    for _ in range(200):
        await asyncio.sleep(0)


def check_refusal(refused: Answer, status: int, kind: str) -> str:
    """A refusal as the contract wants it; its message."""
    request_id = refused.headers[b"request-id"]

    assert (status, [b"application/json"]) == (refused.status, refused.headers[b"content-type"])
    assert {"type": "error", "error": refused.json["error"], "request_id": request_id[0].decode()} == refused.json
    assert (kind, 1) == (refused.json["error"]["type"], len(request_id))
    assert refused.finished
    return str(refused.json["error"]["message"])


def test_a_whole_reply_says_what_answered() -> None:
    replied = answer("POST", "/v1/messages", BODY)

    assert (200, [b"scripted-20260101"]) == (replied.status, replied.headers[b"sestet-served-by"])
    assert [{"type": "text", "text": TEXT}] == replied.json["content"]
    assert ("claude-3-7-sonnet-20250219", "end_turn") == (replied.json["model"], replied.json["stop_reason"])
    assert re.fullmatch(r"msg_[0-9a-f]{32}", replied.json["id"])
    assert re.fullmatch(rb"req_[0-9a-f]{32}", replied.headers[b"request-id"][0])


def test_weights_that_answer_under_their_own_name_need_not_say_so() -> None:
    replied = answer("POST", "/v1/messages", {**BODY, "model": "scripted"})

    assert ("scripted-20260101", False) == (replied.json["model"], b"sestet-served-by" in replied.headers)


def test_a_stream_is_the_whole_reply_in_frames() -> None:
    replied = answer("POST", "/v1/messages", {**BODY, "stream": True})
    frames = [frame.partition(b"\n") for frame in replied.body.split(b"\n\n") if frame]

    assert (200, [b"text/event-stream; charset=utf-8"]) == (replied.status, replied.headers[b"content-type"])
    assert [
        b"message_start",
        b"content_block_start",
        *[b"content_block_delta"] * 6,
        b"content_block_stop",
        b"message_delta",
        b"message_stop",
    ] == [name.removeprefix(b"event: ") for name, _, _ in frames]
    assert TEXT == "".join(
        json.loads(data[6:])["delta"]["text"] for name, _, data in frames if name.endswith(b"block_delta")
    )
    assert replied.finished


def test_a_count_agrees_with_the_reply() -> None:
    counted = {key: value for key, value in BODY.items() if key != "max_tokens"}

    assert (
        answer("POST", "/v1/messages", BODY).json["usage"]["input_tokens"]
        == answer("POST", "/v1/messages/count_tokens", counted).json["input_tokens"]
    )


@pytest.mark.parametrize("query", ["", "beta=true", "beta=true&beta=true", "anything=1"])
def test_what_follows_the_path_of_a_message_does_not_matter(query: str) -> None:
    assert 200 == answer("POST", "/v1/messages", BODY, query=query).status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/messages/", 404),
        ("/v1/message", 404),
        ("/V1/messages", 404),
        ("//v1/messages", 404),
        ("/v1/messages/batches", 404),
        ("/v1/complete", 404),
        ("/v1", 404),
        ("/../etc/passwd", 404),
        ("/v1/models/", 404),
        ("/v1/models/nothing", 404),
        ("/v1/models/a/b/c", 404),
        ("/v1/models/\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"), 404),
        ("", 404),
    ],
)
def test_an_unknown_path_is_not_found(path: str, status: int) -> None:
    check_refusal(answer("GET", path), status, "not_found_error")


@pytest.mark.parametrize(("right", "path"), ROUTES)
def test_a_method_a_path_does_not_have_is_refused_with_those_it_has(right: str, path: str) -> None:
    async def play(app: Application) -> dict[str, str]:
        methods = {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} - {right}
        return {
            check_refusal(await ask(app, method, path, BODY), 405, "invalid_request_error"): method
            for method in methods
        }

    allowed = {"GET": "GET, HEAD", "POST": "POST"}[right]

    assert [f"this method is not allowed here; allowed: {allowed}"] == list(visit(play))


@pytest.mark.parametrize("path", [path for method, path in ROUTES if method == "GET"])
def test_whoever_asks_for_the_head_gets_the_status_too(path: str) -> None:
    assert 200 == answer("HEAD", path).status


@pytest.mark.parametrize(
    ("fields", "headers", "path"),
    [
        ({"max_tokens": -1}, {}, "max_tokens"),
        ({"tools": [{}]}, {}, "tools.0.name"),
        ({"temperature": 1.0}, {"anthropic-version": "2026-10-21"}, "temperature"),
        ({}, {"anthropic-version": "1999-01-01"}, "anthropic-version"),
        ({}, {"content-encoding": "gzip"}, "content-encoding"),
        ({"max_tokens": 64_001}, {}, "max_tokens"),
        ({"max_tokens": 0, "stream": True}, {}, "max_tokens"),
        ({"messages": []}, {}, "messages"),
        ({"stream": True, "tools": [{}]}, {}, "tools.0.name"),
    ],
)
def test_a_refusal_names_the_path(fields: dict[str, Any], headers: dict[str, str], path: str) -> None:
    refused = answer("POST", "/v1/messages", {**BODY, **fields}, headers=headers)

    assert check_refusal(refused, 400, "invalid_request_error").startswith(f"{path}: ")


@pytest.mark.parametrize(
    "headers", [{"content-encoding": "identity"}, {"content-type": "text/plain"}, {"accept": "text/html"}]
)
def test_headers_that_change_nothing_are_let_pass(headers: dict[str, str]) -> None:
    assert 200 == answer("POST", "/v1/messages", BODY, headers=headers).status


def test_a_body_of_32_mib_and_a_byte_is_too_large() -> None:
    refused = answer("POST", "/v1/messages", b" " * (32 * 2**20 + 1))

    check_refusal(refused, 413, "request_too_large")


def test_an_unknown_model_is_not_found() -> None:
    refused = answer("POST", "/v1/messages", {**BODY, "model": "claude-3-7-sonet-latest"})

    assert "did you mean `claude-3-7-sonnet-latest`?" in check_refusal(refused, 404, "not_found_error")


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("limit=2", ["scripted-20260101", "scripted"]),
        ("limit=2&after_id=scripted", ["scripted-latest", "claude-opus-4-1-20250805"]),
        ("before_id=scripted-latest", ["scripted-20260101", "scripted"]),
        ("lifecycle%5B%5D=retired", []),
        ("lifecycle[]=deprecated&limit=1", ["claude-3-5-sonnet-20241022"]),
        ("lifecycle=deprecated&beta=true&limit=1", ["claude-3-5-sonnet-20241022"]),
        ("after_id=anthropic%2Fclaude-3.7-sonnet&limit=1", ["claude-3-7-sonnet"]),
    ],
)
def test_a_page_of_models_is_what_was_asked_for(query: str, ids: list[str]) -> None:
    page = answer("GET", "/v1/models", query=query).json

    assert (ids, ids[0] if ids else None, ids[-1] if ids else None) == (
        [entry["id"] for entry in page["data"]],
        page["first_id"],
        page["last_id"],
    )


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=" + "9" * 5_000, "limit"),
        ("limit=1&limit=2", "limit"),
        ("after_id=nothing", "after_id"),
        ("before_id=", "before_id"),
        ("after_id=a&before_id=b", "before_id"),
        ("lifecycle[]=new", "lifecycle"),
        ("page=2", "page"),
        ("after_id=a&after_id=b", "after_id"),
        ("&".join(f"x{number}=1" for number in range(200)), ""),
    ],
)
def test_a_wrong_query_is_refused_by_its_name(query: str, path: str) -> None:
    assert check_refusal(answer("GET", "/v1/models", query=query), 400, "invalid_request_error").startswith(path)


@pytest.mark.parametrize(
    "name", ["claude-3-7-sonnet-latest", "claude-3-7-sonnet@20250219", "anthropic/claude-3.7-sonnet"]
)
def test_one_model_is_found_under_every_name(name: str) -> None:
    assert "claude-3-7-sonnet-20250219" == answer("GET", f"/v1/models/{name}").json["id"]


KEYED = {"access": {"keys": ["sk-secret"]}}


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic sk-secret"}, 401),
        ({"x-api-key": "sk-secret", "authorization": "Bearer other"}, 401),
        ({"x-api-key": "sk-secret"}, 200),
        ({"authorization": "Bearer sk-secret"}, 200),
        ({"authorization": "Bearer sk-secret", "host": "anything.example"}, 200),
    ],
)
def test_with_keys_only_a_key_opens_what_is_not_public(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    counted = {key: value for key, value in BODY.items() if key != "max_tokens" or not path.endswith("count_tokens")}
    replied = answer(method, path, counted if method == "POST" else None, sections=KEYED, headers=headers)

    assert (200 if path in PUBLIC else status) == replied.status


@pytest.mark.parametrize("path", ["/v1/messages/", "/V1/Messages", "/nothing", "/v1/messages\x00", "/metrics/", "/%2e"])
def test_with_keys_an_unknown_path_tells_strangers_nothing(path: str) -> None:
    refused = answer("POST", path, BODY, sections=KEYED)

    assert [b"Bearer"] == refused.headers[b"www-authenticate"]
    check_refusal(refused, 401, "authentication_error")


def test_without_keys_any_key_will_do() -> None:
    assert 200 == answer("POST", "/v1/messages", BODY, headers={"x-api-key": "any", "authorization": "Basic x"}).status


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "box.example"])
def test_without_keys_this_machine_may_be_called_by_its_names(host: str) -> None:
    sections = {"server": {"allowed_hosts": ["Box.example"]}}

    assert 200 == answer("POST", "/v1/messages", BODY, headers={"host": host}, sections=sections).status


@pytest.mark.parametrize(
    "host", ["attacker.example", "localhost.attacker.example", "127.0.0.1.example", "2130706433", "10.0.0.1"]
)
def test_without_keys_no_other_name_gets_in(host: str) -> None:
    check_refusal(answer("POST", "/v1/messages", BODY, headers={"host": host}), 403, "permission_error")


@pytest.mark.parametrize(
    "origin", ["http://attacker.example", "null", "", "file://", "http://localhost.attacker.example"]
)
def test_without_keys_no_strange_page_gets_in(origin: str) -> None:
    refused = answer("POST", "/v1/messages", BODY, headers={"origin": origin})

    check_refusal(refused, 403, "permission_error")


def test_without_keys_a_page_of_this_machine_gets_in() -> None:
    assert 200 == answer("POST", "/v1/messages", BODY, headers={"origin": "http://localhost:3000"}).status


@pytest.mark.parametrize(
    "host", ["", "a b", "localhost/healthz", "user@localhost", "localhost:port", "[::1", "x" * 300, "\xff"]
)
@pytest.mark.parametrize("sections", [{}, KEYED], ids=["open", "keyed"])
def test_a_malformed_host_is_refused(host: str, sections: Mapping[str, Any]) -> None:
    refused = answer("POST", "/v1/messages", BODY, headers={"host": host, "x-api-key": "sk-secret"}, sections=sections)

    check_refusal(refused, 400, "invalid_request_error")


@pytest.mark.parametrize("hosts", [[], [b"localhost", b"localhost"], [b"localhost", b"other"]])
def test_there_is_exactly_one_host(hosts: list[bytes]) -> None:
    refused = answer("GET", "/healthz", headers=[(b"host", host) for host in hosts])

    check_refusal(refused, 400, "invalid_request_error")


def test_metrics_count_requests_replies_and_tokens_and_hold_no_clients_text() -> None:
    async def play(app: Application) -> str:
        await ask(app, "POST", "/v1/messages", BODY)
        await ask(app, "POST", "/v1/messages", {**BODY, "model": "sentinel-model"})
        await ask(app, "GET", "/sentinel/path")
        await ask(app, "SENTINEL", "/v1/messages")
        return (await ask(app, "GET", "/metrics")).body.decode()

    text = visit(play)

    assert [
        'sestet_http_requests_total{route="/v1/messages",status="200"} 1.0',
        'sestet_http_requests_total{route="/v1/messages",status="404"} 1.0',
        'sestet_http_requests_total{route="none",status="404"} 1.0',
        'sestet_http_requests_total{route="/v1/messages",status="405"} 1.0',
        'sestet_replies_total{ending="finished",model="claude-3-7-sonnet-20250219",stop_reason="end_turn"} 1.0',
        'sestet_tokens_total{kind="input",model="claude-3-7-sonnet-20250219"} 52.0',
        'sestet_tokens_total{kind="cache_write_5m",model="claude-3-7-sonnet-20250219"} 0.0',
        'sestet_tokens_total{kind="cache_write_1h",model="claude-3-7-sonnet-20250219"} 0.0',
        'sestet_tokens_total{kind="cache_read",model="claude-3-7-sonnet-20250219"} 0.0',
        'sestet_tokens_total{kind="output",model="claude-3-7-sonnet-20250219"} 6.0',
        'sestet_cost_dollars_total{model="claude-3-7-sonnet-20250219"} 0.000246',
        'sestet_refusals_total{error="not_found_error"} 2.0',
        'sestet_slots_running{weights="scripted-20260101"} 0.0',
        'sestet_queue_waiting{weights="scripted-20260101"} 0.0',
        'sestet_engine_ready{weights="scripted-20260101"} 1.0',
    ] == [line for line in text.splitlines() if re.match(r"sestet_(?!cache)\w+(_total|running|waiting|ready)\{", line)]
    assert "sentinel" not in text.lower()


def test_the_openapi_document_is_valid() -> None:
    validate_openapi(answer("GET", "/openapi.json").json)


def test_the_page_may_run_nothing_but_its_own() -> None:
    replied = answer("GET", "/")
    policy = replied.headers[b"content-security-policy"][0].decode()

    assert [
        "default-src 'none'",
        "connect-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'none'",
    ] == policy.split("; ")[:5]
    assert [1, 1] == [replied.body.count(b"<script>"), replied.body.count(b"<style>")]
    assert b"<script " not in replied.body


def test_a_draining_server_takes_no_new_request_and_says_so() -> None:
    async def play(app: Application) -> list[Answer]:
        await app.lifecycle.drain(0.0)
        counted = {key: value for key, value in BODY.items() if key != "max_tokens"}
        return [
            await ask(app, "POST", "/v1/messages", BODY),
            await ask(app, "POST", "/v1/messages/count_tokens", counted),
            await ask(app, "GET", "/readyz"),
            await ask(app, "GET", "/healthz"),
            await ask(app, "GET", "/v1/models"),
        ]

    replied = visit(play)

    assert [529, 529, 503, 200, 200] == [one.status for one in replied]
    assert [b"5"] == replied[0].headers[b"retry-after"]
    check_refusal(replied[0], 529, "overloaded_error")


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_cut_short_by_the_shutdown_ends_with_an_error(stream: bool, tmp_path: Any) -> None:
    script = tmp_path / "script.toml"
    script.write_text("[[reply]]\nsay = ['a']\nrepeat = 3\nthen = 'hang'\n")

    async def play(app: Application) -> Answer:
        said = asyncio.Event()

        async def hear(piece: bytes) -> None:
            said.set()

        asking = asyncio.create_task(ask(app, "POST", "/v1/messages", {**BODY, "stream": stream}, on_body=hear))
        await (said.wait() if stream else let_others_run())
        assert 1 == app.served["scripted-20260101"].admission.running
        await app.lifecycle.drain(0.0)
        return await asking

    cut = visit(play, engine={"kind": "scripted", "script": script})
    status, last = (200, cut.body.split(b"\n\n")[-2]) if stream else (529, b"event: error\ndata: " + cut.body)

    assert status == cut.status
    assert last.startswith(b"event: error\n")
    assert "overloaded_error" == json.loads(last.partition(b"data: ")[2])["error"]["type"]
    assert b"message_stop" not in cut.body
    assert cut.finished


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_closes_the_engine(stream: bool, tmp_path: Any) -> None:
    script = tmp_path / "script.toml"
    script.write_text("[[reply]]\nsay = ['a']\nrepeat = 3\nthen = 'hang'\n")

    async def play(app: Application) -> tuple[int, int, int]:
        one = app.served["scripted-20260101"]
        left = asyncio.Event()
        body = json.dumps({**BODY, "stream": stream}).encode()
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if unread:
                return unread.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(_message: Any) -> None:
            pass

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/messages",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        asking = asyncio.create_task(app.asgi(scope, receive, send))  # type: ignore[arg-type]
        await let_others_run()
        assert 1 == one.admission.running
        left.set()
        await asking
        return one.admission.running, one.engine.running, app.lifecycle.running  # type: ignore[attr-defined]

    assert (0, 0, 0) == visit(play, engine={"kind": "scripted", "script": script})


@pytest.mark.parametrize(
    ("say", "status", "last"),
    [("[]", 500, "api_error"), ("['a']", 200, "error")],
)
def test_a_stream_that_fails_before_its_first_text_has_a_status_and_afterwards_an_event(
    say: str, status: int, last: str, tmp_path: Any
) -> None:
    script = tmp_path / "script.toml"
    script.write_text(f"[[reply]]\nsay = {say}\nthen = 'error'\n")
    failed = answer(
        "POST",
        "/v1/messages",
        {**BODY, "stream": True},
        sections={"engine": {"kind": "scripted", "script": script}},
    )

    assert status == failed.status
    assert last in failed.body.split(b"\n\n")[-2 if status == 200 else 0].decode()
    assert b"message_stop" not in failed.body
    assert failed.finished


def test_what_nobody_foresaw_is_an_api_error_that_shows_nothing() -> None:
    async def play(app: Application) -> Answer:
        async def receive() -> dict[str, Any]:
            raise RuntimeError("sentinel-detail")

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/messages",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        await app.asgi(scope, receive, send)  # type: ignore[arg-type]
        headers: dict[bytes, list[bytes]] = {}
        for name, value in sent[0]["headers"]:
            headers.setdefault(name, []).append(value)
        return Answer(sent[0]["status"], headers, sent[1]["body"], finished=True)

    failed = visit(play)

    assert "sentinel" not in check_refusal(failed, 500, "api_error")


def test_every_request_has_an_id_of_its_own() -> None:
    async def play(app: Application) -> set[bytes]:
        return {(await ask(app, "GET", "/healthz")).headers[b"request-id"][0] for _ in range(200)}

    assert 200 == len(visit(play))


def test_what_is_no_http_is_not_answered() -> None:
    async def play(app: Application) -> None:
        async def never(*_arguments: Any) -> Any:
            raise AssertionError("nothing is said to a websocket")

        await app.asgi({"type": "websocket", "path": "/v1/messages"}, never, never)

    visit(play)
