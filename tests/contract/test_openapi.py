"""The OpenAPI document: valid, and of the routes that there are."""

import asyncio

import httpx2
import jsonschema_rs
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.contract.scenes import MODEL, WEATHER
from tests.unit.in_process import application, ask

KEYS = {"access": {"keys": ["sk-inference"], "admin_keys": ["sk-admin"]}}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def test_the_document_is_valid(client: httpx2.Client) -> None:
    answer = client.get("/openapi.json")

    assert "application/json" == answer.headers["content-type"]
    assert [] == list(OpenAPIV31SpecValidator(answer.json()).iter_errors())


def test_every_documented_operation_exists_and_no_other() -> None:
    async def play() -> tuple[dict[str, list[str]], dict[str, list[str]], list[str]]:
        app = await application(**KEYS)
        documented = (await ask(app, "GET", "/openapi.json")).json["paths"]
        existing = {}
        for path in documented:
            key = "sk-admin" if path.startswith("/v1/organizations") else "sk-inference"
            answers = {method: await ask(app, method, path, headers={"x-api-key": key}) for method in METHODS}
            existing[path] = [method.lower() for method in METHODS if answers[method].status != 405]
        await app.stop()
        table = sorted(path.replace(":path", "") for path in app.paths)
        return {path: sorted(item) for path, item in documented.items()}, existing, table

    documented, existing, table = asyncio.run(play())

    assert documented == {path: sorted(methods) for path, methods in existing.items()}
    assert sorted(documented) == table


def test_the_document_tells_of_tools_and_formats(client: httpx2.Client) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name in ("MessagesRequest", "CountTokensRequest"):
        fields = schemas[name]["properties"]

        assert {"tools", "tool_choice", "output_config", "output_format"} <= fields.keys()

    kinds = [
        block["properties"]["type"]["const"] for block in schemas["Message"]["properties"]["content"]["items"]["oneOf"]
    ]
    call = schemas["Message"]["properties"]["content"]["items"]["oneOf"][-1]
    assert ["text", "thinking", "redacted_thinking", "tool_use"] == kinds
    assert ["type", "id", "name", "input"] == call["required"]
    assert "tool_use" in schemas["Message"]["properties"]["stop_reason"]["enum"]
    assert ["name", "input_schema"] == schemas["CustomTool"]["required"]
    assert {"tool_use_id", "content", "is_error"} <= schemas["ToolResultBlock"]["properties"].keys()
    assert {"id", "name", "input"} <= schemas["ToolUseBlock"]["properties"].keys()
    assert ["type", "schema"] == schemas["JsonSchemaFormat"]["required"]


def test_the_documented_requests_hold_what_this_server_takes(client: httpx2.Client) -> None:
    """A tool, a call and its answer, and a format, read by the published schema."""
    document = client.get("/openapi.json").json()
    messages = [
        {"role": "user", "content": "who is she"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 2**64}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "3"}]},
    ]
    body = {
        "model": MODEL,
        "max_tokens": 9,
        "messages": messages,
        "tools": [WEATHER, {"type": "bash_20250124", "name": "bash"}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "string"}}},
    }
    schema = {"$ref": "#/components/schemas/MessagesRequest", "components": document["components"]}
    validator = jsonschema_rs.validator_for(schema)

    assert 200 == client.post("/v1/messages", json=body).status_code
    assert [] == [error.message for error in validator.iter_errors(body)]
    assert not validator.is_valid({**body, "tools": [{"name": "two words", "input_schema": {}}]})


def test_the_document_asks_for_keys_where_the_server_does(client: httpx2.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    public = [path for path, item in paths.items() for operation in item.values() if operation.get("security") == []]

    assert ["/", "/healthz", "/openapi.json", "/readyz"] == sorted(public)
