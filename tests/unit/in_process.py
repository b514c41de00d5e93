"""A whole application in the test's own process: the scripted engine behind the real gate, without a socket."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, get_args

import orjson
from llguidance import LLMatcher

from sestet.catalog.card import Card, family_cards, profile_for, profiles
from sestet.catalog.catalog import Catalog, Route
from sestet.config import Config
from sestet.contract.requests import Effort
from sestet.contract.thinking import ThinkingType
from sestet.engines.scripted import Script, ScriptedEngine, ScriptedReply
from sestet.server.compose import Application, build
from sestet.services.admission import Admission
from sestet.services.grammars import Grammars
from sestet.services.messages import Messages, Thoughts
from sestet.services.models import Models
from sestet.services.ports import Settlement
from sestet.services.served import Served
from sestet.services.thinking import Thinker
from sestet.turn.render import Style
from sestet.turn.template import ChatTemplate
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.thoughts import ThoughtPolicy
from tests.unit.thoughts import SEALS

OWN_ID = "scripted-20260101"


@dataclass(slots=True)
class Ledger:
    """The `Books` of a test: keeps what it is told."""

    settled: list[Settlement] = field(default_factory=list)

    def settle(self, settlement: Settlement) -> None:
        self.settled.append(settlement)


@dataclass(frozen=True, slots=True)
class House:
    """The services on a scripted engine, and what they can be asked about afterwards."""

    messages: Messages
    models: Models
    engine: ScriptedEngine
    served: Served
    ledger: Ledger


def house(
    *replies: ScriptedReply, moved: Mapping[str, str] | None = None, redact: bool = False, **script: Any
) -> House:
    """Services whose engine says these replies; the family stands in on it."""
    engine = ScriptedEngine(Script(reply=list(replies), **script) if replies else Script(**script))
    weights = engine.weights
    own = Card(OWN_ID, "Scripted engine", date(2026, 1, 1), weights.window, weights.window, aliases=("scripted",))
    own = replace(own, thinking=frozenset(get_args(ThinkingType)), efforts=frozenset(get_args(Effort)))
    catalog = Catalog([Route(card, OWN_ID, own.display_name) for card in (own, *family_cards())], moved)
    profile = profile_for(weights.chat_template, profiles())
    template = ChatTemplate(weights)
    thinker = Thinker(ThinkingStyle.found(profile.thinking, template), tuple(map(ord, profile.thinking.closing)), ())
    style = Style(thinker.style, profile.tools)
    served = Served(OWN_ID, engine, template, profile, thinker, style, Admission(engine.slots, 4))
    ledger = Ledger()
    messages = Messages(
        catalog,
        {OWN_ID: served},
        ledger,
        Thoughts(SEALS, ThoughtPolicy(), redact),
        Grammars(LLMatcher.validate_grammar),
    )
    return House(messages, Models(catalog, {OWN_ID: served}), engine, served, ledger)


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


async def ask(
    application: Application,
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
