"""`sestet models` and the banner of `sestet serve` on a terminal of 80 columns and on others."""

import subprocess
import sys
from pathlib import Path

import pytest

from sestet.catalog.catalog import Catalog
from sestet.cli.listing import model_lines
from sestet.config import load
from sestet.server.compose import catalog, plan
from tests.cli.conftest import Run
from tests.running import RunningServer

NO_ENVIRONMENT: dict[str, str] = {}


def names_of(names: Catalog) -> set[str]:
    cards = [route.card for route in names.routes()]
    platforms = {name for card in cards for name in (card.bedrock, card.vertex) if name}
    return {card.id for card in cards} | set(names.aliases()) | platforms


def scripted_catalog(tmp_path: Path, extra: str = "") -> Catalog:
    path = tmp_path / "sestet.toml"
    path.write_text(f'[engine]\nkind = "scripted"\n{extra}')
    settings = load(path, NO_ENVIRONMENT)
    plans = plan(settings)
    return catalog(settings, plans, {one.id: 0 for one in plans})


def words(lines: list[str]) -> set[str]:
    return {word.rstrip(",") for line in lines for word in line.split()}


@pytest.mark.parametrize("width", [20, 80, 200])
def test_no_name_is_cut_whatever_the_width(tmp_path: Path, width: int) -> None:
    names = scripted_catalog(tmp_path, f'[aliases]\n"{"long-" * 40}alias" = "claude-3-opus-20240229"\n')

    assert set() == names_of(names) - words(list(model_lines(names, width, platforms=True)))
    assert set() == set(names.aliases()) - words(list(model_lines(names, width, platforms=False)))
    assert set() == {route.card.id for route in names.routes()} - words(
        list(model_lines(names, width, platforms=False))
    )


def test_on_80_columns_every_line_fits(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "sestet.toml"
    path.write_text('[engine]\nkind = "scripted"\n')

    lines = run("models", "--config", str(path)).stdout.splitlines()

    assert [] == [line for line in lines if len(line) > 80]
    assert set() == names_of(scripted_catalog(tmp_path)) - words(lines)
    assert [
        "  scripted-20260101           scripted, scripted-latest",
        "",
        "Stand-ins: Scripted engine answers, not the model so named:",
        "  claude-opus-4-1-20250805    claude-opus-4-1,",
        "                              anthropic.claude-opus-4-1-20250805-v1:0,",
        "                              claude-opus-4-1@20250805",
    ] == lines[:6]


def test_the_banner_says_where_it_is_what_answers_and_what_to_paste(scripted: RunningServer) -> None:
    banner = scripted.log.partition("Stop with Ctrl-C.")[0].splitlines()

    assert [
        "Loading Scripted engine ...",
        "",
        f"Sestet serves the Claude Messages API at {scripted.url}",
        "No API key is needed on this machine's own address, and any will do.",
        "",
        "  scripted-20260101           scripted, scripted-latest",
        "",
        "Stand-ins: Scripted engine answers, not the model so named:",
        "  claude-opus-4-1-20250805    claude-opus-4-1",
    ] == banner[:9]
    assert f"In another terminal: sestet chat --url {scripted.url}, or in Python:" in banner
    assert [] == [line for line in banner if len(line) > 80]


def test_the_snippet_of_the_banner_runs_as_it_is(scripted: RunningServer) -> None:
    snippet = scripted.log[scripted.log.index("import anthropic") :].partition("\n\nBrowse")[0]

    ended = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True)

    assert (0, "This is the scripted engine.\n", "") == (ended.returncode, ended.stdout, ended.stderr)
