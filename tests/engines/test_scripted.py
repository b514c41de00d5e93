"""The scripted engine as a witness: it tells what it was sent and when it was left."""

import asyncio

from sestet.contract.deltas import Finished, Text
from sestet.engines.scripted import Script, ScriptedEngine, ScriptedReply
from tests.engines.subjects import COUNTING, LIKELIEST, generate, job, saying, scripted


def test_closing_a_reply_stops_the_engine_within_a_token() -> None:
    async def leave() -> ScriptedEngine:
        engine = scripted()
        async with saying(engine, await job(engine, COUNTING, 400)) as deltas:
            for _ in range(3):
                await anext(deltas)
        # Tokens that were still on their way would be said while others run.
        for _ in range(10):
            await asyncio.sleep(0)
        return engine

    engine = asyncio.run(leave())

    assert [(3, True)] == [(record.said, record.closed) for record in engine.records]
    assert 0 == engine.running


def test_a_cancelled_reader_stops_the_engine_in_the_middle_of_a_pause() -> None:
    async def cancel() -> ScriptedEngine:
        slow = ScriptedReply(say=["never"], delay_s=3600)
        engine = ScriptedEngine(Script(reply=[slow]))
        reader = asyncio.create_task(generate(engine, "anything", 5))
        # It takes a few turns of the loop to encode and to begin; none of them waits for a clock.
        for _ in range(10):
            await asyncio.sleep(0)
        assert engine.running
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        return engine

    engine = asyncio.run(cancel())

    assert [(0, True)] == [(record.said, record.closed) for record in engine.records]
    assert 0 == engine.running


def test_one_token_is_one_character_and_every_prompt_can_be_read_back() -> None:
    async def speak() -> tuple[list[tuple[int, ...]], ScriptedEngine]:
        engine = ScriptedEngine(Script(reply=[ScriptedReply(say=["a", "b"])]))
        await generate(engine, "<|im_start|>é🙂", 9)
        return await engine.encode(["é", "🙂"]), engine

    tokens, engine = asyncio.run(speak())

    assert [(0xE9,), (0x1F642,)] == tokens
    assert [("<|im_start|>é🙂", 9, LIKELIEST)] == [
        (record.prompt, record.job.max_tokens, record.job.sampling) for record in engine.records
    ]


def test_the_script_is_followed_to_the_letter() -> None:
    reply = ScriptedReply(when="twice", say=["to", "ken"], repeat=2)

    deltas = asyncio.run(generate(ScriptedEngine(Script(reply=[reply])), "say it twice", 9))

    assert [Text("to", 1), Text("ken", 2), Text("to", 3), Text("ken", 4), Finished("end", 4)] == deltas
