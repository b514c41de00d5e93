"""Who there is: the organisation, its workspaces and their keys, with what each of them may do and use up.

One immutable snapshot of what the store holds; a server replaces its own whole when the store says that it changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Scope = Literal["inference", "usage", "admin", "operations"]
KeyStatus = Literal["active", "inactive", "archived"]
RateKind = Literal["requests", "input_tokens", "output_tokens"]
Period = Literal["daily", "monthly"]

SCOPES: Final[frozenset[Scope]] = frozenset(get_args(Scope))
DEFAULT_WORKSPACE: Final = "wrkspc_default"

# What is used up by all weights of a class together; values are a minute's worth.
RateLimits = Mapping[str, Mapping[RateKind, int]]


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key. `digest` is the keyed hash of it, `hint` the few characters that may be shown; times are
    microseconds since 1970. Without a workspace it belongs to the organisation, and cannot be used for inference."""

    id: str
    name: str
    digest: bytes
    hint: str
    workspace_id: str | None
    scopes: frozenset[Scope]
    models: frozenset[str] | None
    status: KeyStatus
    created_at: int
    created_by: str | None = None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a workspace, or the organisation, may use up. Spend is in micro-dollars; a class of cards or a period that
    is not named is not limited."""

    rates: RateLimits = field(default_factory=dict)
    spend: Mapping[Period, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workspace:
    """`concurrency` bounds the requests it has running and waiting; the priority tokens a minute are what is served
    first."""

    id: str
    name: str
    created_at: int
    allowance: Allowance = Allowance()
    concurrency: int | None = None
    priority_input_tokens: int | None = None
    priority_output_tokens: int | None = None
    archived_at: int | None = None
    display_color: str = "#6C5BB9"
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Directory:
    """`generation` rises with every change."""

    generation: int
    organization_id: str
    organization_name: str
    allowance: Allowance
    workspaces: Mapping[str, Workspace]
    keys: tuple[Key, ...]
