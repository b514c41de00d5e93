"""`sestet signing-keys`: shows where the secrets are and how many, and puts a new one in front."""

from pathlib import Path

import pytest

from sestet.cli.failure import Failure
from sestet.gate.signing_keys import read_or_make
from tests.cli.conftest import Run


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "sestet.toml"
    file.write_text(f'[thinking]\nsigning_keys = "{tmp_path / "keys"}"\n')
    return str(file)


def test_before_the_first_start_there_are_none(run: Run, tmp_path: Path, config: str) -> None:
    shown = run("signing-keys", "show", "--config", config)

    assert f"{tmp_path / 'keys'}: none yet" in shown.stdout
    assert not (tmp_path / "keys").exists()


def test_a_rotation_puts_a_new_secret_in_front_and_keeps_the_old(run: Run, tmp_path: Path, config: str) -> None:
    before = read_or_make(tmp_path / "keys")
    rotated = run("signing-keys", "rotate", "--config", config)
    after = read_or_make(tmp_path / "keys")
    shown = run("signing-keys", "show", "--config", config)

    assert (0, "2 secrets") == (rotated.exit_code, rotated.stdout.split(": ")[1].split(",")[0])
    assert before == after[1:]
    assert f"{tmp_path / 'keys'}: 2 secrets" in shown.stdout


def test_no_secret_is_printed(run: Run, tmp_path: Path, config: str) -> None:
    said = run("signing-keys", "rotate", "--config", config).output + run("signing-keys", "show").output
    lines = (tmp_path / "keys").read_text().splitlines()

    assert [] == [line for line in lines if not line.startswith("#") and line in said]


def test_a_file_that_is_none_of_ours_is_left_alone(run: Run, tmp_path: Path, config: str) -> None:
    (tmp_path / "keys").write_text("not a secret\n")
    refused = run("signing-keys", "rotate", "--config", config)

    assert isinstance(refused.exception, Failure)
    assert "line 1 is not base64" in str(refused.exception)
    assert "not a secret\n" == (tmp_path / "keys").read_text()
