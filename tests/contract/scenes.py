"""The conversations that every official client holds with the scripted engine, and the replies to them."""

from dataclasses import dataclass
from typing import Final

MODEL: Final = "claude-3-7-sonnet-latest"
SNAPSHOT: Final = "claude-3-7-sonnet-20250219"
OWN_MODEL: Final = "scripted-20260101"

# One character is one token of the scripted engine, so `window` fits the shortest prompt and eleven tokens more.
WINDOW: Final = 64

# Whatever prompt it is in, the thought comes redacted.
REDACT: Final = (
    "ANTHROPIC_MAGIC_STRING_TRIGGER_REDACTED_THINKING_46C9A13E193C177646C7398A98432ECCCE4C1253D5E2D82641AC0E52CC2876CB"
)

SCRIPT: Final = """
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


def rendered(*turns: tuple[str, str], prefill: bool = False, thinking: bool = False) -> str:
    """A conversation as the scripted engine's template writes it; its length is its count of tokens."""
    text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
    if prefill:
        return text.removesuffix("<|im_end|>\n")
    opening = "<think>\n" if thinking else ""
    return f"{text}<|im_start|>assistant\n{opening}"
