"""From a request's messages to the turns of a conversation: who may say what, and after what (WIRE.md section 2.4)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from sestet.contract.caching import Lifetime
from sestet.contract.errors import invalid
from sestet.contract.requests import (
    InputBlock,
    InputMessage,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from sestet.turn.breakpoints import lifetime_of
from sestet.turn.thoughts import ThoughtChecker

Role = Literal["user", "assistant", "system"]

# Blocks of one message and merged messages of one role are separate paragraphs to the model.
BLOCK_SEPARATOR = "\n"

_ROLE_OF = {
    "thinking": "assistant",
    "redacted_thinking": "assistant",
    "tool_use": "assistant",
    "tool_result": "user",
}


@dataclass(frozen=True, slots=True)
class Said:
    """`lifetime`, here and below, is that of the cache breakpoint at this block."""

    text: str
    lifetime: Lifetime | None = None


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought of this turn, which the model gets back because its tools have been at work since."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A call of a tool; `input` is JSON."""

    name: str
    input: str
    lifetime: Lifetime | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What a tool answered."""

    name: str
    text: str
    is_error: bool
    lifetime: Lifetime | None = None


Part = Said | Thought | Called | Answered


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said. `text` is all of its own text; `parts` are there where it was more than one block of text, or
    one that is to be cached."""

    role: Role
    text: str
    parts: tuple[Part, ...] = ()

    @property
    def characters(self) -> int:
        return sum(len(part.input if isinstance(part, Called) else part.text) for part in self.parts) or len(self.text)


def turns_of(messages: Sequence[InputMessage], thoughts: ThoughtChecker, *, keep_thoughts: bool) -> tuple[Turn, ...]:
    """Messages with consecutive ones of a role merged. Only a final assistant message may be empty, or one that was all
    thought. `keep_thoughts` keeps those since the last word of the user, which calls of tools belong to."""
    calls = _check_pairs(messages)
    loop_start = _loop_start(messages) if keep_thoughts else len(messages)
    found: list[tuple[Role, list[Part]]] = []
    for position, message in enumerate(messages):
        parts = list(_parts(message, position, thoughts, calls, position > loop_start))
        is_last = position == len(messages) - 1
        has_thought = not isinstance(message.content, str) and any(
            isinstance(block, ThinkingBlock | RedactedThinkingBlock) for block in message.content
        )
        if not parts and not has_thought and not (is_last and message.role == "assistant"):
            raise invalid(
                "all messages must have non-empty content except for the optional final assistant message",
                f"messages.{position}.content",
            )
        if not found or found[-1][0] != message.role:
            found.append((message.role, []))
        found[-1][1].extend(parts)
    turns = tuple(_turn(role, parts) for role, parts in found)
    _check_system_placement(turns)
    return turns


def cached(turns: tuple[Turn, ...], lifetime: Lifetime) -> tuple[Turn, ...]:
    """The same with a breakpoint at the last block."""
    *before, last = turns
    parts = list(last.parts or (Said(last.text),))
    for at in range(len(parts) - 1, -1, -1):
        part = parts[at]
        if not isinstance(part, Thought):
            parts[at] = replace(part, lifetime=lifetime)
            break
    return (*before, replace(last, parts=tuple(parts)))


def _turn(role: Role, parts: Sequence[Part]) -> Turn:
    text = BLOCK_SEPARATOR.join([part.text for part in parts if isinstance(part, Said)])
    is_plain = not parts or (len(parts) == 1 and isinstance(parts[0], Said) and parts[0].lifetime is None)
    return Turn(role, text, () if is_plain else tuple(parts))


def _parts(
    message: InputMessage, position: int, thoughts: ThoughtChecker, calls: Mapping[str, str], in_loop: bool
) -> Iterator[Part]:
    if isinstance(message.content, str):
        if message.content:
            yield Said(message.content)
        return
    genuine = thoughts.check(message.content, f"messages.{position}.content")
    for at, block in enumerate(message.content):
        match block:
            case TextBlock():
                yield said(block)
            case ToolUseBlock():
                yield Called(block.name, json.dumps(block.input, ensure_ascii=False), lifetime_of(block.cache_control))
            case ToolResultBlock():
                yield _answered(block, calls[block.tool_use_id])
            case _ if in_loop and at in genuine:
                yield Thought(genuine[at])


def said(block: TextBlock) -> Said:
    return Said(block.text, lifetime_of(block.cache_control))


def _answered(block: ToolResultBlock, name: str) -> Answered:
    """A breakpoint within the answer stands for one at its end."""
    blocks = () if block.content is None or isinstance(block.content, str) else block.content
    text = block.content if isinstance(block.content, str) else BLOCK_SEPARATOR.join([one.text for one in blocks])
    inner = [one.cache_control for one in blocks if one.cache_control is not None]
    return Answered(
        name, text, bool(block.is_error), lifetime_of(block.cache_control or (inner[-1] if inner else None))
    )


def _is_text(blocks: Sequence[InputBlock]) -> bool:
    return all(isinstance(block, TextBlock) for block in blocks)


def _loop_start(messages: Sequence[InputMessage]) -> int:
    """Where the user last said something that is not the answer of a tool; what follows is one turn of the model."""
    for position in range(len(messages) - 1, -1, -1):
        message = messages[position]
        if message.role == "user" and not any(isinstance(block, ToolResultBlock) for block in _blocks(message)):
            return position
    return -1


def _blocks(message: InputMessage) -> Sequence[InputBlock | str]:
    return (message.content,) if isinstance(message.content, str) else message.content


@dataclass(frozen=True, slots=True)
class _Placed:
    """A block, or a message that is a string, with its place in the request."""

    position: int
    at: int
    block: InputBlock | str


def _check_pairs(messages: Sequence[InputMessage]) -> dict[str, str]:
    """Every call is answered in the next turn, every answer has its call; the names of the tools by id of call."""
    names: dict[str, str] = {}
    waiting: dict[str, int] = {}
    if all(isinstance(message.content, str) or _is_text(message.content) for message in messages):
        return names
    for role, turn in groupby(enumerate(messages), key=lambda one: one[1].role):
        blocks = [_Placed(p, at, block) for p, message in turn for at, block in enumerate(_blocks(message))]
        _check_roles(role, blocks)
        _check_results(blocks, waiting)
        for placed in blocks:
            if isinstance(placed.block, ToolUseBlock):
                if placed.block.id in names:
                    raise invalid("`tool_use` ids must be unique", f"messages.{placed.position}.content.{placed.at}.id")
                names[placed.block.id] = placed.block.name
                waiting[placed.block.id] = placed.position
    _refuse_unanswered(waiting)
    return names


def _check_roles(role: Role, blocks: Sequence[_Placed]) -> None:
    for placed in blocks:
        if not isinstance(placed.block, str) and role != _ROLE_OF.get(placed.block.type, role):
            raise invalid(
                f"`{placed.block.type}` blocks may only be in `{_ROLE_OF[placed.block.type]}` messages",
                f"messages.{placed.position}.content.{placed.at}.type",
            )


def _check_results(blocks: Sequence[_Placed], waiting: dict[str, int]) -> None:
    """The answers in one turn to the calls of the turn before, which are not waiting any more afterwards."""
    given: set[str] = set()
    other: _Placed | None = None
    for placed in blocks:
        path = f"messages.{placed.position}.content.{placed.at}"
        if not isinstance(placed.block, ToolResultBlock):
            other = other or placed
            continue
        identifier = placed.block.tool_use_id
        if identifier in given:
            raise invalid(
                f"each tool_use must have a single result. Found multiple `tool_result` blocks with id: {identifier}",
                f"{path}.tool_use_id",
            )
        if identifier not in waiting:
            raise invalid(
                f"unexpected `tool_use_id` found in `tool_result` blocks: {identifier}. Each `tool_result` block must "
                "have a corresponding `tool_use` block in the previous message.",
                path,
            )
        if other is not None:
            raise invalid(
                "`tool_result` blocks must come first, text after them", f"messages.{placed.position}.content"
            )
        given.add(identifier)
    _refuse_unanswered({one: position for one, position in waiting.items() if one not in given})
    waiting.clear()


def _refuse_unanswered(waiting: Mapping[str, int]) -> None:
    if not waiting:
        return
    ids = sorted(waiting)
    raise invalid(
        f"`tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(ids)}. Each `tool_use` "
        "block must have a corresponding `tool_result` block in the next message.",
        f"messages.{min(waiting.values())}",
    )


def _check_system_placement(turns: Sequence[Turn]) -> None:
    """A system message follows a user turn, and is last or followed by an assistant turn."""
    for position, turn in enumerate(turns):
        if turn.role != "system":
            continue
        after = turns[position + 1] if position + 1 < len(turns) else None
        if position and (turns[position - 1].role != "user" or (after is not None and after.role != "assistant")):
            raise invalid(
                "a `system` message must directly follow a user turn, and be the last message or be followed "
                "by an assistant turn; instructions for the whole conversation belong in the top-level `system`",
                "messages",
            )
