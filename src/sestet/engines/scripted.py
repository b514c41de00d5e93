"""The scripted engine: says what a script tells it, at the pace and with the faults the script asks for.

Deterministic and shipped: tests, benchmarks and people who build clients use it. One token is one character of
the prompt, so counts can be checked by hand and every prompt it was sent can be read back.
"""

import asyncio
import tomllib
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sestet.contract.deltas import Delta, Finished, Generation, Held, Text, Weights
from sestet.contract.errors import ApiError
from sestet.engines.slots import Places
from sestet.turn.stops import StopMatcher

# Without a pace, others get to run after so many tokens, as they do between a real engine's batches.
TOKENS_AT_ONCE = 8

RECORDS_MAX = 256

Then = Literal["end", "hang", "crash", "error", "stop_short"]

OPEN, CLOSE = "<think>\n", "</think>"  # as in this engine's row of profiles.toml
_ASSISTANT = "<|im_start|>assistant\n"

CHAT_TEMPLATE = (
    "{# the scripted engine #}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class ScriptedReply(BaseModel):
    """One reply, taken when the prompt contains `when`. Each string of `say` is one token.

    Where the prompt begins a thought, the tokens of `think` come first, then the tag that ends it unless
    `ends_thought` is false: then the turn ends in the middle of the thought. Where the prompt goes on in the middle of
    this reply, so does the reply.

    `then` is what follows the last token: a normal `end`, a `hang` without progress, a `crash` of the engine
    (every open reply fails and it is away for `restart_s`), an `error`, or `stop_short`: silence without an end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: str = ""
    say: list[str] = Field(default_factory=list)
    repeat: int = Field(default=1, ge=0)
    think: list[str] = Field(default_factory=list)
    think_repeat: int = Field(default=1, ge=0)
    ends_thought: bool = True
    delay_s: float = Field(default=0.0, ge=0)
    tokens_per_s: float | None = Field(default=None, gt=0)
    then: Then = "end"


DEFAULT_REPLY = ScriptedReply(say=["This", " is", " the", " scripted", " engine", "."])


class Script(BaseModel):
    """Replies in order of precedence; the first whose `when` occurs in the prompt is said.

    Tokens of a prompt that are not in the slot already are computed at `prefill_tokens_per_s`, without one in no time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: int = Field(default=200_000, ge=2)
    slots: int = Field(default=256, ge=1)
    restart_s: float = Field(default=0.2, ge=0)
    stall_timeout_s: float = Field(default=30.0, gt=0)
    prefill_tokens_per_s: float | None = Field(default=None, gt=0)
    snapshot_bytes_per_token: int = Field(default=4, ge=4)
    reply: list[ScriptedReply] = Field(default_factory=lambda: [DEFAULT_REPLY])


class ScriptError(ValueError):
    """The script file cannot be used; the text names the field."""


def read_script(path: Path) -> Script:
    """The script in a TOML file."""
    try:
        return Script.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise ScriptError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ScriptError(f"{path}: it is not valid TOML ({error})") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ScriptError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


@dataclass(slots=True)
class Record:
    """What the engine was sent, for whom, and how it went: tokens of the prompt that its slot had `reused` when it was
    given, tokens `said`, and whether the caller `closed` it early."""

    job: Generation
    prompt: str
    tenant: str
    reused: int
    said: int = 0
    closed: bool = False


class ScriptedEngine:
    """An engine of the port in services/ports.py. `records` holds what it was sent last. `snapshots` is a folder that
    exists and is its own; without one it writes none."""

    def __init__(self, script: Script | None = None, snapshots: Path | None = None) -> None:
        self.script = script or Script()
        self.records: deque[Record] = deque(maxlen=RECORDS_MAX)
        self.running = 0
        self.places = Places(self.script.slots)
        self.crashes = 0
        self._snapshots = snapshots
        self._free = asyncio.Semaphore(self.script.slots)
        self._down_until = 0.0

    @property
    def weights(self) -> Weights:
        return Weights(
            window=self.script.window,
            chat_template=CHAT_TEMPLATE,
            bos_token="<|im_start|>",  # noqa: S106 - a token of the vocabulary, not of anybody's session
            eos_token="<|im_end|>",  # noqa: S106 - as above
            special_tokens=("<|im_start|>", "<|im_end|>"),
            token_characters_max=1,
        )

    @property
    def slots(self) -> int:
        return self.script.slots

    @property
    def enforces_grammars(self) -> bool:
        return False

    @property
    def ready(self) -> bool:
        return asyncio.get_running_loop().time() >= self._down_until

    @property
    def identity(self) -> str:
        return "scripted"

    @property
    def snapshot_bytes_per_token(self) -> int:
        return self.script.snapshot_bytes_per_token if self._snapshots else 0

    async def encode(self, pieces: Sequence[str], *, begins: bool = True) -> list[tuple[int, ...]]:
        return [tuple(map(ord, piece)) for piece in pieces]

    @asynccontextmanager
    async def slot(
        self, tenant: str, prompt: tuple[int, ...], held: Held | None = None
    ) -> AsyncGenerator["ScriptedSlot", None]:
        async with self._free:
            number = self.places.take(tenant, prompt, held.tokens if held else None)
            slot = ScriptedSlot(self, number, tenant)
            try:
                if held and self.places.usable(number, tenant, prompt) < held.tokens <= len(prompt):
                    await self._restore(number, tenant, prompt[: held.tokens], held)
                slot.reused = self.places.usable(number, tenant, prompt)
                yield slot
            finally:
                self.places.give_back(number)

    def save(self, prompt: tuple[int, ...], name: str) -> int:
        """The state of this prompt as a file; its size, 0 where it cannot be written."""
        if self._snapshots is None:
            return 0
        with suppress(OSError):
            return (self._snapshots / name).write_bytes(self._state(prompt))
        with suppress(OSError):
            (self._snapshots / name).unlink()
        return 0

    async def _restore(self, number: int, tenant: str, tokens: tuple[int, ...], held: Held) -> None:
        if self._snapshots is None or not await held.is_genuine():
            return
        with suppress(OSError):
            if (self._snapshots / held.name).read_bytes().startswith(array("I", tokens).tobytes()):
                self.places[number].holds(tenant, tokens)

    def _state(self, prompt: tuple[int, ...]) -> bytes:
        return array("I", prompt).tobytes().ljust(len(prompt) * self.script.snapshot_bytes_per_token, b"\0")

    def reply_to(self, prompt: str) -> ScriptedReply:
        return next((reply for reply in self.script.reply if reply.when in prompt), DEFAULT_REPLY)

    def crash(self) -> None:
        """Every open reply fails, what was computed is lost, and the engine is away for a while."""
        self.crashes += 1
        self.places.forget()
        self._down_until = asyncio.get_running_loop().time() + self.script.restart_s


class ScriptedSlot:
    """The port's `Slot`."""

    def __init__(self, engine: ScriptedEngine, number: int, tenant: str) -> None:
        self.reused = 0
        self._engine = engine
        self._number = number
        self._tenant = tenant

    async def snapshot(self, prompt: tuple[int, ...], name: str) -> int:
        self._check_ready()
        await self._read(prompt)
        return self._engine.save(prompt, name)

    async def generate(self, job: Generation) -> AsyncGenerator[Delta, None]:
        engine = self._engine
        self._check_ready()
        record = Record(job, "".join(map(chr, job.prompt)), self._tenant, self.reused)
        engine.records.append(record)
        engine.running += 1
        crashes_before = engine.crashes
        try:
            await self._read(job.prompt)
            async with aclosing(self._play(engine.reply_to(record.prompt), job, record)) as deltas:
                async for delta in deltas:
                    if engine.crashes != crashes_before:
                        raise _died()
                    yield delta
        except (GeneratorExit, asyncio.CancelledError):
            record.closed = True
            raise
        finally:
            engine.running -= 1

    def _check_ready(self) -> None:
        if not self._engine.ready:
            retry_after_s = self._engine.script.restart_s
            raise ApiError("overloaded_error", "the engine is restarting", retry_after_s=retry_after_s)

    async def _read(self, prompt: tuple[int, ...]) -> None:
        """Computes what of the prompt is not there."""
        engine = self._engine
        place = engine.places[self._number]
        found = engine.places.usable(self._number, self._tenant, prompt)
        place.holds(self._tenant, prompt[:found])
        if engine.script.prefill_tokens_per_s:
            await asyncio.sleep((len(prompt) - found) / engine.script.prefill_tokens_per_s)
        place.holds(self._tenant, prompt)

    async def _play(self, reply: ScriptedReply, job: Generation, record: Record) -> AsyncGenerator[Delta, None]:
        pause_s = 1 / reply.tokens_per_s if reply.tokens_per_s else 0.0
        if reply.delay_s:
            await asyncio.sleep(reply.delay_s)
        due = asyncio.get_running_loop().time()
        stops = StopMatcher(job.stop)
        for token in _tokens(reply, record.prompt):
            if record.said == job.max_tokens:
                break
            if pause_s:
                due += pause_s
                await asyncio.sleep(due - asyncio.get_running_loop().time())
            elif record.said % TOKENS_AT_ONCE == 0:
                await asyncio.sleep(0)
            record.said += 1
            if job.stop:
                released = stops.feed(token)
                if released.text:
                    yield Text(released.text, record.said)
                if released.stop_sequence is not None:
                    yield Finished("stop", record.said)
                    return
            else:
                yield Text(token, record.said, tuple(map(ord, token)) if job.keep_tokens else ())
        if held := stops.flush():
            yield Text(held, record.said)
        if record.said == job.max_tokens:
            yield Finished("length", record.said)
            return
        await self._then(reply.then)
        if reply.then == "end":
            yield Finished("end", record.said)

    async def _then(self, then: Then) -> None:
        match then:
            case "hang":
                await asyncio.sleep(self._engine.script.stall_timeout_s)
                raise ApiError("api_error", "the engine made no progress and was restarted")
            case "crash":
                self._engine.crash()
                raise _died()
            case "error":
                raise ApiError("api_error", "the engine failed")
            case "end" | "stop_short":
                pass


def _tokens(reply: ScriptedReply, prompt: str) -> Iterator[str]:
    """What is still to be said after this prompt."""
    begun = prompt.rpartition(_ASSISTANT)[2]
    say = chain.from_iterable(repeat(reply.say, reply.repeat))
    if not begun.startswith(OPEN):
        return say
    thought, closed, answer = begun.removeprefix(OPEN).partition(CLOSE)
    if closed:
        return _after(answer.lstrip(), say)
    think = chain.from_iterable(repeat(reply.think, reply.think_repeat))
    return _after(thought, chain(think, (f"\n{CLOSE}\n\n",), say) if reply.ends_thought else think)


def _after(said: str, tokens: Iterator[str]) -> Iterator[str]:
    """The tokens that follow what was said of them already."""
    begun = False
    for token in tokens:
        shown = token if begun else token.lstrip()  # white space at the beginning may be left out of a prompt
        begun = begun or bool(shown)
        if said and said.startswith(shown):
            said = said[len(shown) :]
        else:
            yield token
            said = ""


def _died() -> ApiError:
    return ApiError("api_error", "the engine stopped while it was answering")
