"""Thoughts that come back in a conversation: what they prove, what they cost, and what becomes of those that are not
what they say."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from sestet.gate.signing_keys import new_secret, rotate
from tests.conftest import ServerFactory
from tests.contract.errors import assert_contract_error
from tests.contract.inside import Inside, InsideRunner
from tests.contract.scenes import MODEL, OTHER_KEY, OWN_MODEL, REDACT, RIGHT_KEY, SCRIPT, Scenes, rendered

Fields = dict[str, Any]
Block = dict[str, str]

ENABLED = {"type": "enabled", "budget_tokens": 1024}
OMITTED = {**ENABLED, "display": "omitted"}
ADAPTIVE = {"type": "adaptive"}
THINK: Fields = {"max_tokens": 2048, "thinking": ENABLED}
DROPPED = "sestet-dropped-thinking-blocks"
COUNT = "/v1/messages/count_tokens"

SHOWN = "Invalid `signature` in `thinking` block; "
HIDDEN = "Invalid `data` in `redacted_thinking` block; "
ADVICE = "send thinking blocks back exactly as they came, in their order, or leave them out"

SCENE = """
[[reply]]
when = "twice"
think = ["One"]
say = ["So", "<think>", "Two", "</think>", "Done"]

[[reply]]
think = ["Let", " me", " see", "."]
say = ["Hello", "."]
"""


def user(content: object) -> Fields:
    return {"role": "user", "content": content}


def assistant(content: object) -> Fields:
    return {"role": "assistant", "content": content}


def after(content: object, question: str = "Hi") -> list[Fields]:
    """A conversation that goes on after this reply, which is its message 1."""
    return [user(question), assistant(content), user("Bye")]


def texts(content: object) -> object:
    """The same without its thoughts."""
    return content if isinstance(content, str) else [block for block in content if block["type"] == "text"]


async def thought(server: Inside, **fields: object) -> list[Block]:
    """The content of a reply that thought."""
    answer = await server.post(**{**THINK, **fields})
    return answer.raise_for_status().json()["content"]


# What a conversation costs.

HISTORIES: dict[str, list[Fields]] = {
    "none": [],
    "one turn": [user("Hi"), assistant("<reply>")],
    "three turns": [user("Hi"), assistant("<reply>"), user("And?"), assistant("<reply>"), user("So?"), assistant("!")],
    "in pieces": [user("Hi"), assistant("<reply>"), assistant("More"), assistant("<reply>")],
}
ASKED = {
    "standard": {},
    "disabled": {"thinking": {"type": "disabled"}},
    "between_tools": {"thinking": {"type": "between_tools"}},
    "enabled": {"thinking": ENABLED},
    "omitted": {"thinking": OMITTED},
    "adaptive": {"thinking": ADAPTIVE},
    "effort": {"thinking": ADAPTIVE, "output_config": {"effort": "low"}},
}
ENDS = {
    "user": [user("Bye")],
    "late system": [user("Bye"), {"role": "system", "content": "Be brief"}],
}
SYSTEMS = {"no system": {}, "system": {"system": "Be brief"}, "empty system": {"system": ""}}
PREFILLS = [assistant("He"), assistant([{"type": "text", "text": "He"}]), assistant(""), assistant("<reply>")]


async def counts(server: Inside, messages: list[Fields], **fields: object) -> list[int]:
    """What is counted, what a whole and a streamed reply say they used, and how long the engine's prompt was."""
    asked = {"model": OWN_MODEL, "messages": messages, **fields}
    counted = await server.post(path=COUNT, max_tokens=..., **asked)
    whole = await server.post(max_tokens=2048, **asked)
    prompt = len(server.prompt)
    streamed = await server.post(max_tokens=2048, stream=True, **asked)
    events = [json.loads(line[6:]) for line in streamed.text.split("\n") if line.startswith("data: ")]
    told = [events[0]["message"]["usage"]["input_tokens"], events[-2]["usage"]["input_tokens"]]
    return [counted.json()["input_tokens"], whole.json()["usage"]["input_tokens"], *told, prompt]


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
def test_a_count_is_what_the_reply_uses_and_no_earlier_thought_is_in_it(
    inside: InsideRunner, asked: Fields, system: Fields
) -> None:
    async def ask(server: Inside) -> list[tuple[str, list[int]]]:
        found = []
        for display in (ENABLED, OMITTED, {**ENABLED, "budget_tokens": 1500}):
            reply = await thought(server, model=OWN_MODEL, thinking=display)
            for name, history in HISTORIES.items():
                for end in ENDS.values():
                    full = [{**one, "content": reply} if one["content"] == "<reply>" else one for one in history + end]
                    bare = [{**one, "content": texts(one["content"])} for one in full]
                    fields = {**asked, **system}
                    found.append((name, set(await counts(server, full, **fields))))
                    found.append((name, set(await counts(server, bare, **fields))))
        return found

    found = inside(ask, SCENE)

    assert [1] * 48 == [len(numbers) for _, numbers in found]
    assert found[::2] == found[1::2]


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS.keys())
@pytest.mark.parametrize("asked", [ASKED["standard"], ASKED["disabled"], ASKED["between_tools"]])
def test_a_count_is_what_a_reply_that_was_begun_uses(inside: InsideRunner, asked: Fields, system: Fields) -> None:
    async def ask(server: Inside) -> list[int]:
        reply = await thought(server, model=OWN_MODEL)
        found = []
        for begun in PREFILLS:
            last = {**begun, "content": reply} if begun["content"] == "<reply>" else begun
            found.append(set(await counts(server, [*after(reply), last], **asked, **system)))
        return found

    found = inside(ask, SCENE)

    said = [("user", "Hi"), ("assistant", "Hello."), ("user", "Bye")]
    turns = [("system", system["system"]), *said] if system.get("system") else said
    begun = [[("assistant", "He")], [("assistant", "He")], [], [("assistant", "Hello.")]]
    assert [{len(rendered(*turns, *last, prefill=bool(last)))} for last in begun] == found


def test_an_assistant_turn_that_was_all_thought_stays_a_turn(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> tuple[str, str]:
        content = await thought(server)
        await server.post(messages=after(content[:1]))
        kept = server.prompt
        await server.post(messages=[user("Hi"), assistant(content[:1])])
        return kept, server.prompt

    turns = rendered(("user", "Hi"), ("assistant", ""), ("user", "Bye"))
    assert (turns, rendered(("user", "Hi"))) == inside(ask, SCENE)


@pytest.mark.parametrize("redact", ["on_demand", "always"])
def test_a_conversation_of_six_turns_is_replayed_as_it_came(inside: InsideRunner, redact: str) -> None:
    asked = [
        ("First", {"thinking": ENABLED}),
        ("Second", {"thinking": OMITTED}),
        ("Third", {"thinking": {"type": "disabled"}}),
        ("Fourth", {"model": OWN_MODEL, "thinking": ADAPTIVE}),
        ("Fifth", {"thinking": ENABLED, "model": MODEL}),
        (f"Sixth {REDACT}", {"thinking": ENABLED}),
        ("Seventh", {}),
    ]

    async def ask(server: Inside) -> tuple[list[int], list[str | None], str]:
        history: list[Fields] = []
        used, dropped = [], []
        for text, fields in asked:
            history.append(user(text))
            answer = await server.post(**{"max_tokens": 2048, "messages": history, **fields})
            history.append(assistant(answer.json()["content"]))
            used.append(answer.json()["usage"]["input_tokens"])
            dropped.append(answer.headers.get(DROPPED))
        return used, dropped, server.prompt

    used, dropped, prompt = inside(ask, SCENE, thinking={"redact": redact})

    turns: list[tuple[str, str]] = []
    right = []
    for text, fields in asked:
        turns.append(("user", text))
        is_thinking = fields.get("thinking", {}).get("type") in ("enabled", "adaptive")
        right.append(len(rendered(*turns, thinking=is_thinking)))
        turns.append(("assistant", "Hello."))
    assert (right, rendered(*turns[:-1])) == (used, prompt)
    # The fourth turn was another card's, so two thoughts are foreign to it, and its own is foreign to those after it.
    assert [None, None, None, "2", "1", "1", "1"] == dropped


# What is altered.


def flipped(seal: str, position: int) -> str:
    """The same seal with one bit of one byte changed."""
    raw = bytearray(base64.b64decode(seal))
    raw[position] ^= 1
    return base64.b64encode(raw).decode()


CHANGED_TEXT = [
    "Let me see!",
    "let me see.",
    "Let me see. ",
    " Let me see.",
    "Let me see.\x00",
    "Let  me see.",
    "",
    "Lét",
]


@pytest.mark.parametrize("text", CHANGED_TEXT)
def test_a_thought_with_other_words_is_refused(inside: InsideRunner, text: str) -> None:
    async def ask(server: Inside) -> list[httpx2.Response]:
        content = await thought(server)
        messages = after([{**content[0], "thinking": text}, *content[1:]])
        return [
            await server.post(messages=messages),
            await server.post(messages=messages, stream=True),
            await server.post(messages=messages, path=COUNT, max_tokens=...),
        ]

    for refused in inside(ask, SCENE):
        message = assert_contract_error(refused, 400, "invalid_request_error")
        assert f"messages.1.content.0: {SHOWN}{ADVICE}" == message


# Byte positions from the end, which only a key can make, and whole seals.
CHANGED_SEALS = {
    "last byte": lambda seal: flipped(seal, -1),
    "first byte of its tail": lambda seal: flipped(seal, 39),
    "its reply": lambda seal: flipped(seal, 30),
    "its place": lambda seal: flipped(seal, 38),
    "its card": lambda seal: flipped(seal, 14),
    "cut": lambda seal: seal[:-4],
    "cut to its head": lambda seal: base64.b64encode(base64.b64decode(seal)[:39]).decode(),
    "cut to its beginning": lambda seal: seal[:8],
    "longer": lambda seal: base64.b64encode(base64.b64decode(seal) + b"\0").decode(),
    "not base64": lambda seal: seal[:-1] + "!",
    "line end": lambda seal: seal + "\n",
    "no ASCII": lambda seal: seal[:-1] + "é",
}


@pytest.mark.parametrize("change", CHANGED_SEALS.values(), ids=CHANGED_SEALS.keys())
def test_a_thought_with_another_seal_is_refused(inside: InsideRunner, change: Any) -> None:
    async def ask(server: Inside) -> list[httpx2.Response]:
        refused = []
        for fields, name in (({}, "signature"), ({"thinking": OMITTED}, "signature"), ({"messages": HIDE}, "data")):
            content = await thought(server, **fields)
            altered = {**content[0], name: change(content[0][name])}
            refused.append(await server.post(messages=[*after("Well")[:2], *after([altered, *content[1:]])]))
        return refused

    messages = [assert_contract_error(each, 400, "invalid_request_error") for each in inside(ask, SCENE)]

    assert [f"messages.3.content.0: {what}{ADVICE}" for what in (SHOWN, SHOWN, HIDDEN)] == messages


HIDE = [user(REDACT)]


def test_a_seal_belongs_to_its_own_thought(inside: InsideRunner) -> None:
    """Swapped with another reply's, with that of the same reply's other thought, and out of order."""

    async def ask(server: Inside) -> list[httpx2.Response]:
        first = await thought(server)
        twice = await thought(server, messages=[user("twice")])
        assert ["thinking", "text", "thinking", "text"] == [block["type"] for block in twice]
        one, so, two, done = twice
        return [
            await server.post(messages=after(content))
            for content in (
                [{**first[0], "signature": one["signature"]}, first[1]],
                [{**one, "signature": two["signature"]}, so, {**two, "signature": one["signature"]}, done],
                [two, so, one, done],
                [one, so, one, done],
                [one, so, two, two, done],
            )
        ]

    messages = [assert_contract_error(each, 400, "invalid_request_error") for each in inside(ask, SCENE)]

    paths = ["messages.1.content.0", "messages.1.content.0", *["messages.1.content.2"] * 2, "messages.1.content.3"]
    assert [f"{path}: {SHOWN}{ADVICE}" for path in paths] == messages


def test_thoughts_may_be_left_out_or_come_back_in_any_reply_of_the_conversation(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> list[tuple[int, str | None]]:
        first = await thought(server)
        one, so, two, done = await thought(server, messages=[user("twice")])
        contents = [
            [one, so, two, done],
            [so, two, done],
            [one, so, done],
            [so, done],
            [one, two],
            [first[0], one, two, so],
        ]
        answers = [await server.post(messages=after(content)) for content in contents]
        return [(answer.status_code, answer.headers.get(DROPPED)) for answer in answers]

    assert [(200, None)] * 6 == inside(ask, SCENE)


def test_what_stands_in_an_omitted_thought_is_not_looked_at(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> tuple[int, str | None, str]:
        content = await thought(server, thinking=OMITTED)
        answer = await server.post(messages=after([{**content[0], "thinking": "Made up"}, *content[1:]]))
        return answer.status_code, answer.headers.get(DROPPED), server.prompt

    prompt = rendered(("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"))
    assert (200, None, prompt) == inside(ask, SCENE)


# What was made elsewhere.

FOREIGN_BLOCKS = {
    "no signature": {"type": "thinking", "thinking": "Made elsewhere", "signature": ""},
    "neither text nor signature": {"type": "thinking", "thinking": "", "signature": ""},
    "base64": {"type": "thinking", "thinking": "Hm", "signature": base64.b64encode(bytes(range(80))).decode()},
    "another provider's": {"type": "thinking", "thinking": "Hm", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxB" * 9},
    "no base64": {"type": "thinking", "thinking": "Hm", "signature": "signature é \n"},
    "no data": {"type": "redacted_thinking", "data": ""},
    "other data": {"type": "redacted_thinking", "data": "EroBCkYIARgCKkBJ"},
}


@pytest.mark.parametrize("block", FOREIGN_BLOCKS.values(), ids=FOREIGN_BLOCKS.keys())
def test_a_foreign_thought_is_left_out_and_its_sender_is_told(inside: InsideRunner, block: Block) -> None:
    async def ask(server: Inside) -> list[tuple[int, str | None, str]]:
        own = await thought(server)
        reply = [block, {"type": "text", "text": "Hello."}]
        found = []
        for content in (reply, [block, *reply], [own[0], block, block, block, own[1]]):
            for fields in ({}, {"stream": True}, THINK):
                answer = await server.post(**{"messages": after(content), **fields})
                found.append((answer.status_code, answer.headers.get(DROPPED), server.prompt))
        return found

    turns = (("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"))
    prompts = [rendered(*turns, thinking=thinking) for thinking in (False, False, True)]
    right = [(200, dropped, prompt) for dropped in ("1", "2", "3") for prompt in prompts]
    assert right == inside(ask, SCENE)


def test_nobody_is_told_of_thoughts_that_are_in_order(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> list[str | None]:
        content = await thought(server)
        answers = [await server.post(), await server.post(messages=after(content), stream=True)]
        return [answer.headers.get(DROPPED) for answer in answers]

    assert [None, None] == inside(ask, SCENE)


def test_an_operator_may_refuse_what_was_made_elsewhere(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> list[httpx2.Response]:
        contents = [[{"type": "text", "text": "Look"}, block] for block in FOREIGN_BLOCKS.values()]
        return [await server.post(messages=after(content)) for content in contents]

    messages = [
        assert_contract_error(refused, 400, "invalid_request_error")
        for refused in inside(ask, SCENE, thinking={"foreign": "refuse"})
    ]

    whats = [SHOWN if block["type"] == "thinking" else HIDDEN for block in FOREIGN_BLOCKS.values()]
    assert [f"messages.1.content.1: {what}{ADVICE}" for what in whats] == messages


def test_an_operator_may_leave_out_what_was_altered(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> tuple[int, str | None, str]:
        content = await thought(server)
        answer = await server.post(messages=after([{**content[0], "thinking": "Made up"}, *content[1:]]))
        return answer.status_code, answer.headers.get(DROPPED), server.prompt

    prompt = rendered(("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"))
    assert (200, "1", prompt) == inside(ask, SCENE, thinking={"changed": "drop"})


NAMES = [
    MODEL,
    "claude-3-7-sonnet-20250219",
    "claude-3-7-sonnet@20250219",
    "anthropic.claude-3-7-sonnet-20250219-v1:0",
    OWN_MODEL,
    "claude-sonnet-4-0",
    "claude-3-5-haiku-latest",
]


@pytest.mark.parametrize(
    ("fields"), [{}, {"thinking": OMITTED}, {"messages": HIDE}], ids=["shown", "omitted", "hidden"]
)
def test_a_thought_belongs_to_its_card_by_every_name_and_to_no_other(inside: InsideRunner, fields: Fields) -> None:
    async def ask(server: Inside) -> list[tuple[int, str | None]]:
        content = await thought(server, **fields)
        answers = [await server.post(model=name, messages=after(content)) for name in NAMES]
        return [(answer.status_code, answer.headers.get(DROPPED)) for answer in answers]

    assert [(200, None)] * 4 + [(200, "1")] * 3 == inside(ask, SCENE)


def test_another_cards_thought_is_still_refused_if_it_was_altered(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> httpx2.Response:
        content = await thought(server)
        altered = [{**content[0], "thinking": "Made up"}, content[1]]
        return await server.post(model=OWN_MODEL, messages=after(altered))

    assert_contract_error(inside(ask, SCENE), 400, "invalid_request_error", "messages.1.content.0")


def test_another_installations_thought_is_foreign(inside: InsideRunner, tmp_path: Path) -> None:
    async def think(server: Inside) -> list[list[Block]]:
        kinds = ({}, {"thinking": OMITTED}, {"messages": HIDE})
        return [await thought(server, **fields) for fields in kinds]

    made = inside(think, SCENE, thinking={"signing_keys": tmp_path / "one"})

    async def ask(server: Inside) -> list[tuple[int, str | None]]:
        answers = [await server.post(messages=after(content)) for content in made]
        return [(answer.status_code, answer.headers.get(DROPPED)) for answer in answers]

    assert [(200, None)] * 3 == inside(ask, SCENE, anew=True, thinking={"signing_keys": tmp_path / "one"})
    assert [(200, "1")] * 3 == inside(ask, SCENE, thinking={"signing_keys": tmp_path / "two"})


def test_keys_of_one_workspace_share_their_thoughts(scenes: Scenes) -> None:
    def ask(key: str, **fields: object) -> httpx2.Response:
        body = {"model": MODEL, "messages": [user("Hi")], **THINK, **fields}
        return httpx2.post(f"{scenes.keys_url}/v1/messages", json=body, headers={"x-api-key": key})

    made = ask(RIGHT_KEY).json()["content"]
    again = [ask(key, messages=after(made)) for key in (RIGHT_KEY, OTHER_KEY)]

    assert [(200, None)] * 2 == [(answer.status_code, answer.headers.get(DROPPED)) for answer in again]


# Restarts and rotation, on real servers and through the SDK.


def sdk(url: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="any", max_retries=0, _strict_response_validation=True)


def asked_again(url: str, contents: list[object]) -> list[str | None]:
    raw = sdk(url).messages.with_raw_response
    answers = [raw.create(model=OWN_MODEL, max_tokens=8, messages=after(content)) for content in contents]
    return [answer.headers.get(DROPPED) for answer in answers]


def three_thoughts(url: str) -> list[object]:
    kinds: list[Mapping[str, Any]] = [
        {"thinking": ENABLED},
        {"thinking": OMITTED},
        {"thinking": ADAPTIVE, "messages": HIDE},
    ]
    common = {"model": OWN_MODEL, "max_tokens": 2048, "messages": [user("Hi")]}
    return [sdk(url).messages.create(**{**common, **kind}).content for kind in kinds]


def test_thoughts_outlive_a_restart_and_a_rotation_but_not_their_key(serve: ServerFactory, tmp_path: Path) -> None:
    keys = tmp_path / "keys" / "signing-keys"
    config = f'[thinking]\nsigning_keys = "{keys}"\n'

    def restarted() -> str:
        return serve(script=SCRIPT, config=config).url

    made = three_thoughts(restarted())
    assert (0o600, 0o700) == (keys.stat().st_mode & 0o777, keys.parent.stat().st_mode & 0o777)
    assert [None] * 3 == asked_again(restarted(), made)

    assert 2 == rotate(keys)
    rotated = restarted()
    made_since = three_thoughts(rotated)
    assert [None] * 6 == asked_again(rotated, made + made_since)

    lines = [line for line in keys.read_text().splitlines() if not line.startswith("#")]
    keys.write_text(f"{lines[0]}\n")
    assert ["1"] * 3 + [None] * 3 == asked_again(restarted(), made + made_since)

    keys.write_text(f"{base64.b64encode(new_secret()).decode()}\n")
    assert ["1"] * 6 == asked_again(restarted(), made + made_since)
