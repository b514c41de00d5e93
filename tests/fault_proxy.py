"""A TCP proxy that fails on demand: it keeps every connection and lets nothing through, or resets them all."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class FaultProxy:
    """In front of a port of this machine, on a free port of its own, in a thread of its own. Use `fault_proxy`."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._lets_through = asyncio.Event()
        self._lets_through.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def swallow(self) -> None:
        """Nothing arrives any more, new connections included; to either side it looks like a peer that thinks."""
        self._do(self._lets_through.clear)

    def pass_on(self) -> None:
        """What was held arrives now."""
        self._do(self._lets_through.set)

    def cut(self) -> None:
        """Every connection is reset; new ones are let through."""
        self._do(self._abort)

    def run(self, listening: threading.Event) -> None:
        self._loop.run_until_complete(self._listen())
        listening.set()
        self._loop.run_forever()

    def stop(self) -> None:
        self._do(self._abort)
        self._do(self._loop.stop)

    def _do(self, what: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(what)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._lets_through.wait()
        with suppress(ConnectionError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers |= {writer, far_writer}
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65536):
                await self._lets_through.wait()
                writer.write(piece)
                await writer.drain()
        self._writers.discard(writer)
        writer.close()


@contextmanager
def fault_proxy(target: int) -> Iterator[FaultProxy]:
    proxy = FaultProxy(target)
    listening = threading.Event()
    thread = threading.Thread(target=proxy.run, args=(listening,), daemon=True)
    thread.start()
    listening.wait(10)
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(10)
