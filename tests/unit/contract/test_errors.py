"""The table of kinds is total, and an error says what a client needs."""

from typing import get_args

from sestet.contract.errors import STATUS, ApiError, ErrorKind, invalid


def test_every_kind_has_its_status_and_no_other_kind_does() -> None:
    assert list(get_args(ErrorKind)) == list(STATUS)


def test_the_statuses_are_those_of_the_contract() -> None:
    assert {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "conflict_error": 409,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    } == dict(STATUS)


def test_an_error_takes_the_status_of_its_kind() -> None:
    assert list(STATUS.values()) == [ApiError(kind, "text").status for kind in STATUS]


def test_a_condition_that_shares_a_kind_keeps_its_own_status() -> None:
    error = ApiError("invalid_request_error", "too slow", status=408)

    assert (408, "invalid_request_error") == (error.status, error.kind)


def test_the_message_begins_with_the_path() -> None:
    assert "messages.0.role: no such role" == invalid("no such role", "messages.0.role").message


def test_without_a_path_the_message_stands_alone() -> None:
    error = invalid("not JSON")

    assert ("not JSON", None) == (error.message, error.param)
