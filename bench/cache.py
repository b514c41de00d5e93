"""Prompt caching: time to first token of a long prefix that is new, stored, pushed out, and of a server started again.

Beside it llama.cpp's own server, which keeps prompts in its slots and, where it is told to, in the host's memory.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final, Protocol

from rich.progress import Progress, TaskID
from tests.running import RunningServer, start_server

from bench.processes import Peer
from bench.report import Report, Verdict, short, spread
from bench.requests import prompt
from sestet.engines.llamacpp.embedded import WEIGHTS_ID

SLOTS: Final = 2
WINDOW: Final = 8192
OTHERS: Final = 3 * SLOTS
HOST_CACHE_MIB: Final = 8192  # what llama.cpp's own server takes by default
HIT_MAX: Final = 0.01
FROM_DISK_MAX: Final = 0.02
PLAIN_MIN: Final = 0.98

_PREFIX_WORDS = 4_100  # of one token each
_PREFIX_WORDS_QUICK = 1_100
_OTHER_WORDS = 300
_PLAIN_WORDS = 460
_HITS = 3  # in each round
_NEW, _HIT, _ASKED, _OTHERS, _RESTART = _PHASES = (
    "new",
    "on a hit",
    "on a hit, with another question",
    f"after {OTHERS} other conversations",
    "after a restart",
)
_SESTET, _DEFAULTS, _SLOTS_ONLY = "sestet", "llama.cpp, host cache", "llama.cpp, slots alone"
_ENGINE = f"[engine]\nslots = {SLOTS}\nwindow = {WINDOW}\n"
_WITHOUT_CACHE = "[cache]\ndisk = 0\n"
# Words of one token, so that a prompt is as long as it is said to be.
_WORDS = ("river", "stone", "garden", "winter", "letter", "engine", "island", "market", "silver", "window", "bridge")


def run(progress: Progress, folder: Path, quick: bool) -> Report:
    report = Report("cache", "a prompt's long beginning, stored and used again", f"{_DEFAULTS}; {_SLOTS_ONLY}")
    with Peer("bench.client") as client:
        bench = _Bench(report, progress, client, _PREFIX_WORDS_QUICK if quick else _PREFIX_WORDS)
        with contextlib.ExitStack() as running:
            servers: dict[str, _Server] = {
                _SESTET: running.enter_context(contextlib.closing(_Sestet(folder / "cache"))),
                _DEFAULTS: running.enter_context(contextlib.closing(_Llama(HOST_CACHE_MIB))),
                _SLOTS_ONLY: running.enter_context(contextlib.closing(_Llama(0))),
            }
            bench.first_tokens(servers, rounds=1 if quick else 3)
        with contextlib.ExitStack() as running:
            bench.plain_requests(
                running.enter_context(contextlib.closing(_Sestet(folder / "with"))),
                running.enter_context(contextlib.closing(_Sestet(folder / "without", _WITHOUT_CACHE))),
                rounds=4 if quick else 40,
            )
    report.notes += [
        f"all: SmolLM2-135M-Instruct (Q4_1), {SLOTS} slots of {WINDOW} tokens; the same requests, with `cache_control` "
        "on the system prompt, which llama.cpp does not read",
        f"{_DEFAULTS}: its own default of {HOST_CACHE_MIB} MiB of the host's memory for prompts that left a slot; "
        f"{_SLOTS_ONLY}: without that",
        "a ratio is the time over that of the same prefix when it was new, on the same server in the same round; what "
        "is shown is the median of the rounds (lowest to highest). A hit is the same request again; its "
        "question and what follows it in the prompt are about a dozen tokens, computed wherever the prefix comes from",
        f"other conversations: {_OTHER_WORDS} words each, to be cached as well; a restart: SIGTERM, and a start on the "
        "same data; what is measured then is its first request",
        "without `cache_control`: the time of a server with `[cache] disk = 0` over that of one that caches",
    ]
    return report


class _Server(Protocol):
    """A server of the benchmark that can be started again on what it has kept."""

    @property
    def port(self) -> int: ...

    def restart(self) -> None: ...


class _Sestet:
    def __init__(self, folder: Path, config: str = "") -> None:
        folder.mkdir()
        self._folder = folder
        self._config = _ENGINE + config
        self._server = self._started()

    @property
    def port(self) -> int:
        return self._server.port

    def restart(self) -> None:
        self._server.stop()
        self._server = self._started()

    def close(self) -> None:
        self._server.stop()

    def _started(self) -> RunningServer:
        return start_server(self._folder, config=self._config)


class _Llama:
    def __init__(self, cache_ram_mib: int) -> None:
        self._settings = {"slots": SLOTS, "window": WINDOW, "cache_ram_mib": cache_ram_mib}
        self._running = contextlib.ExitStack()
        self.port = self._started()

    def restart(self) -> None:
        self._running.close()
        self.port = self._started()

    def close(self) -> None:
        self._running.close()

    def _started(self) -> int:
        port: int = self._running.enter_context(Peer("bench.llama_server")).ask(self._settings)["port"]
        return port


class _Bench:
    def __init__(self, report: Report, progress: Progress, client: Peer, words: int) -> None:
        self._report = report
        self._progress = progress
        self._client = client
        self._words = words
        self._random = Random(1)
        self._written: list[int] = []
        self._read: list[tuple[int, int]] = []  # what was written of a prefix, and what was read of it

    def first_tokens(self, servers: dict[str, _Server], rounds: int) -> None:
        """Every phase on every server, round by round."""
        times: dict[str, dict[str, list[float]]] = {name: {phase: [] for phase in _PHASES} for name in servers}
        for server in servers.values():
            self._ask(
                server, _text(self._random, 16), "river", cached=False
            )  # the first request of a process is slower
        for _ in self._counted("long prefix", rounds):
            prefix, others = (
                _text(self._random, self._words),
                [_text(self._random, _OTHER_WORDS) for _ in range(OTHERS)],
            )
            for name, server in servers.items():
                for phase, seconds in self._round(server, prefix, others, judged=name == _SESTET).items():
                    times[name][phase].append(seconds)
        for phase, limit in ((_HIT, HIT_MAX), (_OTHERS, FROM_DISK_MAX), (_RESTART, FROM_DISK_MAX)):
            ratios = {
                name: [then / new for then, new in zip(found[phase], found[_NEW], strict=True)]
                for name, found in times.items()
            }
            ours, *theirs = (short(median(found)) for found in ratios.values())
            reached = median(ratios[_SESTET]) <= limit
            self._report.verdicts.append(
                Verdict(
                    f"first token {phase}", ours, "; ".join(theirs), spread(ratios[_SESTET]), f"<= {limit}", reached
                )
            )
        for phase in _PHASES:
            for name, found in times.items():
                self._report.figure(f"time to first token, {phase}", name, [1e3 * one for one in found[phase]], "ms")
        self._report.raw["first_token_s"] = times
        self._check_usage()

    def plain_requests(self, caching: _Server, without: _Server, rounds: int) -> None:
        """Requests without `cache_control`; who is asked first takes turns."""
        servers = {"caching": caching, "without cache": without}
        times: dict[str, list[float]] = {name: [] for name in servers}
        for server in servers.values():
            self._ask(server, _text(self._random, 16), "river", cached=False)
        for number in self._counted("without cache_control", rounds):
            text = _text(self._random, _PLAIN_WORDS)
            for name in sorted(servers, reverse=number % 2 == 1):
                times[name].append(self._ask(servers[name], text, "river", cached=False)["first_text_s"])
        ratios = [bare / ours for ours, bare in zip(times["caching"], times["without cache"], strict=True)]
        self._report.verdicts.append(
            Verdict(
                f"first token without cache_control, {_PLAIN_WORDS} words",
                f"{median(times['caching']) * 1e3:.1f} ms",
                f"{median(times['without cache']) * 1e3:.1f} ms without cache",
                spread(ratios),
                f">= {PLAIN_MIN}",
                median(ratios) >= PLAIN_MIN,
            )
        )
        for name, found in times.items():
            self._report.figure("time to first token, no cache_control", name, [1e3 * one for one in found], "ms")
        self._report.raw["plain_s"] = times

    def _round(self, server: _Server, prefix: str, others: list[str], *, judged: bool) -> dict[str, float]:
        question, *more = self._random.sample(_WORDS, 1 + _HITS)
        new = self._ask(server, prefix, question)
        hits = [self._ask(server, prefix, question) for _ in range(_HITS)]
        asked = [self._ask(server, prefix, another) for another in more]
        for other in others:
            self._ask(server, other, question)
        pushed_out = self._ask(server, prefix, question)
        server.restart()
        started_again = self._ask(server, prefix, question)
        if judged:
            written = new["cache_creation_input_tokens"]
            self._written.append(written)
            self._read += [(0, new["cache_read_input_tokens"])]
            self._read += [
                (written, one["cache_read_input_tokens"]) for one in (*hits, *asked, pushed_out, started_again)
            ]
        return {
            _NEW: new["first_text_s"],
            _HIT: median(hit["first_text_s"] for hit in hits),
            _ASKED: median(one["first_text_s"] for one in asked),
            _OTHERS: pushed_out["first_text_s"],
            _RESTART: started_again["first_text_s"],
        }

    def _check_usage(self) -> None:
        """What was measured was a prefix of that length, and was read from the cache where it should be."""
        equal = sum(written == read for written, read in self._read)
        count, shortest = len(self._read), min(self._written)
        self._report.verdicts += [
            Verdict("replies that read all that was written", f"{equal} of {count}", "", "", "all", equal == count),
            Verdict("tokens of the prefix", f"{shortest}", "", "", f">= {self._words}", shortest >= self._words),
        ]
        self._report.raw["written_and_read"] = self._read

    def _ask(self, server: _Server, prefix: str, question: str, *, cached: bool = True) -> dict[str, Any]:
        body = prompt(f"{question}?", 4, model=WEIGHTS_ID, stream=True)
        system: dict[str, object] = {"type": "text", "text": prefix}
        if cached:
            system["cache_control"] = {"type": "ephemeral"}
        order = {"kind": "ask", "port": server.port, "bodies": [{**body, "system": [system]}]}
        reply: dict[str, Any] = self._client.ask(order)["replies"][0]
        return reply

    def _counted(self, name: str, rounds: int) -> Iterator[int]:
        task: TaskID = self._progress.add_task(f"cache: {name}", total=rounds)
        for number in range(rounds):
            yield number
            self._progress.advance(task)


def _text(random: Random, words: int) -> str:
    return " ".join(random.choices(_WORDS, k=words))
