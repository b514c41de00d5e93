"""One reply of a server, kept byte for byte, for the bare application to return."""

import socket
from dataclasses import dataclass

from bench.requests import message


@dataclass(frozen=True, slots=True)
class Reply:
    """`writes` are the chunks of a streamed body, or the one whole body."""

    headers: list[tuple[str, str]]
    writes: list[str]

    def frames(self) -> int:
        return sum(write.count("event: ") for write in self.writes)


def record(port: int, body: dict[str, object]) -> Reply:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, connection.makefile("rb") as file:
        connection.sendall(message(port, body))
        status = file.readline()
        assert status == b"HTTP/1.1 200 OK\r\n", status + file.read(2000)
        headers = []
        while (line := file.readline()) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.lower(), value.strip()))
        named = dict(headers)
        if "content-length" in named:
            return Reply(headers, [file.read(int(named["content-length"])).decode("latin-1")])
        writes = []
        while size := int(file.readline(), 16):
            writes.append(file.read(size).decode("latin-1"))
            file.readline()
        return Reply(headers, writes)
