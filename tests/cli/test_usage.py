"""`sestet usage` and `sestet cost` print what the ledger holds: tables, CSV, JSON, bars."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from sestet.gate.directory import Key, Workspace
from sestet.store.database import open_database
from sestet.store.directory import Directories
from tests.cli.conftest import Run, refusal
from tests.unit.store.rows import add_request

DAY = 86_400_000_000
JUNE = 20_240  # 2025-06-01, in days since 1970


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The configuration of a database with some requests of June 2025."""
    database = open_database(f"sqlite:///{tmp_path}/sestet.db")
    with contextlib.closing(database):
        database.upgrade()
        directories = Directories(database)
        directories.add_workspace(Workspace("wrkspc_search", "Search & find", 1))
        key = Key("apikey_b", "=nightly\x1b[31m", b"b" * 32, "", "wrkspc_search", frozenset(), None, "active", 1)
        directories.add_key(key)
        with database.writing() as connection:
            add_request(connection, "req_1", **settled(0, 1_000, 500, cost=10_500), workspace_id="wrkspc_search")
            add_request(connection, "req_2", **settled(0, 2_000, 10, cost=6_150), model="claude-opus-4-1-20250805")
            cached = {"cache_write_5m_tokens": 40, "cache_write_1h_tokens": 2, "cache_read_tokens": 1_234_567}
            late = settled(3 * DAY - 1, 7, 8, cost=12_345_678, own_cost=901_234, key_id="apikey_b", tier="batch")
            add_request(connection, "req_3", **late, **cached)
            add_request(connection, "req_4", **settled(3 * DAY, 5, 5, cost=5))
            add_request(connection, "req_5", state="running", started_at=JUNE * DAY, input_tokens=99)
    file = tmp_path / "sestet.toml"
    file.write_text(f'[store]\nurl = "sqlite:///{tmp_path}/sestet.db"\n')
    return str(file)


def settled(after: int, given: int, made: int, **fields: Any) -> dict[str, Any]:
    ended = {"state": "finished", "settled_at": JUNE * DAY + after}
    return {**ended, "input_tokens": given, "output_tokens": made, **fields}


THREE_DAYS = ("--from", "2025-06-01", "--to", "2025-06-03")


def printed(result: Result) -> str:
    """What was printed, without what fills lines up."""
    assert 0 == result.exit_code, result.output
    return "\n".join(line.rstrip() for line in result.output.splitlines()).rstrip() + "\n"


USAGE_BY_DAY = """\
Usage by day, 2025-06-01 to 2025-06-03 (UTC)

 day          requests   input   cache writes   cache reads   output
 ───────────────────────────────────────────────────────────────────
 2025-06-01          2   3,000              0             0      510
 2025-06-02          0       0              0             0        0
 2025-06-03          1       7             42     1,234,567        8

 total               3   3,007             42     1,234,567      518
"""

USAGE_BY_KEY_CSV = """\
key,name,requests,input_tokens,cache_write_5m_tokens,cache_write_1h_tokens,cache_read_tokens,output_tokens
apikey_b,=nightly␛[31m,1,7,40,2,1234567,8
apikey_1,,2,3000,0,0,0,510
"""

USAGE_BARS = """\
Usage by model, 2025-06-01 to 2025-06-03 (UTC)

 model
 ────────────────────────────────────────────────────────────────────────────────────────
 claude-sonnet-4-20250514   ████████████████████████████████████████   1,236,124   tokens
 claude-opus-4-1-20250805                                                  2,010   tokens
"""

COST_BY_WORKSPACE = """\
Cost in US dollars by workspace, 2025-06-01 to 2025-06-03 (UTC)

 workspace        name            requests      tokens   at the cards' prices   your own cost
 ────────────────────────────────────────────────────────────────────────────────────────────
 wrkspc_default   Default                2   1,236,634                  12.35        0.901234
 wrkspc_search    Search & find          1       1,500               0.010500            0.00

 total                                   3   1,238,134                  12.36        0.901234
"""

COST_BY_DAY_CSV = """\
day,requests,tokens,dollars,own_dollars
2025-06-01,2,3510,0.016650,0.000000
2025-06-02,0,0,0.000000,0.000000
2025-06-03,1,1234624,12.345678,0.901234
"""

COST_BARS = """\
Cost in US dollars by tier, 2025-06-01 to 2025-06-03 (UTC)

 tier
 ─────────────────────────────────────────────────────────────────────────────────────
 batch      ████████████████████████████████████████      12.35   at the cards' prices
            ██▉                                        0.901234   your own cost
 standard                                              0.016650   at the cards' prices
                                                           0.00   your own cost
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("usage",), USAGE_BY_DAY),
        (("usage", "--table"), USAGE_BY_DAY),
        (("usage", "--by", "key", "--csv"), USAGE_BY_KEY_CSV),
        (("usage", "--by", "model", "--plot"), USAGE_BARS),
        (("cost", "--by", "workspace"), COST_BY_WORKSPACE),
        (("cost", "report", "--by", "workspace"), COST_BY_WORKSPACE),
        (("cost", "--csv"), COST_BY_DAY_CSV),
        (("cost", "report", "--by", "tier", "--plot"), COST_BARS),
    ],
)
def test_what_is_printed(run: Run, config: str, arguments: tuple[str, ...], expected: str) -> None:
    assert expected == printed(run(*arguments, *THREE_DAYS, "--config", config))


def test_json_has_whole_numbers_and_the_total(run: Run, config: str) -> None:
    told = json.loads(run("cost", "--by", "key", "--json", *THREE_DAYS, "--config", config).output)

    assert {
        "from": "2025-06-01",
        "to": "2025-06-03",
        "by": "key",
        "lines": [
            {
                "key": "apikey_b",
                "name": "=nightly␛[31m",
                "requests": 1,
                "tokens": 1_234_624,
                "micro_dollars": 12_345_678,
                "own_micro_dollars": 901_234,
            },
            {
                "key": "apikey_1",
                "name": "",
                "requests": 2,
                "tokens": 3_510,
                "micro_dollars": 16_650,
                "own_micro_dollars": 0,
            },
        ],
        "total": {"requests": 3, "tokens": 1_238_134, "micro_dollars": 12_362_328, "own_micro_dollars": 901_234},
    } == told


@pytest.mark.parametrize("by", ["day", "key", "workspace", "model", "tier"])
@pytest.mark.parametrize("command", ["usage", "cost"])
def test_by_whatever_it_is_the_total_is_the_same(run: Run, config: str, command: str, by: str) -> None:
    told = json.loads(run(command, "--by", by, "--json", *THREE_DAYS, "--config", config).output)
    numbers = [{name: line[name] for name in told["total"]} for line in told["lines"]]

    assert 3 == told["total"]["requests"]
    assert told["total"] == {name: sum(line[name] for line in numbers) for name in told["total"]}


def days(shown: Result) -> Iterator[date]:
    told = json.loads(shown.output)
    yield date.fromisoformat(told["from"])
    yield date.fromisoformat(told["to"])


def test_the_last_seven_days_and_this_month_are_meant_unless_said(run: Run, config: str) -> None:
    before = datetime.now(UTC).date()
    week, month = (list(days(run(command, "--json", "--config", config))) for command in ("usage", "cost"))
    after = datetime.now(UTC).date()

    assert week in [[day - timedelta(6), day] for day in (before, after)]
    assert month in [[day.replace(day=1), day] for day in (before, after)]


def test_the_last_day_decides_where_a_default_begins(run: Run, config: str) -> None:
    to = ("--to", "2025-06-03", "--json", "--config", config)

    assert [date(2025, 5, 28), date(2025, 6, 3)] == list(days(run("usage", *to)))
    assert [date(2025, 6, 1), date(2025, 6, 3)] == list(days(run("cost", *to)))


def test_an_empty_span_has_nothing_in_it(run: Run, config: str) -> None:
    shown = run("cost", "--by", "key", "--csv", "--from", "2024-02-29", "--to", "2024-02-29", "--config", config)

    assert "key,name,requests,tokens,dollars,own_dollars\n" == shown.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("usage", "--csv", "--json"), "--csv and --json are two answers; ask for one of them"),
        (("cost", "report", "--table", "--plot"), "--table and --plot are two answers; ask for one of them"),
        (
            ("usage", "--from", "2025-06-02", "--to", "2025-06-01"),
            "--from 2025-06-02 is after --to 2025-06-01",
        ),
        (
            ("cost", "--from", "0001-01-01", "--to", "2025-06-01"),
            "--from 0001-01-01: that is more than 3,660 days",
        ),
        (("cost", "--by", "key", "estimate"), "options come after `estimate`, not before it"),
    ],
)
def test_what_cannot_be_meant_is_refused(run: Run, config: str, arguments: tuple[str, ...], expected: str) -> None:
    command, *rest = arguments
    where = () if "estimate" in rest else ("--config", config)

    assert expected == refusal(run(command, *rest, *where))


def test_a_day_that_is_none_is_refused(run: Run, config: str) -> None:
    result = run("usage", "--from", "2025-02-30", "--config", config)

    assert (2, True) == (result.exit_code, "--from" in result.output)


def test_a_database_that_is_not_there_or_not_ours_is_said(run: Run, tmp_path: Path) -> None:
    environment = {"SESTET_STORE_URL": f"sqlite:///{tmp_path}/none.db"}
    assert "there is no such database" in refusal(run("usage", env=environment))

    (tmp_path / "none.db").touch()
    assert refusal(run("cost", env=environment)).endswith("its schema is another program's; try `sestet db upgrade`")


@pytest.mark.parametrize("command", ["usage", "cost"])
def test_help_teaches_with_examples(run: Run, command: str) -> None:
    shown = run(command, "--help").output

    assert f"sestet {command} --by" in " ".join(shown.split())
    assert f"sestet {command} --plot" in shown or "--by model --plot" in shown
