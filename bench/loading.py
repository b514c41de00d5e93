"""Order `load`: the same request again and again over open connections, as fast as it is answered.

Reads no more of a reply than it needs to know that it is whole, so that the server is what is measured.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from bench.requests import message

_FRAME = b"event: "
_LAST_CHUNK = b"0\r\n\r\n"
_ENDED_WITHIN_S = 30.0
_KEPT = len(_FRAME) - 1  # the longest beginning of a frame's mark that a packet's end can hold


@dataclass
class _Totals:
    """What all connections have seen so far. `wrong` counts replies that were not what they must be."""

    replies: int = 0
    frames: int = 0
    wrong: int = 0
    latencies_s: list[float] = field(default_factory=list)
    stopping: bool = False


async def load(
    port: int, body: dict[str, object], connections: int, warm_s: float, seconds: float, frames: int, query: str = ""
) -> dict[str, Any]:
    """`frames` is how many a streamed reply has; 0 is for whole replies. Counts from `warm_s` on."""
    loop = asyncio.get_running_loop()
    totals = _Totals()
    request = message(port, body, query)
    opened: list[_Connection] = []
    for _ in range(connections):
        connection = _StreamedReplies(request, totals, frames) if frames else _WholeReplies(request, totals)
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)  # type: ignore[misc]
        opened.append(connection)
    await asyncio.sleep(warm_s)
    started, cpu, replies, seen = time.monotonic(), time.process_time(), totals.replies, totals.frames
    totals.latencies_s.clear()
    await asyncio.sleep(seconds)
    wall_s = time.monotonic() - started
    found = {
        "wall_s": wall_s,
        "replies": totals.replies - replies,
        "frames": totals.frames - seen,
        "latencies_s": list(totals.latencies_s),
        "client_cpu": (time.process_time() - cpu) / wall_s,
    }
    totals.stopping = True
    async with asyncio.timeout(_ENDED_WITHIN_S):
        await asyncio.gather(*(connection.ended for connection in opened))
    return {**found, "wrong": totals.wrong, "all_replies": totals.replies, "all_frames": totals.frames}


class _Connection(asyncio.Protocol):
    """Asks, reads a reply, asks again. Subclasses know when a reply is whole and then call `_answered`."""

    def __init__(self, request: bytes, totals: _Totals) -> None:
        self._request = request
        self._totals = totals
        self._transport: asyncio.Transport
        self._sent = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._totals.stopping:
            self._totals.wrong += 1
        if not self.ended.done():
            self.ended.set_result(None)

    def _ask(self) -> None:
        self._sent = time.monotonic()
        self._transport.write(self._request)

    def _answered(self, right: bool) -> None:
        totals = self._totals
        totals.replies += 1
        totals.wrong += not right
        totals.latencies_s.append(time.monotonic() - self._sent)
        if totals.stopping:
            self._transport.close()
        else:
            self._ask()


class _WholeReplies(_Connection):
    def __init__(self, request: bytes, totals: _Totals) -> None:
        super().__init__(request, totals)
        self._received = b""
        self._size = 0

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._size:
            head, separator, _ = self._received.partition(b"\r\n\r\n")
            if not separator:
                return
            self._size = len(head) + 4 + int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self._received) >= self._size:
            right = len(self._received) == self._size and self._received.startswith(b"HTTP/1.1 200")
            self._received, self._size = b"", 0
            self._answered(right)


class _StreamedReplies(_Connection):
    def __init__(self, request: bytes, totals: _Totals, frames: int) -> None:
        super().__init__(request, totals)
        self._expected = frames
        self._tail = b""
        self._frames = 0

    def data_received(self, data: bytes) -> None:
        window = self._tail + data
        found = window.count(_FRAME)
        self._frames += found
        self._totals.frames += found
        self._tail = window[-_KEPT:]
        if window.endswith(_LAST_CHUNK):
            right = self._frames == self._expected
            self._tail, self._frames = b"", 0
            self._answered(right)
