"""GET for `sestet pull`: redirects followed here, so that the token goes to the endpoint's own origin alone."""

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx2

from sestet import __version__
from sestet.cli.failure import Failure
from sestet.cli.printable import one_line

_REDIRECTS_MAX: Final = 8
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
RETRIED_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """The last response of a chain of redirects. `sha256` and `size` are what the first origin says of the file."""

    response: httpx2.Response
    sha256: str | None
    size: int | None


class Web:
    """Use as a context manager. `token` is told to nobody but the origin of `endpoint`."""

    def __init__(self, endpoint: str, token: str | None) -> None:
        self._endpoint = httpx2.Origin(http_url(endpoint))
        self._token = token
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(30.0, connect=15.0), headers={"user-agent": f"sestet/{__version__}"}
        )

    def __enter__(self) -> "Web":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @contextmanager
    def get(self, url: httpx2.URL, headers: Mapping[str, str]) -> Iterator[Answer]:
        """The response, its body unread, whatever its status. Raises `httpx2.TransportError`."""
        first = httpx2.Origin(url)
        sha256, size = None, None
        for _ in range(_REDIRECTS_MAX + 1):
            request = self._client.build_request("GET", url, headers={**headers, **self._credentials(url)})
            response = self._client.send(request, stream=True)
            try:
                if httpx2.Origin(url) == first:
                    sha256 = _sha256(response.headers.get("x-linked-etag")) or sha256
                    size = natural(response.headers.get("x-linked-size")) or size
                if not response.has_redirect_location:
                    yield Answer(response, sha256, size)
                    return
                url = _next(url, response.headers["location"])
            finally:
                response.close()
        raise Failure(f"{url.host} redirects without end; try again later, or check the address")

    def _credentials(self, url: httpx2.URL) -> dict[str, str]:
        if self._token and httpx2.Origin(url) == self._endpoint:
            return {"authorization": f"Bearer {self._token}"}
        return {}


def http_url(text: str) -> httpx2.URL:
    """The address, or `Failure`."""
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise Failure(f"`{one_line(text)}` is not an address: {one_line(str(error))}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise Failure(f"`{one_line(text)}` is not an address: it must begin with https:// (or http://) and a host")
    return url


def shown(url: httpx2.URL) -> str:
    """The address without what may be secret in it."""
    return one_line(str(url.copy_with(username=None, password=None, query=None, fragment=None)))


def unreachable(error: httpx2.TransportError, url: httpx2.URL) -> Failure:
    """What to do when no answer came."""
    reason = f"{url.host} cannot be reached ({_reason(error)})"
    if isinstance(_root(error), ssl.SSLCertVerificationError):
        return Failure(f"{reason}; if a proxy of yours re-signs traffic, name its certificates in SSL_CERT_FILE")
    return Failure(
        f"{reason}; without a network here, download the GGUF file on another machine, copy it to this one, and run: "
        "sestet serve --model FILE"
    )


def refused(response: httpx2.Response, what: str) -> Failure:
    """What to do about a status that is no success."""
    status, host = response.status_code, response.url.host
    said = one_line(response.headers.get("x-error-message", ""))
    reason = f"{host} answers {status} for {what}" + (f": {said.rstrip('.')}" if said else "")
    if status == 401:
        return Failure(
            f"{reason}; it does not exist under this name, or is not public: check the name, "
            "or set HF_TOKEN to a token that may read it"
        )
    if status == 403:
        return Failure(
            f"{reason}; its licence may have to be accepted on its page first: do that, "
            "and set HF_TOKEN to a token of the same account"
        )
    if status in (404, 410):
        return Failure(f"{reason}; there is nothing under this name: check its spelling")
    if status in RETRIED_STATUSES:
        return Failure(f"{reason}; run the same command again later")
    return Failure(f"{reason}; check the address")


def _reason(error: BaseException) -> str:
    root = _root(error)
    if isinstance(root, socket.gaierror):
        return "its name is not found"
    if isinstance(root, TimeoutError) or isinstance(error, httpx2.TimeoutException):
        return "no answer in time"
    return one_line(str(error)) or type(error).__name__


def _root(error: BaseException) -> BaseException:
    """What the library's own exception stands for."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _next(url: httpx2.URL, location: str) -> httpx2.URL:
    try:
        target = url.join(location)
    except httpx2.InvalidURL:
        raise Failure(f"{url.host} redirects to what is no address; try again later") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise Failure(f"{url.host} redirects to what is no web address; check the name")
    if url.scheme == "https" and target.scheme == "http":
        raise Failure(f"{url.host} redirects to {target.host} without encryption, which is not followed")
    return target


def _sha256(etag: str | None) -> str | None:
    value = (etag or "").removeprefix("W/").strip('"').lower()
    return value if _SHA256.fullmatch(value) else None


def natural(text: str | None) -> int | None:
    """The number a header gives, where it gives one."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
