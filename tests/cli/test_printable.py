"""Text of others on its way to a terminal."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from sestet.cli.printable import one_line, printable


def test_control_characters_are_shown_instead_of_sent() -> None:
    assert "a\tb\nc ␛[2J ␀ ␇ ␡ \\x9b \\u202e \\u2066 �" == printable(
        "a\tb\r\nc \x1b[2J \x00 \x07 \x7f \x9b \u202e \u2066 \ud800"
    )


def test_text_stays_as_it_is() -> None:
    text = "Grüße, שלום, नमस्ते, 👩‍👩‍👧, e\u0301, \u200f\u00a0"

    assert text == printable(text)


def test_a_line_is_one_line_of_bearable_length() -> None:
    assert "a b c" == one_line(" a\n\nb\t c\r\n")
    assert 303 == len(one_line("x" * 10_000))


@given(st.text(alphabet=st.characters()))
def test_nothing_that_controls_comes_through(text: str) -> None:
    categories = {unicodedata.category(character) for character in printable(text) if character not in "\t\n"}

    assert set() == categories & {"Cc", "Cs"}
    printable(text).encode("utf-8")
