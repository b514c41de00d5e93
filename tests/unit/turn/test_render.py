"""The one renderer, and what fits after a prompt."""

import pytest

from sestet.turn.render import fit, render
from sestet.turn.validate import Turn, ValidPrompt
from tests.unit.refusals import refusal
from tests.unit.thoughts import STYLE
from tests.unit.turn.families import CHATML, FAMILIES, GEMMA, MISTRAL, Family
from tests.unit.turn.test_template import compiled

HELLO = Turn("user", "hello")
LATE_SYSTEM = (HELLO, Turn("system", "answer in French"))


def prompt(*turns: Turn, system: str | None = None, prefill: bool = False) -> ValidPrompt:
    return ValidPrompt(system, turns, prefill)


def test_the_system_prompt_comes_first() -> None:
    pieces = render(prompt(HELLO, system="be brief"), CHATML.compiled(), STYLE)

    assert (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n",
    ) == pieces


def test_a_late_system_message_keeps_its_role_where_the_family_has_it() -> None:
    assert (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>system\nanswer in French<|im_end|>\n<|im_start|>assistant\n",
    ) == render(prompt(*LATE_SYSTEM), CHATML.compiled(), STYLE)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_late_system_message_reaches_every_family(family: Family) -> None:
    text = "".join(render(prompt(*LATE_SYSTEM), family.compiled(), STYLE))

    assert ["hello", "answer in French"] == [part for part in ("hello", "answer in French") if part in text]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_system_prompt_reaches_every_family(family: Family) -> None:
    text = "".join(render(prompt(HELLO, system="be brief"), family.compiled(), STYLE))

    assert ["be brief", "hello"] == [part for part in ("be brief", "hello") if part in text]


@pytest.mark.parametrize("family", [MISTRAL, GEMMA], ids=lambda family: family.name)
def test_a_reply_after_a_late_system_message_is_rendered(family: Family) -> None:
    turns = (*LATE_SYSTEM, Turn("assistant", "bonjour"), Turn("user", "merci"))
    text = "".join(render(prompt(*turns), family.compiled(), STYLE))

    assert text.index("answer in French") < text.index("bonjour") < text.index("merci")


def test_a_prefill_is_continued() -> None:
    pieces = render(prompt(HELLO, Turn("assistant", "The answer is"), prefill=True), CHATML.compiled(), STYLE)

    assert ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nThe answer is",) == pieces


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
