"""GET /v1/organizations/usage_report/messages and /v1/organizations/cost_report: decode, add up in a thread, encode."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, get_args

from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from sestet.contract.errors import ApiError
from sestet.contract.tiers import TIERS
from sestet.dialects import reports as dialect
from sestet.gate.directory import Scope
from sestet.gate.keys import Caller
from sestet.ledger.reports import ContextWindow, Dimension, Report, ReportRequest, Width
from sestet.server.gate import CONTEXT, RequestContext, send_json
from sestet.services.reports import Reports

USAGE_PATH: Final = "/v1/organizations/usage_report/messages"
COST_PATH: Final = "/v1/organizations/cost_report"
WAITING_MAX: Final = 16

Handler = Callable[[AsgiScope, Receive, Send], Awaitable[None]]


def report_routes(reports: Reports) -> Mapping[str, tuple[Scope | None, Mapping[str, Handler]]]:
    """Rows for the table of routes."""
    endpoints = ReportEndpoints(reports)
    return {
        USAGE_PATH: ("usage", {"GET": endpoints.usage}),
        COST_PATH: ("usage", {"GET": endpoints.cost}),
    }


class ReportEndpoints:
    """One report at a time, in a thread of its own: it reads much, and nothing else here may wait for it."""

    def __init__(self, reports: Reports, waiting_max: int = WAITING_MAX) -> None:
        self._reports = reports
        self._thread = ThreadPoolExecutor(1, "reports")
        self._waiting_max = waiting_max
        self._asked = 0

    async def usage(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/usage_report/messages"""
        await self._answer(scope, send, dialect.decode_usage, dialect.encode_usage)

    async def cost(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/cost_report"""
        await self._answer(scope, send, dialect.decode_cost, dialect.encode_cost)

    async def _answer(
        self,
        scope: AsgiScope,
        send: Send,
        decode: Callable[[bytes], ReportRequest],
        encode: Callable[[Report], bytes],
    ) -> None:
        context: RequestContext = scope["state"][CONTEXT]
        request = decode(scope["query_string"])
        if self._asked > self._waiting_max:
            raise ApiError("overloaded_error", "too many reports are being made", retry_after_s=5.0)
        self._asked += 1
        make = partial(self._make, request, context.caller, encode)
        try:
            body = await asyncio.get_running_loop().run_in_executor(self._thread, make)
        finally:
            self._asked -= 1
        await send_json(send, body)

    def _make(self, request: ReportRequest, caller: Caller, encode: Callable[[Report], bytes]) -> bytes:
        return encode(self._reports.page(request, caller))


def _query(name: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": schema}


def _strings(*known: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string", **({"enum": [*known]} if known else {})}}


def _report(operation: str, summary: str, parameters: list[dict[str, Any]], result: dict[str, Any]) -> dict[str, Any]:
    time = {"type": "string", "format": "date-time"}
    bucket = {
        "type": "object",
        "required": ["starting_at", "ending_at", "results"],
        "properties": {"starting_at": time, "ending_at": time, "results": {"type": "array", "items": result}},
    }
    page = {
        "type": "object",
        "required": ["data", "has_more", "next_page"],
        "properties": {
            "data": {"type": "array", "items": bucket},
            "has_more": {"type": "boolean"},
            "next_page": {"type": ["string", "null"]},
        },
    }
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "parameters": [
                _query("starting_at", time, required=True),
                _query("ending_at", time),
                *parameters,
                _query("page", {"type": "string", "description": "The `next_page` of the page before"}),
            ],
            "responses": {
                "200": {"description": "Buckets of time", "content": {"application/json": {"schema": page}}},
                "default": {"$ref": "#/components/responses/Error"},
            },
        }
    }


_COUNT: Final = {"type": "integer", "minimum": 0}
_TEXT: Final = {"type": ["string", "null"]}
_AMOUNT: Final = {"type": "string", "description": "Cents, exactly, as a decimal"}

PATHS: Final[Mapping[str, dict[str, Any]]] = {
    USAGE_PATH: _report(
        "usageReport",
        "Tokens used, by time and by whom",
        [
            _query("bucket_width", {"enum": [*get_args(Width)], "default": "1d"}),
            _query("limit", {**_COUNT, "minimum": 1, "description": "Buckets: 31 days, 168 hours, 1440 minutes"}),
            _query("group_by[]", _strings(*get_args(Dimension))),
            _query("api_key_ids[]", _strings()),
            _query("workspace_ids[]", _strings()),
            _query("models[]", _strings()),
            _query("service_tiers[]", _strings(*TIERS)),
            _query("context_window[]", _strings(*get_args(ContextWindow))),
        ],
        {
            "type": "object",
            "properties": {
                "uncached_input_tokens": _COUNT,
                "cache_creation": {
                    "type": "object",
                    "properties": {"ephemeral_1h_input_tokens": _COUNT, "ephemeral_5m_input_tokens": _COUNT},
                },
                "cache_read_input_tokens": _COUNT,
                "output_tokens": _COUNT,
                "server_tool_use": {"type": "object", "properties": {"web_search_requests": _COUNT}},
                **dict.fromkeys(get_args(Dimension), _TEXT),
                "requests": _COUNT,
            },
        },
    ),
    COST_PATH: _report(
        "costReport",
        "What was used cost, by day",
        [
            _query("bucket_width", {"enum": ["1d"], "default": "1d"}),
            _query("limit", {**_COUNT, "minimum": 1, "maximum": 31, "default": 7}),
            _query("group_by[]", _strings("workspace_id", "description")),
        ],
        {
            "type": "object",
            "properties": {
                "currency": {"const": "USD"},
                "amount": _AMOUNT,
                "workspace_id": _TEXT,
                "description": _TEXT,
                "cost_type": _TEXT,
                "context_window": _TEXT,
                "model": _TEXT,
                "service_tier": _TEXT,
                "token_type": _TEXT,
                "own_amount": _AMOUNT,
                "requests": {"type": ["integer", "null"], "minimum": 0},
            },
        },
    ),
}
