"""How a family of weights thinks, and what a client may ask of a thought. Data for profiles, cards and engines."""

from dataclasses import dataclass
from typing import Literal

from sestet.contract.deltas import Sampling

ThinkingType = Literal["enabled", "adaptive", "disabled", "between_tools"]
Display = Literal["summarized", "omitted"]


@dataclass(frozen=True, slots=True)
class ThinkingTags:
    """The texts between which weights think; a row of profiles.toml.

    `open` begins a thought and `close` ends it, as the weights write them; `closing` is what is written for them to
    end it, and contains `close`. `no_thought` begins an answer of weights that would otherwise think; without it an
    empty thought does. `instruction` is the system prompt that makes weights think that were not trained to; those
    need no `no_thought`. `shown` are control tokens that tags are made of. `forbidden` are the spellings that an answer
    must not hold, as far as they are single tokens. `sampling` is what thoughts are drawn with when a request does not
    say.
    """

    open: str
    close: str
    closing: str
    no_thought: str | None = None
    instruction: str | None = None
    shown: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    sampling: Sampling | None = None

    def __post_init__(self) -> None:
        assert self.close in self.closing
