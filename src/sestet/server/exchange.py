"""One request being answered: what interrupts it, and how its stream is written.

A stream is committed with its first real content. Until then a failure is an ordinary status, which clients
retry; afterwards it is an `error` event and never looks like a normal end (WIRE.md section 3.5).
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final

from starlette.types import Receive, Send

from sestet.contract.errors import ApiError
from sestet.contract.events import BlockDelta, Event

BEAT_EVERY_S: Final = 1.0  # silence after which a stream is committed
PING_AFTER_S: Final = 5.0  # further silence after which it says `ping`

RawHeaders = tuple[tuple[bytes, bytes], ...]


class ClientGone(Exception):
    """Nobody is left to answer."""


class Exchange:
    """Holds what may be interrupted from outside: by the client's leaving, a stalled reader, a shutdown."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cause: ApiError | ClientGone | None = None
        self._interruptible = False

    def interrupt(self, cause: ApiError | ClientGone) -> None:
        """Makes the body of `watching` raise this, now or when it begins; the first cause counts.

        Outside of that body nothing is interrupted: what is said there are the last bytes.
        """
        if self._cause is None:
            self._cause = cause
            if self._interruptible:
                self._task.cancel()

    @asynccontextmanager
    async def watching(self, receive: Receive) -> AsyncIterator[None]:
        """Around the work: ends it when the client goes away."""
        self._raise_cause()
        self._interruptible = True
        watcher = asyncio.create_task(self._watch(receive))
        try:
            yield
        except asyncio.CancelledError:
            if self._cause is not None:
                self._task.uncancel()
            self._raise_cause()
            raise
        finally:
            self._interruptible = False
            watcher.cancel()

    def _raise_cause(self) -> None:
        if self._cause is not None:
            raise self._cause from None

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.interrupt(ClientGone())


class SseStream:
    """Writes one reply's frames; the ticker of `Heart` keeps it alive through silence.

    Frames that carry no text wait for the next that does, so that a reply's beginning and end are one write each.
    """

    def __init__(self, send: Send, headers: RawHeaders, ping: bytes) -> None:
        self.headers = headers
        self._send = send
        self._ping = ping
        self._held: list[bytes] = []
        self._writing_since: float | None = None
        self._loop = asyncio.get_running_loop()
        self._wrote_at = self._loop.time()
        self.committed = False

    def hold(self, frame: bytes) -> None:
        self._held.append(frame)

    async def write(self, frame: bytes, *, last: bool = False) -> None:
        self._writing_since = self._wrote_at = self._loop.time()
        if not self.committed:
            self.committed = True
            await self._send({"type": "http.response.start", "status": 200, "headers": self.headers})
        if self._held:
            frame = b"".join((*self._held, frame))
            self._held.clear()
        await self._send({"type": "http.response.body", "body": frame, "more_body": not last})
        self._writing_since = None

    def stalled_s(self) -> float:
        """For how long the client has not been reading."""
        return self._loop.time() - self._writing_since if self._writing_since is not None else 0.0

    async def beat(self) -> None:
        """Called every second: commits what is held, and breaks a silence with a `ping`."""
        if self._writing_since is not None:
            return
        silence_s = self._loop.time() - self._wrote_at
        if silence_s >= PING_AFTER_S:
            await self.write(self._ping)
        elif silence_s >= BEAT_EVERY_S and self._held:
            await self.write(b"")


class Heart:
    """One ticker for all streams, so that a stream costs no task of its own."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._streams: dict[SseStream, Callable[[], None]] = {}
        self._beats: set[asyncio.Task[None]] = set()

    def add(self, stream: SseStream, cut_off: Callable[[], None]) -> None:
        """`cut_off` is called for a client that has not been reading for too long."""
        self._streams[stream] = cut_off

    def remove(self, stream: SseStream) -> None:
        self._streams.pop(stream, None)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(BEAT_EVERY_S)
            for stream, cut_off in list(self._streams.items()):
                if stream.stalled_s() > self._stall_s:
                    cut_off()
                    continue
                beat = asyncio.create_task(stream.beat())
                self._beats.add(beat)
                beat.add_done_callback(self._beats.discard)


async def write_events(
    stream: SseStream, events: AsyncGenerator[Event, None], encode: Callable[[Event], bytes]
) -> None:
    """All of a reply but its last frames, which are held for the write that ends the response."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, BlockDelta):
                await stream.write(encode(event))
            else:
                stream.hold(encode(event))
