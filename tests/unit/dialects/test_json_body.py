"""Hostile JSON (threat T15): whatever the bytes are, the answer is `invalid_request_error` and says where."""

import json
from typing import Any

import orjson
import pytest

from sestet.contract.requests import MessagesRequest
from sestet.dialects.anthropic import encode_error
from sestet.dialects.json_body import parse
from tests.unit.refusals import refusal

BODY = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x"}]}'


def with_field(field: bytes) -> bytes:
    """The good body with one more member, spelled as given."""
    return BODY[:-1] + b"," + field + b"}"


HOSTILE = {
    "nothing": b"",
    "spaces": b" \n ",
    "an array": b"[]",
    "a string": b'"text"',
    "a number": b"5",
    "null": b"null",
    "a list of pairs": b'[["model","m"]]',
    "100,000 open arrays": b'{"model":' + b"[" * 100_000,
    "100,000 nested arrays": b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "nesting in a field not supported": with_field(b'"container":' + b"[" * 900 + b"]" * 900),
    "nesting in a field unknown": with_field(b'"x":' + b"[" * 900 + b"]" * 900),
    "nested content": b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":'
    + b"[" * 500
    + b"]" * 500
    + b"}]}",
    "5,000 digits": with_field(b'"top_k":' + b"9" * 5_000),
    "4,000 digits": with_field(b'"top_k":' + b"9" * 4_000),
    "4,000 digits for a float": with_field(b'"temperature":' + b"9" * 4_000),
    "NaN": with_field(b'"temperature":NaN'),
    "Infinity": with_field(b'"temperature":Infinity'),
    "-Infinity": with_field(b'"temperature":-Infinity'),
    "1e999": with_field(b'"temperature":1e999'),
    "-1e999": with_field(b'"top_p":-1e999'),
    "NaN in a field unknown": with_field(b'"x":[NaN]'),
    "a key twice": BODY[:-1] + b',"model":"n"}',
    "a key twice, once escaped": BODY[:-1] + rb',"\u006dodel":"n"}',
    "a key twice inside": b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"x","role":"user"}]}',
    "a byte order mark": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "UTF-16 without a mark": BODY.decode().encode("utf-16-le"),
    "UTF-32": BODY.decode().encode("utf-32"),
    "Latin-1": BODY.replace(b'"x"', b'"\xe9"'),
    "a surrogate as bytes": BODY.replace(b'"x"', b'"\xed\xa0\x80"'),
    "an overlong slash": BODY.replace(b'"x"', b'"\xc0\xaf"'),
    "a raw NUL": BODY.replace(b'"x"', b'"\x00"'),
    "a raw newline in a string": BODY.replace(b'"x"', b'"\n"'),
    "text after the object": BODY + b"{}",
    "a comma too many": BODY[:-1] + b",}",
    "a comment": BODY[:-1] + b"/* */}",
    "single quotes": BODY.replace(b'"', b"'"),
    "a bad escape": BODY.replace(b'"x"', rb'"\x41"'),
    "half a unicode escape": BODY.replace(b'"x"', rb'"\u12"'),
    "a leading zero": with_field(b'"top_k":01'),
    "a plus sign": with_field(b'"top_k":+1'),
    "hexadecimal": with_field(b'"top_k":0x1'),
    "200,000 keys": b"{" + b",".join(b'"%d":0' % number for number in range(200_000)) + b"}",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_is_an_invalid_request_and_its_answer_can_be_sent(body: bytes) -> None:
    error = refusal(lambda: parse(body, MessagesRequest))

    assert error.message == orjson.loads(encode_error(error, "req_1", 0.0).body)["error"]["message"]
    assert len(error.message) < 300


@pytest.mark.parametrize("length", range(len(BODY)))
def test_a_body_cut_anywhere_is_refused(length: int) -> None:
    assert 400 == refusal(lambda: parse(BODY[:length], MessagesRequest)).status


LONE = "\ud800"  # half of a character, as `\ud800` in JSON gives it

SURROGATES: dict[str, tuple[dict[str, Any], str]] = {
    "model": ({"model": LONE}, "model"),
    "content": ({"messages": [{"role": "user", "content": LONE}]}, "messages.0.content"),
    "low half": ({"messages": [{"role": "user", "content": "a\udc00b"}]}, "messages.0.content"),
    "halves in the wrong order": ({"messages": [{"role": "user", "content": "\udc00\ud800"}]}, "messages.0.content"),
    "block": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": LONE}]}]},
        "messages.0.content.0.text",
    ),
    "block type": ({"messages": [{"role": "user", "content": [{"type": LONE}]}]}, "messages.0.content.0.type"),
    "role": ({"messages": [{"role": LONE, "content": "x"}]}, "messages.0.role"),
    "system": ({"system": LONE}, "system"),
    "system block": ({"system": [{"type": "text", "text": LONE}]}, "system.0.text"),
    "stop sequence": ({"stop_sequences": ["a", LONE]}, "stop_sequences.1"),
    "user id": ({"metadata": {"user_id": LONE}}, "metadata.user_id"),
    "service tier": ({"service_tier": LONE}, "service_tier"),
    "cache control": ({"cache_control": {"type": LONE}}, "cache_control.type"),
}


@pytest.mark.parametrize(("fields", "path"), SURROGATES.values(), ids=SURROGATES)
def test_half_a_character_is_refused_wherever_text_may_stand(fields: dict[str, Any], path: str) -> None:
    body = json.dumps({**json.loads(BODY), **fields}).encode()

    assert path == refusal(lambda: parse(body, MessagesRequest)).param


@pytest.mark.parametrize("where", [(), ("messages", 0), ("metadata",)])
def test_half_a_character_in_a_key_is_refused(where: tuple[str | int, ...]) -> None:
    body = {**json.loads(BODY), "metadata": {}}
    place: Any = body
    for step in where:
        place = place[step]
    place[LONE] = 1
    error = refusal(lambda: parse(json.dumps(body).encode(), MessagesRequest))

    assert b"\\ud800" not in encode_error(error, "req_1", 0.0).body


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (HOSTILE["a key twice"], "model"),
        (HOSTILE["a key twice, once escaped"], "model"),
        (HOSTILE["a key twice inside"], "role"),
        (HOSTILE["1e999"], "temperature"),
        (HOSTILE["-1e999"], "top_p"),
        (HOSTILE["4,000 digits"], "top_k"),
        (HOSTILE["nesting in a field not supported"], "container"),
        (HOSTILE["nesting in a field unknown"], "x"),
        (HOSTILE["nested content"], "messages.0.content.0"),
    ],
)
def test_what_has_a_path_is_named_by_it(body: bytes, path: str) -> None:
    assert path == refusal(lambda: parse(body, MessagesRequest)).param


def test_a_refusal_says_at_which_byte_the_text_stops_being_utf_8() -> None:
    assert "(byte 3)" in refusal(lambda: parse(b'{"a\xff"}', MessagesRequest)).message


def test_an_escaped_nul_is_text() -> None:
    request = parse(BODY.replace(b'"x"', rb'"a\u0000b"'), MessagesRequest)

    assert "a\0b" == request.messages[0].content


def test_a_pair_of_escaped_halves_is_one_character() -> None:
    request = parse(BODY.replace(b'"x"', rb'"\ud83d\ude00"'), MessagesRequest)

    assert "\U0001f600" == request.messages[0].content


def test_a_body_of_a_megabyte_of_text_is_taken_whole() -> None:
    request = parse(BODY.replace(b'"x"', b'"' + b"y" * 2**20 + b'"'), MessagesRequest)

    assert "y" * 2**20 == request.messages[0].content


def test_the_error_of_a_client_key_shows_no_control_character() -> None:
    error = refusal(lambda: parse(with_field(rb'"\u001b[31m\u0000":1'), MessagesRequest))

    assert "?[31m?" == error.param
