"""Compiles clients' grammars in a process of its own: what brings the compiler down does not bring the server down.

One JSON line in, a grammar, or a grammar and a text that is to keep to it; one JSON line out, the complaint, empty if
there is none. The process ends with its standard input, and so with the server.
"""

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import threading
import time
from typing import Final

from llguidance import LLMatcher, LLTokenizer

COMPILE_MAX_S: Final = 2.0
MEMORY_MAX: Final = 2 * 2**30
START_MAX_S: Final = 20.0
TOO_COMPLEX: Final = "it is too complex to compile"


class GrammarWorker:
    """Started with the first grammar; one that dies or takes too long is replaced."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = threading.Lock()

    def compile(self, grammar: str) -> str:
        """The compiler's complaint. Blocks; for use in a thread."""
        return self._ask(grammar)

    def departure(self, grammar: str, text: str, whole: bool) -> str:
        """What is wrong with a text that is to keep to this grammar; `whole` or cut. Blocks too."""
        return self._ask([grammar, text, whole])

    def _ask(self, order: str | list[object]) -> str:
        with self._one_at_a_time:
            try:
                process = self._process or self._start()
                assert process.stdin is not None
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
                return str(json.loads(_line(process, COMPILE_MAX_S)))
            except (OSError, ValueError):  # it did not start, it died, or it has to be ended
                self._end()
                return TOO_COMPLEX

    def close(self) -> None:
        with self._one_at_a_time:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={},
        )
        _line(self._process, START_MAX_S)
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _line(process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
    """One line of its output; `ValueError` if there is none within this time."""
    assert process.stdout is not None
    output = b""
    deadline = time.monotonic() + timeout_s
    while not output.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(process.stdout.fileno(), 65_536) if readable else b""
        if not piece:
            raise ValueError("no answer")
        output += piece
    return output


def _complaint(grammar: str) -> str:
    """Compiled as an engine does it, up to the choice of the first token: some grammars fail, or never end, there."""
    complaint = LLMatcher.validate_grammar(grammar)
    if complaint:
        return complaint
    matcher = LLMatcher(LLTokenizer("byte"), grammar)
    if not matcher.is_error():
        matcher.compute_bitmask()
    return TOO_COMPLEX if matcher.is_error() else ""


def _departure(grammar: str, text: str, whole: bool) -> str:
    """Where the text leaves the grammar, if it does; a `whole` one must end where the grammar lets it."""
    matcher = LLMatcher(LLTokenizer("byte"), grammar)
    spelled = list(text.encode())
    taken = matcher.try_consume_tokens(spelled)
    if taken < len(spelled) or matcher.is_error():
        return f"it leaves the grammar after {taken} bytes"
    return "it ends before the grammar does" if whole and not matcher.is_accepting() else ""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        try:
            order = json.loads(line)
            complaint = _complaint(order) if isinstance(order, str) else _departure(*order)
        except BaseException as error:  # a panic is no `Exception`
            with contextlib.suppress(BaseException):
                complaint = str(error).strip() or TOO_COMPLEX
        answers.write(json.dumps(complaint[:4_000]).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
