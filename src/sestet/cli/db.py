"""`sestet db`: the database of workspaces, keys, limits and the ledger."""

import contextlib
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from sqlalchemy import URL

from sestet.cli.failure import Failure
from sestet.cli.printable import one_line
from sestet.config import database_url, from_process
from sestet.store.backup import back_up
from sestet.store.checks import check as look
from sestet.store.database import Database, StoreError, open_database

app = typer.Typer(
    name="db",
    help="Upgrade, back up or check the database that holds workspaces, keys, limits and the ledger.\n\n"
    "It is the SQLite file `~/.local/share/sestet/sestet.db` unless `[store] url` in sestet.toml, or SESTET_STORE_URL, "
    "says otherwise: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`.",
    no_args_is_help=True,
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; by default sestet.toml here, if there is one.")
]


@app.command()
def upgrade(config: ConfigFile = None) -> None:
    """Bring the schema to what this program needs; make the database if there is none.

    `sestet serve` does so at its start, too. It is one transaction: if it is interrupted nothing has happened, run it
    again. Back up first: there is no way down but an older backup.
    """
    with _database(config) as database:
        before = database.revision() if database.is_there() else None
        database.upgrade()
        after = database.revision()
    what = f"at revision {after} already" if before == after else f"upgraded from {before or 'nothing'} to {after}"
    typer.echo(f"{one_line(database.place)}: {what}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The file to make. There must be none of this name.")],
    config: ConfigFile = None,
) -> None:
    """Copy the database to FILE, as it is at one moment. Servers go on meanwhile.

    The copy is checked, and whole or not there. Use this and not `cp`, which tears a database that is written to. Only
    its owner can read it: it holds what everybody spent and, for a day, replies to requests with an `Idempotency-Key`.

    To go back: stop every server, put the copy in the place of the database, delete the files beside it that end in
    `-wal` and `-shm`, start again.
    """
    if file.exists():
        raise Failure(f"{file}: there is such a file already")
    with _database(config) as database:
        if database.dialect == "postgresql":
            raise Failure(f"PostgreSQL has a tool for this, which works while it is in use: {_dump(database, file)}")
        console = Console(stderr=True)
        columns = (TextColumn("copying"), BarColumn(), TaskProgressColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            bar = bars.add_task("")
            back_up(database, file, lambda copied, pages: bars.update(bar, completed=copied, total=pages))
    typer.echo(f"{one_line(str(file))}: {file.stat().st_size:,} bytes, integrity ok")


@app.command()
def check(config: ConfigFile = None) -> None:
    """Check the database while servers go on: its file, its schema, and that the ledger adds up. Status 1 if not."""
    with _database(config) as database:
        findings = list(look(database, time.time_ns() // 1000))
    typer.echo(one_line(database.place))
    table = Table(box=None, pad_edge=False)
    for heading in ("what", "result", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(finding.subject, finding.result, one_line(finding.detail))
    Console(highlight=False, markup=False).print(table)
    if any(finding.result == "wrong" for finding in findings):
        raise typer.Exit(1)


@contextlib.contextmanager
def _database(config: Path | None) -> Iterator[Database]:
    try:
        with contextlib.closing(open_database(database_url(from_process(config)))) as database:
            yield database
    except StoreError as error:
        raise Failure(str(error)) from None


def _dump(database: Database, file: Path) -> str:
    """Without the password, which `pg_dump` asks for, or takes from PGPASSWORD or ~/.pgpass."""
    url = database.engine.url
    query = {name: url.query[name] for name in ("host", "port") if name in url.query}
    source = URL.create("postgresql", url.username, host=url.host, port=url.port, database=url.database, query=query)
    return shlex.join(["pg_dump", "--format=custom", f"--file={file}", f"--dbname={source}"])
