"""One question to a server of the Messages API, streamed, and asked again where that may help. Knows no task."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final, Self

import httpx2
import orjson

from sestet import __version__
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line
from sestet.cli.web import http_url, shown
from sestet.server.exposure import is_loopback

ATTEMPTS: Final = 5
_SILENCE_S_MAX: Final = 120.0  # a server that works says `ping` far more often
_PAUSE_S: Final = 0.5  # doubled after each attempt
_PAUSE_S_MAX: Final = 600.0  # however long a server asks us to wait

_PASSING_STATUSES: Final = frozenset({408, 409, 425, 429})
_PASSING_KINDS: Final = frozenset({"api_error", "overloaded_error", "rate_limit_error", "timeout_error"})


@dataclass(frozen=True, slots=True)
class Reply:
    """What came. `output_tokens` includes `thinking_tokens`; not every server says the latter."""

    text: str
    stop_reason: str | None
    model: str
    served_by: str | None
    input_tokens: int
    output_tokens: int
    thinking_tokens: int | None
    seconds: float
    attempts: int


class Unanswered(Exception):
    """No reply to this question. `refused` means that asking again would not help."""

    def __init__(self, error: str, message: str, *, refused: bool, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.error = error
        self.message = message
        self.refused = refused
        self.retry_after_s = retry_after_s
        self.attempts = 1


class Asker:
    """Use as an asynchronous context manager. `pause_s` is the wait after the first attempt that failed."""

    def __init__(self, url: str, key: str | None, model: str, concurrency: int = 1, pause_s: float = _PAUSE_S) -> None:
        parsed = http_url(url.rstrip("/"))
        self.url = shown(parsed)
        self.model = model
        self._pause_s = pause_s
        try:
            self._client = httpx2.AsyncClient(
                base_url=parsed,
                headers={
                    "anthropic-version": "2023-06-01",
                    "content-type": "application/json",
                    "user-agent": f"sestet/{__version__}",
                    **({"x-api-key": key} if key else {}),
                },
                timeout=httpx2.Timeout(_SILENCE_S_MAX, connect=10.0),
                limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
                # A proxy of the environment is for the world outside, not for this machine.
                trust_env=not is_loopback(parsed.host),
            )
        except (UnicodeEncodeError, ValueError) as error:
            raise Failure(f"--key cannot be used: {one_line(str(error))}") from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def choose(self) -> None:
        """Take the first model that the server lists."""
        try:
            response = await self._client.get("/v1/models", params={"limit": "1"})
            if response.status_code != 200:
                raise self._refused(response)
            self.model = str(orjson.loads(response.content)["data"][0]["id"])
        except httpx2.TransportError as error:
            raise Failure(self._unreachable(error)) from None
        except Unanswered as error:
            raise Failure(error.message) from None
        except IndexError:
            raise Failure(f"{self.url} lists no model; name one with --model") from None
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise self._strange() from None

    async def ask(self, prompt: str, budget: int, max_tokens: int, attempts: int = ATTEMPTS) -> Reply:
        """The reply. Raises `Unanswered` when it did not come, `Failure` where no question can be answered."""
        thinking: dict[str, Any] = {"type": "enabled", "budget_tokens": budget} if budget else {"type": "disabled"}
        body = orjson.dumps(
            {
                "model": self.model,
                "max_tokens": max_tokens,
                "messages": [{"role": "user", "content": prompt}],
                "thinking": thinking,
                "stream": True,
            }
        )
        attempt = 1
        while True:
            try:
                return await self._attempt(body, attempt)
            except Unanswered as error:
                error.attempts = attempt
                if error.refused or attempt == attempts:
                    raise
                pause_s = self._pause_s * 2 ** (attempt - 1) if error.retry_after_s is None else error.retry_after_s
            await asyncio.sleep(min(pause_s, _PAUSE_S_MAX))
            attempt += 1

    async def _attempt(self, body: bytes, attempt: int) -> Reply:
        began = time.monotonic()
        reading = _Reading()
        try:
            async with self._client.stream("POST", "/v1/messages", content=body) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise self._refused(response)
                async for event in httpx2.EventSource(response):
                    reading.take(orjson.loads(event.data))
                if reading.complete:
                    served_by = response.headers.get("sestet-served-by")
                    return reading.reply(served_by, time.monotonic() - began, attempt)
        except Failure:  # which is a ValueError too
            raise
        except httpx2.SSEError:
            raise self._strange() from None
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise Unanswered("connection", self._unreachable(error), refused=False) from None
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
            raise self._strange() from None
        raise Unanswered("connection", "the connection ended in the middle of the reply", refused=False)

    def _refused(self, response: httpx2.Response) -> Unanswered:
        status = response.status_code
        try:
            error = orjson.loads(response.content)["error"]
            kind, message = str(error["type"]), one_line(str(error["message"]))
        except (orjson.JSONDecodeError, KeyError, TypeError):
            kind, message = "error", f"{self.url} answers {status} and not as the Messages API does"
        if status == 401:
            raise Failure(f"{message}; give the key with --key or in ANTHROPIC_API_KEY")
        if status in (403, 404):
            raise Failure(message)
        return Unanswered(
            f"{status} {kind}",
            message,
            refused=status < 500 and status not in _PASSING_STATUSES,
            retry_after_s=_seconds(response.headers.get("retry-after")),
        )

    def _unreachable(self, error: Exception) -> str:
        match error:
            case httpx2.ConnectError():
                return f"nothing answers at {self.url}; start `sestet serve` in another terminal, or give --url"
            case httpx2.TimeoutException():
                return f"{self.url} has been silent for too long"
            case _:
                return f"the connection to {self.url} broke: {one_line(str(error)) or 'it was closed'}"

    def _strange(self) -> Failure:
        return Failure(f"what {self.url} answers is not the Messages API; is it a Sestet?")


class _Reading:
    """The events of one stream, folded. Thoughts are counted by the server and not kept here."""

    def __init__(self) -> None:
        self.complete = False
        self._text: list[str] = []
        self._model = ""
        self._stop_reason: str | None = None
        self._usage: dict[str, Any] = {}

    def take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "message_start":
                self._model = str(event["message"]["model"])
                self._usage |= _present(event["message"].get("usage"))
            case "content_block_delta" if event["delta"]["type"] == "text_delta":
                self._text.append(str(event["delta"]["text"]))
            case "message_delta":
                self._stop_reason = event["delta"].get("stop_reason")
                self._usage |= _present(event.get("usage"))
            case "message_stop":
                self.complete = True
            case "error":
                kind, message = str(event["error"]["type"]), one_line(str(event["error"]["message"]))
                raise Unanswered(kind, message, refused=kind not in _PASSING_KINDS)

    def reply(self, served_by: str | None, seconds: float, attempts: int) -> Reply:
        thinking = (self._usage.get("output_tokens_details") or {}).get("thinking_tokens")
        return Reply(
            text="".join(self._text),
            stop_reason=self._stop_reason,
            model=self._model,
            served_by=served_by,
            input_tokens=int(self._usage["input_tokens"]),
            output_tokens=int(self._usage["output_tokens"]),
            thinking_tokens=None if thinking is None else int(thinking),
            seconds=seconds,
            attempts=attempts,
        )


def _present(usage: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (usage or {}).items() if value is not None}


def _seconds(text: str | None) -> float | None:
    """Of `retry-after`; the form with a date is not used by servers of this API."""
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None
