"""The composition root: the only place that knows every implementation, and wires it to the ports."""

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol, get_args

import structlog
from starlette.routing import Route
from starlette.types import ASGIApp

from sestet.catalog.card import Card, family_cards, profile_for, profiles
from sestet.catalog.catalog import Catalog, CatalogError
from sestet.catalog.catalog import Route as CardRoute
from sestet.config import (
    Config,
    ConfigError,
    WeightsSection,
    database_url,
    default_key_peppers,
    default_outbox,
    default_signing_keys,
)
from sestet.contract.requests import Effort
from sestet.contract.thinking import ThinkingType
from sestet.engines.llamacpp import open_llamacpp
from sestet.engines.llamacpp.embedded import (
    WEIGHTS_ALIASES,
    WEIGHTS_ID,
    WEIGHTS_NAME,
    WEIGHTS_SNAPSHOT,
    embedded_weights,
)
from sestet.engines.llamacpp.process import LlamaCppSettings
from sestet.engines.scripted import Script, ScriptedEngine, ScriptError, read_script
from sestet.gate import signing_keys
from sestet.gate.directory import DEFAULT_WORKSPACE, SCOPES, Directory, Scope
from sestet.gate.keys import ANYONE, AwsKey, Caller, Keyring
from sestet.gate.spend import day_of
from sestet.ledger.price_rows import PriceError, read_price
from sestet.ledger.prices import FREE, PriceList
from sestet.server import ids
from sestet.server.app import Operations, routes
from sestet.server.caches import open_folder, start_cache, volatile_lines
from sestet.server.caching import cache_routes
from sestet.server.exchange import Heart
from sestet.server.exposure import check_exposure
from sestet.server.gate import Gate
from sestet.server.lifecycle import Lifecycle
from sestet.server.metrics import Metrics
from sestet.server.openapi import openapi_document
from sestet.server.organization import organization_routes
from sestet.server.reports import report_routes
from sestet.server.routes import Endpoints
from sestet.server.upkeep import Upkeep
from sestet.services.administration import Administration
from sestet.services.admission import Admission
from sestet.services.concurrency import Concurrency
from sestet.services.grammar_worker import GrammarWorker
from sestet.services.grammars import Grammars
from sestet.services.idempotency import Idempotency
from sestet.services.messages import Accounts, Messages, Thoughts
from sestet.services.models import Models
from sestet.services.ports import Engine
from sestet.services.quotas import OwnMeters, Quotas
from sestet.services.reports import Reports
from sestet.services.served import Served
from sestet.services.thinking import Thinker
from sestet.store.answers import Answers
from sestet.store.books import Books
from sestet.store.database import Database, StoreError, open_database
from sestet.store.directory import Directories
from sestet.store.history import spending_since, uses_since
from sestet.store.meters import Meters, SharedMeters
from sestet.store.servers import Servers
from sestet.store.snapshots import SnapshotFolder
from sestet.store.writer import Writer
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


@dataclass(frozen=True, slots=True)
class Stored:
    """The store, opened: what it holds, and what of a server it knows."""

    database: Database
    directories: Directories
    servers: Servers
    directory: Directory
    server_id: str
    outbox: Path


@dataclass(slots=True)
class Application:
    """Everything that runs. `engines` have been started; whoever holds this stops them."""

    asgi: ASGIApp
    paths: Sequence[str]
    catalog: Catalog
    served: Mapping[str, Served]
    lifecycle: Lifecycle
    heart: Heart
    metrics: Metrics
    keyring: Keyring
    upkeep: Upkeep
    books: Books
    quotas: Quotas
    stored: Stored
    engines: Sequence[Startable]
    folders: Sequence[SnapshotFolder]
    worker: GrammarWorker

    async def stop(self) -> None:
        """Bills first: what the database does not take is in the outbox, and this server's entry stays to say so."""
        await self.books.stop()
        await self.quotas.meters.stop()
        self.worker.close()
        for one in self.served.values():
            if one.cache is not None:
                await one.cache.stop()
        for engine in self.engines:
            await engine.stop()
        for folder in self.folders:
            folder.close()
        if not self.books.backlog:
            with contextlib.suppress(StoreError):
                await asyncio.to_thread(self.stored.servers.leave, now_us())
        self.stored.database.close()


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
    own = [CardRoute(card, card.id, card.display_name) for card in cards]
    stand_ins = [CardRoute(card, first.id, first.display_name) for card in family_cards()]
    try:
        return Catalog([*own, *stand_ins], config.aliases)
    except CatalogError as error:
        raise ConfigError(str(error)) from None


async def open_store(config: Config) -> Stored:
    """The database with its newest schema, this server in it, and what dead ones left behind closed. `ConfigError` if
    it cannot be used."""
    server_id = ids.server_id()
    try:
        database = open_database(database_url(config))
        # One folder for each database: what one could not take is not for another.
        outbox = (config.store.outbox or default_outbox()) / hashlib.sha256(database.place.encode()).hexdigest()[:12]
        await asyncio.to_thread(database.upgrade)
        directories = Directories(database)
        servers = Servers(database, server_id, outbox)
        await asyncio.to_thread(servers.register, now_us())
        swept = await asyncio.to_thread(servers.sweep, now_us())
        directory = await asyncio.to_thread(directories.read)
    except StoreError as error:
        raise ConfigError(str(error)) from None
    if swept.interrupted or swept.recovered:
        structlog.get_logger("sestet").warning("swept", interrupted=swept.interrupted, recovered=swept.recovered)
    return Stored(database, directories, servers, directory, server_id, outbox)


def now_us() -> int:
    """The wall clock, in microseconds since 1970."""
    return time.time_ns() // 1000


def _keyring(config: Config, peppers: Sequence[bytes], directory: Directory) -> Keyring:
    """Keys of the configuration and of the store."""
    configured: dict[str, frozenset[Scope]] = {key.get_secret_value(): ANYONE.scopes for key in config.access.keys}
    admin: frozenset[Scope] = SCOPES - {"inference"}
    configured |= {key.get_secret_value(): admin for key in config.access.admin_keys}
    keyring = Keyring(peppers, configured, _aws_keys(config, directory))
    keyring.load(directory)
    return keyring


def _aws_keys(config: Config, directory: Directory) -> list[AwsKey]:
    keys = []
    for number, given in enumerate(config.access.aws_keys):
        workspace = given.workspace or DEFAULT_WORKSPACE
        if workspace not in directory.workspaces:
            raise ConfigError(f"access.aws_keys.{number}.workspace: there is no workspace `{workspace}`")
        caller = Caller(given.access_key_id, workspace, ANYONE.scopes)
        keys.append(AwsKey(given.access_key_id, given.secret_access_key.get_secret_value(), caller))
    return keys


def peppers_of(config: Config) -> tuple[bytes, ...]:
    """The secrets that stored keys are hashed with, newest first."""
    try:
        return signing_keys.read_or_make(config.access.key_peppers or default_key_peppers())
    except signing_keys.SigningKeysError as error:
        raise ConfigError(str(error)) from None


async def build(
    config: Config,
    on_load: Callable[[Plan], None] = lambda _plan: None,
    on_open: Callable[[], None] = lambda: None,
) -> Application:
    """Loads every engine and wires the application. `on_open` is called when the store is open and the address may be
    listened on, before anything slow begins. Raises `ConfigError` or an engine's load error."""
    plans = plan(config)
    thoughts = _thoughts(config)
    volatile = volatile_lines(config)
    stored = await open_store(config)
    peppers = peppers_of(config)
    keyring = _keyring(config, peppers, stored.directory)
    check_exposure(config, keyring)
    on_open()
    worker = GrammarWorker()
    metrics = Metrics()
    lifecycle = Lifecycle()
    heart = Heart(config.server.stall_s)
    started: list[Startable] = []
    folders: list[SnapshotFolder] = []
    served: dict[str, Served] = {}
    try:
        for one in plans:
            on_load(one)
            folder = await asyncio.to_thread(open_folder, config, one.id)
            folders += [folder] if folder is not None else []
            engine = await _engine(config, one, folder, metrics, started)
            cache = await start_cache(config, folder, one.id, engine, metrics)
            served[one.id] = replace(await _serve(one, engine, config), cache=cache, volatile=volatile)
        names = catalog(config, plans, {one.id: served[one.id].engine.weights.window for one in plans})
        quotas = await _quotas(config, stored, names)
    except BaseException:
        for running in started:
            await running.stop()
        for opened in folders:
            opened.close()
        await asyncio.to_thread(stored.servers.leave, now_us())
        raise
    outbox = stored.outbox / stored.server_id
    writer = Writer(database_url(config), outbox, quotas.spending.put, held=(stored.servers.lock,))
    books = Books(writer, stored.server_id, metrics, serve_when_down=config.store.when_down == "serve")
    books.start()
    metrics.watch(served)
    metrics.watch_cache(served)
    metrics.watch_books(lambda: float(books.running), lambda: float(books.backlog))

    def changed(directory: Directory) -> None:
        keyring.load(directory)
        quotas.load(directory)

    answers = Answers(stored.database, stored.server_id)

    def refresh() -> Callable[[], None]:
        answers.release_again()
        quotas.meters.forget()
        spent = spending_since(stored.database, day_of(now_us()) - _MONTH_DAYS)
        return partial(quotas.spending.put, spent)

    accounts = Accounts(quotas, Concurrency(), books, now_us)
    endpoints = Endpoints(
        Messages(names, served, accounts, thoughts, Grammars(worker.compile, worker.departure)),
        Models(names, served),
        Idempotency(answers, now_us),
        lifecycle,
        heart,
    )
    upkeep = Upkeep(stored.directories, stored.servers, changed, refresh)
    administration = Administration(stored.directories, peppers, names, now_us)
    more = {
        **organization_routes(administration, upkeep.look),
        **report_routes(Reports(stored.database, now_us)),
        **cache_routes(served),
    }
    hosts = (*config.server.allowed_hosts, config.server.host)
    router = routes(endpoints, Operations(lifecycle, metrics, served, openapi_document()), more)
    gate = Gate(router, keyring, hosts, metrics)
    return Application(
        asgi=gate,
        paths=tuple(route.path for route in router.routes if isinstance(route, Route)),
        catalog=names,
        served=served,
        lifecycle=lifecycle,
        heart=heart,
        metrics=metrics,
        keyring=keyring,
        upkeep=upkeep,
        books=books,
        quotas=quotas,
        stored=stored,
        engines=started,
        folders=folders,
        worker=worker,
    )


_MONTH_DAYS: Final = 31
_REPLAYED_US: Final = 600_000_000  # what limits by the minute may still remember


async def _quotas(config: Config, stored: Stored, names: Catalog) -> Quotas:
    """Limits as they stand after what was used before this server started. Only PostgreSQL has several servers."""
    shared = stored.database.dialect == "postgresql"
    when_down = config.store.when_down == "serve"
    meters = SharedMeters(Meters(stored.database), serve_when_down=when_down) if shared else OwnMeters()
    quotas = Quotas(stored.directory, lambda model: names.resolve(model).card.rate_class, now_us, meters)
    now = now_us()
    quotas.spending.put(await asyncio.to_thread(spending_since, stored.database, day_of(now) - _MONTH_DAYS))
    if shared:
        return quotas  # what was used is in the meters
    known = {route.card.id for route in names.routes()}
    uses = await asyncio.to_thread(uses_since, stored.database, now - _REPLAYED_US)
    quotas.replay((use for use in uses if use.model in known), now)
    return quotas


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
    spelled = await engine.encode(profile.tools.shown, begins=False) if profile.tools.shown else []
    control = {text: tokens[0] for text, tokens in zip(profile.tools.shown, spelled, strict=True) if len(tokens) == 1}
    own_prices = _own_prices(config, one.id)
    return Served(
        one.id,
        engine,
        template,
        profile,
        thinker,
        Style(style, profile.tools),
        admission,
        own_prices,
        extended,
        control,
    )


def _own_prices(config: Config, weights_id: str) -> PriceList:
    own = config.own_prices.get(weights_id)
    if own is None:
        return FREE
    try:
        given = read_price(own.input, f"own_prices.{weights_id}.input")
        made = read_price(own.output, f"own_prices.{weights_id}.output")
    except PriceError as error:
        raise ConfigError(str(error)) from None
    return PriceList(given, given, given, given, made)


async def _engine(
    config: Config, one: Plan, folder: SnapshotFolder | None, metrics: Metrics, started: list[Startable]
) -> Engine:
    snapshots = None if folder is None else folder.path
    if one.path is None:
        try:
            script = read_script(config.engine.script) if config.engine.script else Script()
            return ScriptedEngine(script, snapshots)
        except ScriptError as error:
            raise ConfigError(str(error)) from None
    settings = LlamaCppSettings(
        model=one.path,
        window=config.engine.window,
        slots=config.engine.slots,
        threads=config.engine.threads,
        stall_timeout_s=config.engine.stall_timeout_s,
        snapshots=snapshots,
    )

    def report(event: str, facts: Mapping[str, object]) -> None:
        metrics.engine_event(event, {"weights": one.id, **facts})

    engine = open_llamacpp(settings, report)
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
