"""Administration: who may change what, what a change does, and that nobody sees or hands out more than they have."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from pydantic import ValidationError

from sestet.catalog.card import Card, family_cards
from sestet.catalog.catalog import Catalog, Route
from sestet.contract.errors import ApiError
from sestet.contract.organization import (
    ClassLimits,
    KeyCreation,
    KeyQuery,
    KeyUpdate,
    OrganizationRateLimitQuery,
    RateKind,
    SpendLimit,
    SpendLimitQuery,
    SpendLimitSetting,
    WorkspaceCreation,
    WorkspaceQuery,
    WorkspaceRateLimitQuery,
    WorkspaceUpdate,
)
from sestet.gate.directory import DEFAULT_WORKSPACE, SCOPES, Key, Workspace
from sestet.gate.keys import Caller, Keyring, digest_of
from sestet.services.administration import LOCAL, Administration
from sestet.store.database import Database
from sestet.store.directory import Directories
from tests.unit.refusals import refusal

PEPPER = b"thirty-two bytes that are secret"
NOW = 1_800_000_000_000_000
DAY = 86_400_000_000
OWN = Card("own-1", "Own", date(2026, 1, 1), 1000, 1000, aliases=("own-latest",))
NAMES = Catalog([Route(card, OWN.id, OWN.display_name) for card in (OWN, *family_cards())])


@dataclass
class House:
    """Administration on a database of its own, with a clock that stands still."""

    do: Administration
    directories: Directories
    now: list[int] = field(default_factory=lambda: [NOW])
    numbers: Any = field(default_factory=count)

    def key(self, caller: Caller = LOCAL, **given: Any) -> tuple[Key, str]:
        self.now[0] += 1  # so that the order of creation is one
        request = {"name": "k", "workspace_id": DEFAULT_WORKSPACE, "scopes": ["inference"]} | given
        return self.do.create_key(caller, f"apikey_{next(self.numbers)}", KeyCreation(**request))

    def workspace(self, name: str, **given: Any) -> Workspace:
        self.now[0] += 1
        request = WorkspaceCreation(name=name, **given)
        return self.do.create_workspace(LOCAL, f"wrkspc_{next(self.numbers)}", request)

    def spend(self, workspace_id: str | None, amount: str, period: str = "monthly") -> SpendLimit:
        self.now[0] += 1
        scope = {"type": "workspace", "workspace_id": workspace_id} if workspace_id else {"type": "organization"}
        request = SpendLimitSetting.model_validate({"amount": amount, "period": period, "scope": scope})
        return self.do.set_spend_limit(LOCAL, f"spl_{next(self.numbers)}", request)


@pytest.fixture
def house(database: Database) -> House:
    now = [NOW]
    directories = Directories(database)
    return House(Administration(directories, [PEPPER], NAMES, lambda: now[0]), directories, now)


def admin_of(workspace: str) -> Caller:
    return Caller("apikey_admin", workspace, frozenset(("admin", "inference")))


def test_a_new_key_lets_in_and_is_kept_as_a_digest(house: House) -> None:
    key, clear = house.key(name="laptop")
    keyring = Keyring([PEPPER], {})
    keyring.load(house.directories.read())

    assert digest_of(PEPPER, clear.encode()) == key.digest
    assert f"sk-sestet-...{clear[-4:]}" == key.hint
    assert [key] == list(house.directories.read().keys)
    assert key.id == keyring.admit({b"x-api-key": [clear.encode()]}, NOW).key_id


def test_who_made_a_key_is_kept_except_for_the_machine_itself(house: House) -> None:
    made, _ = house.key(admin_of(DEFAULT_WORKSPACE))
    local, _ = house.key()

    assert ["apikey_admin", None] == [made.created_by, local.created_by]


def test_models_of_a_key_are_kept_by_their_snapshots(house: House) -> None:
    key, _ = house.key(models=["own-latest", "claude-3-7-sonnet-latest"])

    assert frozenset({"own-1", "claude-3-7-sonnet-20250219"}) == key.models


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"workspace_id": "wrkspc_nowhere"}, "not_found_error", "workspace_id: there is no such workspace"),
        ({"workspace_id": None}, "invalid_request_error", "workspace_id: a key for inference belongs to a workspace"),
        (
            {"models": ["own-1", "gone"]},
            "invalid_request_error",
            "models.1: `gone` is not served here; GET /v1/models lists what is.",
        ),
        (
            {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)},
            "invalid_request_error",
            "expires_at: a key cannot end before it begins",
        ),
    ],
)
def test_a_key_that_could_not_work_is_not_made(house: House, given: dict[str, Any], kind: Any, message: str) -> None:
    error = refusal(lambda: house.key(**given), kind)

    assert message == error.message
    assert () == house.directories.read().keys


def test_an_admin_of_a_workspace_sees_nothing_else(house: House) -> None:
    mine, other = house.workspace("mine"), house.workspace("other")
    key, _ = house.key(workspace_id=mine.id)
    house.key(workspace_id=other.id)
    house.key(workspace_id=None, scopes=["usage"])
    own = house.spend(mine.id, "100")
    house.spend(other.id, "100")
    house.spend(None, "100")
    caller = admin_of(mine.id)

    everything = WorkspaceQuery(include_default=True, include_archived=True)
    assert (key,) == house.do.keys(caller, KeyQuery()).data
    assert (mine.id,) == tuple(one.id for one in house.do.workspaces(caller, everything).data)
    assert (own,) == house.do.spend_limits(caller, SpendLimitQuery()).data


FOR_THE_ORGANIZATION: dict[str, Callable[[House, Caller, str], object]] = {
    "create": lambda house, caller, _: house.do.create_workspace(caller, "w", WorkspaceCreation(name="new")),
    "archive": lambda house, caller, mine: house.do.archive_workspace(caller, mine),
    "concurrency": lambda house, caller, mine: house.do.change_workspace(caller, mine, WorkspaceUpdate(concurrency=9)),
    "rates": lambda house, caller, _: house.do.rates(caller, OrganizationRateLimitQuery()),
    "its rates": lambda house, caller, mine: house.do.change_rates(caller, mine, "rl", {"requests": 9}),
    "our rates": lambda house, caller, _: house.do.change_rates(caller, None, "rl", {"requests": 9}),
    "spend": lambda house, caller, mine: house.do.set_spend_limit(
        caller,
        "spl",
        SpendLimitSetting.model_validate({"amount": "9", "scope": {"type": "workspace", "workspace_id": mine}}),
    ),
}


@pytest.mark.parametrize("change", FOR_THE_ORGANIZATION.values(), ids=FOR_THE_ORGANIZATION.keys())
def test_an_admin_of_a_workspace_cannot_lift_its_limits(
    house: House, change: Callable[[House, Caller, str], object]
) -> None:
    mine = house.workspace("mine")
    before = house.directories.read()

    refusal(lambda: change(house, admin_of(mine.id), mine.id), "permission_error")
    assert before == house.directories.read()


def test_an_admin_of_a_workspace_cannot_take_its_spend_limit_away(house: House) -> None:
    mine = house.workspace("mine")
    limit = house.spend(mine.id, "100")

    refusal(lambda: house.do.delete_spend_limit(admin_of(mine.id), limit.id), "permission_error")
    assert limit == house.do.spend_limit(LOCAL, limit.id)


def test_an_admin_of_a_workspace_changes_what_it_looks_like(house: House) -> None:
    mine = house.workspace("mine")

    changed = house.do.change_workspace(admin_of(mine.id), mine.id, WorkspaceUpdate(name="renamed"))
    assert replace(mine, name="renamed") == changed


def test_keys_are_walked_page_by_page_in_both_directions(house: House) -> None:
    made = [house.key()[0].id for _ in range(5)][::-1]
    first = house.do.keys(LOCAL, KeyQuery(limit=2))
    second = house.do.keys(LOCAL, KeyQuery(limit=2, after_id=made[1]))
    third = house.do.keys(LOCAL, KeyQuery(limit=2, after_id=made[3]))
    back = house.do.keys(LOCAL, KeyQuery(limit=2, before_id=made[3]))

    pages = [first, second, third, back]
    assert [made[:2], made[2:4], made[4:], made[1:3]] == [[key.id for key in page.data] for page in pages]
    assert [True, True, False, True] == [page.has_more for page in pages]


def test_a_cursor_is_found_although_its_key_no_longer_matches(house: House) -> None:
    older, cursor = house.key()[0], house.key()[0]
    house.do.change_key(LOCAL, cursor.id, KeyUpdate(status="archived"))

    assert (older,) == house.do.keys(LOCAL, KeyQuery(after_id=cursor.id, status="active")).data


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"after_id": "apikey_unknown"}, "after_id"),
        ({"before_id": "apikey_unknown"}, "before_id"),
        ({"after_id": "apikey_0", "before_id": "apikey_0"}, "before_id"),
    ],
)
def test_a_cursor_that_leads_nowhere_is_refused(house: House, query: dict[str, Any], path: str) -> None:
    house.key()

    error = refusal(lambda: house.do.keys(LOCAL, KeyQuery(**query)), "invalid_request_error")
    assert path == error.param


def test_keys_are_listed_by_status_and_workspace(house: House) -> None:
    other = house.workspace("other")
    elsewhere, _ = house.key(workspace_id=other.id)
    ended, _ = house.key(expires_at=datetime.fromtimestamp(NOW / 1e6, UTC) + timedelta(seconds=1))
    resting, _ = house.key()
    resting = house.do.change_key(LOCAL, resting.id, KeyUpdate(status="inactive"))
    house.now[0] += DAY

    def listed(**query: Any) -> list[str]:
        return [key.id for key in house.do.keys(LOCAL, KeyQuery(**query)).data]

    assert [elsewhere.id] == listed(workspace_id=other.id) == listed(status="active")
    assert [ended.id] == listed(status="expired")
    assert [resting.id] == listed(status="inactive")
    assert [] == listed(workspace_id="wrkspc_nowhere")


def test_a_key_is_renamed_suspended_and_brought_back(house: House) -> None:
    key, _ = house.key()
    suspended = house.do.change_key(LOCAL, key.id, KeyUpdate(name="new", status="inactive"))
    back = house.do.change_key(LOCAL, key.id, KeyUpdate(status="active"))

    assert replace(key, name="new", status="inactive") == suspended
    assert replace(key, name="new") == back


@pytest.mark.parametrize("change", [{"status": "active"}, {"status": "inactive"}, {"name": "new"}])
def test_a_revoked_key_stays_as_it_is(house: House, change: dict[str, Any]) -> None:
    key, _ = house.key()
    revoked = house.do.change_key(LOCAL, key.id, KeyUpdate(status="archived"))

    refusal(lambda: house.do.change_key(LOCAL, key.id, KeyUpdate(**change)), "invalid_request_error")
    assert revoked == house.do.key(LOCAL, key.id)


def test_whoever_could_not_grant_a_key_cannot_bring_it_back(house: House) -> None:
    key, _ = house.key(scopes=["usage"])
    house.do.change_key(LOCAL, key.id, KeyUpdate(status="inactive"))

    refusal(
        lambda: house.do.change_key(admin_of(DEFAULT_WORKSPACE), key.id, KeyUpdate(status="active")),
        "permission_error",
    )
    assert "inactive" == house.do.key(LOCAL, key.id).status


def test_a_change_that_changes_nothing_wakes_nobody(house: House) -> None:
    key, _ = house.key()
    before = house.directories.generation()
    house.do.change_key(LOCAL, key.id, KeyUpdate())
    house.do.change_key(LOCAL, key.id, KeyUpdate(status="active"))
    house.do.change_workspace(LOCAL, DEFAULT_WORKSPACE, WorkspaceUpdate())

    assert before == house.directories.generation()


@pytest.mark.parametrize(
    ("old_end", "until"), [(None, NOW + DAY), (NOW + 2 * DAY, NOW + DAY), (NOW + DAY // 2, NOW + DAY // 2)]
)
def test_a_rotated_key_has_the_same_rights_and_the_old_one_ends(house: House, old_end: int | None, until: int) -> None:
    end = None if old_end is None else datetime.fromtimestamp(old_end / 1e6, UTC)
    old, old_clear = house.key(scopes=["inference", "usage"], models=["own-1"], expires_at=end)
    house.now[0] = NOW
    new, clear = house.do.rotate_key(LOCAL, old.id, "apikey_new", DAY)

    def rights(key: Key) -> tuple[object, ...]:
        return key.name, key.workspace_id, key.scopes, key.models

    assert rights(old) == rights(new)
    assert (old_end, until) == (new.expires_at, house.do.key(LOCAL, old.id).expires_at)
    assert old_clear != clear


def test_only_an_active_key_is_rotated(house: House) -> None:
    key, _ = house.key()
    house.do.change_key(LOCAL, key.id, KeyUpdate(status="archived"))

    refusal(lambda: house.do.rotate_key(LOCAL, key.id, "apikey_new", DAY), "invalid_request_error")
    assert 1 == len(house.directories.read().keys)


def test_an_archived_workspace_takes_its_keys_with_it(house: House) -> None:
    workspace = house.workspace("old")
    key, _ = house.key(workspace_id=workspace.id)
    other, _ = house.key()
    archived = house.do.archive_workspace(LOCAL, workspace.id)
    again = house.do.archive_workspace(LOCAL, workspace.id)

    assert replace(workspace, archived_at=house.now[0]) == archived == again
    assert ["archived", "active"] == [house.do.key(LOCAL, one.id).status for one in (key, other)]


ON_AN_ARCHIVED_ONE: dict[str, Callable[[House, str], object]] = {
    "a key": lambda house, gone: house.key(workspace_id=gone),
    "a name": lambda house, gone: house.do.change_workspace(LOCAL, gone, WorkspaceUpdate(name="new")),
    "a limit": lambda house, gone: house.do.change_rates(LOCAL, gone, "rl", {"requests": 9}),
    "a spend limit": lambda house, gone: house.spend(gone, "100"),
}


@pytest.mark.parametrize("change", ON_AN_ARCHIVED_ONE.values(), ids=ON_AN_ARCHIVED_ONE.keys())
def test_nothing_of_an_archived_workspace_changes(house: House, change: Callable[[House, str], object]) -> None:
    gone = house.workspace("old")
    house.do.archive_workspace(LOCAL, gone.id)
    before = house.directories.read()

    refusal(lambda: change(house, gone.id), "invalid_request_error")
    assert before == house.directories.read()


def test_the_default_workspace_stays(house: House) -> None:
    refusal(lambda: house.do.archive_workspace(LOCAL, DEFAULT_WORKSPACE), "invalid_request_error")

    assert house.do.workspace(LOCAL, DEFAULT_WORKSPACE).archived_at is None


def test_two_workspaces_cannot_have_one_name(house: House) -> None:
    house.workspace("taken")
    other = house.workspace("other")

    assert "name" == refusal(lambda: house.workspace("taken"), "invalid_request_error").param
    rename = WorkspaceUpdate(name="taken")
    assert "name" == refusal(lambda: house.do.change_workspace(LOCAL, other.id, rename), "invalid_request_error").param


def test_workspaces_are_listed_as_they_are_asked_for(house: House) -> None:
    first, second, gone = (house.workspace(name).id for name in ("first", "second", "gone"))
    house.do.archive_workspace(LOCAL, gone)

    def listed(**query: Any) -> list[str]:
        return [one.id for one in house.do.workspaces(LOCAL, WorkspaceQuery(**query)).data]

    assert [second, first] == listed()
    assert [gone, second, first] == listed(include_archived=True)
    assert {second, first, DEFAULT_WORKSPACE} == set(listed(include_default=True))
    assert [first] == listed(ids=[first, gone, "wrkspc_nowhere"])


def test_a_workspace_keeps_what_it_was_given_and_changes_what_is_named(house: House) -> None:
    made = house.workspace(
        "w",
        tags={"team": "a", "cost": "1"},
        display_color="#010203",
        concurrency=3,
        priority_input_tokens_per_minute=10,
        priority_output_tokens_per_minute=20,
    )
    kept = house.directories.read().workspaces[made.id]
    request = WorkspaceUpdate(tags={"cost": None, "new": "x"}, concurrency=None, priority_input_tokens_per_minute=11)
    changed = house.do.change_workspace(LOCAL, made.id, request)

    assert made == kept
    assert replace(made, tags={"team": "a", "new": "x"}, concurrency=None, priority_input_tokens=11) == changed


def rate_id(house: House, model: str) -> str:
    [entry] = house.do.rates(LOCAL, OrganizationRateLimitQuery(model=model)).data
    return entry.id


def test_every_class_of_models_has_an_entry_of_its_own_with_all_its_names(house: House) -> None:
    entries = house.do.rates(LOCAL, OrganizationRateLimitQuery()).data
    shared = [entry for entry in entries if entry.model_class == "claude-opus-4"]

    assert len(entries) == len({entry.id for entry in entries}) == len({entry.group_id for entry in entries})
    assert [("claude-opus-4-1-20250805", "claude-opus-4-1", "claude-opus-4-20250514", "claude-opus-4-0")] == [
        entry.models for entry in shared
    ]


def test_limits_by_the_minute_are_set_inherited_and_taken_away(house: House) -> None:
    workspace = house.workspace("w").id
    limit = rate_id(house, "own-latest")
    ours: dict[RateKind, int | None] = {"requests": 100, "input_tokens": 1000}
    house.do.change_rates(LOCAL, None, limit, ours)
    above: dict[RateKind, int | None] = {"requests": 500, "output_tokens": 7}
    entry = house.do.change_rates(LOCAL, workspace, limit, above)

    def listed(*, inherited: bool) -> list[tuple[object, object]]:
        query = WorkspaceRateLimitQuery(include_inherited=inherited)
        page = house.do.workspace_rates(LOCAL, workspace, query).data
        return [(one.organization, one.workspace) for one in page]

    assert (ours, above) == (entry.organization, entry.workspace)
    assert [(ours, above)] == listed(inherited=False) == listed(inherited=True)
    assert above == house.directories.read().workspaces[workspace].allowance.rates["own-1"]

    house.do.change_rates(LOCAL, workspace, limit, {"requests": None, "output_tokens": None})
    assert [] == listed(inherited=False)
    assert [(ours, {})] == listed(inherited=True)


def test_limits_of_models_that_are_gone_can_still_be_taken_away(house: House) -> None:
    house.directories.set_rates(None, "gone-1", {"requests": 5})
    last = house.do.rates(LOCAL, OrganizationRateLimitQuery()).data[-1]
    house.do.change_rates(LOCAL, None, last.id, {"requests": None})

    assert ("gone-1", ()) == (last.model_class, last.models)
    assert {} == house.directories.read().allowance.rates


def test_a_page_of_limits_leads_to_the_next(house: House) -> None:
    everything = house.do.rates(LOCAL, OrganizationRateLimitQuery())
    walked: list[ClassLimits] = []
    token = None
    for _ in range(0, len(everything.data), 3):
        page = house.do.rates(LOCAL, OrganizationRateLimitQuery(limit=3, page=token))
        walked += page.data
        token = page.next

    assert (list(everything.data), None) == (walked, token)
    assert everything.next is None


@pytest.mark.parametrize("token", ["", "page_", "page_%%%", "page_YXBpa2V5", "nonsense"])
def test_a_page_that_is_not_ours_is_refused(house: House, token: str) -> None:
    query = OrganizationRateLimitQuery(page=token)

    assert "page" == refusal(lambda: house.do.rates(LOCAL, query), "invalid_request_error").param


def test_spend_limits_are_kept_in_micro_dollars_and_replaced_in_place(house: House) -> None:
    workspace = house.workspace("w").id
    made = house.spend(workspace, "50000")
    daily = house.spend(workspace, "1", "daily")
    replaced = house.spend(workspace, "0")

    assert (500_000_000, 10_000) == (made.amount, daily.amount)
    assert replace(made, amount=0, updated_at=house.now[0]) == replaced
    assert {"monthly": 0, "daily": 10_000} == house.directories.read().workspaces[workspace].allowance.spend


def test_a_spend_limit_is_taken_away_alone(house: House) -> None:
    gone, kept = house.spend(None, "5"), house.spend(None, "6", "daily")
    house.do.delete_spend_limit(LOCAL, gone.id)

    assert (kept,) == house.do.spend_limits(LOCAL, SpendLimitQuery()).data
    refusal(lambda: house.do.spend_limit(LOCAL, gone.id), "not_found_error")


def test_spend_limits_are_listed_by_scope_newest_first(house: House) -> None:
    workspace = house.workspace("w").id
    ours, own = house.spend(None, "5"), house.spend(workspace, "6")

    def listed(**query: Any) -> tuple[SpendLimit, ...]:
        return house.do.spend_limits(LOCAL, SpendLimitQuery(**query)).data

    assert (own, ours) == listed()
    assert (ours,) == listed(scope_type=["organization"])
    assert (own,) == listed(workspace_id=workspace)


@pytest.mark.parametrize(
    ("scope", "kind", "path"),
    [
        ({"type": "workspace"}, "invalid_request_error", "scope.workspace_id"),
        ({"type": "organization", "workspace_id": "w"}, "invalid_request_error", "scope.workspace_id"),
        ({"type": "workspace", "workspace_id": "w"}, "not_found_error", "scope.workspace_id"),
    ],
)
def test_a_spend_limit_of_nothing_is_refused(house: House, scope: dict[str, str], kind: Any, path: str) -> None:
    request = SpendLimitSetting.model_validate({"amount": "1", "scope": scope})

    assert path == refusal(lambda: house.do.set_spend_limit(LOCAL, "spl", request), kind).param


def test_nothing_is_done_for_a_key_that_is_not_for_administration(house: House) -> None:
    caller = Caller("apikey_1", None, SCOPES - {"admin"})
    asked: list[Callable[[], object]] = [
        lambda: house.do.directory(caller),
        lambda: house.do.keys(caller, KeyQuery()),
        lambda: house.key(caller),
        lambda: house.do.create_workspace(caller, "w", WorkspaceCreation(name="new")),
        lambda: house.do.rates(caller, OrganizationRateLimitQuery()),
        lambda: house.do.spend_limits(caller, SpendLimitQuery()),
        lambda: house.do.change_rates(caller, None, "rl", {"requests": 1}),
    ]

    kinds = []
    for ask in asked:
        with pytest.raises(ApiError) as refused:
            ask()
        kinds.append(refused.value.kind)
    assert ["permission_error"] * len(asked) == kinds


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "a\nb", "a\x1b[31m", "\x85"])
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        KeyCreation(name=name, scopes=["inference"])
    with pytest.raises(ValidationError):
        WorkspaceCreation(name=name)
