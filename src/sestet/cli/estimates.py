"""What a load of calls costs a day, exactly, and how that is shown. Asks nobody; amounts are never floats."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from io import StringIO
from typing import Any, Final, Literal

from rich import box
from rich.table import Table

from sestet.catalog.card import Card
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line
from sestet.contract.events import Usage
from sestet.ledger.prices import Kind, PriceList, by_kind, half_up

_MICRO: Final = 1_000_000
_NAMES: Final[Mapping[Kind, str]] = {
    "input": "input",
    "cache_write_5m": "cache writes, 5 minutes",
    "cache_write_1h": "cache writes, 1 hour",
    "cache_read": "cache reads",
    "output": "output",
}
_CSV_COLUMNS: Final = (
    "model",
    "kind",
    "dollars_per_million",
    "tokens_per_day",
    "dollars_per_call",
    "dollars_per_day",
    "days",
    "dollars",
)


@dataclass(frozen=True, slots=True)
class Load:
    """A day of calls that are all alike. Of the `prompt` of each, `cached` tokens are read from the cache, or, in
    `writes` of the calls, written to it. `batched` is the share of the calls that goes through batches."""

    calls: int
    prompt: int
    output: int
    cached: int
    writes: int
    lifetime: Literal["5m", "1h"]
    batched: Fraction

    @property
    def usage(self) -> Usage:
        """The tokens of the day."""
        written = self.writes * self.cached
        return Usage(
            input_tokens=self.calls * (self.prompt - self.cached),
            output_tokens=self.calls * self.output,
            cache_creation_5m=written if self.lifetime == "5m" else 0,
            cache_creation_1h=written if self.lifetime == "1h" else 0,
            cache_read_input_tokens=(self.calls - self.writes) * self.cached,
        )

    @property
    def tokens(self) -> dict[Kind, int]:
        """The same by kind."""
        usage = self.usage
        return {
            "input": usage.input_tokens,
            "cache_write_5m": usage.cache_creation_5m,
            "cache_write_1h": usage.cache_creation_1h,
            "cache_read": usage.cache_read_input_tokens,
            "output": usage.output_tokens,
        }


@dataclass(frozen=True, slots=True)
class Costs:
    """Micro-dollars by kind and in total. Each is rounded by itself, so they may not add up in the last digit."""

    kinds: Mapping[str, int]
    total: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a load costs a day with one card: millionths of a micro-dollar, exactly."""

    card: Card
    load: Load
    prices: PriceList
    day: Mapping[Kind, Fraction]

    @classmethod
    def of(cls, card: Card, load: Load) -> "Estimate":
        """Raises `Failure` for a card that has no price."""
        if card.price is None:
            raise Failure(f"{one_line(card.id)} has no price")
        prices, halved = card.prices(Usage(load.prompt), "standard"), card.prices(Usage(load.prompt), "batch")
        alone, batched = by_kind(load.usage, prices), by_kind(load.usage, halved)
        day = {kind: (1 - load.batched) * alone[kind] + load.batched * batched[kind] for kind in alone}
        return cls(card, load, prices, day)

    def over(self, days: int) -> Costs:
        return self._times(Fraction(days))

    @property
    def call(self) -> Costs:
        """Of the average call."""
        return self._times(Fraction(1, self.load.calls))

    def _times(self, factor: Fraction) -> Costs:
        return Costs(
            {kind: half_up(factor * amount) for kind, amount in self.day.items()},
            half_up(factor * sum(self.day.values())),
        )

    @property
    def remarks(self) -> Iterator[str]:
        """What a reader of the amounts should know of this card."""
        card, load = self.card, self.load
        if self.prices != card.price:
            yield f"{card.display_name}: a prompt of {load.prompt:,} tokens pays long-context prices."
        betas = {limit.header for limit in (card.context_window_beta, card.max_output_beta) if limit is not None}
        if load.prompt + load.output > card.window(betas) or load.output > card.output(betas):
            yield (
                f"{card.display_name} would refuse this, or stop early: {card.window(betas):,} tokens is its window, "
                f"{card.output(betas):,} its longest reply."
            )


def dollars(micro_dollars: int) -> str:
    """To the cent from one dollar on, to the micro-dollar below."""
    if 0 < micro_dollars < _MICRO:
        return exact_dollars(micro_dollars)
    cents = (micro_dollars + 5_000) // 10_000
    return f"{cents // 100:,}.{cents % 100:02}"


def exact_dollars(micro_dollars: int) -> str:
    return f"{micro_dollars // _MICRO}.{micro_dollars % _MICRO:06}"


def _at_least_cents(amount: str) -> str:
    whole, decimals = amount.split(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def in_detail(estimate: Estimate, days: int) -> Table:
    """One card: what each kind of token costs."""
    load, call, day, period = estimate.load, estimate.call, estimate.over(1), estimate.over(days)
    table = _table(
        f"{estimate.card.display_name} ({estimate.card.id}), in US dollars",
        ("", "per million", "tokens a day", "a call", "a day", f"{days:,} days"),
    )
    if load.batched:
        table.caption = f"Calls through batches, {_decimal(100 * load.batched)}% of them, are in it at half the price."
        table.caption_justify = "left"
    for kind, tokens in load.tokens.items():
        if tokens:
            amounts = (call.kinds[kind], day.kinds[kind], period.kinds[kind])
            price = exact_dollars(getattr(estimate.prices, kind))
            table.add_row(_NAMES[kind], _at_least_cents(price), f"{tokens:,}", *map(dollars, amounts))
    table.add_section()
    table.add_row("total", "", f"{sum(load.tokens.values()):,}", *map(dollars, (call.total, day.total, period.total)))
    return table


def side_by_side(estimates: Sequence[Estimate], days: int) -> Table:
    """Several cards: a row for each, by kind of token for the longest span."""
    table = _table(
        f"{days:,} days by kind of token, in US dollars",
        ("", "input", "cache writes", "cache reads", "output", f"{days:,} days", "a day", "a call"),
    )
    for estimate in estimates:
        kinds = estimate.over(days).kinds
        table.add_row(
            estimate.card.display_name,
            dollars(kinds["input"]),
            dollars(kinds["cache_write_5m"] + kinds["cache_write_1h"]),  # one of them is nothing
            dollars(kinds["cache_read"]),
            dollars(kinds["output"]),
            dollars(estimate.over(days).total),
            dollars(estimate.over(1).total),
            dollars(estimate.call.total),
        )
    return table


def as_json(estimates: Sequence[Estimate], days: int) -> list[dict[str, Any]]:
    """Prices are those without batches, as everywhere."""

    def flat(costs: Costs) -> dict[str, int]:
        return {**costs.kinds, "total": costs.total}

    return [
        {
            "model": estimate.card.id,
            "days": days,
            "load": {**asdict(estimate.load), "batched": _decimal(estimate.load.batched)},
            "micro_dollars_per_million": asdict(estimate.prices),
            "tokens_per_day": estimate.load.tokens,
            "micro_dollars": {
                "call": flat(estimate.call),
                "day": flat(estimate.over(1)),
                "period": flat(estimate.over(days)),
            },
        }
        for estimate in estimates
    ]


def _decimal(share: Fraction) -> str:
    """It was typed with few decimals, so it has few."""
    return f"{(Decimal(share.numerator) / share.denominator).normalize():f}"


def as_csv(estimates: Sequence[Estimate], days: int) -> str:
    """A row for each kind of token, and one for the total. Amounts in dollars, with all their decimals."""
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_CSV_COLUMNS)
    for estimate in estimates:
        load, spans = estimate.load, (estimate.call, estimate.over(1), estimate.over(days))
        for kind, tokens in load.tokens.items():
            amounts = (getattr(estimate.prices, kind), *(costs.kinds[kind] for costs in spans))
            price, call, day, period = map(exact_dollars, amounts)
            rows.writerow((estimate.card.id, kind, price, tokens, call, day, days, period))
        call, day, period = (exact_dollars(costs.total) for costs in spans)
        rows.writerow((estimate.card.id, "total", "", sum(load.tokens.values()), call, day, days, period))
    return text.getvalue()


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table
