"""Telling thoughts from answers in any cutting, how long a thought may be, and what a template leaves to be written."""

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import pytest

from sestet.contract.deltas import Text, Thinking, Weights
from sestet.contract.requests import Effort
from sestet.contract.thinking import ThinkingTags
from sestet.turn.template import ChatTemplate
from sestet.turn.thinking import EFFORT_BUDGET, ThinkingStyle, ThoughtSplitter, budget_within, effort_budget
from tests.unit.thoughts import TAGS

CHANNELS = ThinkingTags(
    open="<|channel|>analysis<|message|>",
    close="<|end|><|start|>assistant<|channel|>final<|message|>",
    closing="<|end|><|start|>assistant<|channel|>final<|message|>",
)

Parts = list[tuple[type[Thinking] | type[Text], str]]


def cuttings(text: str) -> Iterator[list[str]]:
    """The text whole, in steps of every size, and cut in two at every place."""
    for step in range(1, len(text) + 1):
        cuts = [*range(0, len(text), step), len(text)]
        yield [text[start:end] for start, end in pairwise(cuts)]
    for place in range(len(text) + 1):
        yield [text[:place], "", text[place:]]


def told(pieces: Sequence[str], tags: ThinkingTags = TAGS) -> Parts:
    """What a splitter makes of these pieces, neighbours of a kind put together."""
    splitter = ThoughtSplitter(tags)
    parts: Parts = []
    found = [part for drawn, piece in enumerate(pieces, start=1) for part in splitter.feed(piece, drawn)]
    for part in [*found, *splitter.flush(len(pieces))]:
        if part.text and parts and parts[-1][0] is type(part):
            parts[-1] = (type(part), parts[-1][1] + part.text)
        elif part.text:
            parts.append((type(part), part.text))
    return parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("hm", [(Thinking, "hm")]),
        ("hm</think>yes", [(Thinking, "hm"), (Text, "yes")]),
        ("\n hm \n</think>\n\n yes \n", [(Thinking, "hm"), (Text, "yes \n")]),
        ("</think>yes", [(Text, "yes")]),
        ("\n\n</think>\n\nyes", [(Text, "yes")]),
        ("hm</think>", [(Thinking, "hm")]),
        ("hm</think>\n\n", [(Thinking, "hm")]),
        ("a\n\nb </think> c\n\nd", [(Thinking, "a\n\nb"), (Text, "c\n\nd")]),
        ("a < b </ c </think", [(Thinking, "a < b </ c </think")]),
        ("a </thin </think>b", [(Thinking, "a </thin"), (Text, "b")]),
        ("a<</think>>b", [(Thinking, "a<"), (Text, ">b")]),
        ("a</</think>b", [(Thinking, "a</"), (Text, "b")]),
        ("a</think</think>b", [(Thinking, "a</think"), (Text, "b")]),
        ("a<think>b</think>c", [(Thinking, "a<think>b"), (Text, "c")]),
        ("a</think>b</think>c", [(Thinking, "a"), (Text, "b</think>c")]),
        ("a</think>b<think>\nc</think>\nd", [(Thinking, "a"), (Text, "b"), (Thinking, "c"), (Text, "d")]),
        ("a</think> <think>c</think>d", [(Thinking, "ac"), (Text, "d")]),
        ("a</think>b<think></think>d", [(Thinking, "a"), (Text, "bd")]),
        ("a</think>b<think>c", [(Thinking, "a"), (Text, "b"), (Thinking, "c")]),
        ("a</think>b<thin", [(Thinking, "a"), (Text, "b<thin")]),
        ("</THINK>a< /think></think >", [(Thinking, "</THINK>a< /think></think >")]),
        ("\U0001f389\u200d</think>\U0001f680", [(Thinking, "\U0001f389\u200d"), (Text, "\U0001f680")]),
        ("\u3000a\u2028\x1c</think>\u00a0b", [(Thinking, "a"), (Text, "b")]),
    ],
)
def test_thought_and_answer_are_the_same_however_the_text_is_cut(text: str, parts: Parts) -> None:
    assert [] == [pieces for pieces in cuttings(text) if parts != told(pieces)]


def test_a_tag_of_several_control_tokens_is_one_tag() -> None:
    text = f"hm <|end|>?{CHANNELS.close}yes <|end|>{CHANNELS.open}again{CHANNELS.close}no"
    parts: Parts = [(Thinking, "hm <|end|>?"), (Text, "yes <|end|>"), (Thinking, "again"), (Text, "no")]

    assert [] == [pieces for pieces in cuttings(text) if parts != told(pieces, CHANNELS)]


def test_text_is_let_go_as_soon_as_it_cannot_be_part_of_a_tag() -> None:
    splitter = ThoughtSplitter(TAGS)
    pieces = ["\n", "Hm", " ", "so </", "thin", "g", " </th", "ink>", "\n", "Yes", " <", "b", " "]

    assert [
        [],
        [Thinking("Hm", 2)],
        [],
        [Thinking(" so", 4)],
        [],
        [Thinking(" </thing", 6)],
        [],
        [Thinking("", 8)],
        [],
        [Text("Yes", 10)],
        [Text(" ", 11)],
        [Text("<b", 12)],
        [Text(" ", 13)],
    ] == [list(splitter.feed(piece, drawn)) for drawn, piece in enumerate(pieces, start=1)]


def test_the_tokens_of_the_tag_are_thinking_and_those_after_it_are_not() -> None:
    splitter = ThoughtSplitter(TAGS)
    parts = [
        part for drawn, piece in enumerate(["a", "</", "think", ">b", "c"], 1) for part in splitter.feed(piece, drawn)
    ]

    assert [Thinking("a", 1), Thinking("", 4), Text("b", 4), Text("c", 5)] == parts


@pytest.mark.parametrize(
    ("said", "inside", "closing"),
    [
        ("", True, "\n</think>\n\n"),
        ("hm", True, "\n</think>\n\n"),
        ("hm\n", True, "\n</think>\n\n"),
        ("hm <", True, "/think>\n\n"),
        ("hm </thin", True, "k>\n\n"),
        ("hm </think", True, ">\n\n"),
        ("hm </think ", True, "\n</think>\n\n"),
        ("hm </think</", True, "think>\n\n"),
        ("a</think>b<think>c</t", True, "hink>\n\n"),
        ("a</think>b", False, None),
    ],
)
def test_what_is_missing_to_end_a_thought(said: str, inside: bool, closing: str | None) -> None:
    splitter = ThoughtSplitter(TAGS)
    list(splitter.feed(said, 1))

    assert inside is splitter.inside
    assert closing in (None, splitter.closing)


@pytest.mark.parametrize("begun", [CHANNELS.close[:size] for size in range(len(CHANNELS.close))])
def test_what_was_said_and_what_is_missing_make_the_whole_tag(begun: str) -> None:
    for tags in (CHANNELS, TAGS):
        said = "hm" + tags.close[: len(begun) % len(tags.close)]
        splitter = ThoughtSplitter(tags)
        list(splitter.feed(said, 1))

        assert f"hm{tags.closing.lstrip()}" == (said + splitter.closing).replace("hm\n", "hm")


def test_after_a_thought_was_closed_tags_are_text() -> None:
    splitter = ThoughtSplitter(TAGS)
    parts = [*splitter.feed("hm </th", 1), *splitter.answer_only(1)]
    parts += splitter.feed("\n yes <think>no</think>", 2)

    assert [Thinking("hm", 1), Thinking("", 1), Text("yes <think>no</think>", 2)] == parts
    assert [] == list(splitter.flush(2))


def test_an_answer_that_goes_on_keeps_what_was_held() -> None:
    splitter = ThoughtSplitter(TAGS)
    parts = [*splitter.feed("a</think>b <thi", 1), *splitter.answer_only(1), *splitter.feed("ef", 2)]

    assert [Thinking("a", 1), Thinking("", 1), Text("b ", 1), Text("<thi", 1), Text("ef", 2)] == parts


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 5, 10, 1_025, 2_000, 64_000, 128_000])
@pytest.mark.parametrize("effort", ["low", "medium", "high", "xhigh", "max", None])
def test_an_effort_is_a_budget_that_leaves_a_quarter_for_the_answer(effort: Effort | None, max_tokens: int) -> None:
    budget = effort_budget(effort, max_tokens)

    assert 1 <= budget <= EFFORT_BUDGET[effort or "high"]
    assert 1 == budget or budget <= max_tokens - max_tokens // 4
    assert budget == effort_budget(effort, max_tokens)


def test_more_effort_is_never_less_budget() -> None:
    efforts: list[Effort] = ["low", "medium", "high", "xhigh", "max"]
    table = [[effort_budget(effort, max_tokens) for effort in efforts] for max_tokens in range(1, 200_000, 997)]

    assert [] == [row for row in table if sorted(row) != row]
    assert [1_024, 4_096, 16_384, 32_768, 96_000] == [effort_budget(effort, 128_000) for effort in efforts]


@pytest.mark.parametrize(
    ("room", "max_tokens", "budget", "expected"),
    [
        (2_000, 2_000, 1_024, 1_024),
        (2_000, 2_000, 1_999, 1_999),
        (9_999, 2_000, 1_999, 1_999),
        (1_000, 2_000, 1_024, 512),
        (1, 2_000, 1_024, 0),
        (1, 2_000, 1_999, 0),
        (2, 2_000, 1_999, 1),
        (2_000, 2_000, 2_000, 1_500),
        (2_000, 2_000, 100_000, 1_500),
        (1_000, 2_000, 100_000, 750),
        (1, 1, 1_024, 0),
        (2, 2, 1_024, 1),
    ],
)
def test_a_thought_takes_its_part_of_the_room(room: int, max_tokens: int, budget: int, expected: int) -> None:
    assert expected == budget_within(room, max_tokens, budget)


def test_no_room_is_used_up_by_the_thought() -> None:
    sizes = (1, 2, 3, 4, 5, 7, 100, 1_023, 1_024, 1_025, 8_191, 128_000)
    starved = [
        (room, max_tokens, budget)
        for room, max_tokens, budget in product(sizes, sizes, (1, *sizes))
        if not 0 <= budget_within(room, max_tokens, budget) < min(room, max_tokens)
        or budget_within(room, max_tokens, budget) > budget
    ]

    assert [] == starved


def style(template: str, tags: ThinkingTags) -> tuple[str, str]:
    """What is appended where a thought is to come, and where none is."""
    found = ThinkingStyle.found(tags, ChatTemplate(Weights(64, "{{ messages[0].content }}" + template, "", "", ())))
    return found.opening, found.skipping


ELICITED = ThinkingTags(TAGS.open, TAGS.close, TAGS.closing, instruction="Think first.")
UNTOLD = ThinkingTags(TAGS.open, TAGS.close, TAGS.closing, no_thought="")

SWITCH = "{% if enable_thinking %}A:{% else %}A:<think>\n\n</think>\n\n{% endif %}"
OPENING_SWITCH = "{% if thinking %}A:<think>{% else %}A:</think>{% endif %}"


@pytest.mark.parametrize(
    ("template", "tags", "expected"),
    [
        ("A:", TAGS, ("<think>\n", "<think>\n\n</think>\n\n")),
        ("A:", ELICITED, ("<think>\n", "")),
        ("A:", UNTOLD, ("<think>\n", "")),
        (SWITCH, TAGS, ("<think>\n", "")),
        (OPENING_SWITCH, TAGS, ("", "")),
        ("A:<think>\n", TAGS, ("", "\n</think>\n\n")),
        ("A:<think>", UNTOLD, ("", "\n</think>\n\n")),
        ("A:<think>\n", ELICITED, ("", "\n</think>\n\n")),
        ("<think>A:", TAGS, ("<think>\n", "<think>\n\n</think>\n\n")),
    ],
)
def test_what_the_template_writes_is_not_written_twice(
    template: str, tags: ThinkingTags, expected: tuple[str, str]
) -> None:
    assert expected == style(template, tags)
