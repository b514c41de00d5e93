"""The one door: every request passes here before any route, and every answer leaves through it.

Default deny. Decisions read the path and headers as received, never a URL rebuilt from `Host` (RELIABILITY.md
T01 to T04, T13).
"""

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sestet.contract.errors import ApiError, invalid
from sestet.dialects.dialect import Dialect, Paths, in_words_of
from sestet.gate.keys import Caller, Keyring
from sestet.gate.sigv4 import is_signed
from sestet.server import dialects, ids
from sestet.server.exchange import ClientGone
from sestet.server.metrics import Metrics
from sestet.server.signed import admit_signed

# What anybody may read: whether the server is up, and how to use it. None of it holds a secret.
PUBLIC: Final = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
CONTEXT: Final = "sestet.context"
NOBODY: Final = Caller("none", None, frozenset())

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


@dataclass(slots=True)
class RequestContext:
    """What the gate found out, for the route. `route` is for the metrics and the log, `paths` are what the client calls
    the paths of the contract's request."""

    request_id: str
    headers: Mapping[bytes, list[bytes]]
    dialect: Dialect
    caller: Caller = NOBODY
    route: str = "none"
    paths: Paths = field(default_factory=dict)


class Gate:
    """Outermost ASGI application. `hosts` are the `Host` names let in while no key is asked for."""

    def __init__(self, app: ASGIApp, keyring: Keyring, hosts: Collection[str], metrics: Metrics) -> None:
        self._app = app
        self._keyring = keyring
        self._hosts = LOOPBACK_NAMES | {host.lower() for host in hosts}
        self._metrics = metrics
        self._log = structlog.get_logger("sestet")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.monotonic()
        service = dialects.signing_service(scope["path"])
        scope["path"] = dialects.unmounted(scope["path"])
        headers = _grouped(scope["headers"])
        context = RequestContext(ids.request_id(), headers, dialects.spoken_at(scope["path"], headers))
        scope.setdefault("state", {})[CONTEXT] = context
        outgoing = _Outgoing(send, context)
        failure: ApiError | None = None
        try:
            self._check_host(scope, headers)
            if service is not None and is_signed(headers) and not self._keyring.is_open:
                context.caller, receive = await admit_signed(self._keyring, service, scope, headers, receive)
            elif scope["path"] not in PUBLIC:
                context.caller = self._keyring.admit(headers, time.time_ns() // 1000)
            await self._app(scope, receive, outgoing)
        except ApiError as error:
            failure = error
        except ClientGone:
            outgoing.status = outgoing.status or 499
        except Exception:
            self._log.exception("unexpected_error", request_id=context.request_id, route=context.route)
            failure = unexpected()
        if failure is not None:
            self._metrics.refused(failure.kind)
        if failure is not None and outgoing.status is None:
            await send_error(outgoing, failure, context)
        status = outgoing.status or 500
        self._metrics.request(context.route, status)
        log = self._log.info if status >= 400 else self._log.debug
        log(
            "request",
            request_id=context.request_id,
            key_id=context.caller.key_id,
            method=scope["method"],
            route=context.route,
            status=status,
            error=failure.kind if failure else None,
            duration_ms=round((time.monotonic() - started) * 1e3, 1),
        )

    def _check_host(self, scope: Scope, headers: Mapping[bytes, list[bytes]]) -> None:
        hosts = headers.get(b"host", [])
        if len(hosts) > 1 or (not hosts and scope["http_version"] == "1.1"):
            raise invalid("the request must carry exactly one Host header")
        match = _HOST.fullmatch(hosts[0]) if hosts else None
        if hosts and match is None:
            raise invalid("the Host header is malformed")
        if not self._keyring.is_open:
            return
        # Without keys the address is the only protection, so a web page must not be able to reach us by giving
        # its own name this address (DNS rebinding), nor by posting to us blindly from a browser.
        if match is not None and match[1].decode().lower() not in self._hosts:
            raise ApiError("permission_error", "this Host is not served without API keys; see server.allowed_hosts")
        for origin in headers.get(b"origin", []):
            name = _HOST.fullmatch(origin.partition(b"://")[2])
            if name is None or name[1].decode().lower() not in self._hosts:
                raise ApiError("permission_error", "pages of this origin may not call a server without API keys")


class _Outgoing:
    """`send`, with the request id on every answer and the status kept."""

    def __init__(self, send: Send, context: RequestContext) -> None:
        self._send = send
        names = dict.fromkeys((b"request-id", context.dialect.request_id_header))
        self._ids = [(name, context.request_id.encode()) for name in names]
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._ids]}
        await self._send(message)


def unexpected() -> ApiError:
    """What a client is told of a mistake of ours."""
    return ApiError("api_error", "an unexpected error occurred; the server's log has it under this request id")


async def send_error(
    send: Send, error: ApiError, context: RequestContext, more_headers: Collection[tuple[bytes, bytes]] = ()
) -> None:
    """An error as a whole response, in the shape and with the headers of the dialect."""
    told = in_words_of(error, context.paths)
    refusal = context.dialect.encode_error(told, context.request_id, time.time())
    await send_json(send, refusal.body, refusal.status, [*more_headers, *refusal.headers])


async def send_json(send: Send, body: bytes, status: int = 200, headers: Collection[tuple[bytes, bytes]] = ()) -> None:
    lines = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def _grouped(headers: Collection[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    grouped: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        grouped.setdefault(name, []).append(value)
    return grouped
