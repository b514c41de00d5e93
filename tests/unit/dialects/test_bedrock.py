"""The Bedrock dialect: names in paths, versions in bodies, frames that botocore reads, errors as AWS tells them."""

import base64
import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from sestet.contract.errors import ApiError, ErrorKind, invalid
from sestet.contract.events import (
    BlockDelta,
    BlockSignature,
    BlockStart,
    BlockStop,
    Event,
    Failed,
    MessageDelta,
    MessageStart,
    MessageStop,
    Usage,
)
from sestet.contract.limits import LimitState
from sestet.contract.requests import CountTokensRequest, MessagesRequest
from sestet.dialects import anthropic
from sestet.dialects.bedrock import (
    DIALECT,
    EventStream,
    decode_count,
    decode_invoke,
    decode_stream,
    encode_error,
)
from sestet.dialects.dialect import Asking
from tests.unit.refusals import refusal

BODY: dict[str, Any] = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "Hi"}],
}
MODEL = "anthropic.claude-3-7-sonnet-20250219-v1:0"
USAGE = Usage(10, 5, cache_creation_5m=1, cache_creation_1h=2, cache_read_input_tokens=4)
EVENTS: list[Event] = [
    MessageStart("msg_1", "m", Usage(10)),
    BlockStart(0, "thinking"),
    BlockDelta(0, "thinking", "Let me"),
    BlockSignature(0, "c2ln"),
    BlockStop(0),
    BlockStart(1, "text"),
    BlockDelta(1, "text", 'né 你好 🎉\u2028\r\n\x85\x00"end"'),
    BlockStop(1),
    BlockStart(2, "tool_use", "toolu_1", "add"),
    BlockDelta(2, "tool_use", '{"a": 1}'),
    BlockStop(2),
    MessageDelta("tool_use", None, USAGE),
    MessageStop(),
]


def asking(path: str, **headers: bytes) -> Asking:
    given = {name.replace("_", "-").encode(): [value] for name, value in headers.items()}
    return Asking(path, given, "req_1", "msg_1", 0.0, lambda name: pytest.fail(f"nobody asked about {name}"))


def invoked(name: str = MODEL, **fields: Any) -> Any:
    return decode_invoke(asking(f"/model/{name}/invoke"), json.dumps({**BODY, **fields}).encode())


def frames(*pieces: bytes) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What botocore, which checks both sums, reads of these bytes: headers and payload."""
    buffer = EventStreamBuffer()
    found = []
    for piece in pieces:
        buffer.add_data(piece)
        found += [(message.headers, json.loads(message.payload)) for message in buffer]
    return found


def chunk(frame: tuple[dict[str, Any], dict[str, Any]]) -> Any:
    headers, payload = frame

    assert {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"} == headers
    assert ["bytes"] == list(payload)
    return json.loads(base64.b64decode(payload["bytes"], validate=True))


@pytest.mark.parametrize(
    "name",
    [
        MODEL,
        f"us.{MODEL}",
        f"us-gov.{MODEL}",
        f"eu.{MODEL}",
        f"apac.{MODEL}",
        f"global.{MODEL}",
        f"arn:aws:bedrock:us-east-1::foundation-model/{MODEL}",
        f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.{MODEL}",
        f"arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:inference-profile/us-gov.{MODEL}",
        f"arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/{MODEL}",
    ],
)
def test_every_spelling_of_a_model_is_its_id(name: str) -> None:
    assert MODEL == invoked(name).request.model


@pytest.mark.parametrize(
    "name",
    [
        "scripted",
        "us.scripted",
        "eu.us.anthropic.x",
        "us.us.anthropic.x",
        "us_anthropic.x",
        "a/invoke",
        "arn:aws:s3:::bucket/anthropic.x",
        "arn:aws:bedrock:us-east-1:1:provisioned-model/x",
        "arn:aws:bedrock:us-east-1:1:inference-profile/",
        "../v1",
        "x\n",
    ],
)
def test_what_is_no_such_spelling_is_a_name_as_it_is(name: str) -> None:
    assert name == invoked(name).request.model


def test_the_body_is_the_contracts_but_for_what_the_path_says() -> None:
    body = {**BODY, "system": "Be brief", "top_k": 5}
    whole = decode_invoke(asking(f"/model/{MODEL}/invoke"), json.dumps(body).encode())
    stream = decode_stream(asking(f"/model/{MODEL}/invoke-with-response-stream"), json.dumps(body).encode())
    contract = {"model": MODEL, "max_tokens": 8, "messages": BODY["messages"], "system": "Be brief", "top_k": 5}

    assert MessagesRequest.model_validate(contract) == whole.request
    assert MessagesRequest.model_validate({**contract, "stream": True}) == stream.request


@pytest.mark.parametrize(
    ("named", "version"),
    [("bedrock-2023-05-31", "2023-06-01"), ("2023-06-01", "2023-06-01"), ("2026-10-21", "2026-10-21")],
)
def test_the_body_names_the_version(named: str, version: str) -> None:
    body = json.dumps({**BODY, "anthropic_version": named}).encode()
    asked = decode_invoke(asking("/model/x/invoke", anthropic_version=b"of no meaning here"), body)

    assert version == asked.version


def test_betas_are_those_of_the_header_and_of_the_body() -> None:
    body = json.dumps({**BODY, "anthropic_beta": ["b", "c"]}).encode()
    asked = decode_invoke(asking("/model/x/invoke", anthropic_beta=b"a, b"), body)

    assert {"a", "b", "c"} == asked.betas


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"anthropic_version": "vertex-2023-10-16"}, "anthropic_version"),
        ({"anthropic_version": None}, "anthropic_version"),
        ({"anthropic_version": ["2023-06-01"]}, "anthropic_version"),
        ({"model": MODEL}, "model"),
        ({"model": None}, "model"),
        ({"stream": False}, "stream"),
        ({"anthropic_beta": "a"}, "anthropic_beta"),
        ({"anthropic_beta": [1]}, "anthropic_beta"),
        ({"anthropic-version": "2023-06-01"}, "anthropic-version"),
        ({"n": 2}, "n"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
    ],
)
def test_what_is_wrong_in_a_body_is_named(fields: dict[str, Any], path: str) -> None:
    assert path == refusal(lambda: invoked(**fields)).param


def test_a_body_without_a_version_is_refused() -> None:
    body = json.dumps({"max_tokens": 8, "messages": BODY["messages"]}).encode()

    assert "anthropic_version" == refusal(lambda: decode_invoke(asking("/model/x/invoke"), body)).param


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_a_name_that_cannot_be_one_is_refused_as_the_client_calls_it(name: str) -> None:
    assert "modelId" == refusal(lambda: invoked(name)).param
    assert {"model": "modelId"} == invoked().paths


def counted(body: bytes) -> Any:
    return decode_count(asking(f"/model/us.{MODEL}/count-tokens"), body)


def packed(**fields: Any) -> bytes:
    inner = base64.b64encode(json.dumps({**BODY, **fields}).encode()).decode()
    return json.dumps({"input": {"invokeModel": {"body": inner}}}).encode()


def test_a_count_is_of_what_would_be_invoked() -> None:
    asked = counted(packed(system="Be brief", temperature=0.5))
    prompt = {"model": MODEL, "messages": BODY["messages"], "system": "Be brief"}

    assert CountTokensRequest.model_validate(prompt) == asked.request
    assert b'{"inputTokens":7}' == asked.encode(7)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{}", "input"),
        (b'{"input":5}', "input"),
        (b'{"input":{"converse":{}}}', "input"),
        (b'{"input":{"invokeModel":5}}', "input.invokeModel.body"),
        (b'{"input":{"invokeModel":{"body":5}}}', "input.invokeModel.body"),
        (b'{"input":{"invokeModel":{"body":"e30"}}}', "input.invokeModel.body"),
        ('{"input":{"invokeModel":{"body":"é"}}}'.encode(), "input.invokeModel.body"),
        (b'{"input":{"invokeModel":{"body":"e30="}}}', "anthropic_version"),
        (packed(max_tokens="many"), "max_tokens"),
        (packed(n=1), "n"),
    ],
)
def test_what_cannot_be_counted_is_named(body: bytes, path: str) -> None:
    assert path == refusal(lambda: counted(body)).param


def test_every_event_is_a_frame_with_the_contracts_json() -> None:
    stream = EventStream()
    told = [chunk(frame) for frame in frames(*(stream.event(event) for event in EVENTS))]
    contract = [json.loads(anthropic.encode_event_data(event, "")) for event in EVENTS]
    metrics = {
        "inputTokenCount": 10,
        "outputTokenCount": 5,
        "cacheReadInputTokenCount": 4,
        "cacheWriteInputTokenCount": 3,
    }

    assert [*contract[:-1], {"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}] == told


def test_frames_are_read_byte_by_byte() -> None:
    stream = EventStream()
    content = b"".join(stream.event(event) for event in EVENTS) + stream.ping
    singly = frames(*(content[at : at + 1] for at in range(len(content))))

    assert frames(content) == singly
    assert [*(json.loads(anthropic.encode_event_data(event, ""))["type"] for event in EVENTS), "ping"] == [
        chunk(frame)["type"] for frame in singly
    ]


@given(st.sampled_from(("text", "thinking", "tool_use")), st.integers(0, 10_000), st.text())
def test_any_text_arrives(kind: Any, index: int, text: str) -> None:
    event = BlockDelta(index, kind, text)

    assert [json.loads(anthropic.encode_event_data(event, ""))] == list(map(chunk, frames(EventStream().event(event))))


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ApiError("rate_limit_error", "slow down"), "throttlingException"),
        (ApiError("overloaded_error", "slow down"), "serviceUnavailableException"),
        (ApiError("timeout_error", "slow down"), "modelTimeoutException"),
        (ApiError("api_error", "slow down"), "modelStreamErrorException"),
        (invalid("slow down"), "validationException"),
        (ApiError("permission_error", "slow down"), "validationException"),
    ],
)
def test_a_stream_that_failed_ends_with_an_exception(error: ApiError, name: str) -> None:
    ((headers, payload),) = frames(EventStream().event(Failed(error)))

    assert {
        ":exception-type": name,
        ":content-type": "application/json",
        ":message-type": "exception",
    } == headers
    assert {"message": "slow down"} == payload


@pytest.mark.parametrize(
    ("kind", "status", "name"),
    [
        ("invalid_request_error", 400, "ValidationException"),
        ("authentication_error", 403, "UnrecognizedClientException"),
        ("billing_error", 400, "ServiceQuotaExceededException"),
        ("permission_error", 403, "AccessDeniedException"),
        ("not_found_error", 404, "ResourceNotFoundException"),
        ("conflict_error", 409, "ConflictException"),
        ("request_too_large", 413, "RequestEntityTooLargeException"),
        ("rate_limit_error", 429, "ThrottlingException"),
        ("api_error", 500, "InternalServerException"),
        ("timeout_error", 408, "ModelTimeoutException"),
        ("overloaded_error", 503, "ServiceUnavailableException"),
    ],
)
def test_every_error_has_a_status_and_a_name(kind: ErrorKind, status: int, name: str) -> None:
    refused = encode_error(ApiError(kind, "no", param="modelId"), "req_1", 0.0)

    assert (status, b'{"message":"modelId: no"}') == (refused.status, refused.body)
    assert (b"x-amzn-errortype", name.encode()) in refused.headers


def test_a_refusal_says_when_to_come_back_and_what_was_limited() -> None:
    error = ApiError("rate_limit_error", "no", retry_after_s=2.1).limited([LimitState("requests", 5, 0, 1.0)])

    assert (
        (b"x-amzn-errortype", b"ThrottlingException"),
        (b"anthropic-ratelimit-requests-limit", b"5"),
        (b"anthropic-ratelimit-requests-remaining", b"0"),
        (b"anthropic-ratelimit-requests-reset", b"1970-01-01T00:00:01Z"),
        (b"retry-after", b"3"),
    ) == encode_error(error, "req_1", 0.0).headers


def test_a_status_of_http_itself_stays() -> None:
    refused = encode_error(ApiError("invalid_request_error", "no", status=405), "req_1", 0.0)

    assert 405 == refused.status


def test_where_clients_look_for_a_requests_id() -> None:
    assert b"x-amzn-requestid" == DIALECT.request_id_header
