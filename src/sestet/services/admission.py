"""Who runs now and who waits for one engine: as many run as it has slots, the others wait in a bounded queue, higher
tiers before lower ones, and within a tier the workspaces take turns."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from sestet.contract.errors import ApiError
from sestet.contract.tiers import TIERS, Tier

_RETRY_MAX_S = 60.0  # official clients do not obey a longer `retry-after`
_REPLIES_REMEMBERED = 16


class Admission:
    """`async with admission.slot(workspace, tier):` holds one slot.

    A free slot goes to the highest tier that waits (priority, standard, batch), in it to the workspace whose turn it
    is, and of that to the request that came first. So before each request of a workspace at most one of every other
    workspace in the tier is let in (RELIABILITY.md R16).

    A tier may wait for as long as a higher one fills every slot. What keeps standard requests from it is the limit on
    priority: requests beyond it come as standard, so where the priority limits of all workspaces stay below what the
    engine can do, slots are left. Batch requests are meant to wait for slots that nobody else wants.

    When the queue is full, the request that would be served last is refused, the one that comes or one that waits: of
    the lowest tier and the workspace that has most waiting in it, the newest. So one that floods keeps no other out.
    """

    def __init__(self, slots: int, queue_max: int) -> None:
        self._slots = slots
        self._queue_max = queue_max
        self._turns = {tier: _Turns() for tier in TIERS}
        self._replies = 0
        self._mean_duration_s = 1.0
        self.running = 0
        self.waiting = 0

    def slot(self, workspace: str, tier: Tier) -> "_Slot":
        """Entering waits for its turn: `overloaded_error` where the queue is full, now or when another takes its
        place."""
        return _Slot(self, workspace, tier)

    def took(self, duration_s: float) -> None:
        """Told after each reply how long it held its slot, for the guess that `retry-after` is."""
        self._replies = min(self._replies + 1, _REPLIES_REMEMBERED)
        self._mean_duration_s += (duration_s - self._mean_duration_s) / self._replies

    async def _take(self, workspace: str, tier: Tier) -> None:
        if self.running < self._slots:  # nobody waits then
            self.running += 1
            return
        waiter = _Waiter(workspace, tier, self._leave)
        self._turns[tier].add(waiter)
        self.waiting += 1
        if self.waiting > self._queue_max:
            self._refuse_last()
        try:
            refusal = await waiter
        except BaseException:
            waiter.cancel()  # a task that is closed has not done so
            if not waiter.cancelled() and waiter.result() is None:
                self._pass_on()  # the slot came before the cancellation and nobody is left to hold it
            raise
        if refusal is not None:
            raise refusal

    def _pass_on(self) -> None:
        """From hand to hand, so that nobody who comes now takes it from those who wait."""
        for turns in self._turns.values():
            if turns:
                self.waiting -= 1
                turns.take().set_result(None)
                return
        self.running -= 1

    def _refuse_last(self) -> None:
        last = next(turns for turns in reversed(self._turns.values()) if turns).last()
        self._leave(last)
        # Its turn would be when as many replies have ended as wait before it, and one more.
        wait_s = (self.waiting + 1) / self._slots * self._mean_duration_s
        last.set_result(
            ApiError(
                "overloaded_error",
                f"all {self._slots} slots are busy and {self.waiting} requests are waiting; retry later",
                retry_after_s=min(_RETRY_MAX_S, max(1.0, wait_s)),
            )
        )

    def _leave(self, waiter: "_Waiter") -> None:
        self._turns[waiter.tier].remove(waiter)
        self.waiting -= 1


@dataclass(frozen=True, slots=True)
class _Slot:
    _admission: Admission
    _workspace: str
    _tier: Tier

    async def __aenter__(self) -> None:
        await self._admission._take(self._workspace, self._tier)

    async def __aexit__(self, *ending: object) -> None:
        self._admission._pass_on()


class _Waiter(asyncio.Future[ApiError | None]):
    """Its result is `None` once it holds a slot, or the refusal. It is in the queue exactly until it is done: one that
    is cancelled leaves at once and not when its task runs next, so that it is given no slot in between."""

    def __init__(self, workspace: str, tier: Tier, leave: Callable[["_Waiter"], None]) -> None:
        super().__init__()
        self.workspace = workspace
        self.tier = tier
        self._leave = leave

    def cancel(self, msg: object = None) -> bool:
        if not self.done():
            self._leave(self)
        return super().cancel(msg)


class _Turns:
    """Those of one tier who wait: the workspaces in order of their turns, and each one's own in order of arrival."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, OrderedDict[_Waiter, None]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, waiter: _Waiter) -> None:
        self._lines.setdefault(waiter.workspace, OrderedDict())[waiter] = None

    def remove(self, waiter: _Waiter) -> None:
        line = self._lines[waiter.workspace]
        del line[waiter]
        if not line:
            del self._lines[waiter.workspace]

    def take(self) -> _Waiter:
        """The one whose turn it is; its workspace has the next one after all others."""
        workspace, line = self._lines.popitem(last=False)
        waiter, _ = line.popitem(last=False)
        if line:
            self._lines[workspace] = line
        return waiter

    def last(self) -> _Waiter:
        """The one whose turn comes last."""
        longest = max(reversed(self._lines.values()), key=len)
        return next(reversed(longest))
