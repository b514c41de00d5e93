"""A thought's budget is kept to the token, whatever a model says and however it cuts its words.

What must come out is computed here from the whole text of a script at once, by rules of this file alone: the code
under test reads the same text piece by piece.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from itertools import chain, islice, pairwise, repeat
from pathlib import Path
from random import Random
from typing import Any, get_args

import httpx2
import pytest

from sestet.catalog.card import Card, profile_for, profiles
from sestet.catalog.catalog import Catalog, Route
from sestet.contract.deltas import Delta, Finished, FinishReason, Generation, Sampling, Text
from sestet.contract.events import BlockDelta, BlockSignature, BlockStart, Event, MessageDelta, MessageStart, Usage
from sestet.contract.requests import Effort, MessagesRequest
from sestet.contract.thinking import ThinkingTags, ThinkingType
from sestet.contract.versions import OLDEST
from sestet.engines.scripted import CHAT_TEMPLATE, Script, ScriptedEngine, ScriptedReply, read_script
from sestet.gate.keys import ANYONE
from sestet.services.admission import Admission
from sestet.services.concurrency import Concurrency
from sestet.services.grammars import Grammars
from sestet.services.messages import Accounts, Call, Messages, Thoughts
from sestet.services.ports import Engine
from sestet.services.quotas import Quotas
from sestet.services.served import INTERLEAVED_BETA, Served
from sestet.services.thinking import Thinker, think
from sestet.turn.assemble import Assembler
from sestet.turn.fold import fold
from sestet.turn.render import Style
from sestet.turn.seals import Opened, Owner, Seals, Verdict
from sestet.turn.template import ChatTemplate
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.thoughts import ThoughtPolicy
from tests.lengths import length
from tests.properties.test_stop_sequences import cut, oracle
from tests.properties.test_streams import check_grammar
from tests.running import RunningServer, start_server
from tests.unit.in_process import NOBODY, NOW_US, Ledger

ID = "scripted-20260101"
PROMPT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n"
OPEN, CLOSE, CLOSING = "<think>", "</think>", "\n</think>\n\n"
BATCHES, BATCH = length(5, 20), 100

SEALS = Seals([b"the secret of these generated cases"])
OWNER = Owner(ID, "wrkspc_default")

# No answer of the scripted engine holds a `<`, so that it is known when its text is let go. Thoughts hold all of them.
WORDS = ("a", "b", "STOP", "ST", "OP", " ", "\n", "é", "\U0001f389", "\U0001d518", "Wait, ", "no")
THOUGHTS = (*WORDS, "<", "</", "</think", "</thin", "<think>", "think>", "<think>\n", "\t", "\u3000")
STOPS = ("STOP", "a", "b\n", "\U0001f389", "</think>", "think", "<think>", "\n\nno", "é\U0001d518", "no", "<", "OPa")

Block = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """A reply of the scripted engine, and how it is asked for. `room` is how much the window holds after the prompt
    and the tag that may have to be written; `fluent` means that the thought's own tokens hold tag and answer too."""

    seed: int
    reply: ScriptedReply
    fluent: bool
    budget: int
    max_tokens: int
    room: int
    stops: tuple[str, ...]
    display: str
    redact: bool

    @property
    def allowed(self) -> int:
        return min(self.max_tokens, self.room)

    @property
    def cap(self) -> int:
        """The thought's part of what may be drawn: all of the budget, or as much less as the window is too small."""
        return int(Fraction(self.budget, self.max_tokens) * self.allowed)

    def first(self) -> list[str]:
        """The tokens the engine has for a prompt that ends where the thought begins; one more than it may draw."""
        reply = self.reply
        thought = chain.from_iterable(repeat(reply.think, reply.think_repeat))
        rest = [CLOSING, *self.answer()] if reply.ends_thought else []
        return list(islice(chain(thought, rest), self.cap + 1))

    def answer(self) -> list[str]:
        return list(chain.from_iterable(repeat(self.reply.say, self.reply.repeat)))

    def request(self, **fields: Any) -> dict[str, Any]:
        return {
            "model": ID,
            "max_tokens": self.max_tokens,
            "messages": [{"role": "user", "content": "hi"}],
            "thinking": {"type": "enabled", "budget_tokens": self.budget, "display": self.display},
            "stop_sequences": list(self.stops),
            **fields,
        }


@dataclass(frozen=True, slots=True)
class Told:
    """What must come out: the blocks, why it ended, the tokens, and the prompt of the second generation if any."""

    blocks: list[Block]
    stop_reason: str
    stop_sequence: str | None
    thinking_tokens: int
    output_tokens: int
    second: str | None


def text(random: Random, pieces: Sequence[str], longest: int) -> str:
    return "".join(random.choices(pieces, k=random.randint(0, longest)))


def tokens(random: Random, text: str) -> list[str]:
    """The text cut anywhere, now and then with tokens that show nothing."""
    return cut(text, [random.randrange(1_000) for _ in range(random.randint(0, max(1, len(text))))])


def unclosed(thought: str) -> str:
    """The thought without tags that would end it before its case says so."""
    while CLOSE in thought:
        thought = thought.replace(CLOSE, "</think")
    return thought


def case(seed: int) -> Case:
    random = Random(seed)
    thought = unclosed(text(random, THOUGHTS, 14))
    answer = text(random, WORDS, 12).lstrip()
    say = [token for token in tokens(random, answer) if token]  # a prompt does not show that nothing was said
    kind = random.choices(("own tag", "fluent", "turn ends", "empty", "never ends"), (30, 40, 12, 8, 10))[0]
    match kind:
        case "own tag":
            reply = ScriptedReply(think=tokens(random, thought), say=say)
        case "fluent":
            whole = thought + random.choice(("", "\n", " \n\n")) + CLOSE + random.choice(("", "\n\n", " ")) + answer
            reply = ScriptedReply(think=tokens(random, whole), ends_thought=False, say=list(answer))
        case "turn ends":
            reply = ScriptedReply(think=tokens(random, thought), ends_thought=False, say=say)
        case "empty":
            reply = ScriptedReply(think=["\n"] * random.randint(0, 2), say=say)
        case _:
            endless = tokens(random, thought.replace(">", "") + ".")
            reply = ScriptedReply(think=endless, think_repeat=20_000, say=say)
    budget = 1_024 + random.choice((0, 0, 1, 2, random.randint(0, 300), random.randint(0, 100_000)))
    max_tokens = budget + random.choice((1, 1, 2, 3, random.randint(1, 60), random.randint(1, 20_000)))
    # Windows that end near the end of what is said, and for thoughts without an end such that are not too large.
    near = random.randint(1, len(reply.think) + 2)
    largest = 1_500 if kind == "never ends" else 200_000
    room = random.choice((1, 2, 3, near, near, near, random.randint(1, largest), max_tokens, max_tokens))
    return Case(
        seed=seed,
        reply=reply,
        fluent=kind == "fluent",
        budget=budget,
        max_tokens=max_tokens,
        room=room,
        stops=tuple(dict.fromkeys(random.choices(STOPS, k=random.choice((0, 0, 1, 2, 4))))),
        display=random.choice(("summarized", "summarized", "omitted")),
        redact=random.random() < 0.15,
    )


def begun_tag(said: str) -> str:
    """The longest end of what was said that the closing tag begins with."""
    return next(CLOSE[:size] for size in range(len(CLOSE) - 1, -1, -1) if said.endswith(CLOSE[:size]))


def told(case: Case) -> Told:
    """The reply to a case, from its whole text."""
    available = case.first()
    first = available[: case.cap]
    said = "".join(first)
    ended = len(available) < case.cap  # an engine that drew all it may says so, and not that the turn is over
    place = said.find(CLOSE)
    if place >= 0:
        thought, after = said[:place], said[place + len(CLOSE) :]
        thinking = next(drawn for drawn in range(len(first) + 1) if CLOSE in "".join(first[:drawn]))
        beginning = "".join(first[:thinking])[place + len(CLOSE) :]
        drawn = [beginning, *first[thinking:]]
        closing = ""
        # A fluent case says its answer letter by letter when it is asked to go on.
        more = case.reply.say[len(after.lstrip()) :] if case.fluent else available_after(case)
    else:
        begun = begun_tag(said)
        thought, thinking = said.removesuffix(begun), len(first)
        drawn = [""]
        closing = f"{CLOSE}\n\n"[len(begun) :] if begun else CLOSING
        more = case.answer()
    goes_on = place < 0 or not ended
    left = case.allowed - len(first)
    more = more if goes_on else []
    drawn = [*drawn, *more[:left]]
    stop_reason = "end_turn" if not goes_on or len(more) < left else length_reason(case)
    answer, stop = oracle("".join(drawn).lstrip(), case.stops)
    if stop is not None:
        stop_reason = "stop_sequence"
        enough = next(
            count for count in range(len(drawn)) if oracle("".join(drawn[: count + 1]).lstrip(), case.stops)[1]
        )
        drawn = drawn[: enough + 1]
    output = thinking + len(drawn) - 1
    second = PROMPT + said + closing if goes_on and (stop is None or output > len(first)) else None
    blocks = [("thinking", thought.strip()), ("text", answer)]
    return Told([block for block in blocks if block[1]], stop_reason, stop, thinking, output, second)


def available_after(case: Case) -> list[str]:
    """The tokens after the first generation's, where the script writes its own tag."""
    reply = case.reply
    every = list(islice(chain.from_iterable(repeat(reply.think, reply.think_repeat)), case.cap + 1))
    return [*every, CLOSING, *case.answer()][case.cap :]


def length_reason(case: Case) -> str:
    return "max_tokens" if case.allowed == case.max_tokens else "model_context_window_exceeded"


PROFILE = profile_for(CHAT_TEMPLATE, profiles())
WEIGHTS = ScriptedEngine().weights
TEMPLATE = ChatTemplate(WEIGHTS)
THINKER = asyncio.run(Thinker.of(ThinkingStyle.found(PROFILE.thinking, TEMPLATE), ScriptedEngine()))
CARD = Card(
    ID,
    "Scripted engine",
    date(2026, 1, 1),
    10_000_000,
    10_000_000,
    thinking=frozenset(get_args(ThinkingType)),
    efforts=frozenset(get_args(Effort)),
)
CATALOG = Catalog([Route(CARD, ID, CARD.display_name)])


def messages(engine: Engine, *, redact: bool = False) -> Messages:
    served = Served(ID, engine, TEMPLATE, PROFILE, THINKER, Style(THINKER.style, PROFILE.tools), Admission(1, 1))
    quotas = Quotas(NOBODY, str, lambda: NOW_US)
    accounts = Accounts(quotas, Concurrency(), Ledger(), lambda: NOW_US)
    return Messages(CATALOG, {ID: served}, accounts, Thoughts(SEALS, ThoughtPolicy(), redact), Grammars(str))


async def events(service: Messages, request: dict[str, Any], *betas: str) -> list[Event]:
    call = Call("req_1", "msg_1", ANYONE, OLDEST, frozenset(betas), "toolu_1".__str__)
    reply = await service.reply(MessagesRequest.model_validate(request), call)
    return [event async for event in reply.events]


def check_thoughts(stream: Sequence[Event], shown: str) -> list[Block]:
    """The blocks, thoughts read. Each is told as its display asks, with one seal that proves exactly its text."""
    blocks: list[Block] = []
    message = fold(stream)
    starts = [event for event in stream if isinstance(event, BlockStart)]
    for start, block in zip(starts, message.content, strict=True):
        deltas = [event for event in stream if isinstance(event, BlockDelta) and event.index == start.index]
        seals = [event for event in stream if isinstance(event, BlockSignature) and event.index == start.index]
        if block.kind == "text":
            assert [] == seals
            blocks.append(("text", block.text))
            continue
        opened = SEALS.open(OWNER, block.data, block.text if block.kind == "thinking" else None)

        assert (Verdict.GENUINE, start.index) == (opened.verdict, opened.index)
        assert {"redacted": "redacted_thinking"}.get(shown, "thinking") == block.kind
        assert {"redacted": 0}.get(shown, 1) == len(seals)
        assert (shown == "summarized") == bool(deltas)
        assert ("" if shown != "summarized" else opened.text) == block.text
        assert not is_genuine(block.data, opened.text + " ", shown)
        blocks.append(("thinking", opened.text))
    return blocks


def is_genuine(seal: str, text: str, shown: str) -> bool:
    """Whether the seal proves this text. One that encloses its text proves that one, whatever it came with."""
    opened: Opened = SEALS.open(OWNER, seal, text)
    return opened.verdict is Verdict.GENUINE and opened.text == text


def check_case(case: Case) -> None:
    engine = ScriptedEngine(Script(window=len(PROMPT) + len(CLOSING) + case.room, reply=[case.reply]))
    stream = asyncio.run(events(messages(engine, redact=case.redact), case.request()))
    expected = told(case)
    check_grammar(stream)
    blocks = check_thoughts(stream, "redacted" if case.redact else case.display)
    message = fold(stream)
    usage = message.usage
    first, *others = engine.records

    assert expected.blocks == blocks
    assert (expected.stop_reason, expected.stop_sequence) == (message.stop_reason, message.stop_sequence)
    assert Usage(len(PROMPT), expected.output_tokens, thinking_tokens=expected.thinking_tokens) == usage
    assert case.cap == first.job.max_tokens
    assert PROMPT == first.prompt
    assert [expected.second] * (expected.second is not None) == [record.prompt for record in others]
    # The promises, said once more without the oracle.
    assert usage.thinking_tokens <= case.cap <= case.budget
    assert usage.output_tokens <= case.allowed <= case.max_tokens
    assert usage.output_tokens == sum(record.said for record in engine.records)
    assert is_answered(case, blocks, message.stop_sequence) or usage.thinking_tokens < usage.output_tokens
    assert not any(CLOSE in text for _, text in blocks)
    assert all(
        record.job.max_tokens + sum(one.said for one in islice(engine.records, position)) <= case.allowed
        for position, record in enumerate(engine.records)
    )


def is_answered(case: Case, blocks: Sequence[Block], stop_sequence: str | None) -> bool:
    """Whether something was said after the thought, or there was nothing to say. The token that ends a thought may
    hold some of the answer too."""
    return stop_sequence is not None or any(kind == "text" for kind, _ in blocks) or not case.answer()


@pytest.mark.parametrize("batch", range(BATCHES))
def test_the_budget_is_kept_and_the_answer_follows(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        one = case(seed)
        try:
            check_case(one)
        except AssertionError as failure:
            raise AssertionError(f"{one}\n{told(one)}") from failure


def test_the_cases_are_as_hostile_as_they_should_be() -> None:
    """Each kind of trouble is tried often enough to mean something."""
    cases = [case(seed) for seed in range(BATCHES * BATCH)]
    replies = [told(case) for case in cases]
    forced = [
        (case, reply)
        for case, reply in zip(cases, replies, strict=True)
        if reply.second and reply.second.endswith("\n\n")
    ]
    counts = {
        "the thought was closed for the model": len(forced),
        "in the middle of the tag": sum(not reply.second.endswith(CLOSING) for _, reply in forced if reply.second),
        "the budget was used up": sum(reply.thinking_tokens == case.cap >= 1_024 for case, reply in forced),
        "the window was too small": sum(case.cap < case.budget for case in cases),
        "room for a single token": sum(case.room == 1 for case in cases),
        "a stop sequence in the thought": sum(
            any(stop in text for kind, text in reply.blocks if kind == "thinking" for stop in case.stops)
            for case, reply in zip(cases, replies, strict=True)
        ),
        "a stop sequence in the answer": sum(reply.stop_sequence is not None for reply in replies),
        "no thought": sum(all(kind != "thinking" for kind, _ in reply.blocks) for reply in replies),
        "beyond the BMP": sum(
            any(ord(letter) > 0xFFFF for _, text in reply.blocks for letter in text) for reply in replies
        ),
        "the budget ended inside the answer": sum(
            reply.second is not None and CLOSE in reply.second and case.fluent and case.cap > reply.thinking_tokens
            for case, reply in zip(cases, replies, strict=True)
        ),
    }

    assert [] == [(name, count) for name, count in counts.items() if count < BATCHES * 5 // 4]


# What follows is said by an engine that does not care what it is sent, so that it can say anything at all.


@dataclass
class TwoSpeeches:
    """An engine that says `first` and then `second`. It may not know its tokens. `jobs` is what it was sent."""

    first: list[str]
    second: list[str]
    knows_tokens: bool
    jobs: list[Generation]
    closed: int = 0

    reused = 0

    async def encode(self, pieces: Sequence[str], *, begins: bool = True) -> list[tuple[int, ...]]:
        return [tuple(map(ord, piece)) for piece in pieces]

    async def snapshot(self, prompt: tuple[int, ...], name: str) -> int:
        raise NotImplementedError

    async def generate(self, job: Generation) -> AsyncGenerator[Delta, None]:
        self.jobs.append(job)
        speech = (self.first, self.second)[len(self.jobs) - 1]
        try:
            reason: FinishReason = "end" if len(speech) < job.max_tokens else "length"
            drawn = 0
            for drawn, token in enumerate(speech[: job.max_tokens], start=1):
                # A token that shows nothing goes by unseen, and its count comes with the next.
                if token:
                    yield Text(token, drawn, tuple(map(ord, token)) if self.knows_tokens else ())
            yield Finished(reason, drawn)
        finally:
            self.closed += 1


def spoken(first: list[str], second: list[str], stops: Sequence[str], reason: FinishReason) -> tuple[list[Block], bool]:
    """The blocks of two speeches, the second of which is all answer; and whether the thought had to be closed."""
    blocks: list[Block] = []

    def add(kind: str, text: str) -> None:
        if text and blocks and blocks[-1][0] == kind:
            blocks[-1] = (kind, blocks[-1][1] + text)
        elif text:
            blocks.append((kind, text))

    kind, left = "thinking", "".join(first)
    while (place := left.find(CLOSE if kind == "thinking" else OPEN)) >= 0:
        here, tag = left[:place], CLOSE if kind == "thinking" else OPEN
        add(kind, here.strip() if kind == "thinking" else here.lstrip())
        kind, left = ("text" if kind == "thinking" else "thinking"), left[place + len(tag) :]
    if kind == "thinking":
        add(kind, left.removesuffix(begun_tag(left)).strip())
        add("text", "".join(second).lstrip())
        return cut_at_stop(blocks, stops), True
    add(kind, (left + ("".join(second) if reason == "length" else "")).lstrip())
    return cut_at_stop(blocks, stops), False


def cut_at_stop(blocks: Sequence[Block], stops: Sequence[str]) -> list[Block]:
    kept: list[Block] = []
    for kind, text in blocks:
        answer, stop = oracle(text, stops) if kind == "text" else (text, None)
        kept += [(kind, answer)] if answer else []
        if stop is not None:
            break
    return kept


@pytest.mark.parametrize("batch", range(10))
def test_a_second_thought_in_the_answer_is_a_thought_too(batch: int) -> None:
    pieces = (*WORDS, CLOSE, OPEN, OPEN, "<", "<thi", "</", "x", "y")
    for seed in range(batch * 60, (batch + 1) * 60):
        random = Random(f"again {seed}")
        first, second = tokens(random, text(random, pieces, 20)), tokens(random, text(random, pieces, 6))
        stops = random.sample(STOPS, random.choice((0, 1, 3)))
        budget = random.randint(1, len(first) + 3)
        engine = TwoSpeeches(first, second, random.random() < 0.7, [])
        stream = asyncio.run(assembled(engine, budget, budget + len(second) + 2, stops))
        reason: FinishReason = "end" if len(first) < budget else "length"
        expected, was_closed = spoken(first[:budget], second, stops, reason)
        usage = fold(stream).usage
        check_grammar(stream)

        assert expected == check_thoughts(stream, "summarized"), (seed, first, second, stops)
        assert usage.thinking_tokens <= budget
        assert usage.output_tokens <= budget + len(second) + 2
        assert engine.closed == len(engine.jobs) <= 2
        said = PROMPT + "".join(first[:budget])
        closing = f"{CLOSE}\n\n"[len(begun_tag(said)) :] if begun_tag(said) else CLOSING
        assert [PROMPT, said + closing * was_closed][: len(engine.jobs)] == [
            "".join(map(chr, job.prompt)) for job in engine.jobs
        ]


async def assembled(engine: Engine, budget: int, max_tokens: int, stops: Sequence[str]) -> list[Event]:
    """The events of a thought and its answer, as the service puts them together."""
    job = Generation("req_1", tuple(map(ord, PROMPT)), max_tokens, Sampling(1.0, 1.0, 0))
    assembler = Assembler(
        Usage(len(PROMPT)),
        stops,
        "max_tokens",
        "summarized",
        lambda index, text: SEALS.sign(OWNER, "msg_1", index, text),
    )
    told: list[Event] = [assembler.start("msg_1", ID)]
    deltas = think(engine, engine, THINKER, job, budget)
    async for delta in deltas:
        told += assembler.feed(delta)
        if assembler.finished:
            break
    await deltas.aclose()
    return told


def test_text_that_a_stop_sequence_held_back_stays_before_the_thought_that_follows_it() -> None:
    first = ["x", CLOSE, "one ST", OPEN, "y", CLOSE, "two"]
    stream = asyncio.run(assembled(TwoSpeeches(first, [], True, []), 100, 200, ["STOP"]))
    blocks = check_thoughts(stream, "summarized")

    assert [("thinking", "x"), ("text", "one ST"), ("thinking", "y"), ("text", "two")] == blocks


def test_a_stop_sequence_is_not_put_together_from_two_answers() -> None:
    first = ["x", CLOSE, "one ST", OPEN, "y", CLOSE, "OP two"]
    stream = asyncio.run(assembled(TwoSpeeches(first, [], True, []), 100, 200, ["STOP"]))

    assert ("end_turn", None) == (fold(stream).stop_reason, fold(stream).stop_sequence)


@dataclass
class TagsAreTokens:
    """An engine whose tags are single tokens, as those of weights that were trained to think: it draws what it wants to
    say, except forbidden tokens, in whose place it goes on with the next."""

    wants: list[str]
    jobs: list[Generation]

    reused = 0
    vocabulary = (OPEN, CLOSE, "x", "y", "\n", "\n\n")

    async def encode(self, pieces: Sequence[str], *, begins: bool = True) -> list[tuple[int, ...]]:
        return [self._tokens(piece) for piece in pieces]

    async def snapshot(self, prompt: tuple[int, ...], name: str) -> int:
        raise NotImplementedError

    def _tokens(self, text: str) -> tuple[int, ...]:
        found = []
        while text:
            token = next((word for word in self.vocabulary if text.startswith(word)), text[0])
            found.append(self._id(token))
            text = text[len(token) :]
        return tuple(found)

    def _id(self, token: str) -> int:
        return self.vocabulary.index(token) if token in self.vocabulary else 1_000 + ord(token)

    async def generate(self, job: Generation) -> AsyncGenerator[Delta, None]:
        self.jobs.append(job)
        drawn = 0
        while self.wants and drawn < job.max_tokens:
            token = self.wants.pop(0)
            if self._id(token) not in job.forbidden:
                drawn += 1
                yield Text(token, drawn, (self._id(token),) if job.keep_tokens else ())
        yield Finished("length" if drawn == job.max_tokens else "end", drawn)


NATIVE = ThinkingTags(open="<think>\n", close=CLOSE, closing=CLOSING, forbidden=(OPEN, CLOSE))


async def natively(wants: list[str], budget: int, max_tokens: int) -> tuple[list[Block], Usage, list[Generation]]:
    engine = TagsAreTokens(wants, [])
    thinker = await Thinker.of(ThinkingStyle(NATIVE, "<think>\n", ""), engine)
    job = Generation("req_1", (7,), max_tokens, Sampling(1.0, 1.0, 0), thinker.forbidden)
    assembler = Assembler(Usage(1), (), "max_tokens", "summarized", lambda index, _text: f"seal {index}")
    told: list[Event] = [assembler.start("msg_1", ID)]
    async for delta in think(engine, engine, thinker, job, budget):
        told += assembler.feed(delta)
    message = fold(told)
    return [(block.kind, block.text) for block in message.content], message.usage, engine.jobs


def test_weights_whose_tag_is_a_token_may_draw_it_to_end_their_thought() -> None:
    wants = ["x", "\n", CLOSE, "\n\n", "y"]
    blocks, usage, jobs = asyncio.run(natively(wants, budget=100, max_tokens=200))

    assert [("thinking", "x"), ("text", "y")] == blocks
    assert (5, 3, 1) == (usage.output_tokens, usage.thinking_tokens, len(jobs))


def test_no_thought_is_begun_in_an_answer_that_follows_a_thought_closed_for_the_model() -> None:
    wants = ["x", "x", "x", "y", OPEN, "y", CLOSE, "y"]
    blocks, usage, jobs = asyncio.run(natively(wants, budget=3, max_tokens=200))

    assert [("thinking", "xxx"), ("text", "yyy")] == blocks
    assert (6, 3) == (usage.output_tokens, usage.thinking_tokens)
    assert [set(), {0, 1}] == [
        set(job.forbidden) & {1} if at == 0 else set(job.forbidden) for at, job in enumerate(jobs)
    ]


# The forms of the request that do not name a budget below `max_tokens`.


def answered(fields: dict[str, Any], room: int, *betas: str) -> tuple[Usage, str]:
    reply = ScriptedReply(think=["hm "], think_repeat=100_000, say=["yes"] * 50)
    engine = ScriptedEngine(Script(window=len(PROMPT) + len(CLOSING) + room, reply=[reply]))
    request = {"model": ID, "messages": [{"role": "user", "content": "hi"}], **fields}
    message = fold(asyncio.run(events(messages(engine), request, *betas)))
    return message.usage, "".join(block.text for block in message.content if block.kind == "text")


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 5, 7, 8, 100, 1_023, 1_024])
@pytest.mark.parametrize("room", [1, 2, 3, 100, 2_000])
@pytest.mark.parametrize("asked", ["low", "max", None, 1_024, 100_000])
def test_a_budget_that_leaves_no_room_for_the_answer_leaves_some(
    asked: str | int | None, max_tokens: int, room: int
) -> None:
    adaptive = {"thinking": {"type": "adaptive"}, "output_config": {"effort": asked}}
    enabled = {"thinking": {"type": "enabled", "budget_tokens": asked}}
    fields = {**(enabled if isinstance(asked, int) else adaptive), "max_tokens": max_tokens}
    usage, answer = answered(fields, room, INTERLEAVED_BETA)

    assert usage.output_tokens <= min(max_tokens, room)
    assert usage.thinking_tokens < usage.output_tokens
    assert "yes" == answer[:3]


def test_prompt_thought_tag_and_answer_fit_the_window_together() -> None:
    for room in (1, 2, 10, 500, 1_500, 3_000):
        reply = ScriptedReply(think=["h"], think_repeat=100_000, say=["y"] * 5_000)
        window = len(PROMPT) + len(CLOSING) + room
        engine = ScriptedEngine(Script(window=window, reply=[reply]))
        one = case(0)
        asyncio.run(events(messages(engine), {**one.request(), "max_tokens": 2_000, "stop_sequences": []}))

        assert [True, True] == [len(record.job.prompt) + record.job.max_tokens <= window for record in engine.records]


# The same over HTTP, with the bytes of the stream read here.

HTTP_CASES = 40
HTTP_WINDOW = 8_000


def served_case(number: int) -> tuple[Case, str]:
    """A case whose window is the server's, and the text that makes the prompt as long as its room asks."""
    at = number
    while True:
        one = case(50_000 + at)
        name = f"case {number:02}."
        filler = HTTP_WINDOW - len(PROMPT) - len(CLOSING) - one.room + len("hi") - len(name)
        if (
            filler >= 0
            and not one.redact
            and one.max_tokens <= HTTP_WINDOW
            and "\u3000" not in "".join(one.reply.think)
        ):
            return one, name + "x" * filler
        at += HTTP_CASES


def toml(reply: ScriptedReply, name: str) -> str:
    """A reply in a script; JSON without its escapes for what is not ASCII is TOML here."""
    fields = {"when": name, **reply.model_dump(exclude_defaults=True)}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "[[reply]]\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    replies = [toml(served_case(number)[0].reply, f"case {number:02}.") for number in range(HTTP_CASES)]
    running = start_server(tmp_path_factory.mktemp("thinking"), script=f"window = {HTTP_WINDOW}\n" + "".join(replies))
    yield running
    running.stop()


def read_stream(raw: bytes) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Blocks, last delta and usage of a stream's bytes. Anything out of order fails."""
    assert raw.endswith(b"\n\n")
    frames = [frame.split(b"\n") for frame in raw[:-2].split(b"\n\n")]
    assert all(2 == len(frame) and frame[0].startswith(b"event: ") for frame in frames), raw
    datas = [json.loads(frame[1].removeprefix(b"data: ")) for frame in frames]
    assert [frame[0].removeprefix(b"event: ").decode() for frame in frames] == [data["type"] for data in datas]
    datas = [data for data in datas if data != {"type": "ping"}]  # they come in silence, between any two
    assert ("message_start", "message_delta", "message_stop") == (
        datas[0]["type"],
        datas[-2]["type"],
        datas[-1]["type"],
    )
    blocks: list[dict[str, Any]] = []
    for before, data in pairwise(datas[:-2]):
        match data["type"]:
            case "content_block_start":
                assert before["type"] in ("message_start", "content_block_stop")
                blocks.append(dict(data["content_block"]))
            case "content_block_delta":
                assert before["type"] in ("content_block_start", "content_block_delta")
                delta = data["delta"]
                key = delta["type"].removesuffix("_delta")
                assert delta[key]
                assert key != "signature" or not blocks[-1]["signature"], "a thought is signed once"
                assert key == "signature" or not blocks[-1].get("signature"), "the signature comes last"
                blocks[-1][key] += delta[key]
            case "content_block_stop":
                assert blocks[-1].get("signature", "none needed")
            case other:
                raise AssertionError(f"{other} inside a message")
        assert len(blocks) - 1 == data["index"]
    return blocks, datas[-2]["delta"], datas[-2]["usage"]


def history(content: list[dict[str, Any]]) -> dict[str, Any]:
    """A request that sends this reply back, and only wants its prompt read."""
    said = {"role": "user", "content": "hi"}
    return {"model": ID, "max_tokens": 0, "messages": [said, {"role": "assistant", "content": content}, said]}


@pytest.mark.parametrize("number", range(HTTP_CASES))
def test_the_bytes_of_a_stream_say_the_same(server: RunningServer, number: int) -> None:
    one, content = served_case(number)
    request = one.request(messages=[{"role": "user", "content": content}])
    expected = told(one)
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        streamed = client.post("/v1/messages", json={**request, "stream": True})
        whole = client.post("/v1/messages", json=request).json()
        assert 200 == streamed.status_code, streamed.content
        blocks, ended, usage = read_stream(streamed.content)
        forged = [{**block, "thinking": block["thinking"] + "."} for block in blocks if block["type"] == "thinking"]
        accepted, refused = [
            client.post("/v1/messages", json=history([*content, {"type": "text", "text": "ok"}]))
            for content in (blocks, forged)
        ]

    thoughts = [text for kind, text in expected.blocks if kind == "thinking"]
    shown = [(kind, text if kind == "text" or one.display == "summarized" else "") for kind, text in expected.blocks]
    assert shown == [(block["type"], block[block["type"]]) for block in blocks]
    assert (expected.stop_reason, expected.stop_sequence) == (ended["stop_reason"], ended["stop_sequence"])
    assert (expected.output_tokens, {"thinking_tokens": expected.thinking_tokens}) == (
        usage["output_tokens"],
        usage["output_tokens_details"],
    )
    assert [{**block, "signature": ...} for block in blocks] == [
        {**block, "signature": ...} for block in whole["content"]
    ]
    assert (ended["stop_reason"], ended["stop_sequence"]) == (whole["stop_reason"], whole["stop_sequence"])
    assert usage.items() <= whole["usage"].items()
    # The server knows its thoughts again, and a changed one; what came with an omitted one is not looked at.
    assert (200, None) == (accepted.status_code, accepted.headers.get("sestet-dropped-thinking-blocks"))
    assert (400 if thoughts and one.display == "summarized" else 200) == refused.status_code


def test_usage_in_a_stream_is_first_the_prompt_and_then_all_of_it() -> None:
    stream = asyncio.run(events(messages(ScriptedEngine()), case(0).request()))
    usages = [event.usage for event in stream if isinstance(event, MessageStart | MessageDelta)]

    assert [(len(PROMPT), 0, 0), (len(PROMPT), 7, 1)] == [
        (usage.input_tokens, usage.output_tokens, usage.thinking_tokens) for usage in usages
    ]


def test_a_script_file_can_say_every_case(tmp_path: Path) -> None:
    """The script of the HTTP cases means what the cases mean."""
    file = tmp_path / "script.toml"
    file.write_text("".join(toml(served_case(number)[0].reply, "") for number in range(HTTP_CASES)), "utf-8")

    assert [served_case(number)[0].reply for number in range(HTTP_CASES)] == read_script(file).reply
