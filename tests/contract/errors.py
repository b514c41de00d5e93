"""The one check that every failing path of every dialect passes through."""

import re
from typing import Protocol

REQUEST_ID = re.compile(r"req_[0-9a-f]{32}")


class Headers(Protocol):
    def get_list(self, key: str) -> list[str]: ...


class Response(Protocol):
    """What is common to the responses of httpx2 and of the SDK on it."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Headers: ...
    def json(self) -> dict[str, object]: ...


def assert_contract_error(response: Response, status: int, kind: str, path: str | None = None) -> str:
    """An error as the contract wants it (status, kind, one JSON body, one request id); the message is returned.

    `path` is what the message must name first: `messages.0.content`.
    """
    body = response.json()

    assert (status, kind) == (response.status_code, body["error"]["type"]), body
    assert ["application/json"] == response.headers.get_list("content-type")
    assert ["type", "error", "request_id"] == list(body)
    assert "error" == body["type"]
    keys = body["error"].keys() - {"details"}
    # At the paths of models, those that look like nobody's get the keys of OpenAI's errors too.
    assert keys in ({"type", "message"}, {"type", "message", "param", "code"})
    assert [body["request_id"]] == response.headers.get_list("request-id")
    assert REQUEST_ID.fullmatch(body["request_id"])
    message = body["error"]["message"]
    assert message == message.strip() != ""
    assert path is None or message.startswith(f"{path}: "), message
    return message
