"""From a valid prompt to the pieces of text an engine tokenises. The one renderer: counting uses it too."""

from sestet.contract.errors import ApiError, invalid
from sestet.turn.template import ChatTemplate, TemplateRefused
from sestet.turn.validate import ValidPrompt


def render(prompt: ValidPrompt, template: ChatTemplate) -> tuple[str, ...]:
    """The rendered prompt; its tokens are what `input_tokens` counts."""
    messages = [{"role": turn.role, "content": turn.text} for turn in prompt.turns]
    if not template.takes_late_system:
        messages = [_as_user(message) for message in messages]
    if prompt.system is not None:
        messages.insert(0, {"role": "system", "content": prompt.system})
    try:
        return template.render(messages, continue_last=prompt.prefill)
    except TemplateRefused as error:
        raise invalid(f"the model's chat template refuses this conversation: {error}", "messages") from error


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


def _as_user(message: dict[str, str]) -> dict[str, str]:
    if message["role"] != "system":
        return message
    return {"role": "user", "content": f"[System instruction]\n{message['content']}"}
