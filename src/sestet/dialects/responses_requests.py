"""Requests of OpenAI's Responses API as this server takes them (WIRE.md section 8.5): exact shapes, nothing unknown.

`UNSUPPORTED` lists what this API has and this server does not: such a field is refused by its path, with what to do.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from sestet.contract.requests import MAX_TOKENS_MAX, MESSAGES_MAX, TOOLS_MAX, DirectCaller, Shape, without_unsupported
from sestet.dialects.openai_shapes import BLOCKS_MAX, CacheBreakpoint, ReasoningEffort

# Field -> the values that ask for nothing, which are honoured by doing nothing; and what to do instead of others.
UNSUPPORTED: Final[Mapping[str, tuple[tuple[object, ...], str]]] = {
    "background": ((False,), "wait for the reply, or stream it"),
    "background_options": ((), "wait for the reply, or stream it"),
    "context_management": (([],), "shorten the input yourself"),
    "conversation": ((), "nothing is kept here; send the whole conversation as `input`"),
    "max_tool_calls": ((), "it counts tools that the service runs, and there are none here; leave it out"),
    "moderation": ((), "nothing is moderated here; leave it out"),
    "personality": ((), "say it in `instructions`"),
    "previous_response_id": ((), "nothing is kept here; send the whole conversation as `input`"),
    "prompt": ((), "no prompts are kept here; send `instructions` and `input`"),
    "store": ((False,), "nothing is kept here; leave it out, or set it to false"),
    "top_logprobs": ((0,), "probabilities are not told here; leave it out"),
    "truncation": (("disabled",), "nothing is cut off here; shorten the input yourself, or leave it out"),
}


def _unsupported(kind: str, text: str) -> PydanticCustomError:
    return PydanticCustomError("block_type", text, {"kind": kind[:64]})


def _refuse(value: object) -> object:
    if value:
        raise PydanticCustomError("unsupported", "this is not supported by this server yet")
    return value


Unsupported = Annotated[Any, BeforeValidator(_refuse)]
Status = Literal["in_progress", "completed", "incomplete"]
Name = Annotated[str, Field(max_length=512)]


class InputText(Shape):
    type: Literal["input_text"]
    text: str
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class OutputText(Shape):
    """Text of an earlier reply; only its text is read. `parsed` is what official clients put there themselves."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    parsed: Any = None


class RefusalPart(Shape):
    """What another model declined with in an earlier reply."""

    type: Literal["refusal"]
    refusal: str


class ReasoningText(Shape):
    type: Literal["reasoning_text"]
    text: str


class SummaryText(Shape):
    type: Literal["summary_text"]
    text: str


_PART_TYPES: Final = ("input_text", "output_text", "refusal")


def _type_of(value: object) -> str | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    return kind if isinstance(kind, str) else None


def _known_part(value: object) -> object:
    kind = _type_of(value)
    if kind in ("input_image", "input_file", "input_audio"):
        raise _unsupported(kind, "`{kind}` parts are not supported by this server yet")
    if kind is not None and kind not in _PART_TYPES:
        raise _unsupported(kind, "unknown part type `{kind}`; this server takes `input_text`, `output_text`, `refusal`")
    return value


def _part_tag(value: object) -> str:
    return f"<{_type_of(value) or 'input_text'}>"


Part = Annotated[
    Annotated[InputText, Tag("<input_text>")]
    | Annotated[OutputText, Tag("<output_text>")]
    | Annotated[RefusalPart, Tag("<refusal>")],
    Discriminator(_part_tag),
    BeforeValidator(_known_part),
]


def _text_or_list(value: object) -> str | None:
    """The union's branch; its tag is in angle brackets so that a path can be cleared of it."""
    if isinstance(value, str):
        return "<text>"
    return "<list>" if isinstance(value, list) else None


_TEXT_OR_LIST = Discriminator(
    _text_or_list, custom_error_type="content_type", custom_error_message="Input should be a string or a list"
)
Content = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[Part], Field(fail_fast=True), Tag("<list>")], _TEXT_OR_LIST
]


class MessageItem(Shape):
    """What somebody said. `type` may be left out; `id`, `status` and `phase` come with those of earlier replies."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    type: Literal["message"] | None = None
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(Shape):
    """A call that the model made in an earlier reply; `arguments` is a JSON object."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None
    namespace: Unsupported = None
    caller: DirectCaller | None = None
    # The second is how the official client's Python object spells it.
    async_: Annotated[Unsupported, Field(validation_alias=AliasChoices("async", "async_"))] = None
    parsed_arguments: Any = None  # put there by official clients themselves


Output = Annotated[
    Annotated[str, Tag("<text>")]
    | Annotated[list[Annotated[InputText, BeforeValidator(_known_part)]], Field(fail_fast=True), Tag("<list>")],
    _TEXT_OR_LIST,
]


class FunctionCallOutputItem(Shape):
    """What a function answered."""

    type: Literal["function_call_output"]
    call_id: str
    output: Output
    id: str | None = None
    name: str | None = None
    status: Status | None = None
    namespace: Unsupported = None
    caller: DirectCaller | None = None


class ReasoningItem(Shape):
    """A thought of an earlier reply. `encrypted_content` alone brings it back."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: Annotated[list[SummaryText], Field(fail_fast=True, max_length=BLOCKS_MAX)] | None = None
    content: Annotated[list[ReasoningText], Field(fail_fast=True, max_length=BLOCKS_MAX)] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


_ITEM_TYPES: Final = ("message", "function_call", "function_call_output", "reasoning")


def _known_item(value: object) -> object:
    kind = _type_of(value)
    if kind == "item_reference" or (kind is None and isinstance(value, Mapping) and {"id"} == value.keys() - {"type"}):
        raise _unsupported("item_reference", "nothing is kept here that `{kind}` could point to; send the item itself")
    if kind is not None and kind not in _ITEM_TYPES:
        known = ", ".join(f"`{known}`" for known in _ITEM_TYPES)
        raise _unsupported(kind, "items of type `{kind}` are not supported by this server; it takes " + known)
    return value


def _item_tag(value: object) -> str:
    return f"<{_type_of(value) or 'message'}>"


Item = MessageItem | FunctionCallItem | FunctionCallOutputItem | ReasoningItem
AnyItem = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionCallOutputItem, Tag("<function_call_output>")]
    | Annotated[ReasoningItem, Tag("<reasoning>")],
    Discriminator(_item_tag),
    BeforeValidator(_known_item),
]
Input = Annotated[
    Annotated[str, Field(min_length=1), Tag("<text>")]
    | Annotated[list[AnyItem], Field(min_length=1, max_length=MESSAGES_MAX, fail_fast=True), Tag("<list>")],
    _TEXT_OR_LIST,
]


def _known_tool(value: object) -> object:
    kind = _type_of(value)
    if kind is not None and kind != "function":
        raise _unsupported(kind, "tools of type `{kind}` are not supported by this server; give a `function`")
    return value


class FunctionTool(Shape):
    """A function that the client runs. Without `parameters` it has none; null or no `strict` is false."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: Annotated[list[Literal["direct"]], Field(fail_fast=True)] | None = None
    defer_loading: Unsupported = None
    async_: Annotated[Unsupported, Field(alias="async")] = None
    output_schema: Unsupported = None


class ChosenFunction(Shape):
    type: Literal["function"]
    name: str


class AllowedTools(Shape):
    """Of all tools only these."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[
        list[Annotated[ChosenFunction, BeforeValidator(_known_tool)]],
        Field(fail_fast=True, min_length=1, max_length=TOOLS_MAX),
    ]


def _choice_tag(value: object) -> str:
    """Which of the three forms; of an object that is neither, the commoner."""
    if isinstance(value, str):
        return "<mode>"
    return "<allowed_tools>" if _type_of(value) == "allowed_tools" else "<function>"


def _known_choice(value: object) -> object:
    return value if _type_of(value) == "allowed_tools" else _known_tool(value)


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("<mode>")]
    | Annotated[ChosenFunction, Tag("<function>")]
    | Annotated[AllowedTools, Tag("<allowed_tools>")],
    Discriminator(_choice_tag),
    BeforeValidator(_known_choice),
]


class PlainText(Shape):
    type: Literal["text"]


class JsonObject(Shape):
    """Text that is exactly one JSON object."""

    type: Literal["json_object"]


class JsonSchema(Shape):
    """Text that is exactly one JSON value of the schema, whatever `strict` says. Name and description are not told to
    the model."""

    type: Literal["json_schema"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


def _format_tag(value: object) -> str:
    kind = _type_of(value)
    return f"<{kind}>" if kind in ("json_object", "json_schema") else "<text>"


Format = Annotated[
    Annotated[PlainText, Tag("<text>")]
    | Annotated[JsonObject, Tag("<json_object>")]
    | Annotated[JsonSchema, Tag("<json_schema>")],
    Discriminator(_format_tag),
]


class TextConfig(Shape):
    """What the text of the reply is."""

    format: Format | None = None
    verbosity: Literal["medium"] | None = None


Summary = Literal["auto", "concise", "detailed"]


class Reasoning(Shape):
    """How long to think, and whether to tell the thought as its summary too. `generate_summary` is its older name."""

    effort: ReasoningEffort | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None
    context: Literal["auto", "current_turn"] | None = None
    mode: Literal["standard"] | None = None


class CacheOptions(Shape):
    """`implicit` keeps the prompt up to its end. Without these options only explicit breakpoints are kept."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] | None = None
    comparison_response_id: Unsupported = None
    prewarm: Unsupported = None


class StreamOptions(Shape):
    include_obfuscation: Unsupported = None


class ResponsesPrompt(Shape):
    """What a reply and a token count have in common: all that shapes the prompt."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    input: Input
    instructions: str | None = None
    tools: (
        Annotated[
            list[Annotated[FunctionTool, BeforeValidator(_known_tool)]], Field(fail_fast=True, max_length=TOOLS_MAX)
        ]
        | None
    ) = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: object) -> object:
        nothing = {field: values for field, (values, _) in UNSUPPORTED.items()}
        return without_unsupported(
            data, nothing, lambda field: f"this is not supported by this server: {UNSUPPORTED[field][1]}"
        )


class ResponsesRequest(ResponsesPrompt):
    """The body of `POST /v1/responses`. `temperature` above 1 is taken as 1."""

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS_MAX)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    include: Annotated[list[Literal["reasoning.encrypted_content"]], Field(fail_fast=True)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = None
    service_tier: Literal["auto", "default", "priority", "fast"] | None = None
    user: Name | None = None
    safety_identifier: Name | None = None
    prompt_cache_key: Name | None = None
    prompt_cache_options: CacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None


class InputTokensRequest(ResponsesPrompt):
    """The body of `POST /v1/responses/input_tokens`."""
