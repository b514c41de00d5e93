"""Stop sequences: the match that ends first, the longest of those; no part of a match is ever released."""

from itertools import pairwise

import pytest

from sestet.turn.stops import Released, StopMatcher


def played(stops: list[str], *pieces: str) -> tuple[str, str | None]:
    """The text released for these pieces, and the match that ended it."""
    matcher = StopMatcher(stops)
    text = ""
    for piece in pieces:
        released = matcher.feed(piece)
        text += released.text
        if released.stop_sequence is not None:
            return text, released.stop_sequence
    return text + matcher.flush(), None


@pytest.mark.parametrize(
    ("stops", "text", "expected"),
    [
        ([], "abc", ("abc", None)),
        (["x"], "abc", ("abc", None)),
        (["c"], "abc", ("ab", "c")),
        (["a"], "abc", ("", "a")),
        (["abc"], "abc", ("", "abc")),
        (["abcd"], "abc", ("abc", None)),
        (["abcd", "bc"], "abcd", ("a", "bc")),
        (["bc", "abc"], "abc", ("", "abc")),
        (["abc", "bc", "c"], "abc", ("", "abc")),
        (["ab", "abc"], "abc", ("", "ab")),
        (["aab"], "aaab", ("a", "aab")),
        (["aaa"], "aa", ("aa", None)),
        (["\n\nHuman:"], "Hi.\n\nHuman: x", ("Hi.", "\n\nHuman:")),
        (["\n\nHuman:"], "Hi.\n\nHumane", ("Hi.\n\nHumane", None)),
        (["é"], "cafe\u0301 café", ("cafe\u0301 caf", "é")),
        (["\U0001f600"], "ok \U0001f601\U0001f600", ("ok \U0001f601", "\U0001f600")),
        (["END", "STOP"], "a STO b EN c STOP END", ("a STO b EN c ", "STOP")),
    ],
)
@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_the_match_is_the_same_however_the_text_is_cut(
    stops: list[str], text: str, expected: tuple[str, str | None], step: int
) -> None:
    cuts = [*range(0, len(text), step), len(text)]

    assert expected == played(stops, *(text[start:end] for start, end in pairwise(cuts)))


def test_text_is_released_as_soon_as_it_cannot_be_part_of_a_match() -> None:
    matcher = StopMatcher(["STOP", "\n\n"])
    pieces = ["Hello", " S", "T", "ART", "\n", "x", "\n", "\n"]

    assert [
        Released("Hello"),
        Released(" "),
        Released(""),
        Released("START"),
        Released(""),
        Released("\nx"),
        Released(""),
        Released("", "\n\n"),
    ] == [matcher.feed(piece) for piece in pieces]


def test_what_was_held_is_given_back_once() -> None:
    matcher = StopMatcher(["abc"])
    matcher.feed("xab")

    assert ["ab", ""] == [matcher.flush(), matcher.flush()]


def test_nothing_is_held_without_stop_sequences() -> None:
    matcher = StopMatcher([])

    assert (Released("abc"), "") == (matcher.feed("abc"), matcher.flush())
