"""Rights that somebody tries to get, or to keep: fields that are not theirs (T06), ids of others (T07), more than they
have (T08), a key that was taken away (T09), and what a stolen database would tell of keys (T34)."""

import hashlib
import hmac
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from sestet.catalog.card import Card
from sestet.catalog.catalog import Catalog, Route
from sestet.contract.errors import ApiError
from sestet.contract.organization import KeyCreation, KeyUpdate
from sestet.gate import signing_keys
from sestet.gate.directory import SCOPES, Key
from sestet.gate.keys import Caller
from sestet.server.upkeep import LOOK_EVERY_S
from sestet.services.administration import LOCAL, Administration
from sestet.store.database import Database, open_database
from sestet.store.directory import Directories
from sestet.store.tables import api_keys, metadata, spend_limits, workspaces
from tests.contract.errors import assert_contract_error
from tests.lengths import length
from tests.running import RunningServer, start_server

ADMIN = "sk-sestet-admin-of-the-fault-tests"
CONFIG = f'[access]\nadmin_keys = ["{ADMIN}"]\n[log]\nlevel = "debug"\n'
SCRIPT = '[[reply]]\nsay = ["tick "]\nrepeat = 60\ntokens_per_s = 40\n'
REFUSED_WITHIN_S = 5.0  # a second is promised; a test machine may be busy
HELLO = {"model": "scripted", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
RANDOM = "fedcba9876543210fedcba98"
names = (f"workspace {number}" for number in count())


@dataclass
class Site:
    """A server with the folder it keeps its data in."""

    server: RunningServer
    folder: Path

    def ask(self, method: str, path: str, body: object = None, *, key: str = ADMIN) -> httpx2.Response:
        return httpx2.request(method, f"{self.server.url}{path}", json=body, headers={"x-api-key": key}, timeout=30)

    def made(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.ask("POST", f"/v1/organizations/{path}", body)

        assert 200 == answer.status_code, answer.text
        return dict(answer.json())

    def key(self, **given: Any) -> dict[str, Any]:
        return self.made("api_keys", **{"name": "k", "workspace_id": "wrkspc_default", "scopes": ["inference"]} | given)

    def workspace(self) -> str:
        return str(self.made("workspaces", name=next(names))["id"])

    def sestet(self, *arguments: str) -> str:
        """The command, in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "sestet.cli.main", *arguments, "--config", str(self.config)],
            env={"XDG_DATA_HOME": str(self.folder), "PATH": "", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    @property
    def config(self) -> Path:
        return self.folder / f"sestet-{self.server.port}.toml"

    def database(self) -> "closing[Database]":
        return closing(open_database(f"sqlite:///{self.folder / 'sestet' / 'sestet.db'}"))

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """All of what administration may change, but for the number of changes."""
        with self.database() as database, database.reading() as connection:
            return {
                table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
                for table in (api_keys, workspaces, spend_limits, metadata.tables["rate_limits"])
            }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("grants")
    server = start_server(folder, script=SCRIPT, config=CONFIG)
    yield Site(server, folder)
    server.stop()


# What a path's documented fields are; every other column is somebody else's to write.
DOCUMENTED = {
    "api_keys": {"name", "workspace_id", "scopes", "models", "expires_at"},
    "api_keys/{key}": {"name", "status"},
    "workspaces": {
        "name",
        "display_color",
        "tags",
        "concurrency",
        "priority_input_tokens_per_minute",
        "priority_output_tokens_per_minute",
    },
    "spend_limits": {"amount", "period"},
    "rate_limits/{rate}": set[str](),
}
TABLES = {"api_keys": api_keys, "workspaces": workspaces, "spend_limits": spend_limits}
NEEDED: dict[str, dict[str, Any]] = {
    "api_keys": {"name": "k", "workspace_id": "wrkspc_default", "scopes": ["inference"]},
    "api_keys/{key}": {},
    "workspaces": {"name": "never made"},
    "workspaces/{workspace}": {},
    "spend_limits": {"amount": "1", "scope": {"type": "organization"}},
    "rate_limits/{rate}": {"limits": [{"type": "requests_per_minute", "value": 1}]},
}


def others_columns(site: Site, path: str) -> tuple[str, list[str]]:
    """The path of something that is there, and the columns of its table that nobody may write."""
    rate = site.ask("GET", "/v1/organizations/rate_limits").json()["data"][0]["id"]
    spelled = path.format(key=site.key()["id"], workspace=site.workspace(), rate=rate)
    documented = DOCUMENTED.get(path, DOCUMENTED["workspaces"])
    table = TABLES.get(path.partition("/")[0], metadata.tables["rate_limits"])
    return spelled, [column.name for column in table.columns if column.name not in documented]


@pytest.mark.parametrize("path", NEEDED)
def test_no_other_column_can_be_written(site: Site, path: str) -> None:
    spelled, columns = others_columns(site, path)
    before = site.rows()

    assert columns
    for column in columns:
        for value in ("wrkspc_default", 0, True, None, ["admin"]):
            refused = site.ask("POST", f"/v1/organizations/{spelled}", NEEDED[path] | {column: value})

            assert_contract_error(refused, 400, "invalid_request_error", column)
    assert before == site.rows()


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
@pytest.mark.parametrize("path", NEEDED)
def test_there_is_no_other_way_to_write(site: Site, path: str, method: str) -> None:
    spelled, columns = others_columns(site, path)
    before = site.rows()
    refused = site.ask(method, f"/v1/organizations/{spelled}", NEEDED[path] | dict.fromkeys(columns, "x"))

    assert_contract_error(refused, 405, "invalid_request_error")
    assert before == site.rows()


@dataclass
class Neighbours:
    """Two workspaces: an admin key of one, and what the other has."""

    site: Site
    key: str
    theirs: dict[str, str]

    @property
    def nobodys(self) -> dict[str, str]:
        return {name: f"{identifier.partition('_')[0]}_{RANDOM}" for name, identifier in self.theirs.items()}


@pytest.fixture(scope="module")
def neighbours(site: Site) -> Neighbours:
    other = site.workspace()
    scope = {"type": "workspace", "workspace_id": other}
    theirs = {
        "workspace": other,
        "key": site.key(workspace_id=other)["id"],
        "spend": site.made("spend_limits", amount="100", scope=scope)["id"],
    }
    key = site.key(workspace_id=site.workspace(), scopes=["admin", "inference"])["key"]
    return Neighbours(site, key, theirs)


RATE = {"limits": [{"type": "requests_per_minute", "value": 1}]}
BY_ID: list[tuple[str, str, Any, int]] = [
    ("GET", "api_keys/{key}", None, 404),
    ("POST", "api_keys/{key}", {"status": "archived"}, 404),
    ("POST", "api_keys/{key}", {"name": "mine"}, 404),
    ("GET", "workspaces/{workspace}", None, 404),
    ("POST", "workspaces/{workspace}", {"name": "mine"}, 404),
    ("POST", "workspaces/{workspace}", {"concurrency": 1}, 404),
    ("POST", "workspaces/{workspace}/archive", None, 404),
    ("GET", "workspaces/{workspace}/rate_limits", None, 404),
    ("POST", "workspaces/{workspace}/rate_limits/{rate}", RATE, 404),
    ("GET", "spend_limits/{spend}", None, 404),
    ("DELETE", "spend_limits/{spend}", None, 404),
    ("POST", "api_keys", {"name": "k", "workspace_id": "{workspace}", "scopes": ["inference"]}, 404),
    ("POST", "spend_limits", {"amount": "1", "scope": {"type": "workspace", "workspace_id": "{workspace}"}}, 404),
    ("GET", "api_keys?after_id={key}", None, 400),
    ("GET", "api_keys?before_id={key}", None, 400),
    ("GET", "api_keys?workspace_id={workspace}", None, 200),
    ("GET", "workspaces?after_id={workspace}", None, 400),
    ("GET", "workspaces?ids[]={workspace}", None, 200),
    ("GET", "spend_limits?workspace_id={workspace}", None, 200),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BY_ID, ids=[f"{one[0]} {one[1]}" for one in BY_ID])
def test_what_a_neighbour_has_looks_like_what_nobody_has(
    neighbours: Neighbours, method: str, path: str, body: Any, status: int
) -> None:
    site = neighbours.site
    rate = site.ask("GET", "/v1/organizations/rate_limits").json()["data"][0]["id"]
    before = site.rows()

    def told(ids: dict[str, str]) -> tuple[int, object, object]:
        answer = site.ask(
            method, f"/v1/organizations/{_spelled(path, ids, rate)}", _spelled(body, ids, rate), key=neighbours.key
        )
        headers = [(name, value) for name, value in answer.headers.multi_items() if name not in ("request-id", "date")]
        told = {name: value for name, value in answer.json().items() if name != "request_id"}
        return answer.status_code, told, headers

    theirs = told(neighbours.theirs)
    assert told(neighbours.nobodys) == theirs
    assert status == theirs[0]
    assert before == site.rows()


def _spelled(value: Any, ids: dict[str, str], rate: str) -> Any:
    match value:
        case str():
            return value.format(**ids, rate=rate)
        case dict():
            return {name: _spelled(inner, ids, rate) for name, inner in value.items()}
        case _:
            return value


CARDS = [Card(f"card-{number}", "Card", date(2026, 1, 1), 1000, 1000) for number in range(3)]
PLACES = ("wrkspc_a", "wrkspc_b")
NOW = 1_800_000_000_000_000
DAY = 86_400_000_000

rights = st.builds(
    lambda place, scopes, models, end: Caller("apikey_creator", place, scopes, models, end),
    st.sampled_from([None, *PLACES]),
    st.frozensets(st.sampled_from(sorted(SCOPES))),
    st.none() | st.frozensets(st.sampled_from([card.id for card in CARDS]), min_size=1),
    st.none() | st.integers(1, 4).map(lambda days: NOW + days * DAY),
)


@pytest.fixture(scope="module")
def administration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Administration]:
    database = open_database(f"sqlite:///{tmp_path_factory.mktemp('rights') / 'sestet.db'}")
    database.upgrade()
    with database.writing() as connection:
        for place in PLACES:
            connection.execute(
                workspaces.insert().values(id=place, name=place, display_color="#000000", created_at=NOW)
            )
    names = Catalog([Route(card, card.id, card.display_name) for card in CARDS])
    with closing(database):
        yield Administration(Directories(database), [b"a pepper"], names, lambda: NOW)


key_ids = (f"apikey_{number}" for number in count())


def may(creator: Caller, wanted: Caller) -> bool:
    """Whether a creator has all that is wanted, said a second time. An admin of the organisation has every scope."""
    is_bound = creator.workspace is not None
    has_place = not is_bound or wanted.workspace == creator.workspace
    has_scopes = not is_bound or wanted.scopes <= creator.scopes
    has_models = creator.models is None or (wanted.models is not None and wanted.models <= creator.models)
    has_time = creator.expires_at is None or (wanted.expires_at is not None and wanted.expires_at <= creator.expires_at)
    can_be = wanted.scopes and (wanted.workspace is not None or "inference" not in wanted.scopes)
    return bool("admin" in creator.scopes and has_place and has_scopes and has_models and has_time and can_be)


def asked_for(wanted: Caller) -> KeyCreation:
    """A request that says nothing of shapes, which are another matter."""
    return KeyCreation.model_construct(
        name="k",
        workspace_id=wanted.workspace,
        scopes=sorted(wanted.scopes),
        models=None if wanted.models is None else sorted(wanted.models),
        expires_at=None if wanted.expires_at is None else datetime.fromtimestamp(wanted.expires_at // 10**6, UTC),
    )


def attempt(change: Callable[[], Key]) -> Key | None:
    try:
        return change()
    except ApiError:
        return None


@settings(max_examples=length(60, 300), deadline=None)
@given(creator=rights, wanted=rights)
def test_nobody_hands_out_more_than_they_have(administration: Administration, creator: Caller, wanted: Caller) -> None:
    key = attempt(lambda: administration.create_key(creator, next(key_ids), asked_for(wanted))[0])

    assert may(creator, wanted) is (key is not None)
    assert key is None or (wanted.workspace, wanted.scopes, wanted.models, wanted.expires_at) == (
        key.workspace_id,
        key.scopes,
        key.models,
        key.expires_at,
    )


@settings(max_examples=length(30, 150), deadline=None)
@given(creator=rights, wanted=rights.filter(lambda wanted: may(LOCAL, wanted)))
def test_nobody_takes_more_than_they_have_by_what_is_there(
    administration: Administration, creator: Caller, wanted: Caller
) -> None:
    key, _ = administration.create_key(LOCAL, next(key_ids), asked_for(wanted))
    rotated = attempt(lambda: administration.rotate_key(creator, key.id, next(key_ids), DAY)[0])
    administration.change_key(LOCAL, key.id, KeyUpdate(status="inactive"))
    woken = attempt(lambda: administration.change_key(creator, key.id, KeyUpdate(status="active")))

    assert [may(creator, wanted)] * 2 == [rotated is not None, woken is not None]


def refused_after_s(site: Site, key: str) -> float:
    """How long until the key is refused."""
    started = time.monotonic()
    while site.ask("GET", "/v1/models", key=key).status_code == 200:
        assert time.monotonic() - started < REFUSED_WITHIN_S
        time.sleep(0.02)
    assert_contract_error(site.ask("GET", "/v1/models", key=key), 401, "authentication_error")
    return time.monotonic() - started


def test_a_revoked_key_is_refused_at_once_and_its_running_reply_is_finished(site: Site) -> None:
    key = site.key()
    headers = {"x-api-key": key["key"]}
    url = f"{site.server.url}/v1/messages"
    with httpx2.stream("POST", url, json={**HELLO, "stream": True}, headers=headers, timeout=60) as running:
        lines = running.iter_lines()
        first = next(lines)
        site.made(f"api_keys/{key['id']}", status="archived")
        refused = site.ask("POST", "/v1/messages", HELLO, key=key["key"])
        events = [line for line in (first, *lines) if line.startswith("event: ")]

    assert_contract_error(refused, 401, "authentication_error")
    assert ("event: message_start", "event: message_stop") == (events[0], events[-1])


@pytest.mark.parametrize("status", ["archived", "inactive"])
def test_a_key_that_is_suspended_or_revoked_is_refused_in_either_header(site: Site, status: str) -> None:
    key = site.key()
    site.made(f"api_keys/{key['id']}", status=status)

    for headers in ({"x-api-key": key["key"]}, {"authorization": f"Bearer {key['key']}"}):
        refused = httpx2.get(f"{site.server.url}/v1/models", headers=headers)

        assert_contract_error(refused, 401, "authentication_error")


def test_a_suspended_key_that_is_brought_back_is_let_in(site: Site) -> None:
    key = site.key()
    site.made(f"api_keys/{key['id']}", status="inactive")
    site.made(f"api_keys/{key['id']}", status="active")

    assert 200 == site.ask("GET", "/v1/models", key=key["key"]).status_code


def test_a_key_that_another_process_revokes_is_refused_soon(site: Site) -> None:
    key = site.key()
    site.sestet("keys", "revoke", key["id"])

    assert refused_after_s(site, key["key"]) < REFUSED_WITHIN_S
    assert LOOK_EVERY_S <= 0.5


def test_a_key_that_another_process_makes_is_let_in_soon(site: Site) -> None:
    key = site.sestet("keys", "create", "made elsewhere").strip()
    deadline = time.monotonic() + REFUSED_WITHIN_S
    while site.ask("GET", "/v1/models", key=key).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_key_that_is_revoked_at_one_server_is_refused_by_the_other(site: Site) -> None:
    other = start_server(site.folder, script=SCRIPT, config=CONFIG)
    try:
        elsewhere = Site(other, site.folder)
        key = elsewhere.key()
        site.made(f"api_keys/{key['id']}", status="archived")

        assert refused_after_s(elsewhere, key["key"]) < REFUSED_WITHIN_S
    finally:
        other.stop()


def test_a_key_is_refused_when_its_time_is_over(site: Site) -> None:
    until = datetime.now(UTC) + timedelta(seconds=1)
    key = site.key(expires_at=until.isoformat())
    refused_after_s(site, key["key"])

    assert datetime.now(UTC) >= until
    assert "expired" == site.ask("GET", f"/v1/organizations/api_keys/{key['id']}").json()["status"]


def test_the_keys_of_an_archived_workspace_are_refused(site: Site) -> None:
    workspace = site.workspace()
    keys = [site.key(workspace_id=workspace)["key"], site.key(workspace_id=workspace, scopes=["admin"])["key"]]
    other = site.key()["key"]
    site.made(f"workspaces/{workspace}/archive")

    for key in keys:
        assert_contract_error(site.ask("GET", "/v1/organizations/me", key=key), 401, "authentication_error")
    assert 200 == site.ask("GET", "/v1/models", key=other).status_code


def test_a_replaced_key_works_until_its_grace_is_over(site: Site) -> None:
    old = site.key()
    new = site.sestet("keys", "rotate", old["id"], "--grace", "0m").strip()

    refused_after_s(site, old["key"])
    assert 200 == site.ask("GET", "/v1/models", key=new).status_code


def test_nothing_that_is_kept_tells_a_key(site: Site) -> None:
    made = [site.key() for _ in range(5)]
    for key in made:
        site.ask("POST", "/v1/messages", {**HELLO, "max_tokens": 2}, key=key["key"])
        site.ask("GET", "/v1/models", key=key["key"][:-1])
        site.ask("GET", f"/v1/organizations/api_keys/{key['id']}", key=key["key"])
    with site.database() as database, database.reading() as connection:
        values = [
            str(value)
            for table in metadata.tables.values()
            for row in connection.execute(select(table))
            for value in row
        ]
        digests = {row.id: row.digest for row in connection.execute(select(api_keys))}
    kept = "\n".join(values)
    files = b"".join(file.read_bytes() for file in (site.folder / "sestet").rglob("*") if file.is_file())
    pepper = signing_keys.read_or_make(site.folder / "sestet" / "key-peppers")[0]

    assert ADMIN not in kept
    for key in made:
        secret = key["key"].removeprefix("sk-sestet-")
        # Four characters may be shown; no five in a row are anywhere.
        assert [] == [secret[at : at + 5] for at in range(len(secret) - 4) if secret[at : at + 5] in kept]
        assert [] == [secret[at : at + 8] for at in range(len(secret) - 7) if secret[at : at + 8].encode() in files]
        assert [] == [secret[at : at + 8] for at in range(len(secret) - 7) if secret[at : at + 8] in site.server.log]
        assert hmac.new(pepper, key["key"].encode(), "sha256").hexdigest() == digests[key["id"]]
        assert hashlib.sha256(key["key"].encode()).hexdigest() not in kept
