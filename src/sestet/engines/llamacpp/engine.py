"""The port on llama.cpp: token ids in, deltas out, over the child's private socket.

Only the fields written here ever reach the child, and only as numbers: a client's text arrives as token ids.
The child is replaced when it dies or stops making progress; a reply it was giving ends with an error, and
requests that had not begun wait for the next child.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import orjson

from sestet.contract.deltas import Delta, Finished, FinishReason, Generation, Text, Weights
from sestet.contract.errors import ApiError, invalid
from sestet.engines.llamacpp.process import EngineLoadError, EngineProcess, LlamaCppSettings

# A crash loop: this many deaths within this time, and clients are told to come back later instead of waiting.
DEATHS_MAX = 5
DEATHS_WITHIN_S = 60.0
BACKOFF_MAX_S = 30.0
PATIENCE_S = 15.0  # how long a request waits for a child that is being replaced
PROBE_EVERY_S = 5.0
PIECES_MAX = 10_000
_CONNECT_TIMEOUT_S = 5.0
_DEATH_SEEN_S = 0.1  # until a child's end is known here
_TOKENIZE_TIMEOUT_S = 120.0

Report = Callable[[str, dict[str, object]], None]


class LlamaCppEngine:
    """Use `start` once, then the port of services/ports.py, then `stop`. `report` hears of deaths and restarts."""

    def __init__(self, settings: LlamaCppSettings, report: Report) -> None:
        self._settings = settings
        self._report = report
        self._child: EngineProcess | None = None
        self._session: aiohttp.ClientSession | None = None
        self._up = asyncio.Event()
        self._known = asyncio.Event()  # whether there is a child, or none to be waited for
        self._deaths: list[float] = []
        self._generating = 0
        self._progress_at = 0.0
        self._stalled = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Loads the weights; `EngineLoadError` if they cannot be served."""
        await self._bring_up()
        self._tasks = [asyncio.create_task(self._supervise()), asyncio.create_task(self._probe())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
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

    async def encode(self, pieces: Sequence[str], *, begins: bool = True) -> tuple[int, ...]:
        distinct = dict.fromkeys(pieces)
        if len(distinct) > PIECES_MAX:
            raise invalid(f"the text spells control tokens more than {PIECES_MAX} times", "messages")
        first_adds_bos = begins and not pieces[0].startswith(self.weights.bos_token or "\0")
        tokens = {
            piece: await self._tokenize(piece, add_special=first_adds_bos and position == 0)
            for position, piece in enumerate(distinct)
        }
        return tuple(token for piece in pieces for token in tokens[piece])

    async def generate(self, job: Generation) -> AsyncGenerator[Delta, None]:
        body: dict[str, Any] = {
            "prompt": job.prompt,
            "n_predict": job.max_tokens,
            "temperature": job.sampling.temperature,
            "top_p": job.sampling.top_p,
            "top_k": job.sampling.top_k,
            "min_p": 0.0,
            "samplers": ["top_k", "top_p", "temperature"],
            "stream": True,
            "cache_prompt": True,
            "return_progress": True,
            "return_tokens": job.keep_tokens,
            "preserved_tokens": job.shown,
            "logit_bias": [(token, False) for token in job.forbidden],
            "stop": job.stop,
        }
        if job.grammar is not None:
            body["grammar"] = job.grammar
        async with (
            self._translated(),
            await self._post("completion", orjson.dumps(body)) as answer,
            self._progressing() as progressed,
        ):
            buffer = b""
            drawn = 0
            async for chunk in answer.content.iter_any():
                progressed()
                *frames, buffer = (buffer + chunk).split(b"\n\n")
                for frame in frames:
                    delta = _delta(frame, job)
                    if job.max_tokens == 0:
                        # The child draws one token even when asked for none; the prompt is read, nothing is said.
                        delta = Finished("length", 0) if isinstance(delta, Finished) else None
                    if isinstance(delta, Text):
                        if len(delta.tokens) != delta.output_tokens - drawn:
                            # Tokens that did not yet make a whole character went by unseen.
                            delta = Text(delta.text, delta.output_tokens)
                        drawn = delta.output_tokens
                    if delta is not None:
                        yield delta

    async def _tokenize(self, text: str, *, add_special: bool) -> list[int]:
        body = orjson.dumps({"content": text, "add_special": add_special, "parse_special": True})
        timeout = aiohttp.ClientTimeout(total=_TOKENIZE_TIMEOUT_S)
        async with self._translated(), await self._post("tokenize", body, timeout) as answer:
            tokens: list[int] = orjson.loads(await answer.read())["tokens"]
            return tokens

    async def _post(
        self, path: str, body: bytes, timeout: aiohttp.ClientTimeout | None = None
    ) -> aiohttp.ClientResponse:
        """The child's answer. A child that cannot be reached has done nothing yet, so the next one is asked. One that
        dies before it says a word gets the request once more, in case the request was only waiting."""
        may_ask_again = True
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
    async def _progressing(self) -> AsyncIterator[Callable[[], None]]:
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
    async def _translated(self) -> AsyncIterator[None]:
        """Around every use of the link, iteration included: foreign errors become the contract's."""
        try:
            yield
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            if self._stalled:
                raise ApiError("api_error", "the engine made no progress and was restarted") from None
            self._report("engine_link_failed", {"error": type(error).__name__})
            raise ApiError("api_error", "the engine stopped while it was answering") from None

    async def _bring_up(self) -> None:
        child = await EngineProcess.start(self._settings)
        self._child = child
        self._weights = child.weights
        self._slots = child.slots
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
                self._report("engine_died", {"status": status, "restart_in_s": delay_s})
                await asyncio.sleep(delay_s)
                try:
                    await self._bring_up()
                    self._report("engine_restarted", {"pid": self.pid})
                except EngineLoadError as error:
                    self._report("engine_load_failed", {"error": str(error)})

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
                self._report("engine_stalled", {"stall_timeout_s": stall_timeout_s})
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


_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {"eos": "end", "limit": "length", "word": "stop"}


def _delta(frame: bytes, job: Generation) -> Delta | None:
    """The fact in one server-sent event of the child, if it tells one."""
    if not frame.startswith(b"data: "):
        if frame.startswith(b"error: "):
            raise ApiError("api_error", "the engine failed")
        return None
    data = orjson.loads(frame[6:])
    if data.get("stop"):
        return Finished(_FINISH_REASONS[data["stop_type"]], data["tokens_predicted"])
    if not data.get("content"):  # progress through the prompt
        return None
    # The child writes U+FFFD for bytes that are no UTF-8; the model did not say that, unless a grammar had it to.
    content = data["content"] if job.grammar is not None else data["content"].replace("\ufffd", "")
    return Text(content, data["tokens_predicted"], tuple(data["tokens"]))
