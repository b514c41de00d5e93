"""What requests may use up: asked before one is read, taken before it runs, counted while it runs."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from sestet.catalog.card import Card
from sestet.contract.errors import ApiError
from sestet.contract.limits import LimitState
from sestet.contract.tiers import Tier
from sestet.gate.directory import Allowance, Directory, Workspace
from sestet.gate.limits import KINDS, Limiter, Limits, Refusal, ScopeLimiter, Used
from sestet.gate.spend import Spending, SpendRefusal, day_of
from sestet.ledger.entry import Use

_ORGANIZATION: Final = ""
_NOUNS: Final = {"requests": "requests", "input_tokens": "input tokens", "output_tokens": "output tokens"}


@dataclass(slots=True)
class Permit:
    """A request that was let in: its tier, the limits as they then stood, and where its output is counted."""

    tier: Tier
    limits: tuple[LimitState, ...]
    concurrency: int | None
    _limiter: Limiter | None
    _produced: int = 0

    def produced(self, output_tokens: int) -> None:
        """So many tokens of output in all by now."""
        if self._limiter is not None and output_tokens > self._produced:
            self._limiter.produced(output_tokens - self._produced, time.monotonic(), self.tier)
            self._produced = output_tokens


class Quotas:
    """`now_us` is the wall clock, by which days of spending are told. `rate_class` tells the class that a card's
    limits are shared in."""

    def __init__(self, directory: Directory, rate_class: Callable[[str], str], now_us: Callable[[], int]) -> None:
        self._directory = directory
        self._rate_class = rate_class
        self._now_us = now_us
        self._scopes: dict[tuple[str, str], ScopeLimiter] = {}
        self._priority: dict[str, ScopeLimiter] = {}
        self._limiters: dict[tuple[str, str], Limiter | None] = {}
        self.spending = Spending()

    @property
    def directory(self) -> Directory:
        return self._directory

    def load(self, directory: Directory) -> None:
        """Other limits from now on; what was used of them stays used."""
        self._directory = directory
        self._limiters.clear()
        now = time.monotonic()
        for (place, rate_class), scope in self._scopes.items():
            scope.change(_limits(self._allowance(place), rate_class), now)
        for workspace_id, scope in self._priority.items():
            scope.change(_priority_limits(directory.workspaces.get(workspace_id)), now)

    def replay(self, uses: Iterable[Use], now_us: int) -> None:
        """What was used before this server started, in any order."""
        events: dict[tuple[str, str], list[Used]] = {}
        for use in uses:
            for place in (use.workspace_id, _ORGANIZATION):
                found = events.setdefault((place, self._rate_class(use.model)), [])
                found.append(Used((now_us - use.started_at) / 1e6, 1, use.input_tokens, 0))
                found.append(Used((now_us - use.settled_at) / 1e6, 0, 0, use.output_tokens))
        now = time.monotonic()
        for (place, rate_class), used in events.items():
            scope = self._scope(place, rate_class)
            if scope.buckets:
                scope.replay(sorted(used, reverse=True), now)

    def check(self, workspace_id: str, card: Card) -> None:
        """Refuses what would be refused however small it is, before any work is done for it."""
        today = day_of(self._now_us())
        spent = self.spending.refusal(None, self._directory.allowance, today)
        if spent is not None:
            raise _organization_spent(spent)
        spent = self.spending.refusal(workspace_id, self._allowance(workspace_id), today)
        if spent is not None:
            raise _workspace_spent(spent)
        limiter = self._limiter(workspace_id, card)
        if limiter is not None:
            now = time.monotonic()
            refusal = limiter.check(now)
            # Where the size matters, only reading the request tells how long it has to wait.
            if refusal is not None and not limiter.limits_input:
                raise _too_fast(refusal, card, limiter.states(now))

    def admit(self, workspace_id: str, card: Card, input_tokens: int, *, priority: bool) -> Permit:
        """Takes one request and its input. `priority` is whether it may be served first; whether it is depends on what
        is left of the workspace's priority capacity."""
        workspace = self._directory.workspaces.get(workspace_id)
        concurrency = None if workspace is None else workspace.concurrency
        limiter = self._limiter(workspace_id, card)
        if limiter is None:
            return Permit("standard", (), concurrency, None)
        now = time.monotonic()
        refusal = limiter.take(input_tokens, now)
        if refusal is not None:
            raise _too_fast(refusal, card, limiter.states(now))
        first = priority and card.priority_tier and limiter.take_priority(input_tokens, now)
        return Permit("priority" if first else "standard", limiter.states(now), concurrency, limiter)

    def _limiter(self, workspace_id: str, card: Card) -> Limiter | None:
        """None where nothing is limited, which is the usual case and costs nothing."""
        key = (workspace_id, card.rate_class)
        if key not in self._limiters:
            own = self._scope(workspace_id, card.rate_class)
            shared = self._scope(_ORGANIZATION, card.rate_class)
            priority = self._priority.get(workspace_id)
            if priority is None:
                limits = _priority_limits(self._directory.workspaces.get(workspace_id))
                priority = self._priority[workspace_id] = ScopeLimiter(limits)
            limited = own.buckets or shared.buckets or priority.buckets
            self._limiters[key] = Limiter(own, shared, priority) if limited else None
        return self._limiters[key]

    def _scope(self, place: str, rate_class: str) -> ScopeLimiter:
        key = (place, rate_class)
        if key not in self._scopes:
            self._scopes[key] = ScopeLimiter(_limits(self._allowance(place), rate_class))
        return self._scopes[key]

    def _allowance(self, place: str) -> Allowance:
        if place == _ORGANIZATION:
            return self._directory.allowance
        workspace = self._directory.workspaces.get(place)
        return Allowance() if workspace is None else workspace.allowance


def _limits(allowance: Allowance, rate_class: str) -> Limits:
    given = allowance.rates.get(rate_class, {})
    return Limits(*(given.get(kind) for kind in KINDS))


def _priority_limits(workspace: Workspace | None) -> Limits:
    if workspace is None:
        return Limits()
    return Limits(None, workspace.priority_input_tokens, workspace.priority_output_tokens)


def _too_fast(refusal: Refusal, card: Card, limits: tuple[LimitState, ...]) -> ApiError:
    return ApiError(
        "rate_limit_error",
        f"this request would exceed the {refusal.scope}'s rate limit of {refusal.limit:,} {_NOUNS[refusal.kind]} per "
        f"minute for {card.rate_class}",
        retry_after_s=refusal.retry_after_s,
    ).limited(limits)


def _workspace_spent(refusal: SpendRefusal) -> ApiError:
    """One's own limit is a fact to deal with, not a moment to wait for: 400."""
    return ApiError("invalid_request_error", _spent(refusal, "workspace"))


def _organization_spent(refusal: SpendRefusal) -> ApiError:
    """429 without a time to wait for, as the contract has it for an organisation's cap."""
    return ApiError("rate_limit_error", _spent(refusal, "organization"), code="enforced_spend_limit_reached")


def _spent(refusal: SpendRefusal, whose: str) -> str:
    return (
        f"the {whose} has reached its {refusal.period} spend limit of ${refusal.limit / 1e6:,.2f}; "
        f"requests are taken again from {refusal.again_on} 00:00 UTC"
    )
