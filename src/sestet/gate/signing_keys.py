"""The secrets that thoughts are sealed with: a file of this installation, one secret a line, newest first.

Made at the first start. Rotating puts a new one in front; the others stay, so that thoughts sealed with them still
verify. Deleting a line makes the thoughts sealed with it foreign.
"""

import base64
import binascii
import contextlib
import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

SECRET_BYTES = 32
_HEADING = "# Secrets of this server, newest first. Whoever reads this file can forge what they prove.\n"


class SigningKeysError(ValueError):
    """The file cannot be used; the text names it and says why."""


def read_or_make(path: Path) -> tuple[bytes, ...]:
    """The secrets in this file, newest first; the file is made, readable by its owner alone, if there is none."""
    try:
        return _read(path)
    except FileNotFoundError:
        _write(path, [new_secret()], replace=False)
        return _read(path)


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def rotate(path: Path) -> int:
    """Puts a new secret in front of the others; how many there are now."""
    try:
        known = _read(path)
    except FileNotFoundError:
        known = ()
    _write(path, [new_secret(), *known], replace=True)
    return len(known) + 1


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        lines = path.read_text("ascii").splitlines()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise SigningKeysError(f"{path}: it cannot be read ({error})") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            secret = base64.b64decode(line.strip(), validate=True)
        except binascii.Error:
            raise SigningKeysError(f"{path}: line {number} is not base64") from None
        if len(secret) < SECRET_BYTES:
            raise SigningKeysError(f"{path}: the secret in line {number} is shorter than {SECRET_BYTES} bytes")
        found.append(secret)
    if not found:
        raise SigningKeysError(f"{path}: it holds no secret; delete it, and a new one is made")
    return tuple(found)


def _write(path: Path, known: Sequence[bytes], *, replace: bool) -> None:
    """The whole file or none of it. Not to `replace` means that a file which another start made meanwhile stays."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(_HEADING + "".join(f"{base64.b64encode(secret).decode()}\n" for secret in known))
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(name, path)
            else:
                with contextlib.suppress(FileExistsError):
                    os.link(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise SigningKeysError(
            f"{path}: it cannot be written ({error.strerror}); set `thinking.signing_keys` to a place that can"
        ) from None
