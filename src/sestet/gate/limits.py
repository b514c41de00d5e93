"""Limits by the minute: token buckets with continuous refill, as RELIABILITY.md section 3 describes the contract's.

No clock: every call takes `now`, monotonic seconds. No waiting and no I/O: a call is whole before another one starts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from sestet.contract.limits import LimitKind, LimitState
from sestet.contract.tiers import Tier

Kind = Literal["requests", "input_tokens", "output_tokens"]
Scope = Literal["workspace", "organization"]

KINDS: Final[tuple[Kind, ...]] = ("requests", "input_tokens", "output_tokens")
PRIORITY_KINDS: Final[tuple[tuple[Kind, LimitKind], ...]] = (
    ("input_tokens", "priority_input_tokens"),
    ("output_tokens", "priority_output_tokens"),
)
REPLAYED_S: Final = 600.0

_SECOND: Final = 1_000_000_000  # in nanoseconds
# With this many parts to a token, a bucket of n tokens a minute gains n parts in every nanosecond: all of the
# arithmetic is of whole numbers, nothing is rounded, and the bounds of R14 hold to the last part.
_TOKEN: Final = 60 * _SECOND


class Bucket:
    """`capacity` a minute, of requests or tokens. Full at first, never above full, below empty when more was used
    than was known beforehand: that debt is paid off before anything else is let in.

    What takes `at` is for whoever asks several buckets at one moment: `now` in nanoseconds, converted once."""

    __slots__ = ("_at", "_full", "_level", "capacity")

    def __init__(self, capacity: int, level: int | None = None, at: float = 0.0) -> None:
        assert capacity > 0, "a limit is at least one a minute"
        self.capacity = capacity
        self._full = capacity * _TOKEN
        self._level = self._full if level is None else level
        self._at = _nanoseconds(at)

    def level(self, now: float) -> int:
        """What is in it, in parts of a token; with this and the capacity another one goes on exactly where it is."""
        return self.refilled(_nanoseconds(now))

    def remaining(self, now: float) -> int:
        """Whole tokens that can be taken; zero in debt."""
        return max(0, self.level(now) // _TOKEN)

    def wait_s(self, amount: int, now: float) -> float:
        """Seconds until this amount is there, zero if it is. More than the capacity is there when the bucket is full:
        otherwise no waiting would ever be long enough."""
        return self.wait_at(amount, _nanoseconds(now))

    def spend(self, amount: int, now: float) -> None:
        """Takes this amount, there or not; a negative amount is given back, and the next look stops at full."""
        self.spend_at(amount, _nanoseconds(now))

    def resize(self, capacity: int, now: float) -> None:
        """Another capacity, filled in the same proportion: what was full is full, and a debt, which a lower limit
        would otherwise stretch to hours, takes as long to pay off as it did."""
        assert capacity > 0, "a limit is at least one a minute"
        self._level = self.level(now) * capacity // self.capacity
        self.capacity = capacity
        self._full = capacity * _TOKEN

    def wait_at(self, amount: int, at: int) -> float:
        level = self.refilled(at)
        needed = amount * _TOKEN if amount < self.capacity else self._full
        return -((level - needed) // self.capacity) / _SECOND if needed > level else 0.0

    def spend_at(self, amount: int, at: int) -> None:
        self._level = self.refilled(at) - amount * _TOKEN

    def state_at(self, kind: Kind, at: int) -> LimitState:
        level = self.refilled(at)
        remaining = level // _TOKEN if level > 0 else 0
        return LimitState(kind, self.capacity, remaining, -((level - self._full) // self.capacity) / _SECOND)

    def refilled(self, at: int) -> int:
        """The level at this time, from which it goes on."""
        level = self._level
        # A clock that went back is believed from there on. Waiting for it to come back to where it was could lock
        # everybody out for as long as it went back.
        if at > self._at:
            level += (at - self._at) * self.capacity
        self._at = at
        if level > self._full:
            level = self._full
        self._level = level
        return level


@lru_cache(maxsize=16)  # a request asks several buckets, several times, at the same moment
def _nanoseconds(seconds: float) -> int:
    numerator, denominator = seconds.as_integer_ratio()
    return numerator * _SECOND // denominator


@dataclass(frozen=True, slots=True)
class Limits:
    """What one scope may use of one class of models in a minute; `None` is without a limit."""

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    def given(self) -> dict[Kind, int]:
        """The limits that there are."""
        values = zip(KINDS, (self.requests, self.input_tokens, self.output_tokens), strict=True)
        return {kind: value for kind, value in values if value is not None}


class Used(NamedTuple):
    """What a scope used, and how many seconds ago."""

    ago_s: float
    requests: int
    input_tokens: int
    output_tokens: int


# Whose buckets: a workspace's id or '' for the organisation, and a class of models or '' for the priority capacity.
Place = tuple[str, str]
Levels = Mapping[Kind, tuple[int, int]]  # of each bucket its capacity, and what is in it, in parts of a token


class ScopeLimiter:
    """The buckets of one scope and class of models, or of a workspace's priority capacity. That of the organisation
    is one object, which the limiters of all workspaces share: together they never get more than it has."""

    def __init__(self, limits: Limits, place: Place = ("", "")) -> None:
        self.place = place
        self.buckets = {kind: Bucket(capacity) for kind, capacity in limits.given().items()}

    @property
    def limits(self) -> Limits:
        return Limits(**{kind: bucket.capacity for kind, bucket in self.buckets.items()})

    def levels(self, now: float) -> Levels:
        return {kind: (bucket.capacity, bucket.level(now)) for kind, bucket in self.buckets.items()}

    def full_s(self, now: float) -> float:
        """Seconds until everything is there: then nothing is left to remember."""
        return max((bucket.wait_s(bucket.capacity, now) for bucket in self.buckets.values()), default=0.0)

    def put(self, levels: Levels, at: float) -> None:
        """Goes on from these levels at this time. The limits stay: what was another capacity keeps its proportion."""
        limits = self.limits
        self.buckets = {kind: Bucket(capacity, level, at) for kind, (capacity, level) in levels.items()}
        self.change(limits, at)

    def spend(self, kind: Kind, amount: int, now: float) -> None:
        self.spend_at(kind, amount, _nanoseconds(now))

    def spend_at(self, kind: Kind, amount: int, at: int) -> None:
        bucket = self.buckets.get(kind)
        if bucket is not None:
            bucket.spend_at(amount, at)

    def change(self, limits: Limits, now: float) -> None:
        """Other limits from now on. What had no limit starts full, what has one keeps its proportion."""
        before, self.buckets = self.buckets, {}
        for kind, capacity in limits.given().items():
            self.buckets[kind] = before.get(kind) or Bucket(capacity)
            self.buckets[kind].resize(capacity, now)

    def replay(self, used: Iterable[Used], now: float, window_s: float = REPLAYED_S) -> None:
        """After a restart, before anything else: all that was used in the last `window_s` seconds, oldest first.

        The window, a minute or more, starts with empty buckets, since what was used before it is not known. So a
        restart gives nobody a second burst, costs nobody more than one refill, and is exact for whoever was quiet for a
        minute of it.
        """
        for bucket in self.buckets.values():
            bucket.spend(bucket.capacity, now - window_s)
        for ago_s, *amounts in used:
            # Times of before the restart are another clock's, which may have been set meanwhile.
            at = now - min(max(ago_s, 0.0), window_s)
            for kind, amount in zip(KINDS, amounts, strict=True):
                self.spend(kind, amount, at)

    def states(self, now: float) -> dict[LimitKind, LimitState]:
        """How the limits stand, and their sum over input and output where both are limited."""
        return self.states_at(_nanoseconds(now))

    def states_at(self, at: int) -> dict[LimitKind, LimitState]:
        states: dict[LimitKind, LimitState] = {kind: bucket.state_at(kind, at) for kind, bucket in self.buckets.items()}
        inputs, outputs = states.get("input_tokens"), states.get("output_tokens")
        if inputs is not None and outputs is not None:
            remaining = inputs.remaining + outputs.remaining
            reset_s = max(inputs.reset_s, outputs.reset_s)
            states["tokens"] = LimitState("tokens", inputs.limit + outputs.limit, remaining, reset_s)
        return states


@dataclass(frozen=True, slots=True)
class Refusal:
    """The limit that keeps a request waiting longest. The same call succeeds after `retry_after_s` seconds, and not
    before, if nobody else takes anything; exact, to be rounded up."""

    kind: LimitKind
    scope: Scope
    limit: int
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request was let in, in which tier, and how the limits then stood."""

    refusal: Refusal | None
    tier: Tier
    states: tuple[LimitState, ...]


class Limiter:
    """What one workspace may use of one class of models: every request counts against the workspace and against the
    organisation, and one of the priority tier against the workspace's priority capacity besides."""

    def __init__(
        self, workspace: ScopeLimiter, organization: ScopeLimiter, priority: ScopeLimiter | None = None
    ) -> None:
        self._workspace = workspace
        self._organization = organization
        self._priority = priority or ScopeLimiter(Limits())

    @property
    def limits_input(self) -> bool:
        """Whether it depends on a request's size how long it has to wait."""
        return "input_tokens" in self._workspace.buckets or "input_tokens" in self._organization.buckets

    @property
    def scopes(self) -> tuple[ScopeLimiter, ScopeLimiter, ScopeLimiter]:
        """Of the workspace, of the organisation, of the workspace's priority capacity."""
        return (self._workspace, self._organization, self._priority)

    def charged(self, tier: Tier) -> tuple[ScopeLimiter, ...]:
        """Those that a request of this tier counts against."""
        return self.scopes if tier == "priority" else self.scopes[:2]

    def decide(self, input_tokens: int, now: float, *, priority: bool) -> Decision:
        """Takes one request with this many input tokens, from the priority capacity too if it is to be served first and
        there is room."""
        refusal = self.take(input_tokens, now)
        first = refusal is None and priority and self.take_priority(input_tokens, now)
        return Decision(refusal, "priority" if first else "standard", self.states(now))

    def check(self, now: float) -> Refusal | None:
        """Whether even the smallest request would be refused, before this one is read: takes nothing. The refusal's
        time is that of the smallest request."""
        return self._refusal(1, _nanoseconds(now))

    def take(self, input_tokens: int, now: float) -> Refusal | None:
        """One request with this many input tokens, from all buckets or, refused, from none. It reserves no output:
        any is let in while there is no debt."""
        at = _nanoseconds(now)
        refusal = self._refusal(input_tokens, at)
        if refusal is None:
            for scope in (self._workspace, self._organization):
                scope.spend_at("requests", 1, at)
                scope.spend_at("input_tokens", input_tokens, at)
        return refusal

    def take_priority(self, input_tokens: int, now: float) -> bool:
        """Whether the priority capacity has room for a request that was let in; if so, its input is taken there too.
        A workspace has such capacity if it has it for both input and output."""
        match self._priority.buckets:
            case {"input_tokens": inputs, "output_tokens": outputs}:
                if inputs.remaining(now) >= max(1, input_tokens) and outputs.remaining(now) >= 1:
                    inputs.spend(input_tokens, now)
                    return True
        return False

    def produced(self, output_tokens: int, now: float, tier: Tier = "standard") -> None:
        """Output counts as it appears, wanted or not: it may end in debt."""
        self._spend("output_tokens", output_tokens, now, tier)

    def correct(self, input_tokens_delta: int, now: float, tier: Tier = "standard") -> None:
        """The input that was taken was an estimate; it was this much more or, negative, less. What was read from the
        cache is free, so it is given back here."""
        self._spend("input_tokens", input_tokens_delta, now, tier)

    def states(self, now: float) -> tuple[LimitState, ...]:
        """What is limited, in the order of `LimitKind`: of workspace and organisation the one with less left."""
        at = _nanoseconds(now)
        own, shared = self._workspace.states_at(at), self._organization.states_at(at)
        states = [
            _tighter(own[kind], shared[kind]) if kind in own and kind in shared else own.get(kind) or shared[kind]
            for kind in _ORDINARY
            if kind in own or kind in shared
        ]
        if self._priority.buckets:
            priority = self._priority.states_at(at)
            states += [priority[kind]._replace(kind=name) for kind, name in PRIORITY_KINDS if kind in priority]
        return tuple(states)

    def _refusal(self, input_tokens: int, at: int) -> Refusal | None:
        # Whatever a request turns out to be, it is a request, it has input, and it will have output.
        least: dict[Kind, int] = {"requests": 1, "input_tokens": max(1, input_tokens), "output_tokens": 1}
        refusals: list[Refusal] = []
        scopes: tuple[tuple[Scope, ScopeLimiter], ...]
        scopes = (("workspace", self._workspace), ("organization", self._organization))
        for name, scope in scopes:
            for kind, bucket in scope.buckets.items():
                wait_s = bucket.wait_at(least[kind], at)
                if wait_s:
                    refusals.append(Refusal(kind, name, bucket.capacity, wait_s))
        return max(refusals, key=lambda refusal: refusal.retry_after_s) if refusals else None

    def _spend(self, kind: Kind, amount: int, now: float, tier: Tier) -> None:
        at = _nanoseconds(now)
        for scope in self.charged(tier):
            bucket = scope.buckets.get(kind)
            if bucket is not None:
                bucket.spend_at(amount, at)


_ORDINARY: Final[tuple[LimitKind, ...]] = ("requests", "tokens", "input_tokens", "output_tokens")


def _tighter(one: LimitState, other: LimitState) -> LimitState:
    if one.remaining == other.remaining:
        return other if other.reset_s > one.reset_s else one
    return other if other.remaining < one.remaining else one
