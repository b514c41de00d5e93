"""Stop sequences against a naive reading of the whole text, however the text is cut."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sestet.turn.stops import StopMatcher
from tests.lengths import length

# Few letters, so that stop sequences overlap, contain each other and nearly match all the time.
LETTERS = st.text("ab\né", max_size=40)
STOPS = st.lists(st.text("ab\né", min_size=1, max_size=5), max_size=5)


def cut(text: str, places: Sequence[int]) -> list[str]:
    """The text in pieces, some of them empty."""
    cuts = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(cuts)]


def oracle(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """The match that ends first, the longest of those that end together; what comes before it is released."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


@settings(max_examples=length(150, 1000), deadline=None)
@given(LETTERS, STOPS, st.lists(st.integers(0, 40), max_size=10))
@example("abcd", ["abcd", "bc"], [1, 2, 3])
@example("aab", ["ab", "aab", "b"], [1])
def test_the_match_is_the_naive_one_however_the_text_is_cut(text: str, stops: list[str], places: list[int]) -> None:
    expected, match = oracle(text, stops)
    matcher = StopMatcher(stops)
    released = ""
    found: str | None = None
    for piece in cut(text, places):
        said = matcher.feed(piece)
        released += said.text
        # What was let go is text for good: never a part of the match, never more than comes before it.
        assert expected.startswith(released)
        if said.stop_sequence is not None:
            found = said.stop_sequence
            break
    else:
        released += matcher.flush()

    assert (expected, match) == (released, found)


@settings(max_examples=length(100, 500), deadline=None)
@given(LETTERS, STOPS, st.lists(st.integers(0, 40), max_size=10))
def test_no_text_is_held_that_could_not_become_a_match(text: str, stops: list[str], places: list[int]) -> None:
    matcher = StopMatcher(stops)
    released = fed = ""
    for piece in cut(text, places):
        said = matcher.feed(piece)
        if said.stop_sequence is not None:
            return
        released, fed = released + said.text, fed + piece
        held = fed[len(released) :]

        assert not held or any(stop.startswith(held) for stop in stops)
