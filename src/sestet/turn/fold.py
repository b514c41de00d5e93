"""A whole reply is the fold of its events; there is no other way to make one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from sestet.contract.caching import CacheMiss
from sestet.contract.events import (
    BlockDelta,
    BlockKind,
    BlockSignature,
    BlockStart,
    BlockStop,
    Event,
    Failed,
    MessageDelta,
    MessageStart,
    MessageStop,
    StopReason,
    Usage,
)
from sestet.contract.tiers import Tier


@dataclass(frozen=True, slots=True)
class Block:
    """`data` is the signature of a thought, all there is of a redacted one, or the id of a call. A call's `text` is its
    input as JSON, unfinished where the reply was cut."""

    kind: BlockKind
    text: str
    data: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    model: str
    content: tuple[Block, ...]
    stop_reason: StopReason
    stop_sequence: str | None
    usage: Usage
    tier: Tier = "standard"
    cache_miss: CacheMiss | None = None


def fold(events: Iterable[Event]) -> Message:
    """The message that these events tell; raises the `ApiError` of a reply that failed."""
    start: MessageStart | None = None
    end: MessageDelta | None = None
    blocks: list[BlockStart] = []
    texts: list[list[str]] = []
    seals: dict[int, str] = {}
    for event in events:
        match event:
            case MessageStart():
                start = event
            case BlockStart():
                blocks.append(event)
                texts.append([])
            case BlockDelta(index, _, text):
                texts[index].append(text)
            case BlockSignature(index, seal):
                seals[index] = seal
            case MessageDelta():
                end = event
            case Failed(error):
                raise error
            case BlockStop() | MessageStop():
                pass
            case _:
                assert_never(event)
    assert start is not None, "a reply begins with message_start"
    assert end is not None, "a reply ends with message_delta or fails"
    content = tuple(
        Block(block.kind, "".join(parts), seals.get(block.index, block.data), block.name)
        for block, parts in zip(blocks, texts, strict=True)
    )
    return Message(
        start.message_id,
        start.model,
        content,
        end.stop_reason,
        end.stop_sequence,
        end.usage,
        start.tier,
        start.cache_miss,
    )
