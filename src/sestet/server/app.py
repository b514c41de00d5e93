"""The ASGI application: the table of routes, behind the gate."""

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources

from starlette.routing import Route, Router
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from sestet.contract.errors import ApiError
from sestet.gate.directory import Scope
from sestet.server.gate import CONTEXT, RequestContext, send_error, send_json
from sestet.server.lifecycle import Lifecycle
from sestet.server.metrics import CONTENT_TYPE, Metrics
from sestet.server.routes import Endpoints, Handler
from sestet.services.served import Served


class Endpoint:
    """One path: the scope that a key needs for it (None: whoever passed the gate), its methods, and a refusal for the
    others."""

    def __init__(self, path: str, scope: Scope | None, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._scope: Scope | None = scope
        self._handlers = dict(handlers)
        if "GET" in self._handlers:
            self._handlers["HEAD"] = self._handlers["GET"]

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        context: RequestContext = scope["state"][CONTEXT]
        context.route = self._path
        if self._scope is not None:
            context.caller.require(self._scope)
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(sorted(self._handlers))
            message = f"this method is not allowed here; allowed: {allowed}"
            error = ApiError("invalid_request_error", message, status=405)
            await send_error(send, error, context, [(b"allow", allowed.encode())])
            return
        await handler(scope, receive, send)


# Path -> the scope that a key needs for it (None: whoever passed the gate), and a handler for each method.
Rows = Mapping[str, tuple[Scope | None, Mapping[str, Handler]]]


def routes(endpoints: Endpoints, operations: "Operations", more: Rows) -> Router:
    """Every path there is: this table and what other parts bring. What is not in it is a 404."""
    table: Rows = {
        **{path: ("inference", {"POST": handler}) for path, handler in endpoints.spoken().items()},
        "/v1/models": ("inference", {"GET": endpoints.list_models}),
        "/v1/models/{model_id:path}": ("inference", {"GET": endpoints.get_model}),
        "/healthz": (None, {"GET": operations.healthz}),
        "/readyz": (None, {"GET": operations.readyz}),
        "/metrics": ("operations", {"GET": operations.metrics}),
        "/openapi.json": (None, {"GET": operations.openapi}),
        "/": (None, {"GET": operations.page}),
        **more,
    }
    return Router(
        [Route(path, Endpoint(path, scope, handlers)) for path, (scope, handlers) in table.items()],
        redirect_slashes=False,
        default=_not_found,
    )


class Operations:
    """Routes for whoever runs the server, and the page that shows the API, whose `document` is OpenAPI."""

    def __init__(self, lifecycle: Lifecycle, metrics: Metrics, served: Mapping[str, Served], document: bytes) -> None:
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._served = served
        self._openapi = document
        self._page = resources.files("sestet.server").joinpath("page.html").read_bytes()
        self._page_policy = _policy(self._page)

    async def healthz(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """GET /healthz: the process answers."""
        await send_json(send, b'{"status":"alive"}')

    async def readyz(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """GET /readyz: a request sent now would be answered."""
        if self._lifecycle.draining:
            await send_json(send, b'{"status":"draining"}', 503)
        elif not all(one.engine.ready for one in self._served.values()):
            await send_json(send, b'{"status":"engine restarting"}', 503)
        else:
            await send_json(send, b'{"status":"ready"}')

    async def metrics(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """GET /metrics: Prometheus text."""
        await _send_bytes(send, self._metrics.exposition(), CONTENT_TYPE)

    async def openapi(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """GET /openapi.json"""
        await send_json(send, self._openapi)

    async def page(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """GET /: the API, to browse and to try."""
        await _send_bytes(send, self._page, b"text/html; charset=utf-8", self._page_policy)


def _policy(page: bytes) -> bytes:
    """Nothing but the page's own style and script may run, and it may talk to this server alone."""
    hashes = {}
    for tag in (b"style", b"script"):
        inner = page.partition(b"<%b>" % tag)[2].partition(b"</%b>" % tag)[0]
        hashes[tag] = base64.b64encode(hashlib.sha256(inner).digest())
    return (
        b"default-src 'none'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'; "
        b"style-src 'sha256-%b'; script-src 'sha256-%b'" % (hashes[b"style"], hashes[b"script"])
    )


async def _send_bytes(send: Send, body: bytes, content_type: bytes, policy: bytes = b"default-src 'none'") -> None:
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", policy),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _not_found(scope: AsgiScope, receive: Receive, send: Send) -> None:
    raise ApiError("not_found_error", "there is nothing at this path; GET / lists what there is")
