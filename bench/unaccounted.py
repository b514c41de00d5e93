"""The same server without keys, limits and ledger: the services on the scripted engine behind the gate, with books that
write nothing down. The log and the metrics stay.

A process of `bench.processes.Peer`: told its script and its folder in one line, it answers with its port and serves.
"""

import asyncio
import json
import sys
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.unit.in_process import house
from tests.unit.keyrings import keyring

from bench.serving import serve
from sestet.contract.events import Usage
from sestet.engines.scripted import Script
from sestet.ledger.entry import Kept, Opening, Settlement
from sestet.server import logs
from sestet.server.app import Operations, routes
from sestet.server.exchange import Heart
from sestet.server.gate import Gate
from sestet.server.lifecycle import Lifecycle
from sestet.server.metrics import Metrics
from sestet.server.protocol import GuardedProtocol
from sestet.server.routes import Endpoints
from sestet.services.idempotency import Idempotency
from sestet.store.answers import Answers
from sestet.store.database import open_database


class _Unwritten:
    """Books and account in one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def check(self) -> None:
        return

    def open(self, opening: Opening, usage: Callable[[], Usage]) -> "_Unwritten":
        return self

    def begin(self) -> Awaitable[None]:
        return _done()

    def settle(self, settlement: Settlement, kept: Kept | None = None) -> Awaitable[None]:
        self._metrics.settled(settlement)
        return _done()


def _done() -> Awaitable[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


def main() -> None:
    order = json.loads(sys.stdin.readline())
    sys.stderr = (Path(order["folder"]) / "unaccounted.log").open("w")
    logs.configure("info", "json")
    metrics, lifecycle = Metrics(), Lifecycle()
    script = Script.model_validate(tomllib.loads(order["script"]))
    of = house(*script.reply, books=_Unwritten(metrics))
    nothing = Idempotency(Answers(open_database(f"sqlite:///{order['folder']}/none.db"), "none"), lambda: 0)
    endpoints = Endpoints(of.messages, of.models, nothing, lifecycle, Heart(60.0))
    operations = Operations(lifecycle, metrics, {of.served.id: of.served}, b"")
    gate = Gate(routes(endpoints, operations, {}), keyring([]), (), metrics)
    serve(gate, GuardedProtocol)


if __name__ == "__main__":
    main()
