"""The command itself: what it offers, and that it loads no more than was asked for."""

import re
import subprocess
import sys

import pytest

from sestet import __version__
from tests.cli.conftest import Run

SUBCOMMANDS = [
    *("serve", "models", "pull", "chat", "eval", "usage", "cost", "cache", "keys", "workspaces", "db", "signing-keys")
]


def test_the_help_offers_every_subcommand(run: Run) -> None:
    shown = run("--help")

    assert 0 == shown.exit_code
    assert sorted(SUBCOMMANDS) == sorted(
        re.findall(r"^│ ([a-z-]+) ", shown.output.partition("Commands")[2], re.MULTILINE)
    )


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_its_own_help(run: Run, name: str) -> None:
    shown = run(name, "--help")

    assert 0 == shown.exit_code
    assert f"sestet {name}" in shown.output.partition("\n\n")[0]


def test_what_is_no_subcommand_is_refused_with_what_is_close(run: Run) -> None:
    refused = run("sreve")

    assert 2 == refused.exit_code
    assert "serve" in refused.output


def test_the_version_is_told(run: Run) -> None:
    assert f"sestet {__version__}\n" == run("--version").output


def test_a_chat_does_not_load_the_server() -> None:
    program = (
        "import sys; from sestet.cli.main import application; application(['chat']);"
        "print([name for name in ('sqlalchemy', 'uvicorn', 'aiohttp', 'llguidance') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert "[]\n" == found.stdout
