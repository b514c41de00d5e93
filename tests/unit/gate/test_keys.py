"""Keys: both headers are one policy, contradictions are refused, and nothing of a key is kept in clear."""

import pytest

from sestet.contract.errors import ApiError
from sestet.gate.keys import ANYONE, Caller, Keyring
from tests.unit.refusals import refusal

KEYS = ("sk-first", "sk-second", "schlüssel-€")

Headers = dict[bytes, list[bytes]]


def headers(*, api_key: list[bytes] | None = None, authorization: list[bytes] | None = None) -> Headers:
    given = {b"x-api-key": api_key, b"authorization": authorization}
    return {name: values for name, values in given.items() if values is not None}


def refused(given: Headers) -> ApiError:
    error = refusal(lambda: Keyring(KEYS).admit(given), "authentication_error")

    assert 401 == error.status
    return error


@pytest.mark.parametrize(
    "given",
    [
        headers(api_key=[b"sk-first"]),
        headers(api_key=[b"  sk-first\t"]),
        headers(authorization=[b"Bearer sk-first"]),
        headers(authorization=[b"bearer sk-first"]),
        headers(authorization=[b"BEARER   sk-first  "]),
        headers(api_key=[b"sk-first"], authorization=[b"Bearer sk-first"]),
        headers(api_key=[b"sk-first", b"sk-first"]),
    ],
)
def test_a_key_is_let_in_in_either_header(given: Headers) -> None:
    keyring = Keyring(KEYS)

    assert keyring.admit(headers(api_key=[b"sk-first"])) == keyring.admit(given)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_let_in(key: str) -> None:
    assert Keyring(KEYS).admit(headers(api_key=[key.encode()])) != ANYONE


def test_each_key_is_a_caller_of_its_own() -> None:
    keyring = Keyring(KEYS)

    assert 3 == len({keyring.admit(headers(api_key=[key.encode()])).key_id for key in KEYS})


@pytest.mark.parametrize(
    "given",
    [
        headers(api_key=[b"sk-wrong"]),
        headers(api_key=[b""]),
        headers(api_key=[b"   "]),
        headers(api_key=[b"sk-firs"]),
        headers(api_key=[b"sk-first1"]),
        headers(api_key=[b"SK-FIRST"]),
        headers(api_key=[b"Bearer sk-first"]),
        headers(api_key=[b"\xff\xfe\x00"]),
        headers(api_key=["schlüssel-€".encode("cp1252")]),
        headers(api_key=[b"k" * 60_000]),
        headers(authorization=[b""]),
        headers(authorization=[b"Bearer"]),
        headers(authorization=[b"Bearer "]),
        headers(authorization=[b"Bearer \xff"]),
        headers(authorization=[b"Basic c2stZmlyc3Q6"]),
        headers(authorization=[b"Basic sk-first"]),
        headers(authorization=[b"Digest sk-first"]),
        headers(authorization=[b"Bearer sk-first sk-first"]),
        headers(authorization=[b"Bearer\tsk-first"]),
        headers(authorization=[b"sk-first"]),
    ],
)
def test_a_credential_that_is_none_of_ours_is_refused(given: Headers) -> None:
    error = refused(given)

    assert "invalid API key" == error.message


def test_without_a_credential_the_refusal_says_how_to_send_one() -> None:
    assert "an API key is required, as `x-api-key` or as `Authorization: Bearer`" == refused({}).message


@pytest.mark.parametrize(
    "given",
    [
        headers(api_key=[b"sk-first"], authorization=[b"Bearer sk-second"]),
        headers(api_key=[b"sk-first"], authorization=[b"Bearer sk-wrong"]),
        headers(api_key=[b"sk-wrong"], authorization=[b"Bearer sk-first"]),
        headers(api_key=[b"sk-first", b"sk-second"]),
        headers(authorization=[b"Bearer sk-first", b"Bearer sk-second"]),
        headers(api_key=[b"sk-first"], authorization=[b"Basic abc"]),
        headers(api_key=[b"sk-first", b""]),
    ],
)
def test_two_different_credentials_are_refused(given: Headers) -> None:
    assert "the request carries two different credentials" == refused(given).message


def test_no_refusal_shows_the_credential() -> None:
    messages = [
        refused(headers(api_key=[b"sentinel"])).message,
        refused(headers(authorization=[b"Bearer sentinel"])).message,
        refused(headers(authorization=[b"sentinel sentinel"])).message,
    ]

    assert not [message for message in messages if "sentinel" in message]


def test_without_keys_everybody_is_let_in() -> None:
    keyring = Keyring([])

    assert [ANYONE, ANYONE] == [keyring.admit({}), keyring.admit(headers(api_key=[b"any"]))]
    assert 0 == len(keyring)


def test_keys_are_looked_up_by_a_digest_that_only_this_process_can_make() -> None:
    first, second = (vars(Keyring(KEYS)) for _ in range(2))

    assert not set(first["_callers"]) & set(second["_callers"])
    assert not [key for key in KEYS for digest in first["_callers"] if key.encode() in digest]


def test_nothing_of_a_key_is_kept_in_clear() -> None:
    keyring = Keyring(["sk-sentinel-in-clear"])

    assert "sentinel" not in repr(vars(keyring))


def test_a_caller_is_called_the_same_by_every_process_and_not_by_the_key() -> None:
    callers = {Keyring(["sk-sentinel"]).admit(headers(api_key=[b"sk-sentinel"])) for _ in range(3)}

    assert 1 == len(callers)
    assert {8} == {len(caller.key_id) for caller in callers}
    assert Caller("sk-senti") not in callers


def test_a_key_given_twice_is_one_key() -> None:
    assert 1 == len(Keyring(["same", "same"]))
