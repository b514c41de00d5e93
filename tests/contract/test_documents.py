"""The documents' own examples, unchanged but for base URL and key, on the embedded model, with a new and an old SDK."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.scenes import EMBEDDED_WINDOW
from tests.running import RunningServer

HERE = Path(__file__).parent
OLD_SDK = str(HERE.parent.parent / ".venv-old-sdk" / "bin" / "python")
TIMEOUT_S = 180.0

INTERPRETERS = {"new": sys.executable, "old": OLD_SDK}
SNAPSHOT = "claude-3-7-sonnet-20250219"

# Each run of a document: its file, and the names it uses without defining them.
RUNS = {
    "implementation": ("latest_alias_implementation.py", {}),
    "development": ("latest_alias_best_practices.py", {"environment": "development"}),
    "production": ("latest_alias_best_practices.py", {"environment": "production"}),
    "migration": ("latest_alias_migration.py", {}),
    "version tracking": ("latest_alias_version_tracking.py", {}),
    "usage": ("claude_3_7_usage.py", {}),
}

pytestmark = pytest.mark.engine

Outcomes = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def outcomes(embedded_model: RunningServer) -> Iterator[dict[str, Outcomes]]:
    """What came of each document with each SDK; the two SDKs run at once."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    runs = {name: (str(HERE / "documents" / file), names) for name, (file, names) in RUNS.items()}
    started = {
        sdk: subprocess.Popen(
            [interpreter, str(HERE / "run_documents.py"), json.dumps(runs)],
            env={**clean, "ANTHROPIC_BASE_URL": embedded_model.url, "ANTHROPIC_API_KEY": "any"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for sdk, interpreter in INTERPRETERS.items()
    }
    try:
        yield {sdk: outcome(sdk, process) for sdk, process in started.items()}
    finally:
        for process in started.values():
            process.kill()


def outcome(sdk: str, process: subprocess.Popen[bytes]) -> Outcomes:
    output, errors = process.communicate(timeout=TIMEOUT_S)
    if process.returncode:
        raise AssertionError(f"a document ended with status {process.returncode} on the {sdk} SDK:\n{errors.decode()}")
    return json.loads(output)


@pytest.fixture(params=INTERPRETERS)
def sdk(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("name", ["implementation", "usage"])
def test_the_examples_of_creating_a_message_run(outcomes: dict[str, Outcomes], sdk: str, name: str) -> None:
    response = outcomes[sdk][name]["response"]

    assert (SNAPSHOT, ["text"]) == (response["model"], response["types"])
    assert response["stop_reason"] in ("end_turn", "model_context_window_exceeded")
    assert 0 < response["output_tokens"] <= EMBEDDED_WINDOW - response["input_tokens"]
    assert (True, True) == (response["input_tokens"] > 0, response["characters"] > 0)


def test_the_example_of_version_tracking_finds_the_alias(outcomes: dict[str, Outcomes], sdk: str) -> None:
    assert "Latest points to: 2025-02-19 00:00:00+00:00\n" == outcomes[sdk]["version tracking"]["printed"]


@pytest.mark.parametrize(
    ("name", "model"),
    [("development", "claude-3-7-sonnet-latest"), ("production", SNAPSHOT), ("migration", SNAPSHOT)],
)
def test_the_examples_of_choosing_a_model_run(outcomes: dict[str, Outcomes], sdk: str, name: str, model: str) -> None:
    assert model == outcomes[sdk][name]["model"]
