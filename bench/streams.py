"""Many long streams at a pace: nothing lost, nothing late, nothing that grows. The pace is the other side."""

import time
from pathlib import Path
from typing import Any

import psutil
from rich.progress import Progress
from tests.running import start_server

from bench.processes import Peer, cpu_s
from bench.recording import record
from bench.report import Figure, Report, Verdict, short
from bench.requests import prompt

STREAMS = 200
TOKENS_PER_S = 20
SECONDS = 120
QUICK_SECONDS = 15
WARM_UP_S = 20.0
JUDGED_FROM_S = 60.0  # a slope of less than this says nothing
LATE_P50_MAX_MS, LATE_P99_MAX_MS, FIRST_P99_MAX_MS = 2.0, 10.0, 25.0
RSS_SLOPE_MAX_MIB = 0.5
RSS_MAX_MIB = 200 + STREAMS * 150 / 1024
_CLOSING_S = 5.0


def run(progress: Progress, folder: Path, quick: bool) -> Report:
    seconds = QUICK_SECONDS if quick else SECONDS
    report = Report(
        "streams", f"{STREAMS} streams at {TOKENS_PER_S} tokens/s for {seconds} s on the scripted engine", "the pace"
    )
    tokens = TOKENS_PER_S * seconds
    said = ", ".join(f'"{number} "' for number in range(tokens))
    script = f'[[reply]]\nwhen = "warm"\nsay = ["warm"]\n\n[[reply]]\ntokens_per_s = {TOKENS_PER_S}\nsay = [{said}]\n'
    server = start_server(folder, script=script)
    try:
        for _ in range(20):
            record(server.port, prompt("warm", 10, model="scripted", stream=True))
        process = psutil.Process(server.pid)
        with Peer("bench.client") as client:
            order = {
                "kind": "paced",
                "port": server.port,
                "body": prompt("count", tokens + 1, model="scripted", stream=True),
                "streams": STREAMS,
                "tokens": tokens,
                "tokens_per_s": TOKENS_PER_S,
                "seed": 1,
            }
            watch = _Watch(process, progress, tokens * STREAMS)
            answer = client.ask(order, watch.look)
            cpu_share = watch.cpu_share()
        fds_after = watch.fds_afterwards()
    finally:
        server.stop()
    _judge_streams(report, answer, tokens)
    _judge_times(report, answer)
    _judge_memory(report, watch, fds_after)
    report.notes += [
        f"server {cpu_share:.0%} of a core, client {answer['client_cpu']:.0%}; {answer['pings']} pings; "
        f"{answer['tokens'] / answer['wall_s']:.0f} tokens/s over all",
        "a token is due its number of paces after its request was sent; both clocks are the system's monotonic one; "
        "the engine's own timers round to a millisecond, which counts as late here",
        "`against its stream's best` leaves out what is the same for all tokens of a stream",
        f"memory: sampled each second; slope by least squares after {watch.warm_up_s():.0f} s",
        *answer["problems"],
    ]
    report.raw = {"answer": answer, "rss_mib": watch.rss_mib, "fds": [watch.fds_before, fds_after]}
    return report


def _judge_streams(report: Report, answer: dict[str, Any], tokens: int) -> None:
    dropped = STREAMS * tokens - answer["tokens"]
    for what, found, met in (
        ("streams whole and in order", answer["whole"], answer["whole"] == STREAMS),
        ("one message_start, one message_stop", answer["one_start_one_stop"], answer["one_start_one_stop"] == STREAMS),
    ):
        report.verdicts.append(Verdict(what, str(found), str(STREAMS), short(found / STREAMS), "all", met))
    for what, found in (("malformed streams", answer["malformed"]), ("unfinished streams", answer["unfinished"])):
        report.verdicts.append(Verdict(what, str(found), "0", "", "0", found == 0))
    report.verdicts.append(Verdict("tokens dropped", str(dropped), f"of {STREAMS * tokens:,}", "", "0", dropped == 0))


def _judge_times(report: Report, answer: dict[str, Any]) -> None:
    late, first = answer["late_s"], answer["first_late_s"]
    for what, found, limit_ms in (
        ("token late, p50", late.get("p50"), LATE_P50_MAX_MS),
        ("token late, p99", late.get("p99"), LATE_P99_MAX_MS),
        ("first token late, p99", first.get("p99"), FIRST_P99_MAX_MS),
    ):
        shown = "no token came" if found is None else f"{found * 1e3:.2f} ms"
        met = found is not None and found * 1e3 <= limit_ms
        report.verdicts.append(Verdict(what, shown, "0 ms", "", f"<= {limit_ms:g} ms", met))
    for what, values in (
        ("token late", late),
        ("token late against its stream's best", answer["jitter_s"]),
        ("first token late", first),
    ):
        if values:
            report.figures.append(
                Figure(what, "sestet", values["count"], values["p50"] * 1e3, values["p99"] * 1e3, "ms")
            )
            report.notes.append(f"{what}: p99.9 {values['p999'] * 1e3:.2f} ms, worst {values['max'] * 1e3:.2f} ms")


def _judge_memory(report: Report, watch: "_Watch", fds_after: int) -> None:
    peak = max(watch.rss_mib)
    slope = watch.slope_mib_per_min()
    report.verdicts.append(
        Verdict("memory, most", f"{peak:.1f} MiB", "", "", f"<= {RSS_MAX_MIB:.0f} MiB", peak <= RSS_MAX_MIB)
    )
    judged = None if watch.times[-1] < JUDGED_FROM_S else slope < RSS_SLOPE_MAX_MIB
    limit = f"< {RSS_SLOPE_MAX_MIB} MiB/min"
    report.verdicts.append(Verdict("memory, slope", f"{slope:+.2f} MiB/min", "", "", limit, judged))
    met = abs(fds_after - watch.fds_before) <= 2
    report.verdicts.append(
        Verdict("open files afterwards", str(fds_after), f"{watch.fds_before} before", "", "within 2", met)
    )
    each = (peak - watch.rss_before) * 1024 / STREAMS
    report.notes.append(f"memory before {watch.rss_before:.1f} MiB, most {peak:.1f} MiB: {each:.0f} KiB a stream")


class _Watch:
    """Looks at the server each time the client reports."""

    def __init__(self, process: psutil.Process, progress: Progress, tokens: int) -> None:
        self._process = process
        self._progress = progress
        self._task = progress.add_task("streams: tokens", total=tokens)
        self._started = time.monotonic()
        self._cpu_before = cpu_s(process.pid)
        self.fds_before: int = process.num_fds()
        self.rss_before = self._rss()
        self.times: list[float] = []
        self.rss_mib: list[float] = []

    def look(self, seen: dict[str, Any]) -> None:
        self.times.append(time.monotonic() - self._started)
        self.rss_mib.append(self._rss())
        self._progress.update(self._task, completed=seen["tokens"])

    def cpu_share(self) -> float:
        return (cpu_s(self._process.pid) - self._cpu_before) / (time.monotonic() - self._started)

    def fds_afterwards(self) -> int:
        """Once the closed connections have been seen by the server, or after some seconds."""
        deadline = time.monotonic() + _CLOSING_S
        while (count := self._process.num_fds()) > self.fds_before and time.monotonic() < deadline:
            time.sleep(0.1)
        return int(count)

    def warm_up_s(self) -> float:
        return min(WARM_UP_S, self.times[-1] / 3)

    def slope_mib_per_min(self) -> float:
        points = [(at, rss) for at, rss in zip(self.times, self.rss_mib, strict=True) if at >= self.warm_up_s()]
        # The last points are of streams that end.
        points = points[:-4] or points
        mean_at = sum(at for at, _ in points) / len(points)
        mean_rss = sum(rss for _, rss in points) / len(points)
        spread = sum((at - mean_at) ** 2 for at, _ in points)
        return 60 * sum((at - mean_at) * (rss - mean_rss) for at, rss in points) / spread if spread else 0.0

    def _rss(self) -> float:
        return float(self._process.memory_info().rss) / 2**20
