"""What the books know of one request to a model: when it begins, and how it ended."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from sestet.contract.errors import ErrorKind
from sestet.contract.events import StopReason, Usage
from sestet.contract.tiers import Tier
from sestet.ledger.prices import PriceList

# `interrupted`: the server that answered died; what it had written down until then counts.
Ending = Literal["finished", "failed", "abandoned", "interrupted"]


@dataclass(frozen=True, slots=True)
class Opening:
    """The prices are those in force now: they never change for this request. `own_prices` are what running the weights
    costs the operator. `started_at` is in microseconds since 1970."""

    request_id: str
    started_at: int
    key_id: str
    workspace_id: str
    model: str
    weights_id: str
    tier: Tier
    dialect: str
    stream: bool
    prices: PriceList
    own_prices: PriceList


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one request ended, told exactly once. Times are in seconds; `queue_s` is None if it never ran."""

    opening: Opening
    settled_at: int
    ending: Ending
    usage: Usage
    stop_reason: StopReason | None
    error: ErrorKind | None
    queue_s: float | None
    first_token_s: float | None
    duration_s: float


class Use(NamedTuple):
    """What a request of the past took of the limits; times in microseconds since 1970."""

    workspace_id: str
    model: str
    started_at: int
    settled_at: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a request with an idempotency key, kept with its bill."""

    workspace_id: str
    key: str
    request_id: str
    status: int
    body: bytes
