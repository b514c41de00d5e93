"""Grammars of calls and values, as the compiler itself understands them: right texts taken, wrong ones not."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from sestet.catalog.card import profiles
from sestet.contract.tools import ToolSyntax
from sestet.turn.grammar import of_calls, of_input, of_schema, of_text
from sestet.turn.tools import ToolPlan, ToolSpec
from tests.unit.refusals import refusal
from tests.unit.thoughts import TOOLS

SYNTAXES = tuple({profile.tools.begin: profile.tools for profile in profiles()}.values())
BYTES = LLTokenizer("byte")
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
COUNT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
by_syntax = pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.begin)


def spec(name: str = "a", schema: Mapping[str, Any] = CITY, *, strict: bool = True) -> ToolSpec:
    return ToolSpec(name, "", schema, strict, (), "tools.0")


def plan(*tools: ToolSpec, choice: Any = "auto", parallel: bool = True, names: tuple[str, ...] = ()) -> ToolPlan:
    return ToolPlan(tools, choice, names or tuple(tool.name for tool in tools), parallel)


def written(name: str = "a", text: str = '{"city": "P"}', syntax: ToolSyntax = TOOLS) -> str:
    return f"{syntax.begin}{syntax.before_name}{name}{syntax.before_input}{text}{syntax.after_input}"


def takes(grammar: str, text: str) -> bool:
    """Whether the compiled grammar takes these bytes, and may end there."""
    assert "" == LLMatcher.validate_grammar(grammar)
    matcher = LLMatcher(BYTES, grammar)
    tokens = list(text.encode())
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def check(grammar: str, taken: list[str], refused: list[str]) -> None:
    assert (taken, []) == ([text for text in taken if takes(grammar, text)], [t for t in refused if takes(grammar, t)])


@by_syntax
def test_auto_takes_text_calls_and_text_before_calls(syntax: ToolSyntax) -> None:
    call = written(syntax=syntax)
    two = call + syntax.between + call
    check(
        of_calls(plan(spec()), syntax, None),
        ["", "hi", "é\U0001f600\n", call, f"Let me look.\n{call}", two, f"\n\n{two}", syntax.begin[:-1]],
        [
            syntax.begin,
            f"a {syntax.begin} b",
            f"{call} and so",
            call[:-1],
            f"{call}{syntax.between}{syntax.begin}",
            f"{call}{syntax.between}so {call}",
            written("b", syntax=syntax),
            written("", syntax=syntax),
            written(text="{}", syntax=syntax),
            written(text='{"city": 5}', syntax=syntax),
            written(text='{"city": "P", "more": 1}', syntax=syntax),
            written(text='"P"', syntax=syntax),
            written(text="", syntax=syntax),
        ],
    )


@by_syntax
def test_any_takes_calls_alone(syntax: ToolSyntax) -> None:
    call = written(syntax=syntax)
    other = written("b", '{"n": 12345678901234567890}', syntax)
    check(
        of_calls(plan(spec(), spec("b", COUNT), choice="any"), syntax, None),
        [call, other, call + syntax.between + other, syntax.between.join([other, call, call])],
        ["", "hi", f"hi {call}", f"\n{call}", f"{call}\n\n", written("c", syntax=syntax), written("b", syntax=syntax)],
    )


@by_syntax
def test_a_chosen_tool_is_the_only_one(syntax: ToolSyntax) -> None:
    call = written("b", '{"n": 1}', syntax)
    check(
        of_calls(plan(spec(), spec("b", COUNT), choice="any", names=("b",)), syntax, None),
        [call, call + syntax.between + call],
        ["", "hi", written(syntax=syntax), call + syntax.between + written(syntax=syntax)],
    )


@by_syntax
@pytest.mark.parametrize("choice", ["auto", "any"])
def test_without_parallel_calls_there_is_one(syntax: ToolSyntax, choice: str) -> None:
    call = written(syntax=syntax)

    check(of_calls(plan(spec(), choice=choice, parallel=False), syntax, None), [call], [call + syntax.between + call])


@by_syntax
def test_who_may_call_nothing_spells_no_call(syntax: ToolSyntax) -> None:
    check(of_text(syntax), ["", "hi", "{}", syntax.begin[:-1], syntax.begin[1:]], [syntax.begin, f"a{syntax.begin}b"])


def test_calls_that_begin_as_json_does_cannot_stand_beside_a_schema() -> None:
    (llama3,) = [syntax for syntax in SYNTAXES if syntax.begin.startswith("{")]
    error = refusal(lambda: of_calls(plan(spec()), llama3, COUNT))

    assert "output_config.format" == error.param


@pytest.mark.parametrize("syntax", [one for one in SYNTAXES if one.begin[0] != "{"], ids=lambda syntax: syntax.begin)
def test_with_a_schema_there_is_a_value_or_calls(syntax: ToolSyntax) -> None:
    call = written(syntax=syntax)
    check(
        of_calls(plan(spec()), syntax, COUNT),
        ['{"n": 1}', '{"n": -9007199254740993}', call, call + syntax.between + call],
        ["", "hi", "{}", '{"n": "1"}', f'{{"n": 1}}{call}', f"hi {call}", '{"n": 1} ', ' {"n": 1}', syntax.begin],
    )


@by_syntax
def test_with_a_schema_and_a_forced_call_there_are_calls(syntax: ToolSyntax) -> None:
    call = written(syntax=syntax)

    check(of_calls(plan(spec(), choice="any"), syntax, COUNT), [call], ['{"n": 1}', "", f"hi{call}"])


@pytest.mark.parametrize(
    "begin", ["<tool_call>", '"', "\\", '\\"x\\"', "a.b*", "(/", "</x/", "\n\t", "é", "\U0001f600", "[["]
)
@pytest.mark.parametrize("choice", ["auto", "any"])
def test_a_marker_of_any_characters_is_itself_and_no_pattern(begin: str, choice: str) -> None:
    syntax = replace(TOOLS, begin=begin, before_name=begin, before_input=f"{begin}:", after_input=begin)
    call = written(syntax=syntax)
    check(of_calls(plan(spec(), choice=choice), syntax, None), [call], [call[1:] + "!", f"{begin}x", call + "x"])


def test_every_control_token_of_a_marker_is_that_token() -> None:
    syntax = replace(TOOLS, begin="<call>", before_name="<name>", before_input="<args>", after_input="</call>")
    control = {"<call>": 1, "<args>": 2, "</call>": 3}
    grammar = of_calls(plan(spec(), choice="any"), syntax, None, control)
    matcher = LLMatcher(BYTES, grammar)
    tokens = [1, *b"<name>a", 2, *b'{"city": "P"}', 3]

    assert (len(tokens), True) == (matcher.try_consume_tokens(tokens), matcher.is_accepting())
    assert not takes(grammar, written(syntax=syntax))


def test_a_control_token_may_follow_text() -> None:
    syntax = replace(TOOLS, begin="<call>", before_name="", before_input="<args>", after_input="")
    grammar = of_calls(plan(spec()), syntax, None, {"<call>": 1, "<args>": 2})
    matcher = LLMatcher(BYTES, grammar)
    tokens = [*b"Look: <call> ", 1, *b"a", 2, *b'{"city": "P"}']

    assert (len(tokens), True) == (matcher.try_consume_tokens(tokens), matcher.is_accepting())


def test_a_hundred_tools_have_a_grammar() -> None:
    tools = [spec(f"tool_{number}", CITY if number % 2 else COUNT) for number in range(100)]
    grammar = of_calls(plan(*tools), TOOLS, None)

    check(
        grammar,
        [written("tool_99"), written("tool_0", '{"n": 1}'), "hi"],
        [written("tool_100"), written("tool_0"), written("tool_")],
    )


def test_a_name_that_begins_another_is_told_from_it() -> None:
    grammar = of_calls(plan(spec("get"), spec("get_weather", COUNT)), TOOLS, None)

    check(grammar, [written("get"), written("get_weather", '{"n": 1}')], [written("get", '{"n": 1}'), written("get_")])


@pytest.mark.parametrize(
    ("schema", "taken", "refused"),
    [
        ({"type": "object"}, ["{}", '{"x": 1, "y": [null, {"z": "a"}]}'], ["", "[]", "null", "{", '{"x" : 1}']),
        (
            {"type": "object", "properties": {"n": {"type": "integer"}}},
            ["{}", '{"n": 1}', '{"n": 1, "x": "y"}', '{"x": 1}'],
            ['{"n": "1"}', '{"n": 1,"x": 2}', '{"n": 1 }'],
        ),
        (
            {"type": "object", "properties": {"n": {"type": "string"}}, "uniqueItems": True, "if": {}},
            ["{}", '{"n": "a"}'],
            ['{"n": 1}'],
        ),
        (
            {
                "type": "object",
                "properties": {"c": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
                "additionalProperties": False,
            },
            ["{}", '{"c": null}', '{"c": {"c": {}}}'],
            ['{"c": 1}', '{"d": null}'],
        ),
        ({"type": "object", "properties": {"n": {"minimum": 3, "type": "integer"}}}, ['{"n": 3}'], ['{"n": 2}']),
    ],
)
def test_an_input_of_a_tool_that_is_not_strict_is_an_object_and_what_more_can_be_kept(
    schema: dict[str, Any], taken: list[str], refused: list[str]
) -> None:
    check(of_input(spec(schema=schema, strict=False)), taken, refused)


@pytest.mark.parametrize(
    ("schema", "taken", "refused"),
    [
        (CITY, ['{"city": "P"}', '{"city": ""}'], ["{}", '{"city":"P"}', '{ "city": "P"}', '{"city": "P"}\n']),
        ({"type": "string"}, ['"é\\n\U0001f600"', '""'], ['"', '"\n"', "'a'", '"\\x"', '"\\ud8"']),
        ({"type": "integer"}, ["0", "-5", "123456789012345678901234567890"], ["1.5", "01", "+1", "1e5", "-"]),
        ({"type": "number"}, ["0", "-5.25", "1e5", "2.5E-3"], [".5", "5.", "NaN", "Infinity", "0x1"]),
        ({"enum": ["a", 1, None, {"b": [1, 2]}]}, ['"a"', "1", "null", '{"b": [1, 2]}'], ['"b"', "2", '{"b": [1,2]}']),
        ({"const": 'é"\\/'}, [json.dumps('é"\\/', ensure_ascii=False)], ['"é"', "é"]),
        ({"type": "array", "items": {"type": "null"}}, ["[]", "[null]", "[null, null]"], ["[null,null]", "[1]", "[ ]"]),
    ],
)
def test_a_value_has_one_spelling_of_white_space(schema: dict[str, Any], taken: list[str], refused: list[str]) -> None:
    check(of_schema(schema), taken, refused)


def test_half_a_character_is_no_text() -> None:
    """A client could not send it back."""
    check(of_schema({"type": "string"}), ['"\U0001f600"'], ['"\\ud83d"', '"\\ude00"', '"\\ude00\\ud83d"'])


def test_a_clients_own_guidance_has_no_effect() -> None:
    loose = {**CITY, "x-guidance": {"whitespace_flexible": True}}

    check(of_input(spec(schema=loose, strict=False)), ['{"city": "P"}'], ['{ "city": "P" }', '{"city":\n"P"}'])


def test_a_schema_cannot_end_its_line_of_the_grammar() -> None:
    hostile = {"enum": ["a\nstart: /.*/", '"}\nstart: "x"', "\u2028"]}

    check(of_schema(hostile), [json.dumps(hostile["enum"][0]), '"\u2028"'], ["x", "anything"])


@pytest.mark.parametrize(
    ("pattern", "taken", "refused"),
    [
        (r"^\S$", ['"x"'], ['" "', '"\ufeff"']),
        (r"^\s$", ['" "', '"\ufeff"'], ['"x"']),
        (r"^[\s-]$", ['" "', '"\ufeff"', '"-"'], ['"x"']),
        (r"^[^\s]$", ['"x"'], ['" "', '"\ufeff"']),
        (r"^\\s$", ['"\\\\s"'], ['" "']),
    ],
)
def test_white_space_of_a_pattern_is_that_of_json_schema(pattern: str, taken: list[str], refused: list[str]) -> None:
    check(of_schema({"type": "string", "pattern": pattern}), taken, refused)
