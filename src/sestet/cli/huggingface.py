"""Names of `sestet pull`: what they mean, and which file of a Hugging Face repository is meant."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import quote, unquote

import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from sestet.cli.failure import Failure
from sestet.cli.printable import one_line
from sestet.cli.web import Web, http_url, refused, shown, unreachable

# From the one most people want downwards: four bits lose little, eight almost nothing, the rest is for want of these.
PREFERRED: Final = ("Q4_K_M", "Q8_0", "Q5_K_M", "Q6_K", "Q4_K_S", "Q5_K_S", "IQ4_XS", "Q4_0", "Q5_0", "Q3_K_M", "F16")

_FILES_SHOWN: Final = 12
_LIST_BYTES_MAX: Final = 32 * 2**20
_PAGES_MAX: Final = 50
_REPOSITORY: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95})(?:([:/])(.+))?")
_SPLIT: Final = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._+@=-]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


@dataclass(frozen=True, slots=True)
class Repository:
    """`owner/repo`, and of its files the one at `path`, or the one that `part` (a quantisation) singles out."""

    name: str
    path: str | None = None
    part: str | None = None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch. What is `None` is not known before it is asked for."""

    url: httpx2.URL
    size: int | None = None
    sha256: str | None = None

    @property
    def source(self) -> str:
        """Where it comes from, without secrets."""
        return shown(self.url)

    @property
    def file_name(self) -> str:
        """A name that is one component of a path, whatever the address says, and ends in .gguf."""
        last = PurePosixPath(unquote(self.url.raw_path.partition(b"?")[0].decode("ascii"))).name
        stem = re.sub(r"\.gguf$", "", last, flags=re.IGNORECASE)
        safe = _UNSAFE.sub("-", stem).strip(".-")[:150]
        if not safe:
            raise Failure(f"{self.source} names no file; give the address of a GGUF file")
        return f"{safe}.gguf"


class _Lfs(BaseModel):
    oid: str
    size: int


class _Entry(BaseModel):
    """A line of the list of files, as far as we read it."""

    type: str
    path: str
    size: int = 0
    lfs: _Lfs | None = None


_ENTRIES: Final = TypeAdapter(list[_Entry])


def parse(name: str, endpoint: str) -> Repository | RemoteFile:
    """What NAME of the command line means; `Failure` for what it cannot mean."""
    if name.lower().startswith(("http://", "https://")):
        return _parse_address(http_url(name), http_url(endpoint))
    match = _REPOSITORY.fullmatch(name)
    if match is None or ".." in match[1] or _CONTROL.search(name):
        raise Failure(
            f"`{one_line(name)}` is not a name to fetch: give owner/repo, owner/repo:Q8_0, owner/repo/file.gguf or a "
            "URL. A GGUF file that is here already is served by: sestet serve --model FILE"
        )
    repository, kind, rest = match[1], match[2], match[3]
    if kind == "/":
        return Repository(repository, path=_checked_path(rest))
    return Repository(repository, part=rest)


def find(web: Web, endpoint: str, repository: Repository) -> tuple[RemoteFile, str | None]:
    """The file meant, and a remark where the choice was ours."""
    root = httpx2.URL(f"{endpoint.rstrip('/')}/")
    entries = [entry for entry in _list(web, root, repository.name) if entry.path.lower().endswith(".gguf")]
    if not entries:
        raise Failure(f"{repository.name} has no GGUF file; look for a repository whose name ends in -GGUF")
    entry, remark = choose(entries, repository)
    url = root.join(f"{repository.name}/resolve/main/{quote(entry.path, safe='/')}")
    if entry.lfs is None:
        return RemoteFile(url, entry.size or None), remark
    return RemoteFile(url, entry.lfs.size, entry.lfs.oid.lower()), remark


def choose(entries: Sequence[_Entry], repository: Repository) -> tuple[_Entry, str | None]:
    """By path, by part of the name, or the preferred quantisation."""
    if repository.path is not None:
        exact = [entry for entry in entries if entry.path == repository.path]
        return _whole(_only(exact, entries, repository, f"has no file {one_line(repository.path)}")), None
    models = [entry for entry in entries if not _beside(entry)]
    if repository.part is not None:
        matching = _tokens_match(models, repository.part) or _parts_match(models, repository.part)
        return _whole(_only(matching, entries, repository, f"has no file for `{one_line(repository.part)}`")), None
    whole = [entry for entry in models if not _SPLIT.search(entry.path)]
    if len(whole) == 1:
        return whole[0], None
    for quantisation in PREFERRED:
        matching = _tokens_match(whole, quantisation)
        if matching:
            chosen = _only(matching, whole, repository, "")
            return chosen, f"{repository.name} has {len(whole)} GGUF files; taking {chosen.path}"
    return _whole(_only(whole or models, entries, repository, "has only files that come with a model")), None


def _parse_address(url: httpx2.URL, endpoint: httpx2.URL) -> Repository | RemoteFile:
    """An address of a repository's or a file's page at the endpoint means the repository or the file."""
    if httpx2.Origin(url) == httpx2.Origin(endpoint) and not url.query:
        below = unquote(url.path).removeprefix(endpoint.path.rstrip("/")).strip("/")
        match = re.fullmatch(r"([^/]+/[^/]+)(?:/(?:tree|blob|resolve)/main(?:/(.+\.gguf))?)?", below)
        if match is not None and _REPOSITORY.fullmatch(match[1]):
            return Repository(match[1], path=_checked_path(match[2]) if match[2] else None)
    return RemoteFile(url)


def _checked_path(path: str) -> str:
    if any(part in ("", ".", "..") for part in path.split("/")) or _CONTROL.search(path):
        raise Failure(f"`{one_line(path)}` is not a file of a repository")
    return path


def _list(web: Web, root: httpx2.URL, name: str) -> list[_Entry]:
    url = root.join(f"api/models/{name}/tree/main?recursive=true")
    entries: list[_Entry] = []
    for _ in range(_PAGES_MAX):
        page, following = _page(web, url, name)
        entries += page
        if following is None or httpx2.Origin(following) != httpx2.Origin(root):
            break
        url = following
    return entries


def _page(web: Web, url: httpx2.URL, name: str) -> tuple[list[_Entry], httpx2.URL | None]:
    try:
        with web.get(url, {"accept": "application/json"}) as answer:
            response = answer.response
            if response.status_code != 200:
                raise refused(response, name)
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _LIST_BYTES_MAX:
                    raise Failure(f"{url.host} lists too many files for {name}; give owner/repo/file.gguf as a URL")
            following = response.links.get("next", {}).get("url")
            return _ENTRIES.validate_json(bytes(body)), url.join(following) if following else None
    except httpx2.TransportError as error:
        raise unreachable(error, url) from error
    except (ValidationError, httpx2.DecodingError, httpx2.InvalidURL):
        raise Failure(
            f"what {url.host} answers is no list of files; is it a Hugging Face endpoint (--endpoint, HF_ENDPOINT)?"
        ) from None


def _beside(entry: _Entry) -> bool:
    """Files that go with a model: the eyes of a vision model, the statistics a quantisation was made from."""
    name = PurePosixPath(entry.path).name.lower()
    return name.startswith("mmproj") or "imatrix" in name


def _tokens_match(entries: Sequence[_Entry], quantisation: str) -> list[_Entry]:
    """Those with the quantisation as a word of the file's name."""
    wanted = quantisation.lower()
    return [entry for entry in entries if wanted in re.split(r"[-./]", PurePosixPath(entry.path).name.lower())]


def _parts_match(entries: Sequence[_Entry], part: str) -> list[_Entry]:
    return [entry for entry in entries if part.lower() in entry.path.lower()]


def _only(matching: Sequence[_Entry], entries: Sequence[_Entry], repository: Repository, none: str) -> _Entry:
    """The single match. The parts of one split file count as one, and are refused as such."""
    if matching and all(_SPLIT.search(entry.path) for entry in matching):
        return matching[0]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise Failure(f"{repository.name} has several such files; name one: {_names(matching, repository)}")
    raise Failure(f"{repository.name} {none}; it has {_names(entries, repository)}")


def _whole(entry: _Entry) -> _Entry:
    if _SPLIT.search(entry.path):
        raise Failure(
            f"{one_line(entry.path)} is one part of a model split over several files, which cannot be served yet; "
            "choose a smaller quantisation, or a repository that has it in one file"
        )
    return entry


def _names(entries: Sequence[_Entry], repository: Repository) -> str:
    names = [one_line(f"{repository.name}/{entry.path}") for entry in entries[:_FILES_SHOWN]]
    more = len(entries) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
