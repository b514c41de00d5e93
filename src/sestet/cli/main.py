"""The `sestet` command: its subcommands, and how it fails: one line that says what to do, exit status 2."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from sestet import __version__
from sestet.cli.printable import one_line
from sestet.config import ConfigError
from sestet.engines.llamacpp.process import EngineLoadError

# What may follow `sestet`, in the order of its help; each is a module that has a command of its name, or an `app`.
_MODULES: Final = {
    "serve": "serve",
    "models": "models",
    "pull": "pull",
    "chat": "chat",
    "eval": "evaluate",
    "usage": "usage",
    "cost": "cost",
    "cache": "cache",
    "keys": "keys",
    "workspaces": "workspaces",
    "db": "db",
    "signing-keys": "signing_keys",
}


def application(arguments: Sequence[str]) -> typer.Typer:
    """The command for these arguments. Where they begin with a subcommand only that one is loaded: a chat need not wait
    for what a server is made of."""
    app = typer.Typer(
        name="sestet",
        help="The Claude Messages API, with the whole contract behind it, for models you run yourself.\n\n"
        "Start with `sestet serve`, then `sestet chat` in another terminal.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    app.callback()(_options)
    for name in arguments[:1] if arguments[:1] and arguments[0] in _MODULES else _MODULES:
        module = import_module(f"sestet.cli.{_MODULES[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app)
        else:
            app.command()(getattr(module, name))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sestet {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the subcommand."""


def main() -> None:
    try:
        application(sys.argv[1:])()
    except (ConfigError, EngineLoadError) as error:
        message = Text.assemble(("sestet:", "bold red"), " ", one_line(str(error)))
        Console(stderr=True, highlight=False).print(message, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
