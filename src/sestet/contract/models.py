"""An entry of the Models API (WIRE.md section 6), before a dialect spells it."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from sestet.contract.requests import Effort
from sestet.contract.thinking import ThinkingType

Lifecycle = Literal["active", "deprecated", "retired"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One entry. An alias carries its target's facts and says which snapshot it points to now."""

    id: str
    display_name: str
    snapshot: date
    lifecycle: Lifecycle
    line: str | None
    max_input_tokens: int
    max_tokens: int
    served_by: str
    alias_of: str | None
    thinking: frozenset[ThinkingType]
    efforts: frozenset[Effort]
