"""What tokens cost: the documents' table to the micro-dollar, and what holds for every usage and every price."""

from dataclasses import astuple, replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sestet.catalog.card import Card, family_cards
from sestet.contract.events import Usage
from sestet.contract.tiers import Tier
from sestet.ledger.price_rows import LongContext
from sestet.ledger.prices import FREE, PriceList, by_kind, cost, half_up

# The table "Model pricing" of the models overview: input, 5m writes, 1h writes, reads, output; dollars per million.
TABLE = {
    "Claude Opus 4.1": ("15", "18.75", "30", "1.50", "75"),
    "Claude Opus 4": ("15", "18.75", "30", "1.50", "75"),
    "Claude Sonnet 4": ("3", "3.75", "6", "0.30", "15"),
    "Claude Sonnet 3.7": ("3", "3.75", "6", "0.30", "15"),
    "Claude Sonnet 3.5": ("3", "3.75", "6", "0.30", "15"),
    "Claude Haiku 3.5": ("0.80", "1", "1.6", "0.08", "4"),
    "Claude Opus 3": ("15", "18.75", "30", "1.50", "75"),
    "Claude Haiku 3": ("0.25", "0.30", "0.50", "0.03", "1.25"),
}

CARDS = {card.display_name: card for card in family_cards()}

KINDS = ("input_tokens", "cache_creation_5m", "cache_creation_1h", "cache_read_input_tokens", "output_tokens")
TOKENS = st.integers(0, 10**9)
USAGES = st.builds(Usage, **dict.fromkeys(KINDS, TOKENS))
# Every price that a card can have is a multiple of ten micro-dollars (tests/unit/ledger/test_price_rows.py).
PRICES = st.builds(PriceList, *[st.integers(0, 10**9).map(lambda price: 10 * price)] * 5)


def usage_of(kind: str, tokens: int) -> Usage:
    return replace(Usage(0), **{kind: tokens})


def prices_of(card: Card, prompt_tokens: int = 0) -> PriceList:
    return card.prices(Usage(prompt_tokens), "standard")


def test_every_card_is_in_the_table() -> None:
    assert sorted(TABLE) == sorted(CARDS)


@pytest.mark.parametrize("tokens", [1_000_000, 1, 7, 123_457])
@pytest.mark.parametrize("name", TABLE)
def test_every_kind_of_token_costs_what_the_documents_say(name: str, tokens: int) -> None:
    expected = [int(Decimal(dollars) * tokens + Decimal("0.5")) for dollars in TABLE[name]]

    assert expected == [cost(usage_of(kind, tokens), prices_of(CARDS[name])) for kind in KINDS]


@pytest.mark.parametrize("name", TABLE)
def test_a_batch_costs_half_of_it(name: str) -> None:
    expected = [int(Decimal(dollars) * 500_000) for dollars in TABLE[name]]

    assert expected == [cost(usage_of(kind, 1_000_000), CARDS[name].prices(Usage(0), "batch")) for kind in KINDS]


def test_a_thought_is_output_and_not_paid_twice() -> None:
    prices = prices_of(CARDS["Claude Sonnet 3.7"])

    assert 1_920_000 == cost(Usage(0, output_tokens=128_000, thinking_tokens=128_000), prices)


@pytest.mark.parametrize(
    ("prompt_tokens", "expected"),
    [
        (0, (3_000_000, 3_750_000, 6_000_000, 300_000, 15_000_000)),
        (200_000, (3_000_000, 3_750_000, 6_000_000, 300_000, 15_000_000)),
        (200_001, (6_000_000, 7_500_000, 12_000_000, 600_000, 22_500_000)),
    ],
)
def test_a_prompt_above_200000_tokens_pays_long_context_prices(prompt_tokens: int, expected: tuple[int, ...]) -> None:
    assert expected == astuple(prices_of(CARDS["Claude Sonnet 4"], prompt_tokens))


def test_the_cache_multipliers_are_kept_in_long_contexts() -> None:
    card = CARDS["Claude Sonnet 4"]
    short, long = prices_of(card), prices_of(card, 200_001)

    def multipliers(prices: PriceList) -> list[Fraction]:
        return [Fraction(price, prices.input) for price in (prices.cache_write_5m, prices.cache_write_1h)] + [
            Fraction(prices.cache_read, prices.input)
        ]

    assert [Fraction("1.25"), Fraction(2), Fraction("0.1")] == multipliers(short) == multipliers(long)


def test_no_other_card_has_long_context_prices() -> None:
    assert ["Claude Sonnet 4"] == [name for name, card in CARDS.items() if isinstance(card.long_context, LongContext)]


@pytest.mark.parametrize(
    ("kind", "tokens", "price"),
    [
        ("cache_creation_5m", 199_999, 3_000_000),
        ("cache_creation_5m", 200_000, 6_000_000),
        ("cache_creation_1h", 199_999, 3_000_000),
        ("cache_creation_1h", 200_000, 6_000_000),
        ("cache_read_input_tokens", 199_999, 3_000_000),
        ("cache_read_input_tokens", 200_000, 6_000_000),
        ("output_tokens", 1_000_000, 3_000_000),
    ],
)
def test_what_is_written_to_a_cache_or_read_from_it_makes_a_context_longer_but_output_does_not(
    kind: str, tokens: int, price: int
) -> None:
    usage = replace(Usage(1), **{kind: tokens})

    assert price == CARDS["Claude Sonnet 4"].prices(usage, "standard").input


@pytest.mark.parametrize("tier", ["standard", "priority"])
def test_long_contexts_are_halved_in_batches_and_priority_costs_the_same(tier: Tier) -> None:
    card, usage = CARDS["Claude Sonnet 4"], Usage(200_001)

    assert (6_000_000, 22_500_000) == (card.prices(usage, tier).input, card.prices(usage, tier).output)
    assert (3_000_000, 11_250_000) == (card.prices(usage, "batch").input, card.prices(usage, "batch").output)


def test_a_card_without_prices_is_free() -> None:
    card = replace(CARDS["Claude Haiku 3"], price=None)

    assert [FREE, FREE] == [card.prices(Usage(1), "standard"), card.prices(Usage(1), "batch")]


@pytest.mark.parametrize(
    ("tokens", "price", "expected"),
    [(1, 499_999, 0), (1, 500_000, 1), (1, 1_499_999, 1), (1, 1_500_000, 2), (1, 2_500_000, 3), (0, 10**9, 0)],
)
def test_half_a_micro_dollar_is_rounded_up(tokens: int, price: int, expected: int) -> None:
    assert expected == cost(Usage(tokens), replace(FREE, input=price))


def test_the_sum_is_rounded_and_not_its_parts() -> None:
    thirds = PriceList(400_000, 400_000, 400_000, 400_000, 400_000)

    assert 2 == cost(Usage(1, 1, 1, 1, 1), thirds)
    assert 0 == sum(cost(usage_of(kind, 1), thirds) for kind in KINDS)


def test_amounts_that_a_float_cannot_hold_are_exact() -> None:
    tokens = 10**17 + 1

    assert 3 * tokens == cost(Usage(tokens), PriceList(3_000_000, 0, 0, 0, 0))
    assert 3 * tokens + 1 == cost(Usage(tokens, output_tokens=1), PriceList(3_000_000, 0, 0, 0, 500_000))


@pytest.mark.parametrize("place", range(5))
def test_an_odd_price_has_no_half_and_is_never_halved_in_silence(place: int) -> None:
    prices = [10, 10, 10, 10, 10]
    prices[place] = 11

    with pytest.raises(ValueError, match="11 micro-dollars have no half"):
        _ = PriceList(*prices).batch


@given(USAGES, PRICES)
@example(Usage(1, 1, 1, 1, 1), PriceList(100_000, 100_000, 100_000, 100_000, 100_000))
def test_the_cost_is_the_sum_of_the_kinds_rounded_once(usage: Usage, prices: PriceList) -> None:
    exact = sum(
        Fraction(getattr(usage, kind) * price, 1_000_000) for kind, price in zip(KINDS, astuple(prices), strict=True)
    )

    assert exact == Fraction(sum(by_kind(usage, prices).values()), 1_000_000)
    assert Fraction(-1, 2) < cost(usage, prices) - exact <= Fraction(1, 2)
    assert int is type(cost(usage, prices))


@given(USAGES, USAGES, PRICES)
def test_two_usages_cost_together_what_they_cost_apart_before_rounding(
    one: Usage, other: Usage, prices: PriceList
) -> None:
    both = Usage(*(a + b for a, b in zip(astuple(one), astuple(other), strict=True)))
    apart = [a + b for a, b in zip(by_kind(one, prices).values(), by_kind(other, prices).values(), strict=True)]

    assert apart == list(by_kind(both, prices).values())


@given(USAGES, PRICES, st.sampled_from(KINDS), TOKENS)
def test_more_tokens_never_cost_less_and_nothing_costs_less_than_nothing(
    usage: Usage, prices: PriceList, kind: str, more: int
) -> None:
    larger = replace(usage, **{kind: getattr(usage, kind) + more})

    assert 0 <= cost(usage, prices) <= cost(larger, prices)


@given(USAGES, PRICES)
def test_a_batch_costs_half_within_a_micro_dollar(usage: Usage, prices: PriceList) -> None:
    halves = [2 * half for half in by_kind(usage, prices.batch).values()]

    assert list(by_kind(usage, prices).values()) == halves
    assert -1 <= 2 * cost(usage, prices.batch) - cost(usage, prices) <= 1


@given(USAGES)
def test_nothing_is_paid_at_no_price(usage: Usage) -> None:
    assert 0 == cost(usage, FREE)


@pytest.mark.parametrize(
    ("exact", "expected"),
    [(Fraction(999_999, 2), 0), (500_000, 1), (Fraction(3_000_001, 2), 2), (Fraction(1_499_999), 1)],
)
def test_fractions_are_rounded_like_whole_numbers(exact: int | Fraction, expected: int) -> None:
    assert expected == half_up(exact)
