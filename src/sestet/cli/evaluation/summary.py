"""What the results say, mode by mode and task by task. No words and no colours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from sestet.cli.evaluation.results import Answered, Results
from sestet.cli.evaluation.statistics import Difference, Share, paired_difference


@dataclass(frozen=True, slots=True)
class Mode:
    """One budget. Means are of the replies whose server says the number; None where none does."""

    budget: int
    accuracy: Share
    failed: int
    to_standard: Difference | None
    exhausted: Share
    cut: Share
    input_tokens: float | None
    thinking_tokens: float | None
    answer_tokens: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """Modes in the order of their budgets; `by_task[task]` has a share for each of them."""

    modes: tuple[Mode, ...]
    by_task: dict[str, tuple[Share, ...]]
    failures: dict[str, int]
    asked: int

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


def summarise(results: Results) -> Summary:
    settings = results.header.settings
    answers = list(results.answers.values())
    standard = {(one.task, one.index): one.correct for one in answers if one.budget == 0}
    failures: dict[str, int] = {}
    for failure in results.failures.values():
        failures[failure.error] = failures.get(failure.error, 0) + 1
    return Summary(
        modes=tuple(
            _mode(
                budget,
                [one for one in answers if one.budget == budget],
                sum(failure.budget == budget for failure in results.failures.values()),
                standard,
            )
            for budget in sorted(settings.budgets)
        ),
        by_task={
            task: tuple(
                _share([one for one in answers if (one.task, one.budget) == (task, budget)], lambda one: one.correct)
                for budget in sorted(settings.budgets)
            )
            for task in settings.tasks
        },
        failures=failures,
        asked=len(settings.tasks) * settings.count * len(settings.budgets),
    )


def _mode(budget: int, answers: Sequence[Answered], failed: int, standard: dict[tuple[str, int], bool]) -> Mode:
    before = [(standard[one.task, one.index], one.correct) for one in answers if (one.task, one.index) in standard]
    counted = [one for one in answers if one.thinking_tokens is not None] if budget else []
    return Mode(
        budget=budget,
        accuracy=_share(answers, lambda one: one.correct),
        failed=failed,
        to_standard=paired_difference(before) if budget else None,
        exhausted=_share(counted, lambda one: (one.thinking_tokens or 0) >= budget),
        cut=_share(answers, lambda one: one.stop_reason in ("max_tokens", "model_context_window_exceeded")),
        input_tokens=_mean([one.input_tokens for one in answers]),
        thinking_tokens=_mean([one.thinking_tokens for one in answers]),
        answer_tokens=_mean([one.answer_tokens for one in answers]),
        seconds=_mean([one.seconds for one in answers]),
    )


def _share(answers: Sequence[Answered], counts: Callable[[Answered], bool]) -> Share:
    return Share(sum(map(counts, answers)), len(answers))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
