"""Engine by capability: the same tests for every engine of the port in services/ports.py."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from sestet.contract.deltas import Delta, Finished, Text
from sestet.services.ports import Engine
from tests.engines.subjects import (
    COUNTING,
    GREETING,
    LETTERS,
    SLOTS,
    WINDOW,
    Subject,
    ends_of,
    generate,
    job,
    say,
    saying,
    text_of,
    tokens_of,
)


def test_the_engine_says_what_it_holds(subject: Subject) -> None:
    weights = subject.engine.weights

    assert (WINDOW, SLOTS, True) == (weights.window, subject.engine.slots, subject.run(_ready))
    assert {"<|im_start|>", "<|im_end|>"} <= set(weights.special_tokens)


async def _ready(engine: Engine) -> bool:
    return engine.ready


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(["one piece"], id="one"),
        pytest.param(["Hello", " world"], id="two"),
        pytest.param(["same", "same", "same"], id="repeated"),
        pytest.param(["<|im_start|>user\n", "<", "|im_end|>", "<|im_end|>\n"], id="special"),
        pytest.param(["é漢字", "🙂", "\x00\t\r\n"], id="unicode"),
        pytest.param(["word " * 5_000, "end"], id="longer than the window"),
    ],
)
def test_pieces_are_tokenised_apart_and_in_order(subject: Subject, pieces: list[str]) -> None:
    async def encode(engine: Engine) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        return [tokens for piece in pieces for tokens in await engine.encode([piece])], await engine.encode(pieces)

    alone, together = subject.run(encode)

    assert alone == together
    assert alone


def test_counting_many_prompts_at_once_mixes_none_up(subject: Subject) -> None:
    texts = ["x" * length for length in range(1, 40)]

    async def encode(engine: Engine) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        one_by_one = [await tokens_of(engine, text) for text in texts]
        return one_by_one, await asyncio.gather(*(tokens_of(engine, text) for text in texts))

    one_by_one, at_once = subject.run(encode)

    assert one_by_one == at_once


def test_tokens_come_out_one_by_one(subject: Subject) -> None:
    deltas = subject.run(lambda engine: generate(engine, COUNTING, 20))

    assert list(range(1, 21)) == [delta.output_tokens for delta in deltas if isinstance(delta, Text)]
    assert [Finished("length", 20)] == deltas[20:]
    assert all(delta.text for delta in deltas if isinstance(delta, Text))


@pytest.mark.parametrize("max_tokens", [1, 2, 7])
def test_max_tokens_is_kept_to_the_token(subject: Subject, max_tokens: int) -> None:
    deltas = subject.run(lambda engine: generate(engine, COUNTING, max_tokens))

    assert max_tokens + 1 == len(deltas)
    assert Finished("length", max_tokens) == deltas[-1]


def test_no_tokens_asked_for_are_none_given(subject: Subject) -> None:
    assert [Finished("length", 0)] == subject.run(lambda engine: generate(engine, COUNTING, 0))


def test_the_models_own_end_is_told_from_the_limit(subject: Subject) -> None:
    deltas = subject.run(lambda engine: generate(engine, GREETING, 200))

    assert ["end"] == [end.reason for end in ends_of(deltas)]
    assert isinstance(deltas[-1], Finished)
    assert all(before.output_tokens <= after.output_tokens for before, after in pairwise(deltas))
    assert "<|im_end|>" not in text_of(deltas)


def test_the_same_prompt_at_temperature_0_is_answered_the_same(subject: Subject) -> None:
    first = subject.run(lambda engine: generate(engine, COUNTING, 30))
    second = subject.run(lambda engine: generate(engine, COUNTING, 30))

    assert first == second


def test_as_many_replies_as_slots_run_at_once(subject: Subject) -> None:
    async def together(engine: Engine) -> list[str]:
        """Each reply waits for all the others to have begun, so one after the other would never end."""
        begun = asyncio.Barrier(SLOTS)

        async def one() -> str:
            text = ""
            async with saying(engine, await job(engine, COUNTING, 24)) as deltas:
                async for delta in deltas:
                    if isinstance(delta, Text) and not text:
                        await begun.wait()
                    text += delta.text if isinstance(delta, Text) else ""
            return text

        async with asyncio.timeout(60):
            return await asyncio.gather(*(one() for _ in range(SLOTS)))

    alone = text_of(subject.run(lambda engine: generate(engine, COUNTING, 24)))

    assert [alone] * SLOTS == subject.run(together)


def test_more_replies_than_slots_all_finish(subject: Subject) -> None:
    async def many(engine: Engine) -> list[list[Delta]]:
        return await asyncio.gather(*(generate(engine, COUNTING, 8) for _ in range(3 * SLOTS)))

    assert [Finished("length", 8)] * 3 * SLOTS == [deltas[-1] for deltas in subject.run(many)]


def test_one_that_leaves_does_not_change_what_its_neighbours_are_told(subject: Subject) -> None:
    async def with_leavers(engine: Engine) -> list[list[Delta]]:
        neighbours = asyncio.gather(generate(engine, COUNTING, 60), generate(engine, LETTERS, 60))
        for _ in range(5):
            async with saying(engine, await job(engine, "An old story: once upon a time", 300)) as leaver:
                await anext(leaver)
        return await neighbours

    counting = subject.run(lambda engine: generate(engine, COUNTING, 60))
    letters = subject.run(lambda engine: generate(engine, LETTERS, 60))

    assert [counting, letters] == subject.run(with_leavers)


@pytest.mark.parametrize("room", [1, 5])
def test_a_prompt_and_its_reply_may_fill_the_window_to_the_last_token(subject: Subject, room: int) -> None:
    async def fill(engine: Engine) -> tuple[int, Delta]:
        counting = await job(engine, COUNTING, room)
        prompt = (counting.prompt * WINDOW)[: WINDOW - room - len(counting.prompt)] + counting.prompt
        deltas = await say(engine, replace(counting, prompt=prompt))
        return len(prompt), deltas[-1]

    assert (WINDOW - room, Finished("length", room)) == subject.run(fill)


def test_closing_a_reply_before_its_first_token_leaves_the_engine_usable(subject: Subject) -> None:
    async def leave_early(engine: Engine) -> Delta:
        for _ in range(2 * SLOTS):
            async with saying(engine, await job(engine, COUNTING, 400)) as reply:
                task = asyncio.ensure_future(anext(reply))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(10):
            return (await generate(engine, COUNTING, 3))[-1]

    assert Finished("length", 3) == subject.run(leave_early)
