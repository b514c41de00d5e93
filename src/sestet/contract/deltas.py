"""What an engine is asked and what it answers: facts about tokens, no index, block or wire name."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["end", "length", "stop"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. `top_k` 0 and `top_p` 1 cut nothing; `temperature` 0 takes the likeliest."""

    temperature: float
    top_p: float
    top_k: int


@dataclass(frozen=True, slots=True)
class Held:
    """A snapshot that an engine wrote: the file `name` holds what it computed of a prompt's first `tokens` tokens, and
    maybe of what came after them. `is_genuine` is to be asked before the file is read, and only then."""

    name: str
    tokens: int
    is_genuine: Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Generation:
    """One job for an engine. `max_tokens` is at least 0 and already fits the window together with the prompt.

    `forbidden` tokens are never drawn; `shown` are control tokens whose spelling is wanted in the text all the same.
    With `keep_tokens` each `Text` says which tokens it is made of. `grammar`, in llguidance's Lark dialect, bounds what
    is said; `stop` texts end it, and are not said.
    """

    request_id: str
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    forbidden: tuple[int, ...] = ()
    shown: tuple[str, ...] = ()
    keep_tokens: bool = False
    grammar: str | None = None
    stop: tuple[str, ...] = ()


class Text(NamedTuple):
    """More text; `output_tokens` counts all tokens drawn so far, those that show no text included.

    `tokens` are the tokens of this text, so that a prompt can go on from it; empty where they were not asked for or
    the engine does not know them all. A tuple, because one is made for every token.
    """

    text: str
    output_tokens: int
    tokens: tuple[int, ...] = ()


class Thinking(NamedTuple):
    """More of a thought; counts as `Text` does. Empty text says only that so many tokens were thought."""

    text: str
    output_tokens: int


class ToolCall(NamedTuple):
    """The model calls this tool; its input follows."""

    name: str
    output_tokens: int


class ToolInput(NamedTuple):
    """More of the JSON object that is the input of the call."""

    text: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The engine's last word: `end` is the model's own end of turn, `length` is `max_tokens` reached, `stop` one of the
    job's `stop` texts."""

    reason: FinishReason
    output_tokens: int


Delta = Text | Thinking | ToolCall | ToolInput | Finished


@dataclass(frozen=True, slots=True)
class Weights:
    """What loaded weights say of themselves.

    `window` is in tokens, prompt and reply together, for one sequence. `special_tokens` are the spellings that
    the tokenizer turns into control tokens; they must never come from a client's text. `token_characters_max` is
    the most text that one token can stand for; 0 where that is not known.
    """

    window: int
    chat_template: str
    bos_token: str
    eos_token: str
    special_tokens: tuple[str, ...]
    token_characters_max: int = 0
