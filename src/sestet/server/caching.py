"""GET and DELETE /v1/cache: what this server keeps of prompts, for whoever runs it. No text of a prompt is in it."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

import orjson
from pydantic import Field
from starlette.types import Receive, Scope, Send

from sestet.contract.caching import LIFETIME_S
from sestet.contract.organization import Query
from sestet.dialects import organization as dialect
from sestet.gate.keys import Caller
from sestet.server.app import Rows
from sestet.server.body import read_body
from sestet.server.gate import CONTEXT, RequestContext, send_json
from sestet.services.caching import Entry, PromptCache
from sestet.services.served import Served

PATH: Final = "/v1/cache"
LIMIT_MAX: Final = 1000

_LIFETIMES: Final = {seconds: name for name, seconds in LIFETIME_S.items()}
_NOBODYS: Final = ""  # no workspace has this id


class Selection(Query):
    """Whose entries; without a workspace all that the key may see."""

    workspace_id: Annotated[str, Field(min_length=1)] | None = None


class Listing(Selection):
    """So many of them at most, those that expire first."""

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = LIMIT_MAX


def cache_routes(served: Mapping[str, Served]) -> Rows:
    """Rows for the table of routes. `served` are the weights by their id."""
    routes = _Routes({weights: one.cache for weights, one in served.items() if one.cache is not None})
    return {PATH: ("operations", {"GET": routes.list_entries, "DELETE": routes.clear})}


class _Routes:
    def __init__(self, caches: Mapping[str, PromptCache]) -> None:
        self._caches = caches

    async def list_entries(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/cache, which is ours"""
        query = dialect.decode_query(scope["query_string"], Listing)
        found = sorted(self._entries(_whose(_context(scope).caller, query.workspace_id)), key=_first_to_expire)
        # One snapshot holds several entries, and is counted once.
        snapshots = {kept: kept.size for _, _, entry in found for kept in entry.holders}
        total = {
            "entries": len(found),
            "bytes": sum(snapshots.values()),
            "budget_bytes": sum(cache.shelf.budget for cache in self._caches.values()),
        }
        data = [_fields(*one) for one in found[: query.limit]]
        await send_json(send, orjson.dumps({"data": data, "has_more": len(found) > query.limit, "total": total}))

    async def clear(self, scope: Scope, receive: Receive, send: Send) -> None:
        """DELETE /v1/cache, which is ours"""
        query = dialect.decode_query(scope["query_string"], Selection)
        context = _context(scope)
        dialect.decode_nothing(await read_body(receive, context.headers))
        whose = _whose(context.caller, query.workspace_id)
        cleared = sum(cache.clear(whose) for cache in self._caches.values())
        await send_json(send, orjson.dumps({"type": "cache_cleared", "entries": cleared}))

    def _entries(self, whose: str | None) -> "Iterator[_Found]":
        for weights, cache in self._caches.items():
            now = cache.clock.monotonic()
            for entry in cache.entries:
                if whose in (None, entry.owner.workspace):
                    yield weights, entry.expires - now, entry


_Found = tuple[str, float, Entry]  # the weights it is of, and the seconds it has left


def _context(scope: Scope) -> RequestContext:
    context: RequestContext = scope["state"][CONTEXT]
    return context


def _whose(caller: Caller, asked: str | None) -> str | None:
    """A workspace, or None for all. A key of a workspace has to do with its own alone; others look as if nothing were
    kept there."""
    if caller.workspace is None:
        return asked
    return caller.workspace if asked in (None, caller.workspace) else _NOBODYS


def _first_to_expire(found: _Found) -> tuple[float, int]:
    _, left_s, entry = found
    return left_s, -entry.tokens


def _fields(weights: str, left_s: float, entry: Entry) -> dict[str, Any]:
    return {
        "type": "cache_entry",
        # The key is made of the prompt and a secret; who sees its digest learns neither.
        "id": hashlib.sha256(entry.key).hexdigest()[:16],
        "weights": weights,
        "workspace_id": entry.owner.workspace,
        "model": entry.owner.model,
        "tokens": entry.tokens,
        "bytes": min(kept.size for kept in entry.holders),
        "lifetime": _LIFETIMES[entry.lifetime_s],
        "expires_in_s": int(left_s),
        "hits": entry.hits,
    }


def _query(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _operation(name: str, summary: str, parameters: list[dict[str, Any]], answer: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{answer}"}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": schema}}},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties}


_COUNT: Final = {"type": "integer", "minimum": 0}
_TEXT: Final = {"type": "string"}
_WORKSPACE: Final = _query("workspace_id", {**_TEXT, "minLength": 1})

# For the OpenAPI document.
PATHS: Final[Mapping[str, Any]] = {
    PATH: {
        "get": _operation(
            "listCacheEntries",
            "What is kept of prompts, the entries that expire first before others",
            [_WORKSPACE, _query("limit", {**_COUNT, "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_MAX})],
            "CacheEntries",
        ),
        "delete": _operation("clearCache", "Forget what is kept of prompts", [_WORKSPACE], "CacheCleared"),
    }
}
SCHEMAS: Final[Mapping[str, Any]] = {
    "CacheEntry": _object(
        type={"const": "cache_entry"},
        id={**_TEXT, "description": "Opaque"},
        weights=_TEXT,
        workspace_id=_TEXT,
        model=_TEXT,
        tokens=_COUNT,
        bytes={**_COUNT, "description": "Of the smallest snapshot that holds it; others may be in the same one"},
        lifetime={"enum": [*LIFETIME_S]},
        expires_in_s=_COUNT,
        hits=_COUNT,
    ),
    "CacheEntries": _object(
        data={"type": "array", "items": {"$ref": "#/components/schemas/CacheEntry"}},
        has_more={"type": "boolean"},
        total=_object(entries=_COUNT, bytes=_COUNT, budget_bytes=_COUNT),
    ),
    "CacheCleared": _object(type={"const": "cache_cleared"}, entries=_COUNT),
}
