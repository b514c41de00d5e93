"""The official clients for the clouds, newest and before 1.0, in Python and TypeScript, and AWS's own: over one server
with keys, all are told the same as the clients of the Messages API."""

import http.client
import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from botocore.eventstream import EventStreamBuffer

from tests.contract.scenes import KEYS_CONFIG, MANY_SCRIPTS, RIGHT_KEY, SCRIPT, SNAPSHOT, WEATHER, rendered, told_of
from tests.contract.test_every_sdk import HERE, ROOT, TIMEOUT_S
from tests.running import RunningServer, start_server
from tests.unit.signing import ID, SECRET

CONFIG = f'{KEYS_CONFIG}[[access.aws_keys]]\naccess_key_id = "{ID}"\nsecret_access_key = "{SECRET}"\n'
PYTHON_CASES = str(HERE / "cloud_cases.py")
TYPESCRIPT_CASES = str(HERE / "typescript" / "clouds.mjs")

COMMANDS = {
    "python": [sys.executable, PYTHON_CASES],
    "python-old": [str(ROOT / ".venv-old-sdk" / "bin" / "python"), PYTHON_CASES],
    "typescript": ["node", TYPESCRIPT_CASES, "@anthropic-ai/bedrock-sdk", "@anthropic-ai/vertex-sdk"],
    "typescript-old": ["node", TYPESCRIPT_CASES, "anthropic-bedrock-sdk-old", "anthropic-vertex-sdk-old"],
    "boto3": [sys.executable, str(HERE / "boto_cases.py")],
}
SDKS = [name for name in COMMANDS if name != "boto3"]
VERSIONS = {"python": "2.11.0", "python-old": "0.125.0", "typescript": "1.1.3", "typescript-old": "0.36.0"}

COMMON = ["bedrock", "bedrock signed", "vertex", "vertex without v1", "mantle", "mantle signed"]
FACES = [
    *((sdk, face) for sdk in SDKS for face in COMMON),
    *((sdk, face) for sdk in ("python", "python-old") for face in ("foundry", "aws")),
]

Outcomes = dict[str, Any]


def told(*content: list[object], prompt: int, tokens: int, stop: str = "end_turn") -> Outcomes:
    return {"content": [*content], "stop": stop, "model": SNAPSHOT, "tokens": [prompt, tokens]}


def streamed(message: Outcomes, *types: str) -> Outcomes:
    return {"types": ["message_start", *types, "message_stop"], **message}


ASKED = len(rendered(("user", "Hi")))
THOUGHT = ["thinking", "Let me see.", True]
HELLO = told(["text", "Hello, world."], prompt=ASKED, tokens=4)
LOOKED = told(
    ["text", "Let me look."],
    ["tool_use", "get_weather", {"city": "Paris"}],
    prompt=len(rendered(told_of(WEATHER), ("user", "look at the weather"))),
    tokens=12,
    stop="tool_use",
)
SCRIPTS = told(
    ["thinking", MANY_SCRIPTS, True],
    ["text", MANY_SCRIPTS],
    prompt=len(rendered(("user", "many scripts"), thinking=True)),
    tokens=17,
)
WITH_ID = {"request_id": "req_"}

EXPECTED: Outcomes = {
    "whole": HELLO | WITH_ID,
    "older version": HELLO | WITH_ID,
    "beta": "Hello, world.",
    "streamed": streamed(HELLO, *["text_delta"] * 4),
    "thought": told(THOUGHT, ["text", "Hello, world."], prompt=len(rendered(("user", "Hi"), thinking=True)), tokens=9)
    | WITH_ID,
    "many scripts": streamed(SCRIPTS, *["thinking_delta"] * 5, "signature_delta", *["text_delta"] * 8),
    "call": LOOKED | WITH_ID,
    "streamed call": streamed(LOOKED, *["text_delta"] * 3, *["input_json_delta"] * 5),
    "silence": streamed(
        told(["text", "Well."], prompt=len(rendered(("user", "think it over"))), tokens=2), *["text_delta"] * 2
    ),
}


def failure(name: str, status: int, message: str) -> Outcomes:
    return {"class": name, "status": status, "message": message, "request_id": "req_"}


def failures(face: str) -> Outcomes:
    """Bedrock's clients are told 403 where others are told 401, and what they call a model's name."""
    bedrock = face.startswith("bedrock")
    refused = "the signature does not match the request" if face.endswith("signed") else "invalid API key"
    model = "modelId" if bedrock else "model"
    wrong = failure("PermissionDeniedError", 403, refused) if bedrock else failure("AuthenticationError", 401, refused)
    unknown = f"{model}: `none` is not served here; GET /v1/models lists what is."
    return {
        "fails at once": failure("InternalServerError", 500, "the engine failed"),
        "unknown model": failure("NotFoundError", 404, unknown),
        "bad request": failure("BadRequestError", 400, "max_tokens: Input should be greater than or equal to 0"),
        "wrong credentials": wrong,
    }


def failed_half_way(sdk: str, face: str) -> Outcomes:
    """What is known of the exception's frame; the old Python SDK has no class for one."""
    if not face.startswith("bedrock"):
        return {"deltas": ["Half", " of it"], "type": "api_error", "message": "the engine failed"}
    if sdk == "python-old":
        return {"deltas": ["Half", " of it"], "type": "ValueError", "message": True}
    return {"deltas": ["Half", " of it"], "type": "modelStreamErrorException", "message": "the engine failed"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = start_server(tmp_path_factory.mktemp("clouds"), script=SCRIPT, config=CONFIG)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def reports(server: RunningServer) -> Iterator[dict[str, Outcomes]]:
    """What each client reports; they all run at once, and know of no credentials but those they are given."""
    words = ("ANTHROPIC_", "AWS_", "GOOGLE_", "CLOUD_ML_", "BOTO_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(words)}
    nowhere = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    older = {
        "AnthropicBedrock": {"anthropic_version": "bedrock-2023-05-31"},
        "AnthropicVertex": {"anthropic_version": "vertex-2023-10-16"},
    }
    given = {"url": server.url, "key": RIGHT_KEY, "pair": [ID, SECRET], "weather": WEATHER, "older": older}
    started = {
        name: subprocess.Popen(
            [*command, json.dumps(given)],
            cwd=HERE / "typescript",
            env={**clean, **nowhere, "AWS_EC2_METADATA_DISABLED": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name, command in COMMANDS.items()
    }
    try:
        yield {name: report(name, process) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()


def report(name: str, process: subprocess.Popen[bytes]) -> Outcomes:
    output, errors = process.communicate(timeout=TIMEOUT_S)
    if process.returncode:
        raise AssertionError(f"{name} ended with status {process.returncode}:\n{errors.decode()}")
    return json.loads(output)


@pytest.mark.parametrize("sdk", SDKS)
def test_the_sdk_is_the_one_that_is_meant(reports: dict[str, Outcomes], sdk: str) -> None:
    assert VERSIONS[sdk] == reports[sdk]["version"]


@pytest.mark.parametrize(("sdk", "face"), FACES)
def test_every_client_of_every_cloud_is_told_the_same(reports: dict[str, Outcomes], sdk: str, face: str) -> None:
    assert EXPECTED == {case: reports[sdk][face][case] for case in EXPECTED}


@pytest.mark.parametrize(("sdk", "face"), FACES)
def test_every_client_knows_a_failure_by_its_own_class(reports: dict[str, Outcomes], sdk: str, face: str) -> None:
    expected = failures(face)

    assert expected == {case: reports[sdk][face][case] for case in expected}


@pytest.mark.parametrize(("sdk", "face"), FACES)
def test_every_client_notices_a_stream_that_fails(reports: dict[str, Outcomes], sdk: str, face: str) -> None:
    assert failed_half_way(sdk, face) == reports[sdk][face]["half way"]


# The SDKs' clients of Bedrock do not count; that is for boto3.
@pytest.mark.parametrize(("sdk", "face"), [(sdk, face) for sdk, face in FACES if not face.startswith("bedrock")])
def test_tokens_are_counted(reports: dict[str, Outcomes], sdk: str, face: str) -> None:
    assert ASKED == reports[sdk][face]["count"]


def test_awss_own_client_is_answered(reports: dict[str, Outcomes]) -> None:
    hello = ["Hello, world.", "application/json", "req_"]
    metrics = {
        "inputTokenCount": ASKED,
        "outputTokenCount": 4,
        "cacheReadInputTokenCount": 0,
        "cacheWriteInputTokenCount": 0,
    }
    begun, ended = ["message_start", "content_block_start"], ["content_block_stop", "message_delta"]
    unknown = "modelId: `none` is not served here; GET /v1/models lists what is."
    negative = "max_tokens: Input should be greater than or equal to 0"
    half = {"Code": "modelStreamErrorException", "Message": "the engine failed"}

    assert {
        "signed": hello,
        "by an ARN": hello,
        "stream": [*begun, "Hello", ",", " world", ".", *ended, metrics],
        "half way": [*begun, "Half", " of it", half],
        "count": ASKED,
        "unknown model": ["ResourceNotFoundException", "ResourceNotFoundException", 404, unknown],
        "bad request": ["ValidationException", "ValidationException", 400, negative],
        "failed at once": ["InternalServerException", "InternalServerException", 500, "the engine failed"],
        "wrong secret": [
            "ClientError",
            "UnrecognizedClientException",
            403,
            "the signature does not match the request",
        ],
    } == reports["boto3"]


def bedrock(server: RunningServer, path: str, **fields: object) -> httpx2.Response:
    given = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": [{"role": "user", **fields}]}
    headers = {"authorization": f"Bearer {RIGHT_KEY}"}
    return httpx2.post(f"{server.url}/model/claude-3-7-sonnet-latest/{path}", json=given, headers=headers, timeout=60)


@pytest.mark.parametrize("prompt", ["Hi", "many scripts", "fail half way"])
def test_a_stream_of_frames_is_read_byte_by_byte(server: RunningServer, prompt: str) -> None:
    """By AWS's decoder, which checks both sums of every frame; inside are the events of the Messages API."""
    answer = bedrock(server, "invoke-with-response-stream", content=prompt)
    body = {"model": SNAPSHOT, "max_tokens": 64, "messages": [{"role": "user", "content": prompt}], "stream": True}
    contract = httpx2.post(f"{server.url}/v1/messages", json=body, headers={"x-api-key": RIGHT_KEY}, timeout=60)
    events = [json.loads(line[6:]) for line in contract.text.split("\n") if line.startswith("data: ")]
    buffer = EventStreamBuffer()
    frames = []
    for at in range(len(answer.content)):
        buffer.add_data(answer.content[at : at + 1])
        frames += list(buffer)
    told = [json.loads(frame.payload) for frame in frames]
    found = [json.loads(b64decode(one["bytes"])) if "bytes" in one else {"type": "error"} | one for one in told]

    assert "application/vnd.amazon.eventstream" == answer.headers["content-type"]
    assert answer.headers["x-amzn-requestid"] == answer.headers["request-id"]
    assert [plain(event) for event in events] == [plain(event) for event in found]


def plain(event: Outcomes) -> Outcomes:
    """An event without what no two replies share, and what only Bedrock says."""
    if event["type"] == "error":
        return {"error": event.get("message") or event["error"]["message"]}
    kept = {key: value for key, value in event.items() if key != "amazon-bedrock-invocationMetrics"}
    if "message" in kept:
        kept["message"] = {**kept["message"], "id": "msg_"}
    return kept


def test_a_whole_reply_says_its_tokens_once(server: RunningServer) -> None:
    answer = bedrock(server, "invoke", content="Hi")

    assert [ASKED, 4] == [answer.json()["usage"][name] for name in ("input_tokens", "output_tokens")]
    assert [] == [name for name in answer.headers if name.startswith("x-amzn-bedrock")]


def test_what_is_refused_below_the_application_is_told_as_bedrock_tells_it(server: RunningServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/model/x/invoke", headers={"x-large": "x" * 70_000})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()

    assert (431, "ValidationException") == (answer.status, answer.headers["x-amzn-errortype"])
    assert answer.headers["request-id"] == answer.headers["x-amzn-requestid"]
    assert {"message": "the headers are larger than 65536 bytes"} == json.loads(told)


# What is sent, and its answer to nobody and to a key for inference.
ODD_PATHS = {
    "/anthropic/v1/messages": (401, 405),
    "/anthropic/v1/models/none": (401, 404),
    "/anthropic/v1/organizations/me": (401, 403),
    "/anthropic%2fv1/messages": (401, 405),
    "/anthropic": (401, 404),
    "/anthropic/": (401, 404),
    "/anthropic/v1": (401, 404),
    "/anthropic/v1/": (401, 404),
    "/anthropic/healthz": (401, 404),
    "/anthropic/metrics": (401, 404),
    "/anthropic/openapi.json": (401, 404),
    "/anthropic//v1/messages": (401, 404),
    "//anthropic/v1/messages": (401, 404),
    "/anthropic/v1//messages": (401, 404),
    "/anthropic/anthropic/v1/messages": (401, 404),
    "/Anthropic/v1/messages": (401, 404),
    "/anthropic/../healthz": (401, 404),
    "/anthropic/%2e%2e/healthz": (401, 404),
    "/anthropic/..%2fhealthz": (401, 404),
    "/anthropic/v1/../../healthz": (401, 404),
    "/anthropic/v1/../../metrics": (401, 404),
    "/anthropic/v1/%2e%2e/%2e%2e/healthz": (401, 404),
    "/anthropic/v1/..%2f..%2fhealthz": (401, 404),
    "/anthropic/v1/.%2e/healthz": (401, 404),
    "/anthropic/v1/messages;x": (401, 404),
    "/anthropic\\v1\\messages": (401, 404),
    "/model/../healthz": (403, 404),
    "/model/%2e%2e/healthz": (403, 404),
    "/model/x/invoke/../../../healthz": (403, 404),
    "/model/x/converse": (403, 404),
    "/model/x/invoke": (403, 405),
    "/projects/../healthz": (401, 404),
    "/v1/projects/../../healthz": (401, 404),
    "/v1/projects/p/locations/l/publishers/anthropic/models/x:rawPredict": (401, 405),
    "/v1/projects/p/locations/l/publishers/anthropic/models/x:predict": (401, 404),
    "/v1/projects/p/locations/l/publishers/google/models/x:rawPredict": (401, 404),
}


def test_no_spelling_of_a_path_opens_what_is_not_open(server: RunningServer) -> None:
    """Sent as they are written, which ordinary clients would not do."""
    found = {}
    for path in ODD_PATHS:
        statuses = []
        for headers in ({}, {"x-api-key": RIGHT_KEY}):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", path, headers=headers)
            statuses.append(connection.getresponse().status)
            connection.close()
        found[path] = tuple(statuses)

    assert ODD_PATHS == found
