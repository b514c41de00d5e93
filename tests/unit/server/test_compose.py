"""What a configuration comes to: the weights to load, the names they answer to, and the address that is refused."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sestet.config import Config, ConfigError
from sestet.server.compose import Plan, catalog, plan
from sestet.server.exposure import check_exposure, is_loopback
from tests.unit.keyrings import keyring


def config(**sections: Any) -> Config:
    return Config.model_validate(sections)


def weights(tmp_path: Path, name: str, **fields: Any) -> dict[str, Any]:
    path = tmp_path / name
    path.write_bytes(b"GGUF")
    return {"path": path, **fields}


def test_the_scripted_engine_has_an_id_and_aliases() -> None:
    assert [
        Plan("scripted-20260101", "Scripted engine", ("scripted", "scripted-latest"), date(2026, 1, 1), None)
    ] == plan(config(engine={"kind": "scripted"}))


def test_a_file_is_named_after_itself(tmp_path: Path) -> None:
    (one,) = plan(config(weights=[weights(tmp_path, "Qwen3 0.6B_Q8.gguf")]))

    assert ("qwen3-0-6b-q8", "Qwen3 0.6B_Q8", ("qwen3-0-6b-q8-latest",)) == (one.id, one.display_name, one.aliases)


def test_a_file_may_be_given_names(tmp_path: Path) -> None:
    (one,) = plan(
        config(weights=[weights(tmp_path, "x.gguf", id="m-1", display_name="M", aliases=["m", "m-1-latest"])])
    )

    assert ("m-1", "M", ("m", "m-1-latest")) == (one.id, one.display_name, one.aliases)


@pytest.mark.parametrize("identifier", ["", " ", "a b", "-a", "a\nb", "é", "a" * 256, "a?b"])
def test_an_id_that_no_path_could_hold_is_refused(tmp_path: Path, identifier: str) -> None:
    with pytest.raises(ConfigError, match=r"weights\.0\.id"):
        plan(config(weights=[weights(tmp_path, "\u00e9.gguf" if not identifier else "x.gguf", id=identifier)]))


def test_a_file_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights\.0\.path: there is no file .*sestet pull"):
        plan(config(weights=[{"path": tmp_path / "missing.gguf"}]))


def test_two_sets_of_weights_of_one_id_are_refused(tmp_path: Path) -> None:
    settings = config(weights=[weights(tmp_path, "a.gguf", id="m"), weights(tmp_path, "b.gguf", id="m")])

    with pytest.raises(ConfigError, match="taken twice"):
        catalog(settings, plan(settings), {"m": 100})


def test_weights_cannot_take_the_id_of_a_stand_in(tmp_path: Path) -> None:
    settings = config(weights=[weights(tmp_path, "a.gguf", id="claude-3-7-sonnet-20250219")])

    with pytest.raises(ConfigError, match="taken twice"):
        catalog(settings, plan(settings), {"claude-3-7-sonnet-20250219": 100})


def test_the_first_weights_answer_for_the_stand_ins(tmp_path: Path) -> None:
    settings = config(
        weights=[weights(tmp_path, "a.gguf"), weights(tmp_path, "b.gguf")], aliases={"claude-3-7-sonnet-latest": "b"}
    )
    names = catalog(settings, plan(settings), {"a": 100, "b": 200})

    assert ["a", "b", "a"] == [
        names.resolve(name).weights_id
        for name in ("claude-3-7-sonnet-20250219", "claude-3-7-sonnet-latest", "a-latest")
    ]


def test_a_moved_snapshot_id_is_told_as_a_mistake_of_the_configuration() -> None:
    settings = config(engine={"kind": "scripted"}, aliases={"claude-3-7-sonnet-20250219": "scripted-20260101"})

    with pytest.raises(ConfigError, match="a snapshot id never moves"):
        catalog(settings, plan(settings), {"scripted-20260101": 100})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_this_machines_own_addresses_need_no_key(host: str) -> None:
    check_exposure(config(server={"host": host}), keyring([]))

    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "box.example", "", "localhost.example", "127.1"])  # noqa: S104
def test_any_other_address_without_keys_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="without API keys"):
        check_exposure(config(server={"host": host}), keyring([]))


def test_any_address_may_be_listened_on_with_keys() -> None:
    check_exposure(config(server={"host": "0.0.0.0"}), keyring(["sk-1"]))  # noqa: S104
