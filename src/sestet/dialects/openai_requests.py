"""Requests of OpenAI's Chat Completions API (WIRE.md section 8.1), as far as this server takes them.

Shapes alone; what they mean is in openai.py and openai_messages.py. A field is here, or it is refused by its path.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from sestet.contract.requests import MAX_TOKENS_MAX, MESSAGES_MAX, TOOLS_MAX, CacheControl, Shape, asks_nothing
from sestet.dialects.openai_shapes import BLOCKS_MAX, CacheBreakpoint, ReasoningEffort


def _nothing(*values: object, hint: str = "this is not supported by this server yet") -> BeforeValidator:
    """Takes null and these values, which ask for nothing."""

    def check(value: object) -> object:
        if not asks_nothing(value, values):
            raise PydanticCustomError("unsupported", "{hint}", {"hint": hint})
        return value

    return BeforeValidator(check)


_UNSUPPORTED_PARTS: Final = frozenset(("image_url", "input_audio", "file"))
_LEGACY: Final = "functions are not supported by this server; use `tools`"

TokenLimit = Annotated[int, Field(ge=1, le=MAX_TOKENS_MAX)]
Name = Annotated[str, Field(max_length=256)]


class TextPart(Shape):
    """`cache_control` is the contract's, as clients of gateways send it."""

    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class RefusalPart(Shape):
    type: Literal["refusal"]
    refusal: str


def _part_tag(value: object) -> str:
    return "<refusal>" if isinstance(value, Mapping) and value.get("type") == "refusal" else "<text>"


def _known_part(value: object) -> object:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if isinstance(kind, str) and kind in _UNSUPPORTED_PARTS:
        raise PydanticCustomError("block_type", "`{kind}` parts are not supported by this server yet", {"kind": kind})
    return value


def _text_or_parts(value: object) -> str | None:
    """The union's branch; its tag is in angle brackets so that a path can be cleared of it."""
    if isinstance(value, str):
        return "<text>"
    return "<parts>" if isinstance(value, list) else None


_TEXT_OR_PARTS: Final = Discriminator(
    _text_or_parts,
    custom_error_type="content_type",
    custom_error_message="Input should be a string or a list of content parts",
)
Part = Annotated[TextPart, BeforeValidator(_known_part)]
Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Field(fail_fast=True), Tag("<parts>")], _TEXT_OR_PARTS
]
AssistantPart = Annotated[
    Annotated[TextPart, Tag("<text>")] | Annotated[RefusalPart, Tag("<refusal>")],
    Discriminator(_part_tag),
    BeforeValidator(_known_part),
]
AssistantContent = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[AssistantPart], Field(fail_fast=True), Tag("<parts>")],
    _TEXT_OR_PARTS,
]


class Said(Shape):
    """What messages of all roles may carry. `name` is not shown to the model."""

    name: Name | None = None
    cache_control: CacheControl | None = None


class SystemMessage(Said):
    role: Literal["system", "developer"]
    content: Content


class UserMessage(Said):
    role: Literal["user"]
    content: Content


class ToolMessage(Said):
    role: Literal["tool"]
    tool_call_id: str
    content: Content


class Called(Shape):
    """`parsed_arguments` is what the official client adds."""

    name: str
    arguments: str
    parsed_arguments: Any = None


def _known_call(value: object) -> object:
    if isinstance(value, Mapping) and value.get("type") == "custom":
        raise PydanticCustomError("block_type", "calls of `custom` tools are not supported by this server yet")
    return value


class ToolCall(Shape):
    """`index` is left over where a client put the call together from a stream."""

    id: str
    type: Literal["function"]
    function: Called
    index: int | None = None


class ReasoningDetail(Shape):
    """A thought of an earlier reply, as it was sent; those of other services have no signature of ours."""

    type: Literal["reasoning.text", "reasoning.encrypted", "reasoning.summary"]
    text: str | None = None
    signature: str | None = None
    data: str | None = None
    summary: str | None = None
    id: str | None = None
    format: str | None = None
    index: int | None = None


class AssistantMessage(Said):
    """What a reply was, or the beginning of the next. `parsed` is what the official client adds."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    tool_calls: (
        Annotated[list[Annotated[ToolCall, BeforeValidator(_known_call)]], Field(fail_fast=True, max_length=BLOCKS_MAX)]
        | None
    ) = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: Annotated[list[ReasoningDetail], Field(fail_fast=True, max_length=BLOCKS_MAX)] | None = None
    annotations: Annotated[Any, _nothing([])] = None
    audio: Annotated[Any, _nothing()] = None
    function_call: Annotated[Any, _nothing(hint=_LEGACY)] = None
    parsed: Any = None


_ROLES: Final = ("system", "developer", "user", "assistant", "tool")


def _known_role(value: object) -> object:
    role = value.get("role") if isinstance(value, Mapping) else None
    if role == "function":
        raise PydanticCustomError("unsupported_field", "{hint}", {"hint": _LEGACY, "field": "role"})
    if isinstance(role, str) and role not in _ROLES:
        raise PydanticCustomError(
            "unsupported_field", "Input should be one of {roles}", {"roles": ", ".join(_ROLES), "field": "role"}
        )
    return value


def _role_tag(value: object) -> str:
    """The union's branch. What has no role is measured against a user's message."""
    role = value.get("role") if isinstance(value, Mapping) else None
    return f"<{'system' if role == 'developer' else role}>" if isinstance(role, str) else "<user>"


ChatMessage = SystemMessage | UserMessage | AssistantMessage | ToolMessage
_Message = Annotated[
    Annotated[SystemMessage, Tag("<system>")]
    | Annotated[UserMessage, Tag("<user>")]
    | Annotated[AssistantMessage, Tag("<assistant>")]
    | Annotated[ToolMessage, Tag("<tool>")],
    Discriminator(_role_tag),
    BeforeValidator(_known_role),
]


class Function(Shape):
    """`parameters` is JSON Schema of an object; without it there are none."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


def _known_tool(value: object) -> object:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "custom":
        raise PydanticCustomError("block_type", "`custom` tools are not supported by this server yet; use `function`")
    return value


class FunctionTool(Shape):
    type: Literal["function"]
    function: Function
    cache_control: CacheControl | None = None


class FunctionName(Shape):
    name: str


class ChosenFunction(Shape):
    type: Literal["function"]
    function: FunctionName


class AllowedFunctions(Shape):
    mode: Literal["auto", "required"]
    tools: Annotated[
        list[Annotated[ChosenFunction, BeforeValidator(_known_tool)]], Field(fail_fast=True, max_length=TOOLS_MAX)
    ]


class ChosenAmong(Shape):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedFunctions


def _choice_tag(value: object) -> str:
    if isinstance(value, Mapping):
        return "<allowed_tools>" if value.get("type") == "allowed_tools" else "<function>"
    return "<word>"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<word>")]
    | Annotated[ChosenFunction, Tag("<function>")]
    | Annotated[ChosenAmong, Tag("<allowed_tools>")],
    Discriminator(_choice_tag),
    BeforeValidator(_known_tool),
]


class TextReplyFormat(Shape):
    type: Literal["text"]


class ObjectReplyFormat(Shape):
    type: Literal["json_object"]


class NamedSchema(Shape):
    """The schema is enforced, `strict` or not; `name` and `description` are not shown to the model."""

    name: Name
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class SchemaReplyFormat(Shape):
    type: Literal["json_schema"]
    json_schema: NamedSchema


def _format_tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else None
    return f"<{kind}>" if kind in ("json_object", "json_schema") else "<text>"


ResponseFormat = Annotated[
    Annotated[TextReplyFormat, Tag("<text>")]
    | Annotated[ObjectReplyFormat, Tag("<json_object>")]
    | Annotated[SchemaReplyFormat, Tag("<json_schema>")],
    Discriminator(_format_tag),
]


class StreamOptions(Shape):
    """Obfuscation pads chunks; here it is not done."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Reasoning(Shape):
    """How gateways ask for a thought: an effort, or its longest length in tokens. `exclude` hides its text."""

    effort: ReasoningEffort | None = None
    max_tokens: int | None = None
    enabled: bool | None = None
    exclude: bool | None = None


class ChatRequest(Shape):
    """The body of `POST /v1/chat/completions`. `thinking`, `top_k` and `cache_control` are the contract's."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: Annotated[list[_Message], Field(min_length=1, fail_fast=True, max_length=MESSAGES_MAX)]
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: int | None = None
    stop: (
        Annotated[
            Annotated[str, Tag("<text>")] | Annotated[list[str], Field(fail_fast=True), Tag("<parts>")],
            Discriminator(
                _text_or_parts,
                custom_error_type="content_type",
                custom_error_message="Input should be a string or a list of strings",
            ),
        ]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: (
        Annotated[
            list[Annotated[FunctionTool, BeforeValidator(_known_tool)]], Field(fail_fast=True, max_length=TOOLS_MAX)
        ]
        | None
    ) = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: ReasoningEffort | None = None
    reasoning: Reasoning | None = None
    thinking: dict[str, Any] | None = None
    cache_control: CacheControl | None = None
    service_tier: Literal["auto", "default"] | None = None
    user: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    seed: int | None = None
    n: Annotated[Any, _nothing(1, hint="this server gives one answer to a request")] = None
    frequency_penalty: Annotated[Any, _nothing(0, 0.0)] = None
    presence_penalty: Annotated[Any, _nothing(0, 0.0)] = None
    logit_bias: Annotated[Any, _nothing({})] = None
    logprobs: Annotated[Any, _nothing(False)] = None
    top_logprobs: Annotated[Any, _nothing(0)] = None
    store: Annotated[Any, _nothing(False)] = None
    metadata: Annotated[Any, _nothing({})] = None
    modalities: Annotated[Any, _nothing(["text"])] = None
    audio: Annotated[Any, _nothing()] = None
    prediction: Annotated[Any, _nothing()] = None
    verbosity: Annotated[Any, _nothing("medium")] = None
    web_search_options: Annotated[Any, _nothing()] = None
    moderation: Annotated[Any, _nothing()] = None
    prompt_cache_options: Annotated[Any, _nothing({})] = None
    functions: Annotated[Any, _nothing([], hint=_LEGACY)] = None
    function_call: Annotated[Any, _nothing("none", hint=_LEGACY)] = None
