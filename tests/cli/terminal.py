"""A command in a terminal of its own: what it shows can be waited for, and keys can be pressed."""

import codecs
import os
import pty
import select
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

TIMEOUT_S = 30.0


class Terminal:
    """Use as a context manager; what is still running at its end is killed."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sestet.cli.main", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            close_fds=True,
            start_new_session=True,
            # Without a controlling terminal Ctrl-C would be a character; this makes the pty that terminal.
            preexec_fn=_take_terminal,
            env={**os.environ, "TERM": "dumb", "NO_PROXY": "127.0.0.1", **(environment or {})},
        )
        os.close(slave)
        self.shown = ""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _1: type[BaseException] | None, _2: BaseException | None, _3: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> str:
        """What was shown since the last wait, up to and with this text."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.shown[self._seen :]:
            assert time.monotonic() < deadline, f"{text!r} was not shown:\n{self.shown}"
            if select.select([self._master], [], [], 0.1)[0]:
                self._read()
        end = self.shown.index(text, self._seen) + len(text)
        since, self._seen = self.shown[self._seen : end], end
        return since

    def ended(self) -> int:
        """The exit status."""
        return self._process.wait(TIMEOUT_S)

    def _read(self) -> None:
        try:
            self.shown += self._decoder.decode(os.read(self._master, 65536)).replace("\r\n", "\n")
        except OSError:
            raise AssertionError(f"the command ended:\n{self.shown}") from None


def _take_terminal() -> None:
    os.close(os.open(os.ttyname(0), os.O_RDWR))
