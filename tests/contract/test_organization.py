"""The Admin API: every method of the official SDK against a real server, and what is ours over plain HTTP."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import anthropic
import httpx2
import pytest

from tests.contract.errors import assert_contract_error
from tests.contract.scenes import MODEL
from tests.running import RunningServer, start_server

ADMIN_KEY = "sk-sestet-admin-of-the-contract-tests"
RANDOM_ID = "0123456789abcdef01234567"
DEFAULT = "wrkspc_default"
ORGANIZATIONS = "/v1/organizations"
names = (f"workspace {number}" for number in count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("organization")
    running = start_server(folder, script="", config=f'[access]\nadmin_keys = ["{ADMIN_KEY}"]\n')
    yield running
    running.stop()


@pytest.fixture
def http(server: RunningServer) -> Iterator[httpx2.Client]:
    """Plain HTTP, as the administrator."""
    with httpx2.Client(base_url=f"{server.url}{ORGANIZATIONS}", headers={"x-api-key": ADMIN_KEY}, timeout=30) as client:
        yield client


@pytest.fixture
def sdk(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key=ADMIN_KEY, max_retries=0) as client:
        yield client


def new_key(http: httpx2.Client, **given: Any) -> dict[str, Any]:
    answer = http.post("/api_keys", json={"name": "k", "workspace_id": DEFAULT, "scopes": ["inference"]} | given)

    assert 200 == answer.status_code, answer.text
    return dict(answer.json())


def test_the_organization_tells_its_name(sdk: anthropic.Anthropic) -> None:
    found = sdk.organization.retrieve()

    assert ("organization", "Organization") == (found.type, found.name)
    assert found.id


def test_a_key_is_made_and_shown_once(server: RunningServer, http: httpx2.Client) -> None:
    until = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    expires_at = until.isoformat().replace("+00:00", "Z")
    answer = http.post(
        "/api_keys",
        json={
            "name": "laptop",
            "workspace_id": DEFAULT,
            "scopes": ["usage", "inference"],
            "models": [MODEL],
            "expires_at": expires_at,
        },
    )
    made = answer.json()
    clear = made.pop("key")
    used = httpx2.get(f"{server.url}/v1/models", headers={"x-api-key": clear})

    assert "no-store" == answer.headers["cache-control"]
    assert 200 == used.status_code
    assert made == http.get(f"/api_keys/{made['id']}").json()
    assert {
        "type": "api_key",
        "id": made["id"],
        "name": "laptop",
        "partial_key_hint": f"sk-sestet-...{clear[-4:]}",
        "scope": {"type": "workspace", "workspace_id": DEFAULT},
        "status": "active",
        "created_at": made["created_at"],
        "expires_at": expires_at,
        "created_by": None,
        "principal": None,
        "scopes": ["inference", "usage"],
        "models": ["claude-3-7-sonnet-20250219"],
        "created_by_key_id": made["created_by_key_id"],
    } == made


def test_a_key_is_retrieved_renamed_and_revoked(sdk: anthropic.Anthropic, http: httpx2.Client) -> None:
    made = new_key(http, workspace_id=None, scopes=["usage"])
    found = sdk.organization.api_keys.retrieve(made["id"])
    renamed = sdk.organization.api_keys.update(made["id"], name="renamed")
    resting = sdk.organization.api_keys.update(made["id"], status="inactive")
    revoked = sdk.organization.api_keys.update(made["id"], status="archived")

    assert ("organization", None, None) == (found.scope.type, found.expires_at, found.principal)
    assert isinstance(found.created_at, datetime)
    assert [("k", "active"), ("renamed", "active"), ("renamed", "inactive"), ("renamed", "archived")] == [
        (one.name, one.status) for one in (found, renamed, resting, revoked)
    ]


def test_keys_are_listed_page_by_page(sdk: anthropic.Anthropic, http: httpx2.Client) -> None:
    workspace = sdk.organization.workspaces.create(name=next(names)).id
    made = [new_key(http, workspace_id=workspace)["id"] for _ in range(3)][::-1]
    first = sdk.organization.api_keys.list(workspace_id=workspace, limit=2)
    backwards = sdk.organization.api_keys.list(workspace_id=workspace, limit=1, before_id=made[2])

    assert made == [key.id for key in first]
    assert (made[0], made[1], True) == (first.first_id, first.last_id, first.has_more)
    assert made[1::-1] == [key.id for key in backwards]


def test_keys_are_listed_by_status(sdk: anthropic.Anthropic, http: httpx2.Client) -> None:
    workspace = sdk.organization.workspaces.create(name=next(names)).id
    active, revoked = (new_key(http, workspace_id=workspace)["id"] for _ in range(2))
    sdk.organization.api_keys.update(revoked, status="archived")

    def listed(status: Any) -> list[str]:
        return [key.id for key in sdk.organization.api_keys.list(workspace_id=workspace, status=status)]

    assert [[active], [revoked], [], []] == [listed(status) for status in ("active", "archived", "inactive", "expired")]


def test_a_workspace_is_made_retrieved_changed_and_archived(sdk: anthropic.Anthropic) -> None:
    name = next(names)
    made = sdk.organization.workspaces.create(name=name, display_color="#0A0b0C", tags={"team": "a", "cost": "1"})
    found = sdk.organization.workspaces.retrieve(made.id)
    changed = sdk.organization.workspaces.update(made.id, name=f"{name}!", tags={"cost": None, "new": "x"})
    archived = sdk.organization.workspaces.archive(made.id)

    assert made == found
    assert ("workspace", name, "#0A0b0C", None) == (made.type, made.name, made.display_color, made.archived_at)
    assert (f"{name}!", {"team": "a", "new": "x"}) == (changed.name, changed.tags)
    assert isinstance(archived.archived_at, datetime)


def test_what_is_not_here_is_told_as_not_here(http: httpx2.Client) -> None:
    found = http.get(f"/workspaces/{DEFAULT}").json()

    assert {
        "data_residency": {
            "workspace_geo": "not_available",
            "default_inference_geo": "not_available",
            "allowed_inference_geos": "unrestricted",
        },
        "compartment_id": "",
        "external_key_id": None,
        "user_profile_id": None,
    } == {name: found[name] for name in ("data_residency", "compartment_id", "external_key_id", "user_profile_id")}


def test_workspaces_are_listed_as_they_are_asked_for(sdk: anthropic.Anthropic) -> None:
    first, second, gone = (sdk.organization.workspaces.create(name=next(names)).id for _ in range(3))
    sdk.organization.workspaces.archive(gone)
    ids = [first, second, gone, DEFAULT, f"wrkspc_{RANDOM_ID}"]

    def listed(**query: Any) -> list[str]:
        return [one.id for one in sdk.organization.workspaces.list(ids=ids, limit=1, **query)]

    assert [second, first] == listed()
    assert [gone, second, first] == listed(include_archived=True)
    assert [second, first, DEFAULT] == listed(include_default=True)


def test_capacity_of_a_workspace_is_ours(http: httpx2.Client) -> None:
    given = {
        "concurrency": 3,
        "priority_input_tokens_per_minute": 1000,
        "priority_output_tokens_per_minute": 100,
    }
    made = http.post("/workspaces", json={"name": next(names), **given}).json()
    changed = http.post(f"/workspaces/{made['id']}", json={"concurrency": None}).json()

    assert given == {name: made[name] for name in given}
    assert given | {"concurrency": None} == {name: changed[name] for name in given}


def test_limits_by_the_minute_are_set_for_the_organization_and_a_workspace(
    sdk: anthropic.Anthropic, http: httpx2.Client
) -> None:
    workspace = sdk.organization.workspaces.create(name=next(names)).id
    [entry] = sdk.organization.rate_limits.list(model="claude-opus-4-0")
    ours = http.post(
        f"/rate_limits/{entry.id}", json={"limits": [{"type": "requests_per_minute", "value": 1000}]}
    ).json()
    changed = sdk.organization.workspaces.rate_limits.update(
        entry.id,
        workspace_id=workspace,
        limits=[
            {"type": "requests_per_minute", "value": 2000},
            {"type": "input_tokens_per_minute_cache_aware", "value": 50000},
        ],
    )
    own = list(sdk.organization.workspaces.rate_limits.list(workspace))
    cleared = sdk.organization.workspaces.rate_limits.update(
        entry.id, workspace_id=workspace, limits=[{"type": "requests_per_minute", "value": None}]
    )
    [inherited] = sdk.organization.workspaces.rate_limits.list(workspace, include_inherited=True)

    assert [{"type": "requests_per_minute", "value": 1000}] == ours["limits"]
    assert ("model_group", entry.id) == (entry.group.type, changed.rate_limit_id)
    assert ["claude-opus-4-1-20250805", "claude-opus-4-1", "claude-opus-4-20250514", "claude-opus-4-0"] == entry.models
    assert [changed] == own

    def values(limits: Any) -> list[tuple[object, ...]]:
        return [(one.type, one.value, one.org_limit, one.source.type) for one in limits]

    input_tokens = ("input_tokens_per_minute_cache_aware", 50000, None, "workspace")
    assert [("requests_per_minute", 2000, 1000, "workspace"), input_tokens] == values(changed.limits)
    assert [input_tokens] == values(cleared.limits)
    assert [("requests_per_minute", 1000, 1000, "organization"), input_tokens] == values(inherited.limits)
    http.post(f"/rate_limits/{entry.id}", json={"limits": [{"type": "requests_per_minute", "value": None}]})


def test_limits_are_listed_page_by_page(sdk: anthropic.Anthropic) -> None:
    whole = sdk.organization.rate_limits.list()
    walked = sdk.organization.rate_limits.list(limit=2)

    assert whole.next_page is None
    assert walked.next_page is not None
    assert walked.next_page.startswith("page_")
    assert [entry.id for entry in whole.data] == [entry.id for entry in walked]
    assert [] == list(sdk.organization.rate_limits.list(group_type="batch"))


def test_spend_limits_are_set_read_replaced_and_taken_away(sdk: anthropic.Anthropic) -> None:
    limits = sdk.beta.organization.spend_limits
    workspace = sdk.organization.workspaces.create(name=next(names)).id
    scope: Any = {"type": "workspace", "workspace_id": workspace}
    made = limits.set(amount="50000", scope=scope)
    daily = limits.set(amount="0", scope=scope, period="daily")
    replaced = limits.set(amount="60000", scope=scope, period="monthly")
    listed = list(limits.list(workspace_id=workspace, limit=1))
    deleted = limits.delete(daily.id)

    assert ("spend_limit", "50000", "USD", "monthly", True) == (
        made.type,
        made.amount,
        made.currency,
        made.period,
        made.is_enabled,
    )
    assert (made.id, "60000", made.created_at) == (replaced.id, replaced.amount, replaced.created_at)
    assert replaced == limits.retrieve(made.id)
    assert [daily, replaced] == listed
    assert ("spend_limit_deleted", daily.id) == (deleted.type, deleted.id)
    assert [replaced] == list(limits.list(workspace_id=workspace))


def test_the_organization_has_spend_limits_of_its_own(sdk: anthropic.Anthropic) -> None:
    limits = sdk.beta.organization.spend_limits
    made = limits.set(amount="12345", scope={"type": "organization"}, period="daily")

    assert "organization" == made.scope.type
    assert [made] == list(limits.list(scope_type=["organization"]))
    limits.delete(made.id)


KEY = {"name": "k", "workspace_id": DEFAULT, "scopes": ["inference"]}
WEEKLY = {"amount": "1", "period": "weekly", "scope": {"type": "organization"}}
REFUSED_BODIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "no name": ("/api_keys", {"scopes": ["usage"]}, "name"),
    "no scope": ("/api_keys", {**KEY, "scopes": []}, "scopes"),
    "unknown scope": ("/api_keys", {**KEY, "scopes": ["inference", "all"]}, "scopes.1"),
    "unknown model": ("/api_keys", {**KEY, "models": [MODEL, "gpt"]}, "models.1"),
    "past": ("/api_keys", {**KEY, "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    "no zone": ("/api_keys", {**KEY, "expires_at": "2099-01-01T00:00:00"}, "expires_at"),
    "no time": ("/api_keys", {**KEY, "expires_at": "soon"}, "expires_at"),
    "a number for a time": ("/api_keys", {**KEY, "expires_at": 4102444800}, "expires_at"),
    "control characters": ("/api_keys", {**KEY, "name": "a\x00b"}, "name"),
    "no place for inference": ("/api_keys", {**KEY, "workspace_id": None}, "workspace_id"),
    "no workspace name": ("/workspaces", {}, "name"),
    "a long name": ("/workspaces", {"name": "x" * 41}, "name"),
    "a color by name": ("/workspaces", {"name": "x", "display_color": "red"}, "display_color"),
    "a tag of the contract's": ("/workspaces", {"name": "x", "tags": {"anthropic:a": "b"}}, "tags"),
    "residency": ("/workspaces", {"name": "x", "data_residency": {"workspace_geo": "us"}}, "data_residency"),
    "an encryption key": ("/workspaces", {"name": "x", "external_key_id": "e"}, "external_key_id"),
    "a user profile": (f"/workspaces/{DEFAULT}", {"user_profile_id": "u"}, "user_profile_id"),
    "no concurrency": (f"/workspaces/{DEFAULT}", {"concurrency": 0}, "concurrency"),
    "archiving with fields": (f"/workspaces/{DEFAULT}/archive", {"name": "x"}, "name"),
    "another kind of limit": ("/rate_limits/rl", {"limits": [{"type": "tokens_per_day", "value": 1}]}, "limits.0.type"),
    "a limit of zero": ("/rate_limits/rl", {"limits": [{"type": "requests_per_minute", "value": 0}]}, "limits.0.value"),
    "a limit twice": (
        "/rate_limits/rl",
        {"limits": [{"type": "requests_per_minute", "value": 1}, {"type": "requests_per_minute", "value": 2}]},
        "limits",
    ),
    "weekly": ("/spend_limits", WEEKLY, "period"),
    "no amount": ("/spend_limits", {**WEEKLY, "period": "daily", "amount": None}, "amount"),
    "part of a cent": ("/spend_limits", {**WEEKLY, "period": "daily", "amount": "1.5"}, "amount"),
    "a number for an amount": ("/spend_limits", {**WEEKLY, "period": "daily", "amount": 1}, "amount"),
    "a limit of a user": ("/spend_limits", {"amount": "1", "scope": {"type": "user", "user_id": "u"}}, "scope.type"),
}


@pytest.mark.parametrize(("path", "body", "named"), REFUSED_BODIES.values(), ids=REFUSED_BODIES.keys())
def test_what_cannot_be_done_is_refused_by_its_path(
    http: httpx2.Client, path: str, body: dict[str, Any], named: str
) -> None:
    assert_contract_error(http.post(path, json=body), 400, "invalid_request_error", named)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/api_keys?limit=0", "limit"),
        ("/api_keys?limit=1001", "limit"),
        ("/api_keys?limit=1&limit=2", "limit"),
        ("/api_keys?status=lost", "status"),
        ("/api_keys?created_by_user_id=user_1", "created_by_user_id"),
        ("/api_keys?after_id=apikey_1", "after_id"),
        ("/api_keys?color=red", "color"),
        ("/workspaces?include_default=perhaps", "include_default"),
        ("/workspaces?before_id=wrkspc_1", "before_id"),
        ("/rate_limits?page=page_1", "page"),
        ("/rate_limits?group_type=dogs", "group_type"),
        ("/spend_limits?scope_type[]=user", "scope_type.0"),
        ("/spend_limits?page=page_1", "page"),
    ],
)
def test_a_query_that_means_nothing_is_refused_by_its_path(http: httpx2.Client, path: str, named: str) -> None:
    assert_contract_error(http.get(path), 400, "invalid_request_error", named)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/api_keys/apikey_{RANDOM_ID}", None),
        ("POST", f"/api_keys/apikey_{RANDOM_ID}", {"name": "x"}),
        ("GET", f"/workspaces/wrkspc_{RANDOM_ID}", None),
        ("POST", f"/workspaces/wrkspc_{RANDOM_ID}", {"name": "x"}),
        ("POST", f"/workspaces/wrkspc_{RANDOM_ID}/archive", None),
        ("GET", f"/workspaces/wrkspc_{RANDOM_ID}/rate_limits", None),
        ("POST", f"/rate_limits/rl_{RANDOM_ID}", {"limits": [{"type": "requests_per_minute", "value": 1}]}),
        ("GET", "/rate_limits?model=gpt", None),
        ("GET", f"/spend_limits/spl_{RANDOM_ID}", None),
        ("DELETE", f"/spend_limits/spl_{RANDOM_ID}", None),
        ("POST", "/api_keys", {**KEY, "workspace_id": f"wrkspc_{RANDOM_ID}"}),
    ],
)
def test_what_there_is_not_is_not_found(http: httpx2.Client, method: str, path: str, body: Any) -> None:
    message = assert_contract_error(http.request(method, path, json=body), 404, "not_found_error")

    assert RANDOM_ID not in message


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/me", "/api_keys", "/workspaces", f"/workspaces/{DEFAULT}", "/rate_limits"])
def test_there_is_no_other_method(http: httpx2.Client, method: str, path: str) -> None:
    refused = http.request(method, path)

    assert_contract_error(refused, 405, "invalid_request_error")


@pytest.mark.parametrize("scopes", [["inference"], ["usage"], ["operations"], ["inference", "usage", "operations"]])
def test_no_other_scope_administrates(server: RunningServer, http: httpx2.Client, scopes: list[str]) -> None:
    key = new_key(http, scopes=scopes)["key"]
    for path in ("/me", "/api_keys", "/workspaces", "/rate_limits", "/spend_limits"):
        refused = httpx2.get(f"{server.url}{ORGANIZATIONS}{path}", headers={"x-api-key": key})

        assert_contract_error(refused, 403, "permission_error")


def test_without_keys_nobody_administrates(scripted: RunningServer) -> None:
    for headers in ({}, {"x-api-key": "any"}):
        refused = httpx2.get(f"{scripted.url}{ORGANIZATIONS}/me", headers=headers)

        assert_contract_error(refused, 401, "authentication_error")
