"""Grammars that engines are given: built from schemas, compiled once to see that they can be, and remembered.

A schema that the compiler cannot take is the client's to change, and refused before an engine sees it. The engine's
compiler is the same library.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from itertools import takewhile
from typing import Final

from sestet.contract.errors import ApiError, invalid
from sestet.services.grammar_worker import COMPILE_MAX_S, TOO_COMPLEX

CACHED_MAX: Final = 256
AT_ONCE: Final = 2
_WAIT_MAX_S: Final = 30.0  # for those in front, each of whom has its own time


class Grammars:
    """`await grammars.checked(text, path)`: the same text, once it has been compiled."""

    def __init__(
        self,
        compile_grammar: Callable[[str], str],
        departure: Callable[[str, str, bool], str] = lambda _grammar, _text, _whole: "",
        compile_max_s: float = COMPILE_MAX_S,
    ) -> None:
        """`compile_grammar` says what is wrong with a grammar, nothing if it can be used; `departure` what is wrong
        with a text that is to keep to one. Both may block, the first for `compile_max_s` seconds at most."""
        self._compile = compile_grammar
        self._departure = departure
        self._compile_max_s = compile_max_s
        self._known: OrderedDict[str, str] = OrderedDict()
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def checked(self, grammar: str, path: str) -> str:
        """Raises what is wrong with it, for the field at this path; off the event loop, and not for longer than a
        client should wait."""
        complaint = self._known.get(grammar)
        if complaint is None:
            complaint = await self._compiled(grammar, path)
            self._known[grammar] = complaint
            if len(self._known) > CACHED_MAX:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(grammar)
        if complaint:
            raise invalid(f"the schema cannot be used: {complaint}", path)
        return grammar

    async def keep(self, grammar: str, text: str, *, whole: bool) -> None:
        """Raises if an engine let a reply leave its grammar, as some do where it becomes too much for them. The schema
        is the client's to change: asked again, the same would happen."""
        if await asyncio.to_thread(self._departure, grammar, text, whole):
            raise invalid("Schema is too complex: the model's reply could not be kept to it")

    async def _compiled(self, grammar: str, path: str) -> str:
        try:
            async with asyncio.timeout(_WAIT_MAX_S), self._turn:
                async with asyncio.timeout(AT_ONCE * self._compile_max_s):
                    return await asyncio.to_thread(self._complaint, grammar)
        except TimeoutError:
            raise invalid("Schema is too complex for compilation.", path) from None

    def _complaint(self, grammar: str) -> str:
        try:
            found = self._compile(grammar)
        except MemoryError:
            raise ApiError("api_error", "there is no memory to compile the schema") from None
        except ValueError as error:
            return _in_words(str(error)) or TOO_COMPLEX
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a panic of the library is no `Exception`
            return TOO_COMPLEX
        return (_in_words(found) or TOO_COMPLEX) if found else ""


def _in_words(complaint: str) -> str:
    """What the compiler says, without the place in a grammar that the client does not know."""
    said = takewhile(lambda line: not _QUOTED_LINE.match(line), complaint.splitlines())
    return _PLACE.sub("", " ".join(" ".join(said).split()))[:300]


_QUOTED_LINE: Final = re.compile(r"\s*\d+ \|")
_PLACE: Final = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
