"""`sestet usage`: what was asked of the models, in requests and tokens, from the ledger."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Final

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
    report,
)
from sestet.ledger.prices import Kind
from sestet.ledger.reports import Sums

_WEEK: Final = timedelta(days=6)


def usage(  # noqa: PLR0913 - each is an option
    by: ByOption = "day",
    first: FromOption = None,
    last: ToOption = None,
    table: TableOption = False,
    csv: CsvOption = False,
    json: JsonOption = False,
    plot: PlotOption = False,
    config: ConfigOption = None,
) -> None:
    """Requests and tokens, from the ledger: the last seven days, unless you say otherwise.

    Read from the database itself, no server has to run. A request counts on the day it ended, in UTC, however it ended:
    one that failed or was abandoned has used what it used. One that still runs does not count yet.

        sestet usage

        sestet usage --by key --from 2026-11-01

        sestet usage --by model --from 2026-10-01 --to 2026-10-31 --csv > october.csv

        sestet usage --plot

    Thinking is in the output. What was read from the cache is not in the input. `sestet cost` has the money.
    """
    report(_SUBJECT, by, Days.of(first, last, _a_week_to), form_of(table=table, csv=csv, json=json, plot=plot), config)


def _a_week_to(last: date) -> date:
    return last - _WEEK


def _tokens(*kinds: Kind) -> Callable[[Sums], int]:
    return lambda sums: sum(sums.tokens.get(kind, 0) for kind in kinds)


def _all_tokens(sums: Sums) -> int:
    return sum(sums.tokens.values())


_COUNTED: Final = "{:,}".format
_FIELDS: Final = (
    Column("requests", lambda sums: sums.requests),
    Column("input_tokens", _tokens("input")),
    Column("cache_write_5m_tokens", _tokens("cache_write_5m")),
    Column("cache_write_1h_tokens", _tokens("cache_write_1h")),
    Column("cache_read_tokens", _tokens("cache_read")),
    Column("output_tokens", _tokens("output")),
)
_SUBJECT: Final = Subject(
    "Usage",
    (
        Column("requests", lambda sums: sums.requests, _COUNTED),
        Column("input", _tokens("input"), _COUNTED),
        Column("cache writes", _tokens("cache_write_5m", "cache_write_1h"), _COUNTED),
        Column("cache reads", _tokens("cache_read"), _COUNTED),
        Column("output", _tokens("output"), _COUNTED),
    ),
    csv=_FIELDS,
    json=_FIELDS,
    bars=(Column("tokens", _all_tokens, _COUNTED),),
)
