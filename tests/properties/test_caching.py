"""Random conversations against an exact model of the rules of prompt caching, with a clock of our own: the four numbers
of every reply's usage are what the model says (WIRE.md section 2.8)."""

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sestet.catalog.card import profiles
from sestet.contract.events import Usage
from sestet.contract.requests import MessagesRequest
from sestet.contract.versions import OLDEST
from sestet.gate.keys import Caller
from sestet.services.caching import Clock
from sestet.services.messages import Call
from sestet.store.snapshots import SnapshotFolder
from tests.lengths import length
from tests.unit.in_process import House, Keeping, house

CONVERSATIONS = length(200, 1_000)
MODELS = {"scripted-20260101": 64, "claude-3-7-sonnet-20250219": 1_024}
SYNTAX = next(row for row in profiles() if row.name == "scripted").tools
WORDS = ("alpha ", "beta ", "gamma ", "delta ")


@dataclass(frozen=True)
class Block:
    """Of one request: where it stands, its text as the model reads it, and its breakpoint."""

    level: str
    role: str
    text: str
    lifetime: str | None


@dataclass
class Exact:
    """The rules, as plainly as they can be written: what is cached is known by its content."""

    entries: dict[tuple[Any, ...], tuple[int, float]] = field(default_factory=dict)  # lifetime, expiry

    def ask(self, owner: tuple[str, str], blocks: Sequence[Block], settings: str, now: float) -> Usage:
        minimum = MODELS[owner[1]]
        ends, total = positions(blocks)
        keys = [(owner, content(blocks[: at + 1], settings)) for at in range(len(blocks))]
        live = [key in self.entries and now < self.entries[key][1] for key in keys]
        marked = [at for at, block in enumerate(blocks) if block.lifetime and ends[at] >= minimum]
        reachable = {at - back for at in marked for back in range(20)}
        hit = max((at for at in reachable if at >= 0 and live[at]), default=-1)
        read = ends[hit] if hit >= 0 else 0
        for at in range(hit + 1):
            if live[at]:
                self.entries[keys[at]] = (self.entries[keys[at]][0], now + self.entries[keys[at]][0])
        hour = max([ends[at] for at in marked if at > hit and blocks[at].lifetime == "1h"], default=read)
        last = max([ends[at] for at in marked if at > hit], default=read)
        for at in marked:
            if at > hit:
                seconds = 3600 if blocks[at].lifetime == "1h" else 300
                self.entries[keys[at]] = (seconds, now + seconds)
        return Usage(total - last, 0, last - hour, hour - read, read)


def content(blocks: Sequence[Block], settings: str) -> tuple[Any, ...]:
    said = tuple((block.level, block.role, block.text) for block in blocks)
    return (said, settings) if blocks[-1].level == "messages" else (said,)


def positions(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """Where each block ends, and the length of the prompt, in characters: the scripted engine's tokens."""
    text, ends, role, level = "", [], "", ""
    before, _, after = SYNTAX.instruction.partition("{tools}")
    for block in blocks:
        if block.level == "messages":
            text += after if level == "tools" else ""
            text += ("<|im_end|>\n" if role else "") + f"<|im_start|>{block.role}\n" if block.role != role else "\n"
        elif not role:
            text += "<|im_start|>system\n" + (before if block.level == "tools" else "")
        elif block.level != level:
            text += after + "\n\n"
        else:
            text += "\n"
        text += block.text
        ends.append(len(text))
        role, level = block.role, block.level
    return ends, len(text) + len("<|im_end|>\n<|im_start|>assistant\n")


class Conversation:
    """Grows turn by turn; where the breakpoints are changes from request to request, as agents do it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.owner = (chance.choice(("wrkspc_a", "wrkspc_b")), chance.choice(list(MODELS)))
        self.tools = [f"tool_{at}" for at in range(chance.choice((0, 0, 1, 3)))]
        self.system = [self._text(chance.choice((1, 20, 60))) for _ in range(chance.choice((0, 1, 2)))]
        self.messages: list[tuple[str, list[str]]] = []

    def turn(self) -> None:
        if self.messages:
            self.messages.append(("assistant", [self._text(2)]))
        blocks = self.chance.choice((1, 1, 2, 3, 25))
        self.messages.append(("user", [self._text(self.chance.choice((1, 3, 30))) for _ in range(blocks)]))

    def request(self) -> tuple[dict[str, Any], list[Block], str]:
        """The body, and the same for the model."""
        count = len(self.tools) + len(self.system) + sum(len(texts) for _, texts in self.messages)
        lifetimes: list[str | None] = [None] * count
        places = sorted(self.chance.sample(range(count), min(count, self.chance.choice((0, 1, 1, 2, 3, 4)))))
        if self.chance.random() < 0.6:
            places = sorted({*places[:3], count - 1})
        hours = self.chance.choice((0, 0, 1, 4))
        for number, at in enumerate(places):
            lifetimes[at] = "1h" if number < hours else "5m"
        automatic = None
        if lifetimes[-1] is not None and self.chance.random() < 0.5:
            automatic = lifetimes[-1]  # given at the top instead of at the last block
        marks = iter(lifetimes)
        blocks: list[Block] = []
        settings = self.chance.choice(("", "", "", "none")) if self.tools else ""

        def of(level: str, role: str, text: str) -> dict[str, Any]:
            lifetime = next(marks)
            blocks.append(Block(level, role, text, lifetime))
            if lifetime is None or (automatic and len(blocks) == count):
                return {}
            return {"cache_control": control(lifetime)}

        body: dict[str, Any] = {"model": self.owner[1], "max_tokens": 1}
        if self.tools:
            body["tools"] = [
                {"name": name, "input_schema": {"type": "object"}, **of("tools", "system", described(name))}
                for name in self.tools
            ]
        if self.system:
            body["system"] = [{"type": "text", "text": text, **of("system", "system", text)} for text in self.system]
        body["messages"] = [
            {"role": role, "content": [{"type": "text", "text": text, **of("messages", role, text)} for text in texts]}
            for role, texts in self.messages
        ]
        if automatic:
            body["cache_control"] = control(automatic)
        if settings:
            body["tool_choice"] = {"type": settings}
        return body, blocks, settings

    def _text(self, words: int) -> str:
        return (self.chance.choice(WORDS) * words).strip() + self.chance.choice(("", "!"))


def described(name: str) -> str:
    function = {"name": name, "description": "", "parameters": {"type": "object"}}
    return json.dumps({"type": "function", "function": function})


def control(lifetime: str) -> dict[str, str]:
    return {"type": "ephemeral", "ttl": "1h"} if lifetime == "1h" else {"type": "ephemeral"}


@dataclass
class Time:
    now: float = 1_000.0

    def clock(self) -> Clock:
        """A wall clock that goes with the monotonic one."""
        return Clock(lambda: self.now, lambda: round(self.now * 1e6))


async def usage(of: House, body: dict[str, Any], workspace: str, number: int) -> Usage:
    caller = Caller("key", workspace, frozenset(("inference",)))
    call = Call(f"req_{number}", f"msg_{number}", caller, OLDEST, frozenset(), lambda: "toolu_x")
    reply = await of.messages.reply(MessagesRequest.model_validate(body), call)
    async for _ in reply.events:
        pass
    return of.ledger.settled[-1].usage


def conversations(seed: int) -> Iterator[Conversation]:
    chance = random.Random(seed)
    pool = [Conversation(chance) for _ in range(6)]
    for _ in range(CONVERSATIONS // 4):
        pool[chance.randrange(len(pool))] = Conversation(chance)
        yield from chance.sample(pool, 4)


@pytest.mark.parametrize("seed", [1])
def test_usage_is_what_the_rules_say(seed: int, tmp_path: Path) -> None:
    asyncio.run(_compare(seed, tmp_path))


async def _compare(seed: int, tmp_path: Path) -> None:
    time, exact, chance = Time(), Exact(), random.Random(seed)
    differences: list[tuple[int, Usage, Usage]] = []
    number = read = 0
    of: House | None = None
    folder = SnapshotFolder.open(tmp_path)
    for conversation in conversations(seed):
        if number % (CONVERSATIONS // 2) == 0:  # a server that starts again knows what the one before it knew
            if of is not None:
                await stop(of)
            of = await start(folder, time)
        assert of is not None
        for _ in range(chance.choice((1, 2, 3))):
            conversation.turn()
            body, blocks, settings = conversation.request()
            expected = exact.ask(conversation.owner, blocks, settings, time.now)
            found = await usage(of, body, conversation.owner[0], number)
            if expected != replaced(found):
                differences.append((number, expected, found))
            number += 1
            read += expected.cache_read_input_tokens > 0
            time.now += chance.choice((0.0, 1.0, 40.0, 40.0, 299.9, 300.0, 1_800.0, 3_600.0))
    assert of is not None
    await stop(of)
    folder.close()

    assert [] == differences[:3]
    assert number > CONVERSATIONS
    assert read > number / 10, "most of what is compared would be zeros"


def replaced(found: Usage) -> Usage:
    return Usage(found.input_tokens, 0, found.cache_creation_5m, found.cache_creation_1h, found.cache_read_input_tokens)


async def start(folder: SnapshotFolder, time: Time) -> House:
    of = house(keeps=Keeping(folder, time.clock()))
    assert of.served.cache is not None
    await of.served.cache.start()
    return of


async def stop(of: House) -> None:
    assert of.served.cache is not None
    await of.served.cache.stop()
