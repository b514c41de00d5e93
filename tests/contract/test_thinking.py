"""Thinking from outside: what is shown of a thought and what is not, its budget, its stop sequences, its failures."""

import json
from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from tests.conftest import ServerFactory
from tests.contract.errors import REQUEST_ID, assert_contract_error
from tests.contract.inside import NEW_VERSION, OLD_VERSION, Inside, InsideRunner
from tests.contract.scenes import EMBEDDED_WINDOW, MODEL, OWN_MODEL, REDACT, rendered
from tests.faults.wire import connected, gauge, post, read_until, wait_for
from tests.running import RunningServer

Fields = dict[str, Any]

ENABLED = {"type": "enabled", "budget_tokens": 1024}
OMITTED = {**ENABLED, "display": "omitted"}
ADAPTIVE = {"type": "adaptive"}
INTERLEAVED = {"anthropic-beta": "interleaved-thinking-2025-05-14"}
THINK: Fields = {"model": OWN_MODEL, "max_tokens": 2048, "thinking": ENABLED}

PROMPT = rendered(("user", "Hi"))
THINKING_PROMPT = rendered(("user", "Hi"), thinking=True)
CLOSING = "\n</think>\n\n"

SECRET = '[[reply]]\nthink = ["My", " secret", " plan"]\nsay = ["Hello", "."]\n'


def script(think: list[str], say: list[str], **more: object) -> str:
    """A script of one reply; TOML and JSON spell these values alike."""
    fields = {"think": think, "say": say, **more}
    return "[[reply]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())


def events(streamed: httpx2.Response) -> list[Fields]:
    return [json.loads(line[6:]) for line in streamed.text.split("\n") if line.startswith("data: ")]


def blocks(reply: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Kind and text of each block; what a redacted one holds is nobody's business."""
    return [(block["type"], block.get(block["type"], "")) for block in reply["content"]]


def tokens(reply: Mapping[str, Any]) -> tuple[int, int]:
    """Of the thought, and of everything."""
    usage = reply["usage"]
    return usage["output_tokens_details"]["thinking_tokens"], usage["output_tokens"]


# What is seen of a thought.


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("version", [OLD_VERSION, NEW_VERSION], ids=["old", "new"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"thinking": None},
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "between_tools"}},
        {"output_config": {"effort": "max"}},
    ],
    ids=["absent", "null", "disabled", "between_tools", "effort alone"],
)
def test_standard_mode_never_shows_a_thought(
    inside: InsideRunner, fields: Fields, version: Mapping[str, str], stream: bool
) -> None:
    async def ask(server: Inside) -> tuple[str, str]:
        answer = await server.post(model=OWN_MODEL, headers=version, stream=stream, **fields)
        assert 200 == answer.status_code
        return server.prompt, answer.text

    prompt, answer = inside(ask, SECRET)

    assert PROMPT == prompt
    assert [] == [word for word in ("secret", "think>", '"thinking":', "signature", "redacted") if word in answer]
    assert '"thinking_tokens":0' in answer


@pytest.mark.parametrize("version", [OLD_VERSION, NEW_VERSION], ids=["old", "new"])
@pytest.mark.parametrize(
    "thinking",
    [
        ENABLED,
        {**ENABLED, "display": None},
        {**ENABLED, "display": "summarized"},
        ADAPTIVE,
        {**ADAPTIVE, "display": "summarized"},
    ],
)
def test_a_thought_comes_first_and_is_split_out_of_the_usage(
    inside: InsideRunner, thinking: Fields, version: Mapping[str, str]
) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[Fields], list[str]]:
        fields = {**THINK, "thinking": thinking}
        whole = (await server.post(headers=version, **fields)).json()
        streamed = events(await server.post(headers=version, stream=True, **fields))
        return whole, streamed, [record.prompt for record in server.engine.records]

    whole, streamed, prompts = inside(ask, SECRET)
    start, delta = streamed[0]["message"]["usage"], streamed[-2]["usage"]

    assert [("thinking", "My secret plan"), ("text", "Hello.")] == blocks(whole)
    assert [THINKING_PROMPT] * 2 == prompts
    # Three tokens of thought, and the one that ends it.
    assert ((4, 6), "end_turn") == (tokens(whole), whole["stop_reason"])
    assert (len(THINKING_PROMPT), 0, {"thinking_tokens": 0}) == (
        start["input_tokens"],
        start["output_tokens"],
        start["output_tokens_details"],
    )
    assert {key: whole["usage"][key] for key in delta} == delta
    assert {**start, **delta} == whole["usage"]


@pytest.mark.parametrize("thinking", [OMITTED, {**ADAPTIVE, "display": "omitted"}])
def test_of_an_omitted_thought_there_is_the_signature_alone(inside: InsideRunner, thinking: Fields) -> None:
    async def ask(server: Inside) -> tuple[httpx2.Response, httpx2.Response]:
        fields = {**THINK, "thinking": thinking}
        return await server.post(**fields), await server.post(stream=True, **fields)

    whole, streamed = inside(ask, SECRET)
    thought = events(streamed)[1:4]

    assert ([("thinking", ""), ("text", "Hello.")], (4, 6)) == (blocks(whole.json()), tokens(whole.json()))
    assert ["content_block_start", "content_block_delta", "content_block_stop"] == [each["type"] for each in thought]
    assert "signature_delta" == thought[1]["delta"]["type"]
    assert ("secret" in whole.text, "secret" in streamed.text) == (False, False)
    assert whole.json()["content"][0]["signature"]


@pytest.mark.parametrize(
    ("text", "config"), [("Hi", {"redact": "always"}), (f"Hi {REDACT}", {}), (f"Hi {REDACT}", {"redact": "always"})]
)
@pytest.mark.parametrize("thinking", [ENABLED, OMITTED, ADAPTIVE])
def test_a_redacted_thought_is_one_sealed_block(
    inside: InsideRunner, thinking: Fields, text: str, config: Fields
) -> None:
    async def ask(server: Inside) -> tuple[httpx2.Response, httpx2.Response]:
        fields = {**THINK, "thinking": thinking, "messages": [{"role": "user", "content": text}]}
        return await server.post(**fields), await server.post(stream=True, **fields)

    whole, streamed = inside(ask, SECRET, thinking=config)
    thought = events(streamed)[1:3]

    assert ([("redacted_thinking", ""), ("text", "Hello.")], (4, 6)) == (blocks(whole.json()), tokens(whole.json()))
    assert ["type", "data"] == list(whole.json()["content"][0])
    assert ["content_block_start", "content_block_stop"] == [each["type"] for each in thought]
    assert ["type", "data"] == list(thought[0]["content_block"])
    assert ("secret" in whole.text, "secret" in streamed.text) == (False, False)


def test_the_word_that_redacts_is_an_ordinary_word_in_standard_mode(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> list[tuple[str, str]]:
        return blocks((await server.post(messages=[{"role": "user", "content": REDACT}])).json())

    assert [("text", "Hello.")] == inside(ask, SECRET)


SHAPES = {
    "no thought": (script([], ["Yes"]), [("text", "Yes")], (1, 2)),
    "a thought of white space": (script([" ", "\n"], ["Yes"]), [("text", "Yes")], (3, 4)),
    "no answer": (script(["Hm"], []), [("thinking", "Hm")], (2, 2)),
    "neither": (script([], []), [], (1, 1)),
    "white space around both": (
        script(["\n", " a", " b ", "\n"], ["\n", " Yes", " and no "]),
        [("thinking", "a b"), ("text", "Yes and no ")],
        (5, 8),
    ),
    "the tag in pieces": (
        script(["Let", " me</th", "ink>", "\n\nYes", "."], [], ends_thought=False),
        [("thinking", "Let me"), ("text", "Yes.")],
        (3, 5),
    ),
    "a turn that ends in the thought": (
        script(["Let", " me"], ["Yes"], ends_thought=False),
        [("thinking", "Let me"), ("text", "Yes")],
        (2, 3),
    ),
    "what only looks like the tag": (
        script(["a </thin", "king> b"], ["</think", " or not"]),
        [("thinking", "a </thinking> b"), ("text", "</think or not")],
        (3, 5),
    ),
    "a second thought": (
        script(["One"], ["So", "<think>", "Two", "</think>", "Done"]),
        [("thinking", "One"), ("text", "So"), ("thinking", "Two"), ("text", "Done")],
        (5, 7),
    ),
}


@pytest.mark.parametrize(("scene", "content", "count"), SHAPES.values(), ids=SHAPES.keys())
def test_blocks_are_what_the_model_thought_and_said(
    inside: InsideRunner, scene: str, content: object, count: object
) -> None:
    async def ask(server: Inside) -> list[Fields]:
        whole = (await server.post(**THINK)).json()
        streamed = events(await server.post(stream=True, **THINK))
        starts = [event["content_block"]["type"] for event in streamed if event["type"] == "content_block_start"]
        assert starts == [block["type"] for block in whole["content"]]
        assert streamed[-2]["usage"].items() <= whole["usage"].items()
        return whole

    reply = inside(ask, scene)

    assert (content, count) == (blocks(reply), tokens(reply))


# The budget.

ENDLESS = script(["on "], ["At", " last", "."], think_repeat=10_000, ends_thought=False)


@pytest.mark.parametrize(
    ("budget", "max_tokens"), [(1024, 1025), (1024, 1026), (1024, 2048), (1025, 2048), (4096, 4099), (4096, 8192)]
)
@pytest.mark.parametrize("display", ["summarized", "omitted"])
def test_a_thought_without_end_takes_its_budget_to_the_token_and_an_answer_follows(
    inside: InsideRunner, budget: int, max_tokens: int, display: str
) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[tuple[str, int]]]:
        thinking = {**ENABLED, "budget_tokens": budget, "display": display}
        reply = (await server.post(model=OWN_MODEL, max_tokens=max_tokens, thinking=thinking)).json()
        return reply, [(record.prompt, record.job.max_tokens) for record in server.engine.records]

    reply, asked = inside(ask, ENDLESS)
    answer = ["At", " last", "."][: max_tokens - budget]
    thought = "on " * budget

    assert (budget, budget + len(answer)) == tokens(reply)
    assert ("text", "".join(answer)) == blocks(reply)[-1]
    assert ("end_turn" if max_tokens - budget > 3 else "max_tokens") == reply["stop_reason"]
    # The engine is asked for the budget and no more, then for the rest, after what was thought and the tag.
    second = THINKING_PROMPT + thought + CLOSING
    assert [(THINKING_PROMPT, budget), (second, max_tokens - budget)] == asked


@pytest.mark.parametrize("length", [1022, 1023, 1024, 1025], ids=["room left", "just so", "no tag", "one too many"])
def test_a_thought_that_ends_near_its_budget_ends_once(inside: InsideRunner, length: int) -> None:
    async def ask(server: Inside) -> Fields:
        return (await server.post(**THINK)).json()

    reply = inside(ask, script(["on "], ["!"], think_repeat=length))
    shown, counted = min(length, 1024), min(length + 1, 1024)

    assert [("thinking", ("on " * shown).strip()), ("text", "!")] == blocks(reply)
    assert ((counted, counted + 1), "end_turn") == (tokens(reply), reply["stop_reason"])


def test_an_answer_that_goes_past_the_budget_is_whole(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> Fields:
        return (await server.post(**THINK)).json()

    reply = inside(ask, script(["Hm"], ["one ", "two "], repeat=2000))

    assert [("thinking", "Hm"), ("text", "one two " * 1023)] == blocks(reply)
    assert ((2, 2048), "max_tokens") == (tokens(reply), reply["stop_reason"])


def test_a_budget_above_max_tokens_leaves_a_quarter_of_them_for_the_answer(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> Fields:
        return (await server.post(model=OWN_MODEL, max_tokens=8, thinking=ENABLED, headers=INTERLEAVED)).json()

    reply = inside(ask, ENDLESS.replace("last", "long last"))

    assert [("thinking", "on on on on on on"), ("text", "At long last")] == blocks(reply)
    assert ((6, 8), "max_tokens") == (tokens(reply), reply["stop_reason"])


@pytest.mark.parametrize(
    ("effort", "longest"), [(None, 6_000), ("low", 1_024), ("medium", 4_096), ("high", 6_000), ("max", 6_000)]
)
def test_the_effort_bounds_a_thought_that_the_model_may_end(
    inside: InsideRunner, effort: str | None, longest: int
) -> None:
    async def ask(server: Inside) -> Fields:
        config = {"output_config": {"effort": effort}}
        return (await server.post(model=OWN_MODEL, max_tokens=8_000, thinking=ADAPTIVE, **config)).json()

    reply = inside(ask, ENDLESS)

    assert ((longest, longest + 3), ("text", "At last.")) == (tokens(reply), blocks(reply)[-1])


def test_where_the_window_ends_first_thought_and_answer_share_it(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> Fields:
        return (await server.post(**{**THINK, "model": MODEL})).json()

    window = len(THINKING_PROMPT) + len(CLOSING) + 100
    reply = inside(ask, f"window = {window}\n" + ENDLESS.replace('"At"', ", ".join(['"At"'] * 100)))

    assert [("thinking", ("on " * 50).strip()), ("text", "At" * 50)] == blocks(reply)
    assert ((50, 100), "model_context_window_exceeded") == (tokens(reply), reply["stop_reason"])


@pytest.mark.parametrize("fields", [{"thinking": ADAPTIVE}, {"headers": INTERLEAVED}])
def test_where_there_is_room_for_one_token_it_is_the_answers(inside: InsideRunner, fields: Fields) -> None:
    async def ask(server: Inside) -> Fields:
        return (await server.post(**{**THINK, "max_tokens": 1, **fields})).json()

    reply = inside(ask, ENDLESS)

    assert ([("text", "At")], (0, 1), "max_tokens") == (blocks(reply), tokens(reply), reply["stop_reason"])


def test_a_request_that_writes_nothing_thinks_nothing(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> tuple[Fields, str]:
        return (await server.post(model=OWN_MODEL, max_tokens=0, thinking=ADAPTIVE)).json(), server.prompt

    reply, prompt = inside(ask, SECRET)

    assert ([], (0, 0), "max_tokens") == (blocks(reply), tokens(reply), reply["stop_reason"])
    assert (len(prompt), THINKING_PROMPT) == (reply["usage"]["input_tokens"], prompt)


# Stop sequences.

STOPS = script(["a STOP ", "b ST", "OP."], ["one ", "two ST", "OP three"])
STOP_CASES = {
    "only in the answer": (["STOP"], [("thinking", "a STOP b STOP."), ("text", "one two ")], "STOP", (4, 7)),
    "only in the thought": (["b ST"], [("thinking", "a STOP b STOP."), ("text", "one two STOP three")], None, (4, 7)),
    "across the end of the thought": (
        [".one", ".\n", "OP.one"],
        [("thinking", "a STOP b STOP."), ("text", "one two STOP three")],
        None,
        (4, 7),
    ),
    "the tag itself": (
        ["</think>", "think"],
        [("thinking", "a STOP b STOP."), ("text", "one two STOP three")],
        None,
        (4, 7),
    ),
    "the answer's first word": (["one"], [("thinking", "a STOP b STOP.")], "one", (4, 5)),
}


@pytest.mark.parametrize(("stops", "content", "stop", "count"), STOP_CASES.values(), ids=STOP_CASES.keys())
def test_a_stop_sequence_fires_in_the_answer_and_never_in_a_thought(
    inside: InsideRunner, stops: list[str], content: object, stop: str | None, count: object
) -> None:
    async def ask(server: Inside) -> list[Fields]:
        shown = (await server.post(stop_sequences=stops, **THINK)).json()
        hidden = (await server.post(stop_sequences=stops, **{**THINK, "thinking": OMITTED})).json()
        return [shown, hidden]

    shown, hidden = inside(ask, STOPS)

    assert (content, count) == (blocks(shown), tokens(shown))
    assert (count, stop) == (tokens(hidden), hidden["stop_sequence"])
    assert ("stop_sequence" if stop else "end_turn", stop) == (shown["stop_reason"], shown["stop_sequence"])


def test_a_stop_sequence_fires_after_a_thought_that_was_ended_for_the_model(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> tuple[Fields, tuple[int, bool, int]]:
        reply = (await server.post(stop_sequences=["last"], **THINK)).json()
        return reply, (server.last.said, server.last.closed, server.engine.running)

    reply, engine = inside(ask, ENDLESS)

    assert (("text", "At "), "last", (1024, 1026)) == (blocks(reply)[-1], reply["stop_sequence"], tokens(reply))
    assert (2, True, 0) == engine


@pytest.mark.parametrize("rest", ["ay", "OP"])
def test_text_that_waits_for_a_stop_sequence_comes_before_the_thought_that_follows_it(
    inside: InsideRunner, rest: str
) -> None:
    async def ask(server: Inside) -> Fields:
        return (await server.post(stop_sequences=["STOP"], **THINK)).json()

    reply = inside(ask, script(["One"], ["an ST", "<think>", "Two", "</think>", rest]))

    assert [("thinking", "One"), ("text", "an ST"), ("thinking", "Two"), ("text", rest)] == blocks(reply)
    assert ("end_turn", None) == (reply["stop_reason"], reply["stop_sequence"])


# Failures, and clients that leave.

FAULTS = """
slots = 8
stall_timeout_s = 0.5
restart_s = 0.1
[[reply]]
when = "THEN"
think = ["Half", " a thought"]
ends_thought = false
then = "{then}"
"""


@pytest.mark.parametrize("then", ["error", "crash", "hang", "stop_short"])
def test_a_failure_in_a_thought_is_an_error_and_no_signature(inside: InsideRunner, then: str) -> None:
    async def ask(server: Inside) -> tuple[httpx2.Response, httpx2.Response, int]:
        fields = {**THINK, "messages": [{"role": "user", "content": "THEN"}]}
        streamed = await server.post(stream=True, **fields)
        while not server.engine.ready:
            await server.client.get("/healthz")
        return streamed, await server.post(**fields), server.engine.running

    streamed, whole, running = inside(ask, FAULTS.replace("{then}", then))
    told = events(streamed)

    assert ["message_start", "content_block_start", *["content_block_delta"] * 2, "error"] == [
        event["type"] for event in told
    ]
    assert ["Half", " a thought"] == [event["delta"]["thinking"] for event in told[2:4]]
    assert ("signature_delta" in streamed.text, "api_error") == (False, told[-1]["error"]["type"])
    assert REQUEST_ID.fullmatch(told[-1]["request_id"])
    assert_contract_error(whole, 500, "api_error")
    assert 0 == running


@pytest.mark.parametrize("thinking", [OMITTED, {**ENABLED, "display": "summarized"}])
def test_a_failure_after_the_thought_keeps_its_signature_and_is_an_error(
    inside: InsideRunner, thinking: Fields
) -> None:
    async def ask(server: Inside) -> list[Fields]:
        return events(await server.post(stream=True, **{**THINK, "thinking": thinking}))

    told = inside(ask, script(["on "], ["At"], think_repeat=5000, then="error"))

    assert ["content_block_delta", "content_block_stop", "content_block_start", "content_block_delta", "error"] == [
        event["type"] for event in told[-5:]
    ]
    assert ("signature_delta", {"type": "text_delta", "text": "At"}) == (told[-5]["delta"]["type"], told[-2]["delta"])


@pytest.mark.parametrize(("thinking", "text"), [(OMITTED, "Hi"), (ENABLED, REDACT)])
def test_a_failure_before_anything_was_shown_is_a_status(inside: InsideRunner, thinking: Fields, text: str) -> None:
    async def ask(server: Inside) -> httpx2.Response:
        messages = [{"role": "user", "content": text}]
        return await server.post(stream=True, **{**THINK, "thinking": thinking, "messages": messages})

    refused = inside(ask, script(["Half"], [], ends_thought=False, then="error"))

    assert_contract_error(refused, 500, "api_error")


LEAVING = """
slots = 4
[[reply]]
when = "SLOWLY"
think = ["tick "]
think_repeat = 100000
tokens_per_s = 50

[[reply]]
when = "QUICKLY"
think = ["tick "]
think_repeat = 100000
ends_thought = false
say = ["tock "]
then = "hang"
"""

RUNNING = "sestet_slots_running"
REPLIES = "sestet_replies_total"


def settled(server: RunningServer) -> list[tuple[str, bool]]:
    lines = [json.loads(line) for line in server.log.splitlines() if '"event":"reply"' in line]
    return [(line["ending"], line["output_tokens"] > 0) for line in lines]


def test_whoever_leaves_during_a_thought_closes_the_engine(serve: ServerFactory) -> None:
    """A thought that is shown, one that is omitted, one that nobody is told of before it ends, and the answer."""
    server = serve(script=LEAVING)
    slow, quick = ({**THINK, "messages": [{"role": "user", "content": text}]} for text in ("SLOWLY", "QUICKLY"))
    seen = [
        ({**slow, "stream": True}, b"thinking_delta"),
        ({**slow, "stream": True, "thinking": OMITTED}, b"content_block_start"),
        (
            {
                **slow,
                "stream": True,
                "system": "Be brief",
                "messages": [{"role": "user", "content": f"SLOWLY {REDACT}"}],
            },
            b"message_start",
        ),
        ({**quick, "stream": True}, b"tock"),
    ]
    for count, (fields, mark) in enumerate(seen, start=1):
        with connected(server.port) as connection:
            connection.sendall(post(fields))
            read_until(connection, mark)
            assert 1.0 == gauge(server, RUNNING)
        wait_for(server, RUNNING, 0.0, 5)
        wait_for(server, REPLIES, float(count), 5)

    assert [("abandoned", True)] * len(seen) == settled(server)


def test_whoever_leaves_a_whole_reply_during_its_thought_closes_the_engine(serve: ServerFactory) -> None:
    server = serve(script=LEAVING)
    with connected(server.port) as connection:
        connection.sendall(post({**THINK, "messages": [{"role": "user", "content": "SLOWLY"}]}))
        wait_for(server, RUNNING, 1.0, 5)
    wait_for(server, RUNNING, 0.0, 5)
    wait_for(server, REPLIES, 1.0, 5)

    assert ["abandoned"] == [ending for ending, _ in settled(server)]


# The embedded model, whose wisdom is not asked for.


@pytest.mark.parametrize("display", ["summarized", "omitted"])
@pytest.mark.parametrize("version", [OLD_VERSION, NEW_VERSION], ids=["old", "new"])
def test_the_embedded_model_thinks_within_its_share_of_the_window(
    embedded_model: RunningServer, version: Mapping[str, str], display: str
) -> None:
    prompt = {
        "model": MODEL,
        "thinking": {**ENABLED, "display": display},
        "messages": [{"role": "user", "content": "What is 2 + 2?"}],
    }
    with httpx2.Client(base_url=embedded_model.url, headers=version, timeout=60) as client:
        counted = client.post("/v1/messages/count_tokens", json=prompt).json()
        reply = client.post("/v1/messages", json={**prompt, "max_tokens": 2048}).json()
        replied = [*prompt["messages"], {"role": "assistant", "content": reply["content"]}, *prompt["messages"]]
        again = client.post("/v1/messages", json={"model": MODEL, "max_tokens": 1, "messages": replied})

    thought, total = tokens(reply)
    room = EMBEDDED_WINDOW - counted["input_tokens"]
    assert counted["input_tokens"] == reply["usage"]["input_tokens"]
    assert 0 < thought <= room // 2
    assert thought <= total <= room
    assert (200, None) == (again.status_code, again.headers.get("sestet-dropped-thinking-blocks")), again.text
