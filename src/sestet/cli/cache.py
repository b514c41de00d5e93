"""`sestet cache`: what a running server keeps of prompts, and how to make it forget."""

import csv
import json
import sys
from collections.abc import Mapping
from io import StringIO
from typing import Annotated, Final, Literal

import httpx2
import orjson
import typer
from pydantic import BaseModel, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table

from sestet import __version__
from sestet.cli.failure import Failure, refuse_options
from sestet.cli.printable import one_line
from sestet.cli.web import http_url, shown
from sestet.server.caching import LIMIT_MAX, PATH
from sestet.server.exposure import is_loopback

_ANSWER_S_MAX: Final = 30.0
_WIDTH_IN_A_PIPE: Final = 140
_KEPT_FOR: Final = {"5m": "5 min", "1h": "1 h"}

UrlOption = Annotated[str, typer.Option(help="Where the server is.")]
KeyOption = Annotated[
    str | None,
    typer.Option(envvar="ANTHROPIC_API_KEY", help="API key, where the server asks for one.", show_default=False),
]
WorkspaceOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Only what is kept for this workspace.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, with the total.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="CSV, with a header and without a total.")]

_URL: Final = "http://127.0.0.1:8000"


class _Entry(BaseModel):
    id: str
    weights: str
    workspace_id: str
    model: str
    tokens: int
    bytes: int
    lifetime: Literal["5m", "1h"]
    expires_in_s: int
    hits: int


class _Total(BaseModel):
    entries: int
    bytes: int
    budget_bytes: int


class _Listing(BaseModel):
    data: list[_Entry]
    total: _Total


class _Cleared(BaseModel):
    entries: int


def list_(
    context: typer.Context,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
    csv_: CsvOption = False,
    url: UrlOption = _URL,
    key: KeyOption = None,
) -> None:
    """What a running server keeps of prompts, by the time that is left.

    A line is a beginning of prompts that ended at a `cache_control` breakpoint: until its time is over, a request that
    begins in the same way reads it, and its time begins again. No text of a prompt is shown.

        sestet cache

        sestet cache list --workspace wrkspc_default

        sestet cache list --csv > cache.csv

        sestet cache clear --workspace wrkspc_default

    Entries of one conversation are in one snapshot: each line has the snapshot's size, the total counts it once. Where
    the server asks for keys, this takes one with the scope `operations`; one of a workspace sees its workspace alone.
    """
    if context.invoked_subcommand is not None:
        refuse_options(context)
        return
    if json_ and csv_:
        raise Failure("--json and --csv are two answers; ask for one of them")
    asked = {"limit": str(LIMIT_MAX), **_only(workspace)}
    body = _answer("GET", url, key, asked)
    try:
        listing = _Listing.model_validate_json(body)
    except ValidationError:
        raise _no_cache(shown(http_url(url))) from None
    if json_:
        typer.echo(json.dumps(orjson.loads(body), indent=2))
    elif csv_:
        typer.echo(_csv(listing), nl=False)
    else:
        _print(listing)
    if len(listing.data) < listing.total.entries:
        typer.echo(f"These {len(listing.data):,} end first; there are more.", err=True)


def clear(
    workspace: WorkspaceOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: UrlOption = _URL,
    key: KeyOption = None,
) -> None:
    """Make a running server forget what it keeps of prompts.

    Nothing fails: the next requests compute their prompts again, and write them to the cache again.

        sestet cache clear

        sestet cache clear --workspace wrkspc_default --yes
    """
    whose = "of all workspaces" if workspace is None else f"of {one_line(workspace)}"
    if not yes:
        typer.confirm(f"Forget the cached prompts {whose}?", abort=True, err=True)
    try:
        cleared = _Cleared.model_validate_json(_answer("DELETE", url, key, _only(workspace)))
    except ValidationError:
        raise _no_cache(shown(http_url(url))) from None
    typer.echo(f"{_entries(cleared.entries)} cleared.")


app = typer.Typer(name="cache", callback=list_, invoke_without_command=True)
app.command("list")(list_)
app.command()(clear)


def _only(workspace: str | None) -> dict[str, str]:
    return {} if workspace is None else {"workspace_id": workspace}


def _answer(method: str, url: str, key: str | None, query: Mapping[str, str]) -> bytes:
    """What the server says, or `Failure`."""
    address = http_url(url.rstrip("/"))
    where = shown(address)
    headers = {"user-agent": f"sestet/{__version__}", **({"x-api-key": key} if key else {})}
    try:
        # A proxy of the environment is for the world outside, not for this machine.
        with httpx2.Client(base_url=address, timeout=_ANSWER_S_MAX, trust_env=not is_loopback(address.host)) as client:
            response = client.request(method, PATH, params=query, headers=headers)
    except httpx2.ConnectError:
        raise Failure(
            f"nothing answers at {where}; start `sestet serve` in another terminal, or give --url. Without a server "
            "nothing is read from the cache"
        ) from None
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise Failure(f"the connection to {where} broke: {one_line(str(error)) or type(error).__name__}") from None
    except UnicodeEncodeError as error:
        raise Failure(f"--key cannot be used: {one_line(str(error))}") from None
    if response.status_code == 200:
        return response.content
    raise _refused(response, where)


def _refused(response: httpx2.Response, where: str) -> Failure:
    try:
        said = one_line(str(orjson.loads(response.content)["error"]["message"]))
    except (ValueError, KeyError, TypeError):
        return _no_cache(where)
    match response.status_code:
        case 401:
            return Failure(f"{said}; give the key with --key or in ANTHROPIC_API_KEY")
        case 403:
            return Failure(
                f"{said}; give another with --key, or make one: "
                "sestet keys create NAME --organization --scope operations"
            )
        case 404:
            return _no_cache(where)
    return Failure(said)


def _no_cache(where: str) -> Failure:
    return Failure(f"what answers at {where} tells nothing of a prompt cache; is it a Sestet, and as new as this one?")


def _csv(listing: _Listing) -> str:
    text = StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_Entry.model_fields)
    for entry in listing.data:
        rows.writerow(one_line(str(value)) for value in entry.model_dump().values())
    return text.getvalue()


def _print(listing: _Listing) -> None:
    # A pipe has no width; a table that is folded there cannot be read again.
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE)
    total = listing.total
    if total.entries == 0:
        console.print(_nothing(total), soft_wrap=True)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("time left", "of", "tokens", "size", "hits"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("model", "workspace"):
        table.add_column(heading, overflow="fold")
    for entry in listing.data:
        table.add_row(
            duration(entry.expires_in_s),
            _KEPT_FOR[entry.lifetime],
            f"{entry.tokens:,}",
            size(entry.bytes),
            f"{entry.hits:,}",
            one_line(entry.model),
            one_line(entry.workspace_id),
        )
    console.print(table)
    console.print(
        f"{_entries(total.entries)} in {size(total.bytes)} of the {size(total.budget_bytes)} that `cache.disk` allows.",
        soft_wrap=True,
    )


def _nothing(total: _Total) -> str:
    if total.budget_bytes == 0:
        return (
            "This server keeps nothing of prompts: `cache.disk` is 0, or the server's log says why "
            "(prompts_not_cached)."
        )
    return (
        f"Nothing is kept, of the {size(total.budget_bytes)} that `cache.disk` allows. What requests mark with "
        "`cache_control` is, for 5 minutes or an hour."
    )


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def size(count: int) -> str:
    """Bytes for people, three digits of them."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * factor:  # what would be rounded to 1,000 is 1 of the next
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"


def duration(seconds: int) -> str:
    """Minutes and seconds for people."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes} min {rest:2} s" if minutes else f"{rest} s"
