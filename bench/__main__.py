"""`python -m bench [NAME ...] [--quick]`: runs benchmarks; exit status 1 when a target was missed."""

import shlex
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench import accounts, cache, faces, native, overhead, streams, thinking, tools
from bench.report import Report

_FILE_WIDTH = 150

Benchmark = Callable[[Progress, Path, bool], Report]

BENCHMARKS: dict[str, Benchmark] = {
    "accounts": accounts.run,
    "cache": cache.run,
    "faces": faces.run,
    "native": native.run,
    "overhead": overhead.run,
    "streams": streams.run,
    "thinking": thinking.run,
    "tools": tools.run,
    "validity": tools.run_validity,
}


def main(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Which: {', '.join(BENCHMARKS)}. All of them by default.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Short rounds: to see that it runs, not to quote.")] = False,
) -> None:
    """Measure this server side by side with what a user would pick instead."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended too
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    unknown = sorted(set(names or ()) - BENCHMARKS.keys())
    if unknown:
        console.print(f"[bold red]bench:[/] there is no benchmark `{unknown[0]}`; there are {', '.join(BENCHMARKS)}")
        raise typer.Exit(2)
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    missed = 0
    for name in names or list(BENCHMARKS):
        with _progress(console) as progress, tempfile.TemporaryDirectory(prefix="sestet-bench-") as folder:
            report = BENCHMARKS[name](progress, Path(folder), quick)
        report.show(console, command)
        console.print(f"Written to {report.write(Path(__file__).parent / 'results', command)}\n", soft_wrap=True)
        missed += report.missed
    raise typer.Exit(1 if missed else 0)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
