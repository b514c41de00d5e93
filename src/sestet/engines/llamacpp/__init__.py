"""llama.cpp's own server, from the `xllamacpp` wheel, in a child process that nobody but us can reach."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sestet.engines.llamacpp.engine import LlamaCppEngine, Report
    from sestet.engines.llamacpp.process import LlamaCppSettings


def open_llamacpp(settings: "LlamaCppSettings", report: "Report") -> "LlamaCppEngine":
    """The engine, which is still to be started. Its link needs aiohttp, a quarter of a second to import, which servers
    with other engines do not pay for."""
    from sestet.engines.llamacpp.engine import LlamaCppEngine  # noqa: PLC0415

    return LlamaCppEngine(settings, report)
