"""The snapshots of one engine as files: how many bytes they may take, which go first, and that none goes in use."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sestet.store.snapshots import Prefix, Snapshot, SnapshotError, SnapshotFolder

Report = Callable[[str, dict[str, object]], None]


@dataclass(slots=True, eq=False)
class Kept:
    """A snapshot in the folder. `keys` are the entries of the cache that it holds. Its file stays while somebody reads
    or writes it (`users`)."""

    name: str
    workspace: str
    model: str
    tokens: int
    size: int
    used: float
    keys: set[bytes] = field(default_factory=set)
    users: int = 0
    is_changed: bool = False  # since its manifest was written
    is_dropped: bool = False
    sealed: asyncio.Task[bool] | None = None


class Shelf:
    """At most `budget` bytes of snapshots. `on_drop` is told of one that goes, `describe` says what it holds."""

    def __init__(self, folder: SnapshotFolder, identity: str, budget: int, report: Report) -> None:
        self.budget = budget
        self.evicted = 0
        self.failed = 0
        self.unusable = 0
        self._folder = folder
        self._identity = identity
        self.report = report
        self._kept: dict[str, Kept] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._deletions: set[asyncio.Task[Any]] = set()
        self._leaving = self._deleting = 0
        self._promised = 0
        self.on_drop: Callable[[Kept], None] = lambda _kept: None
        self.describe: Callable[[Kept], tuple[Prefix, ...]] = lambda _kept: ()

    @property
    def secret(self) -> bytes:
        return self._folder.secret

    @property
    def size(self) -> int:
        """Bytes on the disk: of all that count, and of those that are about to be gone."""
        return sum(kept.size for kept in self._kept.values()) + self._leaving

    async def load(self) -> list[tuple[Kept, tuple[Prefix, ...]]]:
        """What earlier servers left and this engine can use."""
        found = []
        left = await asyncio.to_thread(self._folder.load, self._identity)
        for one in sorted(left, key=_last_used):
            kept = Kept(one.name, one.workspace, one.model, one.tokens, one.bytes, time.monotonic())
            self._kept[kept.name] = kept
            found.append((kept, one.prefixes))
        return found

    async def settled(self) -> None:
        """All that was begun is done."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def new_name(self) -> str:
        return self._folder.new_name()

    @asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[bool]:
        """So many bytes, for a snapshot that is to be written inside: what was used least lately goes, if that helps.
        Not so many are there where it does not."""
        free = await asyncio.to_thread(self._folder.room)
        if size > self.budget or not self._drop_for(size, free):
            yield False
            return
        self._promised += size
        try:
            await asyncio.gather(*self._deletions)
            yield True
        finally:
            self._promised -= size

    def keep_within(self) -> None:
        """The budget may have been larger for the server before this one."""
        self._drop_for(0, 0)

    def _drop_for(self, size: int, free: int) -> bool:
        promised = self._promised + size
        over = max(self.size - self._deleting + promised - self.budget, promised - free)
        unused = sorted((one for one in self._kept.values() if one.users == 0), key=lambda one: one.used)
        if over > sum(kept.size for kept in unused):
            return False
        for kept in unused:
            if over <= 0:
                break
            over -= kept.size
            self.evicted += 1
            self.drop(kept)
        return True

    def add(self, kept: Kept) -> None:
        """An engine has just written it. It may be used at once; that it outlives this process takes a moment."""
        self._kept[kept.name] = kept
        kept.users += 1
        kept.sealed = self._spawn(self._seal(kept))

    def use(self, kept: Kept) -> None:
        """Somebody is about to read it; `release` must follow."""
        kept.users += 1
        kept.used = time.monotonic()

    def release(self, kept: Kept) -> None:
        kept.users -= 1
        self._delete_if_unused(kept)

    async def is_genuine(self, kept: Kept) -> bool:
        """Whether the file is as it was written: asked before an engine reads it."""
        if kept.sealed is not None and not await asyncio.shield(kept.sealed):
            return False
        return await asyncio.to_thread(self._folder.is_genuine, kept.name)

    def refuse(self, kept: Kept) -> None:
        """The engine could not use it."""
        if not kept.is_dropped:
            self.unusable += 1
            self.report("snapshot_unusable", {"snapshot": kept.name})
            self.drop(kept)

    def drop(self, kept: Kept) -> None:
        if not kept.is_dropped:
            kept.is_dropped = True
            del self._kept[kept.name]
            self._leaving += kept.size
            self.on_drop(kept)
            self._delete_if_unused(kept)

    async def write_down(self) -> None:
        """What has changed of snapshots since their manifests were written."""
        for kept in [one for one in self._kept.values() if one.is_changed and one.users == 0]:
            kept.is_changed = False
            kept.users += 1
            try:
                await asyncio.to_thread(self._folder.renew, self._described(kept))
            except SnapshotError as error:
                self.report("snapshot_not_renewed", {"reason": str(error)})
            finally:
                self.release(kept)

    async def _seal(self, kept: Kept) -> bool:
        try:
            await asyncio.to_thread(self._folder.seal, self._described(kept))
        except SnapshotError as error:
            self.failed += 1
            self.report("snapshot_not_kept", {"reason": str(error)})
            self.drop(kept)
            return False
        else:
            return True
        finally:
            self.release(kept)

    def _described(self, kept: Kept) -> Snapshot:
        return Snapshot(
            kept.name, self._identity, kept.workspace, kept.model, kept.tokens, kept.size, self.describe(kept)
        )

    def _delete_if_unused(self, kept: Kept) -> None:
        if kept.is_dropped and kept.users == 0:
            self._deleting += kept.size
            deletion = self._spawn(self._delete(kept))
            self._deletions.add(deletion)
            deletion.add_done_callback(self._deletions.discard)

    async def _delete(self, kept: Kept) -> None:
        try:
            await asyncio.to_thread(self._folder.remove, kept.name)
        except SnapshotError as error:  # the next start tries again
            self.report("snapshot_not_removed", {"reason": str(error)})
        finally:
            self._leaving -= kept.size
            self._deleting -= kept.size

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _last_used(snapshot: Snapshot) -> int:
    """By the wall clock, in microseconds: each use has begun a lifetime anew."""
    return max((one.expires_at - one.lifetime_s * 1_000_000 for one in snapshot.prefixes), default=0)
