"""Prices in force, and what tokens cost at them: whole numbers from end to end, rounded once.

Prices are micro-dollars per million tokens, so that tokens times price is in millionths of a micro-dollar.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Final, Literal

from sestet.contract.events import Usage

Kind = Literal["input", "cache_write_5m", "cache_write_1h", "cache_read", "output"]

_TOKENS: Final = 1_000_000  # what a price is for


@dataclass(frozen=True, slots=True)
class PriceList:
    """Micro-dollars per million tokens. Of a request: those in force, long context and discount in them already."""

    input: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int
    output: int

    @property
    def batch(self) -> "PriceList":
        """Half of every price, exactly. Raises `ValueError` for an odd price, which no card has (price_rows.py)."""
        whole = {field.name: getattr(self, field.name) for field in fields(self)}
        odd = [name for name, price in whole.items() if price % 2]
        if odd:
            raise ValueError(f"{odd[0]}: {whole[odd[0]]} micro-dollars have no half in whole micro-dollars")
        return PriceList(**{name: price // 2 for name, price in whole.items()})


FREE: Final = PriceList(0, 0, 0, 0, 0)


def by_kind(usage: Usage, prices: PriceList) -> Mapping[Kind, int]:
    """Each kind's part of the cost, not rounded: millionths of a micro-dollar. Thinking is output."""
    return {
        "input": usage.input_tokens * prices.input,
        "cache_write_5m": usage.cache_creation_5m * prices.cache_write_5m,
        "cache_write_1h": usage.cache_creation_1h * prices.cache_write_1h,
        "cache_read": usage.cache_read_input_tokens * prices.cache_read,
        "output": usage.output_tokens * prices.output,
    }


def cost(usage: Usage, prices: PriceList) -> int:
    """Micro-dollars. The kinds are added first; the sum is rounded, half a micro-dollar up."""
    return half_up(sum(by_kind(usage, prices).values()))


def half_up(exact: int | Fraction) -> int:
    """Millionths of a micro-dollar as whole micro-dollars."""
    return (exact + _TOKENS // 2) // _TOKENS
