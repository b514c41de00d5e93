"""The Bedrock dialect: InvokeModel's paths, AWS event streams, AWS errors (WIRE.md section 5.1).

A frame is `u32 length, u32 length of headers, u32 crc of these, headers, payload, u32 crc of all before`, big-endian.
"""

import re
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from zlib import crc32

import orjson

from sestet.contract.errors import STATUS, ApiError, ErrorKind, invalid
from sestet.contract.events import BlockDelta, Event, Failed, MessageDelta, MessageStop, Usage
from sestet.contract.requests import CountTokensRequest, MessagesRequest
from sestet.contract.versions import ApiVersion
from sestet.dialects import anthropic
from sestet.dialects.cloud_body import read_body
from sestet.dialects.dialect import Asked, AskedCount, Asking, Dialect, Paths, Refusal, retry_headers
from sestet.dialects.json_body import read_object, shaped
from sestet.turn.fold import Message

VERSIONS: Final[Mapping[str, ApiVersion]] = {
    "bedrock-2023-05-31": "2023-06-01",
    "2023-06-01": "2023-06-01",
    "2026-10-21": "2026-10-21",
}

MODEL_ID: Final = "modelId"
_PATHS: Final[Paths] = {"model": MODEL_ID}
_INVOKED_BODY: Final = "input.invokeModel.body"
_INVOKE: Final = "/invoke"
_STREAM: Final = "/invoke-with-response-stream"
_COUNT: Final = "/count-tokens"

# How an error is called, and its status: as a whole response, and in a stream, where only six names exist.
_NAMES: Final[Mapping[ErrorKind, tuple[int, str]]] = {
    "invalid_request_error": (400, "ValidationException"),
    "authentication_error": (403, "UnrecognizedClientException"),
    "billing_error": (400, "ServiceQuotaExceededException"),
    "permission_error": (403, "AccessDeniedException"),
    "not_found_error": (404, "ResourceNotFoundException"),
    "conflict_error": (409, "ConflictException"),
    "request_too_large": (413, "RequestEntityTooLargeException"),
    "rate_limit_error": (429, "ThrottlingException"),
    "api_error": (500, "InternalServerException"),
    "timeout_error": (408, "ModelTimeoutException"),
    "overloaded_error": (503, "ServiceUnavailableException"),
}
_STREAM_NAMES: Final[Mapping[ErrorKind, bytes]] = {
    "rate_limit_error": b"throttlingException",
    "api_error": b"modelStreamErrorException",
    "timeout_error": b"modelTimeoutException",
    "overloaded_error": b"serviceUnavailableException",
}


def decode_invoke(asking: Asking, body: bytes) -> Asked:
    """`POST /model/MODEL/invoke`"""
    return _asked(asking, body, _INVOKE)


def decode_stream(asking: Asking, body: bytes) -> Asked:
    """`POST /model/MODEL/invoke-with-response-stream`"""
    return _asked(asking, body, _STREAM)


def decode_count(asking: Asking, body: bytes) -> AskedCount:
    """`POST /model/MODEL/count-tokens`; its body holds that of an invocation, in base64. Errors name the paths of the
    inner one."""
    given = read_object(body).get("input")
    if not isinstance(given, dict) or given.keys() != {"invokeModel"}:
        raise invalid("Input should hold `invokeModel` and nothing else; this server has no Converse", "input")
    invoked = given["invokeModel"]
    text = invoked.get("body") if isinstance(invoked, dict) else None
    if not isinstance(text, str):
        raise invalid("Input should be a string of base64", _INVOKED_BODY)
    try:
        inner = a2b_base64(text, strict_mode=True)
    except ValueError:
        raise invalid("Input should be a string of base64", _INVOKED_BODY) from None
    fields, version, betas = _read(asking, inner)
    fields["model"] = _model(asking.path, _COUNT)
    shaped(fields, MessagesRequest)  # what could not be invoked cannot be counted
    prompt = {name: value for name, value in fields.items() if name in CountTokensRequest.model_fields}
    return AskedCount(shaped(prompt, CountTokensRequest), _encode_count, version, betas, _PATHS)


def _asked(asking: Asking, body: bytes, operation: str) -> Asked:
    fields, version, betas = _read(asking, body)
    fields |= {"model": _model(asking.path, operation), "stream": operation == _STREAM}
    return Asked(shaped(fields, MessagesRequest), EventStream(), version, betas, _PATHS)


def _read(asking: Asking, body: bytes) -> tuple[dict[str, Any], ApiVersion, frozenset[str]]:
    fields, version = read_body(body, VERSIONS, ("model", "stream"))
    betas = fields.pop("anthropic_beta", None) or []
    if not isinstance(betas, list) or not all(isinstance(name, str) for name in betas):
        raise invalid("Input should be a list of strings", "anthropic_beta")
    return fields, version, anthropic.decode_betas(asking.headers).union(betas)


def _model(path: str, operation: str) -> str:
    """The name of the model in a path, which may be an ARN or name a geography in front: they are no part of it."""
    name = path.removeprefix("/model/").removesuffix(operation)
    arn = _ARN.fullmatch(name)
    name = _GEOGRAPHY.sub("", arn[1] if arn else name, count=1)
    if not 1 <= len(name) <= 256:
        raise invalid("a model's name has from 1 to 256 characters", MODEL_ID)
    return name


_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*:[0-9]*:"
    r"(?:foundation-model|inference-profile|application-inference-profile)/(.+)"
)
_GEOGRAPHY: Final = re.compile(r"\A(?:us|us-gov|ca|eu|apac|jp|au|global)\.(?=anthropic\.)")


class EventStream:
    """One reply as Bedrock tells it: JSON, or the contract's events in frames."""

    content_type = b"application/vnd.amazon.eventstream"

    def __init__(self) -> None:
        self.ping = _PING
        self._usage: Usage | None = None

    def message(self, message: Message) -> bytes:
        return anthropic.encode_message(message)

    def event(self, event: Event) -> bytes:
        """Deltas are nearly all of a stream, and only their own text is still to be encoded and summed."""
        if isinstance(event, BlockDelta):
            end = b2a_base64(orjson.dumps(event.text) + b"}}", newline=False) + b'"}'
            opening, crc = _opening(len(end), event.kind, event.index)
            return opening + end + crc32(end, crc).to_bytes(4, "big")
        if isinstance(event, Failed):
            return _exception(event.error)
        if isinstance(event, MessageDelta):
            self._usage = event.usage
        if isinstance(event, MessageStop) and self._usage is not None:
            return _chunk(anthropic.encode_json({"type": "message_stop", **_metrics(self._usage)}))
        return _chunk(anthropic.encode_event_data(event, ""))


def _metrics(usage: Usage) -> dict[str, object]:
    return {
        "amazon-bedrock-invocationMetrics": {
            "inputTokenCount": usage.input_tokens,
            "outputTokenCount": usage.output_tokens,
            "cacheReadInputTokenCount": usage.cache_read_input_tokens,
            "cacheWriteInputTokenCount": usage.cache_creation_input_tokens,
        }
    }


def _chunk(data: bytes) -> bytes:
    """The frame of one event's JSON."""
    end = b2a_base64(data, newline=False) + b'"}'
    opening, crc = _opening(len(end))
    return opening + end + crc32(end, crc).to_bytes(4, "big")


def _exception(error: ApiError) -> bytes:
    """The frame that ends a stream that failed."""
    payload = anthropic.encode_json({"message": error.message})
    name = _STREAM_NAMES.get(error.kind, b"validationException" if error.status < 500 else b"internalServerException")
    headers = _headers(
        {b":exception-type": name, b":content-type": b"application/json", b":message-type": b"exception"}
    )
    frame = _frame_head(headers, len(payload)) + payload
    return frame + crc32(frame).to_bytes(4, "big")


def _headers(headers: Mapping[bytes, bytes]) -> bytes:
    """Names and values, each with its length; 7 is the type of a string."""
    return b"".join(
        b"%c%b\x07%b%b" % (len(name), name, len(value).to_bytes(2, "big"), value) for name, value in headers.items()
    )


def _frame_head(headers: bytes, payload_bytes: int) -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + payload_bytes, len(headers))
    return prelude + crc32(prelude).to_bytes(4, "big") + headers


_CHUNK_HEADERS: Final = _headers(
    {b":event-type": b"chunk", b":content-type": b"application/json", b":message-type": b"event"}
)
_BEGINNINGS: Final[Mapping[str, bytes]] = {
    "text": b'{"type":"content_block_delta","index":%d,"delta":{"type":"text_delta","text":',
    "thinking": b'{"type":"content_block_delta","index":%d,"delta":{"type":"thinking_delta","thinking":',
    "tool_use": b'{"type":"content_block_delta","index":%d,"delta":{"type":"input_json_delta","partial_json":',
}


@lru_cache(maxsize=4096)
def _opening(rest_bytes: int, kind: str | None = None, index: int = 0) -> tuple[bytes, int]:
    """A chunk's frame up to its last `rest_bytes` of payload, a delta's JSON begun in it, and the sum of all that.

    Spaces, which JSON lets stand there, make that beginning whole groups of base64.
    """
    begun = b"" if kind is None else _BEGINNINGS[kind] % index
    beginning = b'{"bytes":"' + b2a_base64(begun + b" " * (-len(begun) % 3), newline=False)
    opening = _frame_head(_CHUNK_HEADERS, len(beginning) + rest_bytes) + beginning
    return opening, crc32(opening)


_PING: Final = _chunk(b'{"type":"ping"}')


def _encode_count(input_tokens: int) -> bytes:
    return anthropic.encode_json({"inputTokens": input_tokens})


def encode_error(error: ApiError, request_id: str, now_s: float) -> Refusal:
    """AWS tells what went wrong by a name in a header. A status that is not its kind's own stays what it is."""
    status, name = _NAMES[error.kind]
    if error.status != STATUS[error.kind]:
        status = error.status
    headers = ((b"x-amzn-errortype", name.encode()), *anthropic.encode_limits(error.limits, now_s))
    body = anthropic.encode_json({"message": error.message})
    return Refusal(status, body, (*headers, *retry_headers(error)))


DIALECT: Final = Dialect(
    name="bedrock",
    prefixes=("/model/",),
    replies={f"/model/{{model_id:path}}{_INVOKE}": decode_invoke, f"/model/{{model_id:path}}{_STREAM}": decode_stream},
    counts={f"/model/{{model_id:path}}{_COUNT}": decode_count},
    encode_error=encode_error,
    encode_limits=anthropic.encode_limits,
    request_id_header=b"x-amzn-requestid",
)
