"""What uvicorn's HTTP protocol leaves open: slow and huge headers, slow bodies, errors in our own shape.

Limits are per connection and enforced before any of our code runs (RELIABILITY.md T19, T20, finding 4).
"""

import asyncio
import time
from typing import Final
from urllib.parse import unquote

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sestet.contract.errors import ApiError
from sestet.server import dialects, ids

HEADER_BYTES_MAX: Final = 64 * 1024
HEADER_TIMEOUT_S: Final = 10.0
BODY_TIMEOUT_S: Final = 30.0
BODY_BYTES_PER_S_MIN: Final = 64 * 1024  # a body that keeps this pace gets more time

ABORT: Final = "sestet.abort"  # in the scope's state: cuts the connection without waiting for its reader


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol, with a deadline and a size for what a client sends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._in_headers = True
        self._received = 0
        self._since_body = 0  # bytes since the last that were a body's: headers, trailers, the lines between chunks
        self.url = b""  # until there is one
        self._answering: RequestResponseCycle | None = None
        self._timer: asyncio.TimerHandle | None = self.loop.call_later(HEADER_TIMEOUT_S, self._headers_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        # uvicorn tells the request it read last; with pipelining that need not be the one being answered.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._since_body += len(data)
        if self._timer is None:  # the first bytes of the next request on this connection
            self._timer = self.loop.call_later(HEADER_TIMEOUT_S, self._headers_late)
        super().data_received(data)
        if min(self._received, self._since_body) > HEADER_BYTES_MAX:
            self._refuse(431, f"the headers are larger than {HEADER_BYTES_MAX} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:  # what follows a body is no header (RFC 9110, section 6.5.1)
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._since_body = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        self._in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEADER_BYTES_MAX:
            self._refuse(431, f"the headers are larger than {HEADER_BYTES_MAX} bytes")
            return
        self._received = 0
        self._stop_timer()
        self._body_since = self.loop.time()
        self._timer = self.loop.call_later(BODY_TIMEOUT_S, self._body_late)
        self.scope["state"][ABORT] = self.transport.abort
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._received = 0
        self._stop_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "the request is not valid HTTP")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _headers_late(self) -> None:
        self._timer = None
        if self._is_answering:  # a next request has until its turn comes
            self._timer = self.loop.call_later(HEADER_TIMEOUT_S, self._headers_late)
        elif self._received:
            self._refuse(408, f"the headers took longer than {HEADER_TIMEOUT_S:g} s")
        else:
            self.transport.close()

    def _body_late(self) -> None:
        allowed_s = BODY_TIMEOUT_S + self._received / BODY_BYTES_PER_S_MIN
        remaining_s = self._body_since + allowed_s - self.loop.time()
        if self._is_answering and self._answering is not self.cycle:
            remaining_s = max(remaining_s, BODY_TIMEOUT_S)
        if remaining_s > 0:
            self._timer = self.loop.call_later(remaining_s, self._body_late)
            return
        self._timer = None
        if self.cycle.response_started:
            self.transport.close()
        else:
            self._refuse(408, "the request body came too slowly")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    @property
    def _has_answered(self) -> bool:
        """Whether whoever reads has a response to what is being received already, or a part of one."""
        if self._answering is None:
            return False
        begun = self._answering.response_started and not self._answering.response_complete
        return begun or (self._answering.response_complete and self._answering is self.cycle and not self._in_headers)

    def _refuse(self, status: int, message: str) -> None:
        """An answer from below the application; the connection ends with it, and is all there is of it where another
        answer has begun."""
        if self.transport.is_closing():
            return
        if self._has_answered:
            self.transport.close()
            return
        request_id = ids.request_id()
        path = unquote(self.url.partition(b"?")[0].decode("latin-1"))
        spoken = dialects.spoken_at(dialects.unmounted(path), {})
        error = ApiError("invalid_request_error", message, status=status)
        refusal = spoken.encode_error(error, request_id, time.time())
        names = dict.fromkeys((b"request-id", spoken.request_id_header), request_id.encode())
        headers = b"".join(b"%b: %b\r\n" % pair for pair in (*refusal.headers, *names.items()))
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"%bconnection: close\r\n\r\n%b" % (status, _PHRASES[status], len(refusal.body), headers, refusal.body)
        )
        self.transport.close()


_PHRASES: Final = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}
