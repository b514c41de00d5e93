"""What a request reads from the cache and writes to it (WIRE.md section 2.8). Positions are indices of prefixes."""

from collections.abc import Callable, Iterator, Sequence

from sestet.cache.prefixes import Prefix
from sestet.contract.caching import LOOKBACK_BLOCKS, Lifetime
from sestet.contract.events import Usage


def breakpoints(prefixes: Sequence[Prefix], minimum: int) -> list[int]:
    """Where the prompt is to be cached. A prefix shorter than the card's minimum is not, and nothing says so."""
    return [at for at, one in enumerate(prefixes) if one.lifetime is not None and one.tokens >= minimum]


def candidates(prefixes: Sequence[Prefix], given: Sequence[int], minimum: int) -> Iterator[int]:
    """Where an entry would be found, the longest first: at a breakpoint or a few blocks before it."""
    beyond = len(prefixes)
    for at in reversed(given):
        for back in range(min(at, beyond - 1), max(-1, at - LOOKBACK_BLOCKS), -1):
            if prefixes[back].tokens < minimum:
                break
            yield back
        beyond = min(beyond, max(0, at - LOOKBACK_BLOCKS + 1))


def longest(prefixes: Sequence[Prefix], minimum: int, is_live: Callable[[bytes], bool]) -> int | None:
    """The longest entry that this prompt can use."""
    given = breakpoints(prefixes, minimum)
    return next((at for at in candidates(prefixes, given, minimum) if is_live(prefixes[at].key)), None)


def written(prefixes: Sequence[Prefix], minimum: int, read: int | None) -> list[int]:
    """Where new entries come to be: at the breakpoints behind what is read."""
    return [at for at in breakpoints(prefixes, minimum) if read is None or at > read]


def usage(prefixes: Sequence[Prefix], minimum: int, read: int | None, prompt_tokens: int) -> Usage:
    """The prompt's tokens by what they cost: read, written for an hour up to the last breakpoint of an hour, written
    for five minutes from there to the last one, and the rest."""
    from_cache = 0 if read is None else prefixes[read].tokens
    until: dict[Lifetime, int] = {"1h": from_cache, "5m": from_cache}
    for at in written(prefixes, minimum, read):
        lifetime = prefixes[at].lifetime
        assert lifetime is not None, "only breakpoints are written"
        until[lifetime] = prefixes[at].tokens
    hour = until["1h"] - from_cache
    five_minutes = max(0, until["5m"] - until["1h"])
    return Usage(
        prompt_tokens - from_cache - hour - five_minutes,
        cache_creation_5m=five_minutes,
        cache_creation_1h=hour,
        cache_read_input_tokens=from_cache,
    )
