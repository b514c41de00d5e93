"""The file of signing secrets: made once whoever starts first, rotated without loss, refused when it is not right."""

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sestet.gate.signing_keys import SECRET_BYTES, SigningKeysError, new_secret, read_or_make, rotate
from sestet.turn.seals import SECRET_BYTES_MIN, Owner, Seals, Verdict


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sestet" / "signing-keys"


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def refused(file: Path) -> str:
    with pytest.raises(SigningKeysError) as caught:
        read_or_make(file)
    return str(caught.value)


def line(secret: bytes) -> str:
    return base64.b64encode(secret).decode() + "\n"


def test_the_first_start_makes_the_file_and_every_other_reads_it(file: Path) -> None:
    made = read_or_make(file)

    assert [SECRET_BYTES] == [len(secret) for secret in made]
    assert [made, made] == [read_or_make(file), read_or_make(file)]


def test_only_its_owner_can_read_it(file: Path) -> None:
    before = os.umask(0)
    try:
        read_or_make(file)
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)]
        rotate(file)
    finally:
        os.umask(before)

    assert [0o600, 0o700, 0o600] == [*modes, stat.S_IMODE(file.stat().st_mode)]


def test_nothing_but_the_file_is_left_in_its_folder(file: Path) -> None:
    read_or_make(file)
    rotate(file)

    assert [file] == list(file.parent.iterdir())


def test_starts_at_the_same_time_agree_on_the_secret(file: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(read_or_make, [file] * 64))

    assert 1 == len(set(made))
    assert [file] == list(file.parent.iterdir())


def test_secrets_are_not_the_same_twice(tmp_path: Path) -> None:
    assert 20 == len(
        {read_or_make(tmp_path / str(number)) for number in range(10)} | {(new_secret(),) for _ in range(10)}
    )


def test_secrets_are_long_enough_to_seal_with() -> None:
    assert SECRET_BYTES_MIN <= SECRET_BYTES == len(new_secret())


def test_rotating_puts_a_new_secret_in_front_and_keeps_the_others(file: Path) -> None:
    first = read_or_make(file)
    counts = [rotate(file), rotate(file)]
    secrets = read_or_make(file)

    assert [2, 3] == counts
    assert first == secrets[2:]
    assert 3 == len(set(secrets))


def test_rotating_without_a_file_makes_one(file: Path) -> None:
    assert 1 == rotate(file)
    assert 1 == len(read_or_make(file))


def test_thoughts_sealed_before_a_rotation_are_genuine_after_it_and_foreign_once_the_line_is_gone(file: Path) -> None:
    owner = Owner("card", "default")
    seal = Seals(read_or_make(file)).sign(owner, "msg_1", 0, "Hm.")
    rotate(file)
    after = Seals(read_or_make(file)).open(owner, seal, "Hm.").verdict
    written(file, line(read_or_make(file)[0]))
    gone = Seals(read_or_make(file)).open(owner, seal, "Hm.").verdict

    assert [Verdict.GENUINE, Verdict.FOREIGN] == [after, gone]


def test_comments_blank_lines_and_other_line_ends_mean_nothing(file: Path) -> None:
    secrets = (b"a" * 32, b"b" * 48)
    written(file, f"# ours\n\n  {line(secrets[0]).strip()}  \r\n#{line(b'c' * 32)}\t\n{line(secrets[1]).strip()}")

    assert secrets == read_or_make(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it holds no secret"),
        ("# nothing\n\n", "it holds no secret"),
        (line(b"a" * 32) + "not base64!\n", "line 2 is not base64"),
        ("# x\n" + line(b"a" * 31), "the secret in line 2 is shorter than 32 bytes"),
        (line(b"a" * 32)[:-3] + "\n", "line 1 is not base64"),
        ("é" * 44, "it cannot be read"),
    ],
)
def test_a_file_that_is_not_right_stops_the_start_and_stays_as_it_is(file: Path, text: str, reason: str) -> None:
    written(file, text)

    assert reason in refused(file)
    assert str(file) in refused(file)
    assert text == file.read_text()
    with pytest.raises(SigningKeysError):
        rotate(file)
    assert text == file.read_text()


def test_no_secret_is_in_what_is_said_of_a_wrong_file(file: Path) -> None:
    secret = line(b"a" * 32).strip()
    written(file, f"{secret}\n{secret}x\n")

    assert secret[:8] not in refused(file)


@pytest.mark.parametrize("place", ["folder", "file/signing-keys"])
def test_a_place_that_cannot_hold_the_file_is_told_by_its_path(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")

    assert str(tmp_path / place) in refused(tmp_path / place)


def test_a_folder_that_cannot_be_written_names_the_setting() -> None:
    message = refused(Path("/proc/sestet/signing-keys"))

    assert "/proc/sestet/signing-keys: it cannot be written" in message
    assert "thinking.signing_keys" in message
