"""The usage and cost reports over HTTP: a ledger of some hundred requests, on both databases, against plain Python."""

import base64
import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sestet.gate.directory import Key, Scope, Workspace
from sestet.gate.keys import digest_of, new_key
from sestet.gate.signing_keys import read_or_make
from sestet.ledger.reports import WIDTHS_US, Dimension, Query
from sestet.store.database import open_database
from sestet.store.directory import Directories
from tests import reports_model as model
from tests.contract.errors import assert_contract_error
from tests.databases import KINDS, fresh_url
from tests.reports_model import DAY, DAYS, START
from tests.running import start_server

USAGE = "/v1/organizations/usage_report/messages"
COST = "/v1/organizations/cost_report"
FIELDS = ("api_key_id", "workspace_id", "model", "service_tier", "context_window")
TOKEN_TYPES = {
    "input": "uncached_input_tokens",
    "cache_write_5m": "cache_creation.ephemeral_5m_input_tokens",
    "cache_write_1h": "cache_creation.ephemeral_1h_input_tokens",
    "cache_read": "cache_read_input_tokens",
    "output": "output_tokens",
}

Parameters = list[tuple[str, str]]


@dataclass(frozen=True)
class Site:
    """A server whose ledger is known, and the keys it knows."""

    url: str
    rows: list[model.Row]
    admin: str
    of_workspace: str
    for_inference: str

    def get(self, path: str, parameters: Parameters, key: str | None = None) -> httpx2.Response:
        headers = {"x-api-key": self.admin if key is None else key}
        return httpx2.get(f"{self.url}{path}", params=parameters, headers=headers, timeout=60)

    def report(self, path: str, parameters: Parameters, key: str | None = None) -> Any:
        response = self.get(path, parameters, key)

        assert 200 == response.status_code, response.text
        return response.json()


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("reports")
    url, rows = fresh_url(request.param, folder), model.rows(400, running=False)
    of_workspace, for_inference, admin = new_key(), new_key(), new_key()
    [pepper, *_] = read_or_make(folder / "peppers")
    with contextlib.closing(open_database(url)) as database:
        database.upgrade()
        with database.writing() as connection:
            model.add(connection, rows)
        directories = Directories(database)
        directories.add_workspace(Workspace("wrkspc_1", "One", START))
        directories.add_key(_key("apikey_usage", of_workspace, pepper, "wrkspc_1", "usage"))
        directories.add_key(_key("apikey_inference", for_inference, pepper, "wrkspc_1", "inference"))
    config = (
        f'[access]\nadmin_keys = ["{admin}"]\nkey_peppers = "{folder / "peppers"}"\n'
        f'[store]\nurl = "{url}"\noutbox = "{folder / "outbox"}"\n'
    )
    server = start_server(folder, script="", config=config)
    yield Site(server.url, rows, admin, of_workspace, for_inference)
    server.stop()


def _key(identifier: str, key: str, pepper: bytes, workspace_id: str, scope: Scope) -> Key:
    digest = digest_of(pepper, key.encode())
    return Key(identifier, identifier, digest, "", workspace_id, frozenset((scope,)), None, "active", START)


def at(time_us: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us):%Y-%m-%dT%H:%M:%SZ}"


def usage_expected(rows: list[model.Row], query: Query) -> list[dict[str, Any]]:
    """Every bucket, with the results that it must have."""
    groups = model.grouped(rows, query)
    return [
        {
            "starting_at": at(start),
            "ending_at": at(start + query.width),
            "results": [
                _usage_result(dict(zip(sorted(query.by), values, strict=True)), some)
                for (bucket, *values), some in groups.items()
                if bucket == start
            ],
        }
        for start in range(query.start, query.end, query.width)
    ]


def _usage_result(values: dict[Dimension, str], some: list[model.Row]) -> dict[str, Any]:
    numbers = model.added(some)
    tokens = numbers["tokens"]
    return {
        "uncached_input_tokens": tokens["input"],
        "cache_creation": {
            "ephemeral_1h_input_tokens": tokens["cache_write_1h"],
            "ephemeral_5m_input_tokens": tokens["cache_write_5m"],
        },
        "cache_read_input_tokens": tokens["cache_read"],
        "output_tokens": tokens["output"],
        "server_tool_use": {"web_search_requests": 0},
        **{**dict.fromkeys(FIELDS), **values},
        "requests": numbers["requests"],
    }


def pages(site: Site, path: str, parameters: Parameters) -> list[Any]:
    """The buckets of all pages."""
    page = site.report(path, parameters)
    found = page["data"]
    while page["has_more"]:
        page = site.report(path, [*parameters, ("page", page["next_page"])])

        assert page["data"][0]["starting_at"] == found[-1]["ending_at"]
        found += page["data"]

    assert page["next_page"] is None
    return list(found)


def questions(count: int) -> Iterator[tuple[Query, Parameters]]:
    """The same question, to the model and to the server."""
    chance = random.Random(3)
    filters: dict[Dimension, tuple[str, list[str]]] = {
        "api_key_id": ("api_key_ids[]", ["apikey_0", "apikey_1", "apikey_unknown"]),
        "workspace_id": ("workspace_ids[]", ["wrkspc_0", "wrkspc_2"]),
        "model": ("models[]", list(model.MODELS)),
        "service_tier": ("service_tiers[]", ["standard", "priority", "batch"]),
        "context_window": ("context_window[]", ["0-200k", "200k-1M"]),
    }
    for _ in range(count):
        name = chance.choice(("1d", "1h", "1m"))
        width = WIDTHS_US[name]  # type: ignore[index]  # it is one of them
        start = START + chance.randrange(DAY) // width * width
        end = start + chance.randrange(1, {"1d": 5, "1h": 40, "1m": 200}[name]) * width
        by = chance.sample(list(filters), chance.randrange(4))
        only = {one: chance.sample(filters[one][1], 2) for one in chance.sample(list(filters), chance.randrange(3))}
        parameters = [("starting_at", at(start)), ("ending_at", at(end)), ("bucket_width", name)]
        parameters += [("group_by[]", one) for one in by]
        parameters += [(filters[one][0], value) for one, values in only.items() for value in values]
        yield Query(start, end, width, frozenset(by), {one: frozenset(only[one]) for one in only}), parameters


def test_usage_is_what_plain_python_adds_up_for_every_grouping_and_filter(site: Site) -> None:
    asked = list(questions(60))
    for query, parameters in asked:
        assert usage_expected(site.rows, query) == pages(site, USAGE, parameters), parameters

    assert 20 < sum(bool(model.matching(site.rows, query)) for query, _ in asked)


RANGE: Parameters = [("starting_at", at(START)), ("ending_at", at(START + DAYS * DAY))]
TOTAL = Query(START, START + DAYS * DAY, DAY)


def cents(micro_dollars: Decimal | int) -> Decimal:
    return Decimal(micro_dollars) / 10_000


def test_cost_without_groups_is_what_the_ledger_adds_up_to(site: Site) -> None:
    buckets = site.report(COST, RANGE)["data"]
    days = [model.added(some) for some in model.grouped(site.rows, TOTAL).values()]

    assert [
        [
            {
                "currency": "USD",
                "amount": cents(day["cost"]),
                "workspace_id": None,
                "description": None,
                "cost_type": None,
                "context_window": None,
                "model": None,
                "service_tier": None,
                "token_type": None,
                "own_amount": cents(day["own_cost"]),
                "requests": day["requests"],
            }
        ]
        for day in days
    ] == [
        [
            {**result, "amount": Decimal(result["amount"]), "own_amount": Decimal(result["own_amount"])}
            for result in bucket["results"]
        ]
        for bucket in buckets
    ]


def test_lines_of_a_cost_add_up_to_it_exactly_by_kind_of_token(site: Site) -> None:
    by: tuple[Dimension, ...] = ("workspace_id", "model", "service_tier", "context_window")
    query = Query(TOTAL.start, TOTAL.end, DAY, frozenset(by))
    buckets = site.report(COST, [*RANGE, ("group_by[]", "workspace_id"), ("group_by[]", "description")])["data"]
    told: dict[tuple[Any, ...], dict[str | None, tuple[Decimal, Decimal]]] = {}
    for bucket in buckets:
        for line in bucket["results"]:
            key = (bucket["starting_at"], *(line[name] for name in sorted(by)))
            told.setdefault(key, {})[line["token_type"]] = (Decimal(line["amount"]), Decimal(line["own_amount"]))

    assert {
        (at(bucket), *values): _lines(some) for (bucket, *values), some in model.grouped(site.rows, query).items()
    } == told


def _lines(some: list[model.Row]) -> dict[str | None, tuple[Decimal, Decimal]]:
    """Amounts by type of token, and under None what rounding changed, each in cents, the operator's second."""
    numbers = model.added(some)
    lines: dict[str | None, tuple[Decimal, Decimal]] = {
        TOKEN_TYPES[kind]: tuple(cents(Decimal(numbers[name][kind]) / 10**6) for name in ("parts", "own_parts"))  # type: ignore[misc]  # two of them
        for kind in model.KINDS
        if numbers["tokens"][kind]
    }
    rounded = cents(numbers["cost"]) - sum(amount for amount, _ in lines.values())
    own_rounded = cents(numbers["own_cost"]) - sum(own for _, own in lines.values())
    return lines | ({None: (rounded, own_rounded)} if rounded or own_rounded else {})


def test_a_line_says_what_it_is_for(site: Site) -> None:
    [bucket] = site.report(COST, [RANGE[0], ("limit", "1"), ("group_by[]", "description")])["data"]
    descriptions = {(line["description"], line["token_type"], line["cost_type"]) for line in bucket["results"]}

    assert ("weights: input tokens", "uncached_input_tokens", "tokens") in descriptions
    assert ("weights: rounding of each request to a whole micro-dollar", None, "tokens") in descriptions


@pytest.mark.parametrize(("width", "otherwise", "most"), [("1d", 7, 31), ("1h", 24, 168), ("1m", 60, 1440)])
def test_a_page_has_as_many_buckets_as_the_hosted_one(site: Site, width: str, otherwise: int, most: int) -> None:
    asked = [RANGE[0], ("ending_at", at(START + 100 * DAY)), ("bucket_width", width)]
    page = site.report(USAGE, asked)

    assert (otherwise, True) == (len(page["data"]), page["has_more"])
    assert most == len(site.report(USAGE, [*asked, ("limit", str(most))])["data"])
    assert_contract_error(site.get(USAGE, [*asked, ("limit", str(most + 1))]), 400, "invalid_request_error")


def test_times_snap_to_the_buckets_they_lie_in_and_zones_are_understood(site: Site) -> None:
    exact = site.report(USAGE, RANGE)
    inside = [("starting_at", "2025-06-01T13:30:00.5+02:00"), ("ending_at", "2025-06-04T00:00:01Z")]

    assert exact == site.report(USAGE, inside)


def test_without_an_end_a_report_goes_on_to_this_day(site: Site) -> None:
    today = int(time.time() * 1e6) // DAY * DAY
    page = site.report(USAGE, [("starting_at", at(today - DAY)), ("limit", "31")])

    assert [at(today - DAY), at(today)] == [bucket["starting_at"] for bucket in page["data"]][:2]
    assert not page["has_more"]


def test_what_has_not_begun_yet_has_no_buckets(site: Site) -> None:
    assert {"data": [], "has_more": False, "next_page": None} == site.report(
        USAGE, [("starting_at", "8999-12-31T23:59:59Z")]
    )


def test_a_key_of_a_workspace_sees_its_own_and_of_others_nothing_more_than_of_none(site: Site) -> None:
    grouped = [*RANGE, ("group_by[]", "workspace_id")]
    query = Query(TOTAL.start, TOTAL.end, DAY, frozenset(("workspace_id",)), {"workspace_id": frozenset(("wrkspc_1",))})
    other, unknown = ([*RANGE, ("workspace_ids[]", name)] for name in ("wrkspc_0", "wrkspc_of_nobody"))

    assert usage_expected(site.rows, query) == site.report(USAGE, grouped, site.of_workspace)["data"]
    assert {"wrkspc_1"} == {
        line["workspace_id"]
        for bucket in site.report(COST, grouped, site.of_workspace)["data"]
        for line in bucket["results"]
    }
    assert site.report(USAGE, unknown, site.of_workspace) == site.report(USAGE, other, site.of_workspace)
    assert [[], [], [], []] == [bucket["results"] for bucket in site.report(USAGE, other, site.of_workspace)["data"]]


@pytest.mark.parametrize("path", [USAGE, COST])
def test_a_key_without_the_scope_is_refused(site: Site, path: str) -> None:
    assert_contract_error(site.get(path, RANGE, site.for_inference), 403, "permission_error")
    assert_contract_error(site.get(path, RANGE, "sk-sestet-unknown"), 401, "authentication_error")


def page_of(text: bytes) -> str:
    return "page_" + base64.urlsafe_b64encode(text).decode()


REFUSED = [
    (USAGE, [], "starting_at"),
    (USAGE, [("starting_at", "2025-06-01")], "starting_at"),
    (USAGE, [("starting_at", "2025-06-01T00:00:00")], "starting_at"),
    (USAGE, [("starting_at", "2025-02-30T00:00:00Z")], "starting_at"),
    (USAGE, [("starting_at", "0001-01-01T00:00:00Z")], "starting_at"),
    (USAGE, [("starting_at", "2025-06-01T00:00:00+99:99")], "starting_at"),
    (USAGE, [("starting_at", "٢٠٢٥-06-01T00:00:00Z")], "starting_at"),
    (USAGE, [*RANGE, RANGE[0]], "starting_at"),
    (USAGE, [RANGE[0], ("ending_at", RANGE[0][1])], "ending_at"),
    (USAGE, [*RANGE, ("bucket_width", "1w")], "bucket_width"),
    (USAGE, [*RANGE, ("group_by[]", "colour")], "group_by"),
    (USAGE, [*RANGE, ("group_by[]", "description")], "group_by"),
    (USAGE, [*RANGE, ("service_tiers[]", "gold")], "service_tiers"),
    (USAGE, [*RANGE, ("context_window[]", "1M")], "context_window"),
    (USAGE, [*RANGE, ("limit", "0")], "limit"),
    (USAGE, [*RANGE, ("limit", "٣")], "limit"),
    (USAGE, [*RANGE, ("limit", "1e1")], "limit"),
    (USAGE, [*RANGE, ("page", "page_!")], "page"),
    (USAGE, [*RANGE, ("page", "page_é")], "page"),
    (USAGE, [*RANGE, ("page", page_of(b"tomorrow"))], "page"),
    (USAGE, [*RANGE, ("page", page_of(b"\xff"))], "page"),
    (USAGE, [*RANGE, ("page", page_of(at(START).encode()))], "page"),
    (USAGE, [*RANGE, ("page", page_of(at(START + DAY + 1_000_000).encode()))], "page"),
    (USAGE, [*RANGE, ("page", page_of(at(START + 4 * DAY).encode()))], "page"),
    (USAGE, [*RANGE, ("speeds[]", "fast")], "speeds[]"),
    (USAGE, [*RANGE, ("limit[]", "1")], "limit[]"),
    (USAGE, [*RANGE, ("models[]", "")], "models"),
    (USAGE, [*RANGE, ("models[]", "a\0b")], "models"),
    (USAGE, [*RANGE, ("api_key_ids[]", "\0")], "api_key_ids"),
    (USAGE, [*RANGE, ("workspace_ids[]", "a\nb")], "workspace_ids"),
    (USAGE, [*RANGE, ("workspace_ids[]", "\u202eb")], "workspace_ids"),
    (USAGE, [*RANGE, ("models[]", "m" * 257)], "models"),
    (USAGE, [*RANGE, ("a\0b", "1")], "a\\x00b"),
    (COST, [*RANGE, ("bucket_width", "1h")], "bucket_width"),
    (COST, [*RANGE, ("group_by[]", "model")], "group_by"),
    (COST, [*RANGE, ("models[]", "weights")], "models[]"),
    (COST, [*RANGE, ("limit", "32")], "limit"),
]


@pytest.mark.parametrize(("path", "parameters", "named"), REFUSED)
def test_what_cannot_be_asked_is_refused_by_name(site: Site, path: str, parameters: Parameters, named: str) -> None:
    assert_contract_error(site.get(path, parameters), 400, "invalid_request_error", named)


@pytest.mark.parametrize("query", ["%ff", "models[]=%ff", "models[]=%ed%a0%80", "a=1&" * 300])
def test_bytes_that_are_no_text_are_refused(site: Site, query: str) -> None:
    url = f"{site.url}{USAGE}?starting_at=2025-06-01T00:00:00Z&{query}"

    assert_contract_error(httpx2.get(url, headers={"x-api-key": site.admin}), 400, "invalid_request_error")


@pytest.mark.parametrize("value", ["'", "%", "_", "\\", "é", "漢字", "😀", "a b", "--", "null"])
def test_odd_characters_are_characters(site: Site, value: str) -> None:
    page = site.report(USAGE, [*RANGE, ("models[]", value), ("workspace_ids[]", value), ("api_key_ids[]", value)])

    assert [[], [], [], []] == [bucket["results"] for bucket in page["data"]]


def test_old_clients_may_say_beta_and_leave_the_brackets_out(site: Site) -> None:
    grouped = [*RANGE, ("group_by[]", "model"), ("group_by[]", "model")]

    assert site.report(USAGE, grouped) == site.report(USAGE, [*RANGE, ("group_by", "model"), ("beta", "true")])


def test_only_get_is_taken(site: Site) -> None:
    response = httpx2.post(f"{site.url}{USAGE}", headers={"x-api-key": site.admin}, json={})

    assert (405, "GET, HEAD") == (response.status_code, response.headers["allow"])


def test_a_request_just_answered_is_in_the_report(tmp_path: Path) -> None:
    key, admin = new_key(), new_key()
    config = (
        f'[access]\nkeys = ["{key}"]\nadmin_keys = ["{admin}"]\n[store]\nurl = "{fresh_url("sqlite", tmp_path)}"\n'
        '[own_prices]\n"scripted-20260101" = { input = 1.0, output = 2.0 }\n'
    )
    server = start_server(tmp_path, script="", config=config)
    try:
        body = {
            "model": "claude-sonnet-4-20250514",
            "max_tokens": 50,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        replied = httpx2.post(f"{server.url}/v1/messages", headers={"x-api-key": key}, json=body, timeout=60).json()
        usage = replied["usage"]
        site = Site(server.url, [], admin, key, key)
        started = [("starting_at", at(int((time.time() - 3600) * 1e6)))]
        results = [
            result
            for bucket in site.report(USAGE, [*started, ("group_by[]", "model")])["data"]
            for result in bucket["results"]
        ]
        costs = [result for bucket in site.report(COST, started)["data"] for result in bucket["results"]]
    finally:
        server.stop()

    assert [("claude-sonnet-4-20250514", usage["input_tokens"], usage["output_tokens"], 1)] == [
        (one["model"], one["uncached_input_tokens"], one["output_tokens"], one["requests"]) for one in results
    ]
    given, made = usage["input_tokens"], usage["output_tokens"]
    assert [(cents(3 * given + 15 * made), cents(given + 2 * made))] == [
        (Decimal(one["amount"]), Decimal(one["own_amount"])) for one in costs
    ]
