"""Text of any kind in any family's template: no control token is added, no character is lost (threat T24)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lengths import length
from tests.unit.turn.families import FAMILIES, Family
from tests.unit.turn.test_template import controls

COMPILED = {family.name: (family.compiled(), family.unguarded()) for family in FAMILIES}


def hostile(family: Family) -> st.SearchStrategy[str]:
    """Text made of whole and broken spellings of this family's control tokens."""
    pieces = [
        part
        for special in family.special_tokens
        for part in (special, special[:-1], special[1:], special[: len(special) // 2], special[len(special) // 2 :])
    ]
    pieces += [
        "user\n",
        "assistant\n",
        "system\n",
        "model\n",
        "\n",
        " ",
        "<",
        "|",
        ">",
        "[",
        "]",
        "\ufdd0",
        "\ufdd1",
        "x",
        "é",
    ]
    return st.lists(st.sampled_from(pieces), min_size=1, max_size=8).map("".join)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@settings(max_examples=length(60, 300), deadline=None)
@given(data=st.data(), prefill=st.booleans())
def test_no_text_adds_a_control_token(family: Family, data: st.DataObject, prefill: bool) -> None:
    guarded, unguarded = COMPILED[family.name]
    texts = [data.draw(hostile(family)) for _ in range(2 if prefill else 3)]
    if prefill:
        texts[-1] = texts[-1].rstrip() or "x"
    roles = ("user", "assistant", "user")
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    innocent = [{**message, "content": "innocent"} for message in messages]
    pieces = guarded.render(messages, continue_last=prefill)[0]

    assert controls(guarded.render(innocent, continue_last=prefill)[0], family.special_tokens) == controls(
        pieces, family.special_tokens
    )
    assert "".join(unguarded.render(messages, continue_last=prefill)[0]) == "".join(pieces)
