"""The same request in the words of every dialect: what a client of each would send, written without our decoders."""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from sestet.dialects.responses_replies import SEAL_END

Request = Mapping[str, Any]  # a body of `POST /v1/messages`


@dataclass(frozen=True, slots=True)
class Spelled:
    """A POST as a client sends it."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class NoWords(Exception):
    """This dialect cannot say it; the text is what."""


def anthropic(request: Request) -> Spelled:
    return Spelled("/v1/messages", request, {"anthropic-version": "2023-06-01"})


def bedrock(request: Request) -> Spelled:
    body = {name: value for name, value in request.items() if name not in ("model", "stream")}
    verb = "invoke-with-response-stream" if request.get("stream") else "invoke"
    return Spelled(f"/model/{request['model']}/{verb}", {"anthropic_version": "bedrock-2023-05-31", **body})


def vertex(request: Request) -> Spelled:
    body = {name: value for name, value in request.items() if name != "model"}
    verb = "streamRawPredict" if request.get("stream") else "rawPredict"
    place = f"/v1/projects/p/locations/l/publishers/anthropic/models/{request['model']}:{verb}"
    return Spelled(place, {"anthropic_version": "vertex-2023-10-16", **body})


def openai(request: Request) -> Spelled:
    """Chat completions."""
    messages = [*_chat_system(request.get("system"))]
    for message in request["messages"]:
        messages += _chat_messages(message)
    return Spelled("/v1/chat/completions", {"messages": messages, **_said(request, _IN_CHAT)})


def responses(request: Request) -> Spelled:
    """The Responses API."""
    items = [item for message in request["messages"] for item in _items(message)]
    said = _said(request, _IN_RESPONSES)
    if "thinking" in request:
        said["reasoning"] = {"effort": _effort(request["thinking"], request["max_tokens"])}
        said["include"] = ["reasoning.encrypted_content"]
    return Spelled("/v1/responses", {"input": items, **said})


def _said(request: Request, words: Mapping[str, Callable[[Any], Mapping[str, Any]]]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name, value in request.items():
        if name not in words:
            raise NoWords(name)
        said |= words[name](value)
    return said


def _as(name: str) -> Callable[[Any], Mapping[str, Any]]:
    return lambda value: {name: value}


def _elsewhere(_value: object) -> Mapping[str, Any]:
    return {}


def _instructions(system: object) -> Mapping[str, Any]:
    if not isinstance(system, str):
        raise NoWords("a system prompt in blocks")
    return {"instructions": system}


DIALECTS: Final[Mapping[str, Callable[[Request], Spelled]]] = {
    "anthropic": anthropic,
    "openai": openai,
    "responses": responses,
    "bedrock": bedrock,
    "vertex": vertex,
}

EFFORTS: Final = {"low": 1_024, "medium": 4_096, "high": 16_384}


def _effort(thinking: Mapping[str, Any], max_tokens: int) -> str:
    if thinking["type"] == "disabled":
        return "none"
    for effort, budget in EFFORTS.items():
        if budget == thinking["budget_tokens"] and budget <= max_tokens - max_tokens // 4:
            return effort
    raise NoWords("a budget")


def _blocks(content: Any) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _chat_system(system: Any) -> list[Mapping[str, Any]]:
    if system is None or isinstance(system, str):
        return [] if not system else [{"role": "system", "content": system}]
    return [{"role": "system", "content": [block]} for block in system]


def _chat_messages(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if isinstance(message["content"], str):
        return [dict(message)]
    blocks = message["content"]
    if message["role"] == "user":
        results = [
            {"role": "tool", "tool_call_id": block["tool_use_id"], "content": block["content"]}
            for block in blocks
            if block["type"] == "tool_result"
        ]
        said = [block for block in blocks if block["type"] == "text"]
        return [*results, *([{"role": "user", "content": said}] if said else [])]
    told: dict[str, Any] = {"role": "assistant"}
    text = [block for block in blocks if block["type"] == "text"]
    calls = [block for block in blocks if block["type"] == "tool_use"]
    thoughts = [block for block in blocks if block["type"] in ("thinking", "redacted_thinking")]
    told["content"] = text or None
    if calls:
        told["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": _json(call["input"])},
            }
            for call in calls
        ]
    if thoughts:
        told["reasoning_details"] = [
            {"type": "reasoning.encrypted", "data": thought["data"]}
            if thought["type"] == "redacted_thinking"
            else {"type": "reasoning.text", "text": thought["thinking"], "signature": thought["signature"]}
            for thought in thoughts
        ]
    return [told]


def _chat_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    told = {name: value for name, value in tool.items() if name not in ("input_schema", "cache_control")}
    marks = {"cache_control": tool["cache_control"]} if "cache_control" in tool else {}
    return {"type": "function", "function": {**told, "parameters": tool["input_schema"]}, **marks}


def _flat_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if "cache_control" in tool:
        raise NoWords("cache_control")
    told = {name: value for name, value in tool.items() if name != "input_schema"}
    return {"type": "function", "strict": False, **told, "parameters": tool["input_schema"]}


def _choice(choice: Mapping[str, Any], one: Callable[[str], Mapping[str, Any]]) -> Mapping[str, Any]:
    kind = choice["type"]
    told = one(choice["name"]) if kind == "tool" else {"any": "required"}.get(kind, kind)
    parallel = {"parallel_tool_calls": False} if choice.get("disable_parallel_tool_use") else {}
    return {"tool_choice": told, **parallel}


def _items(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items: list[Mapping[str, Any]] = []
    kind = "input_text" if message["role"] == "user" else "output_text"
    for block in _blocks(message["content"]):
        match block["type"]:
            case "text":
                part = {"type": kind, "text": block["text"], **_kept(block)}
                items.append({"type": "message", "role": message["role"], "content": [part]})
            case "thinking":  # opaque to clients
                text = urlsafe_b64encode(block["thinking"].encode()).decode()
                items.append({"type": "reasoning", "encrypted_content": block["signature"] + SEAL_END + text})
            case "tool_use":
                items.append(
                    {
                        "type": "function_call",
                        "call_id": block["id"],
                        "name": block["name"],
                        "arguments": _json(block["input"]),
                    }
                )
            case "tool_result":
                output = block["content"]
                items.append({"type": "function_call_output", "call_id": block["tool_use_id"], "output": output})
            case kind_of_block:
                raise NoWords(kind_of_block)
    return items


def _kept(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """It knows one lifetime."""
    if "cache_control" not in block:
        return {}
    if block["cache_control"].get("ttl") != "1h":
        raise NoWords("cache_control")
    return {"prompt_cache_breakpoint": {"mode": "explicit"}}


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


_IN_BOTH: Final[Mapping[str, Callable[[Any], Mapping[str, Any]]]] = {
    "messages": _elsewhere,
    "model": _as("model"),
    "temperature": _as("temperature"),
    "top_p": _as("top_p"),
    "metadata": lambda value: {"user": value["user_id"]},
    "service_tier": lambda value: {"service_tier": {"auto": "auto", "standard_only": "default"}[value]},
}
_IN_CHAT: Final[Mapping[str, Callable[[Any], Mapping[str, Any]]]] = {
    **_IN_BOTH,
    "system": _elsewhere,
    "top_k": _as("top_k"),
    "max_tokens": _as("max_completion_tokens"),
    "stop_sequences": _as("stop"),
    "thinking": _as("thinking"),
    "stream": lambda value: {"stream": value, **({"stream_options": {"include_usage": True}} if value else {})},
    "tools": lambda tools: {"tools": [_chat_tool(tool) for tool in tools]},
    "tool_choice": lambda choice: _choice(choice, lambda tool: {"type": "function", "function": {"name": tool}}),
    "output_config": lambda value: {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": value["format"]["schema"], "strict": True},
        }
    },
}
_IN_RESPONSES: Final[Mapping[str, Callable[[Any], Mapping[str, Any]]]] = {
    **_IN_BOTH,
    "system": _instructions,
    "max_tokens": _as("max_output_tokens"),
    "thinking": _elsewhere,
    "stream": _as("stream"),
    "tools": lambda tools: {"tools": [_flat_tool(tool) for tool in tools]},
    "tool_choice": lambda choice: _choice(choice, lambda tool: {"type": "function", "name": tool}),
    "output_config": lambda value: {
        "text": {
            "format": {"type": "json_schema", "name": "reply", "schema": value["format"]["schema"], "strict": True}
        }
    },
}
