"""The documented subset of JSON Schema: taken, or refused by the path of the keyword."""

from typing import Any

import pytest

from sestet.turn.schemas import BYTES_MAX, DEPTH_MAX, EXTENDED, LEVELS_MAX, check, check_size
from tests.unit.refusals import refusal

CLOSED = {"type": "object", "additionalProperties": False}


def refused(schema: dict[str, Any], *, extended: bool = False) -> tuple[str | None, str]:
    error = refusal(lambda: check(schema, "s", extended=extended))
    return error.param, error.args[0]


def closed(**properties: Any) -> dict[str, Any]:
    return {**CLOSED, "properties": properties}


TAKEN: list[dict[str, Any]] = [
    {},
    *({"type": kind} for kind in ("array", "string", "integer", "number", "boolean", "null")),
    CLOSED,
    closed(a={"type": "string"}),
    {**closed(a={"type": "string"}), "required": ["a"]},
    closed(a=closed(b=closed(c={"type": "null"}))),
    {"type": ["string", "null"]},
    {"type": ["object", "null"], "additionalProperties": False},
    {"enum": ["a", 1, None, [1], {"b": 2}]},
    {"const": {"a": [None]}},
    {"anyOf": [{"type": "string"}, {"type": "null"}]},
    {"allOf": [{"type": "string"}]},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
    {"$ref": "#/definitions/a", "definitions": {"a": {"type": "string"}}},
    closed(a={"$ref": "#/$defs/b"}, c={"$ref": "#/$defs/b"}) | {"$defs": {"b": {"type": "string"}}},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": {"type": "string"}}, "$ref": "#/$defs/a"},
    {"$defs": {"a": {"type": "string"}, "a.b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a.b"},
    {"type": "array", "items": {"type": "string"}},
    {"type": "array", "items": {"type": "array", "items": closed()}},
    {"type": "array", "minItems": 0},
    {"type": "array", "minItems": 1},
    *(
        {"type": "string", "format": name}
        for name in (
            "date-time",
            "time",
            "date",
            "duration",
            "email",
            "hostname",
            "uri",
            "ipv4",
            "ipv6",
            "uuid",
        )
    ),
    {"type": "string", "pattern": "^[a-z]+$"},
    {"title": "t", "description": "d", "default": 5, "examples": [1], "$comment": "c", "deprecated": True},
    {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/a"},
    closed(a=True, b={}),
    closed(minimum={"type": "string"}, **{"$ref": {"type": "string"}, "not": {"type": "null"}}),
    {"default": {"minimum": 5, "not": {}}, "examples": [{"if": 1}], "const": {"not": 1}, "enum": [{"oneOf": 5}]},
]


@pytest.mark.parametrize("schema", TAKEN)
@pytest.mark.parametrize("extended", [True, False])
def test_the_documented_subset_is_taken(schema: dict[str, Any], extended: bool) -> None:
    check(schema, "s", extended=extended)


OTHERS: dict[str, Any] = {
    "not": {},
    "if": {},
    "then": {},
    "else": {},
    "contains": {},
    "minContains": 1,
    "maxContains": 1,
    "uniqueItems": True,
    "additionalItems": False,
    "unevaluatedItems": False,
    "unevaluatedProperties": False,
    "dependentRequired": {},
    "dependentSchemas": {},
    "dependencies": {},
    "propertyNames": {},
    "$anchor": "a",
    "$dynamicRef": "#a",
    "$dynamicAnchor": "a",
    "$recursiveRef": "#",
    "$vocabulary": {},
    "contentEncoding": "base64",
    "contentMediaType": "x",
    "contentSchema": {},
    "readOnly": True,
    "writeOnly": True,
    "nullable": True,
    "discriminator": {},
    "x-guidance": {},
    "Type": "string",
    "": 1,
}
PLACES: dict[str, Any] = {
    "s": lambda part: part,
    "s.properties.a": lambda part: closed(a=part),
    "s.items": lambda part: {"type": "array", "items": part},
    "s.anyOf.1": lambda part: {"anyOf": [{}, part]},
    "s.allOf.0": lambda part: {"allOf": [part]},
    "s.$defs.a": lambda part: {"$defs": {"a": part}},
    "s.definitions.a": lambda part: {"definitions": {"a": part}},
    "s.properties.a.items.anyOf.0": lambda part: closed(a={"items": {"anyOf": [part]}}),
}


@pytest.mark.parametrize("keyword", OTHERS)
@pytest.mark.parametrize("extended", [True, False])
def test_every_other_keyword_is_refused_by_its_name(keyword: str, extended: bool) -> None:
    assert (f"s.{keyword}", f"the schema keyword `{keyword}` is not supported") == refused(
        {keyword: OTHERS[keyword]}, extended=extended
    )


@pytest.mark.parametrize("place", PLACES)
def test_a_keyword_is_found_wherever_it_stands(place: str) -> None:
    assert f"{place}.uniqueItems" == refused(PLACES[place]({"uniqueItems": True}))[0]


VALUES = {"prefixItems": [{}], "oneOf": [{}], "patternProperties": {}}


@pytest.mark.parametrize("keyword", sorted(EXTENDED))
def test_what_the_operator_can_allow_says_so(keyword: str) -> None:
    schema = {keyword: VALUES.get(keyword, 5)}

    assert (
        f"s.{keyword}",
        f'the schema keyword `{keyword}` is not supported; the operator can allow it with tools.schemas = "extended"',
    ) == refused(schema)
    check(schema, "s", extended=True)


def test_a_long_keyword_is_cut_in_the_answer() -> None:
    path, words = refused({"k" * 10_000: 1})

    assert (f"s.{'k' * 64}", True) == (path, len(words) < 150)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "object"}, "s.additionalProperties"),
        ({"type": ["object", "null"]}, "s.additionalProperties"),
        ({"properties": {}}, "s.additionalProperties"),
        ({"type": "object", "additionalProperties": True}, "s.additionalProperties"),
        ({"type": "object", "additionalProperties": {}}, "s.additionalProperties"),
        ({"type": "object", "additionalProperties": 0}, "s.additionalProperties"),
        (closed(a={"type": "object"}), "s.properties.a.additionalProperties"),
        ({"items": {"properties": {}}}, "s.items.additionalProperties"),
    ],
)
def test_an_object_is_closed(schema: dict[str, Any], path: str) -> None:
    assert path == refused(schema)[0]


def test_an_open_object_is_taken_where_the_operator_allows_more() -> None:
    check({"type": "object", "additionalProperties": {"type": "string"}}, "s", extended=True)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "strin"}, "s.type"),
        ({"type": 5}, "s.type"),
        ({"type": None}, "s.type"),
        ({"type": ["string", 5]}, "s.type"),
        ({"type": {"a": 1}}, "s.type"),
        ({"type": [["string"]]}, "s.type"),
        ({"format": "regex"}, "s.format"),
        ({"format": 5}, "s.format"),
        ({"format": ["date"]}, "s.format"),
        ({"minItems": 2}, "s.minItems"),
        ({"minItems": -1}, "s.minItems"),
        ({"minItems": "1"}, "s.minItems"),
        ({"minItems": True}, "s.minItems"),
        ({"$ref": "http://example.com/a"}, "s.$ref"),
        ({"$ref": "file:///etc/passwd"}, "s.$ref"),
        ({"$ref": "other.json#/a"}, "s.$ref"),
        ({"$ref": ""}, "s.$ref"),
        ({"$ref": 5}, "s.$ref"),
        ({"$ref": {"a": 1}}, "s.$ref"),
        ({"$ref": "#/examples/0", "examples": [{"not": {}}]}, "s.$ref.not"),
        ({"$ref": "#/default", "default": {"items": {"not": {}}}}, "s.$ref.items.not"),
        (
            closed(a={"$ref": "#/properties/a/enum/0", "enum": [{"type": "object"}]}),
            "s.properties.a.$ref.additionalProperties",
        ),
        ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {}}}, "s.allOf.0.$ref"),
        ({"properties": [], "additionalProperties": False}, "s.properties"),
        ({"properties": 5, "additionalProperties": False}, "s.properties"),
        ({"$defs": []}, "s.$defs"),
        ({"definitions": "x"}, "s.definitions"),
        ({"anyOf": 5}, "s.anyOf"),
        ({"anyOf": {"a": {}}}, "s.anyOf"),
        ({"allOf": "x"}, "s.allOf"),
        ({"items": 5}, "s.items"),
        ({"items": [{}]}, "s.items"),
        ({"items": None}, "s.items"),
        ({"anyOf": [5]}, "s.anyOf.0"),
        ({"anyOf": [None, {}]}, "s.anyOf.0"),
        (closed(a=5), "s.properties.a"),
        (closed(a=[]), "s.properties.a"),
        ({"$defs": {"a": "x"}}, "s.$defs.a"),
        ({"patternProperties": []}, "s.patternProperties"),
        ({"oneOf": 5}, "s.oneOf"),
    ],
)
def test_a_hostile_shape_is_refused_by_its_path(schema: dict[str, Any], path: str) -> None:
    assert path == refused(schema)[0]


RECURSIVE: dict[str, dict[str, Any]] = {
    "itself": {"$ref": "#"},
    "a definition of itself": {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    "the root from a property": closed(a={"$ref": "#"}),
    "a list of itself": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}},
    "through anyOf": {"$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
    "through allOf": {"$defs": {"a": {"allOf": [closed(b={"$ref": "#/$defs/a"})]}}, "$ref": "#/$defs/a"},
    "mutual": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
    "three in a ring": {
        "$defs": {name: closed(next={"$ref": f"#/$defs/{after}"}) for name, after in ("ab", "bc", "ca")},
        "$ref": "#/$defs/a",
    },
    "definitions": {"definitions": {"a": {"items": {"$ref": "#/definitions/a"}}}, "$ref": "#/definitions/a"},
    "unused": {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}},
    "a property": closed(a={"items": {"$ref": "#/properties/a"}}),
    "a part within": closed(a=closed(b={"$ref": "#/properties/a"})),
    "a long name": {"$defs": {"n" * 80: {"items": {"$ref": f"#/$defs/{'n' * 80}"}}}, "$ref": f"#/$defs/{'n' * 80}"},
    "an escaped name": {"$defs": {"a/b": {"items": {"$ref": "#/$defs/a~1b"}}}, "$ref": "#/$defs/a~1b"},
    "a name in percent": {"$defs": {"é": {"items": {"$ref": "#/$defs/%C3%A9"}}}, "$ref": "#/$defs/%C3%A9"},
}


@pytest.mark.parametrize("case", RECURSIVE)
def test_recursion_is_found(case: str) -> None:
    assert "recursive schemas are not supported" == refused(RECURSIVE[case])[1]


@pytest.mark.parametrize("case", RECURSIVE)
def test_recursion_is_taken_where_the_operator_allows_more(case: str) -> None:
    check({**RECURSIVE[case]}, "s", extended=True)


def test_a_diamond_of_references_is_no_recursion() -> None:
    check(
        closed(a={"$ref": "#/$defs/l"}, b={"$ref": "#/$defs/r"})
        | {"$defs": {"l": {"$ref": "#/$defs/x"}, "r": {"$ref": "#/$defs/x"}, "x": {"type": "string"}}},
        "s",
        extended=False,
    )


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


def test_the_depth_of_a_schema_is_bounded() -> None:
    check_size(nested(DEPTH_MAX), "s")

    for levels in (DEPTH_MAX + 1, DEPTH_MAX + 2, 100_000):
        error = refusal(lambda levels=levels: check_size(nested(levels), "s"))  # type: ignore[misc]
        assert ("s", f"the schema is nested more than {DEPTH_MAX} levels deep") == (error.param, error.args[0])


@pytest.mark.parametrize("place", ["enum", "default", "examples", "x"])
def test_depth_counts_wherever_it_is(place: str) -> None:
    assert "s" == refusal(lambda: check_size({place: [nested(DEPTH_MAX)]}, "s")).param


def test_the_size_of_a_schema_is_bounded() -> None:
    rest = len('{"description": ""}')
    check_size({"description": "x" * (BYTES_MAX - rest)}, "s")

    assert (
        "Schema is too complex for compilation"
        in refusal(lambda: check_size({"description": "x" * (BYTES_MAX - rest + 1)}, "s")).message
    )


def test_many_references_in_a_row_are_too_deep_and_found_so_at_once() -> None:
    """Compilers are recursive: one that follows thousands of references has no stack left."""
    chain = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(6_000)}
    error = refusal(lambda: check_size({"$ref": "#/$defs/d0", "$defs": {**chain, "d6000": {"type": "string"}}}, "s"))

    assert "s" == error.param
    assert f"more than {LEVELS_MAX} levels deep" in error.message


def test_references_that_are_few_enough_are_taken() -> None:
    chain = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(LEVELS_MAX - 2)}

    check_size({"$ref": "#/$defs/d0", "$defs": {**chain, f"d{LEVELS_MAX - 2}": {"type": "string"}}}, "s")


def test_many_references_to_one_schema_are_not_deep() -> None:
    check_size(closed(**{f"p{number}": {"$ref": "#/$defs/a"} for number in range(2_000)}) | {"$defs": {"a": {}}}, "s")


@pytest.mark.parametrize("keyword", ["enum", "const"])
def test_numbers_that_the_compiler_cannot_tell_apart_are_refused(keyword: str) -> None:
    inner: object = [2**53 + 1] if keyword == "enum" else {"a": -(2**64)}
    error = refusal(lambda: check_size(closed(x={keyword: inner}), "s"))
    check_size(closed(x={keyword: [2**53]}), "s")

    assert f"s.properties.x.{keyword}" == error.param


@pytest.mark.parametrize("value", [1001, 400009, 0, -1, 0.3, 999.983, "x", None])
def test_a_multiple_that_would_cost_the_engine_its_time_is_refused(value: object) -> None:
    assert "s.multipleOf" == refusal(lambda: check_size({"multipleOf": value}, "s")).param


def test_a_schema_of_millions_of_values_is_refused_without_looking_at_them_all() -> None:
    assert "s" == refusal(lambda: check_size({"enum": [1] * 3_000_000}, "s")).param


def test_what_many_point_to_counts_once() -> None:
    names = [f"d{number}" for number in range(3_000)]
    many = closed(**{name: {"$ref": f"#/$defs/{name}"} for name in names}) | {
        "$defs": {name: {"type": "string"} for name in names}
    }

    check_size(many, "s")


def test_a_chain_of_references_counts_link_by_link() -> None:
    def chain(links: int) -> dict[str, Any]:
        defs: dict[str, Any] = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(links)}
        return {"$ref": "#/$defs/d0", "$defs": defs | {f"d{links}": {"type": "string"}}}

    check_size(chain(LEVELS_MAX - 2), "s")
    error = refusal(lambda: check_size(chain(LEVELS_MAX - 1), "s"))

    assert "levels deep" in error.message
