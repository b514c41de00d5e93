"""A streamed reply read as strictly as can be: HTTP, chunks, SSE frames, order, indices, and numbered tokens.

The reply must say its tokens' numbers (`0 `, `1 `, ...), so a token that is lost, doubled or moved shows.
"""

from typing import Final

import orjson

# Which event may follow which; `ping` may come anywhere after the first.
_FOLLOWS: Final = {
    None: ("message_start",),
    "message_start": ("content_block_start",),
    "content_block_start": ("content_block_delta",),
    "content_block_delta": ("content_block_delta", "content_block_stop"),
    "content_block_stop": ("message_delta",),
    "message_delta": ("message_stop",),
    "message_stop": (),
}


class MalformedStream(ValueError):
    """The text says what is wrong."""


class StrictReader:
    """Feed it what arrives; it returns how many tokens that held, and raises `MalformedStream`.

    `ended` is true after the last chunk; then `tokens` have come, and nothing may follow.
    """

    def __init__(self, tokens: int) -> None:
        self._expected = tokens
        self._raw = b""
        self._head_read = False
        self._body = b""
        self._last: str | None = None
        self.tokens = 0
        self.starts = 0
        self.stops = 0
        self.pings = 0
        self.ended = False

    def feed(self, data: bytes) -> int:
        before = self.tokens
        if self.ended:
            raise MalformedStream(f"bytes after the end: {data[:80]!r}")
        self._raw += data
        if self._head_read or self._read_head():
            self._read_chunks()
        return self.tokens - before

    def _read_head(self) -> bool:
        head, separator, rest = self._raw.partition(b"\r\n\r\n")
        if not separator:
            return False
        lines = head.lower().split(b"\r\n")
        if lines[0] != b"http/1.1 200 ok":
            raise MalformedStream(f"the reply begins with {lines[0]!r}: {rest[:300]!r}")
        for line in (b"content-type: text/event-stream; charset=utf-8", b"transfer-encoding: chunked"):
            if lines.count(line) != 1:
                raise MalformedStream(f"the header {line!r} is there {lines.count(line)} times")
        self._raw = rest
        self._head_read = True
        return True

    def _read_chunks(self) -> None:
        while not self.ended:
            size, separator, rest = self._raw.partition(b"\r\n")
            if not separator:
                return
            length = int(size, 16)
            if len(rest) < length + 2:
                return
            if rest[length : length + 2] != b"\r\n":
                raise MalformedStream("a chunk is longer than it says")
            self._raw = rest[length + 2 :]
            if length:
                self._read_frames(rest[:length])
            else:
                self._end()

    def _end(self) -> None:
        self.ended = True
        if self._raw or self._body:
            raise MalformedStream(f"bytes after the last frame: {(self._body + self._raw)[:80]!r}")
        if self._last != "message_stop" or self.tokens != self._expected:
            raise MalformedStream(f"the stream ended after {self._last} with {self.tokens} tokens")

    def _read_frames(self, data: bytes) -> None:
        *frames, self._body = (self._body + data).split(b"\n\n")
        for frame in frames:
            self._read_frame(frame)

    def _read_frame(self, frame: bytes) -> None:
        lines = frame.split(b"\n")
        if len(lines) != 2 or not lines[0].startswith(b"event: ") or not lines[1].startswith(b"data: "):
            raise MalformedStream(f"not a frame: {frame[:200]!r}")
        data = orjson.loads(lines[1][6:])
        kind = data["type"]
        if kind.encode() != lines[0][7:]:
            raise MalformedStream(f"the event's name and type differ: {frame[:200]!r}")
        if kind == "ping" and self._last is not None:
            self.pings += 1
            return
        if kind not in _FOLLOWS[self._last]:
            raise MalformedStream(f"{kind} after {self._last}: {frame[:300]!r}")
        self._last = kind
        self._check(kind, data)

    def _check(self, kind: str, data: dict) -> None:  # type: ignore[type-arg]
        match kind:
            case "content_block_delta":
                wanted = {"type": "text_delta", "text": f"{self.tokens} "}
                if data["index"] != 0 or data["delta"] != wanted:
                    raise MalformedStream(f"instead of {wanted}: {data}")
                self.tokens += 1
            case "content_block_start" | "content_block_stop":
                if data["index"] != 0:
                    raise MalformedStream(f"index {data['index']} of the only block")
            case "message_start":
                self.starts += 1
            case "message_delta":
                ending = (data["delta"]["stop_reason"], data["usage"]["output_tokens"])
                if ending != ("end_turn", self._expected):
                    raise MalformedStream(f"it ended as {ending}")
            case "message_stop":
                self.stops += 1
