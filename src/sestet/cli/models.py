"""`sestet models`: what a client may ask for, and what answers."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

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
    table = Table(header_style="bold")
    for column in ("model", "also called", "answered by"):
        table.add_column(column, overflow="fold")
    aliases = names.aliases()
    for route in names.routes():
        card = route.card
        also = [alias for alias, target in aliases.items() if target == card.id]
        platform = [name for name in (card.bedrock, card.vertex) if name]
        answered = f"{route.weights_name} (stand-in)" if route.stand_in else route.weights_name
        table.add_row(card.id, "\n".join([*also, *platform]), answered)
    Console().print(table)
