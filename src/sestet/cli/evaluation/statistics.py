"""Shares and their differences with 95% confidence intervals. Pure arithmetic, exact where that is cheap."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_Z: Final = 1.959963984540054  # 95%, two sides


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many, with Wilson's interval. Of none, nothing is known."""

    successes: int
    of: int

    @property
    def rate(self) -> float:
        return self.successes / self.of if self.of else math.nan

    @property
    def low(self) -> float:
        return self._bound(-1)

    @property
    def high(self) -> float:
        return self._bound(+1)

    def _bound(self, side: int) -> float:
        if not self.of:
            return 0.0 if side < 0 else 1.0
        if self.successes == (0 if side < 0 else self.of):
            return float(self.rate)  # exact, where rounding would leave a trace
        square = _Z * _Z
        middle = self.rate + square / (2 * self.of)
        spread = _Z * math.sqrt(self.rate * (1 - self.rate) / self.of + square / (4 * self.of * self.of))
        return (middle + side * spread) / (1 + square / self.of)


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two modes on the same problems: the second's accuracy less the first's.

    The interval is Newcombe's for paired proportions (method 10 of 1998), made of the two Wilson intervals and the
    correlation of the pairs. `p` is McNemar's test, exact: how likely so lopsided a change is if nothing changed.
    """

    pairs: int
    gained: int
    lost: int
    value: float
    low: float
    high: float
    p: float


def paired_difference(pairs: Iterable[tuple[bool, bool]]) -> Difference | None:
    """Of (right before, right now) for each problem; None where there is no problem."""
    table = {(before, now): 0 for before in (True, False) for now in (True, False)}
    for pair in pairs:
        table[pair] += 1
    both, lost, gained, neither = table[True, True], table[True, False], table[False, True], table[False, False]
    count = both + lost + gained + neither
    if not count:
        return None
    now, before = Share(both + gained, count), Share(both + lost, count)
    correlation = _correlation(both, lost, gained, neither)
    value = (gained - lost) / count
    return Difference(
        pairs=count,
        gained=gained,
        lost=lost,
        value=value,
        low=value - _joined(now.rate - now.low, before.high - before.rate, correlation),
        high=value + _joined(now.high - now.rate, before.rate - before.low, correlation),
        p=_mcnemar(gained, lost),
    )


def _correlation(both: int, lost: int, gained: int, neither: int) -> float:
    """Phi, held back by half a case for each problem where it is positive, as Newcombe has it."""
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if not margins:
        return 0.0
    excess: float = both * neither - lost * gained
    if excess > 0:
        excess = max(excess - (both + lost + gained + neither) / 2, 0.0)
    return excess / math.sqrt(margins)


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one * one - 2 * correlation * one * other + other * other, 0.0))


def _mcnemar(gained: int, lost: int) -> float:
    changed = gained + lost
    if not changed:
        return 1.0
    tail = sum(math.comb(changed, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << changed))
