"""What a dialect is: one module of its own that holds a `Dialect`, which server/dialects.py lists.

It turns bytes into the contract's requests, the contract's events, messages and errors into bytes, and says at which
paths. Whatever a request means is decided elsewhere.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sestet.contract.errors import ApiError
from sestet.contract.events import Event
from sestet.contract.limits import LimitState
from sestet.contract.models import ModelInfo
from sestet.contract.requests import CountTokensRequest, MessagesRequest
from sestet.contract.versions import OLDEST, ApiVersion
from sestet.turn.fold import Message

Headers = Mapping[bytes, list[bytes]]
RawHeaders = tuple[tuple[bytes, bytes], ...]

# A path of the contract's request -> what the client calls it: `{"max_tokens": "max_completion_tokens"}`.
Paths = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Asking:
    """A request as it came, without its body. `path` is decoded, `now_s` is in seconds since 1970, and `model` tells of
    the model behind a name (`ApiError` if there is none, or if this caller may not use it)."""

    path: str
    headers: Headers
    request_id: str
    message_id: str
    now_s: float
    model: Callable[[str], ModelInfo]


class Teller(Protocol):
    """How one reply is told. Made for it alone, so it may remember what it has told."""

    content_type: bytes
    """Of a stream."""
    ping: bytes
    """What breaks a silence."""

    def message(self, message: Message) -> bytes:
        """The whole reply as a body of `application/json`."""
        ...

    def event(self, event: Event) -> bytes:
        """What a stream says of this event; may be nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a reply in the contract's terms, and how it is told. `paths` are for errors."""

    request: MessagesRequest
    teller: Teller
    version: ApiVersion = OLDEST
    betas: frozenset[str] = frozenset()
    paths: Paths = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AskedCount:
    """A request to count tokens; `encode` tells the number."""

    request: CountTokensRequest
    encode: Callable[[int], bytes]
    version: ApiVersion = OLDEST
    betas: frozenset[str] = frozenset()
    paths: Paths = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as a whole response."""

    status: int
    body: bytes
    headers: RawHeaders = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire protocol.

    `name` is what the ledger calls it. `prefixes` are the beginnings of its paths: whatever goes wrong at one of them
    is told in its shape, a missing key too. `replies` and `counts` are its routes, all of them POST, as the router
    takes them. `request_id_header` is where its clients look for the request's id.
    """

    name: str
    prefixes: tuple[str, ...]
    replies: Mapping[str, Callable[[Asking, bytes], Asked]]
    counts: Mapping[str, Callable[[Asking, bytes], AskedCount]]
    encode_error: Callable[[ApiError, str, float], Refusal]
    encode_limits: Callable[[Iterable[LimitState], float], RawHeaders]
    request_id_header: bytes = b"request-id"


def renamed(param: str, paths: Paths) -> str:
    """What the client calls a path of the contract's request: its longest known beginning is replaced."""
    parts: Sequence[str] = param.split(".")
    for length in range(len(parts), 0, -1):
        known = paths.get(".".join(parts[:length]))
        if known is not None:
            return ".".join((known, *parts[length:]))
    return param


def in_words_of(error: ApiError, paths: Paths) -> ApiError:
    """The same error, its path as the client knows it."""
    if error.param is not None:
        error.param = renamed(error.param, paths)
    return error


def retry_headers(error: ApiError) -> RawHeaders:
    """Whether and when to try again, as the official clients of every dialect read it."""
    headers: RawHeaders = ()
    if error.retry_after_s is not None:
        # Whole seconds, never too few: whoever waits for so long is let in.
        headers += ((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))),)
    if error.final:
        headers += ((b"x-should-retry", b"false"),)
    if error.kind == "authentication_error":
        headers += ((b"www-authenticate", b"Bearer"),)
    return headers
