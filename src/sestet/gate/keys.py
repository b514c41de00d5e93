"""API keys: read from either credential header, looked up by digest, never kept or shown in clear."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sestet.contract.errors import ApiError


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request comes from, as far as a log may know: the start of a digest, never of the key. All configured
    keys share one workspace."""

    key_id: str
    workspace: str = "default"


ANYONE = Caller("none")


class Keyring:
    """The configured keys. An empty keyring lets everyone in; where that is safe is decided at start."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._pepper = secrets.token_bytes(32)
        self._callers = {self._digest(key): Caller(hashlib.sha256(key.encode()).hexdigest()[:8]) for key in keys}

    def __len__(self) -> int:
        return len(self._callers)

    def admit(self, headers: Mapping[bytes, list[bytes]]) -> Caller:
        """The caller of a request; 401 for a missing, unknown or contradictory credential.

        Both header forms are one policy: `x-api-key: KEY` and `Authorization: Bearer KEY` (WIRE.md section 0).
        """
        if not self._callers:
            return ANYONE
        presented = set(_credentials(headers))
        if not presented:
            raise ApiError(
                "authentication_error", "an API key is required, as `x-api-key` or as `Authorization: Bearer`"
            )
        if len(presented) > 1:
            raise ApiError("authentication_error", "the request carries two different credentials")
        digest = self._digest_bytes(presented.pop())
        caller = self._callers.get(digest)
        if caller is None:
            raise ApiError("authentication_error", "invalid API key")
        return caller

    def _digest(self, key: str) -> bytes:
        return self._digest_bytes(key.encode())

    def _digest_bytes(self, key: bytes) -> bytes:
        # Keyed with a secret of this process: what a caller learns from the time of a dictionary look-up is
        # about a digest it cannot compute.
        return hmac.digest(self._pepper, key, "sha256")


_NO_KEY = b"\0"  # no header can carry it


def _credentials(headers: Mapping[bytes, list[bytes]]) -> Iterable[bytes]:
    for value in headers.get(b"x-api-key", []):
        yield value.strip()
    for value in headers.get(b"authorization", []):
        scheme, _, token = value.strip().partition(b" ")
        # Any other scheme counts as a credential too: one that is never valid.
        yield token.strip() if scheme.lower() == b"bearer" else _NO_KEY
