"""The routes of the Anthropic dialect: decode, call the service, encode. Nothing else happens here."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qsl

import structlog
from starlette.types import Receive, Scope, Send

from sestet.contract.errors import ApiError, invalid
from sestet.contract.events import Failed
from sestet.contract.requests import MessagesRequest
from sestet.dialects import anthropic
from sestet.server import ids
from sestet.server.body import read_body
from sestet.server.exchange import ClientGone, Exchange, Heart, SseStream, write_events
from sestet.server.gate import CONTEXT, RequestContext, send_json, unexpected
from sestet.server.lifecycle import Lifecycle
from sestet.server.protocol import ABORT
from sestet.services.idempotency import Idempotency
from sestet.services.messages import Call, Keep, Messages, Reply
from sestet.services.models import Models, PageQuery
from sestet.store.answers import Claim
from sestet.turn.fold import fold

_LARGE_BODY_BYTES = 256 * 1024  # read in a thread, so that other requests are answered meanwhile
# One thread: reading is Python's own work, which more threads would only take from each other, each with a memory of
# its own that it does not give back.
_READER = ThreadPoolExecutor(1, "large-bodies")

_T = TypeVar("_T")
_LIFECYCLES = {"active": "active", "deprecated": "deprecated", "retired": "retired"}


class Endpoints:
    """What the routes share."""

    def __init__(
        self, messages: Messages, models: Models, idempotency: Idempotency, lifecycle: Lifecycle, heart: Heart
    ) -> None:
        self._messages = messages
        self._idempotency = idempotency
        self._models = models
        self._lifecycle = lifecycle
        self._heart = heart

    async def create_message(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/messages"""
        context: RequestContext = scope["state"][CONTEXT]
        self._lifecycle.refuse_if_draining()
        call = _call(context)
        with self._lifecycle.exchange() as exchange:
            body = await read_body(receive, context.headers)
            request = await _decode(anthropic.decode_messages, body)
            key = anthropic.decode_idempotency_key(context.headers)
            if request.stream:
                if key is not None:
                    raise invalid("a stream cannot be answered again; leave the key or `stream` out", "idempotency-key")
                await self._stream(request, call, exchange, scope, receive, send)
            elif key is None:
                await self._whole(request, call, exchange, receive, send)
            else:
                claim = Claim(call.workspace, key, _digest(body, call), call.request_id)
                await self._once(request, call, exchange, receive, send, claim)

    async def count_tokens(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/messages/count_tokens"""
        context: RequestContext = scope["state"][CONTEXT]
        self._lifecycle.refuse_if_draining()
        call = _call(context)
        request = await _decode(anthropic.decode_count_tokens, await read_body(receive, context.headers))
        await send_json(send, anthropic.encode_token_count(await self._messages.count_tokens(request, call)))

    async def list_models(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/models"""
        context: RequestContext = scope["state"][CONTEXT]
        page = self._models.page(_page_query(scope["query_string"]), context.caller)
        await send_json(send, anthropic.encode_models(page.data, page.has_more))

    async def get_model(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/models/{model_id}"""
        name = scope["path"].removeprefix("/v1/models/")  # the router's own match loses a line end
        context: RequestContext = scope["state"][CONTEXT]
        await send_json(send, anthropic.encode_model(self._models.find(name, context.caller)))

    async def _whole(
        self, request: MessagesRequest, call: Call, exchange: Exchange, receive: Receive, send: Send
    ) -> None:
        async with exchange.watching(receive):
            reply = await self._messages.reply(request, call)
            message = fold([event async for event in reply.events])
        await send_json(send, anthropic.encode_message(message), headers=_reply_headers(reply))

    async def _once(
        self, request: MessagesRequest, call: Call, exchange: Exchange, receive: Receive, send: Send, claim: Claim
    ) -> None:
        """As `_whole`, and again for whoever asks again with the same key."""
        async with self._idempotency.claimed(claim, anthropic.encode_message) as found:
            if isinstance(found, Keep):
                await self._whole(request, replace(call, keep=found), exchange, receive, send)
            else:
                await send_json(send, found.body, found.status, [(b"idempotent-replayed", b"true")])

    async def _stream(
        self, request: MessagesRequest, call: Call, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        stream = SseStream(send, _STREAM_HEADERS, anthropic.PING)
        encode = partial(anthropic.encode_event, request_id=call.request_id)
        try:
            async with exchange.watching(receive):
                reply = await self._messages.reply(request, call)
                stream.headers += _reply_headers(reply)
                # What is buffered for a reader that does not read would stay for ever, so it is cut off hard.
                self._heart.add(stream, scope["state"].get(ABORT, _nothing))
                await write_events(stream, reply.events, encode)
        except ApiError as error:
            if not stream.committed:
                raise
            stream.hold(encode(Failed(error)))
        except ClientGone:
            raise
        except Exception:
            if not stream.committed:
                raise
            structlog.get_logger("sestet").exception("unexpected_error", request_id=call.request_id)
            stream.hold(encode(Failed(unexpected())))
        finally:
            self._heart.remove(stream)
        await stream.write(b"", last=True)


_STREAM_HEADERS = (
    (b"content-type", anthropic.STREAM_CONTENT_TYPE),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
)


def _nothing() -> None:
    """Where there is no connection to cut."""


def _call(context: RequestContext) -> Call:
    return Call(
        request_id=context.request_id,
        message_id=ids.message_id(),
        caller=context.caller,
        version=anthropic.decode_version(context.headers),
        betas=anthropic.decode_betas(context.headers),
        new_call_id=ids.tool_use_id,
    )


def _digest(body: bytes, call: Call) -> str:
    """What makes two requests the same: their bytes, and the headers that decide how they are read."""
    told = "\n".join((call.version, *sorted(call.betas), ""))
    return hashlib.sha256(told.encode() + body).hexdigest()


async def _decode(decode: Callable[[bytes], _T], body: bytes) -> _T:
    if len(body) <= _LARGE_BODY_BYTES:
        return decode(body)
    return await asyncio.get_running_loop().run_in_executor(_READER, decode, body)


def _reply_headers(reply: Reply) -> tuple[tuple[bytes, bytes], ...]:
    """A stand-in says what answered; and who sent what is left out of the prompt hears of it: thoughts that are not
    ours, a first line of the system prompt that changes with every request."""
    headers = anthropic.encode_limits(reply.limits, time.time())
    if reply.route.stand_in:
        headers += ((b"sestet-served-by", reply.route.weights_id.encode()),)
    if reply.dropped_thoughts:
        headers += ((b"sestet-dropped-thinking-blocks", b"%d" % reply.dropped_thoughts),)
    if reply.dropped_line:
        headers += ((b"sestet-volatile-system-line", b"dropped"),)
    return headers


def _page_query(query_string: bytes) -> PageQuery:
    """`limit`, `after_id`, `before_id`, `lifecycle[]`; `beta` is what old clients add and means nothing."""
    given: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise invalid("the query has more than 100 parameters") from None
    for name, value in pairs:
        given.setdefault(name, []).append(value)
    unknown = given.keys() - {"limit", "after_id", "before_id", "lifecycle[]", "lifecycle", "beta"}
    if unknown:
        raise invalid("there is no such query parameter", min(unknown)[:80])
    lifecycles = given.get("lifecycle[]", []) + given.get("lifecycle", [])
    if not set(lifecycles) <= _LIFECYCLES.keys():
        raise invalid(f"Input should be one of {', '.join(_LIFECYCLES)}", "lifecycle")
    after_id, before_id = _single(given, "after_id"), _single(given, "before_id")
    if after_id is not None and before_id is not None:
        raise invalid("only one of after_id and before_id may be given", "before_id")
    query = PageQuery(limit=_limit(_single(given, "limit")), after_id=after_id, before_id=before_id)
    if not lifecycles:
        return query
    return PageQuery(query.limit, after_id, before_id, frozenset(_LIFECYCLES[name] for name in lifecycles))  # type: ignore[misc]


def _single(given: Mapping[str, list[str]], name: str) -> str | None:
    values = given.get(name, [])
    if len(values) > 1:
        raise invalid("this may be given once", name)
    return values[0] if values else None


def _limit(value: str | None) -> int:
    if value is None:
        return 20
    if not (value.isascii() and value.isdigit() and len(value) <= 4 and 1 <= int(value) <= 1000):
        raise invalid("Input should be a whole number from 1 to 1000", "limit")
    return int(value)
