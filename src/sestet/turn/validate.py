"""From a well-formed request to one that may run: the card's limits and the rules between fields.

Only what these functions return reaches an engine. Rules and texts: WIRE.md sections 0, 2.1 and 2.4.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sestet.contract.deltas import Sampling
from sestet.contract.errors import invalid
from sestet.contract.requests import (
    Effort,
    InputBlock,
    InputMessage,
    MessagesRequest,
    PromptRequest,
    TextBlock,
    Thinking,
    ThinkingAdaptive,
    ThinkingEnabled,
)
from sestet.contract.thinking import Display, ThinkingType
from sestet.contract.versions import NO_SAMPLING_SINCE, ApiVersion
from sestet.turn.thinking import effort_budget
from sestet.turn.thoughts import ThoughtChecker

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
    thinking_sampling: Sampling | None = None
    thinking: frozenset[ThinkingType] = frozenset(("disabled",))
    efforts: frozenset[Effort] = frozenset()
    thinks_unasked: bool = False
    display: Display = "summarized"
    interleaved: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class ValidPrompt:
    """Turns alternate, and only an assistant's may be empty: one that was all thought, for thoughts of earlier turns
    are not in it. With `prefill` the last one is the assistant's and is to be continued. `effort` shapes the prompt of
    families that have such a switch."""

    system: str | None
    turns: tuple[Turn, ...]
    prefill: bool
    thinking: bool = False
    effort: Effort | None = None


@dataclass(frozen=True, slots=True)
class ValidThinking:
    """A thought of at most `budget` tokens; with `omitted` the client gets its signature and not its text."""

    budget: int
    display: Display


@dataclass(frozen=True, slots=True)
class ValidRequest:
    prompt: ValidPrompt
    max_tokens: int
    stop_sequences: tuple[str, ...]
    sampling: Sampling
    thinking: ValidThinking | None


def validate_prompt(request: PromptRequest, rules: ModelRules, thoughts: ThoughtChecker) -> ValidPrompt:
    """What a reply and a token count check alike, so that one cannot count what the other refuses."""
    effort = request.output_config.effort if request.output_config else None
    thinking = _thinks(request, rules)
    if effort is not None and effort not in rules.efforts:
        known = f"It takes {', '.join(sorted(rules.efforts))}." if rules.efforts else "Leave it out."
        raise invalid(f"This model does not support the effort parameter `{effort}`. {known}", "output_config.effort")
    turns = tuple(_turns(request.messages, thoughts))
    if turns[0].role != "user":
        raise invalid('the first message must use the "user" role', "messages.0.role")
    _check_system_placement(turns)
    last = turns[-1]
    prefill = last.role == "assistant"
    if prefill and thinking:
        raise invalid(
            "a reply cannot be begun for the model when `thinking` is enabled; end with a user message, or disable "
            "thinking",
            f"messages.{len(request.messages) - 1}.content",
        )
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
    return ValidPrompt(_join(request.system) or None, turns, prefill, thinking, effort)


def validate(
    request: MessagesRequest, rules: ModelRules, version: ApiVersion, thoughts: ThoughtChecker
) -> ValidRequest:
    """Everything that can be refused before the prompt is counted; `ApiError` names the path and the limit."""
    prompt = validate_prompt(request, rules, thoughts)
    if request.max_tokens > rules.max_output:
        raise invalid(
            f"{request.max_tokens} > {rules.max_output}, which is the maximum allowed number of output tokens "
            f"for {rules.model}",
            "max_tokens",
        )
    if request.max_tokens == 0 and request.stream:
        raise invalid("0 reads the prompt and writes nothing, so it cannot be streamed", "max_tokens")
    stops = tuple(dict.fromkeys(request.stop_sequences or ()))
    sampling = _sampling(request, rules, version)
    return ValidRequest(prompt, request.max_tokens, stops, sampling, _thinking(request, rules))


def _asked(request: PromptRequest, rules: ModelRules) -> Thinking | None:
    """What a request without `thinking` asks for is the card's."""
    return ThinkingAdaptive(type="adaptive") if request.thinking is None and rules.thinks_unasked else request.thinking


def _thinks(request: PromptRequest, rules: ModelRules) -> bool:
    """Whether the card lets this request think, and it asks to."""
    asked = _asked(request, rules)
    if asked is None:
        return False
    if asked.type not in rules.thinking:
        raise invalid(_refused_type(asked.type, rules), "thinking.type")
    return isinstance(asked, ThinkingEnabled | ThinkingAdaptive)


def _refused_type(kind: ThinkingType, rules: ModelRules) -> str:
    if rules.thinking == {"disabled"}:
        return f"'{rules.model}' does not support thinking."
    match kind:
        case "adaptive":
            return "adaptive thinking is not supported on this model"
        case "enabled":
            return (
                '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
                '"output_config.effort" to control thinking behavior.'
            )
        case _:
            return (
                f'"thinking.type.{kind}" is not supported for this model. It takes {", ".join(sorted(rules.thinking))}.'
            )


def _thinking(request: MessagesRequest, rules: ModelRules) -> ValidThinking | None:
    """How long and how visibly to think; all of it is refused that the contract refuses beside a thought."""
    asked = _asked(request, rules)
    if not isinstance(asked, ThinkingEnabled | ThinkingAdaptive):
        return None
    for name, allowed, rule in _BESIDE_THINKING:
        value = getattr(request, name)
        if value is not None and not allowed(value):
            raise invalid(f"`{name}` {rule} when thinking is enabled", name)
    display = asked.display or rules.display
    if isinstance(asked, ThinkingAdaptive):
        effort = request.output_config.effort if request.output_config else None
        # A request that only reads its prompt has nothing to think about.
        return ValidThinking(effort_budget(effort, request.max_tokens), display) if request.max_tokens else None
    if request.max_tokens == 0:
        raise invalid("0 reads the prompt and writes nothing, so there is nothing to think about", "max_tokens")
    if request.max_tokens <= asked.budget_tokens and not rules.interleaved:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`", "max_tokens")
    return ValidThinking(asked.budget_tokens, display)


_BESIDE_THINKING: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("temperature", lambda value: value == 1, "may only be set to 1"),
    ("top_p", lambda value: value >= 0.95, "must be greater than or equal to 0.95 or unset"),
    ("top_k", lambda _value: False, "must be unset"),
)


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
        return (_thinks(request, rules) and rules.thinking_sampling) or rules.default_sampling
    # Who sets one knob expects the contract's defaults in the others.
    return Sampling(asked.get("temperature", 1.0), asked.get("top_p", 1.0), int(asked.get("top_k", 0)))


def _turns(messages: Sequence[InputMessage], thoughts: ThoughtChecker) -> Iterator[Turn]:
    """Messages with consecutive ones of a role merged. Only a final assistant message may be empty, or one that was
    all thought."""
    role: Role | None = None
    parts: list[str] = []
    for position, message in enumerate(messages):
        text = _join(message.content)
        is_last = position == len(messages) - 1
        has_thought = _check_thoughts(message, position, thoughts)
        if not text and not has_thought and not (is_last and message.role == "assistant"):
            raise invalid(
                "all messages must have non-empty content except for the optional final assistant message",
                f"messages.{position}.content",
            )
        if message.role != role:
            if role is not None:
                yield Turn(role, BLOCK_SEPARATOR.join(parts))
            role, parts = message.role, []
        if text:
            parts.append(text)
    if role is not None:
        yield Turn(role, BLOCK_SEPARATOR.join(parts))


def _check_thoughts(message: InputMessage, position: int, thoughts: ThoughtChecker) -> bool:
    """Whether the message holds thoughts; raises for those that may not be there or are not what they say."""
    content = message.content
    if isinstance(content, str) or all(isinstance(block, TextBlock) for block in content):
        return False
    if message.role != "assistant":
        first = next(i for i, block in enumerate(content) if not isinstance(block, TextBlock))
        raise invalid(
            f"`{content[first].type}` blocks may only be in `assistant` messages",
            f"messages.{position}.content.{first}.type",
        )
    thoughts.check(content, f"messages.{position}.content")
    return True


def _join(content: str | Sequence[InputBlock] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return BLOCK_SEPARATOR.join([block.text for block in content if isinstance(block, TextBlock)])


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
