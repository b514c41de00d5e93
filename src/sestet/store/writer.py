"""The server's side of the process that writes the ledger: tells it what to write, hears what is safe, replaces it."""

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import structlog

import sestet
from sestet.store import ledger_process
from sestet.store.ledger_process import RETRY_S, Said
from sestet.store.outbox import Entry, Outbox
from sestet.store.rows import Spent

STOP_S: Final = 5.0
STUCK_S: Final = 3.0  # a process that says nothing for longer has a database that does not answer
_LINE_MAX: Final = 1 << 24
_ROOT: Final = str(Path(sestet.__file__).parent.parent)


@dataclass(slots=True)
class _Told:
    """An entry that the process was told and that is not safe yet, with who waits for it, since `at`."""

    entry: Entry
    line: bytes
    waiter: asyncio.Future[None]
    at: float


class Writer:
    """`on_spent` is told the totals of the days that a transaction changed. `outbox` is a path without its suffix."""

    def __init__(self, url: str, outbox: Path, on_spent: Callable[[Spent], None]) -> None:
        self._url = url
        self._outbox = outbox.with_suffix(".jsonl")
        self._rescued = Outbox(outbox.with_name(f"{outbox.name}.rescued.jsonl"))
        self._has_rescued = False
        self._on_spent = on_spent
        self._told: deque[_Told] = deque()
        self._lines: list[bytes] = []
        self._count = self._safe = self._written = 0
        self._before = 0  # entries that processes before this one have made safe
        self._trouble = ""
        self._process: Process | None = None
        self._running: asyncio.Task[None] | None = None
        self._stopping = False
        self._lost = False
        self._up = asyncio.Event()
        self._log = structlog.get_logger("sestet")

    def start(self) -> None:
        """Starts the process; the first entry would do so too."""
        if self._running is None:
            self._running = asyncio.create_task(self._keep_running())

    def put(self, entry: Entry) -> asyncio.Future[None]:
        """Never blocks. What is returned is done when the entry can no longer be lost."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        told = _Told(entry, entry.line(), waiter, time.monotonic())
        self._count += 1
        self._told.append(told)
        self.start()
        if not self._lines:
            loop.call_soon(self._flush)
        self._lines.append(told.line)
        return waiter

    def _flush(self) -> None:
        """What was put in one turn of the loop is told at once: waking the process is what takes long."""
        if self._process is not None:
            self._tell(self._process, b"".join(self._lines))
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
                    assert self._process.stdin is not None
                    self._process.stdin.close()
                    await self._running
            self._running.cancel()
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
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
                    await self._hear_all(self._process)
                finally:  # cancelled or not, it is not told anything any more, and ends
                    await _close(self._process)
                self._process = None
                self._up.clear()
            if not self._stopping:
                self._lost = True
                self._log.error("ledger_process_ended")
                await asyncio.sleep(RETRY_S)

    async def _spawn(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", ledger_process.__name__),
            stdin=PIPE,
            stdout=PIPE,
            env={"PYTHONPATH": _ROOT},
            limit=_LINE_MAX,
        )
        self._tell(process, orjson.dumps({"url": self._url, "outbox": str(self._outbox)}) + b"\n")
        self._before = self._safe
        self._trouble = ""
        self._lines.clear()
        # What another one was told it may have written; nothing counts twice.
        self._tell(process, b"".join(one.line for one in self._told))
        return process

    @staticmethod
    def _tell(process: Process, line: bytes) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError, RuntimeError):  # it has ended: the next one is told
            process.stdin.write(line)

    async def _hear_all(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._hear(orjson.loads(line))
        await process.wait()

    def _hear(self, said: Said) -> None:
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


async def _close(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(OSError):
        await process.stdin.wait_closed()


def _done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
