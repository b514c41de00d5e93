"""Sestet on the scripted engine against bare ASGI applications that return the same bytes: what the contract costs."""

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import Progress
from tests.running import start_server

from bench.processes import Peer, cpu_s
from bench.recording import Reply, record
from bench.report import Report, Verdict, quantile, short, spread
from bench.requests import prompt

CONNECTIONS = 32
STREAM_TOKENS = 100
SHARE_MIN = 0.4
ADDED_P50_MAX_MS = 1.5
WARM_S = 0.3
QUESTION = "Why is the sky blue? Answer in one sentence."
SCRIPT = f"""
[[reply]]
when = "{QUESTION}"
say = ["This", " is", " the", " scripted", " engine", "."]

[[reply]]
when = "stream"
say = [" token"]
repeat = {STREAM_TOKENS}
"""


def run(progress: Progress, folder: Path, quick: bool) -> Report:
    report = Report("overhead", "the contract's cost, with an engine that costs nothing", "bare ASGI")
    whole = prompt(QUESTION, 1024, model="scripted", stream=False)
    streamed = prompt("stream", 1024, model="scripted", stream=True)
    server = start_server(folder, script=SCRIPT)
    try:
        recorded_whole, recorded_stream = record(server.port, whole), record(server.port, streamed)
        frames = recorded_stream.frames()
        with Peer("bench.client") as client, Peer("bench.bare") as bare:
            order = {"whole": asdict(recorded_whole), "stream": asdict(recorded_stream)}
            bare_port = bare.ask(order)["port"]
            _same_bytes(recorded_stream, record(bare_port, streamed))
            servers = {"sestet": (server.port, server.pid), "bare ASGI": (bare_port, bare.pid)}
            bench = _Bench(report, progress, client, servers, rounds=2 if quick else 6, seconds=1.0 if quick else 1.5)
            bench.saturate("whole replies/s", "replies", whole, 0)
            bench.saturate("streamed frames/s", "frames", streamed, frames)
            bench.saturate("streamed frames/s, in one burst", "frames", streamed, frames, "burst")
            bench.saturate("whole replies/s, Starlette route", "replies", whole, 0, "starlette")
            bench.saturate("streamed frames/s, Starlette route", "frames", streamed, frames, "starlette")
            bench.alone(whole)
    finally:
        server.stop()
    report.notes += [
        "scripted engine, default settings, log to a file; whole reply: 6 tokens, "
        f"{len(recorded_whole.writes[0])} bytes; stream: {STREAM_TOKENS} tokens, {frames} frames; "
        f"{CONNECTIONS} connections kept alive",
        "bare ASGI: a function under uvicorn with uvloop and its plain HttpToolsProtocol, one worker, no logging; it "
        "returns the recorded bytes of Sestet's reply, a stream in the same writes, one a turn of the loop as tokens "
        "come",
        "for information: `in one burst` hands all writes over at once, which the loop then joins; `Starlette route` "
        "parses the request's JSON and returns the same bytes, the least that a service written by hand does",
        "rounds alternate between the two; a ratio is the median of the rounds' own ratios (lowest to highest)",
    ]
    return report


def _same_bytes(ours: Reply, theirs: Reply) -> None:
    assert [write for write in ours.writes if write] == theirs.writes, "the bare application returns something else"


class _Bench:
    def __init__(
        self,
        report: Report,
        progress: Progress,
        client: Peer,
        servers: dict[str, tuple[int, int]],
        rounds: int,
        seconds: float,
    ) -> None:
        self._report = report
        self._progress = progress
        self._client = client
        self._servers = servers
        self._rounds = rounds
        self._seconds = seconds

    def saturate(self, name: str, counted: str, body: dict[str, object], frames: int, variant: str = "") -> None:
        """As much as each can; a `variant` of the bare application is for information."""
        rates: dict[str, list[float]] = {server: [] for server in self._servers}
        latencies: dict[str, list[float]] = {server: [] for server in self._servers}
        cpu_us: dict[str, list[float]] = {server: [] for server in self._servers}
        client_cpu: list[float] = []
        wrong = 0
        for server, answer in self._alternate(name, body, CONNECTIONS, frames, f"?{variant}" if variant else ""):
            rates[server].append(answer[counted] / answer["wall_s"])
            latencies[server] += [value * 1e3 for value in answer["latencies_s"]]
            cpu_us[server].append(answer["server_cpu_s"] / answer[f"all_{counted}"] * 1e6)
            client_cpu.append(answer["client_cpu"])
            wrong += answer["wrong"]
        ratios = [ours / theirs for ours, theirs in zip(rates["sestet"], rates["bare ASGI"], strict=True)]
        met = median(ratios) >= SHARE_MIN and not wrong
        self._report.verdicts.append(
            Verdict(
                name,
                short(median(rates["sestet"])),
                short(median(rates["bare ASGI"])),
                spread(ratios),
                "for information" if variant else f">= {SHARE_MIN}, none wrong",
                None if variant else met,
            )
        )
        one = {"replies": "reply", "frames": "frame"}[counted]
        for server in self._servers:
            self._report.figure(name, server, rates[server], f"{counted}/s")
            self._report.figure(f"  time of a reply, {CONNECTIONS} at once", server, latencies[server], "ms")
            self._report.figure(f"  processor time of the server a {one}", server, cpu_us[server], "µs")
        self._report.notes.append(f"{name}: {wrong} wrong; client {max(client_cpu):.0%} of a core at most")
        self._report.raw[name] = {"rates": rates, "server_cpu_us": cpu_us, "client_cpu": client_cpu}

    def alone(self, body: dict[str, object]) -> None:
        name = "whole reply, one client"
        p50s: dict[str, list[float]] = {server: [] for server in self._servers}
        latencies: dict[str, list[float]] = {server: [] for server in self._servers}
        for server, answer in self._alternate(name, body, 1, 0, ""):
            milliseconds = [value * 1e3 for value in answer["latencies_s"]]
            p50s[server].append(quantile(milliseconds, 0.5))
            latencies[server] += milliseconds
        added = [ours - theirs for ours, theirs in zip(p50s["sestet"], p50s["bare ASGI"], strict=True)]
        p50 = median(added)
        self._report.verdicts.append(
            Verdict(
                f"{name}: added p50",
                f"{median(p50s['sestet']):.3f} ms",
                f"{median(p50s['bare ASGI']):.3f} ms",
                f"+{p50:.3f} ms",
                f"< {ADDED_P50_MAX_MS} ms added",
                p50 < ADDED_P50_MAX_MS,
            )
        )
        for server in self._servers:
            self._report.figure(name, server, latencies[server], "ms")
        self._report.raw[name] = {"p50_ms": p50s}

    def _alternate(self, name: str, body: dict[str, object], connections: int, frames: int, query: str) -> Any:
        """Rounds of one server, then the other; yields (server, answer)."""
        task = self._progress.add_task(f"overhead: {name}", total=self._rounds * len(self._servers))
        for _ in range(self._rounds):
            for server, (port, pid) in self._servers.items():
                cpu_before = cpu_s(pid)
                answer = self._client.ask(
                    {
                        "kind": "load",
                        "port": port,
                        "body": body,
                        "connections": connections,
                        "warm_s": WARM_S,
                        "seconds": self._seconds,
                        "frames": frames,
                        "query": query if server != "sestet" else "",
                    }
                )
                yield server, {**answer, "server_cpu_s": cpu_s(pid) - cpu_before}
                self._progress.advance(task)
