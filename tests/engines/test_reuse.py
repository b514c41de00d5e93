"""What was computed is reused, in a slot and from a file, for the tenant it was computed for and no other (T37)."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TypeVar

import pytest

from sestet.contract.deltas import Generation, Held
from sestet.engines.llamacpp.engine import LlamaCppEngine
from sestet.engines.scripted import Script, ScriptedEngine
from sestet.services.ports import Engine
from tests.engines.subjects import LETTERS, LIKELIEST, Subject, llamacpp_settings, start_llamacpp, text_of, tokens_of
from tests.engines.test_llamacpp_process import until

_Result = TypeVar("_Result")

BEGINNING = " ".join(map(str, range(1, 45)))  # more than a hundred tokens, with every engine
GOING_ON = " " + " ".join(map(str, range(45, 50)))
WORDS = 6


def asked(prompt: tuple[int, ...], max_tokens: int = WORDS) -> Generation:
    return Generation("req_test", prompt, max_tokens, LIKELIEST)


async def said(engine: Engine, tenant: str, prompt: tuple[int, ...], held: Held | None = None) -> tuple[int, str]:
    """How many tokens of the prompt were there, and what was answered."""
    async with engine.slot(tenant, prompt, held) as slot, aclosing(slot.generate(asked(prompt))) as deltas:
        text = text_of([delta async for delta in deltas])
        return slot.reused, text


async def found(engine: Engine, tenant: str, prompt: tuple[int, ...], held: Held) -> int:
    """How many tokens of the prompt are in what is held; computes nothing."""
    async with engine.slot(tenant, prompt, held) as slot:
        return slot.reused


async def written(engine: Engine, tenant: str, prompt: tuple[int, ...], name: str) -> int:
    async with engine.slot(tenant, prompt) as slot:
        return await slot.snapshot(prompt, name)


async def others_use_every_slot(engine: Engine) -> None:
    prompt = await tokens_of(engine, LETTERS)
    async with AsyncExitStack() as stack:
        for number in range(engine.slots):
            slot = await stack.enter_async_context(engine.slot(f"other {number}", prompt))
            async with aclosing(slot.generate(asked(prompt, 1))) as deltas:
                async for _ in deltas:
                    pass


def test_what_was_computed_for_a_tenant_is_reused_for_that_one_alone(subject: Subject) -> None:
    async def ask(engine: Engine) -> tuple[int, int, list[tuple[int, str]]]:
        beginning, whole = await tokens_of(engine, BEGINNING), await tokens_of(engine, BEGINNING, GOING_ON)
        await said(engine, "one", beginning)
        return (
            len(beginning),
            len(whole),
            [
                await said(engine, "one", whole),
                await said(engine, "two", whole),
                await said(engine, "one", whole),
                await said(engine, "two", whole[:100] + whole[110:]),
            ],
        )

    beginning, whole, told = subject.run(ask)

    assert [beginning, 0, whole, 100] == [reused for reused, _ in told]
    assert 1 == len({text for _, text in told[:3]})


def test_a_snapshot_is_there_after_other_traffic_in_every_slot(subject: Subject) -> None:
    async def ask(engine: Engine) -> tuple[int, int, list[tuple[int, str]], list[int]]:
        beginning, whole = await tokens_of(engine, BEGINNING), await tokens_of(engine, BEGINNING, GOING_ON)
        held = Held("outlives", len(beginning), genuine)
        size = await written(engine, "three", beginning, held.name)
        before = await said(engine, "three", whole)
        await others_use_every_slot(engine)
        after = await said(engine, "three", whole, held)
        await others_use_every_slot(engine)
        others = [
            await found(engine, "three", beginning, held),  # equal to it
            await found(engine, "four", whole[: len(beginning) + 1], held),
            await found(engine, "five", beginning[:-1], held),  # shorter than it
            await found(engine, "six", (*beginning[:-1], 7, 7, 7), Held(held.name, len(beginning) - 1, genuine)),
        ]
        return len(beginning), size, [before, after], others

    tokens, size, told, others = subject.run(ask)

    assert [tokens, tokens] == [reused for reused, _ in told]
    assert 1 == len({text for _, text in told})
    assert [tokens, tokens, 0, tokens - 1] == others
    assert size == (subject.snapshots / "outlives").stat().st_size
    assert size <= tokens * subject.engine.snapshot_bytes_per_token


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "junk": lambda path: path.write_bytes(b"GGUF" * 1_000),
}


async def genuine() -> bool:
    return True


async def never() -> bool:
    return False


def test_a_snapshot_that_is_damaged_or_not_genuine_is_not_used(subject: Subject) -> None:
    async def ask(engine: Engine) -> tuple[list[int], tuple[int, str], tuple[int, str]]:
        beginning = (await tokens_of(engine, BEGINNING))[:60]
        kept = subject.snapshots / "kept"
        await written(engine, "six", beginning, kept.name)
        before = await said(engine, "six", beginning)
        reused = [await found(engine, "not six", beginning, Held(kept.name, len(beginning), never))]
        for name, damage in DAMAGES.items():
            path = subject.snapshots / name
            path.write_bytes(kept.read_bytes())
            damage(path)
            reused.append(await found(engine, f"not six, {name}", beginning, Held(name, len(beginning), genuine)))
        return reused, before, await said(engine, "seven", beginning, Held("junk", len(beginning), genuine))

    reused, before, after = subject.run(ask)

    assert [0] * (1 + len(DAMAGES)) == reused
    assert [(60, before[1]), (0, before[1])] == [before, after]


def with_engine(folder: Path, test: Callable[[LlamaCppEngine, list[str]], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        reports: list[str] = []
        engine = await start_llamacpp(reports, llamacpp_settings(slots=1, snapshots=folder))
        try:
            async with asyncio.timeout(120):
                return await test(engine, reports)
        finally:
            await engine.stop()

    return asyncio.run(run())


async def reread(engine: LlamaCppEngine, tenant: str, prompt: tuple[int, ...]) -> int:
    """How many tokens of the prompt llama.cpp had, as it says itself."""
    async with engine.slot(tenant, prompt) as slot, aclosing(slot._complete(prompt, {"n_predict": 0})) as frames:
        first, *_ = [frame["prompt_progress"]["cache"] async for frame in frames if "prompt_progress" in frame]
        return int(first)


@pytest.mark.engine
def test_snapshots_outlive_the_engine_and_its_server(tmp_path: Path) -> None:
    async def write(engine: LlamaCppEngine, reports: list[str]) -> tuple[int, list[tuple[int, str]], str]:
        beginning, whole = await tokens_of(engine, BEGINNING), await tokens_of(engine, BEGINNING, GOING_ON)
        await written(engine, "one", beginning, "kept")
        told = [await said(engine, "one", whole)]
        for seen in (False, True):
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
            if seen:
                await until(lambda: reports.count("engine_restarted") == 2, 20)
            # One that meets a death that nobody has seen is promised what is no longer in the slot, and told so.
            told.append(await said(engine, "one", whole, Held("kept", len(beginning), genuine)))
        return len(beginning), told, engine.identity

    async def read(engine: LlamaCppEngine, _: list[str]) -> tuple[tuple[int, str], str]:
        beginning, whole = await tokens_of(engine, BEGINNING), await tokens_of(engine, BEGINNING, GOING_ON)
        return await said(engine, "one", whole, Held("kept", len(beginning), genuine)), engine.identity

    tokens, told, first = with_engine(tmp_path, write)
    after_a_restart, second = with_engine(tmp_path, read)

    assert [(tokens, told[0][1])] * 3 == [told[0], told[2], after_a_restart]
    assert (0, told[0][1]) == told[1]
    assert first == second
    assert [("kept", 0o100600)] == [(file.name, file.stat().st_mode) for file in tmp_path.iterdir()]


@pytest.mark.engine
def test_llamacpp_itself_reuses_nothing_of_anothers_even_where_one_left_early(tmp_path: Path) -> None:
    async def ask(engine: LlamaCppEngine, _: list[str]) -> list[int]:
        prompt = (await tokens_of(engine, BEGINNING))[:40]
        had = [await reread(engine, tenant, prompt) for tenant in ("one", "one", "two", "two")]
        for turns in (1, 2, 3, 5, 8, 13, 21, 34):
            # A request that is cancelled here and there, so that the child hears of it or does not.
            reading = asyncio.create_task(reread(engine, "three", prompt))
            for _turn in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return [*had, await reread(engine, "three", (*prompt[:30], *prompt[:10])), await reread(engine, "two", prompt)]

    had = with_engine(tmp_path, ask)

    assert [0, 39, 0, 39] == had[:4]
    assert 0 == had[5]
    assert had[4] <= 30


@pytest.mark.engine
def test_a_snapshot_that_cannot_be_written_or_is_left_leaves_no_file(tmp_path: Path) -> None:
    async def write(engine: LlamaCppEngine, _: list[str]) -> tuple[int, int, list[str]]:
        prompt = (await tokens_of(engine, BEGINNING))[:60]
        full = tmp_path / "full"
        full.symlink_to("/dev/full")
        full_size = await written(engine, "one", prompt, "full")
        # The state is there, so what is left in the middle is the writing; the later ones may be through with it.
        through = []
        for turns in range(1, 20):
            writing = asyncio.create_task(written(engine, "one", prompt, f"left {turns}"))
            for _turn in range(3 * turns):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            if not writing.cancelled():
                through.append(f"left {turns}")
        return full_size, await written(engine, "one", prompt, "whole"), through

    full_size, whole, through = with_engine(tmp_path, write)

    assert 0 == full_size
    assert len(through) < 19
    assert sorted([*through, "whole"]) == sorted(file.name for file in tmp_path.iterdir())
    assert whole == (tmp_path / "whole").stat().st_size


@pytest.mark.engine
def test_a_snapshot_that_ends_the_child_costs_no_more_than_its_restart(tmp_path: Path) -> None:
    async def ask(engine: LlamaCppEngine, reports: list[str]) -> tuple[list[tuple[int, str]], list[str]]:
        prompt = (await tokens_of(engine, BEGINNING))[:60]
        size = await written(engine, "one", prompt, "cut")
        os.truncate(tmp_path / "cut", size - 1)
        told = [await said(engine, "one", prompt), await said(engine, "two", prompt, Held("cut", len(prompt), genuine))]
        return told, reports

    told, reports = with_engine(tmp_path, ask)

    assert [(60, told[0][1]), (0, told[0][1])] == told
    assert ["engine_link_failed", "snapshot_not_restored", "engine_died", "engine_restarted"] == reports


@pytest.mark.engine
def test_weights_that_reuse_less_than_was_promised_are_found_out(tmp_path: Path) -> None:
    async def ask(engine: LlamaCppEngine, reports: list[str]) -> tuple[list[int], list[str]]:
        prompt = (await tokens_of(engine, BEGINNING))[:60]
        told = []
        for _ in range(2):
            # As if it had been computed and llama.cpp could not use it.
            engine.places[0].holds("one", prompt)
            async with engine.slot("one", prompt) as slot:
                told.append(slot.reused)
                await slot.snapshot(prompt, "any")
                told.append(slot.reused)
            await others_use_every_slot(engine)
        return told, reports

    told, reports = with_engine(tmp_path, ask)

    assert [60, 0, 0, 0] == told
    assert ["prefix_not_reused"] == reports


def test_the_scripted_engine_takes_its_time_for_what_it_computes(tmp_path: Path) -> None:
    async def ask() -> tuple[list[bool], list[tuple[str, int]]]:
        engine = ScriptedEngine(Script(prefill_tokens_per_s=0.001, slots=1), tmp_path)
        prompt = await tokens_of(engine, BEGINNING)
        engine.places[0].holds("one", prompt)
        quick = []
        for tenant in ("one", "two"):
            try:
                async with asyncio.timeout(1):
                    await said(engine, tenant, prompt)
                quick.append(True)
            except TimeoutError:
                quick.append(False)
        return quick, [(record.tenant, record.reused) for record in engine.records]

    quick, records = asyncio.run(ask())

    assert [True, False] == quick
    assert [("one", len(BEGINNING)), ("two", 0)] == records
