"""Server-sent events (target R37): any text survives the frames, for every reader and however the bytes arrive."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import httpx2
import pytest
from anthropic._streaming import SSEDecoder
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sestet.contract.errors import ApiError
from sestet.contract.events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Event,
    Failed,
    MessageDelta,
    MessageStart,
    MessageStop,
    Usage,
)
from sestet.dialects.anthropic import PING, encode_event

# httpx-sse names the old package; the new one offers itself under that name.
httpx2.alias_httpx()

from httpx_sse import EventSource  # noqa: E402

from tests.lengths import length  # noqa: E402

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LINE_ENDS = st.text('\r\n\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\0 :\ufeff\U0001f600a"\\', max_size=30)
TEXTS = st.lists(st.one_of(ANY_TEXT, LINE_ENDS), max_size=6)

Frames = list[tuple[str, str]]
Reader = Callable[[Sequence[bytes]], Frames]


def official(chunks: Sequence[bytes]) -> Frames:
    return [(event.event or "", event.data) for event in SSEDecoder().iter_bytes(iter(chunks))]


def httpx_sse(chunks: Sequence[bytes]) -> Frames:
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    source = EventSource(httpx2.Response(200, headers=headers, content=iter(chunks)))  # type: ignore[arg-type]
    return [(event.event, event.data) for event in source.iter_sse()]


def strict(chunks: Sequence[bytes]) -> Frames:
    """Takes nothing but our own form: two lines and an empty one, and no other line end anywhere."""
    frames: Frames = []
    buffer = b""
    for chunk in chunks:
        buffer += chunk
        while b"\n\n" in buffer:
            frame, _, buffer = buffer.partition(b"\n\n")
            name, data = frame.decode("utf-8", "strict").splitlines()
            assert name.startswith("event: ")
            assert data.startswith("data: {")
            frames.append((name.removeprefix("event: "), data.removeprefix("data: ")))

    assert b"" == buffer
    return frames


def streamed(texts: Sequence[str], stop_sequence: str | None) -> Iterator[Event]:
    yield MessageStart("msg_1", "card", Usage(3))
    yield BlockStart(0, "text")
    for text in texts:
        yield BlockDelta(0, "text", text)
    yield BlockStop(0)
    yield MessageDelta("stop_sequence", stop_sequence, Usage(3, len(texts)))
    yield MessageStop()


def chunked(data: bytes, places: Sequence[int]) -> list[bytes]:
    cuts = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(cuts) if start < end]


readers = pytest.mark.parametrize("reader", [official, httpx_sse, strict])


@readers
@settings(max_examples=length(150, 1000), deadline=None)
@given(texts=TEXTS, stop_sequence=st.one_of(ANY_TEXT, LINE_ENDS), places=st.lists(st.integers(0, 4000), max_size=20))
@example(
    texts=["\r", "\n", "\r\n\r\n", "\u2028", "\x85", "\0", "data: x\n\n", "\ufeff"], stop_sequence="\n\n", places=[]
)
def test_any_text_survives_any_chunks(reader: Reader, texts: list[str], stop_sequence: str, places: list[int]) -> None:
    data = b"".join(encode_event(event, "req_1") for event in streamed(texts, stop_sequence))
    frames = [(name, json.loads(body)) for name, body in reader(chunked(data, places))]

    assert [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * len(texts),
        "content_block_stop",
        "message_delta",
        "message_stop",
    ] == [name for name, _ in frames]
    assert [name for name, _ in frames] == [body["type"] for _, body in frames]
    assert texts == [body["delta"]["text"] for name, body in frames if name == "content_block_delta"]
    assert stop_sequence == frames[-2][1]["delta"]["stop_sequence"]


@readers
@settings(max_examples=100, deadline=None)
@given(texts=TEXTS, stop_sequence=LINE_ENDS)
def test_any_text_survives_byte_by_byte(reader: Reader, texts: list[str], stop_sequence: str) -> None:
    data = b"".join(PING + encode_event(event, "req_1") for event in streamed(texts, stop_sequence))
    frames = [
        (name, json.loads(body))
        for name, body in reader([data[at : at + 1] for at in range(len(data))])
        if name != "ping"
    ]

    assert "".join(texts) == "".join(body["delta"]["text"] for name, body in frames if name == "content_block_delta")
    assert len(texts) + 5 == len(frames)


@readers
@settings(max_examples=200, deadline=None)
@given(message=st.one_of(ANY_TEXT, LINE_ENDS))
def test_any_error_survives(reader: Reader, message: str) -> None:
    data = encode_event(Failed(ApiError("api_error", message)), "req_1")

    assert [
        ("error", {"type": "error", "error": {"type": "api_error", "message": message}, "request_id": "req_1"})
    ] == [(name, json.loads(body)) for name, body in reader([data])]


@settings(max_examples=length(150, 1000), deadline=None)
@given(st.one_of(ANY_TEXT, LINE_ENDS))
def test_every_delta_is_two_lines_for_a_reader_that_splits_at_every_line_end_of_unicode(text: str) -> None:
    frame = encode_event(BlockDelta(0, "text", text), "req_1").decode()

    assert ["event: content_block_delta", 3] == [frame.splitlines()[0], len(frame.splitlines())]
