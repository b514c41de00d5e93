"""Schemas that real weights are held to: a hundred generated ones, and a hundred tools as agents have them.

`bounded` gives what is written without bounds small ones, so that weights that say nonsense come to an end.
"""
# ruff: noqa: E501 - a tool a line

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Final

import orjson

Schema = dict[str, Any]

GENERATED: Final = 100
SIZE_MAX: Final = 700  # bytes of a generated schema: it is in the prompt too
_DEPTH_MAX: Final = 3

_NAMES: Final = (
    "name", "id", "größe", "名前", "ключ", "naïve café", "a-b", "x.y", "$ref_", "0", "emoji \U0001f642", "with space",
    'quo"te', "back\\slash", "type", "items", "ünïcödé", "עברית", "camelCase", "UPPER",
)  # fmt: skip
_WORDS: Final = ("low", "high", "été", "new york", 'say "hi"', "a/b", "", "日本", "line\nbreak", "\U0001f642")
_PATTERNS: Final = (
    "^[A-Z]{3}-[0-9]{4}$", "^#[0-9a-f]{6}$", r"^v\d{1,2}\.\d{1,2}$", r"^\w{1,8}$", "^(on|off)$", "^[^aeiou]{2,6}$",
    "^(?:[a-z]{2,5} ){0,2}[a-z]{1,5}$", "^$", r"^\+?[0-9 ]{3,9}$", "^[à-ÿ]{1,4}$",
)  # fmt: skip
_FORMATS: Final = ("date-time", "time", "date", "ipv4", "ipv6", "uuid")


def generated(number: int) -> Schema:
    """The schema of an object; the same number is the same schema."""
    random = Random(f"schema {number}")
    while True:
        definitions: Schema = {}
        schema = _object(random, 0, definitions)
        if definitions:
            schema["$defs"] = definitions
        if len(orjson.dumps(schema)) <= SIZE_MAX:
            return schema


def generated_value(number: int) -> Schema:
    """The schema of any JSON value, as structured output may have."""
    random = Random(f"value {number}")
    while True:
        definitions: Schema = {}
        schema = _any(random, 0, definitions)
        if definitions:
            schema["$defs"] = definitions
        if len(orjson.dumps(schema)) <= SIZE_MAX:
            return schema


def _any(random: Random, depth: int, definitions: Schema) -> Schema:
    simple = (_scalar, _scalar, _scalar, _text, _text, _choice)
    deep = (_object, _object, _array, _array, _tuple, _union, _reference)
    return random.choice(simple if depth >= _DEPTH_MAX else (*simple, *deep))(random, depth, definitions)


def _scalar(random: Random, _depth: int, _definitions: Schema) -> Schema:
    low = random.randint(-1000, 1000)
    return random.choice(
        (
            {"type": "boolean"},
            {"type": "null"},
            {"type": "integer", "minimum": low, "maximum": low + random.choice((0, 1, 7, 5000))},
            {"type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": low + random.choice((2, 40))},
            {"type": "integer", "minimum": 0, "maximum": 1000, "multipleOf": random.choice((2, 5, 10, 25))},
            {"type": "number", "minimum": low, "maximum": low + random.choice((1, 0.5, 100))},
            {"type": ["integer", "null"], "minimum": 0, "maximum": 99},
            {"type": ["boolean", "string"], "maxLength": 6},
        )
    )


def _text(random: Random, _depth: int, _definitions: Schema) -> Schema:
    least = random.randint(0, 4)
    return {
        "type": "string",
        **random.choice(
            (
                {"maxLength": random.choice((1, 8, 20))},
                {"minLength": least, "maxLength": least + random.randint(0, 12)},
                {"pattern": random.choice(_PATTERNS)},
                {"format": random.choice(_FORMATS)},
                {"enum": random.sample(_WORDS, random.randint(1, 4))},
            )
        ),
    }


def _choice(random: Random, _depth: int, _definitions: Schema) -> Schema:
    values = (1, -2, 0.5, True, False, None, "a", "ß", [], [1, "two", None], {}, {"k": {"é": [True]}}, 10**15, "\u2028")
    return random.choice(({"const": random.choice(values)}, {"enum": random.sample(values, random.randint(1, 5))}))


def _object(random: Random, depth: int, definitions: Schema) -> Schema:
    names = random.sample(_NAMES, random.randint(0 if depth else 1, 4 - min(depth, 2)))
    return {
        "type": "object",
        "properties": {name: _any(random, depth + 1, definitions) for name in names},
        "required": random.sample(names, random.randint(0, len(names))),
        "additionalProperties": False,
    }


def _array(random: Random, depth: int, definitions: Schema) -> Schema:
    least = random.randint(0, 2)
    items = _any(random, depth + 1, definitions)
    return {"type": "array", "items": items, "minItems": least, "maxItems": least + random.randint(0, 3)}


def _tuple(random: Random, depth: int, definitions: Schema) -> Schema:
    first = [_any(random, depth + 1, definitions) for _ in range(random.randint(1, 3))]
    return {"type": "array", "prefixItems": first, "items": False, "minItems": random.randint(0, len(first))}


def _union(random: Random, depth: int, definitions: Schema) -> Schema:
    return {"anyOf": [_any(random, depth + 1, definitions) for _ in range(random.randint(2, 3))]}


def _reference(random: Random, depth: int, definitions: Schema) -> Schema:
    """A definition of its own, one that is there already, or one that holds itself."""
    made_already = sorted(name for name, one in definitions.items() if one)
    if made_already and random.random() < 0.4:
        return {"$ref": f"#/$defs/{random.choice(made_already)}"}
    name = f"d{len(definitions)}"
    definitions[name] = {}
    if random.random() < 0.5:
        made = _any(random, depth + 1, definitions)
    else:
        children = {"type": "array", "items": {"$ref": f"#/$defs/{name}"}, "maxItems": 2}
        made = {
            "type": "object",
            "properties": {"value": {"type": "integer", "minimum": 0, "maximum": 9}, "children": children},
            "required": ["value"],
            "additionalProperties": False,
        }
    definitions[name] = made
    return {"$ref": f"#/$defs/{name}"}


def bounded(schema: Schema, characters: int = 16, items: int = 3) -> Schema:
    """The same with bounds: for texts and lists that have none, and no properties beside those that are named."""
    bound: Schema = {key: _bounded_inside(key, value, characters, items) for key, value in schema.items()}
    kinds = schema.get("type", ())
    if "string" in kinds and not schema.keys() & {"enum", "const", "pattern", "format", "maxLength"}:
        bound["maxLength"] = characters
    if "array" in kinds:
        bound.setdefault("maxItems", max(items, schema.get("minItems", 0)))
    if "integer" in kinds and not schema.keys() & {"enum", "const", "maximum"}:
        bound |= {"minimum": schema.get("minimum", -999), "maximum": 9_999}
    if "number" in kinds and not schema.keys() & {"enum", "const", "maximum"}:
        bound |= {"minimum": schema.get("minimum", -180), "maximum": 180}
    if "object" in kinds:
        bound.setdefault("additionalProperties", False)
    return bound


def _bounded_inside(key: str, value: Any, characters: int, items: int) -> Any:
    if key in ("properties", "$defs"):
        return {name: bounded(one, characters, items) for name, one in value.items()}
    if key in ("anyOf", "prefixItems"):
        return [bounded(one, characters, items) for one in value]
    if key in ("items", "additionalProperties") and isinstance(value, dict):
        return bounded(value, characters, items)
    return value


def tool(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "description": description, "input_schema": schema}


def real_tools() -> Iterator[tuple[str, Schema]]:
    """Every tool of the sets below, with the name of its set."""
    for name, tools in TOOL_SETS.items():
        for one in tools:
            yield name, one


def _takes(*required: str, **properties: Schema) -> Schema:
    """The schema of an input as people write it: nothing about what else it may hold."""
    return {"type": "object", "properties": properties, "required": list(required)}


def _of(*values: object) -> Schema:
    return {"type": "string", "enum": list(values)}


def _list(items: Schema, **bounds: int) -> Schema:
    return {"type": "array", "items": items, **bounds}


_S: Final[Schema] = {"type": "string"}
_I: Final[Schema] = {"type": "integer"}
_N: Final[Schema] = {"type": "number"}
_B: Final[Schema] = {"type": "boolean"}
_PATH: Final[Schema] = {"type": "string", "description": "Absolute path."}
_DAY: Final[Schema] = {"type": "string", "format": "date"}
_MOMENT: Final[Schema] = {"type": "string", "format": "date-time"}
_UUID: Final[Schema] = {"type": "string", "format": "uuid"}
_PERCENT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 100}
_POINT: Final[Schema] = _takes("lat", "lon", lat=_N, lon=_N)
_MONEY: Final[Schema] = _takes(
    "amount", "currency", amount={"type": "number", "minimum": 0}, currency={"type": "string", "pattern": "^[A-Z]{3}$"}
)

_NODE: Final[Schema] = {"$ref": "#/$defs/node"}
_FILTER: Final[Schema] = {
    "anyOf": [
        _takes(
            "field", "op", "value", field=_S, op=_of("=", "!=", "<", ">", "like"), value={"type": ["string", "number"]}
        ),
        _takes("and", **{"and": _list({"$ref": "#/$defs/filter"}, minItems=1, maxItems=2)}),
        _takes("not", **{"not": {"$ref": "#/$defs/filter"}}),
    ]
}

TOOL_SETS: Final[Mapping[str, tuple[Schema, ...]]] = {
    "files": (
        tool("read_file", "Read a file.", _takes("path", path=_PATH, offset=_I, limit=_I)),
        tool("write_file", "Write a file.", _takes("path", "content", path=_PATH, content=_S)),
        tool("edit_file", "Replace text.", _takes("path", "old", "new", path=_PATH, old=_S, new=_S, all=_B)),
        tool("list_dir", "List a folder.", _takes("path", path=_PATH, hidden=_B, ignore=_list(_S))),
        tool("glob", "Find files by name.", _takes("pattern", pattern=_S, path=_PATH)),
        tool("grep", "Search in files.", _takes("regex", regex=_S, path=_PATH, mode=_of("content", "files", "count"), context=_I)),
        tool("move", "Move or rename.", _takes("from", "to", **{"from": _PATH, "to": _PATH}, overwrite=_B)),
        tool("delete", "Delete files.", _takes("paths", paths=_list(_PATH, minItems=1), recursive=_B)),
        tool("multi_edit", "Several edits of one file.", _takes("path", "edits", path=_PATH, edits=_list(_takes("old", "new", old=_S, new=_S), minItems=1))),
        tool("chmod", "Set permissions.", _takes("path", "mode", path=_PATH, mode={"type": "string", "pattern": "^[0-7]{3,4}$"})),
    ),
    "shell": (
        tool("run", "Run a command.", _takes("command", command=_S, timeout_ms={"type": "integer", "maximum": 600000}, background=_B)),
        tool("kill", "End a process.", _takes("pid", pid={"type": "integer", "minimum": 1}, signal=_of("TERM", "KILL", "INT"))),
        tool("output", "Read the output of a job.", _takes("job", job={"type": "string", "pattern": "^job_[a-z0-9]{6}$"}, lines=_I)),
        tool("set_env", "Set variables.", _takes("variables", variables=_list(_takes("name", "value", name={"type": "string", "pattern": "^[A-Z_]{1,12}$"}, value=_S)))),
        tool("todo", "Keep the list of what is to do.", _takes("todos", todos=_list(_takes("content", "status", content=_S, status=_of("pending", "in_progress", "completed"), priority=_of("high", "medium", "low"))))),
        tool("ask_user", "Ask with options.", _takes("question", "options", question=_S, options=_list(_takes("label", label=_S, description=_S), minItems=2, maxItems=4), multi=_B)),
        tool("delegate", "Give a task to a helper.", _takes("task", task=_S, kind=_of("explore", "plan", "review"))),
        tool("notebook_edit", "Edit a cell.", _takes("path", "source", path=_PATH, cell=_I, source=_S, cell_type=_of("code", "markdown"))),
    ),
    "calendar": (
        tool("create_event", "Create an event.", _takes("title", "start", title=_S, start=_MOMENT, end=_MOMENT, attendees=_list(_takes("email", email=_S, optional=_B)), all_day=_B)),
        tool("find_slot", "Find free time.", _takes("minutes", "days", minutes={"type": "integer", "enum": [15, 30, 45, 60]}, days=_list(_DAY, minItems=1), earliest={"type": "string", "format": "time"})),
        tool("cancel_event", "Cancel.", _takes("id", id=_UUID, notify=_B, reason={"type": ["string", "null"]})),
        tool("repeat_event", "Make it repeat.", _takes("id", "rule", id=_UUID, rule=_takes("every", every=_of("day", "week", "month"), interval={"type": "integer", "minimum": 1, "maximum": 12}, on=_list(_of("MO", "TU", "WE", "TH", "FR"))))),
        tool("rsvp", "Answer an invitation.", _takes("id", "answer", id=_UUID, answer=_of("yes", "no", "maybe"))),
        tool("list_events", "List events.", _takes("from", **{"from": _DAY, "to": _DAY}, calendar=_S)),
        tool("set_reminder", "Remind.", _takes("text", "at", text=_S, at={"anyOf": [_MOMENT, _takes("in_minutes", in_minutes=_I)]})),
        tool("share", "Share a calendar.", _takes("with", "role", **{"with": _S}, role=_of("reader", "writer", "owner"))),
    ),
    "sql": (
        tool("query", "Run a query.", _takes("sql", sql=_S, parameters=_list({"type": ["string", "number", "boolean", "null"]}), limit=_I)),
        tool("describe", "Describe a table.", _takes("table", table={"type": "string", "pattern": "^[a-z_]{1,16}$"}, schema=_S)),
        tool("insert", "Insert rows.", _takes("table", "rows", table=_S, rows=_list(_takes("id", id=_I, name=_S, active=_B), minItems=1))),
        tool("update", "Update rows.", _takes("table", "set", "where", table=_S, set=_list(_takes("column", "value", column=_S, value={"type": ["string", "number", "null"]}), minItems=1), where=_S)),
        tool("select", "Select with a filter.", {**_takes("table", "where", table=_S, where={"$ref": "#/$defs/filter"}, order=_list(_takes("by", by=_S, desc=_B))), "$defs": {"filter": _FILTER}}),
        tool("create_table", "Create a table.", _takes("name", "columns", name=_S, columns=_list(_takes("name", "type", name=_S, type=_of("int", "text", "real", "blob"), nullable=_B), minItems=1))),
        tool("create_index", "Create an index.", _takes("table", "columns", table=_S, columns=_list(_S, minItems=1), unique=_B)),
        tool("explain", "Show the plan.", _takes("sql", sql=_S, analyze=_B, format=_of("text", "json"))),
        tool("transaction", "Begin or end.", _takes("action", action=_of("begin", "commit", "rollback"), isolation=_of("read committed", "serializable"))),
    ),
    "trees": (
        tool("build_tree", "Build a tree.", {**_takes("root", root=_NODE), "$defs": {"node": _takes("value", value=_I, left={"anyOf": [_NODE, {"type": "null"}]}, right={"anyOf": [_NODE, {"type": "null"}]})}}),
        tool("render_ui", "Show a component.", {**_takes("root", root=_NODE), "$defs": {"node": _takes("tag", tag=_of("div", "button", "input"), text=_S, children=_list(_NODE))}}),
        tool("evaluate", "Compute an expression.", {**_takes("expression", expression=_NODE), "$defs": {"node": {"anyOf": [_N, _takes("op", "args", op=_of("+", "-", "*", "/"), args=_list(_NODE, minItems=2, maxItems=2))]}}}),
        tool("save_thread", "Save comments and replies.", {**_takes("comments", comments=_list(_NODE)), "$defs": {"node": _takes("author", "text", author=_S, text=_S, replies=_list(_NODE))}}),
        tool("org_chart", "Store who leads whom.", {**_takes("head", head=_NODE), "$defs": {"node": _takes("name", name=_S, title=_S, reports=_list(_NODE))}}),
        tool("linked_list", "Make a list.", {**_takes("list", list=_NODE), "$defs": {"node": {"anyOf": [{"type": "null"}, _takes("head", "tail", head=_PERCENT, tail=_NODE)]}}}),
        tool("menu", "Make a menu.", _takes("items", items=_list(_takes("label", label=_S, shortcut={"type": "string", "pattern": "^(Ctrl|Alt)\\+[A-Z]$"}, items=_list(_takes("label", label=_S)))))),
        tool("nested", "Deeply nested settings.", _takes("a", a=_takes("b", b=_takes("c", c=_takes("d", d=_takes("e", e=_list(_list(_takes("f", f=_B))))))))),
    ),
    "web": (
        tool("fetch", "Get a page.", _takes("url", url=_S, format=_of("text", "markdown", "html"), headers=_list(_takes("name", "value", name=_S, value=_S)))),
        tool("search", "Search.", _takes("query", query=_S, domains=_list(_S), recency=_of("day", "week", "month", "year"), count={"type": "integer", "minimum": 1, "maximum": 20})),
        tool("click", "Click on a page.", _takes("at", at={"anyOf": [_takes("x", "y", x=_I, y=_I), _takes("selector", selector=_S)]}, button=_of("left", "right", "middle"))),
        tool("type_text", "Type.", _takes("text", text=_S, submit=_B)),
        tool("press", "Press keys.", _takes("keys", keys=_list(_of("Enter", "Tab", "Escape", "ArrowUp", "ArrowDown"), minItems=1))),
        tool("scroll", "Scroll.", _takes("direction", direction=_of("up", "down", "left", "right"), amount=_PERCENT)),
        tool("screenshot", "Take a picture.", _takes(full_page=_B, region={"type": "array", "prefixItems": [_PERCENT, _PERCENT, _PERCENT, _PERCENT], "items": False, "minItems": 4})),
        tool("download", "Download.", _takes("url", "path", url=_S, path=_PATH, sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"})),
    ),
    "mail": (
        tool("send", "Send a mail.", _takes("to", "subject", "body", to=_list(_S, minItems=1), cc=_list(_S), subject=_S, body=_S)),
        tool("search_mail", "Search mail.", _takes("query", query=_S, folder=_of("inbox", "sent", "archive"), unread=_B, since=_DAY)),
        tool("label", "Label mails.", _takes("ids", "label", ids=_list(_UUID, minItems=1), label=_S, remove=_B)),
        tool("draft_reply", "Draft a reply.", _takes("id", "tone", id=_UUID, tone=_of("formal", "friendly", "short"), points=_list(_S))),
        tool("rule", "Make a rule.", _takes("when", "then", when=_takes(sender=_S, subject_has=_S), then=_takes("action", action=_of("move", "delete", "flag"), folder=_S))),
        tool("contact", "Save a contact.", _takes("name", name=_S, phones=_list(_takes("number", number={"type": "string", "pattern": "^\\+[0-9]{6,14}$"}, kind=_of("home", "work", "mobile"))), birthday=_DAY)),
        tool("unsubscribe", "Leave a list.", _takes("id", id=_UUID)),
        tool("schedule_send", "Send later.", _takes("draft", "at", draft=_UUID, at=_MOMENT)),
    ),
    "shop": (
        tool("find_product", "Find products.", _takes("query", query=_S, max_price=_MONEY, in_stock=_B, sort=_of("price", "rating", "new"))),
        tool("add_to_cart", "Put in the cart.", _takes("sku", "quantity", sku={"type": "string", "pattern": "^[A-Z]{2}[0-9]{5}$"}, quantity={"type": "integer", "minimum": 1, "maximum": 99}, gift=_B)),
        tool("checkout", "Order.", _takes("address", "payment", address=_takes("street", "city", "country", street=_S, city=_S, country={"type": "string", "pattern": "^[A-Z]{2}$"}), payment={"anyOf": [_takes("card", card={"type": "string", "pattern": "^[0-9]{4}$"}), _takes("invoice", invoice={"const": True})]})),
        tool("refund", "Refund.", _takes("order", "amount", order=_UUID, amount=_MONEY, reason=_of("damaged", "late", "other"))),
        tool("track", "Track a parcel.", _takes("order", order=_UUID)),
        tool("review", "Review a product.", _takes("sku", "stars", sku=_S, stars={"type": "integer", "minimum": 1, "maximum": 5}, text=_S)),
        tool("price_alert", "Watch a price.", _takes("sku", "below", sku=_S, below=_MONEY, until=_DAY)),
        tool("compare", "Compare products.", _takes("skus", skus=_list(_S, minItems=2, maxItems=4), by=_list(_of("price", "weight", "rating")))),
    ),
    "maps": (
        tool("route", "Find a way.", _takes("from", "to", **{"from": _POINT, "to": _POINT}, by=_of("car", "bike", "foot", "transit"), avoid=_list(_of("tolls", "ferries")))),
        tool("geocode", "Find an address.", _takes("address", address=_S, country={"type": ["string", "null"]})),
        tool("nearby", "What is near.", _takes("center", "radius_m", center=_POINT, radius_m={"type": "integer", "minimum": 1, "maximum": 50000}, kinds=_list(_of("food", "fuel", "hotel")))),
        tool("weather", "Weather.", _takes("city", city=_S, units=_of("celsius", "fahrenheit"), days={"type": "integer", "minimum": 1, "maximum": 14})),
        tool("draw", "Draw on the map.", _takes("shape", shape={"anyOf": [_takes("kind", "center", "radius", kind={"const": "circle"}, center=_POINT, radius=_N), _takes("kind", "points", kind={"const": "polygon"}, points=_list(_POINT, minItems=3, maxItems=4))]})),
        tool("timezone", "Time zone of a place.", _takes("at", at=_POINT)),
        tool("elevation", "Height above the sea.", _takes("points", points=_list(_POINT, minItems=1))),
        tool("translate_sign", "Translate a sign.", _takes("text", "sprache", text=_S, sprache=_of("Deutsch", "Français", "日本語"), **{"höflich?": _B})),
    ),
    "code": (
        tool("run_tests", "Run tests.", _takes(paths=_list(_PATH), filter=_S, parallel={"type": "integer", "minimum": 1, "maximum": 8}, coverage=_B)),
        tool("commit", "Commit.", _takes("message", message=_S, files=_list(_PATH), amend=_B)),
        tool("open_pr", "Open a pull request.", _takes("title", "base", title=_S, body=_S, base=_S, labels=_list(_S), draft=_B)),
        tool("review_comment", "Comment on a line.", _takes("file", "line", "text", file=_PATH, line={"type": "integer", "minimum": 1}, side=_of("left", "right"), text=_S)),
        tool("apply_patch", "Apply hunks.", _takes("hunks", hunks=_list(_takes("start", "lines", start=_I, lines=_list(_takes("op", "text", op=_of("+", "-", " "), text=_S))), minItems=1))),
        tool("rename_symbol", "Rename.", _takes("symbol", "to", symbol=_takes("file", "line", "column", file=_PATH, line=_I, column=_I), to={"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]{0,15}$"})),
        tool("set_breakpoint", "Stop here.", _takes("file", "line", file=_PATH, line=_I, condition={"type": ["string", "null"]})),
        tool("deploy", "Deploy.", _takes("service", "version", service=_of("api", "web", "worker"), version={"type": "string", "pattern": r"^[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2}$"}, canary=_PERCENT)),
        tool("query_logs", "Search logs.", _takes("service", service=_S, level=_of("debug", "info", "warning", "error"), since=_MOMENT, limit=_I)),
    ),
    "home": (
        tool("light", "Set a light.", _takes("room", "on", room=_S, on=_B, color={"type": "string", "pattern": "^#[0-9a-f]{6}$"}, brightness=_PERCENT)),
        tool("thermostat", "Set the heating.", _takes("target", target={"type": "number", "minimum": 5, "maximum": 30}, mode=_of("heat", "cool", "off"))),
        tool("scene", "Make a scene.", _takes("name", "steps", name=_S, steps=_list({"anyOf": [_takes("light", light=_B), _takes("wait_s", wait_s=_PERCENT), _takes("play", play=_S)]}, minItems=1))),
        tool("alarm", "Set an alarm.", _takes("at", at={"type": "string", "format": "time"}, repeat=_list(_of("mon", "tue", "wed", "thu", "fri", "sat", "sun")), label=_S)),
        tool("camera", "Look through a camera.", _takes("camera", camera={"type": "integer", "enum": [1, 2, 3]}, ip={"type": "string", "format": "ipv4"})),
        tool("lock", "Lock a door.", _takes("door", "locked", door=_of("front", "back", "garage"), locked=_B, code={"type": "string", "pattern": "^[0-9]{4}$"})),
        tool("play", "Play music.", _takes("what", what={"anyOf": [_takes("song", song=_S, artist=_S), _takes("playlist", playlist=_S)]}, volume=_PERCENT, shuffle=_B)),
        tool("vacuum", "Clean.", _takes("rooms", rooms=_list(_S, minItems=1), power=_of("quiet", "normal", "max"))),
    ),
    "data": (
        tool("plot", "Draw a chart.", _takes("kind", "series", kind=_of("line", "bar", "pie"), series=_list(_takes("name", "values", name=_S, values=_list(_N)), minItems=1), title=_S)),
        tool("extract_person", "Who is it?", _takes("name", name=_S, age={"type": ["integer", "null"]}, emails=_list(_S), address={"anyOf": [_takes("city", city=_S), {"type": "null"}]})),
        tool("classify", "Put into classes.", _takes("label", "confidence", label=_of("positive", "neutral", "négatif"), confidence={"type": "number", "minimum": 0, "maximum": 1})),
        tool("matrix", "Store a matrix.", _takes("rows", rows=_list(_list(_N, minItems=2, maxItems=2), minItems=2, maxItems=2))),
        tool("pivot", "Make a table.", _takes("rows", "values", rows=_list(_S, minItems=1), columns=_list(_S), values=_list(_takes("field", "by", field=_S, by=_of("sum", "mean", "count")), minItems=1))),
        tool("invoice", "Read an invoice.", _takes("number", "lines", "total", number=_S, date=_DAY, lines=_list(_takes("text", "price", text=_S, price=_MONEY), minItems=1), total=_MONEY)),
        tool("summary", "Summarise.", _takes("title", "points", title=_S, points=_list(_S, minItems=1, maxItems=5), 語=_of("日本語", "English"))),
        tool("answer", "Answer a question.", _takes("answer", answer={"type": ["string", "number", "boolean"]}, sources=_list(_takes("page", page=_I, quote=_S)))),
    ),
}  # fmt: skip
