"""A whole application in the test's own process: the scripted engine behind the real gate, without a socket."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Protocol, get_args

import orjson
from llguidance import LLMatcher
from starlette.types import ASGIApp

from sestet.catalog.card import Card, family_cards, profile_for, profiles
from sestet.catalog.catalog import Catalog, Route
from sestet.config import Config
from sestet.contract.errors import ApiError
from sestet.contract.events import Usage
from sestet.contract.requests import Effort
from sestet.contract.thinking import ThinkingType
from sestet.engines.scripted import Script, ScriptedEngine, ScriptedReply
from sestet.gate.directory import Allowance, Directory
from sestet.ledger.entry import Kept, Opening, Settlement
from sestet.server.compose import Application, build
from sestet.services.admission import Admission
from sestet.services.caching import Clock, PromptCache
from sestet.services.concurrency import Concurrency
from sestet.services.grammars import Grammars
from sestet.services.messages import Accounts, Messages, Thoughts
from sestet.services.models import Models
from sestet.services.ports import Books
from sestet.services.quotas import Quotas
from sestet.services.served import Served
from sestet.services.shelf import Shelf
from sestet.services.thinking import Thinker
from sestet.store.snapshots import SnapshotFolder
from sestet.turn.render import Style
from sestet.turn.template import ChatTemplate
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.thoughts import ThoughtPolicy
from tests.unit.thoughts import SEALS

OWN_ID = "scripted-20260101"


NOW_US = 1_800_000_000_000_000
NOBODY = Directory(0, "org", "Organization", Allowance(), {}, ())


@dataclass(slots=True)
class Ledger:
    """The `Books` of a test: keeps what it is told. Not `healthy` refuses everything new."""

    settled: list[Settlement] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    healthy: bool = True

    def check(self) -> None:
        if not self.healthy:
            raise ApiError("overloaded_error", "unhealthy")

    def open(self, opening: Opening, usage: Callable[[], Usage]) -> "Line":
        return Line(self, opening)


@dataclass(frozen=True, slots=True)
class Line:
    ledger: Ledger
    opening: Opening

    def begin(self) -> Awaitable[None]:
        self.ledger.begun.append(self.opening.request_id)
        return _done()

    def settle(self, settlement: Settlement, kept: Kept | None = None) -> Awaitable[None]:
        assert settlement.opening == self.opening
        self.ledger.settled.append(settlement)
        self.ledger.kept += [] if kept is None else [kept]
        return _done()


def _done() -> Awaitable[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


@dataclass(frozen=True, slots=True)
class House:
    """The services on a scripted engine, and what they can be asked about afterwards."""

    messages: Messages
    models: Models
    engine: ScriptedEngine
    served: Served
    ledger: Ledger
    quotas: Quotas


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where prompts are kept, how many bytes of them, and by which clock."""

    folder: SnapshotFolder
    clock: Clock = field(default_factory=Clock)
    budget: int = 2**30

    def cache(self, engine: ScriptedEngine) -> PromptCache:
        shelf = Shelf(self.folder, engine.identity, self.budget, lambda _event, _facts: None)
        return PromptCache(shelf, engine.snapshot_bytes_per_token, self.clock)


def house(
    *replies: ScriptedReply,
    moved: Mapping[str, str] | None = None,
    redact: bool = False,
    directory: Directory = NOBODY,
    books: Books | None = None,
    keeps: "Keeping | None" = None,
    **script: Any,
) -> House:
    """Services whose engine says these replies; the family stands in on it. `books` take the ledger's place. With
    `keeps` prompts are cached; whoever gives it starts and stops the cache."""
    engine = ScriptedEngine(
        Script(reply=list(replies), **script) if replies else Script(**script), keeps.folder.path if keeps else None
    )
    cache = keeps.cache(engine) if keeps else None
    weights = engine.weights
    own = Card(OWN_ID, "Scripted engine", date(2026, 1, 1), weights.window, weights.window, aliases=("scripted",))
    own = replace(own, thinking=frozenset(get_args(ThinkingType)), efforts=frozenset(get_args(Effort)))
    catalog = Catalog([Route(card, OWN_ID, own.display_name) for card in (own, *family_cards())], moved)
    profile = profile_for(weights.chat_template, profiles())
    template = ChatTemplate(weights)
    thinker = Thinker(ThinkingStyle.found(profile.thinking, template), tuple(map(ord, profile.thinking.closing)), ())
    style = Style(thinker.style, profile.tools)
    served = Served(OWN_ID, engine, template, profile, thinker, style, Admission(engine.slots, 4), cache=cache)
    ledger = Ledger()
    quotas = Quotas(directory, lambda model: catalog.resolve(model).card.rate_class, lambda: NOW_US)
    messages = Messages(
        catalog,
        {OWN_ID: served},
        Accounts(quotas, Concurrency(), books or ledger, lambda: NOW_US),
        Thoughts(SEALS, ThoughtPolicy(), redact),
        Grammars(LLMatcher.validate_grammar),
    )
    return House(messages, Models(catalog, {OWN_ID: served}), engine, served, ledger, quotas)


@dataclass(slots=True)
class Answer:
    """What came out of the application."""

    status: int = 0
    headers: dict[bytes, list[bytes]] = field(default_factory=dict)
    body: bytes = b""
    finished: bool = False

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


Body = bytes | Mapping[str, Any] | None


class Asgi(Protocol):
    @property
    def asgi(self) -> ASGIApp: ...


async def ask(
    application: Asgi,
    method: str,
    path: str,
    body: Body = None,
    *,
    headers: Mapping[str, str] | list[tuple[bytes, bytes]] | None = None,
    query: str = "",
    gone_after: int | None = None,
    on_body: Callable[[bytes], Awaitable[None]] | None = None,
) -> Answer:
    """One request through the gate. `gone_after` is how many pieces of the answer the client stays for."""
    content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    if headers is None or isinstance(headers, Mapping):
        given = {"host": "localhost", **(headers or {})}
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()]
    else:
        raw = headers
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    answer = Answer()
    unread = [{"type": "http.request", "body": content, "more_body": False}]
    gone = asyncio.Event()
    pieces = 0

    async def receive() -> dict[str, Any]:
        if unread:
            return unread.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal pieces
        if message["type"] == "http.response.start":
            assert 0 == answer.status, "a response starts once"
            answer.status = message["status"]
            for name, value in message["headers"]:
                answer.headers.setdefault(name, []).append(value)
            return
        assert answer.status, "a response starts before its body"
        assert not answer.finished, "nothing follows the end of a response"
        answer.body += message["body"]
        answer.finished = not message.get("more_body", False)
        pieces += 1
        if on_body is not None:
            await on_body(message["body"])
        if pieces == gone_after:
            gone.set()

    await application.asgi(scope, receive, send)  # type: ignore[arg-type]
    return answer


def application(**sections: Mapping[str, Any]) -> Awaitable[Application]:
    """The composed application on the scripted engine's default script."""
    return build(Config.model_validate({"engine": {"kind": "scripted"}, **sections}))
