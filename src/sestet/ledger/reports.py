"""What a report of the ledger is asked for, and what it says: tokens and money, by time and by whom.

Parts of a cost by kind of token are exact. A request's cost is rounded once, on its sum, so what its parts lack of it,
or have too much, is kept beside them as `rounding`: parts and rounding add up to the cost, to the last digit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from sestet.ledger.prices import Kind

Dimension = Literal["api_key_id", "workspace_id", "model", "service_tier", "context_window"]
ContextWindow = Literal["0-200k", "200k-1M"]
Width = Literal["1d", "1h", "1m"]

DAY_US: Final = 86_400_000_000
WIDTHS_US: Final[Mapping[Width, int]] = {"1d": DAY_US, "1h": 3_600_000_000, "1m": 60_000_000}
LONG_CONTEXT: Final = 200_000  # a prompt with more tokens, cached or not, is in the second context window

_MICRO: Final = 1_000_000  # exact amounts are in millionths of a micro-dollar


@dataclass(frozen=True, slots=True)
class Query:
    """Requests settled from `start` up to before `end`, in buckets of `width` that begin at whole multiples of it; all
    three in microseconds. `only` leaves in what has one of the values; `itemised` asks for the cost of each kind."""

    start: int
    end: int
    width: int
    by: frozenset[Dimension] = frozenset()
    only: Mapping[Dimension, frozenset[str]] = field(default_factory=dict)
    itemised: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """`total` is in micro-dollars, `parts` in millionths of one; there are none unless they were asked for."""

    total: int
    parts: Mapping[Kind, int] = field(default_factory=dict)

    @property
    def rounding(self) -> int:
        """What the parts lack of the total: millionths of a micro-dollar, below zero where they have too much."""
        return self.total * _MICRO - sum(self.parts.values())

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.total + other.total, _added(self.parts, other.parts))


@dataclass(frozen=True, slots=True)
class Sums:
    """Of some requests. `cost` is at the prices of their cards, `own_cost` the operator's."""

    requests: int
    tokens: Mapping[Kind, int]
    cost: Cost
    own_cost: Cost

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.requests + other.requests,
            _added(self.tokens, other.tokens),
            self.cost + other.cost,
            self.own_cost + other.own_cost,
        )


NOTHING: Final = Sums(0, {}, Cost(0), Cost(0))


@dataclass(frozen=True, slots=True)
class Group:
    """The requests of a bucket that have these values; `starting_at` is in microseconds since 1970 UTC."""

    starting_at: int
    values: Mapping[Dimension, str]
    sums: Sums


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """A report as a client asks for it: `limit` buckets from `page` on, or else from `starting_at`; times in
    microseconds. Without `ending_at` it goes up to now."""

    starting_at: int
    ending_at: int | None
    width: Width
    limit: int
    page: int | None
    by: frozenset[Dimension]
    only: Mapping[Dimension, frozenset[str]]
    itemised: bool = False


@dataclass(frozen=True, slots=True)
class Bucket:
    """In a fixed order, and none where nothing was used."""

    starting_at: int
    ending_at: int
    groups: Sequence[Group]


@dataclass(frozen=True, slots=True)
class Report:
    """`next_page` is where the next bucket begins, if there is one."""

    buckets: Sequence[Bucket]
    next_page: int | None


def _added(some: Mapping[Kind, int], more: Mapping[Kind, int]) -> dict[Kind, int]:
    return {**some, **{kind: some.get(kind, 0) + number for kind, number in more.items()}}
