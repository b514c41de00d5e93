"""`sestet pull`: a GGUF file from Hugging Face or anywhere, into the models folder."""

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from sestet.cli.download import Fetched, fetch
from sestet.cli.failure import Failure
from sestet.cli.huggingface import RemoteFile, Repository, find, parse
from sestet.cli.printable import one_line
from sestet.cli.web import Web

HUGGING_FACE = "https://huggingface.co"
STOPPED_STATUS = 130  # what shells use for Ctrl-C

_console = Console(stderr=True, highlight=False)


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="`owner/repo`, `owner/repo:Q8_0`, `owner/repo/file.gguf` on Hugging Face, or the URL of a GGUF file.",
            show_default=False,
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(help="Folder to put it in; by default ~/.local/share/sestet/models.", show_default=False),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="SHA-256 the file must have. Hugging Face's own is checked anyway.")
    ] = None,
    endpoint: Annotated[
        str, typer.Option(envvar="HF_ENDPOINT", help="Hugging Face, or a mirror of it.")
    ] = HUGGING_FACE,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="HF_TOKEN",
            help="For private and gated repositories. Sent to the endpoint alone. Better in the environment.",
            show_default=False,
        ),
    ] = None,
    data_home: Annotated[Path | None, typer.Option(envvar="XDG_DATA_HOME", hidden=True)] = None,
) -> None:
    """Fetch a model. It goes on where it stopped, and checks what came.

    A repository has many files, smaller and larger versions of one model; without a choice, Q4_K_M is taken.
    Good ones to begin with: `bartowski/SmolLM2-1.7B-Instruct-GGUF`, `bartowski/Qwen2.5-7B-Instruct-GGUF`.
    """
    meant = parse(name, endpoint)
    wanted = _sha256(sha256)
    folder = to or _models_folder(data_home)
    watch = _Watch(_console)
    try:
        with Web(endpoint, token) as web, watch.shown():
            remote = _remote(web, endpoint, meant, wanted, watch)
            fetched = fetch(web, remote, folder.absolute(), watch)
    except KeyboardInterrupt:
        _console.print("\nStopped. What came is kept; the same command goes on from there.")
        raise typer.Exit(STOPPED_STATUS) from None
    _say_what_next(fetched)


def _remote(web: Web, endpoint: str, meant: Repository | RemoteFile, sha256: str | None, watch: "_Watch") -> RemoteFile:
    if isinstance(meant, RemoteFile):
        return replace(meant, sha256=sha256)
    remote, remark = find(web, endpoint, meant)
    if remark is not None:
        watch.say(remark)
    if sha256 is not None and remote.sha256 not in (None, sha256):
        raise Failure(f"{remote.source} has the SHA-256 {remote.sha256}, not the one of --sha256; check both")
    return replace(remote, sha256=remote.sha256 or sha256)


def _sha256(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise Failure("--sha256 takes 64 hexadecimal digits, as `sha256sum FILE` prints them")
    return text.lower() if text else None


def _models_folder(data_home: Path | None) -> Path:
    """Where data of a user's programs belongs; a relative XDG_DATA_HOME is to be ignored."""
    base = data_home if data_home is not None and data_home.is_absolute() else Path.home() / ".local" / "share"
    return base / "sestet" / "models"


def _say_what_next(fetched: Fetched) -> None:
    path, size = str(fetched.path), f"{fetched.size / 1e6:,.0f} MB"
    if fetched.already:
        _console.print(f"Already here, complete: {size}.")
    elif fetched.checked:
        _console.print(f"Complete: {size}, its SHA-256 is right.")
    else:
        _console.print(f"Complete: {size}. Nobody said what its SHA-256 should be; it is {fetched.sha256}.")
    typer.echo(
        f"{path}\n\n"
        f"Serve it:\n    sestet serve --model {shlex.quote(path)}\n\n"
        f"or, for every start, in sestet.toml:\n    [[weights]]\n    path = {json.dumps(path, ensure_ascii=False)}"
    )


class _Watch:
    """A progress bar in a terminal; elsewhere only what is worth a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._doing = ""

    @contextmanager
    def shown(self) -> Iterator[None]:
        with self._bars:
            yield

    def at(self, done: int, total: int | None, doing: str) -> None:
        if self._task is None or doing != self._doing:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task, self._doing = self._bars.add_task(doing, total=total, completed=done), doing
        self._bars.update(self._task, completed=done, total=total)

    def say(self, remark: str) -> None:
        self._console.print(one_line(remark), markup=False, soft_wrap=True)
