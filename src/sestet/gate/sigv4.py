"""AWS Signature Version 4: whether a request was signed with a secret that we know too. Nothing here reads a clock.

The canonical request is that of every service but S3: the path as sent, encoded once more. A path, header or
credential that could be spelled in two ways is refused, never put right.
"""

import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_from_bytes

from sestet.contract.errors import ApiError

ALGORITHM: Final = b"AWS4-HMAC-SHA256"
SKEW_S: Final = 15 * 60  # a signature is good for so long before and after its time

_AUTHORIZATION: Final = re.compile(
    rb"AWS4-HMAC-SHA256 Credential=([A-Za-z0-9_]{16,128})/([0-9]{8})/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/aws4_request"
    rb", ?SignedHeaders=([a-z0-9;_.-]{1,8192}), ?Signature=([0-9a-f]{64})"
)
_MOMENT: Final = re.compile(rb"[0-9]{8}T[0-9]{6}Z")

Headers = Mapping[bytes, list[bytes]]


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it came: `path` and `query` as they were sent, nothing decoded; names of headers in small
    letters."""

    method: str
    path: bytes
    query: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says of its signature. `scope` is `DATE/REGION/SERVICE/aws4_request`."""

    access_key_id: str
    scope: bytes
    moment: bytes
    names: tuple[bytes, ...]
    digest: bytes


def is_signed(headers: Headers) -> bool:
    """Whether a signature is this request's one credential."""
    given = headers.get(b"authorization", [])
    return len(given) == 1 and given[0].startswith(ALGORITHM) and b"x-api-key" not in headers


def read_signature(headers: Headers, service: str, now_s: float) -> Signature:
    """The signature of a request to this service, as far as it can be judged without its secret and the body."""
    match = _AUTHORIZATION.fullmatch(headers[b"authorization"][0])
    if match is None:
        raise _refused("the Authorization header is not a whole signature of version 4")
    access_key_id, day, region, named, signed, digest = match.groups()
    if named.decode() != service:
        raise _refused(f"the signature is for another service than `{service}`")
    names = tuple(signed.split(b";"))
    if list(names) != sorted(set(names)):
        raise _refused("SignedHeaders names headers in order, each of them once")
    must = {b"host", b"x-amz-date", *(name for name in headers if name.startswith(b"x-amz-"))}
    if not must <= set(names):
        raise _refused("the host, x-amz-date and every other x-amz- header must be signed")
    if any(len(headers.get(name, ())) != 1 for name in names):
        raise _refused("a signed header is missing or given twice")
    moment = headers[b"x-amz-date"][0]
    if _MOMENT.fullmatch(moment) is None or not moment.startswith(day):
        raise _refused("x-amz-date is not the time of the signature")
    if not abs(_seconds(moment) - now_s) <= SKEW_S:
        raise _refused("the signature's time is more than 15 minutes from now")
    return Signature(access_key_id.decode(), b"/".join((day, region, named, b"aws4_request")), moment, names, digest)


def check_signature(signature: Signature, secret: str, request: SentRequest, body_sha256: str) -> None:
    """401 unless the secret's owner signed this request with the body of this digest (hexadecimal)."""
    expected = hmac.new(_signing_key(secret, signature.scope), _to_sign(signature, request, body_sha256), "sha256")
    if not hmac.compare_digest(expected.hexdigest().encode(), signature.digest):
        raise _refused("the signature does not match the request")


def _to_sign(signature: Signature, request: SentRequest, body_sha256: str) -> bytes:
    canonical = b"\n".join(
        (
            request.method.encode(),
            quote_from_bytes(request.path, safe="/~").encode(),
            _canonical_query(request.query),
            *(name + b":" + b" ".join(request.headers[name][0].split()) for name in signature.names),
            b"",
            b";".join(signature.names),
            body_sha256.encode(),
        )
    )
    return b"\n".join((ALGORITHM, signature.moment, signature.scope, hashlib.sha256(canonical).hexdigest().encode()))


def _canonical_query(query: bytes) -> bytes:
    """The pairs as they were sent, in order."""
    if not query:
        return b""
    pairs = sorted((name, value) for name, _, value in (pair.partition(b"=") for pair in query.split(b"&")))
    return b"&".join(b"%b=%b" % pair for pair in pairs)


def _signing_key(secret: str, scope: bytes) -> bytes:
    key = b"AWS4" + secret.encode()
    for part in scope.split(b"/"):
        key = hmac.digest(key, part, "sha256")
    return key


def _seconds(moment: bytes) -> float:
    try:
        return calendar.timegm(time.strptime(moment.decode(), "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return float("nan")


def _refused(message: str) -> ApiError:
    return ApiError("authentication_error", message)
