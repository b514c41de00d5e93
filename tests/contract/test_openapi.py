"""The OpenAPI document: valid, and of the routes that there are."""

import httpx2
import jsonschema_rs
from openapi_spec_validator import OpenAPIV31SpecValidator

from sestet.catalog.catalog import Catalog
from sestet.server.app import routes
from sestet.server.exchange import Heart
from sestet.server.lifecycle import Lifecycle
from sestet.server.metrics import Metrics
from sestet.server.routes import Endpoints
from sestet.services.grammars import Grammars
from sestet.services.messages import Messages, Thoughts
from sestet.services.models import Models
from sestet.turn.seals import Seals
from sestet.turn.thoughts import ThoughtPolicy
from tests.contract.scenes import MODEL, WEATHER


def test_the_document_is_valid(client: httpx2.Client) -> None:
    answer = client.get("/openapi.json")

    assert "application/json" == answer.headers["content-type"]
    assert [] == list(OpenAPIV31SpecValidator(answer.json()).iter_errors())


def test_the_document_lists_every_route(client: httpx2.Client) -> None:
    catalog, metrics, lifecycle = Catalog([]), Metrics(), Lifecycle()
    thoughts = Thoughts(Seals([b"thirty-two bytes that are no secret"]), ThoughtPolicy(), redact=False)
    endpoints = Endpoints(
        Messages(catalog, {}, metrics, thoughts, Grammars(str)), Models(catalog, {}), lifecycle, Heart(60)
    )
    table = routes(endpoints, lifecycle, metrics, {})

    paths = sorted(route.path.replace(":path}", "}") for route in table.routes)
    assert paths == sorted(client.get("/openapi.json").json()["paths"])


def test_every_documented_operation_exists_and_no_other(client: httpx2.Client) -> None:
    methods = ["get", "post", "put", "patch", "delete"]
    for path, item in client.get("/openapi.json").json()["paths"].items():
        statuses = {method: client.request(method, path).status_code for method in methods}

        assert (path, [*item]) == (path, [method for method in methods if statuses[method] != 405])


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
