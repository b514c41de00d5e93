"""`sestet workspaces`: who shares the organisation, and how much each may use up, on the database itself."""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from sestet.cli.failure import Failure
from sestet.cli.keys import ConfigFile, Json, Office, asked, note, opened, table_console, when
from sestet.cli.printable import one_line
from sestet.contract.organization import (
    CENTS_DIGITS_MAX,
    LIMIT_MAX,
    ClassLimits,
    OrganizationRateLimitQuery,
    Period,
    RateKind,
    SpendLimit,
    SpendLimitQuery,
    SpendLimitSetting,
    WorkspaceCreation,
    WorkspaceRateLimitQuery,
    WorkspaceUpdate,
)
from sestet.dialects.organization import rate_fields, spend_limit_fields, workspace_fields, workspace_rate_fields
from sestet.gate.directory import Workspace
from sestet.server import ids
from sestet.services.administration import LOCAL

app = typer.Typer(
    name="workspaces",
    help="Make, list and archive workspaces, and say how much each may use up.\n\n"
    "They are changed on the database of the configuration, whether a server runs or not; one that runs applies a "
    "change within a second.\n\n"
    "    sestet workspaces create research\n\n"
    "    sestet keys create alice --workspace research\n\n"
    "    sestet workspaces limits research --requests 60 --daily-dollars 20",
    no_args_is_help=True,
)

_NOTHING: Final = "none"
_T = TypeVar("_T")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Its name, which no other workspace has.", show_default=False)],
    json_: Json = False,
    config: ConfigFile = None,
) -> None:
    """Make a workspace. Its id is printed; its name will do wherever one is asked for.

    sestet workspaces create research
    """
    with opened(config) as office:
        request = asked(WorkspaceCreation, name=name)
        workspace = office.do.create_workspace(LOCAL, ids.workspace_id(), request)
    typer.echo(json.dumps(workspace_fields(workspace), indent=2) if json_ else workspace.id)
    if not json_:
        note(f"A key for it: sestet keys create NAME --workspace {workspace.id}")


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Archived ones too.")] = False,
    json_: Json = False,
    config: ConfigFile = None,
) -> None:
    """List the workspaces, and how many keys work in each."""
    with opened(config) as office:
        directory = office.directory()
        listed = [one for one in directory.workspaces.values() if all_ or one.archived_at is None]
        if json_:
            typer.echo(json.dumps([workspace_fields(one) for one in listed], indent=2))
            return
        table = Table(box=None, pad_edge=False)
        for heading in ("id", "name", "keys", "made", "archived"):
            table.add_column(heading, overflow="fold")
        for one in listed:
            active = [key for key in directory.keys if key.workspace_id == one.id and office.do.status(key) == "active"]
            archived = "" if one.archived_at is None else when(one.archived_at)
            table.add_row(one.id, one_line(one.name), str(len(active)), when(one.created_at), archived)
        table_console().print(table)


@app.command()
def archive(
    workspace: Annotated[str, typer.Argument(help="By name or id.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFile = None,
) -> None:
    """Archive a workspace and revoke its keys, for ever. What it has used stays in the books."""
    with opened(config) as office:
        identifier = office.workspace_id(workspace)
        if not yes:
            typer.confirm(f"Archive {identifier} and revoke its keys, for ever?", abort=True, err=True)
        archived = office.do.archive_workspace(LOCAL, identifier)
    note(f"{archived.id} ({one_line(archived.name)}) is archived.")


@app.command()
def limits(  # noqa: PLR0913 - each is an option
    workspace: Annotated[str | None, typer.Argument(help="By name or id.", show_default=False)] = None,
    organization: Annotated[
        bool, typer.Option("--organization", help="Those of the organisation, which bind every workspace.")
    ] = False,
    requests: Annotated[str | None, typer.Option(help="Requests a minute.", show_default=False)] = None,
    input_tokens: Annotated[
        str | None, typer.Option(help="Input tokens a minute, cache reads not counted.", show_default=False)
    ] = None,
    output_tokens: Annotated[str | None, typer.Option(help="Output tokens a minute.", show_default=False)] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="Of this class of models, by the name of any of them; again for more. By default of each of today's.",
            show_default=False,
        ),
    ] = None,
    daily_dollars: Annotated[str | None, typer.Option(help="Dollars a day, UTC.", show_default=False)] = None,
    monthly_dollars: Annotated[str | None, typer.Option(help="Dollars a month, UTC.", show_default=False)] = None,
    concurrency: Annotated[
        str | None, typer.Option(help="Requests at once, running and waiting.", show_default=False)
    ] = None,
    priority_input_tokens: Annotated[
        str | None, typer.Option(help="Input tokens a minute that are served first.", show_default=False)
    ] = None,
    priority_output_tokens: Annotated[
        str | None, typer.Option(help="Output tokens a minute that are served first.", show_default=False)
    ] = None,
    json_: Json = False,
    config: ConfigFile = None,
) -> None:
    """Show what a workspace, or the organisation, may use up; with options, set it. `none` takes a limit away.

    The lower of the two limits binds. Limits by the minute are of each class of models by itself.

        sestet workspaces limits research

        sestet workspaces limits research --requests 60 --input-tokens 100000 --class claude-3-7-sonnet

        sestet workspaces limits research --daily-dollars 20 --monthly-dollars none --concurrency 4

        sestet workspaces limits --organization --monthly-dollars 500
    """
    if (workspace is None) is not organization:
        raise Failure("whose limits? name a workspace, or give --organization")
    rates: dict[RateKind, str | None] = {
        "requests": requests,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
    }
    dollars: dict[Period, str | None] = {"daily": daily_dollars, "monthly": monthly_dollars}
    capacities = {
        "concurrency": concurrency,
        "priority_input_tokens_per_minute": priority_input_tokens,
        "priority_output_tokens_per_minute": priority_output_tokens,
    }
    values = _given(rates, _whole)
    amounts = _given(dollars, _cents)
    own = _given(capacities, _whole)
    if organization and own:
        raise Failure("concurrency and priority belong to a workspace; name one")
    if class_ and not values:
        raise Failure(
            "--class says which limits by the minute to set; give --requests, --input-tokens, --output-tokens"
        )
    with opened(config) as office:
        place = None if workspace is None else office.workspace_id(workspace)
        desk = _Desk(office, place)
        desk.change_rates(values, class_)
        desk.change_spend(amounts)
        if place is not None and own:
            office.do.change_workspace(LOCAL, place, asked(WorkspaceUpdate, **own))
        if json_:
            typer.echo(json.dumps(desk.as_json(), indent=2))
        else:
            desk.show()


class _Desk:
    """The limits of one workspace, or of the organisation."""

    def __init__(self, office: Office, place: str | None) -> None:
        self._do = office.do
        self._names = office.names
        self._place = place

    def change_rates(self, values: Mapping[RateKind, int | None], classes: list[str] | None) -> None:
        if not values:
            return
        entries = {entry.model_class: entry for entry in self._do.rates(LOCAL, OrganizationRateLimitQuery()).data}
        named = (name if name in entries else self._names.resolve(name).card.rate_class for name in classes or entries)
        for model_class in dict.fromkeys(list(named)):
            self._do.change_rates(LOCAL, self._place, entries[model_class].id, values)

    def change_spend(self, amounts: Mapping[Period, int | None]) -> None:
        for period, cents in amounts.items():
            if cents is not None:
                scope: dict[str, str] = {"type": "organization"}
                if self._place is not None:
                    scope = {"type": "workspace", "workspace_id": self._place}
                request = asked(SpendLimitSetting, amount=str(cents), period=period, scope=scope)
                self._do.set_spend_limit(LOCAL, ids.spend_limit_id(), request)
                continue
            for limit in self._spend():
                if limit.period == period:
                    self._do.delete_spend_limit(LOCAL, limit.id)

    def as_json(self) -> dict[str, Any]:
        """In the shapes of the Admin API."""
        if self._place is None:
            rates = [rate_fields(entry) for entry in self._rates()]
            return {"rate_limits": rates, "spend_limits": [spend_limit_fields(limit) for limit in self._spend()]}
        return {
            "workspace": workspace_fields(self._do.workspace(LOCAL, self._place)),
            "rate_limits": [workspace_rate_fields(entry, self._place, inherited=True) for entry in self._rates()],
            "spend_limits": [spend_limit_fields(limit) for limit in self._spend()],
        }

    def show(self) -> None:
        console = table_console()
        entries = self._rates()
        table = Table(box=None, pad_edge=False)
        for heading in ("class of models, a minute", "requests", "input tokens", "output tokens"):
            table.add_column(heading, overflow="fold", justify="left" if heading.startswith("class") else "right")
        for entry in entries:
            table.add_row(one_line(entry.model_class), *(self._limit(entry, kind) for kind in _KINDS))
        if entries:
            console.print(table)
        else:
            console.print("No limits by the minute.")
        for limit in self._spend():
            console.print(f"Spend, {limit.period}: ${limit.amount / 1e6:,.2f}")
        if self._place is not None:
            _show_capacities(console, self._do.workspace(LOCAL, self._place))
        if any(_is_above(entry) for entry in entries):
            note("Above the organisation's limit: there the organisation's binds.")

    def _limit(self, entry: ClassLimits, kind: RateKind) -> str:
        organization = entry.organization.get(kind)
        if self._place is None:
            return "-" if organization is None else f"{organization:,}"
        own = entry.workspace.get(kind)
        if own is not None:
            return f"{own:,}"
        return "-" if organization is None else f"({organization:,})"

    def _rates(self) -> tuple[ClassLimits, ...]:
        """Classes with any limit."""
        if self._place is None:
            entries = self._do.rates(LOCAL, OrganizationRateLimitQuery()).data
            return tuple(entry for entry in entries if entry.organization)
        return self._do.workspace_rates(LOCAL, self._place, WorkspaceRateLimitQuery(include_inherited=True)).data

    def _spend(self) -> tuple[SpendLimit, ...]:
        scope_type: Literal["organization", "workspace"] = "organization" if self._place is None else "workspace"
        query = SpendLimitQuery(scope_type=[scope_type], workspace_id=self._place)
        return self._do.spend_limits(LOCAL, query).data


_KINDS: Final[tuple[RateKind, ...]] = ("requests", "input_tokens", "output_tokens")


def _is_above(entry: ClassLimits) -> bool:
    return any(value > entry.organization.get(kind, value) for kind, value in entry.workspace.items())


def _show_capacities(console: Console, workspace: Workspace) -> None:
    if workspace.concurrency is not None:
        console.print(f"Requests at once: {workspace.concurrency:,}")
    for what, tokens in (("input", workspace.priority_input_tokens), ("output", workspace.priority_output_tokens)):
        if tokens is not None:
            console.print(f"Served first, {what} tokens a minute: {tokens:,}")


def _given(options: Mapping[_T, str | None], read: Callable[[str], int]) -> dict[_T, int | None]:
    """The options that were given; None for `none`."""
    return {name: None if text == _NOTHING else read(text) for name, text in options.items() if text is not None}


def _whole(text: str) -> int:
    digits = text.replace("_", "").replace(",", "")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 16 and 1 <= int(digits) <= LIMIT_MAX):
        raise Failure(f"`{one_line(text)}` is no limit; write a whole number from 1 on, or none")
    return int(digits)


def _cents(text: str) -> int:
    try:
        cents = Decimal(text.removeprefix("$").replace(",", "")) * 100
    except InvalidOperation:
        raise Failure(f"`{one_line(text)}` is no amount; write dollars like 20 or 12.50, or none") from None
    if not cents.is_finite() or cents != cents.to_integral_value() or not 0 <= cents < 10**CENTS_DIGITS_MAX:
        raise Failure(f"`{one_line(text)}` is no amount in whole cents; write dollars like 20 or 12.50, or none")
    return int(cents)
