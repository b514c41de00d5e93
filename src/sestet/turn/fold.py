"""A whole reply is the fold of its events; there is no other way to make one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

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


@dataclass(frozen=True, slots=True)
class Block:
    """`seal` is the signature of a thought, or all there is of a redacted one."""

    kind: BlockKind
    text: str
    seal: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    id: str
    model: str
    content: tuple[Block, ...]
    stop_reason: StopReason
    stop_sequence: str | None
    usage: Usage


def fold(events: Iterable[Event]) -> Message:
    """The message that these events tell; raises the `ApiError` of a reply that failed."""
    start: MessageStart | None = None
    end: MessageDelta | None = None
    blocks: list[tuple[BlockKind, list[str]]] = []
    seals: dict[int, str] = {}
    for event in events:
        match event:
            case MessageStart():
                start = event
            case BlockStart(index, kind, seal):
                blocks.append((kind, []))
                seals[index] = seal
            case BlockDelta(index, _, text):
                blocks[index][1].append(text)
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
    content = tuple(Block(kind, "".join(parts), seals[index]) for index, (kind, parts) in enumerate(blocks))
    return Message(start.message_id, start.model, content, end.stop_reason, end.stop_sequence, end.usage)
