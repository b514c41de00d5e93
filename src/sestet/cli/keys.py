"""`sestet keys`: API keys, made and revoked on the database itself. A key in clear is printed once, alone, on standard
output; everything else about it goes to standard error."""

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from sestet.catalog.card import family_cards
from sestet.catalog.catalog import Catalog, Route
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line
from sestet.config import Config, ConfigError, database_url, from_process
from sestet.contract.errors import ApiError
from sestet.contract.organization import KeyCreation, KeyUpdate
from sestet.dialects.organization import key_fields
from sestet.gate.directory import DEFAULT_WORKSPACE, SCOPES, Directory, Key
from sestet.server import ids
from sestet.server.compose import catalog, now_us, peppers_of, plan
from sestet.services.administration import LOCAL, Administration
from sestet.store.database import Database, StoreError, newest_revision, open_database
from sestet.store.directory import Directories

app = typer.Typer(
    name="keys",
    help="Make, list, rotate and revoke API keys.\n\n"
    "They are changed on the database of the configuration, whether a server runs or not; one that runs applies a "
    "change within a second. The first key is for administration:\n\n"
    "    sestet keys bootstrap\n\n"
    "    sestet keys create laptop --expires 90d",
    no_args_is_help=True,
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; by default sestet.toml here, if there is one.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON, on standard output.")]

_UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_Model = TypeVar("_Model", bound=BaseModel)

_WIDTH_IN_A_PIPE: Final = 140


@app.command()
def bootstrap(
    name: Annotated[str, typer.Argument(help="What to call it.")] = "admin",
    another: Annotated[bool, typer.Option("--another", help="Make one although there is an active one.")] = False,
    json_: Json = False,
    config: ConfigFile = None,
) -> None:
    """Make the first admin key of the organisation, and show it once.

    It administrates: keys, workspaces, limits, reports. It cannot be used for inference; `sestet keys create` makes
    keys for that. As soon as there is any key, every request needs one.

        sestet keys bootstrap > admin-key
    """
    with opened(config) as office:
        active = [key for key in office.directory().keys if _administrates(office, key)]
        if active and not another:
            raise Failure(
                f"there is an admin key already: {active[0].id} ({one_line(active[0].name)}). Use it, revoke it with "
                f"`sestet keys revoke {active[0].id}`, or make one more with --another"
            )
        request = asked(KeyCreation, name=name, scopes=sorted(SCOPES - {"inference"}))
        key, clear = office.do.create_key(LOCAL, ids.key_id(), request)
        _show(office, key, clear, json_)
    note("From now on every request needs a key. Make one for inference: sestet keys create NAME")


@app.command()
def create(  # noqa: PLR0913 - each is an option
    name: Annotated[str, typer.Argument(help="What to call it; names need not differ.", show_default=False)],
    workspace: Annotated[
        str | None, typer.Option(help="Its workspace, by name or id. By default the default one.", show_default=False)
    ] = None,
    organization: Annotated[
        bool, typer.Option("--organization", help="A key of the organisation, in no workspace; not for inference.")
    ] = False,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it may do: inference, usage, admin, operations; again for more. By default inference.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model it may use, by any of its names; again for more. By default all.", show_default=False
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(help="When it ends: 12h, 90d, 26w, or a date. By default never.", show_default=False),
    ] = None,
    json_: Json = False,
    config: ConfigFile = None,
) -> None:
    """Make a key, and show it once: it is kept as a keyed hash, so nobody can show it again.

    sestet keys create laptop --expires 90d

    sestet keys create batch-jobs --workspace research --scope inference --scope usage --model claude-3-haiku-20240307

    sestet keys create ci-admin --workspace research --scope admin --scope inference

    ANTHROPIC_API_KEY=$(sestet keys create laptop)
    """
    if organization and workspace is not None:
        raise Failure("--organization and --workspace are two places; give one of them")
    with opened(config) as office:
        request = asked(
            KeyCreation,
            name=name,
            workspace_id=None if organization else office.workspace_id(workspace or DEFAULT_WORKSPACE),
            scopes=scope or ["inference"],
            models=model or None,
            expires_at=None if expires is None else _moment(expires),
        )
        key, clear = office.do.create_key(LOCAL, ids.key_id(), request)
        _show(office, key, clear, json_)


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Revoked and expired ones too.")] = False,
    json_: Json = False,
    config: ConfigFile = None,
) -> None:
    """List the keys: who may do what, where and until when. Never a key itself, only its last characters."""
    with opened(config) as office:
        directory = office.directory()
        keys = [key for key in directory.keys if all_ or office.do.status(key) in ("active", "inactive")]
        if json_:
            typer.echo(json.dumps([key_fields(key, office.do.status(key)) for key in keys], indent=2))
            return
        if not keys:
            note("No keys. The first one: sestet keys bootstrap")
            return
        table = Table(box=None, pad_edge=False)
        for heading in ("id", "name", "ends in", "workspace", "for", "models", "status"):
            table.add_column(heading, overflow="fold", no_wrap=heading in ("id", "ends in"))
        for key in keys:
            table.add_row(
                key.id,
                one_line(key.name),
                key.hint[-4:],
                _place(directory, key),
                " ".join(sorted(key.scopes)),
                "all" if key.models is None else " ".join(sorted(key.models)),
                _standing(office, key),
            )
        table_console().print(table)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id: apikey_... Not the key.")],
    config: ConfigFile = None,
) -> None:
    """Revoke a key, for ever. Servers refuse it within a second; a reply that runs is finished."""
    with opened(config) as office:
        key = office.do.change_key(LOCAL, key_id, KeyUpdate(status="archived"))
    note(f"{key.id} ({one_line(key.name)}) is revoked.")


@app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the key to replace: apikey_...")],
    grace: Annotated[str, typer.Option(help="How long the old one still works: 30m, 1h, 7d, 0m.")] = "1h",
    json_: Json = False,
    config: ConfigFile = None,
) -> None:
    """Make a new key with the same rights, and let the old one end after a while.

    sestet keys rotate apikey_0123 --grace 24h
    """
    with opened(config) as office:
        key, clear = office.do.rotate_key(LOCAL, key_id, ids.key_id(), _duration(grace) // timedelta(microseconds=1))
        _show(office, key, clear, json_)
        old = office.do.key(LOCAL, key_id)
        note(f"{old.id} works until {when(old.expires_at or 0)}.")


class Office:
    """The store of a configuration, for whoever administrates it from this machine."""

    def __init__(self, settings: Config, database: Database) -> None:
        self.names = _names(settings)
        self.do = Administration(Directories(database), peppers_of(settings), self.names, now_us)

    def directory(self) -> Directory:
        return self.do.directory(LOCAL)

    def workspace_id(self, name: str) -> str:
        """Of a workspace that is named or given by its id."""
        workspaces = self.directory().workspaces
        if name in workspaces:
            return name
        for workspace in workspaces.values():
            if workspace.name == name:
                return workspace.id
        raise Failure(f"there is no workspace `{one_line(name)}`; `sestet workspaces list` says which there are")


@contextlib.contextmanager
def opened(config: Path | None) -> Iterator[Office]:
    """The database is made if there is none, so that the first key can be made before the first start."""
    settings = from_process(config)
    try:
        with contextlib.closing(open_database(database_url(settings))) as database:
            if not database.is_there() or database.revision() is None:
                database.upgrade()
            elif database.revision() != newest_revision():
                raise Failure(f"{database.place}: its schema is not this program's; run `sestet db upgrade` first")
            yield Office(settings, database)
    except StoreError as error:
        raise Failure(str(error)) from None
    except ApiError as error:
        where = "; see `sestet keys list --all` and `sestet workspaces list`" if error.kind == "not_found_error" else ""
        raise Failure(f"{error.message}{where}") from None


def asked(model: type[_Model], **given: Any) -> _Model:
    """What the Admin API would be sent for these options, by the same rules."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Failure(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def note(text: str) -> None:
    """Beside what is asked for, and never in a pipe's way."""
    Console(stderr=True, highlight=False, markup=False).print(text, soft_wrap=True)


def table_console() -> Console:
    """A pipe has no width; a table that is folded there cannot be read again."""
    width = None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE
    return Console(highlight=False, markup=False, width=width)


def when(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _names(settings: Config) -> Catalog:
    """What this configuration serves. Where its weights are not on this machine, the cards that everyone has."""
    try:
        plans = plan(settings)
        return catalog(settings, plans, {one.id: 0 for one in plans})
    except ConfigError:
        return Catalog([Route(card, card.id, card.display_name) for card in family_cards()])


def _administrates(office: Office, key: Key) -> bool:
    return key.workspace_id is None and "admin" in key.scopes and office.do.status(key) == "active"


def _show(office: Office, key: Key, clear: str, as_json: bool) -> None:
    """First the key, then what it is: whoever reads it from a pipe has it before anything else can go wrong."""
    if as_json:
        typer.echo(json.dumps(key_fields(key, office.do.status(key)) | {"key": clear}, indent=2))
    else:
        typer.echo(clear)
    until = "" if key.expires_at is None else f", until {when(key.expires_at)}"
    place = _place(office.directory(), key)
    note(
        f"{key.id} ({one_line(key.name)}) in {place} for {', '.join(sorted(key.scopes))}{until}. "
        "Keep the key now: it is not shown again."
    )


def _place(directory: Directory, key: Key) -> str:
    return "the organisation" if key.workspace_id is None else one_line(directory.workspaces[key.workspace_id].name)


def _standing(office: Office, key: Key) -> str:
    status = office.do.status(key)
    return f"{status}, until {when(key.expires_at)}" if status == "active" and key.expires_at is not None else status


def _moment(text: str) -> datetime:
    """A duration from now, or a date, which begins in UTC."""
    if re.fullmatch(r"\d+[a-z]", text):
        return datetime.now(UTC) + _duration(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(f"`{one_line(text)}` is neither a duration like 90d nor a date like 2027-01-31") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if match is None:
        raise Failure(f"`{one_line(text)}` is no duration; write 30m, 12h, 90d or 26w")
    return int(match[1]) * _UNITS[match[2]]
