"""Reading a request's body: within its size, in the encoding we take, and no further than needed."""

from collections.abc import Mapping
from typing import Final

from starlette.types import Receive

from sestet.contract.errors import ApiError, invalid
from sestet.server.exchange import ClientGone

BODY_BYTES_MAX: Final = 32 * 1024 * 1024  # WIRE.md section 2.10
_DISCARD_BYTES_MAX: Final = 8 * BODY_BYTES_MAX
LARGE_BODY_BYTES: Final = 256 * 1024  # looked at in a thread, so that other requests are answered meanwhile


async def read_body(receive: Receive, headers: Mapping[bytes, list[bytes]]) -> bytes:
    """The whole body. One that is too large is read to its end and thrown away, so that its sender gets to read
    the answer; how slowly it may come is the protocol's business (protocol.py)."""
    for encoding in headers.get(b"content-encoding", []):
        if encoding.strip().lower() not in (b"", b"identity"):
            error = invalid("compressed request bodies are not supported", "content-encoding")
            error.code = "request_body_encoding_unsupported"
            raise error
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= BODY_BYTES_MAX:
            chunks.append(chunk)
        else:
            chunks.clear()
        if not message.get("more_body", False) or size > _DISCARD_BYTES_MAX:
            break
    if size > BODY_BYTES_MAX:
        raise ApiError("request_too_large", f"the request body is larger than {BODY_BYTES_MAX} bytes")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
