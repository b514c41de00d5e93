"""From a valid prompt to the pieces of text an engine tokenises. The one renderer: counting uses it too."""

from collections.abc import Sequence

from sestet.contract.errors import ApiError, invalid
from sestet.turn.template import ChatTemplate, TemplateRefused
from sestet.turn.thinking import ThinkingStyle
from sestet.turn.validate import ValidPrompt


def render(prompt: ValidPrompt, template: ChatTemplate, style: ThinkingStyle) -> tuple[str, ...]:
    """The rendered prompt; its tokens are what `input_tokens` counts."""
    system = prompt.system
    if prompt.thinking and style.tags.instruction is not None:
        system = f"{system}\n\n{style.tags.instruction}" if system else style.tags.instruction
    messages = [{"role": turn.role, "content": turn.text} for turn in prompt.turns]
    if not template.takes_late_system:
        messages = _without_late_system(messages)
    if system is not None and template.takes_system:
        messages.insert(0, {"role": "system", "content": system})
    elif system is not None:
        messages[0] = {"role": "user", "content": f"{system}\n\n{messages[0]['content']}"}
    try:
        pieces = template.render(messages, continue_last=prompt.prefill, thinking=prompt.thinking, effort=prompt.effort)
    except TemplateRefused as error:
        raise invalid(f"the model's chat template refuses this conversation: {error}", "messages") from error
    if prompt.prefill:
        return pieces
    return (*pieces[:-1], pieces[-1] + (style.opening if prompt.thinking else style.skipping))


def refuse_hopeless(prompt: ValidPrompt, window: int, token_characters_max: int) -> None:
    """Refuses a prompt that cannot fit whatever its tokens are, before anything is done with all of its text."""
    if token_characters_max == 0:
        return
    characters = len(prompt.system or "") + sum(len(turn.text) for turn in prompt.turns)
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


def _without_late_system(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """A late system message always follows a user's: where the family has no such role, it becomes part of that."""
    merged: list[dict[str, str]] = []
    for message in messages:
        if message["role"] == "system":
            told = f"{merged[-1]['content']}\n\n[System instruction]\n{message['content']}"
            merged[-1] = {"role": "user", "content": told}
        else:
            merged.append(message)
    return merged
