"""The gate and the routes of every dialect over services in the test's own process, without a store."""

from dataclasses import dataclass
from functools import cache

from starlette.types import ASGIApp

from sestet.gate.keys import Keyring
from sestet.server.app import Operations, routes
from sestet.server.exchange import Heart
from sestet.server.gate import Gate
from sestet.server.lifecycle import Lifecycle
from sestet.server.metrics import Metrics
from sestet.server.routes import Endpoints
from sestet.services.idempotency import Idempotency
from sestet.store.answers import Answers
from sestet.store.database import open_database
from tests.unit.in_process import House
from tests.unit.keyrings import keyring


@dataclass(frozen=True)
class Door:
    """What `in_process.ask` asks."""

    asgi: ASGIApp


def door(of: House, ring: Keyring | None = None) -> Door:
    """Open to everybody unless there is a keyring."""
    metrics, lifecycle = Metrics(), Lifecycle()
    endpoints = Endpoints(of.messages, of.models, _nothing(), lifecycle, Heart(60.0))
    operations = Operations(lifecycle, metrics, {of.served.id: of.served}, b"")
    return Door(Gate(routes(endpoints, operations, {}), ring or keyring([]), (), metrics))


@cache
def _nothing() -> Idempotency:
    return Idempotency(Answers(open_database("sqlite:///none.db"), "none"), lambda: 0)
