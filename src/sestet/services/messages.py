"""One turn, end to end: validate, render, count, look up, admit, generate, assemble, settle. Read this file first."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Final

from sestet.cache.prefixes import prefixes
from sestet.catalog.card import Card
from sestet.catalog.catalog import Catalog, Route
from sestet.contract.caching import CacheMiss
from sestet.contract.deltas import Delta, Generation
from sestet.contract.errors import ApiError, ErrorKind
from sestet.contract.events import Event, StopReason, Usage
from sestet.contract.limits import LimitState
from sestet.contract.requests import CountTokensRequest, Diagnostics, MessagesRequest, PromptRequest
from sestet.contract.tools import ToolSyntax
from sestet.contract.versions import ApiVersion
from sestet.gate.keys import Caller
from sestet.ledger.entry import Ending, Kept, Opening, Settlement
from sestet.services.caching import Lookup
from sestet.services.caching import Owner as CacheOwner
from sestet.services.calls import with_calls, with_value, within
from sestet.services.concurrency import Concurrency
from sestet.services.diagnostics import Fingerprint, Fingerprints
from sestet.services.grammars import Grammars
from sestet.services.ports import Books, Slot
from sestet.services.quotas import Permit, Quotas
from sestet.services.served import Served
from sestet.services.thinking import think
from sestet.turn import grammar
from sestet.turn.assemble import Assembler, Shown
from sestet.turn.fold import Message, fold
from sestet.turn.render import Rendered, fit, refuse_hopeless, refuse_many_blocks, render
from sestet.turn.seals import Owner, Seals
from sestet.turn.thinking import budget_within
from sestet.turn.thoughts import ThoughtChecker, ThoughtPolicy
from sestet.turn.tools import CallSplitter, ToolPlan
from sestet.turn.validate import ValidPrompt, validate, validate_prompt

_NOTHING: Final = Usage(0)
_MANY_PARTS = 1_000
_LARGE_PROMPT_CHARACTERS = 256 * 1024  # rendered in a thread, so that other replies go on meanwhile


@dataclass(slots=True)
class Keep:
    """The whole answer is kept with its bill, as its dialect encodes it, for whoever asks again with this key.
    `handed_in`: it is on its way to the ledger, whatever becomes of the request."""

    key: str
    encode: Callable[[Message], bytes]
    handed_in: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """What a request carries beside its body."""

    request_id: str
    message_id: str
    caller: Caller
    version: ApiVersion
    betas: Set[str]
    new_call_id: Callable[[], str]
    dialect: str = "anthropic"
    keep: Keep | None = None
    is_large: bool = False  # so many bytes that other replies should go on while it is looked at

    @property
    def workspace(self) -> str:
        assert self.caller.workspace is not None, "a key for inference belongs to a workspace"
        return self.caller.workspace


@dataclass(frozen=True, slots=True)
class Reply:
    """A request that passed every check that comes before the first byte. `events` may be iterated once.

    `dropped_thoughts` is how many thinking blocks of the request were not ours and therefore left out, `dropped_line`
    whether the first line of its system prompt was, because it changes with every request; `limits` is how the limits
    stood when it was let in.
    """

    route: Route
    input_tokens: int
    dropped_thoughts: int
    dropped_line: bool
    limits: Sequence[LimitState]
    events: AsyncGenerator[Event, None]


# In a prompt it asks for the thought to come redacted, so that clients can be tested with one.
REDACT_ON_DEMAND: Final = (
    "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING_46C9A13E193C177646C7398A98432ECCCE4C1253D5E2D82641AC0E52CC2876CB"
)


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What an installation does with thoughts: the seals that prove them, what happens to those that come back wrong,
    and whether clients see any (`redact`)."""

    seals: Seals
    policy: ThoughtPolicy
    redact: bool


Generate = Callable[[Slot], AsyncGenerator[Delta, None]]


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt in tokens; `lengths` are those of its segments."""

    rendered: Rendered
    lengths: Sequence[int]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, rendered: Rendered, tokens: Sequence[tuple[int, ...]]) -> "_Prompt":
        """`tokens` are those of each piece."""
        rest = iter(tokens)
        lengths = [sum(map(len, islice(rest, len(segment)))) for segment in rendered.segments]
        return cls(rendered, lengths, tuple(chain.from_iterable(tokens)))


@dataclass(frozen=True, slots=True)
class Accounts:
    """What requests may use, what they are written down in, and the wall clock in microseconds since 1970."""

    quotas: Quotas
    concurrency: Concurrency
    books: Books
    now_us: Callable[[], int]


@dataclass(frozen=True, slots=True)
class _Run:
    """A request that was let in, and what its answer is made with."""

    call: Call
    served: Served
    permit: Permit
    opening: Opening
    prompt: tuple[int, ...]
    lookup: Lookup | None
    cache_miss: CacheMiss | None
    generate: Generate
    assembler: Assembler

    async def keep(self, slot: Slot) -> None:
        """Reads what the cache is to keep of the prompt, and keeps it."""
        if self.lookup is not None:
            await self.lookup.write(slot, self.prompt)


class Messages:
    def __init__(
        self, catalog: Catalog, served: Mapping[str, Served], accounts: Accounts, thoughts: Thoughts, grammars: Grammars
    ) -> None:
        self._catalog = catalog
        self._served = served
        self._accounts = accounts
        self._thoughts = thoughts
        self._grammars = grammars
        self._fingerprints = Fingerprints()

    async def reply(self, request: MessagesRequest, call: Call) -> Reply:
        """Refuses what can be refused (`ApiError`), then hands out the stream; nothing runs until it is read."""
        route, served = self._find(request.model, call)
        self._accounts.books.check()
        self._accounts.quotas.check(call.workspace, route.card)
        owner = Owner(route.card.id, call.workspace)
        checker = self._checker(owner)
        window = served.window(route.card, call.betas)
        refuse_many_blocks(request, window)
        rules = served.rules(route.card, call.betas)
        look = partial(validate, request, rules, call.version, checker)
        valid = await asyncio.to_thread(look) if call.is_large or _is_long(request) else look()
        thinking = valid.thinking
        if thinking is not None:
            window -= len(served.thinker.closing)  # a thought may have to be closed for the model
        reply_grammar = await self._grammar(valid.prompt, served)
        refuse_hopeless(valid.prompt, window, served.engine.weights.token_characters_max)
        prompt = await self._tokens(valid.prompt, served)
        lookup = self._lookup(prompt, valid.prompt, call, route.card, served)
        room = fit(len(prompt.tokens), window, valid.max_tokens)
        length_reason: StopReason = "max_tokens" if room == valid.max_tokens else "model_context_window_exceeded"
        job = Generation(
            call.request_id,
            prompt.tokens,
            room,
            valid.sampling,
            served.thinker.forbidden,
            shown=served.style.tools.shown if reply_grammar is not None else (),
            grammar=reply_grammar,
        )
        shown: Shown = "summarized"
        generate: Generate = partial(_generate, job)
        if thinking is not None:
            shown = "redacted" if self._redacts(valid.prompt) else thinking.display
            budget = budget_within(room, valid.max_tokens, thinking.budget)
            generate = partial(_think, served, job, budget)
        if reply_grammar is not None and served.engine.enforces_grammars and not served.control_tokens:
            generate = partial(self._generate_within, generate, reply_grammar)
        if valid.prompt.callable_plan is not None:
            generate = partial(
                _generate_with_calls, generate, valid.prompt, valid.prompt.callable_plan, served.style.tools
            )
        if valid.prompt.schema is not None:
            generate = partial(_generate_value, generate)
        seal = self._thoughts.seals.sign if shown == "summarized" else self._thoughts.seals.enclose
        usage = Usage(len(prompt.tokens)) if lookup is None else lookup.usage
        assembler = Assembler(
            usage,
            valid.stop_sequences,
            length_reason,
            shown,
            partial(seal, owner, call.message_id),
            call.new_call_id,
        )
        wants_priority = request.service_tier != "standard_only"
        counted = len(prompt.tokens) - usage.cache_read_input_tokens  # what is read from the cache is free
        permit = await self._accounts.quotas.admit(call.workspace, route.card, counted, priority=wants_priority)
        opening = self._opening(call, request, route, permit, usage)
        cache_miss = self._diagnose(request.diagnostics, call, route.card, valid.prompt, prompt)
        run = _Run(call, served, permit, opening, prompt.tokens, lookup, cache_miss, generate, assembler)
        return Reply(
            route, len(prompt.tokens), checker.dropped, valid.prompt.without_line, permit.limits, self._events(run)
        )

    async def count_tokens(self, request: CountTokensRequest, call: Call) -> int:
        """What `input_tokens` of the same request would be: the same checks, the same renderer."""
        route, served = self._find(request.model, call)
        checker = self._checker(Owner(route.card.id, call.workspace))
        look = partial(validate_prompt, request, served.rules(route.card, call.betas), checker)
        prompt = await asyncio.to_thread(look) if call.is_large or _is_long(request) else look()
        await self._grammar(prompt, served)
        return len((await self._tokens(prompt, served)).tokens)

    async def _events(self, run: _Run) -> AsyncGenerator[Event, None]:
        call, served, assembler = run.call, run.served, run.assembler
        started = time.monotonic()
        admitted: float | None = None
        first_token_s: float | None = None
        ending: Ending = "abandoned"
        error_kind: ErrorKind | None = None
        said: list[Event] = []  # all of it, if it is to be kept
        last: list[Event] = []
        kept: Kept | None = None
        # What never ran has used nothing.
        account = self._accounts.books.open(run.opening, lambda: assembler.usage if admitted else _NOTHING)
        try:
            with self._accounts.concurrency.of(call.workspace, run.permit.concurrency):
                async with served.admission.slot(call.workspace, run.permit.tier), _place(run) as slot:
                    admitted = time.monotonic()
                    if run.opening.stream:
                        await account.begin()  # no byte leaves for a request that a kill could still lose
                    start = assembler.start(call.message_id, run.opening.model, run.permit.tier, run.cache_miss)
                    said.append(start)
                    yield start
                    await run.keep(slot)
                    async with aclosing(run.generate(slot)) as deltas:
                        async for delta in deltas:
                            if first_token_s is None:
                                first_token_s = time.monotonic() - started
                            run.permit.produced(delta.output_tokens)
                            events = assembler.feed(delta)
                            if assembler.finished:
                                last = events
                                break  # the engine is closed before the client reads the end
                            if call.keep is not None:
                                said += events
                            for event in events:
                                yield event
            if not assembler.finished:
                raise ApiError("api_error", "the engine stopped before the reply was finished")
            ending = "finished"
            if call.keep is not None:
                body = call.keep.encode(fold([*said, *last]))
                kept = Kept(call.workspace, call.keep.key, call.request_id, 200, body)
                call.keep.handed_in = True
        except ApiError as error:
            ending, error_kind = "failed", error.kind
            raise
        finally:
            ended = time.monotonic()
            run.permit.ended()
            if admitted is not None:
                served.admission.took(ended - admitted)
            settlement = Settlement(
                opening=run.opening,
                settled_at=self._accounts.now_us(),
                ending=ending,
                usage=assembler.usage if admitted else _NOTHING,
                stop_reason=assembler.stop_reason,
                error=error_kind,
                queue_s=admitted and admitted - started,
                first_token_s=first_token_s,
                duration_s=ended - started,
            )
            settled = account.settle(settlement, kept)
        # Whoever reads the end of a reply has its bill: it is on the disk.
        await settled
        for event in last:
            yield event

    def _opening(self, call: Call, request: MessagesRequest, route: Route, permit: Permit, usage: Usage) -> Opening:
        return Opening(
            request_id=call.request_id,
            started_at=self._accounts.now_us(),
            key_id=call.caller.key_id,
            workspace_id=call.workspace,
            model=route.card.id,
            weights_id=route.weights_id,
            tier=permit.tier,
            dialect=call.dialect,
            stream=request.stream,
            prices=route.card.prices(usage, permit.tier),
            own_prices=self._served[route.weights_id].own_prices,
        )

    async def _tokens(self, prompt: ValidPrompt, served: Served) -> _Prompt:
        is_large = len(prompt.turns) > _MANY_PARTS or (
            sum(turn.characters for turn in prompt.turns) > _LARGE_PROMPT_CHARACTERS
        )
        if is_large:
            rendered = await asyncio.to_thread(render, prompt, served.template, served.style)
            return await asyncio.to_thread(_Prompt.of, rendered, await served.engine.encode(rendered.pieces))
        rendered = render(prompt, served.template, served.style)
        return _Prompt.of(rendered, await served.engine.encode(rendered.pieces))

    def _lookup(self, prompt: _Prompt, valid: ValidPrompt, call: Call, card: Card, served: Served) -> Lookup | None:
        """What the cache has to do with this request; nothing without breakpoints."""
        if served.cache is None or not any(block.lifetime for block in prompt.rendered.blocks):
            return None
        owner = CacheOwner(call.workspace, card.id, card.cache_minimum)
        return served.cache.lookup(owner, prompt.rendered, prompt.lengths, valid.settings)

    def _diagnose(
        self, asked: Diagnostics | None, call: Call, card: Card, valid: ValidPrompt, prompt: _Prompt
    ) -> CacheMiss | None:
        if asked is None:
            return None
        found = prefixes(prompt.rendered, prompt.lengths, valid.settings, b"")
        fingerprint = Fingerprint(call.workspace, card.id, valid.settings, found)
        previous = asked.previous_message_id
        miss = None if previous is None else self._fingerprints.compare(previous, fingerprint)
        self._fingerprints.remember(call.message_id, fingerprint)
        return miss

    def _generate_within(self, generate: Generate, text: str, slot: Slot) -> AsyncGenerator[Delta, None]:
        return within(generate(slot), lambda said, whole: self._grammars.keep(text, said, whole=whole))

    async def _grammar(self, prompt: ValidPrompt, served: Served) -> str | None:
        """What the reply must keep to. Every schema is compiled by itself first, so that a refusal names its path."""
        plan = prompt.callable_plan
        if prompt.schema is not None:
            await self._grammars.checked(grammar.of_schema(prompt.schema), prompt.schema_path)
        if plan is None and prompt.schema is not None:
            return grammar.of_schema(prompt.schema)
        if plan is None:
            return grammar.of_text(served.style.tools, served.control_tokens) if prompt.tools is not None else None
        for tool in plan.callable_tools:
            await self._grammars.checked(grammar.of_input(tool), f"{tool.path}.input_schema")
        return await self._grammars.checked(
            grammar.of_calls(plan, served.style.tools, prompt.schema, served.control_tokens), "tools"
        )

    def _checker(self, owner: Owner) -> ThoughtChecker:
        return ThoughtChecker(self._thoughts.seals, owner, self._thoughts.policy)

    def _redacts(self, prompt: ValidPrompt) -> bool:
        return self._thoughts.redact or any(REDACT_ON_DEMAND in turn.text for turn in prompt.turns)

    def _find(self, model: str, call: Call) -> tuple[Route, Served]:
        route = self._catalog.resolve(model)
        call.caller.require_model(route.card.id)
        return route, self._served[route.weights_id]


@asynccontextmanager
async def _place(run: _Run) -> AsyncIterator[Slot]:
    """A place in the engine, with what the cache has of the prompt. From here on the usage is what is true."""
    lookup = run.lookup
    if lookup is None:
        async with run.served.engine.slot(run.call.workspace, run.prompt) as slot:
            yield slot
        return
    guess = run.assembler.usage
    try:
        async with run.served.engine.slot(run.call.workspace, run.prompt, lookup.hold()) as slot:
            lookup.settle(slot.reused)
            lookup.release()
            run.assembler.read(lookup.usage)
            run.permit.correct(guess.cache_read_input_tokens - lookup.usage.cache_read_input_tokens)
            yield slot
    finally:
        lookup.release()


def _generate(job: Generation, slot: Slot) -> AsyncGenerator[Delta, None]:
    return slot.generate(job)


def _think(served: Served, job: Generation, budget: int, slot: Slot) -> AsyncGenerator[Delta, None]:
    return think(served.engine, slot, served.thinker, job, budget)


def _generate_with_calls(
    generate: Generate, prompt: ValidPrompt, plan: ToolPlan, syntax: ToolSyntax, slot: Slot
) -> AsyncGenerator[Delta, None]:
    return with_calls(generate(slot), CallSplitter(syntax, plan, beside_value=prompt.schema is not None))


def _generate_value(generate: Generate, slot: Slot) -> AsyncGenerator[Delta, None]:
    return with_value(generate(slot))


def _is_long(request: PromptRequest) -> bool:
    """Whether it has so many parts that other replies should go on while they are looked at."""
    return len(request.messages) > _MANY_PARTS or any(
        not isinstance(message.content, str) and len(message.content) > _MANY_PARTS for message in request.messages
    )
