"""Extended thinking against standard mode, on the embedded model: what a token costs, and the turn to the answer."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median

import httpx2
import orjson
from rich.progress import Progress
from tests.running import RunningServer, start_server

from bench.report import Report, Verdict, short, spread
from sestet.engines.llamacpp.embedded import WEIGHTS_ID

RATE_MIN = 0.97
SWITCH_MAX_S = 0.050
BUDGET = 1024
_COMPARED = 160  # tokens of one phase whose pace is compared
_PROMPT_WORDS = 1_950  # of one token each: over 2,000 tokens with the template
# Words of one token, so that a prompt is as long as it is said to be.
_WORDS = ("river", "stone", "garden", "winter", "letter", "engine", "island", "market", "silver", "window", "bridge")


@dataclass(slots=True)
class _Reply:
    """When each token of thought and answer came, in seconds of one clock."""

    thought_at: list[float] = field(default_factory=list)
    answer_at: list[float] = field(default_factory=list)
    input_tokens: int = 0
    thinking_tokens: int = 0


def run(progress: Progress, folder: Path, quick: bool) -> Report:
    report = Report("thinking", "extended thinking against standard mode, embedded model", "standard mode")
    server = start_server(folder, config="[engine]\nslots = 1\nwindow = 4096\n")
    try:
        with httpx2.Client(base_url=server.url, timeout=120, trust_env=False) as client:
            bench = _Bench(client, Random(1), progress)
            bench.ask(thinking=False, words=0)  # the first request of a process is slower
            _compare_pace(report, bench, 2 if quick else 12)
            _measure_switch(report, bench, server, 2 if quick else 8)
    finally:
        server.stop()
    report.notes += [
        f"both: the same weights, one stream; every prompt is new. Pace: over {_COMPARED} tokens from the first on; "
        "rounds alternate, a ratio is the median of the rounds' own ratios (lowest to highest)",
        "switch: from the last token of a thought to the first of the answer, less the usual gap between two tokens; "
        "it holds the forced end of the thought, a second request to the engine and its reading of the closing tag",
    ]
    return report


def _compare_pace(report: Report, bench: "_Bench", rounds: int) -> None:
    thinking, standard = [], []
    for _ in bench.counted("pace", rounds):
        thinking.append(_pace(bench.ask(thinking=True, words=0).thought_at))
        standard.append(_pace(bench.ask(thinking=False, words=0).answer_at))
    pairs = [pair for pair in zip(thinking, standard, strict=True) if all(pair)]
    ratios = [ours / other for ours, other in pairs]
    report.verdicts.append(
        Verdict(
            f"tokens/s within a thought ({len(pairs)} of {rounds} rounds long enough)",
            short(median(ours for ours, _ in pairs)),
            short(median(other for _, other in pairs)),
            spread(ratios),
            f">= {RATE_MIN}",
            median(ratios) >= RATE_MIN,
        )
    )
    report.raw["pace"] = {"thinking": thinking, "standard": standard}


def _measure_switch(report: Report, bench: "_Bench", server: RunningServer, rounds: int) -> None:
    costs, sizes = [], []
    for _ in bench.counted("switch", rounds):
        reply = bench.ask(thinking=True, words=_PROMPT_WORDS)
        if len(reply.thought_at) < 10 or not reply.answer_at:
            continue
        usual = median(later - earlier for earlier, later in pairwise(reply.thought_at))
        costs.append(reply.answer_at[0] - reply.thought_at[-1] - usual)
        sizes.append(reply.input_tokens + reply.thinking_tokens)
    report.verdicts.append(
        Verdict(
            f"switch to the answer at {min(sizes)} to {max(sizes)} tokens ({len(costs)} of {rounds} rounds)",
            f"{median(costs) * 1e3:.1f} ms ({min(costs) * 1e3:.1f} to {max(costs) * 1e3:.1f})",
            "",
            "",
            f"< {SWITCH_MAX_S * 1e3:g} ms",
            median(costs) < SWITCH_MAX_S,
        )
    )
    report.raw["switch_s"] = costs


class _Bench:
    def __init__(self, client: httpx2.Client, random: Random, progress: Progress) -> None:
        self._client = client
        self._random = random
        self._progress = progress

    def ask(self, *, thinking: bool, words: int) -> _Reply:
        subjects = " ".join(self._random.choices(_WORDS, k=4))
        notes = " ".join(self._random.choices(_WORDS, k=words))
        body = {
            "model": WEIGHTS_ID,
            "max_tokens": BUDGET + 8 if thinking else _COMPARED + 8,
            "stream": True,
            "messages": [{"role": "user", "content": f"{notes} Write a very long story about {subjects}."}],
        }
        if thinking:
            body["thinking"] = {"type": "enabled", "budget_tokens": BUDGET}
        reply = _Reply()
        with self._client.stream("POST", "/v1/messages", json=body) as response:
            for event in httpx2.EventSource(response):
                now, data = time.perf_counter(), orjson.loads(event.data)
                match data["type"], data.get("delta", {}).get("type"):
                    case "message_start", _:
                        reply.input_tokens = data["message"]["usage"]["input_tokens"]
                    case _, "thinking_delta":
                        reply.thought_at.append(now)
                        if len(reply.thought_at) > _COMPARED and words == 0:
                            return reply  # as much as is compared; leaving stops the engine
                    case _, "text_delta":
                        reply.answer_at.append(now)
                    case "message_delta", _:
                        reply.thinking_tokens = data["usage"]["output_tokens_details"]["thinking_tokens"]
                    case "error", _:
                        raise RuntimeError(data["error"]["message"])
        return reply

    def counted(self, name: str, rounds: int) -> Iterator[int]:
        task = self._progress.add_task(f"thinking: {name}", total=rounds)
        for number in range(rounds):
            yield number
            self._progress.advance(task)


def _pace(times: list[float]) -> float:
    """Tokens a second; 0 for a stretch that is too short to compare."""
    return _COMPARED / (times[_COMPARED] - times[0]) if len(times) > _COMPARED else 0.0
