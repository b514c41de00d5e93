"""What must be true of a ledger whatever happened, computed anew from the database; and clients that leave as they
like, whose word it is held against."""

import asyncio
import json
import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sqlalchemy import select

from sestet.store.database import open_database
from sestet.store.tables import daily_spend, ledger

US_PER_DAY = 86_400_000_000
KINDS = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
TIMES = ("queue_us", "first_token_us", "duration_us")

Row = dict[str, Any]


def rows(url: str) -> list[Row]:
    """The ledger, oldest first."""
    with closing(open_database(url)) as database, database.reading() as connection:
        found = connection.execute(select(ledger).order_by(ledger.c.started_at, ledger.c.request_id))
        return [dict(row) for row in found.mappings()]


def spent(url: str) -> dict[tuple[str, int], tuple[int, int]]:
    """(workspace, day) -> cost and own cost, as the books have added them up."""
    with closing(open_database(url)) as database, database.reading() as connection:
        found = connection.execute(select(daily_spend))
        return {(row.workspace_id, row.day): (row.cost, row.own_cost) for row in found}


def check(url: str) -> list[Row]:
    """The ledger, once every row costs what its tokens cost, every day is the sum of its rows, no time is negative and
    the file is sound."""
    found = rows(url)
    assert [] == [row for row in found if (row["cost"], row["own_cost"]) != (cost(row), own_cost(row))]
    assert sums(found) == spent(url)
    assert [] == [row for row in found for name in TIMES if (row[name] or 0) < 0]
    assert [] == [one for one, times in Counter(row["request_id"] for row in found).items() if times > 1]
    assert "ok" == integrity(url)
    return found


def cost(row: Row) -> int:
    """Tokens times prices, half a micro-dollar rounded up."""
    return _rounded(sum(row[f"{kind}_tokens"] * row[f"price_{kind}"] for kind in KINDS))


def own_cost(row: Row) -> int:
    """The operator's own: every token of the prompt at one price, every token of the reply at another."""
    prompt = sum(row[f"{kind}_tokens"] for kind in KINDS if kind != "output")
    return _rounded(prompt * row["own_price_input"] + row["output_tokens"] * row["own_price_output"])


def sums(found: Sequence[Row]) -> dict[tuple[str, int], tuple[int, int]]:
    """What the days must come to."""
    totals: dict[tuple[str, int], tuple[int, int]] = {}
    for row in found:
        if row["state"] != "running":
            day = (row["workspace_id"], row["settled_at"] // US_PER_DAY)
            before = totals.get(day, (0, 0))
            totals[day] = (before[0] + row["cost"], before[1] + row["own_cost"])
    return totals


def integrity(url: str) -> str:
    """What SQLite itself says of its file; PostgreSQL is taken at its word."""
    if not url.startswith("sqlite:///"):
        return "ok"
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def _rounded(millionths: int) -> int:
    return int(Fraction(millionths, 1_000_000) + Fraction(1, 2))


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, told from all others by the length of its prompt. Its client leaves after so many bytes of the
    answer, or so many seconds, whatever comes first. `tokens` are what the engine would say of it to the end."""

    number: int
    word: str
    tokens: int
    stream: bool = True
    bytes_max: int = 10_000_000
    seconds_max: float = 60.0
    model: str = "claude-3-5-haiku-20241022"

    @property
    def payload(self) -> bytes:
        content = f"{self.word} ".ljust(20 + self.number, "x")
        fields = {"model": self.model, "max_tokens": 1_000, "stream": self.stream}
        body = json.dumps({**fields, "messages": [{"role": "user", "content": content}]}).encode()
        head = "POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        return (head % len(body)).encode() + body


FRAME = len("<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n") + 20  # of every prompt, beside its number


def number_of(row: Row) -> int:
    """Which visit this row is of."""
    return int(row["input_tokens"]) - FRAME


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client got before it left or the server closed."""

    visit: Visit
    data: bytes
    lasted_s: float

    @property
    def status(self) -> int:
        match = re.match(rb"HTTP/1\.1 (\d{3}) ", self.data)
        return int(match[1]) if match else 0

    @property
    def request_id(self) -> str | None:
        match = re.search(rb"(?im)^request-id: (req_[0-9a-f]{32})\r$", self.data)
        return match[1].decode() if match else None

    @property
    def finished(self) -> bool:
        return b'"type":"message_stop"' in self.data or (self.status == 200 and b'"type":"message",' in self._whole)

    @property
    def deltas(self) -> int:
        return self.data.count(b'"type":"text_delta"')

    @property
    def output_tokens(self) -> int:
        """What the answer itself says was made, by its last word of it."""
        return max([0, *map(int, re.findall(rb'"output_tokens":(\d+)', self.data))])

    @property
    def _whole(self) -> bytes:
        return b"" if self.visit.stream else self.data


async def visit(port: int, one: Visit) -> Heard:
    """Whatever the server does, what was heard is returned."""
    started = time.monotonic()
    data = b""
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(one.seconds_max):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(one.payload)
                while len(data) < one.bytes_max and (piece := await reader.read(min(4096, one.bytes_max - len(data)))):
                    data += piece
            finally:
                writer.transport.abort() if random.random() < 0.5 else writer.close()
    return Heard(one, data, time.monotonic() - started)


async def visits(port: int, all_of_them: Sequence[Visit], at_once: int) -> list[Heard]:
    turns = asyncio.Semaphore(at_once)

    async def in_turn(one: Visit) -> Heard:
        async with turns:
            return await visit(port, one)

    return await asyncio.gather(*map(in_turn, all_of_them))
