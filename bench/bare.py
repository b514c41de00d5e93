"""Bare ASGI applications under uvicorn: they return recorded bytes, and do nothing else.

Without a query the answer comes from a function; with `?starlette` from a Starlette route that parses the request,
which is the least that a service written by hand does; with `?burst` a stream is handed over all at once.

A process of `bench.processes.Peer`: told in one line what to return, it answers with its port and serves.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bench.serving import serve

_BURST = b"burst"  # all frames of a stream in one turn of the loop, which no engine's tokens can do
_STARLETTE = b"starlette"


class Recording:
    """Replies as the application returns them. A stream is a list of writes, one a token."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.whole_headers = _headers(order["whole"]["headers"])
        self.whole_body = order["whole"]["writes"][0].encode("latin-1")
        self.stream_headers = _headers(order["stream"]["headers"])
        self.stream_writes = [write.encode("latin-1") for write in order["stream"]["writes"]]

        self._starlette = Starlette(routes=[Route("/v1/messages", self._endpoint, methods=["POST"])])

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["query_string"] == _STARLETTE:
            await self._starlette(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            received = await receive()
            body += received.get("body", b"")
            more = received.get("more_body", False)
        if b'"stream": true' in body:
            await self._stream(send, burst=scope["query_string"] == _BURST)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": self.whole_headers})
            await send({"type": "http.response.body", "body": self.whole_body})

    async def _endpoint(self, request: Request) -> Response:
        asked = await request.json()
        if asked["stream"]:
            return StreamingResponse(self._writes(), headers=_named(self.stream_headers))
        return Response(self.whole_body, headers=_named(self.whole_headers))

    async def _writes(self) -> AsyncIterator[bytes]:
        for write in self.stream_writes:
            await asyncio.sleep(0)
            yield write

    async def _stream(self, send: Any, *, burst: bool) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.stream_headers})
        last = len(self.stream_writes) - 1
        for position, write in enumerate(self.stream_writes):
            if not burst:
                await asyncio.sleep(0)
            await send({"type": "http.response.body", "body": write, "more_body": position < last})


def _headers(lines: list[list[str]]) -> list[tuple[bytes, bytes]]:
    """All but what uvicorn writes itself."""
    own = ("date", "transfer-encoding")
    return [(name.encode(), value.encode()) for name, value in lines if name not in own]


def _named(lines: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in lines}


def main() -> None:
    recording = Recording(json.loads(sys.stdin.readline()))
    serve(recording, HttpToolsProtocol)


if __name__ == "__main__":
    main()
