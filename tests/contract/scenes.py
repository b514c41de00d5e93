"""The conversations that every official client holds with the scripted engine, and the replies to them."""

import json
from dataclasses import dataclass
from typing import Any, Final

MODEL: Final = "claude-3-7-sonnet-latest"
SNAPSHOT: Final = "claude-3-7-sonnet-20250219"
OWN_MODEL: Final = "scripted-20260101"

# One character is one token of the scripted engine, so `window` fits the shortest prompt and eleven tokens more.
WINDOW: Final = 64

# Whatever prompt it is in, the thought comes redacted.
REDACT: Final = (
    "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING_46C9A13E193C177646C7398A98432ECCCE4C1253D5E2D82641AC0E52CC2876CB"
)


def scripted_reply(**fields: object) -> str:
    """One reply of a script; TOML and JSON spell these values alike."""
    return "[[reply]]\n" + "".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items()
    )


def call(name: str, *pieces: str) -> list[str]:
    """A call of a tool as the scripted engine says it, cut where it hurts; `pieces` are its input."""
    return ["<tool", f'_call>\n{{"name": "{name}", "arg', 'uments": ', *pieces, "}\n</tool", "_call>"]


def tool(name: str, *properties: str, kind: str = "string", **more: object) -> dict[str, Any]:
    """A tool whose input has these properties, all of one kind."""
    schema = {
        "type": "object",
        "properties": {one: {"type": kind} for one in properties},
        "required": [*properties],
        "additionalProperties": False,
    }
    return {"name": name, "description": f"To {name}", "input_schema": schema, **more}


WEATHER: Final = tool("get_weather", "city")
SUMS: Final = [tool(name, "a", "b", kind="integer") for name in ("add", "multiply", "subtract")]

# 2**53 + 1, 2**64 and thirty digits.
BIG_INTEGERS: Final = ("9007199254740993", "18446744073709551616", "123456789012345678901234567890")

# Each answer of a tool brings the next call; what is said last is asked for first.
AGENT_SCRIPT: Final = "".join(
    (
        scripted_reply(when="And then?", think=["Easy"], say=["It stays ", "19."]),
        scripted_reply(when="the difference is 19", think=["All ", "done."], say=["It is ", "19."]),
        scripted_reply(
            when="the product is 20", think=["Now less."], say=[*call("subtract", '{"a": 20', ', "b": 1', "}")]
        ),
        scripted_reply(
            when="the sum is 5", think=["Now ", "more."], say=["Next", ".", *call("multiply", '{"a": 5, "b": 4}')]
        ),
        scripted_reply(when="begin the sums", think=["First ", "add."], say=[*call("add", '{"a": 2, ', '"b": 3}')]),
    )
)

TOOL_SCRIPT: Final = AGENT_SCRIPT + "".join(
    (
        scripted_reply(
            when="look at the weather",
            think=["Where", "?"],
            say=["Let me", " look", ".", *call("get_weather", '{"city": ', '"Par', 'is"', "}")],
        ),
        scripted_reply(
            when="look twice",
            say=[*call("get_weather", '{"city": "Rome"}'), "\n", *call("get_weather", '{"city": "N', 'îmes"}')],
        ),
        scripted_reply(when="call without a word", say=[*call("get_time", "{}")]),
        scripted_reply(
            when="large numbers",
            say=[
                *call(
                    "add",
                    *(
                        f'{before}": {number}'
                        for before, number in zip(('{"a', ', "b', ', "c'), BIG_INTEGERS, strict=True)
                    ),
                    "}",
                )
            ],
        ),
        scripted_reply(when="fail in the call", say=["Hm", *call("add", '{"a": 1, ', '"b": ')[:-2]], then="error"),
        scripted_reply(when="break the call", say=["Hm", *call("add", '{"a": 1}')[:-2], ', "more": 1}\n</tool_call>']),
        scripted_reply(when="who is she", think=["Ada?"], say=['{"name": "A', 'da", ', '"age": 36', "}"]),
    )
)

SCRIPT: Final = (
    TOOL_SCRIPT
    + """
[[reply]]
when = "stop at a word"
think = ["A ST", "OP here"]
say = ["one ", "two ST", "OP three"]

[[reply]]
when = "count to five"
say = ["1", " 2", " 3", " 4", " 5"]

[[reply]]
when = "say nothing"
say = []

[[reply]]
when = "fail at once"
then = "error"

[[reply]]
when = "fail half way"
say = ["Half", " of it"]
then = "error"

[[reply]]
when = "end without a word"
say = ["Half"]
then = "stop_short"

[[reply]]
when = "think it over"
delay_s = 9.5
say = ["Well", "."]

[[reply]]
when = "fail in the thought"
think = ["Half", " a thought"]
ends_thought = false
then = "error"

[[reply]]
when = "never stop thinking"
think = ["on ", "and "]
think_repeat = 1000
ends_thought = false
say = ["At", " last"]

[[reply]]
when = "no thought at all"
say = ["At", " once"]

[[reply]]
when = "nothing but a thought"
think = ["Hm"]
say = []

[[reply]]
when = "many scripts"
think = ["né", " 你好", " 🎉👩‍🚀", "\\u2028", "\\r\\n", "\\u0085", "\\u0000", "\\"end\\""]
say = ["né", " 你好", " 🎉👩‍🚀", "\\u2028", "\\r\\n", "\\u0085", "\\u0000", "\\"end\\""]

[[reply]]
think = ["Let", " me", " see", "."]
say = ["Hello", ",", " world", "."]
"""
)

MANY_SCRIPTS: Final = 'né 你好 🎉👩‍🚀\u2028\r\n\x85\x00"end"'

SMALL_WINDOW_SCRIPT: Final = f'window = {WINDOW}\n[[reply]]\nsay = ["abcd"]\nrepeat = 100\n'

# The only slot is held by the first caller for as long as it stays; nobody may wait.
BUSY_SCRIPT: Final = (
    'slots = 1\nstall_timeout_s = 600\n[[reply]]\nwhen = "hold the slot"\nsay = ["Holding"]\nthen = "hang"\n'
)
BUSY_CONFIG: Final = "[server]\nqueue = 0\n"

# The window bounds how long a reply can take: some examples allow thousands of tokens, which a small model may use.
# One thread is slower alone and much faster beside other work, as two would wait for each other.
EMBEDDED_WINDOW: Final = 160
EMBEDDED_CONFIG: Final = f"[engine]\nwindow = {EMBEDDED_WINDOW}\nslots = 6\nthreads = 1\n"

REDACTING_CONFIG: Final = '[thinking]\nredact = "always"\n'

RIGHT_KEY: Final = "sk-right-key"
OTHER_KEY: Final = "sk-other-key"
KEYS_CONFIG: Final = f'[access]\nkeys = ["{RIGHT_KEY}", "{OTHER_KEY}"]\n'


@dataclass(frozen=True, slots=True)
class Scenes:
    """Where the servers of these conversations are."""

    url: str
    small_window_url: str
    busy_url: str
    keys_url: str
    redacting_url: str


def told_of(*tools: dict[str, Any]) -> tuple[str, str]:
    """The turn that tells the scripted engine's weights of these tools."""
    functions = [
        {"name": tool["name"], "description": tool.get("description", ""), "parameters": tool["input_schema"]}
        for tool in tools
    ]
    lines = "\n".join(json.dumps({"type": "function", "function": one}, ensure_ascii=False) for one in functions)
    return "system", (
        f"You can call tools. They are, one a line:\n{lines}\nTo call one, write exactly:\n"
        '<tool_call>\n{"name": "NAME", "arguments": {...}}\n</tool_call>\n'
        "The answers come in <tool_response> tags."
    )


def rendered(*turns: tuple[str, str], prefill: bool = False, thinking: bool = False) -> str:
    """A conversation as the scripted engine's template writes it; its length is its count of tokens."""
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    if prefill:
        return text.removesuffix("<|im_end|>\n")
    opening = "<think>\n" if thinking else ""
    return f"{text}<|im_start|>assistant\n{opening}"
