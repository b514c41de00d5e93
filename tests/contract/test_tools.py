"""Tools from outside: calls whole and streamed, cut and broken, their answers, agents at work, and every refusal."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

import anthropic
import httpx2
import pydantic_core
import pytest

from tests.conftest import ServerFactory
from tests.contract.errors import assert_contract_error
from tests.contract.inside import Inside, InsideRunner, prompt_tokens
from tests.contract.scenes import (
    AGENT_SCRIPT,
    BIG_INTEGERS,
    OWN_MODEL,
    SUMS,
    WEATHER,
    Scenes,
    call,
    rendered,
    scripted_reply,
    told_of,
    tool,
)
from tests.faults.wire import connected, gauge, post, read_until, wait_for

Fields = dict[str, Any]

COUNT = "/v1/messages/count_tokens"
THINKING = {"type": "enabled", "budget_tokens": 1024}
THINK: Fields = {"model": OWN_MODEL, "max_tokens": 2048, "thinking": THINKING}
OBJECT = {"type": "object"}
ADD = tool("add", "a", "b", kind="integer")
LOOK = ["Let me", " look", ".", *call("get_weather", '{"city": ', '"Par', 'is"', "}")]
PARIS = {"type": "tool_use", "id": "toolu_", "name": "get_weather", "input": {"city": "Paris"}}


def events(streamed: httpx2.Response) -> list[Fields]:
    return [json.loads(line[6:]) for line in streamed.text.split("\n") if line.startswith("data: ")]


def unnamed(content: list[Fields]) -> list[Fields]:
    """Blocks without what of their ids is chance."""
    return [{**block, "id": block["id"][:6]} if "id" in block else block for block in content]


def told(streamed: list[Fields]) -> tuple[list[Fields], str]:
    """The blocks that a stream tells, and why it stopped; a call's input as the text that it came as."""
    blocks: list[Fields] = []
    for event in streamed:
        match event["type"]:
            case "content_block_start":
                blocks.append(dict(event["content_block"]))
                blocks[-1].update({"input": ""} if blocks[-1]["type"] == "tool_use" else {})
            case "content_block_delta":
                [(field, piece)] = [(name, text) for name, text in event["delta"].items() if name != "type"]
                blocks[-1]["input" if field == "partial_json" else field] += piece
    return unnamed(blocks), streamed[-2]["delta"]["stop_reason"]


async def both(server: Inside, **fields: object) -> tuple[Fields, list[Fields]]:
    """The same asked for whole and streamed."""
    whole = await server.post(**fields)
    return whole.raise_for_status().json(), events(await server.post(stream=True, **fields))


def user(content: object) -> Fields:
    return {"role": "user", "content": content}


def assistant(content: object) -> Fields:
    return {"role": "assistant", "content": content}


def use(name: str = "add", call_id: str = "toolu_1", **more: object) -> Fields:
    return {"type": "tool_use", "id": call_id, "name": name, "input": {}, **more}


def result(call_id: str = "toolu_1", **more: object) -> Fields:
    return {"type": "tool_result", "tool_use_id": call_id, **more}


def answered(*results: Fields, calls: list[Fields] | None = None, **more: object) -> Fields:
    """A request in which a tool was called and answered with these blocks."""
    return {"tools": [ADD], "messages": [user("Hi"), assistant(calls or [use()]), user([*results])], **more}


# Calls on the wire.


def test_a_stream_tells_a_call_block_by_block(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> list[Fields]:
        return events(await server.post(tools=[WEATHER], stream=True))

    told_events = inside(ask, scripted_reply(say=LOOK))
    names = [event["type"].removeprefix("content_block_") for event in told_events]
    ids = [event["content_block"].pop("id") for event in told_events if "tool_use" in str(event.get("content_block"))]

    assert [
        "message_start",
        *["start", "delta", "delta", "delta", "stop"],
        *["start", "delta", "delta", "delta", "delta", "delta", "stop"],
        "message_delta",
        "message_stop",
    ] == names
    assert [0] * 5 + [1] * 7 == [event["index"] for event in told_events if "index" in event]
    assert {"type": "tool_use", "name": "get_weather", "input": {}} == told_events[6]["content_block"]
    assert ["", '{"city": ', '"Par', 'is"', "}"] == [event["delta"]["partial_json"] for event in told_events[7:12]]
    assert {"input_json_delta"} == {event["delta"]["type"] for event in told_events[7:12]}
    assert ["toolu_"] == [name[:6] for name in ids]
    assert {"stop_reason": "tool_use", "stop_sequence": None, "stop_details": None} == told_events[-2]["delta"]


SAYINGS = {
    "tokens": LOOK,
    "characters": [*"".join(LOOK)],
    "at once": ["".join(LOOK)],
    "in halves": ["".join(LOOK)[:20], "".join(LOOK)[20:]],
}


@pytest.mark.parametrize("say", SAYINGS.values(), ids=SAYINGS.keys())
def test_however_a_call_is_cut_into_tokens_it_is_told_the_same(inside: InsideRunner, say: list[str]) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[Fields]]:
        return await both(server, tools=[WEATHER], max_tokens=1000)

    whole, streamed = inside(ask, scripted_reply(say=say))

    assert ([{"type": "text", "text": "Let me look."}, PARIS], "tool_use") == (
        unnamed(whole["content"]),
        whole["stop_reason"],
    )
    assert ([{"type": "text", "text": "Let me look."}, {**PARIS, "input": '{"city": "Paris"}'}], "tool_use") == told(
        streamed
    )


def test_several_calls_are_blocks_with_ids_of_their_own(inside: InsideRunner) -> None:
    say = [*call("get_weather", '{"city": "Rome"}'), "\n", *call("get_weather", "{}"), "\n", *call("add", '{"a": 1}')]

    async def ask(server: Inside) -> tuple[Fields, list[Fields]]:
        return await both(server, tools=[WEATHER, ADD])

    whole, streamed = inside(ask, scripted_reply(say=say))
    ids = [block["id"] for block in whole["content"]]
    ids += [event["content_block"]["id"] for event in streamed if event["type"] == "content_block_start"]

    assert [("get_weather", {"city": "Rome"}), ("get_weather", {}), ("add", {"a": 1})] == [
        (block["name"], block["input"]) for block in whole["content"]
    ]
    assert ["get_weather", "get_weather", "add"] == [block["name"] for block in told(streamed)[0]]
    assert 6 == len(set(ids))
    assert ["toolu_"] * 6 == [one[:6] for one in ids]


def test_numbers_keep_their_digits_on_the_wire_and_back_into_the_prompt(inside: InsideRunner) -> None:
    numbers = [*BIG_INTEGERS, f"-{BIG_INTEGERS[2]}", "0.10", "1e400", "9" * 5000]
    text = '{"a": [' + ", ".join(numbers) + "]}"

    async def ask(server: Inside) -> tuple[str, list[Fields], str]:
        whole = await server.post(tools=[tool("sum", "a")])
        streamed = events(await server.post(tools=[tool("sum", "a")], stream=True))
        fewer = {"a": [int(number) for number in numbers[:4]]}
        await server.post(**answered(result(content="3"), calls=[use(input=fewer)]))
        return whole.text, streamed, server.prompt

    whole, streamed, prompt = inside(ask, scripted_reply(when="To sum", say=call("sum", text)))

    assert f'"input":{text}' in whole
    assert text == told(streamed)[0][0]["input"]
    assert f'"arguments": {{"a": [{", ".join(numbers[:4])}]}}' in prompt


@pytest.mark.parametrize(
    "text", ['{"a": "\u2028 \\u2028 \\ud83d\\ude00 né"}', '{\n  "a" : [ ]\n}', '{"a": "} ]\\""}', "{}"]
)
def test_an_input_is_told_as_the_model_wrote_it(inside: InsideRunner, text: str) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[Fields]]:
        return await both(server, tools=[tool("note", "a")])

    whole, streamed = inside(ask, scripted_reply(say=call("note", text)))

    assert json.loads(text) == whole["content"][0]["input"]
    assert text == told(streamed)[0][0]["input"]


def test_an_input_may_be_nested_as_deeply_as_its_schema_lets_it(inside: InsideRunner) -> None:
    pieces = ['{"a": '] * 2000 + ["1"] + ["}"] * 2000

    async def ask(server: Inside) -> list[httpx2.Response]:
        fields = {"tools": [tool("nest", "a")], "max_tokens": 5000}
        cut = await server.post(**{**fields, "max_tokens": 1500})
        return [await server.post(**fields), await server.post(stream=True, **fields), cut]

    whole, streamed, cut = inside(ask, scripted_reply(say=call("nest", *pieces)))

    assert [200, 200, 200] == [whole.status_code, streamed.status_code, cut.status_code]
    assert f'"input":{"".join(pieces)}' in whole.text
    assert "".join(pieces) == told(events(streamed))[0][0]["input"]
    assert '"stop_reason":"max_tokens"' in cut.text


def test_without_leave_to_call_what_looks_like_a_call_is_text(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> list[tuple[list[Fields], str]]:
        asked: list[Fields] = [{}, {"tools": []}, {"tools": [WEATHER], "tool_choice": {"type": "none"}}]
        replies = [(await server.post(**fields)).json() for fields in asked]
        return [(reply["content"], reply["stop_reason"]) for reply in replies]

    text = [{"type": "text", "text": "".join(LOOK)}]

    assert [(text, "end_turn")] * 3 == inside(ask, scripted_reply(say=LOOK))


@pytest.mark.parametrize("said", ["<tool", "<tool_cal>", "< tool_call>", "<tool_<tool_x", "a <b> c"])
def test_text_that_only_begins_like_a_call_is_text(inside: InsideRunner, said: str) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[Fields]]:
        return await both(server, tools=[WEATHER])

    whole, streamed = inside(ask, scripted_reply(say=[*said]))

    assert ([{"type": "text", "text": said}], "end_turn") == (whole["content"], whole["stop_reason"])
    assert ([{"type": "text", "text": said}], "end_turn") == told(streamed)


def test_the_grammar_of_a_reply_is_what_the_choice_asks_for(inside: InsideRunner) -> None:
    one, other = call("add", '{"a": 1, "b": 2}'), call("get_weather", '{"city": "Rome"}')
    choices = {
        "none": {"type": "none"},
        "auto": {"type": "auto"},
        "any": {"type": "any"},
        "tool": {"type": "tool", "name": "add"},
        "auto, one": {"type": "auto", "disable_parallel_tool_use": True},
        "any, one": {"type": "any", "disable_parallel_tool_use": True},
    }

    async def ask(server: Inside) -> list[str | None]:
        for choice in choices.values():
            await server.post(tools=[ADD, WEATHER], tool_choice=choice)
        await server.post()
        return [record.job.grammar for record in server.engine.records]

    grammars = inside(ask, scripted_reply(say=[*one, "\n", *other]))

    assert grammars[-1] is None
    assert len(choices) == len(set(grammars[:-1]))
    assert [False, True, True, True, True, True] == ["add" in str(grammar) for grammar in grammars[:-1]]
    assert [False, True, True, False, True, True] == ["get_weather" in str(grammar) for grammar in grammars[:-1]]


# A thought before a call, stop sequences, and the end of what may be said.


def test_a_call_may_follow_a_thought(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[Fields]]:
        return await both(server, tools=[WEATHER], **THINK)

    whole, streamed = inside(ask, scripted_reply(think=["Where", "?"], say=LOOK))

    for content in (whole["content"], told(streamed)[0]):
        assert [("thinking", "Where?"), ("text", "Let me look."), ("tool_use", "")] == [
            (block["type"], block.get(block["type"], "")) for block in content
        ]
        assert content[0]["signature"]
    assert ("tool_use", {"thinking_tokens": 3}, 15) == (
        whole["stop_reason"],
        whole["usage"]["output_tokens_details"],
        whole["usage"]["output_tokens"],
    )


@pytest.mark.parametrize("stop", ["Paris", "city", '"', "{", "tool_call", "<tool_call>", "arguments", "}\n</"])
def test_a_stop_sequence_does_not_fire_in_a_call(inside: InsideRunner, stop: str) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[Fields]]:
        return await both(server, tools=[WEATHER], stop_sequences=[stop])

    whole, streamed = inside(ask, scripted_reply(say=LOOK))

    assert ([{"type": "text", "text": "Let me look."}, PARIS], "tool_use", None) == (
        unnamed(whole["content"]),
        whole["stop_reason"],
        whole["stop_sequence"],
    )
    assert "tool_use" == told(streamed)[1]


def test_a_stop_sequence_fires_in_the_text_before_a_call_and_not_across_it(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> list[tuple[list[Fields], str, str | None]]:
        replies = [
            (await server.post(tools=[WEATHER], stop_sequences=[stop])).json() for stop in ("look.", 'k.{"', "k.\n")
        ]
        return [(unnamed(one["content"]), one["stop_reason"], one["stop_sequence"]) for one in replies]

    text = {"type": "text", "text": "Let me look."}

    assert [
        ([{"type": "text", "text": "Let me "}], "stop_sequence", "look."),
        ([text, PARIS], "tool_use", None),
        ([text, PARIS], "tool_use", None),
    ] == inside(ask, scripted_reply(say=LOOK))


CUT_WORD = re.compile(r"(-?\d[\d.eE+-]*|-|true|false|null)$")
CUT_TEXT = (
    '{"n": 123456789012345678901234567890, "s": "Pa\\u00e9 \\"x\\n", '
    '"l": [1, 22, {"t": true, "f": null}], "e": -1.5e10}'
)


@pytest.mark.parametrize(("choice", "before"), [("auto", "Well. "), ("any", "")])
def test_wherever_max_tokens_cuts_a_call_the_reply_says_so_and_holds_what_there_is(
    inside: InsideRunner, choice: str, before: str
) -> None:
    """One character is one token here, and every place is tried. The whole reply's input is what a client makes of the
    pieces of a stream, without a number or word at its very end, which may have been cut and mean another."""
    saying = before + "".join(call("add", CUT_TEXT))
    start = saying.index(CUT_TEXT)
    cuts = range(start, start + len(CUT_TEXT) + 5)

    async def ask(server: Inside) -> list[tuple[httpx2.Response, list[Fields]]]:
        fields = {"tools": [ADD], "tool_choice": {"type": choice}}
        return [
            (
                await server.post(**fields, max_tokens=cut),
                events(await server.post(**fields, max_tokens=cut, stream=True)),
            )
            for cut in cuts
        ]

    text = [{"type": "text", "text": before}] if before else []
    for cut, (whole, streamed) in zip(cuts, inside(ask, scripted_reply(say=[*saying])), strict=True):
        begun = saying[start:cut][: len(CUT_TEXT)]
        block = {"type": "tool_use", "id": "toolu_", "name": "add"}
        held = pydantic_core.from_json(CUT_WORD.sub("", begun) or "{}", allow_partial=True)

        assert 200 == whole.status_code, f"cut after {begun!r}: {whole.text}"
        assert ([*text, {**block, "input": held}], "max_tokens", cut) == (
            unnamed(whole.json()["content"]),
            whole.json()["stop_reason"],
            whole.json()["usage"]["output_tokens"],
        )
        assert ([*text, {**block, "input": begun}], "max_tokens") == told(streamed)


def test_a_call_that_was_cut_before_its_name_is_not_told(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> list[tuple[list[Fields], str]]:
        found = []
        for cut in range(17, 40):
            reply, streamed = await both(server, tools=[ADD], max_tokens=cut)
            found += [(reply["content"], reply["stop_reason"]), told(streamed)]
        return found

    saying = [*"Well. ", *"".join(call("add", "{}"))]

    assert [([{"type": "text", "text": "Well. "}], "max_tokens")] * 46 == inside(ask, scripted_reply(say=saying))


def test_no_part_of_a_marker_is_text_where_only_calls_may_be(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> list[list[Fields]]:
        replies = [
            (await server.post(tools=[ADD], tool_choice={"type": "any"}, max_tokens=cut)).json() for cut in range(1, 12)
        ]
        return [reply["content"] for reply in replies]

    assert [[]] * 11 == inside(ask, scripted_reply(say=[*"".join(call("add", "{}"))]))


# What goes wrong.


@pytest.mark.parametrize("then", ["error", "crash", "stop_short", "hang", "end"])
@pytest.mark.parametrize("said", [LOOK[:-3], LOOK[:-2], LOOK[:-1]], ids=["in the input", "after it", "in the marker"])
def test_an_engine_that_fails_in_a_call_is_an_error_and_no_end(
    inside: InsideRunner, said: list[str], then: str
) -> None:
    async def ask(server: Inside) -> tuple[httpx2.Response, list[Fields]]:
        streamed = events(await server.post(tools=[WEATHER], stream=True))
        await asyncio.sleep(0.02)  # after a crash the engine is away for a moment
        return await server.post(tools=[WEATHER]), streamed

    scene = "stall_timeout_s = 0.05\nrestart_s = 0.01\n" + scripted_reply(say=said, then=then)
    whole, streamed = inside(ask, scene)

    assert_contract_error(whole, 500, "api_error")
    assert "api_error" == streamed[-1]["error"]["type"]
    assert [] == [event["type"] for event in streamed if event["type"] in ("message_delta", "message_stop")]


def head(name: str = "add", key: str = "arguments") -> str:
    return f'<tool_call>\n{{"name": "{name}", "{key}": '


TAIL = "}\n</tool_call>"

# What no grammar lets a model say.
BROKEN = {
    "an array": [head(), "[1]", TAIL],
    "a string": [head(), '"a"', TAIL],
    "nothing": [head(), "null", TAIL],
    "a number": [head(), "5", TAIL],
    "wrong brackets": [head(), '{"a": 2]', TAIL],
    "no JSON": [head(), '{"a": tru}', TAIL],
    "not a number": [head(), '{"a": NaN}', TAIL],
    "infinite": [head(), '{"a": -Infinity}', TAIL],
    "an unknown tool": [head("subtract"), "{}", TAIL],
    "no tool": [head(""), "{}", TAIL],
    "another key": [head(key="parameters"), "{}", TAIL],
    "more keys": [head(), "{}", ', "more": 1}\n</tool_call>'],
    "another end": [head(), "{}", "}</tool_call>"],
    "no end": [head(), "{}"],
    "a marker alone": ["<tool_call>"],
    "prose": ["<tool_call>\n", "I would rather talk. " * 60],
    "a second one that breaks": [head(), "{}", TAIL, "\n", head("subtract"), "{}", TAIL],
}


@pytest.mark.parametrize("say", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("before", ["", "So. "])
def test_a_call_without_its_form_is_an_error_and_no_end(inside: InsideRunner, say: list[str], before: str) -> None:
    async def ask(server: Inside) -> tuple[httpx2.Response, httpx2.Response]:
        return await server.post(tools=[ADD]), await server.post(tools=[ADD], stream=True)

    whole, streamed = inside(ask, scripted_reply(say=[before, *say] if before else say))
    last = events(streamed)[-1] if streamed.is_success else streamed.json()

    assert_contract_error(whole, 500, "api_error")
    assert ("error", "api_error") == (last["type"], last["error"]["type"])
    assert "message_delta" not in streamed.text


def test_a_forced_call_that_does_not_come_is_an_error(inside: InsideRunner) -> None:
    """The grammar forces it; an engine that lost its grammar must not pass for one that kept to it."""

    async def ask(server: Inside) -> list[httpx2.Response]:
        choices = [{"type": "any"}, {"type": "tool", "name": "add"}]
        return [await server.post(tools=[ADD], tool_choice=choice) for choice in choices]

    for refused in inside(ask, scripted_reply(say=["I would rather talk."])):
        assert_contract_error(refused, 500, "api_error")


LEAVING = "slots = 4\n" + "".join(
    scripted_reply(when=when, say=say, tokens_per_s=50)
    for when, say in {
        "INPUT": [head(), '{"a": "', *["tick "] * 10_000],
        "MARKER": ["So", "<tool_call>", "\n", '{"name": "add', *[" "] * 10_000],
    }.items()
)


def test_whoever_leaves_during_a_call_closes_the_engine(serve: ServerFactory) -> None:
    server = serve(script=LEAVING)
    asked: Fields = {"model": OWN_MODEL, "max_tokens": 5000, "tools": [ADD], "stream": True}
    seen = [("INPUT", b"tick"), ("INPUT", b"content_block_start"), ("MARKER", b"text_delta")]
    for count, (text, mark) in enumerate(seen, start=1):
        with connected(server.port) as connection:
            connection.sendall(post({**asked, "messages": [user(text)]}))
            read_until(connection, mark)
            assert 1.0 == gauge(server, "sestet_slots_running")
        wait_for(server, "sestet_slots_running", 0.0, 5)
        wait_for(server, "sestet_replies_total", float(count), 5)
    with connected(server.port) as connection:
        connection.sendall(post({**asked, "stream": False, "messages": [user("INPUT")]}))
        wait_for(server, "sestet_slots_running", 1.0, 5)
    wait_for(server, "sestet_slots_running", 0.0, 5)


# Answers, and the loops of agents.


def test_answers_of_tools_reach_the_prompt_in_their_order(inside: InsideRunner) -> None:
    calls = [{"type": "text", "text": "So."}, *[use(call_id=f"c{number}", input={"a": number}) for number in range(6)]]
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    results = [
        result("c1", content="plain"),
        result("c0", content=blocks),
        result("c2", content="it broke", is_error=True),
        result("c3"),
        result("c4", content=""),
        result("c5", content=[], is_error=False, cache_control={"type": "ephemeral"}),
        {"type": "text", "text": "And now?"},
    ]

    async def ask(server: Inside) -> tuple[str, list[int]]:
        fields = answered(*results, calls=calls)
        counted = (await server.post(path=COUNT, max_tokens=..., **fields)).json()["input_tokens"]
        used = prompt_tokens((await server.post(**fields)).json()["usage"])
        return server.prompt, [counted, used]

    prompt, counts = inside(ask)
    said = "\n".join(
        ["So.", *[f'<tool_call>\n{{"name": "add", "arguments": {{"a": {n}}}}}\n</tool_call>' for n in range(6)]]
    )
    heard = "\n".join(
        [
            *[
                f"<tool_response>\n{text}\n</tool_response>"
                for text in ("plain", "one\ntwo", "Error: it broke", "", "", "")
            ],
            "And now?",
        ]
    )

    assert rendered(told_of(ADD), ("user", "Hi"), ("assistant", said), ("user", heard)) == prompt
    assert [len(prompt)] * 2 == counts


RESULTS = {
    "add": lambda a, b: f"the sum is {a + b}",
    "multiply": lambda a, b: f"the product is {a * b}",
    "subtract": lambda a, b: f"the difference is {a - b}",
}


async def loop(server: Inside, **fields: object) -> list[tuple[str, set[int]]]:
    """An agent that answers every call until there is none, and then asks once more: each prompt, and all that is said
    of its tokens."""
    messages, rounds = [user("begin the sums")], []
    for question in ("And then?", None):
        calls: list[Fields] = [{}]
        while calls:
            asked = {"model": OWN_MODEL, "tools": SUMS, "messages": messages, **fields}
            counted = (await server.post(path=COUNT, max_tokens=..., **asked)).json()["input_tokens"]
            reply, streamed = await both(server, max_tokens=2048, **asked)
            prompt = next(record.prompt for record in reversed(server.engine.records) if len(record.prompt) == counted)
            used = [one["usage"]["input_tokens"] for one in (reply, streamed[0]["message"], streamed[-2])]
            calls = [block for block in reply["content"] if block["type"] == "tool_use"]
            results = [result(one["id"], content=RESULTS[one["name"]](**one["input"])) for one in calls]
            messages += [assistant(reply["content"]), user(results or question)]
            rounds.append((prompt, {counted, *used}))
    return rounds


def written(name: str, a: int, b: int) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {{"a": {a}, "b": {b}}}}}\n</tool_call>'


def heard(text: str) -> tuple[str, str]:
    return "user", f"<tool_response>\n{text}\n</tool_response>"


def conversation(*thoughts: str) -> list[tuple[str, str]]:
    """The agent's conversation as its model reads it, with these thoughts where they are kept."""
    first, second, third = [f"<think>\n{text}\n</think>\n\n" if text else "" for text in thoughts]
    return [
        told_of(*SUMS),
        ("user", "begin the sums"),
        ("assistant", first + written("add", 2, 3)),
        heard("the sum is 5"),
        ("assistant", f"{second}Next.\n" + written("multiply", 5, 4)),
        heard("the product is 20"),
        ("assistant", third + written("subtract", 20, 1)),
        heard("the difference is 19"),
        ("assistant", "It is 19."),
        ("user", "And then?"),
    ]


def test_a_loop_is_replayed_and_counted_to_the_token(inside: InsideRunner) -> None:
    rounds = inside(loop, AGENT_SCRIPT)
    turns = conversation("", "", "")

    assert [rendered(*turns[:length]) for length in (2, 4, 6, 8, 10)] == [prompt for prompt, _ in rounds]
    assert [{len(prompt)} for prompt, _ in rounds] == [counts for _, counts in rounds]


@pytest.mark.parametrize("display", ["summarized", "omitted"])
def test_within_a_loop_the_model_keeps_its_thoughts_and_after_it_they_are_gone(
    inside: InsideRunner, display: str
) -> None:
    async def ask(server: Inside) -> list[tuple[str, set[int]]]:
        return await loop(server, thinking={**THINKING, "display": display})

    rounds = inside(ask, AGENT_SCRIPT)
    kept, gone = conversation("First add.", "Now more.", "Now less."), conversation("", "", "")
    prompts = [rendered(*kept[:length], thinking=True) for length in (2, 4, 6, 8)] + [rendered(*gone, thinking=True)]

    assert prompts == [prompt for prompt, _ in rounds]
    assert [{len(prompt)} for prompt, _ in rounds] == [counts for _, counts in rounds]


def test_without_thinking_a_loop_goes_on_without_the_thoughts_it_had(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> str:
        first = (await server.post(messages=[user("begin the sums")], tools=SUMS, **THINK)).json()["content"]
        messages = [user("begin the sums"), assistant(first), user([result(first[-1]["id"], content="the sum is 5")])]
        assert 200 == (await server.post(messages=messages, tools=SUMS, model=OWN_MODEL)).status_code
        return server.prompt

    assert rendered(*conversation("", "", "")[:4]) == inside(ask, AGENT_SCRIPT)


def test_a_thought_that_was_changed_within_a_loop_is_refused(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> httpx2.Response:
        first = (await server.post(messages=[user("begin the sums")], tools=SUMS, **THINK)).json()["content"]
        changed = [{**first[0], "thinking": "First subtract."}, *first[1:]]
        messages = [user("begin the sums"), assistant(changed), user([result(first[-1]["id"], content="5")])]
        return await server.post(messages=messages, tools=SUMS, **THINK)

    message = assert_contract_error(inside(ask, AGENT_SCRIPT), 400, "invalid_request_error", "messages.1.content.0")
    assert "Invalid `signature` in `thinking` block" in message


def test_content_goes_back_as_any_client_spells_it(inside: InsideRunner) -> None:
    """With every field of the contract that says nothing, as clients that send whole objects do."""
    nothing = {"caller": None, "toolset_name": None, "cache_control": None}

    async def ask(server: Inside) -> list[tuple[int, str]]:
        calls = [
            use(**nothing),
            use(call_id="toolu_2", caller={"type": "direct"}, cache_control={"type": "ephemeral"}),
        ]
        results = [result(content="3", is_error=None, cache_control=None, toolset_name=None), result("toolu_2")]
        full = await server.post(**answered(*results, calls=calls))
        bare = await server.post(
            **answered(result(content="3"), result("toolu_2"), calls=[use(), use(call_id="toolu_2")])
        )
        return [(answer.status_code, answer.json().get("error", {}).get("message", "")) for answer in (full, bare)]

    assert [(200, "")] * 2 == inside(ask)


@anthropic.beta_async_tool
async def add(a: int, b: int) -> str:
    """To add"""
    return RESULTS["add"](a, b)


@anthropic.beta_async_tool
async def multiply(a: int, b: int) -> str:
    """To multiply"""
    return RESULTS["multiply"](a, b)


@anthropic.beta_async_tool
async def subtract(a: int, b: int) -> str:
    """To subtract"""
    return RESULTS["subtract"](a, b)


@pytest.mark.parametrize("thinking", [{"type": "disabled"}, THINKING], ids=["straight", "thinking"])
@pytest.mark.parametrize("thread", [{}, {"thread": False}], ids=["by default", "no thread"])
def test_the_async_runner_of_the_sdk_runs_the_whole_loop(
    scenes: Scenes, thread: Fields, thinking: Mapping[str, object]
) -> None:
    async def run() -> list[str | None]:
        options = {"base_url": scenes.url, "api_key": "any", "max_retries": 0, "_strict_response_validation": True}
        async with anthropic.AsyncAnthropic(**options) as sdk:
            runner = sdk.beta.messages.tool_runner(
                model=OWN_MODEL,
                max_tokens=2048,
                messages=[user("begin the sums")],
                tools=[add, multiply, subtract],
                thinking=thinking,
                **thread,
            )
            messages = [message async for message in runner]
            return [*[message.stop_reason for message in messages], messages[-1].content[-1].text]

    assert ["tool_use", "tool_use", "tool_use", "end_turn", "It is 19."] == asyncio.run(run())
