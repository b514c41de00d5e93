"""Scripts: what may be written in one, and how a mistake in it is told."""

from pathlib import Path

import pytest

from sestet.engines.scripted import DEFAULT_REPLY, Script, ScriptedReply, ScriptError, read_script


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "script.toml"


def refused(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ScriptError) as caught:
        read_script(file)
    return str(caught.value)


def test_an_empty_script_says_the_default_reply(file: Path) -> None:
    file.write_text("")

    assert Script(reply=[DEFAULT_REPLY]) == read_script(file)


def test_a_whole_script_is_read(file: Path) -> None:
    file.write_text(
        """
        window = 100
        slots = 2
        [[reply]]
        when = "crash"
        then = "crash"
        [[reply]]
        say = ["a", "b"]
        repeat = 3
        delay_s = 0.5
        tokens_per_s = 20.0
        """
    )

    assert Script(
        window=100,
        slots=2,
        reply=[
            ScriptedReply(when="crash", then="crash"),
            ScriptedReply(say=["a", "b"], repeat=3, delay_s=0.5, tokens_per_s=20.0),
        ],
    ) == read_script(file)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("windw = 1", "windw"),
        ("window = 1", "window"),
        ("slots = 0", "slots"),
        ("[[reply]]\nsay = 'text'", "reply.0.say"),
        ("[[reply]]\n[[reply]]\nthen = 'explode'", "reply.1.then"),
        ("[[reply]]\ntokens_per_s = 0", "reply.0.tokens_per_s"),
        ("[[reply]]\nrepeat = -1", "reply.0.repeat"),
        ("[reply]\nsay = []", "reply"),
    ],
)
def test_a_mistake_is_told_by_its_path(file: Path, text: str, path: str) -> None:
    assert refused(file, text).startswith(f"{file}: {path}: ")


def test_what_is_no_toml_is_refused(file: Path) -> None:
    assert str(file) in refused(file, "[[reply")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="No such file"):
        read_script(tmp_path / "missing.toml")


def test_a_file_that_is_no_text_is_told(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")

    with pytest.raises(ScriptError):
        read_script(file)
