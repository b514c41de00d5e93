"""The rules between fields: roles and their order, prefill, empty content, the card's limits, both API versions."""

import re
from dataclasses import replace
from typing import Any

import pytest

from sestet.catalog.card import Card, family_cards
from sestet.contract.deltas import Sampling
from sestet.contract.requests import CountTokensRequest, MessagesRequest
from sestet.contract.thinking import ThinkingType
from sestet.contract.versions import NO_SAMPLING_SINCE, OLDEST, VERSIONS, ApiVersion
from sestet.turn.history import Turn
from sestet.turn.validate import ModelRules, ValidRequest, ValidThinking, validate, validate_prompt
from tests.unit.refusals import refusal
from tests.unit.thoughts import OWNER, SEALS, checker

DEFAULT = Sampling(0.2, 0.9, 50)
RULES = ModelRules("card-1", 1000, prefill=True, one_of_temperature_top_p=False, default_sampling=DEFAULT)
ROLES = {"u": "user", "a": "assistant", "s": "system"}
CARDS = {card.id: card for card in family_cards()}


def messages(roles: str) -> list[dict[str, Any]]:
    """`"uas"` is a user, an assistant and a system message; each says its role and position."""
    return [{"role": ROLES[role], "content": f"{role}{position}"} for position, role in enumerate(roles)]


def request(roles: str = "u", **fields: Any) -> MessagesRequest:
    return MessagesRequest.model_validate({"model": "m", "max_tokens": 1, "messages": messages(roles), **fields})


def checked(
    *, rules: ModelRules = RULES, version: ApiVersion = OLDEST, roles: str = "u", **fields: Any
) -> ValidRequest:
    return validate(request(roles, **fields), rules, version, checker())


def turns(roles: str) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in checked(roles=roles).prompt.turns]


def of_card(card: Card, *betas: str) -> ModelRules:
    return ModelRules(card.id, card.output(frozenset(betas)), card.prefill, card.one_of_temperature_top_p, DEFAULT)


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ("u", [("user", "u0")]),
        ("uu", [("user", "u0\nu1")]),
        ("ua", [("user", "u0"), ("assistant", "a1")]),
        ("uaau", [("user", "u0"), ("assistant", "a1\na2"), ("user", "u3")]),
        ("uuuaauu", [("user", "u0\nu1\nu2"), ("assistant", "a3\na4"), ("user", "u5\nu6")]),
        ("us", [("user", "u0"), ("system", "s1")]),
        ("uss", [("user", "u0"), ("system", "s1\ns2")]),
        ("uusa", [("user", "u0\nu1"), ("system", "s2"), ("assistant", "a3")]),
        ("usau", [("user", "u0"), ("system", "s1"), ("assistant", "a2"), ("user", "u3")]),
        ("usaus", [("user", "u0"), ("system", "s1"), ("assistant", "a2"), ("user", "u3"), ("system", "s4")]),
    ],
)
def test_neighbours_of_one_role_are_merged(roles: str, expected: list[tuple[str, str]]) -> None:
    assert expected == turns(roles)


@pytest.mark.parametrize("roles", ["usu", "uas", "uasa", "usua", "ussu", "usaas", "uasu"])
def test_a_system_message_anywhere_else_is_refused(roles: str) -> None:
    error = refusal(lambda: checked(roles=roles))

    assert error.param is not None
    assert error.param.startswith("messages")
    assert "must directly follow a user turn" in error.message


@pytest.mark.parametrize("roles", ["a", "s", "au", "su", "sua", "ss", "aua"])
def test_the_first_message_is_the_users(roles: str) -> None:
    assert "messages.0.role" == refusal(lambda: checked(roles=roles)).param


@pytest.mark.parametrize("content", ["", []])
@pytest.mark.parametrize(("roles", "position"), [("u", 0), ("uau", 2), ("uau", 1), ("us", 1), ("usau", 1), ("uu", 1)])
def test_an_empty_message_is_refused_by_its_place(roles: str, position: int, content: object) -> None:
    conversation = messages(roles)
    conversation[position]["content"] = content

    assert f"messages.{position}.content" == refusal(lambda: checked(messages=conversation)).param


@pytest.mark.parametrize("content", ["", []])
def test_an_empty_last_assistant_message_asks_for_nothing(content: object) -> None:
    conversation = [*messages("u"), {"role": "assistant", "content": content}]
    prompt = checked(messages=conversation).prompt

    assert ((Turn("user", "u0"),), False) == (prompt.turns, prompt.prefill)


def test_an_empty_last_assistant_message_after_another_leaves_that_one_to_be_continued() -> None:
    prompt = checked(messages=[*messages("ua"), {"role": "assistant", "content": ""}]).prompt

    assert ((Turn("user", "u0"), Turn("assistant", "a1")), True) == (prompt.turns, prompt.prefill)


@pytest.mark.parametrize(
    ("roles", "prefill"), [("u", False), ("ua", True), ("uau", False), ("us", False), ("usa", True)]
)
def test_a_last_assistant_message_is_a_prefill(roles: str, prefill: bool) -> None:
    assert prefill == checked(roles=roles).prompt.prefill


def test_a_card_without_prefill_refuses_one_in_the_contracts_words() -> None:
    rules = ModelRules("card-2", 1000, prefill=False, one_of_temperature_top_p=False, default_sampling=DEFAULT)
    error = refusal(lambda: checked(rules=rules, roles="ua"))

    assert (
        "This model does not support assistant message prefill. The conversation must end with a user message."
        == error.args[0]
    )
    assert "messages" == error.param


def test_a_card_without_prefill_takes_assistant_messages_before_the_last() -> None:
    rules = ModelRules("card-2", 1000, prefill=False, one_of_temperature_top_p=False, default_sampling=DEFAULT)

    assert not checked(rules=rules, roles="uau").prompt.prefill


@pytest.mark.parametrize("text", ["The answer is ", "x\n", "x\t", "x\u00a0", "x\u3000", " "])
def test_a_prefill_that_ends_in_white_space_is_refused_by_its_place(text: str) -> None:
    conversation = [*messages("uau"), {"role": "assistant", "content": text}]

    assert "messages.3.content" == refusal(lambda: checked(messages=conversation)).param


def test_a_prefill_may_hold_white_space_elsewhere() -> None:
    conversation = [*messages("u"), {"role": "assistant", "content": "\n The answer is"}]

    assert "\n The answer is" == checked(messages=conversation).prompt.turns[-1].text


def test_blocks_of_a_message_are_paragraphs() -> None:
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}]

    assert "one\ntwo" == checked(messages=[{"role": "user", "content": blocks}]).prompt.turns[0].text


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (None, []),
        ("", []),
        ([], []),
        ("be brief", ["be brief"]),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], ["a", "b"]),
    ],
)
def test_the_system_prompt_is_a_string_or_blocks(system: object, expected: list[str]) -> None:
    assert expected == [part.text for part in checked(system=system).prompt.system]


def texts(*blocks: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in blocks]


@pytest.mark.parametrize(
    ("system", "expected", "without_line"),
    [
        ("nonce: 1\nbe brief\nnonce: 2", ["be brief\nnonce: 2"], True),
        ("nonce: 1\n\nbe brief", ["\nbe brief"], True),
        ("nonce: 1", [], True),
        ("nonce: 1\n", [], True),
        (texts("nonce: 1\nbe brief", "and kind"), ["be brief", "and kind"], True),
        (texts("nonce: 1", "be brief"), ["be brief"], True),
        (texts("cch=1; build 7", "be brief"), ["be brief"], True),
        (texts("nonce: 1"), [], True),
        ("be brief", ["be brief"], False),
        ("be brief\nnonce: 1", ["be brief\nnonce: 1"], False),
        ("a nonce: 1\nbe brief", ["a nonce: 1\nbe brief"], False),
        ("cch=1; build 7 and more\nbe brief", ["cch=1; build 7 and more\nbe brief"], False),
        (texts("be brief", "nonce: 1"), ["be brief", "nonce: 1"], False),
        (None, [], False),
        ([], [], False),
    ],
)
def test_a_first_line_that_matches_a_rule_is_left_out(system: object, expected: list[str], without_line: bool) -> None:
    rules = replace(RULES, volatile=(re.compile("nonce:.*"), re.compile(r"cch=\d+; build \d+")))
    prompt = checked(rules=rules, system=system).prompt

    assert (expected, without_line) == ([part.text for part in prompt.system], prompt.without_line)


def test_without_a_rule_no_line_is_left_out() -> None:
    prompt = checked(system="nonce: 1\nbe brief").prompt

    assert (["nonce: 1\nbe brief"], False) == ([part.text for part in prompt.system], prompt.without_line)


def test_a_count_checks_the_prompt_as_a_reply_does() -> None:
    body = {"model": "m", "messages": messages("usu")}
    counted = refusal(lambda: validate_prompt(CountTokensRequest.model_validate(body), RULES, checker()))
    replied = refusal(lambda: checked(roles="usu"))

    assert (replied.message, replied.param) == (counted.message, counted.param)


@pytest.mark.parametrize("max_tokens", [0, 1, 1000])
def test_max_tokens_up_to_the_cards_output_is_taken(max_tokens: int) -> None:
    assert max_tokens == checked(max_tokens=max_tokens).max_tokens


def test_max_tokens_above_the_cards_output_is_refused_with_the_limit() -> None:
    error = refusal(lambda: checked(max_tokens=1001))

    assert "max_tokens: 1001 > 1000, which is the maximum allowed number of output tokens for card-1" == error.message


def test_max_tokens_0_cannot_be_streamed() -> None:
    assert "max_tokens" == refusal(lambda: checked(max_tokens=0, stream=True)).param


@pytest.mark.parametrize(
    ("card", "limit"),
    [
        ("claude-opus-4-1-20250805", 32_000),
        ("claude-opus-4-20250514", 32_000),
        ("claude-sonnet-4-20250514", 64_000),
        ("claude-3-7-sonnet-20250219", 64_000),
        ("claude-3-5-haiku-20241022", 8_192),
        ("claude-3-haiku-20240307", 4_096),
    ],
)
def test_each_card_has_its_own_output_limit(card: str, limit: int) -> None:
    rules = of_card(CARDS[card])

    assert limit == checked(rules=rules, max_tokens=limit).max_tokens
    assert f"{limit + 1} > {limit}" in refusal(lambda: checked(rules=rules, max_tokens=limit + 1)).message


def test_the_beta_for_128k_output_raises_the_limit_of_the_one_card_that_knows_it() -> None:
    beta = "output-128k-2025-02-19"
    raised = of_card(CARDS["claude-3-7-sonnet-20250219"], beta, "another-beta")

    assert 128_000 == checked(rules=raised, max_tokens=128_000).max_tokens
    assert "128001 > 128000" in refusal(lambda: checked(rules=raised, max_tokens=128_001)).message
    assert ["claude-3-7-sonnet-20250219"] == [
        card.id for card in CARDS.values() if card.output(frozenset((beta,))) != card.output(frozenset())
    ]


def test_the_beta_for_a_million_tokens_of_context_widens_the_one_card_that_knows_it() -> None:
    beta = frozenset(("context-1m-2025-08-07",))

    assert {"claude-sonnet-4-20250514": 1_000_000} == {
        card.id: card.window(beta) for card in CARDS.values() if card.window(beta) != card.window(frozenset())
    }
    assert {200_000} == {card.window(frozenset()) for card in CARDS.values()}


@pytest.mark.parametrize(("field", "value"), [("temperature", 1.0), ("temperature", 0.0), ("top_p", 1.0), ("top_k", 0)])
def test_the_new_api_version_refuses_sampling_even_at_its_default(field: str, value: float) -> None:
    error = refusal(lambda: checked(version=NO_SAMPLING_SINCE, **{field: value}))

    assert field == error.param


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k"])
def test_both_api_versions_take_a_sampling_field_that_is_null(version: ApiVersion, field: str) -> None:
    assert DEFAULT == checked(version=version, **{field: None}).sampling


@pytest.mark.parametrize("version", VERSIONS)
def test_who_asks_for_no_sampling_gets_what_suits_the_weights(version: ApiVersion) -> None:
    assert DEFAULT == checked(version=version).sampling


@pytest.mark.parametrize(
    ("fields", "sampling"),
    [
        ({"temperature": 0.0}, Sampling(0.0, 1.0, 0)),
        ({"temperature": 0}, Sampling(0.0, 1.0, 0)),
        ({"top_p": 0.5}, Sampling(1.0, 0.5, 0)),
        ({"top_p": 0.0}, Sampling(1.0, 0.0, 0)),
        ({"top_k": 5}, Sampling(1.0, 1.0, 5)),
        ({"temperature": 0.3, "top_p": 0.4, "top_k": 7}, Sampling(0.3, 0.4, 7)),
    ],
)
def test_who_sets_one_knob_gets_the_contracts_defaults_in_the_others(
    fields: dict[str, Any], sampling: Sampling
) -> None:
    assert sampling == checked(**fields).sampling


def test_opus_4_1_alone_takes_temperature_or_top_p_but_not_both() -> None:
    both = {"temperature": 1.0, "top_p": 1.0}
    rules = of_card(CARDS["claude-opus-4-1-20250805"])

    assert "temperature" == refusal(lambda: checked(rules=rules, **both)).param
    assert Sampling(0.5, 1.0, 3) == checked(rules=rules, temperature=0.5, top_k=3).sampling
    assert Sampling(1.0, 0.5, 3) == checked(rules=rules, top_p=0.5, top_k=3).sampling
    assert ["claude-opus-4-1-20250805"] == [card.id for card in CARDS.values() if card.one_of_temperature_top_p]


def test_a_stop_sequence_given_twice_counts_once_and_the_order_is_kept() -> None:
    assert ("b", "a") == checked(stop_sequences=["b", "a", "b"]).stop_sequences


def test_a_hundred_thousand_messages_are_checked() -> None:
    prompt = checked(messages=messages("ua" * 50_000)).prompt

    assert 100_000 == len(prompt.turns)


# Thinking (WIRE.md section 2.2).

THINKS = replace(
    RULES,
    max_output=200_000,
    thinking=frozenset(("enabled", "disabled", "adaptive", "between_tools")),
    efforts=frozenset(("low", "medium", "high", "xhigh", "max")),
    thinking_sampling=Sampling(0.6, 0.95, 20),
)
ENABLED = {"type": "enabled", "budget_tokens": 1024}


def thinking(rules: ModelRules = THINKS, **fields: Any) -> ValidRequest:
    return checked(rules=rules, **{"max_tokens": 2000, "thinking": ENABLED, **fields})


def test_a_budget_is_taken_as_it_is() -> None:
    valid = thinking()

    assert (ValidThinking(1024, "summarized"), True) == (valid.thinking, valid.prompt.thinking)


@pytest.mark.parametrize("asked", [None, {"type": "disabled"}, {"type": "between_tools"}])
def test_without_being_asked_nothing_thinks(asked: object) -> None:
    valid = thinking(thinking=asked)

    assert (None, False, DEFAULT) == (valid.thinking, valid.prompt.thinking, valid.sampling)


def test_a_card_that_thinks_unasked_does_so_unless_told_not_to() -> None:
    rules = replace(THINKS, thinks_unasked=True)
    found = [thinking(rules, thinking=asked).thinking for asked in (None, ENABLED, {"type": "disabled"})]

    assert [ValidThinking(1500, "summarized"), ValidThinking(1024, "summarized"), None] == found


@pytest.mark.parametrize(
    ("effort", "max_tokens", "budget"),
    [
        ("low", 100_000, 1_024),
        ("medium", 100_000, 4_096),
        ("high", 100_000, 16_384),
        (None, 100_000, 16_384),
        ("xhigh", 100_000, 32_768),
        ("max", 100_000, 75_000),
        ("max", 100, 75),
        ("high", 4, 3),
        ("low", 1, 1),
    ],
)
def test_an_effort_bounds_the_thought_and_leaves_a_quarter_for_the_answer(
    effort: str | None, max_tokens: int, budget: int
) -> None:
    valid = thinking(thinking={"type": "adaptive"}, output_config={"effort": effort}, max_tokens=max_tokens)

    assert ValidThinking(budget, "summarized") == valid.thinking


def test_an_adaptive_request_that_only_reads_its_prompt_thinks_nothing() -> None:
    assert thinking(thinking={"type": "adaptive"}, max_tokens=0).thinking is None


@pytest.mark.parametrize("kind", [ENABLED, {"type": "adaptive"}])
@pytest.mark.parametrize("display", ["summarized", "omitted"])
def test_the_display_asked_for_wins_over_the_cards(kind: dict[str, Any], display: str) -> None:
    rules = replace(THINKS, display="omitted")
    found = [thinking(rules, thinking={**kind, "display": asked}).thinking for asked in (display, None)]

    assert [display, "omitted"] == [one.display for one in found if one]


@pytest.mark.parametrize(
    ("fields", "param", "text"),
    [
        ({"max_tokens": 1024}, "max_tokens", "`max_tokens` must be greater than `thinking.budget_tokens`"),
        ({"max_tokens": 0}, "max_tokens", "nothing to think about"),
        ({"temperature": 0.5}, "temperature", "`temperature` may only be set to 1 when thinking is enabled"),
        ({"top_k": 5}, "top_k", "`top_k` must be unset when thinking is enabled"),
        ({"top_p": 0.9}, "top_p", "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled"),
        ({"roles": "ua"}, "messages.1.content", "a reply cannot be begun for the model"),
    ],
)
def test_what_the_contract_refuses_beside_a_thought(fields: dict[str, Any], param: str, text: str) -> None:
    error = refusal(lambda: thinking(**fields))

    assert (param, True) == (error.param, text in error.message)


@pytest.mark.parametrize("fields", [{"temperature": 1}, {"top_p": 0.95}, {"top_p": 1}])
def test_what_the_contract_takes_beside_a_thought(fields: dict[str, Any]) -> None:
    assert Sampling(1.0, fields.get("top_p", 1.0), 0) == thinking(**fields).sampling


def test_thoughts_are_drawn_as_their_family_recommends() -> None:
    assert Sampling(0.6, 0.95, 20) == thinking().sampling


def test_an_interleaved_budget_may_be_above_max_tokens() -> None:
    found = thinking(replace(THINKS, interleaved=True), max_tokens=100).thinking

    assert ValidThinking(1024, "summarized") == found


@pytest.mark.parametrize(
    ("takes", "asked", "text"),
    [
        (("disabled",), ENABLED, "'card-1' does not support thinking."),
        (("disabled",), {"type": "adaptive"}, "'card-1' does not support thinking."),
        (("enabled", "disabled"), {"type": "adaptive"}, "adaptive thinking is not supported on this model"),
        (("adaptive",), ENABLED, '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adap'),
        (("adaptive",), {"type": "disabled"}, '"thinking.type.disabled" is not supported for this model. It takes'),
        (("enabled",), {"type": "between_tools"}, '"thinking.type.between_tools" is not supported for this model.'),
    ],
)
def test_a_type_that_the_card_does_not_take_is_refused(
    takes: tuple[ThinkingType, ...], asked: dict[str, Any], text: str
) -> None:
    error = refusal(lambda: thinking(replace(THINKS, thinking=frozenset(takes)), thinking=asked))

    assert ("thinking.type", True) == (error.param, text in error.message)


def test_an_effort_that_the_card_does_not_take_is_refused() -> None:
    rules = replace(THINKS, efforts=frozenset(("low", "high")))
    error = refusal(lambda: thinking(rules, output_config={"effort": "max"}))
    none = refusal(lambda: thinking(replace(THINKS, efforts=frozenset()), output_config={"effort": "low"}))

    assert ["output_config.effort"] * 2 == [error.param, none.param]
    assert "It takes high, low." in error.message
    assert "This model does not support the effort parameter" in none.message


def test_a_count_refuses_the_thinking_that_a_reply_refuses() -> None:
    body = {"model": "m", "messages": messages("u"), "thinking": ENABLED}
    counted = refusal(lambda: validate_prompt(CountTokensRequest.model_validate(body), RULES, checker()))

    assert "'card-1' does not support thinking." in counted.message


def signed(text: str) -> dict[str, str]:
    return {"type": "thinking", "thinking": text, "signature": SEALS.sign(OWNER, "msg_1", 0, text)}


def test_thoughts_of_earlier_turns_leave_the_prompt() -> None:
    said = [signed("hm"), {"type": "text", "text": "a1"}]
    conversation = [*messages("u"), {"role": "assistant", "content": said}, {"role": "user", "content": "u2"}]

    assert turns("uau") == [(turn.role, turn.text) for turn in thinking(messages=conversation).prompt.turns]


def test_a_turn_that_was_all_thought_stays_as_an_empty_one() -> None:
    conversation = [*messages("u"), {"role": "assistant", "content": [signed("hm")]}, {"role": "user", "content": "u2"}]

    assert (Turn("user", "u0"), Turn("assistant", ""), Turn("user", "u2")) == thinking(
        messages=conversation
    ).prompt.turns


@pytest.mark.parametrize("role", ["user", "system"])
def test_only_an_assistant_has_thoughts(role: str) -> None:
    said = [{"type": "text", "text": "x"}, signed("hm")]
    error = refusal(lambda: thinking(messages=[*messages("u"), {"role": role, "content": said}]))

    assert "messages.1.content.1.type" == error.param
    assert "`thinking` blocks may only be in `assistant` messages" in error.message


def test_a_thought_that_was_altered_is_refused_by_its_place() -> None:
    said = [{**signed("hm"), "thinking": "hmm"}, {"type": "text", "text": "a1"}]
    error = refusal(lambda: thinking(messages=[*messages("u"), {"role": "assistant", "content": said}, *messages("u")]))

    assert "messages.1.content.0" == error.param
