"""How a test asks for a refusal: the `ApiError` of a call that must not succeed."""

from collections.abc import Callable

import pytest

from sestet.contract.errors import ApiError


def refusal(call: Callable[[], object], kind: str = "invalid_request_error") -> ApiError:
    """The error of a call that must be refused with this kind; anything else it raises fails the test."""
    with pytest.raises(ApiError) as caught:
        call()

    assert kind == caught.value.kind
    assert caught.value.message
    return caught.value
