"""What a frame of a stream costs at each face: the same long reply through every dialect of one server."""

import json
import socket
import time
from pathlib import Path
from statistics import median

from rich.progress import Progress
from tests.faces import DIALECTS, Spelled
from tests.running import RunningServer, start_server

from bench.processes import cpu_s
from bench.report import Figure, Report, Verdict, quantile, short, spread

TOKENS = 4_000
ROUNDS, QUICK_ROUNDS = 20, 3
RATIO_MAX = 1.15
SCRIPT = f"""
[[reply]]
say = [" token"]
repeat = {TOKENS}
"""
REQUEST = {
    "model": "scripted-20260101",
    "max_tokens": TOKENS + 1,
    "stream": True,
    "messages": [{"role": "user", "content": "Go on."}],
}


def run(progress: Progress, folder: Path, quick: bool) -> Report:
    rounds = QUICK_ROUNDS if quick else ROUNDS
    report = Report("faces", f"a stream of {TOKENS} tokens through every dialect, scripted engine", "anthropic")
    cpu: dict[str, list[float]] = {name: [] for name in DIALECTS}
    wall: dict[str, list[float]] = {name: [] for name in DIALECTS}
    server = start_server(folder, script=SCRIPT)
    task = progress.add_task("faces: streams", total=(rounds + 1) * len(DIALECTS))
    try:
        for number in range(rounds + 1):  # the first is to warm up
            for name, spell in DIALECTS.items():
                used, took = _frame_costs(server, spell(REQUEST))
                if number:
                    cpu[name].append(used * 1e6)
                    wall[name].append(took * 1e6)
                progress.advance(task)
    finally:
        server.stop()
    for name in DIALECTS:
        ratios = [ours / theirs for ours, theirs in zip(cpu[name], cpu["anthropic"], strict=True)]
        met = None if name == "anthropic" else median(ratios) <= RATIO_MAX
        ours, theirs = short(median(cpu[name])), short(median(cpu["anthropic"]))
        report.verdicts.append(
            Verdict(f"{name}: processor time a frame, µs", ours, theirs, spread(ratios), f"<= {RATIO_MAX}", met)
        )
        p50, p99 = quantile(wall[name], 0.5), quantile(wall[name], 0.99)
        report.figures.append(Figure("time a frame", name, rounds, p50, p99, "µs"))
    report.notes.append(
        "a frame is one token of the reply; processor time is the server's, of all its threads, over the whole stream; "
        "rounds go through all dialects; a ratio is the median of the rounds' own (lowest to highest)"
    )
    report.raw = {"cpu_us": cpu, "wall_us": wall}
    return report


def _frame_costs(server: RunningServer, spelled: Spelled) -> tuple[float, float]:
    """Seconds of the server's processor, and of the clock, for each token of a reply that is read to its end."""
    content = json.dumps(spelled.body).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in spelled.headers.items())
    request = (
        f"POST {spelled.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nconnection: close\r\n"
        f"{head}content-length: {len(content)}\r\n\r\n"
    ).encode() + content
    used, started = cpu_s(server.pid), time.monotonic()
    size = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(request)
        answer = connection.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        while part := connection.recv(1 << 16):
            size += len(part)
    assert size > TOKENS * len(" token"), "the reply was cut"
    return (cpu_s(server.pid) - used) / TOKENS, (time.monotonic() - started) / TOKENS
