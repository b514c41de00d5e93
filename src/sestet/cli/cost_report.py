"""`sestet cost`, and `sestet cost report`: what requests cost, from the ledger."""

from datetime import date
from typing import Final

import typer

from sestet.cli.estimates import dollars, exact_dollars
from sestet.cli.failure import refuse_options
from sestet.cli.ledger_report import (
    ByOption,
    Column,
    ConfigOption,
    CsvOption,
    Days,
    FromOption,
    JsonOption,
    PlotOption,
    Subject,
    TableOption,
    ToOption,
    form_of,
)
from sestet.cli.ledger_report import report as show
from sestet.ledger.reports import Sums


def report(  # noqa: PLR0913 - each is an option
    context: typer.Context,
    by: ByOption = "day",
    first: FromOption = None,
    last: ToOption = None,
    table: TableOption = False,
    csv: CsvOption = False,
    json: JsonOption = False,
    plot: PlotOption = False,
    config: ConfigOption = None,
) -> None:
    """What requests cost, from the ledger: this month, unless you say otherwise.

    Twice: at the prices of the cards, which is what the same traffic would have cost hosted, and what it cost you at
    the `own_prices` of your configuration. Prices are those of the moment a request began; a change of prices changes
    no bill. Read from the database itself, no server has to run. A request counts on the day it ended, in UTC.

        sestet cost

        sestet cost --by workspace --from 2026-10-01 --to 2026-10-31

        sestet cost --by key --csv > keys.csv

        sestet cost --by model --plot

    `sestet cost estimate` says beforehand what something would cost.
    """
    if context.invoked_subcommand is not None:
        refuse_options(context)
        return
    form = form_of(table=table, csv=csv, json=json, plot=plot)
    show(_SUBJECT, by, Days.of(first, last, _first_of_month), form, config)


def _first_of_month(last: date) -> date:
    return last.replace(day=1)


def _tokens(sums: Sums) -> int:
    return sum(sums.tokens.values())


def _cost(sums: Sums) -> int:
    return sums.cost.total


def _own_cost(sums: Sums) -> int:
    return sums.own_cost.total


_COUNTED: Final = "{:,}".format
_FIELDS: Final = (Column("requests", lambda sums: sums.requests), Column("tokens", _tokens))
_BARS: Final = (Column("at the cards' prices", _cost, dollars), Column("your own cost", _own_cost, dollars))
_SUBJECT: Final = Subject(
    "Cost in US dollars",
    (Column("requests", lambda sums: sums.requests, _COUNTED), Column("tokens", _tokens, _COUNTED), *_BARS),
    csv=(*_FIELDS, Column("dollars", _cost, exact_dollars), Column("own_dollars", _own_cost, exact_dollars)),
    json=(*_FIELDS, Column("micro_dollars", _cost), Column("own_micro_dollars", _own_cost)),
    bars=_BARS,
)
