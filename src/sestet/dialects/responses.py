"""OpenAI's Responses dialect: its requests in the contract's terms, and the routes (WIRE.md section 8.5).

Items become messages: those of one side that follow each other are one. Nothing is kept between requests.
"""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, assert_never

from sestet.contract.errors import ApiError, invalid
from sestet.contract.models import ModelInfo
from sestet.contract.requests import CountTokensRequest, LooseJsonSchemaFormat, MessagesRequest
from sestet.dialects.anthropic import encode_json
from sestet.dialects.dialect import Asked, AskedCount, Asking, Dialect, Paths
from sestet.dialects.json_body import parse, read_object, shaped
from sestet.dialects.openai_shapes import (
    KEPT,
    NO_PARAMETERS,
    CacheBreakpoint,
    encode_error,
    encode_limits,
    sampling,
    thinking_by_effort,
)
from sestet.dialects.responses_replies import SEAL_END, Told, echo
from sestet.dialects.responses_requests import (
    AllowedTools,
    ChosenFunction,
    FunctionCallItem,
    FunctionCallOutputItem,
    InputText,
    InputTokensRequest,
    Item,
    JsonObject,
    JsonSchema,
    MessageItem,
    ReasoningItem,
    RefusalPart,
    ResponsesPrompt,
    ResponsesRequest,
)

_Fields = dict[str, Any]
_Placed = tuple[str, Item]  # an item and its path

_SERVICE_TIERS: Final = {"auto": "auto", "default": "standard_only", "priority": "auto", "fast": "auto"}

_PATHS: Final[Paths] = {
    "messages": "input",
    "system": "instructions",
    "max_tokens": "max_output_tokens",
    "thinking": "reasoning.effort",
    "thinking.type": "reasoning.effort",
    "thinking.budget_tokens": "reasoning.effort",
    "output_config.effort": "reasoning.effort",
    "output_config.format": "text.format",
    "tool_choice.type": "tool_choice",
    "cache_control": "prompt_cache_options",
}


def decode_reply(asking: Asking, body: bytes) -> Asked:
    """`POST /v1/responses`"""
    request = parse(body, ResponsesRequest)
    info = asking.model(request.model)
    max_tokens = info.max_tokens if request.max_output_tokens is None else request.max_output_tokens
    paths, fields = _prompt(request, info, max_tokens)
    fields |= {
        "max_tokens": max_tokens,
        "stream": bool(request.stream),
        **sampling(request.temperature, request.top_p),
        "service_tier": _SERVICE_TIERS.get(request.service_tier or "auto"),
    }
    options = request.prompt_cache_options
    if options is not None and options.mode == "implicit":
        fields["cache_control"] = KEPT
    teller = Told(asking, request, echo(asking, request))
    return Asked(shaped(fields, MessagesRequest, paths), teller, paths=paths)


def decode_count(asking: Asking, body: bytes) -> AskedCount:
    """`POST /v1/responses/input_tokens`"""
    request = parse(body, InputTokensRequest)
    info = asking.model(request.model)
    paths, fields = _prompt(request, info, info.max_tokens)
    return AskedCount(shaped(fields, CountTokensRequest, paths), _encode_count, paths=paths)


def _encode_count(input_tokens: int) -> bytes:
    return encode_json({"object": "response.input_tokens", "input_tokens": input_tokens})


def _prompt(request: ResponsesPrompt, info: ModelInfo, max_tokens: int) -> tuple[dict[str, str], _Fields]:
    """All that shapes the prompt, in the contract's terms, and what its paths are called here."""
    paths = dict(_PATHS)
    fields: _Fields = {"model": request.model}
    fields |= _conversation(request, paths)
    fields |= _tools(request, paths)
    reasoning = request.reasoning
    if reasoning is not None:
        fields |= thinking_by_effort(reasoning.effort, info, max_tokens, "max_output_tokens")
        thinks = fields.get("thinking", {}).get("type") in ("enabled", "adaptive")
        if thinks and (reasoning.summary or reasoning.generate_summary):
            fields["thinking"]["display"] = "summarized"
    format_ = _format(request, paths)
    if format_ is not None:
        fields["output_config"] = {**fields.get("output_config", {}), "format": format_}
    return paths, fields


def _format(request: ResponsesPrompt, paths: dict[str, str]) -> LooseJsonSchemaFormat | None:
    match request.text.format if request.text else None:
        case JsonSchema(schema_=schema):
            asked: Mapping[str, Any] = schema
        case JsonObject():
            asked = {"type": "object"}
            paths["output_config.format.schema"] = "text.format"
        case _:
            return None
    return LooseJsonSchemaFormat.model_validate({"type": "json_schema", "schema": asked})


@dataclass(slots=True)
class _Piece:
    """A block of the contract, where it stands in the input, and what its fields are called there."""

    block: _Fields
    path: str
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether it is text, and nothing else."""
        return bool(self.block.get("text")) and "cache_control" not in self.block

    def tell(self, at: str, paths: dict[str, str]) -> None:
        paths[at] = self.path
        for name, path in self.names.items():
            paths[f"{at}.{name}"] = path


def _conversation(request: ResponsesPrompt, paths: dict[str, str]) -> _Fields:
    told = request.instructions
    system = [_Piece(_text(told), "instructions", {"text": "instructions"})] if told else []
    if isinstance(request.input, str):
        messages: list[_Fields] = [{"role": "user", "content": request.input}]
        paths |= {"messages.0": "input", "messages.0.content": "input"}
    else:
        placed = [(f"input.{position}", item) for position, item in enumerate(request.input)]
        first = next((at for at, (_, item) in enumerate(placed) if _role(item) != "system"), len(placed))
        system += [piece for path, item in placed[:first] for piece in _pieces(item, path)]
        messages = list(_messages(placed[first:], paths))
        if not messages:
            raise invalid("there must be a message of the user", "input")
    for at, piece in enumerate(system):
        piece.tell(f"system.{at}", paths)
    return {"messages": messages, "system": [piece.block for piece in system] or None}


def _messages(placed: Iterable[_Placed], paths: dict[str, str]) -> Iterator[_Fields]:
    """What is said between two replies is the user's, and what the system says there comes after it, as the contract
    has it."""
    number = 0
    for is_reply, side in groupby(placed, key=lambda one: _role(one[1]) == "assistant"):
        said = list(side)
        for role in ("assistant",) if is_reply else ("user", "system"):
            items = [one for one in said if _role(one[1]) == role]
            if not items:
                continue
            pieces = [piece for path, item in items for piece in _pieces(item, path)]
            if is_reply and not pieces:  # a reply may have said nothing, and is sent back as it was
                continue
            # Answers of functions come first in the contract.
            pieces.sort(key=lambda piece: piece.block["type"] != "tool_result")
            here = f"messages.{number}"
            paths[here] = _anchor(items)
            if len(pieces) == 1 and pieces[0].is_plain:  # as most are, and a string is read sooner
                paths[f"{here}.content"] = pieces[0].path
                yield {"role": role, "content": pieces[0].block["text"]}
            else:
                for at, piece in enumerate(pieces):
                    piece.tell(f"{here}.content.{at}", paths)
                yield {"role": role, "content": [piece.block for piece in pieces]}
            number += 1


def _role(item: Item) -> str:
    match item:
        case MessageItem(role="developer"):
            return "system"
        case MessageItem(role=role):
            return role
        case FunctionCallOutputItem():
            return "user"
        case _:
            return "assistant"


def _anchor(items: Iterable[_Placed]) -> str:
    """Which item an error of the whole message is about: it is mostly a call that has no answer."""
    paths = [path for path, item in items if isinstance(item, FunctionCallItem)] or [path for path, _ in items]
    return paths[0]


def _text(text: str, kept: CacheBreakpoint | None = None) -> _Fields:
    return {"type": "text", "text": text} | ({} if kept is None else {"cache_control": KEPT})


def _pieces(item: Item, path: str) -> Iterator[_Piece]:
    match item:
        case MessageItem():
            yield from _said(item, path)
        case FunctionCallItem():
            block: _Fields = {
                "type": "tool_use",
                "id": item.call_id,
                "name": item.name,
                "input": _arguments(item, path),
            }
            yield _Piece(block, path, {"id": f"{path}.call_id", "input": f"{path}.arguments"})
        case FunctionCallOutputItem(output=output):
            content = (
                output
                if isinstance(output, str)
                else [_text(part.text, part.prompt_cache_breakpoint) for part in output if part.text]
            )
            block = {"type": "tool_result", "tool_use_id": item.call_id, "content": content}
            yield _Piece(block, path, {"tool_use_id": f"{path}.call_id", "content": f"{path}.output"})
        case ReasoningItem():
            yield _Piece(_thought(item), path)
        case _:
            assert_never(item)


def _said(message: MessageItem, path: str) -> Iterator[_Piece]:
    """The texts of a message. A model that said nothing, but called a function, may have an empty one."""
    if isinstance(message.content, str):
        if message.content or message.role != "assistant":
            yield _Piece(_text(message.content), f"{path}.content", {"text": f"{path}.content"})
        return
    for at, part in enumerate(message.content):
        text = part.refusal if isinstance(part, RefusalPart) else part.text
        kept = part.prompt_cache_breakpoint if isinstance(part, InputText) else None
        if text or message.role != "assistant":
            here = f"{path}.content.{at}"
            yield _Piece(_text(text, kept), here, {"cache_control": f"{here}.prompt_cache_breakpoint"})


def _arguments(call: FunctionCallItem, path: str) -> _Fields:
    """A call without arguments may spell them as nothing at all."""
    try:
        return read_object(call.arguments.strip().encode() or b"{}")
    except ApiError:
        raise invalid("Input should be a JSON object, as a string", f"{path}.arguments") from None


def _thought(item: ReasoningItem) -> _Fields:
    """The thought that `encrypted_content` holds. Without it nothing proves the text, if there is any, and it counts as
    made elsewhere."""
    sealed = item.encrypted_content
    if sealed:
        seal, found, text = sealed.partition(SEAL_END)
        if found:
            try:
                thought = urlsafe_b64decode(text.encode()).decode()
            except (binascii.Error, UnicodeDecodeError):
                thought = ""
            return {"type": "thinking", "thinking": thought, "signature": seal}
        return {"type": "redacted_thinking", "data": sealed}
    shown = "".join([part.text for part in item.content or item.summary or ()])
    return {"type": "thinking", "thinking": shown, "signature": ""}


def _tools(request: ResponsesPrompt, paths: dict[str, str]) -> _Fields:
    if not request.tools:
        # Without tools nothing can be called, so both ask for nothing.
        asks = request.tool_choice not in (None, "none", "auto")
        return {"tool_choice": _choice(request)} if asks else {}
    allowed = request.tool_choice if isinstance(request.tool_choice, AllowedTools) else None
    names = {tool.name for tool in request.tools}
    for at, one in enumerate(allowed.tools if allowed else ()):
        if one.name not in names:
            raise invalid("there is no such function in `tools`", f"tool_choice.tools.{at}.name")
    wanted = {one.name for one in allowed.tools} if allowed else names
    tools: list[_Fields] = []
    for position, tool in enumerate(request.tools):
        if tool.name not in wanted:
            continue
        here = f"tools.{len(tools)}"
        paths |= {here: f"tools.{position}", f"{here}.input_schema": f"tools.{position}.parameters"}
        tools.append(
            {
                "type": "custom",
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.parameters or NO_PARAMETERS,
                "strict": tool.strict,
            }
        )
    return {"tools": tools, "tool_choice": _choice(request)}


def _choice(request: ResponsesPrompt) -> _Fields | None:
    one_at_most = {"disable_parallel_tool_use": True} if request.parallel_tool_calls is False else {}
    match request.tool_choice:
        case "none":
            return {"type": "none"}
        case "required" | AllowedTools(mode="required"):
            return {"type": "any", **one_at_most}
        case ChosenFunction(name=name):
            return {"type": "tool", "name": name, **one_at_most}
        case _:
            return {"type": "auto", **one_at_most} if one_at_most else None


DIALECT: Final = Dialect(
    name="responses",
    prefixes=("/v1/responses",),
    replies={"/v1/responses": decode_reply},
    counts={"/v1/responses/input_tokens": decode_count},
    encode_error=encode_error,
    encode_limits=encode_limits,
    request_id_header=b"x-request-id",
)
