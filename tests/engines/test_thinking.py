"""The budget on real weights: thoughts of the embedded model, none too long, none without an answer."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

import httpx2
import pytest

from sestet.catalog.card import profile_for, profiles
from sestet.contract.deltas import Delta, Finished, Generation, Sampling, Text
from sestet.contract.events import Event, Usage
from sestet.engines.llamacpp.engine import LlamaCppEngine
from sestet.services.ports import Engine, Slot
from sestet.services.thinking import Thinker, think
from sestet.turn.assemble import Assembler
from sestet.turn.fold import fold
from sestet.turn.history import Turn
from sestet.turn.render import Style, render
from sestet.turn.seals import Owner, Seals, Verdict
from sestet.turn.template import ChatTemplate
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.validate import ValidPrompt
from tests.engines.subjects import LIKELIEST, WINDOW, Subject, tokens_of
from tests.lengths import SOAK, length
from tests.properties.test_streams import check_grammar
from tests.properties.test_thinking_budget import read_stream
from tests.running import RunningServer, start_server
from tests.unit.thoughts import TOOLS

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MODEL = "smollm2-135m-instruct"
STAND_IN = "claude-3-7-sonnet-latest"  # its card allows more tokens than the window of these weights
SEALS = Seals([b"the secret of the embedded cases."])
OWNER = Owner("card", "default")
SMALL_CASES, WHOLE_CASES, DIRECT_CASES = length(4, 16), 1, length(16, 83)  # 100 in all
SMALL_WINDOW = 160

QUESTIONS = (
    "What is 17 + 25?",
    "Why is the sky blue?",
    "Name three animals.",
    "If all cats are grey and Tom is a cat, what colour is Tom?",
    "Zähle bis fünf. \U0001f600",
    "Write the word STOP twice.",
    "Say </think> and <think>.",
    "A train leaves at 3 and arrives at 5. How long does it take?",
)
STOPS = (".", "the", " a", "\n\n", "</think>", "think", "e", "?", "STOP", "42", "I ")


def stops_of(random: Random) -> list[str]:
    return [stop for stop in random.sample(STOPS, random.choice((0, 0, 1, 2, 3))) if stop.strip()]


@dataclass(frozen=True, slots=True)
class Asked:
    budget: int
    max_tokens: int
    stops: list[str]
    content: str

    def body(self) -> dict[str, Any]:
        return {
            "model": STAND_IN,
            "max_tokens": self.max_tokens,
            "messages": [{"role": "user", "content": self.content}],
            "thinking": {"type": "enabled", "budget_tokens": self.budget},
            "stop_sequences": self.stops,
            "stream": True,
        }


def asked(number: int) -> Asked:
    random = Random(f"embedded {number}")
    budget = 1_024 + random.choice((0, 1, random.randint(0, 500)))
    return Asked(budget, budget + random.randint(1, 40), stops_of(random), random.choice(QUESTIONS))


@pytest.fixture(scope="module")
def small_window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A window that holds no whole budget, so that thoughts without an end do not take minutes."""
    config = f"[engine]\nwindow = {SMALL_WINDOW}\nslots = 4\nthreads = 1\n"
    server = start_server(tmp_path_factory.mktemp("small_window"), config=config)
    yield server
    server.stop()


def check_server(server: RunningServer, cases: Sequence[Asked], window: int) -> None:
    """Four at once, as many as the server has slots."""

    def ask(one: Asked) -> tuple[bytes, httpx2.Response]:
        with httpx2.Client(base_url=server.url, timeout=300) as client:
            answer = client.post("/v1/messages", json=one.body())
            assert 200 == answer.status_code, answer.content
            blocks, _, _ = read_stream(answer.content)
            # What was sent is known again: the prompt is short, and only read.
            user = {"role": "user", "content": "Hi"}
            turns = [user, {"role": "assistant", "content": [*blocks, {"type": "text", "text": "ok"}]}, user]
            short = {"model": STAND_IN, "max_tokens": 0, "messages": turns}
            counted = client.post("/v1/messages/count_tokens", json={"model": STAND_IN, "messages": turns})
            fits = counted.json()["input_tokens"] < window
            return answer.content, client.post("/v1/messages", json=short) if fits else counted

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(ask, cases))
    wrong = [
        (one, problem) for one, (raw, again) in zip(cases, told, strict=True) for problem in problems(one, raw, window)
    ]

    assert [] == wrong
    assert [(200, None)] * len(cases) == [
        (again.status_code, again.headers.get("sestet-dropped-thinking-blocks")) for _, again in told
    ]


def problems(one: Asked, raw: bytes, window: int) -> list[str]:
    """What is wrong with a reply; `read_stream` has seen to the order of its events."""
    blocks, ended, usage = read_stream(raw)
    thinking, output = usage["output_tokens_details"]["thinking_tokens"], usage["output_tokens"]
    kinds = [block["type"] for block in blocks]
    answers = [block["text"] for block in blocks if block["type"] == "text"]
    thoughts = [block["thinking"] for block in blocks if block["type"] == "thinking"]
    facts = {
        "the thought is longer than its budget": thinking > one.budget,
        "no token was thought": thinking == 0,
        "the reply is longer than max_tokens": output > one.max_tokens,
        "prompt and reply are longer than the window": usage["input_tokens"] + output > window,
        "the answer was starved": thinking == output and not answers and ended["stop_reason"] != "end_turn",
        "two blocks of a kind in a row": any(kind == after for kind, after in pairwise(kinds)),
        "a thought holds its tag": any("</think>" in thought for thought in thoughts),
        "an answer holds a stop sequence": any(stop in text for text in answers for stop in one.stops),
        "a stop sequence that was not asked for": ended["stop_sequence"] not in (None, *one.stops),
        "a reason that does not fit": (ended["stop_reason"] == "stop_sequence") != (ended["stop_sequence"] is not None),
        "max_tokens were not reached": ended["stop_reason"] == "max_tokens" and output != one.max_tokens,
    }
    return [f"{name}: {blocks} {ended} {usage}" for name, is_so in facts.items() if is_so]


def test_budgets_are_kept_where_the_window_is_too_small_for_them(small_window: RunningServer) -> None:
    check_server(small_window, [asked(number) for number in range(SMALL_CASES)], SMALL_WINDOW)


@pytest.mark.skipif(not SOAK, reason="a minute of one thought; the small budgets and windows are the same code")
def test_whole_budgets_are_kept(embedded: RunningServer) -> None:
    """These may take all of their budget, which is why they are few."""
    check_server(embedded, [asked(number) for number in range(100, 100 + WHOLE_CASES)], 8_192)


@dataclass
class Heard:
    """A slot whose jobs and words are kept."""

    slot: Slot
    jobs: list[Generation] = field(default_factory=list)
    words: list[list[Text]] = field(default_factory=list)
    ends: list[Finished] = field(default_factory=list)

    @property
    def reused(self) -> int:
        return self.slot.reused

    async def snapshot(self, prompt: tuple[int, ...], name: str) -> int:
        return await self.slot.snapshot(prompt, name)

    async def generate(self, job: Generation) -> AsyncGenerator[Delta, None]:
        self.jobs.append(job)
        self.words.append([])
        deltas = self.slot.generate(job)
        try:
            async for delta in deltas:
                (self.words[-1] if isinstance(delta, Text) else self.ends).append(delta)  # type: ignore[arg-type]
                yield delta
        finally:
            await deltas.aclose()


async def thinker_of(engine: Engine) -> tuple[Thinker, ChatTemplate]:
    template = ChatTemplate(engine.weights)
    tags = profile_for(engine.weights.chat_template, profiles()).thinking
    return await Thinker.of(ThinkingStyle.found(tags, template), engine), template


async def prompt_of(engine: Engine, thinker: Thinker, template: ChatTemplate, content: str) -> tuple[int, ...]:
    asked = ValidPrompt((), (Turn("user", content),), prefill=False, thinking=True)
    return await tokens_of(engine, *render(asked, template, Style(thinker.style, TOOLS)).pieces)


@dataclass(frozen=True)
class Case:
    """What is asked for, and `budget` tokens of thought."""

    content: str
    budget: int
    max_tokens: int
    stops: Sequence[str] = ()
    sampling: Sampling = LIKELIEST


async def reply(engine: Engine, case: Case) -> tuple[list[Event], Heard]:
    thinker, template = await thinker_of(engine)
    prompt = await prompt_of(engine, thinker, template, case.content)
    job = Generation("req_test", prompt, case.max_tokens, case.sampling, thinker.forbidden)
    assembler = Assembler(
        Usage(len(prompt)),
        case.stops,
        "max_tokens",
        "summarized",
        lambda index, text: SEALS.sign(OWNER, "msg_1", index, text),
    )
    told: list[Event] = [assembler.start("msg_1", MODEL)]
    async with engine.slot("tenant", prompt) as slot:
        heard = Heard(slot)
        async with aclosing(think(engine, heard, thinker, job, case.budget)) as deltas:
            async for delta in deltas:
                told += assembler.feed(delta)
                if assembler.finished:
                    break
    return told, heard


def test_small_budgets_are_kept_to_the_token(llamacpp_subject: Subject) -> None:
    """The same code with budgets that are used up at once."""

    async def one(number: int) -> str:
        random = Random(f"small {number}")
        budget, stops = random.randint(0, 25), stops_of(random)
        max_tokens = budget + random.choice((1, 2, random.randint(1, 10)))
        sampling = random.choice((Sampling(0.0, 1.0, 0), Sampling(0.2, 0.9, 50), Sampling(1.5, 1.0, 0)))
        case = Case(random.choice(QUESTIONS), budget, max_tokens, stops, sampling)
        told, heard = await reply(llamacpp_subject.engine, case)
        check_grammar(told)
        message = fold(told)
        thoughts = [(SEALS.open(OWNER, block.data, block.text).verdict) for block in message.content if block.data]
        answers = [block.text for block in message.content if block.kind == "text"]

        assert message.usage.thinking_tokens <= budget
        assert message.usage.output_tokens <= max_tokens
        assert [Verdict.GENUINE] * len(thoughts) == thoughts
        assert len([block for block in message.content if block.kind == "thinking"]) == len(thoughts)
        assert [] == [(text, stop) for text in answers for stop in stops if stop in text]
        assert message.stop_reason == "end_turn" or message.usage.thinking_tokens < message.usage.output_tokens
        assert 1 <= len(heard.jobs) <= 2
        await check_jobs(llamacpp_subject.engine, heard, case)
        return message.stop_reason

    async def all_of_them(_: Engine) -> list[str]:
        told = []
        for start in range(0, DIRECT_CASES, 4):
            told += await asyncio.gather(*(one(number) for number in range(start, min(start + 4, DIRECT_CASES))))
        return told

    told = llamacpp_subject.run(all_of_them)

    assert DIRECT_CASES == len(told)


async def check_jobs(engine: Engine, heard: Heard, case: Case) -> None:
    """A second generation goes on from the first one's prompt, words and, if there was none, tag."""
    assert case.budget == heard.jobs[0].max_tokens
    for (first, second), words in zip(pairwise(heard.jobs), heard.words, strict=False):
        said = "".join(word.text for word in words)
        drawn = heard.ends[0].output_tokens
        known = tuple(token for word in words for token in word.tokens)
        after = second.prompt[len(first.prompt) :]
        opened = "</think>" not in said
        begun = next(size for size in range(7, -1, -1) if said.endswith("</think>"[:size]))
        closing = (f"{'</think>'[begun:]}\n\n" if begun else "\n</think>\n\n") if opened else ""

        assert case.max_tokens == drawn + second.max_tokens
        assert first.prompt == second.prompt[: len(first.prompt)]
        assert len(second.prompt) + second.max_tokens <= WINDOW
        (spelled,) = await engine.encode((closing,), begins=False)
        assert spelled == after[len(after) - len(spelled) :]
        # Where a character took several tokens the engine does not tell them, and the text is tokenised anew.
        (anew,) = await engine.encode((said,), begins=False)
        assert after[: len(after) - len(spelled)] in (known, anew)


def test_an_answer_is_given_after_a_thought_of_no_token(llamacpp_subject: Subject) -> None:
    async def one(engine: Engine) -> tuple[int, int, str]:
        events, _ = await reply(engine, Case("Say hi.", 0, 6))
        told = fold(events)
        return told.usage.thinking_tokens, len(told.content), told.content[0].kind

    assert (0, 1, "text") == llamacpp_subject.run(one)


def test_going_on_after_a_closed_thought_reads_little_of_the_prompt_again(llamacpp_subject: Subject) -> None:
    """The child says how many tokens it had to read; the engine does not pass that on, so it is asked directly."""

    async def read_again(engine: Engine) -> tuple[int, int, int]:
        assert isinstance(engine, LlamaCppEngine)
        content = "Count and think about every number: " + ", ".join(map(str, range(60)))
        _, heard = await reply(engine, Case(content, 30, 40))
        first, second = heard.jobs
        # The same two generations once more, the second with the child's own account of it.
        async with engine.slot("tenant", first.prompt) as slot:
            _ = [delta async for delta in slot.generate(first)]
            async with aclosing(slot._complete(second.prompt, {"n_predict": 1})) as frames:
                timings = [frame async for frame in frames][-1]["timings"]
        return len(second.prompt), timings["cache_n"], timings["prompt_n"]

    prompt, cached, read = llamacpp_subject.run(read_again)

    assert prompt == cached + read
    assert read <= 12  # the closing tag is six tokens or so, and the last token drawn was never read
