"""What Prometheus may read. No label comes from a client's text."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sestet.contract.events import Usage
from sestet.ledger.entry import Settlement
from sestet.ledger.prices import Kind, cost
from sestet.services.caching import PromptCache
from sestet.services.served import Served

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class _Count:
    replies: Counter
    tokens: Mapping[Kind, Counter]
    cost: Counter
    first_token: Histogram
    duration: Histogram


class Metrics:
    """One server's metrics, which see every settlement."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counts: dict[tuple[str, str, str], _Count] = {}
        self._log = structlog.get_logger("sestet")
        self._requests = Counter(
            "sestet_http_requests", "HTTP requests answered", ("route", "status"), registry=self._registry
        )
        self._replies = Counter(
            "sestet_replies",
            "Replies, by how they ended",
            ("model", "ending", "stop_reason"),
            registry=self._registry,
        )
        self._tokens = Counter("sestet_tokens", "Tokens, by kind", ("model", "kind"), registry=self._registry)
        self._cost = Counter(
            "sestet_cost_dollars", "What replies cost at their cards' prices", ("model",), registry=self._registry
        )
        self._refusals = Counter(
            "sestet_refusals", "Requests refused, by the kind of error", ("error",), registry=self._registry
        )
        self._first_token = Histogram(
            "sestet_time_to_first_token_seconds",
            "From being ready to run to the first token, waiting included",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._duration = Histogram(
            "sestet_reply_seconds",
            "From being ready to run to the end of the reply, waiting included",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._engine_events = Counter(
            "sestet_engine_events",
            "Deaths, stalls and restarts of engines",
            ("event",),
            registry=self._registry,
        )

    def watch(self, served: Mapping[str, Served]) -> None:
        """Gauges that are read off the engines when somebody asks."""
        running = Gauge("sestet_slots_running", "Replies running", ("weights",), registry=self._registry)
        waiting = Gauge("sestet_queue_waiting", "Requests waiting", ("weights",), registry=self._registry)
        ready = Gauge("sestet_engine_ready", "1 while the engine answers", ("weights",), registry=self._registry)
        for weights_id, one in served.items():
            running.labels(weights_id).set_function(_read(lambda one=one: one.admission.running))  # type: ignore[misc]
            waiting.labels(weights_id).set_function(_read(lambda one=one: one.admission.waiting))  # type: ignore[misc]
            ready.labels(weights_id).set_function(_read(lambda one=one: one.engine.ready))  # type: ignore[misc]

    def watch_cache(self, served: Mapping[str, Served]) -> None:
        """What the caches of prompts hold and did, read off them when somebody asks."""
        caches = {weights_id: one.cache for weights_id, one in served.items() if one.cache is not None}
        self._registry.register(_CacheCollector(caches))

    def settled(self, settlement: Settlement) -> None:
        opening = settlement.opening
        count = self._of(opening.model, settlement.ending, settlement.stop_reason or "none")
        count.cost.inc(cost(settlement.usage, opening.prices) / 1e6)
        count.replies.inc()
        for kind, tokens in count.tokens.items():
            tokens.inc(_TOKENS[kind](settlement.usage))
        count.duration.observe(settlement.duration_s)
        if settlement.first_token_s is not None:
            count.first_token.observe(settlement.first_token_s)
        self._log.info(
            "reply",
            request_id=opening.request_id,
            key_id=opening.key_id,
            workspace=opening.workspace_id,
            model=opening.model,
            weights=opening.weights_id,
            tier=opening.tier,
            ending=settlement.ending,
            stop_reason=settlement.stop_reason,
            error=settlement.error,
            input_tokens=settlement.usage.input_tokens,
            cache_read_tokens=settlement.usage.cache_read_input_tokens,
            cache_write_tokens=settlement.usage.cache_creation_input_tokens,
            output_tokens=settlement.usage.output_tokens,
            thinking_tokens=settlement.usage.thinking_tokens,
            first_token_ms=None if settlement.first_token_s is None else round(settlement.first_token_s * 1e3, 1),
            duration_ms=round(settlement.duration_s * 1e3, 1),
        )

    def _of(self, model: str, ending: str, stop_reason: str) -> "_Count":
        """The metrics of one kind of reply, looked up once: models and reasons are few, replies are many."""
        key = (model, ending, stop_reason)
        if key not in self._counts:
            self._counts[key] = _Count(
                self._replies.labels(*key),
                {kind: self._tokens.labels(model, kind) for kind in _TOKENS},
                self._cost.labels(model),
                self._first_token.labels(model),
                self._duration.labels(model),
            )
        return self._counts[key]

    def watch_books(self, running: Callable[[], float], backlog: Callable[[], float]) -> None:
        """Gauges of the ledger: requests that are not settled yet, rows that the database has not taken yet."""
        Gauge("sestet_ledger_running", "Requests not settled yet", registry=self._registry).set_function(running)
        Gauge("sestet_ledger_backlog", "Rows the database has not taken", registry=self._registry).set_function(backlog)

    def request(self, route: str, status: int) -> None:
        self._requests.labels(route, str(status)).inc()

    def refused(self, kind: str) -> None:
        self._refusals.labels(kind).inc()

    def engine_event(self, event: str, facts: Mapping[str, object]) -> None:
        """The report of an engine: counted, and told to the operator."""
        self._engine_events.labels(event).inc()
        self._log.warning(event, **facts)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)


_TOKENS: Final[Mapping[Kind, Callable[[Usage], int]]] = {
    "input": lambda usage: usage.input_tokens,
    "cache_write_5m": lambda usage: usage.cache_creation_5m,
    "cache_write_1h": lambda usage: usage.cache_creation_1h,
    "cache_read": lambda usage: usage.cache_read_input_tokens,
    "output": lambda usage: usage.output_tokens,
}

_Number = Callable[[PromptCache], float]
_Family = TypeVar("_Family", GaugeMetricFamily, CounterMetricFamily)

_CACHE_GAUGES: Final[Mapping[str, tuple[str, _Number]]] = {
    "entries": ("Prefixes of prompts that may be read", lambda cache: len(cache.entries)),
    "bytes": ("Size of the snapshots that hold them", lambda cache: cache.shelf.size),
    "budget_bytes": ("What the snapshots may take", lambda cache: cache.shelf.budget),
}
_CACHE_COUNTERS: Final[Mapping[str, tuple[str, _Number]]] = {
    "hits": ("Requests with breakpoints that read something", lambda cache: cache.counts.hits),
    "misses": ("Requests with breakpoints that read nothing", lambda cache: cache.counts.misses),
    "read_tokens": ("Tokens read", lambda cache: cache.counts.read_tokens),
    "written_tokens": ("Tokens written", lambda cache: cache.counts.written_tokens),
    "expired": ("Entries that expired", lambda cache: cache.counts.expired),
    "evicted": ("Snapshots let go to make room", lambda cache: cache.shelf.evicted),
    "failed": ("Snapshots that could not be written", lambda cache: cache.shelf.failed),
    "unusable": ("Snapshots that could not be read", lambda cache: cache.shelf.unusable),
}


class _CacheCollector(Collector):
    def __init__(self, caches: Mapping[str, PromptCache]) -> None:
        self._caches = caches

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        for name, (meaning, number) in _CACHE_GAUGES.items():
            yield self._filled(GaugeMetricFamily(f"sestet_cache_{name}", meaning, labels=("weights",)), number)
        for name, (meaning, number) in _CACHE_COUNTERS.items():
            yield self._filled(CounterMetricFamily(f"sestet_cache_{name}", meaning, labels=("weights",)), number)

    def _filled(self, family: _Family, number: _Number) -> _Family:
        for weights_id, cache in self._caches.items():
            family.add_metric((weights_id,), number(cache))
        return family


def _read(value: Callable[[], float]) -> Callable[[], float]:
    return lambda: float(value())
