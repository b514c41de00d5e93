"""Commands run in this process against servers of the test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from sestet.cli.failure import Failure
from sestet.cli.main import application
from tests.cli.hub import Hub, running

Run = Callable[..., Result]

# What the machine's own environment says must not change a test.
CLEAN = {
    **dict.fromkeys(("HF_TOKEN", "HF_ENDPOINT", "XDG_DATA_HOME", "ANTHROPIC_API_KEY")),
    "NO_PROXY": "127.0.0.1",
    "COLUMNS": "80",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running(Hub()) as one:
        yield one


@pytest.fixture
def run() -> Run:
    """`run("pull", ..., env={...})`: what the command printed, and how it ended."""

    def invoke(*arguments: str, env: dict[str, str | None] | None = None, stdin: str = "") -> Result:
        return CliRunner().invoke(application(arguments), list(arguments), input=stdin, env={**CLEAN, **(env or {})})

    return invoke


@pytest.fixture
def pull(run: Run, hub: Hub, tmp_path: Path) -> Run:
    """`sestet pull` from the hub into `tmp_path / "models"`."""

    def invoke(*arguments: str, env: dict[str, str | None] | None = None) -> Result:
        return run("pull", *arguments, "--endpoint", hub.url, "--to", str(tmp_path / "models"), env=env)

    return invoke


def refusal(result: Result) -> str:
    """The one line of a command that could not do what it was asked."""
    assert isinstance(result.exception, Failure), (result.exception, result.output)
    line = str(result.exception)

    assert [line] == line.splitlines()
    assert line.isprintable()
    return line
