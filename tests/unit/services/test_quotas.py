"""Limits as a request meets them, on one server that counts by itself."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date

import pytest

from sestet.catalog.card import Card
from sestet.contract.errors import ApiError
from sestet.contract.limits import LimitState
from sestet.contract.tiers import Tier
from sestet.gate.directory import Allowance, Directory, RateKind, Workspace
from sestet.gate.limits import Decision, Limiter, Refusal
from sestet.services.quotas import Meters, OwnMeters, Permit, Quotas

CARD = Card("some-card", "Some card", date(2026, 1, 1), 1000, 1000)
OTHER = Card("other-card", "Other card", date(2026, 1, 1), 1000, 1000)
OURS, THEIRS = "wrkspc_ours", "wrkspc_theirs"

Rates = dict[RateKind, int]


def workspace(workspace_id: str, rates: Rates | None = None, priority: int | None = None) -> Workspace:
    allowance = Allowance(rates={CARD.rate_class: rates or {}})
    return Workspace(workspace_id, workspace_id, 0, allowance, 7, priority, priority)


def directory(rates: Rates | None = None, *workspaces: Workspace) -> Directory:
    organization = Allowance(rates={CARD.rate_class: rates or {}})
    return Directory(1, "org", "", organization, {one.id: one for one in workspaces}, ())


def quotas(rates: Rates | None = None, *workspaces: Workspace, meters: Meters | None = None) -> Quotas:
    return Quotas(directory(rates, *workspaces), lambda model: model, lambda: 0, meters or OwnMeters())


def admit(asked: Quotas, workspace_id: str = OURS, card: Card = CARD, *, priority: bool = False) -> Permit:
    return asyncio.run(asked.admit(workspace_id, card, 10, priority=priority))


def admitted(asked: Quotas, workspace_id: str, requests: int) -> int:
    """How many of these are let in at once."""
    permits = 0
    for _ in range(requests):
        try:
            admit(asked, workspace_id)
        except ApiError:
            continue
        permits += 1
    return permits


def refused(ask: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as refusal:
        ask()
    return refusal.value


def remaining(permit: Permit) -> dict[str, int]:
    return {state.kind: state.remaining for state in permit.limits}


def test_what_is_not_limited_is_let_in_as_standard_and_told_of_no_limits() -> None:
    permit = admit(quotas(None, workspace(OURS)), priority=True)
    permit.produced(1000)
    permit.ended()

    assert ("standard", (), 7) == (permit.tier, permit.limits, permit.concurrency)


def test_a_request_above_the_limit_is_refused_and_told_which_one_and_how_long() -> None:
    asked = quotas({"requests": 2}, workspace(OURS))
    assert 2 == admitted(asked, OURS, 5)
    error = refused(lambda: admit(asked))

    assert "rate_limit_error" == error.kind
    assert (
        "this request would exceed the organization's rate limit of 2 requests per minute for some-card"
        == error.message
    )
    assert 29 < (error.retry_after_s or 0) <= 30
    assert [("requests", 2, 0)] == [(state.kind, state.limit, state.remaining) for state in error.limits]


def test_workspaces_together_get_no_more_than_the_organisation_has() -> None:
    asked = quotas({"requests": 5}, workspace(OURS, {"requests": 3}), workspace(THEIRS))

    assert (3, 2) == (admitted(asked, OURS, 9), admitted(asked, THEIRS, 9))


def test_classes_of_cards_do_not_count_for_each_other() -> None:
    asked = quotas({"requests": 1}, workspace(OURS))
    admit(asked)

    assert "standard" == admit(asked, card=OTHER).tier
    assert 429 == refused(lambda: admit(asked)).status


def test_output_counts_once_as_it_appears() -> None:
    asked = quotas(None, workspace(OURS, {"output_tokens": 100}))
    permit = admit(asked)
    for in_all in (10, 30, 30, 20, 60):
        permit.produced(in_all)
    permit.ended()

    assert {"output_tokens": 40} == remaining(admit(asked))


def test_before_a_request_is_read_it_is_refused_if_its_size_does_not_matter() -> None:
    by_number, by_size = quotas({"requests": 1}), quotas({"requests": 1, "input_tokens": 5})
    for asked in (by_number, by_size):
        asked.check(OURS, CARD)
        admit(asked)

    assert 429 == refused(lambda: by_number.check(OURS, CARD)).status
    by_size.check(OURS, CARD)
    assert 429 == refused(lambda: admit(by_size)).status


class Interrupted(OwnMeters):
    """Between the refusal and whatever comes next, one request's worth comes back."""

    def check(self, limiter: Limiter, now: float) -> Refusal | None:
        refusal = super().check(limiter, now)
        time.sleep(0.02)
        return refusal


def test_who_is_refused_is_told_of_nothing_that_is_left() -> None:
    asked = quotas({"requests": 6_000}, meters=Interrupted())
    while True:
        try:
            asked.check(OURS, CARD)
        except ApiError as error:
            refusal = error
            break
        asyncio.run(insist(asked))

    assert [0] == [state.remaining for state in refusal.limits]


async def insist(asked: Quotas) -> None:
    """Takes all that there is."""
    with suppress(ApiError):
        while True:
            await asked.admit(OURS, CARD, 10, priority=False)


def test_first_are_served_those_who_want_it_and_may_while_some_is_left() -> None:
    asked = quotas(None, workspace(OURS, priority=15))
    no_priority = replace(CARD, priority_tier=False)

    assert ["standard", "standard", "priority", "standard"] == [
        admit(asked).tier,
        admit(asked, card=no_priority, priority=True).tier,
        admit(asked, priority=True).tier,
        admit(asked, priority=True).tier,
    ]


def test_limits_that_change_keep_what_was_used() -> None:
    asked = quotas({"requests": 10}, workspace(OURS))
    admitted(asked, OURS, 5)
    asked.load(directory({"requests": 100}, workspace(OURS)))
    larger = remaining(admit(asked))
    asked.load(directory(None, workspace(OURS)))
    none = admit(asked).limits

    assert ({"requests": 49}, ()) == (larger, none)


@dataclass(slots=True)
class Told:
    """Meters that keep what they are told, and let in whatever is first."""

    of: list[tuple[str, int, str]] = field(default_factory=list)
    state: tuple[LimitState, ...] = (LimitState("requests", 9, 8, 1.0),)

    def check(self, limiter: Limiter, now: float) -> Refusal | None:
        return None

    async def take(self, limiter: Limiter, input_tokens: int, *, priority: bool) -> Decision:
        self.of.append(("take", input_tokens, str(priority)))
        return Decision(None, "priority" if priority else "standard", self.state)

    def produced(self, limiter: Limiter, output_tokens: int, tier: Tier) -> None:
        self.of.append(("produced", output_tokens, tier))

    def ended(self, limiter: Limiter) -> None:
        self.of.append(("ended", 0, ""))

    def forget(self) -> None:
        raise AssertionError

    async def stop(self) -> None:
        raise AssertionError


def test_the_meters_are_told_all_of_a_request_that_is_limited_and_nothing_of_others() -> None:
    meters = Told()
    asked = quotas(None, workspace(OURS, {"requests": 9}), meters=meters)
    limited, free = admit(asked, priority=True), admit(asked, THEIRS, priority=True)
    for permit in (limited, free):
        for tokens in (3, 16, 17, 40, 41):
            permit.produced(tokens)
        permit.ended()

    assert [
        ("take", 10, "True"),
        ("produced", 16, "priority"),
        ("produced", 24, "priority"),
        ("produced", 1, "priority"),
        ("ended", 0, ""),
    ] == meters.of
    assert meters.state == limited.limits
