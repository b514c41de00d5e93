"""The routes of the Admin API: decode, call the use case in a thread, encode. Every one needs the scope `admin`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar

from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from sestet.contract.errors import ApiError
from sestet.contract.organization import (
    KeyCreation,
    KeyQuery,
    KeyUpdate,
    OrganizationRateLimitQuery,
    Query,
    RateLimitUpdate,
    SpendLimitQuery,
    SpendLimitSetting,
    WorkspaceCreation,
    WorkspaceQuery,
    WorkspaceRateLimitQuery,
    WorkspaceUpdate,
)
from sestet.dialects import organization as dialect
from sestet.gate.keys import Caller
from sestet.server import ids
from sestet.server.app import Rows
from sestet.server.body import read_body
from sestet.server.gate import CONTEXT, RequestContext, send_json
from sestet.services.administration import Administration
from sestet.store.database import StoreError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Query = TypeVar("_Query", bound=Query)


def organization_routes(administration: Administration, on_change: Callable[[], Awaitable[None]]) -> Rows:
    """Rows for the table of routes. `on_change` is awaited after every change, so that this server applies it before
    it answers."""
    routes = _Routes(administration, on_change)
    return {
        "/v1/organizations/me": ("admin", {"GET": routes.organization}),
        "/v1/organizations/api_keys": ("admin", {"GET": routes.list_keys, "POST": routes.create_key}),
        "/v1/organizations/api_keys/{api_key_id}": ("admin", {"GET": routes.get_key, "POST": routes.change_key}),
        "/v1/organizations/workspaces": ("admin", {"GET": routes.list_workspaces, "POST": routes.create_workspace}),
        "/v1/organizations/workspaces/{workspace_id}": (
            "admin",
            {"GET": routes.get_workspace, "POST": routes.change_workspace},
        ),
        "/v1/organizations/workspaces/{workspace_id}/archive": ("admin", {"POST": routes.archive_workspace}),
        "/v1/organizations/workspaces/{workspace_id}/rate_limits": ("admin", {"GET": routes.list_workspace_rates}),
        "/v1/organizations/workspaces/{workspace_id}/rate_limits/{rate_limit_id}": (
            "admin",
            {"POST": routes.change_workspace_rates},
        ),
        "/v1/organizations/rate_limits": ("admin", {"GET": routes.list_rates}),
        "/v1/organizations/rate_limits/{rate_limit_id}": ("admin", {"POST": routes.change_rates}),
        "/v1/organizations/spend_limits": ("admin", {"GET": routes.list_spend_limits, "POST": routes.set_spend_limit}),
        "/v1/organizations/spend_limits/{spend_limit_id}": (
            "admin",
            {"GET": routes.get_spend_limit, "DELETE": routes.delete_spend_limit},
        ),
    }


class _Routes:
    def __init__(self, administration: Administration, on_change: Callable[[], Awaitable[None]]) -> None:
        self._do = administration
        self._on_change = on_change

    async def organization(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/me"""
        directory = await _asked(self._do.directory, _caller(scope))
        await send_json(send, dialect.encode_organization(directory))

    async def list_keys(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/api_keys"""
        page = await _asked(self._do.keys, _caller(scope), _query(scope, KeyQuery))
        entries = (dialect.key_fields(key, self._do.status(key)) for key in page.data)
        await send_json(send, dialect.encode_page(entries, has_more=page.has_more))

    async def create_key(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/organizations/api_keys, which is ours"""
        request = dialect.decode_key(await _body(scope, receive))
        key, clear = await self._changed(self._do.create_key, _caller(scope), ids.key_id(), request)
        await send_json(send, dialect.encode_key(key, self._do.status(key), clear), headers=_NOT_KEPT)

    async def get_key(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/api_keys/{api_key_id}"""
        key = await _asked(self._do.key, _caller(scope), _id(scope, "api_key_id"))
        await send_json(send, dialect.encode_key(key, self._do.status(key)))

    async def change_key(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/organizations/api_keys/{api_key_id}"""
        request = dialect.decode_key_update(await _body(scope, receive))
        key = await self._changed(self._do.change_key, _caller(scope), _id(scope, "api_key_id"), request)
        await send_json(send, dialect.encode_key(key, self._do.status(key)))

    async def list_workspaces(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/workspaces"""
        page = await _asked(self._do.workspaces, _caller(scope), _query(scope, WorkspaceQuery))
        await send_json(send, dialect.encode_page(map(dialect.workspace_fields, page.data), has_more=page.has_more))

    async def create_workspace(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/organizations/workspaces"""
        request = dialect.decode_workspace(await _body(scope, receive))
        workspace = await self._changed(self._do.create_workspace, _caller(scope), ids.workspace_id(), request)
        await send_json(send, dialect.encode_workspace(workspace))

    async def get_workspace(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/workspaces/{workspace_id}"""
        workspace = await _asked(self._do.workspace, _caller(scope), _id(scope, "workspace_id"))
        await send_json(send, dialect.encode_workspace(workspace))

    async def change_workspace(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/organizations/workspaces/{workspace_id}"""
        request = dialect.decode_workspace_update(await _body(scope, receive))
        workspace = await self._changed(self._do.change_workspace, _caller(scope), _id(scope, "workspace_id"), request)
        await send_json(send, dialect.encode_workspace(workspace))

    async def archive_workspace(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/organizations/workspaces/{workspace_id}/archive"""
        dialect.decode_nothing(await _body(scope, receive))
        workspace = await self._changed(self._do.archive_workspace, _caller(scope), _id(scope, "workspace_id"))
        await send_json(send, dialect.encode_workspace(workspace))

    async def list_workspace_rates(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/workspaces/{workspace_id}/rate_limits"""
        query, workspace_id = _query(scope, WorkspaceRateLimitQuery), _id(scope, "workspace_id")
        page = await _asked(self._do.workspace_rates, _caller(scope), workspace_id, query)
        entries = (
            dialect.workspace_rate_fields(one, workspace_id, inherited=query.include_inherited) for one in page.data
        )
        await send_json(send, dialect.encode_token_page(entries, page.next))

    async def change_workspace_rates(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/organizations/workspaces/{workspace_id}/rate_limits/{rate_limit_id}"""
        values, workspace_id = dialect.decode_rates(await _body(scope, receive)), _id(scope, "workspace_id")
        limits = await self._changed(
            self._do.change_rates, _caller(scope), workspace_id, _id(scope, "rate_limit_id"), values
        )
        await send_json(send, dialect.encode_workspace_rates(limits, workspace_id))

    async def list_rates(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/rate_limits"""
        page = await _asked(self._do.rates, _caller(scope), _query(scope, OrganizationRateLimitQuery))
        await send_json(send, dialect.encode_token_page(map(dialect.rate_fields, page.data), page.next))

    async def change_rates(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/organizations/rate_limits/{rate_limit_id}, which is ours"""
        values = dialect.decode_rates(await _body(scope, receive))
        limits = await self._changed(self._do.change_rates, _caller(scope), None, _id(scope, "rate_limit_id"), values)
        await send_json(send, dialect.encode_rates(limits))

    async def list_spend_limits(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/spend_limits"""
        page = await _asked(self._do.spend_limits, _caller(scope), _query(scope, SpendLimitQuery))
        await send_json(send, dialect.encode_token_page(map(dialect.spend_limit_fields, page.data), page.next))

    async def set_spend_limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/organizations/spend_limits"""
        request = dialect.decode_spend_limit(await _body(scope, receive))
        limit = await self._changed(self._do.set_spend_limit, _caller(scope), ids.spend_limit_id(), request)
        await send_json(send, dialect.encode_spend_limit(limit))

    async def get_spend_limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/organizations/spend_limits/{spend_limit_id}"""
        limit = await _asked(self._do.spend_limit, _caller(scope), _id(scope, "spend_limit_id"))
        await send_json(send, dialect.encode_spend_limit(limit))

    async def delete_spend_limit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """DELETE /v1/organizations/spend_limits/{spend_limit_id}"""
        dialect.decode_nothing(await _body(scope, receive))
        limit_id = _id(scope, "spend_limit_id")
        await self._changed(self._do.delete_spend_limit, _caller(scope), limit_id)
        await send_json(send, dialect.encode_deleted_spend_limit(limit_id))

    async def _changed(self, change: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
        """A change, and this server told of it. What cannot be read now is read at the next look at the store."""
        result = await _asked(change, *given, **named)
        with contextlib.suppress(StoreError):
            await self._on_change()
        return result


_NOT_KEPT: Final = ((b"cache-control", b"no-store"),)


async def _asked(use_case: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
    try:
        return await asyncio.to_thread(use_case, *given, **named)
    except StoreError:
        raise ApiError("overloaded_error", "the store cannot be used at the moment", retry_after_s=1.0) from None


def _caller(scope: Scope) -> Caller:
    context: RequestContext = scope["state"][CONTEXT]
    return context.caller


def _id(scope: Scope, name: str) -> str:
    return str(scope["path_params"][name])


def _query(scope: Scope, model: type[_Query]) -> _Query:
    return dialect.decode_query(scope["query_string"], model)


async def _body(scope: Scope, receive: Receive) -> bytes:
    """A change takes no query but the `beta` of clients."""
    _query(scope, Query)
    context: RequestContext = scope["state"][CONTEXT]
    return await read_body(receive, context.headers)


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameters(path: str, query: type[Query] | None) -> list[dict[str, Any]]:
    named = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in named]
    if query is not None:
        fields = query.model_json_schema()["properties"]
        without_meaning = {*Query.model_fields, "created_by_user_id"}
        for name, schema in fields.items():
            if name in without_meaning:
                continue
            spelled = f"{name}[]" if "array" in str(schema) else name
            parameters.append({"name": spelled, "in": "query", "required": False, "schema": schema})
    return parameters


def _operation(path: str, row: "_Row") -> dict[str, Any]:
    """One operation, by its row of the table below."""
    name, summary, taken, answer = row
    query = taken if taken is not None and issubclass(taken, Query) else None
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "parameters": _parameters(path, query),
        "responses": {
            "200": {"description": summary, "content": {"application/json": {"schema": _ref(answer)}}},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if taken is not None and query is None:
        body = {"required": True, "content": {"application/json": {"schema": _ref(taken.__name__)}}}
        operation["requestBody"] = body
    return operation


# Operation, summary, what it takes (a query or a body), the schema of its answer.
_Row = tuple[str, str, type[BaseModel] | None, str]

_OPERATIONS: Final[Mapping[str, Mapping[str, _Row]]] = {
    "/v1/organizations/me": {"get": ("getOrganization", "The organization of the key", None, "Organization")},
    "/v1/organizations/api_keys": {
        "get": ("listKeys", "API keys, newest first", KeyQuery, "ApiKeyPage"),
        "post": ("createKey", "A new API key; this answer alone holds the key itself", KeyCreation, "ApiKey"),
    },
    "/v1/organizations/api_keys/{api_key_id}": {
        "get": ("getKey", "One API key", None, "ApiKey"),
        "post": ("changeKey", "Rename, suspend or revoke an API key", KeyUpdate, "ApiKey"),
    },
    "/v1/organizations/workspaces": {
        "get": ("listWorkspaces", "Workspaces, newest first", WorkspaceQuery, "WorkspacePage"),
        "post": ("createWorkspace", "A new workspace", WorkspaceCreation, "Workspace"),
    },
    "/v1/organizations/workspaces/{workspace_id}": {
        "get": ("getWorkspace", "One workspace", None, "Workspace"),
        "post": ("changeWorkspace", "Change a workspace, and what it may use up", WorkspaceUpdate, "Workspace"),
    },
    "/v1/organizations/workspaces/{workspace_id}/archive": {
        "post": ("archiveWorkspace", "Archive a workspace and its API keys, for ever", None, "Workspace")
    },
    "/v1/organizations/workspaces/{workspace_id}/rate_limits": {
        "get": (
            "listWorkspaceRateLimits",
            "Limits by the minute of a workspace",
            WorkspaceRateLimitQuery,
            "RateLimitPage",
        )
    },
    "/v1/organizations/workspaces/{workspace_id}/rate_limits/{rate_limit_id}": {
        "post": (
            "changeWorkspaceRateLimits",
            "Set or take away limits of a workspace; the organization's bind all the same",
            RateLimitUpdate,
            "RateLimit",
        )
    },
    "/v1/organizations/rate_limits": {
        "get": (
            "listRateLimits",
            "Limits by the minute, by class of models",
            OrganizationRateLimitQuery,
            "RateLimitPage",
        )
    },
    "/v1/organizations/rate_limits/{rate_limit_id}": {
        "post": ("changeRateLimits", "Set or take away limits of the organization", RateLimitUpdate, "RateLimit")
    },
    "/v1/organizations/spend_limits": {
        "get": ("listSpendLimits", "Spend limits, newest first", SpendLimitQuery, "SpendLimitPage"),
        "post": ("setSpendLimit", "Set the spend limit of a scope and a period", SpendLimitSetting, "SpendLimit"),
    },
    "/v1/organizations/spend_limits/{spend_limit_id}": {
        "get": ("getSpendLimit", "One spend limit", None, "SpendLimit"),
        "delete": ("deleteSpendLimit", "Take a spend limit away", None, "Deleted"),
    },
}

# For the OpenAPI document: the paths, the request types they name, and the schemas of what they answer.
PATHS: Final[Mapping[str, Any]] = {
    path: {method: _operation(path, row) for method, row in item.items()} for path, item in _OPERATIONS.items()
}
REQUESTS: Final[tuple[type[BaseModel], ...]] = (
    KeyCreation,
    KeyUpdate,
    WorkspaceCreation,
    WorkspaceUpdate,
    RateLimitUpdate,
    SpendLimitSetting,
)


def _object(kind: str, **more: str) -> dict[str, Any]:
    """An answer: its `type`, an id, and further fields by their JSON type; `?` is a field that may be null."""
    fields = {
        name: {"type": [what.removesuffix("?"), "null"] if what.endswith("?") else what} for name, what in more.items()
    }
    return {
        "type": "object",
        "required": ["type", *more],
        "properties": {"type": {"const": kind}, **fields},
    }


def _page_of(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {"type": "array", "items": _ref(name)},
            "has_more": {"type": "boolean"},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
            "next_page": {"type": ["string", "null"]},
        },
    }


SCHEMAS: Final[Mapping[str, Any]] = {
    "Organization": _object("organization", id="string", name="string"),
    "ApiKey": _object(
        "api_key",
        id="string",
        name="string",
        partial_key_hint="string",
        scope="object",
        status="string",
        created_at="string",
        expires_at="string?",
        scopes="array",
        models="array?",
    ),
    "Workspace": _object(
        "workspace",
        id="string",
        name="string",
        display_color="string",
        tags="object",
        created_at="string",
        archived_at="string?",
        concurrency="integer?",
        priority_input_tokens_per_minute="integer?",
        priority_output_tokens_per_minute="integer?",
    ),
    "RateLimit": {
        "type": "object",
        "required": ["type", "group", "limits", "models"],
        "properties": {
            "type": {"enum": ["rate_limit", "workspace_rate_limit"]},
            "group": {"type": "object"},
            "limits": {"type": "array", "items": {"type": "object"}},
            "models": {"type": "array", "items": {"type": "string"}},
        },
    },
    "SpendLimit": _object(
        "spend_limit",
        id="string",
        amount="string",
        currency="string",
        period="string",
        scope="object",
        created_at="string",
        updated_at="string",
    ),
    "Deleted": _object("spend_limit_deleted", id="string"),
    "ApiKeyPage": _page_of("ApiKey"),
    "WorkspacePage": _page_of("Workspace"),
    "RateLimitPage": _page_of("RateLimit"),
    "SpendLimitPage": _page_of("SpendLimit"),
}
