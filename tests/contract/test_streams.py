"""Streams over real HTTP: their grammar, and that they tell the same as the whole reply."""

import json

import httpx2
import pytest

from tests.contract.errors import REQUEST_ID
from tests.contract.scenes import MANY_SCRIPTS, MODEL, REDACT, Scenes

BEGINNING = ["message_start", "content_block_start"]
END = ["content_block_stop", "message_delta", "message_stop"]


def ask(url: str, text: str, **fields: object) -> dict[str, object]:
    body = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": text}], **fields}
    return httpx2.post(f"{url}/v1/messages", json=body, timeout=60).json()


def stream(url: str, text: str, **fields: object) -> list[dict[str, object]]:
    """The events of a stream, read by an SSE client that nobody here wrote; names and types must agree."""
    body = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": text}], "stream": True, **fields}
    with httpx2.stream("POST", f"{url}/v1/messages", json=body, timeout=60) as response:
        assert (200, ["text/event-stream; charset=utf-8"]) == (
            response.status_code,
            response.headers.get_list("content-type"),
        )
        received = [(event.event, event.json()) for event in httpx2.EventSource(response)]
    assert [name for name, _ in received] == [event["type"] for _, event in received]
    return [event for _, event in received]


BEGINNINGS: dict[str, dict[str, str]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}
EXTENDS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def told(events: list[dict[str, object]]) -> dict[str, object]:
    """The message that a stream tells, put together as the contract says; every index and every place must be right."""
    message = dict(events[0]["message"])
    content: list[dict[str, str]] = []
    is_open = False
    for event in events[1:]:
        match event["type"]:
            case "content_block_start":
                block = event["content_block"]
                assert (is_open, len(content)) == (False, event["index"])
                assert block["type"] == "redacted_thinking" or BEGINNINGS[block["type"]] == block
                content.append(dict(block))
                is_open = True
            case "content_block_delta":
                field = EXTENDS[event["delta"]["type"]]
                assert (is_open, len(content) - 1) == (True, event["index"])
                assert event["delta"][field]
                assert not content[-1].get("signature"), "nothing follows a signature"
                content[-1][field] += event["delta"][field]
            case "content_block_stop":
                assert (is_open, len(content) - 1) == (True, event["index"])
                assert content[-1].get("signature") != "", "a thought ends with its signature"
                is_open = False
            case "message_delta":
                assert not is_open
                message = {**message, **event["delta"], "usage": {**message["usage"], **event["usage"]}}
    return {**message, "content": content}


def unsealed(message: dict[str, object]) -> dict[str, object]:
    """Without what differs from one reply to the next: its id, and the seals of its thoughts, which name it."""
    secret = {"signature": "sealed", "data": "sealed"}
    content = [{key: secret.get(key, value) for key, value in block.items()} for block in message["content"]]
    return {**message, "id": None, "content": content}


@pytest.mark.parametrize(
    ("text", "fields", "deltas"),
    [
        ("Hi", {}, 4),
        ("many scripts", {}, 8),
        ("stop at a word", {"stop_sequences": ["STOP"]}, 2),
        ("count to five", {"max_tokens": 3}, 3),
    ],
)
def test_a_stream_keeps_the_grammar_and_tells_the_whole_reply(
    scenes: Scenes, text: str, fields: dict[str, object], deltas: int
) -> None:
    events = stream(scenes.url, text, **fields)
    whole = ask(scenes.url, text, **fields)

    assert [*BEGINNING, *["content_block_delta"] * deltas, *END] == [event["type"] for event in events]
    assert {**whole, "id": None} == {**told(events), "id": None}
    assert (None, None) == (events[0]["message"]["stop_reason"], events[0]["message"]["stop_sequence"])


THINKING = {"type": "enabled", "budget_tokens": 1024}
OMITTED = {**THINKING, "display": "omitted"}
THOUGHT = ["content_block_start", *["content_block_delta"] * 5, "content_block_stop"]
UNSEEN = ["content_block_start", "content_block_delta", "content_block_stop"]
HIDDEN = ["content_block_start", "content_block_stop"]
HELLO = ["content_block_start", *["content_block_delta"] * 4]


@pytest.mark.parametrize(
    ("text", "fields", "types"),
    [
        ("Hi", {"thinking": THINKING}, [*THOUGHT, *HELLO]),
        ("Hi", {"thinking": OMITTED}, [*UNSEEN, *HELLO]),
        (f"Hi {REDACT}", {"thinking": THINKING}, [*HIDDEN, *HELLO]),
        (f"Hi {REDACT}", {"thinking": OMITTED}, [*HIDDEN, *HELLO]),
        ("stop at a word", {"thinking": OMITTED, "stop_sequences": ["STOP"]}, [*UNSEEN, *HELLO[:3]]),
        ("stop at a word", {"thinking": OMITTED, "stop_sequences": ["one"]}, UNSEEN[:-1]),
        ("nothing but a thought", {"thinking": OMITTED}, UNSEEN[:-1]),
        ("no thought at all", {"thinking": THINKING}, HELLO[:3]),
        ("never stop thinking", {"thinking": OMITTED}, [*UNSEEN, *HELLO[:3]]),
    ],
)
def test_a_stream_with_a_thought_keeps_the_grammar_and_tells_the_whole_reply(
    scenes: Scenes, text: str, fields: dict[str, object], types: list[str]
) -> None:
    events = stream(scenes.url, text, max_tokens=2048, **fields)
    whole = ask(scenes.url, text, max_tokens=2048, **fields)

    assert ["message_start", *types, *END] == [event["type"] for event in events]
    assert unsealed(whole) == unsealed(told(events))


@pytest.mark.parametrize(("text", "fields"), [("say nothing", {}), ("stop at a word", {"stop_sequences": ["one"]})])
def test_a_reply_without_text_has_no_block(scenes: Scenes, text: str, fields: dict[str, object]) -> None:
    events = stream(scenes.url, text, **fields)

    assert ["message_start", "message_delta", "message_stop"] == [event["type"] for event in events]
    assert {**ask(scenes.url, text, **fields), "id": None} == {**told(events), "id": None}


def test_the_window_ends_a_stream_with_its_own_reason(scenes: Scenes) -> None:
    events = stream(scenes.small_window_url, "Hi")

    assert ("model_context_window_exceeded", "abcd" * 12) == (
        told(events)["stop_reason"],
        told(events)["content"][0]["text"],
    )


@pytest.mark.parametrize(("text", "deltas"), [("fail half way", ["Half", " of it"]), ("end without a word", ["Half"])])
def test_a_failure_half_way_never_looks_like_an_end(scenes: Scenes, text: str, deltas: list[str]) -> None:
    events = stream(scenes.url, text)

    types = [event["type"] for event in events]
    assert [*BEGINNING, *["content_block_delta"] * len(deltas), "error"] == types
    assert deltas == [event["delta"]["text"] for event in events[2:-1]]
    assert ["type", "error", "request_id"] == list(events[-1])
    assert "api_error" == events[-1]["error"]["type"]
    assert REQUEST_ID.fullmatch(events[-1]["request_id"])


def test_no_character_of_a_reply_can_cut_a_line(scenes: Scenes) -> None:
    body = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "many scripts"}], "stream": True}
    text = httpx2.post(f"{scenes.url}/v1/messages", json=body).text

    frames = [frame.splitlines() for frame in text.split("\n\n")[:-1]]
    assert [2] * len(frames) == [len(frame) for frame in frames]
    data = [json.loads(line.removeprefix("data: ")) for _, line in frames]
    assert MANY_SCRIPTS == "".join(event["delta"]["text"] for event in data if event["type"] == "content_block_delta")
