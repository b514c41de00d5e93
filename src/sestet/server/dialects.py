"""Which dialect is spoken where. A new one is a module and a line here."""

from typing import Final

from sestet.dialects import anthropic, bedrock, openai, responses, vertex
from sestet.dialects.dialect import Dialect, Headers

DIALECTS: Final[tuple[Dialect, ...]] = (
    anthropic.DIALECT,
    openai.DIALECT,
    responses.DIALECT,
    bedrock.DIALECT,
    vertex.DIALECT,
)

_MOUNT: Final = "/anthropic"
_MODELS: Final = "/v1/models"
_ANTHROPIC_HEADERS: Final = frozenset((b"anthropic-version", b"x-api-key"))


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
    # The clients of both ask for models at the same path; those of one say so.
    is_models = path == _MODELS or path.startswith(f"{_MODELS}/")
    return openai.FOR_BOTH if is_models and not _ANTHROPIC_HEADERS & headers.keys() else anthropic.DIALECT
