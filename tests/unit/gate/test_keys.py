"""Keys: both headers are one policy, contradictions are refused, and nothing of a key is kept in clear."""

from typing import Any, get_args

import pytest

from sestet.contract.errors import ApiError
from sestet.gate.directory import SCOPES, Allowance, Directory, Key, Scope, Workspace
from sestet.gate.keys import ANYONE, Caller, Grant, Keyring, check_grant, digest_of, hint_of, new_key
from tests.unit.keyrings import PEPPER, keyring
from tests.unit.refusals import refusal

NOW = 1_800_000_000_000_000

KEYS = ("sk-first", "sk-second", "schlüssel-€")

Headers = dict[bytes, list[bytes]]


def headers(*, api_key: list[bytes] | None = None, authorization: list[bytes] | None = None) -> Headers:
    given = {b"x-api-key": api_key, b"authorization": authorization}
    return {name: values for name, values in given.items() if values is not None}


def refused(given: Headers) -> ApiError:
    error = refusal(lambda: keyring(KEYS).admit(given, NOW), "authentication_error")

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
    ring = keyring(KEYS)

    assert ring.admit(headers(api_key=[b"sk-first"]), NOW) == ring.admit(given, NOW)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_let_in(key: str) -> None:
    assert keyring(KEYS).admit(headers(api_key=[key.encode()]), NOW) != ANYONE


def test_each_key_is_a_caller_of_its_own() -> None:
    ring = keyring(KEYS)

    assert 3 == len({ring.admit(headers(api_key=[key.encode()]), NOW).key_id for key in KEYS})


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
    ring = keyring([])

    assert [ANYONE, ANYONE] == [ring.admit({}, NOW), ring.admit(headers(api_key=[b"any"]), NOW)]
    assert ring.is_open


def test_keys_are_looked_up_by_a_digest_that_only_this_installation_can_make() -> None:
    kept = [repr(vars(keyring(KEYS, pepper * 32))) for pepper in (b"a", b"b")]

    assert kept[0] != kept[1]
    assert [] == [key for key in KEYS for text in kept if key in text]


def test_a_caller_is_called_the_same_by_every_process_and_not_by_the_key() -> None:
    callers = {keyring(["sk-sentinel"]).admit(headers(api_key=[b"sk-sentinel"]), NOW) for _ in range(3)}

    assert [8] == [len(caller.key_id) for caller in callers]
    assert ["sk-senti"] != [caller.key_id for caller in callers]


def test_a_key_given_twice_is_one_key() -> None:
    ring = keyring(["same", "same"])

    assert ring.admit(headers(api_key=[b"same"]), NOW) == ring.admit(headers(authorization=[b"Bearer same"]), NOW)


def stored(key: str, **fields: Any) -> Key:
    given: dict[str, Any] = {
        "id": "apikey_1",
        "name": "one",
        "digest": digest_of(PEPPER, key.encode()),
        "hint": hint_of(key),
        "workspace_id": "wrkspc_1",
        "scopes": frozenset(("inference",)),
        "models": None,
        "status": "active",
        "created_at": 0,
    }
    return Key(**{**given, **fields})


def directory(*keys: Key, archived_at: int | None = None) -> Directory:
    workspace = Workspace("wrkspc_1", "One", 0, archived_at=archived_at)
    return Directory(1, "org", "Organization", Allowance(), {"wrkspc_1": workspace}, keys)


def loaded(*keys: Key, archived_at: int | None = None) -> Keyring:
    ring = keyring([])
    ring.load(directory(*keys, archived_at=archived_at))
    return ring


def test_a_stored_key_is_let_in_as_what_it_may_do() -> None:
    key = new_key()
    ring = loaded(stored(key, models=frozenset(("m",)), expires_at=NOW + 1))

    assert Caller("apikey_1", "wrkspc_1", frozenset(("inference",)), frozenset(("m",)), NOW + 1) == ring.admit(
        headers(api_key=[key.encode()]), NOW
    )


@pytest.mark.parametrize(
    ("fields", "archived_at", "message"),
    [
        ({"status": "inactive"}, None, "this API key has been revoked"),
        ({"status": "archived"}, None, "this API key has been revoked"),
        ({"expires_at": NOW}, None, "this API key has expired"),
        ({}, 5, "this API key has been revoked"),
    ],
)
def test_a_stored_key_that_is_over_is_refused(fields: dict[str, Any], archived_at: int | None, message: str) -> None:
    ring = loaded(stored("sk-1", **fields), archived_at=archived_at)

    assert message == refusal(lambda: ring.admit(headers(api_key=[b"sk-1"]), NOW), "authentication_error").message


def test_the_door_that_a_key_closed_stays_closed() -> None:
    ring = loaded(stored("sk-1", status="archived"))

    assert not ring.is_open
    assert 401 == refusal(lambda: ring.admit({}, NOW), "authentication_error").status


def test_a_key_hashed_with_an_older_pepper_is_still_let_in() -> None:
    ring = Keyring((b"n" * 32, PEPPER), {})
    ring.load(directory(stored("sk-1")))

    assert "apikey_1" == ring.admit(headers(api_key=[b"sk-1"]), NOW).key_id


def test_a_new_key_holds_256_bits_and_its_hint_few_of_them() -> None:
    keys = {new_key() for _ in range(100)}

    assert 100 == len(keys)
    assert {len("sk-sestet-") + 43} == {len(key) for key in keys}
    assert {4} == {len(hint_of(key).removeprefix("sk-sestet-...")) for key in keys}


@pytest.mark.parametrize("scope", get_args(Scope))
def test_a_scope_that_a_key_lacks_is_refused(scope: Scope) -> None:
    caller = Caller("apikey_1", "wrkspc_1", SCOPES - {scope})

    assert 403 == refusal(lambda: caller.require(scope), "permission_error").status


def test_nobody_administrates_without_a_key() -> None:
    assert 401 == refusal(lambda: ANYONE.require("admin"), "authentication_error").status


ORGANIZATION = Caller("apikey_1", None, frozenset(("admin",)))
OF_A_WORKSPACE = Caller("apikey_2", "wrkspc_1", frozenset(("admin", "inference")), frozenset(("a", "b")), NOW)
INFERENCE: frozenset[Scope] = frozenset(("inference",))


@pytest.mark.parametrize(
    ("creator", "wanted", "param"),
    [
        (ORGANIZATION, Grant(None, frozenset()), "scopes"),
        (ORGANIZATION, Grant(None, INFERENCE), "workspace_id"),
        (OF_A_WORKSPACE, Grant("wrkspc_2", INFERENCE, frozenset("a"), NOW), "workspace_id"),
        (OF_A_WORKSPACE, Grant(None, frozenset(("admin",)), frozenset("a"), NOW), "workspace_id"),
        (OF_A_WORKSPACE, Grant("wrkspc_1", frozenset(("usage",)), frozenset("a"), NOW), "scopes"),
        (OF_A_WORKSPACE, Grant("wrkspc_1", INFERENCE, None, NOW), "models"),
        (OF_A_WORKSPACE, Grant("wrkspc_1", INFERENCE, frozenset("ac"), NOW), "models"),
        (OF_A_WORKSPACE, Grant("wrkspc_1", INFERENCE, frozenset("a"), None), "expires_at"),
        (OF_A_WORKSPACE, Grant("wrkspc_1", INFERENCE, frozenset("a"), NOW + 1), "expires_at"),
    ],
)
def test_nobody_hands_out_more_than_they_have(creator: Caller, wanted: Grant, param: str) -> None:
    with pytest.raises(ApiError) as refused:
        check_grant(creator, wanted)

    assert param == refused.value.param


@pytest.mark.parametrize(
    ("creator", "wanted"),
    [
        (ORGANIZATION, Grant("wrkspc_2", SCOPES)),
        (OF_A_WORKSPACE, Grant("wrkspc_1", INFERENCE, frozenset("a"), NOW)),
        (OF_A_WORKSPACE, Grant("wrkspc_1", INFERENCE, frozenset("ab"), NOW - 1)),
    ],
)
def test_what_one_has_can_be_handed_out(creator: Caller, wanted: Grant) -> None:
    check_grant(creator, wanted)
