"""One request's slot of llama.cpp: what is asked of it, and what is then known to be in it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import aiohttp
import orjson

from sestet.contract.deltas import Delta, Finished, FinishReason, Generation, Held, Text
from sestet.contract.errors import ApiError
from sestet.engines.slots import Places

_Result = TypeVar("_Result")


class Link(Protocol):
    """The child as a slot needs it; `LlamaCppEngine` has one for every slot."""

    @property
    def places(self) -> Places: ...

    def snapshot_file(self, name: str) -> Path: ...

    def report(self, event: str, facts: dict[str, object]) -> None: ...

    def begin(self, action: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """The action as a task that is kept until it is done."""
        ...

    async def post(self, path: str, body: bytes, *, may_ask_again: bool = True) -> aiohttp.ClientResponse: ...

    def translated(self) -> AbstractAsyncContextManager[None]: ...

    def progressing(self) -> AbstractAsyncContextManager[Callable[[], None]]: ...


class LlamaCppSlot:
    """The port's `Slot`. `acting` is the save or restore that is under way."""

    def __init__(self, link: Link, number: int, tenant: str) -> None:
        self.reused = 0
        self.acting: asyncio.Task[Any] | None = None
        self._link = link
        self._number = number
        self._tenant = tenant
        self._answer: aiohttp.ClientResponse | None = None
        self._left = False

    def leave(self) -> None:
        """Ends what is still being computed."""
        self._left = True
        if self._answer is not None:
            self._answer.close()

    async def restore(self, prompt: tuple[int, ...], held: Held) -> None:
        """Puts there what is held of this prompt, if it can be used."""
        await self._act(self._restore(prompt, held))

    async def snapshot(self, prompt: tuple[int, ...], name: str) -> int:
        place = self._link.places[self._number]
        if not (place.ends_there and place.tenant == self._tenant and place.tokens == prompt):
            async with aclosing(self._complete(prompt, {"n_predict": 0})) as frames:
                async for _ in frames:
                    pass
        try:
            return await self._act(self._save(prompt, name))
        except asyncio.CancelledError:
            # Nobody knows of the file that is still being written.
            if self.acting is not None:
                self.acting.add_done_callback(lambda _: self._remove(name))
            raise

    async def generate(self, job: Generation) -> AsyncGenerator[Delta, None]:
        body: dict[str, Any] = {
            "n_predict": job.max_tokens,
            "temperature": job.sampling.temperature,
            "top_p": job.sampling.top_p,
            "top_k": job.sampling.top_k,
            "min_p": 0.0,
            "samplers": ["top_k", "top_p", "temperature"],
            "return_tokens": job.keep_tokens,
            "preserved_tokens": job.shown,
            "logit_bias": [(token, False) for token in job.forbidden],
            "stop": job.stop,
        }
        if job.grammar is not None:
            body["grammar"] = job.grammar
        drawn = 0
        async with aclosing(self._complete(job.prompt, body)) as frames:
            async for frame in frames:
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

    async def _complete(self, prompt: tuple[int, ...], options: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """What the child says of a completion, event by event. Whoever stops reading stops the child."""
        places = self._link.places
        place = places[self._number]
        found = places.usable(self._number, self._tenant, prompt)
        is_ours = place.tenant == self._tenant
        # What is surely there if the child is never heard of this. A state of another's stays nobody's until the
        # child says that it began: only then it is gone.
        place.holds(self._tenant if is_ours else None, prompt[:found])
        body = options | {
            "prompt": prompt,
            "id_slot": self._number,
            "cache_prompt": is_ours,
            "stream": True,
            "return_progress": True,
        }
        computed: int | None = None
        try:
            async with (
                self._link.translated(),
                await self._link.post("completion", orjson.dumps(body)) as answer,
                self._link.progressing() as progressed,
            ):
                self._answer = answer
                buffer = b""
                async for chunk in answer.content.iter_any():
                    progressed()
                    *frames, buffer = (buffer + chunk).split(b"\n\n")
                    for data in _events(frames):
                        if progress := data.get("prompt_progress"):
                            if computed is None and progress["cache"] < found - (found == len(prompt)):
                                self._missed(found, progress["cache"], by_this_child=places[self._number] is place)
                            computed = progress["processed"]
                        yield data
        except Exception:
            computed = None
            place.forget()
            raise
        finally:
            if computed is not None and not self._left:
                is_all = options["n_predict"] == 0 and computed == len(prompt)
                place.holds(self._tenant, prompt[:computed], ends_there=is_all)

    def _missed(self, promised: int, reused: int, *, by_this_child: bool) -> None:
        """Weights with sliding windows or with a state that recurs cannot drop a state's end."""
        self.reused = min(self.reused, reused)
        if by_this_child and self._link.places.cuts:
            self._link.places.cuts = False
            self._link.report("prefix_not_reused", {"promised": promised, "reused": reused})

    async def _act(self, action: Coroutine[Any, Any, _Result]) -> _Result:
        """Done to its end even where the caller is cancelled: late, it would be done to another's state."""
        self.acting = self._link.begin(action)
        result: _Result = await asyncio.shield(self.acting)
        self.acting = None
        return result

    async def _restore(self, prompt: tuple[int, ...], held: Held) -> None:
        # llama.cpp ends its process over a file that lacks its last bytes.
        if not await held.is_genuine():
            return
        place = self._link.places[self._number]
        place.forget()
        try:
            restored = (await self._ask("restore", held.name))["n_restored"]
        except ApiError as error:
            if error.kind == "overloaded_error":  # there was no child to refuse it
                raise
            restored = 0
        if restored < held.tokens:
            self._link.report("snapshot_not_restored", {"tokens": held.tokens, "restored": restored})
        else:
            place.holds(self._tenant, prompt[: held.tokens], ends_there=restored == held.tokens)

    async def _save(self, tokens: tuple[int, ...], name: str) -> int:
        try:
            saved = await self._ask("save", name)
            size = self._link.snapshot_file(name).stat().st_size
            if (len(tokens), size) == (saved["n_saved"], saved["n_written"]):
                return size
            reason = f"{saved['n_saved']} of {len(tokens)} tokens in {size} of {saved['n_written']} bytes"
        except (ApiError, OSError) as error:
            reason = str(error)
        self._remove(name)
        self._link.report("snapshot_not_written", {"error": reason})
        return 0

    async def _ask(self, action: str, name: str) -> dict[str, Any]:
        path = f"slots/{self._number}?action={action}"
        body = orjson.dumps({"filename": name})
        # A child that died of it is not asked again.
        async with (
            self._link.translated(),
            self._link.progressing(),
            await self._link.post(path, body, may_ask_again=False) as answer,
        ):
            done: dict[str, Any] = orjson.loads(await answer.read())
            return done

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            self._link.snapshot_file(name).unlink()


_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {"eos": "end", "limit": "length", "word": "stop"}


def _events(frames: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """The server-sent events of the child that tell something."""
    for frame in frames:
        if frame.startswith(b"data: "):
            yield orjson.loads(frame[6:])
        elif frame.startswith(b"error: "):
            raise ApiError("api_error", "the engine failed")


def _delta(data: Mapping[str, Any], job: Generation) -> Delta | None:
    """The fact in one event of the child, if it is one for the job."""
    if data.get("stop"):
        return Finished(_FINISH_REASONS[data["stop_type"]], data["tokens_predicted"])
    if not data.get("content"):  # progress through the prompt
        return None
    # The child writes U+FFFD for bytes that are no UTF-8; the model did not say that, unless a grammar had it to.
    content = data["content"] if job.grammar is not None else data["content"].replace("\ufffd", "")
    return Text(content, data["tokens_predicted"], tuple(data["tokens"]))
