"""What gets installed is pinned by hash and names no host, so that it comes from wherever the operator says."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
NODE_LOCK = ROOT / "tests" / "contract" / "typescript" / "package-lock.json"

# One requirement: a name, an exact version, maybe a marker, and at least one hash.
PINNED = re.compile(
    r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?(\[[a-z0-9,_-]+\])?==[^\s;]+( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+"
)

each_lock = pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)


def test_there_are_locks() -> None:
    assert ["eval.txt", "old-sdk.txt", "serve.txt", "test.txt"] == [lock.name for lock in LOCKS]


@each_lock
def test_every_line_is_pinned_with_its_hashes(lock: Path) -> None:
    joined = re.sub(r"\s*\\\n\s*", " ", lock.read_text("utf-8"))

    assert [] == [line for line in joined.splitlines() if line and not PINNED.fullmatch(line)]


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").iterdir()), ids=lambda file: file.name)
def test_no_host_is_named(file: Path) -> None:
    assert "://" not in file.read_text("utf-8")


@each_lock
def test_no_option_reaches_the_installer(lock: Path) -> None:
    assert [] == [
        line for line in lock.read_text("utf-8").splitlines() if line.startswith("-") and "--hash=" not in line
    ]


def test_the_layers_agree_on_every_version_they_share() -> None:
    def versions(lock: str) -> dict[str, str]:
        text = (ROOT / "requirements" / lock).read_text("utf-8")
        return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", text, re.MULTILINE))

    serve, test = versions("serve.txt"), versions("test.txt")

    assert {} == {
        package: (serve[package], test[package])
        for package in serve.keys() & test.keys()
        if serve[package] != test[package]
    }


def test_the_declared_dependencies_of_the_embedded_weights_are_not_locked() -> None:
    text = (ROOT / "requirements" / "serve.txt").read_text("utf-8")

    assert [] == re.findall(r"^(?:llm|llama-cpp-python)==", text, re.MULTILINE)


def test_the_node_lock_names_no_place_and_has_a_hash_for_every_package() -> None:
    text = NODE_LOCK.read_text("utf-8")
    packages = json.loads(text)["packages"]

    assert "resolved" not in text
    assert [] == [place for place, package in packages.items() if place and "integrity" not in package]


@pytest.mark.parametrize("line", ["registry", "resolved="])
def test_the_node_settings_name_no_registry(line: str) -> None:
    settings = (NODE_LOCK.parent / ".npmrc").read_text("utf-8").splitlines()

    assert [] == [one for one in settings if one.startswith(line)]
