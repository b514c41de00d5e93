"""Fixtures that every kind of test may use."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import lengths
from tests.running import RunningServer, start_server

HERE = Path(__file__).parent

__all__ = ["lengths"]  # before anything is started: it takes its variable out of the environment

# What is started in the test's own process keeps its data apart from the user's too.
_data_home = tempfile.TemporaryDirectory(prefix="sestet-tests-")
os.environ["XDG_DATA_HOME"] = _data_home.name
# Nothing here is encrypted, and every client would read the machine's certificates first, which takes it 40 ms.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = _data_home.name

FOLDERS = ("engines", "faults", "contract", "properties", "cli", "unit", "meta")  # those with the longest files first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long is begun first: at the end it would keep one worker busy, and leave the other nothing to do."""
    items.sort(key=lambda item: FOLDERS.index(item.path.relative_to(HERE).parts[0]))


ServerFactory = Callable[..., RunningServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[ServerFactory]:
    """Starts servers for one test: `serve(script=..., config=..., arguments=..., environment=...)`."""
    started: list[RunningServer] = []

    def start(**options: object) -> RunningServer:
        server = start_server(tmp_path, **options)  # type: ignore[arg-type]
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with the embedded model for the whole run, without keys. Do not harm it."""
    server = start_server(tmp_path_factory.mktemp("embedded"), config="[engine]\nslots = 4\nthreads = 1\n")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with the scripted engine's default script for the whole run, without keys. Do not harm it."""
    server = start_server(tmp_path_factory.mktemp("scripted"), script="")
    yield server
    server.stop()
