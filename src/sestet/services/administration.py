"""The use cases of whoever runs the organisation: its keys, its workspaces and what they may use up.

The Admin API and the command line both come through here. Every method blocks, needs the scope `admin`, and sees what
its caller may see: a key of a workspace nothing but that workspace, so that what is elsewhere and what is nowhere look
the same (RELIABILITY.md T06 to T08).
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from sestet.catalog.catalog import Catalog
from sestet.contract.errors import ApiError, invalid
from sestet.contract.organization import (
    LIMIT_MAX,
    ClassLimits,
    Cursor,
    KeyCreation,
    KeyQuery,
    KeyUpdate,
    OrganizationRateLimitQuery,
    ShownStatus,
    SpendLimit,
    SpendLimitQuery,
    SpendLimitSetting,
    WorkspaceCreation,
    WorkspaceQuery,
    WorkspaceRateLimitQuery,
    WorkspaceUpdate,
)
from sestet.gate.directory import DEFAULT_WORKSPACE, SCOPES, Directory, Key, RateKind, Workspace
from sestet.gate.keys import Caller, Grant, check_grant, digest_of, hint_of, new_key
from sestet.store.directory import Directories, NameTaken

# Whoever can read the database and the peppers needs no key.
LOCAL: Final = Caller("local", None, SCOPES)
MICRODOLLARS_PER_CENT: Final = 10_000

_CAPACITIES: Final = ("concurrency", "priority_input_tokens_per_minute", "priority_output_tokens_per_minute")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_T = TypeVar("_T", Key, Workspace, ClassLimits, SpendLimit)


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    data: tuple[_T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class TokenPage(Generic[_T]):
    """`next` is the token of the page after this one."""

    data: tuple[_T, ...]
    next: str | None


class Administration:
    """`peppers` are the secrets that keys are hashed with, newest first; `now_us` is the wall clock."""

    def __init__(
        self, directories: Directories, peppers: Sequence[bytes], names: Catalog, now_us: Callable[[], int]
    ) -> None:
        self._directories = directories
        self._pepper = peppers[0]
        self._names = names
        self._now_us = now_us

    def directory(self, caller: Caller) -> Directory:
        """All that the caller may see."""
        caller.require("admin")
        directory = self._directories.read()
        if caller.workspace is None:
            return directory
        return replace(
            directory,
            workspaces={name: one for name, one in directory.workspaces.items() if name == caller.workspace},
            keys=tuple(key for key in directory.keys if key.workspace_id == caller.workspace),
        )

    def keys(self, caller: Caller, query: KeyQuery) -> Page[Key]:
        """Newest first."""

        def wanted(key: Key) -> bool:
            is_there = query.workspace_id is None or key.workspace_id == query.workspace_id
            return is_there and query.status in (None, self.status(key))

        return _page(reversed(self.directory(caller).keys), query, wanted)

    def key(self, caller: Caller, key_id: str) -> Key:
        return _key(self.directory(caller), key_id)

    def status(self, key: Key) -> ShownStatus:
        """An active key that is past its time has expired."""
        is_past = key.expires_at is not None and key.expires_at <= self._now_us()
        return "expired" if is_past and key.status == "active" else key.status

    def create_key(self, caller: Caller, key_id: str, request: KeyCreation) -> tuple[Key, str]:
        """The key as it is kept, and the key itself, which is not."""
        if request.workspace_id is not None:
            _alive(_workspace(self.directory(caller), request.workspace_id, "workspace_id"))
        expires_at = None if request.expires_at is None else (request.expires_at - _EPOCH) // timedelta(microseconds=1)
        if expires_at is not None and not self._now_us() < expires_at < LIMIT_MAX:
            raise invalid("a key cannot end before it begins", "expires_at")
        models = None if request.models is None else frozenset(self._card_ids(request.models))
        grant = Grant(request.workspace_id, frozenset(request.scopes), models, expires_at)
        check_grant(caller, grant)
        key, clear = self._new(caller, key_id, request.name, grant)
        self._directories.add_key(key)
        return key, clear

    def change_key(self, caller: Caller, key_id: str, request: KeyUpdate) -> Key:
        key = self.key(caller, key_id)
        changes = {
            name: value for name, value in (("name", request.name), ("status", request.status)) if value is not None
        }
        if not changes or changes == {"status": key.status}:
            return key
        if key.status == "archived":
            raise invalid("an archived key stays as it is; create another one")
        if changes.get("status") == "active":
            check_grant(caller, _grant(key))
        self._directories.change_key(key_id, changes)
        return self.key(caller, key_id)

    def rotate_key(self, caller: Caller, key_id: str, new_id: str, grace_us: int) -> tuple[Key, str]:
        """Another key with the same rights; the old one lives for this much longer, and never longer than it would."""
        old = self.key(caller, key_id)
        if self.status(old) != "active":
            raise invalid(f"this key is {self.status(old)}; only an active one can be rotated")
        check_grant(caller, _grant(old))
        key, clear = self._new(caller, new_id, old.name, _grant(old))
        until = self._now_us() + grace_us
        self._directories.replace_key(key_id, until if old.expires_at is None else min(until, old.expires_at), key)
        return key, clear

    def workspaces(self, caller: Caller, query: WorkspaceQuery) -> Page[Workspace]:
        """Newest first."""

        def wanted(workspace: Workspace) -> bool:
            return (
                (query.ids is None or workspace.id in query.ids)
                and (query.include_archived or workspace.archived_at is None)
                and (query.include_default or workspace.id != DEFAULT_WORKSPACE)
            )

        return _page(reversed([*self.directory(caller).workspaces.values()]), query, wanted)

    def workspace(self, caller: Caller, workspace_id: str) -> Workspace:
        return _workspace(self.directory(caller), workspace_id)

    def create_workspace(self, caller: Caller, workspace_id: str, request: WorkspaceCreation) -> Workspace:
        caller.require("admin")
        _for_the_organization(caller)
        workspace = Workspace(
            id=workspace_id,
            name=request.name,
            created_at=self._now_us(),
            concurrency=request.concurrency,
            priority_input_tokens=request.priority_input_tokens_per_minute,
            priority_output_tokens=request.priority_output_tokens_per_minute,
            tags=request.tags or {},
        )
        if request.display_color is not None:
            workspace = replace(workspace, display_color=request.display_color)
        with _named_once():
            self._directories.add_workspace(workspace)
        return workspace

    def change_workspace(self, caller: Caller, workspace_id: str, request: WorkspaceUpdate) -> Workspace:
        """What a workspace may use up is for the organisation to say: a limit that the limited can lift is none."""
        workspace = self.workspace(caller, workspace_id)
        _alive(workspace)
        changes: dict[str, object] = {}
        for name in ("name", "display_color"):
            if getattr(request, name) is not None:
                changes[name] = getattr(request, name)
        if request.tags is not None:
            tags = {**workspace.tags, **request.tags}
            changes["tags"] = {name: value for name, value in tags.items() if value is not None}
        capacities = {name: getattr(request, name) for name in _CAPACITIES if name in request.model_fields_set}
        if capacities:
            _for_the_organization(caller, next(iter(capacities)))
        if changes or capacities:
            with _named_once():
                self._directories.change_workspace(workspace_id, changes | capacities)
        return self.workspace(caller, workspace_id)

    def archive_workspace(self, caller: Caller, workspace_id: str) -> Workspace:
        """For ever, and its keys with it. Once more does nothing more."""
        workspace = self.workspace(caller, workspace_id)
        _for_the_organization(caller)
        if workspace_id == DEFAULT_WORKSPACE:
            raise invalid("the default workspace cannot be archived")
        if workspace.archived_at is None:
            self._directories.archive_workspace(workspace_id, self._now_us())
        return self.workspace(caller, workspace_id)

    def rates(self, caller: Caller, query: OrganizationRateLimitQuery) -> TokenPage[ClassLimits]:
        """An entry for every class of models, limited or not."""
        directory = self.directory(caller)
        _for_the_organization(caller)
        entries = self._class_limits(directory, None)
        if query.model is not None:
            wanted = self._names.resolve(query.model).card.rate_class
            entries = [entry for entry in entries if entry.model_class == wanted]
        if query.group_type not in (None, "model_group"):
            entries = []
        return _token_page(entries, query.limit, query.page)

    def workspace_rates(
        self, caller: Caller, workspace_id: str, query: WorkspaceRateLimitQuery
    ) -> TokenPage[ClassLimits]:
        """The classes that the workspace has limits for, or may inherit some."""
        directory = self.directory(caller)
        entries = self._class_limits(directory, _workspace(directory, workspace_id))
        listed = [entry for entry in entries if entry.workspace or (query.include_inherited and entry.organization)]
        return _token_page(
            listed if query.group_type in (None, "model_group") else [],
            query.limit,
            query.page,
        )

    def change_rates(
        self, caller: Caller, workspace_id: str | None, rate_limit_id: str, values: Mapping[RateKind, int | None]
    ) -> ClassLimits:
        """None takes a limit away; without a workspace they are the organisation's. A workspace's that is above the
        organisation's is kept, and the organisation's binds all the same."""
        directory = self.directory(caller)
        workspace = None if workspace_id is None else _workspace(directory, workspace_id)
        _for_the_organization(caller)
        if workspace is not None:
            _alive(workspace)
        entry = _entry(self._class_limits(directory, workspace), rate_limit_id)
        self._directories.set_rates(workspace_id, entry.model_class, values)
        before = entry.organization if workspace is None else entry.workspace
        after = {kind: value for kind, value in {**before, **values}.items() if value is not None}
        return replace(entry, organization=after) if workspace is None else replace(entry, workspace=after)

    def spend_limits(self, caller: Caller, query: SpendLimitQuery) -> TokenPage[SpendLimit]:
        """Newest first."""
        limits = [
            limit
            for limit in reversed(self._spend_limits(caller))
            if (query.workspace_id is None or limit.workspace_id == query.workspace_id)
            and (query.scope_type is None or _scope_type(limit) in query.scope_type)
        ]
        return _token_page(limits, query.limit, query.page)

    def spend_limit(self, caller: Caller, limit_id: str) -> SpendLimit:
        for limit in self._spend_limits(caller):
            if limit.id == limit_id:
                return limit
        raise ApiError("not_found_error", "there is no such spend limit")

    def set_spend_limit(self, caller: Caller, limit_id: str, request: SpendLimitSetting) -> SpendLimit:
        """`limit_id` is its id if it is new."""
        workspace_id = request.scope.workspace_id
        directory = self.directory(caller)
        if request.scope.type == "workspace":
            if workspace_id is None:
                raise invalid("Field required", "scope.workspace_id")
            _alive(_workspace(directory, workspace_id, "scope.workspace_id"))
        elif workspace_id is not None:
            raise invalid("the organization's limit names no workspace", "scope.workspace_id")
        _for_the_organization(caller)
        amount = int(request.amount) * MICRODOLLARS_PER_CENT
        found = self._directories.set_spend(limit_id, workspace_id, request.period, amount, self._now_us())
        return self.spend_limit(caller, found)

    def delete_spend_limit(self, caller: Caller, limit_id: str) -> None:
        limit = self.spend_limit(caller, limit_id)
        _for_the_organization(caller)
        self._directories.set_spend(limit.id, limit.workspace_id, limit.period, None, self._now_us())

    def _new(self, caller: Caller, key_id: str, name: str, grant: Grant) -> tuple[Key, str]:
        clear = new_key()
        key = Key(
            id=key_id,
            name=name,
            digest=digest_of(self._pepper, clear.encode()),
            hint=hint_of(clear),
            workspace_id=grant.workspace,
            scopes=grant.scopes,
            models=grant.models,
            status="active",
            created_at=self._now_us(),
            created_by=None if caller is LOCAL else caller.key_id,
            expires_at=grant.expires_at,
        )
        return key, clear

    def _card_ids(self, models: Iterable[str]) -> Iterator[str]:
        for position, name in enumerate(models):
            try:
                yield self._names.resolve(name).card.id
            except ApiError as error:
                raise invalid(error.message.removeprefix("model: "), f"models.{position}") from None

    def _class_limits(self, directory: Directory, workspace: Workspace | None) -> list[ClassLimits]:
        """In the catalog's order, then what has limits and is not served any more."""
        organization = directory.allowance.rates
        own = {} if workspace is None else workspace.allowance.rates
        cards: dict[str, list[str]] = {}
        models: dict[str, list[str]] = {}
        for route in self._names.routes():
            card = route.card
            cards.setdefault(card.rate_class, []).append(card.display_name)
            aliases = [alias for alias, target in self._names.aliases().items() if target == card.id]
            models.setdefault(card.rate_class, []).extend((card.id, *aliases))
        return [
            ClassLimits(
                id=f"rl_{_digest(directory.organization_id, name)}",
                group_id=f"rlg_{_digest('', name)}",
                model_class=name,
                display_name=", ".join(cards.get(name, [name])),
                models=tuple(models.get(name, ())),
                organization=organization.get(name, {}),
                workspace=own.get(name, {}),
            )
            for name in dict.fromkeys((*cards, *sorted(organization), *sorted(own)))
        ]

    def _spend_limits(self, caller: Caller) -> list[SpendLimit]:
        caller.require("admin")
        limits = (
            SpendLimit(row.id, row.workspace_id, row.period, row.amount, row.created_at, row.updated_at)
            for row in self._directories.spend_limits()
        )
        return [limit for limit in limits if caller.workspace in (None, limit.workspace_id)]


def _grant(key: Key) -> Grant:
    return Grant(key.workspace_id, key.scopes, key.models, key.expires_at)


def _scope_type(limit: SpendLimit) -> str:
    return "organization" if limit.workspace_id is None else "workspace"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _key(directory: Directory, key_id: str) -> Key:
    for key in directory.keys:
        if key.id == key_id:
            return key
    raise ApiError("not_found_error", "there is no such API key")


def _workspace(directory: Directory, workspace_id: str, param: str | None = None) -> Workspace:
    workspace = directory.workspaces.get(workspace_id)
    if workspace is None:
        raise ApiError("not_found_error", "there is no such workspace", param=param)
    return workspace


def _entry(entries: Iterable[ClassLimits], rate_limit_id: str) -> ClassLimits:
    for entry in entries:
        if entry.id == rate_limit_id:
            return entry
    raise ApiError("not_found_error", "there is no such rate limit")


def _alive(workspace: Workspace) -> None:
    if workspace.archived_at is not None:
        raise invalid("this workspace is archived, and stays as it is")


def _for_the_organization(caller: Caller, param: str | None = None) -> None:
    if caller.workspace is not None:
        raise ApiError("permission_error", "this needs an admin key of the organization", param=param)


@contextmanager
def _named_once() -> Iterator[None]:
    try:
        yield
    except NameTaken:
        raise invalid("there is a workspace of this name already, maybe an archived one", "name") from None


def _page(entries: Iterable[_T], query: Cursor, wanted: Callable[[_T], bool]) -> Page[_T]:
    """Cursors are looked up before anything is filtered, so that one which has changed since is still found."""
    listed = list(entries)
    if query.after_id is not None and query.before_id is not None:
        raise invalid("only one of after_id and before_id may be given", "before_id")
    if query.before_id is not None:
        before = list(filter(wanted, listed[: _position(listed, query.before_id, "before_id")]))
        return Page(tuple(before[-query.limit :]), len(before) > query.limit)
    first = 0 if query.after_id is None else _position(listed, query.after_id, "after_id") + 1
    after = list(filter(wanted, listed[first:]))
    return Page(tuple(after[: query.limit]), len(after) > query.limit)


def _token_page(entries: Sequence[_T], limit: int | None, token: str | None) -> TokenPage[_T]:
    """A token is the id of the last entry before the page."""
    first = 0 if token is None else _position(entries, _last_id(token), "page") + 1
    page = entries[first:] if limit is None else entries[first : first + limit]
    is_last = first + len(page) == len(entries)
    return TokenPage(tuple(page), None if is_last else _token(page[-1].id))


def _position(entries: Sequence[_T], entry_id: str, param: str) -> int:
    for position, entry in enumerate(entries):
        if entry.id == entry_id:
            return position
    raise invalid("nothing in this list has that id" if param != "page" else "there is no such page", param)


def _token(entry_id: str) -> str:
    return "page_" + base64.urlsafe_b64encode(entry_id.encode()).decode().rstrip("=")


def _last_id(token: str) -> str:
    encoded = token.removeprefix("page_")
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return ""
