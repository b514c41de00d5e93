"""The queue in front of an engine: in order, bounded, and never losing a place."""

import asyncio
from collections.abc import Sequence

from sestet.contract.errors import ApiError
from sestet.services.admission import Admission


class Door:
    """An admission and the visitors who came to it, each of whom stays until told to leave."""

    def __init__(self, slots: int, queue_max: int) -> None:
        self.admission = Admission(slots, queue_max)
        self.inside: list[str] = []
        self._leave: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        for name in names:
            self._leave[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._visit(name))
        await settle_down()

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await settle_down()

    async def give_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await settle_down()

    async def refused(self, name: str) -> ApiError:
        """The refusal of a visitor who must not get in."""
        await self.come(name)
        error = self._tasks[name].exception()
        assert isinstance(error, ApiError)
        return error

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _visit(self, name: str) -> None:
        async with self.admission:
            self.inside.append(name)
            await self._leave[name].wait()

    def counts(self) -> tuple[int, int]:
        return self.admission.running, self.admission.waiting


async def settle_down() -> None:
    """Lets every task that can run do so; nothing here waits for a clock."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_waiting_requests_run_in_the_order_they_came() -> None:
    async def play() -> Sequence[str]:
        door = Door(slots=2, queue_max=10)
        await door.come("a", "b", "c", "d", "e")
        for name in "badce":
            await door.leave(name)
        return door.inside

    assert ["a", "b", "c", "d", "e"] == asyncio.run(play())


def test_as_many_run_as_there_are_slots() -> None:
    async def play() -> list[tuple[int, int]]:
        door = Door(slots=2, queue_max=10)
        seen = [door.counts()]
        for name in "abcd":
            await door.come(name)
            seen.append(door.counts())
        for name in "abcd":
            await door.leave(name)
            seen.append(door.counts())
        return seen

    assert [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0)] == asyncio.run(play())


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def play() -> ApiError:
        door = Door(slots=1, queue_max=2)
        await door.come("a", "b", "c")
        error = await door.refused("d")
        await door.close()
        return error

    error = asyncio.run(play())

    assert ("overloaded_error", 529) == (error.kind, error.status)
    assert error.retry_after_s is not None
    assert 1 <= error.retry_after_s <= 60


def test_without_a_queue_only_the_slots_are_given() -> None:
    async def play() -> tuple[ApiError, list[str]]:
        door = Door(slots=1, queue_max=0)
        await door.come("a")
        error = await door.refused("b")
        await door.leave("a")
        await door.come("c")
        await door.leave("c")
        return error, door.inside

    error, inside = asyncio.run(play())

    assert ("overloaded_error", ["a", "c"]) == (error.kind, inside)


def test_who_gives_up_waiting_frees_the_place_in_the_queue() -> None:
    async def play() -> tuple[list[str], tuple[int, int]]:
        door = Door(slots=1, queue_max=1)
        await door.come("a", "b")
        await door.give_up("b")
        await door.come("c")
        await door.leave("a")
        await door.leave("c")
        return door.inside, door.counts()

    assert (["a", "c"], (0, 0)) == asyncio.run(play())


def test_who_gives_up_while_being_let_in_passes_the_slot_on() -> None:
    async def play() -> tuple[list[str], tuple[int, int]]:
        door = Door(slots=1, queue_max=5)
        await door.come("a", "b", "c")
        door._leave["a"].set()
        # Give up after the slot was handed over and before its taker has run.
        await asyncio.sleep(0)
        door._tasks["b"].cancel()
        await settle_down()
        if "c" in door.inside:
            await door.leave("c")
        return door.inside, door.counts()

    assert (["a", "c"], (0, 0)) == asyncio.run(play())


def test_who_runs_and_is_cancelled_frees_the_slot() -> None:
    async def play() -> tuple[list[str], tuple[int, int]]:
        door = Door(slots=1, queue_max=5)
        await door.come("a", "b")
        await door.give_up("a")
        await door.leave("b")
        return door.inside, door.counts()

    assert (["a", "b"], (0, 0)) == asyncio.run(play())


def test_a_newcomer_does_not_overtake_one_who_was_just_let_in() -> None:
    async def play() -> list[str]:
        door = Door(slots=1, queue_max=5)
        await door.come("a", "b")
        door._leave["a"].set()
        await door.come("c")
        await door.leave("b")
        await door.leave("c")
        return door.inside

    assert ["a", "b", "c"] == asyncio.run(play())


def test_a_slower_engine_makes_clients_wait_longer() -> None:
    async def play() -> list[float]:
        door = Door(slots=1, queue_max=0)
        await door.come("a")
        waits = []
        for number, duration_s in enumerate((0.0, 30.0, 3000.0, 0.0)):
            for _ in range(100):
                door.admission.took(duration_s)
            waits.append((await door.refused(str(number))).retry_after_s or 0.0)
        await door.close()
        return waits

    fast, slow, slowest, fast_again = asyncio.run(play())

    assert [1.0, 60.0] == [fast, slowest]
    assert 25 < slow < 31
    assert fast_again < slow
