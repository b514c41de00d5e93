"""The composition root: the only place that knows every implementation, and wires it to the ports."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol, get_args

import structlog
from starlette.types import ASGIApp

from sestet.catalog.card import Card, family_cards, profile_for, profiles
from sestet.catalog.catalog import Catalog, CatalogError, Route
from sestet.config import Config, ConfigError, WeightsSection, default_signing_keys
from sestet.contract.requests import Effort
from sestet.contract.thinking import ThinkingType
from sestet.engines.llamacpp.embedded import (
    WEIGHTS_ALIASES,
    WEIGHTS_ID,
    WEIGHTS_NAME,
    WEIGHTS_SNAPSHOT,
    embedded_weights,
)
from sestet.engines.llamacpp.engine import LlamaCppEngine
from sestet.engines.llamacpp.process import LlamaCppSettings
from sestet.engines.scripted import Script, ScriptedEngine, ScriptError, read_script
from sestet.gate import signing_keys
from sestet.gate.keys import Keyring
from sestet.server.app import routes
from sestet.server.exchange import Heart
from sestet.server.gate import Gate
from sestet.server.lifecycle import Lifecycle
from sestet.server.metrics import Metrics
from sestet.server.routes import Endpoints
from sestet.services.admission import Admission
from sestet.services.grammar_worker import GrammarWorker
from sestet.services.grammars import Grammars
from sestet.services.messages import Messages, Thoughts
from sestet.services.models import Models
from sestet.services.ports import Engine
from sestet.services.served import Served
from sestet.services.thinking import Thinker
from sestet.turn.render import Style
from sestet.turn.seals import Seals
from sestet.turn.template import ChatTemplate, TemplateRefused
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.thoughts import ThoughtPolicy


class Startable(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """One set of weights to serve, before it is loaded. `aliases` are its card's."""

    id: str
    display_name: str
    aliases: tuple[str, ...]
    snapshot: date
    path: Path | None


@dataclass(slots=True)
class Application:
    """Everything that runs. `engines` have been started; whoever holds this stops them."""

    asgi: ASGIApp
    catalog: Catalog
    served: Mapping[str, Served]
    lifecycle: Lifecycle
    heart: Heart
    metrics: Metrics
    engines: Sequence[Startable]
    worker: GrammarWorker

    async def stop(self) -> None:
        self.worker.close()
        for engine in self.engines:
            await engine.stop()


def plan(config: Config) -> list[Plan]:
    """What is to be served; the first answers for the stand-ins. `ConfigError` for what cannot be."""
    if config.engine.kind == "scripted":
        return [
            Plan(
                "scripted-20260101",
                "Scripted engine",
                ("scripted", "scripted-latest"),
                date(2026, 1, 1),
                None,
            )
        ]
    if config.weights:
        return [_plan_weights(position, weights) for position, weights in enumerate(config.weights)]
    path = embedded_weights()
    if path is None:
        raise ConfigError(
            "the embedded model is not installed (`make serve` installs it); "
            "or name a GGUF file: sestet serve --model FILE, or [[weights]] path in sestet.toml"
        )
    return [Plan(WEIGHTS_ID, WEIGHTS_NAME, WEIGHTS_ALIASES, WEIGHTS_SNAPSHOT, path)]


def catalog(config: Config, plans: Sequence[Plan], windows: Mapping[str, int]) -> Catalog:
    """The cards of these weights, and the model family as stand-ins on the first of them."""
    first = plans[0]
    cards = [
        Card(
            id=one.id,
            display_name=one.display_name,
            snapshot=one.snapshot,
            context_window=windows[one.id],
            max_output=windows[one.id],
            aliases=one.aliases,
            thinking=frozenset(get_args(ThinkingType)),
            efforts=frozenset(get_args(Effort)),
        )
        for one in plans
    ]
    own = [Route(card, card.id, card.display_name) for card in cards]
    stand_ins = [Route(card, first.id, first.display_name) for card in family_cards()]
    try:
        return Catalog([*own, *stand_ins], config.aliases)
    except CatalogError as error:
        raise ConfigError(str(error)) from None


async def build(config: Config, on_load: Callable[[Plan], None] = lambda _plan: None) -> Application:
    """Loads every engine and wires the application. Raises `ConfigError` or an engine's load error."""
    plans = plan(config)
    thoughts = _thoughts(config)
    worker = GrammarWorker()
    metrics = Metrics()
    lifecycle = Lifecycle()
    heart = Heart(config.server.stall_s)
    started: list[Startable] = []
    served: dict[str, Served] = {}
    try:
        for one in plans:
            on_load(one)
            engine = await _engine(config, one, metrics, started)
            served[one.id] = await _serve(one, engine, config)
    except BaseException:
        for running in started:
            await running.stop()
        raise
    names = catalog(config, plans, {one.id: served[one.id].engine.weights.window for one in plans})
    metrics.watch(served)
    endpoints = Endpoints(
        Messages(names, served, metrics, thoughts, Grammars(worker.compile, worker.departure)),
        Models(names, served),
        lifecycle,
        heart,
    )
    keyring = Keyring(key.get_secret_value() for key in config.access.keys)
    hosts = (*config.server.allowed_hosts, config.server.host)
    gate = Gate(routes(endpoints, lifecycle, metrics, served), keyring, hosts, metrics)
    return Application(gate, names, served, lifecycle, heart, metrics, started, worker)


def _thoughts(config: Config) -> Thoughts:
    """Without a place for its keys that the operator named, a server that can keep none does without keeping them."""
    section = config.thinking
    try:
        secrets = signing_keys.read_or_make(section.signing_keys or default_signing_keys())
    except signing_keys.SigningKeysError as error:
        if section.signing_keys is not None:
            raise ConfigError(str(error)) from None
        structlog.get_logger("sestet").warning("signing_keys_not_kept", reason=str(error))
        secrets = (signing_keys.new_secret(),)
    return Thoughts(Seals(secrets), ThoughtPolicy(section.changed, section.foreign), section.redact == "always")


async def _serve(one: Plan, engine: Engine, config: Config) -> Served:
    try:
        template = ChatTemplate(engine.weights, lambda form: datetime.now(UTC).strftime(form))
        profile = profile_for(engine.weights.chat_template, profiles())
        style = ThinkingStyle.found(profile.thinking, template)
    except TemplateRefused as error:
        raise ConfigError(f"{one.path}: its chat template cannot be used: {error}") from error
    thinker = await Thinker.of(style, engine)
    admission = Admission(engine.slots, config.server.queue)
    extended = config.tools.schemas == "extended"
    spelled = {text: await engine.encode((text,), begins=False) for text in profile.tools.shown}
    control = {text: tokens[0] for text, tokens in spelled.items() if len(tokens) == 1}
    return Served(one.id, engine, template, profile, thinker, Style(style, profile.tools), admission, extended, control)


async def _engine(config: Config, one: Plan, metrics: Metrics, started: list[Startable]) -> Engine:
    if one.path is None:
        try:
            return ScriptedEngine(read_script(config.engine.script) if config.engine.script else Script())
        except ScriptError as error:
            raise ConfigError(str(error)) from None
    settings = LlamaCppSettings(
        model=one.path,
        window=config.engine.window,
        slots=config.engine.slots,
        threads=config.engine.threads,
        stall_timeout_s=config.engine.stall_timeout_s,
    )

    def report(event: str, facts: Mapping[str, object]) -> None:
        metrics.engine_event(event, {"weights": one.id, **facts})

    engine = LlamaCppEngine(settings, report)
    await engine.start()
    started.append(engine)
    return engine


def _plan_weights(position: int, weights: WeightsSection) -> Plan:
    if not weights.path.is_file():
        raise ConfigError(
            f"weights.{position}.path: there is no file {weights.path}; `sestet pull` fetches one, or give its path"
        )
    identifier = weights.id or re.sub(r"[^a-z0-9]+", "-", weights.path.stem.lower()).strip("-")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,254}", identifier):
        raise ConfigError(f"weights.{position}.id: give an id of letters, digits, `.`, `-`, `_`, `:`, `@`, `/`")
    changed = datetime.fromtimestamp(weights.path.stat().st_mtime, UTC).date()
    aliases = dict.fromkeys((*weights.aliases, f"{identifier}-latest"))
    return Plan(identifier, weights.display_name or weights.path.stem, tuple(aliases), changed, weights.path)
