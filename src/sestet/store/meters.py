"""Limits by the minute that several servers count together, in rows of a PostgreSQL.

A request that something is limited for is decided on in a transaction that holds the rows of its buckets; requests of
one server that wait at once share it. Output is added twice a second and when a request ends. The arithmetic is that
of gate/limits.py and the clock the database's, so the answers are those of one server that serves everybody.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

import structlog
from sqlalchemy import BigInteger, ColumnElement, Connection, Row, bindparam, cast, delete, func, select, tuple_, update

from sestet.contract.errors import ApiError
from sestet.contract.tiers import Tier
from sestet.gate.limits import Decision, Kind, Levels, Limiter, Limits, Place, Refusal, ScopeLimiter
from sestet.store.database import Database, reason
from sestet.store.tables import meters

FLUSH_S: Final = 0.5
RETRY_S: Final = 0.5
ANSWER_S: Final = 2.0  # a transaction that takes longer is a database that does not answer
KEPT_US: Final = 3_600_000_000  # how long a row is kept that says nothing more

_PLACE: Final = tuple_(meters.c.workspace_id, meters.c.model_class)


def _clock() -> ColumnElement[int]:
    """The clock that all servers have in common, in microseconds since 1970. It may be set, also back."""
    return cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to decide on, by the places of its buckets."""

    places: tuple[Place, Place, Place]
    input_tokens: int
    priority: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Buckets with their limits, what was used of them without being asked for, then the requests in their order."""

    limits: Mapping[Place, Limits]
    used: Mapping[Place, Mapping[Kind, int]]
    asks: Sequence[Ask]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The decisions in the order of the requests, and what is left."""

    decisions: Sequence[Decision]
    levels: Mapping[Place, Levels]


class Meters:
    """The rows. Every method blocks, and raises `StoreError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def settle(self, batch: Batch) -> Outcome:
        """One transaction: all of it is counted, or nothing."""
        while True:
            with self._database.plainly(), self._database.writing() as connection:
                rows = connection.execute(_locked(batch.limits)).all()
                missing = batch.limits.keys() - {(row.workspace_id, row.model_class) for row in rows}
                if not missing:
                    return _settle(connection, batch, rows)
            # Apart: whoever waits for another one's new row must not hold locks that the other one waits for.
            self._add(missing)

    def forget(self) -> None:
        """Deletes the rows that have said nothing for an hour: nobody uses what they count, or it is not limited any
        more. Waits for nobody, so that nobody can wait for it in a circle."""
        with self._database.plainly(), self._database.writing() as connection:
            old = select(*meters.primary_key).where(meters.c.full_at < _clock() - KEPT_US)
            old = old.with_for_update(skip_locked=True)
            connection.execute(delete(meters).where(_PLACE.in_(old)))

    def _add(self, places: Collection[Place]) -> None:
        rows = [
            {"workspace_id": workspace_id, "model_class": model_class, "levels": "{}", "at": now, "full_at": now}
            for now in [_clock()]
            for workspace_id, model_class in sorted(places)
        ]
        with self._database.plainly(), self._database.writing() as connection:
            connection.execute(self._database.insert(meters).values(rows).on_conflict_do_nothing())


def _locked(places: Collection[Place]) -> Any:
    """The rows, locked in one order for everybody, and the time at which each was."""
    rows = select(meters).where(_PLACE.in_(sorted(places))).order_by(*meters.primary_key).with_for_update().cte()
    return select(rows, _clock().label("now"))


def _settle(connection: Connection, batch: Batch, rows: Sequence[Row[Any]]) -> Outcome:
    # Until the last row was locked others could write, with a later time than that of the first.
    now_us = max((row.now for row in rows), default=0)
    now = now_us / 1e6
    scopes: dict[Place, ScopeLimiter] = {}
    for row in rows:
        place = (row.workspace_id, row.model_class)
        scopes[place] = ScopeLimiter(batch.limits[place], place)
        scopes[place].put(json.loads(row.levels), row.at / 1e6)
        for kind, amount in batch.used.get(place, {}).items():
            scopes[place].spend(kind, amount, now)
    nothing = ScopeLimiter(Limits())
    decisions = [
        Limiter(*(scopes.get(place, nothing) for place in ask.places)).decide(
            ask.input_tokens, now, priority=ask.priority
        )
        for ask in batch.asks
    ]
    levels = {place: scope.levels(now) for place, scope in scopes.items()}
    changes = [
        {
            "of_workspace": place[0],
            "of_class": place[1],
            "levels": json.dumps(levels[place]),
            "at": now_us,
            "full_at": now_us + ceil(scope.full_s(now) * 1e6),
        }
        for place, scope in scopes.items()
    ]
    if changes:
        here = (meters.c.workspace_id == bindparam("of_workspace")) & (meters.c.model_class == bindparam("of_class"))
        connection.execute(update(meters).where(here), changes)
    return Outcome(decisions, levels)


@dataclass(frozen=True, slots=True, eq=False)
class _Take:
    limiter: Limiter
    input_tokens: int
    priority: bool
    decided: asyncio.Future[Decision]

    @property
    def ask(self) -> Ask:
        workspace, organization, priority = self.limiter.scopes
        return Ask((workspace.place, organization.place, priority.place), self.input_tokens, self.priority)

    def used(self, sign: int = 1) -> dict[Kind, int]:
        return {"requests": sign, "input_tokens": sign * self.input_tokens}


class SharedMeters:
    """A server's part of it. The buckets of the limiters that it is given are what it last knew, to which it adds what
    it has not told the others yet.

    While the database does not answer, requests are refused with 529 or, `serve_when_down`, decided on by what was last
    known. What was used is kept until it is written; only where a transaction's end is not known can it count twice.
    """

    def __init__(self, rows: Meters, *, serve_when_down: bool = False) -> None:
        self._rows = rows
        self._serve_when_down = serve_when_down
        self._takes: list[_Take] = []
        self._used: dict[ScopeLimiter, Counter[Kind]] = {}
        self._late_s: dict[ScopeLimiter, float] = {}
        self._work: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._due: set[ScopeLimiter] = set()
        self._flush_at = 0.0
        self._began: float | None = None
        self._again_at = 0.0
        self._stopping = False
        self._log = structlog.get_logger("sestet")

    def check(self, limiter: Limiter, now: float) -> Refusal | None:
        """By what was last known: as others can only have used more since, nobody is refused who would be let in."""
        refusal = limiter.check(now)
        if refusal is None:
            return None
        # The levels count from before the transaction that told them began; they may be as late as it was long.
        late_s = max(self._late_s.get(scope, 0.0) for scope in limiter.scopes)
        return replace(refusal, retry_after_s=refusal.retry_after_s + late_s)

    async def take(self, limiter: Limiter, input_tokens: int, *, priority: bool) -> Decision:
        take = _Take(limiter, input_tokens, priority, asyncio.get_running_loop().create_future())
        if not self._is_down:
            self._takes.append(take)
            self._wake()
            # Whoever waits no more has cancelled the future, and what was taken for it is given back.
            with contextlib.suppress(TimeoutError, _NotCountedError):
                async with asyncio.timeout(ANSWER_S):
                    return await take.decided
        if not self._serve_when_down:
            raise ApiError("overloaded_error", "limits cannot be counted at the moment", retry_after_s=1.0)
        decision = limiter.decide(input_tokens, time.monotonic(), priority=priority)
        if decision.refusal is None:
            self._note(limiter, decision.tier, take.used())
        return decision

    def produced(self, limiter: Limiter, output_tokens: int, tier: Tier) -> None:
        limiter.produced(output_tokens, time.monotonic(), tier)
        self._note(limiter, tier, {"output_tokens": output_tokens})

    def correct(self, limiter: Limiter, input_tokens: int, tier: Tier) -> None:
        limiter.correct(input_tokens, time.monotonic(), tier)
        self._note(limiter, tier, {"input_tokens": input_tokens})

    def ended(self, limiter: Limiter) -> None:
        self._due.update(limiter.scopes)
        if not self._is_down:
            self._hurry.set()

    def forget(self) -> None:
        self._rows.forget()

    async def stop(self) -> None:
        self._stopping = True
        self._hurry.set()
        if self._work is not None:
            await asyncio.wait([self._work], timeout=ANSWER_S)

    @property
    def _is_down(self) -> bool:
        now = time.monotonic()
        return now < self._again_at or (self._began is not None and now - self._began > ANSWER_S)

    def _note(self, limiter: Limiter, tier: Tier, used: Mapping[Kind, int]) -> None:
        for scope in limiter.charged(tier):
            if scope.buckets:
                self._used.setdefault(scope, Counter()).update(used)
        self._wake()

    def _wake(self) -> None:
        if self._takes:
            self._hurry.set()
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Until nothing is left to write."""
        while self._takes or self._used:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._hurry.wait()
            self._hurry.clear()
            await self._exchange()
            if self._stopping and self._is_down:
                return

    async def _exchange(self) -> None:
        """One transaction: for those who wait, for what has ended, and if it is time for all that was used."""
        takes = [take for take in self._takes if not take.decided.done()]
        self._takes.clear()
        scopes = {scope for take in takes for scope in take.limiter.scopes} | (self._due & self._used.keys())
        self._due.clear()
        began = time.monotonic()
        if began >= self._flush_at or self._stopping:
            scopes |= self._used.keys()
            self._flush_at = began + FLUSH_S
        used = {scope: self._used.pop(scope) for scope in scopes if scope in self._used}
        if not (takes or used):
            return
        batch = Batch(
            {scope.place: scope.limits for scope in scopes if scope.buckets},
            {scope.place: amounts for scope, amounts in used.items()},
            [take.ask for take in takes],
        )
        self._began = began
        try:
            outcome = await asyncio.to_thread(self._rows.settle, batch)
        except Exception as error:  # whatever it is, what was used is kept and tried again
            self._log.error("limits_not_counted", requests=len(takes), reason=reason(error))
            self._again_at = time.monotonic() + RETRY_S
            for scope, amounts in used.items():
                self._used.setdefault(scope, Counter()).update(amounts)
            for take in takes:
                if not take.decided.done():
                    take.decided.set_exception(_NotCountedError())
        else:
            self._answer(takes, outcome.decisions)
            self._learn(scopes, outcome.levels, began)
        finally:
            self._began = None

    def _answer(self, takes: Sequence[_Take], decisions: Sequence[Decision]) -> None:
        for take, decision in zip(takes, decisions, strict=True):
            if not take.decided.done():
                take.decided.set_result(decision)
            elif decision.refusal is None:  # nobody waits for it any more
                self._note(take.limiter, decision.tier, take.used(-1))

    def _learn(self, scopes: Collection[ScopeLimiter], levels: Mapping[Place, Levels], began: float) -> None:
        now = time.monotonic()
        for scope in scopes:
            if scope.place in levels:
                scope.put(levels[scope.place], began)
                for kind, amount in self._used.get(scope, {}).items():
                    scope.spend(kind, amount, now)
                self._late_s[scope] = now - began


class _NotCountedError(Exception):
    pass
