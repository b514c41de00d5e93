"""Text that others wrote, made safe to print: a terminal obeys control characters, so none of them reaches it."""

from typing import Final

_LINE_CHARACTERS_MAX: Final = 300

# Tab and newline stay. A carriage return could overwrite what was printed before, and says nothing by itself.
_SHOWN: Final[dict[int, str | None]] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x0D: None,
    0x7F: "\u2421",
    **{code: f"\\x{code:02x}" for code in range(0x80, 0xA0)},
    # These reorder what is read, so that it says something else than what is there.
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
    # Half of a surrogate pair is no character, and cannot be written.
    **{code: "\ufffd" for code in range(0xD800, 0xE000)},
}


def printable(text: str) -> str:
    """The text with its lines and tabs, control characters shown instead of sent."""
    return text.translate(_SHOWN)


def one_line(text: str) -> str:
    """The same on a single line of bearable length, for names and messages."""
    line = " ".join(printable(text[: 4 * _LINE_CHARACTERS_MAX]).split())
    return line if len(line) <= _LINE_CHARACTERS_MAX else f"{line[:_LINE_CHARACTERS_MAX]}..."
