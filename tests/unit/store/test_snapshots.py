"""Snapshots outlive their server, are nobody else's, and are believed only where they are what was sealed."""

import contextlib
import os
import random
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sestet.store.snapshots import TICK_NS, Prefix, Snapshot, SnapshotError, SnapshotFolder
from tests.lengths import length

IDENTITY = "llamacpp 1, weights 2"
PREFIXES = (
    Prefix("ab" * 32, 700, 300, 1_790_000_000_000_000, 0),
    Prefix("cd" * 32, 900, 3600, 1_790_000_000_000_001, 3),
)
CONTENT = bytes(range(256)) * 10_000  # more than is read at once
OURS = {"key", "lock"}
ROUNDS = length(6, 20)
ROOT = Path(__file__).parents[3]

Corruption = Callable[[Path], None]


@contextlib.contextmanager
def opened(base: Path) -> Iterator[SnapshotFolder]:
    folder = SnapshotFolder.open(base)
    try:
        yield folder
    finally:
        folder.close()


def seal(folder: SnapshotFolder, content: bytes = CONTENT) -> Snapshot:
    """What an engine writes, and then is sealed."""
    name = folder.new_name()
    folder.path.joinpath(name).write_bytes(content)
    snapshot = Snapshot(name, IDENTITY, "wrkspc_ü", "a-model", 900, len(content), PREFIXES)
    folder.seal(snapshot)
    return snapshot


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def of(*snapshots: Snapshot) -> set[str]:
    """The files of a folder that holds these."""
    return OURS | {one.name for one in snapshots} | {f"{one.name}.json" for one in snapshots}


def edit(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def run(program: str, base: Path) -> subprocess.Popen[str]:
    """This program in a process of its own, which has this module's names, and the base as `base`."""
    program = f"from pathlib import Path\nfrom {__name__} import *\nbase = Path({str(base)!r})\n{program}"
    return subprocess.Popen([sys.executable, "-u", "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_a_restarted_server_finds_what_it_has_sealed(tmp_path: Path) -> None:
    with opened(tmp_path / "deep" / "cache") as folder:
        secret = folder.secret
        kept = sorted((seal(folder), seal(folder, b"x"), seal(folder, b"")), key=lambda one: one.name)
        removed = seal(folder)
        folder.remove(removed.name)
        folder.remove(removed.name)
        assert folder.is_genuine(kept[0].name)
        assert not folder.is_genuine(removed.name)

    with opened(tmp_path / "deep" / "cache") as folder:
        assert (tmp_path / "deep" / "cache" / "0", secret) == (folder.path, folder.secret)
        assert kept == folder.load(IDENTITY)
        assert [True, True, True, False] == [folder.is_genuine(one.name) for one in (*kept, removed)]
        assert of(*kept) == names(folder.path)


def test_what_was_renewed_is_found_and_the_content_still_counts(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        snapshot = seal(folder)
        renewed = replace(snapshot, prefixes=(replace(PREFIXES[0], expires_at=7, hits=9),))
        folder.renew(renewed)
        assert folder.is_genuine(snapshot.name)

    with opened(tmp_path) as folder:
        assert [renewed] == folder.load(IDENTITY)
        assert folder.is_genuine(snapshot.name)


def test_the_content_is_not_read_to_renew(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        snapshot = seal(folder)
        edit(folder.path / snapshot.name, CONTENT, CONTENT[::-1])
        folder.renew(snapshot)

        assert not folder.is_genuine(snapshot.name)


def test_renewing_what_was_removed_meanwhile_does_not_bring_it_back(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        snapshot = seal(folder)
        folder.remove(snapshot.name)
        folder.renew(snapshot)

        assert OURS == names(folder.path)


def test_nobody_else_of_the_machine_can_read_it(tmp_path: Path) -> None:
    tmp_path.joinpath("0").mkdir(mode=0o755)
    with opened(tmp_path) as folder:
        snapshot = seal(folder)

        assert [0o700, 0o600, 0o600, 0o600] == [
            stat.S_IMODE(folder.path.joinpath(name).stat().st_mode)
            for name in ("", "key", "lock", f"{snapshot.name}.json")
        ]


def test_a_content_that_was_read_once_is_read_again_when_it_was_touched(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        snapshot = seal(folder)
        path = folder.path / snapshot.name
        before = path.stat()
        time.sleep(2 * TICK_NS / 1e9)  # what is older than a tick of the clock is not read again
        assert [True, True] == [folder.is_genuine(snapshot.name) for _ in range(2)]

        edit(path, CONTENT, CONTENT[::-1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert not folder.is_genuine(snapshot.name)

        edit(path, CONTENT[::-1], CONTENT)
        assert folder.is_genuine(snapshot.name)


@pytest.mark.parametrize("position", [0, len(CONTENT) // 2, len(CONTENT) - 1])
def test_a_flipped_bit_is_found_out(tmp_path: Path, position: int) -> None:
    with opened(tmp_path) as folder:
        snapshot = seal(folder)
        with folder.path.joinpath(snapshot.name).open("r+b") as file:
            file.seek(position)
            file.write(bytes([CONTENT[position] ^ 1]))
        assert not folder.is_genuine(snapshot.name)

    with opened(tmp_path) as folder:
        assert [snapshot] == folder.load(IDENTITY)
        assert not folder.is_genuine(snapshot.name)


def test_content_that_is_gone_or_a_link_is_not_genuine(tmp_path: Path) -> None:
    with opened(tmp_path / "cache") as folder:
        gone, linked = seal(folder), seal(folder)
        folder.path.joinpath(gone.name).unlink()
        folder.path.joinpath(linked.name).rename(tmp_path / "elsewhere")
        folder.path.joinpath(linked.name).symlink_to(tmp_path / "elsewhere")

        assert [False, False] == [folder.is_genuine(one.name) for one in (gone, linked)]


def _cut(file: Path) -> None:
    os.truncate(file, len(CONTENT) - 1)


def _extended(file: Path) -> None:
    os.truncate(file, len(CONTENT) + 1)


def _without_manifest(file: Path) -> None:
    file.with_suffix(".json").unlink()


def _without_file(file: Path) -> None:
    file.unlink()


def _more_hits(file: Path) -> None:
    edit(file.with_suffix(".json"), b'"hits":3', b'"hits":4')


def _of_another_workspace(file: Path) -> None:
    edit(file.with_suffix(".json"), '"wrkspc_ü"'.encode(), b'"wrkspc_u"')


def _with_a_space(file: Path) -> None:
    edit(file.with_suffix(".json"), b',"snapshot":', b', "snapshot":')


def _torn(file: Path) -> None:
    os.truncate(file.with_suffix(".json"), 40)


def _emptied(file: Path) -> None:
    os.truncate(file.with_suffix(".json"), 0)


def _renamed(file: Path) -> None:
    file.rename(file.with_name("f" * 32))
    file.with_suffix(".json").rename(file.with_name("f" * 32 + ".json"))


def _of_another_key(file: Path) -> None:
    with opened(file.parent.parent / "foreign") as folder:
        foreign = seal(folder)
    file.unlink()
    file.with_suffix(".json").unlink()
    for name in (foreign.name, f"{foreign.name}.json"):
        folder.path.joinpath(name).rename(file.with_name(name))


def _left_unfinished(file: Path) -> None:
    file.with_suffix(".json").rename(file.with_name("unfinished"))


def _as_a_pipe(file: Path) -> None:
    file.with_suffix(".json").unlink()
    os.mkfifo(file.with_suffix(".json"))


@pytest.mark.parametrize(
    "corrupt",
    [
        *(_cut, _extended, _without_manifest, _without_file, _more_hits, _of_another_workspace, _with_a_space),
        *(_torn, _emptied, _renamed, _of_another_key, _left_unfinished, _as_a_pipe),
    ],
)
def test_what_is_not_as_it_was_sealed_is_removed_and_the_rest_stays(tmp_path: Path, corrupt: Corruption) -> None:
    with opened(tmp_path) as folder:
        whole, broken = seal(folder), seal(folder)
    corrupt(folder.path / broken.name)

    with opened(tmp_path) as folder:
        assert [whole] == folder.load(IDENTITY)
        assert of(whole) == names(folder.path)
        assert folder.is_genuine(whole.name)


def test_what_other_weights_or_another_engine_wrote_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        seal(folder)

    with opened(tmp_path) as folder:
        assert [] == folder.load("llamacpp 1, weights 3")
        assert OURS == names(folder.path)


@pytest.mark.parametrize("key", [b"", b"k" * 31, b"k" * 32, b"k" * 33])
def test_under_another_key_nothing_is_genuine(tmp_path: Path, key: bytes) -> None:
    with opened(tmp_path) as folder:
        secret = folder.secret
        seal(folder)
    folder.path.joinpath("key").write_bytes(key)

    with opened(tmp_path) as folder:
        assert 32 == len(folder.secret)
        assert secret != folder.secret
        assert [] == folder.load(IDENTITY)
        assert OURS == names(folder.path)


def test_links_lead_to_nothing_being_read_or_removed_elsewhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with opened(tmp_path / "cache") as folder:
        manifest, content = seal(folder), seal(folder)
    for name in (f"{manifest.name}.json", content.name):
        folder.path.joinpath(name).rename(outside / name)
        folder.path.joinpath(name).symlink_to(outside / name)
    before = {path.name: path.read_bytes() for path in outside.iterdir()}

    with opened(tmp_path / "cache") as folder:
        assert [] == folder.load(IDENTITY)
        assert OURS == names(folder.path)
        assert before == {path.name: path.read_bytes() for path in outside.iterdir()}


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    tmp_path.joinpath("outside").write_bytes(b"precious")
    with opened(tmp_path / "cache") as folder:
        folder.path.joinpath("unfinished").symlink_to(tmp_path / "outside")
        with pytest.raises(SnapshotError, match="symbolic link"):
            seal(folder)

        assert b"precious" == tmp_path.joinpath("outside").read_bytes()
        assert OURS == names(folder.path)


def test_two_servers_have_folders_of_their_own_and_leave_each_other_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second:
        one, other = seal(first), seal(second)

        assert (tmp_path / "0", tmp_path / "1") == (first.path, second.path)
        assert first.secret != second.secret
        assert ([one], [other]) == (first.load(IDENTITY), second.load(IDENTITY))
        assert (of(one), of(other)) == (names(first.path), names(second.path))

        with opened(tmp_path) as third:
            assert tmp_path / "2" == third.path
            assert [True, True] == [first.is_genuine(one.name), second.is_genuine(other.name)]


def test_a_server_that_is_gone_leaves_nothing_to_others_but_its_own_to_itself(tmp_path: Path) -> None:
    with opened(tmp_path) as first:
        one = seal(first)
        with opened(tmp_path) as second:
            seal(second)
            second.path.joinpath(second.new_name()).write_bytes(b"half of it")

    with opened(tmp_path) as first:
        assert {"lock"} == names(tmp_path / "1")
        assert [one] == first.load(IDENTITY)
        with opened(tmp_path) as second:
            assert tmp_path / "1" == second.path
            assert [] == second.load(IDENTITY)


def test_the_folder_of_a_killed_server_is_free(tmp_path: Path) -> None:
    server = run("folder = SnapshotFolder.open(base)\nseal(folder)\nprint(folder.path)\ninput()", tmp_path)
    assert server.stdout is not None
    held = server.stdout.readline().strip()
    with opened(tmp_path) as meanwhile:
        pass
    server.kill()
    server.communicate()

    with opened(tmp_path) as folder:
        assert [held, str(tmp_path / "1"), held] == [held, str(meanwhile.path), str(folder.path)]
        assert 1 == len(folder.load(IDENTITY))


def test_what_is_not_ours_is_not_emptied(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    with opened(outside) as folder:
        seal(folder)
    base = tmp_path / "base"
    base.joinpath("1").mkdir(parents=True)
    base.joinpath("1", "thesis.txt").write_text("years of work")
    base.joinpath("2").write_text("not a folder")
    base.joinpath("3").symlink_to(outside / "0")
    base.joinpath("four").mkdir()
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))

    with opened(base):
        after = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}

    assert sorted([*before, *(Path("base", "0", name) for name in ("", "key", "lock"))]) == sorted(after)


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    tmp_path.joinpath("0").mkdir()
    tmp_path.joinpath("0", "thesis.txt").write_text("years of work")

    with pytest.raises(SnapshotError, match="0: this folder holds other files"):
        SnapshotFolder.open(tmp_path)

    assert {"thesis.txt"} == names(tmp_path / "0")


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()

    with pytest.raises(SnapshotError) as raised:
        SnapshotFolder.open(tmp_path / "file" / "cache")

    assert f"{tmp_path}/file/cache: Not a directory" == str(raised.value)


def test_a_server_killed_before_it_had_a_key_can_start_again(tmp_path: Path) -> None:
    tmp_path.joinpath("0").mkdir()
    for name in ("lock", "unfinished"):
        tmp_path.joinpath("0", name).touch()

    with opened(tmp_path) as folder:
        assert [] == folder.load(IDENTITY)
        assert OURS == names(folder.path)


def test_a_file_of_another_size_than_the_engine_said_is_not_sealed(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        snapshot = replace(seal(folder), bytes=len(CONTENT) + 1)
        with pytest.raises(SnapshotError, match=f"has {len(CONTENT)} bytes instead of {len(CONTENT) + 1}"):
            folder.seal(snapshot)

        assert OURS == names(folder.path)
        assert not folder.is_genuine(snapshot.name)


def test_a_manifest_that_would_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        snapshot = seal(folder)
        with pytest.raises(SnapshotError, match="serves too many prefixes"):
            folder.renew(replace(snapshot, prefixes=PREFIXES * 5_000))

        assert [snapshot] == folder.load(IDENTITY)


def test_a_full_disk_leaves_no_torn_manifest(tmp_path: Path) -> None:
    """The system writes 100 bytes of a file here, and refuses the rest."""
    program = """
import resource
folder = SnapshotFolder.open(base)
sealed = seal(folder)
unsealed = folder.new_name()
folder.path.joinpath(unsealed).write_bytes(CONTENT)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
for call, name in ((folder.seal, unsealed), (folder.renew, sealed.name)):
    try:
        call(replace(sealed, name=name, prefixes=()))
    except SnapshotError as error:
        print(str(error).replace(name, "NAME"))
print([sealed] == folder.load(IDENTITY), folder.is_genuine(sealed.name), of(sealed) == names(folder.path))
"""
    said, _ = run(program, tmp_path).communicate(timeout=60)

    refused = f"{tmp_path}/0/NAME: File too large"
    assert [refused, refused, "True True True"] == said.splitlines()


def test_some_of_the_file_system_stays_free(tmp_path: Path) -> None:
    system = os.statvfs(tmp_path)
    reserve = max(1 << 30, system.f_blocks * system.f_frsize // 50)
    rooms = []
    for given in (None, 0, 1 << 62):
        folder = SnapshotFolder.open(tmp_path, reserve_bytes=given)
        rooms.append(folder.room())
        folder.close()

    free = system.f_bavail * system.f_frsize
    expected = [max(0, free - reserve), free, 0]
    assert [True] * 3 == [abs(room - wanted) < 1 << 28 for room, wanted in zip(rooms, expected, strict=True)]


def test_threads_that_renew_and_remove_leave_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        for _ in range(50):
            snapshot = seal(folder, b"x")
            threads = [
                threading.Thread(target=call, args=(given,))
                for call, given in ((folder.renew, snapshot), (folder.remove, snapshot.name), (folder.renew, snapshot))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert OURS == names(folder.path)


def work(base: Path, seed: int) -> None:
    """What a server does, for ever; it says what has been done, and what it is about to undo."""
    chance = random.Random(seed)
    folder = SnapshotFolder.open(base)
    live = {one.name: one for one in folder.load(IDENTITY)}
    while True:
        name = chance.choice([*live, ""])
        if not name:
            snapshot = seal(folder, chance.randbytes(chance.randrange(100_000)))
            live[snapshot.name] = snapshot
            print("sealed", snapshot.name, 0)
        elif chance.random() < 0.8 and len(live) < 10:
            prefix = live[name].prefixes[0]
            # So many that a kill often comes while they are written.
            live[name] = replace(live[name], prefixes=(replace(prefix, hits=prefix.hits + 1),) * 3_000)
            folder.renew(live[name])
            print("renewed", name, prefix.hits + 1)
        else:
            print("removing", name, 0)
            folder.remove(name)
            del live[name]


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing_that_was_sealed_and_leak_nothing(tmp_path: Path) -> None:
    chance = random.Random(6)
    promised: dict[str, int] = {}
    kills = 0
    for seed in range(ROUNDS):
        server = run(f"work(base, {seed})", tmp_path)
        assert server.stdout is not None
        lines = [server.stdout.readline() for _ in range(chance.randrange(1, 60))]
        time.sleep(chance.random() / 100)  # at any moment, not only after a line
        server.kill()
        lines += server.stdout.read().split("\n")[:-1]  # what a kill cut off was promised to nobody
        kills += server.wait() == -9
        for what, name, hits in map(str.split, lines):
            promised[name] = int(hits)
            if what == "removing":
                del promised[name]
        with opened(tmp_path) as folder:
            found = {one.name: one for one in folder.load(IDENTITY)}

            assert [] == sorted(promised.keys() - found.keys())
            assert [] == [name for name, hits in promised.items() if found[name].prefixes[0].hits < hits]
            assert all(folder.is_genuine(name) for name in found)
            assert of(*found.values()) == names(folder.path)
            assert ["0"] == os.listdir(tmp_path)
        promised = {name: one.prefixes[0].hits for name, one in found.items()}
    assert ROUNDS == kills
