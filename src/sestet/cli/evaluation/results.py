"""The file of results: a header, then one line for each answer or failure, appended as they come. It can be resumed."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from sestet.cli.failure import Failure
from sestet.cli.printable import one_line

Key = tuple[str, int, int]

_BEGINNING: Final = b'{"kind":"header"'


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Settings(_Line):
    """What two runs must have in common to be one. Of a task, the parameters that differ from reasoning-gym's."""

    tasks: dict[str, dict[str, Any]]
    count: int
    budgets: tuple[int, ...]
    answer_tokens: int
    seed: int
    instruction: str


class Header(_Line):
    """Who was asked what, with what. `model` and `served_by` are what the server says of its own reply."""

    kind: Literal["header"] = "header"
    format: Literal[1] = 1
    started: str
    sestet: str
    reasoning_gym: str
    url: str
    model_asked: str
    model: str
    served_by: str | None
    concurrency: int
    settings: Settings


class _Result(_Line):
    task: str
    index: int
    seed: int
    budget: int

    @property
    def key(self) -> Key:
        return self.task, self.index, self.budget


class Answered(_Result):
    """One reply. `output_tokens` includes `thinking_tokens`, which not every server says."""

    kind: Literal["answer"] = "answer"
    seconds: float
    correct: bool
    score: float
    stop_reason: str | None
    input_tokens: int
    output_tokens: int
    thinking_tokens: int | None
    attempts: int
    expected: str
    extracted: str
    answer: str

    @property
    def answer_tokens(self) -> int | None:
        thinking = self.thinking_tokens if self.budget else self.thinking_tokens or 0
        return None if thinking is None else self.output_tokens - thinking


class Failed(_Result):
    """No reply came, after so many attempts. A later start asks again."""

    kind: Literal["failure"] = "failure"
    error: str
    message: str
    attempts: int


_LINE: TypeAdapter[Header | Answered | Failed] = TypeAdapter(
    Annotated[Header | Answered | Failed, Field(discriminator="kind")]
)


@dataclass(slots=True)
class Results:
    """What a file holds. A problem that failed first and was answered later is answered."""

    header: Header
    answers: dict[Key, Answered] = field(default_factory=dict)
    failures: dict[Key, Failed] = field(default_factory=dict)

    def add(self, result: Answered | Failed) -> None:
        if isinstance(result, Answered):
            self.answers[result.key] = result
            self.failures.pop(result.key, None)
        elif result.key not in self.answers:
            self.failures[result.key] = result


def read(path: Path) -> Results:
    """The results in a file; `Failure` where it is none."""
    results = _parsed(path, _bytes(path))
    if results is None:
        raise Failure(f"{one_line(str(path))} is empty; `sestet eval reasoning` makes such files")
    return results


class Ledger:
    """The file of a run, for one process at a time. Use as a context manager. Each line is on disk before the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise Failure(f"--out {one_line(str(path))}: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._results = self._resumed()
        except BlockingIOError:
            self.close()
            raise Failure(f"another run is writing to {one_line(str(path))}; give another --out") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """A file that nothing was written to is no file of results."""
        if os.fstat(self._descriptor).st_size == 0:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    @property
    def begun(self) -> bool:
        return self._results is not None

    @property
    def results(self) -> Results:
        assert self._results is not None, "the header comes first"
        return self._results

    def begin(self, header: Header) -> None:
        """Write the header, or check that what is there already belongs to it."""
        if self._results is None:
            self._write(header)
            self._results = Results(header)
            return
        differences = list(_differences(self._results.header, header))
        if differences:
            raise Failure(
                f"{one_line(str(self._path))} was made with other settings ({'; '.join(differences)}); "
                "give another --out, or the same settings again"
            )

    def add(self, result: Answered | Failed) -> None:
        self._write(result)
        self.results.add(result)

    def _resumed(self) -> Results | None:
        content = _bytes(self._path)
        whole = content[: content.rfind(b"\n") + 1]
        results = _parsed(self._path, content)
        if len(whole) < len(content):
            os.ftruncate(self._descriptor, len(whole))  # the line at which an earlier run was killed
        return results

    def _write(self, line: _Line) -> None:
        data = line.model_dump_json().encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise Failure(f"--out {one_line(str(self._path))}: {error.strerror}") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(f"{one_line(str(path))}: {error.strerror}") from None


def _parsed(path: Path, content: bytes) -> Results | None:
    """None where there is no line yet. A last line without an end was cut off, and does not count."""
    results: Results | None = None
    for number, text in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), 1):
        try:
            line = _LINE.validate_json(text)
        except ValidationError:
            line = None
        match line:
            case Header() if results is None:
                results = Results(line)
            case Answered() | Failed() if results is not None:
                results.add(line)
            case _:
                raise Failure(f"line {number} of {one_line(str(path))} is not what `sestet eval reasoning` writes")
    if results is None and not _BEGINNING.startswith(content[: len(_BEGINNING)]):
        raise Failure(f"{one_line(str(path))} is no file of results; give another --out")
    return results


def _differences(old: Header, new: Header) -> Iterator[str]:
    """In words: what it was there, what it is now."""
    before, now = old.settings, new.settings
    for name, was, is_ in (
        ("the model that answers", old.model, new.model),
        ("served by", old.served_by, new.served_by),
        ("reasoning-gym", old.reasoning_gym, new.reasoning_gym),
        ("--tasks", list(before.tasks), list(now.tasks)),
        ("--count", before.count, now.count),
        ("--budgets", before.budgets, now.budgets),
        ("--answer-tokens", before.answer_tokens, now.answer_tokens),
        ("--seed", before.seed, now.seed),
        ("the instruction", before.instruction, now.instruction),
    ):
        if was != is_:
            yield f"{name}: {_plain(was)} there, {_plain(is_)} now"
    changed = [name for name in before.tasks if name in now.tasks and before.tasks[name] != now.tasks[name]]
    if changed:
        yield f"the parameters of {', '.join(changed)}"


def _plain(value: object) -> str:
    match value:
        case list() | tuple():
            return ",".join(map(str, value))
        case None:
            return "nobody else"
        case _:
            return one_line(str(value))
