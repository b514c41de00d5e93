"""`sestet keys` and `sestet workspaces`: a key is printed alone and once, and every refusal says what to do next."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sestet.cli.failure import Failure
from sestet.store.database import open_database
from tests.cli.conftest import Run

Sestet = Callable[..., "Printed"]
KEY = re.compile(r"sk-sestet-[A-Za-z0-9_-]{43}")


class Printed:
    """What a command that succeeded wrote."""

    def __init__(self, out: str, err: str) -> None:
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def database_file(tmp_path: Path) -> Path:
    return tmp_path / "sestet" / "sestet.db"


@pytest.fixture
def call(run: Run, tmp_path: Path) -> Run:
    """Runs a command on a store of the test's own, and says how it ended."""
    config = tmp_path / "sestet.toml"
    config.write_text('[engine]\nkind = "scripted"\n')

    def invoke(*arguments: str, stdin: str = "") -> Any:
        given = [*arguments, "--config", str(config)]
        return run(*given, env={"XDG_DATA_HOME": str(tmp_path)}, stdin=stdin)

    return invoke


@pytest.fixture
def sestet(call: Run) -> Sestet:
    def succeed(*arguments: str, stdin: str = "") -> Printed:
        done = call(*arguments, stdin=stdin)

        assert 0 == done.exit_code, (done.output, done.exception)
        return Printed(done.stdout, done.stderr)

    return succeed


@pytest.fixture
def failing(call: Run) -> Callable[..., str]:
    def fail(*arguments: str) -> str:
        done = call(*arguments)

        assert isinstance(done.exception, Failure), (done.output, done.exception)
        assert "" == done.stdout
        return str(done.exception)

    return fail


def listed(sestet: Sestet, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sestet("keys", "list", "--json", *options).json
    return found


def test_the_first_key_administrates_and_is_shown_once(sestet: Sestet, database_file: Path) -> None:
    made = sestet("keys", "bootstrap")
    key = made.out.removesuffix("\n")

    assert KEY.fullmatch(key)
    assert key not in made.err
    assert "not shown again" in made.err
    assert "sestet keys create NAME" in made.err
    [kept] = listed(sestet)
    assert (["admin", "operations", "usage"], {"type": "organization"}) == (kept["scopes"], kept["scope"])
    assert key.encode() not in database_file.read_bytes()


def test_a_second_admin_key_is_made_on_purpose_only(sestet: Sestet, failing: Callable[..., str]) -> None:
    sestet("keys", "bootstrap")
    [first] = listed(sestet)
    refused = failing("keys", "bootstrap")
    sestet("keys", "bootstrap", "other", "--another")

    assert f"sestet keys revoke {first['id']}" in refused
    assert "--another" in refused
    assert ["admin", "other"] == [key["name"] for key in listed(sestet)]


def test_a_revoked_admin_key_does_not_stand_in_the_way(sestet: Sestet) -> None:
    sestet("keys", "bootstrap")
    sestet("keys", "revoke", listed(sestet)[0]["id"])
    sestet("keys", "bootstrap", "again")

    assert ["again"] == [key["name"] for key in listed(sestet)]
    assert [("admin", "archived"), ("again", "active")] == [
        (key["name"], key["status"]) for key in listed(sestet, "--all")
    ]


def test_a_key_has_what_it_was_given(sestet: Sestet) -> None:
    workspace = sestet("workspaces", "create", "research").out.strip()
    options = ["--scope", "inference", "--scope", "usage", "--model", "claude-3-7-sonnet-latest", "--expires", "90d"]
    made = sestet("keys", "create", "jobs", "--workspace", "research", *options, "--json").json

    assert KEY.fullmatch(made.pop("key"))
    assert [made] == listed(sestet)
    assert {"type": "workspace", "workspace_id": workspace} == made["scope"]
    assert (["inference", "usage"], ["claude-3-7-sonnet-20250219"]) == (made["scopes"], made["models"])
    until = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < until < timedelta(days=90)


def test_a_key_without_options_is_for_inference_in_the_default_workspace(sestet: Sestet) -> None:
    made = sestet("keys", "create", "laptop", "--json").json

    assert ({"type": "workspace", "workspace_id": "wrkspc_default"}, ["inference"], None, None) == (
        made["scope"],
        made["scopes"],
        made["models"],
        made["expires_at"],
    )


def test_a_key_can_end_on_a_date(sestet: Sestet) -> None:
    made = sestet("keys", "create", "laptop", "--expires", "2099-01-31", "--json").json

    assert "2099-01-31T00:00:00Z" == made["expires_at"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "x", "--workspace", "nowhere"], "sestet workspaces list"),
        (["create", "x", "--scope", "all"], "'inference', 'usage', 'admin' or 'operations'"),
        (["create", "x", "--model", "claude-3-7-sonet"], "claude-3-7-sonnet"),
        (["create", "x", "--expires", "soon"], "90d"),
        (["create", "x", "--expires", "2020-01-01"], "expires_at"),
        (["create", "x", "--organization"], "workspace"),
        (["create", "x", "--organization", "--workspace", "y"], "one of them"),
        (["create", ""], "name"),
        (["revoke", "apikey_0"], "sestet keys list"),
        (["rotate", "apikey_0"], "sestet keys list"),
        (["rotate", "apikey_0", "--grace", "later"], "12h"),
    ],
)
def test_what_cannot_be_done_is_said_with_what_can(
    failing: Callable[..., str], arguments: list[str], said: str
) -> None:
    assert said in failing("keys", *arguments)


def test_a_rotated_key_is_shown_and_the_old_one_ends_soon(sestet: Sestet) -> None:
    first = sestet("keys", "create", "laptop", "--scope", "usage", "--json").json
    made = sestet("keys", "rotate", first["id"], "--grace", "2h")
    old, new = listed(sestet)

    assert KEY.fullmatch(made.out.removesuffix("\n"))
    assert f"{first['id']} works until" in made.err
    assert (first["id"], None, ["usage"]) == (old["id"], new["expires_at"], new["scopes"])
    until = datetime.fromisoformat(old["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < until < timedelta(minutes=120)


def test_keys_are_listed_for_people(sestet: Sestet) -> None:
    clear = sestet("keys", "create", "lap\u202etop").out.strip()
    sestet("keys", "bootstrap")
    heading, *rows = sestet("keys", "list").out.splitlines()

    assert ["id", "name", "ends", "in", "workspace", "for", "models", "status"] == heading.split()
    assert [["laptop", "Default"], ["admin", "the"]] == [
        [row.split()[1].replace("\\u202e", ""), row.split()[3]] for row in rows
    ]
    assert [clear[-4:], True] == [rows[0].split()[2], "\u202e" not in rows[0]]


def test_an_empty_list_says_how_to_begin(sestet: Sestet) -> None:
    printed = sestet("keys", "list")

    assert ("", True) == (printed.out, "sestet keys bootstrap" in printed.err)


def test_an_older_database_is_left_to_be_upgraded(
    sestet: Sestet, failing: Callable[..., str], database_file: Path
) -> None:
    sestet("keys", "list")
    database = open_database(f"sqlite:///{database_file}")
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    database.close()

    assert "sestet db upgrade" in failing("keys", "list")


@pytest.mark.parametrize(
    "command", ["keys bootstrap", "keys create", "keys rotate", "workspaces create", "workspaces limits"]
)
def test_help_shows_how_it_is_used(run: Run, command: str) -> None:
    assert f" sestet {command}" in run(*command.split(), "--help").stdout


def test_workspaces_are_made_listed_and_archived_with_their_keys(sestet: Sestet) -> None:
    made = sestet("workspaces", "create", "research").out.strip()
    sestet("keys", "create", "jobs", "--workspace", made)
    before = sestet("workspaces", "list", "--json").json
    rows = sestet("workspaces", "list").out.splitlines()
    sestet("workspaces", "archive", "research", stdin="y\n")
    after = sestet("workspaces", "list", "--all", "--json").json

    assert [made] == [one["id"] for one in before if one["name"] == "research"]
    assert [["research", "1"]] == [row.split()[1:3] for row in rows if row.startswith(made)]
    assert ["wrkspc_default"] == [one["id"] for one in after if one["archived_at"] is None]
    assert ["archived"] == [key["status"] for key in listed(sestet, "--all")]


def test_nothing_is_archived_without_a_yes(call: Run, sestet: Sestet) -> None:
    sestet("workspaces", "create", "research")
    done = call("workspaces", "archive", "research", stdin="n\n")

    assert 1 == done.exit_code
    assert [None, None] == [one["archived_at"] for one in sestet("workspaces", "list", "--json").json]


def test_limits_are_set_shown_and_taken_away(sestet: Sestet) -> None:
    sestet("workspaces", "create", "research")
    sestet("workspaces", "limits", "--organization", "--requests", "50", "--class", "claude-opus-4-0")
    options = ["--requests", "60", "--input-tokens", "100_000", "--class", "claude-opus-4"]
    money = ["--daily-dollars", "20", "--monthly-dollars", "12.50"]
    capacity = ["--concurrency", "4", "--priority-input-tokens", "1000", "--priority-output-tokens", "100"]
    shown = sestet("workspaces", "limits", "research", *options, *money, *capacity)
    table = shown.out.splitlines()
    cleared = sestet("workspaces", "limits", "research", "--requests", "none", "--daily-dollars", "none", "--json").json

    assert ["claude-opus-4", "60", "100,000", "-"] == table[1].split()
    assert [
        "Spend, monthly: $12.50",
        "Spend, daily: $20.00",
        "Requests at once: 4",
        "Served first, input tokens a minute: 1,000",
        "Served first, output tokens a minute: 100",
    ] == table[2:]
    assert "the organisation's binds" in shown.err
    assert [("50", "organization"), ("100000", "workspace")] == [
        (str(limit["value"]), limit["source"]["type"]) for limit in cleared["rate_limits"][0]["limits"]
    ]
    assert [("monthly", "1250")] == [(limit["period"], limit["amount"]) for limit in cleared["spend_limits"]]
    assert 4 == cleared["workspace"]["concurrency"]


def test_limits_without_a_class_are_of_every_class(sestet: Sestet) -> None:
    shown = sestet("workspaces", "limits", "--organization", "--output-tokens", "7", "--json").json
    classes = [entry["group"]["display_name"] for entry in shown["rate_limits"]]

    assert "Scripted engine" == classes[0]
    assert 8 == len(set(classes))
    assert [[{"type": "output_tokens_per_minute", "value": 7}]] * 8 == [one["limits"] for one in shown["rate_limits"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--organization"),
        (["Default", "--organization"], "--organization"),
        (["nowhere"], "sestet workspaces list"),
        (["Default", "--requests", "0"], "from 1 on"),
        (["Default", "--requests", "many"], "none"),
        (["Default", "--requests", "1", "--class", "claude-opus-5"], "claude-opus-4"),
        (["Default", "--class", "claude-opus-4"], "--requests"),
        (["Default", "--daily-dollars", "1.234"], "whole cents"),
        (["Default", "--daily-dollars", "NaN"], "12.50"),
        (["Default", "--monthly-dollars", "-1"], "12.50"),
        (["--organization", "--concurrency", "4"], "workspace"),
    ],
)
def test_limits_that_make_no_sense_are_refused(failing: Callable[..., str], arguments: list[str], said: str) -> None:
    assert said in failing("workspaces", "limits", *arguments)


def test_a_name_is_taken_once(sestet: Sestet, failing: Callable[..., str]) -> None:
    sestet("workspaces", "create", "research")

    assert "name" in failing("workspaces", "create", "research")
