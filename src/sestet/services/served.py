"""Loaded weights as the services use them: an engine, its template, and the queue in front of it."""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from sestet.catalog.card import Card, Profile
from sestet.ledger.prices import FREE, PriceList
from sestet.services.admission import Admission
from sestet.services.caching import PromptCache
from sestet.services.ports import Engine
from sestet.services.thinking import Thinker
from sestet.turn.render import Style
from sestet.turn.template import ChatTemplate
from sestet.turn.validate import ModelRules

INTERLEAVED_BETA: Final = "interleaved-thinking-2025-05-14"


@dataclass(frozen=True, slots=True)
class Served:
    """`id` is the snapshot id of the weights themselves, whatever card a client asked for. `control_tokens` are the
    markers of calls that are control tokens to these weights, `own_prices` what running them costs the operator,
    `cache` is None where nothing is kept of prompts, `volatile` are lines that change with every request."""

    id: str
    engine: Engine
    template: ChatTemplate
    profile: Profile
    thinker: Thinker
    style: Style
    admission: Admission
    own_prices: PriceList = FREE
    extended_schemas: bool = False
    control_tokens: Mapping[str, int] = field(default_factory=dict)
    cache: PromptCache | None = None
    volatile: tuple[re.Pattern[str], ...] = ()

    def window(self, card: Card, betas: Set[str]) -> int:
        """The smaller of card and weights, in tokens."""
        return min(card.window(betas), self.engine.weights.window)

    def rules(self, card: Card, betas: Set[str]) -> ModelRules:
        """`max_tokens` may be as high as the card says: it is a bound, and where the window of the weights ends
        first, the reply says so (decision 0005)."""
        return ModelRules(
            model=card.id,
            max_output=card.output(betas),
            prefill=card.prefill,
            one_of_temperature_top_p=card.one_of_temperature_top_p,
            default_sampling=self.profile.sampling,
            thinking_sampling=self.profile.thinking.sampling,
            thinking=card.thinking,
            efforts=card.efforts,
            thinks_unasked=card.thinks_unasked,
            display=card.display,
            extended_schemas=self.extended_schemas,
            interleaved=INTERLEAVED_BETA in betas,
            volatile=self.volatile,
        )
