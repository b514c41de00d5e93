"""`sestet eval`: how often a model is right, for each thinking budget, on tasks whose answers can be checked."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sestet import __version__
from sestet.cli.evaluation import plot as picture
from sestet.cli.evaluation.answers import INSTRUCTION
from sestet.cli.evaluation.asking import Asker, Reply, Unanswered
from sestet.cli.evaluation.problems import DEFAULT_TASKS, Problems, parameters_of
from sestet.cli.evaluation.report import show, who
from sestet.cli.evaluation.results import Header, Ledger, Results, Settings, read
from sestet.cli.evaluation.running import Run, questions
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line

BUDGET_MIN: Final = 1024  # the contract's
STOPPED_STATUS: Final = 130  # what shells use for Ctrl-C
INCOMPLETE_STATUS: Final = 1

_console = Console(stderr=True, highlight=False)

app = typer.Typer(name="eval", help="Measure what a running server answers.", no_args_is_help=True)


@app.command()
def reasoning(  # noqa: PLR0913 - each is an option
    url: Annotated[str, typer.Option(help="Where the server is.")] = "http://127.0.0.1:8000",
    model: Annotated[
        str | None, typer.Option(help="Model to measure; by default the first one the server lists.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(envvar="ANTHROPIC_API_KEY", help="API key, where the server asks for one.", show_default=False),
    ] = None,
    tasks: Annotated[str, typer.Option(help="Names of reasoning-gym's datasets.")] = ",".join(DEFAULT_TASKS),
    difficulty: Annotated[
        Literal["easy", "standard"],
        typer.Option(help="`easy` is for small models; `standard` is reasoning-gym's own parameters."),
    ] = "easy",
    count: Annotated[int, typer.Option(min=1, help="Problems of each task.")] = 25,
    budgets: Annotated[str, typer.Option(help="Thinking budgets in tokens; 0 is standard mode.")] = "0,1024,2048,4096",
    answer_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, beyond the budget.")] = 256,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the problems; another one gives others.")] = 1,
    out: Annotated[Path, typer.Option(help="File of results; it is gone on with where it exists.")] = Path(
        "reasoning.jsonl"
    ),
    plot: Annotated[Path | None, typer.Option(help="Picture to draw, .svg or .png.", show_default=False)] = None,
) -> None:
    """Accuracy against thinking budget, on problems that are made on the spot and can be checked.

    Every problem is asked in every mode, with the same words. It can be stopped at any time; the same command goes on.
    """
    settings = Settings(
        tasks={name: dict(given) for name, given in parameters_of(_names(tasks), difficulty).items()},
        count=count,
        budgets=_budgets(budgets),
        answer_tokens=answer_tokens,
        seed=seed,
        instruction=INSTRUCTION,
    )
    if plot is not None:
        picture.check(plot)
    problems = Problems(settings.tasks, count, seed)
    stopped = False
    with Ledger(out) as ledger:
        try:
            asyncio.run(_measure(Asker(url, key, model or "", concurrency), settings, problems, ledger, concurrency))
        except KeyboardInterrupt:
            stopped = True
        if ledger.begun:
            _report(ledger.results, plot)
            incomplete = bool(ledger.results.failures)
        else:
            incomplete = True
    if stopped:
        _console.print("\nStopped. What was answered is kept; the same command goes on from there.")
        raise typer.Exit(STOPPED_STATUS)
    if incomplete:
        _console.print("Some requests failed; the same command asks them again.")
        raise typer.Exit(INCOMPLETE_STATUS)


@app.command("show")
def show_results(
    file: Annotated[Path, typer.Argument(help="File of results.", show_default=False)],
    plot: Annotated[Path | None, typer.Option(help="Picture to draw, .svg or .png.", show_default=False)] = None,
) -> None:
    """Tables and plot of a file of results, finished or not. Asks nobody."""
    if plot is not None:
        picture.check(plot)
    _report(read(file), plot)


def _report(results: Results, plot: Path | None) -> None:
    # A pipe has no width; a table that is folded there cannot be read again.
    show(Console(highlight=False, width=None if sys.stdout.isatty() else 120), results)
    if plot is not None:
        picture.draw(plot, results)
        _console.print(f"Drawn: {one_line(str(plot))}", markup=False, soft_wrap=True)


async def _measure(asker: Asker, settings: Settings, problems: Problems, ledger: Ledger, concurrency: int) -> None:
    async with asker:
        if not asker.model:
            await asker.choose()
        reply = await _greet(asker)
        ledger.begin(
            Header(
                started=datetime.now(UTC).isoformat(timespec="seconds"),
                sestet=__version__,
                reasoning_gym=problems.version,
                url=asker.url,
                model_asked=asker.model,
                model=reply.model,
                served_by=reply.served_by,
                concurrency=concurrency,
                settings=settings,
            )
        )
        left = questions(problems, ledger)
        done = len(ledger.results.answers)
        if done:
            _console.print(f"Going on: {done:,} of {done + len(left):,} are answered already.")
        _console.print(
            f"Asking {who(ledger.results.header)} at {asker.url}, {len(left):,} requests, {concurrency} at once.",
            markup=False,
            soft_wrap=True,
        )
        with _bar(done, done + len(left)) as advance:
            await Run(asker, problems, ledger, advance).go(left, concurrency)


async def _greet(asker: Asker) -> Reply:
    """The shortest reply there is: whether this will work at all, and who answers."""
    try:
        return await asker.ask("Hello", 0, 1, attempts=2)
    except Unanswered as error:
        raise Failure(error.message) from None


@contextmanager
def _bar(done: int, total: int) -> Iterator["_Advance"]:
    """A progress bar in a terminal; elsewhere nothing, the file has it all."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        console=_console,
        transient=True,
        disable=not _console.is_terminal,
    )
    with bars:
        yield _Advance(bars, done, total)


class _Advance:
    """Called after each result."""

    def __init__(self, bars: Progress, done: int, total: int) -> None:
        self._bars = bars
        self._task = bars.add_task("Asking", total=total, completed=done)

    def __call__(self) -> None:
        self._bars.advance(self._task)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise Failure("--tasks takes names of reasoning-gym's datasets, such as chain_sum,letter_counting")
    if len(set(names)) < len(names):
        raise Failure("--tasks names a task twice")
    return names


def _budgets(text: str) -> tuple[int, ...]:
    try:
        budgets = tuple(sorted(int(part) for part in text.split(",")))
    except ValueError:
        raise Failure(f"--budgets takes numbers of tokens, such as 0,1024,4096; not `{one_line(text)}`") from None
    if len(set(budgets)) < len(budgets):
        raise Failure("--budgets names a budget twice")
    if any(budget != 0 and budget < BUDGET_MIN for budget in budgets):
        raise Failure(f"--budgets: the Messages API takes no budget below {BUDGET_MIN:,}; 0 is standard mode")
    return budgets
