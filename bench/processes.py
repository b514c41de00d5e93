"""Processes of a benchmark that are not Sestet: each takes one JSON line and answers with JSON lines.

Such a process ends when its standard input is closed, so it never outlives the benchmark.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class Peer:
    """`with Peer("bench.client") as client: client.ask({...})`"""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, order: Mapping[str, Any], on_progress: Callable[[dict[str, Any]], None] | None = None) -> Any:
        """Its answer; `on_progress` is told what it reports before."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            answer = json.loads(line)
            if "progress" not in answer:
                return answer["result"]
            if on_progress is not None:
                on_progress(answer["progress"])
        raise RuntimeError(f"{self._module} ended with status {self._process.wait()}; what it said is above")

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def cpu_s(pid: int) -> float:
    """Processor time that a process's threads have used so far, to the nanosecond where psutil has ticks of 10 ms."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().partition(" ")[0]) for task in tasks) / 1e9
