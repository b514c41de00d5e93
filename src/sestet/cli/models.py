"""`sestet models`: what a client may ask for, and what answers."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sestet.cli.listing import model_lines
from sestet.config import from_process
from sestet.server.compose import catalog, plan


def models(
    config: Annotated[
        Path | None, typer.Option(help="Configuration file; by default sestet.toml here, if there is one.")
    ] = None,
) -> None:
    """List the models of this configuration: ids, aliases, platform ids, and the weights that answer.

    A stand-in is a name of the Claude family that other weights answer for. It says so wherever it appears.
    """
    settings = from_process(config)
    plans = plan(settings)
    names = catalog(settings, plans, {one.id: 0 for one in plans})
    for line in model_lines(names, Console().width, platforms=True):
        typer.echo(line)
