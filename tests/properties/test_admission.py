"""Any schedule of arrivals, ends and cancellations against a queue that is simple and slow (R13, R16)."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sestet.contract.errors import ApiError, ErrorKind
from sestet.contract.tiers import TIERS, Tier
from sestet.services.admission import Admission

# What a task does is seen by all others at once, except that a task which was cancelled or let in learns of it only in
# the next step of the event loop. `pause` is such a step; to come takes one, to end and to give up take none.
Come = tuple[Literal["come"], str, Tier]
Other = tuple[Literal["end", "give_up"], int]
Pause = tuple[Literal["pause"]]
Action = Come | Other | Pause

WORKSPACES = st.sampled_from(["flood", "flood", "flood", "a", "b", "c"])
MOSTLY_STANDARD = st.sampled_from(["standard", "standard", "standard", *TIERS])
COME = st.tuples(st.just("come"), WORKSPACES, MOSTLY_STANDARD)
END = st.tuples(st.just("end"), st.integers(0, 3))
GIVE_UP = st.tuples(st.just("give_up"), st.sampled_from([0, 0, 0, 1, 2, 5]))
# More come than go, so that the queue is full for most of the time.
ACTIONS = st.one_of(COME, COME, COME, COME, COME, END, END, GIVE_UP, st.tuples(st.just("pause")))
SCHEDULES = st.lists(ACTIONS, min_size=15, max_size=50)


@dataclass(eq=False)
class Visitor:
    """`hold` has the slot of one that was let in. `passed` counts, by workspace, those let in before it."""

    number: int
    workspace: str
    tier: Tier
    own_before: int
    hold: AsyncExitStack = field(default_factory=AsyncExitStack)
    passed: Counter[str] = field(default_factory=Counter)


class Model:
    """What should be so: who holds a slot, who waits, who was let in and who was refused, in order."""

    def __init__(self, slots: int, queue_max: int) -> None:
        self.slots = slots
        self.queue_max = queue_max
        self.queue: dict[Tier, list[list[Visitor]]] = {tier: [] for tier in TIERS}  # lines in order of their turns
        self.holding: list[Visitor] = []
        self.unaware: list[Visitor] = []  # hold a slot since this step of the loop
        self.cancelled: set[Visitor] = set()  # of the unaware
        self.evicted: list[Visitor] = []  # in this step of the loop, and do not know it either
        self.let_in: list[int] = []
        self.refused: list[int] = []

    def waiting(self) -> list[Visitor]:
        """In the order in which they would be served."""
        order = []
        for tier in TIERS:
            lines = [list(line) for line in self.queue[tier]]
            while lines:
                line = lines.pop(0)
                order.append(line.pop(0))
                lines += [line] if line else []
        return order

    def come(self, visitor: Visitor) -> None:
        if len(self.holding) < self.slots:
            self.holding.append(visitor)
            self.let_in.append(visitor.number)
            return
        lines = self.queue[visitor.tier]
        own = [line for line in lines if line[0].workspace == visitor.workspace]
        if own:
            own[0].append(visitor)
        else:
            lines.append([visitor])
        if len(self.waiting()) > self.queue_max:
            last = self.waiting()[-1]
            self._remove(last)
            self.refused.append(last.number)
            self.evicted += [last] if last is not visitor else []

    def end(self, visitor: Visitor) -> None:
        self.holding.remove(visitor)
        if self.waiting():
            tier = self.waiting()[0].tier
            line = self.queue[tier].pop(0)
            after = line.pop(0)
            self.queue[tier] += [line] if line else []
            self.holding.append(after)
            self.unaware.append(after)
            for other in self.waiting():
                if other.tier == tier:
                    other.passed[after.workspace] += 1

    def give_up(self, visitor: Visitor) -> None:
        if visitor in self.unaware:
            self.cancelled.add(visitor)
        elif visitor in self.evicted:
            self.evicted.remove(visitor)
            self.refused.remove(visitor.number)
        else:
            self._remove(visitor)

    def step(self) -> None:
        learned, self.unaware, self.evicted = self.unaware, [], []
        for visitor in learned:
            if visitor in self.cancelled:
                self.end(visitor)
            else:
                self.let_in.append(visitor.number)

    def _remove(self, visitor: Visitor) -> None:
        lines = [[one for one in line if one is not visitor] for line in self.queue[visitor.tier]]
        self.queue[visitor.tier] = [line for line in lines if line]


class Play:
    """The same schedule, played with real tasks and in the model."""

    def __init__(self, slots: int, queue_max: int) -> None:
        self.admission = Admission(slots, queue_max)
        self.model = Model(slots, queue_max)
        self.tasks: dict[Visitor, asyncio.Task[None]] = {}
        self.let_in: list[int] = []
        self.refused: list[tuple[int, ErrorKind]] = []

    async def act(self, action: Action) -> None:
        match action:
            case ("come", workspace, tier):
                self.model.step()
                own = [one for one in self.model.waiting() if (one.workspace, one.tier) == (workspace, tier)]
                visitor = Visitor(len(self.tasks), workspace, tier, len(own))
                self.model.come(visitor)
                self.tasks[visitor] = asyncio.create_task(self._visit(visitor))
                await asyncio.sleep(0)
            case ("end", index):
                for visitor in self._pick([one for one in self.model.holding if one not in self.model.unaware], index):
                    await visitor.hold.aclose()
                    self.model.end(visitor)
            case ("give_up", index):
                # Those who do not know yet what became of them are the interesting ones, so they are picked first.
                unaware = [one for one in self.model.unaware if one not in self.model.cancelled]
                for visitor in self._pick(unaware + self.model.evicted + self.model.waiting(), index):
                    self.tasks[visitor].cancel()
                    self.model.give_up(visitor)
            case ("pause",):
                self.model.step()
                await asyncio.sleep(0)

    async def finish(self) -> None:
        """Until nobody holds a slot or waits, which takes no more actions than there were visitors."""
        for _ in range(2 * len(self.tasks) + 2):
            await self.act(("pause",))
            await self.act(("end", 0))

    def check(self) -> None:
        waiting = len(self.model.waiting())

        assert (len(self.model.holding), waiting) == (self.admission.running, self.admission.waiting)
        assert self.model.let_in == self.let_in
        assert self.admission.running <= self.model.slots
        assert self.admission.waiting <= self.model.queue_max
        assert self.admission.running == self.model.slots or self.admission.waiting == 0

    def _pick(self, among: Sequence[Visitor], index: int) -> Sequence[Visitor]:
        return [among[index % len(among)]] if among else []

    async def _visit(self, visitor: Visitor) -> None:
        try:
            await visitor.hold.enter_async_context(self.admission.slot(visitor.workspace, visitor.tier))
        except ApiError as error:
            self.refused.append((visitor.number, error.kind))
        else:
            self.let_in.append(visitor.number)


A: Come = ("come", "a", "standard")
BATCH: Come = ("come", "a", "batch")
B: Come = ("come", "b", "standard")
LET_IN_AND_CANCELLED: Sequence[Action] = (A, A, A, ("end", 0), ("give_up", 0), A)
REFUSED_AND_CANCELLED: Sequence[Action] = (A, BATCH, A, ("give_up", 0), A)
TURNS: Sequence[Action] = (A, A, A, A, B, B)
GREEDY: Sequence[Action] = (A, B, A, A, A, B)


@example(1, 5, TURNS)
@example(1, 4, GREEDY)
@example(1, 2, LET_IN_AND_CANCELLED)
@example(1, 1, REFUSED_AND_CANCELLED)
@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3), st.integers(0, 8), SCHEDULES)
def test_any_schedule_goes_as_the_simple_queue_says(slots: int, queue_max: int, schedule: Sequence[Action]) -> None:
    async def play() -> Play:
        played = Play(slots, queue_max)
        for action in schedule:
            await played.act(action)
            played.check()
        await played.finish()
        played.check()
        return played

    played = asyncio.run(play())

    assert [(number, "overloaded_error") for number in sorted(played.model.refused)] == sorted(played.refused)
    assert (0, 0) == (played.admission.running, played.admission.waiting)
    assert not any(played.admission._turns.values())
    for visitor in played.tasks:
        of_others = [count for workspace, count in visitor.passed.items() if workspace != visitor.workspace]
        assert max(of_others, default=0) <= visitor.own_before + 1
