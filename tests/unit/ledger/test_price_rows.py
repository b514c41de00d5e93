"""Prices as somebody types them: taken exactly as written, or refused at load with their row and field."""

import tomllib
from collections.abc import Callable
from dataclasses import astuple
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sestet.catalog.card import family_cards
from sestet.ledger.price_rows import LongContext, PriceError, read_long_context, read_prices
from sestet.ledger.prices import PriceList

GOOD = {"input": "3.00", "cache_write_5m": "3.75", "cache_write_1h": "6.00", "cache_read": "0.30", "output": "15.00"}
WHERE = "models.toml, some-model: price"


def row(**changed: str | None) -> dict[str, object]:
    """The table of a TOML file that has these texts for values."""
    texts = {name: text for name, text in {**GOOD, **changed}.items() if text is not None}
    toml = "\n".join(f"{name} = {text}" for name, text in texts.items())
    return tomllib.loads(toml, parse_float=Decimal)


def refused(read: Callable[[object, str], object], given_row: object) -> str:
    with pytest.raises(PriceError) as raised:
        read(given_row, WHERE)
    return str(raised.value)


def test_a_row_is_read() -> None:
    assert PriceList(3_000_000, 3_750_000, 6_000_000, 300_000, 15_000_000) == read_prices(row(), WHERE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3_000_000),
        ("0.07", 70_000),
        ("0.29", 290_000),  # as a float this times a million is 289999.99999999994
        ("1e-5", 10),
        ("0.00001", 10),
        ("3.0000000000000000000000000000000000", 3_000_000),
        ("0", 0),
        ("-0.0", 0),
        ("10_000", 10_000_000_000),
    ],
)
def test_a_price_is_what_is_written(text: str, expected: int) -> None:
    assert expected == read_prices(row(output=text), WHERE).output


@given(st.integers(0, 10**9))
def test_every_price_of_five_decimals_is_exact_as_a_decimal_and_as_a_float(steps: int) -> None:
    written = Decimal(steps).scaleb(-5)
    as_decimals = read_prices(dict.fromkeys(GOOD, written), WHERE)
    as_floats = read_prices(dict.fromkeys(GOOD, float(written)), WHERE)

    assert [10 * steps] * 5 == list(astuple(as_decimals)) == list(astuple(as_floats))


@pytest.mark.parametrize("field", GOOD)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-3.00", "'-3.00' must be from 0 to 10,000 dollars per million tokens"),
        ("3000000", "'3000000' must be from 0 to 10,000 dollars per million tokens"),
        ("10000.00001", "'10000.00001' must be from 0 to 10,000 dollars per million tokens"),
        ("inf", "'Infinity' must be from 0 to 10,000 dollars per million tokens"),
        ("nan", "'NaN' must be from 0 to 10,000 dollars per million tokens"),
        ("1e999999999", "'1E+999999999' must be from 0 to 10,000 dollars per million tokens"),
        ("1e-999999999", "'1E-999999999' must have at most five decimals"),
        ("0.000001", "'0.000001' must have at most five decimals"),
        ("3.00000000000000000000000000000001", "'3.00000000000000000000000000000001' must have at most five decimals"),
        ('"3.00"', "'3.00' must be a number, without quotes: dollars per million tokens"),
        ("true", "'True' must be a number, without quotes: dollars per million tokens"),
        ("[3.00]", "\"[Decimal('3.00')]\" must be a number, without quotes: dollars per million tokens"),
        ("2025-08-05", "'2025-08-05' must be a number, without quotes: dollars per million tokens"),
    ],
)
def test_a_mistyped_price_is_refused_by_row_and_field(field: str, text: str, reason: str) -> None:
    assert f"{WHERE}.{field}: {reason}" == refused(read_prices, row(**{field: text}))


@pytest.mark.parametrize("field", GOOD)
def test_a_missing_price_is_refused_by_row_and_field(field: str) -> None:
    assert f"{WHERE}.{field} is missing" == refused(read_prices, row(**{field: None}))


def test_a_misspelled_field_is_refused_by_row_and_field() -> None:
    expected = f"{WHERE}.ouput is none of input, cache_write_5m, cache_write_1h, cache_read, output"

    assert expected == refused(read_prices, row(ouput="15.00"))


@pytest.mark.parametrize("given_row", [3, "3.00", None, [3]])
def test_what_is_no_table_is_refused_by_row(given_row: object) -> None:
    expected = f"{WHERE}: '{given_row}' must be a table of input, cache_write_5m, cache_write_1h, cache_read, output"

    assert expected == refused(read_prices, given_row)


def test_a_row_of_long_context_prices_is_read() -> None:
    expected = LongContext(200_000, PriceList(3_000_000, 3_750_000, 6_000_000, 300_000, 15_000_000))

    assert expected == read_long_context({"above": 200_000, "price": row()}, WHERE)


@pytest.mark.parametrize(
    ("given_row", "expected"),
    [
        ({"above": 200_000, "price": row(output="-1")}, f"{WHERE}.price.output: '-1' must be from 0 to 10,000"),
        ({"above": "200K", "price": row()}, f"{WHERE}.above: '200K' must be a number of tokens"),
        ({"above": True, "price": row()}, f"{WHERE}.above: 'True' must be a number of tokens"),
        ({"above": -1, "price": row()}, f"{WHERE}.above: '-1' must be a number of tokens"),
        ({"above": Decimal("2e5"), "price": row()}, f"{WHERE}.above: '2E+5' must be a number of tokens"),
        ({"price": row()}, f"{WHERE}.above is missing"),
        ({"above": 200_000}, f"{WHERE}.price is missing"),
        ({"above": 200_000, "price": row(), "over": 1}, f"{WHERE}.over is none of above, price"),
    ],
)
def test_a_mistyped_row_of_long_context_prices_is_refused(given_row: object, expected: str) -> None:
    assert refused(read_long_context, given_row).startswith(expected)


def test_every_price_of_the_family_is_a_whole_number_with_a_whole_half() -> None:
    rows = [row for card in family_cards() for row in (card.price, card.long_context and card.long_context.price)]
    prices = [price for row in rows if row is not None for price in astuple(row)]

    assert 45 == len(prices)
    assert [(int, 0)] * 45 == [(type(price), price % 10) for price in prices]
