"""The port on llama.cpp: token ids in, deltas out, over the child's private socket.

Only the fields written here ever reach the child, and only as numbers: a client's text arrives as token ids.
The child is replaced when it dies or stops making progress; a reply it was giving ends with an error, and
requests that had not begun wait for the next child. What its slots hold is known here, and every request says which
of them it is for: left to choose, llama.cpp would look for the best one whoever's it is.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import orjson

from sestet.contract.deltas import Held, Weights
from sestet.contract.errors import ApiError, invalid
from sestet.engines.llamacpp.process import EngineLoadError, EngineProcess, LlamaCppSettings
from sestet.engines.llamacpp.slot import LlamaCppSlot
from sestet.engines.slots import Places

# A crash loop: this many deaths within this time, and clients are told to come back later instead of waiting.
DEATHS_MAX = 5
DEATHS_WITHIN_S = 60.0
BACKOFF_MAX_S = 30.0
PATIENCE_S = 15.0  # how long a request waits for a child that is being replaced
PROBE_EVERY_S = 5.0
PIECES_MAX = 200_000  # eight seconds of the child's time
_CONNECT_TIMEOUT_S = 5.0
_DEATH_SEEN_S = 0.1  # until a child's end is known here
_TOKENIZE_TIMEOUT_S = 120.0
_BETWEEN_PIECES = -1  # a number among texts passes through /tokenize; no token has this one
_STATE_BYTES_BESIDE_KV = 32  # the token, its position

_Result = TypeVar("_Result")

Report = Callable[[str, dict[str, object]], None]


class LlamaCppEngine:
    """Use `start` once, then the port of services/ports.py, then `stop`. `report` hears of deaths and restarts."""

    def __init__(self, settings: LlamaCppSettings, report: Report) -> None:
        self._settings = settings
        self.report = report
        self._child: EngineProcess | None = None
        self._session: aiohttp.ClientSession | None = None
        self._up = asyncio.Event()
        self._known = asyncio.Event()  # whether there is a child, or none to be waited for
        self._deaths: list[float] = []
        self._generating = 0
        self._progress_at = 0.0
        self._stalled = False
        self._tasks: list[asyncio.Task[None]] = []
        self.places = Places(0)
        self._actions: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Loads the weights; `EngineLoadError` if they cannot be served."""
        await self._bring_up()
        # The next children get what the first one chose, so that the numbers of the slots stay good.
        self._settings = replace(self._settings, slots=self._slots)
        self.places = Places(self._slots)
        self._free = asyncio.Semaphore(self._slots)
        self._tasks = [asyncio.create_task(self._supervise()), asyncio.create_task(self._probe())]

    async def stop(self) -> None:
        tasks = [*self._tasks, *self._actions]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._take_down()

    @property
    def weights(self) -> Weights:
        return self._weights

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def enforces_grammars(self) -> bool:
        return True

    @property
    def ready(self) -> bool:
        return self._up.is_set()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def snapshot_bytes_per_token(self) -> int:
        return self._state_bytes_per_token + _STATE_BYTES_BESIDE_KV if self._settings.snapshots else 0

    async def encode(self, pieces: Sequence[str], *, begins: bool = True) -> list[tuple[int, ...]]:
        if not pieces:
            return []
        # The first stands for itself: it alone may get the token that begins a text.
        distinct = dict.fromkeys(pieces[1:])
        if len(distinct) >= PIECES_MAX:
            raise invalid(f"the prompt has more than {PIECES_MAX} different pieces", "messages")
        # Where the tokenizer begins every text with a space, one that goes on is given after a line end.
        before = "\n" if self._adds_space else ""
        content: list[str | int] = [pieces[0] if begins else before + pieces[0]]
        for piece in (before, *(before + piece for piece in distinct)):
            content += (_BETWEEN_PIECES, piece)
        first_adds_bos = begins and not pieces[0].startswith(self.weights.bos_token or "\0")
        body = orjson.dumps({"content": content, "add_special": first_adds_bos, "parse_special": True})
        timeout = aiohttp.ClientTimeout(total=_TOKENIZE_TIMEOUT_S)
        async with self.translated(), await self.post("tokenize", body, timeout=timeout) as answer:
            first, line_end, *others = _split(orjson.loads(await answer.read())["tokens"])
        extra = len(line_end)
        tokens = dict(zip(distinct, (one[extra:] for one in others), strict=True))
        return [first if begins else first[extra:], *(tokens[piece] for piece in pieces[1:])]

    @asynccontextmanager
    async def slot(
        self, tenant: str, prompt: tuple[int, ...], held: Held | None = None
    ) -> AsyncGenerator[LlamaCppSlot, None]:
        if held is not None and (not self._settings.snapshots or held.tokens > len(prompt)):
            held = None
        await self._free.acquire()
        number = self.places.take(tenant, prompt, held.tokens if held else None)
        slot = LlamaCppSlot(self, number, tenant)
        try:
            if held and self.places.usable(number, tenant, prompt) < held.tokens:
                await slot.restore(prompt, held)
            slot.reused = self.places.usable(number, tenant, prompt)
            yield slot
        finally:
            slot.leave()
            if slot.acting is None:
                self._give_back(number)
            else:
                slot.acting.add_done_callback(lambda _: self._give_back(number))

    def _give_back(self, number: int) -> None:
        self.places.give_back(number)
        self._free.release()

    # What its slots need of it.

    def snapshot_file(self, name: str) -> Path:
        assert self._settings.snapshots is not None
        return self._settings.snapshots / name

    def begin(self, action: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.create_task(action)
        self._actions.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, action: asyncio.Task[Any]) -> None:
        self._actions.discard(action)
        if not action.cancelled():
            action.exception()  # whoever waited was told; nobody may have

    async def post(
        self, path: str, body: bytes, *, timeout: aiohttp.ClientTimeout | None = None, may_ask_again: bool = True
    ) -> aiohttp.ClientResponse:
        """The child's answer. A child that cannot be reached has done nothing yet, so the next one is asked. One that
        dies before it says a word gets the request once more, in case the request was only waiting."""
        while True:
            session = await self._ready_session()
            try:
                answer = await session.post(f"http://engine/{path}", data=body, timeout=timeout or session.timeout)
            except aiohttp.ClientConnectorError:
                self._kill()
                continue
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                if not may_ask_again:
                    raise
                may_ask_again = False
                await asyncio.sleep(_DEATH_SEEN_S)
                continue
            if answer.status != 200:
                answer.close()
                raise ApiError("api_error", f"the engine refused the request ({answer.status})")
            return answer

    async def _ready_session(self) -> aiohttp.ClientSession:
        if not self._up.is_set():
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._known.wait()
            except TimeoutError:
                raise ApiError("overloaded_error", "the model is being restarted", retry_after_s=PATIENCE_S) from None
        if not self._up.is_set():
            raise ApiError(
                "overloaded_error", "the model is unavailable; it keeps failing", retry_after_s=BACKOFF_MAX_S
            )
        assert self._session is not None
        return self._session

    @asynccontextmanager
    async def progressing(self) -> AsyncIterator[Callable[[], None]]:
        """Around a generation: calling what it yields says that the engine got on. One engine serves all its
        streams in turn, so any one's progress is every one's."""

        def progressed() -> None:
            self._progress_at = loop.time()

        loop = asyncio.get_running_loop()
        if self._generating == 0:
            progressed()
        self._generating += 1
        try:
            yield progressed
        finally:
            self._generating -= 1

    @asynccontextmanager
    async def translated(self) -> AsyncIterator[None]:
        """Around every use of the link, iteration included: foreign errors become the contract's."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            if self._stalled:
                raise ApiError("api_error", "the engine made no progress and was restarted") from None
            self.report("engine_link_failed", {"error": type(error).__name__})
            raise ApiError("api_error", "the engine stopped while it was answering") from None

    async def _bring_up(self) -> None:
        child = await EngineProcess.start(self._settings)
        self._child = child
        self._weights = child.weights
        self._slots = child.slots
        self._identity = child.identity
        self._state_bytes_per_token = child.state_bytes_per_token
        self._adds_space = child.adds_space
        self._session = aiohttp.ClientSession(
            # A connection for each request: closing it is how a request is cancelled, and only that request.
            connector=aiohttp.UnixConnector(child.socket, force_close=True, limit=0),
            headers={"Authorization": f"Bearer {child.secret}", "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            trust_env=False,
        )
        self._stalled = False
        self._up.set()
        self._known.set()

    async def _take_down(self) -> None:
        self._up.clear()
        self._known.clear()
        self.places.forget()
        if self._session is not None:
            await self._session.close()
        if self._child is not None:
            await self._child.kill()

    def _kill(self) -> None:
        """Only asks for the end; `_supervise` sees it come and cleans up."""
        self._up.clear()
        self._known.clear()
        if self._child is not None:
            self._child.signal_kill()

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            assert self._child is not None
            status = await self._child.exited()
            await self._take_down()
            while not self._up.is_set():
                now = loop.time()
                self._deaths = [at for at in self._deaths if now - at < DEATHS_WITHIN_S] + [now]
                delay_s = _backoff_s(len(self._deaths))
                if len(self._deaths) >= DEATHS_MAX:
                    self._known.set()
                self.report("engine_died", {"status": status, "restart_in_s": delay_s})
                await asyncio.sleep(delay_s)
                try:
                    await self._bring_up()
                    self.report("engine_restarted", {"pid": self.pid})
                except EngineLoadError as error:
                    self.report("engine_load_failed", {"error": str(error)})

    async def _probe(self) -> None:
        """A busy engine that hangs shows it by replies without progress, an idle one by not answering."""
        stall_timeout_s = self._settings.stall_timeout_s
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(PROBE_EVERY_S, stall_timeout_s / 4))
            if not self._up.is_set():
                continue
            if self._generating:
                hangs = loop.time() - self._progress_at > stall_timeout_s
            else:
                hangs = not await self._answers(stall_timeout_s)
            if hangs and self._up.is_set():
                self.report("engine_stalled", {"stall_timeout_s": stall_timeout_s})
                self._stalled = True
                self._kill()

    async def _answers(self, timeout_s: float) -> bool:
        assert self._session is not None
        try:
            async with self._session.get("http://engine/health", timeout=aiohttp.ClientTimeout(total=timeout_s)):
                return True
        except TimeoutError:
            return False
        except aiohttp.ClientError:  # dead rather than hanging: `_supervise` knows
            return True


def _backoff_s(deaths: int) -> float:
    """The first two restarts are at once; then twice as long each time."""
    return 0.0 if deaths <= 2 else min(BACKOFF_MAX_S, 0.5 * 2.0 ** (deaths - 2))


def _split(tokens: list[int]) -> Iterator[tuple[int, ...]]:
    """The tokens between the marks."""
    start = 0
    while True:
        try:
            end = tokens.index(_BETWEEN_PIECES, start)
        except ValueError:
            yield tuple(tokens[start:])
            return
        yield tuple(tokens[start:end])
        start = end + 1
