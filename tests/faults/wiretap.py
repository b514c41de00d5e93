"""Listens in on what a server tells its engine's process, by standing in the place of the process's socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path


@asynccontextmanager
async def wiretap(temporary: Path) -> AsyncIterator[list[tuple[str, bytes]]]:
    """(path, body) of every request, in order. `temporary` is the TMPDIR of a server with one engine."""
    path, true_path = _aside(temporary)
    heard: list[tuple[str, bytes]] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        content = await reader.readexactly(int(lengths[0].partition(b":")[2])) if lengths else b""
        if content:
            heard.append((head.split(b" ", 2)[1].decode(), content))
        from_engine, to_engine = await asyncio.open_unix_connection(str(true_path))
        to_engine.write(head + content)
        with suppress(ConnectionError):
            while chunk := await from_engine.read(65536):
                writer.write(chunk)
                await writer.drain()
        for end in (writer, to_engine):
            end.close()

    async with await asyncio.start_unix_server(pass_on, str(path)):
        yield heard


def _aside(temporary: Path) -> tuple[Path, Path]:
    (path,) = temporary.glob("*/*.sock")
    return path, path.rename(path.with_name("true.sock"))
