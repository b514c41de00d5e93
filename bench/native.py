"""Sestet on the embedded model against llama.cpp's own `/v1/messages`: same weights, threads, slots and window."""

import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.progress import Progress, TaskID
from tests.running import start_server

from bench.processes import Peer, cpu_s
from bench.report import Report, Verdict, short, spread
from bench.requests import prompt
from sestet.engines.llamacpp.embedded import WEIGHTS_ID

SLOTS = 8
WINDOW = 2048
THROUGHPUT_MIN = 0.97
FIRST_TOKEN_FACTOR = 1.10
FIRST_TOKEN_SPARE_S = 0.003
_PART_MAX_S = 40.0
_ROUNDS_MIN = 3
# fmt: off
_WORDS = (
    "river", "stone", "garden", "winter", "letter", "engine", "island", "market", "silver", "window", "bridge",
    "forest", "candle", "harbor", "mirror", "valley", "copper", "summer", "orchard", "lantern", "thunder", "meadow",
    "basket", "pepper", "castle", "cotton", "ribbon", "shadow", "anchor", "violin",
)
# fmt: on


def run(progress: Progress, folder: Path, quick: bool) -> Report:
    report = Report("native", "the embedded model, through Sestet and through llama.cpp's own server", "llama.cpp")
    server = start_server(folder, config=f"[engine]\nslots = {SLOTS}\nwindow = {WINDOW}\n")
    try:
        with Peer("bench.client") as client, Peer("bench.llama_server") as llama:
            ports = {"sestet": server.port, "llama.cpp": llama.ask({"slots": SLOTS, "window": WINDOW})["port"]}
            bench = _Bench(report, progress, client, ports, server.pid)
            bench.warm_up()
            bench.throughput(streams=1, rounds=3 if quick else 8, max_tokens=128)
            bench.throughput(streams=SLOTS, rounds=3 if quick else 6, max_tokens=96)
            bench.first_token("short prompt", words=0, rounds=4 if quick else 40)
            bench.first_token("500-token prompt", words=460, rounds=3 if quick else 14)
            bench.check_equal_work()
    finally:
        server.stop()
    report.notes += [
        f"both: SmolLM2-135M-Instruct (Q4_1), {SLOTS} slots of {WINDOW} tokens, llama.cpp's own choice of threads; "
        "temperature 0; every prompt is new, and the same for both",
        "rounds alternate between the two; a ratio is the median of the rounds' own ratios (lowest to highest)",
        "tokens per second: all output tokens over the time from the first byte sent to the last one received",
    ]
    return report


class _Bench:
    def __init__(
        self, report: Report, progress: Progress, client: Peer, ports: dict[str, int], sestet_pid: int
    ) -> None:
        self._report = report
        self._progress = progress
        self._client = client
        self._ports = ports
        self._sestet_pid = sestet_pid
        self._sestet_cpu_s = 0.0
        self._random = Random(1)
        self._pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def warm_up(self) -> None:
        self._round([self._story(16) for _ in range(SLOTS)])
        self._pairs.clear()

    def throughput(self, streams: int, rounds: int, max_tokens: int) -> None:
        name = f"output tokens/s, {streams} stream{'s' if streams > 1 else ''}"
        rates: dict[str, list[float]] = {server: [] for server in self._ports}
        gaps: dict[str, list[float]] = {server: [] for server in self._ports}
        cpu_before, tokens_before = self._sestet_cpu_s, self._sestet_tokens()
        for _ in self._counted(name, rounds):
            for server, answer in self._round([self._story(max_tokens) for _ in range(streams)]).items():
                tokens = sum(reply["output_tokens"] for reply in answer["replies"])
                rates[server].append(tokens / answer["wall_s"])
                gaps[server] += [gap * 1e3 for reply in answer["replies"] for gap in reply["gaps_s"]]
        cpu = self._sestet_cpu_s - cpu_before
        ratios = [ours / theirs for ours, theirs in zip(rates["sestet"], rates["llama.cpp"], strict=True)]
        self._report.verdicts.append(
            Verdict(
                name,
                short(median(rates["sestet"])),
                short(median(rates["llama.cpp"])),
                spread(ratios),
                f">= {THROUGHPUT_MIN}",
                median(ratios) >= THROUGHPUT_MIN,
            )
        )
        for server in self._ports:
            self._report.figure(name, server, rates[server], "tokens/s")
            self._report.figure(f"between packets, {streams} at once", server, gaps[server], "ms")
        each_us = cpu / (self._sestet_tokens() - tokens_before) * 1e6
        self._report.notes.append(f"{name}: Sestet's own process (not its engine's) uses {each_us:.0f} µs a token")
        self._report.raw[name] = rates

    def first_token(self, prompt_name: str, words: int, rounds: int) -> None:
        name = f"time to first token, {prompt_name}"
        times: dict[str, list[float]] = {server: [] for server in self._ports}
        for _ in self._counted(name, rounds):
            for server, answer in self._round([self._story(4, words)]).items():
                times[server].append(answer["replies"][0]["first_text_s"])
        ours, theirs = (median(times[server]) for server in self._ports)
        limit = theirs * FIRST_TOKEN_FACTOR + FIRST_TOKEN_SPARE_S
        self._report.verdicts.append(
            Verdict(
                name,
                f"{ours * 1e3:.1f} ms",
                f"{theirs * 1e3:.1f} ms",
                short(ours / theirs),
                f"<= {FIRST_TOKEN_FACTOR} x + {FIRST_TOKEN_SPARE_S * 1e3:g} ms = {limit * 1e3:.1f} ms",
                ours <= limit,
            )
        )
        for server in self._ports:
            self._report.figure(name, server, [value * 1e3 for value in times[server]], "ms")
        tokens = [ours["input_tokens"] for ours, _ in self._pairs[-len(times["sestet"]) :]]
        self._report.notes.append(f"{prompt_name}: {min(tokens)} to {max(tokens)} input tokens")
        self._report.raw[name] = times

    def check_equal_work(self) -> None:
        """Whatever was compared, both did the same: as many tokens in, as many out."""
        facts = ("input_tokens", "output_tokens", "stop_reason")
        equal = sum(all(ours[fact] == theirs[fact] for fact in facts) for ours, theirs in self._pairs)
        same_text = sum(ours["text"] == theirs["text"] for ours, theirs in self._pairs)
        count = len(self._pairs)
        self._report.verdicts.append(
            Verdict("replies with equal token counts", f"{equal} of {count}", "", "", "all", equal == count)
        )
        self._report.notes.append(
            f"{same_text} of {count} pairs of texts are the same to the byte; where they differ, batches of another "
            "shape rounded otherwise"
        )

    def _round(self, bodies: list[dict[str, object]]) -> dict[str, Any]:
        """The same requests to one server, then to the other."""
        answers = {}
        for server, port in self._ports.items():
            cpu_before = cpu_s(self._sestet_pid)
            answers[server] = self._client.ask({"kind": "ask", "port": port, "bodies": bodies})
            if server == "sestet":
                self._sestet_cpu_s += cpu_s(self._sestet_pid) - cpu_before
        self._pairs += zip(answers["sestet"]["replies"], answers["llama.cpp"]["replies"], strict=True)
        return answers

    def _story(self, max_tokens: int, words: int = 0) -> dict[str, object]:
        """A prompt that nobody has seen, and that the model answers at length."""
        subjects = " ".join(self._random.choices(_WORDS, k=4))
        notes = f" Use these notes: {' '.join(self._random.choices(_WORDS, k=words))}." if words else ""
        text = f"{subjects}: write a very long story with many chapters about these four.{notes}"
        return prompt(text, max_tokens, model=WEIGHTS_ID, stream=True)

    def _sestet_tokens(self) -> int:
        return sum(ours["output_tokens"] for ours, _ in self._pairs)

    def _counted(self, name: str, rounds: int) -> Any:
        task: TaskID = self._progress.add_task(f"native: {name}", total=rounds)
        started = time.monotonic()
        for number in range(rounds):
            if number >= _ROUNDS_MIN and time.monotonic() - started > _PART_MAX_S:
                self._report.notes.append(f"{name}: {number} of {rounds} rounds; the machine is slow or busy")
                break
            yield number
            self._progress.advance(task)
