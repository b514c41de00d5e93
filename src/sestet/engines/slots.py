"""Which place of an engine holds what was computed for whom, and which place a prompt gets. Pure bookkeeping.

What one tenant computed is never reused for another (RELIABILITY.md T37): a place is its tenant's alone, and what
is in it while that is unclear is nobody's.
"""

from collections import OrderedDict
from dataclasses import dataclass

_FIRST_STEP = 64


@dataclass(slots=True, eq=False)
class Place:
    """`tokens` are the first of its state as far as they are known; it `ends_there` if nothing follows them.

    `tenant` `None` says that nothing in it may be used, whatever it is.
    """

    number: int
    tenant: str | None = None
    tokens: tuple[int, ...] = ()
    ends_there: bool = False

    def forget(self) -> None:
        self.holds(None, ())

    def holds(self, tenant: str | None, tokens: tuple[int, ...], *, ends_there: bool = False) -> None:
        self.tenant, self.tokens, self.ends_there = tenant, tokens, ends_there


class Places:
    """All places of an engine, known by their numbers. `cuts` is whether a state's end can be dropped: where it
    cannot, a state is of use only to a prompt that goes on where it ends."""

    def __init__(self, count: int) -> None:
        self.cuts = True
        self._places = [Place(number) for number in range(count)]
        # The least recently used first, and those that hold nothing before all others.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))

    def __getitem__(self, number: int) -> Place:
        return self._places[number]

    def forget(self) -> None:
        """The engine is a new one. Places that are taken stay taken, and what is noted of the old ones is lost."""
        self._places = [Place(place.number) for place in self._places]

    def usable(self, number: int, tenant: str, prompt: tuple[int, ...]) -> int:
        """How many of the prompt's first tokens are in this place, for this tenant."""
        place = self._places[number]
        if place.tenant != tenant:
            return 0
        common = common_length(place.tokens, prompt)
        if not self.cuts and not (place.ends_there and common == len(place.tokens) < len(prompt)):
            return 0
        return common

    def take(self, tenant: str, prompt: tuple[int, ...], least: int | None = None) -> int:
        """The free place that holds most of this prompt, if that is at least `least` tokens; else the one whose loss
        matters least. `KeyError` where none is free.

        Without `least`, half of the prompt or of what is there must be common: every conversation begins alike, and
        a long one should not go for a few tokens of its beginning.
        """
        best = (least or 1) - 1
        chosen = next(iter(self._free), None)
        if chosen is None:
            raise KeyError("no place is free")
        for number in reversed(self._free):
            place = self._places[number]
            if place.tenant is None or best == len(prompt):
                break  # those that hold nothing are the last of this order
            if place.tenant != tenant or place.tokens[best : best + 1] != prompt[best : best + 1]:
                continue
            common = self.usable(number, tenant, prompt)
            if common > best and (least or 2 * common >= min(len(prompt), len(place.tokens))):
                best, chosen = common, number
        del self._free[chosen]
        return chosen

    def give_back(self, number: int) -> None:
        self._free[number] = None
        if self._places[number].tenant is None:
            self._free.move_to_end(number, last=False)


def common_length(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many first tokens two prompts share. Compares slices, and no more of them than they share, so that two
    prompts of 200,000 tokens take a millisecond or two."""
    end = min(len(one), len(other))
    start, step = 0, _FIRST_STEP
    while start < end:
        size = min(step, end - start)
        if one[start : start + size] == other[start : start + size]:
            start += size
            step *= 2
        else:
            end = start + size - 1
            step = max(1, size // 2)
    return start
