"""The table of the order of events is closed, and usage adds up."""

from typing import get_args

from sestet.contract.events import FOLLOWS, Event, Failed, MessageStart, MessageStop, Usage


def test_the_table_has_a_row_for_every_event_and_for_the_beginning() -> None:
    assert {None, *get_args(Event)} == set(FOLLOWS)


def test_only_the_two_endings_are_followed_by_nothing() -> None:
    assert [MessageStop, Failed] == [event for event, after in FOLLOWS.items() if not after]


def test_a_failure_may_come_at_every_moment_before_the_end() -> None:
    assert all(Failed in after for event, after in FOLLOWS.items() if after)


def test_a_reply_begins_once() -> None:
    assert [None] == [event for event, after in FOLLOWS.items() if MessageStart in after]


def test_cache_writes_are_the_sum_of_their_two_lifetimes() -> None:
    assert 7 == Usage(1, cache_creation_5m=3, cache_creation_1h=4).cache_creation_input_tokens
