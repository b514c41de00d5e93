"""The whole of a digest counts: neither a part of one nor a key that is nearly the right one opens the door (T10)."""

import pytest

from sestet.gate.keys import digest_of, new_key
from tests.unit.gate.test_keys import NOW, headers, loaded, stored
from tests.unit.keyrings import PEPPER
from tests.unit.refusals import refusal

KEY = new_key()
DIGEST = digest_of(PEPPER, KEY.encode())


def test_a_digest_is_the_whole_of_hmac_sha256() -> None:
    # The second test case of RFC 4231.
    assert "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" == (
        digest_of(b"Jefe", b"what do ya want for nothing?").hex()
    )


@pytest.mark.parametrize("position", range(32))
def test_a_digest_that_differs_in_one_bit_is_another_key(position: int) -> None:
    other = bytes(byte ^ (at == position) for at, byte in enumerate(DIGEST))
    ring = loaded(stored(KEY, digest=other))

    error = refusal(lambda: ring.admit(headers(api_key=[KEY.encode()]), NOW), "authentication_error")

    assert (401, "invalid API key") == (error.status, error.message)


@pytest.mark.parametrize("position", range(len(KEY)))
def test_a_key_that_differs_in_one_character_is_another_key(position: int) -> None:
    ring = loaded(stored(KEY))
    other = KEY[:position] + chr(ord(KEY[position]) ^ 1) + KEY[position + 1 :]

    error = refusal(
        lambda: ring.admit(headers(authorization=[f"Bearer {other}".encode()]), NOW), "authentication_error"
    )

    assert (401, "invalid API key") == (error.status, error.message)


@pytest.mark.parametrize("length", [0, 1, 4, 8, 16, 31])
def test_the_beginning_of_a_digest_is_no_key(length: int) -> None:
    ring = loaded(stored(KEY, digest=DIGEST[:length]))

    error = refusal(lambda: ring.admit(headers(api_key=[KEY.encode()]), NOW), "authentication_error")

    assert (401, "invalid API key") == (error.status, error.message)
