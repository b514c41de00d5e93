"""What is found, read and written, by hand-made prefixes."""

from collections.abc import Sequence

import pytest

from sestet.cache import rules
from sestet.cache.prefixes import Prefix
from sestet.contract.caching import Lifetime
from sestet.contract.events import Usage


def prompt(marks: str) -> list[Prefix]:
    """One block of ten tokens for each character: `s`hort, an `h`our, or no breakpoint."""
    lifetimes: dict[str, Lifetime | None] = {"s": "5m", "h": "1h", ".": None}
    return [Prefix(str(at).encode(), 10 * (at + 1), "messages", lifetimes[mark]) for at, mark in enumerate(marks)]


def found(marks: str, entries: Sequence[int], minimum: int = 0) -> int | None:
    return rules.longest(prompt(marks), minimum, lambda key: int(key) in entries)


@pytest.mark.parametrize(
    ("marks", "entries", "read"),
    [
        ("..s", [2], 2),
        ("..s", [0, 1], 1),
        ("..s.", [3], None),  # what comes after the breakpoint is not looked at
        ("...", [0, 1, 2], None),
        ("s...s", [0, 2], 2),
        ("s" + "." * 25 + "s", [0], 0),  # found by its own breakpoint
        ("." * 19 + "s", [0], 0),
        ("." * 20 + "s", [0], None),  # the twenty-first block back
        ("." * 20 + "s" + "." * 19 + "s", [1], 1),
        ("s" + "." * 30 + "s", [5], None),
    ],
)
def test_an_entry_is_found_at_a_breakpoint_and_at_the_nineteen_blocks_before(
    marks: str, entries: list[int], read: int | None
) -> None:
    assert read == found(marks, entries)


def test_what_is_shorter_than_the_minimum_is_neither_found_nor_written() -> None:
    assert None is found("s.s", [0], minimum=30)
    assert 2 == found("s.s", [0, 2], minimum=30)
    assert [2] == rules.written(prompt("s.s"), 30, None)
    assert Usage(30) == rules.usage(prompt("s.s"), 31, None, 30)


@pytest.mark.parametrize(
    ("marks", "read", "usage"),
    [
        ("..s", None, Usage(5, cache_creation_5m=30)),
        ("..s", 2, Usage(5, cache_read_input_tokens=30)),
        ("..s", 1, Usage(5, cache_creation_5m=10, cache_read_input_tokens=20)),
        ("h.s", None, Usage(5, cache_creation_1h=10, cache_creation_5m=20)),
        ("h.h", None, Usage(5, cache_creation_1h=30)),
        ("hhss.", None, Usage(15, cache_creation_1h=20, cache_creation_5m=20)),
        ("hhss.", 0, Usage(15, cache_creation_1h=10, cache_creation_5m=20, cache_read_input_tokens=10)),
        ("hhss.", 2, Usage(15, cache_creation_5m=10, cache_read_input_tokens=30)),
        ("hhss.", 3, Usage(15, cache_read_input_tokens=40)),
        ("...", None, Usage(35)),
    ],
)
def test_the_tokens_of_a_prompt_add_up(marks: str, read: int | None, usage: Usage) -> None:
    prefixes = prompt(marks)

    assert usage == rules.usage(prefixes, 0, read, prefixes[-1].tokens + 5)
