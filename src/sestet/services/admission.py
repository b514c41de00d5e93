"""Who runs now and who waits: as many as the engine has slots, in order of arrival, behind a bounded queue."""

import asyncio
from types import TracebackType

from sestet.contract.errors import ApiError


class Admission:
    """`async with admission:` holds one slot. A full queue refuses at once, with a guess when to come back."""

    def __init__(self, slots: int, queue_max: int) -> None:
        self._slots = asyncio.Semaphore(slots)
        self._slot_count = slots
        self._queue_max = queue_max
        self._mean_duration_s = 1.0
        self.running = 0
        self.waiting = 0

    async def __aenter__(self) -> None:
        if self._slots.locked():
            if self.waiting >= self._queue_max:
                raise ApiError(
                    "overloaded_error",
                    f"all {self._slot_count} slots are busy and {self.waiting} requests are waiting; retry later",
                    retry_after_s=self._wait_s(),
                )
            self.waiting += 1
            try:
                await self._slots.acquire()
            finally:
                self.waiting -= 1
        else:
            await self._slots.acquire()
        self.running += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running -= 1
        self._slots.release()

    def took(self, duration_s: float) -> None:
        """Told after each reply, for the guess that `retry-after` is."""
        self._mean_duration_s += (duration_s - self._mean_duration_s) / 16

    def _wait_s(self) -> float:
        turns_ahead = 1 + self.waiting / self._slot_count
        return min(60.0, max(1.0, turns_ahead * self._mean_duration_s))
