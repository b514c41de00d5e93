"""The official clients, newest and before 1.0, in Python and TypeScript: all do the same, and all are told the same."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx2
import pytest

from tests.contract.scenes import (
    BIG_INTEGERS,
    MANY_SCRIPTS,
    OWN_MODEL,
    REDACT,
    SNAPSHOT,
    SUMS,
    WEATHER,
    WINDOW,
    Scenes,
    rendered,
    told_of,
)

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TIMEOUT_S = 120.0

PYTHON_CASES = str(HERE / "sdk_cases.py")
TYPESCRIPT_CASES = str(HERE / "typescript" / "cases.mjs")

COMMANDS = {
    "python": [sys.executable, PYTHON_CASES],
    "python-old": [str(ROOT / ".venv-old-sdk" / "bin" / "python"), PYTHON_CASES],
    "typescript": ["node", TYPESCRIPT_CASES, "@anthropic-ai/sdk"],
    "typescript-old": ["node", TYPESCRIPT_CASES, "anthropic-sdk-old"],
}

VERSIONS = {
    "python": "2.11.0",
    "python-old": "0.125.0",
    "typescript": "1.11.0",
    "typescript-old": "0.137.0",
}

Outcomes = dict[str, object]


def message(text: str, prompt: str, tokens: int, stop_reason: str = "end_turn", stop: str | None = None) -> Outcomes:
    return {
        "model": SNAPSHOT,
        "text": [text] if text else [],
        "stop_reason": stop_reason,
        "stop_sequence": stop,
        "tokens": [len(rendered(("user", prompt))), tokens],
    }


HELLO = ["Hello", ",", " world", "."]
KEPT = len("<|im_start|>system\n") + 2_000
REST = len(rendered(("system", ""), ("user", "Hi"))) - len("<|im_start|>system\n")
STOPPED = message("one two ", "stop at a word", 3, "stop_sequence", "STOP")
ROOM = WINDOW - len(rendered(("user", "Hi")))
WITH_ID = {"request_id": "req_"}

EXPECTED: Outcomes = {
    "whole": message("Hello, world.", "Hi", 4) | WITH_ID,
    "stop_sequence": STOPPED | WITH_ID,
    "max_tokens": message("1 2 3", "count to five", 3, "max_tokens") | WITH_ID,
    "zero_tokens": message("", "Hi", 0, "max_tokens") | WITH_ID,
    "nothing": message("", "say nothing", 0) | {"deltas": []},
    "raw_stream": [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ],
    "stream": message("Hello, world.", "Hi", 4) | {"deltas": HELLO},
    "many_scripts": message(MANY_SCRIPTS, "many scripts", 8)
    | {"deltas": ["né", " 你好", " 🎉👩‍🚀", "\u2028", "\r\n", "\x85", "\x00", '"end"']},
    "stopped_stream": STOPPED | {"deltas": ["one ", "two "]},
    "silence": message("Well.", "think it over", 2) | {"deltas": ["Well", "."]},
    "window": message("abcd" * ROOM, "Hi", ROOM, "model_context_window_exceeded"),
    "count": len(rendered(("user", "Hi"))),
    "model": {"id": SNAPSHOT, "created_at": "2025-02-19T00:00:00Z", "type": "model"},
    "headers": {"request_id": "req_", "served_by": OWN_MODEL, "text": "Hello, world."},
    "old_sampling": "Hello, world.",
    "right_key": "Hello, world.",
    # Written for an hour, read whole, read as a stream.
    "cached": [[REST, KEPT, 0, KEPT, 0], *[[REST, 0, 0, 0, KEPT]] * 2],
    "failed_half_way": {"deltas": ["Half", " of it"], "type": "api_error"},
}

Said = list[tuple[str, str]]

LET_ME_SEE: Said = [("thinking", "Let"), ("thinking", " me"), ("thinking", " see"), ("thinking", ".")]
HELLO_WORLD: Said = [("text", word) for word in HELLO]
SIGNED: Said = [("signature", "")]


def thought(
    prompt: str,
    said: Said,
    tokens: tuple[int, int],
    *,
    redacted: bool = False,
    thinking: bool = True,
    stop: tuple[str, str | None] = ("end_turn", None),
) -> Outcomes:
    """What each way of asking is told of a reply: `said` is what the helper's events say, one after another, and
    `tokens` are those of the whole reply and of its thoughts."""
    texts = {kind: "".join(text for told, text in said if told == kind) for kind, _ in said}
    content: list[list[object]] = [["redacted_thinking", True]] if redacted else []
    if "signature" in texts:
        content.append(["thinking", texts.get("thinking", ""), True])
    if "text" in texts:
        content.append(["text", texts["text"]])
    message = {
        "content": content,
        "stop": list(stop),
        "tokens": [len(rendered(("user", prompt), thinking=thinking)), *tokens],
    }
    events = [[kind, True if kind == "signature" else text] for kind, text in said]
    return {"whole": message, "events": events, "streamed": message}


STANDARD = thought("Hi", HELLO_WORLD, (4, 0), thinking=False)
SHOWN = thought("Hi", [*LET_ME_SEE, *SIGNED, *HELLO_WORLD], (9, 5))
OMITTED = thought("Hi", [*SIGNED, *HELLO_WORLD], (9, 5))

FORMS = {
    "absent": STANDARD,
    "disabled": STANDARD,
    "between_tools": STANDARD,
    "enabled": SHOWN,
    "enabled summarized": SHOWN,
    "enabled omitted": OMITTED,
    "adaptive": SHOWN,
    "adaptive summarized": SHOWN,
    "adaptive omitted": OMITTED,
    "adaptive with effort": SHOWN,
    "effort without thinking": STANDARD,
}

STOPPED_TEXT: Said = [("text", "one "), ("text", "two ")]
THOUGHT_OF_STOP: Said = [("thinking", "A ST"), ("thinking", "OP here")]
# White space waits for what follows it, as it may be the thought's end.
SCRIPTS: Said = [(kind, text) for kind in ("thinking", "text") for text in ("né", " 你好", " 🎉👩‍🚀")]
THOUGHT_OF_SCRIPTS: Said = [*SCRIPTS[:3], ("thinking", "\u2028\r\n\x85\x00"), ("thinking", '"end"')]
TEXT_OF_SCRIPTS: Said = [*SCRIPTS[3:], ("text", "\u2028"), ("text", "\r\n"), ("text", "\x85"), ("text", "\x00")]


def transcript(*kinds: list[str]) -> list[list[object]]:
    """Each turn of `TURNS` in sdk_cases.py: its blocks, and three times the same count of its prompt."""
    asked = ["First", "Second", "Third", "Fourth", f"Fifth {REDACT}", "Sixth", "Seventh"]
    told: list[list[object]] = []
    turns: list[tuple[str, str]] = [("system", "Be brief")]
    for text, blocks in zip(asked, kinds, strict=True):
        turns.append(("user", text))
        told.append([blocks, *[len(rendered(*turns, thinking=len(blocks) > 1))] * 3])
        turns.append(("assistant", "Hello, world."))
    return told


THINKING, REDACTED, STRAIGHT = ["thinking", "text"], ["redacted_thinking", "text"], ["text"]

EXPECTED |= {
    "forms_old": FORMS,
    "forms_new": FORMS,
    "thought_on_a_card": SHOWN,
    "thought_of_many_scripts": thought(
        "many scripts", [*THOUGHT_OF_SCRIPTS, *SIGNED, *TEXT_OF_SCRIPTS, ("text", '"end"')], (17, 9)
    ),
    "thought_stopped": thought(
        "stop at a word", [*THOUGHT_OF_STOP, *SIGNED, *STOPPED_TEXT], (6, 3), stop=("stop_sequence", "STOP")
    ),
    "thought_never_ended": thought("never stop thinking", [*SIGNED, ("text", "At"), ("text", " last")], (1026, 1024)),
    "no_thought": thought("no thought at all", [("text", "At"), ("text", " once")], (3, 1)),
    "nothing_but_a_thought": thought("nothing but a thought", [("thinking", "Hm"), *SIGNED], (2, 2)),
    "redacted_on_demand": thought(f"Hi {REDACT}", HELLO_WORLD, (9, 5), redacted=True),
    "redacted_always": thought("Hi", HELLO_WORLD, (9, 5), redacted=True),
    # Once a prompt holds the word that asks for it, it is in every prompt that follows.
    "transcript": transcript(THINKING, STRAIGHT, THINKING, THINKING, REDACTED, REDACTED, STRAIGHT),
    "redacted_transcript": transcript(REDACTED, STRAIGHT, REDACTED, REDACTED, REDACTED, REDACTED, STRAIGHT),
    "foreign_thoughts": ["2", "2", *[len(rendered(("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")))] * 2],
    "failed_in_the_thought": {
        "deltas": ["Half", " a thought"],
        "type": "api_error",
        "content": [["thinking", "Half a thought", False]],
    },
}

Blocks = list[list[object]]

GET_TIME = {"name": "get_time", "input_schema": {"type": "object"}}


def use(name: str, **input_: object) -> list[object]:
    """A call, as far as it can be foreseen."""
    return ["tool_use", "toolu_", name, input_]


def call(
    prompt: str,
    content: Blocks,
    events: Blocks,
    tokens: tuple[int, int],
    *,
    tool: dict[str, object] = WEATHER,
    stop_reason: str = "tool_use",
    thinking: bool = False,
) -> Outcomes:
    """What each way of asking is told of a reply with calls; `tokens` are those of the reply and of its thought."""
    counted = len(rendered(told_of(tool), ("user", prompt), thinking=thinking))
    message = {"content": content, "stop": [stop_reason, None], "tokens": [counted, *tokens]}
    return {"whole": message, "events": events, "streamed": message}


LOOK = "look at the weather"
LOOKING: Blocks = [["text", "Let me look."], use("get_weather", city="Paris")]
LOOKED: Blocks = [
    *[["text", piece] for piece in ("Let me", " look", ".")],
    *[["input_json", piece] for piece in ("", '{"city": ', '"Par', 'is"', "}")],
]
TIME = call(
    "call without a word",
    [use("get_time")],
    [["input_json", ""], ["input_json", "{}"]],
    (6, 0),
    tool=GET_TIME,
)

# What each round of the agent says, and what it thinks before.
ROUNDS: list[tuple[str, Blocks, str]] = [
    ("First add.", [use("add", a=2, b=3)], "tool_use"),
    ("Now more.", [["text", "Next."], use("multiply", a=5, b=4)], "tool_use"),
    ("Now less.", [use("subtract", a=20, b=1)], "tool_use"),
    ("All done.", [["text", "It is 19."]], "end_turn"),
    ("Easy", [["text", "It stays 19."]], "end_turn"),
]
RUN = [[content, stop_reason] for _, content, stop_reason in ROUNDS]
THOUGHT_RUN = [[[["thinking", text, True], *content], stop_reason] for text, content, stop_reason in ROUNDS]
# What was counted before is what was used: the difference is nothing.
LOOP, THOUGHT_LOOP = ([[*told, 0] for told in run] for run in (RUN, THOUGHT_RUN))

ADA = {"name": "Ada", "age": 36}
JSON_OF_ADA = ["text", '{"name": "Ada", "age": 36}']

EXPECTED |= {
    "call": call(LOOK, LOOKING, LOOKED, (12, 0)),
    "call_after_a_thought": call(
        LOOK,
        [["thinking", "Where?", True], *LOOKING],
        [["thinking", "Where"], ["thinking", "?"], ["signature", True], *LOOKED],
        (15, 3),
        thinking=True,
    ),
    "two_calls": call(
        "look twice",
        [use("get_weather", city="Rome"), use("get_weather", city="Nîmes")],
        [["input_json", piece] for piece in ("", '{"city": "Rome"}', "", '{"city": "N', 'îmes"}')],
        (14, 0),
    ),
    "empty_call": TIME,
    "forced_call": TIME,
    "no_call": call(
        "Hi",
        [["text", "Hello, world."]],
        [["text", word] for word in HELLO],
        (4, 0),
        stop_reason="end_turn",
    ),
    "cut_call": call(
        LOOK, [["text", "Let me look."], use("get_weather")], LOOKED[:-2], (8, 0), stop_reason="max_tokens"
    ),
    "digits": [[*BIG_INTEGERS], [*BIG_INTEGERS]],
    "failed_in_the_call": {
        "events": [["text", "Hm"], *[["input_json", piece] for piece in ("", '{"a": 1, ', '"b": ')]],
        "type": "api_error",
        "content": [["text", "Hm"], use("add", a=1)],
    },
    "broken_call": {
        "events": [["text", "Hm"], ["input_json", ""], ["input_json", '{"a": 1}']],
        "type": "api_error",
        "content": [["text", "Hm"], use("add", a=1)],
    },
    "loop": LOOP,
    "streamed_loop": LOOP,
    "thinking_loop": THOUGHT_LOOP,
    "streamed_thinking_loop": THOUGHT_LOOP,
    "runner": RUN[:-1],
    "streamed_runner": RUN[:-1],
    "thinking_runner": THOUGHT_RUN[:-1],
    "parsed": [[[JSON_OF_ADA], ADA, "end_turn"]] * 2,
    "parsed_after_a_thought": [[[["thinking", "Ada?", True], JSON_OF_ADA], ADA, "end_turn"]] * 2,
    "formatted": [[JSON_OF_ADA], "end_turn"],
    "formatted_as_of_old": [[JSON_OF_ADA], "end_turn"],
}

FAILURES = {
    "unanswered_call": (400, "invalid_request_error"),
    "answer_to_another_call": (400, "invalid_request_error"),
    "server_tool": (400, "invalid_request_error"),
    "forced_beside_thinking": (400, "invalid_request_error"),
    "wrong_schema": (400, "invalid_request_error"),
    "small_budget": (400, "invalid_request_error"),
    "changed_thought": (400, "invalid_request_error"),
    "changed_signature": (400, "invalid_request_error"),
    "bad_request": (400, "invalid_request_error"),
    "wrong_key": (401, "authentication_error"),
    "unknown_model": (404, "not_found_error"),
    "too_large": (413, "request_too_large"),
    "overloaded": (529, "overloaded_error"),
    "failed_at_once": (500, "api_error"),
}

# Each SDK's own name for a failure; the old TypeScript one has none for 413 and 529.
NAMED = {
    "unanswered_call": "BadRequestError",
    "answer_to_another_call": "BadRequestError",
    "server_tool": "BadRequestError",
    "forced_beside_thinking": "BadRequestError",
    "wrong_schema": "BadRequestError",
    "small_budget": "BadRequestError",
    "changed_thought": "BadRequestError",
    "changed_signature": "BadRequestError",
    "bad_request": "BadRequestError",
    "wrong_key": "AuthenticationError",
    "unknown_model": "NotFoundError",
    "too_large": "ContentTooLargeError",
    "overloaded": "OverloadedError",
    "failed_at_once": "InternalServerError",
}
CLASSES = {
    "python": NAMED,
    "python-old": {**NAMED, "too_large": "RequestTooLargeError"},
    "typescript": NAMED,
    "typescript-old": {**NAMED, "too_large": "APIError", "overloaded": "InternalServerError"},
}

# What becomes of `temperature` under the version that the SDK itself sends.
OWN_SAMPLING = {
    "python": "temperature",
    "python-old": "Hello, world.",
    "typescript": "temperature",
    "typescript-old": "Hello, world.",
}


@pytest.fixture(scope="module")
def reports(scenes: Scenes) -> Iterator[dict[str, Outcomes]]:
    """What each SDK reports; they all run at once."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    told = {**asdict(scenes), "redact": REDACT, "weather": WEATHER, "sums": SUMS}
    started = {
        sdk: subprocess.Popen(
            [*command, json.dumps(told)],
            cwd=HERE / "typescript",
            env=clean,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for sdk, command in COMMANDS.items()
    }
    try:
        yield {sdk: report(sdk, process) for sdk, process in started.items()}
    finally:
        for process in started.values():
            process.kill()


def report(sdk: str, process: subprocess.Popen[bytes]) -> Outcomes:
    output, errors = process.communicate(timeout=TIMEOUT_S)
    if process.returncode:
        raise AssertionError(f"{sdk} ended with status {process.returncode}:\n{errors.decode()}")
    return json.loads(output)


@pytest.mark.parametrize("sdk", COMMANDS)
def test_the_sdk_is_the_one_that_is_meant(reports: dict[str, Outcomes], sdk: str) -> None:
    assert VERSIONS[sdk] == reports[sdk]["version"]


@pytest.mark.parametrize("case", EXPECTED)
@pytest.mark.parametrize("sdk", COMMANDS)
def test_every_sdk_is_told_the_same(reports: dict[str, Outcomes], sdk: str, case: str) -> None:
    assert EXPECTED[case] == reports[sdk][case]


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("sdk", COMMANDS)
def test_every_sdk_knows_the_failure_by_its_own_class(reports: dict[str, Outcomes], sdk: str, case: str) -> None:
    status, kind = FAILURES[case]
    failure = {
        "class": CLASSES[sdk][case],
        "status": status,
        "type": kind,
        "request_id": "req_",
        "told_in_header": True,
    }

    assert failure == reports[sdk][case]


@pytest.mark.parametrize("sdk", COMMANDS)
def test_sampling_follows_the_version_that_the_sdk_sends(reports: dict[str, Outcomes], sdk: str) -> None:
    assert OWN_SAMPLING[sdk] == reports[sdk]["own_sampling"]


@pytest.mark.parametrize("sdk", COMMANDS)
def test_every_sdk_pages_through_all_models(reports: dict[str, Outcomes], scenes: Scenes, sdk: str) -> None:
    ids = [model["id"] for model in httpx2.get(f"{scenes.url}/v1/models?limit=1000").json()["data"]]
    before = ids[: ids.index("claude-3-haiku-20240307")]

    assert 20 == len(ids)
    assert ids == reports[sdk]["models"]
    # Each page is in the order of the list; the pages come from the end.
    pages = [reports[sdk]["models_backwards"][start : start + 3] for start in range(0, len(before), 3)]
    assert before == [name for page in reversed(pages) for name in page]


EFFORTS = ("low", "medium", "high", "xhigh", "max")
TYPES = ("enabled", "adaptive", "disabled", "between_tools")


def can(supported: bool, efforts: bool, *types: str) -> dict[str, object]:
    known = {"supported": efforts}
    return {
        "effort": {"supported": efforts, **{effort: known for effort in EFFORTS}},
        "structured_outputs": {"supported": True},
        "thinking": {
            "supported": supported,
            "types": {kind: {"supported": kind in types} for kind in TYPES},
        },
    }


@pytest.mark.parametrize("sdk", COMMANDS)
def test_every_sdk_reads_what_a_model_can_do(reports: dict[str, Outcomes], sdk: str) -> None:
    own, hybrid, straight = (
        can(True, True, *TYPES),
        can(True, False, "enabled", "disabled"),
        can(False, False, "disabled"),
    )

    assert [own, hybrid, straight] == reports[sdk]["capabilities"]


def test_every_case_has_an_expectation(reports: dict[str, Outcomes]) -> None:
    expected = {"version", "models", "models_backwards", "own_sampling", "capabilities", *EXPECTED, *FAILURES}

    assert [expected] * len(COMMANDS) == [set(report) for report in reports.values()]
