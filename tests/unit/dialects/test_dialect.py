"""What dialects have in common: whose words are spoken where, and what a client calls a path."""

import pytest

from sestet.contract.errors import ApiError
from sestet.dialects.dialect import renamed, retry_headers
from sestet.server.dialects import spoken_at, unmounted

PATHS = {"messages.2": "messages.3", "messages.2.content.0": "messages.5", "max_tokens": "max_completion_tokens"}


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("max_tokens", "max_completion_tokens"),
        ("messages.2", "messages.3"),
        ("messages.2.role", "messages.3.role"),
        ("messages.2.content.0", "messages.5"),
        ("messages.2.content.0.text", "messages.5.text"),
        ("messages.2.content.1.text", "messages.3.content.1.text"),
        ("messages.20.role", "messages.20.role"),
        ("max_tokens_to_sample", "max_tokens_to_sample"),
        ("", ""),
    ],
)
def test_the_longest_known_beginning_of_a_path_is_what_the_client_calls_it(param: str, told: str) -> None:
    assert told == renamed(param, PATHS)


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (ApiError("invalid_request_error", "no"), ()),
        (ApiError("rate_limit_error", "no", retry_after_s=2.01), ((b"retry-after", b"3"),)),
        (ApiError("overloaded_error", "no", retry_after_s=0.0), ((b"retry-after", b"1"),)),
        (ApiError("authentication_error", "no"), ((b"www-authenticate", b"Bearer"),)),
        (ApiError("rate_limit_error", "no", code="enforced_spend_limit_reached"), ((b"x-should-retry", b"false"),)),
    ],
)
def test_whether_and_when_to_try_again_is_told(error: ApiError, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    assert headers == retry_headers(error)


@pytest.mark.parametrize(
    ("path", "mounted"),
    [
        ("/anthropic/v1/messages", "/v1/messages"),
        ("/anthropic/v1/", "/v1/"),
        ("/anthropic/v1", "/anthropic/v1"),
        ("/anthropic/healthz", "/anthropic/healthz"),
        ("/anthropic/", "/anthropic/"),
        ("/anthropic//v1/messages", "/anthropic//v1/messages"),
        ("/anthropic/../healthz", "/anthropic/../healthz"),
        ("/anthropic/anthropic/v1/messages", "/anthropic/anthropic/v1/messages"),
        ("/v1/anthropic/v1/messages", "/v1/anthropic/v1/messages"),
    ],
)
def test_the_mount_is_taken_off_once_and_of_the_api_alone(path: str, mounted: str) -> None:
    assert mounted == unmounted(path)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/nothing", "anthropic"),
        ("/metrics", "anthropic"),
        ("/v1/chat/completions", "openai"),
        ("/v1/chat/nothing", "openai"),
        ("/v1/responses", "responses"),
        ("/v1/responses/resp_1", "responses"),
        ("/model/x/invoke", "bedrock"),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/m:rawPredict", "vertex"),
        ("/projects/p/nothing", "vertex"),
        ("/v1/chatter", "anthropic"),
    ],
)
def test_every_path_is_spoken_at_in_one_dialect(path: str, name: str) -> None:
    assert name == spoken_at(path, {}).name
