"""Thoughts in a terminal: the last lines while they come, one line when they have."""

import sys
from time import monotonic
from typing import Final

from rich.console import Console
from rich.text import Text

_FOLDED_LINES: Final = 3
_MEASURED_CHARACTERS_MAX: Final = 2000  # far more than the folded lines hold, unless they have no width


class Thoughts:
    """The thoughts of a reply, on standard error: `whole`, or where that is a terminal folded while they come, then a
    line. Where it cannot be drawn over, that line is all.

    There is nothing to undo after Ctrl-C: each write leaves the terminal in its usual modes.
    """

    def __init__(self, console: Console, *, whole: bool, shown_by: str) -> None:
        self._console = console
        terminal = self._console.file.isatty()
        self._draws = terminal and not self._console.is_dumb_terminal and not self._console.no_color
        self._whole = whole
        self._line = terminal and sys.stdout.isatty() and not whole
        self._shown_by = shown_by
        self._began_s: float | None = None

    def add(self, text: str, *, in_a_line: bool) -> None:
        if self._began_s is None:
            self._began_s = monotonic()
            self._pieces = self._drawn = 0
            self._full: list[str] = []  # lines that do not change any more
            self._last = ""
            self._write("\n" if in_a_line and self._line else "")
        self._pieces += text.strip() != ""
        if self._whole:
            self._last = text or self._last
            self._write(self._dim(text))
        elif self._line and self._draws:
            self._fold(text)

    def end(self) -> None:
        if self._began_s is None:
            return
        seconds, self._began_s = monotonic() - self._began_s, None
        if self._whole:
            self._write("\n" if self._last[-1:] not in ("", "\n") else "")
        elif self._line:
            why = f"{self._shown_by} shows it" if self._pieces else "the server keeps it to itself"
            line = self._dim(f"thought for {seconds:.1f} s{self._tokens(',')} ({why})")
            self._write(f"{self._back()}\x1b[J{line}\n" if self._draws else f"{line}\n")

    def _fold(self, text: str) -> None:
        """Only the last line is measured again, so that a long thought costs no more than a short one."""
        width, height = self._console.size
        lines = Text((self._last + text)[-_MEASURED_CHARACTERS_MAX:]).wrap(self._console, max(width - 2, 8))
        *full, self._last = [line.plain for line in lines]
        self._full = [line for line in (*self._full, *full) if line.strip()][-_FOLDED_LINES:]
        shown = [line for line in (*self._full, self._last) if line.strip()]
        shown = shown[-max(1, min(_FOLDED_LINES, height - 2)) :]
        # Lines do not wrap meanwhile: terminals differ in how wide they think some characters are.
        region = [f"thinking...{self._tokens('')}", *(f"  {line}" for line in shown)]
        over = "".join(f"{line}\x1b[K\n" for line in region)
        self._write(f"{self._back()}\x1b[?7l{self._dim(over)}\x1b[?7h\x1b[J")
        self._drawn = len(region)

    def _back(self) -> str:
        """To where the first line was drawn."""
        return f"\r\x1b[{self._drawn}A" if self._drawn else ""

    def _tokens(self, after: str) -> str:
        """About as many as there were pieces; the server says how many when the reply has ended."""
        return f"{after} ~{self._pieces:,} tokens" if self._pieces else ""

    def _dim(self, text: str) -> str:
        return f"\x1b[2m{text}\x1b[0m" if self._draws else text

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()
