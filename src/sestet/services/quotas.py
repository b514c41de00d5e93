"""What requests may use up: asked before one is read, taken before it runs, counted while it runs."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from sestet.catalog.card import Card
from sestet.contract.errors import ApiError
from sestet.contract.limits import LimitState
from sestet.contract.tiers import Tier
from sestet.gate.directory import Allowance, Directory, Workspace
from sestet.gate.limits import KINDS, Decision, Limiter, Limits, Refusal, ScopeLimiter, Used
from sestet.gate.spend import Spending, SpendRefusal, day_of
from sestet.ledger.entry import Use

COUNTED_AT_ONCE: Final = 16  # tokens of output; a limit sees at most so many of a running reply too late
_ORGANIZATION: Final = ""
_NOUNS: Final = {"requests": "requests", "input_tokens": "input tokens", "output_tokens": "output tokens"}


class Meters(Protocol):
    """Where it is counted what is used of limits by the minute: by this server alone, or by several together. The
    buckets of a limiter are what this server knows of them; they go by its monotonic clock."""

    def check(self, limiter: Limiter, now: float) -> Refusal | None:
        """Whether even the smallest request would be refused at this time."""
        ...

    async def take(self, limiter: Limiter, input_tokens: int, *, priority: bool) -> Decision:
        """Decides on a request. 529 while that is not possible."""
        ...

    def produced(self, limiter: Limiter, output_tokens: int, tier: Tier) -> None:
        """So many more tokens of output."""
        ...

    def correct(self, limiter: Limiter, input_tokens: int, tier: Tier) -> None:
        """The input that was taken was a guess; it is so many tokens more, or less."""
        ...

    def ended(self, limiter: Limiter) -> None:
        """A request has: nothing more comes of it."""
        ...

    def forget(self) -> None:
        """Gives up what says nothing any more. Blocks."""
        ...

    async def stop(self) -> None:
        """Nothing more comes of this server."""
        ...


class OwnMeters:
    """Of one server that nobody counts with: in its memory."""

    def check(self, limiter: Limiter, now: float) -> Refusal | None:
        return limiter.check(now)

    async def take(self, limiter: Limiter, input_tokens: int, *, priority: bool) -> Decision:
        return limiter.decide(input_tokens, time.monotonic(), priority=priority)

    def produced(self, limiter: Limiter, output_tokens: int, tier: Tier) -> None:
        limiter.produced(output_tokens, time.monotonic(), tier)

    def correct(self, limiter: Limiter, input_tokens: int, tier: Tier) -> None:
        limiter.correct(input_tokens, time.monotonic(), tier)

    def ended(self, limiter: Limiter) -> None:
        pass

    def forget(self) -> None:
        pass

    async def stop(self) -> None:
        pass


@dataclass(slots=True)
class Permit:
    """A request that was let in: its tier, the limits as they then stood, and where its output is counted."""

    tier: Tier
    limits: tuple[LimitState, ...]
    concurrency: int | None
    _meters: Meters
    _limiter: Limiter | None
    _produced: int = 0
    _counted: int = 0

    def produced(self, output_tokens: int) -> None:
        """So many tokens of output in all by now. They are counted a few at once, and the last of them in `ended`."""
        self._produced = output_tokens
        if output_tokens - self._counted >= COUNTED_AT_ONCE:
            self._count()

    def correct(self, input_tokens: int) -> None:
        """So many more tokens of input than were taken or, negative, fewer."""
        if self._limiter is not None and input_tokens:
            self._meters.correct(self._limiter, input_tokens, self.tier)

    def ended(self) -> None:
        """Nothing more comes."""
        self._count()
        if self._limiter is not None:
            self._meters.ended(self._limiter)

    def _count(self) -> None:
        if self._limiter is not None and self._produced > self._counted:
            self._meters.produced(self._limiter, self._produced - self._counted, self.tier)
            self._counted = self._produced


_OWN: Final = OwnMeters()


class Quotas:
    """`now_us` is the wall clock, by which days of spending are told. `rate_class` tells the class that a card's
    limits are shared in."""

    def __init__(
        self,
        directory: Directory,
        rate_class: Callable[[str], str],
        now_us: Callable[[], int],
        meters: Meters = _OWN,
    ) -> None:
        self.meters = meters
        self._directory = directory
        self._rate_class = rate_class
        self._now_us = now_us
        self._scopes: dict[tuple[str, str], ScopeLimiter] = {}
        self._priority: dict[str, ScopeLimiter] = {}
        self._limiters: dict[tuple[str, str], Limiter | None] = {}
        self.spending = Spending()

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
        """What was used before this server started, in any order, where it counts by itself."""
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
        shared, own = self._directory.allowance, self._allowance(workspace_id)
        if shared.spend or own.spend:
            today = day_of(self._now_us())
            spent = self.spending.refusal(None, shared, today)
            if spent is not None:
                raise _organization_spent(spent)
            spent = self.spending.refusal(workspace_id, own, today)
            if spent is not None:
                raise _workspace_spent(spent)
        limiter = self._limiter(workspace_id, card)
        # Where the size matters, only reading the request tells how long it has to wait.
        if limiter is not None and not limiter.limits_input:
            now = time.monotonic()  # once, or the headers could tell of one that came back meanwhile
            refusal = self.meters.check(limiter, now)
            if refusal is not None:
                raise _too_fast(refusal, card, limiter.states(now))

    async def admit(self, workspace_id: str, card: Card, input_tokens: int, *, priority: bool) -> Permit:
        """Takes one request and its input. `priority` is whether it may be served first; whether it is depends on what
        is left of the workspace's priority capacity."""
        workspace = self._directory.workspaces.get(workspace_id)
        concurrency = None if workspace is None else workspace.concurrency
        limiter = self._limiter(workspace_id, card)
        if limiter is None:
            return Permit("standard", (), concurrency, self.meters, None)
        decision = await self.meters.take(limiter, input_tokens, priority=priority and card.priority_tier)
        if decision.refusal is not None:
            raise _too_fast(decision.refusal, card, decision.states)
        return Permit(decision.tier, decision.states, concurrency, self.meters, limiter)

    def _limiter(self, workspace_id: str, card: Card) -> Limiter | None:
        """None where nothing is limited, which is the usual case and costs nothing."""
        key = (workspace_id, card.rate_class)
        if key not in self._limiters:
            own = self._scope(workspace_id, card.rate_class)
            shared = self._scope(_ORGANIZATION, card.rate_class)
            priority = self._priority.get(workspace_id)
            if priority is None:
                limits = _priority_limits(self._directory.workspaces.get(workspace_id))
                priority = self._priority[workspace_id] = ScopeLimiter(limits, (workspace_id, ""))
            limited = own.buckets or shared.buckets or priority.buckets
            self._limiters[key] = Limiter(own, shared, priority) if limited else None
        return self._limiters[key]

    def _scope(self, place: str, rate_class: str) -> ScopeLimiter:
        key = (place, rate_class)
        if key not in self._scopes:
            self._scopes[key] = ScopeLimiter(_limits(self._allowance(place), rate_class), key)
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
