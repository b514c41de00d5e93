"""From a well-formed request to one that may run: the card's limits and the rules between fields.

Only what these functions return reaches an engine. Rules and texts: WIRE.md sections 0, 2.1 and 2.4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sestet.contract.deltas import Sampling
from sestet.contract.errors import invalid
from sestet.contract.requests import InputMessage, MessagesRequest, PromptRequest, TextBlock
from sestet.contract.versions import NO_SAMPLING_SINCE, ApiVersion

Role = Literal["user", "assistant", "system"]

# Blocks of one message and merged messages of one role are separate paragraphs to the model.
BLOCK_SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What the card behind the request allows; tokens."""

    model: str
    max_output: int
    prefill: bool
    one_of_temperature_top_p: bool
    default_sampling: Sampling


@dataclass(frozen=True, slots=True)
class Turn:
    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class ValidPrompt:
    """Turns alternate, none is empty. With `prefill` the last one is the assistant's and is to be continued."""

    system: str | None
    turns: tuple[Turn, ...]
    prefill: bool


@dataclass(frozen=True, slots=True)
class ValidRequest:
    prompt: ValidPrompt
    max_tokens: int
    stop_sequences: tuple[str, ...]
    sampling: Sampling


def validate_prompt(request: PromptRequest, rules: ModelRules) -> ValidPrompt:
    """What a reply and a token count check alike, so that one cannot count what the other refuses."""
    turns = tuple(_turns(request.messages))
    if turns[0].role != "user":
        raise invalid('the first message must use the "user" role', "messages.0.role")
    _check_system_placement(turns)
    last = turns[-1]
    prefill = last.role == "assistant"
    if prefill:
        if not rules.prefill:
            raise invalid(
                "This model does not support assistant message prefill. The conversation must end with a user message.",
                "messages",
            )
        if last.text != last.text.rstrip():
            raise invalid(
                "the final assistant message cannot end with trailing whitespace",
                f"messages.{len(request.messages) - 1}.content",
            )
        if not last.text:
            turns, prefill = turns[:-1], False
    return ValidPrompt(_join(request.system) or None, turns, prefill)


def validate(request: MessagesRequest, rules: ModelRules, version: ApiVersion) -> ValidRequest:
    """Everything that can be refused before the prompt is counted; `ApiError` names the path and the limit."""
    prompt = validate_prompt(request, rules)
    if request.max_tokens > rules.max_output:
        raise invalid(
            f"{request.max_tokens} > {rules.max_output}, which is the maximum allowed number of output tokens "
            f"for {rules.model}",
            "max_tokens",
        )
    if request.max_tokens == 0 and request.stream:
        raise invalid("0 reads the prompt and writes nothing, so it cannot be streamed", "max_tokens")
    stops = tuple(dict.fromkeys(request.stop_sequences or ()))
    return ValidRequest(prompt, request.max_tokens, stops, _sampling(request, rules, version))


def _sampling(request: MessagesRequest, rules: ModelRules, version: ApiVersion) -> Sampling:
    asked = {name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(request, name)) is not None}
    if asked and version == NO_SAMPLING_SINCE:
        raise invalid(
            f"not accepted under anthropic-version {version}; send anthropic-version 2023-06-01 to set it",
            next(iter(asked)),
        )
    if rules.one_of_temperature_top_p and {"temperature", "top_p"} <= asked.keys():
        raise invalid(
            f"`temperature` and `top_p` cannot both be specified for {rules.model}. Please use only one.",
            "temperature",
        )
    if not asked:
        return rules.default_sampling
    # Who sets one knob expects the contract's defaults in the others.
    return Sampling(asked.get("temperature", 1.0), asked.get("top_p", 1.0), int(asked.get("top_k", 0)))


def _turns(messages: Sequence[InputMessage]) -> Iterator[Turn]:
    """Messages with consecutive ones of a role merged. Only a final assistant message may be empty."""
    role: Role | None = None
    parts: list[str] = []
    for position, message in enumerate(messages):
        text = _join(message.content)
        is_last = position == len(messages) - 1
        if not text and not (is_last and message.role == "assistant"):
            raise invalid(
                "all messages must have non-empty content except for the optional final assistant message",
                f"messages.{position}.content",
            )
        if message.role != role:
            if role is not None:
                yield Turn(role, BLOCK_SEPARATOR.join(parts))
            role, parts = message.role, []
        if text or not parts:
            parts.append(text)
    if role is not None:
        yield Turn(role, BLOCK_SEPARATOR.join(parts))


def _join(content: str | Sequence[TextBlock] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return BLOCK_SEPARATOR.join(block.text for block in content)


def _check_system_placement(turns: Sequence[Turn]) -> None:
    """A system message follows a user turn, and is last or followed by an assistant turn."""
    for position, turn in enumerate(turns):
        if turn.role != "system":
            continue
        after = turns[position + 1] if position + 1 < len(turns) else None
        if turns[position - 1].role != "user" or (after is not None and after.role != "assistant"):
            raise invalid(
                "a `system` message must directly follow a user turn, and be the last message or be followed "
                "by an assistant turn; instructions for the whole conversation belong in the top-level `system`",
                "messages",
            )
