"""Reports of usage and cost as the hosted Admin API has them: queries in, JSON out."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args
from urllib.parse import parse_qsl

import orjson

from sestet.contract.errors import invalid
from sestet.contract.tiers import TIERS
from sestet.ledger.prices import Kind
from sestet.ledger.reports import ContextWindow, Cost, Dimension, Group, Report, ReportRequest, Width

Given = Mapping[str, list[str]]

# Buckets on a page: by default, and at most.
LIMITS: Final[Mapping[Width, tuple[int, int]]] = {"1d": (7, 31), "1h": (24, 168), "1m": (60, 1440)}

_PARAMETERS_MAX: Final = 200
_VALUE_CHARACTERS_MAX: Final = 256
_DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
_FILTERS: Final[Mapping[str, Dimension]] = {
    "api_key_ids": "api_key_id",
    "workspace_ids": "workspace_id",
    "models": "model",
    "service_tiers": "service_tier",
    "context_window": "context_window",
}
_CLOSED: Final[Mapping[str, tuple[str, ...]]] = {"service_tiers": TIERS, "context_window": get_args(ContextWindow)}
# What `description` stands for, beside the kind of token.
_DESCRIBED: Final[frozenset[Dimension]] = frozenset(("model", "service_tier", "context_window"))
_TOKEN_TYPES: Final[Mapping[Kind, tuple[str, str]]] = {
    "input": ("uncached_input_tokens", "input tokens"),
    "cache_write_5m": ("cache_creation.ephemeral_5m_input_tokens", "5m cache write tokens"),
    "cache_write_1h": ("cache_creation.ephemeral_1h_input_tokens", "1h cache write tokens"),
    "cache_read": ("cache_read_input_tokens", "cache read tokens"),
    "output": ("output_tokens", "output tokens"),
}
_ROUNDING: Final = "rounding of each request to a whole micro-dollar"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO: Final = 1_000_000
_CENT: Final = 10**10  # millionths of a micro-dollar
_DATE_TIME: Final = re.compile(
    r"(19[7-9]\d|[2-8]\d{3})-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.IGNORECASE | re.ASCII
)


def decode_usage(query: bytes) -> ReportRequest:
    """The query of GET /v1/organizations/usage_report/messages. Raises `ApiError` that names the parameter."""
    given = _parameters(query, {"starting_at", "ending_at", "bucket_width", "limit", "page"}, {*_FILTERS, "group_by"})
    width = _one_of(given, "bucket_width", get_args(Width), "1d")
    by = frozenset(_choices(given, "group_by", _DIMENSIONS))
    return _request(given, width, by)


def decode_cost(query: bytes) -> ReportRequest:
    """The query of GET /v1/organizations/cost_report. Raises `ApiError` that names the parameter."""
    given = _parameters(query, {"starting_at", "ending_at", "bucket_width", "limit", "page"}, {"group_by"})
    width = _one_of(given, "bucket_width", ("1d",), "1d")
    asked = _choices(given, "group_by", ("workspace_id", "description"))
    by: frozenset[Dimension] = frozenset(("workspace_id",)) if "workspace_id" in asked else frozenset()
    itemised = "description" in asked
    return _request(given, width, by | _DESCRIBED if itemised else by, itemised=itemised)


def encode_usage(report: Report) -> bytes:
    return _encode(report, lambda group: iter((_usage(group),)))


def encode_cost(report: Report) -> bytes:
    """Amounts are cents, exact: those of all lines of a bucket add up to what its requests cost."""
    return _encode(report, _costs)


def _encode(report: Report, results: Callable[[Group], Iterator[dict[str, Any]]]) -> bytes:
    return orjson.dumps(
        {
            "data": [
                {
                    "starting_at": _date_time(bucket.starting_at),
                    "ending_at": _date_time(bucket.ending_at),
                    "results": [result for group in bucket.groups for result in results(group)],
                }
                for bucket in report.buckets
            ],
            "has_more": report.next_page is not None,
            "next_page": None if report.next_page is None else _page(report.next_page),
        }
    )


def _usage(group: Group) -> dict[str, Any]:
    tokens = group.sums.tokens
    return {
        "uncached_input_tokens": tokens["input"],
        "cache_creation": {
            "ephemeral_1h_input_tokens": tokens["cache_write_1h"],
            "ephemeral_5m_input_tokens": tokens["cache_write_5m"],
        },
        "cache_read_input_tokens": tokens["cache_read"],
        "output_tokens": tokens["output"],
        "server_tool_use": {"web_search_requests": 0},
        **{dimension: group.values.get(dimension) for dimension in _DIMENSIONS},
        "requests": group.sums.requests,
    }


@dataclass(frozen=True, slots=True)
class _Line:
    """A part of a group's cost, amounts in millionths of a micro-dollar."""

    amount: int
    own_amount: int
    description: str | None = None
    token_type: str | None = None
    requests: int | None = None


def _costs(group: Group) -> Iterator[dict[str, Any]]:
    for line in _lines(group):
        yield {
            "currency": "USD",
            "amount": _cents(line.amount),
            "workspace_id": group.values.get("workspace_id"),
            "description": line.description,
            "cost_type": None if line.description is None else "tokens",
            "context_window": group.values.get("context_window"),
            "model": group.values.get("model"),
            "service_tier": group.values.get("service_tier"),
            "token_type": line.token_type,
            "own_amount": _cents(line.own_amount),
            "requests": line.requests,
        }


def _lines(group: Group) -> Iterator[_Line]:
    cost, own = group.sums.cost, group.sums.own_cost
    if not cost.parts:
        yield _Line(_exactly(cost), _exactly(own), requests=group.sums.requests)
        return
    model = group.values["model"]
    for kind, (token_type, words) in _TOKEN_TYPES.items():
        if group.sums.tokens[kind]:
            yield _Line(cost.parts[kind], own.parts[kind], f"{model}: {words}", token_type)
    if cost.rounding or own.rounding:
        yield _Line(cost.rounding, own.rounding, f"{model}: {_ROUNDING}")


def _exactly(cost: Cost) -> int:
    return cost.total * _MICRO


def _cents(amount: int) -> str:
    """Millionths of a micro-dollar as cents, with two decimals or as many as it takes."""
    whole, rest = divmod(abs(amount), _CENT)
    decimals = f"{rest:010}".rstrip("0")
    return f"{'-' if amount < 0 else ''}{whole}.{decimals:0<2}"


def _parameters(query: bytes, single: set[str], many: set[str]) -> Given:
    """What is given, without the brackets of lists. `beta` is what old clients add and means nothing."""
    try:
        text = query.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX)
    except UnicodeError:
        raise invalid("the query must be percent-encoded UTF-8") from None
    except ValueError:
        raise invalid(f"the query has more than {_PARAMETERS_MAX} parameters") from None
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        known = name.removesuffix("[]") if name.removesuffix("[]") in many else name
        if known not in single | many | {"beta"}:
            raise invalid("there is no such query parameter", _printable(name))
        if not value.isprintable() or not 1 <= len(value) <= _VALUE_CHARACTERS_MAX:
            raise invalid(f"Input should be 1 to {_VALUE_CHARACTERS_MAX} printable characters", known)
        given.setdefault(known, []).append(value)
    for name in sorted(single & given.keys()):
        if len(given[name]) > 1:
            raise invalid("this may be given once", name)
    return given


def _printable(name: str) -> str:
    return name[:80].encode("unicode_escape").decode()


def _request(given: Given, width: Width, by: frozenset[Dimension], *, itemised: bool = False) -> ReportRequest:
    if "starting_at" not in given:
        raise invalid("Field required", "starting_at")
    only = {
        dimension: frozenset(_choices(given, name, _CLOSED.get(name)))
        for name, dimension in _FILTERS.items()
        if name in given
    }
    return ReportRequest(
        starting_at=_time(given["starting_at"][0], "starting_at"),
        ending_at=_time(given["ending_at"][0], "ending_at") if "ending_at" in given else None,
        width=width,
        limit=_limit(given, *LIMITS[width]),
        page=_page_start(given["page"][0]) if "page" in given else None,
        by=by,
        only=only,
        itemised=itemised,
    )


def _choices(given: Given, name: str, known: tuple[str, ...] | None) -> Any:
    values = given.get(name, [])
    if known is not None and not set(values) <= set(known):
        raise invalid(f"Input should be one of {', '.join(known)}", name)
    return values


def _one_of(given: Given, name: str, known: tuple[str, ...], otherwise: str) -> Any:
    return next(iter(_choices(given, name, known)), otherwise)


def _limit(given: Given, otherwise: int, most: int) -> int:
    value = given.get("limit", [str(otherwise)])[0]
    if not (value.isascii() and value.isdigit() and len(value) <= 4 and 1 <= int(value) <= most):
        raise invalid(f"Input should be a whole number from 1 to {most}", "limit")
    return int(value)


def _time(value: str, name: str) -> int:
    try:
        if _DATE_TIME.fullmatch(value):
            return (datetime.fromisoformat(value.upper()) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        pass
    raise invalid("Input should be a time such as 2025-06-01T00:00:00Z, from 1970 to 8999", name)


def _date_time(time_us: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%dT%H:%M:%SZ}"


def _page(start: int) -> str:
    return f"page_{urlsafe_b64encode(_date_time(start).encode()).decode()}"


def _page_start(page: str) -> int:
    try:
        return _time(urlsafe_b64decode(page.removeprefix("page_").encode("ascii")).decode("ascii"), "page")
    except ValueError:
        raise invalid("this is no `next_page` of a report", "page") from None
