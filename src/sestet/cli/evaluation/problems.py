"""The tasks of `sestet eval reasoning`, made and scored by reasoning-gym. It is slow to import, so only on demand."""

import importlib
import importlib.metadata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from sestet.cli.evaluation.answers import INSTRUCTION, Kind, extract, kind_of
from sestet.cli.failure import Failure

Parameters = Mapping[str, Any]

# Within reach of a model of 135M parameters, at least now and then.
EASY: Final[Mapping[str, Parameters]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 1},
    "basic_arithmetic": {
        "min_terms": 2,
        "max_terms": 3,
        "min_digits": 1,
        "max_digits": 1,
        "operators": ["+", "-", "*"],
        "allow_parentheses": False,
        "allow_negation": False,
    },
    "products": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    "number_format": {
        "min_num_candidates": 2,
        "max_num_candidates": 2,
        "min_n": 1,
        "max_n": 1000,
        "max_delta": 500,
    },
    "number_sorting": {"min_numbers": 3, "max_numbers": 3, "min_decimals": 0, "max_decimals": 0},
    "letter_counting": {"min_words": 1, "max_words": 3},
    "needle_haystack": {"min_num_statements": 2, "max_num_statements": 4},
    "number_sequence": {"min_terms": 4, "max_terms": 6, "min_value": 1, "max_value": 20, "max_complexity": 1},
    "gcd": {"min_numbers": 2, "max_numbers": 2, "min_value": 1, "max_value": 20},
    "leg_counting": {"min_animals": 1, "max_animals": 2, "min_instances": 1, "max_instances": 3},
    "simple_equations": {
        "min_terms": 2,
        "max_terms": 2,
        "min_value": 1,
        "max_value": 10,
        "operators": ["+", "-"],
        "operators_weights": [0.5, 0.5],
    },
    "spell_backward": {"min_word_len": 3, "max_word_len": 3},
}
DEFAULT_TASKS: Final = (
    "chain_sum",
    "basic_arithmetic",
    "products",
    "gcd",
    "simple_equations",
    "number_format",
    "needle_haystack",
)

# Their scorers hand the answer to `eval` or to a parser built on it. An answer is what a server sent.
UNSAFE: Final = frozenset(
    {
        "binary_matrix",
        "composite",
        "countdown",
        "intermediate_integration",
        "n_queens",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
        "spiral_matrix",
        "string_insertion",
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One question. `prompt` is all that the model is sent, in every mode."""

    task: str
    index: int
    seed: int
    prompt: str
    expected: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Score:
    """What was taken for the answer, the dataset's score of it, and whether that is full marks."""

    extracted: str
    score: float

    @property
    def correct(self) -> bool:
        return self.score >= 1.0


class Problems:
    """The same problems for the same parameters and seed; no two tasks share the numbers they are made of."""

    def __init__(self, tasks: Mapping[str, Parameters], count: int, seed: int) -> None:
        gym = optional("reasoning_gym")
        self.version = importlib.metadata.version("reasoning-gym")
        self._seeds = {name: seed_of(name, seed) for name in tasks}
        self._datasets = {
            name: _dataset(gym, name, {**parameters, "seed": self._seeds[name], "size": count})
            for name, parameters in tasks.items()
        }
        self._count = count

    def all(self) -> list[Problem]:
        """Task after task within each index, so that a run that was stopped has about as much of each."""
        return [self._problem(task, index) for index in range(self._count) for task in self._datasets]

    def score(self, problem: Problem, reply: str) -> Score:
        dataset = self._datasets[problem.task]
        answer = extract(reply, problem.kind)
        try:
            score = float(dataset.score_answer(answer, dataset[problem.index]))
        except Exception:  # whatever a scorer stumbles over is no answer to its question
            score = 0.0
        return Score(answer, score)

    def _problem(self, task: str, index: int) -> Problem:
        item = self._datasets[task][index]
        expected = str(item["answer"])
        prompt = f"{item['question'].strip()}\n\n{INSTRUCTION}"
        return Problem(task, index, self._seeds[task], prompt, expected, kind_of(expected))


def seed_of(task: str, seed: int) -> int:
    """What reasoning-gym is given. It makes item `index` from seed + index, so runs and tasks must lie far apart."""
    return zlib.crc32(f"{seed} {task}".encode())


def optional(module: str) -> ModuleType:
    """A library that only the evaluation needs, or `Failure` that says how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Failure(
            f"`{error.name or module}` is not installed, which only `sestet eval` needs; run: "
            "pip install 'sestet[eval]' (in a checkout: make eval)"
        ) from None


def parameters_of(names: Sequence[str], difficulty: str) -> dict[str, Parameters]:
    """Easy ones where we have chosen some; otherwise reasoning-gym's own, which are no parameters at all."""
    return {name: EASY.get(name, {}) if difficulty == "easy" else {} for name in names}


def _dataset(gym: ModuleType, name: str, parameters: Parameters) -> Any:
    known = importlib.import_module(f"{gym.__name__}.factory").DATASETS
    if name not in known:
        raise Failure(f"--tasks: reasoning-gym has no `{name}`; it has {', '.join(sorted(known.keys() - UNSAFE))}")
    if name in UNSAFE:
        raise Failure(f"--tasks: `{name}` is not offered, because its scorer runs the model's answer as Python code")
    return gym.create_dataset(name, **parameters)
