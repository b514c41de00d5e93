"""API keys: made once and shown once, read from either credential header, looked up by keyed digest, never kept in
clear (RELIABILITY.md T01, T02, T08 to T11)."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sestet.contract.errors import ApiError, invalid
from sestet.gate.directory import DEFAULT_WORKSPACE, SCOPES, Directory, Key, Scope

PREFIX: Final = "sk-sestet-"
KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request comes from: the key's id, never the key. `workspace` is None for a key of the organisation,
    `models` None for one that may use every card."""

    key_id: str
    workspace: str | None
    scopes: frozenset[Scope]
    models: frozenset[str] | None = None
    expires_at: int | None = None

    def require(self, scope: Scope) -> None:
        """403 for a key that was not made for this."""
        if scope in self.scopes:
            return
        if self.key_id == ANYONE.key_id:
            message = "this needs an admin key, also on this machine; `sestet keys bootstrap` makes one"
            raise ApiError("authentication_error", message)
        raise ApiError("permission_error", f"this API key lacks the scope `{scope}`")

    def may_use(self, card_id: str) -> bool:
        return self.models is None or card_id in self.models

    def require_model(self, card_id: str) -> None:
        if not self.may_use(card_id):
            raise ApiError("permission_error", f"this API key may not use `{card_id}`", param="model")


# What anybody may do where no key is asked for. Administration is not part of it.
ANYONE: Final = Caller("none", DEFAULT_WORKSPACE, SCOPES - {"admin"})


@dataclass(frozen=True, slots=True)
class AwsKey:
    """A key pair that requests are signed with, and whom they come from then."""

    access_key_id: str
    secret: str = field(repr=False)
    caller: Caller


@dataclass(frozen=True, slots=True)
class Grant:
    """What a new key shall be able to do."""

    workspace: str | None
    scopes: frozenset[Scope]
    models: frozenset[str] | None = None
    expires_at: int | None = None


def check_grant(creator: Caller, wanted: Grant) -> None:
    """Nobody hands out more than they have (CVE-2026-47101). An admin key of the organisation may hand out anything;
    one of a workspace what it has itself, in its own workspace."""
    creator.require("admin")
    if not wanted.scopes:
        raise invalid("a key needs at least one scope", "scopes")
    if "inference" in wanted.scopes and wanted.workspace is None:
        raise invalid("a key for inference belongs to a workspace", "workspace_id")
    if creator.workspace is not None:
        if wanted.workspace != creator.workspace:
            raise ApiError("permission_error", "this key manages its own workspace alone", param="workspace_id")
        if not wanted.scopes <= creator.scopes:
            raise ApiError("permission_error", "a key cannot grant scopes that it lacks", param="scopes")
    if creator.models is not None and (wanted.models is None or not wanted.models <= creator.models):
        raise ApiError("permission_error", "a key cannot grant models that it may not use", param="models")
    if creator.expires_at is not None and (wanted.expires_at is None or wanted.expires_at > creator.expires_at):
        raise ApiError("permission_error", "a key cannot grant more time than it has left", param="expires_at")


def new_key() -> str:
    """A key in clear, of 256 random bits. Whoever asked is shown it once."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hint_of(key: str) -> str:
    """What may be shown of a key, for its owner to tell it from others: a few of its last characters."""
    return f"{PREFIX}...{key[-4:]}"


def digest_of(pepper: bytes, key: bytes) -> bytes:
    """Keyed with a secret of the installation, so that the database alone tells nothing; fast, because 256 random bits
    cannot be guessed however fast the hash is."""
    return hmac.digest(pepper, key, "sha256")


class Keyring:
    """The keys that are let in. While there never was one, everybody is; where that is safe is decided at start.

    `configured` are keys of the configuration with what they may do, `aws_keys` its key pairs; stored ones arrive by
    `load`.
    """

    def __init__(
        self, peppers: Sequence[bytes], configured: Mapping[str, frozenset[Scope]], aws_keys: Iterable[AwsKey] = ()
    ) -> None:
        self._peppers = peppers
        self._aws_keys = {key.access_key_id: key for key in aws_keys}
        self._configured = {
            digest_of(peppers[0], key.encode()): Caller(_configured_id(key), _workspace_of(scopes), scopes)
            for key, scopes in configured.items()
        }
        self._stored: dict[bytes, Key] = {}
        self._archived_workspaces: frozenset[str] = frozenset()

    @property
    def is_open(self) -> bool:
        """Whether no key was ever made. One that was revoked does not open the door again."""
        return not self._configured and not self._stored and not self._aws_keys

    def load(self, directory: Directory) -> None:
        self._stored = {key.digest: key for key in directory.keys}
        self._archived_workspaces = frozenset(
            one.id for one in directory.workspaces.values() if one.archived_at is not None
        )

    def admit(self, headers: Mapping[bytes, list[bytes]], now_us: int) -> Caller:
        """The caller of a request; 401 for a missing, unknown or contradictory credential.

        Both header forms are one policy: `x-api-key: KEY` and `Authorization: Bearer KEY` (WIRE.md section 0).
        """
        if self.is_open:
            return ANYONE
        presented = set(_credentials(headers))
        if not presented:
            raise ApiError(
                "authentication_error", "an API key is required, as `x-api-key` or as `Authorization: Bearer`"
            )
        if len(presented) > 1:
            raise ApiError("authentication_error", "the request carries two different credentials")
        key = presented.pop()
        for pepper in self._peppers:
            # What a caller learns from the time of a dictionary look-up is about a digest it cannot compute.
            digest = digest_of(pepper, key)
            configured = self._configured.get(digest)
            if configured is not None:
                return configured
            stored = self._stored.get(digest)
            if stored is not None and hmac.compare_digest(digest, stored.digest):
                return self._caller(stored, now_us)
        raise ApiError("authentication_error", "invalid API key")

    def aws_key(self, access_key_id: str) -> AwsKey:
        """The key pair that a request says it was signed with; 401 if there is none."""
        key = self._aws_keys.get(access_key_id)
        if key is None:
            raise ApiError("authentication_error", "there is no such access key id")
        if key.caller.workspace in self._archived_workspaces:
            raise ApiError("authentication_error", "this access key has been revoked")
        return key

    def _caller(self, key: Key, now_us: int) -> Caller:
        if key.status != "active" or key.workspace_id in self._archived_workspaces:
            raise ApiError("authentication_error", "this API key has been revoked")
        if key.expires_at is not None and key.expires_at <= now_us:
            raise ApiError("authentication_error", "this API key has expired")
        return Caller(key.id, key.workspace_id, key.scopes, key.models, key.expires_at)


def _configured_id(key: str) -> str:
    """The start of a digest, never of the key."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def _workspace_of(scopes: frozenset[Scope]) -> str | None:
    return DEFAULT_WORKSPACE if "inference" in scopes else None


_NO_KEY = b"\0"  # no header can carry it


def _credentials(headers: Mapping[bytes, list[bytes]]) -> Iterable[bytes]:
    for value in headers.get(b"x-api-key", []):
        yield value.strip()
    for value in headers.get(b"authorization", []):
        scheme, _, token = value.strip().partition(b" ")
        # Any other scheme counts as a credential too: one that is never valid.
        yield token.strip() if scheme.lower() == b"bearer" else _NO_KEY
