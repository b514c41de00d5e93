"""The limit on how many requests of a workspace there may be at a time."""

from contextlib import ExitStack

import pytest

from sestet.contract.errors import ApiError
from sestet.services.concurrency import Concurrency


def refused(concurrency: Concurrency, workspace: str, limit: int) -> ApiError:
    with pytest.raises(ApiError) as refusal, concurrency.of(workspace, limit):
        pass
    return refusal.value


def test_one_more_than_the_limit_is_refused_and_told_the_limit() -> None:
    concurrency = Concurrency()
    with concurrency.of("a", 2), concurrency.of("a", 2):
        error = refused(concurrency, "a", 2)

    assert ("rate_limit_error", 429, None) == (error.kind, error.status, error.retry_after_s)
    assert "this workspace may have 2 requests running or waiting at a time; retry when one has ended" == error.message


def test_the_place_of_one_that_ended_is_free_again_however_it_ended() -> None:
    concurrency = Concurrency()
    with pytest.raises(ZeroDivisionError), concurrency.of("a", 1):
        raise ZeroDivisionError
    with concurrency.of("a", 1):
        error = refused(concurrency, "a", 1)
    with concurrency.of("a", 1):
        pass

    assert 429 == error.status


def test_one_that_is_refused_takes_no_place() -> None:
    concurrency = Concurrency()
    with ExitStack() as stack:
        stack.enter_context(concurrency.of("a", 1))
        refused(concurrency, "a", 1)
    with concurrency.of("a", 1):
        pass


def test_workspaces_do_not_count_for_each_other() -> None:
    concurrency = Concurrency()
    with concurrency.of("a", 1), concurrency.of("b", 1):
        errors = [refused(concurrency, workspace, 1).status for workspace in "ab"]

    assert [429, 429] == errors


def test_a_limit_that_is_changed_counts_those_that_began_without_it() -> None:
    concurrency = Concurrency()
    with concurrency.of("a", None), concurrency.of("a", None):
        lower = refused(concurrency, "a", 2)
        with concurrency.of("a", 3):
            pass

    assert 429 == lower.status


def test_a_limit_of_none_at_all_refuses_the_first() -> None:
    assert 429 == refused(Concurrency(), "a", 0).status


def test_workspaces_that_are_gone_are_forgotten() -> None:
    concurrency = Concurrency()
    for number in range(10):
        with concurrency.of(f"workspace{number}", 1):
            refused(concurrency, f"workspace{number}", 1)
        refused(concurrency, f"refused{number}", 0)

    assert 0 == len(concurrency._counts)
