"""Every name of the model family resolves, at the prices of its documents; snapshot ids never move."""

from dataclasses import astuple
from datetime import date

import pytest

from sestet.catalog.card import Card, family_cards, profile_for, profiles
from sestet.catalog.catalog import Catalog, CatalogError, Route
from sestet.contract.deltas import Sampling
from sestet.contract.models import Lifecycle
from sestet.ledger.prices import PriceList
from tests.unit.refusals import refusal

OPUS = (15_000_000, 18_750_000, 30_000_000, 1_500_000, 75_000_000)
SONNET = (3_000_000, 3_750_000, 6_000_000, 300_000, 15_000_000)

# Snapshot id -> display name, aliases, Bedrock id, Vertex id, date, window, output, lifecycle, price (micro-dollars).
FACTS: dict[str, tuple[str, tuple[str, ...], str | None, str | None, date, int, int, Lifecycle, tuple[int, ...]]] = {
    "claude-opus-4-1-20250805": (
        "Claude Opus 4.1",
        ("claude-opus-4-1",),
        "anthropic.claude-opus-4-1-20250805-v1:0",
        "claude-opus-4-1@20250805",
        date(2025, 8, 5),
        200_000,
        32_000,
        "active",
        OPUS,
    ),
    "claude-opus-4-20250514": (
        "Claude Opus 4",
        ("claude-opus-4-0",),
        "anthropic.claude-opus-4-20250514-v1:0",
        "claude-opus-4@20250514",
        date(2025, 5, 14),
        200_000,
        32_000,
        "active",
        OPUS,
    ),
    "claude-sonnet-4-20250514": (
        "Claude Sonnet 4",
        ("claude-sonnet-4-0",),
        "anthropic.claude-sonnet-4-20250514-v1:0",
        "claude-sonnet-4@20250514",
        date(2025, 5, 14),
        200_000,
        64_000,
        "active",
        SONNET,
    ),
    "claude-3-7-sonnet-20250219": (
        "Claude Sonnet 3.7",
        ("claude-3-7-sonnet-latest", "claude-3-7-sonnet", "anthropic/claude-3.7-sonnet"),
        "anthropic.claude-3-7-sonnet-20250219-v1:0",
        "claude-3-7-sonnet@20250219",
        date(2025, 2, 19),
        200_000,
        64_000,
        "active",
        SONNET,
    ),
    "claude-3-5-haiku-20241022": (
        "Claude Haiku 3.5",
        ("claude-3-5-haiku-latest",),
        "anthropic.claude-3-5-haiku-20241022-v1:0",
        "claude-3-5-haiku@20241022",
        date(2024, 10, 22),
        200_000,
        8_192,
        "active",
        (800_000, 1_000_000, 1_600_000, 80_000, 4_000_000),
    ),
    "claude-3-haiku-20240307": (
        "Claude Haiku 3",
        (),
        "anthropic.claude-3-haiku-20240307-v1:0",
        "claude-3-haiku@20240307",
        date(2024, 3, 7),
        200_000,
        4_096,
        "active",
        (250_000, 300_000, 500_000, 30_000, 1_250_000),
    ),
    "claude-3-5-sonnet-20241022": (
        "Claude Sonnet 3.5",
        ("claude-3-5-sonnet-latest",),
        None,
        None,
        date(2024, 10, 22),
        200_000,
        8_192,
        "deprecated",
        SONNET,
    ),
    "claude-3-opus-20240229": (
        "Claude Opus 3",
        ("claude-3-opus-latest",),
        None,
        None,
        date(2024, 2, 29),
        200_000,
        4_096,
        "deprecated",
        OPUS,
    ),
}

NAMES = {
    name: snapshot
    for snapshot, (_, aliases, bedrock, vertex, *_) in FACTS.items()
    for name in (snapshot, *aliases, bedrock, vertex)
    if name is not None
}

OWN = Card("weights-20260101", "Own weights", date(2026, 1, 1), 8192, 8192, aliases=("weights-latest",))


def catalog(moved: dict[str, str] | None = None) -> Catalog:
    """The family as stand-ins on weights with a card of their own."""
    return Catalog([Route(card, OWN.id, OWN.display_name) for card in (OWN, *family_cards())], moved)


def test_the_cards_are_those_of_the_documents() -> None:
    def facts(card: Card) -> object:
        assert card.price is not None
        return (
            card.display_name,
            card.aliases,
            card.bedrock,
            card.vertex,
            card.snapshot,
            card.context_window,
            card.max_output,
            card.lifecycle,
            astuple(card.price),
        )

    assert FACTS == {card.id: facts(card) for card in family_cards()}


def test_the_prices_are_in_the_order_of_the_documents() -> None:
    price = next(card.price for card in family_cards() if card.id == "claude-3-7-sonnet-20250219")

    expected = PriceList(
        input=3_000_000, cache_write_5m=3_750_000, cache_write_1h=6_000_000, cache_read=300_000, output=15_000_000
    )

    assert expected == price


def test_a_deprecated_card_names_its_successor_where_the_documents_do() -> None:
    assert {"claude-3-5-sonnet-20241022": "claude-3-7-sonnet-20250219"} == {
        card.id: card.successor for card in family_cards() if card.successor
    }


@pytest.mark.parametrize(("name", "snapshot"), NAMES.items())
def test_every_name_resolves_to_its_snapshot(name: str, snapshot: str) -> None:
    assert snapshot == catalog().resolve(name).card.id


@pytest.mark.parametrize("name", [OWN.id, "weights-latest"])
def test_the_weights_answer_under_their_own_names_too(name: str) -> None:
    route = catalog().resolve(name)

    assert (OWN.id, False, "Own weights") == (route.card.id, route.stand_in, route.display_name)


@pytest.mark.parametrize("snapshot", FACTS)
def test_what_stands_in_says_so_in_its_name(snapshot: str) -> None:
    route = catalog().resolve(snapshot)

    assert (True, f"{FACTS[snapshot][0]} (stand-in: Own weights)") == (route.stand_in, route.display_name)


def test_aliases_point_to_snapshots() -> None:
    expected = {alias: snapshot for snapshot, (_, aliases, *_) in FACTS.items() for alias in aliases}

    assert {"weights-latest": OWN.id, **expected} == dict(catalog().aliases())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("claude-3-7-sonet-latest", "claude-3-7-sonnet-latest"),
        ("claude-3-7-sonnet-20250218", "claude-3-7-sonnet-20250219"),
        ("claude-opus-4.1", "claude-opus-4-1"),
        ("Claude-3-Haiku-20240307", "claude-3-haiku-20240307"),
        ("weights-lates", "weights-latest"),
    ],
)
def test_a_near_miss_is_answered_with_the_right_name(name: str, nearest: str) -> None:
    error = refusal(lambda: catalog().resolve(name), "not_found_error")

    assert f"did you mean `{nearest}`?" in error.message
    assert "model" == error.param


@pytest.mark.parametrize("name", ["", "gpt-4", "../../etc/passwd", "http://127.0.0.1/", "\0", "x" * 256])
def test_a_name_like_none_is_told_where_the_names_are(name: str) -> None:
    error = refusal(lambda: catalog().resolve(name), "not_found_error")

    assert "GET /v1/models" in error.message


@pytest.mark.parametrize(
    "name", ["claude-3-7-sonnet-20250219 ", "CLAUDE-3-7-SONNET-20250219", "claude-3-7-sonnet-2025"]
)
def test_a_name_is_exact(name: str) -> None:
    refusal(lambda: catalog().resolve(name), "not_found_error")


def test_an_alias_can_be_moved_and_its_platform_names_stay() -> None:
    moved = catalog({"claude-3-7-sonnet-latest": "claude-sonnet-4-20250514"})

    assert ["claude-sonnet-4-20250514", "claude-3-7-sonnet-20250219", "claude-3-7-sonnet-20250219"] == [
        moved.resolve(name).card.id
        for name in ("claude-3-7-sonnet-latest", "claude-3-7-sonnet-20250219", "claude-3-7-sonnet@20250219")
    ]


def test_an_alias_can_be_added() -> None:
    assert OWN.id == catalog({"house-model": OWN.id}).resolve("house-model").card.id


@pytest.mark.parametrize("name", [name for name in NAMES if name in FACTS or ":" in name or "@" in name])
def test_a_snapshot_id_never_moves_nor_does_a_platform_id(name: str) -> None:
    with pytest.raises(CatalogError, match="a snapshot id never moves"):
        catalog({name: OWN.id})


@pytest.mark.parametrize(
    ("target", "hint"),
    [("claude-3-7-sonnet-20250218", "did you mean `claude-3-7-sonnet-20250219`"), ("nothing-like-it-at-all", "")],
)
def test_an_alias_cannot_be_moved_to_what_does_not_exist(target: str, hint: str) -> None:
    with pytest.raises(CatalogError, match=r"aliases\.house: there is no snapshot") as caught:
        catalog({"house": target})

    assert hint in str(caught.value)


def test_an_alias_cannot_be_moved_to_another_alias() -> None:
    with pytest.raises(CatalogError, match="there is no snapshot"):
        catalog({"house": "claude-3-7-sonnet-latest"})


@pytest.mark.parametrize(
    "name", ["claude-3-7-sonnet-20250219", "claude-3-7-sonnet-latest", "claude-3-7-sonnet@20250219", OWN.id]
)
def test_a_name_cannot_be_taken_twice_as_an_alias(name: str) -> None:
    other = Card("other-1", "Other", date(2026, 1, 2), 1, 1, aliases=(name,))
    cards = (OWN, *family_cards(), other)

    with pytest.raises(CatalogError, match="taken twice"):
        Catalog([Route(card, OWN.id, OWN.display_name) for card in cards])


@pytest.mark.parametrize("identifier", ["claude-3-7-sonnet-20250219", OWN.id, "claude-3-7-sonnet@20250219"])
def test_a_name_cannot_be_taken_twice_as_a_snapshot_id(identifier: str) -> None:
    other = Card(identifier, "Other", date(2026, 1, 2), 1, 1)
    cards = (OWN, other, *family_cards())

    with pytest.raises(CatalogError, match="taken twice"):
        Catalog([Route(card, OWN.id, OWN.display_name) for card in cards])


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("<|im_start|>... SmolLM ...", "smollm2"),
        ("<|im_start|>...<think>", "qwen"),
        ("<|im_start|>", "generic"),
        ("[INST]", "mistral"),
        ("", "generic"),
    ],
)
def test_a_template_tells_its_family(template: str, name: str) -> None:
    assert name == profile_for(template, profiles()).name


def test_the_last_profile_takes_everything_and_draws_as_the_contract_does() -> None:
    last = profiles()[-1]

    assert ((), Sampling(1.0, 1.0, 0)) == (last.template_marks, last.sampling)
