"""The requests of the benchmarks as bytes on the wire."""

import json


def message(port: int, body: dict[str, object], query: str = "") -> bytes:
    """A `POST /v1/messages` over a connection that stays open."""
    content = json.dumps(body).encode()
    return (
        b"POST /v1/messages%b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
        b"x-api-key: any\r\nanthropic-version: 2023-06-01\r\ncontent-length: %d\r\n\r\n%b"
        % (query.encode(), port, len(content), content)
    )


def prompt(text: str, max_tokens: int, *, model: str, stream: bool) -> dict[str, object]:
    """What is asked: always the likeliest token, so that equal weights say equal things."""
    return {
        "model": model,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
    }
