"""The events of one reply and the only order in which they may come (WIRE.md section 3.5).

A whole reply is a fold of these (turn/fold.py); nothing else of a reply exists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sestet.contract.caching import CacheMiss
from sestet.contract.errors import ApiError
from sestet.contract.tiers import Tier

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]
BlockKind = Literal["text", "thinking", "redacted_thinking", "tool_use"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, cumulative. The three kinds of input add up to the rendered prompt.

    `cache_creation_5m` and `cache_creation_1h` are the two lifetimes of cache writes.
    """

    input_tokens: int
    output_tokens: int = 0
    cache_creation_5m: int = 0
    cache_creation_1h: int = 0
    cache_read_input_tokens: int = 0
    thinking_tokens: int = 0

    @property
    def cache_creation_input_tokens(self) -> int:
        return self.cache_creation_5m + self.cache_creation_1h


@dataclass(frozen=True, slots=True)
class MessageStart:
    message_id: str
    model: str
    usage: Usage
    tier: Tier = "standard"
    cache_miss: CacheMiss | None = None


@dataclass(frozen=True, slots=True)
class BlockStart:
    """`data` is the whole of a redacted thought, encrypted, or the id of a call, and `name` the tool that it calls.
    Other kinds begin empty."""

    index: int
    kind: BlockKind
    data: str = ""
    name: str = ""


@dataclass(slots=True)
class BlockDelta:
    """Not frozen: that would triple the time to make one, and one is made for every token.

    Of a call the texts together are its input, a JSON object; the first one is empty.
    """

    index: int
    kind: BlockKind
    text: str


@dataclass(frozen=True, slots=True)
class BlockSignature:
    """The end of a thought, once: what proves its text when it comes back."""

    index: int
    signature: str


@dataclass(frozen=True, slots=True)
class BlockStop:
    index: int


@dataclass(frozen=True, slots=True)
class MessageDelta:
    stop_reason: StopReason
    stop_sequence: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class MessageStop:
    pass


@dataclass(frozen=True, slots=True)
class Failed:
    """The other end of a stream: it replaces everything that was still to come."""

    error: ApiError


Event = MessageStart | BlockStart | BlockDelta | BlockSignature | BlockStop | MessageDelta | MessageStop | Failed

# Which event may follow which; `None` is the beginning, an empty tuple an end.
FOLLOWS: Final[Mapping[type[Event] | None, tuple[type[Event], ...]]] = {
    None: (MessageStart, Failed),
    MessageStart: (BlockStart, MessageDelta, Failed),
    BlockStart: (BlockDelta, BlockSignature, BlockStop, Failed),
    BlockDelta: (BlockDelta, BlockSignature, BlockStop, Failed),
    BlockSignature: (BlockStop, Failed),
    BlockStop: (BlockStart, MessageDelta, Failed),
    MessageDelta: (MessageStop, Failed),
    MessageStop: (),
    Failed: (),
}
