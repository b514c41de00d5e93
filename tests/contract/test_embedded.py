"""The embedded model over real HTTP: facts of the contract, never of its wisdom."""

import httpx2
import pytest

from tests.running import RunningServer

MODEL = "smollm2-135m-instruct"
OLD_VERSION = {"anthropic-version": "2023-06-01"}
REPLACEMENT = "\ufffd"

pytestmark = pytest.mark.engine


def stream(server: RunningServer, prompt: str, **fields: object) -> list[dict[str, object]]:
    body = {"model": MODEL, "max_tokens": 40, "messages": [{"role": "user", "content": prompt}], **fields}
    with httpx2.stream(
        "POST", f"{server.url}/v1/messages", json={**body, "stream": True}, headers=OLD_VERSION, timeout=60
    ) as response:
        assert 200 == response.status_code, response.read()
        return [event.json() for event in httpx2.EventSource(response)]


def text(events: list[dict[str, object]]) -> str:
    return "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")


@pytest.mark.parametrize("model", [MODEL, "claude-3-7-sonnet-latest"])
@pytest.mark.parametrize(
    "prompt",
    [
        {"messages": [{"role": "user", "content": "Why is the sky blue?"}]},
        {
            "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Sois bref."}],
            "messages": [
                {"role": "user", "content": "你好 🎉 <|im_end|> {{ 7 * 7 }}"},
                {"role": "assistant", "content": "Hi"},
                {"role": "user", "content": [{"type": "text", "text": "a\r\n\u2028b"}, {"type": "text", "text": "c"}]},
                {"role": "assistant", "content": "The"},
            ],
        },
    ],
    ids=["short", "long"],
)
def test_every_count_of_input_tokens_is_the_same(embedded_model: RunningServer, model: str, prompt: dict) -> None:
    body = {"model": model, **prompt}
    with httpx2.Client(base_url=embedded_model.url, timeout=60) as client:
        counted = client.post("/v1/messages/count_tokens", json=body).json()["input_tokens"]
        whole = client.post("/v1/messages", json={**body, "max_tokens": 4}).json()
        nothing = client.post("/v1/messages", json={**body, "max_tokens": 0}).json()
    events = stream(embedded_model, "", **body, max_tokens=4)
    start, delta = events[0]["message"]["usage"], events[-2]["usage"]
    messages = [whole["usage"], nothing["usage"], start, delta]

    assert counted > 0
    assert [counted] * 4 == [usage["input_tokens"] for usage in messages]
    assert [0] * 4 == [usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"] for usage in messages]
    assert ([], "max_tokens", 0) == (nothing["content"], nothing["stop_reason"], nothing["usage"]["output_tokens"])


@pytest.mark.parametrize("max_tokens", [1, 2, 7])
def test_max_tokens_is_kept_to_the_token(embedded_model: RunningServer, max_tokens: int) -> None:
    events = stream(embedded_model, "Count to one hundred.", max_tokens=max_tokens, temperature=0)

    assert ("message_delta", "max_tokens", max_tokens) == (
        events[-2]["type"],
        events[-2]["delta"]["stop_reason"],
        events[-2]["usage"]["output_tokens"],
    )


def test_a_stop_sequence_of_its_own_words_ends_it(embedded_model: RunningServer) -> None:
    whole = text(stream(embedded_model, "Why is the sky blue?", temperature=0, max_tokens=20))
    stop = whole[11:17]
    events = stream(embedded_model, "Why is the sky blue?", temperature=0, max_tokens=20, stop_sequences=[stop])

    assert whole[: whole.index(stop)] == text(events)
    assert ("stop_sequence", stop) == (events[-2]["delta"]["stop_reason"], events[-2]["delta"]["stop_sequence"])


def test_an_emoji_is_never_split_wherever_the_reply_is_cut(embedded_model: RunningServer) -> None:
    """With temperature 0 it answers with emoji of three tokens each, so most of these cuts are inside of one."""
    replies = {
        cut: stream(embedded_model, "Write five emoji.", temperature=0, max_tokens=cut) for cut in (24, 1, 2, 3, 4, 5)
    }
    longest = text(replies[24])

    assert not longest.isascii()
    for cut, events in replies.items():
        assert (cut, True, False) == (cut, longest.startswith(text(events)), REPLACEMENT in text(events))
        assert cut == events[-2]["usage"]["output_tokens"]


@pytest.mark.parametrize(
    "prompt", ["Write five emoji.", "把这句话翻译成中文：good morning", "Répète : 🎉🚀🐱 à bientôt"]
)
def test_no_character_is_split_at_any_temperature(embedded_model: RunningServer, prompt: str) -> None:
    for temperature in (0, 1):
        events = stream(embedded_model, prompt, temperature=temperature)

        assert [] == [event for event in events if REPLACEMENT in str(event)]
