"""Rules of tools from outside: every refusal by its path and text, and what is taken."""

import json
from typing import Any

import httpx2
import pytest

from tests.contract.errors import assert_contract_error
from tests.contract.inside import Inside, InsideRunner, prompt_tokens
from tests.contract.scenes import OWN_MODEL, WEATHER, call, scripted_reply, tool

Fields = dict[str, Any]

COUNT = "/v1/messages/count_tokens"
THINK: Fields = {"model": OWN_MODEL, "max_tokens": 2048, "thinking": {"type": "enabled", "budget_tokens": 1024}}
OBJECT = {"type": "object"}
ADD = tool("add", "a", "b", kind="integer")


def user(content: object) -> Fields:
    return {"role": "user", "content": content}


def assistant(content: object) -> Fields:
    return {"role": "assistant", "content": content}


def use(name: str = "add", call_id: str = "toolu_1", **more: object) -> Fields:
    return {"type": "tool_use", "id": call_id, "name": name, "input": {}, **more}


def result(call_id: str = "toolu_1", **more: object) -> Fields:
    return {"type": "tool_result", "tool_use_id": call_id, **more}


def answered(*results: Fields, calls: list[Fields] | None = None, **more: object) -> Fields:
    """A request in which a tool was called and answered with these blocks."""
    return {"tools": [ADD], "messages": [user("Hi"), assistant(calls or [use()]), user([*results])], **more}


# What is refused: changes to a request that says hello, and the whole text of the refusal.

INTEGER = {"type": "integer"}
CHOICE_ALONE = "tool_choice: `tool_choice` may only be specified while providing `tools`"
FORCED_THOUGHT = "tool_choice.type: Thinking may not be enabled when tool_choice forces tool use."
NAME_PATTERN = "String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"
ID_PATTERN = "String should match pattern '^[a-zA-Z0-9_-]+$'"
NOTHING_TO_ASK = "max_tokens: 0 reads the prompt and writes nothing, so nothing can be asked of the reply"


def unanswered(position: int, *ids: str) -> str:
    return (
        f"messages.{position}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def unexpected(path: str, call_id: str = "toolu_1") -> str:
    return (
        f"{path}: unexpected `tool_use_id` found in `tool_result` blocks: {call_id}. Each `tool_result` block must "
        "have a corresponding `tool_use` block in the previous message."
    )


def named(name: object) -> Fields:
    return {"tools": [{**ADD, "name": name}]}


def schemed(schema: object, **more: object) -> Fields:
    return {"tools": [{"name": "add", "input_schema": schema, **more}]}


def strict(**properties: object) -> Fields:
    schema = {"type": "object", "properties": properties, "required": [], "additionalProperties": False}
    return schemed(schema, strict=True)


def talk(*messages: Fields) -> Fields:
    return {"tools": [ADD], "messages": [*messages]}


def kept(keyword: str) -> str:
    return f"the schema keyword `{keyword}` is not supported"


def by_switch(keyword: str) -> str:
    return f'{kept(keyword)}; the operator can allow it with tools.schemas = "extended"'


SERVER_TOOLS = [
    ("web_search_20250305", "web_search"),
    ("web_search_20260209", "web_search"),
    ("web_search_20260318", "web_search"),
    ("web_fetch_20250910", "web_fetch"),
    ("web_fetch_20260318", "web_fetch"),
    ("code_execution_20250522", "code_execution"),
    ("code_execution_20250825", "code_execution"),
    ("code_execution_20260521", "code_execution"),
    ("tool_search_tool_regex", "tool_search_tool_regex"),
    ("tool_search_tool_regex_20251119", "tool_search_tool_regex"),
    ("tool_search_tool_bm25", "tool_search_tool_bm25"),
    ("tool_search_tool_bm25_20251119", "tool_search_tool_bm25"),
    ("advisor_20260301", "advisor"),
    ("mcp_toolset", "mcp"),
]
TOOLS_TO_COME = ["computer_20241022", "computer_20250124", "computer_20251124"]
TOOLSETS_TO_COME = ["computer_toolset_20260801", "browser_toolset_20260801"]
CLIENT_TOOLS = [
    ("bash_20241022", "bash"),
    ("bash_20250124", "bash"),
    ("text_editor_20241022", "str_replace_editor"),
    ("text_editor_20250124", "str_replace_editor"),
    ("text_editor_20250429", "str_replace_based_edit_tool"),
    ("text_editor_20250728", "str_replace_based_edit_tool"),
    ("memory_20250818", "memory"),
]

REFUSED: list[tuple[str, Fields]] = [
    (CHOICE_ALONE, {"tool_choice": {"type": "auto"}}),
    (CHOICE_ALONE, {"tool_choice": {"type": "any"}}),
    (CHOICE_ALONE, {"tool_choice": {"type": "tool", "name": "add"}}),
    (CHOICE_ALONE, {"tool_choice": {"type": "auto"}, "tools": []}),
    (
        "tool_choice.name: Tool 'subtract' not found in provided tools",
        {"tools": [ADD], "tool_choice": {"type": "tool", "name": "subtract"}},
    ),
    ("tool_choice.tool.name: Field required", {"tools": [ADD], "tool_choice": {"type": "tool"}}),
    (
        "tool_choice.none.disable_parallel_tool_use: Extra inputs are not permitted",
        {"tools": [ADD], "tool_choice": {"type": "none", "disable_parallel_tool_use": True}},
    ),
    (
        "tool_choice: Input tag 'all' found using 'type' does not match any of the expected tags: "
        "'auto', 'any', 'tool', 'none'",
        {"tools": [ADD], "tool_choice": {"type": "all"}},
    ),
    ("tool_choice: Input should be an object", {"tools": [ADD], "tool_choice": "auto"}),
    (FORCED_THOUGHT, {**THINK, "tools": [ADD], "tool_choice": {"type": "any"}}),
    (FORCED_THOUGHT, {**THINK, "tools": [ADD], "tool_choice": {"type": "tool", "name": "add"}}),
    (FORCED_THOUGHT, {**THINK, "thinking": {"type": "adaptive"}, "tools": [ADD], "tool_choice": {"type": "any"}}),
    ("tools: Input should be a list", {"tools": "add"}),
    ("tools.0: Input should be an object", {"tools": ["add"]}),
    ("tools.1.name: tool names must be unique", {"tools": [ADD, WEATHER, ADD][::2]}),
    (
        "tools.1.name: tool names must be unique",
        {"tools": [{"type": "bash_20250124", "name": "bash"}, {**ADD, "name": "bash"}]},
    ),
    *[(f"tools.0.name: {NAME_PATTERN}", named(name)) for name in ("n" * 129, "two words", "", "né", "a\n", "a.b")],
    ("tools.0.name: Field required", {"tools": [{"input_schema": OBJECT}]}),
    ("tools.0.colour: Extra inputs are not permitted", {"tools": [{**ADD, "colour": "red"}]}),
    ("tools.0.input_schema: Field required", {"tools": [{"name": "add"}]}),
    ("tools.0.input_schema: Input should be an object", schemed("object")),
    ("tools.0.input_schema.type: Field required", schemed({})),
    ("tools.0.input_schema.type: Field required", schemed({"properties": {}})),
    *[
        ("tools.0.input_schema.type: Input should be 'object'", schemed({"type": kind}))
        for kind in ("array", "string", ["object"], None)
    ],
    ("tools.0.defer_loading: this is not supported by this server yet", {"tools": [{**ADD, "defer_loading": True}]}),
    (
        "tools.0.allowed_callers.0: Input should be 'direct'",
        {"tools": [{**ADD, "allowed_callers": ["code_execution_20250825"]}]},
    ),
    *[
        (
            f"tools.1.type: `{kind}` is run by a service that this server does not have; give a tool of your own "
            "instead",
            {"tools": [ADD, {"type": kind, "name": name}]},
        )
        for kind, name in SERVER_TOOLS
    ],
    *[
        (
            f"tools.0.type: `{kind}` is not supported by this server yet",
            {"tools": [{"type": kind, "name": "computer", "display_width_px": 100, "display_height_px": 100}]},
        )
        for kind in TOOLS_TO_COME
    ],
    *[
        (f"tools.0.type: `{kind}` is not supported by this server yet", {"tools": [{"type": kind}]})
        for kind in TOOLSETS_TO_COME
    ],
    *[
        (
            f"tools.0.type: unknown tool type `{kind}`; this server takes `custom` and the tools of the contract that "
            "clients run",
            {"tools": [{"type": kind, "name": "bash"}]},
        )
        for kind in ("bash_20990101", "function", "")
    ],
    *[
        (f"tools.0.name: Input should be '{name}'", {"tools": [{"type": kind, "name": "x"}]})
        for kind, name in CLIENT_TOOLS
    ],
    ("tools.0.name: Field required", {"tools": [{"type": "bash_20250124"}]}),
    (
        "tools.0.input_schema: Extra inputs are not permitted",
        {"tools": [{"type": "bash_20250124", "name": "bash", "input_schema": OBJECT}]},
    ),
    (
        "tools.0.max_characters: Extra inputs are not permitted",
        {"tools": [{"type": "bash_20250124", "name": "bash", "max_characters": 1}]},
    ),
    (
        "tools.0.max_characters: Input should be greater than or equal to 1",
        {"tools": [{"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 0}]},
    ),
    (
        "tools.0.input_schema.additionalProperties: For 'object' type, 'additionalProperties' must be explicitly set "
        "to false",
        schemed({"type": "object", "properties": {}}, strict=True),
    ),
    (f"tools.0.input_schema.properties.a.minimum: {by_switch('minimum')}", strict(a={**INTEGER, "minimum": 1})),
    (
        f"tools.0.input_schema.properties.a.items.maxLength: {by_switch('maxLength')}",
        strict(a={"type": "array", "items": {"type": "string", "maxLength": 1}}),
    ),
    (f"tools.0.input_schema.properties.a.not: {kept('not')}", strict(a={"not": INTEGER})),
    (
        "tools.0.input_schema.properties.a.$ref: only references within the schema (`#/...`) are supported",
        strict(a={"$ref": "https://example.com/schema"}),
    ),
    (
        "tools.0.input_examples.1: the example does not satisfy the tool's `input_schema`",
        {"tools": [{**ADD, "input_examples": [{"a": 1, "b": 2}, {"a": "one", "b": 2}]}]},
    ),
    (
        "tools.0.input_examples.0: the example does not satisfy the tool's `input_schema`",
        {"tools": [{**ADD, "input_examples": [{"a": 1}]}]},
    ),
    ("tools.0.input_examples.0: Input should be an object", {"tools": [{**ADD, "input_examples": ["x"]}]}),
    (unanswered(1, "toolu_1"), talk(user("Hi"), assistant([use()]), user("Bye"))),
    (unanswered(1, "toolu_1"), talk(user("Hi"), assistant([use()]))),
    (unanswered(1, "toolu_1"), talk(user("Hi"), assistant([use()]), user([{"type": "text", "text": "Bye"}]))),
    (
        "messages.3.content: `tool_result` blocks must come first, text after them",
        talk(user("Hi"), assistant([use()]), user("Wait"), user([result()])),
    ),
    (
        unanswered(1, "toolu_1", "toolu_3"),
        answered(result("toolu_2"), calls=[use(), use(call_id="toolu_2"), use(call_id="toolu_3")]),
    ),
    (
        unanswered(1, "toolu_1"),
        talk(user("Hi"), assistant([use()]), {"role": "system", "content": "Be brief"}, user([result()])),
    ),
    (unexpected("messages.0.content.0"), talk(user([result()]))),
    (unexpected("messages.2.content.0"), talk(user("Hi"), assistant("Well"), user([result()]))),
    (unexpected("messages.2.content.0", "toolu_2"), answered(result("toolu_2"))),
    (unexpected("messages.2.content.1", "toolu_2"), answered(result(), result("toolu_2"))),
    (
        unexpected("messages.4.content.0"),
        talk(user("Hi"), assistant([use()]), user([result()]), assistant("So"), user([result()])),
    ),
    (
        "messages.2.content.1.tool_use_id: each tool_use must have a single result. Found multiple `tool_result` "
        "blocks with id: toolu_1",
        answered(result(), result()),
    ),
    (
        "messages.2.content: `tool_result` blocks must come first, text after them",
        answered({"type": "text", "text": "Here:"}, result()),
    ),
    ("messages.1.content.1.id: `tool_use` ids must be unique", answered(result(), calls=[use(), use()])),
    (
        "messages.3.content.0.id: `tool_use` ids must be unique",
        talk(user("Hi"), assistant([use()]), user([result()]), assistant([use()]), user([result()])),
    ),
    (f"messages.1.content.0.id: {ID_PATTERN}", answered(result(), calls=[use(call_id="one two")])),
    (f"messages.2.content.0.tool_use_id: {ID_PATTERN}", answered(result("one two"))),
    (
        "messages.1.content.0.id: Field required",
        answered(result(), calls=[{"type": "tool_use", "name": "a", "input": {}}]),
    ),
    ("messages.1.content.0.input: Input should be an object", answered(result(), calls=[use(input=[1])])),
    ("messages.1.content.0.input: Input should be an object", answered(result(), calls=[use(input='{"a": 1}')])),
    (
        "messages.1.content.0.caller.type: Input should be 'direct'",
        answered(result(), calls=[use(caller={"type": "code_execution_20250825", "tool_id": "x"})]),
    ),
    (
        "messages.0.content.0.type: `tool_use` blocks may only be in `assistant` messages",
        talk(user([use()])),
    ),
    (
        "messages.1.content.0.type: `tool_use` blocks may only be in `assistant` messages",
        talk(user("Hi"), {"role": "system", "content": [use()]}),
    ),
    (
        "messages.1.content.0.type: `tool_result` blocks may only be in `user` messages",
        talk(user("Hi"), assistant([result()])),
    ),
    ("system.0.type: Input should be 'text'", {"system": [use()]}),
    ("messages.2.content.0.is_error: Input should be a valid boolean", answered(result(is_error="yes"))),
    *[
        (
            f"messages.2.content.0.content.1.type: `{kind}` blocks in tool results are not supported by this server "
            "yet",
            answered(result(content=[{"type": "text", "text": "Look:"}, {"type": kind}])),
        )
        for kind in ("image", "document", "search_result", "tool_reference", "browser_state")
    ],
    (
        "messages.2.content.0.content: Input should be a string or a list of content blocks",
        answered(result(content=5)),
    ),
    ("messages.2.content.0.content.0.text: Field required", answered(result(content=[{"type": "text"}]))),
]


def told_by(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("error", {}).get("message", "")


@pytest.mark.parametrize(
    ("message", "fields"), REFUSED, ids=[f"{text.partition(':')[0]}-{n}" for n, (text, _) in enumerate(REFUSED)]
)
def test_what_the_contract_refuses_about_tools_is_told_by_path_and_text(
    inside: InsideRunner, message: str, fields: Fields
) -> None:
    async def ask(server: Inside) -> list[httpx2.Response]:
        asked = {"model": OWN_MODEL, **fields}
        counted = await server.post(path=COUNT, **{**asked, "max_tokens": ...})
        return [await server.post(**asked), await server.post(stream=True, **asked), counted]

    for refused in inside(ask):
        assert message == assert_contract_error(refused, 400, "invalid_request_error")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "add"}])
def test_a_request_that_writes_nothing_cannot_be_forced_to_call(inside: InsideRunner, choice: Fields) -> None:
    async def ask(server: Inside) -> list[httpx2.Response]:
        fields = {"tools": [ADD], "max_tokens": 0}
        return [await server.post(tool_choice=choice, **fields), await server.post(**fields)]

    refused, taken = inside(ask)

    assert NOTHING_TO_ASK == assert_contract_error(refused, 400, "invalid_request_error")
    assert ([], "max_tokens") == (taken.json()["content"], taken.json()["stop_reason"])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/missing"}}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.com/schema"}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
        {"type": "object", "properties": {"a": {"enum": []}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "text"}}},
        {"type": "object", "required": "a"},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_by_the_path_of_its_tool(inside: InsideRunner, schema: Fields) -> None:
    async def ask(server: Inside) -> list[httpx2.Response]:
        fields = {"tools": [ADD, {"name": "other", "input_schema": schema}]}
        return [await server.post(**fields), await server.post(path=COUNT, max_tokens=..., **fields)]

    refused, counted = inside(ask)

    message = assert_contract_error(refused, 400, "invalid_request_error", "tools.1.input_schema")
    assert message == assert_contract_error(counted, 400, "invalid_request_error")


TAKEN: dict[str, Fields] = {
    "a name of 128": named("n" * 128),
    "every character of a name": named("aZ09_-"),
    "every field": {
        "tools": [
            {
                **ADD,
                "type": "custom",
                "strict": True,
                "eager_input_streaming": True,
                "input_examples": [{"a": 1, "b": 2}],
                "cache_control": {"type": "ephemeral", "ttl": "1h"},
                "allowed_callers": ["direct"],
                "defer_loading": False,
            }
        ]
    },
    "fields that say nothing": {
        "tools": [
            {
                **ADD,
                **dict.fromkeys(("type", "strict", "eager_input_streaming", "input_examples", "cache_control")),
                **dict.fromkeys(("description", "allowed_callers", "defer_loading")),
            }
        ]
    },
    "any keyword where it need not be kept": schemed(
        {"type": "object", "properties": {"a": {**INTEGER, "minimum": 1, "x-mine": True}}, "title": "T"}
    ),
    "choice": {"tools": [ADD], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "nothing to choose from": {"tools": [], "tool_choice": {"type": "none"}},
    "calls of tools that are no longer there": {**answered(result(content="3"), calls=[use("gone")]), "tools": ...},
    "a reply begun after an answer": talk(user("Hi"), assistant([use()]), user([result()]), assistant("So")),
    "two messages of answers": talk(
        user("Hi"),
        assistant([use(), use(call_id="toolu_2")]),
        user([result("toolu_2")]),
        user([result(), {"type": "text", "text": "And now?"}]),
    ),
    "two messages of calls": {
        "tools": [ADD],
        "messages": [
            user("Hi"),
            assistant([use()]),
            assistant([use(call_id="toolu_2")]),
            user([result("toolu_2"), result()]),
        ],
    },
    **{
        kind: {"tools": [{"type": kind, "name": name, "cache_control": {"type": "ephemeral"}}]}
        for kind, name in CLIENT_TOOLS
    },
    "max_characters": {
        "tools": [{"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 100}]
    },
}


@pytest.mark.parametrize("fields", TAKEN.values(), ids=TAKEN.keys())
def test_what_the_contract_takes_of_tools_is_taken_and_counted(inside: InsideRunner, fields: Fields) -> None:
    async def ask(server: Inside) -> tuple[list[tuple[int, str]], list[int]]:
        answers = [await server.post(**fields), await server.post(path=COUNT, **{**fields, "max_tokens": ...})]
        used = [prompt_tokens(answers[0].json().get("usage", {})), answers[1].json().get("input_tokens")]
        return [told_by(answer) for answer in answers], [*used, len(server.prompt)]

    answers, counts = inside(ask, scripted_reply(say=["Done."]))

    assert [(200, "")] * 2 == answers
    assert 1 == len(set(counts))


@pytest.mark.parametrize(("kind", "name"), CLIENT_TOOLS)
def test_the_model_is_told_of_a_tool_whose_schema_is_the_contracts_and_may_call_it(
    inside: InsideRunner, kind: str, name: str
) -> None:
    async def ask(server: Inside) -> tuple[str, Fields]:
        reply = (await server.post(tools=[{"type": kind, "name": name}])).json()
        return server.prompt, reply["content"][0]

    prompt, block = inside(ask, scripted_reply(say=call(name, '{"command": "view"}')))
    [line] = [line for line in prompt.split("\n") if line.startswith('{"type": "function"')]
    function = json.loads(line)["function"]

    assert (name, "object", False) == (
        function["name"],
        function["parameters"]["type"],
        function["parameters"]["additionalProperties"],
    )
    assert "command" in function["parameters"]["properties"]
    assert ("tool_use", name, {"command": "view"}) == (block["type"], block["name"], block["input"])


EXTENDED: dict[str, Fields] = {
    "minimum": {**INTEGER, "minimum": 1},
    "maxLength": {"type": "string", "maxLength": 3},
    "oneOf": {"oneOf": [INTEGER, {"type": "string"}]},
    "minItems": {"type": "array", "items": INTEGER, "minItems": 2},
}


@pytest.mark.parametrize("schema", EXTENDED.values(), ids=EXTENDED.keys())
def test_under_the_switch_strict_tools_may_say_more(inside: InsideRunner, schema: Fields) -> None:
    async def ask(server: Inside) -> int:
        return (await server.post(**strict(a=schema))).status_code

    assert [400, 200] == [inside(ask), inside(ask, tools={"schemas": "extended"})]
