"""The OpenAPI document: valid, and of the routes that there are."""

import httpx2
from openapi_spec_validator import OpenAPIV31SpecValidator

from sestet.catalog.catalog import Catalog
from sestet.server.app import routes
from sestet.server.exchange import Heart
from sestet.server.lifecycle import Lifecycle
from sestet.server.metrics import Metrics
from sestet.server.routes import Endpoints
from sestet.services.messages import Messages, Thoughts
from sestet.services.models import Models
from sestet.turn.seals import Seals
from sestet.turn.thoughts import ThoughtPolicy


def test_the_document_is_valid(client: httpx2.Client) -> None:
    answer = client.get("/openapi.json")

    assert "application/json" == answer.headers["content-type"]
    assert [] == list(OpenAPIV31SpecValidator(answer.json()).iter_errors())


def test_the_document_lists_every_route(client: httpx2.Client) -> None:
    catalog, metrics, lifecycle = Catalog([]), Metrics(), Lifecycle()
    thoughts = Thoughts(Seals([b"thirty-two bytes that are no secret"]), ThoughtPolicy(), redact=False)
    endpoints = Endpoints(Messages(catalog, {}, metrics, thoughts), Models(catalog, {}), lifecycle, Heart(60))
    table = routes(endpoints, lifecycle, metrics, {})

    paths = sorted(route.path.replace(":path}", "}") for route in table.routes)
    assert paths == sorted(client.get("/openapi.json").json()["paths"])


def test_every_documented_operation_exists_and_no_other(client: httpx2.Client) -> None:
    methods = ["get", "post", "put", "patch", "delete"]
    for path, item in client.get("/openapi.json").json()["paths"].items():
        statuses = {method: client.request(method, path).status_code for method in methods}

        assert (path, [*item]) == (path, [method for method in methods if statuses[method] != 405])


def test_the_document_asks_for_keys_where_the_server_does(client: httpx2.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    public = [path for path, item in paths.items() for operation in item.values() if operation.get("security") == []]

    assert ["/", "/healthz", "/openapi.json", "/readyz"] == sorted(public)
