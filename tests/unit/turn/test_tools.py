"""Calls told apart from the text around them, and how the weights are told of a tool."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sestet.catalog.card import profiles
from sestet.contract.deltas import Text, ToolCall, ToolInput
from sestet.contract.tools import ToolSyntax
from sestet.turn.tools import CallSplitter, ToolPlan, ToolSpec, described
from tests.unit.refusals import refusal
from tests.unit.thoughts import TOOLS

SYNTAXES = tuple({profile.tools.begin: profile.tools for profile in profiles()}.values())
PARIS = '{"city": "Paris"}'
by_syntax = pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.begin)


def written(text: str = PARIS, name: str = "get_weather", syntax: ToolSyntax = TOOLS) -> str:
    """A call as the family writes it."""
    return f"{syntax.begin}{syntax.before_name}{name}{syntax.before_input}{text}{syntax.after_input}"


def split(
    *pieces: str, syntax: ToolSyntax = TOOLS, names: Sequence[str] = ("get_weather", "a")
) -> list[Text | ToolCall | ToolInput]:
    """All deltas of these pieces; each counts for a token."""
    splitter = CallSplitter(syntax, ToolPlan((), "auto", tuple(names), parallel=True))
    deltas = [delta for at, piece in enumerate(pieces, 1) for delta in splitter.feed(piece, at)]
    return [*deltas, *splitter.flush(len(pieces))]


def folded(deltas: Sequence[Text | ToolCall | ToolInput]) -> list[tuple[str, str]]:
    """Neighbours of one kind put together: text, or a call's name and input."""
    found: list[tuple[str, str]] = []
    for delta in deltas:
        match delta:
            case ToolCall(name):
                found.append((name, ""))
            case ToolInput(text):
                found[-1] = (found[-1][0], found[-1][1] + text)
            case Text(text) if found and found[-1][0] == "text":
                found[-1] = ("text", found[-1][1] + text)
            case Text(text):
                found.append(("text", text))
    return found


def test_text_without_calls_is_text_at_once() -> None:
    assert [Text("a", 1), Text(" < b", 2)] == split("a", " < b")


def test_a_call_is_its_name_and_then_its_input_as_it_comes() -> None:
    assert [
        ToolCall("get_weather", 1),
        ToolInput('{"city": ', 2),
        ToolInput('"Paris"}', 3),
    ] == split('<tool_call>\n{"name": "get_weather", "arguments": ', '{"city": ', '"Paris"}', "}\n</tool_call>")


def test_text_before_a_call_is_held_only_where_it_may_be_the_marker() -> None:
    assert [
        Text("Look", 1),
        Text("<toob", 3),
        ToolCall("a", 4),
        ToolInput("{}", 4),
    ] == split("Look<", "too", "b", written("{}", "a"))


@by_syntax
def test_two_calls_have_nothing_between_them(syntax: ToolSyntax) -> None:
    text = written("{}", "a", syntax) + syntax.between + written(PARIS, "get_weather", syntax)

    for pieces in ([text], list(text), [text[:-3], text[-3:]]):
        assert [("a", "{}"), ("get_weather", PARIS)] == folded(split(*pieces, syntax=syntax))


@by_syntax
def test_a_call_counts_once_it_is_whole(syntax: ToolSyntax) -> None:
    splitter = CallSplitter(syntax, ToolPlan((), "auto", ("a",), parallel=True))
    seen = []
    for character in written("{}", "a", syntax):
        list(splitter.feed(character, 1))
        seen.append((splitter.calls, splitter.inside))

    assert [(0, False), (1, False)] == [seen[len(syntax.begin) - 2], seen[-1]]
    assert {(0, True)} == set(seen[len(syntax.begin) - 1 : -1])


HARD_INPUTS = [
    "{}",
    '{"a": {}}',
    '{"a": [[], {}, [{"b": []}]]}',
    '{"a": "}"}',
    '{"a": "]}{["}',
    '{"a": "\\""}',
    '{"a": "\\\\"}',
    '{"a": "\\\\\\"}"}',
    '{"}": 1, "{": 2}',
    '{"a": "</tool_call>"}',
    '{"a": "}\\n</tool_call>"}',
    '{"a": "<tool_call>\\n{\\"name\\": \\"a\\", \\"arguments\\": {}}"}',
    '{"n": 9007199254740993}',
    '{"n": 18446744073709551616, "m": -123456789012345678901234567890}',
    '{"a": "\U0001f600\u2028é\\ud83d\\ude00"}',
    '{"a": "\\u007d\\u0022"}',
    '{"a": true, "b": null, "c": 1.50e-3}',
    '{"[ARGS]": "[TOOL_CALLS]"}',
]


@by_syntax
@pytest.mark.parametrize("text", HARD_INPUTS)
def test_an_input_keeps_every_character(syntax: ToolSyntax, text: str) -> None:
    whole = written(text, "a", syntax)

    assert [("a", text)] == folded(split(whole, syntax=syntax)) == folded(split(*whole, syntax=syntax))


@by_syntax
@pytest.mark.parametrize("name", ["a", "A-b_0", "x" * 128, "name", "arguments"])
def test_a_name_may_be_any_of_those_there_are(syntax: ToolSyntax, name: str) -> None:
    assert [(name, "{}")] == folded(split(*written("{}", name, syntax), syntax=syntax, names=("other", name)))


@pytest.mark.parametrize(
    "text",
    [
        written(name="unknown"),
        written(name=""),
        '<tool_call>{"name": "a", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": {}]\n</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_calls>',
        "<tool_call>" + "x" * 2000,
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_call_of_another_form_is_the_engines_fault(text: str, whole: bool) -> None:
    pieces = [text] if whole else list(text)

    assert "cannot be read" in refusal(lambda: split(*pieces), "api_error").message


def test_an_input_that_is_cut_is_what_there_is_of_it() -> None:
    assert [("a", '{"b": "c')] == folded(split('<tool_call>\n{"name": "a", "arguments": {"b": "c'))


@pytest.mark.parametrize("length", range(len(TOOLS.begin), len(TOOLS.begin + TOOLS.before_name + "a")))
def test_a_call_that_is_cut_before_its_input_is_nothing(length: int) -> None:
    assert [] == split(*written("{}", "a")[:length])


def test_half_a_marker_at_the_end_of_a_text_is_text() -> None:
    assert [("text", "a <tool_c")] == folded(split("a <too", "l_c"))


@by_syntax
def test_half_a_marker_after_a_call_is_nobodys_text(syntax: ToolSyntax) -> None:
    text = written("{}", "a", syntax) + syntax.between + syntax.begin

    for length in range(len(written("{}", "a", syntax)), len(text)):
        assert [("a", "{}")] == folded(split(text[:length], syntax=syntax))


def test_no_names_means_no_calls() -> None:
    refusal(lambda: split(written(), names=()), "api_error")


def test_the_weights_are_told_of_a_tool_in_one_line() -> None:
    spec = ToolSpec("a", "does\nthis: é", {"type": "object"}, True, ({"b": 1},), "tools.0")

    assert "\n" not in described(spec)
    assert {
        "type": "function",
        "function": {
            "name": "a",
            "description": "does\nthis: é",
            "parameters": {"type": "object"},
            "examples": [{"b": 1}],
        },
    } == json.loads(described(spec))
    assert "é" in described(spec)


def test_a_tool_without_examples_says_nothing_of_them() -> None:
    assert "examples" not in described(ToolSpec("a", "", {}, False, (), "tools.0"))


def test_a_plan_knows_the_tools_that_may_be_called() -> None:
    tools = tuple(ToolSpec(name, "", {}, False, (), "") for name in "abc")

    assert ["a", "c"] == [tool.name for tool in ToolPlan(tools, "any", ("a", "c"), True).callable_tools]
    assert () == ToolPlan(tools, "none", (), False).callable_tools


@pytest.mark.parametrize(
    "changed", [{"begin": ""}, {"instruction": "no place for them"}, {"result": "no place for it"}]
)
def test_a_syntax_without_its_places_is_a_mistake_of_ours(changed: dict[str, str]) -> None:
    with pytest.raises(AssertionError):
        replace(TOOLS, **changed)
