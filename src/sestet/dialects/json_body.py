"""JSON as strictly as a contract needs it, and what is wrong with it in words that name the path.

The standard library parses, because only it can see a duplicate key and because its Python callbacks let other
requests run while a large body is read. What it lets through (NaN, lone surrogates, huge exponents) is refused
here or by the types.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sestet.contract.errors import ApiError, invalid
from sestet.dialects.dialect import Paths, in_words_of

KEYS_MAX = 10_000  # in one object; nothing in the contract comes near

_Model = TypeVar("_Model", bound=BaseModel)

# Texts of the library that would show our class names.
_PLAINER = {
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "dict_type": "Input should be an object",
    "list_type": "Input should be a list",
}


def parse(body: bytes, model: type[_Model]) -> _Model:
    """The request in these bytes; `invalid_request_error` names the path of the first thing wrong with it."""
    return shaped(read_object(body), model)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in these bytes."""
    data = _load(body)
    if not isinstance(data, dict):
        raise invalid("the request body must be a JSON object")
    return data


def shaped(data: Mapping[str, Any], model: type[_Model], paths: Paths | None = None) -> _Model:
    """The request that an object spells; `paths` are what the client calls those of the object."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        refusal = _refusal(error.errors(include_url=False, include_input=False)[0])
        raise in_words_of(refusal, paths or {}) from None


def _load(body: bytes) -> object:
    try:
        text = body.decode("utf-8")
        data = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise invalid(f"the request body is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise invalid("the request body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise invalid(
            f"the request body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from None
    except ValueError:  # an integer of more than 4,300 digits
        raise invalid("the request body holds a number with too many digits") from None
    if _HALF_CHARACTER.search(text):
        _refuse_half_characters(data)
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > KEYS_MAX:
        pairs.clear()  # or the error's traceback would keep them
        raise invalid(f"an object in the request body has more than {KEYS_MAX} keys")
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise invalid("this key is given twice in one object", _shown(key))
            seen.add(key)
    return found


def _refuse_half_characters(data: object) -> None:
    """JSON can spell half of a character (`\\ud800`), which is no text."""
    todo: list[tuple[object, str]] = [(data, "")]
    while todo:
        value, path = todo.pop()
        match value:
            case str() if any("\ud800" <= character <= "\udfff" for character in value):
                raise invalid("Input should be valid Unicode text, without lone surrogates", path or None)
            case dict():
                inner = [(item, f"{path}.{_shown(key)}".lstrip(".")) for key, item in value.items()]
                todo += [(key, at) for (_, at), key in zip(inner, value, strict=True)] + inner
            case list():
                todo += [(item, f"{path}.{position}".lstrip(".")) for position, item in enumerate(value)]


_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def _no_constant(name: str) -> NoReturn:
    raise invalid(f"the request body is not valid JSON: {name} is not a JSON value")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _refusal(error: ErrorDetails) -> ApiError:
    context: dict[str, Any] = error.get("ctx", {})
    location = error["loc"]
    if error["type"] == "extra_forbidden":  # ends with a client's own key, which may look like one of our tags
        path = [*_untagged(location[:-1]), _shown(location[-1])]
    else:
        path = _untagged(location)
    if error["type"] == "unsupported_field":
        path.append(context["field"])
    if error["type"] == "block_type":
        path.append("type")
    refusal = invalid(_PLAINER.get(error["type"], error["msg"]), ".".join(path) or None)
    if path == ["thread"]:
        refusal.code = "thread_unsupported_request"  # the SDKs' tool runners go on without one
    return refusal


def _untagged(location: Sequence[int | str]) -> list[str]:
    """The path without the names of a union's branches."""
    return [_shown(part) for part in location if not (isinstance(part, str) and part.startswith("<"))]


def _shown(part: object) -> str:
    """A piece of a path as an error may show it: a client's own key, so bounded and printable."""
    text = str(part)
    return "".join(c if c.isprintable() and not 0xD800 <= ord(c) < 0xE000 else "?" for c in text[:80])
