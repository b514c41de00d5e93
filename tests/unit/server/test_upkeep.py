"""Looking for changes: the newest one wins, however long a look takes."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from sestet.gate.directory import Allowance, Directory
from sestet.server.upkeep import Upkeep


@dataclass
class Slow:
    """Directories of which the first read waits until it is let go on."""

    generations: list[int]
    go_on: threading.Event = field(default_factory=threading.Event)
    reading: threading.Event = field(default_factory=threading.Event)

    def generation(self) -> int:
        return self.generations[-1]

    def read(self) -> Directory:
        found = self.generations[-1]
        if not self.reading.is_set():
            self.reading.set()
            self.go_on.wait(10)
        return Directory(found, "org", "Organization", Allowance(), {}, ())


def _nothing() -> Callable[[], None]:
    return lambda: None


def test_a_slow_look_does_not_undo_a_later_change() -> None:
    async def play() -> list[int]:
        applied: list[int] = []
        slow = Slow([1])
        upkeep = Upkeep(slow, None, lambda directory: applied.append(directory.generation), _nothing)  # type: ignore[arg-type]
        first = asyncio.create_task(upkeep.look())
        await asyncio.to_thread(slow.reading.wait, 10)
        slow.generations.append(2)
        second = asyncio.create_task(upkeep.look())
        await asyncio.sleep(0)
        slow.go_on.set()
        await asyncio.gather(first, second)
        return applied

    assert [1, 2] == asyncio.run(play())
