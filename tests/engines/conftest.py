"""The engines under test, each started once for the whole run."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.engines.subjects import Subject, llamacpp_settings, scripted, start_llamacpp


@pytest.fixture(scope="session")
def scripted_subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    snapshots = tmp_path_factory.mktemp("scripted")
    with asyncio.Runner() as runner:
        yield Subject("scripted", scripted(snapshots), runner, snapshots)


@pytest.fixture(scope="session")
def llamacpp_subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    snapshots = tmp_path_factory.mktemp("llamacpp")
    reports: list[str] = []
    with asyncio.Runner() as runner:
        engine = runner.run(start_llamacpp(reports, llamacpp_settings(snapshots=snapshots)))
        yield Subject("llamacpp", engine, runner, snapshots, reports)
        runner.run(engine.stop())


@pytest.fixture(params=["scripted", "llamacpp"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each engine in turn: a test that takes this runs once for each."""
    subject: Subject = request.getfixturevalue(f"{request.param}_subject")
    return subject
