"""A run: every problem in every mode, several at a time, each result kept as it comes. Prints nothing."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sestet.cli.evaluation.asking import Asker, Reply, Unanswered
from sestet.cli.evaluation.problems import Problem, Problems
from sestet.cli.evaluation.results import Answered, Failed, Ledger
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line

# So many failures with no reply between them mean that the server is gone, not that it stumbled.
_FAILURES_IN_A_ROW_MAX: Final = 8
# So many refusals of a mode before it gave any reply mean that this model does not have that mode.
_REFUSALS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Question:
    """A problem in a mode; budget 0 is standard mode."""

    problem: Problem
    budget: int


def questions(problems: Problems, ledger: Ledger) -> list[Question]:
    """What is not answered yet. All modes of a problem follow each other, so they meet the same load."""
    answered = ledger.results.answers
    return [
        Question(problem, budget)
        for problem in problems.all()
        for budget in ledger.results.header.settings.budgets
        if (problem.task, problem.index, budget) not in answered
    ]


class Run:
    """Asks what is left. `seen` is told after each result that was written down."""

    def __init__(self, asker: Asker, problems: Problems, ledger: Ledger, seen: Callable[[], None]) -> None:
        self._asker = asker
        self._problems = problems
        self._ledger = ledger
        self._seen = seen
        self._settings = ledger.results.header.settings
        self._failures_in_a_row = 0
        self._refusals: Counter[int] = Counter()
        self._modes_that_answer = {answer.budget for answer in ledger.results.answers.values()}

    async def go(self, left: list[Question], concurrency: int) -> None:
        """Until everything was asked. Raises `Failure` where going on makes no sense."""
        queue = iter(left)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(left))):
                    group.create_task(self._work(queue, concurrency))
        except* Failure as failures:
            raise failures.exceptions[0] from None

    async def _work(self, queue: Iterator[Question], concurrency: int) -> None:
        for question in queue:
            try:
                reply = await self._asker.ask(
                    question.problem.prompt, question.budget, question.budget + self._settings.answer_tokens
                )
            except Unanswered as error:
                self._fail(question, error)
                self._judge(question, error, concurrency)
            else:
                self._keep(question, reply)
            self._seen()

    def _keep(self, question: Question, reply: Reply) -> None:
        header = self._ledger.results.header
        if (reply.model, reply.served_by) != (header.model, header.served_by):
            raise Failure(
                f"{one_line(reply.served_by or reply.model)} has begun to answer in the place of "
                f"{one_line(header.served_by or header.model)}; what came before is kept, give another --out"
            )
        problem = question.problem
        score = self._problems.score(problem, reply.text)
        self._failures_in_a_row = 0
        self._modes_that_answer.add(question.budget)
        self._ledger.add(
            Answered(
                task=problem.task,
                index=problem.index,
                seed=problem.seed,
                budget=question.budget,
                correct=score.correct,
                score=score.score,
                stop_reason=reply.stop_reason,
                input_tokens=reply.input_tokens,
                output_tokens=reply.output_tokens,
                thinking_tokens=reply.thinking_tokens,
                seconds=round(reply.seconds, 3),
                attempts=reply.attempts,
                expected=problem.expected,
                extracted=score.extracted,
                answer=reply.text,
            )
        )

    def _fail(self, question: Question, error: Unanswered) -> None:
        self._ledger.add(
            Failed(
                task=question.problem.task,
                index=question.problem.index,
                seed=question.problem.seed,
                budget=question.budget,
                error=error.error,
                message=error.message,
                attempts=error.attempts,
            )
        )

    def _judge(self, question: Question, error: Unanswered, concurrency: int) -> None:
        budget = question.budget
        if error.refused and budget not in self._modes_that_answer:
            self._refusals[budget] += 1
            if self._refusals[budget] == _REFUSALS_MAX:
                mode = f"a budget of {budget:,}" if budget else "standard mode"
                raise Failure(f"the server refuses {mode}: {error.message}")
        self._failures_in_a_row += 1
        if self._failures_in_a_row == max(_FAILURES_IN_A_ROW_MAX, 2 * concurrency):
            raise Failure(
                f"the last {self._failures_in_a_row} requests failed ({error.message}); "
                "what was answered is kept, and the same command goes on from there"
            )
