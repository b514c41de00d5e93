"""The tools of a request: names, choices, the client tools of the contract, examples, strict schemas."""

import asyncio
import json
from itertools import product
from typing import Any

import pytest
from llguidance import LLMatcher

from sestet.contract.requests import CLIENT_TOOLS, MessagesRequest
from sestet.dialects.json_body import parse
from sestet.services.grammars import Grammars
from sestet.turn.grammar import of_input
from sestet.turn.schemas import DEPTH_MAX
from sestet.turn.toolbox import tool_plan
from sestet.turn.tools import ToolPlan, ToolSpec
from tests.unit.refusals import refusal

MINIMAL: dict[str, Any] = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
OBJECT = {"type": "object"}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def tool(name: str = "a", schema: Any = OBJECT, **fields: Any) -> dict[str, Any]:
    return {"name": name, "input_schema": schema, **fields}


def client_tool(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "name": CLIENT_TOOLS[kind], **fields}


def plan(*tools: Any, thinking: bool = False, extended: bool = False, **fields: Any) -> ToolPlan | None:
    request = MessagesRequest.model_validate({**MINIMAL, "tools": list(tools), **fields})
    return tool_plan(request, thinking=thinking, extended=extended)


def planned(*tools: Any, **options: Any) -> ToolPlan:
    found = plan(*tools, **options)
    assert found is not None
    return found


def refused(*tools: Any, **options: Any) -> tuple[str | None, str]:
    error = refusal(lambda: plan(*tools, **options))
    return error.param, error.args[0]


def refused_at(**fields: Any) -> str | None:
    """The path of what the body's reader refuses."""
    return refusal(lambda: parse(json.dumps({**MINIMAL, **fields}).encode(), MessagesRequest)).param


def test_no_tools_is_no_plan() -> None:
    assert plan() is None
    assert tool_plan(MessagesRequest.model_validate(MINIMAL), thinking=False, extended=False) is None


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "a"}])
def test_a_choice_without_tools_is_refused(choice: dict[str, Any]) -> None:
    assert ("tool_choice", "`tool_choice` may only be specified while providing `tools`") == refused(tool_choice=choice)


def test_no_tools_may_be_chosen_of_none() -> None:
    assert plan(tool_choice={"type": "none"}) is None


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", ("a", "b"), True)),
        ({"type": "auto"}, ("auto", ("a", "b"), True)),
        ({"type": "auto", "disable_parallel_tool_use": True}, ("auto", ("a", "b"), False)),
        ({"type": "any"}, ("any", ("a", "b"), True)),
        ({"type": "any", "disable_parallel_tool_use": True}, ("any", ("a", "b"), False)),
        ({"type": "tool", "name": "b"}, ("any", ("b",), True)),
        ({"type": "tool", "name": "b", "disable_parallel_tool_use": True}, ("any", ("b",), False)),
        ({"type": "none"}, ("none", (), False)),
    ],
)
def test_a_choice_says_what_may_be_called(choice: object, expected: tuple[str, tuple[str, ...], bool]) -> None:
    found = planned(tool("a"), tool("b"), tool_choice=choice)

    assert expected == (found.choice, found.callable_names, found.parallel)
    assert ["a", "b"] == [one.name for one in found.tools]


@pytest.mark.parametrize(
    ("choice", "path"),
    [
        ("any", "tool_choice"),
        ({}, "tool_choice"),
        ({"type": "all"}, "tool_choice"),
        ({"type": "tool"}, "tool_choice.tool.name"),
        ({"type": "any", "name": "a"}, "tool_choice.any.name"),
        ({"type": "none", "disable_parallel_tool_use": True}, "tool_choice.none.disable_parallel_tool_use"),
        ({"type": "auto", "disable_parallel_tool_use": 1}, "tool_choice.auto.disable_parallel_tool_use"),
    ],
)
def test_a_choice_of_another_form_is_refused(choice: object, path: str) -> None:
    assert path == refused_at(tools=[tool()], tool_choice=choice)


@pytest.mark.parametrize("name", ["c", "A", "", "b" * 500])
def test_a_chosen_tool_must_be_there(name: str) -> None:
    assert ("tool_choice.name", f"Tool '{name[:128]}' not found in provided tools") == refused(
        tool("a"), tool_choice={"type": "tool", "name": name}
    )


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "a"}])
def test_thoughts_and_forced_calls_exclude_each_other(choice: dict[str, Any]) -> None:
    assert ("tool_choice.type", "Thinking may not be enabled when tool_choice forces tool use.") == refused(
        tool("a"), tool_choice=choice, thinking=True
    )


@pytest.mark.parametrize("choice", [None, {"type": "auto"}, {"type": "none"}])
def test_thoughts_and_free_calls_do_not(choice: object) -> None:
    assert planned(tool("a"), tool_choice=choice, thinking=True).tools


@pytest.mark.parametrize("name", ["a", "A-b_0", "x" * 128, "_", "-"])
def test_names_of_the_contract_are_taken(name: str) -> None:
    assert name == planned(tool(name)).tools[0].name


@pytest.mark.parametrize("name", ["", "a b", "a.b", "é", "x" * 129, "a\n", 'a"', "a/b", 5, None])
def test_other_names_are_refused(name: object) -> None:
    assert "tools.1.name" == refused_at(tools=[tool(), {"name": name, "input_schema": OBJECT}])


def test_a_name_is_given_once() -> None:
    assert ("tools.2.name", "tool names must be unique") == refused(tool("a"), tool("b"), tool("a"))
    assert ("tools.1.name", "tool names must be unique") == refused(tool("bash"), client_tool("bash_20250124"))


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({}, "tools.0.input_schema.type"),
        ({"type": "string"}, "tools.0.input_schema.type"),
        ({"type": ["object"]}, "tools.0.input_schema.type"),
        ({"properties": {}}, "tools.0.input_schema.type"),
        ({"$ref": "#/$defs/a", "$defs": {"a": OBJECT}}, "tools.0.input_schema.type"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_an_input_is_an_object(schema: dict[str, Any], path: str, strict: bool) -> None:
    assert path == refused(tool(schema=schema, strict=strict))[0]


@pytest.mark.parametrize("schema", [None, "object", [], True, 5])
def test_a_schema_is_an_object_of_json(schema: object) -> None:
    assert "tools.0.input_schema" == refused_at(tools=[{"name": "a", "input_schema": schema}])


def test_a_tool_without_a_schema_is_refused() -> None:
    assert "tools.0.input_schema" == refused_at(tools=[{"name": "a"}])


def test_a_tool_is_told_with_everything_it_says() -> None:
    given = tool("a", CITY, description="Looks.", strict=True, input_examples=[{"city": "Paris"}])

    assert (ToolSpec("a", "Looks.", CITY, True, ({"city": "Paris"},), "tools.0"),) == planned(given).tools


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "custom"},
        {"type": None},
        {"eager_input_streaming": True},
        {"eager_input_streaming": False},
        {"defer_loading": False},
        {"allowed_callers": ["direct"]},
        {"description": ""},
        {"input_examples": []},
    ],
)
def test_fields_that_change_nothing_here_are_taken(fields: dict[str, Any]) -> None:
    assert (ToolSpec("a", "", OBJECT, False, (), "tools.0"),) == planned(tool(**fields)).tools


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"defer_loading": True}, "tools.0.defer_loading"),
        ({"allowed_callers": ["code_execution_20250825"]}, "tools.0.allowed_callers.0"),
        ({"strict": 1}, "tools.0.strict"),
        ({"description": 5}, "tools.0.description"),
        ({"input_examples": {}}, "tools.0.input_examples"),
        ({"input_examples": [5]}, "tools.0.input_examples.0"),
        ({"max_characters": 5}, "tools.0.max_characters"),
        ({"parameters": {}}, "tools.0.parameters"),
    ],
)
def test_fields_that_cannot_be_honoured_are_refused(fields: dict[str, Any], path: str) -> None:
    assert path == refused_at(tools=[tool(**fields)])


LOOSE = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "oneOf": [{}]}


def test_only_a_strict_tool_keeps_to_the_subset() -> None:
    assert LOOSE == planned(tool(schema=LOOSE)).tools[0].schema
    assert "tools.0.input_schema.oneOf" == refused(tool(schema=LOOSE, strict=True))[0]


def test_a_strict_tool_may_use_more_where_the_operator_allows_it() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "additionalProperties": False}

    assert "tools.0.input_schema.properties.n.minimum" == refused(tool(schema=schema, strict=True))[0]
    assert planned(tool(schema=schema, strict=True), extended=True).tools[0].strict


@pytest.mark.parametrize("strict", [True, False])
def test_a_deep_schema_is_refused_strict_or_not(strict: bool) -> None:
    schema: dict[str, Any] = {}
    for _ in range(DEPTH_MAX):
        schema = {"items": schema}

    assert "tools.0.input_schema" == refused(tool(schema={"type": "object", **schema}, strict=strict))[0]


@pytest.mark.parametrize("kind", CLIENT_TOOLS)
def test_every_client_tool_has_a_strict_schema_that_can_be_a_grammar(kind: str) -> None:
    (spec,) = planned(client_tool(kind)).tools

    assert (CLIENT_TOOLS[kind], True, "tools.0") == (spec.name, spec.strict, spec.path)
    assert spec.description
    assert {"type", "properties", "required", "additionalProperties"} == set(spec.schema)
    assert spec.schema["additionalProperties"] is False
    assert set(spec.schema["required"]) <= set(spec.schema["properties"])
    assert asyncio.run(Grammars(LLMatcher.validate_grammar).checked(of_input(spec), "tools.0"))


@pytest.mark.parametrize(
    ("kind", "commands"),
    [
        ("text_editor_20241022", ["view", "create", "str_replace", "insert", "undo_edit"]),
        ("text_editor_20250124", ["view", "create", "str_replace", "insert", "undo_edit"]),
        ("text_editor_20250429", ["view", "create", "str_replace", "insert"]),
        ("text_editor_20250728", ["view", "create", "str_replace", "insert"]),
        ("memory_20250818", ["view", "create", "str_replace", "insert", "delete", "rename"]),
    ],
)
def test_a_client_tool_has_the_commands_of_its_version(kind: str, commands: list[str]) -> None:
    assert commands == planned(client_tool(kind)).tools[0].schema["properties"]["command"]["enum"]


@pytest.mark.parametrize(("kind", "name"), [*product(sorted(CLIENT_TOOLS), ("other", "Bash", ""))])
def test_a_client_tool_has_the_contracts_name(kind: str, name: str) -> None:
    assert ("tools.0.name", f"Input should be '{CLIENT_TOOLS[kind]}'") == refused({"type": kind, "name": name})


@pytest.mark.parametrize("kind", sorted(set(CLIENT_TOOLS) - {"text_editor_20250728"}))
def test_only_the_newest_editor_takes_max_characters(kind: str) -> None:
    assert ("tools.0.max_characters", "Extra inputs are not permitted") == refused(client_tool(kind, max_characters=10))
    assert planned(client_tool("text_editor_20250728", max_characters=10)).tools


@pytest.mark.parametrize("fields", [{"max_characters": 0}, {"input_schema": {}}, {"description": "x"}, {"name": None}])
def test_other_fields_of_a_client_tool_are_refused(fields: dict[str, Any]) -> None:
    assert f"tools.0.{next(iter(fields))}" == refused_at(tools=[client_tool("text_editor_20250728", **fields)])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("web_search_20250305", "service that this server does not have"),
        ("web_fetch_20260318", "service that this server does not have"),
        ("code_execution_20250825", "service that this server does not have"),
        ("tool_search_tool_regex_20251119", "service that this server does not have"),
        ("mcp_toolset", "service that this server does not have"),
        ("computer_toolset_20260801", "not supported by this server yet"),
        ("computer_20250124", "not supported by this server yet"),
        ("browser_toolset_20260801", "not supported by this server yet"),
        ("bash_19990101", "unknown tool type"),
        ("CUSTOM", "unknown tool type"),
    ],
)
def test_a_tool_of_a_service_is_refused_by_its_type(kind: str, words: str) -> None:
    body = {**MINIMAL, "tools": [tool(), {"type": kind, "name": "x"}]}
    error = refusal(lambda: parse(json.dumps(body).encode(), MessagesRequest))

    assert "tools.1.type" == error.param
    assert f"`{kind}`" in error.message
    assert words in error.message


def test_examples_that_satisfy_the_schema_are_told() -> None:
    examples = [{"city": "Paris"}, {"city": ""}]

    assert tuple(examples) == planned(tool(schema=CITY, input_examples=examples)).tools[0].examples


@pytest.mark.parametrize("example", [{}, {"city": 5}, {"city": "x", "more": 1}, {"City": "x"}])
@pytest.mark.parametrize("strict", [True, False])
def test_an_example_that_does_not_is_refused_by_its_place(example: dict[str, Any], strict: bool) -> None:
    assert ("tools.0.input_examples.1", "the example does not satisfy the tool's `input_schema`") == refused(
        tool(schema=CITY, strict=strict, input_examples=[{"city": "x"}, example])
    )


def test_examples_of_client_tools_are_checked_too() -> None:
    assert planned(client_tool("bash_20250124", input_examples=[{"command": "ls"}])).tools[0].examples
    assert "tools.0.input_examples.0" == refused(client_tool("bash_20250124", input_examples=[{"cmd": "ls"}]))[0]


@pytest.mark.parametrize(
    "part",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/hostname"},
        {"$ref": "https://example.com/x"},
        {"$ref": "other.json"},
        {"$ref": "#/$defs/nowhere"},
        {"type": "strin"},
        {"pattern": "("},
        {"minimum": "x"},
        {"required": "a"},
        {"enum": 5},
        {"type": 5},
    ],
)
def test_a_schema_that_examples_cannot_be_checked_against_is_refused_and_nothing_is_fetched(
    part: dict[str, Any],
) -> None:
    schema = {"type": "object", "properties": {"x": part}}
    path, words = refused(tool(schema=schema, input_examples=[{"x": 1}]))

    assert "tools.0.input_schema" == path
    assert words.startswith("the schema cannot be used: ")
    assert len(words) < 300


def test_a_pattern_that_backtracks_for_ever_does_not() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(?=(a+)+$)(a+)+$"}}}

    assert "tools.0.input_examples.0" == refused(tool(schema=schema, input_examples=[{"x": "a" * 40 + "!"}]))[0]
