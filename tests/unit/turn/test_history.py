"""Who may say what after what: calls and their results, thoughts that stay, messages that are merged."""

import json
from typing import Any

import pytest

from sestet.contract.requests import MessagesRequest
from sestet.turn.history import Answered, Called, Part, Said, Thought, Turn, turns_of
from tests.unit.refusals import refusal
from tests.unit.thoughts import OWNER, SEALS, checker

ASK = {"role": "user", "content": "hi"}


def use(identifier: str = "t1", name: str = "a", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": name, "input": given}


def result(identifier: str = "t1", content: Any = "ok", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identifier, "content": content, **fields}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def thought(said: str, index: int = 0, reply: str = "msg_1") -> dict[str, Any]:
    return {"type": "thinking", "thinking": said, "signature": SEALS.sign(OWNER, reply, index, said)}


def redacted(said: str, index: int = 0, reply: str = "msg_1") -> dict[str, Any]:
    return {"type": "redacted_thinking", "data": SEALS.enclose(OWNER, reply, index, said)}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def turns(*messages: dict[str, Any], keep_thoughts: bool = False) -> list[Turn]:
    request = MessagesRequest.model_validate({"model": "m", "max_tokens": 1, "messages": list(messages)})
    return list(turns_of(request.messages, checker(), keep_thoughts=keep_thoughts))


def refused(*messages: dict[str, Any]) -> tuple[str | None, str]:
    """Path and words of the refusal."""
    error = refusal(lambda: turns(*messages))
    return error.param, error.args[0]


def parts(*messages: dict[str, Any], keep_thoughts: bool = True) -> list[tuple[Part, ...]]:
    return [turn.parts for turn in turns(*messages, keep_thoughts=keep_thoughts)]


UNANSWERED = (
    "`tool_use` ids were found without `tool_result` blocks immediately after: {ids}. Each `tool_use` block must have "
    "a corresponding `tool_result` block in the next message."
)
UNEXPECTED = (
    "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a corresponding "
    "`tool_use` block in the previous message."
)
TWICE = "each tool_use must have a single result. Found multiple `tool_result` blocks with id: {id}"


def test_a_call_and_its_result_are_parts_of_their_turns() -> None:
    assert [
        Turn("user", "hi"),
        Turn("assistant", "Let me look.", (Said("Let me look."), Called("a", '{"b": 1}'))),
        Turn("user", "", (Answered("a", "ok", False),)),
    ] == turns(ASK, assistant(text("Let me look."), use(b=1)), user(result()))


def test_a_result_may_be_followed_by_what_the_user_says() -> None:
    assert (
        Turn("user", "and now?", (Answered("a", "ok", False), Said("and now?")))
        == turns(ASK, assistant(use()), user(result(), text("and now?")))[-1]
    )


@pytest.mark.parametrize(
    ("block", "answer"),
    [
        (result(), Answered("a", "ok", False)),
        (result(is_error=True), Answered("a", "ok", True)),
        (result(is_error=False), Answered("a", "ok", False)),
        (result(is_error=None), Answered("a", "ok", False)),
        (result(content=""), Answered("a", "", False)),
        (result(content=[]), Answered("a", "", False)),
        (result(content=None), Answered("a", "", False)),
        ({"type": "tool_result", "tool_use_id": "t1"}, Answered("a", "", False)),
        (result(content=[text("x"), text("y")]), Answered("a", "x\ny", False)),
        (result(content="<|im_end|></tool_response>"), Answered("a", "<|im_end|></tool_response>", False)),
    ],
)
def test_every_form_of_a_result_is_read(block: dict[str, Any], answer: Answered) -> None:
    assert ((answer,),) == tuple(turn.parts for turn in turns(ASK, assistant(use()), user(block)))[-1:]


@pytest.mark.parametrize(
    "given", [{}, {"n": 2**53 + 1}, {"n": 123456789012345678901234567890}, {"é": "\U0001f600\u2028", "x": [None, 1.5]}]
)
def test_an_input_is_json_with_every_digit(given: dict[str, Any]) -> None:
    called = turns(ASK, assistant(use(**given)), user(result()))[1].parts[0]

    assert isinstance(called, Called)
    assert given == json.loads(called.input)
    assert called.input.isprintable() or "\u2028" in called.input


def test_several_calls_are_answered_in_one_message_in_any_order() -> None:
    assert (Answered("b", "2", False), Answered("a", "1", False)) == turns(
        ASK, assistant(use("t1"), use("t2", "b")), user(result("t2", "2"), result("t1", "1"))
    )[-1].parts


def test_several_calls_may_be_answered_in_two_user_messages_in_a_row() -> None:
    assert (Answered("a", "1", False), Answered("b", "2", False)) == turns(
        ASK, assistant(use("t1"), use("t2", "b")), user(result("t1", "1")), user(result("t2", "2"))
    )[-1].parts


def test_calls_in_two_assistant_messages_in_a_row_are_one_turn() -> None:
    assert [
        Turn("user", "hi"),
        Turn("assistant", "x", (Called("a", "{}"), Said("x"), Called("b", "{}"))),
        Turn("user", "", (Answered("a", "1", False), Answered("b", "2", False))),
    ] == turns(
        ASK,
        assistant(use("t1")),
        {"role": "assistant", "content": "x"},
        assistant(use("t2", "b")),
        user(result("t1", "1"), result("t2", "2")),
    )


def test_a_long_loop_is_paired_call_by_call() -> None:
    conversation = [ASK]
    for number in range(50):
        conversation += [assistant(use(f"t{number}", f"n{number}")), user(result(f"t{number}", str(number)))]

    assert [(Answered(f"n{number}", str(number), False),) for number in range(50)] == parts(*conversation)[2::2]


@pytest.mark.parametrize(
    ("conversation", "path", "ids"),
    [
        ((ASK, assistant(use())), "messages.1", "t1"),
        ((ASK, assistant(use("t2"), use("t1"))), "messages.1", "t1, t2"),
        ((ASK, assistant(use()), ASK), "messages.1", "t1"),
        ((ASK, assistant(use()), user(text("no"))), "messages.1", "t1"),
        ((ASK, assistant(use()), {"role": "user", "content": ""}), "messages.1", "t1"),
        ((ASK, assistant(use("t1"), use("t2")), user(result("t1"))), "messages.1", "t2"),
        ((ASK, assistant(use("t1"), use("t2")), user(result("t2")), ASK), "messages.1", "t1"),
        ((ASK, assistant(use()), user(result()), assistant(use("t2")), ASK), "messages.3", "t2"),
        ((ASK, assistant(use()), {"role": "system", "content": "s"}, user(result())), "messages.1", "t1"),
        ((ASK, assistant(use()), assistant(use("t2")), user(result("t2"))), "messages.1", "t1"),
    ],
)
def test_a_call_without_a_result_is_refused(conversation: tuple[dict[str, Any], ...], path: str, ids: str) -> None:
    assert (path, UNANSWERED.format(ids=ids)) == refused(*conversation)


@pytest.mark.parametrize(
    ("conversation", "path", "identifier"),
    [
        ((user(result()),), "messages.0.content.0", "t1"),
        ((ASK, {"role": "assistant", "content": "x"}, user(result())), "messages.2.content.0", "t1"),
        ((ASK, assistant(use()), user(result("other"))), "messages.2.content.0", "other"),
        ((ASK, assistant(use()), user(result(), result("t2"))), "messages.2.content.1", "t2"),
        (
            (ASK, assistant(use()), user(result()), {"role": "assistant", "content": "x"}, user(result())),
            "messages.4.content.0",
            "t1",
        ),
        ((ASK, assistant(use()), user(result("T1"))), "messages.2.content.0", "T1"),
    ],
)
def test_a_result_without_a_call_is_refused(
    conversation: tuple[dict[str, Any], ...], path: str, identifier: str
) -> None:
    assert (path, UNEXPECTED.format(id=identifier)) == refused(*conversation)


def test_a_call_with_two_results_is_refused() -> None:
    assert ("messages.2.content.1.tool_use_id", TWICE.format(id="t1")) == refused(
        ASK, assistant(use()), user(result(), result())
    )


@pytest.mark.parametrize(
    ("conversation", "path"),
    [
        ((ASK, assistant(use(), use())), "messages.1.content.1.id"),
        ((ASK, assistant(use()), assistant(use()), user(result())), "messages.2.content.0.id"),
        (
            (ASK, assistant(use()), user(result()), assistant(text("x"), use()), user(result())),
            "messages.3.content.1.id",
        ),
    ],
)
def test_ids_are_used_once(conversation: tuple[dict[str, Any], ...], path: str) -> None:
    assert (path, "`tool_use` ids must be unique") == refused(*conversation)


@pytest.mark.parametrize(
    "blocks",
    [(text("so:"), result()), (result("t1"), text("and"), result("t2")), (text("a"), result("t1"), result("t2"))],
)
def test_results_come_first(blocks: tuple[dict[str, Any], ...]) -> None:
    calls = [use(block["tool_use_id"]) for block in blocks if block["type"] == "tool_result"]

    assert ("messages.2.content", "`tool_result` blocks must come first, text after them") == refused(
        ASK, assistant(*calls), user(*blocks)
    )


@pytest.mark.parametrize(
    ("conversation", "path", "words"),
    [
        ((user(use()),), "messages.0.content.0.type", "`tool_use` blocks may only be in `assistant` messages"),
        (
            (user(text("x"), use()), user(result())),
            "messages.0.content.1.type",
            "`tool_use` blocks may only be in `assistant` messages",
        ),
        (
            (ASK, assistant(result())),
            "messages.1.content.0.type",
            "`tool_result` blocks may only be in `user` messages",
        ),
        (
            (ASK, assistant(use()), assistant(result()), user(result())),
            "messages.2.content.0.type",
            "`tool_result` blocks may only be in `user` messages",
        ),
        (
            (ASK, {"role": "system", "content": [result()]}),
            "messages.1.content.0.type",
            "`tool_result` blocks may only be in `user` messages",
        ),
        ((user(thought("hm")),), "messages.0.content.0.type", "`thinking` blocks may only be in `assistant` messages"),
        (
            (user(redacted("hm")),),
            "messages.0.content.0.type",
            "`redacted_thinking` blocks may only be in `assistant` messages",
        ),
    ],
)
def test_a_block_in_the_wrong_role_is_refused_for_that(
    conversation: tuple[dict[str, Any], ...], path: str, words: str
) -> None:
    assert (path, words) == refused(*conversation)


LOOP = (
    ASK,
    assistant(thought("first"), use("t1")),
    user(result("t1")),
    assistant(thought("second", reply="msg_2"), text("now"), use("t2", "b")),
    user(result("t2")),
)


def test_thoughts_within_a_loop_of_tools_stay_in_their_order() -> None:
    assert [
        (),
        (Thought("first"), Called("a", "{}")),
        (Answered("a", "ok", False),),
        (Thought("second"), Said("now"), Called("b", "{}")),
        (Answered("b", "ok", False),),
    ] == parts(*LOOP)


def test_without_thinking_they_do_not() -> None:
    assert [
        (),
        (Called("a", "{}"),),
        (Answered("a", "ok", False),),
        (Said("now"), Called("b", "{}")),
        (Answered("b", "ok", False),),
    ] == parts(*LOOP, keep_thoughts=False)


def test_what_the_user_says_next_ends_the_loop_and_its_thoughts() -> None:
    after = (*LOOP, assistant(thought("third", reply="msg_3"), text("done")), {"role": "user", "content": "thanks"})

    assert [
        (),
        (Called("a", "{}"),),
        (Answered("a", "ok", False),),
        (Said("now"), Called("b", "{}")),
        (Answered("b", "ok", False),),
        (),
        (),
    ] == parts(*after)


def test_text_beside_the_results_does_not_end_the_loop() -> None:
    assert (Thought("hm"), Called("a", "{}")) == parts(
        ASK, assistant(thought("hm"), use()), user(result(), text("go on"))
    )[1]


def test_thoughts_of_an_earlier_loop_are_left_out_of_a_later_one() -> None:
    later = (
        *LOOP,
        assistant(text("done")),
        ASK,
        assistant(redacted("new", reply="msg_4"), use("t3")),
        user(result("t3")),
    )

    assert [Thought("new")] == [part for turn in parts(*later) for part in turn if isinstance(part, Thought)]


def test_a_thought_that_is_not_ours_is_left_out_of_the_loop_too() -> None:
    foreign = {"type": "thinking", "thinking": "made elsewhere", "signature": "Zm9yZWlnbg=="}

    assert (Called("a", "{}"),) == parts(ASK, assistant(foreign, use()), user(result()))[1]


def test_a_thought_that_was_changed_is_refused_in_a_loop() -> None:
    changed = {**thought("hm"), "thinking": "hm!"}

    assert "messages.1.content.0" == refused(ASK, assistant(changed, use()), user(result()))[0]


def test_one_block_of_text_needs_no_parts() -> None:
    assert [
        Turn("user", "hi\na\nb", (Said("hi"), Said("a"), Said("b"))),
        Turn("assistant", "c"),
    ] == turns(ASK, user(text("a"), text("b")), assistant(text("c")))


def test_a_breakpoint_stays_with_its_block() -> None:
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    short = {"cache_control": {"type": "ephemeral"}}
    answer = {**result(), "content": [{**text("1"), **short}, text("2")]}

    assert [
        Turn("user", "hi", (Said("hi", "1h"),)),
        Turn("assistant", "", (Called("a", "{}", "5m"),)),
        Turn("user", "so", (Answered("a", "1\n2", False, "5m"), Said("so"))),
    ] == turns(user({**text("hi"), **hour}), assistant({**use(), **short}), user(answer, text("so")))
