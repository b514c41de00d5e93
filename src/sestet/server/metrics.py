"""What Prometheus may read. No label comes from a client's text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sestet.ledger.entry import Settlement
from sestet.ledger.prices import cost
from sestet.services.served import Served

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True, slots=True)
class _Count:
    replies: Counter
    input_tokens: Counter
    output_tokens: Counter
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

    def settled(self, settlement: Settlement) -> None:
        opening = settlement.opening
        count = self._of(opening.model, settlement.ending, settlement.stop_reason or "none")
        count.cost.inc(cost(settlement.usage, opening.prices) / 1e6)
        count.replies.inc()
        count.input_tokens.inc(settlement.usage.input_tokens)
        count.output_tokens.inc(settlement.usage.output_tokens)
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
                self._tokens.labels(model, "input"),
                self._tokens.labels(model, "output"),
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


def _read(value: Callable[[], float]) -> Callable[[], float]:
    return lambda: float(value())
