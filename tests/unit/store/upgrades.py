"""`python -m tests.unit.store.upgrades (killed | together) URL MIGRATIONS`: upgrades in processes of their own.

It forks before it has connected to anything, which is what makes so many of them affordable.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event

from sestet.store.database import Database, open_database
from tests.lengths import length

TOGETHER = 6
STEP = length(3, 1)  # from one statement that a process is killed at to the next


def killed(url: str, migrations: Path) -> list[str | None]:
    """Kills an upgrade at its first statement, then one a step later, until one ends; the revision after each."""
    revisions: list[str | None] = []
    while True:
        child = os.fork()
        if child == 0:
            database = open_database(url)
            die_at(database, STEP * len(revisions) + 1)
            database.upgrade(migrations)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, revisions
            return revisions
        assert os.WTERMSIG(status) == signal.SIGKILL
        revisions.append(revision(url))


def die_at(database: Database, statement: int) -> None:
    seen = 0

    def one_more(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(database.engine, "before_cursor_execute", one_more)
    event.listen(database.engine, "commit", one_more)


def revision(url: str) -> str | None:
    """Asked in a process of its own, so that this one has no connection that a fork could share."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        database = open_database(url)
        os.write(writer, json.dumps(database.revision()).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    assert status == 0
    with os.fdopen(reader) as answer:
        found: str | None = json.loads(answer.read())
    return found


def together(url: str, migrations: Path) -> list[int]:
    """Starts upgrades that begin at one moment; their exit statuses."""
    gate, opener = os.pipe()
    children = []
    for _ in range(TOGETHER):
        child = os.fork()
        if child == 0:
            os.close(opener)
            os.read(gate, 1)  # until every copy of the other end is closed
            open_database(url).upgrade(migrations)
            os._exit(0)
        children.append(child)
    os.close(opener)
    return [os.waitpid(child, 0)[1] for child in children]


if __name__ == "__main__":
    _, how, where, folder = sys.argv
    print(json.dumps((killed if how == "killed" else together)(where, Path(folder))))
