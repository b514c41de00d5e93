"""Replies of OpenAI's Responses API: the response object, and the events of its stream (WIRE.md section 8.5).

Each block of the contract is an item of the output. An item's end waits for the next event, which says whether the
reply was cut there. No `[DONE]` follows the last event.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, assert_never

import orjson

from sestet.contract.errors import ApiError, ErrorKind, invalid
from sestet.contract.events import (
    BlockDelta,
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
from sestet.dialects.anthropic import STREAM_CONTENT_TYPE, encode_json
from sestet.dialects.dialect import Asking
from sestet.dialects.responses_requests import JsonSchema, ResponsesRequest, Status
from sestet.turn.fold import Block, Message

# What stands between a thought's seal and its text in `encrypted_content`; no seal holds one.
SEAL_END: Final = "."

_TIERS: Final[Mapping[Tier, str]] = {"standard": "default", "priority": "priority", "batch": "flex"}
_INCOMPLETE: Final[frozenset[StopReason]] = frozenset(("max_tokens", "model_context_window_exceeded"))
# The other kinds are faults of the server.
_FAILURES: Final[Mapping[ErrorKind, str]] = {
    "rate_limit_error": "rate_limit_exceeded",
    "invalid_request_error": "invalid_prompt",
}
_PREFIXES: Final = {"text": "msg", "thinking": "rs", "redacted_thinking": "rs", "tool_use": "fc"}

_Fields = dict[str, Any]


def echo(asking: Asking, request: ResponsesRequest) -> bytes:
    """What the response says again of its request, as the members of a JSON object after its first ones. It is told up
    to three times in a stream, so it is spelled once; the standard library spells integers of any size."""
    reasoning = request.reasoning
    asked = request.text.format if request.text else None
    format_: _Fields = {"type": asked.type if asked else "text"}
    if isinstance(asked, JsonSchema):
        format_ = {"type": "json_schema", "name": asked.name, "schema": asked.schema_, "strict": True}
        format_ |= {} if asked.description is None else {"description": asked.description}
    fields: _Fields = {
        "object": "response",
        "created_at": int(asking.now_s),
        "background": False,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": None,
        "metadata": request.metadata or {},
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {
            "effort": reasoning.effort if reasoning else None,
            "summary": (reasoning.summary or reasoning.generate_summary) if reasoning else None,
        },
        "safety_identifier": request.safety_identifier,
        "store": False,
        "temperature": request.temperature,
        "text": {"format": format_, "verbosity": "medium"},
        "tool_choice": _plain(request.tool_choice or "auto"),
        "tools": [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": bool(tool.strict),
            }
            for tool in request.tools or ()
        ],
        "top_logprobs": 0,
        "top_p": request.top_p,
        "truncation": "disabled",
        "user": request.user,
    }
    try:
        return json.dumps(fields, allow_nan=False, separators=(",", ":"))[1:].encode()
    except (ValueError, RecursionError):  # a number like 1e999, which JSON can spell, or too many levels
        raise invalid("a schema holds a number that is too large, or is nested too deeply") from None


def _plain(choice: Any) -> Any:
    return choice if isinstance(choice, str) else choice.model_dump()


class Told:
    """One response: JSON, or its stream."""

    content_type = STREAM_CONTENT_TYPE
    ping = b": ping\n\n"  # a comment; these clients know no such event

    def __init__(self, asking: Asking, request: ResponsesRequest, echo: bytes) -> None:
        self._id = asking.message_id.removeprefix("msg_")
        self._echo = echo
        self._sealed = bool(request.include)
        reasoning = request.reasoning
        self._summary = reasoning is not None and bool(reasoning.summary or reasoning.generate_summary)
        self._model = request.model
        self._tier: Tier = "standard"
        self._number = 0  # of the next event
        self._blocks: list[Block] = []
        self._start: BlockStart | None = None
        self._texts: list[str] = []
        self._seal = ""
        self._undone = False  # whether the end of the last item is still to be told
        self._pieces: tuple[tuple[bytes, bytes, bytes], ...] = ()  # what a delta of the open block is put together of
        self._end: MessageDelta | None = None

    def message(self, message: Message) -> bytes:
        return self._ended(message.model, message.tier, message.content, message.stop_reason, message.usage)

    def event(self, event: Event) -> bytes:
        if type(event) is BlockDelta:
            return self._delta(event.text)
        match event:
            case MessageStart(_, model, _, tier):
                self._model, self._tier = model, tier
                return self._begun()
            case BlockStart():
                return self._item_done("completed") + self._opened(event)
            case BlockSignature(_, seal):
                self._seal = seal
                return b""
            case BlockStop():
                return self._closed()
            case MessageDelta(stop_reason):
                self._end = event
                return self._item_done("incomplete" if stop_reason in _INCOMPLETE else "completed")
            case MessageStop():
                assert self._end is not None, "a reply says why it ends before it does"
                reason = self._end.stop_reason
                whole = self._ended(self._model, self._tier, self._blocks, reason, self._end.usage)
                kind = "response.incomplete" if reason in _INCOMPLETE else "response.completed"
                return self._frame(kind, {"response": orjson.Fragment(whole)})
            case Failed(error):
                return self._failed(error)
            case BlockDelta():
                raise AssertionError("told above")
            case _:
                assert_never(event)

    def _delta(self, text: str) -> bytes:
        """Nearly all of a stream, so it is put together without a dictionary."""
        if not text:
            return b""
        self._texts.append(text)
        opened = b"" if self._pieces else self._opened_thought()
        told = encode_json(text)
        if len(self._pieces) == 1:
            ((head, middle, tail),) = self._pieces
            number = self._number
            self._number = number + 1
            return b"%b%b%d%b%b%b" % (opened, head, number, middle, told, tail)
        frames = [opened]
        for head, middle, tail in self._pieces:
            frames.append(b"%b%d%b%b%b" % (head, self._number, middle, told, tail))
            self._number += 1
        return b"".join(frames)

    def _begun(self) -> bytes:
        fields = {"response": orjson.Fragment(self._response("in_progress", self._model, self._tier, []))}
        return self._frame("response.created", fields) + self._frame("response.in_progress", fields)

    def _opened(self, start: BlockStart) -> bytes:
        self._start, self._texts, self._seal, self._pieces = start, [], "", ()
        at = self._at()
        item = self._item(len(self._blocks), Block(start.kind, "", "", start.name), "in_progress")
        match start.kind:
            case "text":
                item["content"] = []
                self._pieces = (self._pieces_of("output_text", b',"content_index":0', b',"logprobs":[]'),)
                begun = self._frame("response.output_item.added", {"output_index": at["output_index"], "item": item})
                return begun + self._frame(
                    "response.content_part.added", {**at, "content_index": 0, "part": _part_of("")}
                )
            case "tool_use":
                item["call_id"] = start.data
                self._pieces = (self._pieces_of("function_call_arguments", b"", b""),)
            case "thinking" | "redacted_thinking":
                pass  # it may have no text
            case _:
                assert_never(start.kind)
        return self._frame("response.output_item.added", {"output_index": at["output_index"], "item": item})

    def _opened_thought(self) -> bytes:
        at = self._at()
        self._pieces = (self._pieces_of("reasoning_text", b',"content_index":0', b""),)
        part = {"type": "reasoning_text", "text": ""}
        opened = self._frame("response.content_part.added", {**at, "content_index": 0, "part": part})
        if self._summary:
            self._pieces += (self._pieces_of("reasoning_summary_text", b',"summary_index":0', b""),)
            part = {"type": "summary_text", "text": ""}
            opened += self._frame("response.reasoning_summary_part.added", {**at, "summary_index": 0, "part": part})
        return opened

    def _pieces_of(self, kind: str, place: bytes, more: bytes) -> tuple[bytes, bytes, bytes]:
        """What stands before the number of a delta's event, between it and the text, and after."""
        name = b"response.%b.delta" % kind.encode()
        at = self._at()
        return (
            b'event: %b\ndata: {"type":"%b","sequence_number":' % (name, name),
            b',"item_id":"%b","output_index":%d%b,"delta":' % (at["item_id"].encode(), at["output_index"], place),
            b"%b}\n\n" % more,
        )

    def _at(self) -> _Fields:
        assert self._start is not None, "a block begins before it is told"
        return {"item_id": self._item_id(len(self._blocks), self._start.kind), "output_index": len(self._blocks)}

    def _closed(self) -> bytes:
        """The end of what a block holds; its item ends when it is known whether it is whole."""
        at = self._at()
        block = self._block()
        frames: list[bytes] = []
        match block.kind:
            case "text":
                part = {**at, "content_index": 0}
                frames = [
                    self._frame("response.output_text.done", {**part, "text": block.text, "logprobs": []}),
                    self._frame("response.content_part.done", {**part, "part": _part_of(block.text)}),
                ]
            case "tool_use":
                frames = [self._frame("response.function_call_arguments.done", {**at, "arguments": block.text})]
            case "thinking" if block.text:
                frames = self._closed_thought(at, block.text)
            case "thinking" | "redacted_thinking":
                pass
            case _:
                assert_never(block.kind)
        self._blocks.append(block)
        self._start, self._undone = None, True
        return b"".join(frames)

    def _closed_thought(self, at: _Fields, text: str) -> list[bytes]:
        shown = {**at, "content_index": 0}
        part = {"type": "reasoning_text", "text": text}
        frames = [
            self._frame("response.reasoning_text.done", {**shown, "text": text}),
            self._frame("response.content_part.done", {**shown, "part": part}),
        ]
        if self._summary:
            shown = {**at, "summary_index": 0}
            part = {"type": "summary_text", "text": text}
            frames += [
                self._frame("response.reasoning_summary_text.done", {**shown, "text": text}),
                self._frame("response.reasoning_summary_part.done", {**shown, "part": part}),
            ]
        return frames

    def _block(self) -> Block:
        """The open block as far as it is told."""
        assert self._start is not None
        return Block(self._start.kind, "".join(self._texts), self._seal or self._start.data, self._start.name)

    def _item_done(self, status: Status) -> bytes:
        """The end of the last item, if it is still to be told."""
        if not self._undone:
            return b""
        self._undone = False
        at = len(self._blocks) - 1
        item = self._item(at, self._blocks[at], status)
        return self._frame("response.output_item.done", {"output_index": at, "item": item})

    def _failed(self, error: ApiError) -> bytes:
        """Clients want a beginning before the end. What was open is in the response as far as it came."""
        begun = b"" if self._number else self._begun()
        ended = self._item_done("completed")
        output = [self._item(at, block, "completed") for at, block in enumerate(self._blocks)]
        if self._start is not None:
            output.append(self._item(len(self._blocks), self._block(), "incomplete"))
        told = {"code": _FAILURES.get(error.kind, "server_error"), "message": error.message}
        response = self._response("failed", self._model, self._tier, output, error=told)
        return begun + ended + self._frame("response.failed", {"response": orjson.Fragment(response)})

    def _frame(self, kind: str, fields: Mapping[str, object]) -> bytes:
        data = encode_json({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def _ended(self, model: str, tier: Tier, blocks: Sequence[Block], reason: StopReason, usage: Usage) -> bytes:
        """The response of a reply that came to its end; of one that was cut the last item is incomplete."""
        cut = reason in _INCOMPLETE
        last = len(blocks) - 1
        output = [
            self._item(at, block, "incomplete" if cut and at == last else "completed")
            for at, block in enumerate(blocks)
        ]
        more = {"usage": _usage(usage), "incomplete_details": {"reason": "max_output_tokens"} if cut else None}
        return self._response("incomplete" if cut else "completed", model, tier, output, **more)

    def _response(self, status: str, model: str, tier: Tier, output: Iterable[_Fields], **more: object) -> bytes:
        """The whole object; `more` are those of its fields that are null at first."""
        fields = {
            "id": f"resp_{self._id}",
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": output,
            "service_tier": _TIERS[tier],
            "usage": None,
            **more,
        }
        return encode_json(fields)[:-1] + b"," + self._echo

    def _item_id(self, at: int, kind: str) -> str:
        return f"{_PREFIXES[kind]}_{self._id}{at}"

    def _item(self, at: int, block: Block, status: Status) -> _Fields:
        head = {"id": self._item_id(at, block.kind), "status": status}
        match block.kind:
            case "text":
                return {"type": "message", **head, "role": "assistant", "content": [_part_of(block.text)]}
            case "tool_use":
                call = {"call_id": block.data, "name": block.name, "arguments": block.text}
                return {"type": "function_call", **head, **call}
            case "thinking":
                text = block.text
                summary = [{"type": "summary_text", "text": text}] if text and self._summary else []
                content = [{"type": "reasoning_text", "text": text}] if text else []
                sealed = f"{block.data}{SEAL_END}{urlsafe_b64encode(text.encode()).decode()}" if block.data else None
            case "redacted_thinking":
                summary, content, sealed = [], [], block.data or None
            case _:
                assert_never(block.kind)
        thought = {"summary": summary, "content": content, "encrypted_content": sealed if self._sealed else None}
        return {"type": "reasoning", **head, **thought}


def _part_of(text: str) -> _Fields:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> _Fields:
    """What is read from a cache and written to it is part of the input here."""
    whole = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    return {
        "input_tokens": whole,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_creation_input_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.thinking_tokens},
        "total_tokens": whole + usage.output_tokens,
    }
