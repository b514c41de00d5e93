"""Accuracy against thinking budget as a picture: one line with error bars, and a thin one for each task."""

from pathlib import Path
from typing import Any, Final

from sestet.cli.evaluation.problems import optional
from sestet.cli.evaluation.report import mode_name, who
from sestet.cli.evaluation.results import Results
from sestet.cli.evaluation.statistics import Share
from sestet.cli.evaluation.summary import Mode, summarise
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line

_ENDINGS: Final = (".svg", ".png")
_INK: Final = "#1b1b1b"
# Okabe and Ito's colours, which people who see fewer colours can tell apart.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
_DASHES: Final = ("-", "--", ":", "-.")


def check(path: Path) -> None:
    """Whether a picture can be drawn there, before hours are spent on its numbers."""
    if path.suffix.lower() not in _ENDINGS:
        raise Failure(f"--plot {one_line(str(path))}: the ending must be .svg or .png")
    if not path.absolute().parent.is_dir():
        raise Failure(f"--plot {one_line(str(path))}: there is no such folder")
    optional("matplotlib.figure")


def draw(path: Path, results: Results) -> None:
    """The same results give the same file, byte by byte."""
    matplotlib, figure_module = optional("matplotlib"), optional("matplotlib.figure")
    with matplotlib.rc_context({"svg.hashsalt": "sestet", "font.size": 9, "axes.edgecolor": _INK}):
        figure = figure_module.Figure(figsize=(7.2, 4.6), layout="constrained")
        _compose(figure, results)
        try:
            figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
        except OSError as error:
            raise Failure(f"--plot {one_line(str(path))}: {error.strerror}") from None


def _compose(figure: Any, results: Results) -> None:
    summary = summarise(results)
    axes = figure.subplots()
    budgets = [mode.budget for mode in summary.modes]
    for number, (task, shares) in enumerate(summary.by_task.items()):
        _line(
            axes,
            budgets,
            shares,
            label=one_line(task),
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=_DASHES[number // len(_COLOURS) % len(_DASHES)],
            linewidth=0.9,
            alpha=0.75,
        )
    overall = tuple(mode.accuracy for mode in summary.modes)
    known = [(budget, share) for budget, share in zip(budgets, overall, strict=True) if share.of]
    axes.errorbar(
        [budget for budget, _ in known],
        [100 * share.rate for _, share in known],
        yerr=(
            [100 * (share.rate - share.low) for _, share in known],
            [100 * (share.high - share.rate) for _, share in known],
        ),
        label="all tasks, 95%",
        color=_INK,
        linewidth=2.2,
        marker="o",
        markersize=4.5,
        capsize=3.5,
        zorder=5,
    )
    _label(axes, figure, results, summary.modes)


def _line(axes: Any, budgets: list[int], shares: tuple[Share, ...], **style: Any) -> None:
    known = [(budget, 100 * share.rate) for budget, share in zip(budgets, shares, strict=True) if share.of]
    axes.plot([budget for budget, _ in known], [rate for _, rate in known], **style)


def _label(axes: Any, figure: Any, results: Results, modes: tuple[Mode, ...]) -> None:
    header = results.header
    axes.set_xticks([mode.budget for mode in modes], [_tick(mode) for mode in modes])
    axes.set_xlabel("thinking budget in tokens (below: used on average)")
    axes.set_ylabel("right answers in %")
    axes.set_ylim(-3, 103)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title(f"Accuracy against thinking budget: {who(header)}", loc="left", fontsize=10)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    figure.supxlabel(
        f"{len(results.answers):,} answers, seed {header.settings.seed}, reasoning-gym {header.reasoning_gym}, "
        f"sestet {header.sestet}, {header.started[:10]}",
        fontsize=7,
        color="#666666",
        x=0.99,
        ha="right",
    )


def _tick(mode: Mode) -> str:
    if not mode.budget or mode.thinking_tokens is None:
        return mode_name(mode.budget)
    return f"{mode_name(mode.budget)}\n({mode.thinking_tokens:,.0f})"
