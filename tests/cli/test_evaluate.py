"""`sestet eval reasoning` against a server that thinks as it is told, and against a real one on the scripted engine."""

import json
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import Result

from sestet.cli.evaluation.problems import EASY, UNSAFE, Problems, parameters_of
from sestet.cli.evaluation.results import read
from tests.cli.conftest import Run, refusal
from tests.cli.terminal import Terminal

TASKS = ("chain_sum", "needle_haystack")
COUNT = 3
SEED = 5

Event = dict[str, Any]


def expected_answers() -> dict[str, str]:
    """The right answer of each prompt that the runs of these tests send."""
    problems = Problems(parameters_of(TASKS, "easy"), COUNT, SEED).all()
    return {problem.prompt: problem.expected for problem in problems}


@dataclass
class Fault:
    """One answer that is none: a status, or an error event inside the stream, or a connection that ends."""

    status: int = 200
    kind: str = "overloaded_error"
    headers: dict[str, str] = field(default_factory=lambda: {"retry-after": "0"})
    cut: bool = False


@dataclass
class Thinker:
    """Always wrong in standard mode, always right when it thinks; it uses its whole budget up to 1,024."""

    right: dict[str, str] = field(default_factory=expected_answers)
    faults: list[Fault] = field(default_factory=list)
    always: Callable[[Event], Fault | None] = lambda _: None
    model: str = "thinker-20260101"
    served_by: str | None = "small-20260101"
    says_thinking_tokens: bool = True
    hold_after: int | None = None  # requests, after which none is answered until `go_on` is set
    go_on: threading.Event = field(default_factory=threading.Event)
    requests: list[Event] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def questions(self) -> list[Event]:
        """What was asked, without the greeting of each start."""
        return [body for body in self.requests if body["max_tokens"] > 1]

    def receive(self, body: Event, headers: dict[str, str]) -> Fault | None:
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            held = self.hold_after is not None and len(self.requests) > self.hold_after
            fault = self.always(body) or (self.faults.pop(0) if self.faults else None)
        if held:
            self.go_on.wait(30)
        return fault

    def events(self, body: Event) -> Iterator[Event]:
        budget = body["thinking"].get("budget_tokens", 0)
        thought = min(budget, 1024)
        answer = self.right.get(body["messages"][0]["content"], "?") if budget else "0"
        usage = {"input_tokens": 30, "output_tokens": 1}
        yield {"type": "message_start", "message": {"model": self.model, "usage": usage}}
        if budget:
            signed = {"type": "thinking", "thinking": "", "signature": ""}
            yield {"type": "content_block_start", "index": 0, "content_block": signed}
            for delta in (
                {"type": "thinking_delta", "thinking": "<answer>thought</answer>"},
                {"type": "signature_delta", "signature": "c2lnbmVk"},
            ):
                yield {"type": "content_block_delta", "index": 0, "delta": delta}
            yield {"type": "content_block_stop", "index": 0}
        yield {"type": "ping"}
        start = {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}
        yield start
        for piece in ("<answer>", answer, "</answer>"):
            yield {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": piece}}
        yield {"type": "content_block_stop", "index": 1}
        ended: Event = {"output_tokens": thought + 7}
        if self.says_thinking_tokens:
            ended["output_tokens_details"] = {"thinking_tokens": thought}
        yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ended}
        yield {"type": "message_stop"}


def handler(thinker: Thinker) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._json(200, {"data": [{"id": "first"}]}, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fault = thinker.receive(body, {name.lower(): value for name, value in self.headers.items()})
            if fault is not None and fault.status != 200:
                error = {"type": fault.kind, "message": f"no, {fault.kind}"}
                self._json(fault.status, {"type": "error", "error": error}, fault.headers)
                return
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            if thinker.served_by:
                self.send_header("sestet-served-by", thinker.served_by)
            self.end_headers()
            for number, event in enumerate(thinker.events(body)):
                if fault is not None and number == 2:
                    if not fault.cut:
                        self._event({"type": "error", "error": {"type": fault.kind, "message": "no"}})
                    return
                self._event(event)

        def _event(self, event: Event) -> None:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

        def _json(self, status: int, body: Event, headers: dict[str, str]) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def thinker() -> Iterator[Thinker]:
    with Thinker() as one:
        yield one


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


Evaluate = Callable[..., Result]


def options(thinker: Thinker, out: Path, **changes: object) -> list[str]:
    given: dict[str, object] = {
        "url": thinker.url,
        "tasks": ",".join(TASKS),
        "count": COUNT,
        "seed": SEED,
        "budgets": "0,1024,2048",
        "out": out,
    }
    return [f"--{name.replace('_', '-')}={value}" for name, value in (given | changes).items()]


@pytest.fixture
def evaluate(run: Run, thinker: Thinker, out: Path) -> Evaluate:
    """`evaluate(count=..., plot=...)` with the options of these tests and those that are given."""

    def invoke(env: dict[str, str | None] | None = None, **changes: object) -> Result:
        return run("eval", "reasoning", *options(thinker, out, **changes), env=env)

    return invoke


def test_every_problem_is_asked_once_in_every_mode_with_the_same_words(evaluate: Evaluate, thinker: Thinker) -> None:
    result = evaluate()

    assert 0 == result.exit_code, result.output
    asked = Counter(
        (body["messages"][0]["content"], body["max_tokens"], json.dumps(body["thinking"])) for body in thinker.questions
    )
    assert asked == Counter(
        (prompt, tokens, json.dumps(thinking))
        for prompt in thinker.right
        for tokens, thinking in (
            (256, {"type": "disabled"}),
            (1024 + 256, {"type": "enabled", "budget_tokens": 1024}),
            (2048 + 256, {"type": "enabled", "budget_tokens": 2048}),
        )
    )
    assert {"max_tokens", "messages", "model", "stream", "thinking"} == set().union(*thinker.questions)
    assert {"first"} == {body["model"] for body in thinker.requests}


def test_the_file_says_who_was_asked_what_and_how_each_reply_went(evaluate: Evaluate, out: Path) -> None:
    evaluate()

    header, *lines = map(json.loads, out.read_text("utf-8").splitlines())
    assert [
        ("kind", "header"),
        ("format", 1),
        ("reasoning_gym", "0.1.25"),
        ("model_asked", "first"),
        ("model", "thinker-20260101"),
        ("served_by", "small-20260101"),
        ("concurrency", 4),
    ] == [(name, value) for name, value in header.items() if name not in ("started", "sestet", "url", "settings")]
    assert {"chain_sum": EASY["chain_sum"], "needle_haystack": EASY["needle_haystack"]} == header["settings"]["tasks"]
    assert (COUNT, [0, 1024, 2048], 256, SEED) == tuple(
        header["settings"][name] for name in ("count", "budgets", "answer_tokens", "seed")
    )
    assert len(TASKS) * COUNT * 3 == len(lines)
    thought = next(line for line in lines if line["budget"] == 2048 and line["task"] == "needle_haystack")
    assert thought["seconds"] >= 0
    assert {
        "task": "needle_haystack",
        "budget": 2048,
        "kind": "answer",
        "correct": True,
        "score": 1.0,
        "stop_reason": "end_turn",
        "input_tokens": 30,
        "output_tokens": 1031,
        "thinking_tokens": 1024,
        "attempts": 1,
        "extracted": thought["expected"],
        "answer": f"<answer>{thought['expected']}</answer>",
    } == {name: value for name, value in thought.items() if name not in ("index", "seed", "seconds", "expected")}


def test_the_tables_show_what_thinking_gained_and_what_it_took(evaluate: Evaluate) -> None:
    lines = [" ".join(line.split()) for line in evaluate().stdout.splitlines()]

    assert "thinker-20260101 (served by small-20260101): 2 tasks x 3 problems x 3 modes, 18 of 18 answered" == lines[0]
    assert [
        "Accuracy by thinking budget",
        "budget right accuracy 95% to standard 95% p",
        "standard 0/6 0.0% 0-39",
        "1,024 6/6 100.0% 61-100 +100.0 +44.8 to +100.0 0.031",
        "2,048 6/6 100.0% 61-100 +100.0 +44.8 to +100.0 0.031",
    ] == [line for line in lines[2:10] if line and "\u2500" not in line]
    assert [
        ["standard", "30", "0", "-", "7", "0.0%", "0"],
        ["1,024", "30", "1,024", "100.0%", "7", "0.0%", "0"],
        ["2,048", "30", "1,024", "0.0%", "7", "0.0%", "0"],
    ] == [
        [*fields[:6], fields[7]]  # how long it took is nobody's to promise
        for fields in (line.split() for line in lines)
        if len(fields) == 8 and fields[1] == "30"
    ]
    assert [
        "chain_sum 0.0% 0-56 100.0% 44-100 100.0% 44-100",
        "needle_haystack 0.0% 0-56 100.0% 44-100 100.0% 44-100",
    ] == [line for line in lines if line.startswith(TASKS)]


def test_a_second_start_asks_only_what_is_left(evaluate: Evaluate, thinker: Thinker, out: Path) -> None:
    evaluate()
    whole = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(whole[:8]) + whole[8][:20])  # as a kill leaves it
    thinker.requests.clear()

    result = evaluate()

    assert 0 == result.exit_code
    assert "Going on: 7 of 18 are answered already." in result.stderr
    assert 11 == len(thinker.questions)
    assert 18 == len(read(out).answers)


def test_a_finished_file_is_shown_again_without_a_question(evaluate: Evaluate, thinker: Thinker) -> None:
    first = evaluate()
    thinker.requests.clear()

    second = evaluate()

    assert first.stdout == second.stdout
    assert [] == thinker.questions


def test_another_seed_into_the_same_file_is_refused_before_anything_is_asked(
    evaluate: Evaluate, thinker: Thinker, out: Path
) -> None:
    evaluate()
    thinker.requests.clear()

    line = refusal(evaluate(seed=SEED + 1, budgets="0,4096"))

    assert (
        f"{out} was made with other settings (--budgets: 0,1024,2048 there, 0,4096 now; --seed: 5 there, 6 now); "
        "give another --out, or the same settings again"
    ) == line
    assert [] == thinker.questions


@pytest.mark.parametrize(
    "fault",
    [
        Fault(529),
        Fault(503, headers={"retry-after": "0"}),
        Fault(429, "rate_limit_error"),
        Fault(500, "api_error", headers={}),
        Fault(kind="overloaded_error"),
        Fault(cut=True),
    ],
    ids=["529", "503", "429", "500", "event", "cut"],
)
def test_a_passing_failure_is_asked_again(evaluate: Evaluate, thinker: Thinker, out: Path, fault: Fault) -> None:
    once = iter([fault])
    thinker.always = lambda body: next(once, None) if body["max_tokens"] == 1024 + 256 else None

    result = evaluate()

    assert 0 == result.exit_code
    assert 19 == len(thinker.questions)
    assert [2] == [answer.attempts for answer in read(out).answers.values() if answer.attempts != 1]


def test_retry_after_is_waited_for(evaluate: Evaluate, thinker: Thinker) -> None:
    thinker.faults = [Fault(529, headers={"retry-after": "2"})]
    began = time.monotonic()

    result = evaluate(budgets="0", count=1)

    assert 0 == result.exit_code
    assert time.monotonic() - began >= 2
    assert 1 + 1 + len(TASKS) == len(thinker.requests)


def test_what_fails_for_good_is_counted_apart_and_asked_again_by_the_next_start(
    evaluate: Evaluate, thinker: Thinker, out: Path
) -> None:
    thinker.always = lambda body: Fault(529) if body["max_tokens"] == 1024 + 256 and "Who" in str(body) else None

    result = evaluate()

    assert 1 == result.exit_code
    assert "3 requests failed and are in no number above: 3 x 529 overloaded_error." in result.stdout
    assert "Some requests failed; the same command asks them again." in result.stderr
    assert ["1,024 3/3"] == [
        " ".join(line.split()[:2]) for line in result.stdout.splitlines() if line.startswith(" 1,024") and "/" in line
    ]
    assert [("needle_haystack", 1024, "529 overloaded_error", "no, overloaded_error", 5)] * 3 == [
        (one.task, one.budget, one.error, one.message, one.attempts) for one in read(out).failures.values()
    ]
    thinker.always = lambda _: None
    thinker.requests.clear()

    again = evaluate()

    assert 0 == again.exit_code
    assert 3 == len(thinker.questions)
    assert (18, 0) == (len(read(out).answers), len(read(out).failures))


def test_a_mode_that_the_server_refuses_ends_the_run_with_its_words(
    evaluate: Evaluate, thinker: Thinker, out: Path
) -> None:
    thinker.always = lambda body: (
        Fault(400, "invalid_request_error") if body["thinking"].get("budget_tokens") == 2048 else None
    )

    line = refusal(evaluate(concurrency=1))

    assert "the server refuses a budget of 2,048: no, invalid_request_error" == line
    assert 9 == len(thinker.questions)
    assert 6 == len(read(out).answers)


def test_a_server_that_fails_and_fails_ends_the_run(evaluate: Evaluate, thinker: Thinker, out: Path) -> None:
    thinker.always = lambda body: Fault(529) if body["max_tokens"] > 1 else None

    line = refusal(evaluate(concurrency=1))

    assert line.startswith("the last 8 requests failed (no, overloaded_error); what was answered is kept")
    assert 8 * 5 == len(thinker.questions)


def test_another_model_in_the_middle_ends_the_run(evaluate: Evaluate, thinker: Thinker, out: Path) -> None:
    def grow(body: Event) -> None:
        if len(thinker.questions) == 5:
            thinker.served_by = "large-20260101"

    thinker.always = grow

    line = refusal(evaluate(concurrency=1))

    assert line.startswith("large-20260101 has begun to answer in the place of small-20260101;")
    assert 4 == len(read(out).answers)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, "authentication_error"), "; give the key with --key or in ANTHROPIC_API_KEY"),
        (Fault(404, "not_found_error"), "no, not_found_error"),
        (Fault(400, "invalid_request_error"), "no, invalid_request_error"),
        (Fault(kind="invalid_request_error"), "no"),
    ],
)
def test_a_start_that_cannot_succeed_is_told_and_leaves_no_file(
    evaluate: Evaluate, thinker: Thinker, out: Path, fault: Fault, words: str
) -> None:
    thinker.always = lambda _: fault

    line = refusal(evaluate())

    assert line.endswith(words)
    assert 1 == len(thinker.requests)
    assert not out.exists()


def test_the_key_and_the_model_are_sent(evaluate: Evaluate, thinker: Thinker) -> None:
    evaluate(env={"ANTHROPIC_API_KEY": "sk-mine"}, model="large", budgets="0", count=1)

    assert {"large"} == {body["model"] for body in thinker.requests}
    assert {("sk-mine", "2023-06-01")} == {
        (headers["x-api-key"], headers["anthropic-version"]) for headers in thinker.headers
    }


def test_a_server_that_does_not_count_thoughts_is_measured_all_the_same(
    evaluate: Evaluate, thinker: Thinker, out: Path
) -> None:
    thinker.says_thinking_tokens = False

    result = evaluate()

    assert 0 == result.exit_code
    assert {None} == {answer.thinking_tokens for answer in read(out).answers.values()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budgets": "0,512"}, "--budgets: the Messages API takes no budget below 1,024; 0 is standard mode"),
        ({"budgets": "0,x"}, "--budgets takes numbers of tokens, such as 0,1024,4096; not `0,x`"),
        ({"budgets": "0,0"}, "--budgets names a budget twice"),
        ({"tasks": "gcd,gcd"}, "--tasks names a task twice"),
        ({"tasks": ","}, "--tasks takes names of reasoning-gym's datasets, such as chain_sum,letter_counting"),
        ({"plot": "a.pdf"}, "--plot a.pdf: the ending must be .svg or .png"),
        ({"plot": "/nowhere/a.svg"}, "--plot /nowhere/a.svg: there is no such folder"),
        (
            {"tasks": "countdown"},
            "--tasks: `countdown` is not offered, because its scorer runs the model's answer as Python code",
        ),
        ({"url": "127.0.0.1"}, "`127.0.0.1` is not an address: it must begin with https:// (or http://) and a host"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(
    evaluate: Evaluate, thinker: Thinker, changes: dict[str, object], words: str
) -> None:
    assert words == refusal(evaluate(**changes))
    assert [] == thinker.requests


def test_an_unknown_task_is_told_with_the_names_there_are(evaluate: Evaluate) -> None:
    line = refusal(evaluate(tasks="chain_sums"))

    assert line.startswith("--tasks: reasoning-gym has no `chain_sums`; it has ab, acre,")


def test_no_server_is_told(evaluate: Evaluate, out: Path) -> None:
    assert "nothing answers at http://127.0.0.1:1; start `sestet serve` in another terminal, or give --url" == refusal(
        evaluate(url="http://127.0.0.1:1")
    )
    assert not out.exists()


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_plot_is_drawn_and_the_same_results_give_the_same_file(
    evaluate: Evaluate, run: Run, out: Path, tmp_path: Path, ending: str
) -> None:
    first, second = tmp_path / f"one.{ending}", tmp_path / f"two.{ending}"

    assert 0 == evaluate(plot=first).exit_code
    assert 0 == run("eval", "show", str(out), f"--plot={second}").exit_code
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(b"\x89PNG" if ending == "png" else b"<?xml")


def test_show_needs_no_server_and_prints_the_same_tables(evaluate: Evaluate, run: Run, out: Path) -> None:
    measured = evaluate()

    assert measured.stdout == run("eval", "show", str(out)).stdout
    assert "No such file or directory" in refusal(run("eval", "show", f"{out}.missing"))


def test_ctrl_c_leaves_a_file_that_can_be_gone_on_with(evaluate: Evaluate, thinker: Thinker, out: Path) -> None:
    thinker.hold_after = 1 + 6
    with Terminal("eval", "reasoning", *options(thinker, out, concurrency=1)) as terminal:
        terminal.wait_for("Asking thinker-20260101")
        wait_until(lambda: len(thinker.requests) == 8)
        terminal.press("\x03")
        terminal.wait_for("6 of 18 answered")
        terminal.wait_for("Stopped. What was answered is kept; the same command goes on from there.")

        assert 130 == terminal.ended()
    assert 6 == len(read(out).answers)
    thinker.hold_after = None

    assert 0 == evaluate().exit_code
    assert 18 == len(read(out).answers)


def test_without_the_extra_it_says_what_to_install(thinker: Thinker, out: Path) -> None:
    arguments = ["sestet", "eval", "reasoning", *options(thinker, out)]
    # None in this table is how Python itself marks a module that must not be found.
    program = f"import sys; sys.modules['reasoning_gym'] = None; sys.argv = {arguments!r}\n"
    program += "from sestet.cli.main import main; main()"

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (
        2,
        "sestet: `reasoning_gym` is not installed, which only `sestet eval` needs; run: pip install 'sestet[eval]' "
        "(in a checkout: make eval)\n",
    ) == (ended.returncode, ended.stderr)
    assert [] == thinker.requests


def test_the_other_commands_do_not_import_the_tasks() -> None:
    program = "import sys, sestet.cli.main; print([m for m in ('reasoning_gym', 'matplotlib') if m in sys.modules])"

    assert "[]\n" == subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout


@pytest.mark.parametrize("task", EASY)
def test_the_right_answer_of_every_easy_task_scores_in_tags_and_bare(task: str) -> None:
    problems = Problems({task: EASY[task]}, 20, SEED)
    everything = problems.all()

    assert [] == [
        (problem.prompt, reply)
        for problem in everything
        for reply in (f"<answer>{problem.expected}</answer>", f"So it is:\n{problem.expected}")
        if not problems.score(problem, reply).correct
    ]
    assert [] == [problem.prompt for problem in everything if problems.score(problem, "").correct]


def test_the_same_seed_makes_the_same_problems_and_another_one_others() -> None:
    def made(tasks: tuple[str, ...], count: int, seed: int) -> list[str]:
        return [one.prompt for one in Problems(parameters_of(tasks, "standard"), count, seed).all()]

    assert made(("gcd",), 20, 1) == made(("gcd",), 20, 1)
    assert made(("gcd",), 5, 1) == made(("gcd",), 20, 1)[:5]
    assert set() == set(made(("gcd",), 20, 1)) & set(made(("gcd",), 20, 2))


def test_no_two_tasks_share_the_numbers_they_are_made_of() -> None:
    problems = Problems(parameters_of(("chain_sum", "products"), "standard"), 1, SEED).all()

    assert 2 == len({problem.seed for problem in problems})


def test_the_lock_has_what_the_extra_asks_for() -> None:
    root = Path(__file__).parents[2]
    extra = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["eval"]
    locked = re.findall(r"^([a-z0-9-]+==[^\s]+)", (root / "requirements" / "eval.txt").read_text("utf-8"), re.MULTILINE)

    assert ["matplotlib", "reasoning-gym==0.1.25"] == [one.split(">=")[0] for one in extra]
    assert ["matplotlib", "reasoning-gym==0.1.25"] == [
        one.split("==")[0] if "matplotlib" in one else one
        for one in locked
        if one.startswith(("matplotlib==", "reasoning-gym=="))
    ]


def test_no_offered_scorer_runs_what_a_model_says() -> None:
    factory = Path(sys.modules["reasoning_gym"].__file__ or "").parent
    runs_code = ("eval(answer", "parse_expr(answer")

    found = {
        line.split('"')[1]
        for module in factory.rglob("*.py")
        if any(call in module.read_text("utf-8") for call in runs_code)
        for line in module.read_text("utf-8").splitlines()
        if line.startswith("DATASET_NAME = ")
    }

    assert UNSAFE == found | {"composite"}  # which is made of others, any of them


def wait_until(happens: Callable[[], bool]) -> None:
    for _ in range(3000):
        if happens():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")
