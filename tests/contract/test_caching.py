"""Prompt caching over HTTP and by the newest SDK: what the usage of every reply says of it (WIRE.md sections 2.8, 3.3
and 3.4). A token of the scripted engine is a character, so the numbers are lengths of texts."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from tests.contract.errors import assert_contract_error
from tests.contract.scenes import OWN_MODEL, SNAPSHOT, WEATHER, rendered, scripted_reply, told_of, tool
from tests.faults.wire import events, wait_for
from tests.ledger_check import check as check_ledger
from tests.running import RunningServer, start_server

KEY, ADMIN = "sk-of-the-caching-tests", "sk-admin-of-the-caching-tests"
CONFIG = f'[access]\nkeys = ["{KEY}"]\nadmin_keys = ["{ADMIN}"]\n'
SCRIPT = "slots = 8\n" + "".join(
    (
        scripted_reply(when="TICK", say=["tick "], repeat=100_000, tokens_per_s=100),
        scripted_reply(think=["Hm", "."], say=["Hello", ",", " world", "."]),
    )
)
MINIMUM = {OWN_MODEL: 64, SNAPSHOT: 1_024}
SHORT = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
ENABLED = {"type": "enabled", "budget_tokens": 1_024}

Fields = dict[str, Any]


def text(words: str, control: Fields | None = None, **fields: object) -> Fields:
    return {"type": "text", "text": words, **({"cache_control": control} if control else {}), **fields}


def long(name: str, characters: int = 1_500) -> str:
    """A text that no other test has."""
    return f"{name}: ".ljust(characters, "x")


def user(*blocks: Fields) -> Fields:
    return {"role": "user", "content": [*blocks]}


def up_to(prompt: str, words: str) -> int:
    """The length of a prompt up to the end of what is in it once."""
    assert 1 == prompt.count(words)
    return prompt.index(words) + len(words)


def usage(rest: int, *, short: int = 0, hour: int = 0, read: int = 0, output: tuple[int, int] = (4, 0)) -> Fields:
    """All of it; `output` are the tokens of the reply and of its thought."""
    return {
        "input_tokens": rest,
        "cache_creation_input_tokens": short + hour,
        "cache_read_input_tokens": read,
        "output_tokens": output[0],
        "output_tokens_details": {"thinking_tokens": output[1]},
        "server_tool_use": None,
        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": hour},
        "service_tier": "standard",
        "inference_geo": "not_available",
        "speed": "standard",
    }


AT_THE_START = ("cache_creation", "service_tier", "inference_geo", "speed")


@dataclass
class Site:
    """A server, a key of its default workspace and one of another, and the folder of its data."""

    server: RunningServer
    folder: Path
    http: httpx2.Client
    sdk: anthropic.Anthropic
    neighbour: str

    def post(self, fields: Fields, key: str = KEY, **headers: str) -> httpx2.Response:
        path = "/v1/messages" if "max_tokens" in fields else "/v1/messages/count_tokens"
        return self.http.post(path, json=fields, headers={"x-api-key": key, **headers})

    def ask(self, key: str = KEY, **fields: Any) -> Fields:
        """The whole reply, whose usage adds up to what is counted of the same prompt."""
        answer = self.post(request(**fields), key)
        assert 200 == answer.status_code, answer.text
        said = answer.json()["usage"]
        parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        assert self.count(**fields) == sum(said[part] for part in parts)
        assert said["cache_creation_input_tokens"] == sum(said["cache_creation"].values())
        return dict(answer.json())

    def usage(self, **fields: Any) -> Fields:
        found: Fields = self.ask(**fields)["usage"]
        return found

    def count(self, **fields: Any) -> int:
        only_of_replies = {"max_tokens", "stop_sequences", "diagnostics", "service_tier"}
        answer = self.post({name: value for name, value in request(**fields).items() if name not in only_of_replies})
        return int(answer.json()["input_tokens"])


def request(**fields: Any) -> Fields:
    return {"model": OWN_MODEL, "max_tokens": 2_000, "messages": [{"role": "user", "content": "Hi"}], **fields}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("caching")
    server = start_server(folder, script=SCRIPT, config=CONFIG)

    try:
        sdk = anthropic.Anthropic(base_url=server.url, api_key=KEY, max_retries=0, _strict_response_validation=True)
        with httpx2.Client(base_url=server.url, timeout=30) as http, sdk:

            def made(path: str, **body: object) -> Fields:
                answer = http.post(f"/v1/organizations/{path}", json=body, headers={"x-api-key": ADMIN})
                assert 200 == answer.status_code, answer.text
                return dict(answer.json())

            workspace = made("workspaces", name="Next door")["id"]
            neighbour = made("api_keys", name="k", workspace_id=workspace, scopes=["inference"])["key"]
            yield Site(server, folder, http, sdk, neighbour)
    finally:
        server.stop()


def told_whole(site: Site, fields: Fields) -> list[Fields]:
    return [site.post(fields).json()["usage"]]


def told_streamed(site: Site, fields: Fields) -> list[Fields]:
    """At the start, before a word is said, and at the end, where what cannot change any more is left out."""
    told = events(site.post({**fields, "stream": True}).content)
    start = next(data["message"]["usage"] for name, data in told if name == "message_start")
    end = next(data["usage"] for name, data in told if name == "message_delta")
    assert [] == [name for name in AT_THE_START if name in end]
    assert {**start, "output_tokens": 4} == {**end, **{name: start[name] for name in AT_THE_START}}
    return [{**start, **end}]


def told_by_the_sdk(site: Site, fields: Fields) -> list[Fields]:
    return [site.sdk.messages.create(**fields).usage.model_dump()]


def told_by_the_sdks_stream(site: Site, fields: Fields) -> list[Fields]:
    with site.sdk.messages.stream(**fields) as stream:
        return [stream.get_final_message().usage.model_dump()]


WAYS = {
    "whole": told_whole,
    "streamed": told_streamed,
    "sdk": told_by_the_sdk,
    "sdk-stream": told_by_the_sdks_stream,
}


@pytest.mark.parametrize(
    ("way", "model"), [*((way, OWN_MODEL) for way in WAYS), ("whole", SNAPSHOT), ("streamed", SNAPSHOT)]
)
def test_what_one_request_writes_the_next_one_reads(site: Site, way: str, model: str) -> None:
    handbook = long(f"handbook {way} {model}", MINIMUM[model] + 10)
    kept = len("<|im_start|>system\n" + handbook)

    def told(question: str) -> list[Fields]:
        fields = request(model=model, system=[text(handbook, SHORT)], messages=[{"role": "user", "content": question}])
        return WAYS[way](site, fields)

    def rest(question: str) -> int:
        return len(rendered(("system", handbook), ("user", question))) - kept

    assert [usage(rest("Hi"), short=kept)] == told("Hi")
    assert [usage(rest("Hi"), read=kept)] == told("Hi")
    assert [usage(rest("Who is it?"), read=kept)] == told("Who is it?")


def test_writes_are_told_by_their_lifetime(site: Site) -> None:
    system, question = long("for an hour"), long("for five minutes")
    prompt = rendered(("system", system), ("user", question))
    hour, short = up_to(prompt, system), up_to(prompt, question)
    fields = {"system": [text(system, HOUR)], "messages": [user(text(question, SHORT))]}

    assert usage(len(prompt) - short, hour=hour, short=short - hour) == site.usage(**fields)
    assert usage(len(prompt) - short, read=short) == site.usage(**fields)


@pytest.mark.parametrize("control", [SHORT, HOUR], ids=["5m", "1h"])
def test_automatic_caching_goes_along_with_a_conversation(site: Site, control: Fields) -> None:
    system = long(f"a long talk {control}", 200)
    said = [("system", system)]
    messages: list[Fields] = []
    lifetime = "hour" if control is HOUR else "short"
    read = 0
    for question in ("First?", "Second?", "Third?", "Fourth?"):
        said.append(("user", question))
        messages.append({"role": "user", "content": question})
        prompt = rendered(*said)
        end = up_to(prompt, question)
        written: Fields = {lifetime: end - read}
        reply = site.ask(system=system, messages=messages, cache_control=control)

        assert usage(len(prompt) - end, read=read, **written) == reply["usage"]
        read = end
        said.append(("assistant", "Hello, world."))
        messages.append({"role": "assistant", "content": reply["content"]})


CALL = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}}
CALLED = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
PLACES = ("tool", "system", "user", "assistant", "tool_use", "tool_result", "within a tool_result", "automatic")


@pytest.mark.parametrize("place", PLACES)
def test_a_breakpoint_may_be_at_every_kind_of_block(site: Site, place: str) -> None:
    name = long(f"kinds {place}", 100)

    def control(here: str) -> Fields:
        return {"cache_control": SHORT} if here == place else {}

    answer = {"type": "tool_result", "tool_use_id": "toolu_1", **control("tool_result")}
    fields: Fields = {
        "tools": [WEATHER, {**tool("get_time"), "description": name, **control("tool")}],
        "system": [{**text(f"system {name}"), **control("system")}],
        "messages": [
            user({**text(f"user {name}"), **control("user")}),
            {
                "role": "assistant",
                "content": [{**text("Let me look."), **control("assistant")}, {**CALL, **control("tool_use")}],
            },
            user({**answer, "content": [{**text("It rains."), **control("within a tool_result")}]}),
        ],
        **control("automatic"),
    }
    system = told_of(*fields["tools"])[1] + f"\n\nsystem {name}"
    called = f"Let me look.\n{CALLED}"
    answered = "<tool_response>\nIt rains.\n</tool_response>"
    prompt = rendered(("system", system), ("user", f"user {name}"), ("assistant", called), ("user", answered))
    last = json.dumps(fields["tools"][1]["input_schema"]) + "}}\nTo"
    ends = {
        "tool": up_to(prompt, last) - len("\nTo"),
        "system": up_to(prompt, f"system {name}"),
        "user": up_to(prompt, f"user {name}"),
        "assistant": up_to(prompt, "Let me look."),
        "tool_use": up_to(prompt, CALLED),
    }
    end = ends.get(place, up_to(prompt, "It rains."))

    assert usage(len(prompt) - end, short=end) == site.usage(**fields)
    assert usage(len(prompt) - end, read=end) == site.usage(**fields)


def layered(name: str, **changed: Any) -> Fields:
    """Breakpoints at the end of the tools, of the system prompt and of the messages."""
    fields = {
        "tools": [{**WEATHER, "description": long(f"tool {name}", 100), "cache_control": SHORT}],
        "system": [text(long(f"system {name}", 100), SHORT)],
        "messages": [user(text(long(f"question {name}", 100), SHORT))],
    }
    return {**fields, **changed}


def ends(fields: Fields) -> tuple[int, int, int, int]:
    """Where tools, system and messages end in a prompt of this form, and the prompt."""
    system, question = fields["system"][0]["text"], fields["messages"][0]["content"][0]["text"]
    prompt = rendered(
        ("system", f"{told_of(*fields['tools'])[1]}\n\n{system}"),
        ("user", question),
        thinking=fields.get("thinking", {}).get("type") == "enabled",
    )
    tools = prompt.index("\nTo call one")
    return tools, up_to(prompt, system), up_to(prompt, question), len(prompt)


CHANGES: list[tuple[str, Fields, str]] = [
    ("nothing", {}, "messages"),
    ("thinking is turned on", {"thinking": ENABLED}, "system"),
    ("no tool may be called", {"tool_choice": {"type": "none"}}, "system"),
    ("one tool at a time", {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}, "system"),
    ("the question", {"messages": [user(text(long("another question", 100), SHORT))]}, "system"),
    ("the system prompt", {"system": [text(long("another system", 100), SHORT)]}, "tools"),
    ("the tools", {"tools": [{**WEATHER, "cache_control": SHORT}]}, "nothing"),
]


@pytest.mark.parametrize(("what", "changed", "read"), CHANGES, ids=[what for what, _, _ in CHANGES])
def test_a_change_keeps_what_comes_before_it(site: Site, what: str, changed: Fields, read: str) -> None:
    first, then = layered(what), layered(what, **changed)
    site.ask(**first)
    tools, system, messages, prompt = ends(then)
    kept = {"nothing": 0, "tools": tools, "system": system, "messages": messages}[read]
    told = [numbers(site.usage(**fields)) for fields in (then, then)]

    assert [(prompt - messages, messages - kept, kept), (prompt - messages, 0, messages)] == told
    assert ends(first)[2] == site.usage(**first)["cache_read_input_tokens"]


def test_another_budget_of_thoughts_loses_messages_alone(site: Site) -> None:
    fields = layered("budgets", thinking=ENABLED)
    other = {**fields, "thinking": {**ENABLED, "budget_tokens": 1_500}}
    _, system, messages, prompt = ends(fields)
    written = [site.usage(**fields), site.usage(**other)]
    read = [site.usage(**fields), site.usage(**other)]

    assert [(messages, 0), (messages - system, system)] == [numbers(one)[1:] for one in written]
    assert [(prompt - messages, 0, messages)] * 2 == [numbers(one) for one in read]


def numbers(told: Fields) -> tuple[int, int, int]:
    return told["input_tokens"], told["cache_creation_input_tokens"], told["cache_read_input_tokens"]


def test_a_request_without_a_reply_warms_the_cache(site: Site) -> None:
    system = long("warm me")
    prompt = rendered(("system", system), ("user", "Hi"))
    kept = up_to(prompt, system)
    fields = {"system": [text(system, SHORT)]}

    assert usage(len(prompt) - kept, short=kept, output=(0, 0)) == site.usage(max_tokens=0, **fields)
    assert usage(len(prompt) - kept, read=kept) == site.usage(**fields)


@pytest.mark.parametrize("model", MINIMUM)
def test_a_prefix_is_kept_from_the_cards_minimum_on(site: Site, model: str) -> None:
    frame = len("<|im_start|>system\n")
    least = MINIMUM[model]
    enough, less = long("enough", least - frame), long("one less", least - frame - 1)
    told = [numbers(site.usage(model=model, system=[text(words, SHORT)])) for words in (enough, enough, less, less)]
    rest = len(rendered(("system", enough), ("user", "Hi"))) - least

    assert [(rest, least, 0), (rest, 0, least), *[(rest + least - 1, 0, 0)] * 2] == told


def test_tokens_are_counted_alike_wherever_breakpoints_are(site: Site) -> None:
    marked = layered("counted", messages=[user(text("One "), text(" two", HOUR)), user(text("three"))])
    bare = json.loads(json.dumps(marked), object_hook=without_control)
    later = {**bare, "cache_control": SHORT}

    assert {site.count(**bare)} == {site.count(**marked | {"tools": bare["tools"], "system": bare["system"]})}
    assert site.count(**bare) == site.count(**later)


def without_control(value: Fields) -> Fields:
    return {name: one for name, one in value.items() if name != "cache_control"}


FIVE = [user(*(text(f"{number}", SHORT) for number in range(5)))]
THOUGHT = {"type": "thinking", "thinking": "Hm", "signature": "eA==", "cache_control": SHORT}
REFUSED: dict[str, tuple[Fields, str]] = {
    "five": ({"messages": FIVE}, "messages.0.content.4"),
    "five with the automatic one": (
        {"messages": [user(*FIVE[0]["content"][:4], text("last"))], "cache_control": SHORT},
        "cache_control",
    ),
    "an hour after five minutes": (
        {"system": [text("s", SHORT)], "messages": [user(text("u", HOUR))]},
        "messages.0.content.0.cache_control.ttl",
    ),
    "an automatic hour after five minutes": (
        {"system": [text("s", SHORT)], "cache_control": HOUR},
        "cache_control.ttl",
    ),
    "automatic beside another lifetime": (
        {"messages": [user(text("u", SHORT))], "cache_control": HOUR},
        "cache_control",
    ),
    "a thought": (
        {"messages": [user(text("u")), {"role": "assistant", "content": [THOUGHT, text("t")]}, user(text("v"))]},
        "messages.1.content.0.cache_control",
    ),
    "an empty text": ({"messages": [user(text("u"), text("", SHORT))]}, "messages.0.content.1.text"),
    "another type": ({"cache_control": {"type": "persistent"}}, "cache_control.type"),
    "another lifetime": ({"cache_control": {**SHORT, "ttl": "2h"}}, "cache_control.ttl"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("counting", [False, True], ids=["reply", "count"])
def test_a_breakpoint_that_breaks_a_rule_is_refused_by_its_path(site: Site, case: str, counting: bool) -> None:
    fields, path = REFUSED[case]
    body = request(**fields)
    answer = site.post({name: value for name, value in body.items() if name != "max_tokens" or not counting})

    message = assert_contract_error(answer, 400, "invalid_request_error")
    assert path == message.partition(": ")[0], message


def test_four_breakpoints_and_an_automatic_one_at_the_same_block_are_fine(site: Site) -> None:
    fields = {"messages": [user(*(text(long(f"four {at}", 100), SHORT) for at in range(4)))], "cache_control": SHORT}

    assert 0 < site.usage(**fields)["cache_creation_input_tokens"] == site.usage(**fields)["cache_read_input_tokens"]


def why(reply: Fields) -> Fields | None:
    return None if reply["diagnostics"] is None else reply["diagnostics"]["cache_miss_reason"]


LATER = [
    user(text(long("question diagnosed", 100), SHORT)),
    {"role": "assistant", "content": "Hello, world."},
    user(text("Go on.")),
]
# What has changed, why nothing could be reused, and the first and the last place of what was missed.
MISSES: dict[str, tuple[Fields, str | None, str, str]] = {
    "nothing": ({}, None, "", ""),
    "more was said": ({"messages": LATER}, None, "", ""),
    "model": ({"model": SNAPSHOT}, "model_changed", "nothing", "messages"),
    "tools": ({"tools": [{**WEATHER, "description": "x" * 70}]}, "tools_changed", "nothing", "messages"),
    "no tools": ({"tools": []}, "tools_changed", "nothing", "messages"),
    "system": ({"system": [text("Another.")]}, "system_changed", "tools", "messages"),
    "messages": ({"messages": [user(text("Another."))]}, "messages_changed", "system", "messages"),
    "thinking": ({"thinking": ENABLED}, "unavailable", "", ""),
    "tool_choice": ({"tool_choice": {"type": "none"}}, "unavailable", "", ""),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("case", MISSES)
def test_a_reply_says_why_nothing_could_be_reused(site: Site, case: str, stream: bool) -> None:
    changed, reason, since, until = MISSES[case]
    first = layered("diagnosed")
    before = site.ask(**first, diagnostics={})
    then = request(**layered("diagnosed", **changed), diagnostics={"previous_message_id": before["id"]})
    tools, system, messages, _ = ends(first)
    at = {"nothing": 0, "tools": tools, "system": system, "messages": messages}
    missed = {"cache_missed_input_tokens": at[until] - at[since]} if until else {}
    answer = site.post({**then, "stream": stream})
    reply = next(data["message"] for name, data in events(answer.content)) if stream else answer.json()

    assert why(before) is None
    assert why(reply) == (None if reason is None else {"type": reason, **missed})


@pytest.mark.parametrize("whose", ["nobody's", "one that did not ask", "the neighbour's"])
def test_a_message_that_is_not_remembered_is_not_found(site: Site, whose: str) -> None:
    fields = layered(f"not found {whose}")
    known: dict[str, Callable[[], str]] = {
        "nobody's": lambda: "msg_0123456789",
        "one that did not ask": lambda: site.ask(**fields)["id"],
        "the neighbour's": lambda: site.ask(site.neighbour, **fields, diagnostics={})["id"],
    }
    reply = site.ask(**fields, diagnostics={"previous_message_id": known[whose]()})

    assert {"type": "previous_message_not_found"} == why(reply)


def test_another_workspace_reads_nothing(site: Site) -> None:
    fields = layered("of one workspace")
    _, _, end, prompt = ends(fields)
    told = [numbers(site.ask(key, **fields)["usage"]) for key in (KEY, site.neighbour, KEY, site.neighbour)]

    assert [(prompt - end, end, 0)] * 2 + [(prompt - end, 0, end)] * 2 == told


def test_a_repeated_request_is_told_and_billed_once(site: Site) -> None:
    fields = request(**layered("repeated"))
    url = f"sqlite:///{site.folder}/sestet/sestet.db"
    wait_for(site.server, "sestet_ledger_running", 0.0, 5, ADMIN)
    before = len(check_ledger(url))
    first, again = (site.post(fields, **{"idempotency-key": "caching"}) for _ in range(2))
    row = check_ledger(url)[-1]

    assert "true" == again.headers["idempotent-replayed"]
    assert first.json() == again.json()
    assert before + 1 == len(check_ledger(url))
    assert numbers(first.json()["usage"])[1:] == (row["cache_write_5m_tokens"], row["cache_read_tokens"])
    assert ends(fields)[2] == site.usage(**fields)["cache_read_input_tokens"]


def test_the_tier_is_told_beside_the_cache(site: Site) -> None:
    fields = layered("tier", service_tier="standard_only")

    assert ["standard"] * 2 == [site.usage(**fields)["service_tier"] for _ in range(2)]


def leave_after_a_word(site: Site, fields: Fields) -> None:
    leave(site, fields, b"text_delta")


def leave_at_the_start(site: Site, fields: Fields) -> None:
    leave(site, fields, b"message_start")


def leave(site: Site, fields: Fields, mark: bytes) -> None:
    body = {**fields, "stream": True}
    with site.http.stream("POST", "/v1/messages", json=body, headers={"x-api-key": KEY}) as answer:
        heard = b""
        for piece in answer.iter_bytes():
            heard += piece
            if mark in heard:
                return


def stop_at_a_word(site: Site, fields: Fields) -> None:
    assert "stop_sequence" == site.post({**fields, "stop_sequences": ["k tick t"]}).json()["stop_reason"]


def stop_at_the_limit(site: Site, fields: Fields) -> None:
    assert "max_tokens" == site.post({**fields, "max_tokens": 2}).json()["stop_reason"]


@pytest.mark.parametrize(
    "end", [leave_after_a_word, stop_at_a_word, stop_at_the_limit], ids=["left", "stop sequence", "limit"]
)
def test_what_a_reply_wrote_is_there_however_it_ended(site: Site, end: Callable[[Site, Fields], None]) -> None:
    question = long(f"TICK {end.__name__}", 100)
    fields = request(messages=[user(text(question, SHORT))])
    end(site, fields)
    prompt = rendered(("user", question))
    kept = up_to(prompt, question)
    told = site.usage(**{**fields, "max_tokens": 2})

    assert usage(len(prompt) - kept, read=kept, output=(2, 0)) == told


def test_after_a_client_that_left_at_the_start_the_next_reply_is_right(site: Site) -> None:
    wrong = []
    for at in range(10):
        question = long(f"left at once {at}", 5_000)
        fields = request(messages=[user(text(question, SHORT))])
        leave_at_the_start(site, fields)
        reply = site.ask(**fields)
        prompt = rendered(("user", question))
        kept = up_to(prompt, question)
        right = [usage(len(prompt) - kept, short=kept), usage(len(prompt) - kept, read=kept)]
        if reply["usage"] not in right or "Hello, world." != reply["content"][0]["text"]:
            wrong.append(reply)
    wait_for(site.server, "sestet_requests_running", 0.0, 5, ADMIN)

    assert [] == wrong
