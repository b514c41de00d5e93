"""How long a report may take, how many may wait, and what is said of a database that does not answer."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sestet.contract.errors import ApiError
from sestet.gate.directory import DEFAULT_WORKSPACE
from sestet.gate.keys import ANYONE, Caller
from sestet.ledger.reports import DAY_US, WIDTHS_US, Query, Report, ReportRequest
from sestet.server.gate import CONTEXT, RequestContext
from sestet.server.reports import ReportEndpoints
from sestet.services.reports import Reports, by_days
from sestet.store.database import Database, open_database

ADMIN = Caller("admin", None, frozenset(("usage",)))
START = 20_000 * DAY_US


def asked(**fields: Any) -> ReportRequest:
    ordinary: dict[str, Any] = {"ending_at": None, "width": "1d", "limit": 7, "page": None, "by": frozenset()}
    return ReportRequest(**{**ordinary, "starting_at": START, "only": {}, **fields})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with contextlib.closing(open_database(f"sqlite:///{tmp_path}/sestet.db")) as opened:
        opened.upgrade()
        yield opened


def test_a_report_that_takes_too_long_is_given_up(database: Database) -> None:
    with pytest.raises(ApiError, match="limit") as refused:
        Reports(database, lambda: START + 5 * DAY_US, report_s=-1.0).page(asked(), ADMIN)

    assert "timeout_error" == refused.value.kind


def test_a_database_that_does_not_answer_is_an_overload(tmp_path: Path) -> None:
    reports = Reports(open_database(f"sqlite:///{tmp_path}/none.db"), lambda: START + 1)
    with pytest.raises(ApiError) as refused:
        reports.page(asked(), ADMIN)

    assert ("overloaded_error", 1.0) == (refused.value.kind, refused.value.retry_after_s)


def test_whoever_needs_no_key_sees_the_default_workspace(database: Database) -> None:
    request = asked(only={"workspace_id": frozenset((DEFAULT_WORKSPACE, "wrkspc_other"))}, limit=1)

    assert 1 == len(Reports(database, lambda: START + 1).page(request, ANYONE).buckets)


def test_an_end_that_is_not_after_the_beginning_is_refused(database: Database) -> None:
    with pytest.raises(ApiError) as refused:
        Reports(database, lambda: START).page(asked(ending_at=START), ADMIN)

    assert ("invalid_request_error", "ending_at") == (refused.value.kind, refused.value.param)


def test_a_query_is_cut_at_midnight() -> None:
    hour = WIDTHS_US["1h"]
    days = by_days(Query(START + 22 * hour, START + DAY_US + DAY_US + hour, hour))

    assert [
        (START + 22 * hour, START + DAY_US),
        (START + DAY_US, START + 2 * DAY_US),
        (START + 2 * DAY_US, START + 2 * DAY_US + hour),
    ] == [(day.start, day.end) for day in days]


class Slow(Reports):
    """Makes no report before it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def page(self, request: ReportRequest, caller: Caller) -> Report:
        assert self.go.wait(10)
        return Report([], None)


def test_more_than_so_many_reports_are_not_waited_for_and_the_loop_goes_on() -> None:
    async def main() -> list[int | str]:
        slow, told = Slow(), []
        endpoints = ReportEndpoints(slow, waiting_max=2)
        scope = {
            "query_string": b"starting_at=2025-06-01T00:00:00Z",
            "state": {CONTEXT: RequestContext("req_1", {}, ADMIN)},
        }

        async def ask() -> None:
            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    told.append(message["status"])

            async def receive() -> Any:
                raise AssertionError("there is no body to read")

            try:
                await endpoints.usage(scope, receive, send)
            except ApiError as error:
                told.append(error.kind)

        waiting = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(0)  # until each has asked
        await ask()
        slow.go.set()
        await asyncio.gather(*waiting)
        await ask()
        return told

    assert ["overloaded_error", 200, 200, 200, 200] == asyncio.run(main())
