"""Order `paced`: many long streams at once, read strictly, each token's arrival compared with when it was due.

A token is due its number of paces after its request was sent, so the request's own way to the engine counts too.
"""

import asyncio
import json
import random
import time
from array import array
from typing import Any

from bench.report import quantile
from bench.requests import message
from bench.strict import MalformedStream, StrictReader

_START_WITHIN_S = 2.0
_SPARE_S = 30.0


async def paced(
    port: int, body: dict[str, object], streams: int, tokens: int, tokens_per_s: float, seed: int
) -> dict[str, Any]:
    """Starts `streams` at random moments of two seconds; reports each second, then what all of them saw."""
    loop = asyncio.get_running_loop()
    random_moments = random.Random(seed)
    opened = [_PacedStream(message(port, body), tokens, 1 / tokens_per_s) for _ in range(streams)]
    for stream in opened:
        await loop.create_connection(lambda stream=stream: stream, "127.0.0.1", port)  # type: ignore[misc]
        loop.call_later(random_moments.uniform(0, _START_WITHIN_S), stream.send)
    cpu, started = time.process_time(), time.monotonic()
    ending = asyncio.gather(*(stream.ended for stream in opened))
    deadline = started + _START_WITHIN_S + tokens / tokens_per_s + _SPARE_S
    while not ending.done() and time.monotonic() < deadline:
        await asyncio.wait({ending}, timeout=1.0)
        seen = sum(stream.reader.tokens for stream in opened)
        print(json.dumps({"progress": {"tokens": seen}}), flush=True)
    ending.cancel()
    wall_s = time.monotonic() - started
    for stream in opened:
        stream.close()
    late_s = sorted(value for stream in opened for value in stream.late_s)
    jitter_s = sorted(value - min(stream.late_s) for stream in opened if stream.late_s for value in stream.late_s)
    first_s = [stream.late_s[0] for stream in opened if stream.late_s]
    problems = [stream.problem for stream in opened if stream.problem]
    return {
        "wall_s": wall_s,
        "client_cpu": (time.process_time() - cpu) / wall_s,
        "whole": sum(stream.reader.ended and not stream.problem for stream in opened),
        "problems": problems[:10],
        "malformed": len(problems),
        "unfinished": sum(not stream.reader.ended and not stream.problem for stream in opened),
        "one_start_one_stop": sum(stream.reader.starts == stream.reader.stops == 1 for stream in opened),
        "pings": sum(stream.reader.pings for stream in opened),
        "tokens": sum(stream.reader.tokens for stream in opened),
        "late_s": _summary(late_s),
        "jitter_s": _summary(jitter_s),
        "first_late_s": _summary(first_s),
    }


def _summary(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {
        "count": len(values),
        "p50": quantile(values, 0.5),
        "p99": quantile(values, 0.99),
        "p999": quantile(values, 0.999),
        "max": max(values),
    }


class _PacedStream(asyncio.Protocol):
    def __init__(self, request: bytes, tokens: int, pace_s: float) -> None:
        self._request = request
        self._pace_s = pace_s
        self._sent = 0.0
        self._transport: asyncio.Transport
        self.reader = StrictReader(tokens)
        self.problem: str | None = None
        self.late_s = array("d")
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def send(self) -> None:
        self._sent = time.monotonic()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if self.problem:
            return
        try:
            for _ in range(self.reader.feed(data)):
                self.late_s.append(now - self._sent - (len(self.late_s) + 1) * self._pace_s)
        except (MalformedStream, ValueError, KeyError) as error:
            self._end(f"{type(error).__name__}: {error}")
        if self.reader.ended:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.reader.ended:
            self._end(f"the connection was lost after {self.reader.tokens} tokens: {exc}")

    def close(self) -> None:
        self._transport.close()

    def _end(self, problem: str | None) -> None:
        self.problem = self.problem or problem
        if not self.ended.done():
            self.ended.set_result(None)
