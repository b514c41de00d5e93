"""OpenAI's own clients at /v1/responses: whole, streamed, parsed, with functions and thoughts, refused."""

import asyncio
import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from tests.contract.inside import Inside, InsideRunner
from tests.contract.scenes import (
    KEYS_CONFIG,
    MANY_SCRIPTS,
    MODEL,
    REDACT,
    RIGHT_KEY,
    SCRIPT,
    SNAPSHOT,
    SUMS,
    rendered,
)
from tests.running import RunningServer, start_server

HERE = Path(__file__).parent
HELLO = ["Hello", ",", " world", "."]
SEALED: dict[str, Any] = {"include": ["reasoning.encrypted_content"]}
THINKING: dict[str, Any] = {"reasoning": {"effort": "low"}, **SEALED}
SUMMED: dict[str, Any] = {**SEALED, "reasoning": {"effort": "low", "summary": "auto"}}
FUNCTIONS: list[Any] = [
    {
        "type": "function",
        "name": tool["name"],
        "description": tool["description"],
        "parameters": tool["input_schema"],
        "strict": True,
    }
    for tool in SUMS
]
ANSWERS = {"add": "the sum is 5", "multiply": "the product is 20", "subtract": "the difference is 19"}
CALLS = [["add", {"a": 2, "b": 3}], ["multiply", {"a": 5, "b": 4}], ["subtract", {"a": 20, "b": 1}]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    started = start_server(tmp_path_factory.mktemp("responses"), script=SCRIPT, config=KEYS_CONFIG)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def official(server: RunningServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key=RIGHT_KEY, max_retries=0) as client:
        yield client


def create(client: OpenAI, input_: Any, **fields: Any) -> Response:
    return client.responses.create(model=MODEL, input=input_, **fields)


def kinds(response: Response) -> list[str]:
    return [item.type for item in response.output]


def test_a_whole_response(official: OpenAI) -> None:
    response = create(official, "Hi", instructions="Be brief", metadata={"a": "b"})

    assert ("Hello, world.", SNAPSHOT, "completed", "response") == (
        response.output_text,
        response.model,
        response.status,
        response.object,
    )
    assert (response._request_id or "").startswith("req_")
    assert Response.model_validate_json(response.model_dump_json(by_alias=True), strict=True) == response
    assert response.usage
    assert [len(rendered(("system", "Be brief"), ("user", "Hi"))), 4, 0] == [
        response.usage.input_tokens,
        response.usage.output_tokens,
        response.usage.output_tokens_details.reasoning_tokens,
    ]


def test_a_streamed_response(official: OpenAI) -> None:
    events = list(official.responses.create(model=MODEL, input="Hi", stream=True))

    assert [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * 4,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ] == [event.type for event in events]
    assert HELLO == [event.delta for event in events if event.type == "response.output_text.delta"]


@pytest.mark.parametrize(
    ("fields", "content", "summary"),
    [
        (THINKING, ["Let me see."], []),
        (SUMMED, ["Let me see."], ["Let me see."]),
    ],
)
def test_the_stream_helper_puts_together_what_a_whole_response_says(
    official: OpenAI, fields: dict[str, Any], content: list[str], summary: list[str]
) -> None:
    whole = create(official, "Hi", **fields)
    with official.responses.stream(model=MODEL, input="Hi", **fields) as stream:
        streamed = [event.type for event in stream]
        response = stream.get_final_response()
    thought = response.output[0]

    assert thought.type == "reasoning"
    assert (content, summary) == ([one.text for one in thought.content or ()], [one.text for one in thought.summary])
    assert ["reasoning", "message"] == kinds(response) == kinds(whole)
    assert (whole.output_text, whole.usage) == (response.output_text, response.usage)
    assert len(summary) * 4 == streamed.count("response.reasoning_summary_text.delta")


def test_the_asynchronous_stream_helper(server: RunningServer) -> None:
    async def play() -> tuple[list[str], str]:
        async with (
            AsyncOpenAI(base_url=f"{server.url}/v1", api_key=RIGHT_KEY, max_retries=0) as client,
            client.responses.stream(model=MODEL, input="many scripts") as stream,
        ):
            deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            return deltas, (await stream.get_final_response()).output_text

    deltas, text = asyncio.run(play())

    assert MANY_SCRIPTS == "".join(deltas) == text


class Person(BaseModel):
    name: str
    age: int


def test_parsed_responses(official: OpenAI) -> None:
    ada = Person(name="Ada", age=36)
    parsed = official.responses.parse(model=MODEL, input="who is she", text_format=Person)
    with official.responses.stream(model=MODEL, input="who is she", text_format=Person) as stream:
        streamed = stream.get_final_response()

    assert [ada, ada] == [parsed.output_parsed, streamed.output_parsed]


def test_a_json_object_is_whole(official: OpenAI) -> None:
    response = create(official, "who is she", text={"format": {"type": "json_object"}})

    assert {"name": "Ada", "age": 36} == json.loads(response.output_text)


class Add(BaseModel):
    a: int
    b: int


def test_a_function_of_the_helpers_is_called_with_its_own_type(official: OpenAI) -> None:
    tools: list[Any] = [{"type": "function", **openai.pydantic_function_tool(Add, name="add")["function"]}]
    with official.responses.stream(model=MODEL, input="begin the sums", tools=tools) as stream:
        pieces = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        call = stream.get_final_response().output[0]

    assert call.type == "function_call"
    assert ['{"a": 2, ', '"b": 3}'] == pieces
    assert ("add", {"a": 2, "b": 3}) == (call.name, call.parsed_arguments)


def as_they_are(output: list[Any]) -> list[Any]:
    return output


def dumped(output: list[Any]) -> list[Any]:
    """With all their fields, null ones too."""
    return [item.model_dump() for item in output]


def run(
    client: OpenAI, back: Callable[[list[Any]], list[Any]], **fields: Any
) -> tuple[list[Any], str, set[str | None]]:
    """Answers calls until there are none: the calls, the last word, and how many thoughts were left out each time."""
    items: list[Any] = [{"role": "user", "content": "begin the sums"}]
    calls: list[Any] = []
    dropped = set()
    while True:
        raw = client.responses.with_raw_response.create(model=MODEL, input=items, tools=FUNCTIONS, **fields)
        dropped.add(raw.headers.get("sestet-dropped-thinking-blocks"))
        response = raw.parse()
        asked = [item for item in response.output if item.type == "function_call"]
        if not asked:
            return calls, response.output_text, dropped
        items += back(response.output)
        for call in asked:
            calls.append([call.name, json.loads(call.arguments)])
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": ANSWERS[call.name]})


@pytest.mark.parametrize(
    ("back", "fields", "dropped"),
    [
        (as_they_are, {}, {None}),
        (as_they_are, THINKING, {None}),
        (dumped, THINKING, {None}),
        (as_they_are, {"reasoning": {"effort": "low"}}, {None, "1", "2", "3"}),
    ],
    ids=["plain", "thoughts sent back", "with all fields", "thoughts without what proves them"],
)
def test_a_loop_of_calls(official: OpenAI, back: Any, fields: dict[str, Any], dropped: set[str | None]) -> None:
    assert (CALLS, "It is 19.", dropped) == run(official, back, **fields)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"prompt_cache_breakpoint": {"mode": "explicit"}}, {}),
        ({}, {"prompt_cache_options": {"mode": "implicit"}}),
    ],
)
def test_a_prompt_is_cached_where_that_is_asked_for(
    official: OpenAI, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    part = {"type": "input_text", "text": secrets.token_hex(16).ljust(2000, "x"), **fields}
    spent = [create(official, [{"role": "user", "content": [part]}], **options).usage for _ in range(2)]
    prompt = len(rendered(("user", part["text"])))
    (first, second) = [(one.input_tokens_details, one.input_tokens) for one in spent if one]

    assert (prompt, prompt) == (first[1], second[1])
    assert (0, first[0].cache_write_tokens) == (first[0].cached_tokens, second[0].cached_tokens)
    assert (True, 0) == (first[0].cache_write_tokens > 2000, second[0].cache_write_tokens)


def test_a_prompt_is_not_cached_otherwise(official: OpenAI) -> None:
    (first, second) = (create(official, "x" * 2000).usage for _ in range(2))

    assert first
    assert (0, first) == (first.input_tokens_details.cache_write_tokens, second)


@pytest.mark.parametrize("prompt", ["Hi", f"Hi {REDACT}"])
def test_a_thought_that_was_changed_is_refused_and_one_that_was_not_is_taken(official: OpenAI, prompt: str) -> None:
    first = create(official, prompt, **THINKING)
    thought = first.output[0]
    assert thought.type == "reasoning"
    sealed = thought.encrypted_content or ""
    changed = {**thought.model_dump(), "encrypted_content": f"{sealed[:40]}{'BA'[sealed[40] == 'B']}{sealed[41:]}"}

    def again(item: Any) -> Response:
        items = [{"role": "user", "content": prompt}, item, first.output[1], {"role": "user", "content": "And then?"}]
        return create(official, items, **THINKING)

    assert "completed" == again(thought).status
    with pytest.raises(openai.BadRequestError) as caught:
        again(changed)
    assert "input.1" == caught.value.param


def test_a_response_that_was_cut_is_incomplete(official: OpenAI) -> None:
    response = create(official, "count to five", max_output_tokens=3)
    with official.responses.stream(model=MODEL, input="count to five", max_output_tokens=3) as stream:
        last = list(stream)[-1]

    assert last.type == "response.incomplete"
    assert response.incomplete_details
    assert ("incomplete", "max_output_tokens", "1 2 3", "1 2 3") == (
        response.status,
        response.incomplete_details.reason,
        response.output_text,
        last.response.output_text,
    )


def test_a_stream_that_fails_half_way_ends_with_the_failure(official: OpenAI) -> None:
    with official.responses.stream(model=MODEL, input="fail half way") as stream:
        events = list(stream)
    last = events[-1]

    assert ["Half", " of it"] == [event.delta for event in events if event.type == "response.output_text.delta"]
    assert last.type == "response.failed"
    assert last.response.error
    assert ("failed", "server_error", "Half of it") == (
        last.response.status,
        last.response.error.code,
        last.response.output_text,
    )


def test_the_tokens_of_an_input_are_counted(official: OpenAI) -> None:
    counted = official.responses.input_tokens.count(model=MODEL, input="Hi", instructions="Be brief")
    used = create(official, "Hi", instructions="Be brief").usage

    assert ("response.input_tokens", used and used.input_tokens) == (counted.object, counted.input_tokens)


@pytest.mark.parametrize(
    ("fields", "kind", "status", "param", "code"),
    [
        ({"input": []}, openai.BadRequestError, 400, "input", None),
        ({"store": True}, openai.BadRequestError, 400, "store", None),
        ({"previous_response_id": "resp_1"}, openai.BadRequestError, 400, "previous_response_id", None),
        ({"max_output_tokens": 10**7}, openai.BadRequestError, 400, "max_output_tokens", None),
        ({"model": "nobody"}, openai.NotFoundError, 404, "model", "model_not_found"),
        ({"input": "fail at once"}, openai.InternalServerError, 500, None, None),
    ],
)
def test_what_goes_wrong_is_the_clients_own_exception(
    official: OpenAI, fields: dict[str, Any], kind: type[openai.APIStatusError], status: int, param: str, code: str
) -> None:
    with pytest.raises(kind) as caught:
        official.responses.create(**{"model": MODEL, "input": "Hi", **fields})

    assert (status, param, code) == (caught.value.status_code, caught.value.param, caught.value.code)
    assert (caught.value.request_id or "").startswith("req_")


def test_a_wrong_key_is_told_in_openais_shape(official: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        create(official.with_options(api_key="sk-wrong"), "Hi")

    assert "invalid_api_key" == caught.value.code


def test_a_response_is_answered_again_with_its_key(server: RunningServer) -> None:
    headers = {"authorization": f"Bearer {RIGHT_KEY}", "idempotency-key": "once"}
    body = {"model": MODEL, "input": "Hi"}
    with httpx2.Client(base_url=server.url, headers=headers) as client:
        first, second = (client.post("/v1/responses", json=body) for _ in range(2))

    assert ([None, "true"], first.content) == (
        [answer.headers.get("idempotent-replayed") for answer in (first, second)],
        second.content,
    )


TYPESCRIPT = {"openai": "7.57.0", "openai-old": "4.104.0"}


@pytest.fixture(scope="module")
def reports(server: RunningServer) -> dict[str, dict[str, Any]]:
    started = {
        package: subprocess.Popen(
            ["node", "responses_cases.mjs", package, server.url, RIGHT_KEY],
            cwd=HERE / "typescript",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for package in TYPESCRIPT
    }
    told = {package: process.communicate(timeout=60) for package, process in started.items()}
    failures = [errors.decode() for package, (_, errors) in told.items() if started[package].returncode]
    assert [] == failures
    return {package: json.loads(output) for package, (output, _) in told.items()}


@pytest.mark.parametrize("package", TYPESCRIPT)
def test_the_typescript_clients_are_told_the_same(reports: dict[str, dict[str, Any]], package: str) -> None:
    hi, scripts = len(rendered(("user", "Hi"))), len(rendered(("user", "many scripts"), thinking=True))
    text = {"model": SNAPSHOT, "status": "completed"}
    begin = ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    end = ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    deltas = ["response.output_text.delta"] * 2

    assert {
        "version": TYPESCRIPT[package],
        "whole": {**text, "text": "Hello, world.", "items": ["message"], "tokens": [hi, 4], "request_id": "req_"},
        "types": [*begin, *deltas, *end, "response.incomplete"],
        "helper": {
            **text,
            "text": MANY_SCRIPTS,
            "items": ["reasoning", "message"],
            "tokens": [scripts, 17],
            "deltas": ["né", " 你好", " 🎉👩‍🚀", "\u2028", "\r\n", "\x85", "\x00", '"end"'],
        },
        "loop": {"calls": CALLS, "text": "It is 19."},
        "failed_half_way": [*begin, *deltas, "response.failed"],
        "bad_request": ["BadRequestError", 400, "input.0.content", "req_"],
        "unknown_model": ["NotFoundError", 404, "model", "req_"],
        "wrong_key": ["AuthenticationError", 401, None, "req_"],
    } == reports[package]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    (
        {"instructions": "Be brief", "temperature": 0.5, "max_output_tokens": 7},
        {"system": "Be brief", "temperature": 0.5, "max_tokens": 7},
    ),
    ({"input": TURNS}, {"messages": TURNS}),
    (
        {"reasoning": {"effort": "medium"}, "max_output_tokens": 9000},
        {"thinking": {"type": "enabled", "budget_tokens": 4096}, "max_tokens": 9000},
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    (
        {
            "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
            "parallel_tool_calls": False,
            "tool_choice": "required",
            "input": [
                {"role": "user", "content": "a"},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
                {"type": "function_call_output", "call_id": "c", "output": "d"},
                {"role": "user", "content": "e"},
            ],
        },
        {
            "tools": [{"name": "f", "input_schema": SCHEMA}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "c", "content": "d"},
                        {"type": "text", "text": "e"},
                    ],
                },
            ],
        },
    ),
]


def test_the_engine_is_asked_the_same_as_through_messages(inside: InsideRunner) -> None:
    """But for the request's own id."""

    async def work(app: Inside) -> list[tuple[Any, Any]]:
        asked = []
        for fields, messages_fields in SAME:
            jobs = []
            for path, body in (
                (
                    "/v1/messages",
                    {"max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}], **messages_fields},
                ),
                ("/v1/responses", {"max_output_tokens": 64, "input": "Hi", **fields}),
            ):
                app.engine.records.clear()
                await app.client.post(path, json={"model": MODEL, **body})
                job = app.last.job
                jobs.append((app.prompt, job.max_tokens, job.sampling, job.stop, job.grammar))
            asked.append((jobs[0], jobs[1]))
        return asked

    jobs = inside(work)

    assert [through_messages for through_messages, _ in jobs] == [through_responses for _, through_responses in jobs]
