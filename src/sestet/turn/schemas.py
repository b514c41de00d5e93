"""JSON Schemas of clients: what of them a grammar can hold (WIRE.md section 2.3), found before an engine sees one.

`check` refuses by path what is not in the documented subset. What passes here may still be too much for the grammar's
compiler, which has the last word (services/grammars.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from sestet.contract.errors import invalid

DEPTH_MAX = 64
BYTES_MAX = 256 * 1024
LEVELS_MAX = 400  # of schemas within schemas, references followed: compilers of schemas are recursive
_EXACT_MAX: Final = 2**53
# Of others the compiler makes machines as large as the number.
_MULTIPLES: Final = frozenset((*range(1, 1001), 0.5, 0.25, 0.1, 0.01))
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")
_FORMATS: Final = (
    "date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid",
)  # fmt: skip

# Keywords that say nothing about what is valid.
_NOTES: Final = frozenset(("title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated"))
_APPLIED: Final = frozenset(
    ("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "allOf", "$ref",
     "$defs", "definitions", "format", "minItems", "pattern")
)  # fmt: skip
# What the grammar can hold beyond that, taken under `tools.schemas = "extended"` and in tools that are not strict.
EXTENDED: Final = frozenset(
    ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
     "prefixItems", "oneOf", "patternProperties", "minProperties", "maxProperties")
)  # fmt: skip


def check_size(schema: Mapping[str, Any], path: str) -> None:
    """Bounds every schema, strict or not: what comes after is recursive, or takes time for each of its parts."""
    depth, characters = _extent(schema)
    if depth > DEPTH_MAX:
        raise invalid(f"the schema is nested more than {DEPTH_MAX} levels deep", path)
    if characters > BYTES_MAX:
        raise invalid(f"Schema is too complex for compilation: it is larger than {BYTES_MAX} bytes", path)
    if _levels(schema) > LEVELS_MAX:
        raise invalid(f"Schema is too complex for compilation: it is more than {LEVELS_MAX} levels deep", path)
    for at, part in _parts(schema, path):
        for keyword in ("enum", "const"):
            if keyword in part and _holds_large_number(part[keyword]):
                raise invalid(f"numbers beyond {_EXACT_MAX} cannot be told apart here", f"{at}.{keyword}")
        if "multipleOf" in part and (
            isinstance(part["multipleOf"], list | dict) or part["multipleOf"] not in _MULTIPLES
        ):
            raise invalid("only whole numbers to 1000 and 0.5, 0.25, 0.1, 0.01 are supported", f"{at}.multipleOf")


def check(schema: Mapping[str, Any], path: str, *, extended: bool) -> None:
    """Raises for the first keyword that is not in the documented subset, or with `extended` beyond the grammar's."""
    known = _APPLIED | _NOTES | (EXTENDED if extended else frozenset())
    for at, part in _parts(schema, path):
        for keyword in part:
            if keyword not in known:
                hint = '; the operator can allow it with tools.schemas = "extended"' if keyword in EXTENDED else ""
                raise invalid(f"the schema keyword `{keyword[:64]}` is not supported{hint}", f"{at}.{keyword[:64]}")
        _check_part(part, at, extended)
    if not extended:
        _refuse_recursion(schema, path)


def _check_part(part: Mapping[str, Any], at: str, extended: bool) -> None:
    kinds = part.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    for kind in kinds:
        if kind not in _TYPES:
            raise invalid(f"the type must be one of {', '.join(_TYPES)}", f"{at}.type")
    if ("object" in kinds or "properties" in part) and not extended and part.get("additionalProperties") is not False:
        raise invalid(
            "For 'object' type, 'additionalProperties' must be explicitly set to false", f"{at}.additionalProperties"
        )
    if "format" in part and part["format"] not in _FORMATS:
        raise invalid(f"the format must be one of {', '.join(_FORMATS)}", f"{at}.format")
    least = part.get("minItems", 0)
    if not extended and (type(least) is not int or least not in (0, 1)):
        raise invalid("only 0 and 1 are supported", f"{at}.minItems")
    if not isinstance(part.get("$ref", "#"), str) or not part.get("$ref", "#").startswith("#"):
        raise invalid("only references within the schema (`#/...`) are supported", f"{at}.$ref")
    for position, one in enumerate(part.get("allOf", ()) if isinstance(part.get("allOf"), list) else ()):
        if not extended and isinstance(one, Mapping) and "$ref" in one:
            raise invalid("`$ref` within `allOf` is not supported", f"{at}.allOf.{position}.$ref")


def _parts(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema inside this one, itself first, with its path; those that stand elsewhere, and are only pointed to,
    by the path of what points to them."""
    todo: list[tuple[str, Any]] = [(path, schema)]
    targets: list[tuple[str, Mapping[str, Any]]] = []
    seen: set[int] = set()
    while todo or targets:
        at, part = todo.pop() if todo else targets.pop()
        if isinstance(part, bool) or id(part) in seen:
            continue
        if not isinstance(part, Mapping):
            raise invalid("a schema must be an object or a boolean", at)
        seen.add(id(part))
        yield at, part
        target = _target(part, schema)
        if target is not None:
            targets.append((f"{at}.$ref", target))
        for keyword in ("properties", "$defs", "definitions", "patternProperties"):
            inner = part.get(keyword, {})
            if not isinstance(inner, Mapping):
                raise invalid("this must be an object of schemas", f"{at}.{keyword}")
            todo += [(f"{at}.{keyword}.{name[:64]}", one) for name, one in inner.items()]
        for keyword in ("anyOf", "allOf", "oneOf", "prefixItems"):
            inner = part.get(keyword, [])
            if not isinstance(inner, list):
                raise invalid("this must be a list of schemas", f"{at}.{keyword}")
            todo += [(f"{at}.{keyword}.{position}", one) for position, one in enumerate(inner)]
        todo += [(f"{at}.{keyword}", part[keyword]) for keyword in ("items", "additionalProperties") if keyword in part]


def references(schema: Mapping[str, Any]) -> int:
    """How many `$ref` there are."""
    return sum("$ref" in part for _, part in _parts(schema, ""))


def _refuse_recursion(schema: Mapping[str, Any], path: str) -> None:
    """No `$ref` may lead back to where it stands: a search in depth finds a schema that it is still inside of."""
    inside: dict[int, bool] = {}
    parts = list(_parts(schema, path))
    paths = {id(part): at for at, part in parts}
    todo: list[tuple[Mapping[str, Any], bool]] = [(part, False) for _, part in reversed(parts)]
    while todo:
        part, done = todo.pop()
        if done:
            inside[id(part)] = False
        elif id(part) not in inside:
            inside[id(part)] = True
            todo.append((part, True))
            for after in _after(part, schema):
                if inside.get(id(after), False):
                    raise invalid("recursive schemas are not supported", paths.get(id(after), path))
                todo.append((after, False))


def _levels(schema: Mapping[str, Any]) -> int:
    """How deep a search gets that follows references and enters no schema twice; at most, whatever its order. What is
    pointed to and points to nothing itself ends a search, so only the deepest of these counts."""
    heights: dict[int, _Height] = {}
    levels, last = 0, 0
    todo, seen = [schema], {id(schema)}
    while todo and levels <= LEVELS_MAX:
        part = todo.pop()
        height = _measure(part, schema, heights)
        if height.targets or part is schema:
            levels += height.levels
        else:
            last = max(last, height.levels)
        for target in height.targets:
            if id(target) not in seen:
                seen.add(id(target))
                todo.append(target)
    return levels + last


class _Height(NamedTuple):
    """How many levels of schemas a schema has, and what is pointed to from within."""

    levels: int
    targets: Sequence[Mapping[str, Any]]


def _measure(schema: Mapping[str, Any], root: Mapping[str, Any], heights: dict[int, _Height]) -> _Height:
    """Each schema is measured once, however many point to it."""
    todo = [(schema, False)]
    while todo:
        part, measured = todo.pop()
        if id(part) in heights:
            continue
        inner = _inner(part)
        if not measured:
            todo += [(part, True), *((one, False) for one in inner)]
            continue
        target = _target(part, root)
        targets = {id(one): one for below in inner for one in heights[id(below)].targets}
        if target is not None:
            targets[id(target)] = target
        deepest = max((heights[id(below)].levels for below in inner), default=0)
        heights[id(part)] = _Height(deepest + 1, tuple(targets.values()))
    return heights[id(schema)]


def _after(part: Mapping[str, Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    target = _target(part, root)
    return [*_inner(part), *([target] if target is not None else [])]


def _inner(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas directly inside this one, definitions apart: those count where they are referred to."""
    found: list[object] = []
    for keyword in ("properties", "patternProperties"):
        inner = part.get(keyword)
        found += inner.values() if isinstance(inner, Mapping) else ()
    for keyword in ("anyOf", "allOf", "oneOf", "prefixItems"):
        inner = part.get(keyword)
        found += inner if isinstance(inner, list) else ()
    found += [part.get("items"), part.get("additionalProperties")]
    return [one for one in found if isinstance(one, Mapping)]


def _target(part: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that a `$ref` points to, if there is one."""
    reference = part.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: object = root
    for name in unquote(reference[1:]).split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and len(key) < 10 and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found if isinstance(found, Mapping) else None


def _holds_large_number(value: object) -> bool:
    """Whether it has a number that the compiler, which reads them as floats, takes for another."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, int) and abs(one) > _EXACT_MAX:
            return True
        todo += one.values() if isinstance(one, Mapping) else one if isinstance(one, list) else ()
    return False


def _extent(value: object) -> tuple[int, int]:
    """How deep, and about how many characters as JSON; no more is looked at than the bounds allow."""
    deepest, characters, todo = 0, 0, [(value, 1)]
    while todo and deepest <= DEPTH_MAX and characters <= BYTES_MAX:
        one, depth = todo.pop()
        deepest = max(deepest, depth)
        if isinstance(one, str):
            characters += len(one) + 2
        elif isinstance(one, Mapping):
            characters += 2 + sum(len(key) + 4 for key in one) + 2 * max(0, len(one) - 1)
            todo += [(inner, depth + 1) for inner in one.values()]
        elif isinstance(one, list):
            characters += 2 + 2 * max(0, len(one) - 1)
            todo += [(inner, depth + 1) for inner in one] if characters <= BYTES_MAX else []
        else:
            characters += 4
    return deepest, characters
