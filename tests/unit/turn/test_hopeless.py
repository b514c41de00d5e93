"""A prompt that cannot fit is refused by its length alone, before it is rendered or tokenised."""

import pytest

from sestet.contract.errors import ApiError
from sestet.turn.history import Said, Turn
from sestet.turn.render import refuse_hopeless
from sestet.turn.validate import ValidPrompt


def prompt(*texts: str, system: str | None = None) -> ValidPrompt:
    return ValidPrompt(
        () if system is None else (Said(system),), tuple(Turn("user", text) for text in texts), prefill=False
    )


def test_a_prompt_of_more_characters_than_its_tokens_can_hold_is_refused_with_the_least_it_takes() -> None:
    with pytest.raises(ApiError) as refused:
        refuse_hopeless(prompt("x" * 600, system="y" * 400), window=100, token_characters_max=10)

    assert "prompt is too long: at least 100 tokens > 99 maximum" == refused.value.message


def test_a_prompt_that_might_fit_is_left_to_the_tokenizer() -> None:
    refuse_hopeless(prompt("x" * 600, system="y" * 399), window=100, token_characters_max=10)


def test_without_knowing_the_tokens_nothing_is_hopeless() -> None:
    refuse_hopeless(prompt("x" * 1_000_000), window=2, token_characters_max=0)


def test_each_block_takes_a_token_at_least() -> None:
    with pytest.raises(ApiError) as refused:
        refuse_hopeless(prompt(*"x" * 100), window=100, token_characters_max=10)

    assert "prompt is too long: at least 100 tokens > 99 maximum" == refused.value.message
