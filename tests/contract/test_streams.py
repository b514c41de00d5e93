"""Streams over real HTTP: their grammar, and that they tell the same as the whole reply."""

import json

import httpx2
import pytest

from tests.contract.errors import REQUEST_ID
from tests.contract.scenes import MANY_SCRIPTS, MODEL, Scenes

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


def told(events: list[dict[str, object]]) -> dict[str, object]:
    """The message that a stream tells, put together as the contract says; every index must be right."""
    message = dict(events[0]["message"])
    texts: list[str] = []
    for event in events[1:]:
        match event["type"]:
            case "content_block_start":
                assert (len(texts), {"type": "text", "text": ""}) == (event["index"], event["content_block"])
                texts.append("")
            case "content_block_delta":
                assert (len(texts) - 1, "text_delta") == (event["index"], event["delta"]["type"])
                assert event["delta"]["text"]
                texts[-1] += event["delta"]["text"]
            case "content_block_stop":
                assert len(texts) - 1 == event["index"]
            case "message_delta":
                message = {**message, **event["delta"], "usage": {**message["usage"], **event["usage"]}}
    return {**message, "content": [{"type": "text", "text": text} for text in texts]}


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
