"""The file of results: what is written is read back, a cut line is forgiven, other settings are refused."""

from pathlib import Path
from typing import Any

import pytest

from sestet.cli.evaluation.results import Answered, Failed, Header, Ledger, Settings, read
from sestet.cli.evaluation.summary import summarise
from sestet.cli.failure import Failure

SETTINGS = Settings(
    tasks={"chain_sum": {"max_terms": 2}, "gcd": {}},
    count=2,
    budgets=(0, 1024),
    answer_tokens=64,
    seed=1,
    instruction="Answer.",
)
HEADER = Header(
    started="2026-11-21T10:00:00+00:00",
    sestet="0.1.0",
    reasoning_gym="0.1.25",
    url="http://127.0.0.1:8000",
    model_asked="small",
    model="small-20260101",
    served_by=None,
    concurrency=4,
    settings=SETTINGS,
)


def answered(**changes: Any) -> Answered:
    values: dict[str, Any] = {
        "task": "chain_sum",
        "index": 0,
        "seed": 77,
        "budget": 0,
        "seconds": 1.5,
        "correct": True,
        "score": 1.0,
        "stop_reason": "end_turn",
        "input_tokens": 20,
        "output_tokens": 10,
        "thinking_tokens": 0,
        "attempts": 1,
        "expected": "8",
        "extracted": "8",
        "answer": "\u2028<answer>8</answer>\n",
    }
    return Answered(**values | changes)


def failed(**changes: Any) -> Failed:
    values: dict[str, Any] = {
        "task": "chain_sum",
        "index": 0,
        "seed": 77,
        "budget": 0,
        "error": "529 overloaded_error",
        "message": "the queue is full",
        "attempts": 5,
    }
    return Failed(**values | changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def write(path: Path, *results: Answered | Failed, header: Header = HEADER) -> None:
    with Ledger(path) as ledger:
        ledger.begin(header)
        for result in results:
            ledger.add(result)


def refused(path: Path, header: Header = HEADER) -> str:
    with pytest.raises(Failure) as failure:
        write(path, header=header)
    return str(failure.value)


def test_what_is_written_is_read_back(path: Path) -> None:
    write(path, answered(), failed(index=1))

    results = read(path)

    assert HEADER == results.header
    assert [answered()] == list(results.answers.values())
    assert [failed(index=1)] == list(results.failures.values())
    assert 3 == len(path.read_bytes().splitlines())


def test_each_line_is_in_the_file_before_the_next(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.begin(HEADER)
        ledger.add(answered())

        assert 2 == path.read_bytes().count(b"\n")


def test_a_second_start_goes_on(path: Path) -> None:
    write(path, answered())
    write(path, answered(index=1))

    assert [0, 1] == [answer.index for answer in read(path).answers.values()]
    assert 1 == path.read_bytes().count(b'"header"')


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_line_that_was_cut_off_is_dropped_and_written_again(path: Path, kept: int) -> None:
    write(path, answered())
    before = path.read_bytes()
    write(path, answered(index=1))
    whole = path.read_bytes()
    path.write_bytes(before + whole[len(before) :][:kept])

    assert [0] == [answer.index for answer in read(path).answers.values()]
    write(path, answered(index=1))
    assert whole == path.read_bytes()


def test_a_header_that_was_cut_off_is_written_again(path: Path) -> None:
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:25])

    write(path)

    assert whole == path.read_bytes()


def test_an_answer_takes_the_place_of_a_failure_and_not_the_other_way_round(path: Path) -> None:
    write(path, failed(), answered(), failed())

    results = read(path)

    assert (1, 0) == (len(results.answers), len(results.failures))


def changed(**changes: Any) -> Header:
    return HEADER.model_copy(update=changes)


def set_to(**changes: Any) -> Header:
    return changed(settings=SETTINGS.model_copy(update=changes))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (set_to(count=3), "--count: 2 there, 3 now"),
        (set_to(seed=2), "--seed: 1 there, 2 now"),
        (set_to(budgets=(0, 2048)), "--budgets: 0,1024 there, 0,2048 now"),
        (set_to(answer_tokens=65), "--answer-tokens: 64 there, 65 now"),
        (set_to(tasks={"gcd": {}}), "--tasks: chain_sum,gcd there, gcd now"),
        (set_to(tasks={"chain_sum": {}, "gcd": {}}), "the parameters of chain_sum"),
        (set_to(instruction="Say."), "the instruction: Answer. there, Say. now"),
        (changed(model="big"), "the model that answers: small-20260101 there, big now"),
        (changed(served_by="tiny"), "served by: nobody else there, tiny now"),
        (changed(reasoning_gym="0.2"), "reasoning-gym: 0.1.25 there, 0.2 now"),
        (changed(served_by="tiny", settings=SETTINGS.model_copy(update={"seed": 2})), "tiny now; --seed: 1 there"),
    ],
)
def test_other_settings_are_refused_in_words_that_say_which(path: Path, header: Header, words: str) -> None:
    write(path, answered())
    before = path.read_bytes()

    line = refused(path, header)

    assert words in line
    assert line.endswith("give another --out, or the same settings again")
    assert before == path.read_bytes()


def test_where_it_is_asked_and_how_fast_may_change(path: Path) -> None:
    write(path, answered())
    write(path, header=changed(url="http://127.0.0.1:9", concurrency=1, started="later", model_asked="alias"))

    assert HEADER == read(path).header


def test_two_runs_do_not_write_into_one_file(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.begin(HEADER)

        assert f"another run is writing to {path}; give another --out" == refused(path)


@pytest.mark.parametrize("content", [b"hello", b"{}", b"hello\n", b"{}\n", b'{"kind":"answer"}\n', b"\xff\n", b"\n"])
def test_a_file_of_something_else_is_refused_and_kept(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    refused(path)

    assert content == path.read_bytes()


def test_a_broken_line_is_named(path: Path) -> None:
    write(path, answered(), answered(index=1))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{}\n" + lines[2])

    assert f"line 2 of {path} is not what `sestet eval reasoning` writes" == refused(path)


def test_a_run_that_never_began_leaves_no_file(path: Path) -> None:
    with Ledger(path):
        pass

    assert not path.exists()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "No such file or directory" in refused(tmp_path / "nowhere" / "results.jsonl")


def test_the_summary_pairs_the_same_problems_and_keeps_failures_apart(path: Path) -> None:
    thought = {"budget": 1024, "output_tokens": 1030}
    write(
        path,
        answered(),
        answered(index=1, correct=False, stop_reason="max_tokens"),
        answered(task="gcd"),
        answered(**thought, thinking_tokens=1024),
        answered(**thought, thinking_tokens=500, index=1),
        failed(task="gcd", budget=1024),
        failed(task="gcd", budget=1024, index=1, error="connection"),
    )

    summary = summarise(read(path))
    standard, budgeted = summary.modes

    assert (2, 3, 0, None) == (
        standard.accuracy.successes,
        standard.accuracy.of,
        standard.failed,
        standard.to_standard,
    )
    assert (1, 3) == (standard.cut.successes, standard.cut.of)
    assert (0.0, 10.0, 20.0, 1.5) == (
        standard.thinking_tokens,
        standard.answer_tokens,
        standard.input_tokens,
        standard.seconds,
    )
    assert (2, 2, 2) == (budgeted.accuracy.successes, budgeted.accuracy.of, budgeted.failed)
    assert (1, 2) == (budgeted.exhausted.successes, budgeted.exhausted.of)
    assert (762.0, 268.0) == (budgeted.thinking_tokens, budgeted.answer_tokens)
    assert budgeted.to_standard is not None
    assert (2, 1, 0, 0.5) == (
        budgeted.to_standard.pairs,
        budgeted.to_standard.gained,
        budgeted.to_standard.lost,
        budgeted.to_standard.value,
    )
    assert {"chain_sum": [(1, 2), (2, 2)], "gcd": [(1, 1), (0, 0)]} == {
        task: [(share.successes, share.of) for share in shares] for task, shares in summary.by_task.items()
    }
    assert {"529 overloaded_error": 1, "connection": 1} == summary.failures


def test_thinking_that_a_server_does_not_count_is_unknown_not_nothing(path: Path) -> None:
    write(path, answered(thinking_tokens=None), answered(budget=1024, thinking_tokens=None))

    standard, budgeted = summarise(read(path)).modes

    assert (10.0, None) == (standard.answer_tokens, budgeted.answer_tokens)
    assert (None, 0) == (budgeted.thinking_tokens, budgeted.exhausted.of)
