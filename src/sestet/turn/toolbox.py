"""The tools of a request: which there are, whether they may be called, and what their inputs must satisfy."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import jsonschema_rs

from sestet.contract.errors import invalid
from sestet.contract.requests import (
    CLIENT_TOOLS,
    ClientTool,
    CustomTool,
    PromptRequest,
    ToolChoiceAny,
    ToolChoiceNone,
    ToolChoiceTool,
)
from sestet.turn.breakpoints import lifetime_of
from sestet.turn.schemas import check, check_size, references
from sestet.turn.tools import ToolPlan, ToolSpec


def tool_plan(request: PromptRequest, *, thinking: bool, extended: bool) -> ToolPlan | None:
    """The tools the model is told of, and which of them it may or must call; nothing without tools."""
    choice = request.tool_choice
    if not request.tools:
        if choice is not None and not isinstance(choice, ToolChoiceNone):
            raise invalid("`tool_choice` may only be specified while providing `tools`", "tool_choice")
        return None
    tools = tuple(_spec(tool, f"tools.{position}", extended) for position, tool in enumerate(request.tools))
    names = [tool.name for tool in tools]
    seen: set[str] = set()
    for position, name in enumerate(names):
        if name in seen:
            raise invalid("tool names must be unique", f"tools.{position}.name")
        seen.add(name)
    if isinstance(choice, ToolChoiceNone):
        return ToolPlan(tools, "none", (), parallel=False)
    parallel = choice is None or not choice.disable_parallel_tool_use
    if isinstance(choice, ToolChoiceAny | ToolChoiceTool) and thinking:
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.", "tool_choice.type")
    if isinstance(choice, ToolChoiceTool):
        if choice.name not in names:
            raise invalid(f"Tool '{choice.name[:128]}' not found in provided tools", "tool_choice.name")
        return ToolPlan(tools, "any", (choice.name,), parallel)
    return ToolPlan(tools, "any" if isinstance(choice, ToolChoiceAny) else "auto", tuple(names), parallel)


def _spec(tool: CustomTool | ClientTool, path: str, extended: bool) -> ToolSpec:
    if isinstance(tool, ClientTool):
        return _client_tool(tool, path)
    schema_path = f"{path}.input_schema"
    schema = tool.input_schema
    if schema.get("type") != "object":
        raise invalid("Input should be 'object'" if "type" in schema else "Field required", f"{schema_path}.type")
    check_size(schema, schema_path)
    strict = bool(tool.strict)
    if strict:
        check(schema, schema_path, extended=extended)
    _check_examples(tool.input_examples or (), schema, path)
    examples = tuple(tool.input_examples or ())
    return ToolSpec(tool.name, tool.description or "", schema, strict, examples, path, lifetime_of(tool.cache_control))


def _client_tool(tool: ClientTool, path: str) -> ToolSpec:
    expected = CLIENT_TOOLS[tool.type]
    if tool.name != expected:
        raise invalid(f"Input should be '{expected}'", f"{path}.name")
    if tool.max_characters is not None and tool.type != "text_editor_20250728":
        raise invalid("Extra inputs are not permitted", f"{path}.max_characters")
    kind = tool.type.rpartition("_")[0]
    description, properties, required = _CLIENT_SCHEMAS[kind]
    if kind == "text_editor" and tool.type < "text_editor_20250429":
        commands = {"enum": [*properties["command"]["enum"], "undo_edit"]}
        properties = {**properties, "command": {**properties["command"], **commands}}
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    _check_examples(tool.input_examples or (), schema, path)
    examples = tuple(tool.input_examples or ())
    return ToolSpec(tool.name, description, schema, True, examples, path, lifetime_of(tool.cache_control))


def _check_examples(examples: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], path: str) -> None:
    if not examples or references(schema) > _REFERENCES_MAX:
        return
    try:
        validator = jsonschema_rs.validator_for(dict(schema), retriever=_retrieve_nothing)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise invalid(f"the schema cannot be used: {_first_line(error)}", f"{path}.input_schema") from None
    for position, example in enumerate(examples):
        check_size(example, f"{path}.input_examples.{position}")
        if not validator.is_valid(example):
            raise invalid("the example does not satisfy the tool's `input_schema`", f"{path}.input_examples.{position}")


# Checking follows every path through the references, and a few of them make very many.
_REFERENCES_MAX: Final = 16


def _retrieve_nothing(uri: str) -> NoReturn:
    raise ValueError(f"references to other documents are not followed ({uri[:64]})")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "it is not a schema")[:200]


_PATH: Final = {"type": "string", "description": "Path of a file or folder."}
_VIEW_RANGE: Final = {
    "type": "array",
    "items": {"type": "integer"},
    "description": "First and last line to show; -1 is the end.",
}

# Kind of tool -> what it does, its properties, those that are required. Names and meanings are the contract's.
_CLIENT_SCHEMAS: Final[Mapping[str, tuple[str, Mapping[str, Any], Sequence[str]]]] = {
    "bash": (
        "Run a command in a bash shell that stays open between calls.",
        {
            "command": {"type": "string", "description": "The command to run."},
            "restart": {"type": "boolean", "description": "Start the shell anew instead."},
        },
        (),
    ),
    "text_editor": (
        "View, create and edit text files.",
        {
            "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
            "path": _PATH,
            "file_text": {"type": "string", "description": "Content of a file to create."},
            "old_str": {"type": "string", "description": "Text to replace; it must occur once."},
            "new_str": {"type": "string", "description": "Text to put there."},
            "insert_line": {"type": "integer", "description": "Line after which to insert."},
            "insert_text": {"type": "string", "description": "Text to insert."},
            "view_range": _VIEW_RANGE,
        },
        ("command", "path"),
    ),
    "memory": (
        "Keep notes in files below /memories that outlast the conversation.",
        {
            "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert", "delete", "rename"]},
            "path": _PATH,
            "file_text": {"type": "string", "description": "Content of a file to create."},
            "old_str": {"type": "string", "description": "Text to replace; it must occur once."},
            "new_str": {"type": "string", "description": "Text to put there."},
            "insert_line": {"type": "integer", "description": "Line after which to insert."},
            "insert_text": {"type": "string", "description": "Text to insert."},
            "old_path": {"type": "string", "description": "What to rename."},
            "new_path": {"type": "string", "description": "Its new path."},
            "view_range": _VIEW_RANGE,
        },
        ("command",),
    ),
}
