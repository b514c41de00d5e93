"""Requests of the Messages API (WIRE.md section 2), as far as this server takes them.

Knows shapes and bounds, nothing of cards, tokens or HTTP. `UNSUPPORTED` and `UNSUPPORTED_BLOCKS` list what the
contract has and this server does not yet: such a field is refused by its path, never ignored.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sestet.contract.caching import LIFETIME_DEFAULT, Lifetime

MESSAGES_MAX = 100_000
TOOLS_MAX = 1_000
THINKING_BUDGET_MIN = 1_024
STOP_SEQUENCES_MAX = 1_000
STOP_SEQUENCE_CHARACTERS_MAX = 1_000
MAX_TOKENS_MAX = 2**31 - 1

# Field -> the values that ask for nothing, which are honoured by doing nothing. Anything else is refused.
UNSUPPORTED: Final[Mapping[str, tuple[object, ...]]] = {
    "container": (),
    "inference_geo": ("not_available",),
    "speed": ("standard",),
    "context_management": ({}, {"edits": []}),
    "mcp_servers": ([],),
    "compaction": (),
    "fallbacks": ([],),
    "fallback_credit_token": (),
    "thread": (),
    "billing_policy": (),
}

UNSUPPORTED_BLOCKS: Final = frozenset(
    {
        "image",
        "document",
        "search_result",
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "container_upload",
        "mcp_tool_use",
        "mcp_tool_result",
        "mcp_tool_listing",
        "compaction",
        "fallback",
        "advisor_tool_result",
        "tool_addition",
        "tool_removal",
    }
)


class Shape(BaseModel):
    """What every request type shares: exact types, no unknown keys, no NaN, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CacheControl(Shape):
    """A cache breakpoint: the prompt up to the end of this block is kept for so long (WIRE.md section 2.8)."""

    type: Literal["ephemeral"]
    ttl: Lifetime | None = None

    @property
    def lifetime(self) -> Lifetime:
        return self.ttl or LIFETIME_DEFAULT


def _refuse(value: object) -> object:
    if value is not None:
        raise PydanticCustomError("unsupported", "this is not supported by this server yet")
    return value


def _refuse_true(value: object) -> object:
    if value:
        raise PydanticCustomError("unsupported", "this is not supported by this server yet")
    return value


# A field inside another that the contract has and this server does not yet.
Unsupported = Annotated[Any, BeforeValidator(_refuse)]


def _refuse_citations(value: object) -> object:
    if value:
        raise PydanticCustomError("unsupported", "citations are not supported by this server yet")
    return value


class TextBlock(Shape):
    """`{"type": "text", "text": ...}`, the one content block of this server so far."""

    type: Literal["text"]
    text: Annotated[str, Field(min_length=1)]
    cache_control: CacheControl | None = None
    citations: Annotated[list[Any] | None, BeforeValidator(_refuse_citations)] = None


class ThinkingBlock(Shape):
    """A thought of an earlier reply, as it was sent. `signature` is opaque to clients (turn/seals.py)."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingBlock(Shape):
    """A thought that was sent encrypted."""

    type: Literal["redacted_thinking"]
    data: str


def _text_or_blocks(value: object) -> str | None:
    """The union's branch; its tag is in angle brackets so that a path can be cleared of it."""
    if isinstance(value, str):
        return "<text>"
    return "<blocks>" if isinstance(value, list) else None


_TEXT_OR_BLOCKS = Discriminator(
    _text_or_blocks,
    custom_error_type="content_type",
    custom_error_message="Input should be a string or a list of content blocks",
)
Identifier = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]+$", max_length=256)]
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]


class DirectCaller(Shape):
    type: Literal["direct"]


class ToolUseBlock(Shape):
    """A call that the model made in an earlier reply."""

    type: Literal["tool_use"]
    id: Identifier
    name: Annotated[str, Field(min_length=1, max_length=200)]
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: DirectCaller | None = None
    toolset_name: Unsupported = None


def _text_of_a_result(value: object) -> object:
    """Results of tools may hold images and documents in the contract; here, text so far."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind in ("image", "document", "search_result", "tool_reference", "browser_state"):
        raise PydanticCustomError(
            "block_type", "`{kind}` blocks in tool results are not supported by this server yet", {"kind": kind}
        )
    return value


class ToolResultBlock(Shape):
    """What a tool answered. No content is an empty answer."""

    type: Literal["tool_result"]
    tool_use_id: Identifier
    content: (
        Annotated[
            Annotated[str, Tag("<text>")]
            | Annotated[
                list[Annotated[TextBlock, BeforeValidator(_text_of_a_result)]], Field(fail_fast=True), Tag("<blocks>")
            ],
            _TEXT_OR_BLOCKS,
        ]
        | None
    ) = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None
    toolset_name: Unsupported = None


_BLOCK_TYPES: Final = ("text", "thinking", "redacted_thinking", "tool_use", "tool_result")


def _known_block(value: object) -> object:
    """Tells a block of the contract that is not supported yet from one that does not exist."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if isinstance(kind, str) and kind not in _BLOCK_TYPES:
        if kind in UNSUPPORTED_BLOCKS:
            raise PydanticCustomError(
                "block_type", "`{kind}` blocks are not supported by this server yet", {"kind": kind}
            )
        raise PydanticCustomError(
            "block_type",
            "unknown content block type `{kind}`; this server takes {known}",
            {"kind": kind[:64], "known": ", ".join(f"`{known}`" for known in _BLOCK_TYPES)},
        )
    return value


def _block_tag(value: object) -> str:
    """The union's branch. What names no type is measured against a text block, the commonest."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    return f"<{kind}>" if isinstance(kind, str) else "<text>"


InputBlock = TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock
ContentBlock = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[ThinkingBlock, Tag("<thinking>")]
    | Annotated[RedactedThinkingBlock, Tag("<redacted_thinking>")]
    | Annotated[ToolUseBlock, Tag("<tool_use>")]
    | Annotated[ToolResultBlock, Tag("<tool_result>")],
    Discriminator(_block_tag),
    BeforeValidator(_known_block),
]


def _only_text(value: object) -> object:
    if _block_tag(value)[1:-1] in _BLOCK_TYPES[1:]:
        raise PydanticCustomError("block_type", "Input should be 'text'")
    return _known_block(value)


Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[ContentBlock], Field(fail_fast=True), Tag("<blocks>")],
    _TEXT_OR_BLOCKS,
]
SystemContent = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[Annotated[TextBlock, BeforeValidator(_only_text)]], Field(fail_fast=True), Tag("<blocks>")],
    _TEXT_OR_BLOCKS,
]


class ThinkingEnabled(Shape):
    """Extended thinking of at most `budget_tokens` tokens. `display` omitted sends the signature alone."""

    type: Literal["enabled"]
    budget_tokens: Annotated[int, Field(ge=THINKING_BUDGET_MIN, le=MAX_TOKENS_MAX)]
    display: Literal["summarized", "omitted"] | None = None


class ThinkingAdaptive(Shape):
    """Extended thinking as far as `output_config.effort` lets it go."""

    type: Literal["adaptive"]
    display: Literal["summarized", "omitted"] | None = None
    block_binding: Unsupported = None


class ThinkingDisabled(Shape):
    type: Literal["disabled"]


class ThinkingBetweenTools(Shape):
    """No thinking but for notes between tool calls; without tools there are none."""

    type: Literal["between_tools"]


Thinking = Annotated[
    ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | ThinkingBetweenTools, Field(discriminator="type")
]
Effort = Literal["low", "medium", "high", "xhigh", "max"]


class JsonSchemaFormat(Shape):
    """Text that is exactly one JSON value of the schema."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class LooseJsonSchemaFormat(JsonSchemaFormat):
    """The same, of a dialect whose schemas are not bound to the documented subset: all that a grammar can hold."""


class OutputConfig(Shape):
    """How much to write (WIRE.md section 2.3)."""

    effort: Effort | None = None
    format: JsonSchemaFormat | None = None
    task_budget: Unsupported = None


class CustomTool(Shape):
    """A tool that the client runs. `input_schema` is JSON Schema of an object."""

    type: Literal["custom"] | None = None
    name: ToolName
    description: str | None = None
    input_schema: dict[str, Any]
    input_examples: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    defer_loading: Annotated[bool | None, BeforeValidator(_refuse_true)] = None
    allowed_callers: Annotated[list[Literal["direct"]], Field(fail_fast=True)] | None = None
    cache_control: CacheControl | None = None


class ClientTool(Shape):
    """A tool whose name and schema the contract defines (catalog/client_tools.toml); the client runs it."""

    type: str
    name: str
    max_characters: Annotated[int, Field(ge=1)] | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    input_examples: Annotated[list[dict[str, Any]], Field(fail_fast=True)] | None = None
    defer_loading: Annotated[bool | None, BeforeValidator(_refuse_true)] = None
    allowed_callers: Annotated[list[Literal["direct"]], Field(fail_fast=True)] | None = None
    cache_control: CacheControl | None = None


CLIENT_TOOLS: Final[Mapping[str, str]] = {
    "bash_20241022": "bash",
    "bash_20250124": "bash",
    "text_editor_20241022": "str_replace_editor",
    "text_editor_20250124": "str_replace_editor",
    "text_editor_20250429": "str_replace_based_edit_tool",
    "text_editor_20250728": "str_replace_based_edit_tool",
    "memory_20250818": "memory",
}
_SERVER_TOOLS: Final = ("web_search_", "web_fetch_", "code_execution_", "tool_search_tool_", "advisor_", "mcp_toolset")
_OTHER_TOOLS: Final = ("computer_", "browser_toolset_")


def _known_tool(value: object) -> object:
    """Tells a tool that needs a service from one that does not exist."""
    kind = value.get("type") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind == "custom" or kind in CLIENT_TOOLS:
        return value
    if kind.startswith(_SERVER_TOOLS):
        text = "`{kind}` is run by a service that this server does not have; give a tool of your own instead"
    elif kind.startswith(_OTHER_TOOLS):
        text = "`{kind}` is not supported by this server yet"
    else:
        text = "unknown tool type `{kind}`; this server takes `custom` and the tools of the contract that clients run"
    raise PydanticCustomError("block_type", text, {"kind": kind[:64]})


def _tool_tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else None
    return "<custom>" if kind in (None, "custom") else "<client>"


Tool = Annotated[
    Annotated[CustomTool, Tag("<custom>")] | Annotated[ClientTool, Tag("<client>")],
    Discriminator(_tool_tag),
    BeforeValidator(_known_tool),
]


class ToolChoiceAuto(Shape):
    type: Literal["auto"]
    disable_parallel_tool_use: bool = False


class ToolChoiceAny(Shape):
    type: Literal["any"]
    disable_parallel_tool_use: bool = False


class ToolChoiceTool(Shape):
    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool = False


class ToolChoiceNone(Shape):
    type: Literal["none"]


ToolChoice = Annotated[ToolChoiceAuto | ToolChoiceAny | ToolChoiceTool | ToolChoiceNone, Field(discriminator="type")]


class InputMessage(Shape):
    """One message of the conversation. `system` may stand only inside it (WIRE.md section 2.4)."""

    role: Literal["user", "assistant", "system"]
    content: Content


class Metadata(Shape):
    """What the caller tells of its own user. Checked, and neither stored nor logged."""

    user_id: Annotated[str, Field(max_length=256)] | None = None


class Diagnostics(Shape):
    """Asks why the prompt cache could not reuse the prefix of an earlier request of this client."""

    previous_message_id: Annotated[str, Field(max_length=256)] | None = None


def without_unsupported(
    data: object,
    nothing: Mapping[str, tuple[object, ...]],
    why: Callable[[str], str] = lambda _field: "this is not supported by this server yet",
) -> object:
    """A body without these fields. One that asks for something, neither null nor one of its values, is refused."""
    if not isinstance(data, dict):
        return data
    asked = nothing.keys() & data.keys()
    for field in sorted(asked):
        if not asks_nothing(data[field], nothing[field]):
            raise PydanticCustomError("unsupported_field", "{why}", {"field": field, "why": why(field)})
    return {key: value for key, value in data.items() if key not in asked} if asked else data


def asks_nothing(value: object, values: tuple[object, ...]) -> bool:
    """Null, or one of these; `false` is not `0`."""
    return value is None or any(type(value) is type(one) and value == one for one in values)


class PromptRequest(Shape):
    """What a reply and a token count have in common: all that shapes the prompt."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    messages: Annotated[list[InputMessage], Field(min_length=1, fail_fast=True, max_length=MESSAGES_MAX)]
    system: SystemContent | None = None
    thinking: Thinking | None = None
    tools: Annotated[list[Tool], Field(fail_fast=True, max_length=TOOLS_MAX)] | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    output_format: JsonSchemaFormat | None = None
    cache_control: CacheControl | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: object) -> object:
        return without_unsupported(data, UNSUPPORTED)


def _not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "each stop sequence must contain non-whitespace")
    return value


StopSequence = Annotated[str, Field(max_length=STOP_SEQUENCE_CHARACTERS_MAX), AfterValidator(_not_blank)]


class MessagesRequest(PromptRequest):
    """The body of `POST /v1/messages`. `max_tokens` counts output tokens; 0 only reads the prompt."""

    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS_MAX)]
    stream: bool = False
    stop_sequences: Annotated[list[StopSequence], Field(fail_fast=True, max_length=STOP_SEQUENCES_MAX)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=MAX_TOKENS_MAX)] | None = None
    metadata: Metadata | None = None
    diagnostics: Diagnostics | None = None
    service_tier: Literal["auto", "standard_only"] | None = None


class CountTokensRequest(PromptRequest):
    """The body of `POST /v1/messages/count_tokens` (WIRE.md section 2.9)."""
