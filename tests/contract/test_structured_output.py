"""Structured output from outside: text that is one JSON value of the schema, and the schemas that are taken."""

import asyncio
import datetime
import enum
import json
import uuid
from typing import Any, Literal

import anthropic
import httpx2
import pydantic
import pytest

from tests.contract.errors import assert_contract_error
from tests.contract.inside import Inside, InsideRunner
from tests.contract.scenes import BIG_INTEGERS, OWN_MODEL, WEATHER, call, scripted_reply
from tests.contract.test_tools import COUNT, THINK, THINKING, both, events, told, unnamed

Fields = dict[str, Any]

STRING = {"type": "string"}


def properties(**schemas: object) -> Fields:
    return {"type": "object", "properties": schemas, "required": [*schemas], "additionalProperties": False}


PERSON = properties(name=STRING, age={"type": "integer"})
ADA = ['{"name": "A', 'da"', ', "age": 36', "}"]
SCENE = scripted_reply(think=["Ada", "?"], say=ADA)


def formatted(schema: object = PERSON) -> Fields:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def formatted_as_of_old(schema: object = PERSON) -> Fields:
    return {"output_format": {"type": "json_schema", "schema": schema}}


FORMS = {"format": formatted, "output_format": formatted_as_of_old}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_the_text_is_the_value_and_comes_as_it_is_written(inside: InsideRunner, form: Any) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[Fields]]:
        return await both(server, **form())

    whole, streamed = inside(ask, SCENE)

    assert ([{"type": "text", "text": "".join(ADA)}], "end_turn") == (whole["content"], whole["stop_reason"])
    assert ADA == [event["delta"]["text"] for event in streamed if event["type"] == "content_block_delta"]
    assert ([{"type": "text", "text": "".join(ADA)}], "end_turn") == told(streamed)


def test_the_schema_reaches_the_prompt_and_the_grammar_of_the_answer_and_is_counted(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> tuple[list[int], list[tuple[bool, str | None]]]:
        counts = []
        for fields in (formatted(), formatted_as_of_old(), {"output_config": {"format": None}}, {}):
            counted = (await server.post(path=COUNT, max_tokens=..., **fields)).json()["input_tokens"]
            reply = await server.post(**fields)
            assert (200, counted, len(server.prompt)) == (
                reply.status_code,
                reply.json()["usage"]["input_tokens"],
                counted,
            )
            counts.append(counted)
        records = server.engine.records
        return counts, [(json.dumps(PERSON) in record.prompt, record.job.grammar) for record in records]

    counts, told_engine = inside(ask, SCENE)
    grammars = [grammar for _, grammar in told_engine]

    assert [counts[0], counts[0], counts[3], counts[3]] == counts
    assert [True, True, False, False] == [is_told for is_told, _ in told_engine]
    assert [grammars[0], grammars[0], None, None] == grammars
    assert grammars[0] is not None


def test_a_thought_comes_first_and_is_free(inside: InsideRunner) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[Fields], list[bool]]:
        whole, streamed = await both(server, **THINK, **formatted())
        return whole, streamed, [record.job.grammar is None for record in server.engine.records]

    whole, streamed, is_free = inside(ask, SCENE)

    for content in (whole["content"], told(streamed)[0]):
        assert [("thinking", "Ada?"), ("text", "".join(ADA))] == [
            (block["type"], block[block["type"]]) for block in content
        ]
    assert [True, False] * 2 == is_free


def test_beside_tools_the_answer_is_a_value_or_a_call(inside: InsideRunner) -> None:
    scene = scripted_reply(when="look", say=call("get_weather", '{"city": "Rome"}')) + SCENE

    async def ask(server: Inside) -> list[tuple[list[Fields], str]]:
        fields = {"tools": [WEATHER], **formatted()}
        replies = [
            (await server.post(messages=[{"role": "user", "content": text}], **fields)).json()
            for text in ("look", "who is she")
        ]
        return [(unnamed(reply["content"]), reply["stop_reason"]) for reply in replies]

    called = {"type": "tool_use", "id": "toolu_", "name": "get_weather", "input": {"city": "Rome"}}

    assert [
        ([called], "tool_use"),
        ([{"type": "text", "text": "".join(ADA)}], "end_turn"),
    ] == inside(ask, scene)


@pytest.mark.parametrize("fields", [{"max_tokens": 2}, {"stop_sequences": ["da"]}], ids=["max_tokens", "stop_sequence"])
def test_a_value_that_is_cut_says_why(inside: InsideRunner, fields: Fields) -> None:
    async def ask(server: Inside) -> tuple[Fields, list[Fields]]:
        return await both(server, **fields, **formatted())

    whole, streamed = inside(ask, SCENE)
    [reason] = [name.removesuffix("s") if name != "max_tokens" else name for name in fields]
    text = '{"name": "Ada"' if reason == "max_tokens" else '{"name": "A'

    assert ([{"type": "text", "text": text}], reason) == (whole["content"], whole["stop_reason"])
    assert ([{"type": "text", "text": text}], reason) == told(streamed)


@pytest.mark.parametrize(
    "text", ["Ada is 36.", '{"name": "Ada"', '{"name": "Ada"} and more', "", "NaN", '{"a": Infinity}']
)
def test_an_answer_that_is_no_value_is_an_error_and_no_end(inside: InsideRunner, text: str) -> None:
    """The grammar sees to it; an engine that lost its grammar must not pass for one that kept to it."""

    async def ask(server: Inside) -> tuple[httpx2.Response, httpx2.Response]:
        return await server.post(**formatted()), await server.post(stream=True, **formatted())

    whole, streamed = inside(ask, scripted_reply(say=[text] if text else []))
    last = events(streamed)[-1] if streamed.is_success else streamed.json()

    assert_contract_error(whole, 500, "api_error")
    assert ("error", "api_error") == (last["type"], last["error"]["type"])
    assert "message_delta" not in streamed.text


def test_a_value_keeps_every_digit_and_any_depth(inside: InsideRunner) -> None:
    texts = ["[" + ", ".join((*BIG_INTEGERS, "1e400", "0.10", "9" * 5000)) + "]", "[" * 2000 + "]" * 2000]
    scene = "".join(scripted_reply(when=f"value {number}", say=[text]) for number, text in enumerate(texts))

    async def ask(server: Inside) -> list[str]:
        asked = [{"messages": [{"role": "user", "content": f"value {number}"}]} for number in range(len(texts))]
        replies = [await server.post(**fields, **formatted({"type": "array", "items": {}})) for fields in asked]
        return [reply.json().get("content", [{}])[0].get("text", reply.text[:200]) for reply in replies]

    assert texts == inside(ask, scene)


# The helpers of the SDK.


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Street(pydantic.BaseModel):
    """Where something is."""

    name: str = pydantic.Field(min_length=1, max_length=80, description="without its number")
    number: int = pydantic.Field(ge=1, le=9999)


class Order(pydantic.BaseModel):
    """Nearly everything that a model of such a client can say."""

    order: uuid.UUID
    at: datetime.datetime
    kind: Literal["new", "used"]
    colours: list[Colour] = pydantic.Field(max_length=3)
    to: Street
    back_to: Street | None
    weight: float | int | None = pydantic.Field(default=None, gt=0)
    is_gift: bool = False
    note: str | Street = pydantic.Field(default="", pattern="^[a-z ]*$")


SAID_ORDER = json.dumps(
    {
        "order": "12345678-1234-5678-1234-567812345678",
        "at": "2026-10-21T12:00:00Z",
        "kind": "new",
        "colours": ["red", "blue"],
        "to": {"name": "Main Street", "number": 7},
        "back_to": None,
        "weight": 1.5,
        "is_gift": True,
        "note": "by hand",
    }
)
OPTIONS = {"base_url": "http://127.0.0.1", "api_key": "any", "max_retries": 0, "_strict_response_validation": True}


@pytest.mark.parametrize("fields", [{}, {"thinking": THINKING, "max_tokens": 2048}], ids=["straight", "thinking"])
def test_a_model_of_the_client_is_parsed_whole_and_streamed(inside: InsideRunner, fields: Fields) -> None:
    asked = {"model": OWN_MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": "order"}], **fields}

    async def ask(server: Inside) -> list[Order | None]:
        sdk = anthropic.AsyncAnthropic(**OPTIONS, http_client=server.client)
        whole = await sdk.messages.parse(**asked, output_format=Order)
        beta = await sdk.beta.messages.parse(**asked, output_format=Order)
        async with sdk.messages.stream(**asked, output_format=Order) as stream:
            streamed = await stream.get_final_message()
        return [whole.parsed_output, beta.parsed_output, streamed.parsed_output]

    right = Order.model_validate_json(SAID_ORDER)

    assert [right] * 3 == inside(ask, scripted_reply(think=["Hm"], say=[*SAID_ORDER]))


@pytest.mark.parametrize(
    ("kind", "said", "value"),
    [
        (list[int], "[1, 2]", [1, 2]),
        (int, "7", 7),
        (bool, "true", True),
        (Literal["yes", "no"], '"no"', "no"),
        (Colour, '"red"', Colour.RED),
        (Street | None, "null", None),
    ],
    ids=str,
)
def test_any_type_may_be_asked_for_that_the_subset_can_say(
    inside: InsideRunner, kind: Any, said: str, value: object
) -> None:
    async def ask(server: Inside) -> object:
        sdk = anthropic.AsyncAnthropic(**OPTIONS, http_client=server.client)
        messages: Any = [{"role": "user", "content": "Hi"}]
        message = await sdk.messages.parse(model=OWN_MODEL, max_tokens=64, messages=messages, output_format=kind)
        return json.loads(message.content[0].text), message.parsed_output

    assert (json.loads(said), value) == inside(ask, scripted_reply(say=[said]))


# What is refused, and what is taken.

SWITCH = '; the operator can allow it with tools.schemas = "extended"'
CLOSED = "For 'object' type, 'additionalProperties' must be explicitly set to false"
LOCAL = "only references within the schema (`#/...`) are supported"
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
NODE = properties(next={"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]})

# Schema -> where below it, and what is said.
REFUSED: list[tuple[Fields, str, str]] = [
    *[
        ({**STRING, keyword: value}, f".{keyword}", f"the schema keyword `{keyword}` is not supported{SWITCH}")
        for keyword, value in (("minLength", 1), ("maxLength", 3))
    ],
    *[
        (
            properties(age={"type": "integer", keyword: 1}),
            f".properties.age.{keyword}",
            f"the schema keyword `{keyword}` is not supported{SWITCH}",
        )
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    ],
    *[
        ({**properties(), keyword: value}, f".{keyword}", f"the schema keyword `{keyword}` is not supported{SWITCH}")
        for keyword, value in (("minProperties", 1), ("maxProperties", 1), ("patternProperties", {}))
    ],
    *[
        (
            {"type": "array", keyword: value},
            f".{keyword}",
            f"the schema keyword `{keyword}` is not supported{SWITCH}",
        )
        for keyword, value in (("maxItems", 3), ("prefixItems", [STRING]))
    ],
    ({"oneOf": [STRING]}, ".oneOf", f"the schema keyword `oneOf` is not supported{SWITCH}"),
    *[
        ({keyword: value}, f".{keyword}", f"the schema keyword `{keyword}` is not supported")
        for keyword, value in (
            ("not", STRING),
            ("if", STRING),
            ("contains", STRING),
            ("uniqueItems", True),
            ("dependentRequired", {}),
            ("propertyNames", STRING),
            ("unevaluatedProperties", False),
            ("$anchor", "x"),
            ("$dynamicRef", "#x"),
            ("x-mine", 1),
        )
    ],
    ({"type": "array", "items": STRING, "minItems": 2}, ".minItems", "only 0 and 1 are supported"),
    ({"type": "object", "properties": {}}, ".additionalProperties", CLOSED),
    ({"properties": {"a": STRING}}, ".additionalProperties", CLOSED),
    ({**properties(), "additionalProperties": True}, ".additionalProperties", CLOSED),
    ({**properties(), "additionalProperties": STRING}, ".additionalProperties", CLOSED),
    ({"type": ["object", "null"]}, ".additionalProperties", CLOSED),
    (
        {"type": "array", "items": {"type": "object", "properties": {}}},
        ".items.additionalProperties",
        CLOSED,
    ),
    ({"anyOf": [STRING, {"type": "object"}]}, ".anyOf.1.additionalProperties", CLOSED),
    ({"$defs": {"a": {"type": "object"}}, **STRING}, ".$defs.a.additionalProperties", CLOSED),
    ({"$ref": "https://example.com/schema"}, ".$ref", LOCAL),
    (properties(a={"$ref": "other.json#/a"}), ".properties.a.$ref", LOCAL),
    (
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": STRING}},
        ".allOf.0.$ref",
        "`$ref` within `allOf` is not supported",
    ),
    ({"$ref": "#/$defs/node", "$defs": {"node": NODE}}, ".$defs.node", "recursive schemas are not supported"),
    (properties(me={"$ref": "#"}), "", "recursive schemas are not supported"),
    ({**STRING, "format": "colour"}, ".format", f"the format must be one of {', '.join(FORMATS)}"),
    (
        {"type": "text"},
        ".type",
        "the type must be one of object, array, string, integer, number, boolean, null",
    ),
    ({"type": "array", "items": [STRING]}, ".items", "a schema must be an object or a boolean"),
    ({"anyOf": STRING}, ".anyOf", "this must be a list of schemas"),
    ({**properties(), "properties": [STRING]}, ".properties", "this must be an object of schemas"),
]


@pytest.mark.parametrize("form", FORMS.items(), ids=FORMS.keys())
@pytest.mark.parametrize(
    ("schema", "at", "message"), REFUSED, ids=[f"{at}-{number}" for number, (_, at, _) in enumerate(REFUSED)]
)
def test_a_schema_beyond_the_documented_subset_is_refused_by_the_path_in_it(
    inside: InsideRunner, schema: Fields, at: str, message: str, form: tuple[str, Any]
) -> None:
    name, build = form
    path = "output_config.format.schema" if name == "format" else "output_format.schema"

    async def ask(server: Inside) -> list[httpx2.Response]:
        fields = build(schema)
        counted = await server.post(path=COUNT, max_tokens=..., **fields)
        return [await server.post(**fields), await server.post(stream=True, **fields), counted]

    for refused in inside(ask, SCENE):
        assert f"{path}{at}: {message}" == assert_contract_error(refused, 400, "invalid_request_error")


NO_PREFILL = (
    "messages.1.content: a reply cannot be begun for the model when its format is a schema; end with a user message"
)
BEGUN = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "{"}]
WRONG: list[tuple[str, Fields]] = [
    (
        "output_format: give `output_config.format` or the older `output_format`, not both",
        {**formatted(), **formatted_as_of_old()},
    ),
    (NO_PREFILL, {**formatted(), "messages": BEGUN}),
    (NO_PREFILL, {**formatted_as_of_old(), "messages": BEGUN}),
    ("output_config.format.schema: Field required", {"output_config": {"format": {"type": "json_schema"}}}),
    ("output_config.format.schema: Input should be an object", formatted(True)),
    ("output_config.format.schema: Input should be an object", formatted("{}")),
    ("output_config.format.schema: Input should be an object", formatted(None)),
    (
        "output_config.format.type: Input should be 'json_schema'",
        {"output_config": {"format": {"type": "json_object"}}},
    ),
    (
        "output_config.format.name: Extra inputs are not permitted",
        {"output_config": {"format": {"type": "json_schema", "schema": PERSON, "name": "person"}}},
    ),
    ("output_config.format: Input should be an object", {"output_config": {"format": "json"}}),
    ("output_format: Input should be an object", {"output_format": "json"}),
]


@pytest.mark.parametrize(("message", "fields"), WRONG)
def test_a_format_that_is_no_format_is_refused_by_its_path(inside: InsideRunner, message: str, fields: Fields) -> None:
    async def ask(server: Inside) -> list[httpx2.Response]:
        counted = await server.post(path=COUNT, max_tokens=..., **fields)
        return [await server.post(**fields), await server.post(stream=True, **fields), counted]

    for refused in inside(ask, SCENE):
        assert message == assert_contract_error(refused, 400, "invalid_request_error")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_request_that_writes_nothing_cannot_have_a_format(inside: InsideRunner, form: Any) -> None:
    async def ask(server: Inside) -> httpx2.Response:
        return await server.post(max_tokens=0, **form())

    message = assert_contract_error(inside(ask, SCENE), 400, "invalid_request_error", "max_tokens")
    assert "0 reads the prompt and writes nothing" in message


UNUSABLE: dict[str, Fields] = {
    "a missing definition": {"$ref": "#/$defs/missing"},
    "no choice": {"enum": []},
    "no branch": {"anyOf": []},
    "a contradiction": {"allOf": [STRING, {"type": "integer"}]},
    "a required property that cannot be": {**properties(), "required": ["a"]},
    "a pattern that is none": {**STRING, "pattern": "("},
    "a pattern that looks ahead": {**STRING, "pattern": "^(?=a)"},
    "a pattern of numbers": {**STRING, "pattern": 5},
    "a list of names that is none": {**properties(), "required": "a"},
    "a choice that is no list": {"enum": "a"},
}


@pytest.mark.parametrize("form", FORMS.items(), ids=FORMS.keys())
@pytest.mark.parametrize("schema", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_schema_that_cannot_be_used_is_refused_by_its_path(
    inside: InsideRunner, schema: Fields, form: tuple[str, Any]
) -> None:
    name, build = form
    path = "output_config.format.schema" if name == "format" else "output_format.schema"

    async def ask(server: Inside) -> list[httpx2.Response]:
        fields = build(schema)
        return [await server.post(**fields), await server.post(path=COUNT, max_tokens=..., **fields)]

    for refused in inside(ask, SCENE):
        assert "the schema cannot be used" in assert_contract_error(refused, 400, "invalid_request_error", path)


SUBSET: dict[str, Fields] = {
    "nothing": {},
    "notes": {**STRING, "title": "T", "description": "D", "default": "a", "examples": ["a"], "$comment": "C"},
    "types": {"type": ["string", "integer", "number", "boolean", "null"]},
    "enum": {"enum": ["a", 1, 1.5, True, None]},
    "const": {"const": "a"},
    "nested": properties(a=properties(b={"type": "array", "items": properties(c=STRING), "minItems": 1})),
    "optional": {**properties(a=STRING), "required": []},
    "anyOf": {"anyOf": [STRING, properties(a=STRING), {"type": "null"}]},
    "allOf": {"allOf": [STRING, {"enum": ["a", "b"]}]},
    "definitions": {**properties(a={"$ref": "#/$defs/b"}, c={"$ref": "#/definitions/d"})}
    | {"$defs": {"b": STRING}, "definitions": {"d": {"$ref": "#/$defs/b"}}},
    "twice the same": {**properties(a={"$ref": "#/$defs/b"}, c={"$ref": "#/$defs/b"}), "$defs": {"b": properties()}},
    "names like keywords": properties(minimum=STRING, oneOf=STRING, type=STRING, properties=STRING),
    "minItems 0": {"type": "array", "items": STRING, "minItems": 0},
    "pattern": {**STRING, "pattern": "^[a-z]+-[0-9]{2,4}$"},
    **{name: {**STRING, "format": name} for name in FORMATS},
}


@pytest.mark.parametrize("schema", SUBSET.values(), ids=SUBSET.keys())
def test_the_documented_subset_is_taken_and_counted(inside: InsideRunner, schema: Fields) -> None:
    async def ask(server: Inside) -> tuple[int, str, list[int]]:
        reply = await server.post(**formatted(schema))
        counted = (await server.post(path=COUNT, max_tokens=..., **formatted(schema))).json()
        used = reply.json().get("usage", {}).get("input_tokens")
        return reply.status_code, reply.text, [used, counted.get("input_tokens"), len(server.prompt)]

    status, text, counts = inside(ask, SCENE)

    assert 200 == status, text
    assert [counts[0]] * 3 == counts


EXTENDED: dict[str, Fields] = {
    "minimum": {"type": "integer", "minimum": 1, "maximum": 5},
    "exclusive": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "multipleOf": {"type": "integer", "multipleOf": 5},
    "maxLength": {**STRING, "minLength": 1, "maxLength": 4},
    "maxItems": {"type": "array", "items": STRING, "minItems": 2, "maxItems": 3},
    "prefixItems": {"type": "array", "prefixItems": [STRING]},
    "oneOf": {"oneOf": [STRING, {"type": "integer"}]},
    "open object": {"type": "object", "properties": {"a": STRING}},
    "patternProperties": {"type": "object", "patternProperties": {"^a": STRING}, "additionalProperties": False},
    "$ref in allOf": {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": STRING}},
    "recursive": {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
}


@pytest.mark.parametrize("schema", EXTENDED.values(), ids=EXTENDED.keys())
def test_under_the_switch_more_is_taken(inside: InsideRunner, schema: Fields) -> None:
    async def ask(server: Inside) -> int:
        return (await server.post(**formatted(schema))).status_code

    assert [400, 200] == [inside(ask, SCENE), inside(ask, SCENE, tools={"schemas": "extended"})]


def test_under_the_switch_what_no_grammar_can_hold_is_refused_still(inside: InsideRunner) -> None:
    schemas = [{"not": STRING}, {**STRING, "x-mine": 1}, {"$ref": "https://example.com/schema"}]

    async def ask(server: Inside) -> list[httpx2.Response]:
        return [await server.post(**formatted(schema)) for schema in schemas]

    for refused, at in zip(inside(ask, SCENE, tools={"schemas": "extended"}), ("not", "x-mine", "$ref"), strict=True):
        assert_contract_error(refused, 400, "invalid_request_error", f"output_config.format.schema.{at}")


def test_many_schemas_at_once_do_not_mix(inside: InsideRunner) -> None:
    schemas = [properties(**{f"p{number}": STRING}) for number in range(40)]

    async def ask(server: Inside) -> list[tuple[int, bool]]:
        replies = await asyncio.gather(*[server.post(**formatted(schema)) for schema in schemas])
        held = [
            [number for number in range(40) if f'"p{number}"' in str(record.job.grammar)]
            for record in server.engine.records
        ]
        told_prompts = [
            [number for number in range(40) if f'"p{number}"' in record.prompt] for record in server.engine.records
        ]
        assert held == told_prompts
        return [(reply.status_code, len(one) == 1) for reply, one in zip(replies, held, strict=True)]

    assert [(200, True)] * 40 == inside(ask, SCENE)
