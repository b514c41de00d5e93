"""Grammars that make a model's words a call of a tool or a JSON value of a schema, in llguidance's Lark dialect."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from sestet.contract.errors import invalid
from sestet.contract.tools import ToolSyntax
from sestet.turn.tools import ToolPlan, ToolSpec

_ANYTHING: Final = "(?s:.*)"
NO_CONTROL: Final[Mapping[str, int]] = {}

# One spelling of white space: weights that say nonsense would otherwise fill a reply with it.
_COMPACT: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def of_schema(schema: Mapping[str, Any]) -> str:
    """Exactly one JSON value of this schema."""
    return f"%llguidance {{}}\nstart: %json {_guided(schema, lenient=False)}\n"


def of_text(syntax: ToolSyntax, control: Mapping[str, int] = NO_CONTROL) -> str:
    """Text without calls, for a model that knows of tools and may not call them."""
    return f"%llguidance {{}}\nstart: PLAIN\n{_plain(syntax, control)}\n"


def of_input(tool: ToolSpec) -> str:
    """Exactly one input of this tool."""
    return f"%llguidance {{}}\nstart: %json {_guided(_input_schema(tool), lenient=not tool.strict)}\n"


def of_calls(
    plan: ToolPlan, syntax: ToolSyntax, schema: Mapping[str, Any] | None, control: Mapping[str, int] = NO_CONTROL
) -> str:
    """Calls alone (`any`), or text without calls or followed by calls (`auto`), where the text may have a schema. After
    a call there is only another call. `control` are the tokens of markers that are no text to the weights."""
    if schema is not None and plan.choice == "auto" and syntax.begin.startswith("{"):
        raise invalid(
            "this model cannot have tools beside a schema: its calls begin as JSON does", "output_config.format"
        )
    tools = plan.callable_tools
    more = f" ({_written(syntax.between + syntax.begin, control)} call)*" if plan.parallel else ""
    lines = ["%llguidance {}"]
    if plan.choice == "any":
        lines.append(f"start: {_written(syntax.begin, control)} call{more}")
    elif schema is not None:
        lines += [
            f"start: value | {_written(syntax.begin, control)} call{more}",
            f"value: %json {_guided(schema, lenient=False)}",
        ]
    elif syntax.begin in control:
        lines += [f"start: PLAIN | PLAIN {_written(syntax.begin, control)} call{more}", _plain(syntax, control)]
    else:
        lines += [
            f"start: PLAIN | text_and_begin call{more}",
            f"text_and_begin[suffix={_literal(syntax.begin)}]: /{_ANYTHING}/",
            _plain(syntax, control),
        ]
    lines.append("call: " + " | ".join(f"call_{number}" for number in range(len(tools))))
    for number, tool in enumerate(tools):
        head = _written(f"{syntax.before_name}{tool.name}{syntax.before_input}", control)
        tail = f" {_written(syntax.after_input, control)}" if syntax.after_input else ""
        lines.append(f"call_{number}: {head} %json {_guided(_input_schema(tool), lenient=not tool.strict)}{tail}")
    return "\n".join(lines) + "\n"


def _plain(syntax: ToolSyntax, control: Mapping[str, int]) -> str:
    """Any text that holds no beginning of a call; a control token is no text anyway."""
    if syntax.begin in control:
        return f"PLAIN: /{_ANYTHING}/"
    return f"PLAIN: /{_ANYTHING}/ & ~/{_ANYTHING}{_pattern(syntax.begin)}{_ANYTHING}/"


def _input_schema(tool: ToolSpec) -> Mapping[str, Any]:
    """A tool's input is an object, whatever its schema forgets to say."""
    return tool.schema if "type" in tool.schema or "$ref" in tool.schema else {**tool.schema, "type": "object"}


def _guided(schema: Mapping[str, Any], *, lenient: bool) -> str:
    guidance = {**_COMPACT, "lenient": True} if lenient else _COMPACT
    return json.dumps({**_precise(schema), "x-guidance": guidance}, ensure_ascii=True)


def _precise(schema: Any) -> Any:
    """The schema with patterns for formats that the compiler takes too loosely."""
    if isinstance(schema, list):
        return [_precise(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    precise = {key: value if key in _VALUES else _precise(value) for key, value in schema.items()}
    if isinstance(precise.get("pattern"), str):
        precise["pattern"] = _ecmascript(precise["pattern"])
    pattern = _FORMAT_PATTERNS.get(schema["format"]) if isinstance(schema.get("format"), str) else None
    if pattern is None:
        return precise
    del precise["format"]
    if "pattern" in precise:
        return {**precise, "allOf": [*precise.get("allOf", []), {"pattern": pattern}]}
    return {**precise, "pattern": pattern}


def _ecmascript(pattern: str) -> str:
    """White space is U+FEFF too in the regular expressions of JSON Schema, and not in the compiler's."""
    written, in_class = "", False
    for piece in re.findall(r"\\.|.", pattern, re.DOTALL):
        if piece in ("[", "]"):
            in_class = piece == "["
        if piece == r"\s":
            piece = r"\s\x{FEFF}" if in_class else r"[\s\x{FEFF}]"
        elif piece == r"\S" and not in_class:
            piece = r"[^\s\x{FEFF}]"
        written += piece
    return written


_DATE: Final = (
    r"(\d{4}-(0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|\d{4}-(0[469]|11)-(0[1-9]|[12]\d|30)|\d{4}-02-(0[1-9]|1\d|2[0-8])"
    r"|(\d\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
)
_TIME: Final = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
# No 29th of February in years that have none, no leap seconds.
_FORMAT_PATTERNS: Final = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}
_VALUES: Final = ("enum", "const", "default", "examples")


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)


def _written(text: str, control: Mapping[str, int]) -> str:
    """The text, its control tokens as such."""
    if not control:
        return _literal(text)
    pieces = re.split(f"({'|'.join(map(re.escape, control))})", text)
    return " ".join(f"<[{control[piece]}]>" if piece in control else _literal(piece) for piece in pieces if piece)


def _pattern(text: str) -> str:
    """The text as a regular expression between slashes."""
    return "".join(f"\\x{{{ord(character):X}}}" for character in text)
