"""Any bytes and any JSON as a request: a request, or a refusal that can be sent (threat T15)."""

import json

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from sestet.contract.errors import ApiError
from sestet.contract.requests import UNSUPPORTED, CountTokensRequest, MessagesRequest
from sestet.dialects.anthropic import encode_error
from sestet.dialects.json_body import parse
from tests.lengths import length

# Half characters and the numbers that JSON cannot say are in on purpose.
TEXT = st.text(max_size=8)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.just("text"), st.just("user"))
KEYS = st.one_of(
    TEXT,
    st.sampled_from(
        [
            "type",
            "text",
            "role",
            "content",
            "cache_control",
            "citations",
            "ttl",
            "user_id",
            *MessagesRequest.model_fields,
        ]
    ),
    st.sampled_from(sorted(UNSUPPORTED)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)
GOOD = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}


def check(body: bytes) -> None:
    """Taken, or refused in a way that a client can be told."""
    for model in (MessagesRequest, CountTokensRequest):
        refused: ApiError | None = None
        try:
            # What is taken can be rendered: every text in it is text.
            parse(body, model).model_dump_json().encode("utf-8")
        except ApiError as error:
            refused = error

        if refused is not None:
            assert (400, "invalid_request_error") == (refused.status, refused.kind)
            assert orjson.loads(encode_error(refused, "req_1", 0.0).body)["error"]["message"]


@settings(max_examples=length(150, 1000), deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(body: bytes) -> None:
    check(body)


@settings(max_examples=length(150, 1000), deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_fields_put_into_a_good_request(fields: dict[str, object]) -> None:
    check(json.dumps({**GOOD, **fields}).encode())


@settings(max_examples=length(150, 1000), deadline=None)
@given(st.one_of(VALUES, st.lists(st.fixed_dictionaries({"role": SCALARS, "content": VALUES}), max_size=3)))
def test_anything_as_messages(messages: object) -> None:
    check(json.dumps({**GOOD, "messages": messages}).encode())


@settings(max_examples=length(100, 500), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 80), st.binary(min_size=1, max_size=2)), min_size=1, max_size=3))
def test_a_good_request_with_bytes_overwritten(patches: list[tuple[int, bytes]]) -> None:
    body = bytearray(json.dumps({**GOOD, "stop_sequences": ["\u00e9"], "top_p": 0.5}).encode())
    for place, patch in patches:
        body[place : place + len(patch)] = patch

    check(bytes(body))
