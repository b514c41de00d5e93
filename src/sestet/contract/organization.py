"""The Admin API: bodies and queries with their bounds, and the limits it tells of.

What the hosted API has and means nothing here is refused by its path. What only we have is in docs/deviations.md.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from sestet.contract.requests import Shape

KEY_NAME_CHARACTERS_MAX: Final = 500
WORKSPACE_NAME_CHARACTERS_MAX: Final = 40
TAGS_MAX: Final = 50
LIMIT_MAX: Final = 2**53 - 1  # what every JSON reader can hold
CENTS_DIGITS_MAX: Final = 14

Scope = Literal["inference", "usage", "admin", "operations"]
ShownStatus = Literal["active", "inactive", "archived", "expired"]
RateLimitType = Literal["requests_per_minute", "input_tokens_per_minute_cache_aware", "output_tokens_per_minute"]
GroupType = Literal["batch", "files", "model_group", "skills", "token_count", "web_search"]
RateKind = Literal["requests", "input_tokens", "output_tokens"]
Period = Literal["daily", "monthly"]


def _nothing_here(value: object) -> object:
    if value is not None:
        raise PydanticCustomError("unsupported", "this means nothing on this server; leave it out")
    return value


def _shown_whole(value: str) -> str:
    """Names are printed on terminals and kept in databases, some of which take no NUL."""
    if not value.strip() or any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise PydanticCustomError("name", "it takes visible text without control characters")
    return value


def _moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("moment", "Input should be a time like 2027-01-31T00:00:00Z") from None


def _with_zone(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise PydanticCustomError("moment", "Input should name its time zone, as in 2027-01-31T00:00:00Z")
    return value


def _ours(tags: Mapping[str, str | None]) -> Mapping[str, str | None]:
    for name in tags:
        if name.lower().startswith("anthropic"):
            raise PydanticCustomError("tag", "no tag may begin with `anthropic`")
    return tags


def _no_doubles(limits: "list[RateLimitChange]") -> "list[RateLimitChange]":
    if len({limit.type for limit in limits}) != len(limits):
        raise PydanticCustomError("limits", "every type may be given once")
    return limits


def _list(value: object) -> object:
    """A query's parameter that was given once is a list of one."""
    return [value] if isinstance(value, str) else value


# A field that the hosted API has, for things that are not here at all.
Meaningless = Annotated[Any, BeforeValidator(_nothing_here)]
KeyName = Annotated[str, Field(min_length=1, max_length=KEY_NAME_CHARACTERS_MAX), AfterValidator(_shown_whole)]
WorkspaceName = Annotated[
    str, Field(min_length=1, max_length=WORKSPACE_NAME_CHARACTERS_MAX), AfterValidator(_shown_whole)
]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    AfterValidator(_with_zone),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Color = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$", max_length=7)]
TagName = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_shown_whole)]
TagValue = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_shown_whole)]
Tags = Annotated[dict[TagName, TagValue], Field(max_length=TAGS_MAX), AfterValidator(_ours)]
TagChanges = Annotated[dict[TagName, TagValue | None], Field(max_length=TAGS_MAX), AfterValidator(_ours)]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX)]
Concurrency = Annotated[int, Field(ge=1, le=2**31 - 1)]


class KeyCreation(Shape):
    """A new key. Without a workspace it is the organisation's, which cannot be used for inference; without `models`
    it may use every model; without `expires_at` it lives until it is revoked."""

    name: KeyName
    workspace_id: str | None = None
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(get_args(Scope)))]
    models: Annotated[list[str], Field(min_length=1, max_length=1000)] | None = None
    expires_at: Moment | None = None


class KeyUpdate(Shape):
    """What may change of a key. `archived` is for ever."""

    name: KeyName | None = None
    status: Literal["active", "inactive", "archived"] | None = None


class WorkspaceCreation(Shape):
    """A new workspace. The last three fields are ours."""

    name: WorkspaceName
    display_color: Color | None = None
    tags: Tags | None = None
    data_residency: Meaningless = None
    external_key_id: Meaningless = None
    user_profile_id: Meaningless = None
    concurrency: Concurrency | None = None
    priority_input_tokens_per_minute: Limit | None = None
    priority_output_tokens_per_minute: Limit | None = None


class WorkspaceUpdate(Shape):
    """What may change of a workspace. A tag of null is taken away; null takes away a limit, the last three fields."""

    name: WorkspaceName | None = None
    display_color: Color | None = None
    tags: TagChanges | None = None
    data_residency: Meaningless = None
    external_key_id: Meaningless = None
    user_profile_id: Meaningless = None
    concurrency: Concurrency | None = None
    priority_input_tokens_per_minute: Limit | None = None
    priority_output_tokens_per_minute: Limit | None = None


class RateLimitChange(Shape):
    """One limit by the minute; null takes it away."""

    type: RateLimitType
    value: Limit | None


class RateLimitUpdate(Shape):
    """Limits that are not named stay as they are."""

    limits: Annotated[list[RateLimitChange], Field(min_length=1), AfterValidator(_no_doubles)]


class SpendScope(Shape):
    """Whose spending: the organisation's, or a workspace's."""

    type: Literal["organization", "workspace"]
    workspace_id: str | None = None


class SpendLimitSetting(Shape):
    """Sets the limit of a scope and a period, or replaces it. `amount` is in cents: "50000" is 500 dollars."""

    amount: Annotated[str, Field(pattern=rf"^(0|[1-9][0-9]{{0,{CENTS_DIGITS_MAX - 1}}})$", max_length=CENTS_DIGITS_MAX)]
    scope: SpendScope
    period: Period = "monthly"


class Nothing(Shape):
    """The body of what takes none, where one is sent."""


class Query(BaseModel):
    """What every query shares. `beta` is what clients add to beta paths and means nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    beta: str | None = None


class Cursor(Query):
    """At most one of the ids, of the entry that the page comes after or before."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 20
    after_id: str | None = None
    before_id: str | None = None


class KeyQuery(Cursor):
    status: ShownStatus | None = None
    workspace_id: str | None = None
    created_by_user_id: Meaningless = None


class WorkspaceQuery(Cursor):
    ids: Annotated[list[str], BeforeValidator(_list), Field(max_length=100)] | None = None
    include_archived: bool = False
    include_default: bool = False


class RateLimitQuery(Query):
    """Without `limit` everything is one page."""

    limit: Annotated[int, Field(ge=1, le=1000)] | None = None
    page: str | None = None
    group_type: GroupType | None = None


class OrganizationRateLimitQuery(RateLimitQuery):
    model: str | None = None


class WorkspaceRateLimitQuery(RateLimitQuery):
    include_inherited: bool = False


class SpendLimitQuery(Query):
    limit: Annotated[int, Field(ge=1, le=1000)] = 20
    page: str | None = None
    scope_type: (
        Annotated[list[Literal["organization", "workspace"]], BeforeValidator(_list), Field(max_length=2)] | None
    ) = None
    workspace_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClassLimits:
    """The limits by the minute of a class of models, the organisation's and those of one workspace; `id` is the
    entry's in this organisation, `group_id` the class's anywhere."""

    id: str
    group_id: str
    model_class: str
    display_name: str
    models: tuple[str, ...]
    organization: Mapping[RateKind, int]
    workspace: Mapping[RateKind, int]


@dataclass(frozen=True, slots=True)
class SpendLimit:
    """In micro-dollars; without a workspace it is the organisation's. Times are microseconds since 1970."""

    id: str
    workspace_id: str | None
    period: Period
    amount: int
    created_at: int
    updated_at: int
