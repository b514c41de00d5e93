"""Limits by the minute: what is let in, how long to wait, what the headers tell, what a restart or an admin changes."""

import pytest

from sestet.contract.limits import LimitState
from sestet.contract.tiers import Tier
from sestet.gate.limits import KINDS, Bucket, Limiter, Limits, Refusal, ScopeLimiter, Used

NOW = 1000.0
HOUR_S = 3600.0


def limiter(
    workspace: Limits | None = None, organization: Limits | None = None, priority: Limits | None = None
) -> Limiter:
    return Limiter(*(ScopeLimiter(limits or Limits()) for limits in (workspace, organization, priority)))


def took(limits: Limiter, requests: int, input_tokens: int = 1, now: float = NOW) -> int:
    """How many of these requests are let in at once."""
    return [limits.take(input_tokens, now) for _ in range(requests)].count(None)


# One bucket.


def test_a_bucket_holds_a_minute_and_refills_continuously() -> None:
    bucket = Bucket(60)
    bucket.spend(60, NOW)

    assert [0, 0, 1, 30, 60, 60] == [bucket.remaining(NOW + after) for after in (0, 0.75, 1, 30, 60, 600)]


def test_a_thousand_small_refills_are_one_large_one() -> None:
    often, once = Bucket(7), Bucket(7)
    for bucket in (often, once):
        bucket.spend(7, NOW)
    for step in range(1000):
        often.remaining(NOW + step / 128)

    assert once.wait_s(7, NOW + 1000 / 128) == often.wait_s(7, NOW + 1000 / 128)


def test_a_debt_is_paid_off_first() -> None:
    bucket = Bucket(60)
    bucket.spend(90, NOW)

    assert 31 == bucket.wait_s(1, NOW)
    assert [0, 0, 1] == [bucket.remaining(NOW + after) for after in (0, 30, 31)]


def test_a_wait_that_is_no_whole_number_of_nanoseconds_is_rounded_up() -> None:
    bucket = Bucket(7)
    bucket.spend(7, NOW)

    assert 8.571428572 == bucket.wait_s(1, NOW)


def test_what_is_given_back_never_fills_a_bucket_above_its_capacity() -> None:
    bucket = Bucket(60)
    bucket.spend(10, NOW)
    bucket.spend(-50, NOW)

    assert 60 == bucket.remaining(NOW)


@pytest.mark.parametrize("back_s", [1.0, HOUR_S, 40 * 24 * HOUR_S])
def test_a_clock_that_goes_back_neither_adds_nor_removes_nor_stops_the_refill(back_s: float) -> None:
    bucket = Bucket(60)
    bucket.spend(40, NOW)

    assert [20, 21, 60] == [bucket.remaining(NOW - back_s + after) for after in (0, 1, 60)]


def test_a_clock_that_leaps_forward_fills_a_bucket_once() -> None:
    bucket = Bucket(60)
    bucket.spend(40, NOW)

    assert 60 == bucket.remaining(NOW + 40 * 24 * HOUR_S)


@pytest.mark.parametrize(
    ("used", "capacity", "remaining"), [(0, 600, 600), (0, 6, 6), (30, 600, 300), (30, 6, 3), (60, 600, 0)]
)
def test_another_capacity_is_filled_in_the_same_proportion(used: int, capacity: int, remaining: int) -> None:
    bucket = Bucket(60)
    bucket.spend(used, NOW)
    bucket.resize(capacity, NOW)

    assert remaining == bucket.remaining(NOW)
    assert used == bucket.wait_s(capacity, NOW)


def test_a_debt_takes_no_longer_to_pay_off_under_a_lower_limit() -> None:
    bucket = Bucket(60_000)
    bucket.spend(90_000, NOW)
    bucket.resize(60, NOW)

    assert 30 == bucket.wait_s(0, NOW)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_limit_is_at_least_one_a_minute(capacity: int) -> None:
    with pytest.raises(AssertionError, match="at least one"):
        Bucket(capacity)
    with pytest.raises(AssertionError, match="at least one"):
        Bucket(1).resize(capacity, NOW)


# What is let in.


def test_without_limits_everything_is_let_in_and_there_is_nothing_to_tell() -> None:
    limits = limiter()
    limits.produced(10**12, NOW)

    assert None is limits.check(NOW)
    assert 1000 == took(limits, 1000, 10**9)
    assert () == limits.states(NOW)


def test_requests_up_to_the_limit_are_let_in() -> None:
    limits = limiter(Limits(requests=60))

    assert 60 == took(limits, 100)
    assert Refusal("requests", "workspace", 60, 1.0) == limits.check(NOW) == limits.take(1, NOW)
    assert 30 == took(limits, 100, now=NOW + 30)


def test_input_up_to_the_limit_is_let_in() -> None:
    limits = limiter(Limits(input_tokens=600))

    assert 2 == took(limits, 10, 250)
    assert None is limits.check(NOW)
    assert Refusal("input_tokens", "workspace", 600, 15.0) == limits.take(250, NOW)
    assert None is limits.take(100, NOW)
    assert Refusal("input_tokens", "workspace", 600, 0.1) == limits.check(NOW)


def test_a_refused_request_takes_nothing_from_any_bucket() -> None:
    limits = limiter(Limits(requests=10, input_tokens=100), Limits(requests=10, input_tokens=1000, output_tokens=60))
    limits.take(80, NOW)
    before = limits.states(NOW)

    assert 0 == took(limits, 100, 21)
    assert before == limits.states(NOW)


def test_a_request_larger_than_the_bucket_waits_until_it_is_full_and_leaves_a_debt() -> None:
    limits = limiter(Limits(input_tokens=60))
    limits.take(15, NOW)

    assert Refusal("input_tokens", "workspace", 60, 15.0) == limits.take(90, NOW)
    assert None is limits.take(90, NOW + 15)
    assert Refusal("input_tokens", "workspace", 60, 31.0) == limits.take(1, NOW + 15)


def test_a_request_without_input_waits_as_the_smallest_one_does() -> None:
    limits = limiter(Limits(input_tokens=60))
    limits.take(60, NOW)

    assert Refusal("input_tokens", "workspace", 60, 1.0) == limits.take(0, NOW) == limits.check(NOW)


def test_no_output_is_reserved() -> None:
    limits = limiter(Limits(output_tokens=1))

    assert 1000 == took(limits, 1000)


def test_output_counts_as_it_appears_and_its_debt_keeps_requests_out() -> None:
    limits = limiter(Limits(output_tokens=60))
    for _ in range(90):
        limits.produced(1, NOW)

    assert Refusal("output_tokens", "workspace", 60, 31.0) == limits.check(NOW) == limits.take(1, NOW)
    assert None is limits.take(1, NOW + 31)


@pytest.mark.parametrize(("delta", "remaining"), [(-30, 50), (-1000, 60), (0, 20), (15, 5), (50, 0)])
def test_an_estimate_is_corrected(delta: int, remaining: int) -> None:
    limits = limiter(Limits(input_tokens=60))
    limits.take(40, NOW)
    limits.correct(delta, NOW)

    assert [remaining] == [state.remaining for state in limits.states(NOW)]


def test_the_longest_wait_of_all_buckets_is_told() -> None:
    limits = limiter(Limits(requests=60, input_tokens=600), Limits(requests=30, input_tokens=6000, output_tokens=60))
    limits.take(600, NOW)
    limits.produced(61, NOW)

    assert Refusal("output_tokens", "organization", 60, 2.0) == limits.take(1, NOW)
    assert Refusal("input_tokens", "workspace", 600, 30.0) == limits.take(300, NOW)


def test_the_workspaces_together_stay_within_the_organisation() -> None:
    organization = ScopeLimiter(Limits(requests=10, output_tokens=60))
    one = Limiter(ScopeLimiter(Limits(requests=8)), organization)
    other = Limiter(ScopeLimiter(Limits(requests=100)), organization)

    assert [8, 2] == [took(one, 20), took(other, 20)]
    assert Refusal("requests", "organization", 10, 6.0) == other.take(1, NOW)
    other.produced(61, NOW)
    assert Refusal("requests", "workspace", 8, 1.5) == one.take(1, NOW + 6)


# Priority.


def test_a_request_of_the_priority_tier_draws_from_both() -> None:
    limits = limiter(Limits(100, 1000, 1000), Limits(), Limits(input_tokens=100, output_tokens=100))
    limits.take(60, NOW)

    assert limits.take_priority(60, NOW)
    limits.correct(-20, NOW, "priority")
    limits.produced(70, NOW, "priority")
    assert (
        LimitState("requests", 100, 99, 0.6),
        LimitState("tokens", 2000, 1890, 4.2),
        LimitState("input_tokens", 1000, 960, 2.4),
        LimitState("output_tokens", 1000, 930, 4.2),
        LimitState("priority_input_tokens", 100, 60, 24.0),
        LimitState("priority_output_tokens", 100, 30, 42.0),
    ) == limits.states(NOW)


def test_a_request_of_the_standard_tier_leaves_the_priority_capacity_alone() -> None:
    limits = limiter(priority=Limits(input_tokens=100, output_tokens=100))
    before = limits.states(NOW)
    limits.take(60, NOW)
    limits.correct(-20, NOW)
    limits.produced(70, NOW)

    assert before == limits.states(NOW)


def test_priority_needs_room_for_the_input_and_no_debt_of_output() -> None:
    limits = limiter(priority=Limits(input_tokens=60, output_tokens=60))

    assert [False, True, False, True] == [limits.take_priority(tokens, NOW) for tokens in (61, 40, 21, 20)]
    assert [False, False, True] == [limits.take_priority(0, NOW + after) for after in (0, 0.5, 1)]
    limits.produced(61, NOW + 60, "priority")
    assert [False, False, True] == [limits.take_priority(1, NOW + 60 + after) for after in (0, 1, 2)]


@pytest.mark.parametrize("priority", [Limits(), Limits(input_tokens=60), Limits(output_tokens=60)])
def test_there_is_priority_only_with_capacity_for_input_and_output(priority: Limits) -> None:
    assert not limiter(priority=priority).take_priority(1, NOW)


# What the headers tell.


def test_each_kind_tells_of_the_scope_with_less_left() -> None:
    limits = limiter(Limits(60, 6000, 60_000), Limits(600, 600, 1200))
    limits.take(300, NOW)
    limits.produced(120, NOW)

    assert (
        LimitState("requests", 60, 59, 1.0),
        LimitState("tokens", 1800, 1380, 30.0),
        LimitState("input_tokens", 600, 300, 30.0),
        LimitState("output_tokens", 1200, 1080, 6.0),
    ) == limits.states(NOW)


def test_of_two_that_have_nothing_left_the_later_one_is_told() -> None:
    limits = limiter(Limits(output_tokens=600), Limits(output_tokens=1200))
    limits.produced(2400, NOW)

    assert (LimitState("output_tokens", 600, 0, 240.0),) == limits.states(NOW)


def test_tokens_are_told_only_of_a_scope_that_limits_both() -> None:
    limits = limiter(Limits(input_tokens=100), Limits(input_tokens=1000, output_tokens=500))

    assert (
        LimitState("tokens", 1500, 1500, 0.0),
        LimitState("input_tokens", 100, 100, 0.0),
        LimitState("output_tokens", 500, 500, 0.0),
    ) == limits.states(NOW)


# Levels that go from one to another.


def test_another_one_goes_on_from_the_levels_exactly_where_this_one_is() -> None:
    limits = Limits(7, 11, 10**12)
    one, other = ScopeLimiter(limits), ScopeLimiter(limits)
    for kind, amount in zip(KINDS, (3, 100, 10**13), strict=True):
        one.spend(kind, amount, NOW + 1 / 3)
    other.put(one.levels(NOW + 0.7), NOW + 0.7)

    assert limits == one.limits == other.limits
    assert one.levels(NOW + HOUR_S / 77) == other.levels(NOW + HOUR_S / 77)
    assert one.full_s(NOW + 1) == other.full_s(NOW + 1) > 500


def test_levels_of_other_limits_keep_their_proportion_and_what_had_none_is_full() -> None:
    one, other = ScopeLimiter(Limits(requests=10, input_tokens=10)), ScopeLimiter(Limits(100, None, 5))
    one.spend("requests", 5, NOW)
    other.put(one.levels(NOW), NOW)

    assert ["requests", "output_tokens"] == list(other.buckets)
    assert [50, 5] == [bucket.remaining(NOW) for bucket in other.buckets.values()]


def test_it_is_full_when_the_slowest_bucket_is() -> None:
    scope = ScopeLimiter(Limits(requests=60, output_tokens=60))
    scope.spend("requests", 10, NOW)
    scope.spend("output_tokens", 90, NOW)

    assert [90, 80, 0] == [scope.full_s(NOW + after) for after in (0, 10, 100)]
    assert 0 == ScopeLimiter(Limits()).full_s(NOW)


@pytest.mark.parametrize(
    ("input_tokens", "priority", "tier", "left"),
    [
        (5, True, "priority", [45, 5, 10]),
        (5, False, "standard", [45, 10, 10]),
        (50, True, "standard", [0, 10, 10]),
        (51, True, "standard", [50, 10, 10]),
    ],
)
def test_a_decision_says_the_tier_and_how_the_limits_then_stand(
    input_tokens: int, priority: bool, tier: Tier, left: list[int]
) -> None:
    limits = limiter(Limits(input_tokens=100), Limits(input_tokens=200), Limits(input_tokens=10, output_tokens=10))
    limits.take(50, NOW)
    decision = limits.decide(input_tokens, NOW, priority=priority)

    assert (input_tokens > 50) == (decision.refusal is not None)
    assert (tier, left) == (decision.tier, [state.remaining for state in decision.states])


def test_only_the_priority_tier_counts_against_the_priority_capacity() -> None:
    limits = limiter()

    assert [*limits.scopes] == [*limits.charged("priority")]
    assert [*limits.scopes][:2] == [*limits.charged("standard")]


# A change of limits, and a restart.


def test_limits_change_while_requests_run() -> None:
    workspace = ScopeLimiter(Limits(requests=60, input_tokens=600))
    limits = Limiter(workspace, ScopeLimiter(Limits()))
    limits.take(300, NOW)
    workspace.change(Limits(input_tokens=60, output_tokens=10), NOW)

    assert (
        LimitState("tokens", 70, 40, 30.0),
        LimitState("input_tokens", 60, 30, 30.0),
        LimitState("output_tokens", 10, 10, 0.0),
    ) == limits.states(NOW)


def test_the_same_limits_again_change_nothing() -> None:
    workspace = ScopeLimiter(Limits(requests=7, input_tokens=11, output_tokens=13))
    limits = Limiter(workspace, ScopeLimiter(Limits()))
    limits.take(5, NOW)
    limits.produced(20, NOW)
    before = limits.states(NOW + 1)
    workspace.change(Limits(requests=7, input_tokens=11, output_tokens=13), NOW + 1)

    assert before == limits.states(NOW + 1)


def restarted(*used: Used, window_s: float = 600.0) -> list[int]:
    """What is left of sixty each after a restart."""
    scope = ScopeLimiter(Limits(60, 60, 60))
    scope.replay(used, NOW, window_s)
    return [scope.states(NOW)[kind].remaining for kind in ("requests", "input_tokens", "output_tokens")]


def test_a_restart_after_quiet_times_starts_full() -> None:
    assert [60, 60, 60] == restarted() == restarted(window_s=60.0)


def test_a_restart_gives_no_second_burst() -> None:
    assert [20, 0, 0] == restarted(Used(30, 50, 80, 0), Used(0, 20, 50, 60))


def test_a_restart_gives_no_second_burst_to_whoever_used_the_limit_all_the_time() -> None:
    assert [0, 0, 0] == restarted(*(Used(600.0 - second, 1, 1, 1) for second in range(1, 601)))


def test_a_restart_costs_nobody_more_than_one_refill() -> None:
    scope = ScopeLimiter(Limits(requests=60))
    scope.replay([Used(60.0, 60, 0, 0), Used(0.0, 60, 0, 0)], NOW, 60.0)

    assert 60 == scope.buckets["requests"].wait_s(0, NOW)


def test_a_restart_with_another_wall_clock_counts_what_was_used_within_the_window() -> None:
    assert [30, 60, 60] == restarted(Used(HOUR_S, 30, 0, 0), window_s=60.0)
    assert [0, 60, 60] == restarted(Used(1.0, 50, 0, 0), Used(-HOUR_S, 30, 0, 0))


def test_a_restart_leaves_the_refill_at_its_speed() -> None:
    scope = ScopeLimiter(Limits(requests=60))
    scope.replay([Used(0.0, 60, 0, 0)], NOW)

    assert [0, 1, 60] == [scope.buckets["requests"].remaining(NOW + after) for after in (0, 1, 90)]
