"""Golden transcripts: what goes over the wire, byte by byte, with ids and seals masked. `make update` rewrites them."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.contract.scenes import MODEL, OWN_MODEL, REDACT, SUMS, WEATHER, Scenes

FOLDER = Path(__file__).parent / "golden"
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"

IDS = re.compile(rb"(?:(msg|req)_[0-9a-f]{32}|(toolu)_[0-9a-f]{24})")
SEALS = re.compile(rb'"(signature|data)":"[A-Za-z0-9+/]{64,}={0,2}"')
JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"


def body(text: str = "Hi", **fields: object) -> dict[str, object]:
    return {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": text}], **fields}


THINKING = {"type": "enabled", "budget_tokens": 1024}


def think(text: str = "Hi", **fields: object) -> dict[str, object]:
    return body(text, **{"max_tokens": 2048, "thinking": THINKING, **fields})


def sent_back(block: dict[str, object]) -> dict[str, object]:
    """A request with this block in its history."""
    roles = [("user", "Hi"), ("assistant", [block]), ("user", "Bye")]
    return body(messages=[{"role": role, "content": content} for role, content in roles])


def look(**fields: object) -> dict[str, object]:
    return body("look at the weather", **{"tools": [WEATHER], **fields})


GET_TIME = {"name": "get_time", "input_schema": {"type": "object"}}
PERSON = {
    "type": "json_schema",
    "schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
}
# Another installation's ids and a number that no float holds.
ANSWERED = [
    {"role": "user", "content": "begin the sums"},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_01A", "name": "add", "input": {"a": 2, "b": 2**64}}],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "toolu_01A", "content": "the sum is 5", "is_error": False},
            {"type": "text", "text": "Well?"},
        ],
    },
]

VERSION = {"anthropic-version": "2023-06-01"}
MESSAGES = "/v1/messages"
COUNT = {name: value for name, value in body().items() if name != "max_tokens"}
OMITTED = {**THINKING, "display": "omitted"}

# File -> server, path, body (none: GET), status.
CASES: dict[str, tuple[str, str, dict[str, object] | None, int]] = {
    "whole.json": ("url", MESSAGES, body(), 200),
    "stream.sse": ("url", MESSAGES, body(stream=True), 200),
    "many_scripts.json": ("url", MESSAGES, body("many scripts"), 200),
    "many_scripts.sse": ("url", MESSAGES, body("many scripts", stream=True), 200),
    "stop_sequence.json": ("url", MESSAGES, body("stop at a word", stop_sequences=["STOP"]), 200),
    "stop_sequence.sse": ("url", MESSAGES, body("stop at a word", stop_sequences=["STOP"], stream=True), 200),
    "max_tokens.json": ("url", MESSAGES, body("count to five", max_tokens=3), 200),
    "max_tokens.sse": ("url", MESSAGES, body("count to five", max_tokens=3, stream=True), 200),
    "max_tokens_0.json": ("url", MESSAGES, body(max_tokens=0), 200),
    "max_tokens_0_streamed.json": ("url", MESSAGES, body(max_tokens=0, stream=True), 400),
    "empty_reply.json": ("url", MESSAGES, body("say nothing"), 200),
    "empty_reply.sse": ("url", MESSAGES, body("say nothing", stream=True), 200),
    "window_exceeded.json": ("small_window_url", MESSAGES, body(), 200),
    "window_exceeded.sse": ("small_window_url", MESSAGES, body(stream=True), 200),
    "prompt_too_long.json": ("small_window_url", MESSAGES, body("x" * 20), 400),
    "error_before_the_first_byte.json": ("url", MESSAGES, body("fail at once", stream=True), 500),
    "error_mid_stream.sse": ("url", MESSAGES, body("fail half way", stream=True), 200),
    "ping_in_silence.sse": ("url", MESSAGES, body("think it over", stream=True), 200),
    "thinking.json": ("url", MESSAGES, think(), 200),
    "thinking.sse": ("url", MESSAGES, think(stream=True), 200),
    "thinking_omitted.json": ("url", MESSAGES, think(thinking=OMITTED), 200),
    "thinking_omitted.sse": ("url", MESSAGES, think(thinking=OMITTED, stream=True), 200),
    "thinking_redacted.json": ("redacting_url", MESSAGES, think(), 200),
    "thinking_redacted.sse": ("url", MESSAGES, think(f"Hi {REDACT}", stream=True), 200),
    "thinking_adaptive.sse": (
        "url",
        MESSAGES,
        think(model=OWN_MODEL, thinking={"type": "adaptive"}, output_config={"effort": "low"}, stream=True),
        200,
    ),
    "thinking_many_scripts.sse": ("url", MESSAGES, think("many scripts", stream=True), 200),
    "thinking_stop_sequence.sse": (
        "url",
        MESSAGES,
        think("stop at a word", stop_sequences=["STOP"], stream=True),
        200,
    ),
    "thinking_nothing_else.sse": ("url", MESSAGES, think("nothing but a thought", stream=True), 200),
    "thinking_error.sse": ("url", MESSAGES, think("fail in the thought", stream=True), 200),
    "thinking_budget_too_small.json": ("url", MESSAGES, think(thinking={**THINKING, "budget_tokens": 1023}), 400),
    "thinking_budget_too_large.json": ("url", MESSAGES, think(max_tokens=1024), 400),
    "thinking_not_adaptive.json": ("url", MESSAGES, think(thinking={"type": "adaptive"}), 400),
    "thinking_without_it.json": ("url", MESSAGES, think(model="claude-3-5-haiku-latest"), 400),
    "thinking_changed.json": (
        "url",
        MESSAGES,
        sent_back({"type": "thinking", "thinking": "Let me see!", "signature": "U3N0MQ=="}),
        400,
    ),
    "thinking_foreign.json": (
        "url",
        MESSAGES,
        sent_back({"type": "redacted_thinking", "data": "bm90IG91cnM="}),
        200,
    ),
    "tool_call.json": ("url", MESSAGES, look(), 200),
    "tool_call.sse": ("url", MESSAGES, look(stream=True), 200),
    "tool_calls.json": ("url", MESSAGES, body("look twice", tools=[WEATHER]), 200),
    "tool_calls.sse": ("url", MESSAGES, body("look twice", tools=[WEATHER], stream=True), 200),
    "tool_call_after_a_thought.sse": ("url", MESSAGES, look(max_tokens=2048, thinking=THINKING, stream=True), 200),
    "tool_call_empty.sse": ("url", MESSAGES, body("call without a word", tools=[GET_TIME], stream=True), 200),
    "tool_call_large_numbers.json": ("url", MESSAGES, body("large numbers", tools=SUMS), 200),
    "tool_call_large_numbers.sse": ("url", MESSAGES, body("large numbers", tools=SUMS, stream=True), 200),
    "tool_call_cut.json": ("url", MESSAGES, look(max_tokens=8), 200),
    "tool_call_cut.sse": ("url", MESSAGES, look(max_tokens=8, stream=True), 200),
    "tool_call_fails.sse": ("url", MESSAGES, body("fail in the call", tools=SUMS, stream=True), 200),
    "tool_call_breaks.json": ("url", MESSAGES, body("break the call", tools=SUMS), 500),
    "tool_call_breaks.sse": ("url", MESSAGES, body("break the call", tools=SUMS, stream=True), 200),
    "tool_results.sse": ("url", MESSAGES, body(messages=ANSWERED, tools=SUMS, stream=True), 200),
    "tool_results_missing.json": ("url", MESSAGES, body(messages=ANSWERED[:2], tools=SUMS), 400),
    "tool_results_unexpected.json": ("url", MESSAGES, body(messages=[ANSWERED[0], ANSWERED[2]], tools=SUMS), 400),
    "tool_choice_without_tools.json": ("url", MESSAGES, body(tool_choice={"type": "any"}), 400),
    "server_tool.json": (
        "url",
        MESSAGES,
        body(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
        400,
    ),
    "format.json": ("url", MESSAGES, body("who is she", output_config={"format": PERSON}), 200),
    "format.sse": ("url", MESSAGES, body("who is she", output_config={"format": PERSON}, stream=True), 200),
    "format_refused.json": (
        "url",
        MESSAGES,
        body(output_config={"format": {"type": "json_schema", "schema": {"type": "string", "maxLength": 3}}}),
        400,
    ),
    "thread.json": ("url", MESSAGES, body(thread={"type": "create"}), 400),
    "overloaded.json": ("busy_url", MESSAGES, body(), 529),
    "missing_key.json": ("keys_url", MESSAGES, body(), 401),
    "unknown_model.json": ("url", MESSAGES, body(model="claude-3-7-sonet-latest"), 404),
    "unknown_field.json": ("url", MESSAGES, body(max_token=1), 400),
    "unsupported_field.json": ("url", MESSAGES, body(container="container_1"), 400),
    "count.json": ("url", "/v1/messages/count_tokens", COUNT, 200),
    "models.json": ("url", "/v1/models?limit=1000", None, 200),
    "models_page.json": ("url", "/v1/models?limit=2&after_id=claude-sonnet-4-0", None, 200),
    "model.json": ("url", "/v1/models/claude-3-7-sonnet-latest", None, 200),
    "nothing_here.json": ("url", "/v1/nothing", None, 404),
    "wrong_method.json": ("url", MESSAGES, None, 405),
}

Transcripts = dict[str, tuple[int, str, bytes]]


@pytest.fixture(scope="module")
def transcripts(scenes: Scenes) -> Transcripts:
    """Status, content type and masked body of every case; all are asked at once, as silence takes its time."""

    def ask(case: tuple[str, str, dict[str, object] | None, int]) -> tuple[int, str, bytes]:
        server, path, content, _ = case
        url = getattr(scenes, server) + path
        answer = httpx2.get(url, headers=VERSION) if content is None else httpx2.post(url, json=content, timeout=60)
        masked = SEALS.sub(rb'"\1":"masked"', IDS.sub(rb"\1\2_masked", answer.content))
        return answer.status_code, answer.headers["content-type"], masked

    with ThreadPoolExecutor(len(CASES)) as pool:
        return dict(zip(CASES, pool.map(ask, CASES.values()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_bytes_on_the_wire_are_the_golden_ones(transcripts: Transcripts, name: str) -> None:
    status, content_type, transcript = transcripts[name]
    golden = FOLDER / name
    if UPDATE:
        golden.write_bytes(transcript)

    assert (CASES[name][3], JSON if name.endswith(".json") else SSE) == (status, content_type)
    assert golden.read_bytes() == transcript


def test_there_is_no_transcript_without_a_case() -> None:
    assert sorted(CASES) == sorted(file.name for file in FOLDER.iterdir())
