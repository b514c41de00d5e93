"""The manual names every setting, route, error kind and metric, so that nothing has to be found in the code."""

import asyncio
import re
from pathlib import Path

import pytest

from sestet.config import environment_name, settings
from sestet.contract.errors import STATUS
from sestet.server.compose import Application
from tests.unit.in_process import application, ask

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "manual.md").read_text("utf-8")


def mentioned(word: str) -> bool:
    """As a word of its own: `port` is not mentioned by `support`."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", MANUAL) is not None


SETTINGS = [(section, key, field) for section, key, field in settings()]


@pytest.mark.parametrize(("section", "key"), [(section, key) for section, key, _ in SETTINGS])
def test_every_setting_is_described(section: str, key: str) -> None:
    assert mentioned(key)
    assert not section or mentioned(section) or mentioned(section.strip("[]"))


def test_how_a_setting_is_given_by_the_environment_is_shown() -> None:
    shown = set(re.findall(r"SESTET_[A-Z_]*[A-Z]", MANUAL))
    there_are = {environment_name(section, key) for section, key, _ in SETTINGS if section and section != "[weights]"}

    assert shown
    # The name of a section and a key is what the pattern's words stand for.
    assert set() == shown - there_are - {"SESTET_SECTION_KEY"}


def route_paths() -> list[str]:
    async def paths() -> list[str]:
        app = await application()
        found = []
        gate = vars(app.asgi)["_app"]
        for route in gate.routes:
            found.append(route.path.replace(":path}", "}"))
        await app.stop()
        return found

    return asyncio.run(paths())


@pytest.mark.parametrize("path", route_paths())
def test_every_route_is_described(path: str) -> None:
    spelled = re.escape(path).replace(r"\{model_id\}", r"(\{[a-z_]+\}|ID)")

    assert re.search(rf"(?<![\w/]){spelled}(?![\w/])", MANUAL)


@pytest.mark.parametrize(("kind", "status"), STATUS.items())
def test_every_error_kind_is_described_with_its_status(kind: str, status: int) -> None:
    lines = [line for line in MANUAL.splitlines() if kind in line]

    assert [line for line in lines if str(status) in line]


def metric_names() -> list[str]:
    async def names() -> list[str]:
        async def play(app: Application) -> str:
            return (await ask(app, "GET", "/metrics")).body.decode()

        app = await application()
        text = await play(app)
        await app.stop()
        return re.findall(r"^# HELP (\w+)", text, re.MULTILINE)

    return asyncio.run(names())


@pytest.mark.parametrize("metric", metric_names())
def test_every_metric_is_described(metric: str) -> None:
    assert mentioned(metric) or mentioned(metric.removesuffix("_total"))
