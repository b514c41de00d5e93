"""A conversation with a running server over the Messages API, as `sestet chat` holds it. Prints nothing."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

import httpx2
import orjson
from pydantic import BaseModel, ValidationError

from sestet import __version__
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line
from sestet.server.exposure import is_loopback

_SILENCE_S_MAX: Final = 120.0  # a server that works says `ping` far more often
_TROUBLE: Final = (httpx2.TransportError, httpx2.DecodingError, httpx2.InvalidURL)

Effort = Literal["low", "medium", "high", "xhigh", "max"]

THOUGHT_TOKENS_MIN: Final = 1024

_Blocks = dict[int, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of a thought. An empty one says that there is a thought; servers may keep its text to themselves."""

    text: str


@dataclass(slots=True)
class Tokens:
    """Input and output tokens of a reply, or of several."""

    input: int = 0
    output: int = 0
    thinking: int = 0  # of the output


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
    """Turns with one model. Use as a context manager.

    `thinking` is a budget in tokens beside those of the answer, an effort, or off; without any the model's default.
    """

    def __init__(self, url: str, key: str | None, system: str | None, max_tokens: int) -> None:
        self._url = url.rstrip("/")
        self._system = system
        self._max_tokens = max_tokens
        self._messages: list[dict[str, Any]] = []
        self.thinking: int | Effort | Literal["off"] | None = None
        self.model = ""
        self.thought = ""  # of the last reply
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
        self.thought = ""

    def say(self, text: str) -> Generator[str | Thought, None, None]:
        """The reply as it comes. Closing the iterator stops it; what came until then stays in the conversation.

        A turn that fails (`Failure`) leaves the conversation as it was.
        """
        self._messages.append({"role": "user", "content": text})
        self.stop_reason, self.last, self.thought = None, Tokens(), ""
        blocks: _Blocks = {}
        failed = True
        try:
            with closing(self._reply(blocks)) as pieces:
                for piece in pieces:
                    if isinstance(piece, Thought):
                        self.thought += piece.text
                    yield piece
            failed = False
        except (GeneratorExit, KeyboardInterrupt):
            failed = False
            raise
        finally:
            self.total.input += self.last.input
            self.total.output += self.last.output
            self.total.thinking += self.last.thinking
            content = _content(blocks)
            if failed or not content:
                self._messages.pop()
            else:
                self._messages.append({"role": "assistant", "content": content})

    def _reply(self, blocks: _Blocks) -> Generator[str | Thought, None, None]:
        with (
            self._answered(),
            self._client.stream(
                "POST", "/v1/messages", content=orjson.dumps(self._body()), headers={"content-type": "application/json"}
            ) as response,
        ):
            if response.status_code != 200:
                raise _refused(response, self._url)
            for event in httpx2.EventSource(response):
                data = orjson.loads(event.data)
                match data.get("type"):
                    case "message_start":
                        self._count(data["message"].get("usage"))
                    case "content_block_start":
                        yield from _begin(blocks, data["index"], data["content_block"])
                    case "content_block_delta":
                        yield from _grow(blocks[data["index"]], data["delta"])
                    case "message_delta":
                        self.stop_reason = data["delta"].get("stop_reason")
                        self._count(data.get("usage"))
                    case "message_stop":
                        return
                    case "error":
                        raise Failure(f"the reply failed: {_message(data)}")
            raise Failure("the connection ended in the middle of the reply")

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self._max_tokens,
            "messages": self._messages,
            "stream": True,
        }
        if self._system:
            body["system"] = self._system
        match self.thinking:
            case int(budget):
                body["thinking"] = {"type": "enabled", "budget_tokens": budget}
                body["max_tokens"] += budget
            case "off":
                body["thinking"] = {"type": "disabled"}
            case str(effort):
                # Models that take an effort keep the thought's text to themselves unless they are asked for it.
                body["thinking"] = {"type": "adaptive", "display": "summarized"}
                body["output_config"] = {"effort": effort}
        return body

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        usage = usage or {}
        self.last.input = usage.get("input_tokens") or self.last.input
        self.last.output = usage.get("output_tokens") or self.last.output
        self.last.thinking = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or self.last.thinking

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


def _begin(blocks: _Blocks, index: int, block: dict[str, Any]) -> Iterator[str | Thought]:
    gap = "\n\n" if blocks else ""
    blocks[index] = block
    match block:
        case {"type": "text", "text": str(text)} if text:
            yield text
        case {"type": "thinking", "thinking": str(text)}:
            yield Thought(gap + text)
        case {"type": "redacted_thinking"}:
            yield Thought("")


def _grow(block: dict[str, Any], delta: Mapping[str, Any]) -> Iterator[str | Thought]:
    match block, delta:
        case {"type": "text", "text": str(before)}, {"type": "text_delta", "text": str(text)}:
            block["text"] = before + text
            yield text
        case {"type": "thinking", "thinking": str(before)}, {"type": "thinking_delta", "thinking": str(text)}:
            block["thinking"] = before + text
            yield Thought(text)
        case {"type": "thinking"}, {"type": "signature_delta", "signature": str(signature)}:
            block["signature"] = signature
        case {"type": kind}, _ if kind not in ("text", "thinking"):
            block.clear()  # it is more than we can read, so it cannot be sent back


def _content(blocks: _Blocks) -> list[dict[str, Any]]:
    """What of a reply, whole or cut short, a server takes back: thoughts and what we do not know exactly as they came.

    Not a thought without its signature, nor white space alone, nor what came after the last text.
    """
    content: list[dict[str, Any]] = []
    texts = 0
    for block in blocks.values():
        match block:
            case {"type": "text", "text": str(text)}:
                if text.strip():
                    content.append({"type": "text", "text": text})
                    texts = len(content)
            case {"type": "thinking"}:
                if block.get("signature"):
                    content.append(block)
            case {"type": _}:
                content.append(block)
    if texts:
        content[texts - 1]["text"] = content[texts - 1]["text"].rstrip()  # a last message may not end in white space
    return content[:texts]


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
