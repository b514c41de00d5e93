"""The Vertex dialect: the Messages API at Google's paths, its version in the body (WIRE.md section 5.3).

Whether a reply is a stream says `stream` in the body, whichever of the two methods is called.
"""

from collections.abc import Mapping
from typing import Final

from sestet.contract.requests import CountTokensRequest, MessagesRequest
from sestet.contract.versions import ApiVersion
from sestet.dialects import anthropic
from sestet.dialects.cloud_body import read_body
from sestet.dialects.dialect import Asked, AskedCount, Asking, Dialect
from sestet.dialects.json_body import shaped

VERSIONS: Final[Mapping[str, ApiVersion]] = {
    "vertex-2023-10-16": "2023-06-01",
    "2023-06-01": "2023-06-01",
    "2026-10-21": "2026-10-21",
}


def decode_reply(asking: Asking, body: bytes) -> Asked:
    """`POST .../models/MODEL:rawPredict` and `:streamRawPredict`; MODEL may hold colons, so the last one counts."""
    fields, version = read_body(body, VERSIONS, ("model",))
    model = asking.path.partition("/publishers/anthropic/models/")[2].rpartition(":")[0]
    request = shaped({**fields, "model": model}, MessagesRequest)
    return Asked(request, anthropic.Told(asking.request_id), version, anthropic.decode_betas(asking.headers))


def decode_count(asking: Asking, body: bytes) -> AskedCount:
    """`POST .../models/count-tokens:rawPredict`, the model in the body."""
    fields, version = read_body(body, VERSIONS, ())
    request = shaped(fields, CountTokensRequest)
    return AskedCount(request, anthropic.encode_token_count, version, anthropic.decode_betas(asking.headers))


# With the version of Google's API in front and without, as clients are given either for their base URL.
_MODELS: Final = tuple(
    f"{version}/projects/{{project}}/locations/{{location}}/publishers/anthropic/models" for version in ("/v1", "")
)

DIALECT: Final = Dialect(
    name="vertex",
    prefixes=("/v1/projects/", "/projects/"),
    replies={
        f"{models}/{{model_id:path}}:{method}": decode_reply
        for models in _MODELS
        for method in ("rawPredict", "streamRawPredict")
    },
    counts={f"{models}/count-tokens:rawPredict": decode_count for models in _MODELS},
    encode_error=anthropic.encode_error,
    encode_limits=anthropic.encode_limits,
)
