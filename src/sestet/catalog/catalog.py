"""The catalog: every name a client may use for a model, and the card and weights behind it.

A snapshot id never moves. An alias can be moved, by configuration. Names are looked up in a table and nowhere
else: no name ever becomes a path or an address.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sestet.catalog.card import Card
from sestet.contract.errors import ApiError


@dataclass(frozen=True, slots=True)
class Route:
    """A card and the weights that answer for it. A stand-in's card is named after another model."""

    card: Card
    weights_id: str
    weights_name: str

    @property
    def stand_in(self) -> bool:
        return self.card.id != self.weights_id

    @property
    def display_name(self) -> str:
        """What is not the model it is named after says so in its name."""
        if not self.stand_in:
            return self.card.display_name
        return f"{self.card.display_name} (stand-in: {self.weights_name})"


class CatalogError(ValueError):
    """The configured names contradict each other; the text says how."""


class Catalog:
    """Built once at start; `moved_aliases` are the operator's."""

    def __init__(self, routes: Iterable[Route], moved_aliases: Mapping[str, str] | None = None) -> None:
        self._routes: dict[str, Route] = {}
        self._aliases: dict[str, str] = {}
        self._names: dict[str, str] = {}
        for route in routes:
            card = route.card
            self._routes[card.id] = route
            self._aliases |= dict.fromkeys(card.aliases, card.id)
            for name in (card.id, *card.aliases, card.bedrock, card.vertex):
                if name in self._names:
                    raise CatalogError(f"the name `{name}` is taken twice")
                if name is not None:
                    self._names[name] = card.id
        for alias, target in (moved_aliases or {}).items():
            self._move_alias(alias, target)

    def resolve(self, name: str) -> Route:
        """The route behind an id, an alias, or a Bedrock or Vertex id; `not_found_error` otherwise."""
        target = self._names.get(name)
        if target is None:
            close = difflib.get_close_matches(name[:64], self._names, n=1)
            hint = f"did you mean `{close[0]}`?" if close else "GET /v1/models lists what is."
            raise ApiError("not_found_error", f"`{name}` is not served here; {hint}", param="model")
        return self._routes[target]

    def routes(self) -> tuple[Route, ...]:
        return tuple(self._routes.values())

    def aliases(self) -> Mapping[str, str]:
        """Alias -> snapshot id."""
        return self._aliases

    def _move_alias(self, alias: str, target: str) -> None:
        if alias in self._names and alias not in self._aliases:
            raise CatalogError(f"aliases.{alias}: a snapshot id never moves; only aliases can")
        if target not in self._routes:
            close = difflib.get_close_matches(target, self._routes, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise CatalogError(f"aliases.{alias}: there is no snapshot `{target}`{hint}")
        self._aliases[alias] = self._names[alias] = target
