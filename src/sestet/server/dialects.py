"""Which dialect is spoken where. A new one is a module and a line here."""

from typing import Final

from sestet.dialects import anthropic, bedrock, vertex
from sestet.dialects.dialect import Dialect, Headers

DIALECTS: Final[tuple[Dialect, ...]] = (anthropic.DIALECT, bedrock.DIALECT, vertex.DIALECT)

_MOUNT: Final = "/anthropic"


def unmounted(path: str) -> str:
    """`/anthropic/v1/...` is `/v1/...`, for clients that are given a host where others live too."""
    return path.removeprefix(_MOUNT) if path.startswith(f"{_MOUNT}/v1/") else path


def signing_service(path: str) -> str | None:
    """The AWS service that a request to this path, as sent, may be signed for."""
    if path.startswith(bedrock.DIALECT.prefixes):
        return "bedrock"
    return "bedrock-mantle" if path.startswith(f"{_MOUNT}/v1/") else None


def spoken_at(path: str, headers: Headers) -> Dialect:
    """In whose shape an answer at this path is, whatever it says."""
    for dialect in DIALECTS:
        if path.startswith(dialect.prefixes):
            return dialect
    return anthropic.DIALECT
