"""Signed requests at the door: what is checked before the body is read, and that the route gets it all the same."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from starlette.types import Message

from sestet.contract.errors import ApiError
from sestet.gate.directory import DEFAULT_WORKSPACE
from sestet.gate.keys import ANYONE, AwsKey, Caller, Keyring
from sestet.gate.sigv4 import SentRequest
from sestet.server.body import BODY_BYTES_MAX
from sestet.server.compose import ConfigError
from sestet.server.signed import admit_signed
from tests.unit.in_process import Answer, application, ask
from tests.unit.signing import BODY, ID, PATH, SECRET, signed

KEY: Mapping[str, Any] = {"access_key_id": ID, "secret_access_key": SECRET}
CALLER = Caller(ID, DEFAULT_WORKSPACE, ANYONE.scopes)
MODEL = "/model/us.anthropic.claude-3-7-sonnet-20250219-v1:0"
HELLO = orjson.dumps(
    {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
)


def messages(**fields: Any) -> bytes:
    """The same for the contract's own path."""
    given = {key: value for key, value in orjson.loads(HELLO).items() if key != "anthropic_version"}
    return orjson.dumps({**given, "model": "scripted", **fields})


def asked(*requests: tuple[SentRequest, bytes], access: Mapping[str, Any]) -> list[Answer]:
    async def play() -> list[Answer]:
        app = await application(access=access)
        answers = [
            await ask(
                app,
                request.method,
                request.path.decode(),
                body,
                headers=[(name, value) for name, values in request.headers.items() for value in values],
                query=request.query.decode(),
            )
            for request, body in requests
        ]
        await app.stop()
        return answers

    return asyncio.run(play())


def statuses(*requests: tuple[SentRequest, bytes], access: Mapping[str, Any] | None = None) -> list[int]:
    return [answer.status for answer in asked(*requests, access=access or {"aws_keys": [KEY], "keys": ["sk-key"]})]


def given(request: SentRequest, **headers: bytes) -> SentRequest:
    more = {name.replace("_", "-").encode(): [value] for name, value in headers.items()}
    return replace(request, headers={**request.headers, **more})


def test_a_signed_request_is_answered_on_the_paths_of_its_service() -> None:
    both = [
        *[(signed(f"{MODEL}{end}", body=HELLO), HELLO) for end in ("/invoke", "/invoke-with-response-stream")],
        (signed("/anthropic/v1/messages", "beta=true", body=messages(), service="bedrock-mantle"), messages()),
    ]

    assert [200, 200, 200] == statuses(*both)


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/messages", "bedrock"),
        ("/v1/messages", "bedrock-mantle"),
        ("/anthropic/v1/messages", "bedrock"),
        ("/metrics", "bedrock"),
        ("/anthropic/metrics", "bedrock-mantle"),
        ("/projects/p/locations/l/publishers/anthropic/models/scripted:rawPredict", "bedrock"),
        ("/v1/organizations/api_keys", "bedrock-mantle"),
    ],
)
def test_it_is_answered_nowhere_else(path: str, service: str) -> None:
    assert [401] == statuses((signed(path, body=messages(), service=service), messages()))


def test_bedrock_says_403_to_a_signature_for_another_service() -> None:
    request = signed(f"{MODEL}/invoke", body=HELLO, service="bedrock-mantle")
    (answer,) = asked((request, HELLO), access={"aws_keys": [KEY]})

    assert (403, [b"UnrecognizedClientException"]) == (answer.status, answer.headers[b"x-amzn-errortype"])


def test_two_credentials_contradict_each_other() -> None:
    request = signed(f"{MODEL}/invoke", body=HELLO)
    twice = [(name, value) for name, (value,) in request.headers.items()]

    async def play() -> int:
        app = await application(access={"aws_keys": [KEY], "keys": ["sk-key"]})
        both = [*twice, (b"authorization", b"Bearer sk-key")]
        answer = await ask(app, "POST", request.path.decode(), HELLO, headers=both)
        await app.stop()
        return answer.status

    assert [403] == statuses((given(request, x_api_key=b"sk-key"), HELLO))
    assert 403 == asyncio.run(play())


def test_a_signature_in_the_query_is_no_credential() -> None:
    request = signed(f"{MODEL}/invoke", body=HELLO)
    query = b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00&X-Amz-Credential=" + ID.encode()
    without = {name: values for name, values in request.headers.items() if name != b"authorization"}

    assert [403] == statuses((replace(request, headers=without, query=query), HELLO))


def test_keys_are_taken_on_bedrocks_paths_as_everywhere() -> None:
    request = SentRequest("POST", f"{MODEL}/invoke".encode(), b"", {b"host": [b"localhost"]})

    assert [200, 200, 403, 403] == statuses(
        (given(request, authorization=b"Bearer sk-key"), HELLO),
        (given(request, x_api_key=b"sk-key"), HELLO),
        (given(request, authorization=b"Bearer sk-other"), HELLO),
        (request, HELLO),
    )


def test_where_no_key_is_asked_for_any_signature_will_do() -> None:
    request = given(signed(f"{MODEL}/invoke", body=HELLO), authorization=b"AWS4-HMAC-SHA256 whatever")

    assert [200] == statuses((request, HELLO), access={"keys": []})


def test_key_pairs_alone_close_the_door() -> None:
    request = SentRequest("POST", b"/v1/messages", b"", {b"host": [b"localhost"]})

    assert [401] == statuses((request, messages()), access={"aws_keys": [KEY]})


def test_a_large_body_is_signed_too_and_one_too_large_is_refused() -> None:
    large = HELLO + b" " * 300_000
    huge = b" " * (BODY_BYTES_MAX + 1)
    request = signed(f"{MODEL}/invoke", body=large)

    assert [200, 403, 413] == statuses((request, large), (request, large + b" "), (request, huge))


@pytest.mark.parametrize("query", ["", "a=1"])
def test_what_goes_wrong_later_is_told_as_bedrock_tells_it(query: str) -> None:
    (answer,) = asked((signed("/model/none/invoke", query, body=HELLO), HELLO), access={"aws_keys": [KEY]})

    assert (404, [b"ResourceNotFoundException"]) == (answer.status, answer.headers[b"x-amzn-errortype"])
    assert answer.headers[b"x-amzn-requestid"] == answer.headers[b"request-id"]
    assert answer.json["message"].startswith("modelId: `none` is not served here")


def test_a_workspace_that_is_not_there_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r"access\.aws_keys\.0\.workspace: there is no workspace `wrkspc_none`"):
        asked(access={"aws_keys": [{**KEY, "workspace": "wrkspc_none"}]})


def admitted(request: SentRequest, *received: Message, secret: str = SECRET) -> list[Any]:
    """The caller, and then what the route receives."""
    ring = Keyring((b"p" * 32,), {}, [AwsKey(ID, secret, CALLER)])
    scope = {"method": "POST", "raw_path": request.path, "query_string": request.query}
    unread = list(received)

    async def receive() -> Message:
        return unread.pop(0)

    async def play() -> list[Any]:
        caller, again = await admit_signed(ring, "bedrock", scope, request.headers, receive)
        return [caller, await again(), await again()]

    return asyncio.run(play())


def test_the_route_gets_the_body_and_then_hears_of_the_clients_leaving() -> None:
    pieces: list[Message] = [
        {"type": "http.request", "body": BODY[:5], "more_body": True},
        {"type": "http.request", "body": BODY[5:], "more_body": False},
        {"type": "http.disconnect"},
    ]

    assert [
        CALLER,
        {"type": "http.request", "body": BODY, "more_body": False},
        {"type": "http.disconnect"},
    ] == admitted(signed(), *pieces)


@pytest.mark.parametrize(
    "request_",
    [
        given(signed(), authorization=b"AWS4-HMAC-SHA256 Credential="),
        given(signed(), authorization=signed().headers[b"authorization"][0].replace(ID.encode(), b"A" * 20)),
        given(signed(), x_amz_date=b"20200101T000000Z"),
        given(signed(), x_amz_security_token=b"token"),
        signed(service="s3"),
    ],
    ids=["no signature", "another id", "another time", "not signed", "another service"],
)
def test_nothing_of_a_body_is_read_that_could_not_be_right(request_: SentRequest) -> None:
    """There is nothing to receive here: reading would fail otherwise."""
    with pytest.raises(ApiError) as caught:
        admitted(request_)

    assert "authentication_error" == caught.value.kind


def test_a_body_that_was_not_signed_lets_nobody_in() -> None:
    with pytest.raises(ApiError, match="the signature does not match the request"):
        admitted(signed(path=PATH), {"type": "http.request", "body": BODY + b" ", "more_body": False})
