"""What a benchmark found: verdicts first, then the absolute figures, the command and the machine; also as JSON."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil
from rich.console import Console
from rich.table import Table

_PACKAGES = ("xllamacpp", "uvicorn", "uvloop", "httptools", "starlette", "aiohttp", "orjson", "pydantic")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One target. `met` is `None` where the figure is for information or the run too short to judge it."""

    what: str
    sestet: str
    other: str
    ratio: str
    target: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity of one server."""

    what: str
    server: str
    count: int
    p50: float
    p99: float
    unit: str


@dataclass
class Report:
    """One benchmark's outcome. `other` is who Sestet was measured against."""

    name: str
    title: str
    other: str
    verdicts: list[Verdict] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: dict[str, object] = field(default_factory=dict)
    load_before: tuple[float, float, float] = field(default_factory=os.getloadavg)

    @property
    def missed(self) -> int:
        return sum(verdict.met is False for verdict in self.verdicts)

    def figure(self, what: str, server: str, values: Sequence[float], unit: str) -> None:
        self.figures.append(Figure(what, server, len(values), quantile(values, 0.5), quantile(values, 0.99), unit))

    def show(self, console: Console, command: str) -> None:
        console.print(f"\n[bold]{self.name}[/]: {self.title}\n")
        verdicts = _table("what", "Sestet", self.other, "ratio", "target", "verdict")
        for one in self.verdicts:
            verdicts.add_row(one.what, one.sestet, one.other, one.ratio, one.target, _SHOWN[one.met])
        console.print(verdicts)
        figures = _table("measured", "of", "n", "p50", "p99", "unit")
        for figure in self.figures:
            figures.add_row(
                figure.what, figure.server, str(figure.count), short(figure.p50), short(figure.p99), figure.unit
            )
        console.print()
        console.print(figures)
        console.print()
        for note in self.notes:
            console.print(f"- {note}", soft_wrap=True, markup=False)
        console.print(f"- command: {command}", soft_wrap=True, markup=False)
        console.print(f"- machine: {_machine_line(self.machine())}", soft_wrap=True, markup=False)

    def write(self, folder: Path, command: str) -> Path:
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
        found = {
            "name": self.name,
            "title": self.title,
            "other": self.other,
            "command": command,
            "verdicts": [asdict(one) for one in self.verdicts],
            "figures": [asdict(one) for one in self.figures],
            "notes": self.notes,
            "machine": self.machine(),
            "raw": self.raw,
        }
        path.write_text(json.dumps(found, indent=1) + "\n")
        return path

    def machine(self) -> dict[str, object]:
        return {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_mib": psutil.virtual_memory().total >> 20,
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "packages": {name: version(name) for name in _PACKAGES},
            "load_average_before": self.load_before,
        }


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def short(value: float) -> str:
    """Three or four digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    return f"{short(median(values))} ({short(min(values))} to {short(max(values))})"


_SHOWN: Mapping[bool | None, str] = {True: "[green]met[/]", False: "[bold red]MISSED[/]", None: "[dim]-[/]"}


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, no_wrap=position == 0)
    return table


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _machine_line(facts: Mapping[str, object]) -> str:
    packages = facts["packages"]
    assert isinstance(packages, dict)
    versions = ", ".join(f"{name} {number}" for name, number in packages.items())
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_mib']} MiB; {facts['system']}; "
        f"Python {facts['python']}; {versions}; load average before the run {facts['load_average_before']}"
    )
