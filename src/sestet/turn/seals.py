"""What proves that a thought is one of ours: the `signature` of a thinking block, the `data` of a redacted one.

A seal is base64 over a head in the clear and a tail that only a key of this installation can make. The head names the
key, the card, the scope (whose conversation it is), the reply and the thought's place in it, as digests. Of a
`signed` seal the tail is an HMAC over head and text; of an `enclosed` one it is the text itself, encrypted and
authenticated together with the head (AES-SIV, which needs no chance), for thoughts that the client is not shown.
"""

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_MAGIC: Final = b"Sst1"
_BEGINNING: Final = base64.b64encode(_MAGIC).decode("ascii")[:5]  # the characters that these bytes alone decide
_HEAD: Final = struct.Struct(">4s c 8s 8s 8s 8s I")
_SIGNED: Final = b"s"
_ENCLOSED: Final = b"e"
_TAG_BYTES: Final = 16
SECRET_BYTES_MIN: Final = 32


class Verdict(Enum):
    """`foreign`: made elsewhere, for another card or scope, or by a key that is gone. `changed`: ours, but altered."""

    GENUINE = "genuine"
    FOREIGN = "foreign"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a thought belongs to: the card that thought it, and the scope (workspace) it was thought for."""

    card: str
    scope: str


@dataclass(frozen=True, slots=True)
class Opened:
    """What a seal turned out to be; text and place are a genuine thought's. `reply` is a digest of its message id."""

    verdict: Verdict
    text: str = ""
    reply: bytes = b""
    index: int = 0


FOREIGN: Final = Opened(Verdict.FOREIGN)
CHANGED: Final = Opened(Verdict.CHANGED)


class Seals:
    """Made once from the installation's secrets, newest first: the first one seals, all of them verify."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        assert secrets, "an installation has a secret"
        assert all(len(secret) >= SECRET_BYTES_MIN for secret in secrets)
        keys = [_Key(secret) for secret in secrets]
        self._newest = keys[0]
        self._keys = {key.id: key for key in keys}

    def sign(self, owner: Owner, message_id: str, index: int, text: str) -> str:
        """The seal of a thought that the client is shown: it proves the text and holds nothing of it."""
        head = self._newest.head(_SIGNED, owner, message_id, index)
        return _encode(head + self._newest.mac(head, text))

    def enclose(self, owner: Owner, message_id: str, index: int, text: str) -> str:
        """The seal of a thought that the client is not shown: it holds the text, for this installation alone."""
        head = self._newest.head(_ENCLOSED, owner, message_id, index)
        return _encode(head + self._newest.cipher.encrypt(text.encode(), [head]))

    def open(self, owner: Owner, seal: str, shown: str | None) -> Opened:
        """The verdict on a seal that came back with this text; `None` for a redacted thought, which has none.

        What an enclosed seal came back with is not looked at: the client was shown nothing to send back.
        """
        if not seal.startswith(_BEGINNING):
            return FOREIGN
        raw = _decode(seal)
        if len(raw) < _HEAD.size:
            return CHANGED
        head, tail = raw[: _HEAD.size], raw[_HEAD.size :]
        _, kind, key_id, card, scope, reply, index = _HEAD.unpack(head)
        key = self._keys.get(key_id)
        if key is None:
            return FOREIGN
        text = key.text_of(kind, head, tail, shown)
        if text is None:
            return CHANGED
        if (card, scope) != (_digest(owner.card), _digest(owner.scope)):
            return FOREIGN
        return Opened(Verdict.GENUINE, text, reply, index)


class _Key:
    """One secret of the installation; each use has a key of its own, derived from it."""

    def __init__(self, secret: bytes) -> None:
        self.id = _derive(secret, b"id")[:8]
        self.cipher = AESSIV(_derive(secret, b"enclose", "sha512"))
        self._mac_key = _derive(secret, b"sign")

    def head(self, kind: bytes, owner: Owner, message_id: str, index: int) -> bytes:
        return _HEAD.pack(_MAGIC, kind, self.id, _digest(owner.card), _digest(owner.scope), _digest(message_id), index)

    def mac(self, head: bytes, text: str) -> bytes:
        return hmac.digest(self._mac_key, head + text.encode(), "sha256")

    def text_of(self, kind: bytes, head: bytes, tail: bytes, shown: str | None) -> str | None:
        """The thought's text if head, tail and text belong together."""
        if kind == _SIGNED and shown is not None:
            return shown if hmac.compare_digest(tail, self.mac(head, shown)) else None
        if kind == _ENCLOSED and len(tail) > _TAG_BYTES:
            try:
                return self.cipher.decrypt(tail, [head]).decode()
            except InvalidTag:
                return None
        return None


def _derive(secret: bytes, purpose: bytes, by: str = "sha256") -> bytes:
    return hmac.digest(secret, b"sestet thoughts 1 " + purpose, by)


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:8]


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _decode(seal: str) -> bytes:
    """The bytes; none for what is not the one spelling of them that we write."""
    try:
        raw = base64.b64decode(seal.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b""
    return raw if _encode(raw) == seal else b""
