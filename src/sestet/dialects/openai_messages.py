"""The messages of OpenAI's chat as the contract's: where the system prompt goes, what a turn is made of, and what the
client calls each piece of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

from sestet.contract.errors import ApiError, invalid
from sestet.contract.requests import CacheControl
from sestet.dialects.json_body import read_object
from sestet.dialects.openai_requests import (
    AssistantMessage,
    ChatMessage,
    ReasoningDetail,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from sestet.dialects.openai_shapes import KEPT

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A block of the contract, the client's path to it, and its fields that have another name there."""

    block: Block
    path: str
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Conversation:
    """`system` and `messages` as the contract has them, and `paths` into them as the client knows them.

    System messages before all others are the system prompt. The contract has later ones after what the user says, so
    one that stands before it is told after it. Answers of tools and what the user says after them are one message.
    """

    system: list[Block] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    _later: list[tuple[int, SystemMessage]] = field(default_factory=list)
    _answering: bool = False

    @classmethod
    def of(cls, messages: Sequence[ChatMessage]) -> "Conversation":
        """Raises `ApiError` with the client's path for what has no place in the contract."""
        made = cls()
        for position, message in enumerate(messages):
            made._add(position, message)
        made._tell_later_ones()
        return made

    def _add(self, position: int, message: ChatMessage) -> None:
        path = f"messages.{position}"
        match message:
            case SystemMessage() if not self.messages:
                for piece in _said_by_the_system(message, path):
                    self._name(f"system.{len(self.system)}", piece)
                    self.system.append(piece.block)
            case SystemMessage():
                self._later.append((position, message))
            case UserMessage():
                self._say(position, "user", list(_texts(message, path)), merged=self._answering)
            case ToolMessage():
                self._say(position, "user", [_answer(message, path)], merged=self._answering)
                self._answering = True
            case AssistantMessage():
                self._tell_later_ones()
                pieces = list(_assistant(message, path))
                if pieces:  # a reply may have said nothing, and is sent back as it was
                    self._say(position, "assistant", _marked(pieces, message.cache_control))
            case _:
                assert_never(message)

    def _tell_later_ones(self) -> None:
        for position, message in self._later:
            pieces = _said_by_the_system(message, f"messages.{position}")
            if pieces:
                self._say(position, "system", pieces)
        self._later.clear()
        self._answering = False

    def _say(self, position: int, role: str, pieces: list[_Piece], *, merged: bool = False) -> None:
        if not merged:
            if len(self.messages) != position:
                self.paths[f"messages.{len(self.messages)}"] = f"messages.{position}"
            if not pieces or (len(pieces) == 1 and _is_plain(pieces[0], position)):
                self.messages.append({"role": role, "content": pieces[0].block["text"] if pieces else ""})
                return
            self.messages.append({"role": role, "content": []})
        at, content = len(self.messages) - 1, self.messages[-1]["content"]
        for piece in pieces:
            if merged or piece.path != f"messages.{position}.content.{len(content)}":
                self._name(f"messages.{at}.content.{len(content)}", piece)
            content.append(piece.block)

    def _name(self, path: str, piece: _Piece) -> None:
        self.paths[path] = piece.path
        for name, known in piece.names.items():
            self.paths[f"{path}.{name}"] = f"{piece.path}.{known}" if known else piece.path


def _is_plain(piece: _Piece, position: int) -> bool:
    """Whether it is the one string that the whole message is."""
    return piece.path == f"messages.{position}.content" and piece.block.keys() == {"type", "text"}


_STRING: Final = {"text": ""}


def _texts(message: SystemMessage | UserMessage, path: str) -> list[_Piece]:
    return _marked(list(_said(message.content, f"{path}.content")), message.cache_control)


def _said_by_the_system(message: SystemMessage, path: str) -> list[_Piece]:
    """An empty system prompt is none."""
    return [piece for piece in _texts(message, path) if piece.block["text"]]


def _said(content: str | Sequence[TextPart | RefusalPart], path: str) -> Iterator[_Piece]:
    if isinstance(content, str):
        yield _Piece({"type": "text", "text": content}, path, _STRING)
        return
    for position, part in enumerate(content):
        match part:
            case TextPart():
                names = {} if part.cache_control else {"cache_control": "prompt_cache_breakpoint"}
                yield _Piece(_text(part), f"{path}.{position}", names)
            case RefusalPart():
                block = {"type": "text", "text": part.refusal}
                yield _Piece(block, f"{path}.{position}", {"text": "refusal"})


def _text(part: TextPart) -> Block:
    block: Block = {"type": "text", "text": part.text}
    if part.cache_control is not None:
        block["cache_control"] = part.cache_control
    elif part.prompt_cache_breakpoint is not None:
        block["cache_control"] = KEPT
    return block


def _marked(pieces: list[_Piece], breakpoint_: CacheControl | None) -> list[_Piece]:
    """A breakpoint at a message is one at its last block."""
    if breakpoint_ is not None and pieces:
        pieces[-1].block.setdefault("cache_control", breakpoint_)
    return pieces


def _answer(message: ToolMessage, path: str) -> _Piece:
    content = message.content
    told = content if isinstance(content, str) else [_text(part) for part in content if part.text]
    block: Block = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": told}
    return _marked([_Piece(block, path, {"tool_use_id": "tool_call_id"})], message.cache_control)[0]


def _assistant(message: AssistantMessage, path: str) -> Iterator[_Piece]:
    """Thoughts, text, calls: the order in which a reply has them. Text that is empty is none."""
    yield from _thoughts(message, path)
    for content, name in ((message.content, "content"), (message.refusal, "refusal")):
        for piece in _said(content or "", f"{path}.{name}"):
            if piece.block["text"]:
                yield piece
    for position, call in enumerate(message.tool_calls or ()):
        yield _call(call, f"{path}.tool_calls.{position}")


def _thoughts(message: AssistantMessage, path: str) -> Iterator[_Piece]:
    """Text without a proof goes to the checker as what it is, a thought of unknown origin."""
    for position, detail in enumerate(message.reasoning_details or ()):
        yield _thought(detail, f"{path}.reasoning_details.{position}")
    if not message.reasoning_details:
        name = "reasoning_content" if message.reasoning_content else "reasoning"
        text = message.reasoning_content or message.reasoning
        if text:
            block = {"type": "thinking", "thinking": text, "signature": ""}
            yield _Piece(block, f"{path}.{name}", {"thinking": "", "signature": ""})


def _thought(detail: ReasoningDetail, path: str) -> _Piece:
    if detail.type == "reasoning.encrypted":
        return _Piece({"type": "redacted_thinking", "data": detail.data or ""}, path)
    text = detail.text or detail.summary or ""
    block = {"type": "thinking", "thinking": text, "signature": detail.signature or ""}
    return _Piece(block, path, {"thinking": "text"})


def _call(call: ToolCall, path: str) -> _Piece:
    block = {"type": "tool_use", "id": call.id, "name": call.function.name, "input": _input(call, path)}
    return _Piece(block, path, {"name": "function.name", "input": "function.arguments"})


def _input(call: ToolCall, path: str) -> dict[str, Any]:
    if not call.function.arguments.strip():
        return {}
    try:
        return read_object(call.function.arguments.encode())
    except ApiError as error:
        told = error.message.replace("the request body", "the text")
        raise invalid(f"this must be the text of a JSON object: {told}", f"{path}.function.arguments") from None
