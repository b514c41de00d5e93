"""Who is let in: both credential headers, the routes that need none, and the `Host` of a server without keys."""

from typing import Any

import httpx2
import pytest

from tests.contract.errors import assert_contract_error
from tests.contract.scenes import OTHER_KEY, RIGHT_KEY, Scenes

HELLO: dict[str, Any] = {
    "model": "claude-3-7-sonnet-latest",
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "Hi"}],
}

LET_IN = {
    "x-api-key": [("x-api-key", RIGHT_KEY)],
    "another key": [("x-api-key", OTHER_KEY)],
    "bearer": [("authorization", f"Bearer {RIGHT_KEY}")],
    "bearer in small letters": [("authorization", f"bearer {RIGHT_KEY}")],
    "the same in both": [("x-api-key", RIGHT_KEY), ("authorization", f"Bearer {RIGHT_KEY}")],
}

TURNED_AWAY = {
    "none": [],
    "wrong": [("x-api-key", "sk-wrong")],
    "wrong bearer": [("authorization", "Bearer sk-wrong")],
    "empty": [("x-api-key", "")],
    "a part of a key": [("x-api-key", RIGHT_KEY[:-1])],
    "other scheme": [("authorization", f"Basic {RIGHT_KEY}")],
    "no scheme": [("authorization", RIGHT_KEY)],
    "right and wrong": [("x-api-key", RIGHT_KEY), ("authorization", "Bearer sk-wrong")],
    "wrong and right": [("x-api-key", "sk-wrong"), ("authorization", f"Bearer {RIGHT_KEY}")],
    "two right ones": [("x-api-key", RIGHT_KEY), ("authorization", f"Bearer {OTHER_KEY}")],
    "one header twice": [("x-api-key", RIGHT_KEY), ("x-api-key", OTHER_KEY)],
}


@pytest.mark.parametrize("credentials", LET_IN.values(), ids=LET_IN.keys())
def test_a_key_lets_in_by_either_header(scenes: Scenes, credentials: list[tuple[str, str]]) -> None:
    answer = httpx2.post(f"{scenes.keys_url}/v1/messages", json=HELLO, headers=credentials)

    assert 200 == answer.status_code


@pytest.mark.parametrize("credentials", TURNED_AWAY.values(), ids=TURNED_AWAY.keys())
def test_no_other_credential_lets_in(scenes: Scenes, credentials: list[tuple[str, str]]) -> None:
    refused = httpx2.post(f"{scenes.keys_url}/v1/messages", json=HELLO, headers=credentials)

    message = assert_contract_error(refused, 401, "authentication_error")
    assert "Bearer" == refused.headers["www-authenticate"]
    assert "sk-" not in message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/messages"),
        ("POST", "/v1/messages/count_tokens"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/claude-3-7-sonnet-latest"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
        ("GET", "/%2e/healthz"),
        ("GET", "//healthz"),
        ("GET", "/healthz/"),
    ],
)
def test_everything_else_needs_a_key(scenes: Scenes, method: str, path: str) -> None:
    refused = httpx2.request(method, f"{scenes.keys_url}{path}")

    assert_contract_error(refused, 401, "authentication_error")


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json"])
def test_what_helps_to_use_the_server_needs_no_key(scenes: Scenes, path: str) -> None:
    assert 200 == httpx2.get(f"{scenes.keys_url}{path}").status_code


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.2:8000"])
def test_without_keys_a_strange_host_is_refused(client: httpx2.Client, host: str) -> None:
    refused = client.post("/v1/messages", json=HELLO, headers={"host": host})

    assert_contract_error(refused, 403, "permission_error")


def test_without_keys_a_page_of_a_strange_origin_is_refused(client: httpx2.Client) -> None:
    refused = client.post("/v1/messages", json=HELLO, headers={"origin": "https://evil.example"})

    assert_contract_error(refused, 403, "permission_error")


def test_without_keys_any_key_will_do(client: httpx2.Client) -> None:
    for credentials in ({}, {"x-api-key": "any"}, {"authorization": "Bearer any"}):
        assert 200 == client.post("/v1/messages", json=HELLO, headers=credentials).status_code
