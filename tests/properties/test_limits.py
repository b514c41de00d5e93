"""R14 and R24: the limiter against an exact model in fractions, and its bounds without one, under clocks that jump.

Times are in ticks of 1/512 second: a float holds them exactly, and so does a whole number of nanoseconds.
"""

from fractions import Fraction
from math import ceil, floor
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from sestet.gate.limits import KINDS, Bucket, Kind, Limiter, Limits, Refusal, ScopeLimiter, Used
from tests.lengths import length

TICKS = 512
HOUR = 3600 * TICKS
MINUTE = 60 * TICKS
ORGANIZATION = 2  # beside the workspaces 0 and 1

Action = Literal["take", "insist", "check", "produced", "correct"]

CAPACITIES = st.one_of(st.none(), st.integers(1, 60))
LIMITS = st.builds(Limits, requests=CAPACITIES, input_tokens=CAPACITIES, output_tokens=CAPACITIES)
SCOPES = st.tuples(LIMITS, LIMITS, LIMITS)
WORKSPACES = st.integers(0, 1)
AMOUNTS = st.integers(0, 80)
ONWARD = st.one_of(st.just(0), st.integers(0, 3 * TICKS), st.integers(0, 2 * MINUTE))
JUMPS = st.sampled_from([-1, -TICKS, -HOUR, HOUR, -40 * 24 * HOUR, 40 * 24 * HOUR])
ACTIONS: st.SearchStrategy[Action] = st.sampled_from(["take", "take", "insist", "check", "produced", "correct"])
STEPS = st.lists(st.tuples(WORKSPACES, st.one_of(ONWARD, ONWARD, JUMPS), ACTIONS, AMOUNTS), max_size=20)

thorough = settings(max_examples=length(200, 2000), deadline=None)
brief = settings(max_examples=length(100, 500), deadline=None)


class Exact:
    """The rules in fractions: all levels, by scope and kind, refilled together."""

    def __init__(self, scopes: tuple[Limits, Limits, Limits]) -> None:
        every = {(scope, kind): getattr(limits, kind) for scope, limits in enumerate(scopes) for kind in KINDS}
        self.capacities = {bucket: Fraction(capacity) for bucket, capacity in every.items() if capacity is not None}
        self.levels = dict(self.capacities)
        self.now = Fraction(0)

    def turn_to(self, ticks: int) -> None:
        now = Fraction(ticks, TICKS)
        for bucket, capacity in self.capacities.items():
            refill = capacity * max(Fraction(0), now - self.now) / 60
            self.levels[bucket] = min(capacity, self.levels[bucket] + refill)
        self.now = now

    def wait(self, workspace: int, tokens: int) -> int:
        """In nanoseconds."""
        needed = {"requests": 1, "input_tokens": max(1, tokens), "output_tokens": 1}
        waits = [self.until(bucket, needed[bucket[1]]) for bucket in self.of(workspace)]
        return max(waits, default=0)

    def until(self, bucket: tuple[int, Kind], amount: int | Fraction) -> int:
        capacity = self.capacities[bucket]
        return max(0, ceil((min(amount, capacity) - self.levels[bucket]) * 60 * 10**9 / capacity))

    def spend(self, workspace: int, kind: Kind, amount: int) -> None:
        for bucket in self.of(workspace):
            if bucket[1] == kind:
                self.levels[bucket] = min(self.capacities[bucket], self.levels[bucket] - amount)

    def take(self, workspace: int, tokens: int) -> None:
        self.spend(workspace, "requests", 1)
        self.spend(workspace, "input_tokens", tokens)

    def states(self, workspace: int) -> list[tuple[Kind, int, int]]:
        left = [
            (KINDS.index(kind), max(0, floor(self.levels[scope, kind])), -self.until((scope, kind), 60))
            for scope, kind in self.of(workspace)
        ]
        tightest = [min(state for state in left if state[0] == kind) for kind in sorted({state[0] for state in left})]
        return [(KINDS[kind], remaining, -reset) for kind, remaining, reset in tightest]

    def of(self, workspace: int) -> list[tuple[int, Kind]]:
        return [bucket for bucket in self.capacities if bucket[0] in (workspace, ORGANIZATION)]


def limiters(scopes: tuple[Limits, Limits, Limits]) -> tuple[Limiter, Limiter]:
    one, other, organization = (ScopeLimiter(limits) for limits in scopes)
    return Limiter(one, organization), Limiter(other, organization)


def nanoseconds(wait_s: float) -> int:
    return round(wait_s * 10**9)


def wait(refusal: Refusal | None) -> int:
    """In nanoseconds; zero if it was let in."""
    return 0 if refusal is None else nanoseconds(refusal.retry_after_s)


def insist(limiter: Limiter, tokens: int, ticks: int) -> int:
    """Asks, and asks again after `retry-after` in whole seconds, never in vain, and a second earlier always in vain;
    the ticks that it took."""
    refusal = limiter.take(tokens, ticks / TICKS)
    if refusal is None:
        return 0
    seconds = ceil(refusal.retry_after_s)
    again = [limiter.take(tokens, ticks / TICKS + after) is None for after in (seconds - 1, seconds)]

    assert [False, True] == again
    return seconds * TICKS


@thorough
@given(scopes=SCOPES, steps=STEPS)
def test_every_answer_is_that_of_the_exact_model(
    scopes: tuple[Limits, Limits, Limits], steps: list[tuple[int, int, Action, int]]
) -> None:
    both, model, ticks = limiters(scopes), Exact(scopes), 0
    for workspace, onward, action, amount in steps:
        ticks += onward
        model.turn_to(ticks)
        limiter, now = both[workspace], ticks / TICKS
        both[1 - workspace].check(now)  # only who looks at the clock can notice that it went back
        match action:
            case "take":
                expected = model.wait(workspace, amount)
                assert expected == wait(limiter.take(amount, now))
                if expected == 0:
                    model.take(workspace, amount)
            case "insist":
                ticks += insist(limiter, amount, ticks)
                model.turn_to(ticks)
                model.take(workspace, amount)
            case "check":
                assert model.wait(workspace, 1) == wait(limiter.check(now))
            case "produced":
                limiter.produced(amount, now)
                model.spend(workspace, "output_tokens", amount)
            case "correct":
                limiter.correct(amount - 40, now)
                model.spend(workspace, "input_tokens", amount - 40)

        for index, each in enumerate(both):
            states = [state for state in each.states(ticks / TICKS) if state.kind != "tokens"]
            told = [(state.kind, state.remaining, nanoseconds(state.reset_s)) for state in states]
            assert model.states(index) == told


@brief
@given(
    scopes=SCOPES, steps=st.lists(st.tuples(WORKSPACES, ONWARD, st.integers(1, 80), st.integers(0, 80)), max_size=20)
)
def test_in_any_window_no_more_is_let_in_than_a_burst_and_the_refill(
    scopes: tuple[Limits, Limits, Limits], steps: list[tuple[int, int, int, int]]
) -> None:
    both, ticks = limiters(scopes), 0
    admitted: list[tuple[int, int, int]] = []
    for workspace, onward, tokens, cached in steps:
        ticks += onward
        if both[workspace].take(tokens, ticks / TICKS) is None:
            free = min(tokens, cached)  # read from the cache, which does not count
            both[workspace].correct(-free, ticks / TICKS)
            admitted.append((workspace, ticks, tokens - free))

    largest = max((tokens for _, _, tokens, _ in steps), default=0)
    for scope, limits in enumerate(scopes):
        of_scope = [(at, tokens) for workspace, at, tokens in admitted if scope in (workspace, ORGANIZATION)]
        check_windows([(at, 1) for at, _ in of_scope], limits.requests, 0)
        check_windows(of_scope, limits.input_tokens, largest)


def check_windows(admitted: list[tuple[int, int]], capacity: int | None, largest: int) -> None:
    """Every window from one admission to another; a request above the whole capacity is the one that may exceed."""
    rate = 10**9 if capacity is None else capacity
    burst = max(rate, largest)
    for first, (start, _) in enumerate(admitted):
        total = 0
        for at, amount in admitted[first:]:
            total += amount
            assert total * MINUTE <= burst * MINUTE + rate * (at - start)


@brief
@given(scopes=SCOPES, steps=STEPS, asked=AMOUNTS)
def test_what_the_headers_tell_is_what_is_let_in(
    scopes: tuple[Limits, Limits, Limits], steps: list[tuple[int, int, Action, int]], asked: int
) -> None:
    both, ticks = limiters(scopes), 0
    for workspace, onward, _, amount in steps:
        ticks += onward
        both[workspace].take(amount, ticks / TICKS)
        both[workspace].produced(amount // 4, ticks / TICKS)

    remaining = {state.kind: state.remaining for state in both[0].states(ticks / TICKS)}
    # A request of at most the whole capacity; a larger one may be let in beyond what is left.
    tokens = 1 + asked % min(scope.input_tokens or 60 for scope in (scopes[0], scopes[ORGANIZATION]))
    needed: dict[Kind, int] = {"requests": 1, "input_tokens": tokens, "output_tokens": 1}
    enough = all(remaining.get(kind, amount) >= amount for kind, amount in needed.items())
    assert enough == (both[0].take(tokens, ticks / TICKS) is None)


@brief
@given(capacity=st.integers(1, 60), steps=st.lists(st.tuples(st.one_of(ONWARD, JUMPS), AMOUNTS), max_size=20))
def test_no_clock_locks_anybody_out_for_longer_than_one_refill(capacity: int, steps: list[tuple[int, int]]) -> None:
    bucket, ticks = Bucket(capacity), 0
    for onward, amount in steps:
        ticks += onward
        bucket.spend(min(amount, bucket.remaining(ticks / TICKS)), ticks / TICKS)

    assert bucket.wait_s(capacity, ticks / TICKS) <= 60
    assert capacity == bucket.remaining(ticks / TICKS + 60)


@brief
@given(spent=st.integers(0, 1000), after=ONWARD, capacities=st.lists(st.integers(1, 10**6), min_size=2, max_size=6))
def test_other_limits_leave_the_time_until_full_as_it_was(spent: int, after: int, capacities: list[int]) -> None:
    bucket, now = Bucket(capacities[0]), after / TICKS
    bucket.spend(spent, 0.0)
    before = nanoseconds(bucket.wait_s(capacities[0], now))
    for capacity in capacities[1:]:
        bucket.resize(capacity, now)

    # Each change rounds down, against the client, by less than a nanosecond.
    assert 0 <= nanoseconds(bucket.wait_s(capacities[-1], now)) - before < len(capacities)


@brief
@given(capacity=st.integers(1, 60), steps=st.lists(st.tuples(ONWARD, AMOUNTS), max_size=20))
def test_a_restart_gives_nothing_extra_and_costs_at_most_one_refill(
    capacity: int, steps: list[tuple[int, int]]
) -> None:
    running, ticks, used = ScopeLimiter(Limits(input_tokens=capacity)), 0, []
    for onward, amount in steps:
        ticks += onward
        running.spend("input_tokens", amount, ticks / TICKS)
        used.append((ticks, amount))
    restarted = ScopeLimiter(Limits(input_tokens=capacity))
    now, window_s = ticks / TICKS, max(60.0, ticks / TICKS)
    restarted.replay([Used(now - at / TICKS, 0, amount, 0) for at, amount in used], now, window_s)

    waits = [nanoseconds(scope.buckets["input_tokens"].wait_s(capacity, now)) for scope in (running, restarted)]
    assert waits[0] <= waits[1] <= waits[0] + 60 * 10**9
