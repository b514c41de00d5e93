"""The `sestet` command: its subcommands, and how it fails: one line that says what to do, exit status 2."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from sestet import __version__
from sestet.cli import cache, chat, cost, db, evaluate, keys, models, pull, serve, signing_keys, usage, workspaces
from sestet.cli.printable import one_line
from sestet.config import ConfigError
from sestet.engines.llamacpp.process import EngineLoadError

app = typer.Typer(
    name="sestet",
    help="The Claude Messages API, with the whole contract behind it, for models you run yourself.\n\n"
    "Start with `sestet serve`, then `sestet chat` in another terminal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(serve.serve)
app.command()(models.models)
app.command()(pull.pull)
app.command()(chat.chat)
app.add_typer(evaluate.app)
app.command()(usage.usage)
app.add_typer(cost.app)
app.add_typer(cache.app)
app.add_typer(keys.app)
app.add_typer(workspaces.app)
app.add_typer(db.app)
app.add_typer(signing_keys.app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sestet {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the subcommand."""


def main() -> None:
    try:
        app()
    except (ConfigError, EngineLoadError) as error:
        message = Text.assemble(("sestet:", "bold red"), " ", one_line(str(error)))
        Console(stderr=True, highlight=False).print(message, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
