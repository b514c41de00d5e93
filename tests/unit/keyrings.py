"""A keyring of configured keys, as a server without a store would have it."""

from collections.abc import Iterable

from sestet.gate.keys import ANYONE, Keyring

PEPPER = b"p" * 32


def keyring(keys: Iterable[str], pepper: bytes = PEPPER) -> Keyring:
    return Keyring((pepper,), dict.fromkeys(keys, ANYONE.scopes))
