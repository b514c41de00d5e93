"""OpenAI's own clients, newest and before 1.0, in Python and TypeScript, and the document's requests, over a server."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.contract.scenes import OWN_MODEL, REDACT, SCRIPT, SNAPSHOT, WEATHER, rendered, scripted_reply, told_of
from tests.faults.wire import gauge, wait_for
from tests.running import RunningServer, start_server

HERE = Path(__file__).parent
OLD_PYTHON = str(HERE.parent.parent / ".venv-old-sdk" / "bin" / "python")
KEY, ADMIN = "sk-openai", "sk-openai-admin"
CONFIG = f'[access]\nkeys = ["{KEY}"]\nadmin_keys = ["{ADMIN}"]\n'
OPUS = "claude-opus-4-1-20250805"
MODEL = "anthropic/claude-3.7-sonnet"
EPHEMERAL = {"type": "ephemeral"}
HANGS = scripted_reply(when="say it and wait", say=["Wait"], then="hang")
PAUSES = scripted_reply(when="a long pause", delay_s=7.5, say=["Well", "."])
OBJECT = scripted_reply(when="an object please", say=['{"a": 1, "b": ', "[true]}"])
RUNNING = "sestet_slots_running"
BEARER = {"authorization": f"Bearer {KEY}"}
TIMEOUT_S = 60.0

TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "To get_weather", "parameters": WEATHER["input_schema"]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With keys, and limits by the minute of one class of models that no test can reach."""
    running = start_server(tmp_path_factory.mktemp("openai"), script=HANGS + PAUSES + OBJECT + SCRIPT, config=CONFIG)
    admin = httpx2.Client(base_url=f"{running.url}/v1/organizations", headers={"x-api-key": ADMIN})
    [entry] = admin.get("/rate_limits", params={"model": OPUS}).json()["data"]
    kinds = ("requests_per_minute", "input_tokens_per_minute_cache_aware", "output_tokens_per_minute")
    limits = [{"type": kind, "value": 6_000_000} for kind in kinds]
    admin.post(f"/rate_limits/{entry['id']}", json={"limits": limits}).raise_for_status()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def silence(server: RunningServer, client: OpenAI) -> Iterator["Future[tuple[str | None, bool]]"]:
    """What comes of a reply that begins late, and whether a comment came before it. It takes its time, so it begins
    before all tests."""

    def listen() -> tuple[str | None, bool]:
        asked = ask("a long pause", stream=True)
        with httpx2.stream("POST", f"{server.url}/v1/chat/completions", json=asked, headers=BEARER, timeout=60) as raw:
            with client.chat.completions.stream(**ask("a long pause")) as stream:
                message = stream.get_final_completion().choices[0].message
            return message.content, raw.read().partition(b'"Well"')[0].count(b"\n: ping\n\n") > 0

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(listen)


@pytest.fixture(scope="module")
def reports(server: RunningServer) -> Iterator[dict[str, dict[str, Any]]]:
    """What the other clients report; they all run at once."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    commands = {
        "python-old": [OLD_PYTHON, str(HERE / "openai_old_cases.py")],
        "typescript": ["node", str(HERE / "typescript" / "openai_cases.mjs"), "openai"],
        "typescript-old": ["node", str(HERE / "typescript" / "openai_cases.mjs"), "openai-old"],
    }
    started = {
        name: subprocess.Popen(
            [*command, f"{server.url}/v1", KEY],
            cwd=HERE / "typescript",
            env=clean,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name, command in commands.items()
    }
    try:
        yield {name: report(name, process) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()


def report(name: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, errors = process.communicate(timeout=TIMEOUT_S)
    if process.returncode:
        raise AssertionError(f"{name} ended with status {process.returncode}:\n{errors.decode()}")
    return json.loads(output)


def ask(text: str, **fields: Any) -> Any:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


HELLO = ["Hello", ",", " world", "."]


def test_a_whole_reply(client: OpenAI) -> None:
    reply = client.chat.completions.create(**ask("Hi", user="u", seed=1))
    choice, usage = reply.choices[0], reply.usage

    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert (SNAPSHOT, "chat.completion", "default") == (reply.model, reply.object, reply.service_tier)
    assert ("Hello, world.", "stop", None) == (choice.message.content, choice.finish_reason, choice.message.tool_calls)
    assert {"reasoning_content": "", "reasoning": ""} == choice.message.model_extra
    prompt = len(rendered(("user", "Hi")))
    assert (prompt, 4, prompt + 4) == (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    assert (0, 0) == (usage.prompt_tokens_details.cached_tokens, usage.completion_tokens_details.reasoning_tokens)
    assert (reply._request_id or "").startswith("req_")


def test_a_stream_chunk_by_chunk(client: OpenAI) -> None:
    asked = ask("Hi", stream=True, stream_options={"include_usage": True})
    *chunks, last = list(client.chat.completions.create(**asked))

    deltas = [chunk.choices[0].delta.model_dump(exclude_unset=True) for chunk in chunks]
    assert [{"role": "assistant"}, *[{"content": word} for word in HELLO], {}] == deltas
    assert [*[None] * 5, "stop"] == [chunk.choices[0].finish_reason for chunk in chunks]
    assert [None] * 6 == [chunk.usage for chunk in chunks]
    assert ([], 4) == (last.choices, last.usage.completion_tokens)
    assert 1 == len({(chunk.id, chunk.created, chunk.model) for chunk in [*chunks, last]})


def test_the_stream_helper_puts_a_thought_and_a_call_together(client: OpenAI) -> None:
    asked = ask("look at the weather", tools=[TOOL], reasoning_effort="low")
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    whole = client.chat.completions.create(**asked).choices[0]

    told = []
    for choice in (streamed, whole):
        message = choice.message.model_dump()
        [one] = message["tool_calls"]
        [detail] = message["reasoning_details"]
        called = one["function"]["name"], one["function"]["arguments"], one["id"][:6]
        told.append((message["content"], message["reasoning_content"], *called, detail["text"], choice.finish_reason))
    right = ("Let me look.", "Where?", "get_weather", '{"city": "Paris"}', "toolu_", "Where?", "tool_calls")
    assert [right, right] == told


@pytest.mark.parametrize(
    ("left_out", "dropped", "kept"),
    [((), None, True), (("reasoning_details",), "1", False), (("reasoning_details", "reasoning_content"), "1", False)],
)
def test_a_thought_goes_back_with_its_signature_or_is_counted(
    client: OpenAI, left_out: tuple[str, ...], dropped: str | None, kept: bool
) -> None:
    asked = ask("look at the weather", tools=[TOOL], reasoning_effort="low")
    with client.chat.completions.stream(**asked) as stream:
        message = stream.get_final_completion().choices[0].message
    sent = {name: value for name, value in message.model_dump().items() if name not in left_out}
    tool = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "5"}
    answer = client.chat.completions.with_raw_response.create(**{**asked, "messages": [*asked["messages"], sent, tool]})
    usage = answer.parse().usage

    said = 'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
    thought = "<think>\nWhere?\n</think>\n\n" if kept else ""
    turns = (told_of(WEATHER), ("user", "look at the weather"), ("assistant", thought + said))
    answered = ("user", "<tool_response>\n5\n</tool_response>")
    assert dropped == answer.headers.get("sestet-dropped-thinking-blocks")
    assert usage is not None
    assert len(rendered(*turns, answered, thinking=True)) == usage.prompt_tokens


def test_a_redacted_thought_goes_back_as_it_came(client: OpenAI) -> None:
    asked = ask(f"Hi {REDACT}", reasoning_effort="low")
    message = client.chat.completions.create(**asked).choices[0].message
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0].message
    again: Any = [*asked["messages"], message.model_dump(), streamed.model_dump(), {"role": "user", "content": "Bye"}]
    answer = client.chat.completions.with_raw_response.create(model=MODEL, messages=again, reasoning_effort="low")

    details = [detail["type"] for one in (message, streamed) for detail in one.model_dump()["reasoning_details"]]
    assert ["reasoning.encrypted"] * 2 == details
    assert (200, None) == (answer.http_response.status_code, answer.headers.get("sestet-dropped-thinking-blocks"))


def test_what_is_cached_is_told_and_is_part_of_the_prompt(client: OpenAI) -> None:
    """Four characters a token elsewhere, one here; the whole system prompt up to the marked part is kept."""
    system: Any = {"role": "system", "content": [{"type": "text", "text": "k" * 2_000, "cache_control": EPHEMERAL}]}
    asked = {"model": MODEL, "messages": [system, {"role": "user", "content": "Hi"}]}
    written, read = (client.chat.completions.create(**asked).usage for _ in range(2))
    *_, streamed = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})

    kept = len("<|im_start|>system\n") + 2_000
    prompt = len(rendered(("system", "k" * 2_000), ("user", "Hi")))
    told = [usage.model_dump() for usage in (written, read, streamed.usage)]
    assert [prompt] * 3 == [usage["prompt_tokens"] for usage in told]
    assert [0, kept, kept] == [usage["prompt_tokens_details"]["cached_tokens"] for usage in told]
    assert [kept, 0, 0] == [usage["prompt_tokens_details"]["cache_write_tokens"] for usage in told]


def test_calls_that_are_forced_come_once_and_one_by_one_if_asked_for(client: OpenAI) -> None:
    forced: Any = {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}
    both = client.chat.completions.create(**ask("look twice", **forced))
    chunks = list(client.chat.completions.create(**ask("look twice", **forced, stream=True)))

    pieces = [one for chunk in chunks for one in chunk.choices[0].delta.tool_calls or ()]
    told = [
        (
            both.choices[0].message.content,
            [call.function.arguments for call in both.choices[0].message.tool_calls or ()],
        ),
        (
            None,
            ["".join(one.function.arguments for one in pieces if one.index == index) for index in (0, 1)],
        ),
    ]
    assert [(None, ['{"city": "Rome"}', '{"city": "Nîmes"}'])] * 2 == told
    assert [0, 0, 1, 1, 1] == [one.index for one in pieces]
    assert ["get_weather", None, "get_weather", None, None] == [one.function.name for one in pieces]
    assert [True, False, True, False, False] == [one.id is not None for one in pieces]
    assert [None] * len(chunks) == [chunk.choices[0].delta.content for chunk in chunks]


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        ("stop at a word", {"stop": "STOP"}, ("one two ", "stop")),
        ("count to five", {"max_tokens": 3}, ("1 2 3", "length")),
        ("say nothing", {}, ("", "stop")),
    ],
)
def test_why_a_reply_ended_has_openais_word(
    client: OpenAI, text: str, fields: dict[str, Any], said: tuple[str, str]
) -> None:
    whole = client.chat.completions.create(**ask(text, **fields)).choices[0]
    with client.chat.completions.stream(**ask(text, **fields)) as stream:
        events = [event.type for event in stream]
    last = [event for event in events if event != "chunk"]

    assert said == (whole.message.content, whole.finish_reason)
    assert set(last) <= {"content.delta", "content.done"}


class Person(BaseModel):
    name: str
    age: int


def test_a_reply_is_parsed_into_a_type(client: OpenAI) -> None:
    whole = client.chat.completions.parse(**ask("who is she"), response_format=Person)
    with client.chat.completions.stream(**ask("who is she"), response_format=Person) as stream:
        streamed = stream.get_final_completion()

    ada = Person(name="Ada", age=36)
    assert [ada, ada] == [reply.choices[0].message.parsed for reply in (whole, streamed)]


def test_an_object_is_an_object_and_a_loose_schema_is_kept(client: OpenAI) -> None:
    loose = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}
    named = {"type": "json_schema", "json_schema": {"name": "loose", "schema": loose}}
    asked: list[Any] = [{"type": "json_object"}, named]
    replies = [client.chat.completions.create(**ask("an object please"), response_format=one) for one in asked]

    assert ['{"a": 1, "b": [true]}'] * 2 == [reply.choices[0].message.content for reply in replies]


FAILURES: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], int, tuple[str | None, ...]]] = {
    "refused": ({"n": 2}, openai.BadRequestError, 400, ("n", None, "invalid_request_error")),
    "by its path": (
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": ""}]},
        openai.BadRequestError,
        400,
        ("messages.1.content", None, "invalid_request_error"),
    ),
    "later": ({"max_tokens": 64_001}, openai.BadRequestError, 400, ("max_tokens", None, "invalid_request_error")),
    "later, by another name": (
        {"max_completion_tokens": 64_001},
        openai.BadRequestError,
        400,
        ("max_completion_tokens", None, "invalid_request_error"),
    ),
    "forced call beside a thought": (
        {"tools": [TOOL], "tool_choice": "required", "reasoning_effort": "low"},
        openai.BadRequestError,
        400,
        ("tool_choice", None, "invalid_request_error"),
    ),
    "strict tool": (
        {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object"}}}]},
        openai.BadRequestError,
        400,
        ("tools.0.function.parameters.additionalProperties", None, "invalid_request_error"),
    ),
    "schema": (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"not": {}}}}},
            }
        },
        openai.BadRequestError,
        400,
        ("response_format.json_schema.schema.properties.a.not", None, "invalid_request_error"),
    ),
    "unknown model": (
        {"model": "nothing"},
        openai.NotFoundError,
        404,
        ("model", "model_not_found", "invalid_request_error"),
    ),
    "wrong key": (
        {"extra_headers": {"Authorization": "Bearer sk-wrong"}},
        openai.AuthenticationError,
        401,
        (None, "invalid_api_key", "invalid_request_error"),
    ),
    "failed at once": (
        {"messages": [{"role": "user", "content": "fail at once"}], "stream": True},
        openai.InternalServerError,
        500,
        (None, None, "server_error"),
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_known_by_its_class_and_fields(client: OpenAI, name: str) -> None:
    fields, kind, status, told = FAILURES[name]
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{**ask("Hi"), **fields})
    error = caught.value

    assert (kind, status) == (type(error), error.status_code)
    assert told == (error.param, error.code, error.type)
    assert (error.request_id or "").startswith("req_")


def test_a_failure_half_way_is_raised_and_is_no_end(client: OpenAI, server: RunningServer) -> None:
    said: list[tuple[str | None, str | None]] = []

    def listen() -> None:
        for chunk in client.chat.completions.create(**ask("fail half way", stream=True)):
            said.append((chunk.choices[0].delta.content, chunk.choices[0].finish_reason))

    with pytest.raises(openai.APIError, match="the engine failed") as caught:
        listen()
    raw = httpx2.post(
        f"{server.url}/v1/chat/completions",
        json=ask("fail half way", stream=True),
        headers=BEARER,
    ).text

    assert [(None, None), ("Half", None), (" of it", None)] == said
    assert "server_error" == caught.value.type
    error = {"message": "the engine failed", "type": "server_error", "param": None, "code": None}
    assert f"data: {json.dumps({'error': error}, separators=(',', ':'))}" == raw.rstrip().splitlines()[-1]


def test_limits_are_told_in_openais_headers(client: OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(**{**ask("Hi", max_tokens=64), "model": OPUS})
    headers = {name: value for name, value in answer.headers.items() if "ratelimit" in name}

    assert [
        *(f"x-ratelimit-{fact}-requests" for fact in ("limit", "remaining", "reset")),
        *(f"x-ratelimit-{fact}-tokens" for fact in ("limit", "remaining", "reset")),
    ] == list(headers)
    assert ("6000000", "12000000") == (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-limit-tokens"])
    assert "5999999" == headers["x-ratelimit-remaining-requests"]
    assert answer.headers["x-request-id"] == answer.headers["request-id"]
    assert OWN_MODEL == answer.headers["sestet-served-by"]


def test_models_are_listed_and_found(client: OpenAI) -> None:
    listed = client.models.list().data
    found = client.models.retrieve("anthropic/claude-3.7-sonnet")
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nothing")

    assert 20 == len(listed)
    assert (SNAPSHOT, "model", 1739923200, OWN_MODEL) == (found.id, found.object, found.created, found.owned_by)
    assert found in listed
    assert ("model", "model_not_found") == (caught.value.param, caught.value.code)


# What differs between clients is how they name things.
OTHERS: dict[str, dict[str, Any]] = {
    "python-old": {
        "version": "0.28.1",
        "whole": ["chat.completion", SNAPSHOT, "Hello, world.", "stop"],
        "streamed": [None, *HELLO, None],
        "failed half way": [None, "Half", " of it", "APIError"],
        "refused": ["InvalidRequestError", 400, "n", "req_"],
        "unknown model": ["InvalidRequestError", 404, "model", "req_"],
        "wrong key": ["AuthenticationError", 401, None, "req_"],
        "models": [20, SNAPSHOT],
    },
    "typescript": {
        "version": "7.57.0",
        "whole": [SNAPSHOT, "Let me see.", "Hello, world.", "stop", "req_"],
        "streamed": [None, *HELLO, None],
        "failed half way": [None, "Half", " of it", "APIError"],
        "looked": {
            # This client does not add up what it does not know; the details come whole.
            "message": ["?", "Let me look.", "get_weather", '{"city": "Paris"}', "tool_calls"],
            "details": [["reasoning.text", "Where?", "anthropic-claude-v1", 0]],
            "usage": [15, 3],
            "again": "Let me look.",
            "dropped": None,
        },
        "refused": ["BadRequestError", 400, "n", "req_"],
        "unknown model": ["NotFoundError", 404, "model", "req_"],
        "wrong key": ["AuthenticationError", 401, None, "req_"],
        "models": [20, SNAPSHOT],
    },
}
OTHERS["typescript-old"] = {**OTHERS["typescript"], "version": "4.104.0"}


@pytest.mark.parametrize("name", OTHERS)
def test_other_clients_are_told_the_same(reports: dict[str, dict[str, Any]], name: str) -> None:
    assert OTHERS[name] == reports[name]


def document(name: str, server: RunningServer) -> str:
    """The document's own request: nothing but host and key is another."""
    text = (HERE / "documents" / name).read_text("utf-8")
    there = text.replace("https://api.aimlapi.com", server.url)
    return there.replace("<YOUR_AIMLAPI_KEY>", KEY)


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_the_documents_requests_run(server: RunningServer, language: str) -> None:
    if language == "python":
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(document("claude_3_7_chat.py", server), "document", "exec"), {})  # noqa: S102 - its purpose
        told = printed.getvalue()
    else:
        command = ["node", "-e", document("claude_3_7_chat.js", server)]
        told = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=True).stdout.decode()

    reply = json.loads(told)
    message = {"role": "assistant", "content": "Hello, world.", "reasoning_content": ""}
    assert ("chat.completion", SNAPSHOT) == (reply["object"], reply["model"])
    assert message == {name: reply["choices"][0]["message"][name] for name in message}
    assert {"prompt_tokens", "completion_tokens", "total_tokens"} <= reply["usage"].keys()


def test_silence_is_broken_by_comments_that_clients_do_not_see(silence: "Future[tuple[str | None, bool]]") -> None:
    assert ("Well.", True) == silence.result(TIMEOUT_S)


def test_a_client_that_leaves_closes_the_engine(
    server: RunningServer, silence: "Future[tuple[str | None, bool]]"
) -> None:
    silence.result(TIMEOUT_S)
    body = json.dumps(ask("say it and wait", stream=True))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        while b"Wait" not in connection.recv(65536):
            pass

        assert 1.0 == gauge(server, RUNNING, KEY)
    wait_for(server, RUNNING, 0.0, 5.0, KEY)


def test_the_client_is_the_one_that_is_meant() -> None:
    assert "3.54.0" == openai.__version__
    assert sys.version_info >= (3, 11)
