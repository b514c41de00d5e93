"""The thoughts a client sends back: taken when they are ours and in their order, else refused or left out."""

from collections.abc import Sequence
from itertools import permutations

import pytest

from sestet.contract.requests import InputBlock, RedactedThinkingBlock, TextBlock, ThinkingBlock
from sestet.turn.seals import Owner, Seals
from sestet.turn.thoughts import ThoughtChecker, ThoughtPolicy
from tests.unit.refusals import refusal
from tests.unit.thoughts import OWNER, SEALS

ELSEWHERE = Seals([b"the secret of quite another house"])
DROP_ALL = ThoughtPolicy(changed="drop", foreign="drop")
REFUSE_ALL = ThoughtPolicy(changed="refuse", foreign="refuse")
PATH = "messages.3.content"


def thought(index: int = 0, text: str = "Hm.", reply: str = "msg_1", seals: Seals = SEALS) -> ThinkingBlock:
    return ThinkingBlock(type="thinking", thinking=text, signature=seals.sign(OWNER, reply, index, text))


def omitted(index: int = 0, text: str = "Hm.", reply: str = "msg_1") -> ThinkingBlock:
    return ThinkingBlock(type="thinking", thinking="", signature=SEALS.enclose(OWNER, reply, index, text))


def redacted(index: int = 0, text: str = "Hm.", reply: str = "msg_1", seals: Seals = SEALS) -> RedactedThinkingBlock:
    return RedactedThinkingBlock(type="redacted_thinking", data=seals.enclose(OWNER, reply, index, text))


def said(text: str) -> TextBlock:
    return TextBlock(type="text", text=text)


def changed(block: ThinkingBlock) -> ThinkingBlock:
    return ThinkingBlock(type="thinking", thinking=block.thinking + "!", signature=block.signature)


def dropped(blocks: Sequence[InputBlock], policy: ThoughtPolicy | None = None, owner: Owner = OWNER) -> int:
    """How many thoughts of this message were left out."""
    checker = ThoughtChecker(SEALS, owner, policy or ThoughtPolicy())
    checker.check(blocks, PATH)
    return checker.dropped


def refused(blocks: Sequence[InputBlock], policy: ThoughtPolicy | None = None) -> str | None:
    """The path of the block that is refused."""
    return refusal(lambda: dropped(blocks, policy)).param


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [said("Hi.")],
        [thought(), said("Hi.")],
        [omitted(), said("Hi.")],
        [redacted(), said("Hi.")],
        [thought(0), said("a"), thought(2), said("b"), omitted(4), redacted(5)],
        [thought(2), said("b")],  # those before it may have been left out
        [thought(0, reply="msg_1"), said("a"), thought(0, reply="msg_2"), said("b")],
        [thought(4, reply="msg_1"), thought(1, reply="msg_2"), thought(2, reply="msg_2")],
        [said("a"), thought(0)],
    ],
)
def test_thoughts_of_ours_in_their_order_are_taken(blocks: list[InputBlock]) -> None:
    assert 0 == dropped(blocks, REFUSE_ALL)


def test_what_stands_in_an_omitted_thought_is_not_looked_at() -> None:
    block = ThinkingBlock(type="thinking", thinking="put in by somebody", signature=omitted().signature)

    assert 0 == dropped([block], REFUSE_ALL)


@pytest.mark.parametrize(
    ("blocks", "position"),
    [
        ([changed(thought())], 0),
        ([said("a"), changed(thought()), said("b")], 1),
        ([thought(0), said("a"), changed(thought(2))], 2),
        ([ThinkingBlock(type="thinking", thinking="", signature=thought().signature)], 0),
        ([RedactedThinkingBlock(type="redacted_thinking", data=thought().signature)], 0),
        ([RedactedThinkingBlock(type="redacted_thinking", data=redacted().data[:-4])], 0),
        # Out of their order, or twice.
        ([thought(2), said("a"), thought(0)], 2),
        ([thought(0), thought(0)], 1),
        ([redacted(3), redacted(1)], 1),
        ([omitted(1), thought(0)], 1),
    ],
)
def test_a_changed_thought_is_refused_by_its_path(blocks: list[InputBlock], position: int) -> None:
    assert f"{PATH}.{position}" == refused(blocks)
    assert f"{PATH}.{position}" == refused(blocks, REFUSE_ALL)
    assert 1 == dropped(blocks, DROP_ALL)


def test_any_order_but_their_own_is_refused() -> None:
    blocks = [thought(0, "one"), thought(1, "two"), thought(2, "three"), thought(3, "four")]

    assert [True] + [False] * 23 == [
        0 == dropped(list(order), DROP_ALL)
        for order in sorted(permutations(blocks), key=lambda it: it != tuple(blocks))
    ]


@pytest.mark.parametrize(
    "blocks",
    [
        [thought(1), thought(0, reply="msg_2"), thought(0)],
        [thought(0), thought(0, reply="msg_2"), thought(0)],
        [thought(2), said("a"), redacted(0, reply="msg_2"), said("b"), thought(1)],
    ],
)
def test_the_thought_of_another_reply_between_them_does_not_hide_a_wrong_order(blocks: list[InputBlock]) -> None:
    assert f"{PATH}.{len(blocks) - 1}" == refused(blocks)


def test_a_changed_thought_between_them_does_not_hide_a_wrong_order() -> None:
    assert 2 == dropped([thought(1), changed(thought(2)), thought(0)], DROP_ALL)


@pytest.mark.parametrize(
    "block",
    [
        thought(seals=ELSEWHERE),
        redacted(seals=ELSEWHERE),
        ThinkingBlock(type="thinking", thinking="Hm.", signature=""),
        ThinkingBlock(type="thinking", thinking="Hm.", signature="ErUBCkYIBBgCIkBsomebody else's"),
        RedactedThinkingBlock(type="redacted_thinking", data="EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIw"),
    ],
)
def test_a_thought_made_elsewhere_is_left_out_and_counted(block: InputBlock) -> None:
    assert 2 == dropped([block, said("a"), block])
    assert f"{PATH}.1" == refused([said("a"), block], REFUSE_ALL)


@pytest.mark.parametrize("owner", [Owner("card-2", OWNER.scope), Owner(OWNER.card, "another workspace")])
def test_a_thought_of_another_card_or_scope_was_made_elsewhere(owner: Owner) -> None:
    assert 3 == dropped([thought(0), omitted(1), redacted(2)], ThoughtPolicy(), owner)


def test_dropped_thoughts_add_up_over_the_messages_of_a_request() -> None:
    checker = ThoughtChecker(SEALS, OWNER, DROP_ALL)
    for path in ("messages.1.content", "messages.3.content"):
        checker.check([thought(seals=ELSEWHERE), changed(thought()), thought()], path)

    assert 4 == checker.dropped


def test_the_order_is_that_of_one_message() -> None:
    """Each assistant message begins anew: a client that keeps two branches of a conversation may send both."""
    checker = ThoughtChecker(SEALS, OWNER, REFUSE_ALL)
    checker.check([thought(2)], "messages.1.content")
    checker.check([thought(0)], "messages.3.content")

    assert 0 == checker.dropped


def test_the_refusal_says_what_to_do() -> None:
    errors = [
        refusal(lambda block=block: dropped([block]))
        for block in (changed(thought()), RedactedThinkingBlock(type="redacted_thinking", data=thought().signature))
    ]

    assert [("`signature` in `thinking`", True), ("`data` in `redacted_thinking`", True)] == [
        (name, name in error.message and "exactly as they came" in error.message)
        for name, error in zip(("`signature` in `thinking`", "`data` in `redacted_thinking`"), errors, strict=True)
    ]
