"""Cards: what a client sees of a model; and profiles: what a family of weights can do."""

import tomllib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib import resources
from typing import Any

from sestet.contract.deltas import Sampling
from sestet.contract.events import Usage
from sestet.contract.models import Lifecycle
from sestet.contract.requests import Effort
from sestet.contract.thinking import Display, ThinkingTags, ThinkingType
from sestet.contract.tiers import Tier
from sestet.contract.tools import ToolSyntax
from sestet.ledger.price_rows import LongContext, read_long_context, read_prices
from sestet.ledger.prices import FREE, PriceList


@dataclass(frozen=True, slots=True)
class BetaLimit:
    """A limit in tokens that replaces the card's own when the request carries the beta header."""

    header: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Card:
    """One snapshot: its id never moves, its aliases may. Windows, outputs and `cache_minimum`, the shortest prefix that
    is cached, are in tokens."""

    id: str
    display_name: str
    snapshot: date
    context_window: int
    max_output: int
    aliases: tuple[str, ...] = ()
    line: str | None = None
    bedrock: str | None = None
    vertex: str | None = None
    lifecycle: Lifecycle = "active"
    successor: str | None = None
    context_window_beta: BetaLimit | None = None
    max_output_beta: BetaLimit | None = None
    price: PriceList | None = None
    long_context: LongContext | None = None
    priority_tier: bool = True
    cache_minimum: int = 64
    limited_with: str = ""
    prefill: bool = True
    one_of_temperature_top_p: bool = False
    thinking: frozenset[ThinkingType] = frozenset(("disabled",))
    efforts: frozenset[Effort] = frozenset()
    thinks_unasked: bool = False
    display: Display = "summarized"

    @property
    def rate_class(self) -> str:
        """The class of cards that share their limits by the minute; most are one of their own."""
        return self.limited_with or self.id

    def window(self, betas: Set[str]) -> int:
        """The context window a request with these beta headers has, prompt and reply together."""
        return _with_beta(self.context_window, self.context_window_beta, betas)

    def output(self, betas: Set[str]) -> int:
        """The highest `max_tokens` a request with these beta headers may ask for."""
        return _with_beta(self.max_output, self.max_output_beta, betas)

    def prices(self, usage: Usage, tier: Tier) -> PriceList:
        """In force for a request whose prompt has these tokens, cached or not. A card without prices is free."""
        prompt = usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
        prices = self.price or FREE
        if self.long_context is not None and prompt > self.long_context.above:
            prices = self.long_context.price
        return prices.batch if tier == "batch" else prices


def _with_beta(limit: int, beta: BetaLimit | None, betas: Set[str]) -> int:
    return beta.tokens if beta is not None and beta.header in betas else limit


@dataclass(frozen=True, slots=True)
class Profile:
    """A row of profiles.toml."""

    name: str
    template_marks: tuple[str, ...]
    sampling: Sampling
    thinking: ThinkingTags
    tools: ToolSyntax


# Facts of the documents that describe the hosted model and have no use here yet.
_UNUSED_FACTS = frozenset({"vision", "multilingual", "latency", "knowledge_cutoff"})


def family_cards() -> tuple[Card, ...]:
    """The cards of the product documents, from models.toml."""
    text = resources.files("sestet.catalog").joinpath("models.toml").read_text("utf-8")
    rows = tomllib.loads(text, parse_float=Decimal)
    return tuple(_card(row) for row in rows["model"])


def _card(row: Mapping[str, Any]) -> Card:
    facts = {key: value for key, value in row.items() if key not in _UNUSED_FACTS}
    facts["aliases"] = tuple(facts.get("aliases", ()))
    for limit in ("context_window_beta", "max_output_beta"):
        if limit in facts:
            facts[limit] = BetaLimit(**facts[limit])
    # All of these are older than the other types of thinking, and than efforts (WIRE.md section 2.2).
    thinks = facts.pop("extended_thinking")
    facts["thinking"] = frozenset(("enabled", "disabled") if thinks else ("disabled",))
    if "price" in facts:
        facts["price"] = read_prices(facts["price"], f"models.toml, {row['id']}: price")
    if "long_context" in facts:
        facts["long_context"] = read_long_context(facts["long_context"], f"models.toml, {row['id']}: long_context")
    return Card(**facts)


def profiles() -> tuple[Profile, ...]:
    """The rows of profiles.toml in their order."""
    rows = tomllib.loads(resources.files("sestet.catalog").joinpath("profiles.toml").read_text("utf-8"))
    return tuple(_profile(row, rows["tools"]) for row in rows["profile"])


def _profile(row: Mapping[str, Any], syntaxes: Mapping[str, Any]) -> Profile:
    tags = dict(row["thinking"])
    for name in ("shown", "forbidden"):
        tags[name] = tuple(tags.get(name, ()))
    calls = dict(syntaxes[row.get("tools", "generic")])
    syntax = ToolSyntax(**{**calls, "shown": tuple(calls.get("shown", ()))})
    if "sampling" in tags:
        tags["sampling"] = Sampling(**tags["sampling"])
    return Profile(row["name"], tuple(row["template_marks"]), Sampling(**row["sampling"]), ThinkingTags(**tags), syntax)


def profile_for(chat_template: str, rows: Sequence[Profile]) -> Profile:
    """The first row whose marks all occur in the template; the last row has none and takes everything."""
    return next(row for row in rows if all(mark in chat_template for mark in row.template_marks))
