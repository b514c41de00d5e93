"""The servers that hostile tests share. They must be as good after each test as before it: `under_watch` sees to it."""

from collections.abc import Iterator

import pytest

from tests.running import RunningServer, start_server

KEY = "sk-sestet-sentinel-key-MzQ1Njc4OTAxMjM0"

SCRIPT = """
slots = 64
stall_timeout_s = 2.0
restart_s = 0.3

[[reply]]
when = "TICK"
say = ["tick "]
repeat = 100000
tokens_per_s = 50

[[reply]]
when = "FLOOD"
say = ["{flood}"]
repeat = 1000000

[[reply]]
when = "NEVER"
say = ["never"]
delay_s = 3600

[[reply]]
when = "CRASH FIRST"
then = "crash"

[[reply]]
when = "CRASH LATER"
say = ["one ", "two "]
then = "crash"

[[reply]]
when = "ERROR LATER"
say = ["one ", "two "]
then = "error"

[[reply]]
when = "SHORT"
say = ["one ", "two "]
then = "stop_short"

[[reply]]
when = "HANG"
say = ["one ", "two "]
then = "hang"

[[reply]]
say = ["This", " is", " the", " sentinel-reply-QWERTYUIOP", "."]
""".replace("{flood}", "flood " * 2_000)

DEBUG = '[log]\nlevel = "debug"\n'


@pytest.fixture(scope="session")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Without keys, scripted, logging everything; a reader may stall for 2 s."""
    server = start_server(tmp_path_factory.mktemp("open"), script=SCRIPT, config=f"{DEBUG}[server]\nstall_s = 2.0\n")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def keyed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With one key, scripted, logging everything."""
    server = start_server(
        tmp_path_factory.mktemp("keyed"), script=SCRIPT, config=f'{DEBUG}[access]\nkeys = ["{KEY}"]\n'
    )
    yield server
    server.stop()
