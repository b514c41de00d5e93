"""Keys, prompts and replies are told to nobody; errors tell nothing of the machine (T29, T34, T35)."""

import asyncio
import base64
import json
import re
import tempfile
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from sestet.server.gate import Gate
from sestet.server.metrics import Metrics
from tests.conftest import ServerFactory
from tests.faults.conftest import KEY
from tests.faults.test_oversize import HOSTILE_JSON
from tests.faults.watch import under_watch
from tests.faults.wire import HEADERS, answers, body, request_bytes, send_and_read
from tests.running import RunningServer
from tests.unit.keyrings import keyring

PROMPT = "sentinel-prompt-ASDFGHJKL"
REPLY = "sentinel-reply-QWERTYUIOP"
WRONG_KEY = "sk-sestet-wrong-sentinel-OTg3NjU0MzIx"

# What an error may not tell: addresses, paths, our own modules, classes and libraries, SQL.
LEAKS = re.compile(
    rb"0x[0-9a-f]{6,}|/(?:usr|home|root|tmp|work|proc|etc|var|opt)/|[a-z]\.py\b|Traceback|File \"|sestet\.[a-z]"
    rb"|pydantic|starlette|uvicorn|aiohttp|httptools|asyncio|minijinja|orjson|llama|Errno|Error\(|Exception"
    rb"|SELECT |errno|line \d+, in |MessagesRequest|TextBlock|InputMessage|NoneType|object at"
)


def forms(secret: str) -> tuple[str, ...]:
    """A secret as it may be found again: whole, encoded, and its beginning."""
    raw = secret.encode()
    encoded = [base64.b64encode(raw[shift:])[2:-4].decode() for shift in range(3)]
    return (secret, quote(secret, safe=""), raw.hex(), *encoded, secret[:22])


def test_nothing_said_by_or_to_a_model_is_told_elsewhere(keyed_server: RunningServer) -> None:
    url = f"{keyed_server.url}/v1/messages"
    good = {**HEADERS, "x-api-key": KEY}
    bearer = {**HEADERS, "authorization": f"Bearer {KEY}"}
    wrong = [
        {**HEADERS, "x-api-key": WRONG_KEY},
        {**HEADERS, "authorization": f"Bearer {WRONG_KEY}"},
        {**HEADERS, "authorization": f"Basic {base64.b64encode(KEY.encode()).decode()}"},
        {**HEADERS, "x-api-key": KEY, "authorization": f"Bearer {WRONG_KEY}"},
    ]
    faults = [
        body(PROMPT, max_tokens=PROMPT),
        body(PROMPT, temperature=PROMPT),
        body(PROMPT, metadata={"user_id": PROMPT * 20}),
        body(PROMPT, stop_sequences=[PROMPT, ""]),
        body(PROMPT, system=PROMPT, tools=[{"name": PROMPT}]),
        body(PROMPT, messages=[{"role": PROMPT, "content": PROMPT}]),
        body(PROMPT, messages=[{"role": "user", "content": [{"type": "image", "source": PROMPT}]}]),
        body(f"CRASH LATER {PROMPT}"),
        body(f"ERROR LATER {PROMPT}", stream=True),
        body(PROMPT * 20_000),
    ]

    with under_watch(
        keyed_server, key=KEY, secrets=(*forms(KEY), *forms(WRONG_KEY), *forms(PROMPT), *forms(REPLY))
    ) as watch:
        said = [
            httpx2.post(url, headers=headers, json=body(PROMPT, stream=stream)).content
            for headers in (good, bearer)
            for stream in (True, False)
        ]
        for headers in wrong:
            watch.hear(httpx2.post(url, headers=headers, json=body(PROMPT)).content)
        for fields in faults:
            watch.hear(httpx2.post(url, headers=good, json=fields, timeout=20).content)
        for path in (f"/v1/models?key={KEY}", f"/v1/models/{KEY}", f"/{KEY}", f"/v1/messages?prompt={PROMPT}"):
            watch.hear(httpx2.get(f"{keyed_server.url}{path}").content)
        watch.hear(httpx2.post(url, headers=good, content=f'{{"model": "{PROMPT}'.encode()).content)

    assert [True] * 4 == [REPLY.encode() in content for content in said]
    assert '"event":"reply"' in keyed_server.log
    assert '"event":"request"' in keyed_server.log


@pytest.mark.engine
def test_the_engines_process_and_its_files_hold_no_prompt_and_no_key(serve: ServerFactory) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        server = serve(
            config='[engine]\nslots = 1\nthreads = 1\nwindow = 512\n[log]\nlevel = "debug"\n',
            environment={"SESTET_ACCESS_KEYS": KEY, "TMPDIR": temporary},
        )
        fields = {**body(PROMPT), "model": "smollm2-135m-instruct", "max_tokens": 8}
        with under_watch(server, key=KEY, secrets=(*forms(KEY), *forms(PROMPT))) as watch:
            answer = httpx2.post(
                f"{server.url}/v1/messages", headers={**HEADERS, "x-api-key": KEY}, json=fields, timeout=60
            )
            engine = server.engine
            for name in ("cmdline", "environ"):
                watch.hear(Path(f"/proc/{engine.pid}/{name}").read_bytes())
            for file in Path(temporary).rglob("*"):
                watch.hear(str(file).encode())
                watch.hear(file.read_bytes() if file.is_file() else b"")
        server.stop()

    assert 200 == answer.status_code


def test_no_error_tells_of_the_machine(open_server: RunningServer) -> None:
    url = open_server.url
    found: list[bytes] = []
    with under_watch(open_server):
        for content in HOSTILE_JSON.values():
            if len(content) < 2**20:
                payload = request_bytes(content, headers=("Connection: close",))
                found += [answer.body for answer in answers(send_and_read(open_server.port, payload, 30))]
        for path in ("/nothing", "/v1/models/nothing", "/v1/models?limit=x", "/v1/models?after_id=x", "/docs", "/v1"):
            found.append(httpx2.get(url + path).content)
        for fault in ("CRASH FIRST", "ERROR LATER", "HANG"):
            found.append(httpx2.post(f"{url}/v1/messages", json=body(fault), timeout=20).content)
            httpx2.get(f"{url}/readyz")
        for fields in (
            body(max_tokens="x"),
            body(max_tokens=2.5),
            body(messages=[]),
            body(messages="x"),
            body(messages=[None]),
            body(messages=[{"role": "user", "content": [{"type": "nothing"}]}]),
            body(messages=[{"role": "user", "content": [None]}]),
            body(messages=[{"role": "user", "content": {}}]),
            body(system=7),
            body(metadata=[]),
            body(stop_sequences={}),
            body(stream="yes"),
            body(temperature=True),
            body(nothing=1),
        ):
            found.append(httpx2.post(f"{url}/v1/messages", json=fields).content)

    assert [] == [content for content in found if LEAKS.search(content)]
    assert [] == [content for content in found if json.loads(content)["type"] != "error"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(2, "No such file", "/root/secret/path"),
        ValueError("sentinel 0x7f0dc0ffee00"),
        KeyError("sentinel"),
        RecursionError("sentinel"),
        MemoryError("sentinel"),
        AssertionError("sentinel"),
        UnicodeDecodeError("utf-8", b"sentinel", 0, 1, "sentinel"),
        TimeoutError("sentinel"),
        ConnectionResetError("sentinel"),
        ExceptionGroup("sentinel", [ValueError("sentinel")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_nobody_thought_of_is_told_without_its_text(error: Exception) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    async def ask() -> httpx2.Response:
        gate = Gate(fail, keyring(()), (), Metrics())
        transport = httpx2.ASGITransport(app=gate)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/v1/models")

    answer = asyncio.run(ask())

    assert (500, "api_error") == (answer.status_code, answer.json()["error"]["type"])
    assert not LEAKS.search(answer.content)
    assert b"sentinel" not in answer.content
