"""From a valid prompt to the pieces of text an engine tokenises. The one renderer: counting uses it too."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

from sestet.contract.caching import Level, Lifetime
from sestet.contract.errors import ApiError, invalid
from sestet.contract.requests import PromptRequest
from sestet.contract.tools import ToolSyntax
from sestet.turn.history import BLOCK_SEPARATOR, Answered, Called, Said, Thought, Turn
from sestet.turn.template import BlockEnd, ChatTemplate, Marker, Segment, TemplateRefused
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.tools import described
from sestet.turn.validate import ValidPrompt


@dataclass(frozen=True, slots=True)
class Style:
    """How a family of weights thinks and calls tools, in the texts that its prompts are made of."""

    thinking: ThinkingStyle
    tools: ToolSyntax


class Block(NamedTuple):
    """A block of a request as part of a rendered prompt. `lifetime` is that of the cache breakpoint at its end."""

    level: Level
    lifetime: Lifetime | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt in segments: one for each of `blocks`, ending where the block ends, and one for what follows the last.
    No blocks where the template does not show them all as they are. Its tokens are what `input_tokens` counts."""

    segments: tuple[Segment, ...]
    blocks: tuple[Block, ...]

    @property
    def pieces(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(self.segments))


def render(prompt: ValidPrompt, template: ChatTemplate, style: Style) -> Rendered:
    """The prompt that these weights read."""
    messages: list[tuple[str, list[str]]] = [(turn.role, _content(turn, style)) for turn in prompt.turns]
    if not template.takes_late_system:
        messages = _without_late_system(messages)
    system = _system(prompt, style)
    if system and template.takes_system:
        messages.insert(0, ("system", system))
    elif system:
        messages[0] = ("user", [*system, "\n\n", *messages[0][1]])
    try:
        segments = template.render(
            [{"role": role, "content": content} for role, content in messages],
            continue_last=prompt.prefill,
            thinking=prompt.thinking,
            effort=prompt.effort,
        )
    except TemplateRefused as error:
        raise invalid(f"the model's chat template refuses this conversation: {error}", "messages") from error
    if not prompt.prefill:
        *before, last = segments
        ending = style.thinking.opening if prompt.thinking else style.thinking.skipping
        segments = (*before, (*last[:-1], "".join(last[-1:]) + ending))
    ends = [one for _, content in messages for one in content if isinstance(one, BlockEnd)]
    blocks = tuple([_as_block(end.level, end.lifetime) for end in ends])
    return Rendered(segments, blocks if len(segments) > len(blocks) else ())


def _system(prompt: ValidPrompt, style: Style) -> list[str]:
    """The tools, the client's system prompt, and after them what the weights must know of this reply: a schema, how to
    think. In the order in which prompts are cached, so that what changes oftener comes later."""
    paragraphs: list[list[str]] = []
    if prompt.tools is not None:
        before, _, after = style.tools.instruction.partition("{tools}")
        lines = _joined([_block(described(tool), "tools", tool.lifetime) for tool in prompt.tools.tools], "\n")
        paragraphs.append([Marker(before), *lines, Marker(after)])
    if prompt.system:
        paragraphs.append(
            _joined([_block(part.text, "system", part.lifetime) for part in prompt.system], BLOCK_SEPARATOR)
        )
    if prompt.schema is not None:
        schema = json.dumps(prompt.schema, ensure_ascii=False)
        paragraphs.append(["Answer with one JSON value that satisfies this JSON Schema, and nothing else:\n", schema])
    if prompt.thinking and style.thinking.tags.instruction is not None:
        paragraphs.append([style.thinking.tags.instruction])
    return _joined(paragraphs, "\n\n")


def _joined(parts: Sequence[Sequence[str]], separator: str) -> list[str]:
    joined: list[str] = []
    for part in parts:
        joined += [separator, *part] if joined else part
    return joined


def _block(text: str, level: Level, lifetime: Lifetime | None) -> list[str]:
    """Its end is before white space at the end, which templates may cut off."""
    kept = text.rstrip()
    end = _end(level, lifetime)
    return [kept, end] if len(kept) == len(text) else [kept, end, text[len(kept) :]]


@cache
def _end(level: Level, lifetime: Lifetime | None) -> BlockEnd:
    """One for all that are alike: a conversation may have a hundred thousand."""
    return BlockEnd(level, lifetime)


@cache
def _as_block(level: Level, lifetime: Lifetime | None) -> Block:
    return Block(level, lifetime)


def _content(turn: Turn, style: Style) -> list[str]:
    """What one side said, as the family writes it."""
    if not turn.parts:
        return _block(turn.text, "messages", None) if turn.text else [""]
    tools, thinking = style.tools, style.thinking.tags
    content: list[str] = []
    calls_before = False
    for part in turn.parts:
        called = isinstance(part, Called)
        if content and not isinstance(part, Thought) and not isinstance(content[-1], _ThoughtEnd):
            content.append(Marker(tools.between) if called and calls_before else BLOCK_SEPARATOR)
        match part:
            case Said(text):
                content += _block(text, "messages", part.lifetime)
            case Thought(text):
                content += [Marker(thinking.open), text, _ThoughtEnd(thinking.closing)]
            case Called(name, arguments):
                head = [Marker(tools.begin), Marker(tools.before_name), name, Marker(tools.before_input)]
                content += [*head, arguments, Marker(tools.after_input), _end("messages", part.lifetime)]
            case Answered(_, text, is_error):
                before, _, after = tools.result.partition("{content}")
                answer = f"Error: {text}" if is_error else text
                # Some templates look whether a message ends as an answer does, so the block ends just before.
                content += [Marker(before), answer, _end("messages", part.lifetime), Marker(after)]
        calls_before = called
    return content


class _ThoughtEnd(Marker):
    """After it the answer begins at once."""

    __slots__ = ()


def refuse_many_blocks(request: PromptRequest, window: int) -> None:
    """Refuses a request with more blocks than its prompt can have tokens, before anything is made of them."""
    least_tokens = sum(
        1 if isinstance(message.content, str) else sum(block.type not in _THOUGHTS for block in message.content)
        for message in request.messages
    )
    if least_tokens >= window:
        raise ApiError(
            "invalid_request_error", f"prompt is too long: at least {least_tokens} tokens > {window - 1} maximum"
        )


_THOUGHTS: Final = ("thinking", "redacted_thinking")


def refuse_hopeless(prompt: ValidPrompt, window: int, token_characters_max: int) -> None:
    """Refuses a prompt that cannot fit whatever its tokens are, before anything is done with all of its text."""
    if token_characters_max == 0:
        return
    characters = sum(len(part.text) for part in prompt.system) + sum(turn.characters for turn in prompt.turns)
    blocks = sum(len(turn.parts) or 1 for turn in prompt.turns)  # none shares a token with another
    least_tokens = max(characters // token_characters_max, blocks)
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
