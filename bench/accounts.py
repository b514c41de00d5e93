"""What keys, limits and the ledger cost: the whole server against the same server without them."""

import sqlite3
from pathlib import Path
from statistics import median
from typing import Any

from rich.progress import Progress
from tests.running import start_server

from bench.processes import Peer
from bench.report import Report, Verdict, quantile, short, spread
from bench.requests import prompt
from sestet.gate.directory import DEFAULT_WORKSPACE
from sestet.store.database import open_database
from sestet.store.directory import Directories

CONNECTIONS = 32
ADDED_P50_MAX_MS = 0.7
SHARE_MIN = 0.8
WARM_S = 0.3
MODEL = "scripted-20260101"
TOKENS = 20
SCRIPT = f"""
[[reply]]
when = "stream"
say = [" token"]
repeat = {TOKENS}

[[reply]]
say = ["This", " is", " the", " scripted", " engine", "."]
"""
CONFIG = """
[access]
keys = ["any"]
"""
PLENTY = 1_000_000_000  # a minute: limits that are counted and never reached


def run(progress: Progress, folder: Path, quick: bool) -> Report:
    report = Report("accounts", "what keys, limits and the ledger cost, with an engine that costs nothing", "without")
    server = start_server(folder, script=SCRIPT, config=CONFIG)
    try:
        _limit_everything(folder)
        with Peer("bench.client") as client, Peer("bench.unaccounted") as without:
            port = without.ask({"script": SCRIPT, "folder": str(folder)})["port"]
            bench = _Bench(report, progress, client, {"whole": server.port, "without": port}, quick)
            for name, body in (
                ("whole reply", prompt("say", 1024, model=MODEL, stream=False)),
                (f"stream of {TOKENS} tokens", prompt("stream", 1024, model=MODEL, stream=True)),
            ):
                bench.alone(name, body)
                bench.saturate(name, body)
    finally:
        server.stop()
    _check_rows(report, folder, bench.answered)
    report.notes += [
        "with: a key, six limits by the minute that are counted and never reached (workspace and organisation), the "
        "ledger in SQLite with synchronous FULL; log to a file on both sides",
        "rounds alternate; a ratio is the median of the rounds' own ratios (lowest to highest)",
    ]
    return report


def _limit_everything(folder: Path) -> None:
    database = open_database(f"sqlite:///{folder}/sestet/sestet.db")
    directories = Directories(database)
    for workspace in (DEFAULT_WORKSPACE, None):
        values = dict.fromkeys(("requests", "input_tokens", "output_tokens"), PLENTY)
        directories.set_rates(workspace, MODEL, values)  # type: ignore[arg-type]
    database.close()


def _check_rows(report: Report, folder: Path, answered: int) -> None:
    """As many rows as were answered, or more: what was under way when a round ended is settled too."""
    with sqlite3.connect(folder / "sestet" / "sestet.db") as connection:
        rows = dict(connection.execute("SELECT state, count(*) FROM ledger GROUP BY state"))
    report.notes.append(f"ledger: {rows}; whole answers read by the client: {answered}")
    complete = rows.get("finished", 0) >= answered and not rows.get("running")
    report.verdicts.append(Verdict("every answer has its row", str(rows), str(answered), "", "no fewer", complete))


class _Bench:
    def __init__(self, report: Report, progress: Progress, client: Peer, ports: dict[str, int], quick: bool) -> None:
        self._report = report
        self._progress = progress
        self._client = client
        self._ports = ports
        self._rounds = 2 if quick else 8
        self._seconds = 1.0 if quick else 2.0
        self.answered = 0

    def alone(self, name: str, body: dict[str, object]) -> None:
        p50s = self._measure(f"{name}, one client", body, 1, _p50_ms)
        added = [ours - theirs for ours, theirs in zip(p50s["whole"], p50s["without"], strict=True)]
        self._verdict(f"{name}, one client: added p50, ms", p50s, spread(added), median(added) <= ADDED_P50_MAX_MS)

    def saturate(self, name: str, body: dict[str, object]) -> None:
        rates = self._measure(f"{name}, {CONNECTIONS} clients", body, CONNECTIONS, _rate)
        ratios = [ours / theirs for ours, theirs in zip(rates["whole"], rates["without"], strict=True)]
        self._verdict(f"{name}s/s, {CONNECTIONS} clients", rates, spread(ratios), median(ratios) >= SHARE_MIN)

    def _verdict(self, what: str, values: dict[str, list[float]], ratio: str, met: bool) -> None:
        target = f"<= {ADDED_P50_MAX_MS} ms" if "added" in what else f">= {SHARE_MIN}"
        ours, theirs = (short(median(values[server])) for server in self._ports)
        self._report.verdicts.append(Verdict(what, ours, theirs, ratio, target, met))
        self._report.raw[what] = values

    def _measure(self, name: str, body: dict[str, object], connections: int, value: Any) -> dict[str, list[float]]:
        values: dict[str, list[float]] = {server: [] for server in self._ports}
        frames = TOKENS + 5 if body["stream"] else 0  # begin and end of message and block, and one for each token
        task = self._progress.add_task(f"accounts: {name}", total=self._rounds * len(self._ports))
        for _ in range(self._rounds):
            for server, port in self._ports.items():
                answer = self._client.ask(
                    {
                        "kind": "load",
                        "port": port,
                        "body": body,
                        "connections": connections,
                        "warm_s": WARM_S,
                        "seconds": self._seconds,
                        "frames": frames,
                        "query": "",
                    }
                )
                assert not answer["wrong"], "an answer is not what it should be"
                if server == "whole":
                    self.answered += answer["all_replies"]
                values[server].append(value(answer))
                self._progress.advance(task)
        return values


def _p50_ms(answer: dict[str, Any]) -> float:
    return quantile([value * 1e3 for value in answer["latencies_s"]], 0.5)


def _rate(answer: dict[str, Any]) -> float:
    return float(answer["replies"] / answer["wall_s"])
