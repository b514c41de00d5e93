"""The process behind llamacpp: nobody else reaches it, its death and its hanging are found, it is replaced."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import aiohttp
import psutil
import pytest

from sestet.contract.deltas import Finished, Text
from sestet.contract.errors import ApiError
from sestet.engines.llamacpp.engine import DEATHS_MAX, PROBE_EVERY_S, LlamaCppEngine
from sestet.engines.llamacpp.process import EngineProcess, LlamaCppSettings
from tests.engines.subjects import COUNTING, generate, job, llamacpp_settings, say, saying, start_llamacpp
from tests.lengths import length
from tests.running import RunningServer, start_server

_Result = TypeVar("_Result")

SETTINGS = llamacpp_settings(window=1024, slots=2)


def with_child(test: Callable[[EngineProcess], Awaitable[_Result]]) -> _Result:
    async def run() -> _Result:
        child = await EngineProcess.start(SETTINGS)
        try:
            return await test(child)
        finally:
            await child.kill()

    return asyncio.run(run())


def with_engine(
    test: Callable[[LlamaCppEngine, list[str]], Awaitable[_Result]], settings: LlamaCppSettings = SETTINGS
) -> _Result:
    async def run() -> _Result:
        reports: list[str] = []
        engine = await start_llamacpp(reports, settings)
        try:
            async with asyncio.timeout(120):
                return await test(engine, reports)
        finally:
            await engine.stop()

    return asyncio.run(run())


def kill(engine: LlamaCppEngine, number: signal.Signals = signal.SIGKILL) -> int:
    """The process id that was sent the signal."""
    pid = engine.pid
    assert pid is not None
    os.kill(pid, number)
    return pid


async def until(condition: Callable[[], bool], timeout_s: float) -> float:
    """Waits for what another process does, which tells nobody; the seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_s, f"not within {timeout_s} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


# Nobody else reaches it (T14).


@pytest.fixture(scope="module")
def child_of_the_module() -> Iterator[tuple[asyncio.Runner, EngineProcess]]:
    with asyncio.Runner() as runner:
        child = runner.run(EngineProcess.start(SETTINGS))
        yield runner, child
        runner.run(child.kill())


def test_the_socket_is_for_us_alone_and_no_port_is_open(
    child_of_the_module: tuple[asyncio.Runner, EngineProcess],
) -> None:
    _, child = child_of_the_module
    path = Path(child.socket)
    processes = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]

    assert "0o140600" == oct(path.stat().st_mode)
    assert "0o40700" == oct(path.parent.stat().st_mode)
    assert [] == [connection for process in processes for connection in process.net_connections(kind="inet")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/completion"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/chat/completions"),
        ("GET", "/props"),
        ("POST", "/props"),
        ("GET", "/slots"),
        ("POST", "/slots/0?action=save"),
        ("GET", "/metrics"),
        ("GET", "/lora-adapters"),
    ],
)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guess"}, {"Authorization": "Bearer "}])
def test_the_child_answers_nobody_without_its_secret(
    child_of_the_module: tuple[asyncio.Runner, EngineProcess], method: str, path: str, headers: dict[str, str]
) -> None:
    runner, child = child_of_the_module

    async def ask() -> int:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(child.socket)) as session,
            session.request(method, f"http://engine{path}", json={"prompt": "x"}, headers=headers) as answer,
        ):
            return answer.status

    assert 401 == runner.run(ask())


def test_with_its_secret_the_child_answers() -> None:
    async def ask(child: EngineProcess) -> int:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(child.socket)) as session,
            session.post(
                "http://engine/tokenize",
                json={"content": "x"},
                headers={"Authorization": f"Bearer {child.secret}"},
            ) as answer,
        ):
            return answer.status

    assert 200 == with_child(ask)


def test_the_secret_is_nowhere_to_be_read_and_new_for_every_child(
    child_of_the_module: tuple[asyncio.Runner, EngineProcess],
) -> None:
    _, child = child_of_the_module
    public = b"".join(Path(f"/proc/{child.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    files = b"".join(file.read_bytes() for file in Path(child.socket).parent.iterdir() if file.is_file())

    async def secret(other: EngineProcess) -> str:
        return other.secret

    assert len(child.secret) >= 32
    assert child.secret.encode() not in public + files
    assert child.secret != with_child(secret)


def test_what_a_child_left_is_gone_when_it_is_killed() -> None:
    async def folder(child: EngineProcess) -> Path:
        return Path(child.socket).parent

    assert not with_child(folder).exists()


# Death (R18).


def test_a_killed_child_ends_its_reply_with_an_error_and_is_replaced() -> None:
    async def crash(engine: LlamaCppEngine, reports: list[str]) -> tuple[ApiError, float, float, int, int]:
        async with saying(engine, await job(engine, COUNTING, 800)) as deltas:
            assert isinstance(await anext(deltas), Text)
            first = kill(engine)
            killed = time.monotonic()
            with pytest.raises(ApiError) as failure:
                async for _ in deltas:
                    pass
            told_s = time.monotonic() - killed
        assert Finished("length", 3) == (await generate(engine, COUNTING, 3))[-1]
        second = engine.pid
        assert second is not None
        assert ["engine_died", "engine_restarted"] == [name for name in reports if name != "engine_link_failed"]
        return failure.value, told_s, time.monotonic() - killed, first, second

    error, told_s, recovered_s, first, second = with_engine(crash)

    assert ("api_error", 500) == (error.kind, error.status)
    assert told_s < 1.0
    assert recovered_s < 10.0
    assert first != second


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM], ids=lambda number: number.name)
def test_any_way_of_dying_is_survived(number: signal.Signals) -> None:
    async def crash(engine: LlamaCppEngine, reports: list[str]) -> str:
        async with saying(engine, await job(engine, COUNTING, 800)) as deltas:
            await anext(deltas)
            kill(engine, number)
            with pytest.raises(ApiError) as failure:
                async for _ in deltas:
                    pass
        assert Finished("length", 3) == (await generate(engine, COUNTING, 3))[-1]
        return failure.value.kind

    assert "api_error" == with_engine(crash)


def test_requests_that_come_while_the_child_is_away_wait_for_the_next_one() -> None:
    async def crash(engine: LlamaCppEngine, reports: list[str]) -> list[object]:
        kill(engine)
        await until(lambda: not engine.ready, 5)
        replies = await asyncio.gather(*(generate(engine, COUNTING, 3) for _ in range(4)))
        return [reply[-1] for reply in replies]

    assert [Finished("length", 3)] * 4 == with_engine(crash)


def test_a_request_that_meets_a_death_nobody_has_seen_yet_waits_too() -> None:
    async def crash(engine: LlamaCppEngine, reports: list[str]) -> object:
        prompt = await job(engine, COUNTING, 3)
        pid = kill(engine)
        # Without giving way, so that the death is found by this request and by nothing else.
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.005)  # noqa: ASYNC251 - as said above
        deltas = await say(engine, prompt)
        return deltas[-1]

    assert Finished("length", 3) == with_engine(crash)


def test_the_weights_say_the_same_after_a_restart() -> None:
    async def crash(engine: LlamaCppEngine, reports: list[str]) -> tuple[object, object]:
        before = (engine.weights, engine.slots, await engine.encode(["Hello world"]))
        kill(engine)
        await until(lambda: not engine.ready, 5)
        return before, (engine.weights, engine.slots, await engine.encode(["Hello world"]))

    before, after = with_engine(crash)

    assert before == after


# Hanging (R19).


@pytest.mark.slow
def test_a_child_that_stops_in_the_middle_of_a_reply_is_found_and_replaced() -> None:
    async def stop(engine: LlamaCppEngine, reports: list[str]) -> tuple[ApiError, float]:
        async with saying(engine, await job(engine, COUNTING, 800)) as deltas:
            await anext(deltas)
            first = kill(engine, signal.SIGSTOP)
            stopped = time.monotonic()
            with pytest.raises(ApiError) as failure:
                async for _ in deltas:
                    pass
            told_s = time.monotonic() - stopped
        assert Finished("length", 3) == (await generate(engine, COUNTING, 3))[-1]
        assert "engine_stalled" in reports
        assert not psutil.pid_exists(first)
        return failure.value, told_s

    error, told_s = with_engine(stop, llamacpp_settings(window=1024, slots=2, stall_timeout_s=2.0))

    assert "api_error" == error.kind
    assert 1.5 < told_s < 5.0


@pytest.mark.slow
def test_an_idle_child_that_hangs_is_found_and_replaced() -> None:
    async def stop(engine: LlamaCppEngine, reports: list[str]) -> tuple[int, int | None]:
        first = kill(engine, signal.SIGSTOP)
        await until(lambda: "engine_restarted" in reports, PROBE_EVERY_S + 2.0 + 15.0)
        assert Finished("length", 3) == (await generate(engine, COUNTING, 3))[-1]
        assert "engine_stalled" in reports
        return first, engine.pid

    first, second = with_engine(stop, llamacpp_settings(window=1024, slots=2, stall_timeout_s=2.0))

    assert first != second
    assert not psutil.pid_exists(first)


@pytest.mark.slow
def test_a_long_prompt_and_a_queue_before_it_are_no_hang() -> None:
    """Progress is the engine's: a prompt whose turn has not come makes none of its own."""

    async def work(engine: LlamaCppEngine, reports: list[str]) -> tuple[list[object], list[str]]:
        replies = await asyncio.gather(*(generate(engine, f"{n} long words, " * length(45, 100), 2) for n in range(4)))
        return [reply[-1] for reply in replies], reports

    ends, reports = with_engine(work, llamacpp_settings(window=1024, slots=4, stall_timeout_s=6.0))

    assert [Finished("length", 2)] * 4 == ends
    assert [] == reports


# Crash loops (R20).


@pytest.mark.slow
def test_a_crash_loop_is_backed_off_refused_at_once_and_ends_by_itself() -> None:
    async def crash_again_and_again(engine: LlamaCppEngine, reports: list[str]) -> tuple[ApiError, float, object]:
        prompt = await job(engine, COUNTING, 3)
        for deaths in range(1, DEATHS_MAX + 1):
            await until(lambda: engine.ready, 20)
            kill(engine)
            await until(lambda deaths=deaths: reports.count("engine_died") == deaths, 20)
        asked = time.monotonic()
        with pytest.raises(ApiError) as refusal:
            async with saying(engine, prompt) as deltas:
                await anext(deltas)
        refused_s = time.monotonic() - asked
        assert not engine.ready
        await until(lambda: engine.ready, 40)
        return refusal.value, refused_s, (await generate(engine, COUNTING, 3))[-1]

    error, refused_s, after = with_engine(crash_again_and_again)

    assert ("overloaded_error", 529) == (error.kind, error.status)
    assert error.retry_after_s is not None
    assert error.retry_after_s >= 1
    assert refused_s < 1.0
    assert Finished("length", 3) == after


# Parents and children (R26).


def serve_embedded(folder: Path, temporary: Path) -> RunningServer:
    return start_server(
        folder, config="[engine]\nslots = 1\nthreads = 1\nwindow = 512\n", environment={"TMPDIR": str(temporary)}
    )


def engine_of(server: RunningServer) -> psutil.Process:
    return server.engine


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Short: the path of a socket has a hundred characters, and what is longer goes elsewhere."""
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as folder:
        yield Path(folder)


def test_the_child_dies_with_its_parent_and_what_they_left_is_swept(tmp_path: Path, temporary: Path) -> None:
    first = serve_embedded(tmp_path, temporary)
    child = engine_of(first)
    left = list(temporary.iterdir())

    first.process.kill()
    first.process.wait(10)
    gone, alive = psutil.wait_procs([child], timeout=2)
    second = serve_embedded(tmp_path, temporary)
    after = list(temporary.iterdir())
    second.stop()

    assert [child] == gone
    assert [] == alive
    assert 1 == len(left)
    assert 1 == len(after)
    assert left != after
    assert [] == list(temporary.iterdir())


def test_a_server_that_starts_leaves_the_folder_of_a_running_one_alone(tmp_path: Path, temporary: Path) -> None:
    servers = [serve_embedded(tmp_path, temporary) for _ in range(2)]
    folders = list(temporary.iterdir())
    for server in servers:
        server.stop()

    assert 2 == len(folders)
    assert [] == list(temporary.iterdir())


def test_the_child_sees_none_of_our_settings(tmp_path: Path) -> None:
    server = start_server(
        tmp_path,
        config="[engine]\nslots = 1\nthreads = 1\nwindow = 512\n",
        environment={"SESTET_ACCESS_KEYS": "sk-sestet-sentinel-of-the-environment"},
    )
    try:
        child = engine_of(server)
        public = b"".join(Path(f"/proc/{child.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    finally:
        server.stop()

    assert b"SESTET_" not in public
    assert b"sentinel" not in public


def test_a_temporary_folder_with_a_long_name_is_no_obstacle(tmp_path: Path) -> None:
    """A Unix socket's path holds 107 bytes, and TMPDIR is the operator's."""
    temporary = tmp_path / ("long" * 30)
    temporary.mkdir()
    server = serve_embedded(tmp_path, temporary)
    server.stop()

    assert [] == list(temporary.iterdir())
