"""What OpenAI's two dialects have in common: errors, rate headers, thinking by effort (WIRE.md section 8)."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import orjson

from sestet.contract.errors import ApiError, ErrorKind, invalid
from sestet.contract.limits import LimitKind, LimitState
from sestet.contract.models import ModelInfo
from sestet.contract.requests import THINKING_BUDGET_MIN, Shape
from sestet.dialects.dialect import RawHeaders, Refusal, retry_headers

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class CacheBreakpoint(Shape):
    """The prompt up to the end of this part is kept, for an hour at least."""

    mode: Literal["explicit"]
    ttl: Literal["30m"] | None = None


BLOCKS_MAX: Final = 10_000  # of one kind in a message
TEMPERATURE_MAX: Final = 1.0  # of the contract; OpenAI's goes to 2
# What a breakpoint of OpenAI's is: the shortest lifetime of ours that is not shorter than its half an hour.
KEPT: Final[Mapping[str, str]] = {"type": "ephemeral", "ttl": "1h"}

# The longest thought in tokens that an effort asks for. `max` is bounded by what is left for the answer alone.
REASONING_BUDGET: Final[Mapping[ReasoningEffort, int]] = {
    "minimal": 1_024,
    "low": 1_024,
    "medium": 4_096,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 2**31 - 1,
}
# At least this share of the output is kept for the answer.
_ANSWER_SHARE: Final = 4

# Kind -> `type` and `code` of OpenAI's error. Their clients go by the status, which is ours but for the last.
_ERRORS: Final[Mapping[ErrorKind, tuple[str, str | None]]] = {
    "invalid_request_error": ("invalid_request_error", None),
    "authentication_error": ("invalid_request_error", "invalid_api_key"),
    "billing_error": ("insufficient_quota", "insufficient_quota"),
    "permission_error": ("invalid_request_error", "permission_denied"),
    "not_found_error": ("invalid_request_error", None),
    "conflict_error": ("invalid_request_error", "conflict"),
    "request_too_large": ("invalid_request_error", "request_too_large"),
    "rate_limit_error": ("rate_limit_error", "rate_limit_exceeded"),
    "api_error": ("server_error", None),
    "timeout_error": ("server_error", "timeout"),
    "overloaded_error": ("server_error", "overloaded"),
}
_OVERLOADED_STATUS: Final = 503  # OpenAI has no 529


def error_fields(error: ApiError) -> dict[str, Any]:
    """The object under `error`."""
    kind, code = _ERRORS[error.kind]
    if error.kind == "not_found_error" and error.param == "model":
        code = "model_not_found"
    return {"message": error.message, "type": kind, "param": error.param, "code": error.code or code}


def encode_error(error: ApiError, request_id: str, now_s: float) -> Refusal:
    status = _OVERLOADED_STATUS if error.kind == "overloaded_error" else error.status
    body = orjson.dumps({"error": error_fields(error)})
    return Refusal(status, body, (*encode_limits(error.limits, now_s), *retry_headers(error)))


_LIMIT_NAMES: Final[Mapping[LimitKind, bytes]] = {"requests": b"requests", "tokens": b"tokens"}


def encode_limits(limits: Iterable[LimitState], now_s: float) -> RawHeaders:
    """`x-ratelimit-*` of requests and of all tokens; OpenAI has no words for the other limits."""
    headers: RawHeaders = ()
    for state in limits:
        name = _LIMIT_NAMES.get(state.kind)
        if name is not None:
            headers += (
                (b"x-ratelimit-limit-" + name, b"%d" % state.limit),
                (b"x-ratelimit-remaining-" + name, b"%d" % state.remaining),
                (b"x-ratelimit-reset-" + name, _duration(state.reset_s)),
            )
    return headers


def _duration(seconds: float) -> bytes:
    """As OpenAI spells it: `6m0s`, `1s`, `20ms`."""
    milliseconds = max(0, round(seconds * 1e3))
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds / 1e3, 60)
    return (f"{minutes:.0f}m{rest:.3g}s" if minutes else f"{rest:.3g}s").encode()


# A function without parameters.
NO_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}, "additionalProperties": False}


def sampling(temperature: float | None, top_p: float | None) -> dict[str, float | None]:
    """The contract's two. A `top_p` of 1 leaves nothing out, which is the default beside a temperature, and some cards
    take only one of the two."""
    told = None if temperature is None else min(temperature, TEMPERATURE_MAX)
    return {"temperature": told, "top_p": None if top_p == 1 and told is not None else top_p}


def thinking_by_effort(effort: ReasoningEffort | None, info: ModelInfo, max_tokens: int, path: str) -> dict[str, Any]:
    """The fields of the contract's request that an effort means, in words this card takes. `path` is the client's, for
    the refusal of an output that is too short to hold a thought and an answer."""
    if effort is None:
        return {}
    if effort == "none":
        return {"thinking": {"type": "disabled"}} if "disabled" in info.thinking else {}
    if "enabled" not in info.thinking and "adaptive" in info.thinking:
        known = "low" if effort == "minimal" else effort
        return {"thinking": {"type": "adaptive"}} | (
            {"output_config": {"effort": known}} if known in info.efforts else {}
        )
    budget = min(REASONING_BUDGET[effort], max_tokens - max_tokens // _ANSWER_SHARE)
    if budget < THINKING_BUDGET_MIN:
        least = -(-THINKING_BUDGET_MIN * _ANSWER_SHARE // (_ANSWER_SHARE - 1))
        raise invalid(f"thinking needs at least {least} tokens of output, or set the effort to `none`", path)
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}
