"""`under_watch`: whatever a test does to a server, others must not notice, and nothing may be left behind.

Used by every test of hostile input (RELIABILITY.md section 2). Limits are for a busy machine of two cores.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2
import psutil

from tests.faults.wire import gauge
from tests.running import RunningServer

CANARY_P99_S = 0.5
CANARY_MAX_S = 1.5
RSS_GROWTH_MAX = 64 * 2**20
SETTLE_S = 5.0


@dataclass(slots=True)
class Watch:
    """What a test tells the watch, and what the watch found."""

    heard: list[bytes] = field(default_factory=list)
    canary: list[tuple[int, float]] = field(default_factory=list)

    def hear(self, output: bytes) -> bytes:
        """Output to be searched for secrets; given back as it is."""
        self.heard.append(output)
        return output

    @property
    def canary_p99_s(self) -> float:
        """Of fewer than a hundred answers there is no such thing: then only `canary_max_s` bounds them."""
        times = sorted(seconds for _, seconds in self.canary)
        return times[int((len(times) - 1) * 0.99)] if len(times) >= 100 else 0.0

    @property
    def canary_max_s(self) -> float:
        return max(seconds for _, seconds in self.canary)


@dataclass(frozen=True, slots=True)
class Footprint:
    pid: int
    engines: tuple[int, ...]
    open_files: int
    rss_bytes: int


@contextmanager
def under_watch(
    server: RunningServer,
    *,
    key: str | None = None,
    secrets: tuple[str, ...] = (),
    input_bytes: int = 0,
    canary_max_s: float = CANARY_MAX_S,
    engine_dies: bool = False,
    settle_s: float = SETTLE_S,
) -> Iterator[Watch]:
    """Fails when the server or its engine is another one afterwards, when a client beside the test was answered
    late or wrongly, when memory, files or slots do not come back, or when a secret was seen anywhere."""
    watch = Watch()
    warm_up(server, key)
    before = footprint(server)
    canary = start_canary(server, key)
    try:
        yield watch
    finally:
        output, _ = canary.communicate(timeout=30)
    assert server.process.poll() is None, f"the server ended:\n{server.log}"
    watch.canary = [(status, seconds) for status, seconds in json.loads(output.splitlines()[-1])]
    assert [] == [status for status, _ in watch.canary if status != 200]
    assert watch.canary_p99_s < CANARY_P99_S, f"p99 {watch.canary_p99_s:.3f} s, max {watch.canary_max_s:.3f} s"
    assert watch.canary_max_s < canary_max_s, f"p99 {watch.canary_p99_s:.3f} s, max {watch.canary_max_s:.3f} s"
    after = settled(server, key, before, settle_s)
    assert before.pid == after.pid
    if not engine_dies:
        assert before.engines == after.engines
    assert after.rss_bytes - before.rss_bytes < RSS_GROWTH_MAX + input_bytes, "memory grew"
    everything = b"\n".join([*watch.heard, server.log.encode(), metrics(server, key)])
    told = [secret for secret in secrets if secret.encode() in everything]
    assert [] == told, f"told: {told}"


def warm_up(server: RunningServer, key: str | None) -> None:
    """What is loaded at the first use is no growth."""
    for _ in range(3):
        httpx2.post(f"{server.url}/v1/messages/count_tokens", headers=credentials(key), content=b"{}", timeout=30)
        metrics(server, key)


def footprint(server: RunningServer) -> Footprint:
    process = psutil.Process(server.pid)
    with process.oneshot():
        engines = tuple(child.pid for child in process.children())
        return Footprint(server.pid, engines, process.num_fds(), process.memory_info().rss)


def settled(server: RunningServer, key: str | None, before: Footprint, settle_s: float) -> Footprint:
    """The footprint once files, slots and queue are as they were."""
    deadline = time.monotonic() + settle_s
    while True:
        busy = [gauge(server, name, key) for name in ("sestet_slots_running", "sestet_queue_waiting")]
        now = footprint(server)
        if busy == [0.0, 0.0] and now.open_files <= before.open_files:
            return now
        assert time.monotonic() < deadline, f"left behind: slots and queue {busy}, files {before} to {now}"
        time.sleep(0.05)


def start_canary(server: RunningServer, key: str | None) -> subprocess.Popen[bytes]:
    """Its question goes through the whole of the server but the engine, so that a busy model does not delay it."""
    canary = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.canary", str(server.port), "/v1/models"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert canary.stdin is not None
    assert canary.stdout is not None
    canary.stdin.write(json.dumps(credentials(key)).encode() + b"\n")
    canary.stdin.flush()
    assert canary.stdout.readline() == b"started\n"
    return canary


def credentials(key: str | None) -> dict[str, str]:
    return {"x-api-key": key} if key else {}


def metrics(server: RunningServer, key: str | None) -> bytes:
    return httpx2.get(f"{server.url}/metrics", headers=credentials(key), timeout=10).content
