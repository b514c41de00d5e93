"""Prices as people type them, US dollars per million tokens: taken exactly as written, or refused by row and field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Context, Decimal, Inexact
from typing import Final

from sestet.ledger.prices import PriceList

_DOLLARS_MAX: Final = 10_000
# Of a dollar. Every price is then an even number of micro-dollars, and half of it, for batches, is exact.
_STEP: Final = Decimal("0.00001")
_EXACT: Final = Context(traps=[Inexact])


@dataclass(frozen=True, slots=True)
class LongContext:
    """What a request costs whose prompt, tokens written to and read from a cache included, is above so many tokens."""

    above: int
    price: PriceList


class PriceError(ValueError):
    """A price that cannot be meant; the text names the row and the field."""


def read_prices(row: object, where: str) -> PriceList:
    """A table with a price for each kind of token. Raises `PriceError`."""
    table = _table(row, [field.name for field in fields(PriceList)], where)
    return PriceList(**{name: read_price(value, f"{where}.{name}") for name, value in table.items()})


def read_long_context(row: object, where: str) -> LongContext:
    """A table of `above`, in tokens, and `price`. Raises `PriceError`."""
    table = _table(row, [field.name for field in fields(LongContext)], where)
    above = table["above"]
    if isinstance(above, bool) or not isinstance(above, int) or above < 0:
        raise PriceError(f"{where}.above: {_shown(above)} must be a number of tokens")
    return LongContext(above, read_prices(table["price"], f"{where}.price"))


def read_price(value: object, where: str) -> int:
    """Dollars as micro-dollars. Raises `PriceError`."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise PriceError(f"{where}: {_shown(value)} must be a number, without quotes: dollars per million tokens")
    # A float's shortest text is what was typed; the float itself is not quite.
    amount = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not amount.is_finite() or not 0 <= amount <= _DOLLARS_MAX:
        raise PriceError(f"{where}: {_shown(value)} must be from 0 to {_DOLLARS_MAX:,} dollars per million tokens")
    try:
        return int(amount.quantize(_STEP, context=_EXACT).scaleb(6))
    except Inexact:
        raise PriceError(f"{where}: {_shown(value)} must have at most five decimals") from None


def _table(row: object, names: Sequence[str], where: str) -> Mapping[str, object]:
    if not isinstance(row, Mapping):
        raise PriceError(f"{where}: {_shown(row)} must be a table of {', '.join(names)}")
    for name in names:
        if name not in row:
            raise PriceError(f"{where}.{name} is missing")
    for name in row:
        if name not in names:
            raise PriceError(f"{where}.{name} is none of {', '.join(names)}")
    return row


def _shown(value: object) -> str:
    return repr(str(value))[:40]
