"""Requests that are signed instead of carrying a key: their body is read at the door, because it is signed too."""

import asyncio
import hashlib
import time

from starlette.types import Message, Receive, Scope

from sestet.gate.keys import Caller, Keyring
from sestet.gate.sigv4 import Headers, SentRequest, check_signature, read_signature
from sestet.server.body import LARGE_BODY_BYTES, read_body


async def admit_signed(
    keyring: Keyring, service: str, scope: Scope, headers: Headers, receive: Receive
) -> tuple[Caller, Receive]:
    """The caller of a signed request, and what gives its body to the route. All that is cheap is checked first."""
    signature = read_signature(headers, service, time.time())
    key = keyring.aws_key(signature.access_key_id)
    body = await read_body(receive, headers)
    digest = await asyncio.to_thread(_digest, body) if len(body) > LARGE_BODY_BYTES else _digest(body)
    sent = SentRequest(scope["method"], scope["raw_path"], scope["query_string"], headers)
    check_signature(signature, key.secret, sent, digest)
    return key.caller, _again(body, receive)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives the body once more, then whatever else is received, such as the client's leaving."""
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return unread.pop() if unread else await receive()

    return again
