"""The newest Python SDK in this process: strict and loose, waiting and async, whole and streamed."""

import asyncio
from collections.abc import Callable, Iterator

import anthropic
import httpx2
import pytest

from tests.contract.errors import assert_contract_error
from tests.contract.scenes import MODEL, OWN_MODEL, REDACT, RIGHT_KEY, SNAPSHOT, Scenes, rendered

Ask = dict[str, object]

pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")


def ask(text: str = "Hi", **fields: object) -> Ask:
    return {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": text}], **fields}


def options(url: str, strict: bool, key: str = "any") -> dict[str, object]:
    return {"base_url": url, "api_key": key, "max_retries": 0, "_strict_response_validation": strict}


@pytest.fixture(params=[True, False], ids=["strict", "loose"])
def strict(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def sdk(scenes: Scenes, strict: bool) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(**options(scenes.url, strict)) as client:
        yield client


EVENT_TYPES = [
    "message_start",
    "content_block_start",
    *["content_block_delta"] * 4,
    "content_block_stop",
    "message_delta",
    "message_stop",
]


def test_a_whole_reply(sdk: anthropic.Anthropic) -> None:
    message = sdk.messages.create(**ask(system="Be brief", stop_sequences=["!"], metadata={"user_id": "u"}))

    assert ("message", "assistant", SNAPSHOT) == (message.type, message.role, message.model)
    assert [("text", "Hello, world.")] == [(block.type, block.text) for block in message.content]
    assert ("end_turn", None, None) == (message.stop_reason, message.stop_sequence, message.stop_details)
    assert (0, 0, "standard") == (
        message.usage.cache_creation_input_tokens,
        message.usage.cache_read_input_tokens,
        message.usage.service_tier,
    )
    assert message.id.startswith("msg_")
    assert message._request_id.startswith("req_")


def test_a_raw_stream(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.create(**ask(stream=True)) as stream:
        events = list(stream)

    assert EVENT_TYPES == [event.type for event in events]
    assert ["Hello", ",", " world", "."] == [
        event.delta.text for event in events if event.type == "content_block_delta"
    ]


def test_the_stream_helper_puts_the_same_message_together(sdk: anthropic.Anthropic) -> None:
    whole = sdk.messages.create(**ask())
    with sdk.messages.stream(**ask()) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()

    assert "Hello, world." == text
    assert whole.model_dump(exclude={"id"}) == message.model_dump(exclude={"id"})
    assert stream.response.headers["request-id"] == stream.request_id


def test_the_async_client_does_the_same(scenes: Scenes, strict: bool) -> None:
    async def run() -> tuple[object, ...]:
        async with anthropic.AsyncAnthropic(**options(scenes.url, strict)) as sdk:
            whole = await sdk.messages.create(**ask())
            types = [event.type async for event in await sdk.messages.create(**ask(stream=True))]
            async with sdk.messages.stream(**ask()) as stream:
                text = "".join([piece async for piece in stream.text_stream])
                streamed = await stream.get_final_message()
            count = await sdk.messages.count_tokens(model=MODEL, messages=ask()["messages"])
            ids = [model.id async for model in sdk.models.list(limit=7)]
            model = await sdk.models.retrieve(MODEL)
        return whole, types, text, streamed, count.input_tokens, ids, model.id

    whole, types, text, streamed, count, ids, model_id = asyncio.run(run())

    assert (EVENT_TYPES, "Hello, world.") == (types, text)
    assert whole.model_dump(exclude={"id"}) == streamed.model_dump(exclude={"id"})
    assert len(rendered(("user", "Hi"))) == count == whole.usage.input_tokens
    assert (20, 20, SNAPSHOT) == (len(ids), len(set(ids)), model_id)


def test_the_count_is_what_the_reply_uses(sdk: anthropic.Anthropic) -> None:
    prompt = {"system": "Be brief", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi 你好"}]}]}
    counted = sdk.messages.count_tokens(model=MODEL, **prompt)
    reply = sdk.messages.create(model=MODEL, max_tokens=1, **prompt)

    assert len(rendered(("system", "Be brief"), ("user", "Hi 你好"))) == counted.input_tokens
    assert counted.input_tokens == reply.usage.input_tokens
    assert counted._request_id.startswith("req_")


def test_models_are_paged_through_in_both_directions(sdk: anthropic.Anthropic) -> None:
    all_at_once = sdk.models.list(limit=1000)
    ids = [model.id for model in all_at_once.data]
    backwards = sdk.models.list(limit=2, before_id=ids[5])

    assert (False, ids[0], ids[-1]) == (all_at_once.has_more, all_at_once.first_id, all_at_once.last_id)
    for limit in (1, 3, 19, 20):
        assert ids == [model.id for model in sdk.models.list(limit=limit)]
    assert [ids[3], ids[4], ids[1], ids[2], ids[0]] == [model.id for model in backwards]


def test_a_model_is_found_by_each_of_its_names(sdk: anthropic.Anthropic) -> None:
    for name in (SNAPSHOT, MODEL, "claude-3-7-sonnet@20250219", "anthropic.claude-3-7-sonnet-20250219-v1:0"):
        model = sdk.models.retrieve(name)

        assert (SNAPSHOT, "active", "sonnet") == (model.id, model.lifecycle, model.line)
        assert "Claude Sonnet 3.7 (stand-in: Scripted engine)" == model.display_name
        assert ["structured_outputs", "thinking"] == [
            name for name, capability in model.capabilities if capability.supported
        ]
        assert model._request_id.startswith("req_")


def test_raw_responses_show_the_headers(sdk: anthropic.Anthropic) -> None:
    raw = sdk.messages.with_raw_response.create(**ask())

    assert ("application/json", OWN_MODEL) == (raw.headers["content-type"], raw.headers["sestet-served-by"])
    assert (raw.headers["request-id"], SNAPSHOT) == (raw.parse()._request_id, raw.parse().model)


def test_a_streaming_response_shows_the_headers_before_its_text(sdk: anthropic.Anthropic) -> None:
    with sdk.messages.with_streaming_response.create(**ask(stream=True)) as raw:
        headers = raw.headers
        types = [event.type for event in raw.parse()]

    assert ("text/event-stream; charset=utf-8", OWN_MODEL) == (headers["content-type"], headers["sestet-served-by"])
    assert EVENT_TYPES == types


Fail = Callable[[Scenes, bool], object]


def create(url: str, strict: bool, key: str = "any", **fields: object) -> object:
    with anthropic.Anthropic(**options(url, strict, key)) as client:
        return client.messages.create(**ask(**fields))


FAILURES: dict[str, tuple[type[anthropic.APIStatusError], int, str, str | None, Fail]] = {
    "bad request": (
        anthropic.BadRequestError,
        400,
        "invalid_request_error",
        "max_tokens",
        lambda scenes, strict: create(scenes.url, strict, max_tokens=-1),
    ),
    "sampling under the new version": (
        anthropic.BadRequestError,
        400,
        "invalid_request_error",
        "temperature",
        lambda scenes, strict: create(scenes.url, strict, extra_body={"temperature": 0.5}),
    ),
    "tools": (
        anthropic.BadRequestError,
        400,
        "invalid_request_error",
        "tools.0.input_schema.type",
        lambda scenes, strict: create(scenes.url, strict, tools=[{"name": "look", "input_schema": {"type": "array"}}]),
    ),
    "wrong key": (
        anthropic.AuthenticationError,
        401,
        "authentication_error",
        None,
        lambda scenes, strict: create(scenes.keys_url, strict, "sk-wrong"),
    ),
    "unknown model": (
        anthropic.NotFoundError,
        404,
        "not_found_error",
        "model",
        lambda scenes, strict: create(scenes.url, strict, model="claude-9"),
    ),
    "too large": (
        anthropic.ContentTooLargeError,
        413,
        "request_too_large",
        None,
        lambda scenes, strict: create(scenes.url, strict, text="x" * 32 * 1024 * 1024),
    ),
    "failing engine": (
        anthropic.InternalServerError,
        500,
        "api_error",
        None,
        lambda scenes, strict: create(scenes.url, strict, text="fail at once", stream=True),
    ),
    "full server": (
        anthropic.OverloadedError,
        529,
        "overloaded_error",
        None,
        lambda scenes, strict: create(scenes.busy_url, strict),
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_each_failure_is_raised_as_its_own_class(scenes: Scenes, strict: bool, case: str) -> None:
    kind_of_error, status, kind, path, fail = FAILURES[case]
    with pytest.raises(anthropic.APIStatusError) as caught:
        fail(scenes, strict)

    assert kind_of_error is type(caught.value)
    assert_contract_error(caught.value.response, status, kind, path)
    assert (kind, caught.value.body["request_id"]) == (caught.value.type, caught.value.request_id)


def test_the_async_client_raises_the_same(scenes: Scenes, strict: bool) -> None:
    async def run() -> list[type[Exception]]:
        async with anthropic.AsyncAnthropic(**options(scenes.url, strict)) as sdk:
            calls = [sdk.messages.create(**ask(max_tokens=-1)), sdk.models.retrieve("claude-9")]
            return [type(outcome) for outcome in await asyncio.gather(*calls, return_exceptions=True)]

    assert [anthropic.BadRequestError, anthropic.NotFoundError] == asyncio.run(run())


def test_a_failure_half_way_is_raised_after_the_text(sdk: anthropic.Anthropic) -> None:
    heard: list[str] = []
    with sdk.messages.stream(**ask("fail half way")) as stream, pytest.raises(anthropic.APIStatusError) as caught:
        heard.extend(stream.text_stream)

    assert ["Half", " of it"] == heard
    assert (200, "api_error") == (caught.value.status_code, caught.value.type)
    assert stream.response.headers["request-id"] == caught.value.body["request_id"]


def test_the_sdk_tries_again_after_an_overload(scenes: Scenes) -> None:
    attempts: list[str] = []

    def note(request: httpx2.Request) -> None:
        attempts.append(request.headers["x-stainless-retry-count"])

    with httpx2.Client(event_hooks={"request": [note]}) as http:
        client = anthropic.Anthropic(base_url=scenes.busy_url, api_key="any", max_retries=1, http_client=http)
        with pytest.raises(anthropic.OverloadedError):
            client.messages.create(**ask())

    assert ["0", "1"] == attempts


def test_an_auth_token_is_a_key_too(scenes: Scenes) -> None:
    with anthropic.Anthropic(base_url=scenes.keys_url, auth_token=RIGHT_KEY, max_retries=0) as client:
        assert "Hello, world." == client.messages.create(**ask()).content[0].text


ENABLED = {"type": "enabled", "budget_tokens": 1024}
THOUGHT_EVENTS = [*["thinking"] * 4, "signature", "content_block_stop", *["text"] * 4, "content_block_stop"]


def think(text: str = "Hi", **fields: object) -> Ask:
    return ask(text, **{"max_tokens": 2048, "thinking": ENABLED, **fields})


def unsealed(message: anthropic.types.Message) -> dict[str, object]:
    """Without what differs from one reply to the next."""
    return message.model_dump(exclude={"id": True, "content": {"__all__": {"signature", "data"}}})


@pytest.mark.parametrize("display", [None, "summarized", "omitted"])
def test_the_stream_helper_puts_thought_and_answer_together(sdk: anthropic.Anthropic, display: str | None) -> None:
    asked = think(thinking={**ENABLED, "display": display})
    whole = sdk.messages.create(**asked)
    with sdk.messages.stream(**asked) as stream:
        events = [event for event in stream if event.type in THOUGHT_EVENTS]
        message = stream.get_final_message()

    shown = ["thinking"] * 4 if display != "omitted" else []
    thought = "Let me see." if shown else ""
    assert [*shown, *THOUGHT_EVENTS[4:]] == [event.type for event in events]
    assert ["thinking", "text"] == [type(block).__name__.removesuffix("Block").lower() for block in whole.content]
    assert (thought, message.content[0].signature) == (message.content[0].thinking, events[len(shown)].signature)
    assert [thought[: len(text)] for text in ("Let", "Let me", "Let me see", "Let me see.")][: len(shown)] == [
        event.snapshot for event in events[: len(shown)]
    ]
    assert unsealed(whole) == unsealed(message)
    assert (9, 5) == (whole.usage.output_tokens, whole.usage.output_tokens_details.thinking_tokens)


def test_a_redacted_thought_has_a_type_of_its_own(sdk: anthropic.Anthropic) -> None:
    asked = think(f"Hi {REDACT}")
    whole = sdk.messages.create(**asked)
    with sdk.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()

    assert [anthropic.types.RedactedThinkingBlock, anthropic.types.TextBlock] == [
        type(block) for block in whole.content
    ]
    assert ("Hello, world.", unsealed(whole)) == (text, unsealed(message))


def test_the_async_client_replays_what_it_was_told(scenes: Scenes, strict: bool) -> None:
    async def run() -> list[tuple[list[str], int, int]]:
        turns = []
        async with anthropic.AsyncAnthropic(**options(scenes.url, strict)) as sdk:
            messages: list[object] = []
            for text, form in (("A", ENABLED), (f"B {REDACT}", ENABLED), ("C", {"type": "disabled"}), ("D", ENABLED)):
                messages.append({"role": "user", "content": text})
                asked = {"model": MODEL, "messages": messages, "thinking": form}
                counted = await sdk.messages.count_tokens(**asked)
                async with sdk.messages.stream(**asked, max_tokens=2048) as stream:
                    reply = await stream.get_final_message()
                assert "sestet-dropped-thinking-blocks" not in stream.response.headers
                messages.append({"role": "assistant", "content": reply.content})
                kinds = [block.type for block in reply.content]
                turns.append((kinds, counted.input_tokens, reply.usage.input_tokens))
        return turns

    told = [("user", "A"), ("assistant", "Hello, world."), ("user", f"B {REDACT}"), ("assistant", "Hello, world.")]
    told += [("user", "C"), ("assistant", "Hello, world."), ("user", "D")]
    kinds = [["thinking", "text"], ["redacted_thinking", "text"], ["text"], ["redacted_thinking", "text"]]
    sizes = [len(rendered(*told[: 2 * n + 1], thinking=len(kinds[n]) > 1)) for n in range(4)]
    assert [(kind, size, size) for kind, size in zip(kinds, sizes, strict=True)] == asyncio.run(run())


def test_beta_messages_think_as_long_as_their_betas_let_them(sdk: anthropic.Anthropic) -> None:
    long = {"thinking": {**ENABLED, "budget_tokens": 127_999}, "max_tokens": 128_000}
    with sdk.beta.messages.stream(**think(**long), betas=["output-128k-2025-02-19"]) as stream:
        message = stream.get_final_message()
    interleaved = sdk.beta.messages.create(**think(max_tokens=1024), betas=["interleaved-thinking-2025-05-14"])

    assert ["thinking", "text"] == [block.type for block in message.content]
    assert ["thinking", "text"] == [block.type for block in interleaved.content]
    with pytest.raises(anthropic.BadRequestError) as caught:
        sdk.beta.messages.stream(**think(**long)).__enter__()
    assert_contract_error(caught.value.response, 400, "invalid_request_error", "max_tokens")


def test_beta_messages_are_messages(sdk: anthropic.Anthropic) -> None:
    betas = ["output-128k-2025-02-19", "never-heard-of-2030-01-01"]
    message = sdk.beta.messages.create(**ask(), betas=betas)
    counted = sdk.beta.messages.count_tokens(model=MODEL, messages=ask()["messages"])

    assert ("Hello, world.", counted.input_tokens) == (message.content[0].text, message.usage.input_tokens)
