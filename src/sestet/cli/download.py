"""One GGUF file from the web onto the disk: resumed when it was cut, checked before it gets its name.

Beside `NAME.gguf.part` a small `.json` says what is in it, and later beside `NAME.gguf` where it came from.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import httpx2

from sestet.cli.failure import Failure
from sestet.cli.huggingface import RemoteFile
from sestet.cli.printable import one_line
from sestet.cli.web import RETRIED_STATUSES, Answer, Web, natural, refused, unreachable

PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)  # between attempts that brought nothing

_MAGIC: Final = b"GGUF"
_BLOCK_BYTES: Final = 2**20
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Progress(Protocol):
    """Who watches."""

    def at(self, done: int, total: int | None, doing: str) -> None:
        """`doing` is "fetching" or "checking"."""

    def say(self, remark: str) -> None:
        """Something worth a line of its own."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The complete file. `already` is true where nothing had to be fetched."""

    path: Path
    size: int
    sha256: str
    checked: bool
    already: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file's content: of the part what was promised, of a complete file what is true."""

    source: str
    size: int | None = None
    sha256: str | None = None
    etag: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Facts | None":
        try:
            data = json.loads(path.read_text("utf-8"))
            return cls(str(data["source"]), data["size"], data["sha256"], data["etag"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, path: Path) -> None:
        data = {"source": self.source, "size": self.size, "sha256": self.sha256, "etag": self.etag}
        path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


class _Again(Exception):
    """This attempt brought no complete file; the next one may. The text says why."""


def fetch(
    web: Web, remote: RemoteFile, folder: Path, progress: Progress, pauses_s: Sequence[float] = PAUSES_S
) -> Fetched:
    """The file in the folder under its own name, complete and checked, or `Failure`."""
    path = folder / remote.file_name
    with _disk_troubles(folder):
        folder.mkdir(parents=True, exist_ok=True)
        there = _already_there(path, remote, progress)
        if there is not None:
            return there
        with _locked(path.with_name(f"{path.name}.part")) as descriptor:
            part = _Part(path, descriptor, remote, progress)
            part.take_up()
            _fetch_part(web, part, pauses_s)
            return part.finish()


def _fetch_part(web: Web, part: "_Part", pauses_s: Sequence[float]) -> None:
    """Attempts until it is complete. One that brings bytes earns all the others anew."""
    failures, most = 0, part.size
    while not part.complete:
        try:
            _attempt(web, part)
            return
        except httpx2.TransportError as error:
            why = unreachable(error, part.remote.url)
            hopeless = part.answers == 0
        except _Again as error:
            why = Failure(f"{error}; the same command goes on where it stopped")
            hopeless = False
        failures = 0 if part.size > most else failures
        most = max(most, part.size)
        if hopeless or failures == len(pauses_s):
            raise why
        part.progress.say("The connection was cut; going on where it stopped.")
        time.sleep(pauses_s[failures])
        failures += 1


def _attempt(web: Web, part: "_Part") -> None:
    """One request for what is missing; returns when everything is there."""
    url = part.remote.url
    with web.get(url, part.headers()) as answer:
        response = answer.response
        part.answers += 1
        if response.status_code == 416:
            part.start_over()
            raise _Again(f"{url.host} has another file now")
        if response.status_code in RETRIED_STATUSES:
            raise _Again(str(refused(response, part.remote.source)))
        if response.status_code not in (200, 206):
            raise refused(response, part.remote.source)
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Failure(
                f"{response.url.host} sends the file compressed, which was not asked for; use another address"
            )
        part.expect(answer)
        for chunk in response.iter_raw():
            part.append(chunk)
    if part.expected.size is not None and part.size < part.expected.size:
        raise _Again(f"{url.host} ended the file after {part.size} of {part.expected.size} bytes")


class _Part:
    """`NAME.gguf.part`: what has come so far, its running checksum, and what it should become."""

    def __init__(self, path: Path, descriptor: int, remote: RemoteFile, progress: Progress) -> None:
        self.remote = remote
        self.progress = progress
        self.answers = 0
        self.expected = Facts(remote.source, remote.size, remote.sha256)
        self.size = 0
        self._path = path
        self._part_path = path.with_name(f"{path.name}.part")
        self._facts_path = path.with_name(f"{path.name}.part.json")
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self._head = b""

    @property
    def complete(self) -> bool:
        """Nothing needs to be asked for: the checksum will tell whether it is right."""
        return self.expected.sha256 is not None and self.expected.size == self.size

    def take_up(self) -> None:
        """Goes on with what an earlier run left, where it belongs to the same file."""
        left = os.fstat(self._descriptor).st_size
        facts = Facts.read(self._facts_path)
        if left == 0 or facts is None or not self._continues(facts, left):
            self.start_over()
            return
        self.expected = replace(
            self.expected,
            size=self.expected.size or facts.size,
            sha256=self.expected.sha256 or facts.sha256,
            etag=facts.etag,
        )
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        while block := os.read(self._descriptor, _BLOCK_BYTES):
            self._count(block)
            self.progress.at(self.size, left, "checking")
        self.progress.say(f"Going on after {self.size:,} bytes that are here already.")

    def headers(self) -> dict[str, str]:
        """For the next attempt. A compressed file could not be continued."""
        headers = {"accept-encoding": "identity"}
        if self.size:
            headers["range"] = f"bytes={self.size}-"
            if self.expected.etag is not None:
                headers["if-range"] = self.expected.etag
        return headers

    def expect(self, answer: Answer) -> None:
        """What this answer promises. Starts over where it is not the rest of what is here."""
        response = answer.response
        etag = _strong(response.headers.get("etag"))
        start, total = _extent(response)
        if start != self.size or (self.size and self._changed(etag, answer.sha256)):
            if self.size:
                self.progress.say("The file changed since, or its server cannot continue it; starting over.")
            self.start_over()
            if start:
                raise _Again(f"{response.url.host} sent another part than was asked for")
        sha256 = self.expected.sha256 or answer.sha256
        if answer.sha256 is not None and sha256 != answer.sha256:
            self.discard()
            raise Failure(
                f"{self.remote.url.host} says the file's SHA-256 is {answer.sha256}, but {sha256} is wanted; "
                "nothing was kept: check --sha256 and the name"
            )
        size = self.expected.size or answer.size or total
        # What an error page is, is better said when its first bytes have come.
        if total not in (None, size) and "html" not in response.headers.get("content-type", ""):
            self.discard()
            raise Failure(
                f"{response.url.host} has a file of {total} bytes, but {size} are expected; nothing was kept: "
                "run the same command again later"
            )
        self.expected = Facts(self.remote.source, size, sha256, etag)
        self._check_room()
        self.expected.write(self._facts_path)

    def append(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._count(chunk)
        self._check_head()
        if self.expected.size is not None and self.size > self.expected.size:
            self.discard()
            raise Failure(
                f"{self.remote.url.host} sends more than the {self.expected.size} bytes the file should have; "
                "nothing was kept: fetch it from elsewhere"
            )
        self.progress.at(self.size, self.expected.size, "fetching")

    def start_over(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._facts_path.unlink(missing_ok=True)
        self._hash = hashlib.sha256()
        self._head = b""
        self.size = 0
        self.expected = Facts(self.remote.source, self.remote.size, self.remote.sha256)

    def discard(self) -> None:
        """Nothing of it is of use."""
        self._part_path.unlink(missing_ok=True)
        self._facts_path.unlink(missing_ok=True)

    def finish(self) -> Fetched:
        """Checks the whole, and only then gives it its name."""
        self._check_head(whole=True)
        digest, wanted = self._hash.hexdigest(), self.expected.sha256
        if wanted is not None and wanted != digest:
            self.discard()
            raise Failure(
                f"the SHA-256 of what came is {digest}, but {wanted} is wanted; it was thrown away: "
                "run the same command again, and if that does not help, fetch it from elsewhere"
            )
        os.fsync(self._descriptor)
        Facts(self.remote.source, self.size, digest, self.expected.etag).write(_receipt(self._path))
        self._facts_path.unlink(missing_ok=True)
        os.replace(self._part_path, self._path)
        _sync_folder(self._path.parent)
        return Fetched(self._path, self.size, digest, checked=wanted is not None)

    def _continues(self, facts: Facts, left: int) -> bool:
        if facts.source != self.remote.source or (self.expected.size is not None and left > self.expected.size):
            return False
        if self.expected.sha256 is not None and facts.sha256 is not None:
            return self.expected.sha256 == facts.sha256
        # Without a checksum only the server can tell whether the rest belongs to this beginning.
        return facts.etag is not None or self.expected.sha256 is not None

    def _changed(self, etag: str | None, sha256: str | None) -> bool:
        known = self.expected
        if self.remote.sha256 is None and None not in (sha256, known.sha256) and sha256 != known.sha256:
            return True
        return known.etag is not None and etag != known.etag

    def _check_room(self) -> None:
        if self.expected.size is None:
            return
        missing = self.expected.size - self.size
        free = shutil.disk_usage(self._path.parent).free
        if missing > free:
            raise Failure(
                f"{missing:,} bytes are missing and {self._path.parent} has room for {free:,}; make room, "
                "or choose another folder with --to"
            )

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)
        if len(self._head) < len(_MAGIC):
            self._head = (self._head + chunk)[: len(_MAGIC)]

    def _check_head(self, *, whole: bool = False) -> None:
        if self._head == _MAGIC or (len(self._head) < len(_MAGIC) and not whole):
            return
        self.discard()
        raise Failure(
            f"what {self.remote.source} sends is no GGUF file (it begins with {one_line(ascii(self._head)[1:])}); "
            "is it the address of a page? The file's own has /resolve/ in it on Hugging Face"
        )


def _already_there(path: Path, remote: RemoteFile, progress: Progress) -> Fetched | None:
    """The complete file of an earlier run or copy. Another file of this name is never overwritten."""
    if not path.is_file():
        return None
    size, receipt = path.stat().st_size, Facts.read(_receipt(path))
    ours = receipt is not None and receipt.source == remote.source and receipt.size == size
    if receipt is not None and ours and receipt.sha256 and remote.sha256 in (None, receipt.sha256):
        return Fetched(path, size, receipt.sha256, checked=True, already=True)
    if remote.sha256 is not None and remote.size in (None, size):
        digest = _digest(path, size, progress)
        if digest == remote.sha256:
            Facts(remote.source, size, digest).write(_receipt(path))
            return Fetched(path, size, digest, checked=True, already=True)
    if ours:
        progress.say(f"{path.name} changed at its source; fetching it anew.")
        return None
    raise Failure(f"{path} exists already and is another file; move it away, or choose another folder with --to")


def _digest(path: Path, size: int, progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            progress.at(done, size, "checking")
    return digest.hexdigest()


@contextmanager
def _locked(part: Path) -> Iterator[int]:
    """The part's descriptor, for one process at a time. A link is not followed: it would lead elsewhere."""
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        if not _lock(descriptor, part):
            raise Failure(f"another `sestet pull` is fetching {part.name.removesuffix('.part')}; wait for it")
        try:
            yield descriptor
        finally:
            if os.fstat(descriptor).st_size == 0:
                part.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, part: Path) -> bool:
    """False where another process has it, or had it and has just given the file its final name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(descriptor).st_ino == part.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def _disk_troubles(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise Failure(
                f"{folder} is full; make room and run the same command again (it goes on where it stopped), "
                "or choose another folder with --to"
            ) from error
        raise Failure(f"{error.filename or folder}: {error.strerror}; choose another folder with --to") from error


def _receipt(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _sync_folder(folder: Path) -> None:
    """The new name is only on the disk when the folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _strong(etag: str | None) -> str | None:
    """A weak one does not promise the same bytes."""
    return etag if etag and etag.startswith('"') else None


def _extent(response: httpx2.Response) -> tuple[int, int | None]:
    """Where the answer starts, and how long the whole file is."""
    if response.status_code == 200:
        return 0, natural(response.headers.get("content-length"))
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])
