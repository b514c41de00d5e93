"""Names of models that look like paths are looked up in the list of models and nowhere else (T41)."""

from urllib.parse import quote

import httpx2
import pytest

from tests.faults.watch import under_watch
from tests.faults.wire import HEADERS, body
from tests.running import RunningServer

NAMES = [
    "../scripted",
    "scripted/../scripted",
    "..%2fscripted",
    "%2e%2e/scripted",
    "/etc/passwd",
    "/proc/self/environ",
    "C:\\windows\\win.ini",
    "\\\\evil.example\\share",
    "file:///etc/passwd",
    "http://127.0.0.1:1/model.gguf",
    "hf.co/someone/something",
    "hf://someone/something",
    "scripted\0",
    "\0",
    "scripted\n",
    "scripted ",
    " scripted",
    "SCRIPTED",
    "scripted/",
    "./scripted",
    "scripted;id",
    "$(id)",
    "`id`",
    "${PATH}",
    "{{7*7}}",
    "%s%n",
    "' OR '1'='1",
    "<script>alert(1)</script>",
    "scripted-20260101@latest",
    "sсripted",  # the second letter is Cyrillic
    "\u202escripted",
    "*",
    ".",
    "..",
    "~",
    "-",
    "a" * 256,
]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_name_that_is_none_of_ours_is_not_found(open_server: RunningServer, path: str) -> None:
    with under_watch(open_server) as watch:
        found = [
            httpx2.post(f"{open_server.url}{path}", json={**body(), "model": name}, headers=HEADERS) for name in NAMES
        ]
        watch.hear(b"".join(answer.content for answer in found))

    # A count has no max_tokens; the name is looked up behind the shape.
    expected = 404 if path == "/v1/messages" else 400
    assert [expected] * len(NAMES) == [answer.status_code for answer in found]


def test_a_count_of_a_name_that_is_none_of_ours_is_not_found(open_server: RunningServer) -> None:
    fields = {key: value for key, value in body().items() if key != "max_tokens"}

    found = [
        httpx2.post(f"{open_server.url}/v1/messages/count_tokens", json={**fields, "model": name}) for name in NAMES
    ]

    assert [(404, "not_found_error")] * len(NAMES) == [
        (answer.status_code, answer.json()["error"]["type"]) for answer in found
    ]


def test_a_model_asked_for_by_a_path_is_not_found(open_server: RunningServer) -> None:
    names = [name for name in NAMES if name not in (".", "..")]
    with under_watch(open_server):
        found = [httpx2.get(f"{open_server.url}/v1/models/{quote(name, safe='')}") for name in names]

    assert [(404, "not_found_error")] * len(names) == [
        (answer.status_code, answer.json()["error"]["type"]) for answer in found
    ]


@pytest.mark.parametrize("name", ["", "a" * 257, "a" * 1_000_000, 7, None, ["scripted"], {"id": "scripted"}])
def test_a_name_that_is_no_name_is_refused(open_server: RunningServer, name: object) -> None:
    answer = httpx2.post(f"{open_server.url}/v1/messages", json={**body(), "model": name}, headers=HEADERS)

    assert 400 == answer.status_code
    assert answer.json()["error"]["message"].startswith("model: ")
    assert len(answer.content) < 1_000
