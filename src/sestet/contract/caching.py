"""Prompt caching as words and numbers of the contract (WIRE.md sections 2.8 and 3.4)."""

from dataclasses import dataclass
from typing import Final, Literal

Lifetime = Literal["5m", "1h"]
LIFETIME_S: Final[dict[Lifetime, int]] = {"5m": 300, "1h": 3600}
LIFETIME_DEFAULT: Final[Lifetime] = "5m"

# The parts of a prompt in the order in which it is cached: what changes in one changes all that follow.
Level = Literal["tools", "system", "messages"]

BREAKPOINTS_MAX: Final = 4
LOOKBACK_BLOCKS: Final = 20  # a breakpoint finds entries at its own block and at the 19 before

MissReason = Literal[
    "model_changed", "system_changed", "tools_changed", "messages_changed", "previous_message_not_found", "unavailable"
]


@dataclass(frozen=True, slots=True)
class CacheMiss:
    """Why the prefix of an earlier request could not be reused; `missed_tokens` could have been read otherwise."""

    reason: MissReason
    missed_tokens: int | None = None
