"""The log: what it cannot write costs nobody anything."""

import io

from sestet.server.logs import Unfailing


def test_a_full_disk_does_not_fail_whoever_logs() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        log = Unfailing(full)
        log.write(b"line")
        log.flush()


def test_a_closed_file_does_not_fail_whoever_logs() -> None:
    closed = io.BytesIO()
    closed.close()

    Unfailing(closed).write(b"line")
    Unfailing(closed).flush()


def test_what_can_be_written_is() -> None:
    file = io.BytesIO()
    Unfailing(file).write(b"line")

    assert b"line" == file.getvalue()
