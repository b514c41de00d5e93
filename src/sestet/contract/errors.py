"""The one error of the contract: a closed set of kinds, each with its HTTP status (WIRE.md section 4)."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Self

from sestet.contract.limits import LimitState

ErrorKind = Literal[
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "conflict_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "timeout_error",
    "overloaded_error",
]

STATUS: Final[Mapping[ErrorKind, int]] = {
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
}


FINAL_CODES: Final = frozenset({"enforced_spend_limit_reached"})


class ApiError(Exception):
    """A failure as the client is told of it; the text is safe to show.

    `param` is the path of the offending field (`messages.0.content`), `status` overrides the kind's own for the
    HTTP conditions that share a kind (405, 408, 431), `code` is the contract's `details.error_code`.
    `limits` is how the limits by the minute stood.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        status: int | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.text = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.status = STATUS[kind] if status is None else status
        self.code = code
        self.limits: Sequence[LimitState] = ()

    @property
    def message(self) -> str:
        """The text, with the path in front."""
        return f"{self.param}: {self.text}" if self.param else self.text

    def limited(self, limits: Sequence[LimitState]) -> Self:
        self.limits = limits
        return self

    @property
    def final(self) -> bool:
        """Whether trying again cannot help, although clients try such a status again."""
        return self.code in FINAL_CODES


def invalid(message: str, param: str | None = None) -> ApiError:
    """The commonest refusal: a request that breaks a rule, with the path of what broke it."""
    return ApiError("invalid_request_error", message, param=param)
