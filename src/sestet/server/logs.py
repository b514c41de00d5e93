"""Structured logs on standard error. Lines hold ids, counts and times; never a prompt, a reply or a secret."""

import contextlib
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import orjson
import structlog

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Unfailing:
    """A file whose failures are kept from whoever writes: a full disk or a closed pipe must not cost a reply, nor a
    bill."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            self._file.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._file.flush()


def configure(level: str, form: str) -> None:
    """`form` is `console`, `json`, or `auto`: console in a terminal, JSON elsewhere."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(serializer=_line)
    )
    file: Any = Unfailing(sys.stderr if console else sys.stderr.buffer)
    factory: Any = structlog.WriteLoggerFactory(file) if console else structlog.BytesLoggerFactory(file)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not console else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    # uvicorn speaks through the standard library. Its tracebacks are of errors we report ourselves.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def _line(value: object, **_options: object) -> bytes:
    return orjson.dumps(value, default=str)


def _unchanged(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return event
