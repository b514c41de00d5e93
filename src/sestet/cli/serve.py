"""`sestet serve`: runs the server and says where it is, what it serves, and what to paste."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sestet.cli.listing import model_lines
from sestet.config import Config, from_process
from sestet.engines.llamacpp.embedded import WEIGHTS_ID
from sestet.server import logs
from sestet.server.compose import Application, Plan
from sestet.server.run import serve as run_server

_console = Console(stderr=True, highlight=False)


def serve(
    config: Annotated[
        Path | None, typer.Option(help="Configuration file; by default sestet.toml here, if there is one.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Other than this machine's own needs keys.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Serve this GGUF file instead of what the configuration names.", readable=False),
    ] = None,
    engine: Annotated[str | None, typer.Option(help="`llamacpp` or `scripted`.")] = None,
    script: Annotated[Path | None, typer.Option(help="What the scripted engine says, a TOML file.")] = None,
) -> None:
    """Serve the Messages API. Without any configuration: the embedded model on 127.0.0.1:8000.

    Stop it with Ctrl-C or SIGTERM: running replies are finished first. A second one stops at once.
    """
    settings = from_process(
        config,
        {
            "server": {"host": host, "port": port},
            "engine": {"kind": engine, "script": script},
        },
    )
    if model is not None:
        settings = settings.model_copy(update={"weights": _one_file(model)})
    logs.configure(settings.log.level, settings.log.format)
    run_server(settings, _loading, lambda application, url: _banner(settings, application, url))


def _one_file(model: Path) -> object:
    return Config.model_validate({"weights": [{"path": model}]}).weights


def _loading(plan: Plan) -> None:
    source = f" from {plan.path}" if plan.path else ""
    _console.print(f"Loading {plan.display_name}{source} ...", markup=False, soft_wrap=True)


def _banner(settings: Config, application: Application, url: str) -> None:
    _console.print()
    _console.print(f"[bold]Sestet[/] serves the Claude Messages API at [bold]{url}[/]")
    _console.print(f"{_access(application)}\n")
    for line in model_lines(application.catalog, _console.width, platforms=False):
        _console.print(line, markup=False, soft_wrap=True)
    if WEIGHTS_ID in application.served:
        _console.print(
            "\nThe embedded model has 135 million parameters and is often wrong. A better one: "
            f"{_command()} pull --help",
            soft_wrap=True,
        )
    _console.print(f"\nIn another terminal: [bold]{_command()} chat --url {url}[/], or in Python:\n")
    _console.print(_snippet(url, application), markup=False, soft_wrap=True)
    _console.print(f"\nBrowse the API at {url}/ . Stop with Ctrl-C.\n")


def _command() -> str:
    """How this shell would find the command again: by its name, or by the path it was started with."""
    started_as = Path(sys.argv[0])
    is_hidden = started_as.name == "sestet" and shutil.which("sestet") is None
    return os.path.relpath(started_as) if is_hidden else "sestet"


def _access(application: Application) -> str:
    if not application.keyring.is_open:
        return "An API key is required."
    return "No API key is needed on this machine's own address, and any will do."


def _snippet(url: str, application: Application) -> str:
    model = application.catalog.routes()[0].card.id
    key = "any" if application.keyring.is_open else "YOUR_KEY"
    return (
        f'import anthropic\n\nclient = anthropic.Anthropic(base_url="{url}", api_key="{key}")\n'
        f'message = client.messages.create(\n    model="{model}",\n    max_tokens=200,\n'
        f'    messages=[{{"role": "user", "content": "Why is the sky blue?"}}],\n)\n'
        f"print(message.content[0].text)"
    )
