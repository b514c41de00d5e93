"""A stream through silence, stalls and interruptions, with a clock that the test turns."""

import asyncio
from typing import Any

from sestet.contract.errors import ApiError
from sestet.server.exchange import Exchange, SseStream
from sestet.server.lifecycle import Lifecycle

HEADERS = ((b"content-type", b"text/event-stream"),)


class Wire:
    """What was sent, as (status or body)."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send(self, message: Any) -> None:
        start = message["type"] == "http.response.start"
        self.sent.append(message["status"] if start else (message["body"], message["more_body"]))


def test_frames_without_text_wait_for_the_next_that_has_some() -> None:
    async def play() -> list[Any]:
        wire = Wire()
        stream = SseStream(wire.send, HEADERS, b"ping")
        stream.hold(b"start ")
        stream.hold(b"block ")
        await stream.write(b"text")
        stream.hold(b"stop ")
        await stream.write(b"", last=True)
        return wire.sent

    assert [200, (b"start block text", True), (b"stop ", False)] == asyncio.run(play())


def test_nothing_is_committed_by_holding() -> None:
    async def play() -> tuple[bool, list[Any]]:
        wire = Wire()
        stream = SseStream(wire.send, HEADERS, b"ping")
        stream.hold(b"start")
        await stream.beat()
        return stream.committed, wire.sent

    assert (False, []) == asyncio.run(play())


def silent_for(seconds: float, *held: bytes) -> list[Any]:
    """What a beat sends after so much silence."""

    async def play() -> list[Any]:
        wire = Wire()
        stream = SseStream(wire.send, HEADERS, b"ping")
        for frame in held:
            stream.hold(frame)
        stream._wrote_at -= seconds
        await stream.beat()
        return wire.sent

    return asyncio.run(play())


def test_a_second_of_silence_commits_what_is_held() -> None:
    assert [200, (b"start", True)] == silent_for(1.5, b"start")


def test_a_second_of_silence_with_nothing_held_changes_nothing() -> None:
    assert [] == silent_for(1.5)


def test_a_longer_silence_is_broken_with_a_ping_after_what_is_held() -> None:
    assert [200, (b"startping", True)] == silent_for(6, b"start")


def test_a_write_in_progress_is_not_disturbed_and_counts_as_stalled() -> None:
    async def play() -> tuple[float, float]:
        reading = asyncio.Event()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await reading.wait()

        stream = SseStream(send, HEADERS, b"ping")
        before = stream.stalled_s()
        writing = asyncio.create_task(stream.write(b"text"))
        await asyncio.sleep(0)
        stream._wrote_at -= 100
        await stream.beat()
        stalled = stream.stalled_s()
        reading.set()
        await writing
        return before, stalled

    before, stalled = asyncio.run(play())

    assert 0.0 == before
    assert stalled >= 0.0


async def never() -> Any:
    await asyncio.Event().wait()


def test_an_interruption_raises_its_cause_in_the_work() -> None:
    async def play() -> tuple[str, int]:
        exchange = Exchange()
        asyncio.get_running_loop().call_soon(exchange.interrupt, ApiError("overloaded_error", "first"))
        asyncio.get_running_loop().call_soon(exchange.interrupt, ApiError("api_error", "second"))
        try:
            async with exchange.watching(never):
                await never()
        except ApiError as error:
            task = asyncio.current_task()
            assert task is not None
            return error.message, task.cancelling()
        raise AssertionError("the work went on")

    assert ("first", 0) == asyncio.run(play())


def test_an_interruption_before_the_work_is_raised_when_it_begins() -> None:
    async def play() -> str:
        exchange = Exchange()
        exchange.interrupt(ApiError("overloaded_error", "early"))
        try:
            async with exchange.watching(never):
                raise AssertionError("the work began")
        except ApiError as error:
            return error.message

    assert "early" == asyncio.run(play())


def test_an_interruption_after_the_work_changes_nothing() -> None:
    async def play() -> str:
        exchange = Exchange()
        async with exchange.watching(never):
            pass
        exchange.interrupt(ApiError("overloaded_error", "late"))
        await asyncio.sleep(0)
        return "said"

    assert "said" == asyncio.run(play())


def test_a_drain_waits_for_running_requests() -> None:
    async def play() -> tuple[list[str], bool]:
        lifecycle = Lifecycle()
        order: list[str] = []
        finish = asyncio.Event()

        async def work() -> None:
            with lifecycle.exchange():
                await finish.wait()
                order.append("request")

        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        draining = asyncio.create_task(lifecycle.drain(60))
        await asyncio.sleep(0)
        order.append(f"draining {lifecycle.draining} with {lifecycle.running}")
        finish.set()
        await working
        await draining
        return order, lifecycle.running == 0

    assert (["draining True with 1", "request"], True) == asyncio.run(play())


def test_a_drain_with_nothing_running_is_over_at_once() -> None:
    async def play() -> bool:
        lifecycle = Lifecycle()
        await asyncio.wait_for(lifecycle.drain(3600), 5)
        return lifecycle.draining

    assert asyncio.run(play())
