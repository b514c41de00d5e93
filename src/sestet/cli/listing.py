"""The models of a catalog as lines for a terminal of any width: a name is never cut, and never broken in two."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from sestet.catalog.card import Card
from sestet.catalog.catalog import Catalog
from sestet.cli.printable import one_line

_INDENT: Final = "  "
_ID_WIDTH_MAX: Final = 32
_WIDTH_MIN: Final = 60


def model_lines(catalog: Catalog, width: int, *, platforms: bool) -> Iterator[str]:
    """The weights themselves first, then the stand-ins under the weights that answer for them.

    `platforms` adds the Bedrock and Vertex ids to the other names of each.
    """
    aliases = catalog.aliases()

    def names(card: Card) -> list[str]:
        also = [alias for alias, target in aliases.items() if target == card.id]
        return also + [name for name in (card.bedrock, card.vertex) if platforms and name]

    routes = catalog.routes()
    own = [route.card for route in routes if not route.stand_in]
    column = min(_ID_WIDTH_MAX, max(len(route.card.id) for route in routes)) + 2
    for card in own:
        yield from _entry(card.id, names(card), column, width)
    for answering in own:
        cards = [route.card for route in routes if route.stand_in and route.weights_id == answering.id]
        if cards:
            yield ""
            yield f"Stand-ins: {one_line(answering.display_name)} answers, not the model so named:"
        for card in cards:
            yield from _entry(card.id, names(card), column, width)


def _entry(identifier: str, names: Iterable[str], column: int, width: int) -> Iterator[str]:
    """The id, and beside it its other names; below it where it is too long for that."""
    blank = " " * (len(_INDENT) + column)
    folded = textwrap.wrap(
        ", ".join(map(one_line, names)),
        max(width, _WIDTH_MIN),
        initial_indent=blank,
        subsequent_indent=blank,
        break_long_words=False,
        break_on_hyphens=False,
    )
    head = f"{_INDENT}{one_line(identifier)}"
    if folded and len(head) < len(blank):
        yield head.ljust(len(blank)) + folded.pop(0).lstrip()
    else:
        yield head
    yield from folded
