"""The Vertex dialect: models in paths, split at the last colon, versions in bodies, the rest as the contract has it."""

import json
from typing import Any

import pytest

from sestet.contract.requests import CountTokensRequest, MessagesRequest
from sestet.dialects import anthropic
from sestet.dialects.dialect import Asking
from sestet.dialects.vertex import DIALECT, decode_count, decode_reply
from tests.unit.refusals import refusal

BODY: dict[str, Any] = {
    "anthropic_version": "vertex-2023-10-16",
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "Hi"}],
}
MODELS = "/projects/p/locations/us-east5/publishers/anthropic/models"
MODEL = "claude-3-7-sonnet@20250219"


def asking(path: str, **headers: bytes) -> Asking:
    given = {name.replace("_", "-").encode(): [value] for name, value in headers.items()}
    return Asking(path, given, "req_1", "msg_1", 0.0, lambda name: pytest.fail(f"nobody asked about {name}"))


def predicted(path: str = f"{MODELS}/{MODEL}:rawPredict", **fields: Any) -> Any:
    return decode_reply(asking(path), json.dumps({**BODY, **fields}).encode())


@pytest.mark.parametrize("version", ["", "/v1"])
@pytest.mark.parametrize("method", ["rawPredict", "streamRawPredict"])
@pytest.mark.parametrize(
    "name", [MODEL, "a:b", "a:rawPredict", "a/b:c@1", "publishers/anthropic/models/x", "..", "a:b:streamRawPredict"]
)
def test_the_model_is_what_stands_before_the_last_colon(version: str, method: str, name: str) -> None:
    assert name == predicted(f"{version}{MODELS}/{name}:{method}").request.model


@pytest.mark.parametrize("method", ["rawPredict", "streamRawPredict"])
@pytest.mark.parametrize(("given", "streams"), [({}, False), ({"stream": False}, False), ({"stream": True}, True)])
def test_the_body_says_whether_it_is_a_stream(method: str, given: dict[str, Any], streams: bool) -> None:
    assert streams == predicted(f"{MODELS}/{MODEL}:{method}", **given).request.stream


def test_the_body_is_the_contracts_but_for_what_the_path_says() -> None:
    asked = predicted(system="Be brief", stream=True)
    contract = {key: value for key, value in BODY.items() if key != "anthropic_version"}

    assert asked.request == MessagesRequest.model_validate(
        {**contract, "model": MODEL, "system": "Be brief", "stream": True}
    )
    assert isinstance(asked.teller, anthropic.Told)


@pytest.mark.parametrize(
    ("named", "version"),
    [("vertex-2023-10-16", "2023-06-01"), ("2023-06-01", "2023-06-01"), ("2026-10-21", "2026-10-21")],
)
def test_the_body_names_the_version(named: str, version: str) -> None:
    assert version == predicted(anthropic_version=named).version


def test_betas_are_those_of_the_header() -> None:
    asked = decode_reply(
        asking(f"{MODELS}/{MODEL}:rawPredict", anthropic_beta=b"a, b", anthropic_version=b"of no meaning here"),
        json.dumps(BODY).encode(),
    )

    assert {"a", "b"} == asked.betas


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"anthropic_version": "bedrock-2023-05-31"}, "anthropic_version"),
        ({"anthropic_version": None}, "anthropic_version"),
        ({"model": MODEL}, "model"),
        ({"anthropic_beta": ["a"]}, "anthropic_beta"),
        ({"n": 2}, "n"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_what_is_wrong_in_a_body_is_named(fields: dict[str, Any], path: str) -> None:
    assert path == refusal(lambda: predicted(**fields)).param


@pytest.mark.parametrize("name", ["", "x" * 257])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    assert "model" == refusal(lambda: predicted(f"{MODELS}/{name}:rawPredict")).param


def test_a_body_without_a_version_is_refused() -> None:
    body = json.dumps({"max_tokens": 8, "messages": BODY["messages"]}).encode()

    assert "anthropic_version" == refusal(lambda: decode_reply(asking(f"{MODELS}/x:rawPredict"), body)).param


def test_a_count_has_its_model_in_the_body() -> None:
    prompt = {"model": MODEL, "messages": BODY["messages"]}
    body = json.dumps({**prompt, "anthropic_version": "2026-10-21"}).encode()
    asked = decode_count(asking(f"{MODELS}/count-tokens:rawPredict"), body)

    assert (CountTokensRequest.model_validate(prompt), "2026-10-21") == (asked.request, asked.version)
    assert b'{"input_tokens":7}' == asked.encode(7)


def test_errors_are_the_contracts() -> None:
    assert DIALECT.encode_error is anthropic.encode_error
