"""OpenAI's Chat Completions dialect (WIRE.md section 8): requests into the contract's, replies into completions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from sestet.contract.errors import ApiError, invalid
from sestet.contract.models import ModelInfo
from sestet.contract.requests import LooseJsonSchemaFormat, MessagesRequest
from sestet.dialects import anthropic
from sestet.dialects.anthropic import encode_json
from sestet.dialects.dialect import Asked, Asking, Dialect, Refusal, retry_headers
from sestet.dialects.json_body import parse, shaped
from sestet.dialects.openai_messages import Conversation
from sestet.dialects.openai_replies import Told
from sestet.dialects.openai_requests import (
    ChatRequest,
    ChosenAmong,
    ChosenFunction,
    FunctionTool,
    ObjectReplyFormat,
    Reasoning,
    SchemaReplyFormat,
)
from sestet.dialects.openai_shapes import (
    NO_PARAMETERS,
    encode_error,
    encode_limits,
    error_fields,
    sampling,
    thinking_by_effort,
)

# What every request's paths are called; a request adds its own.
_PATHS: Final[Mapping[str, str]] = {
    "max_tokens": "max_completion_tokens",
    "stop_sequences": "stop",
    "tool_choice.type": "tool_choice",
    "tool_choice.name": "tool_choice.function.name",
    "output_config.format": "response_format",
    "output_config.format.schema": "response_format.json_schema.schema",
    "metadata.user_id": "user",
}
_TOOL_PATHS: Final[Mapping[str, str]] = {
    "name": "function.name",
    "description": "function.description",
    "strict": "function.strict",
    "input_schema": "function.parameters",
}


@dataclass(slots=True)
class _Fields:
    """The contract's request as it comes together, and what the client calls its paths where that differs."""

    values: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)


def decode_reply(asking: Asking, body: bytes) -> Asked:
    """`POST /v1/chat/completions`"""
    chat = parse(body, ChatRequest)
    info = asking.model(chat.model)
    conversation = Conversation.of(chat.messages)
    made = _Fields({"model": chat.model, "messages": conversation.messages}, {**_PATHS, **conversation.paths})
    if conversation.system:
        made.values["system"] = conversation.system
    _add_bounds(made, chat, info)
    _add_tools(made, chat)
    _add_thinking(made, chat, info)
    _add_format(made, chat)
    request = shaped(made.values, MessagesRequest, made.paths)
    include_usage = bool(chat.stream_options and chat.stream_options.include_usage)
    return Asked(request, Told(asking, include_usage=include_usage), paths=made.paths)


def _add_bounds(made: _Fields, chat: ChatRequest, info: ModelInfo) -> None:
    if chat.max_tokens is not None:
        if chat.max_completion_tokens not in (None, chat.max_tokens):
            raise invalid("give `max_completion_tokens` or the older `max_tokens`, not both", "max_tokens")
        made.paths["max_tokens"] = "max_tokens"
    max_tokens = chat.max_completion_tokens or chat.max_tokens or info.max_tokens
    user = "user" if chat.user is not None else "safety_identifier"
    given: dict[str, Any] = {
        "max_tokens": max_tokens,
        **sampling(chat.temperature, chat.top_p),
        "top_k": chat.top_k,
        "stop_sequences": [chat.stop] if isinstance(chat.stop, str) else chat.stop,
        "stream": chat.stream,
        "cache_control": chat.cache_control,
        "service_tier": {"auto": "auto", "default": "standard_only"}.get(chat.service_tier or ""),
        "metadata": {"user_id": getattr(chat, user)} if getattr(chat, user) is not None else None,
    }
    made.paths["metadata.user_id"] = user
    if isinstance(chat.stop, str):
        made.paths["stop_sequences.0"] = "stop"
    made.values |= {name: value for name, value in given.items() if value is not None}


def _add_tools(made: _Fields, chat: ChatRequest) -> None:
    choice = chat.tool_choice
    tools = list(enumerate(chat.tools or ()))
    if isinstance(choice, ChosenAmong):
        tools = _allowed(choice, tools)
    made.values["tools"] = [_tool(tool) for _, tool in tools] or None
    for at, (position, _) in enumerate(tools):
        made.paths[f"tools.{at}"] = f"tools.{position}"
        made.paths |= {f"tools.{at}.{name}": f"tools.{position}.{known}" for name, known in _TOOL_PATHS.items()}
    match choice:
        case ChosenFunction():
            chosen = {"type": "tool", "name": choice.function.name}
        case ChosenAmong():
            chosen = {"type": "any" if choice.allowed_tools.mode == "required" else "auto"}
        case "required":
            chosen = {"type": "any"}
        case "none":
            chosen = {"type": "none"}
        case _:
            chosen = {"type": "auto"}
    one_by_one = {} if chosen["type"] == "none" else {"disable_parallel_tool_use": chat.parallel_tool_calls is False}
    if tools or chosen["type"] != "auto":
        made.values["tool_choice"] = {**chosen, **one_by_one}


def _allowed(choice: ChosenAmong, tools: Sequence[tuple[int, FunctionTool]]) -> list[tuple[int, FunctionTool]]:
    """The contract cannot show tools that may not be called beside others that may, so those are left out."""
    known = {tool.function.name for _, tool in tools}
    for position, one in enumerate(choice.allowed_tools.tools):
        if one.function.name not in known:
            raise invalid(
                f"Tool '{one.function.name[:128]}' not found in provided tools",
                f"tool_choice.allowed_tools.tools.{position}.function.name",
            )
    allowed = {one.function.name for one in choice.allowed_tools.tools}
    return [(position, tool) for position, tool in tools if tool.function.name in allowed]


def _tool(tool: FunctionTool) -> dict[str, Any]:
    function = tool.function
    made: dict[str, Any] = {"name": function.name, "input_schema": function.parameters or NO_PARAMETERS}
    if function.description is not None:
        made["description"] = function.description
    if function.strict is not None:
        made["strict"] = function.strict
    if tool.cache_control is not None:
        made["cache_control"] = tool.cache_control
    return made


def _add_thinking(made: _Fields, chat: ChatRequest, info: ModelInfo) -> None:
    """`reasoning_effort` is OpenAI's, `reasoning` the gateways', `thinking` the contract's own."""
    given = [name for name in ("reasoning_effort", "reasoning", "thinking") if getattr(chat, name) is not None]
    if len(given) > 1:
        raise invalid(f"give one of {', '.join(f'`{name}`' for name in given)}", given[1])
    max_tokens = made.values["max_tokens"]
    if chat.thinking is not None:
        made.values["thinking"] = chat.thinking
    elif chat.reasoning is not None:
        made.paths |= {
            "thinking": "reasoning",
            "thinking.type": "reasoning",
            "output_config.effort": "reasoning.effort",
        }
        budget = ("thinking.budget_tokens", "thinking.enabled.budget_tokens")
        made.paths |= dict.fromkeys(budget, "reasoning.max_tokens")
        made.values |= _reasoning(chat.reasoning, info, max_tokens)
    elif chat.reasoning_effort is not None:
        known = ("thinking", "thinking.type", "thinking.budget_tokens", "output_config.effort")
        made.paths |= dict.fromkeys(known, "reasoning_effort")
        made.values |= thinking_by_effort(chat.reasoning_effort, info, max_tokens, "reasoning_effort")


def _reasoning(asked: Reasoning, info: ModelInfo, max_tokens: int) -> dict[str, Any]:
    if asked.effort is not None and asked.max_tokens is not None:
        raise invalid("give `effort` or `max_tokens`, not both", "reasoning.max_tokens")
    if asked.enabled is False and (asked.max_tokens is not None or asked.effort not in (None, "none")):
        raise invalid("this contradicts the rest of `reasoning`", "reasoning.enabled")
    if asked.max_tokens is not None:
        fields: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": asked.max_tokens}}
    else:
        effort = asked.effort
        if effort is None and asked.enabled is not None:
            effort = "medium" if asked.enabled else "none"
        fields = thinking_by_effort(effort, info, max_tokens, "reasoning.effort")
    thinking = fields.get("thinking", {"type": "disabled"})
    if asked.exclude and thinking["type"] != "disabled":
        fields["thinking"] = {**thinking, "display": "omitted"}
    return fields


def _add_format(made: _Fields, chat: ChatRequest) -> None:
    match chat.response_format:
        case SchemaReplyFormat(json_schema=named):
            schema: Mapping[str, Any] = named.schema_
        case ObjectReplyFormat():
            schema = {"type": "object"}
            made.paths["output_config.format.schema"] = "response_format"
        case _:
            return
    config = made.values.setdefault("output_config", {})
    config["format"] = LooseJsonSchemaFormat.model_validate({"type": "json_schema", "schema": schema})


def encode_model(info: ModelInfo) -> bytes:
    return encode_json(_model(info))


def encode_models(entries: Iterable[ModelInfo], has_more: bool) -> bytes:
    """One list for the clients of both: what they look for has different names."""
    return encode_json({"object": "list", **anthropic.page_fields([_model(entry) for entry in entries], has_more)})


def _model(info: ModelInfo) -> dict[str, Any]:
    midnight = datetime(info.snapshot.year, info.snapshot.month, info.snapshot.day, tzinfo=UTC)
    created = int(midnight.timestamp())
    return {"object": "model", "created": created, "owned_by": info.served_by, **anthropic.model_fields(info)}


def encode_error_for_both(error: ApiError, request_id: str, now_s: float) -> Refusal:
    """The contract's error with the two keys that OpenAI's clients look for beside its own."""
    told = error_fields(error)
    fields = anthropic.error_fields(error) | {"param": told["param"], "code": told["code"]}
    body = encode_json({"type": "error", "error": fields, "request_id": request_id})
    return Refusal(error.status, body, (*encode_limits(error.limits, now_s), *retry_headers(error)))


DIALECT: Final = Dialect(
    name="openai",
    prefixes=("/v1/chat/",),
    replies={"/v1/chat/completions": decode_reply},
    counts={},
    encode_error=encode_error,
    encode_limits=encode_limits,
    request_id_header=b"x-request-id",
)

# What is said of models to a client that does not say which kind it is.
FOR_BOTH: Final = replace(DIALECT, name="both", prefixes=(), replies={}, encode_error=encode_error_for_both)
