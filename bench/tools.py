"""Tools and structured output on the embedded model: whether all of it is valid, and what the grammar costs."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import httpx2
import orjson
from rich.progress import Progress
from tests.engines.test_tool_validity import CONFIG, Asked, Told, ask_all, generated_calls, outputs, real_calls
from tests.engines.tool_schemas import bounded, real_tools
from tests.running import start_server

from bench.report import Report, Verdict, short, spread
from sestet.engines.llamacpp.embedded import WEIGHTS_ID

RATE_MIN = 0.90
FIRST_TOKEN_MAX = 1.25
COLD_MAX_S = 2.0
TOOLS = 50
_COMPARED = 160  # tokens whose pace is compared
_WORDS = ("river", "stone", "garden", "winter", "letter", "engine", "island", "market", "silver", "window", "bridge")

Body = dict[str, Any]

# What is asked, how many times in all, and in a short run. Without bounds texts seldom end at temperature 1.
_VALIDITY: tuple[tuple[str, Callable[[Sequence[int]], Iterator[Asked]], int, int], ...] = (
    ("calls over 100 generated schemas", generated_calls, 500, 20),
    ("calls of 100 real tools", real_calls, 100, 10),
    ("calls of real tools as written, without bounds", lambda numbers: real_calls(numbers, bounds=False), 25, 2),
    ("structured outputs over 300 schemas", outputs, 300, 20),
)

# Schemas that hold as long a value as one likes, so that lengths can be compared.
_LONG: dict[str, Body] = {
    "a list of texts": {"type": "array", "items": {"type": "string"}, "minItems": 500},
    "a list of objects": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "kind": {"enum": ["cat", "dog"]}},
            "required": ["name", "age", "kind"],
            "additionalProperties": False,
        },
        "minItems": 500,
    },
    "one long text": {"type": "string", "minLength": 2_000},
}


@dataclass(frozen=True, slots=True)
class _Pair:
    """The same prompt with a grammar and without one."""

    name: str
    constrained: Callable[[str], Body]
    free: Callable[[str], Body]


def run(progress: Progress, folder: Path, quick: bool) -> Report:
    report = Report("tools", "what tools and structured output cost, embedded model", "no grammar")
    extended = '[engine]\nslots = 1\nwindow = 8192\n[tools]\nschemas = "extended"\n'
    server = start_server(folder, config=extended)
    try:
        with httpx2.Client(base_url=server.url, timeout=300, trust_env=False) as client:
            bench = _Bench(client, progress)
            bench.first_token_s(_asking("Hi."))  # the first request of a process is slower
            for pair in _pairs():
                _compare_pace(report, bench, pair, 2 if quick else 10)
            _compare_first_token(report, bench, 2 if quick else 10)
            _measure_cold(report, bench, 1 if quick else 4)
    finally:
        server.stop()
    report.notes += [
        f"pace: over {_COMPARED} tokens from the first on, one stream, the same prompt; rounds alternate, a ratio is "
        "the median of the rounds' own ratios (lowest to highest)",
        f"first token: a reply of one token, {TOOLS} tools, a new question each time after a prompt whose beginning is "
        "cached; `tool_choice` auto against none, which is the same prompt. Cold: a set of tools whose grammar was "
        "never compiled, its prompt already read once",
    ]
    return report


def run_validity(progress: Progress, folder: Path, quick: bool) -> Report:
    report = Report("validity", "tools and structured output, embedded model: is it all valid", "-")
    server = start_server(folder, config=CONFIG.replace("threads = 1\n", ""))
    try:
        for what, asked, whole, short_run in _VALIDITY:
            _validate(report, progress, server.url, what, list(asked(range(short_run if quick else whole))))
    finally:
        server.stop()
    report.notes += [
        "temperature 1, four streams; parsed and validated by jsonschema-rs, formats too. Cut by max_tokens or the "
        "window: checked to be the beginning of a value of the schema where it was streamed",
    ]
    return report


def _asking(question: str, **fields: object) -> Body:
    return {"model": WEIGHTS_ID, "max_tokens": 1, "messages": [{"role": "user", "content": question}], **fields}


def _tools(count: int, prefix: str = "") -> list[Body]:
    tools = [tool for _, tool in real_tools()][:count]
    return [
        {**tool, "name": f"{prefix}{tool['name']}", "input_schema": bounded(tool["input_schema"])} for tool in tools
    ]


def _pairs() -> Iterator[_Pair]:
    for name, schema in _LONG.items():
        written = {"type": "json_schema", "schema": schema}
        # What the server itself tells the weights of a schema (turn/render.py).
        told = "Answer with one JSON value that satisfies this JSON Schema, and nothing else:\n" + json.dumps(schema)

        def constrained(question: str, written: Body = written) -> Body:
            return _asking(question, output_config={"format": written})

        def free(question: str, told: str = told) -> Body:
            return _asking(question, system=told)

        yield _Pair(name, constrained, free)
    few = _tools(3)
    yield _Pair(
        "text beside 3 tools, auto",
        lambda question: _asking(question, tools=few),
        lambda question: _asking(question, tools=few, tool_choice={"type": "none"}),
    )


def _compare_pace(report: Report, bench: "_Bench", pair: _Pair, rounds: int) -> None:
    random = Random(pair.name)
    constrained, free = [], []
    for _ in bench.counted(f"pace, {pair.name}", rounds):
        question = f"Write a very long story about {' '.join(random.choices(_WORDS, k=4))}."
        constrained.append(bench.pace(pair.constrained(question)))
        free.append(bench.pace(pair.free(question)))
    pairs = [both for both in zip(constrained, free, strict=True) if all(both)]
    report.raw[f"pace, {pair.name}"] = {"constrained": constrained, "free": free}
    if not pairs:
        report.verdicts.append(Verdict(f"tokens/s, {pair.name}", "too short", "", "", f">= {RATE_MIN}", None))
        return
    ratios = [ours / other for ours, other in pairs]
    report.verdicts.append(
        Verdict(
            f"tokens/s, {pair.name} ({len(pairs)} of {rounds} rounds long enough)",
            short(median(ours for ours, _ in pairs)),
            short(median(other for _, other in pairs)),
            spread(ratios),
            f">= {RATE_MIN}",
            median(ratios) >= RATE_MIN,
        )
    )


def _compare_first_token(report: Report, bench: "_Bench", rounds: int) -> None:
    random = Random("first token")
    tools = _tools(TOOLS)
    choices: tuple[Body, ...] = ({"type": "auto"}, {"type": "none"}, {"type": "any"})
    times: dict[str, list[float]] = {choice["type"]: [] for choice in choices}
    for choice in choices:  # the prompt is read and the grammars are compiled
        bench.first_token_s(_asking("Hi.", tools=tools, tool_choice=choice))
    for _ in bench.counted("first token", rounds):
        for choice in choices:
            question = " ".join(random.choices(_WORDS, k=8))
            times[choice["type"]].append(bench.first_token_s(_asking(question, tools=tools, tool_choice=choice)))
    for kind in ("auto", "any"):
        ratios = [ours / other for ours, other in zip(times[kind], times["none"], strict=True)]
        report.verdicts.append(
            Verdict(
                f"time to first token, {TOOLS} tools, {kind}, cached",
                f"{median(times[kind]) * 1e3:.1f} ms",
                f"{median(times['none']) * 1e3:.1f} ms",
                spread(ratios),
                f"<= {FIRST_TOKEN_MAX}",
                median(ratios) <= FIRST_TOKEN_MAX,
            )
        )
    report.raw["first_token_s"] = times


def _measure_cold(report: Report, bench: "_Bench", rounds: int) -> None:
    cold = []
    for number in bench.counted("cold grammar", rounds):
        tools = _tools(TOOLS, prefix=f"cold{number}_")
        # No other request of this set has a grammar, and what is counted holds none of the reading.
        bench.first_token_s(_asking("Hi.", tools=tools, tool_choice={"type": "none"}))
        cold.append(bench.first_token_s(_asking("Hi there.", tools=tools)))
    report.verdicts.append(
        Verdict(
            f"time to first token, {TOOLS} tools, grammar never seen",
            f"{median(cold):.2f} s ({min(cold):.2f} to {max(cold):.2f})",
            "",
            "",
            f"< {COLD_MAX_S:g} s",
            max(cold) < COLD_MAX_S,
        )
    )
    report.raw["cold_s"] = cold


def _validate(report: Report, progress: Progress, url: str, what: str, asked: Sequence[Asked]) -> None:
    task = progress.add_task(f"tools: {what}", total=len(asked))
    told: list[Told] = []
    for one in ask_all(url, asked):
        told.append(one)
        progress.advance(task)
    wrong = [one for one in told if one.problem]
    cut = sum(one.ending == "cut" for one in told)
    report.verdicts.append(
        Verdict(
            f"{what} that do not parse or validate",
            f"{len(wrong)} of {len(told) - cut} finished, {cut} cut",
            "",
            "",
            "0",
            not wrong,
        )
    )
    report.raw[what] = [(one.asked.name, one.problem, one.raw) for one in wrong]


class _Bench:
    def __init__(self, client: httpx2.Client, progress: Progress) -> None:
        self._client = client
        self._progress = progress

    def first_token_s(self, body: Body) -> float:
        started = time.perf_counter()
        answer = self._client.post("/v1/messages", json=body)
        taken = time.perf_counter() - started
        if answer.status_code != 200:
            raise RuntimeError(answer.text)
        return taken

    def pace(self, body: Body) -> float:
        """Tokens a second; 0 for a reply that is too short to compare."""
        times: list[float] = []
        with self._client.stream("POST", "/v1/messages", json=body | {"max_tokens": 1_024, "stream": True}) as answer:
            for event in httpx2.EventSource(answer):
                data = orjson.loads(event.data)
                if data["type"] == "error":
                    raise RuntimeError(data["error"]["message"])
                if data["type"] == "content_block_delta":
                    times.append(time.perf_counter())
                if len(times) > _COMPARED:
                    return _COMPARED / (times[_COMPARED] - times[0])  # leaving stops the engine
        return 0.0

    def counted(self, name: str, rounds: int) -> Iterator[int]:
        task = self._progress.add_task(f"tools: {name}", total=rounds)
        for number in range(rounds):
            yield number
            self._progress.advance(task)
