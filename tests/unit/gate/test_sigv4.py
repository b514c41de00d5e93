"""Signatures: whatever AWS's own client signs is let in, and nothing that differs from it by one byte."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sestet.contract.errors import ApiError
from sestet.gate.directory import DEFAULT_WORKSPACE, Allowance, Directory, Workspace
from sestet.gate.keys import ANYONE, AwsKey, Caller, Keyring
from sestet.gate.sigv4 import SentRequest, check_signature, is_signed, read_signature
from tests.unit.refusals import refusal
from tests.unit.signing import BODY, ID, PATH, SECRET, signed

Headers = dict[bytes, list[bytes]]


def check(
    request: SentRequest, body: bytes = BODY, *, secret: str = SECRET, late_s: float = 0, service: str = "bedrock"
) -> None:
    signature = read_signature(request.headers, service, time.time() + late_s)
    check_signature(signature, secret, request, hashlib.sha256(body).hexdigest())


def refused(request: SentRequest, body: bytes = BODY, **options: Any) -> ApiError:
    return refusal(lambda: check(request, body, **options), "authentication_error")


def with_header(request: SentRequest, name: bytes, *values: bytes) -> SentRequest:
    return replace(request, headers={**request.headers, name: list(values)})


def with_authorization(request: SentRequest, change: Callable[[bytes], bytes]) -> SentRequest:
    return with_header(request, b"authorization", change(request.headers[b"authorization"][0]))


VISIBLE = "".join(map(chr, range(33, 127)))
SEGMENT = st.text(VISIBLE.translate(dict.fromkeys(map(ord, "/?#"))), min_size=1).filter(
    lambda text: text not in (".", "..")
)
PATHS = st.lists(SEGMENT, min_size=1, max_size=4).map(lambda segments: "/" + "/".join(segments))
PAIRS = st.tuples(st.text("ab%1-", min_size=1, max_size=3), st.text("ab%1=", max_size=3))
QUERIES = st.lists(PAIRS, max_size=4).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))
VALUES = st.text(VISIBLE + " ").map(str.strip)
HEADERS = st.dictionaries(st.sampled_from(("anthropic-beta", "x-amz-target", "content-type", "x-one")), VALUES)


@given(PATHS, QUERIES, HEADERS, st.binary(max_size=200), st.sampled_from(("bedrock", "bedrock-mantle")))
def test_what_botocore_signs_is_let_in(
    path: str, query: str, headers: dict[str, str], body: bytes, service: str
) -> None:
    check(signed(path, query, headers, body, service), body, service=service)


@given(st.data())
def test_no_byte_of_path_query_or_body_can_be_another(data: st.DataObject) -> None:
    request = signed(query="a=1&b=2", headers={"x-one": "a value"})
    whole = {"path": request.path, "query": request.query, "body": BODY}
    name = data.draw(st.sampled_from(sorted(whole)))
    at = data.draw(st.integers(0, len(whole[name]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[name][at]))
    whole[name] = whole[name][:at] + bytes((byte,)) + whole[name][at + 1 :]

    refused(replace(request, path=whole["path"], query=whole["query"]), whole["body"])


@given(st.data())
def test_no_byte_of_a_signed_header_or_of_the_signature_can_be_another(data: st.DataObject) -> None:
    request = signed(headers={"x-one": "value", "anthropic-beta": "a,b"})
    name = data.draw(st.sampled_from(sorted(request.headers)))
    value = request.headers[name][0]
    at = data.draw(st.integers(0, len(value) - 1))
    byte = data.draw(st.sampled_from(VISIBLE.encode()).filter(lambda one: one != value[at]))
    other = with_header(request, name, value[:at] + bytes((byte,)) + value[at + 1 :])

    # Of the credential the key's id is no part of what is signed: it is looked up, and its secret is another then.
    known = ID.encode() in other.headers[b"authorization"][0]
    refused(other, secret=SECRET if known else "the secret of another")


def test_the_method_is_signed() -> None:
    refused(replace(signed(), method="PUT"))


def test_another_secret_lets_nobody_in() -> None:
    assert "the signature does not match the request" == refused(signed(), secret=SECRET.lower()).message


@pytest.mark.parametrize("late_s", [-895, 0, 895])
def test_a_signature_is_good_for_fifteen_minutes_either_way(late_s: float) -> None:
    check(signed(), late_s=late_s)


@pytest.mark.parametrize("late_s", [-905, 905, 1e9, float("nan")])
def test_after_that_it_is_not(late_s: float) -> None:
    assert "15 minutes" in refused(signed(), late_s=late_s).message


@pytest.mark.parametrize("service", ["bedrock-mantle", "s3", "bedrock"])
def test_a_signature_is_for_one_service(service: str) -> None:
    request = signed(service=service)
    others = {"bedrock", "bedrock-mantle"} - {service}

    assert [f"the signature is for another service than `{other}`" for other in others] == [
        refused(request, service=other).message for other in others
    ]


MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda value: value[:-1],
    "longer": lambda value: value + b"0",
    "capitals": lambda value: value[:-64] + value[-64:].upper().replace(b"0", b"A"),
    "two spaces": lambda value: value.replace(b", ", b",  "),
    "a tab": lambda value: value.replace(b", ", b",\t"),
    "another order": lambda value: b", ".join(
        [value.split(b", ")[0], value.split(b", ")[2], value.split(b", ")[1]],
    ),
    "no signature": lambda value: value.rpartition(b", ")[0],
    "twice": lambda value: value + b", " + value,
    "another algorithm": lambda value: value.replace(b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA256-PAYLOAD"),
    "another end of the scope": lambda value: value.replace(b"aws4_request", b"aws4_reques"),
    "no region": lambda value: value.replace(b"/us-east-1", b""),
    "an empty name": lambda value: value.replace(b"host;", b"host;;"),
    "a name twice": lambda value: value.replace(b"host;", b"host;host;"),
    "names out of order": lambda value: value.replace(b"host;x-amz-date", b"x-amz-date;host"),
    "capital names": lambda value: value.replace(b"host;", b"Host;"),
    "host not signed": lambda value: value.replace(b"host;", b""),
    "date not signed": lambda value: value.replace(b";x-amz-date", b""),
    "a header that is not there": lambda value: value.replace(b"x-amz-date", b"x-amz-date;x-nothing"),
    "a key's id that is too short": lambda value: value.replace(ID.encode(), b"AKIA"),
    "another day": lambda value: value.replace(b"/20", b"/19", 1),
    "a line end": lambda value: value + b"\n",
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED.keys())
def test_there_is_one_spelling_of_a_signature(change: Callable[[bytes], bytes]) -> None:
    request = signed()
    other = with_authorization(request, change)

    assert request != other
    # No secret and no body had to be looked at.
    assert "the signature does not match the request" != refused(other).message


def test_a_signed_header_is_given_once() -> None:
    request = signed(headers={"x-one": "a"})

    refused(with_header(request, b"x-one", b"a", b"a"))
    refused(with_header(request, b"host", b"localhost:8000", b"localhost:8000"))
    refused(with_header(request, b"x-amz-date", *request.headers[b"x-amz-date"] * 2))


def test_no_header_of_amazons_can_be_added() -> None:
    assert "x-amz-" in refused(with_header(signed(), b"x-amz-security-token", b"token")).message


def test_other_headers_may_be_added_on_the_way() -> None:
    check(with_header(signed(), b"x-forwarded-for", b"10.0.0.1", b"10.0.0.2"))


@pytest.mark.parametrize("moment", [b"", b"now", b"20261121T220000", b"20261399T999999Z", b"20261121T220000Z "])
def test_a_time_that_is_none_is_refused(moment: bytes) -> None:
    refused(with_header(signed(), b"x-amz-date", moment))


def test_a_promise_about_the_body_is_kept() -> None:
    told = hashlib.sha256(BODY).hexdigest()
    check(signed(headers={"X-Amz-Content-SHA256": told}))

    for promise in ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", hashlib.sha256(b"").hexdigest()):
        refused(signed(headers={"X-Amz-Content-SHA256": promise}))


@pytest.mark.parametrize("path", ["//model/x/invoke", "/model/./x/invoke", "/model/a/../x/invoke", "/model/x/invoke/."])
def test_a_path_that_could_be_put_right_is_refused(path: str) -> None:
    refused(signed(path))


def test_a_signed_path_is_not_good_for_another_spelling() -> None:
    for path in (PATH.replace("%3A", ":"), PATH.replace("%3A", "%3a"), f"/{PATH}", f"{PATH}/", f"/./{PATH[1:]}"):
        refused(replace(signed(), path=path.encode()))


@pytest.mark.parametrize(
    ("headers", "is_one"),
    [
        ({b"authorization": [b"AWS4-HMAC-SHA256 Credential=x"]}, True),
        ({b"authorization": [b"AWS4-HMAC-SHA256 Credential=x"], b"x-api-key": [b"sk"]}, False),
        ({b"authorization": [b"AWS4-HMAC-SHA256 Credential=x", b"Bearer sk"]}, False),
        ({b"authorization": [b"Bearer AWS4-HMAC-SHA256"]}, False),
        ({b"authorization": [b"aws4-hmac-sha256 Credential=x"]}, False),
        ({b"x-api-key": [b"AWS4-HMAC-SHA256"]}, False),
        ({}, False),
    ],
)
def test_a_signature_is_the_only_credential(headers: Headers, is_one: bool) -> None:
    assert is_one == is_signed(headers)


CALLER = Caller(ID, DEFAULT_WORKSPACE, ANYONE.scopes)


def test_a_key_pair_closes_the_door_and_is_found_by_its_id() -> None:
    ring = Keyring((b"p" * 32,), {}, [AwsKey(ID, SECRET, CALLER)])

    assert not ring.is_open
    assert CALLER == ring.aws_key(ID).caller
    for other in (ID[:-1], ID.lower(), ""):
        assert (
            "there is no such access key id"
            == refusal(
                lambda other=other: ring.aws_key(other),
                "authentication_error",  # type: ignore[misc]
            ).message
        )


def test_a_key_pair_is_no_api_key() -> None:
    ring = Keyring((b"p" * 32,), {}, [AwsKey(ID, SECRET, CALLER)])

    for key in (ID, SECRET, f"{ID}:{SECRET}"):
        refusal(lambda key=key: ring.admit({b"x-api-key": [key.encode()]}, 0), "authentication_error")  # type: ignore[misc]


def test_a_key_pair_goes_with_its_workspace() -> None:
    ring = Keyring((b"p" * 32,), {}, [AwsKey(ID, SECRET, replace(CALLER, workspace="wrkspc_gone"))])
    gone = Workspace("wrkspc_gone", "Gone", 0, archived_at=1)
    ring.load(Directory(0, "org", "Organization", Allowance(), {gone.id: gone}, ()))

    refusal(lambda: ring.aws_key(ID), "authentication_error")


def test_a_secret_is_in_no_text_about_its_key() -> None:
    assert SECRET not in repr(AwsKey(ID, SECRET, CALLER))
