"""Every route with every credential: a table, and a route without a row fails (RELIABILITY.md T01, T02)."""

import asyncio
from typing import Any, Final

from sestet.config import Config
from sestet.gate.directory import DEFAULT_WORKSPACE, SCOPES, Key, Scope, Workspace
from sestet.gate.keys import digest_of, hint_of, new_key
from sestet.server.compose import Application, now_us, peppers_of
from tests.unit.in_process import Answer, application, ask

# The scope that each route asks for; None: anybody, `key`: any key at all.
NEEDED: Final[dict[str, str | None]] = {
    "/": None,
    "/healthz": None,
    "/readyz": None,
    "/openapi.json": None,
    "/metrics": "operations",
    "/v1/messages": "inference",
    "/v1/messages/count_tokens": "inference",
    "/v1/responses": "inference",
    "/v1/responses/input_tokens": "inference",
    "/v1/chat/completions": "inference",
    "/model/{model_id:path}/invoke": "inference",
    "/model/{model_id:path}/invoke-with-response-stream": "inference",
    "/model/{model_id:path}/count-tokens": "inference",
    "/v1/projects/{project}/locations/{location}/publishers/anthropic/models/{model_id:path}:rawPredict": "inference",
    "/v1/projects/{project}/locations/{location}/publishers/anthropic/models/{model_id:path}:streamRawPredict": (
        "inference"
    ),
    "/v1/projects/{project}/locations/{location}/publishers/anthropic/models/count-tokens:rawPredict": "inference",
    "/projects/{project}/locations/{location}/publishers/anthropic/models/{model_id:path}:rawPredict": "inference",
    "/projects/{project}/locations/{location}/publishers/anthropic/models/{model_id:path}:streamRawPredict": (
        "inference"
    ),
    "/projects/{project}/locations/{location}/publishers/anthropic/models/count-tokens:rawPredict": "inference",
    "/v1/models": "inference",
    "/v1/models/{model_id:path}": "inference",
    "/v1/cache": "operations",
    "/v1/organizations/usage_report/messages": "usage",
    "/v1/organizations/cost_report": "usage",
    "/v1/organizations/me": "admin",
    "/v1/organizations/api_keys": "admin",
    "/v1/organizations/api_keys/{api_key_id}": "admin",
    "/v1/organizations/workspaces": "admin",
    "/v1/organizations/workspaces/{workspace_id}": "admin",
    "/v1/organizations/workspaces/{workspace_id}/archive": "admin",
    "/v1/organizations/workspaces/{workspace_id}/rate_limits": "admin",
    "/v1/organizations/workspaces/{workspace_id}/rate_limits/{rate_limit_id}": "admin",
    "/v1/organizations/rate_limits": "admin",
    "/v1/organizations/rate_limits/{rate_limit_id}": "admin",
    "/v1/organizations/spend_limits": "admin",
    "/v1/organizations/spend_limits/{spend_limit_id}": "admin",
}
METHODS: Final = ("GET", "POST", "DELETE", "PATCH")


def stored(key: str, number: int, **fields: Any) -> Key:
    given: dict[str, Any] = {
        "id": f"apikey_{number}",
        "name": key[-8:],
        "digest": digest_of(peppers_of(Config())[0], key.encode()),
        "hint": hint_of(key),
        "workspace_id": DEFAULT_WORKSPACE,
        "scopes": SCOPES,
        "models": None,
        "status": "active",
        "created_at": now_us(),
    }
    return Key(**{**given, **fields})


def expected(path: str, scopes: frozenset[Scope] | None) -> str:
    """`in`: the route itself answers, whatever it says; otherwise the status of the refusal. None is no valid key."""
    needed = NEEDED[path]
    if needed is None:
        return "in"
    if scopes is None:
        return "401"
    return "in" if needed in scopes else "403"


def decision(answer: Answer) -> str:
    """Bedrock calls both refusals 403; its name for the error tells them apart."""
    status = 401 if [b"UnrecognizedClientException"] == answer.headers.get(b"x-amzn-errortype") else answer.status
    return str(status) if status in (401, 403) else "in"


def test_every_route_lets_in_whom_the_table_says(tmp_path: Any) -> None:
    keys: dict[str, str] = {
        name: new_key() for name in ("all", "revoked", "archived", "expired", "of a gone workspace")
    }
    keys |= {scope: new_key() for scope in SCOPES}
    scopes: dict[str, frozenset[Scope] | None] = dict.fromkeys(keys)
    scopes |= {
        "all": SCOPES - {"admin"},
        **{scope: frozenset((scope,)) for scope in SCOPES},
        "none": None,
        "garbage": None,
    }

    def prepare(app: Application) -> None:
        directories = app.stored.directories
        directories.add_workspace(Workspace("wrkspc_gone", "Gone", now_us()))
        fields: dict[str, dict[str, Any]] = {
            "revoked": {"status": "inactive"},
            "archived": {"status": "archived"},
            "expired": {"expires_at": now_us() - 1},
            "of a gone workspace": {"workspace_id": "wrkspc_gone"},
            "all": {"scopes": SCOPES - {"admin"}},
            **{scope: {"scopes": frozenset((scope,))} for scope in SCOPES},
            "admin": {"scopes": frozenset(("admin",)), "workspace_id": None},
        }
        for number, (name, key) in enumerate(keys.items()):
            directories.add_key(stored(key, number, **fields.get(name, {})))
        directories.archive_workspace("wrkspc_gone", now_us())

    def forms(name: str) -> list[dict[str, str]]:
        """The same credential in every form that there is; all are one policy."""
        if name == "none":
            return [{}]
        key = keys.get(name, "sk-sestet-garbage")
        bearer = {"authorization": f"Bearer {key}"}
        return [{"x-api-key": key}, bearer, {"x-api-key": key, **bearer}]

    async def play() -> tuple[list[str], list[tuple[str, str, str, str]]]:
        app = await application(store={"url": f"sqlite:///{tmp_path}/sestet.db", "outbox": tmp_path / "outbox"})
        prepare(app)
        await app.upkeep.look()
        wrong = []
        for path in app.paths:
            for name, owned in scopes.items():
                for headers in forms(name):
                    for method in METHODS:
                        found = decision(await ask(app, method, path, b"{}", headers=headers))
                        if found != expected(path, owned):
                            wrong.append((method, path, name, found))
        contradictory = {"x-api-key": keys["all"], "authorization": f"Bearer {keys['admin']}"}
        query = (await ask(app, "GET", "/v1/models", query=f"key={keys['all']}")).status
        both = (await ask(app, "GET", "/v1/models", headers=contradictory)).status
        await app.stop()
        return list(app.paths), [*wrong, *([] if (401, 401) == (query, both) else [("GET", "", "", f"{query} {both}")])]

    paths, wrong = asyncio.run(play())

    assert sorted(NEEDED) == sorted(paths)
    assert [] == wrong
