"""The Anthropic dialect, which is the contract's own: bodies, headers, SSE frames (WIRE.md sections 2 to 6)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, assert_never, get_args

import orjson

from sestet.contract.caching import CacheMiss
from sestet.contract.errors import ApiError, invalid
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
    Usage,
)
from sestet.contract.limits import LimitKind, LimitState
from sestet.contract.models import ModelInfo
from sestet.contract.requests import CountTokensRequest, Effort, MessagesRequest
from sestet.contract.thinking import ThinkingType
from sestet.contract.tiers import Tier
from sestet.contract.versions import OLDEST, VERSIONS, ApiVersion
from sestet.dialects.dialect import Asked, AskedCount, Asking, Dialect, Headers, RawHeaders, Refusal, retry_headers
from sestet.dialects.json_body import parse
from sestet.turn.fold import Block, Message
from sestet.turn.tools import whole_object

STREAM_CONTENT_TYPE: Final = b"text/event-stream; charset=utf-8"
PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'


class Told:
    """One reply in the contract's own words: JSON, or SSE."""

    content_type = STREAM_CONTENT_TYPE
    ping = PING

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def message(self, message: Message) -> bytes:
        return encode_message(message)

    def event(self, event: Event) -> bytes:
        return encode_event(event, self._request_id)


def decode_reply(asking: Asking, body: bytes) -> Asked:
    """`POST /v1/messages`"""
    version, betas = decode_version(asking.headers), decode_betas(asking.headers)
    return Asked(parse(body, MessagesRequest), Told(asking.request_id), version, betas)


def decode_count(asking: Asking, body: bytes) -> AskedCount:
    """`POST /v1/messages/count_tokens`"""
    version, betas = decode_version(asking.headers), decode_betas(asking.headers)
    return AskedCount(parse(body, CountTokensRequest), encode_token_count, version, betas)


def decode_version(headers: Headers) -> ApiVersion:
    """The `anthropic-version` asked for. Without the header it is the oldest, as curl users expect."""
    for value in headers.get(b"anthropic-version", []):
        for version in VERSIONS:
            if value.strip() == version.encode():
                return version
        raise invalid(f"unknown version; this server speaks {' and '.join(VERSIONS)}", "anthropic-version")
    return OLDEST


def decode_betas(headers: Headers) -> frozenset[str]:
    """Names in `anthropic-beta`, which may repeat and may hold spaces after commas. Unknown ones are kept too."""
    names = (name.strip() for value in headers.get(b"anthropic-beta", []) for name in value.split(b","))
    return frozenset(name.decode("latin-1") for name in names if name)


def encode_event(event: Event, request_id: str) -> bytes:
    """One SSE frame."""
    return b"event: %b\ndata: %b\n\n" % (_EVENT_NAMES[type(event)], encode_event_data(event, request_id))


_EVENT_NAMES: Final[Mapping[type[Event], bytes]] = {
    MessageStart: b"message_start",
    BlockStart: b"content_block_start",
    BlockDelta: b"content_block_delta",
    BlockSignature: b"content_block_delta",
    BlockStop: b"content_block_stop",
    MessageDelta: b"message_delta",
    MessageStop: b"message_stop",
    Failed: b"error",
}


def encode_event_data(event: Event, request_id: str) -> bytes:
    """The JSON of one event. Text deltas, nearly all of a stream, are put together without a dictionary."""
    match event:
        case BlockDelta(index, "text", text):
            return b'{"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":%b}}' % (
                index,
                encode_json(text),
            )
        case BlockDelta(index, "thinking", text):
            return b'{"type":"content_block_delta","index":%d,"delta":{"type":"thinking_delta","thinking":%b}}' % (
                index,
                encode_json(text),
            )
        case BlockDelta(index, _, text):
            fields = {"index": index, "delta": {"type": "input_json_delta", "partial_json": text}}
        case BlockStart(index, kind, data, name):
            fields = {"index": index, "content_block": _block(Block(kind, "", data, name))}
        case BlockSignature(index, signature):
            fields = {"index": index, "delta": {"type": "signature_delta", "signature": signature}}
        case BlockStop(index):
            fields = {"index": index}
        case MessageStart(message_id, model, usage, tier, cache_miss):
            head = _message_head(message_id, model)
            end = {**_END_OF_MESSAGE, "diagnostics": _diagnostics(cache_miss)}
            fields = {"message": {**head, "content": [], **end, "usage": _usage(usage, tier)}}
        case MessageDelta(stop_reason, stop_sequence, usage):
            delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence, "stop_details": None}
            fields = {"delta": delta, "usage": _delta_usage(usage)}
        case MessageStop():
            fields = {}
        case Failed(error):
            fields = {"error": error_fields(error), "request_id": request_id}
        case _:
            assert_never(event)
    return encode_json({"type": _EVENT_NAMES[type(event)].decode(), **fields})


def encode_message(message: Message) -> bytes:
    """The whole reply as `POST /v1/messages` answers it without `stream`."""
    return encode_json(
        {
            **_message_head(message.id, message.model),
            "content": [_block(block) for block in message.content],
            **_END_OF_MESSAGE,
            "stop_reason": message.stop_reason,
            "stop_sequence": message.stop_sequence,
            "diagnostics": _diagnostics(message.cache_miss),
            "usage": _usage(message.usage, message.tier),
        }
    )


def _block(block: Block) -> dict[str, object]:
    match block.kind:
        case "text":
            return {"type": "text", "text": block.text}
        case "thinking":
            return {"type": "thinking", "thinking": block.text, "signature": block.data}
        case "redacted_thinking":
            return {"type": "redacted_thinking", "data": block.data}
        case "tool_use":
            return {
                "type": "tool_use",
                "id": block.data,
                "name": block.name,
                "input": orjson.Fragment(whole_object(block.text)),
            }
        case _:
            assert_never(block.kind)


def encode_limits(limits: Iterable[LimitState], now_s: float) -> RawHeaders:
    """The rate headers (WIRE.md section 0.2) at this time, in seconds since 1970: what remains of tokens is rounded to
    the thousand, never above the limit; `reset` is when all of it is there again."""
    headers: list[tuple[bytes, bytes]] = []
    for state in limits:
        name = b"anthropic-" + _LIMIT_NAMES[state.kind]
        remaining = state.remaining
        if state.kind != "requests":
            remaining = min(state.limit, (remaining + 500) // 1000 * 1000)
        headers += (
            (name + b"-limit", b"%d" % state.limit),
            (name + b"-remaining", b"%d" % remaining),
            (name + b"-reset", _moment(math.ceil(now_s + state.reset_s))),
        )
    return tuple(headers)


@lru_cache(maxsize=64)
def _moment(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()


_LIMIT_NAMES: Final[Mapping[LimitKind, bytes]] = {
    "requests": b"ratelimit-requests",
    "tokens": b"ratelimit-tokens",
    "input_tokens": b"ratelimit-input-tokens",
    "output_tokens": b"ratelimit-output-tokens",
    "priority_input_tokens": b"priority-input-tokens",
    "priority_output_tokens": b"priority-output-tokens",
}


def encode_token_count(input_tokens: int) -> bytes:
    return encode_json({"input_tokens": input_tokens})


def encode_error(error: ApiError, request_id: str, now_s: float) -> Refusal:
    body = encode_json({"type": "error", "error": error_fields(error), "request_id": request_id})
    return Refusal(error.status, body, (*encode_limits(error.limits, now_s), *retry_headers(error)))


def encode_model(info: ModelInfo) -> bytes:
    return encode_json(model_fields(info))


def model_fields(info: ModelInfo) -> dict[str, Any]:
    """WIRE.md section 6, and three keys of ours: what answers, and what an alias points to."""
    return {
        "type": "model",
        "id": info.id,
        "display_name": info.display_name,
        "created_at": f"{info.snapshot.isoformat()}T00:00:00Z",
        "lifecycle": info.lifecycle,
        "deprecated_at": None,
        "retires_at": None,
        "line": info.line,
        "max_input_tokens": info.max_input_tokens,
        "max_tokens": info.max_tokens,
        "capabilities": _capabilities(info),
        "served_by": info.served_by,
        "alias_of": info.alias_of,
    }


def encode_models(entries: Iterable[ModelInfo], has_more: bool) -> bytes:
    return encode_json(page_fields([model_fields(entry) for entry in entries], has_more))


def page_fields(data: Sequence[Mapping[str, Any]], has_more: bool) -> dict[str, Any]:
    ids = [entry["id"] for entry in data] or [None]
    return {"data": data, "has_more": has_more, "first_id": ids[0], "last_id": ids[-1]}


def encode_json(value: object) -> bytes:
    """JSON that no line reader can cut: Unicode's own line ends are escaped, as CR and LF are anyway."""
    encoded = orjson.dumps(value)
    if not encoded.isascii():
        for raw, escaped in _UNICODE_LINE_ENDS:
            encoded = encoded.replace(raw, escaped)
    return encoded


_UNICODE_LINE_ENDS: Final = (
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
    ("\x85".encode(), rb"\u0085"),
)


def _message_head(message_id: str, model: str) -> dict[str, object]:
    return {"model": model, "id": message_id, "type": "message", "role": "assistant"}


_END_OF_MESSAGE: Final[Mapping[str, object]] = {
    "stop_reason": None,
    "stop_sequence": None,
    "stop_details": None,
    "container": None,
    "diagnostics": None,
}


def _diagnostics(miss: CacheMiss | None) -> dict[str, object] | None:
    if miss is None:
        return None
    missed = {} if miss.missed_tokens is None else {"cache_missed_input_tokens": miss.missed_tokens}
    return {"cache_miss_reason": {"type": miss.reason, **missed}}


def _usage(usage: Usage, tier: Tier) -> dict[str, object]:
    """Every field of the contract, with zeros that are true (WIRE.md section 3.3)."""
    return {
        **_delta_usage(usage),
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_creation_5m,
            "ephemeral_1h_input_tokens": usage.cache_creation_1h,
        },
        "service_tier": tier,
        "inference_geo": "not_available",
        "speed": "standard",
    }


def _delta_usage(usage: Usage) -> dict[str, object]:
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.thinking_tokens},
        "server_tool_use": None,
    }


def error_fields(error: ApiError) -> dict[str, object]:
    body: dict[str, object] = {"type": error.kind, "message": error.message}
    if error.code is not None:
        body["details"] = {"error_code": error.code}
    return body


_NO: Final = {"supported": False}

# What this server can do today. Each line changes in the commit that makes it true.
_CAPABILITIES: Final[Mapping[str, object]] = {
    "batch": _NO,
    "citations": _NO,
    "code_execution": _NO,
    "image_input": _NO,
    "pdf_input": _NO,
    "structured_outputs": {"supported": True},
    "context_management": {
        **_NO,
        "clear_tool_uses_20250919": _NO,
        "clear_thinking_20251015": _NO,
        "compact_20260112": _NO,
    },
    "server_tools": {**_NO, "web_search": _NO, "code_execution": _NO},
}


def _capabilities(info: ModelInfo) -> dict[str, object]:
    """What the server can do, and what the card lets it do."""
    thinks = info.thinking - {"disabled"}
    return {
        **_CAPABILITIES,
        "effort": {
            "supported": bool(info.efforts),
            **{effort: {"supported": effort in info.efforts} for effort in get_args(Effort)},
        },
        "thinking": {
            "supported": bool(thinks),
            "types": {kind: {"supported": kind in info.thinking} for kind in get_args(ThinkingType)},
        },
    }


DIALECT: Final = Dialect(
    name="anthropic",
    prefixes=(),
    replies={"/v1/messages": decode_reply},
    counts={"/v1/messages/count_tokens": decode_count},
    encode_error=encode_error,
    encode_limits=encode_limits,
)
