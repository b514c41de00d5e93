"""The list of models: every card and alias once, newest first, with limits that are true here."""

from datetime import date

import pytest

from sestet.services.models import Models, PageQuery
from tests.unit.in_process import OWN_ID, house
from tests.unit.refusals import refusal

ORDER = [
    (OWN_ID, None),
    ("scripted", OWN_ID),
    ("claude-opus-4-1-20250805", None),
    ("claude-opus-4-1", "claude-opus-4-1-20250805"),
    ("claude-sonnet-4-20250514", None),
    ("claude-sonnet-4-0", "claude-sonnet-4-20250514"),
    ("claude-opus-4-20250514", None),
    ("claude-opus-4-0", "claude-opus-4-20250514"),
    ("claude-3-7-sonnet-20250219", None),
    ("anthropic/claude-3.7-sonnet", "claude-3-7-sonnet-20250219"),
    ("claude-3-7-sonnet", "claude-3-7-sonnet-20250219"),
    ("claude-3-7-sonnet-latest", "claude-3-7-sonnet-20250219"),
    ("claude-3-5-sonnet-20241022", None),
    ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
    ("claude-3-5-haiku-20241022", None),
    ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
    ("claude-3-haiku-20240307", None),
    ("claude-3-opus-20240229", None),
    ("claude-3-opus-latest", "claude-3-opus-20240229"),
]
IDS = [identifier for identifier, _ in ORDER]


@pytest.fixture
def models() -> Models:
    return house().models


def ids(models: Models, query: PageQuery) -> list[str]:
    return [entry.id for entry in models.page(query).data]


def test_every_card_is_listed_with_its_aliases_behind_it(models: Models) -> None:
    assert ORDER == [(entry.id, entry.alias_of) for entry in models.entries()]


def test_an_alias_has_the_facts_of_its_snapshot(models: Models) -> None:
    entries = {entry.id: entry for entry in models.entries()}
    alias, snapshot = entries["claude-3-7-sonnet-latest"], entries["claude-3-7-sonnet-20250219"]

    assert date(2025, 2, 19) == alias.snapshot
    assert (snapshot.display_name, snapshot.max_tokens, snapshot.lifecycle) == (
        alias.display_name,
        alias.max_tokens,
        alias.lifecycle,
    )


def test_a_moved_alias_is_listed_behind_its_new_snapshot() -> None:
    moved = house(moved={"claude-3-7-sonnet-latest": "claude-sonnet-4-20250514", "house": OWN_ID}).models
    entries = {entry.id: entry.alias_of for entry in moved.entries()}

    assert ("claude-sonnet-4-20250514", OWN_ID) == (entries["claude-3-7-sonnet-latest"], entries["house"])
    assert len(ORDER) + 1 == len(entries)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 18, 19, 20, 1000])
def test_paging_forward_gives_every_entry_once(models: Models, limit: int) -> None:
    seen: list[str] = []
    after: str | None = None
    while True:
        page = models.page(PageQuery(limit, after_id=after))
        seen += [entry.id for entry in page.data]
        if not page.has_more:
            break
        after = seen[-1]

    assert IDS == seen


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 18, 1000])
def test_paging_backward_gives_every_entry_once(models: Models, limit: int) -> None:
    seen: list[str] = []
    before = IDS[-1]
    while True:
        page = models.page(PageQuery(limit, before_id=before))
        seen = [entry.id for entry in page.data] + seen
        if not page.has_more:
            break
        before = seen[0]

    assert IDS[:-1] == seen


def test_a_page_before_a_cursor_is_the_one_next_to_it(models: Models) -> None:
    assert IDS[3:5] == ids(models, PageQuery(2, before_id=IDS[5]))


def test_a_page_after_the_last_entry_is_empty(models: Models) -> None:
    page = models.page(PageQuery(after_id=IDS[-1]))

    assert ((), False) == (page.data, page.has_more)


def test_a_page_before_the_first_entry_is_empty(models: Models) -> None:
    page = models.page(PageQuery(before_id=IDS[0]))

    assert ((), False) == (page.data, page.has_more)


@pytest.mark.parametrize("cursor", ["after_id", "before_id"])
def test_an_unknown_cursor_is_refused_by_its_name(models: Models, cursor: str) -> None:
    assert cursor == refusal(lambda: models.page(PageQuery(**{cursor: "no-such-model"}))).param  # type: ignore[arg-type]


def test_the_list_can_be_cut_to_a_lifecycle(models: Models) -> None:
    assert [
        "claude-3-5-sonnet-20241022",
        "claude-3-5-sonnet-latest",
        "claude-3-opus-20240229",
        "claude-3-opus-latest",
    ] == ids(models, PageQuery(lifecycles=frozenset(("deprecated",))))
    assert [] == ids(models, PageQuery(lifecycles=frozenset(("retired",))))


@pytest.mark.parametrize(
    "name", ["claude-3-7-sonnet-latest", "claude-3-7-sonnet@20250219", "claude-3-7-sonnet-20250219"]
)
def test_a_name_finds_its_snapshot(models: Models, name: str) -> None:
    entry = models.find(name)

    assert ("claude-3-7-sonnet-20250219", None, OWN_ID) == (entry.id, entry.alias_of, entry.served_by)


def test_limits_are_the_smaller_of_card_and_weights() -> None:
    small = house(window=8_000).models
    large = house(window=500_000).models
    name = "claude-3-7-sonnet-latest"

    assert [
        (8_000, 8_000),
        (200_000, 64_000),
    ] == [(entry.max_input_tokens, entry.max_tokens) for entry in (small.find(name), large.find(name))]
