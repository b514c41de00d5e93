"""Keyword by keyword: what a schema calls invalid its grammar does not take, and what it calls valid it does.

`python -m tests.properties.test_schema_suite FOLDER` prints the table of docs/schemas.md for a folder of the JSON
Schema Test Suite (tests/draft2020-12 in https://github.com/json-schema-org/JSON-Schema-Test-Suite).
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any, Literal

import jsonschema_rs
import pytest
from llguidance import LLMatcher, LLTokenizer

from sestet.contract.errors import ApiError
from sestet.turn.grammar import of_schema
from sestet.turn.schemas import check, check_size

BYTES = LLTokenizer("byte")


def spellings(value: Any) -> Iterator[Any]:
    """The value with the keys of its objects in every order, as long as there are few."""
    match value:
        case dict():
            orders = permutations(value) if len(value) < 5 else [tuple(value)]
            for order in orders:
                for inner in islice(product(*(list(islice(spellings(value[key]), 6)) for key in order)), 24):
                    yield dict(zip(order, inner, strict=True))
        case list():
            for items in islice(product(*(list(islice(spellings(item), 6)) for item in value)), 24):
                yield list(items)
        case _:
            yield value


def takes(matcher: LLMatcher, value: Any) -> bool:
    """Whether the grammar takes the value in one of its spellings."""
    for spelling in spellings(value):
        copy = matcher.deep_copy()
        tokens = list(json.dumps(spelling, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if copy.try_consume_tokens(tokens) == len(tokens) and copy.is_accepting():
            return True
    return False


def closed(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


STRING, INTEGER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}
ANYTHING = [0, -1, 1.5, "", "a", None, True, False, [], [1, "a", [None]]]
BIG = 123456789012345678901234567890

# Keyword, schema, valid and invalid instances.
CASES: list[tuple[str, dict[str, Any], list[Any], list[Any]]] = [
    ("nothing", {}, [*ANYTHING, {}, {"a": 1}], []),
    ("type", STRING, ["", "a", "é\u2028\U0001f600", "\"\\\n\t\0"], [0, None, True, [], ["a"], {}]),
    ("type", INTEGER, [0, -1, 2**53 + 1, 2**64, -BIG], [1.5, "1", None, True, [], {}]),
    ("type", {"type": "number"}, [0, -1, 1.5, 1e300, 2.5e-7, BIG], ["1", None, False, [], {}]),
    ("type", {"type": "boolean"}, [True, False], [0, 1, "true", None, [], {}]),
    ("type", NULL, [None], [0, False, "", "null", [], {}]),
    ("type", {"type": "array"}, [[], [1], [[], {}, "a"]], [{}, "[]", None, 0]),
    ("type", {"type": ["string", "null"]}, ["a", None], [0, False, [], {}]),
    ("type", {"type": ["integer", "boolean"]}, [5, True], ["5", None, 1.5]),
    ("properties", closed(a=STRING, b=INTEGER), [{}, {"a": "x"}, {"b": 1}, {"a": "x", "b": 1}],
     [{"a": 1}, {"b": "x"}, {"c": 1}, {"a": "x", "c": 1}, [], "a", None]),
    ("properties", closed(**{'q"\\': STRING, "é\n": INTEGER, "": NULL, "$ref": NULL}),
     [{'q"\\': "x"}, {"é\n": 1}, {"": None}, {"$ref": None}, {'q"\\': "", "é\n": 0, "": None}],
     [{'q"\\': 1}, {"q": "x"}, {"é": 1}, {"$ref": 1}]),
    ("properties", closed(a=True, b={}), [{"a": 1, "b": []}, {"a": None}], [{"c": 1}]),
    ("properties", closed(a=False, b=STRING), [{}, {"b": "x"}], [{"a": 1}, {"a": None, "b": "x"}]),
    ("required", closed("a", a=STRING, b=STRING), [{"a": ""}, {"a": "", "b": ""}], [{}, {"b": ""}, {"a": None}]),
    ("required", closed("b", "a", a=STRING, b=STRING), [{"a": "", "b": ""}], [{}, {"a": ""}, {"b": ""}]),
    ("additionalProperties", closed(), [{}], [{"a": 1}, {"": None}, [], None]),
    ("additionalProperties", closed(a=closed(b=NULL)), [{}, {"a": {}}, {"a": {"b": None}}],
     [{"a": {"c": 1}}, {"a": 1}]),
    ("items", {"type": "array", "items": STRING}, [[], ["a"], ["a", ""]], [[1], ["a", None], [["a"]], {}, "a"]),
    ("items", {"type": "array", "items": closed("a", a=INTEGER)}, [[], [{"a": 1}, {"a": 2}]], [[{}], [{"a": "1"}],
     [1]]),
    ("items", {"type": "array", "items": {"type": "array", "items": NULL}}, [[], [[]], [[None], []]], [[None], [[1]]]),
    ("items", {"type": "array", "items": False}, [[]], [[1], [None]]),
    ("minItems", {"type": "array", "minItems": 1}, [[1], [1, 2]], [[], {}]),
    ("minItems", {"type": "array", "items": STRING, "minItems": 1}, [["a"], ["a", "b"]], [[], [1]]),
    ("minItems", {"type": "array", "minItems": 0}, [[], [1]], [None]),
    ("enum", {"enum": ["a", "b"]}, ["a", "b"], ["c", "", "ab", "A", None, 1, ["a"]]),
    ("enum", {"enum": [1, None, True, "1", [1], {"a": 1}]}, [1, None, True, "1", [1], {"a": 1}],
     [False, 2, "null", [], [2], {"a": 2}, {}]),
    ("enum", {"type": "string", "enum": ["a", 1, None]}, ["a"], [1, None, "b"]),
    ("const", {"const": "é\"\\\n\U0001f600"}, ["é\"\\\n\U0001f600"], ["é", "", None]),
    ("const", {"const": {"a": [1, {"b": None}]}}, [{"a": [1, {"b": None}]}], [{"a": [1]}, {}, {"a": [1, {"b": 0}]}]),
    ("const", {"const": None}, [None], [0, "", False]),
    ("const", {"const": False}, [False], [0, None, True, [False]]),
    ("const", {"const": 0}, [0], [False, "", [], {}]),
    ("anyOf", {"anyOf": [STRING, NULL]}, ["a", None], [0, True, [], {}]),
    ("anyOf", {"anyOf": [closed("a", a=STRING), closed("a", a=INTEGER)]}, [{"a": "x"}, {"a": 1}], [{}, {"a": None}]),
    ("anyOf", {"anyOf": [closed("k", "a", k={"const": "x"}, a=NULL), closed("k", "b", k={"const": "y"}, b=NULL)]},
     [{"k": "x", "a": None}, {"k": "y", "b": None}], [{"k": "x", "b": None}, {"k": "y", "a": None}, {"k": "z"}]),
    ("anyOf", {"anyOf": [{"anyOf": [NULL]}, {"type": "array", "items": {"anyOf": [STRING, INTEGER]}}]},
     [None, [], ["a", 1]], [[None], 1, "a"]),
    ("anyOf", {"type": "string", "anyOf": [{"const": "a"}, {"const": 1}]}, ["a"], [1, "b"]),
    ("anyOf", {"anyOf": [True, STRING]}, ANYTHING, []),
    ("anyOf", {"anyOf": [False, STRING]}, ["a"], [1, None]),
    ("allOf", {"allOf": [STRING, {"enum": ["a", 1]}]}, ["a"], [1, "b"]),
    ("allOf", {"allOf": [{"type": ["string", "null"]}, {"type": ["null", "integer"]}]}, [None], ["a", 1]),
    ("allOf", {"allOf": [{"pattern": "^a"}, {"pattern": "b$"}], "type": "string"}, ["ab", "axb"], ["a", "b", "ba", 1]),
    ("$ref", {"$ref": "#/$defs/a", "$defs": {"a": STRING}}, ["a"], [1, None]),
    ("$ref", {**closed("x", x={"$ref": "#/$defs/a"}, y={"$ref": "#/$defs/a"}), "$defs": {"a": closed("n", n=INTEGER)}},
     [{"x": {"n": 1}}, {"x": {"n": 1}, "y": {"n": 2}}], [{}, {"x": {}}, {"x": {"n": 1}, "y": {"n": ""}}]),
    ("$ref", {"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/b"}, "b": NULL}}, [None], [1]),
    ("$ref", {"type": "array", "items": {"$ref": "#/$defs/a~1b"}, "$defs": {"a/b": INTEGER}}, [[], [1]], [["a"]]),
    ("$ref", {"$ref": "#/$defs/a", "type": "string", "$defs": {"a": {"enum": ["x", 1]}}}, ["x"], [1, "y"]),
    ("pattern", {"type": "string", "pattern": "^[a-c]{2,3}$"}, ["ab", "abc"], ["", "a", "abca", "abd", "ab\n", 1]),
    ("pattern", {"type": "string", "pattern": "b+"}, ["b", "abba"], ["", "a", "B"]),
    ("pattern", {"type": "string", "pattern": '^["\\\\]$'}, ['"', "\\"], ["", "a", '""']),
    ("pattern", {"type": "string", "pattern": "^\\d{3}-\\d{4}$"}, ["555-1234"], ["5551234", "555-123", "a555-1234"]),
    ("pattern", {"type": "string", "pattern": "^(a|b|cd)*$"}, ["", "acdb"], ["c", "d", "ac"]),
    ("pattern", {"type": "string", "pattern": "^é\\u00e8?.$"}, ["éa", "éè\U0001f600"], ["é", "e"]),
    ("format", {"type": "string", "format": "date"}, ["2024-02-29", "1999-12-31"],
     ["2024-13-01", "2024-04-31", "2024-2-1", "24-02-01", "", "2024-02-30"]),
    ("format", {"type": "string", "format": "time"}, ["12:00:00Z", "23:59:59.123+01:00"],
     ["12:00:00", "24:00:00Z", "12:60:00Z", "noon", "1:00:00Z"]),
    ("format", {"type": "string", "format": "date-time"}, ["2024-02-29T12:00:00Z", "1985-04-12T23:20:50.52-08:00"],
     ["2024-02-29", "2024-02-29 12:00:00", "2024-02-29T25:00:00Z", "x"]),
    ("format", {"type": "string", "format": "duration"}, ["P4DT12H30M5S", "PT1M", "P2W"],
     ["PT", "P", "4D", "P1", "P1Y2W"]),
    ("format", {"type": "string", "format": "email"}, ["joe@example.com", "a.b+c@x.org"],
     ["joe", "@x", "a@", "a b@c.d"]),
    ("format", {"type": "string", "format": "hostname"}, ["www.example.com", "a", "x-y.z"], ["", "-a", "a_b", "a..b"]),
    ("format", {"type": "string", "format": "uri"}, ["https://example.com/a?b=c#d", "urn:a:b", "mailto:a@b.c"],
     ["", "example.com", "//a/b", "\\\\a", "a b:"]),
    ("format", {"type": "string", "format": "ipv4"}, ["127.0.0.1", "255.255.255.255"],
     ["256.0.0.1", "1.2.3", "1.2.3.4.5", "01.2.3.4"]),
    ("format", {"type": "string", "format": "ipv6"}, ["::1", "2001:db8::1", "1:2:3:4:5:6:7:8"],
     ["", "1:2", "::g", "1::2::3"]),
    ("format", {"type": "string", "format": "uuid"}, ["2eb8aa08-aa98-11ea-b4aa-73b441d16380"],
     ["2eb8aa08aa9811eab4aa73b441d16380", "2eb8aa08-aa98-11ea-b4aa-73b441d1638", "g" * 36, ""]),
    ("annotations", {"title": "t", "description": "d", "default": 5, "examples": [1], "$comment": "c", "type": "null"},
     [None], [5, "a"]),
]  # fmt: skip


_NUMBERED = [pytest.param(*case, id=f"{case[0]}-{number}") for number, case in enumerate(CASES)]


def compiled(schema: dict[str, Any]) -> LLMatcher:
    check_size(schema, "schema")
    check(schema, "schema", extended=False)
    grammar = of_schema(schema)
    assert "" == LLMatcher.validate_grammar(grammar)
    return LLMatcher(BYTES, grammar)


@pytest.mark.parametrize(("keyword", "schema", "valid", "invalid"), _NUMBERED)
def test_a_grammar_takes_what_is_valid_and_nothing_else(
    keyword: str, schema: dict[str, Any], valid: list[Any], invalid: list[Any]
) -> None:
    matcher = compiled(schema)

    assert (valid, []) == (
        [one for one in valid if takes(matcher, one)],
        [one for one in invalid if takes(matcher, one)],
    )


@pytest.mark.parametrize(("keyword", "schema", "valid", "invalid"), _NUMBERED)
def test_a_validator_agrees_with_the_cases(
    keyword: str, schema: dict[str, Any], valid: list[Any], invalid: list[Any]
) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)

    assert (valid, []) == ([v for v in valid if validator.is_valid(v)], [v for v in invalid if validator.is_valid(v)])


def test_there_are_enough_cases() -> None:
    assert 300 < sum(len(valid) + len(invalid) for _, _, valid, invalid in CASES)


@pytest.mark.parametrize(
    ("form", "instance"),
    [
        ("date", "2021-02-29"),
        ("date", "1900-02-29"),
        ("date-time", "2021-02-29T00:00:00Z"),
        ("date-time", "1998-12-31T23:58:60Z"),
        ("time", "22:59:60Z"),
        ("time", "23:59:60+01:00"),
    ],
)
def test_days_and_seconds_that_never_were_are_not_taken(form: str, instance: str) -> None:
    """29 February of a year without one, and a leap second at a time that has none."""
    assert not takes(compiled({"type": "string", "format": form}), instance)


Outcome = Literal["refused", "supported", "right", "wrong", "narrow"]


def measure(folder: Path, *, extended: bool) -> Iterator[tuple[str, Counter[str], list[str]]]:
    """File by file: schemas refused and supported, instances judged right, taken wrongly, and left out."""
    for file in sorted(folder.rglob("*.json")):
        found: Counter[str] = Counter()
        wrong: list[str] = []
        for group in json.loads(file.read_text("utf-8")):
            schema = group["schema"]
            if not isinstance(schema, dict):
                continue
            try:
                check_size(schema, "schema")
                check(schema, "schema", extended=extended)
            except ApiError:
                found["refused"] += 1
                continue
            grammar = of_schema(schema)
            if LLMatcher.validate_grammar(grammar):
                found["refused"] += 1
                continue
            found["supported"] += 1
            matcher = LLMatcher(BYTES, grammar)
            for test in group["tests"]:
                taken = takes(matcher, test["data"])
                outcome: Outcome = "right" if taken == test["valid"] else "wrong" if taken else "narrow"
                found[outcome] += 1
                if outcome == "wrong":
                    wrong.append(f"{group['description']}: {json.dumps(test['data'])}")
        yield file.relative_to(folder).with_suffix("").as_posix(), found, wrong


def main() -> None:
    for extended in (False, True):
        print(
            f"\n{'extended' if extended else 'documented'}\n\n| file | supported | refused | right | narrow | wrong |"
        )
        print("|---|---|---|---|---|---|")
        for name, found, wrong in measure(Path(sys.argv[1]), extended=extended):
            cells = [found[outcome] for outcome in ("supported", "refused", "right", "narrow", "wrong")]
            print(f"| {name} | {' | '.join(map(str, cells))} |", *wrong, sep="\n    ")


if __name__ == "__main__":
    main()
