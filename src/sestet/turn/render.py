"""From a valid prompt to the pieces of text an engine tokenises. The one renderer: counting uses it too."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sestet.contract.errors import ApiError, invalid
from sestet.contract.tools import ToolSyntax
from sestet.turn.history import BLOCK_SEPARATOR, Answered, Called, Said, Thought, Turn
from sestet.turn.template import ChatTemplate, Marker, TemplateRefused
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.tools import described
from sestet.turn.validate import ValidPrompt


@dataclass(frozen=True, slots=True)
class Style:
    """How a family of weights thinks and calls tools, in the texts that its prompts are made of."""

    thinking: ThinkingStyle
    tools: ToolSyntax


def render(prompt: ValidPrompt, template: ChatTemplate, style: Style) -> tuple[str, ...]:
    """The rendered prompt; its tokens are what `input_tokens` counts."""
    messages: list[tuple[str, list[str]]] = [(turn.role, _content(turn, style)) for turn in prompt.turns]
    if not template.takes_late_system:
        messages = _without_late_system(messages)
    system = _system(prompt, style)
    if system and template.takes_system:
        messages.insert(0, ("system", system))
    elif system:
        messages[0] = ("user", [*system, "\n\n", *messages[0][1]])
    try:
        pieces = template.render(
            [{"role": role, "content": content} for role, content in messages],
            continue_last=prompt.prefill,
            thinking=prompt.thinking,
            effort=prompt.effort,
        )
    except TemplateRefused as error:
        raise invalid(f"the model's chat template refuses this conversation: {error}", "messages") from error
    if prompt.prefill:
        return pieces
    ending = style.thinking.opening if prompt.thinking else style.thinking.skipping
    return (*pieces[:-1], pieces[-1] + ending)


def _system(prompt: ValidPrompt, style: Style) -> list[str]:
    """The client's system prompt, and after it what the weights must know: tools, a schema, how to think."""
    paragraphs: list[list[str]] = [[prompt.system]] if prompt.system is not None else []
    if prompt.tools is not None:
        before, _, after = style.tools.instruction.partition("{tools}")
        lines = "\n".join(described(tool) for tool in prompt.tools.tools)
        paragraphs.append([Marker(before), lines, Marker(after)])
    if prompt.schema is not None:
        schema = json.dumps(prompt.schema, ensure_ascii=False)
        paragraphs.append(["Answer with one JSON value that satisfies this JSON Schema, and nothing else:\n", schema])
    if prompt.thinking and style.thinking.tags.instruction is not None:
        paragraphs.append([style.thinking.tags.instruction])
    joined: list[str] = []
    for paragraph in paragraphs:
        joined += ["\n\n", *paragraph] if joined else paragraph
    return joined


def _content(turn: Turn, style: Style) -> list[str]:
    """What one side said, as the family writes it."""
    if not turn.parts:
        return [turn.text]
    tools, thinking = style.tools, style.thinking.tags
    content: list[str] = []
    calls_before = False
    for part in turn.parts:
        called = isinstance(part, Called)
        if content and not isinstance(part, Thought) and not isinstance(content[-1], _ThoughtEnd):
            content.append(Marker(tools.between) if called and calls_before else BLOCK_SEPARATOR)
        match part:
            case Said(text):
                content.append(text)
            case Thought(text):
                content += [Marker(thinking.open), text, _ThoughtEnd(thinking.closing)]
            case Called(name, arguments):
                head = [Marker(tools.begin), Marker(tools.before_name), name, Marker(tools.before_input)]
                content += [*head, arguments, Marker(tools.after_input)]
            case Answered(_, text, is_error):
                before, _, after = tools.result.partition("{content}")
                content += [Marker(before), f"Error: {text}" if is_error else text, Marker(after)]
        calls_before = called
    return content


class _ThoughtEnd(Marker):
    """After it the answer begins at once."""

    __slots__ = ()


def refuse_hopeless(prompt: ValidPrompt, window: int, token_characters_max: int) -> None:
    """Refuses a prompt that cannot fit whatever its tokens are, before anything is done with all of its text."""
    if token_characters_max == 0:
        return
    characters = len(prompt.system or "") + sum(turn.characters for turn in prompt.turns)
    least_tokens = characters // token_characters_max
    longest = window - 1
    if least_tokens > longest:
        raise ApiError(
            "invalid_request_error", f"prompt is too long: at least {least_tokens} tokens > {longest} maximum"
        )


def fit(prompt_tokens: int, window: int, max_tokens: int) -> int:
    """How many tokens may be drawn after a prompt: `max_tokens`, or what the window still holds.

    A prompt that leaves no room for one token is refused, saying by how much.
    """
    longest = window - 1
    if prompt_tokens > longest:
        raise ApiError(
            "invalid_request_error",
            f"prompt is too long: {prompt_tokens} tokens > {longest} maximum ({prompt_tokens - longest} too many)",
        )
    return min(max_tokens, window - prompt_tokens)


def _without_late_system(messages: Sequence[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """A late system message always follows a user's: where the family has no such role, it becomes part of that."""
    merged: list[tuple[str, list[str]]] = []
    for role, content in messages:
        if role == "system":
            merged[-1] = ("user", [*merged[-1][1], "\n\n[System instruction]\n", *content])
        else:
            merged.append((role, content))
    return merged
