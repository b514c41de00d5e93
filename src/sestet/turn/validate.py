"""From a well-formed request to one that may run: the card's limits and the rules between fields.

Only what these functions return reaches an engine. Rules and texts: WIRE.md sections 0, 2.1 and 2.4.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sestet.contract.deltas import Sampling
from sestet.contract.errors import invalid
from sestet.contract.requests import (
    Effort,
    LooseJsonSchemaFormat,
    MessagesRequest,
    PromptRequest,
    Thinking,
    ThinkingAdaptive,
    ThinkingEnabled,
)
from sestet.contract.thinking import Display, ThinkingType
from sestet.contract.versions import NO_SAMPLING_SINCE, ApiVersion
from sestet.turn.breakpoints import check_breakpoints
from sestet.turn.history import Said, Turn, cached, said, turns_of
from sestet.turn.schemas import check, check_size
from sestet.turn.thinking import effort_budget
from sestet.turn.thoughts import ThoughtChecker
from sestet.turn.toolbox import tool_plan
from sestet.turn.tools import ToolPlan


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
    extended_schemas: bool = False
    volatile: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True, slots=True)
class ValidPrompt:
    """Turns alternate, and only an assistant's may be empty: one that was all thought, for thoughts of earlier turns
    are not in it. With `prefill` the last one is the assistant's and is to be continued. `effort` shapes the prompt of
    families that have such a switch. The text of the reply is one JSON value of `schema`, if there is one. `settings`
    is what messages in a cache depend on beside the text: they are of use only to a request with the same.
    `without_line` says that the system prompt lost its first line, which is another in every request."""

    system: tuple[Said, ...]
    turns: tuple[Turn, ...]
    prefill: bool
    thinking: bool = False
    effort: Effort | None = None
    tools: ToolPlan | None = None
    schema: Mapping[str, Any] | None = None
    schema_path: str = ""
    settings: str = ""
    without_line: bool = False

    @property
    def callable_plan(self) -> ToolPlan | None:
        """The tools, where they may be called."""
        return self.tools if self.tools is not None and self.tools.choice != "none" else None


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
    tools = tool_plan(request, thinking=thinking, extended=rules.extended_schemas)
    schema, schema_path = _schema(request, rules)
    if request.messages[0].role != "user":
        raise invalid('the first message must use the "user" role', "messages.0.role")
    turns = turns_of(request.messages, thoughts, keep_thoughts=thinking)
    last = turns[-1]
    prefill = last.role == "assistant"
    if prefill and thinking:
        raise invalid(
            "a reply cannot be begun for the model when `thinking` is enabled; end with a user message, or disable "
            "thinking",
            f"messages.{len(request.messages) - 1}.content",
        )
    if prefill and schema is not None:
        raise invalid(
            "a reply cannot be begun for the model when its format is a schema; end with a user message",
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
    automatic = check_breakpoints(request)
    if automatic is not None:
        turns = cached(turns, automatic)
    settings = _settings(_asked(request, rules), effort, tools)
    system, without_line = _system(request, rules)
    return ValidPrompt(
        system, turns, prefill, thinking, effort, tools, schema, schema_path, settings, without_line=without_line
    )


def _system(request: PromptRequest, rules: ModelRules) -> tuple[tuple[Said, ...], bool]:
    """The system prompt, without a first line that agents write anew with every request: it is not meant for the model,
    and no prefix would ever be the same. And whether there was such a line."""
    if request.system is None or isinstance(request.system, str):
        parts: tuple[Said, ...] = (Said(request.system),) if request.system else ()
    else:
        parts = tuple(said(block) for block in request.system)
    if parts and rules.volatile:
        line, _, rest = parts[0].text.partition("\n")
        if any(pattern.fullmatch(line) for pattern in rules.volatile):
            first = (replace(parts[0], text=rest),) if rest else ()
            return (*first, *parts[1:]), True
    return parts, False


def _settings(thinking: Thinking | None, effort: Effort | None, tools: ToolPlan | None) -> str:
    """What invalidates messages in a cache: how to think, and which tools may be called (WIRE.md section 2.8)."""
    budget = thinking.budget_tokens if isinstance(thinking, ThinkingEnabled) else None
    kind = "disabled" if thinking is None else thinking.type
    callable_ = None if tools is None else (tools.choice, tools.callable_names, tools.parallel)
    return repr((kind, budget, effort, callable_))


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
    if request.max_tokens == 0 and (prompt.schema is not None or (prompt.tools and prompt.tools.choice == "any")):
        raise invalid("0 reads the prompt and writes nothing, so nothing can be asked of the reply", "max_tokens")
    stops = tuple(dict.fromkeys(request.stop_sequences or ()))
    sampling = _sampling(request, rules, version)
    return ValidRequest(prompt, request.max_tokens, stops, sampling, _thinking(request, rules))


def _schema(request: PromptRequest, rules: ModelRules) -> tuple[Mapping[str, Any] | None, str]:
    """The schema of the reply's text, by its name of today or the older one, and where it stands."""
    config = request.output_config
    given = [
        (path, asked)
        for path, asked in (
            ("output_config.format.schema", config.format if config else None),
            ("output_format.schema", request.output_format),
        )
        if asked is not None
    ]
    if len(given) == 2:
        raise invalid("give `output_config.format` or the older `output_format`, not both", "output_format")
    for path, asked in given:
        check_size(asked.schema_, path)
        extended = rules.extended_schemas or isinstance(asked, LooseJsonSchemaFormat)
        check(asked.schema_, path, extended=extended)
        return asked.schema_, path
    return None, ""


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
