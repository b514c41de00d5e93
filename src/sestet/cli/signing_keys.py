"""`sestet signing-keys`: the secrets that thinking blocks are signed with."""

from pathlib import Path
from typing import Annotated

import typer

from sestet.cli.failure import Failure
from sestet.config import default_signing_keys, from_process
from sestet.gate import signing_keys

app = typer.Typer(
    name="signing-keys",
    help="Show or rotate the secrets that thinking blocks are signed with. They are never printed.",
    no_args_is_help=True,
)

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; by default sestet.toml here, if there is one.")
]


@app.command()
def show(config: ConfigFile = None) -> None:
    """Say where they are, and how many."""
    path = _path(config)
    if not path.exists():
        typer.echo(f"{path}: none yet; the first start of `sestet serve` makes one")
        return
    try:
        count = len(signing_keys.read_or_make(path))
    except signing_keys.SigningKeysError as error:
        raise Failure(str(error)) from None
    typer.echo(f"{path}: {_counted(count)}")


@app.command()
def rotate(config: ConfigFile = None) -> None:
    """Sign with a new secret from the next start on. Blocks signed with the older ones stay valid."""
    path = _path(config)
    try:
        count = signing_keys.rotate(path)
    except signing_keys.SigningKeysError as error:
        raise Failure(str(error)) from None
    typer.echo(f"{path}: {_counted(count)}. Restart `sestet serve` to sign with the new one.")


def _path(config: Path | None) -> Path:
    return from_process(config).thinking.signing_keys or default_signing_keys()


def _counted(count: int) -> str:
    return "1 secret" if count == 1 else f"{count} secrets, the newest signs, all verify"
