"""Usage and cost as reports: who may see what, which buckets are on a page, and how long one may take."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from sestet.contract.errors import ApiError, invalid
from sestet.gate.keys import Caller
from sestet.ledger.reports import DAY_US, WIDTHS_US, Bucket, Dimension, Group, Query, Report, ReportRequest
from sestet.store.database import Database, StoreError
from sestet.store.reports import sums

REPORT_S: Final = 30.0


class Reports:
    """Every method blocks, for seconds where the ledger is large."""

    def __init__(self, database: Database, now_us: Callable[[], int], report_s: float = REPORT_S) -> None:
        self._database = database
        self._now_us = now_us
        self._report_s = report_s

    def page(self, request: ReportRequest, caller: Caller) -> Report:
        """A key of a workspace sees that workspace alone; others look as if nothing were used there, or as if there
        were none. Raises `ApiError`: 400 for times and pages that cannot be, 504 if it takes too long, 529 if the
        database does not answer."""
        query = self._query(request, caller)
        last = min(query.end, query.start + request.limit * query.width)
        groups: dict[int, list[Group]] = {start: [] for start in range(query.start, last, query.width)}
        try:
            for group in self._in_time(replace(query, end=last)):
                groups[group.starting_at].append(group)
        except StoreError:
            raise ApiError("overloaded_error", "the ledger cannot be read at the moment", retry_after_s=1.0) from None
        buckets = [Bucket(start, start + query.width, found) for start, found in groups.items()]
        return Report(buckets, last if last < query.end else None)

    def _query(self, request: ReportRequest, caller: Caller) -> Query:
        width = WIDTHS_US[request.width]
        start = request.starting_at // width * width
        ending_at = self._now_us() if request.ending_at is None else request.ending_at
        if request.ending_at is not None and request.ending_at <= request.starting_at:
            raise invalid("this must be after starting_at", "ending_at")
        end = max(start, -(-ending_at // width) * width)
        if request.page is not None:
            if request.page % width or not start < request.page < end:
                raise invalid("this is no `next_page` of this report", "page")
            start = request.page
        only: dict[Dimension, frozenset[str]] = dict(request.only)
        if caller.workspace is not None:
            only["workspace_id"] = only.get("workspace_id", frozenset((caller.workspace,))) & {caller.workspace}
        return Query(start, end, width, request.by, only, request.itemised)

    def _in_time(self, query: Query) -> Iterator[Group]:
        deadline = time.monotonic() + self._report_s
        for day in by_days(query):
            if time.monotonic() > deadline:
                raise ApiError("timeout_error", "this takes too long; ask for fewer buckets at once, with `limit`")
            yield from sums(self._database, day)


def by_days(query: Query) -> Iterator[Query]:
    """The same a day at a time: quicker than all at once, and it can be stopped in between."""
    start = query.start
    while start < query.end:
        end = min(query.end, (start // DAY_US + 1) * DAY_US)
        yield replace(query, start=start, end=end)
        start = end
