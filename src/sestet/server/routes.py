"""The routes of every dialect, and of the models: decode, call the service, encode. Nothing else happens here."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qsl

import structlog
from starlette.types import Receive, Scope, Send

from sestet.contract.errors import ApiError, invalid
from sestet.contract.events import Failed
from sestet.dialects import anthropic, openai
from sestet.dialects.dialect import Asked, AskedCount, Asking, Dialect, Headers, in_words_of
from sestet.server import ids
from sestet.server.body import LARGE_BODY_BYTES, read_body
from sestet.server.dialects import DIALECTS
from sestet.server.exchange import ClientGone, Exchange, Heart, SseStream, write_events
from sestet.server.gate import CONTEXT, RequestContext, send_json, unexpected
from sestet.server.lifecycle import Lifecycle
from sestet.server.protocol import ABORT
from sestet.services.idempotency import Idempotency
from sestet.services.messages import Call, Keep, Messages, Reply
from sestet.services.models import Models, PageQuery
from sestet.store.answers import Claim
from sestet.turn.fold import fold

# One thread: reading is Python's own work, which more threads would only take from each other, each with a memory of
# its own that it does not give back.
_READER = ThreadPoolExecutor(1, "large-bodies")

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

_T = TypeVar("_T")
_PAGE = 20
_EVERY = 2**31 - 1
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

    def spoken(self) -> dict[str, Handler]:
        """Every dialect's routes to the turn: path -> what answers a POST there."""
        handlers: dict[str, Handler] = {}
        for dialect in DIALECTS:
            # Counts first: where a model's name is a part of the path, theirs looks like one more model.
            handlers |= {path: partial(self._count, decode) for path, decode in dialect.counts.items()}
            handlers |= {path: partial(self._reply, decode) for path, decode in dialect.replies.items()}
        return handlers

    async def _reply(
        self, decode: Callable[[Asking, bytes], Asked], scope: Scope, receive: Receive, send: Send
    ) -> None:
        context: RequestContext = scope["state"][CONTEXT]
        self._lifecycle.refuse_if_draining()
        with self._lifecycle.exchange() as exchange:
            body = await read_body(receive, context.headers)
            asking = self._asking(context, scope)
            asked = await _decode(decode, asking, body)
            context.paths = asked.paths
            call = _call(context, asking, asked, body)
            key = _idempotency_key(context.headers)
            answer = _Answer(asked, call, exchange, context, scope, receive, send)
            if asked.request.stream:
                if key is not None:
                    raise invalid("a stream cannot be answered again; leave the key or `stream` out", "idempotency-key")
                await self._stream(answer)
            elif key is None:
                await self._whole(answer)
            else:
                await self._once(answer, Claim(call.workspace, key, _digest(body, call, scope), call.request_id))

    async def _count(
        self, decode: Callable[[Asking, bytes], AskedCount], scope: Scope, receive: Receive, send: Send
    ) -> None:
        context: RequestContext = scope["state"][CONTEXT]
        self._lifecycle.refuse_if_draining()
        asking = self._asking(context, scope)
        body = await read_body(receive, context.headers)
        asked = await _decode(decode, asking, body)
        context.paths = asked.paths
        counted = await self._messages.count_tokens(asked.request, _call(context, asking, asked, body))
        await send_json(send, asked.encode(counted))

    def _asking(self, context: RequestContext, scope: Scope) -> Asking:
        return Asking(
            scope["path"],
            context.headers,
            context.request_id,
            ids.message_id(),
            time.time(),
            partial(self._models.find, caller=context.caller),
        )

    async def list_models(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/models"""
        context: RequestContext = scope["state"][CONTEXT]
        for_both = context.dialect is openai.FOR_BOTH
        # Who does not page has all of them.
        query = _page_query(scope["query_string"], _EVERY if for_both else _PAGE)
        page = self._models.page(query, context.caller)
        encode = openai.encode_models if for_both else anthropic.encode_models
        await send_json(send, encode(page.data, page.has_more))

    async def get_model(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET /v1/models/{model_id}"""
        name = scope["path"].removeprefix("/v1/models/")  # the router's own match loses a line end
        context: RequestContext = scope["state"][CONTEXT]
        encode = openai.encode_model if context.dialect is openai.FOR_BOTH else anthropic.encode_model
        await send_json(send, encode(self._models.find(name, context.caller)))

    async def _whole(self, answer: "_Answer") -> None:
        async with answer.exchange.watching(answer.receive):
            reply = await self._messages.reply(answer.asked.request, answer.call)
            message = fold([event async for event in reply.events])
        headers = _reply_headers(reply, answer.context.dialect)
        await send_json(answer.send, answer.asked.teller.message(message), headers=headers)

    async def _once(self, answer: "_Answer", claim: Claim) -> None:
        """As `_whole`, and again for whoever asks again with the same key."""
        async with self._idempotency.claimed(claim, answer.asked.teller.message) as found:
            if isinstance(found, Keep):
                await self._whole(replace(answer, call=replace(answer.call, keep=found)))
            else:
                await send_json(answer.send, found.body, found.status, [(b"idempotent-replayed", b"true")])

    async def _stream(self, answer: "_Answer") -> None:
        teller = answer.asked.teller
        stream = SseStream(answer.send, ((b"content-type", teller.content_type), *_STREAM_HEADERS), teller.ping)
        try:
            async with answer.exchange.watching(answer.receive):
                reply = await self._messages.reply(answer.asked.request, answer.call)
                stream.headers += _reply_headers(reply, answer.context.dialect)
                # What is buffered for a reader that does not read would stay for ever, so it is cut off hard.
                self._heart.add(stream, answer.scope["state"].get(ABORT, _nothing))
                await write_events(stream, reply.events, teller.event)
        except ApiError as error:
            if not stream.committed:
                raise
            stream.hold(teller.event(Failed(in_words_of(error, answer.asked.paths))))
        except ClientGone:
            raise
        except Exception:
            if not stream.committed:
                raise
            structlog.get_logger("sestet").exception("unexpected_error", request_id=answer.call.request_id)
            stream.hold(teller.event(Failed(unexpected())))
        finally:
            self._heart.remove(stream)
        await stream.write(b"", last=True)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A request for a reply, and all that answering it takes."""

    asked: Asked
    call: Call
    exchange: Exchange
    context: RequestContext
    scope: Scope
    receive: Receive
    send: Send


_STREAM_HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
)


def _nothing() -> None:
    """Where there is no connection to cut."""


def _call(context: RequestContext, asking: Asking, asked: Asked | AskedCount, body: bytes) -> Call:
    return Call(
        request_id=context.request_id,
        message_id=asking.message_id,
        caller=context.caller,
        version=asked.version,
        betas=asked.betas,
        new_call_id=ids.tool_use_id,
        dialect=context.dialect.name,
        is_large=len(body) > LARGE_BODY_BYTES,
    )


def _idempotency_key(headers: Headers) -> str | None:
    """The `Idempotency-Key` of a request that must not be answered twice."""
    values = headers.get(b"idempotency-key", [])
    if len(values) > 1:
        raise invalid("this may be given once", "idempotency-key")
    if not values:
        return None
    if not values[0].isascii():
        raise invalid("it takes printable ASCII characters", "idempotency-key")
    return values[0].decode()


def _digest(body: bytes, call: Call, scope: Scope) -> str:
    """What makes two requests the same: their path and bytes, and the headers that decide how they are read."""
    told = "\n".join((scope["path"], call.version, *sorted(call.betas), ""))
    return hashlib.sha256(told.encode("utf-8", "surrogateescape") + body).hexdigest()


async def _decode(decode: Callable[[Asking, bytes], _T], asking: Asking, body: bytes) -> _T:
    if len(body) <= LARGE_BODY_BYTES:
        return decode(asking, body)
    return await asyncio.get_running_loop().run_in_executor(_READER, decode, asking, body)


def _reply_headers(reply: Reply, dialect: Dialect) -> tuple[tuple[bytes, bytes], ...]:
    """A stand-in says what answered; and who sent what is left out of the prompt hears of it: thoughts that are not
    ours, a first line of the system prompt that changes with every request."""
    headers = dialect.encode_limits(reply.limits, time.time())
    if reply.route.stand_in:
        headers += ((b"sestet-served-by", reply.route.weights_id.encode()),)
    if reply.dropped_thoughts:
        headers += ((b"sestet-dropped-thinking-blocks", b"%d" % reply.dropped_thoughts),)
    if reply.dropped_line:
        headers += ((b"sestet-volatile-system-line", b"dropped"),)
    return headers


def _page_query(query_string: bytes, limit: int) -> PageQuery:
    """`limit` (without it, this many), `after_id`, `before_id`, `lifecycle[]`; `beta` is what old clients add and means
    nothing."""
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
    query = PageQuery(limit=_limit(_single(given, "limit"), limit), after_id=after_id, before_id=before_id)
    if not lifecycles:
        return query
    return PageQuery(query.limit, after_id, before_id, frozenset(_LIFECYCLES[name] for name in lifecycles))  # type: ignore[misc]


def _single(given: Mapping[str, list[str]], name: str) -> str | None:
    values = given.get(name, [])
    if len(values) > 1:
        raise invalid("this may be given once", name)
    return values[0] if values else None


def _limit(value: str | None, otherwise: int) -> int:
    if value is None:
        return otherwise
    if not (value.isascii() and value.isdigit() and len(value) <= 4 and 1 <= int(value) <= 1000):
        raise invalid("Input should be a whole number from 1 to 1000", "limit")
    return int(value)
