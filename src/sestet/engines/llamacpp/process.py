"""One engine process: started, waited for, watched and ended. Knows nothing of prompts or tokens."""

import asyncio
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sestet.contract.deltas import Weights

_RUNTIME_PREFIX = "sestet-engine-"
_SOCKET_BASE_BYTES_MAX = 68
_SHORT_BASE = "/tmp"  # noqa: S108 - the folder made in it is ours alone, with mode 0700
_ANSWER_BYTES_MAX = 16 * 2**20  # templates and special tokens of large vocabularies


@dataclass(frozen=True, slots=True)
class Order:
    """What the child is told to do. `window` tokens a sequence, `slots` sequences, `threads`; 0 means choose.
    `snapshots` is the folder for the states of slots; without one none are written."""

    model: str
    socket: str
    secret: str
    parent_pid: int
    window: int
    slots: int
    threads: int
    snapshots: str | None


class EngineLoadError(RuntimeError):
    """The weights cannot be served; the text says why and names the file (for the operator, not for clients)."""


@dataclass(frozen=True, slots=True)
class LlamaCppSettings:
    """One set of weights. 0 means choose: window and threads by the file and machine, slots by the memory.
    `snapshots` is a folder that exists and is this engine's own; without one it writes none."""

    model: Path
    window: int = 0
    slots: int = 0
    threads: int = 0
    load_timeout_s: float = 600.0
    stall_timeout_s: float = 30.0
    snapshots: Path | None = None


class EngineProcess:
    """A running child. `socket` and `secret` are how to reach it; both are of this child alone."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, secret: str) -> None:
        self._process = process
        self._folder = folder
        self.socket = str(folder / "e.sock")  # llama.cpp takes a name with this ending for a Unix socket
        self.secret = secret
        self.weights: Weights
        self.slots: int
        self.identity: str
        self.state_bytes_per_token: int

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, settings: LlamaCppSettings) -> "EngineProcess":
        """A child that serves; `EngineLoadError` if it does not come to that."""
        _sweep()
        folder = _runtime_folder()
        secret = secrets.token_urlsafe(24)
        with (folder / "engine.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "sestet.engines.llamacpp.child",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=_ANSWER_BYTES_MAX,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us: we drain first
            )
        child = cls(process, folder, secret)
        try:
            await child._handshake(settings)
        except BaseException:
            await child.kill()
            raise
        return child

    async def exited(self) -> int:
        """Waits for the child's end; its exit status, negative for a signal."""
        return await self._process.wait()

    def signal_kill(self) -> None:
        """Asks for the child's end without waiting for it."""
        if self._process.returncode is None:
            self._process.kill()

    async def kill(self) -> None:
        """Ends the child now and removes what it left. May be called twice."""
        self.signal_kill()
        await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _handshake(self, settings: LlamaCppSettings) -> None:
        order = Order(
            model=str(settings.model),
            socket=self.socket,
            secret=self.secret,
            parent_pid=os.getpid(),
            window=settings.window,
            slots=settings.slots,
            threads=settings.threads,
            snapshots=str(settings.snapshots) if settings.snapshots else None,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        try:
            async with asyncio.timeout(settings.load_timeout_s):
                await self._process.stdin.drain()
                line = await self._process.stdout.readuntil(b"\n")
        except TimeoutError:
            raise EngineLoadError(f"{settings.model}: not loaded within {settings.load_timeout_s:g} s") from None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            status = await self.exited()
            raise EngineLoadError(f"{settings.model}: the engine died while loading it (status {status})") from None
        answer = json.loads(line)
        if "error" in answer:
            raise EngineLoadError(f"{settings.model}: {answer['error']}")
        self.slots = answer["slots"]
        self.identity = answer["identity"]
        self.state_bytes_per_token = answer["facts"]["kv_bytes_per_token"]
        self.adds_space: bool = answer["facts"]["adds_space"]
        self.weights = _weights(answer["facts"], answer["window"])


def _weights(facts: Mapping[str, Any], window: int) -> Weights:
    return Weights(
        window=window,
        chat_template=facts["chat_template"],
        bos_token=facts["bos_token"],
        eos_token=facts["eos_token"],
        special_tokens=tuple(facts["special_tokens"]),
        token_characters_max=facts["token_characters_max"],
    )


def _environment() -> dict[str, str]:
    """Ours without our own settings, some of which are secrets. A child that fails ends at once: ggml would have a
    debugger look at it first."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SESTET_")}
    return ours | {"GGML_NO_BACKTRACE": "1"}


def _runtime_folder() -> Path:
    """A folder of ours alone. The name of a Unix socket has 107 bytes at most, so a deep TMPDIR cannot hold it."""
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) > _SOCKET_BASE_BYTES_MAX:
        base = _SHORT_BASE
    return Path(tempfile.mkdtemp(prefix=f"{_RUNTIME_PREFIX}{os.getpid()}-", dir=base))


def _sweep() -> None:
    """Removes what servers that were killed could not."""
    for base in {tempfile.gettempdir(), _SHORT_BASE}:
        for folder in Path(base).glob(f"{_RUNTIME_PREFIX}*"):
            owner = folder.name.removeprefix(_RUNTIME_PREFIX).partition("-")[0]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(folder, ignore_errors=True)
