"""How many requests of each workspace there are at this moment, running or waiting, whatever card they ask for."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from sestet.contract.errors import ApiError


class Concurrency:
    """`with concurrency.of(workspace, limit):` counts one request of the workspace for as long as it lasts."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @contextmanager
    def of(self, workspace: str, limit: int | None) -> Generator[None, None, None]:
        """`rate_limit_error` where the workspace already has as many as `limit` (`None`: any number).

        It carries no `retry_after_s`: nobody knows when one of the others ends.
        """
        if limit is not None and self._counts[workspace] >= limit:
            raise ApiError(
                "rate_limit_error",
                f"this workspace may have {limit} requests running or waiting at a time; retry when one has ended",
            )
        self._counts[workspace] += 1
        try:
            yield
        finally:
            self._counts[workspace] -= 1
            if not self._counts[workspace]:
                del self._counts[workspace]
