"""The Models API: every card and every alias, newest first, with limits and capabilities that are true here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sestet.catalog.catalog import Catalog, Route
from sestet.contract.errors import invalid
from sestet.contract.models import Lifecycle, ModelInfo
from sestet.gate.keys import ANYONE, Caller
from sestet.services.served import Served


@dataclass(frozen=True, slots=True)
class ModelPage:
    data: tuple[ModelInfo, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class PageQuery:
    """`limit` 1 to 1000; at most one cursor, an id of the list; which lifecycles to show."""

    limit: int = 20
    after_id: str | None = None
    before_id: str | None = None
    lifecycles: frozenset[Lifecycle] = frozenset(("active", "deprecated"))


class Models:
    def __init__(self, catalog: Catalog, served: Mapping[str, Served]) -> None:
        self._catalog = catalog
        self._served = served

    def page(self, query: PageQuery, caller: Caller = ANYONE) -> ModelPage:
        """One page of what this caller may use; an unknown cursor is refused by its name."""
        entries = [
            entry
            for entry in self.entries()
            if entry.lifecycle in query.lifecycles and caller.may_use(entry.alias_of or entry.id)
        ]
        if query.after_id is not None:
            entries = entries[_position(entries, query.after_id, "after_id") + 1 :]
            return ModelPage(tuple(entries[: query.limit]), len(entries) > query.limit)
        if query.before_id is not None:
            entries = entries[: _position(entries, query.before_id, "before_id")]
            return ModelPage(tuple(entries[-query.limit :]), len(entries) > query.limit)
        return ModelPage(tuple(entries[: query.limit]), len(entries) > query.limit)

    def find(self, name: str, caller: Caller = ANYONE) -> ModelInfo:
        """The snapshot behind any name the Messages API takes; 403 if this caller may not use it."""
        route = self._catalog.resolve(name)
        caller.require_model(route.card.id)
        return self._entry(route, None)

    def entries(self) -> list[ModelInfo]:
        """All of them: the weights themselves first, then by date, each followed by its aliases."""
        routes = sorted(
            self._catalog.routes(),
            key=lambda route: (not route.stand_in, route.card.snapshot, route.card.id),
            reverse=True,
        )
        aliases = self._catalog.aliases()
        listed: list[ModelInfo] = []
        for route in routes:
            listed.append(self._entry(route, None))
            listed += [self._entry(route, alias) for alias in sorted(aliases) if aliases[alias] == route.card.id]
        return listed

    def _entry(self, route: Route, alias: str | None) -> ModelInfo:
        card = route.card
        window = self._served[route.weights_id].window(card, frozenset())
        return ModelInfo(
            id=alias or card.id,
            display_name=route.display_name,
            snapshot=card.snapshot,
            lifecycle=card.lifecycle,
            line=card.line,
            max_input_tokens=window,
            max_tokens=min(card.max_output, window),
            served_by=route.weights_id,
            alias_of=card.id if alias else None,
            thinking=card.thinking,
            efforts=card.efforts,
        )


def _position(entries: Sequence[ModelInfo], cursor: str, name: str) -> int:
    for position, entry in enumerate(entries):
        if entry.id == cursor:
            return position
    raise invalid("no model of this list has that id", name)
