"""What real weights say at temperature 1 under a schema is valid, every time: calls of tools and structured output.

The weights say nonsense then, so it is the grammar that is tested. `python -m bench tools` asks for all of it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Any, Final, Literal

import httpx2
import jsonschema_rs
import pytest
from llguidance import LLMatcher, LLTokenizer

from tests.engines.tool_schemas import GENERATED, TOOL_SETS, Schema, bounded, generated, generated_value, real_tools
from tests.lengths import SOAK, length
from tests.running import RunningServer, start_server

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MODEL: Final = "smollm2-135m-instruct"
HEADERS: Final = {"anthropic-version": "2023-06-01"}  # the version that takes a temperature
CONFIG: Final = '[engine]\nwindow = 1024\nslots = 4\nthreads = 1\n[tools]\nschemas = "extended"\n'
AT_ONCE: Final = 4
MAX_TOKENS: Final = length(120, 200)
QUESTIONS: Final = (
    "Go.",
    "What is the weather in Paris?",
    "Étage 3 \U0001f600",
    "Do it for Anna, 42.",
    "Fill it in: x.",
)

Ending = Literal["finished", "cut"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and what is to be true of its answer. `schemas` are by the tool's name; the text's is without one."""

    name: str
    body: dict[str, Any]
    schemas: dict[str, Schema]


@dataclass(frozen=True, slots=True)
class Told:
    """`problem` is empty where the answer is what it has to be."""

    asked: Asked
    ending: Ending
    output_tokens: int
    problem: str
    raw: str


def generated_calls(numbers: Sequence[int]) -> Iterator[Asked]:
    """One call of a tool for each number, five of each of the generated schemas."""
    for number in numbers:
        which = number // 5 % GENERATED
        one = {"name": f"tool_{which}", "input_schema": generated(which), "strict": which % 2 == 0}
        yield call(f"generated {which}", [one], forced=number % 3 != 0, seed=number)


def real_calls(numbers: Sequence[int], *, bounds: bool = True) -> Iterator[Asked]:
    """One call for each number, of one tool or out of its set; with `bounds` their texts and lists are bounded."""
    tools = list(real_tools())
    for number in numbers:
        in_set, one = tools[number % len(tools)]
        out_of_set = number % 4 == 0
        # Three of a set at most: all of its schemas would take the window.
        offered = [other for other in TOOL_SETS[in_set] if other is not one][:2] if out_of_set else []
        given = [
            {**tool, "input_schema": bounded(tool["input_schema"])} if bounds else tool for tool in [one, *offered]
        ]
        yield call(f"{in_set} {one['name']}", given, forced=not out_of_set, seed=number)


def outputs(numbers: Sequence[int]) -> Iterator[Asked]:
    """One structured output for each number, two of each schema: any value, an object, or what a tool would take."""
    tools = list(real_tools())
    for number in numbers:
        which = number // 6 % GENERATED
        match number // 2 % 3:
            case 0:
                name, schema = f"value {which}", generated_value(which)
            case 1:
                name, schema = f"object {which}", generated(which)
            case _:
                in_set, tool = tools[which]
                name, schema = f"{in_set} {tool['name']}", bounded(tool["input_schema"])
        body = request(number)
        yield Asked(
            name, {**body, "output_config": {"format": {"type": "json_schema", "schema": schema}}}, {"": schema}
        )


def call(name: str, tools: list[Schema], *, forced: bool, seed: int) -> Asked:
    choice = {"type": "tool", "name": tools[0]["name"]} if forced else {"type": "any"}
    body = {**request(seed), "tools": tools, "tool_choice": {**choice, "disable_parallel_tool_use": True}}
    return Asked(name, body, {tool["name"]: tool["input_schema"] for tool in tools})


def request(seed: int) -> dict[str, Any]:
    question = Random(seed).choice(QUESTIONS)
    return {
        "model": MODEL,
        "max_tokens": MAX_TOKENS,
        "temperature": 1.0,
        "stream": seed % 2 == 1,
        "messages": [{"role": "user", "content": question}],
    }


def ask_all(url: str, asked: Sequence[Asked]) -> Iterator[Told]:
    """The answers, in order. Those of one schema are asked for one after the other: their prompt is read once."""
    alike = [list(group) for _, group in groupby(asked, lambda one: one.name)]
    with (
        httpx2.Client(base_url=url, timeout=300, headers=HEADERS, trust_env=False) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        for told in pool.map(lambda group: [ask(client, one) for one in group], alike):
            yield from told


def ask(client: httpx2.Client, asked: Asked) -> Told:
    answer = client.post("/v1/messages", json=asked.body)
    if answer.status_code != 200:
        return Told(asked, "finished", 0, f"status {answer.status_code}", answer.text)
    try:
        blocks, reason, tokens = _streamed(answer) if asked.body["stream"] else _whole(answer)
    except ValueError as error:
        return Told(asked, "finished", 0, str(error), answer.text)
    cut = reason in ("max_tokens", "model_context_window_exceeded")
    return Told(asked, "cut" if cut else "finished", tokens, _problem(asked, blocks, reason, cut), str(blocks))


# A block: the tool's name, or nothing for text; and its words.
Blocks = list[tuple[str, str]]


def _whole(answer: httpx2.Response) -> tuple[Blocks, str, int]:
    message = answer.json()
    blocks = [
        (block["name"], json.dumps(block["input"])) if block["type"] == "tool_use" else ("", block["text"])
        for block in message["content"]
    ]
    return blocks, message["stop_reason"], message["usage"]["output_tokens"]


def _streamed(answer: httpx2.Response) -> tuple[Blocks, str, int]:
    blocks: Blocks = []
    reason, tokens = "", 0
    for line in answer.text.splitlines():
        if not line.startswith("data: "):
            continue
        data = json.loads(line[6:])
        match data["type"]:
            case "content_block_start":
                blocks.append((data["content_block"].get("name", ""), ""))
            case "content_block_delta":
                (name, said), delta = blocks[-1], data["delta"]
                blocks[-1] = (name, said + (delta["partial_json"] if name else delta["text"]))
            case "message_delta":
                reason, tokens = data["delta"]["stop_reason"], data["usage"]["output_tokens"]
            case "error":
                raise ValueError(f"an error in the stream: {data['error']}")
    return blocks, reason, tokens


def _problem(asked: Asked, blocks: Blocks, reason: str, cut: bool) -> str:
    is_call = "" not in asked.schemas
    expected = "tool_use" if is_call else "end_turn"
    if cut:
        # What was written before the cut keeps to the schema, too. Without a stream only its whole fields are told.
        follows = len(blocks) <= 1 and (
            not blocks or not asked.body["stream"] or begins(asked.schemas[blocks[0][0]], blocks[0][1])
        )
        return "" if follows else "the cut answer does not begin as one of its schema"
    if reason != expected:
        return f"stop_reason {reason}"
    if len(blocks) != 1 or blocks[0][0] not in asked.schemas:
        return "not one block of what was asked for"
    name, said = blocks[0]
    try:
        value = json.loads(said)
        errors = [error.message for error in _validator(asked.schemas[name]).iter_errors(value)]
    except ValueError as error:
        return f"not JSON, or none that can be validated: {error}"
    return f"not valid: {errors[0]}" if errors else ""


def _validator(schema: Schema) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


_BYTES: Final = LLTokenizer("byte")
_COMPACT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}


def begins(schema: Schema, text: str) -> bool:
    """Whether this text can be the beginning of a value of the schema."""
    matcher = LLMatcher(_BYTES, LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT), log_level=0)
    said = list(text.encode())
    return not matcher.is_error() and matcher.try_consume_tokens(said) == len(said)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = start_server(tmp_path_factory.mktemp("extended"), config=CONFIG)
    yield server
    server.stop()


def check(server: RunningServer, asked: Sequence[Asked], cut_max: float) -> None:
    """Nothing is wrong, and so many are finished that this says something. Of a few all may be cut."""
    told = list(ask_all(server.url, asked))

    assert [] == [(one.asked.name, one.problem, one.raw) for one in told if one.problem]
    assert len(asked) == len(told)
    assert Counter(one.ending for one in told)["cut"] <= (cut_max if SOAK else 1) * len(told)


def test_calls_of_generated_tools_satisfy_their_schemas(extended: RunningServer) -> None:
    check(extended, list(generated_calls(Random("calls").sample(range(500), length(2, 5)))), cut_max=0.6)


def test_calls_of_real_tools_satisfy_their_schemas(extended: RunningServer) -> None:
    check(extended, list(real_calls(Random("real").sample(range(200), length(1, 3)))), cut_max=0.7)


def test_calls_without_bounds_keep_to_their_schemas_as_far_as_they_go(extended: RunningServer) -> None:
    """Texts without a bound seldom end here: most of these are cut."""
    check(extended, list(real_calls(Random("unbounded").sample(range(200), 1), bounds=False)), cut_max=1)


def test_structured_output_satisfies_its_schema(extended: RunningServer) -> None:
    check(extended, list(outputs(Random("outputs").sample(range(300), length(2, 5)))), cut_max=0.6)
