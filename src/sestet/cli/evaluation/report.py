"""The summary as tables for a terminal."""

from rich import box
from rich.console import Console
from rich.table import Table

from sestet.cli.evaluation.results import Header, Results
from sestet.cli.evaluation.statistics import Difference, Share
from sestet.cli.evaluation.summary import Mode, Summary, summarise
from sestet.cli.printable import one_line

_UNKNOWN = "-"


def show(console: Console, results: Results) -> None:
    """Who was asked, how it went, what it cost, and how it went on each task."""
    summary = summarise(results)
    for line in _about(results.header, summary, len(results.answers)):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    for table in (_accuracy(summary), _cost(summary), _tasks(summary)):
        console.print(table)
    if summary.failures:
        kinds = ", ".join(f"{count} x {one_line(kind)}" for kind, count in sorted(summary.failures.items()))
        console.print(
            f"{summary.failed} requests failed and are in no number above: {kinds}.", markup=False, soft_wrap=True
        )


def mode_name(budget: int) -> str:
    return f"{budget:,}" if budget else "standard"


def who(header: Header) -> str:
    """The model, and what stands behind it."""
    stand_in = f" (served by {one_line(header.served_by)})" if header.served_by else ""
    return f"{one_line(header.model)}{stand_in}"


def _about(header: Header, summary: Summary, answered: int) -> tuple[str, str]:
    settings = header.settings
    return (
        f"{who(header)}: {len(settings.tasks)} tasks x {settings.count} problems x {len(settings.budgets)} modes, "
        f"{answered:,} of {summary.asked:,} answered",
        f"seed {settings.seed}, answers up to {settings.answer_tokens:,} tokens, reasoning-gym {header.reasoning_gym}, "
        f"sestet {header.sestet}, begun {header.started}",
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _accuracy(summary: Summary) -> Table:
    table = _table("Accuracy by thinking budget", "budget", "right", "accuracy", "95%", "to standard", "95%", "p")
    for mode in summary.modes:
        share = mode.accuracy
        table.add_row(
            mode_name(mode.budget),
            f"{share.successes}/{share.of}",
            _percent(share),
            _interval(share),
            *_difference(mode.to_standard),
        )
    return table


def _cost(summary: Summary) -> Table:
    table = _table(
        "What a reply took, on average", "budget", "in", "thinking", "exhausted", "answer", "cut", "seconds", "failed"
    )
    for mode in summary.modes:
        table.add_row(mode_name(mode.budget), *_costs(mode), str(mode.failed))
    return table


def _tasks(summary: Summary) -> Table:
    table = _table("Accuracy by task", "task", *(mode_name(mode.budget) for mode in summary.modes))
    for task, shares in summary.by_task.items():
        table.add_row(one_line(task), *(f"{_percent(share)} {_interval(share)}" for share in shares))
    return table


def _costs(mode: Mode) -> tuple[str, ...]:
    return (
        _number(mode.input_tokens, ".0f"),
        _number(mode.thinking_tokens, ",.0f"),
        _percent(mode.exhausted),
        _number(mode.answer_tokens, ",.0f"),
        _percent(mode.cut),
        _number(mode.seconds, ",.2f"),
    )


def _difference(difference: Difference | None) -> tuple[str, str, str]:
    if difference is None:
        return "", "", ""
    return (
        f"{100 * difference.value:+.1f}",
        f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}",
        f"{difference.p:.3f}" if difference.p >= 0.001 else "<0.001",
    )


def _percent(share: Share) -> str:
    return f"{100 * share.rate:.1f}%" if share.of else _UNKNOWN


def _interval(share: Share) -> str:
    return f"{100 * share.low:.0f}-{100 * share.high:.0f}" if share.of else ""


def _number(value: float | None, form: str) -> str:
    return _UNKNOWN if value is None else format(value, form)
