"""The files that engines write the state of a prompt's beginning to: which are ours, whole, and of which prompts.

It survives kill -9 at every moment. Nothing is forced to the disk, for that would be gigabytes: a power cut may lose or
tear any of these files, and size and MAC tell.
"""

import contextlib
import fcntl
import hmac
import itertools
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

KEY_BYTES: Final = 32
MANIFEST_BYTES_MAX: Final = 1 << 20
RESERVE_BYTES_MIN: Final = 1 << 30  # what a file system keeps free, or this share of it where that is more
RESERVE_SHARE: Final = 0.02
TICK_NS: Final = 20_000_000  # a file system's clock goes at least so often

# A manifest of another form must have another purpose: this program takes it for foreign then.
_MANIFEST_PURPOSE: Final = b"sestet manifest of a snapshot, form 1"
_CONTENT_PURPOSE: Final = b"sestet content of a snapshot"

_NAME: Final = re.compile(r"[0-9a-f]{32}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,5}")
_KEY: Final = "key"
_LOCK: Final = "lock"
_UNFINISHED: Final = "unfinished"
_MANIFEST: Final = ".json"
_HEAD: Final = b'{"mac":"'  # a manifest begins with it, then 64 digits over all that follows them
_READ_BYTES: Final = 1 << 18


class SnapshotError(Exception):
    """Snapshots cannot be kept; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """An entry of the prompt cache that a snapshot serves."""

    key: str  # a keyed hash of 32 bytes, in hex
    tokens: int
    lifetime_s: int  # 300 or 3600
    expires_at: int  # wall clock, microseconds since 1970
    hits: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One file of an engine. `name` is the file's, and with `.json` its manifest's."""

    name: str
    identity: str  # of the engine and the weights that wrote it
    workspace: str
    model: str
    tokens: int
    bytes: int
    prefixes: tuple[Prefix, ...]


class SnapshotFolder:
    """A numbered folder that is this process's alone as long as it lives. Every method blocks; several threads may call
    them at once. What the operating system refuses is a `SnapshotError`, unless a method says otherwise."""

    def __init__(self, path: Path, folder: int, reserve_bytes: int | None) -> None:
        self.path = path
        self._folder = folder
        self._reserve_bytes = reserve_bytes
        self._open = contextlib.ExitStack()
        self._turn = threading.Lock()
        self._macs: dict[str, str] = {}  # of the content of every snapshot that counts, by name
        self._read: dict[str, tuple[int, ...]] = {}  # the stamps of contents that were read and found genuine
        self.secret = self._key()
        self._content_key = hmac.digest(self.secret, _CONTENT_PURPOSE, "sha256")
        self._manifest_key = hmac.digest(self.secret, _MANIFEST_PURPOSE, "sha256")

    @classmethod
    def open(cls, base: Path, reserve_bytes: int | None = None) -> "SnapshotFolder":
        """The first folder of `base` that no living process has: `0`, `1`, and so on, so that a server that starts
        again gets its own. What others that are dead left in further ones is removed.

        `reserve_bytes` of the file system stay free, by default 1 GiB or 2 % of it, whichever is more. Raises
        `SnapshotError`, also for a folder with somebody else's files, which are never touched.
        """
        with _plainly(base):
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = next(one for number in itertools.count() if (one := cls._take(base / str(number), reserve_bytes)))
        with _plainly(base):
            others = [base / name for name in os.listdir(base) if _NUMBER.fullmatch(name) and name != opened.path.name]
        for other in sorted(others):
            with contextlib.suppress(OSError):  # for one that is not a folder, or not ours
                _empty(other)
        return opened

    @classmethod
    def _take(cls, path: Path, reserve_bytes: int | None) -> "SnapshotFolder | None":
        with contextlib.ExitStack() as held, _plainly(path):
            path.mkdir(mode=0o700, exist_ok=True)
            folder = _folder(held, path)
            names = set(os.listdir(folder))
            if _KEY not in names and names - {_LOCK, _UNFINISHED}:
                raise SnapshotError(f"{path}: this folder holds other files; name one that is empty")
            os.fchmod(folder, 0o700)
            if not _lock(held, folder):
                return None
            taken = cls(path, folder, reserve_bytes)
            taken._open = held.pop_all()
            return taken

    def load(self, identity: str) -> list[Snapshot]:
        """What is of use to this engine and these weights, by name. Everything else in the folder is removed, what is
        being written too: to be called before the engine writes. Contents are not read: `is_genuine` does."""
        with self._turn, _plainly(self.path):
            files = _files(self._folder)
            kept = {}
            for name, size in files.items():
                found = self._manifest_of(name)
                if found and found[0].identity == identity and found[0].bytes == size:
                    kept[name] = found
            rest = set(files) - kept.keys() - {name + _MANIFEST for name in kept} - {_KEY, _LOCK}
            for name in sorted(rest, key=_manifests_first):
                _unlink(name, self._folder)
            self._macs = {name: mac for name, (_, mac) in kept.items()}
            return [kept[name][0] for name in sorted(kept)]

    def new_name(self) -> str:
        """For a snapshot to be written; nobody can guess it, and no other has it."""
        return secrets.token_hex(16)

    def seal(self, snapshot: Snapshot) -> None:
        """Makes a file that an engine has written count. It is read once, at the pace of SHA-256.

        Raises `SnapshotError` where that cannot be done; file and manifest are gone then.
        """
        assert _NAME.fullmatch(snapshot.name), snapshot.name
        try:
            with _plainly(self.path / snapshot.name):
                mac, size = self._measured(snapshot.name)
                if size != snapshot.bytes:
                    raise SnapshotError(f"{self.path / snapshot.name}: has {size} bytes instead of {snapshot.bytes}")
                with self._turn:
                    self._write_manifest(snapshot, mac)
                    self._macs[snapshot.name] = mac
        except SnapshotError:
            with contextlib.suppress(SnapshotError):
                self.remove(snapshot.name)
            raise

    def renew(self, snapshot: Snapshot) -> None:
        """Writes down other prefixes of a sealed snapshot, whose content is not read. Nothing happens to one that has
        been removed meanwhile. Raises `SnapshotError`; what was written down before is still there then."""
        with self._turn, _plainly(self.path / snapshot.name):
            mac = self._macs.get(snapshot.name)
            if mac is not None:
                self._write_manifest(snapshot, mac)

    def is_genuine(self, name: str) -> bool:
        """Whether the content is still what was sealed. All of it is read, unless this process has read it before and
        the file system says that nothing has touched it since. False too where it cannot be read."""
        mac = self._macs.get(name)
        if mac is None:
            return False
        try:
            now, before = time.time_ns(), self._stamp(name)
            if self._read.get(name) == before:
                return True
            found, _ = self._measured(name)
            # A change in the same tick of the clock as the last one would not show.
            is_told = now - before[-1] > TICK_NS and before == self._stamp(name)
        except OSError:
            return False
        is_genuine = hmac.compare_digest(found, mac)
        if is_genuine and is_told:
            self._read[name] = before
        return is_genuine

    def remove(self, name: str) -> None:
        """A snapshot, sealed or not, there or not. The manifest goes first: it must never speak of what is gone."""
        assert _NAME.fullmatch(name), name
        with self._turn, _plainly(self.path / name):
            self._macs.pop(name, None)
            self._read.pop(name, None)
            _unlink(name + _MANIFEST, self._folder)
            _unlink(name, self._folder)

    def room(self) -> int:
        """Bytes that may still be written here; 0 where the file system does not tell."""
        try:
            system = os.fstatvfs(self._folder)
        except OSError:
            return 0
        reserve = self._reserve_bytes
        if reserve is None:
            reserve = max(RESERVE_BYTES_MIN, int(system.f_blocks * system.f_frsize * RESERVE_SHARE))
        return max(0, system.f_bavail * system.f_frsize - reserve)

    def close(self) -> None:
        """Lets the folder go; what is in it stays for the next."""
        self._open.close()

    def _key(self) -> bytes:
        with contextlib.suppress(OSError):
            key = _read(_KEY, self._folder, KEY_BYTES)
            if len(key) == KEY_BYTES:
                return key
        # Whatever was sealed with a key that is torn or was taken away is foreign from now on.
        key = secrets.token_bytes(KEY_BYTES)
        self._write(_KEY, key)
        return key

    def _stamp(self, name: str) -> tuple[int, ...]:
        """Another one for a file that was written to or replaced, by whomever; its last number is when, in ns."""
        found = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def _measured(self, name: str) -> tuple[str, int]:
        """The MAC of a content, and its bytes."""
        mac, size = hmac.new(self._content_key, digestmod="sha256"), 0
        buffer = memoryview(bytearray(_READ_BYTES))
        with open(_descriptor(name, self._folder), "rb", buffering=0) as file:
            while count := file.readinto(buffer):
                mac.update(buffer[:count])
                size += count
        return mac.hexdigest(), size

    def _manifest_of(self, name: str) -> tuple[Snapshot, str] | None:
        """What the manifest says, and the MAC of the content; nothing where it is not one of ours."""
        try:
            raw = _read(name + _MANIFEST, self._folder, MANIFEST_BYTES_MAX)
        except OSError:
            return None
        # Nothing of it is believed, or even parsed, before this.
        if not hmac.compare_digest(raw, self._authenticated(raw[len(_HEAD) + 64 :])):
            return None
        said = orjson.loads(raw)
        fields = said["snapshot"]
        prefixes = tuple(Prefix(**prefix) for prefix in fields["prefixes"])
        snapshot = Snapshot(**{**fields, "prefixes": prefixes})
        return (snapshot, said["content"]) if snapshot.name == name else None

    def _write_manifest(self, snapshot: Snapshot, mac: str) -> None:
        rest = orjson.dumps({"content": mac, "snapshot": snapshot})[1:]
        manifest = self._authenticated(b'",' + rest)
        if len(manifest) > MANIFEST_BYTES_MAX:
            raise SnapshotError(f"{self.path / snapshot.name}: serves too many prefixes ({len(snapshot.prefixes)})")
        self._write(snapshot.name + _MANIFEST, manifest)

    def _authenticated(self, rest: bytes) -> bytes:
        return _HEAD + hmac.digest(self._manifest_key, rest, "sha256").hex().encode() + rest

    def _write(self, name: str, content: bytes) -> None:
        """All of it or nothing. Only one thread may be here."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            with open(os.open(_UNFINISHED, flags, 0o600, dir_fd=self._folder), "wb") as file:
                file.write(content)
            os.replace(_UNFINISHED, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            _unlink(_UNFINISHED, self._folder)
            raise


def _empty(path: Path) -> None:
    """Removes what a dead server left in its folder. The folder stays: who waits for its lock must not get one that is
    no longer there. Raises `OSError`."""
    with contextlib.ExitStack() as held:
        folder = _folder(held, path)
        if _KEY in os.listdir(folder) and _lock(held, folder):
            # The key last, for by it one knows whose files these are.
            for name in sorted(set(_files(folder)) - {_LOCK}, key=lambda name: (name == _KEY, *_manifests_first(name))):
                _unlink(name, folder)


def _folder(held: contextlib.ExitStack, path: Path) -> int:
    """A descriptor, so that what is done in it is done there, wherever its name may lead later."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    held.callback(os.close, folder)
    return folder


def _lock(held: contextlib.ExitStack, folder: int) -> bool:
    """Whether nobody alive has this folder; it is ours then until the descriptor is closed, by our end too."""
    lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    held.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _files(folder: int) -> dict[str, int | None]:
    """Everything but folders, which we never make, by name: bytes of a regular file, nothing for a link or the like."""
    found: dict[str, int | None] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            # Another server that empties this folder may be faster.
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    found[entry.name] = status.st_size if stat.S_ISREG(status.st_mode) else None
    return found


def _manifests_first(name: str) -> tuple[bool, str]:
    return not name.endswith(_MANIFEST), name


def _descriptor(name: str, folder: int) -> int:
    """A regular file to read. Raises `OSError` for a link, and waits for nobody at a pipe."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("this is not a regular file")
    return descriptor


def _read(name: str, folder: int, bytes_max: int) -> bytes:
    """The first bytes of a file, at most so many: a manifest that is longer is none of ours."""
    with open(_descriptor(name, folder), "rb", buffering=0) as file:
        return file.read(bytes_max)


def _unlink(name: str, folder: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _plainly(path: Path) -> Iterator[None]:
    """What the operating system refuses becomes a `SnapshotError` that says it."""
    try:
        yield
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror or error}") from error
