"""What was spent, by day, against the limits of a workspace and of the organisation."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final, NamedTuple

from sestet.gate.directory import Allowance, Period

_EPOCH: Final = date(1970, 1, 1)


class SpendRefusal(NamedTuple):
    """The limit that is used up, in micro-dollars, and the day, UTC, on which its next period begins."""

    period: Period
    limit: int
    again_on: date


class Spending:
    """Micro-dollars by workspace and day (days since 1970, UTC). The numbers are the store's own, so they are right
    after a restart and with several servers."""

    def __init__(self) -> None:
        self._days: dict[str, dict[int, int]] = {}
        self._total: dict[int, int] = {}

    def put(self, totals: Mapping[tuple[str, int], int]) -> None:
        """Replaces the totals of these workspaces and days. A day's total only grows."""
        for (workspace, day), spent in totals.items():
            days = self._days.setdefault(workspace, {})
            more = max(0, spent - days.get(day, 0))
            days[day] = days.get(day, 0) + more
            self._total[day] = self._total.get(day, 0) + more

    def of(self, workspace: str | None, period: Period, today: int) -> int:
        """Spent in the period that this day is in; without a workspace by all together."""
        days = self._total if workspace is None else self._days.get(workspace, {})
        first, _ = bounds(period, today)
        return sum(days.get(day, 0) for day in range(first, today + 1))

    def refusal(self, workspace: str | None, allowance: Allowance, today: int) -> SpendRefusal | None:
        """The limit that keeps out for longest, of those that are used up."""
        used_up = [
            SpendRefusal(period, limit, _EPOCH + timedelta(days=bounds(period, today)[1]))
            for period, limit in allowance.spend.items()
            if self.of(workspace, period, today) >= limit
        ]
        return max(used_up, key=lambda refusal: refusal.again_on, default=None)


def bounds(period: Period, day: int) -> tuple[int, int]:
    """The first day of the period that this day is in, and the first one after it."""
    if period == "daily":
        return day, day + 1
    first = (_EPOCH + timedelta(days=day)).replace(day=1)
    after = (first + timedelta(days=32)).replace(day=1)
    return (first - _EPOCH).days, (after - _EPOCH).days


def day_of(at_us: int) -> int:
    """The day, since 1970 in UTC, of a time in microseconds."""
    return at_us // 86_400_000_000
