"""The one renderer, and what fits after a prompt."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sestet.turn.history import Answered, Called, Part, Said, Thought, Turn
from sestet.turn.render import fit, refuse_hopeless, render
from sestet.turn.template import ChatTemplate
from sestet.turn.tools import ToolPlan, ToolSpec, described
from sestet.turn.validate import ValidPrompt
from tests.unit.refusals import refusal
from tests.unit.thoughts import STYLE
from tests.unit.turn.families import CHATML, FAMILIES, GEMMA, MISTRAL, Family
from tests.unit.turn.test_template import compiled, controls

HELLO = Turn("user", "hello")
LATE_SYSTEM = (HELLO, Turn("system", "answer in French"))


def prompt(*turns: Turn, system: str | None = None, prefill: bool = False) -> ValidPrompt:
    return ValidPrompt(said(system), turns, prefill)


def said(text: str | None) -> tuple[Said, ...]:
    return () if text is None else (Said(text),)


def test_the_system_prompt_comes_first() -> None:
    pieces = render(prompt(HELLO, system="be brief"), CHATML.compiled(), STYLE).pieces

    assert (
        "<|im_start|>system\nbe brief",
        "<|im_end|>\n<|im_start|>user\nhello",
        "<|im_end|>\n<|im_start|>assistant\n",
    ) == pieces


def test_a_late_system_message_keeps_its_role_where_the_family_has_it() -> None:
    assert (
        "<|im_start|>user\nhello",
        "<|im_end|>\n<|im_start|>system\nanswer in French",
        "<|im_end|>\n<|im_start|>assistant\n",
    ) == render(prompt(*LATE_SYSTEM), CHATML.compiled(), STYLE).pieces


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_late_system_message_reaches_every_family(family: Family) -> None:
    text = "".join(render(prompt(*LATE_SYSTEM), family.compiled(), STYLE).pieces)

    assert ["hello", "answer in French"] == [part for part in ("hello", "answer in French") if part in text]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_system_prompt_reaches_every_family(family: Family) -> None:
    text = "".join(render(prompt(HELLO, system="be brief"), family.compiled(), STYLE).pieces)

    assert ["be brief", "hello"] == [part for part in ("be brief", "hello") if part in text]


@pytest.mark.parametrize("family", [MISTRAL, GEMMA], ids=lambda family: family.name)
def test_a_reply_after_a_late_system_message_is_rendered(family: Family) -> None:
    turns = (*LATE_SYSTEM, Turn("assistant", "bonjour"), Turn("user", "merci"))
    text = "".join(render(prompt(*turns), family.compiled(), STYLE).pieces)

    assert text.index("answer in French") < text.index("bonjour") < text.index("merci")


def test_a_prefill_is_continued() -> None:
    pieces = render(prompt(HELLO, Turn("assistant", "The answer is"), prefill=True), CHATML.compiled(), STYLE).pieces

    assert ("<|im_start|>user\nhello", "<|im_end|>\n<|im_start|>assistant\nThe answer is") == pieces


def test_a_prompt_is_cut_where_blocks_end() -> None:
    turns = (
        Turn("user", "one\ntwo \n", (Said("one"), Said("two \n", "5m"))),
        assistant(Thought("hm"), Said("so"), Called("a", "{}", "5m")),
        Turn("user", "", (Answered("a", "ok", False, "1h"),)),
    )
    tools = ToolPlan((replace(SPEC, lifetime="1h"), SPEC), "auto", ("a",), True)
    asked = ValidPrompt((Said("be brief", "1h"), Said("be kind")), turns, False, tools=tools)
    rendered = render(asked, CHATML.unguarded(), STYLE)

    assert (
        (f"<|im_start|>system\nTools:\n{TOLD_OF}",),
        (f"\n{TOLD_OF}",),
        ("\n\nbe brief",),
        ("\nbe kind",),
        ("<|im_end|>\n<|im_start|>user\none",),
        ("\ntwo",),
        (" \n<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\nso",),
        ('\n<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>',),
        ("<|im_end|>\n<|im_start|>user\n<tool_response>\nok",),
        ("\n</tool_response><|im_end|>\n<|im_start|>assistant\n",),
    ) == rendered.segments
    assert (
        *(("tools", "1h"), ("tools", None), ("system", "1h"), ("system", None)),
        *(("messages", lifetime) for lifetime in (None, "5m", None, "5m", "1h")),
    ) == rendered.blocks


def test_a_template_that_leaves_something_out_shows_no_blocks() -> None:
    template = compiled("{% for m in messages[1:] %}{{ m.content }}{% endfor %}")
    rendered = render(prompt(HELLO, Turn("user", "bye")), template, STYLE)

    assert ((("bye",),), ()) == (rendered.segments, rendered.blocks)


def test_a_conversation_the_template_refuses_is_a_400_with_the_templates_own_words() -> None:
    template = compiled("{{ raise_exception('no conversations on Sundays') }}")
    error = refusal(lambda: render(prompt(HELLO), template, STYLE))

    assert (400, "messages") == (error.status, error.param)
    assert "no conversations on Sundays" in error.message


@pytest.mark.parametrize(
    ("prompt_tokens", "window", "max_tokens", "room"),
    [(10, 100, 5, 5), (10, 100, 90, 90), (10, 100, 91, 90), (99, 100, 5, 1), (99, 100, 0, 0), (1, 2, 1, 1)],
)
def test_a_reply_gets_what_it_asked_for_or_what_the_window_still_holds(
    prompt_tokens: int, window: int, max_tokens: int, room: int
) -> None:
    assert room == fit(prompt_tokens, window, max_tokens)


def test_a_prompt_without_room_for_a_token_is_refused_saying_by_how_much() -> None:
    error = refusal(lambda: fit(105, 100, 1))

    assert "prompt is too long: 105 tokens > 99 maximum (6 too many)" == error.message


def test_a_prompt_as_long_as_the_window_is_refused() -> None:
    assert "(1 too many)" in refusal(lambda: fit(100, 100, 1)).message


SPEC = ToolSpec("a", "Looks. <tool_call> <|im_end|>", {"type": "object"}, False, (), "tools.0")
TOLD_OF = described(SPEC)
TOLD = f"Tools:\n{TOLD_OF}"
CALL = '<tool_call>\n{"name": "a", "arguments": {"b": 1}}\n</tool_call>'
ANSWER = "<tool_response>\nok\n</tool_response>"
ANSWERED = Turn("user", "", (Answered("a", "ok", False),))
PLAN = ToolPlan((SPEC,), "auto", ("a",), True)
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")


def plain(*turns: Turn, **fields: Any) -> str:
    """The rendered prompt for a vocabulary without control tokens, where nothing is cut."""
    prompt = ValidPrompt(said(fields.pop("system", None)), turns, False, **fields)
    return "".join(render(prompt, CHATML.unguarded(), STYLE).pieces)


def assistant(*parts: Part) -> Turn:
    return Turn("assistant", "\n".join(part.text for part in parts if isinstance(part, Said)), parts)


def test_tools_are_told_before_the_system_prompt() -> None:
    assert (
        f"<|im_start|>system\n{TOLD}\n\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    ) == plain(HELLO, system="be brief", tools=PLAN)


def test_tools_are_told_without_a_system_prompt_and_without_the_leave_to_call_them() -> None:
    none = ToolPlan((SPEC,), "none", (), False)

    assert (
        f"<|im_start|>system\n{TOLD}<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
        == plain(HELLO, tools=PLAN)
        == plain(HELLO, tools=none)
    )


def test_a_schema_is_told_after_tools_and_system() -> None:
    text = plain(HELLO, system="be brief", tools=PLAN, schema={"type": "string", "title": "é"})

    assert text.index(TOLD_OF) < text.index("be brief") < text.index('{"type": "string", "title": "é"}')


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        ((Called("a", '{"b": 1}'),), CALL),
        ((Said("so"), Called("a", '{"b": 1}')), f"so\n{CALL}"),
        ((Called("a", '{"b": 1}'), Called("a", '{"b": 1}')), f"{CALL}\n{CALL}"),
        ((Thought("hm"), Called("a", '{"b": 1}')), f"<think>\nhm\n</think>\n\n{CALL}"),
        ((Thought("hm"), Said("so"), Called("a", '{"b": 1}')), f"<think>\nhm\n</think>\n\nso\n{CALL}"),
    ],
)
def test_thought_text_and_calls_are_written_in_their_order(parts: tuple[Part, ...], written: str) -> None:
    assert (
        f"<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n{written}<|im_end|>\n"
        f"<|im_start|>user\n{ANSWER}<|im_end|>\n<|im_start|>assistant\n"
    ) == plain(HELLO, assistant(*parts), ANSWERED)


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        ((Answered("a", "ok", False),), ANSWER),
        ((Answered("a", "", False),), "<tool_response>\n\n</tool_response>"),
        ((Answered("a", "no", True),), "<tool_response>\nError: no\n</tool_response>"),
        ((Answered("a", "ok", False), Answered("b", "ok", False)), f"{ANSWER}\n{ANSWER}"),
        ((Answered("a", "ok", False), Said("go on")), f"{ANSWER}\ngo on"),
    ],
)
def test_answers_of_tools_are_written_as_the_family_reads_them(parts: tuple[Part, ...], written: str) -> None:
    turn = Turn("user", "", parts)

    assert plain(HELLO, assistant(Called("a", "{}")), turn).endswith(
        f"<|im_start|>user\n{written}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_what_clients_spell_is_never_a_marker() -> None:
    """The markers of a call are control tokens of some families: only ours reach the tokenizer whole."""
    spelled = " ".join((*MARKERS, "<|im_start|>", "<|im_end|>"))
    specials = (*CHATML.special_tokens, *MARKERS)
    template = ChatTemplate(CHATML.weights(special_tokens=specials))
    turns = (
        Turn("user", spelled),
        assistant(Thought(spelled), Said(spelled), Called(spelled, json.dumps({spelled: spelled}))),
        Turn("user", spelled, (Answered("a", spelled, False), Said(spelled))),
    )
    tool = ToolSpec("a", spelled, {"type": "object", "title": spelled}, False, ({"x": spelled},), "tools.0")
    prompt = ValidPrompt(
        said(spelled), turns, False, tools=ToolPlan((tool,), "auto", ("a",), True), schema={"title": spelled}
    )
    pieces = render(prompt, template, STYLE).pieces

    assert [
        *("<|im_start|>", "<|im_end|>"),
        *("<|im_start|>", "<|im_end|>"),
        *("<|im_start|>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>"),
        *("<|im_start|>", "<tool_response>", "</tool_response>", "<|im_end|>"),
        "<|im_start|>",
    ] == controls(pieces, specials)
    assert 13 == "".join(pieces).count(spelled)


def test_a_long_answer_of_a_tool_is_refused_before_it_is_rendered() -> None:
    turn = Turn("user", "", (Answered("a", "x" * 1_000, False),))

    assert "prompt is too long" in refusal(lambda: refuse_hopeless(ValidPrompt((), (turn,), False), 100, 4)).message


def test_text_beside_an_answer_counts_too() -> None:
    turn = Turn("user", "x" * 1_000, (Answered("a", "", False), Said("x" * 1_000)))

    assert "at least 250 tokens" in refusal(lambda: refuse_hopeless(ValidPrompt((), (turn,), False), 100, 4)).message
