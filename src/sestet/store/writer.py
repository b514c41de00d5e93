"""The server's side of the process that writes the ledger: tells it what to write, hears what is safe, replaces it."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import orjson
import structlog

import sestet
from sestet.store import ledger_process
from sestet.store.ledger_process import RETRY_S, Said
from sestet.store.outbox import Entry, Outbox
from sestet.store.rows import Spent

STOP_S: Final = 5.0
GATHER_S: Final = 0.002  # how long a busy loop may gather entries before it tells them
IDLE_S: Final = 0.0001  # a turn of the loop that is shorter has nothing else to do
STUCK_S: Final = 3.0  # a process that says nothing for longer has a database that does not answer
_ENVIRONMENT: Final = {"PYTHONPATH": str(Path(sestet.__file__).parent.parent)}


@dataclass(slots=True)
class _Told:
    """An entry that the process was told and that is not safe yet, with who waits for it, since `at`."""

    entry: Entry
    line: bytes
    waiter: asyncio.Future[None]
    at: float


class _Process(asyncio.SubprocessProtocol):
    """One process: takes lines, and hands over the lines that it answers. `ended` is set when it has."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self._on_line = on_line
        self._rest = b""
        self._transport: asyncio.SubprocessTransport
        self._input: asyncio.WriteTransport
        self._told_all = asyncio.Event()
        self.ended = asyncio.Event()

    @classmethod
    async def start(cls, on_line: Callable[[bytes], None], held: Sequence[int]) -> "_Process":
        """`held` are descriptors that it holds too, as long as it lives."""
        _, process = await asyncio.get_running_loop().subprocess_exec(
            lambda: cls(on_line),
            *(sys.executable, "-m", ledger_process.__name__),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,
            env=_ENVIRONMENT,
            pass_fds=held,
        )
        return process

    def tell(self, lines: bytes) -> None:
        """Never blocks."""
        with contextlib.suppress(OSError, RuntimeError):  # it has ended: the next one is told
            self._input.write(lines)

    async def close(self) -> None:
        """It is not told anything more, and so ends, after it has done what it was told."""
        self._input.close()
        await self._told_all.wait()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._transport.kill()
        await self.ended.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._input = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self._told_all.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport.close()
        self.ended.set()


class Writer:
    """`on_spent` is told the totals of the days that a transaction changed. `outbox` is a path without its suffix.
    `held` are descriptors that the process holds too, as long as it lives."""

    def __init__(self, url: str, outbox: Path, on_spent: Callable[[Spent], None], held: Sequence[int] = ()) -> None:
        self._url = url
        self._held = held
        self._outbox = outbox.with_suffix(".jsonl")
        self._rescued = Outbox(outbox.with_name(f"{outbox.name}.rescued.jsonl"))
        self._has_rescued = False
        self._on_spent = on_spent
        self._told: deque[_Told] = deque()
        self._lines: list[bytes] = []  # those of them that the process is yet to be told
        self._first_at = self._turned_at = 0.0
        self._count = self._safe = self._written = 0
        self._before = 0  # entries that processes before this one have made safe
        self._trouble = ""
        self._process: _Process | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopping = False
        self._lost = False
        self._up = asyncio.Event()
        self._log = structlog.get_logger("sestet")

    def start(self) -> None:
        """Starts the process; the first entry would do so too."""
        if self._running is None:
            self._running = asyncio.create_task(self._keep_running())

    def put(self, entry: Entry, *, at_once: bool = False) -> asyncio.Future[None]:
        """Never blocks. What is returned is done when the entry can no longer be lost. The process is told `at_once`,
        or together with what others put in a moment."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        told = _Told(entry, entry.line(), waiter, time.monotonic())
        self._count += 1
        self._told.append(told)
        self.start()
        if at_once:
            self._lines.append(told.line)
            self._flush()
            return waiter
        if not self._lines:
            self._first_at = self._turned_at = told.at
            loop.call_soon(self._gather)
        self._lines.append(told.line)
        return waiter

    def _gather(self) -> None:
        """What is put while the loop is busy anyway is told at once: waking the process, and being woken by it, is what
        takes long. An idle loop tells it immediately."""
        now = time.monotonic()
        if now - self._turned_at > IDLE_S and now - self._first_at < GATHER_S:
            self._turned_at = now
            asyncio.get_running_loop().call_soon(self._gather)
        else:
            self._flush()

    def _flush(self) -> None:
        if self._process is not None and self._lines:
            self._process.tell(b"".join(self._lines))
        self._lines.clear()

    async def stop(self) -> None:
        """Everything that was put is in the database or in an outbox then."""
        if self._running is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._up.wait()  # it may only be starting
                    self._stopping = True
                    self._flush()
                    assert self._process is not None
                    await self._process.close()
                    await self._running
            self._running.cancel()
            if self._process is not None:
                await self._process.kill()
        await self.rescue()

    @property
    def backlog(self) -> int:
        """Entries that are not in the database yet."""
        return self._count - self._written

    @property
    def stuck(self) -> bool:
        return bool(self._told) and time.monotonic() - self._told[0].at > STUCK_S

    @property
    def healthy(self) -> bool:
        return not (self._lost or self._trouble or self.stuck)

    async def rescue(self) -> None:
        """Puts what the process has not made safe into an outbox of this side, and tells whoever waits for it."""
        told = [one for one in self._told if not one.waiter.done()]
        if not told:
            return
        try:
            self._has_rescued = True
            await asyncio.to_thread(self._rescued.append, [one.entry for one in told])
        except OSError as error:  # no room there either: it is kept here, until there is
            self._log.error("outbox_not_written", rows=len(told), reason=error.strerror)
        for one in told:
            _done(one.waiter)

    async def _keep_running(self) -> None:
        while not self._stopping:
            try:
                self._process = await self._spawn()
            except OSError as error:
                self._log.error("ledger_process_not_started", reason=error.strerror)
            else:
                self._lost = False
                self._up.set()
                try:
                    await self._process.ended.wait()
                finally:  # cancelled or not
                    await self._process.close()
                self._process = None
                self._up.clear()
            if not self._stopping:
                self._lost = True
                self._log.error("ledger_process_ended")
                await asyncio.sleep(RETRY_S)

    async def _spawn(self) -> _Process:
        process = await _Process.start(self._hear, self._held)
        process.tell(orjson.dumps({"url": self._url, "outbox": str(self._outbox)}) + b"\n")
        self._before = self._safe
        self._trouble = ""
        self._lines.clear()
        # What another one was told it may have written; nothing counts twice.
        process.tell(b"".join(one.line for one in self._told))
        return process

    def _hear(self, line: bytes) -> None:
        said: Said = orjson.loads(line)
        spent = said.get("spent")
        if spent:
            self._on_spent({(workspace, day): total for workspace, day, total in spent})
        if "trouble" in said and said["trouble"] != self._trouble:
            self._trouble = said["trouble"]
            if self._trouble:
                self._log.error("ledger_not_written", reason=self._trouble)
            else:
                self._log.warning("ledger_written_again")
        if "refused" in said:
            self._log.error("ledger_row_refused", request_id=said["refused"])
        self._written = self._before + said["written"]
        while self._safe < self._before + said["safe"]:
            self._safe += 1
            _done(self._told.popleft().waiter)
        if self._has_rescued and not self._told and not self.backlog:
            self._has_rescued = False
            self._rescued.clear()


def _done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
