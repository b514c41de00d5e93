"""A reply of OpenAI's Chat Completions dialect: a completion, or its chunks (WIRE.md sections 8.2 to 8.4)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, assert_never

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
from sestet.dialects import anthropic
from sestet.dialects.anthropic import encode_json
from sestet.dialects.dialect import Asking
from sestet.dialects.openai_shapes import error_fields
from sestet.turn.fold import Block, Message

PING: Final = b": ping\n\n"
DONE: Final = b"data: [DONE]\n\n"
REASONING_FORMAT: Final = "anthropic-claude-v1"
FINISH_REASONS: Final[Mapping[StopReason, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}
_TIERS: Final[Mapping[Tier, str]] = {"standard": "default", "priority": "priority", "batch": "default"}


class Told:
    """One completion: JSON, or chunks that all have the same head."""

    content_type = anthropic.STREAM_CONTENT_TYPE
    ping = PING

    def __init__(self, asking: Asking, *, include_usage: bool) -> None:
        self._created = int(asking.now_s)
        self._include_usage = include_usage
        self._before = b""
        self._after = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        # Of a delta of text, nearly all of a stream, everything but the text is known beforehand.
        self._text_after = b'},"logprobs":null,"finish_reason":null}]' + self._after
        self._text_before = b""
        self._thought: list[str] = []
        self._thoughts = 0
        self._calls = 0
        self._usage = Usage(0)

    def message(self, message: Message) -> bytes:
        choice = {
            "index": 0,
            "message": _message(message.content),
            "logprobs": None,
            "finish_reason": FINISH_REASONS[message.stop_reason],
        }
        return encode_json(
            {
                "id": message.id,
                "object": "chat.completion",
                "created": self._created,
                "model": message.model,
                "choices": [choice],
                "usage": _usage(message.usage),
                "service_tier": _TIERS[message.tier],
                "system_fingerprint": None,
            }
        )

    def event(self, event: Event) -> bytes:
        match event:
            case BlockDelta(_, kind, text):
                return self._delta(kind, text)
            case BlockStart(_, "tool_use", identifier, name):
                self._calls += 1
                call = {"id": identifier, "type": "function", "function": {"name": name, "arguments": ""}}
                return self._chunk({"tool_calls": [{"index": self._calls - 1, **call}]})
            case BlockStart(_, "redacted_thinking", data):
                return self._chunk({"reasoning_details": [self._detail(_encrypted(data))]})
            case BlockSignature(_, signature):
                text = "".join(self._thought)
                self._thought.clear()
                return self._chunk({"reasoning_details": [self._detail(_signed(text, signature))]})
            case BlockStart() | BlockStop():
                return b""
            case MessageStart():
                self._begin(event)
                return self._chunk({"role": "assistant"})
            case MessageDelta(stop_reason, _, usage):
                self._usage = usage
                return self._chunk({}, FINISH_REASONS[stop_reason])
            case MessageStop():
                return self._usage_chunk() + DONE
            case Failed(error):
                return b"data: %b\n\n" % encode_json({"error": error_fields(error)})
            case _:
                assert_never(event)

    def _begin(self, start: MessageStart) -> None:
        head = {
            "id": start.message_id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": start.model,
            "service_tier": _TIERS[start.tier],
            "system_fingerprint": None,
        }
        self._before = b"data: " + encode_json(head)[:-1] + b',"choices":['
        self._text_before = self._before + b'{"index":0,"delta":{"content":'

    def _delta(self, kind: BlockKind, text: str) -> bytes:
        encoded = encode_json(text)
        if kind == "text":
            return self._text_before + encoded + self._text_after
        if kind == "thinking":
            self._thought.append(text)
            told = b'{"index":0,"delta":{"reasoning_content":%b,"reasoning":%b' % (encoded, encoded)
        elif text:
            told = b'{"index":0,"delta":{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]' % (
                self._calls - 1,
                encoded,
            )
        else:
            return b""
        return self._before + told + self._text_after

    def _detail(self, detail: dict[str, Any]) -> dict[str, Any]:
        self._thoughts += 1
        return {**detail, "index": self._thoughts - 1}

    def _chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self._before + encode_json(choice) + b"]" + self._after

    def _usage_chunk(self) -> bytes:
        if not self._include_usage:
            return b""
        return self._before + b'],"usage":%b}\n\n' % encode_json(_usage(self._usage))


def _message(content: Sequence[Block]) -> dict[str, Any]:
    """A reply that is calls alone has no text, one that says nothing has an empty one."""
    thought = _all(content, "thinking")
    calls = [
        {"id": block.data, "type": "function", "function": {"name": block.name, "arguments": block.text}}
        for block in content
        if block.kind == "tool_use"
    ]
    details = [_detail_of(block) for block in content if block.kind in ("thinking", "redacted_thinking")]
    return {
        "role": "assistant",
        "content": _all(content, "text") or (None if calls else ""),
        "refusal": None,
        **({"tool_calls": calls} if calls else {}),
        "reasoning_content": thought,
        "reasoning": thought,
        **({"reasoning_details": [{**one, "index": at} for at, one in enumerate(details)]} if details else {}),
    }


def _all(content: Sequence[Block], kind: BlockKind) -> str:
    return "".join(block.text for block in content if block.kind == kind)


def _detail_of(block: Block) -> dict[str, Any]:
    return _signed(block.text, block.data) if block.kind == "thinking" else _encrypted(block.data)


def _signed(text: str, signature: str) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "signature": signature, "format": REASONING_FORMAT}


def _encrypted(data: str) -> dict[str, Any]:
    return {"type": "reasoning.encrypted", "data": data, "format": REASONING_FORMAT}


def _usage(usage: Usage) -> dict[str, Any]:
    """What was cached is part of the prompt's tokens, and thoughts of the completion's."""
    prompt = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output_tokens,
        "total_tokens": prompt + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_input_tokens,
            "cache_write_tokens": usage.cache_creation_input_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.thinking_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
