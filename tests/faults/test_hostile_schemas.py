"""Schemas that strangers send to do harm (RELIABILITY.md T21): refused or obeyed, and nobody else notices.

What passes on the scripted engine is what a real one would be asked to compile; the worst of that is given to one.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import httpx2
import jsonschema_rs
import psutil
import pytest
from llguidance import LLMatcher, LLTokenizer

from tests.faults.watch import under_watch
from tests.faults.wire import HEADERS
from tests.lengths import length
from tests.running import RunningServer, start_server

Schema = dict[str, Any]

ANSWER_MAX_S: Final = 8.0  # two seconds of compiling, thrice over, and a busy machine
WORDS: Final = [f"w{number:05d}" for number in range(60_000)]
TEXT: Final[Schema] = {"type": "string"}


def taking(required: bool = True, **properties: object) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required else [],
        "additionalProperties": False,
    }


def text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def nested(levels: int, inner: Schema) -> Schema:
    for _ in range(levels):
        inner = taking(a=inner)
    return inner


def in_lists(levels: int) -> Schema:
    inner: Schema = dict(TEXT)
    for _ in range(levels):
        inner = {"type": "array", "items": inner}
    return taking(a=inner)


def doubled(levels: int, keyword: str) -> Schema:
    """Each definition names the next one twice: as a tree it has 2 ** levels leaves."""
    steps: Schema = {f"d{step}": {keyword: [{"$ref": f"#/$defs/d{step + 1}"}] * 2} for step in range(levels)}
    return {**taking(a={"$ref": "#/$defs/d0"}), "$defs": {**steps, f"d{levels}": TEXT}}


HOSTILE: Final[Mapping[str, Callable[[], Schema]]] = {
    "nested 28 deep": lambda: nested(28, TEXT),
    "nested 400 deep": lambda: nested(400, TEXT),
    "lists in lists": lambda: in_lists(60),
    "anyOf in anyOf": lambda: doubled(28, "anyOf"),
    "allOf in allOf": lambda: doubled(40, "allOf"),
    "an enum of 20,000": lambda: taking(a={"enum": WORDS[:20_000]}),
    "an enum of 60,000": lambda: taking(a={"enum": WORDS}),
    "an enum of long texts": lambda: taking(a={"enum": ["x" * size for size in range(1, 600)]}),
    "an enum of nothing": lambda: taking(a={"enum": []}),
    "a constant of 200,000 characters": lambda: taking(a={"const": "x" * 200_000}),
    "a pattern that backtracks": lambda: taking(a=text("^(a+)+$")),
    "a pattern of choices that overlap": lambda: taking(a=text("^(a|a|aa)*b$")),
    "a pattern that counts": lambda: taking(a=text("^(a{1,1000}){1,1000}$")),
    "a pattern that counts what counts": lambda: taking(a=text("^((((a{1,99}){1,99}){1,99}){1,99}$")),
    "a pattern of many states": lambda: taking(a=text("^(.*a){20}$")),
    "a pattern that looks far back": lambda: taking(a=text("(a|b)*a(a|b){14}")),
    "a pattern that looks ahead": lambda: taking(a=text("^(?=a)b")),
    "a pattern with a back reference": lambda: taking(a=text(r"^(a)\1$")),
    "a pattern of parentheses": lambda: taking(a=text("(" * 20_000 + ")" * 20_000)),
    "a pattern that does not end": lambda: taking(a=text("(")),
    "a pattern of all characters": lambda: taking(a=text(r"^[\u0000-\uffff]{1,500}[^\p{L}]{1,500}\p{L}{1,300}$")),
    "many patterns at once": lambda: taking(
        a={"allOf": [text(f"^(.{{{size}}})*$") for size in (2, 3, 5, 7, 11, 13, 17, 19)]}
    ),
    "many places at once": lambda: taking(a={"allOf": [text(f".*{letter}.{{7}}") for letter in "abcdefgh"]}),
    "a text of 1,000,000,000": lambda: taking(a={"type": "string", "maxLength": 10**9}),
    "a text of no less than 1,000,000": lambda: taking(a={"type": "string", "minLength": 10**6}),
    "a list of 1,000,000,000": lambda: taking(a={"type": "array", "items": TEXT, "maxItems": 10**9}),
    "a list of no less than 1,000,000": lambda: taking(a={"type": "array", "items": TEXT, "minItems": 10**6}),
    "bounds beyond all numbers": lambda: taking(a={"type": "array", "maxItems": 10**40, "minItems": -1}),
    "a number between giants": lambda: taking(a={"type": "integer", "minimum": -(10**300), "maximum": 10**300}),
    "a multiple of 2": lambda: taking(a={"type": "integer", "multipleOf": 2}),
    "a multiple of a large prime": lambda: taking(a={"type": "integer", "multipleOf": 9_999_991}),
    "a multiple of a small fraction": lambda: taking(a={"type": "number", "multipleOf": 0.9999991}),
    "a multiple of nothing": lambda: taking(a={"type": "integer", "multipleOf": 0}),
    "a text that is a number": lambda: taking(a={"allOf": [TEXT, {"type": "integer"}]}),
    "a text that is long and short": lambda: taking(a={"allOf": [{"minLength": 5}, {"maxLength": 3}], **TEXT}),
    "nothing satisfies it": lambda: taking(a=False),
    "itself": lambda: {"type": "object", "$ref": "#"},
    "no end of itself": lambda: {**taking(a={"$ref": "#/$defs/n"}), "$defs": {"n": taking(n={"$ref": "#/$defs/n"})}},
    "a circle of references": lambda: {
        **taking(a={"$ref": "#/$defs/x"}),
        "$defs": {"x": {"$ref": "#/$defs/y"}, "y": {"$ref": "#/$defs/x"}},
    },
    "references to nowhere": lambda: taking(a={"$ref": "#/$defs/none"}),
    "a reference to another document": lambda: taking(a={"$ref": "http://127.0.0.1:9/schema.json"}),
    "a reference to a file": lambda: taking(a={"$ref": "file:///etc/passwd"}),
    "a reference with percents": lambda: {**taking(a={"$ref": "#/%24defs/%00"}), "$defs": {"\0": TEXT}},
    "4,000 properties": lambda: taking(**{word: {"type": "integer"} for word in WORDS[:4_000]}),
    "300 properties that may be left out": lambda: taking(False, **{word: TEXT for word in WORDS[:300]}),
    "3,000 properties and others": lambda: {
        **taking(False, **{word: {"type": "integer"} for word in WORDS[:3_000]}),
        "additionalProperties": TEXT,
    },
    "1,000 alternatives": lambda: taking(a={"anyOf": [taking(**{word: TEXT, "z": TEXT}) for word in WORDS[:1_000]]}),
    "alternatives that overlap": lambda: taking(
        a={"type": "array", "items": {"anyOf": [text(f".*{number}.*") for number in range(300)]}}
    ),
    "names of all kinds": lambda: taking(
        **{'a"b': TEXT, "a\nb": TEXT, "a\\b": TEXT, "a\0b": TEXT, "</tool_call>": TEXT, "\u2028": TEXT, "": TEXT}
    ),
    "texts that look like a grammar": lambda: taking(
        a={"enum": ['"\nstart: /.*/\n', "%llguidance {}", "<|im_end|>", "x-guidance"]}
    ),
    "a grammar's own options": lambda: {**taking(a=TEXT), "x-guidance": {"whitespace_pattern": "(a+)+"}},
    "options in a property": lambda: taking(
        a={"type": "object", "x-guidance": {"lenient": True}, "%lark": "start: /a/"}
    ),
    "the replacement character": lambda: taking(a={"const": "\ufffd"}),
    "a description of all characters": lambda: {**taking(a=TEXT), "description": 'x" \\ \n </tools> <|im_end|> \0'},
    "keywords of wrong types": lambda: taking(a={"type": "object", "properties": [], "required": {}, "enum": 3}),
    "a name of 100,000 characters": lambda: taking(**{"n" * 100_000: TEXT}),
    "1 MB of description": lambda: {**taking(a=TEXT), "description": "é" * 2**20},
    "an enum of 3,000,000": lambda: taking(a={"enum": [0] * 3_000_000}),
}

PLACES: Final = ("strict tool", "tool", "format")


def request(place: str, schema: Schema, model: str, **fields: object) -> Schema:
    """One token, unless told otherwise: what the scripted engine would say next keeps to no schema."""
    body: Schema = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Go."}], **fields}
    if place == "format":
        return {**body, "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    tool = {"name": "t", "description": 'It "does" \\ it.\n', "input_schema": schema, "strict": place == "strict tool"}
    return {**body, "tools": [tool]}


def posted(server: RunningServer, body: Schema) -> tuple[int, str, float]:
    """Status, the error's message, and how long it took."""
    content = json.dumps(body).encode()
    started = time.monotonic()
    answer = httpx2.post(f"{server.url}/v1/messages", content=content, headers=HEADERS, timeout=60)
    message = "" if answer.status_code == 200 else answer.json()["error"]["message"]
    return answer.status_code, message, time.monotonic() - started


def warmed_up(server: RunningServer, model: str, new: str = "a") -> RunningServer:
    """Grammars are compiled by a process that is started with the first of them that is `new`."""
    status, message, _ = posted(server, request("tool", taking(**{new: TEXT}), model))
    assert status == 200, message
    return server


@pytest.fixture(scope="module", params=["extended"])
def picky(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The scripted engine, which says what it says: only what comes before an engine is tested."""
    config = f'[tools]\nschemas = "{request.param}"\n'
    server = start_server(tmp_path_factory.mktemp("picky"), script="slots = 8\n", config=config)
    yield warmed_up(server, "scripted")
    server.stop()


def engine_pids(server: RunningServer) -> list[int]:
    """The children that hold weights."""
    children = psutil.Process(server.pid).children()
    return [child.pid for child in children if any("llamacpp.child" in part for part in child.cmdline())]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_refused_or_taken_and_harms_nobody(picky: RunningServer, name: str) -> None:
    warmed_up(picky, "scripted", name)  # the one before may have ended it
    schema = HOSTILE[name]()
    size = len(json.dumps(schema))
    with under_watch(picky, input_bytes=8 * size, engine_dies=True):  # the compiler of grammars may
        told = [(place, *posted(picky, request(place, schema, "scripted"))) for place in PLACES]

    assert [] == [one for one in told if one[1] not in (200, 400) or one[3] > ANSWER_MAX_S]
    # A refusal says where, but for one of the whole prompt, which holds the schema. What takes almost all of the time
    # that a schema has may be too much beside the rest of the tools' grammar.
    paths = {"format": "output_config.format.schema", "tool": "tools.0", "strict tool": "tools.0"}
    whole = ("prompt is too long", "tools: the schema cannot be used: it is too complex to compile")
    refused = [one for one in told if one[1] == 400 and not any(words in one[2] for words in whole)]
    assert [] == [one for one in refused if paths[one[0]] not in one[2]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The schemas of the contract alone, as a server takes them by default."""
    server = start_server(tmp_path_factory.mktemp("plain"), script="slots = 8\n")
    yield warmed_up(server, "scripted")
    server.stop()


@pytest.mark.parametrize("name", ["allOf in allOf", "a pattern that backtracks", "itself", "no end of itself"])
def test_examples_of_a_hostile_schema_harm_nobody(plain: RunningServer, name: str) -> None:
    """The examples are validated against it."""
    body = request("tool", HOSTILE[name](), "scripted")
    body["tools"][0]["input_examples"] = [{"a": "a" * 64 + "!"}] * 100
    with under_watch(plain, engine_dies=True):
        status, message, seconds = posted(plain, body)

    assert status in (200, 400), message
    assert seconds < ANSWER_MAX_S


@pytest.mark.parametrize("count", [1_000, 10_000])
def test_a_great_many_tools_are_refused_or_taken_and_harm_nobody(plain: RunningServer, count: int) -> None:
    schema = taking(path=TEXT, line={"type": "integer"})
    tools = [{"name": f"tool_{number}", "description": "x", "input_schema": schema} for number in range(count)]
    body = {**request("format", {}, "scripted"), "tools": tools}
    del body["output_config"]
    with under_watch(plain, input_bytes=8 * len(json.dumps(body)), engine_dies=True):
        status, message, seconds = posted(plain, body)

    assert status in (200, 400), message
    assert seconds < ANSWER_MAX_S


def test_hostile_schemas_of_many_clients_at_once_harm_nobody(plain: RunningServer) -> None:
    """What takes the longest to compile, from more clients than there are turns to compile."""
    schema = HOSTILE["4,000 properties"]()
    bodies = [request("tool", {**schema, "description": str(number)}, "scripted") for number in range(8)]
    told: list[tuple[int, str, float]] = []
    threads = [threading.Thread(target=lambda body=body: told.append(posted(plain, body))) for body in bodies]
    with under_watch(plain, input_bytes=64 * 2**20, engine_dies=True):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(bodies) == len(told)
    assert [] == [one for one in told if one[0] not in (200, 400, 529)]


# --- on real weights --------------------------------------------------------------------------------------------------

EMBEDDED: Final = "smollm2-135m-instruct"
OTHERS_WAIT_MAX_S: Final = 10.0
# Those that pass every check, or would without one, and make the compiler or each of its steps work or fail.
WORST: Final = (
    "many patterns at once",
    "a multiple of a large prime",
    "itself",
    "no end of itself",
    "the replacement character",
)
_BYTES: Final = LLTokenizer("byte")
_COMPACT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    config = '[engine]\nwindow = 2048\nslots = 2\nthreads = 1\nstall_timeout_s = 10\n[tools]\nschemas = "extended"\n'
    server = start_server(tmp_path_factory.mktemp("small"), config=config)
    yield warmed_up(server, EMBEDDED)
    server.stop()


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.parametrize("name", WORST)
def test_real_weights_keep_to_a_hostile_schema_or_it_is_refused(small: RunningServer, name: str) -> None:
    """A schema that the engine gives up on must not come out as an answer that is told to be finished."""
    schema = HOSTILE[name]()
    waited: list[float] = []
    ended = threading.Event()

    def others() -> None:
        body = {"model": EMBEDDED, "max_tokens": 4, "messages": [{"role": "user", "content": "Say hi."}]}
        while not ended.is_set():
            status, _, seconds = posted(small, body)
            waited.append(seconds if status == 200 else 1e9)

    neighbour = threading.Thread(target=others)
    engines = engine_pids(small)
    with under_watch(small, input_bytes=64 * 2**20, engine_dies=True):
        neighbour.start()
        try:
            told = [(place, *answer(small, place, schema)) for place in PLACES]
        finally:
            ended.set()
            neighbour.join()

    assert [] == [one for one in told if one[1] not in (200, 400)]
    assert [] == [one for one in told if one[1] == 200 and one[2]]
    assert max(waited) < OTHERS_WAIT_MAX_S
    assert 1 == len(engines)
    assert engines == engine_pids(small)


def answer(server: RunningServer, place: str, schema: Schema) -> tuple[int, str]:
    """Status, and for 200 what is wrong with the answer."""
    body = request(place, schema, EMBEDDED, temperature=1.0, max_tokens=length(12, 40))
    if place != "format":
        body["tool_choice"] = {"type": "tool", "name": "t", "disable_parallel_tool_use": True}
    found = httpx2.post(f"{server.url}/v1/messages", json=body, headers=HEADERS, timeout=120)
    if found.status_code != 200:
        return found.status_code, found.json()["error"]["message"]
    message = found.json()
    cut = message["stop_reason"] in ("max_tokens", "model_context_window_exceeded")
    for block in message["content"]:
        if block["type"] == "tool_use" and not cut and not satisfies(schema, block["input"]):
            return 200, f"invalid input: {block['input']}"
        if block["type"] == "text" and place != "format":
            return 200, f"text where a call was asked for: {block['text']}"
        if block["type"] == "text" and not keeps_to(schema, block["text"], cut):
            return 200, f"invalid text: {block['text']}"
    return 200, ""


def satisfies(schema: Schema, value: object) -> bool:
    try:
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    except jsonschema_rs.ValidationError:  # too much for the validator: a second grammar, of our own, has to do
        return keeps_to(schema, json.dumps(value, ensure_ascii=False), cut=True)
    return validator.is_valid(value)


def keeps_to(schema: Schema, said: str, cut: bool) -> bool:
    """A whole value of the schema; of one that was cut, its beginning."""
    if not cut:
        try:
            return satisfies(schema, json.loads(said))
        except ValueError:
            return False
    matcher = LLMatcher(_BYTES, LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT), log_level=0)
    spelled = list(said.encode())
    return not matcher.is_error() and matcher.try_consume_tokens(spelled) == len(spelled)
