"""The servers of the contract tests, started once for the whole run, and the application without a server."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.contract.inside import InsideRunner, Insides
from tests.contract.scenes import (
    BUSY_CONFIG,
    BUSY_SCRIPT,
    EMBEDDED_CONFIG,
    KEYS_CONFIG,
    MODEL,
    REDACTING_CONFIG,
    SCRIPT,
    SMALL_WINDOW_SCRIPT,
    Scenes,
)
from tests.running import RunningServer, start_server


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    """Servers with the scripted engine: talkative, with a small window, full, with keys, hiding its thoughts."""
    folder = tmp_path_factory.mktemp("scenes")
    started: list[RunningServer] = []

    def start(script: str, config: str = "") -> str:
        started.append(start_server(folder, script=script, config=config))
        return started[-1].url

    try:
        talkative, small = start(SCRIPT), start(SMALL_WINDOW_SCRIPT)
        busy, keys = start(BUSY_SCRIPT, BUSY_CONFIG), start(SCRIPT, KEYS_CONFIG)
        redacting = start(SCRIPT, REDACTING_CONFIG)
        hold = {
            "model": MODEL,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "hold the slot"}],
            "stream": True,
        }
        with httpx2.stream("POST", f"{busy}/v1/messages", json=hold, timeout=60) as held:
            beginning = held.iter_bytes()
            next(beginning)
            yield Scenes(talkative, small, busy, keys, redacting)
    finally:
        for server in started:
            server.stop()


@pytest.fixture(scope="session")
def embedded_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The embedded model with a small window."""
    server = start_server(tmp_path_factory.mktemp("embedded_model"), config=EMBEDDED_CONFIG)
    yield server
    server.stop()


@pytest.fixture
def client(scenes: Scenes) -> Iterator[httpx2.Client]:
    """Raw HTTP to the talkative server."""
    with httpx2.Client(base_url=scenes.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def insides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Insides]:
    opened = Insides(tmp_path_factory.mktemp("insides"))
    yield opened
    opened.close()


@pytest.fixture
def inside(insides: Insides) -> InsideRunner:
    """Runs a test's coroutine function on an application whose engine records what it is sent."""
    return insides.run
