"""The Admin API's bodies, queries and answers, in the shapes of the official SDKs (types/organization).

Fields of ours are in docs/deviations.md; what the hosted API has and is nothing here has a value that says so.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import orjson

from sestet.contract.errors import invalid
from sestet.contract.organization import (
    ClassLimits,
    KeyCreation,
    KeyUpdate,
    Nothing,
    Query,
    RateLimitType,
    RateLimitUpdate,
    ShownStatus,
    SpendLimit,
    SpendLimitSetting,
    WorkspaceCreation,
    WorkspaceUpdate,
)
from sestet.dialects.json_body import parse
from sestet.gate.directory import Directory, Key, RateKind, Workspace

_Query = TypeVar("_Query", bound=Query)

_KINDS: Final[Mapping[RateLimitType, RateKind]] = {
    "requests_per_minute": "requests",
    "input_tokens_per_minute_cache_aware": "input_tokens",
    "output_tokens_per_minute": "output_tokens",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICRODOLLARS_PER_CENT: Final = 10_000


def decode_key(body: bytes) -> KeyCreation:
    return parse(body, KeyCreation)


def decode_key_update(body: bytes) -> KeyUpdate:
    return parse(body, KeyUpdate)


def decode_workspace(body: bytes) -> WorkspaceCreation:
    return parse(body, WorkspaceCreation)


def decode_workspace_update(body: bytes) -> WorkspaceUpdate:
    return parse(body, WorkspaceUpdate)


def decode_rates(body: bytes) -> Mapping[RateKind, int | None]:
    return {_KINDS[limit.type]: limit.value for limit in parse(body, RateLimitUpdate).limits}


def decode_spend_limit(body: bytes) -> SpendLimitSetting:
    return parse(body, SpendLimitSetting)


def decode_nothing(body: bytes) -> None:
    """Where there is nothing to say."""
    if body:
        parse(body, Nothing)


def decode_query(query_string: bytes, model: type[_Query]) -> _Query:
    """A query is read as the object that it spells, so that it is refused as a body is."""
    given: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=200)
    except ValueError:
        raise invalid("the query has more than 200 parameters") from None
    for name, value in pairs:
        given.setdefault(name.removesuffix("[]"), []).append(value)
    spelled = {name: values[0] if len(values) == 1 else values for name, values in given.items()}
    return parse(orjson.dumps(spelled), model)


def encode_organization(directory: Directory) -> bytes:
    return orjson.dumps({"type": "organization", "id": directory.organization_id, "name": directory.organization_name})


def encode_key(key: Key, status: ShownStatus, clear: str | None = None) -> bytes:
    """`clear` is the key itself, which is shown once."""
    return orjson.dumps(key_fields(key, status) | ({} if clear is None else {"key": clear}))


def key_fields(key: Key, status: ShownStatus) -> dict[str, Any]:
    """The last three are ours; a creator of the contract's is a person, and ours is a key."""
    return {
        "type": "api_key",
        "id": key.id,
        "name": key.name,
        "partial_key_hint": key.hint,
        "scope": _scope(key.workspace_id),
        "status": status,
        "created_at": _moment(key.created_at),
        "expires_at": None if key.expires_at is None else _moment(key.expires_at),
        "created_by": None,
        "principal": None,
        "scopes": sorted(key.scopes),
        "models": None if key.models is None else sorted(key.models),
        "created_by_key_id": key.created_by,
    }


def encode_workspace(workspace: Workspace) -> bytes:
    return orjson.dumps(workspace_fields(workspace))


def workspace_fields(workspace: Workspace) -> dict[str, Any]:
    """The last three are ours."""
    return {
        "type": "workspace",
        "id": workspace.id,
        "name": workspace.name,
        "display_color": workspace.display_color,
        "tags": dict(workspace.tags),
        "created_at": _moment(workspace.created_at),
        "archived_at": None if workspace.archived_at is None else _moment(workspace.archived_at),
        "data_residency": {
            "workspace_geo": "not_available",
            "default_inference_geo": "not_available",
            "allowed_inference_geos": "unrestricted",
        },
        "compartment_id": "",
        "external_key_id": None,
        "user_profile_id": None,
        "concurrency": workspace.concurrency,
        "priority_input_tokens_per_minute": workspace.priority_input_tokens,
        "priority_output_tokens_per_minute": workspace.priority_output_tokens,
    }


def encode_rates(limits: ClassLimits) -> bytes:
    return orjson.dumps(rate_fields(limits))


def rate_fields(limits: ClassLimits) -> dict[str, Any]:
    """An entry of the organisation's."""
    return {
        "type": "rate_limit",
        "id": limits.id,
        "group": _group(limits),
        "limits": [{"type": name, "value": limits.organization[kind]} for name, kind in _present(limits.organization)],
        "models": list(limits.models),
    }


def encode_workspace_rates(limits: ClassLimits, workspace_id: str) -> bytes:
    return orjson.dumps(workspace_rate_fields(limits, workspace_id, inherited=False))


def workspace_rate_fields(limits: ClassLimits, workspace_id: str, *, inherited: bool) -> dict[str, Any]:
    """An entry of a workspace's; `inherited` is whether the organisation's are told where it has none."""
    values: dict[RateKind, int] = {**(limits.organization if inherited else {}), **limits.workspace}
    return {
        "type": "workspace_rate_limit",
        "workspace_id": workspace_id,
        "rate_limit_id": limits.id,
        "group": _group(limits),
        "limits": [
            {
                "type": name,
                "value": values[kind],
                "org_limit": limits.organization.get(kind),
                "source": {"type": "workspace" if kind in limits.workspace else "organization"},
            }
            for name, kind in _present(values)
        ],
        "models": list(limits.models),
    }


def encode_spend_limit(limit: SpendLimit) -> bytes:
    return orjson.dumps(spend_limit_fields(limit))


def spend_limit_fields(limit: SpendLimit) -> dict[str, Any]:
    return {
        "type": "spend_limit",
        "id": limit.id,
        "amount": str(limit.amount // _MICRODOLLARS_PER_CENT),
        "currency": "USD",
        "period": limit.period,
        "scope": _scope(limit.workspace_id),
        "is_enabled": True,
        "created_at": _moment(limit.created_at),
        "updated_at": _moment(limit.updated_at),
    }


def encode_deleted_spend_limit(limit_id: str) -> bytes:
    return orjson.dumps({"type": "spend_limit_deleted", "id": limit_id})


def encode_page(entries: Iterable[Mapping[str, Any]], *, has_more: bool) -> bytes:
    """A page with cursors (WIRE.md section 1.1)."""
    data = list(entries)
    ids = [entry["id"] for entry in data] or [None]
    return orjson.dumps({"data": data, "has_more": has_more, "first_id": ids[0], "last_id": ids[-1]})


def encode_token_page(entries: Iterable[Mapping[str, Any]], next_page: str | None) -> bytes:
    return orjson.dumps({"data": list(entries), "next_page": next_page})


def _group(limits: ClassLimits) -> dict[str, str]:
    return {"type": "model_group", "id": limits.group_id, "display_name": limits.display_name}


def _present(values: Mapping[RateKind, int]) -> list[tuple[RateLimitType, RateKind]]:
    return [(name, kind) for name, kind in _KINDS.items() if kind in values]


def _scope(workspace_id: str | None) -> dict[str, str]:
    return {"type": "organization"} if workspace_id is None else {"type": "workspace", "workspace_id": workspace_id}


def _moment(at_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")
