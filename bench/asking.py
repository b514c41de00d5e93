"""Order `ask`: streams some requests at once, each over a connection of its own, and times their tokens.

While tokens come it only notes when bytes arrived; they are read after the last one.
"""

import asyncio
import time
from typing import Any

import orjson

from bench.requests import message

_ANSWERED_WITHIN_S = 120.0


async def ask(port: int, bodies: list[dict[str, object]]) -> dict[str, Any]:
    """All bodies at once. `wall_s` is from the first byte sent to the last one received."""
    loop = asyncio.get_running_loop()
    streams = [_Stream(message(port, body)) for body in bodies]
    for stream in streams:
        await loop.create_connection(lambda stream=stream: stream, "127.0.0.1", port)  # type: ignore[misc]
    for stream in streams:
        stream.send()
    async with asyncio.timeout(_ANSWERED_WITHIN_S):
        await asyncio.gather(*(stream.ended for stream in streams))
    wall_s = max(stream.arrivals[-1] for stream in streams) - min(stream.sent for stream in streams)
    return {"wall_s": wall_s, "replies": [stream.reply() for stream in streams]}


class _Stream(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = bytearray()
        self._first_text: float | None = None
        self._transport: asyncio.Transport
        self.sent = 0.0
        self.arrivals: list[float] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def send(self) -> None:
        self.sent = time.monotonic()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.arrivals.append(time.monotonic())
        self._received += data
        # A reply without text has drawn its end as the first token.
        if self._first_text is None and (b"text_delta" in self._received or b"message_delta" in self._received):
            self._first_text = self.arrivals[-1]
        if self._received.endswith(b"\r\n0\r\n\r\n"):
            self.ended.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(RuntimeError(f"a reply was cut off after {bytes(self._received[-300:])!r}"))

    def reply(self) -> dict[str, Any]:
        assert self._first_text is not None, f"a reply without an end: {bytes(self._received[:600])!r}"
        text, input_tokens, output_tokens, stop_reason = [], 0, 0, None
        written, read = 0, 0
        for frame in _unchunked(bytes(self._received)).split(b"\n\n"):
            data = orjson.loads(frame.partition(b"data: ")[2] or b"{}")
            match data.get("type"):
                case "message_start":
                    usage = data["message"]["usage"]
                    # llama.cpp's own server has nothing that is written.
                    written, read = usage.get("cache_creation_input_tokens", 0), usage["cache_read_input_tokens"]
                    input_tokens = usage["input_tokens"] + written + read
                case "content_block_delta":
                    text.append(data["delta"]["text"])
                case "message_delta":
                    output_tokens, stop_reason = data["usage"]["output_tokens"], data["delta"]["stop_reason"]
        pairs = zip(self.arrivals, self.arrivals[1:], strict=False)
        return {
            "first_text_s": self._first_text - self.sent,
            "gaps_s": [after - before for before, after in pairs],
            "text": "".join(text),
            "input_tokens": input_tokens,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "output_tokens": output_tokens,
            "stop_reason": stop_reason,
        }


def _unchunked(received: bytes) -> bytes:
    rest = received.partition(b"\r\n\r\n")[2]
    parts = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts)
