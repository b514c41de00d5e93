"""A conversation with a running server over the Messages API, as `sestet chat` holds it. Prints nothing."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx2
import orjson
from pydantic import BaseModel, ValidationError

from sestet import __version__
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line
from sestet.server.run import is_loopback

_SILENCE_S_MAX: Final = 120.0  # a server that works says `ping` far more often
_TROUBLE: Final = (httpx2.TransportError, httpx2.DecodingError, httpx2.InvalidURL)


@dataclass(slots=True)
class Tokens:
    """Input and output tokens of a reply, or of several."""

    input: int = 0
    output: int = 0


class ModelEntry(BaseModel):
    """What we read of an entry of GET /v1/models. Other servers of this API do not say `served_by`."""

    id: str
    display_name: str = ""
    served_by: str | None = None
    alias_of: str | None = None

    @property
    def stand_in(self) -> bool:
        return self.served_by is not None and self.served_by != (self.alias_of or self.id)


class _ModelPage(BaseModel):
    data: list[ModelEntry]


class Conversation:
    """Turns with one model. Use as a context manager."""

    def __init__(self, url: str, key: str | None, system: str | None, max_tokens: int) -> None:
        self._url = url.rstrip("/")
        self._system = system
        self._max_tokens = max_tokens
        self._messages: list[dict[str, str]] = []
        self.model = ""
        self.stop_reason: str | None = None
        self.last = Tokens()
        self.total = Tokens()
        try:
            # A proxy of the environment is for the world outside, not for this machine.
            self._client = httpx2.Client(
                base_url=self._url,
                headers={
                    "anthropic-version": "2023-06-01",
                    "user-agent": f"sestet/{__version__}",
                    **({"x-api-key": key} if key else {}),
                },
                timeout=httpx2.Timeout(_SILENCE_S_MAX, connect=10.0),
                trust_env=not is_loopback(httpx2.URL(self._url).host),
            )
        except (httpx2.InvalidURL, UnicodeEncodeError, ValueError) as error:
            raise Failure(f"--url or --key cannot be used: {one_line(str(error))}") from None

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def choose(self, name: str | None) -> ModelEntry:
        """The model to talk to: this one, or the first the server lists."""
        if name is None:
            models = _ModelPage.model_validate(self._get("/v1/models", {"limit": "1"})).data
            if not models:
                raise Failure(f"{self._url} lists no model; name one with --model")
            entry = models[0]
        else:
            entry = ModelEntry.model_validate(self._get(f"/v1/models/{quote(name, safe='')}", {}))
        self.model = name or entry.id
        return entry

    def forget(self) -> None:
        """The next turn is the first one."""
        self._messages.clear()

    def say(self, text: str) -> Generator[str, None, None]:
        """The reply as it comes. Closing the iterator stops it; what came until then stays in the conversation.

        A turn that fails (`Failure`) leaves the conversation as it was.
        """
        self._messages.append({"role": "user", "content": text})
        self.stop_reason, self.last = None, Tokens()
        reply: list[str] = []
        failed = True
        try:
            with closing(self._reply()) as pieces:
                for piece in pieces:
                    reply.append(piece)
                    yield piece
            failed = False
        except (GeneratorExit, KeyboardInterrupt):
            failed = False
            raise
        finally:
            self.total.input += self.last.input
            self.total.output += self.last.output
            said = "".join(reply).rstrip()  # the API refuses a last message that ends in white space
            if failed or not said:
                self._messages.pop()
            else:
                self._messages.append({"role": "assistant", "content": said})

    def _reply(self) -> Generator[str, None, None]:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self._max_tokens,
            "messages": self._messages,
            "stream": True,
        }
        if self._system:
            body["system"] = self._system
        with (
            self._answered(),
            self._client.stream(
                "POST", "/v1/messages", content=orjson.dumps(body), headers={"content-type": "application/json"}
            ) as response,
        ):
            if response.status_code != 200:
                raise _refused(response, self._url)
            for event in httpx2.EventSource(response):
                data = orjson.loads(event.data)
                match data.get("type"):
                    case "message_start":
                        self._count(data["message"].get("usage"))
                    case "content_block_delta" if data["delta"].get("type") == "text_delta":
                        yield data["delta"]["text"]
                    case "message_delta":
                        self.stop_reason = data["delta"].get("stop_reason")
                        self._count(data.get("usage"))
                    case "message_stop":
                        return
                    case "error":
                        raise Failure(f"the reply failed: {_message(data)}")
            raise Failure("the connection ended in the middle of the reply")

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        usage = usage or {}
        self.last.input = usage.get("input_tokens") or self.last.input
        self.last.output = usage.get("output_tokens") or self.last.output

    def _get(self, path: str, query: dict[str, str]) -> Any:
        with self._answered():
            response = self._client.get(path, params=query)
            if response.status_code != 200:
                raise _refused(response, self._url)
            return orjson.loads(response.content)

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Around every exchange: what can go wrong with it, in words."""
        try:
            yield
        except httpx2.ConnectError:
            raise Failure(
                f"nothing answers at {self._url}; start `sestet serve` in another terminal, or give --url"
            ) from None
        except httpx2.TimeoutException:
            raise Failure(f"{self._url} has been silent for too long; see the server's log") from None
        except httpx2.SSEError:
            raise Failure(f"what {self._url} answers is no stream of the Messages API; is it a Sestet?") from None
        except _TROUBLE as error:
            raise Failure(f"the connection to {self._url} broke: {one_line(str(error)) or 'it was closed'}") from None
        except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError, AttributeError):
            raise Failure(f"what {self._url} answers is not the Messages API; is it a Sestet?") from None


def _refused(response: httpx2.Response, url: str) -> Failure:
    response.read()
    try:
        said = _message(orjson.loads(response.content))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return Failure(f"{url} answers {response.status_code} and not as the Messages API does; is it a Sestet?")
    if response.status_code == 401:
        return Failure(f"{said}; give the key with --key or in ANTHROPIC_API_KEY")
    return Failure(said)


def _message(body: Mapping[str, Any]) -> str:
    return one_line(str(body["error"]["message"]))
