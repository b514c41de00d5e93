"""What `sestet usage` and `sestet cost` have in common: days of the ledger, added up by something, and shown."""

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich import box
from rich.bar import Bar
from rich.console import Console
from rich.table import Table

from sestet.cli.failure import Failure
from sestet.cli.printable import one_line
from sestet.config import database_url, from_process
from sestet.ledger.reports import DAY_US, NOTHING, Dimension, Group, Query, Sums
from sestet.services.reports import by_days
from sestet.store.database import Database, StoreError, newest_revision, open_database
from sestet.store.directory import Directories
from sestet.store.reports import sums

By = Literal["day", "key", "workspace", "model", "tier"]
Form = Literal["table", "csv", "json", "plot"]

_DIMENSIONS: Final[Mapping[By, Dimension]] = {
    "key": "api_key_id",
    "workspace": "workspace_id",
    "model": "model",
    "tier": "service_tier",
}
_NAMED: Final = ("key", "workspace")
_EPOCH: Final = date(1970, 1, 1)
_DAYS_MAX: Final = 3_660
_BAR_WIDTH: Final = 40
_WIDTH_IN_A_PIPE: Final = 140

ByOption = Annotated[By, typer.Option(help="What to add up by.")]
FromOption = Annotated[
    datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, in UTC.", show_default=False)
]
ToOption = Annotated[
    datetime | None,
    typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, in UTC; by default today.", show_default=False),
]
TableOption = Annotated[bool, typer.Option("--table", help="A table; so it is by default.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="CSV, with a header and without a total.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, with the total.")]
PlotOption = Annotated[bool, typer.Option("--plot", help="Bars.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; by default sestet.toml here, if there is one.")
]


@dataclass(frozen=True, slots=True)
class Days:
    """From one day to another, both included."""

    first: date
    last: date

    @classmethod
    def of(cls, first: datetime | None, last: datetime | None, otherwise: Callable[[date], date]) -> "Days":
        """As the options say; `otherwise` gives the first day to a last one."""
        end = datetime.now(UTC).date() if last is None else last.date()
        start = otherwise(end) if first is None else first.date()
        if start > end:
            raise Failure(f"--from {start} is after --to {end}")
        if (end - start).days >= _DAYS_MAX:
            raise Failure(f"--from {start}: that is more than {_DAYS_MAX:,} days")
        return cls(start, end)

    def query(self, by: By) -> Query:
        begin, end = ((day - _EPOCH).days * DAY_US for day in (self.first, self.last + timedelta(1)))
        return Query(begin, end, DAY_US, frozenset() if by == "day" else frozenset((_DIMENSIONS[by],)))


@dataclass(frozen=True, slots=True)
class Line:
    """`name` is what people call a key or a workspace; other things have none."""

    id: str
    name: str
    sums: Sums


@dataclass(frozen=True, slots=True)
class Column:
    """A number: what it is called, where it comes from, and how it is written."""

    name: str
    value: Callable[[Sums], int]
    written: Callable[[int], str] = str

    def of(self, sums: Sums) -> str:
        return self.written(self.value(sums))


@dataclass(frozen=True, slots=True)
class Subject:
    """`bars` are what is drawn, the first of them also what lines are ordered by."""

    title: str
    table: Sequence[Column]
    csv: Sequence[Column]
    json: Sequence[Column]
    bars: Sequence[Column]


def form_of(**wanted: bool) -> Form:
    """The one that was asked for."""
    asked: list[Form] = [name for name in ("table", "csv", "json", "plot") if wanted[name]]
    if len(asked) > 1:
        raise Failure(f"--{asked[0]} and --{asked[1]} are two answers; ask for one of them")
    return asked[0] if asked else "table"


def report(subject: Subject, by: By, days: Days, form: Form, config: Path | None) -> None:
    """Adds up and prints."""
    with _database(config) as database:
        lines = _lines(database, by, days, subject.bars[0].value)
    match form:
        case "csv":
            typer.echo(_csv(subject, by, lines), nl=False)
        case "json":
            typer.echo(json.dumps(_json(subject, by, days, lines), indent=2))
        case "table":
            _print(_table(subject, by, days, lines))
        case "plot":
            _print(_plot(subject, by, days, lines))


@contextlib.contextmanager
def _database(config: Path | None) -> Iterator[Database]:
    try:
        with contextlib.closing(open_database(database_url(from_process(config)))) as database:
            if database.revision() != newest_revision():
                raise Failure(f"{database.place}: its schema is another program's; try `sestet db upgrade`")
            yield database
    except StoreError as error:
        raise Failure(str(error)) from None


def _lines(database: Database, by: By, days: Days, order: Callable[[Sums], int]) -> list[Line]:
    """Days as they come, also those without use; of others the largest first."""
    query = days.query(by)
    found = [group for day in by_days(query) for group in sums(database, day)]
    if by == "day":
        used = {group.starting_at: group.sums for group in found}
        starts = range(query.start, query.end, DAY_US)
        return [Line(str(_EPOCH + timedelta(start // DAY_US)), "", used.get(start, NOTHING)) for start in starts]

    def identifier(group: Group) -> str:
        return group.values[_DIMENSIONS[by]]

    names = _names(database, by)
    lines = [
        Line(one_line(key), one_line(names.get(key, "")), sum((group.sums for group in groups), NOTHING))
        for key, groups in groupby(sorted(found, key=identifier), identifier)
    ]
    return sorted(lines, key=lambda line: -order(line.sums))


def _names(database: Database, by: By) -> Mapping[str, str]:
    if by not in _NAMED:
        return {}
    directory = Directories(database).read()
    return {one.id: one.name for one in (directory.keys if by == "key" else directory.workspaces.values())}


def _total(lines: Sequence[Line]) -> Sums:
    return sum((line.sums for line in lines), NOTHING)


def _csv(subject: Subject, by: By, lines: Sequence[Line]) -> str:
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow((by, *_if_named(by, "name"), *(column.name for column in subject.csv)))
    for line in lines:
        rows.writerow((line.id, *_if_named(by, line.name), *(column.of(line.sums) for column in subject.csv)))
    return text.getvalue()


def _json(subject: Subject, by: By, days: Days, lines: Sequence[Line]) -> dict[str, object]:
    def numbers(of: Sums) -> dict[str, int]:
        return {column.name: column.value(of) for column in subject.json}

    return {
        "from": str(days.first),
        "to": str(days.last),
        "by": by,
        "lines": [
            {by: line.id, **({"name": line.name} if by in _NAMED else {}), **numbers(line.sums)} for line in lines
        ],
        "total": numbers(_total(lines)),
    }


def _table(subject: Subject, by: By, days: Days, lines: Sequence[Line]) -> Table:
    table = _framed(subject, by, days)
    for column in subject.table:
        table.add_column(column.name, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(line.id, *_if_named(by, line.name), *(column.of(line.sums) for column in subject.table))
    table.add_section()
    total = _total(lines)
    table.add_row("total", *_if_named(by, ""), *(column.of(total) for column in subject.table), style="bold")
    return table


def _plot(subject: Subject, by: By, days: Days, lines: Sequence[Line]) -> Table:
    """A bar for each line, or several under each other, all on one scale."""
    table = _framed(subject, by, days)
    table.add_column("", width=_BAR_WIDTH)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    most = max((bar.value(line.sums) for line in lines for bar in subject.bars), default=0)
    for line in lines:
        for number, bar in enumerate(subject.bars):
            called = (line.id, *_if_named(by, line.name)) if number == 0 else ("", *_if_named(by, ""))
            colour = "green" if number else "blue"
            drawn = Bar(max(most, 1), 0, bar.value(line.sums), width=_BAR_WIDTH, color=colour)
            table.add_row(*called, drawn, bar.of(line.sums), bar.name)
    return table


def _framed(subject: Subject, by: By, days: Days) -> Table:
    title = f"{subject.title} by {by}, {days.first} to {days.last} (UTC)"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(by, overflow="fold")
    for heading in _if_named(by, "name"):
        table.add_column(heading, overflow="fold")
    return table


def _if_named(by: By, text: str) -> tuple[str, ...]:
    return (text,) if by in _NAMED else ()


def _print(table: Table) -> None:
    # A pipe has no width; a table that is folded there cannot be read again.
    width = None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE
    Console(highlight=False, markup=False, width=width).print(table)
