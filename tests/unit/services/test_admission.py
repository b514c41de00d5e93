"""The queue in front of an engine: tiers, turns of workspaces, bounded, and never losing a place."""

import asyncio
import gc
import weakref
from collections.abc import Sequence

from sestet.contract.errors import ApiError
from sestet.contract.tiers import Tier
from sestet.services.admission import Admission


class Door:
    """An admission and the visitors who came to it, each of whom stays until told to leave."""

    def __init__(self, slots: int, queue_max: int) -> None:
        self.admission = Admission(slots, queue_max)
        self.inside: list[str] = []
        self._leave: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str, workspace: str = "one", tier: Tier = "standard") -> None:
        for name in names:
            self._leave[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._visit(name, workspace, tier))
        await settle_down()

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await settle_down()

    async def give_up(self, name: str) -> None:
        self._tasks[name].cancel()
        await settle_down()

    async def leave_one_by_one(self) -> None:
        """Each goes when it is the next to have come in, until nobody is left."""
        gone = 0
        while gone < len(self.inside):
            await self.leave(self.inside[gone])
            gone += 1

    async def refused(self, name: str, workspace: str = "one", tier: Tier = "standard") -> ApiError:
        """The refusal of a visitor who must not get in."""
        await self.come(name, workspace=workspace, tier=tier)
        return self.refusal(name)

    def refusal(self, name: str) -> ApiError:
        error = self._tasks[name].exception()
        assert isinstance(error, ApiError)
        return error

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _visit(self, name: str, workspace: str, tier: Tier) -> None:
        async with self.admission.slot(workspace, tier):
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


def test_who_is_closed_while_waiting_leaves_the_queue() -> None:
    async def play() -> list[tuple[int, int]]:
        door = Door(slots=1, queue_max=5)
        await door.come("a")
        waiting = door.admission.slot("one", "standard").__aenter__()
        waiting.send(None)
        seen = [door.counts()]
        waiting.close()
        seen.append(door.counts())
        await door.leave("a")
        return [*seen, door.counts()]

    assert [(1, 1), (1, 0), (0, 0)] == asyncio.run(play())


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


def test_a_free_slot_goes_to_the_highest_tier_that_waits() -> None:
    async def play() -> list[str]:
        door = Door(slots=1, queue_max=10)
        await door.come("running")
        await door.come("batch1", "batch2", tier="batch")
        await door.come("standard1", "standard2", workspace="two")
        await door.come("priority1", "priority2", tier="priority")
        await door.leave_one_by_one()
        return door.inside

    assert [
        "running",
        "priority1",
        "priority2",
        "standard1",
        "standard2",
        "batch1",
        "batch2",
    ] == asyncio.run(play())


def test_workspaces_take_turns() -> None:
    async def play() -> list[str]:
        door = Door(slots=1, queue_max=10)
        await door.come("a0", "a1", "a2", "a3", workspace="a")
        await door.come("b1", "b2", workspace="b")
        await door.come("c1", workspace="c")
        await door.leave_one_by_one()
        return door.inside

    assert ["a0", "a1", "b1", "c1", "a2", "b2", "a3"] == asyncio.run(play())


def test_whoever_asks_again_after_each_reply_waits_one_turn_of_the_others_and_they_wait_one_of_its() -> None:
    async def play() -> list[str]:
        door = Door(slots=1, queue_max=100)
        await door.come(*(f"flood{number}" for number in range(50)), workspace="flood")
        for number in range(3):
            await door.come(f"polite{number}", workspace="polite")
            while f"polite{number}" not in door.inside:
                await door.leave(door.inside[-1])
        seen = list(door.inside)
        await door.close()
        return seen

    assert ["flood0", "flood1", "polite0", "flood2", "polite1", "flood3", "polite2"] == asyncio.run(play())


def test_one_that_floods_the_queue_loses_its_newest_to_others() -> None:
    async def play() -> tuple[list[str], list[str], tuple[int, int]]:
        door = Door(slots=1, queue_max=4)
        await door.come("a0", "a1", "a2", "a3", "a4", workspace="a")
        await door.come("b1", "b2", workspace="b")
        refused = [door.refusal(name).kind for name in ("a4", "a3")]
        counts = door.counts()
        await door.leave_one_by_one()
        return door.inside, [str(kind) for kind in refused], counts

    assert (["a0", "a1", "b1", "a2", "b2"], ["overloaded_error"] * 2, (1, 4)) == asyncio.run(play())


def test_nobody_loses_a_place_to_one_who_has_as_many() -> None:
    async def play() -> list[str]:
        door = Door(slots=1, queue_max=4)
        await door.come("a0", "a1", "a2", workspace="a")
        await door.come("b1", "b2", workspace="b")
        await door.refused("b3", "b")
        await door.refused("a3", "a")
        await door.leave_one_by_one()
        return door.inside

    assert ["a0", "a1", "b1", "a2", "b2"] == asyncio.run(play())


def test_where_each_has_one_waiting_who_comes_is_refused() -> None:
    async def play() -> list[str]:
        door = Door(slots=1, queue_max=2)
        await door.come("a0", "a1", workspace="a")
        await door.come("b1", workspace="b")
        await door.refused("c1", "c")
        await door.leave_one_by_one()
        return door.inside

    assert ["a0", "a1", "b1"] == asyncio.run(play())


def test_a_higher_tier_takes_the_place_of_the_lowest() -> None:
    async def play() -> tuple[list[str], list[int]]:
        door = Door(slots=1, queue_max=3)
        await door.come("running")
        await door.come("standard", workspace="two")
        await door.come("batch1", "batch2", workspace="two", tier="batch")
        await door.come("standard1", "standard2", workspace="three")
        await door.come("priority", workspace="two", tier="priority")
        refused = [door.refusal(name).status for name in ("batch2", "batch1", "standard2")]
        await door.refused("batch3", "four", "batch")
        await door.leave_one_by_one()
        return door.inside, refused

    assert (["running", "priority", "standard", "standard1"], [529] * 3) == asyncio.run(play())


class Name(str):
    """A name of which one can see whether anybody still knows it."""


def test_workspaces_that_are_gone_are_forgotten() -> None:
    known: list[weakref.ref[Name]] = []

    async def play() -> Admission:
        door = Door(slots=1, queue_max=3)
        for number in range(4):
            workspace = Name(f"workspace{number}")
            known.append(weakref.ref(workspace))
            await door.come(f"{number}a", f"{number}b", f"{number}c", workspace=workspace)
            await door.give_up(f"{number}c")
        await door.close()
        return door.admission

    admission = asyncio.run(play())
    gc.collect()

    assert [None] * 4 == [reference() for reference in known]
    assert (0, 0) == (admission.running, admission.waiting)


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


def test_clients_are_told_to_come_when_it_would_have_been_their_turn() -> None:
    async def play() -> list[float | None]:
        door = Door(slots=2, queue_max=3)
        door.admission.took(4.0)
        door.admission.took(8.0)
        await door.come("a", "b", "c", "d", "e")
        waits = [(await door.refused("f")).retry_after_s]
        await door.come("g", workspace="two")
        waits.append(door.refusal("e").retry_after_s)
        await door.close()
        return waits

    # Replies take 6 s and two run, so one ends every 3 s; three wait before the one that is refused.
    assert [12.0, 12.0] == asyncio.run(play())
