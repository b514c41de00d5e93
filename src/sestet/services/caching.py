"""The prompt cache of one set of weights: entries with lifetimes, and the engine's snapshots that make them true.

An entry says that a prefix may be read until it expires. It is there exactly as long as a snapshot holds what the
engine computed of it; where a snapshot has to go early, its entries go with it, and the next request computes and
writes anew. One snapshot serves every entry along its prompt, so that of a conversation only the newest is kept.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from sestet.cache import rules
from sestet.cache.prefixes import Prefix, prefixes
from sestet.contract.caching import LIFETIME_S
from sestet.contract.deltas import Held
from sestet.contract.events import Usage
from sestet.services.ports import Slot
from sestet.services.shelf import Kept, Shelf
from sestet.store import snapshots
from sestet.turn.render import Rendered

LOOK_EVERY_S: Final = 1.0  # at expired entries, and at what is to be written down of used ones


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` only goes forward, in seconds; `now_us` is the wall clock, by which lifetimes survive a restart."""

    monotonic: Callable[[], float] = time.monotonic
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose entries: nobody else finds them. No entry that is shorter than the card's `minimum` tokens is made."""

    workspace: str
    model: str
    minimum: int


@dataclass(slots=True)
class Entry:
    """A prefix that may be read. `expires` is by the cache's clock; `holders` are the snapshots that hold it."""

    key: bytes
    tokens: int
    owner: Owner
    lifetime_s: int
    expires: float
    hits: int = 0
    holders: set[Kept] = field(default_factory=set)


@dataclass(slots=True)
class Counts:
    """Since the start: requests with breakpoints that read something or nothing, tokens, entries that expired."""

    hits: int = 0
    misses: int = 0
    read_tokens: int = 0
    written_tokens: int = 0
    expired: int = 0


class PromptCache:
    """Use `start` once, then `lookup` for each request with breakpoints, then `stop`."""

    def __init__(self, shelf: Shelf, bytes_per_token: int, clock: Clock = Clock()) -> None:
        self.counts = Counts()
        self.shelf = shelf
        self.clock = clock
        self._bytes_per_token = bytes_per_token
        self._entries: dict[bytes, Entry] = {}
        self._keeper: asyncio.Task[None] | None = None
        shelf.on_drop = self._without
        shelf.describe = self._held_by

    async def start(self) -> None:
        """Takes over what earlier servers left that is still alive."""
        for kept, stored in await self.shelf.load():
            self._take_over(kept, stored)
        self.expire()
        self.shelf.keep_within()
        await self.shelf.settled()
        self._keeper = asyncio.create_task(self._look_after())

    async def stop(self) -> None:
        """All that is known is on the disk afterwards."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self.shelf.settled()
        await self.shelf.write_down()
        await self.shelf.settled()

    @property
    def entries(self) -> list[Entry]:
        """Those alive, the ones that expire last first."""
        now = self.clock.monotonic()
        return sorted((one for one in self._entries.values() if one.expires > now), key=lambda one: -one.expires)

    def clear(self, workspace: str | None = None) -> int:
        """Forgets all entries, or those of one workspace; how many there were."""
        found = [one for one in self._entries.values() if workspace in (None, one.owner.workspace)]
        self._forget(found)
        return len(found)

    def expire(self) -> None:
        """Forgets entries whose time is over, and the snapshots that hold no other."""
        now = self.clock.monotonic()
        found = [one for one in self._entries.values() if one.expires <= now]
        self.counts.expired += len(found)
        self._forget(found)

    def lookup(self, owner: Owner, rendered: Rendered, lengths: Sequence[int], settings: str) -> "Lookup":
        """What this prompt would read and write now; `lengths` are the tokens of its segments. Changes nothing."""
        salt = hmac.digest(self.shelf.secret, f"{owner.workspace}\0{owner.model}".encode(), "sha256")
        return Lookup(self, owner, prefixes(rendered, lengths, settings, salt), sum(lengths))

    def live(self, key: bytes, at: float) -> Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires > at else None

    def enter(self, owner: Owner, prefix: Prefix, started: float) -> None:
        """A prefix that a snapshot holds from now on. Somebody else may have written the same meanwhile."""
        assert prefix.lifetime is not None, "only breakpoints are written"
        lifetime_s = LIFETIME_S[prefix.lifetime]
        entry = self._entries.setdefault(prefix.key, Entry(prefix.key, prefix.tokens, owner, 0, started))
        if entry.expires <= started:  # new, or over and not forgotten yet
            entry.lifetime_s, entry.hits = 0, 0
        entry.lifetime_s = max(entry.lifetime_s, lifetime_s)
        entry.expires = max(entry.expires, started + lifetime_s)

    def renew(self, entry: Entry, started: float) -> None:
        """Its lifetime begins again with the request that used it."""
        entry.expires = max(entry.expires, started + entry.lifetime_s)
        for kept in entry.holders:
            kept.is_changed = True

    async def write(self, owner: Owner, along: Sequence[Prefix], new: Sequence[Prefix], job: "Writing") -> None:
        """Has the engine compute and keep a prompt up to the last of `along`, if there is room; entries for what is
        `new` of it."""
        last = along[-1]
        async with self.shelf.room(last.tokens * self._bytes_per_token) as is_there:
            name = self.shelf.new_name()
            size = await job.slot.snapshot(job.prompt[: last.tokens], name) if is_there else 0
            if size == 0:
                self.shelf.failed += 1
                return
            for prefix in new:
                self.enter(owner, prefix, job.started)
            kept = Kept(name, owner.workspace, owner.model, last.tokens, size, time.monotonic())
            for prefix in along:
                if (entry := self._entries.get(prefix.key)) is not None:
                    kept.keys.add(prefix.key)
                    entry.holders.add(kept)
            self.shelf.add(kept)
        for other in {other for key in kept.keys for other in self._entries[key].holders} - {kept}:
            if other.keys <= kept.keys:
                self.shelf.drop(other)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                self.expire()
                await self.shelf.write_down()
            except Exception as error:  # whatever it is, the next look must come
                self.shelf.report("cache_not_looked_after", {"error": type(error).__name__})

    def _take_over(self, kept: Kept, stored: Iterable[snapshots.Prefix]) -> None:
        """Whatever the wall clock did meanwhile, nothing lives longer than its lifetime."""
        now, now_us = self.clock.monotonic(), self.clock.now_us()
        for one in stored:
            key = bytes.fromhex(one.key)
            expires = now + min(one.lifetime_s, (one.expires_at - now_us) / 1e6)
            owner = Owner(kept.workspace, kept.model, 0)
            entry = self._entries.setdefault(key, Entry(key, one.tokens, owner, one.lifetime_s, expires, one.hits))
            entry.expires = max(entry.expires, expires)
            entry.holders.add(kept)
            kept.keys.add(key)
        if not kept.keys:
            self.shelf.drop(kept)

    def _held_by(self, kept: Kept) -> tuple[snapshots.Prefix, ...]:
        now, now_us = self.clock.monotonic(), self.clock.now_us()
        found = (self._entries[key] for key in kept.keys)
        return tuple(
            snapshots.Prefix(
                one.key.hex(), one.tokens, one.lifetime_s, now_us + round((one.expires - now) * 1e6), one.hits
            )
            for one in sorted(found, key=lambda one: one.tokens)
        )

    def _without(self, kept: Kept) -> None:
        """The entries that no other snapshot holds go with this one."""
        for key in kept.keys:
            entry = self._entries[key]
            entry.holders.discard(kept)
            if not entry.holders:
                del self._entries[key]

    def _forget(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            del self._entries[entry.key]
            for kept in entry.holders:
                kept.keys.discard(entry.key)
                kept.is_changed = True
                if not kept.keys:
                    self.shelf.drop(kept)


@dataclass(frozen=True, slots=True)
class Writing:
    """A request that writes: its prompt, where it is computed, and when it came."""

    slot: Slot
    prompt: tuple[int, ...]
    started: float


class Lookup:
    """What one request reads and writes. First `hold`, then `settle` with what the engine found, then `write`;
    `release` in any case."""

    def __init__(self, cache: PromptCache, owner: Owner, found: Sequence[Prefix], prompt_tokens: int) -> None:
        self._cache = cache
        self._owner = owner
        self._prefixes = found
        self._prompt_tokens = prompt_tokens
        self._started = cache.clock.monotonic()
        self._at = self._longest()
        self._held: Kept | None = None

    @property
    def usage(self) -> Usage:
        """Before `settle` a guess, afterwards what is true."""
        return rules.usage(self._prefixes, self._owner.minimum, self._at, self._prompt_tokens)

    def hold(self) -> Held | None:
        """The longest entry, by a snapshot that now stays until `release`."""
        self._at = self._longest()
        if self._at is None:
            return None
        entry = self._entry(self._at)
        assert entry is not None, "it was found just now"
        kept = self._held = min(entry.holders, key=lambda one: one.size)
        self._cache.shelf.use(kept)
        return Held(kept.name, entry.tokens, partial(self._cache.shelf.is_genuine, kept))

    def settle(self, reused: int) -> None:
        """So many tokens the engine has in place. Fewer than the entry's: it could not use the snapshot, and nothing
        was read. Otherwise everything along the prefix lives on."""
        counts = self._cache.counts
        if self._at is not None and reused < self._prefixes[self._at].tokens:
            assert self._held is not None, "the engine was given something to use"
            self._cache.shelf.refuse(self._held)
            self._at = None
        if self._at is None:
            counts.misses += 1
        else:
            counts.hits += 1
            if (entry := self._entry(self._at)) is not None:
                entry.hits += 1
            for at in range(self._at + 1):
                if (entry := self._entry(at)) is not None:
                    self._cache.renew(entry, self._started)
        counts.read_tokens += self.usage.cache_read_input_tokens
        counts.written_tokens += self.usage.cache_creation_input_tokens

    async def write(self, slot: Slot, prompt: tuple[int, ...]) -> None:
        """Has what this request writes computed and kept. It can be read from then on."""
        positions = rules.written(self._prefixes, self._owner.minimum, self._at)
        if positions:
            along = self._prefixes[: positions[-1] + 1]
            new = [self._prefixes[at] for at in positions]
            await self._cache.write(self._owner, along, new, Writing(slot, prompt, self._started))

    def release(self) -> None:
        if self._held is not None:
            self._cache.shelf.release(self._held)
            self._held = None

    def _longest(self) -> int | None:
        return rules.longest(
            self._prefixes, self._owner.minimum, lambda key: self._cache.live(key, self._started) is not None
        )

    def _entry(self, at: int) -> Entry | None:
        return self._cache.live(self._prefixes[at].key, self._started)
