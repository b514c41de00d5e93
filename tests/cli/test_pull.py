"""`sestet pull` against a hub on this machine: names, resuming, checks, secrets, and what it says."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sestet.cli.download import Fetched, fetch
from sestet.cli.failure import Failure
from sestet.cli.huggingface import RemoteFile, Repository, parse
from sestet.cli.web import Web, unreachable
from tests.cli.conftest import Run, refusal
from tests.cli.hub import REPOSITORY, Hub, gguf, running, sha256

BODY = gguf(300_000)
NAME = "model-Q8_0.gguf"
TOKEN = "hf_sentinel-token"


class Quiet:
    """A progress that remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def at(self, done: int, total: int | None, doing: str) -> None:
        """Not looked at."""

    def say(self, remark: str) -> None:
        self.said.append(remark)


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "models"


def contents(folder: Path) -> dict[str, int]:
    """Every file with its size; of the notes beside the models only that they are there."""
    return {path.name: 0 if path.suffix == ".json" else path.stat().st_size for path in sorted(folder.iterdir())}


def fetch_from(hub: Hub, folder: Path, *, checksum: str | None = None, attempts: int = 3) -> tuple[Fetched, list[str]]:
    quiet = Quiet()
    remote = RemoteFile(httpx2.URL(hub.address(NAME)), sha256=checksum)
    with Web(hub.url, None) as web:
        return fetch(web, remote, folder, quiet, pauses_s=(0.0,) * attempts), quiet.said


def test_a_named_file_arrives_and_the_command_says_how_to_serve_it(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {NAME: BODY, "other-Q4_0.gguf": gguf(10)}
    path = folder_of(tmp_path) / NAME

    result = pull(f"{REPOSITORY}/{NAME}")

    assert 0 == result.exit_code
    assert BODY == path.read_bytes()
    assert {NAME: len(BODY), f"{NAME}.json": 0} == contents(folder_of(tmp_path))
    assert "Complete: 0 MB, its SHA-256 is right.\n" == result.stderr
    assert (
        f"{path}\n\nServe it:\n    sestet serve --model {path}\n\n"
        f'or, for every start, in sestet.toml:\n    [[weights]]\n    path = "{path}"\n'
    ) == result.stdout


@pytest.mark.parametrize(
    ("names", "asked", "taken"),
    [
        (["m-F16.gguf", "m-Q8_0.gguf", "m-Q4_K_M.gguf"], REPOSITORY, "m-Q4_K_M.gguf"),
        (["m.f16.gguf", "m.q8_0.gguf"], REPOSITORY, "m.q8_0.gguf"),
        (["m-Q2_K.gguf", "README.md"], REPOSITORY, "m-Q2_K.gguf"),
        (
            ["m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "m-Q3_K_M.gguf"],
            REPOSITORY,
            "m-Q3_K_M.gguf",
        ),
        (["mmproj-m-F16.gguf", "m.imatrix.gguf", "m-Q2_K.gguf"], REPOSITORY, "m-Q2_K.gguf"),
        (["m-Q8_0.gguf", "m-Q4_K_M.gguf"], f"{REPOSITORY}:q8_0", "m-Q8_0.gguf"),
        (["m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-IQ4_XS.gguf"], f"{REPOSITORY}:4_XS", "m-IQ4_XS.gguf"),
        (["m-Q4_K.gguf", "m-Q4_K_S.gguf"], f"{REPOSITORY}:Q4_K", "m-Q4_K.gguf"),
        (["sub/m-Q8_0.gguf", "m-Q8_0.gguf"], f"{REPOSITORY}/sub/m-Q8_0.gguf", "sub/m-Q8_0.gguf"),
        (["ünï cödé+%23-Q8_0.gguf"], REPOSITORY, "ünï cödé+%23-Q8_0.gguf"),
    ],
)
def test_the_file_that_is_meant_is_taken(
    pull: Run, hub: Hub, tmp_path: Path, names: list[str], asked: str, taken: str
) -> None:
    hub.files = {name: gguf(100, seed) for seed, name in enumerate(names)}

    result = pull(asked)

    assert 0 == result.exit_code, result.exception
    assert [hub.files[taken]] == [path.read_bytes() for path in folder_of(tmp_path).glob("*.gguf")]


def test_a_choice_that_was_not_the_callers_is_told(pull: Run, hub: Hub) -> None:
    hub.files = {"m-Q8_0.gguf": gguf(10), "m-Q4_K_M.gguf": gguf(11)}

    said = pull(REPOSITORY).stderr.splitlines()

    assert ["owner/repo has 2 GGUF files; taking m-Q4_K_M.gguf", "Complete: 0 MB, its SHA-256 is right."] == said


@pytest.mark.parametrize(
    ("names", "asked", "line"),
    [
        (
            ["a-Q8_0.gguf", "b-Q8_0.gguf"],
            f"{REPOSITORY}:Q8_0",
            "owner/repo has several such files; name one: owner/repo/a-Q8_0.gguf, owner/repo/b-Q8_0.gguf",
        ),
        (
            ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"],
            REPOSITORY,
            "owner/repo has several such files; name one: owner/repo/a-Q4_K_M.gguf, owner/repo/b-Q4_K_M.gguf",
        ),
        (["a-Q8_0.gguf"], f"{REPOSITORY}:Q2_K", "owner/repo has no file for `Q2_K`; it has owner/repo/a-Q8_0.gguf"),
        (
            ["a-Q8_0.gguf"],
            f"{REPOSITORY}/b.gguf",
            "owner/repo has no file b.gguf; it has owner/repo/a-Q8_0.gguf",
        ),
        (
            ["README.md"],
            REPOSITORY,
            "owner/repo has no GGUF file; look for a repository whose name ends in -GGUF",
        ),
        (
            ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"],
            REPOSITORY,
            "a-00001-of-00002.gguf is one part of a model split over several files, which cannot be served yet; "
            "choose a smaller quantisation, or a repository that has it in one file",
        ),
        (
            ["mmproj-a.gguf"],
            REPOSITORY,
            "owner/repo has only files that come with a model; it has owner/repo/mmproj-a.gguf",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_there_is(
    pull: Run, hub: Hub, names: list[str], asked: str, line: str
) -> None:
    hub.files = {name: gguf(10) for name in names}

    assert line == refusal(pull(asked))
    assert [] == hub.asked()


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "owner/..",
        "owner/re..po",
        "owner",
        "owner/repo/../../x.gguf",
        "owner/repo//x.gguf",
        "owner/repo/a\\..\\x.gguf",
        "owner\0/repo",
        "owner/repo/x\0.gguf",
        "owner/repo/\x1b[31mx.gguf",
        "file:///etc/passwd",
        "https://",
        "",
    ],
)
def test_what_is_no_name_is_refused_before_anything_is_asked(pull: Run, hub: Hub, name: str) -> None:
    refusal(pull(name))

    assert [] == hub.requests


@pytest.mark.parametrize(
    ("path", "file_name"),
    [
        ("/model.gguf?download=true", "model.gguf"),
        ("/a/MODEL.GGUF", "MODEL.gguf"),
        ("/blob/sha256-abc", "sha256-abc.gguf"),
        ("/..%2f..%2f..%2fetc%2fpasswd", "passwd.gguf"),
        ("/%2e%2e%5c%2e%2e%5cx.gguf", "x.gguf"),
        ("/x%00y.gguf", "x-y.gguf"),
        ("/%1b%5b31mred.gguf", "31mred.gguf"),
        ("/.hidden.gguf", "hidden.gguf"),
        (f"/{'x' * 400}.gguf", f"{'x' * 150}.gguf"),
    ],
)
def test_an_address_becomes_one_safe_file_name(path: str, file_name: str) -> None:
    assert file_name == RemoteFile(httpx2.URL(f"http://127.0.0.1{path}")).file_name


@pytest.mark.parametrize("path", ["/", "/..", "/%2e%2e", "/a/%00"])
def test_an_address_without_a_file_name_is_refused(path: str) -> None:
    with pytest.raises(Failure, match="names no file"):
        _ = RemoteFile(httpx2.URL(f"http://127.0.0.1{path}")).file_name


@given(st.text(max_size=60))
def test_no_address_leads_out_of_the_folder(path: str) -> None:
    try:
        name = RemoteFile(httpx2.URL("http://127.0.0.1/").join(f"/{path}")).file_name
    except (Failure, httpx2.InvalidURL):
        return

    assert Path(name).name == name
    assert name.isascii()
    assert name.isprintable()


@pytest.mark.parametrize(
    ("address", "meaning"),
    [
        ("http://127.0.0.1/owner/repo", Repository("owner/repo")),
        ("http://127.0.0.1/owner/repo/tree/main", Repository("owner/repo")),
        ("http://127.0.0.1/owner/repo/blob/main/sub/m.gguf", Repository("owner/repo", path="sub/m.gguf")),
        ("http://127.0.0.1/owner/repo/resolve/main/m.gguf", Repository("owner/repo", path="m.gguf")),
        (
            "http://127.0.0.1:81/owner/repo/resolve/main/m.gguf",
            RemoteFile(httpx2.URL("http://127.0.0.1:81/owner/repo/resolve/main/m.gguf")),
        ),
    ],
)
def test_an_address_of_a_page_of_the_endpoint_means_its_file(address: str, meaning: object) -> None:
    assert meaning == parse(address, "http://127.0.0.1")


def test_a_later_run_asks_only_for_the_rest(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.statuses = {NAME: BODY}, []
    hub.cuts = [100_000, 0, 0, 0, 0, 0, 0]
    folder = folder_of(tmp_path)
    with pytest.raises(Failure):
        fetch_from(hub, folder, attempts=2)
    hub.cuts.clear()
    before = len(hub.asked())

    result = pull(hub.address(NAME), "--sha256", sha256(BODY))

    assert 0 == result.exit_code, result.exception
    assert [("bytes=100000-", '"v1"')] == hub.asked("range", "if-range")[before:]
    assert BODY == (folder / NAME).read_bytes()
    assert "Going on after 100,000 bytes that are here already." == result.stderr.splitlines()[0]


def test_a_connection_cut_midway_is_taken_up_in_the_same_run(hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.cuts = {NAME: BODY}, [70_000, 50_000]

    fetched, said = fetch_from(hub, tmp_path, checksum=sha256(BODY))

    assert Fetched(tmp_path / NAME, len(BODY), sha256(BODY), checked=True) == fetched
    assert [None, "bytes=70000-", "bytes=120000-"] == [one for (one,) in hub.asked("range")]
    assert ["The connection was cut; going on where it stopped."] * 2 == said


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 4000), max_size=5),
    ranges=st.booleans(),
    etag=st.sampled_from(['"v1"', 'W/"v1"', None]),
)
def test_wherever_it_is_cut_the_file_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], ranges: bool, etag: str | None
) -> None:
    body, folder = gguf(3000), tmp_path_factory.mktemp("cuts")
    with running(Hub(files={NAME: body}, cuts=list(cuts), ranges=ranges, etag=etag)) as hub:
        fetched, _ = fetch_from(hub, folder, checksum=sha256(body), attempts=len(cuts) + 1)

    assert body == fetched.path.read_bytes()
    assert {NAME: len(body), f"{NAME}.json": 0} == contents(folder)


def test_a_server_that_cannot_continue_starts_over(hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.cuts, hub.ranges = {NAME: BODY}, [70_000], False

    fetched, said = fetch_from(hub, tmp_path)

    assert BODY == fetched.path.read_bytes()
    assert "The file changed since, or its server cannot continue it; starting over." == said[-1]


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_started_over(hub: Hub, tmp_path: Path, if_range: bool) -> None:
    changed = gguf(200_000, seed=1)
    hub.files, hub.cuts = {NAME: BODY}, [70_000, 0, 0]
    with pytest.raises(Failure):
        fetch_from(hub, tmp_path, attempts=1)
    hub.cuts.clear()
    hub.files, hub.etag, hub.if_range = {NAME: changed}, '"v2"', if_range

    fetched, said = fetch_from(hub, tmp_path)

    assert changed == fetched.path.read_bytes()
    assert "The file changed since, or its server cannot continue it; starting over." in said


def test_a_part_that_is_longer_than_the_file_is_started_over(hub: Hub, tmp_path: Path) -> None:
    changed = gguf(50_000, seed=1)
    hub.files, hub.cuts = {NAME: BODY}, [70_000, 0, 0]
    with pytest.raises(Failure):
        fetch_from(hub, tmp_path, attempts=1)
    hub.cuts.clear()
    hub.files, hub.if_range = {NAME: changed}, False

    assert changed == fetch_from(hub, tmp_path)[0].path.read_bytes()


@pytest.mark.parametrize("checksum", [None, sha256(BODY)])
def test_a_part_that_cannot_be_told_to_belong_is_not_continued(hub: Hub, tmp_path: Path, checksum: str | None) -> None:
    hub.files, hub.etag = {NAME: BODY}, None
    (tmp_path / f"{NAME}.part").write_bytes(b"GGUF of another file")

    assert BODY == fetch_from(hub, tmp_path, checksum=checksum)[0].path.read_bytes()


def test_without_validator_and_checksum_a_part_is_not_continued(hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.etag, hub.cuts = {NAME: BODY}, None, [70_000, 0, 0]
    with pytest.raises(Failure):
        fetch_from(hub, tmp_path, attempts=1)
    hub.cuts.clear()
    before = len(hub.asked())

    fetch_from(hub, tmp_path)

    assert [(None,)] == hub.asked("range")[before:]


def test_a_part_from_another_address_is_not_continued(hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.cuts = {NAME: BODY}, [70_000, 0, 0]
    with pytest.raises(Failure):
        fetch_from(hub, tmp_path, attempts=1)
    changed = gguf(len(BODY), seed=1)
    with running(Hub(files={NAME: changed})) as other:
        fetched, _ = fetch_from(other, tmp_path)

    assert changed == fetched.path.read_bytes()


def test_a_part_that_was_changed_on_the_disk_is_found_out(hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.cuts = {NAME: BODY}, [70_000, 0, 0]
    with pytest.raises(Failure):
        fetch_from(hub, tmp_path, checksum=sha256(BODY), attempts=1)
    hub.cuts.clear()
    part = tmp_path / f"{NAME}.part"
    part.write_bytes(part.read_bytes()[:-1] + b"?")

    with pytest.raises(Failure, match="it was thrown away"):
        fetch_from(hub, tmp_path, checksum=sha256(BODY))

    assert {} == contents(tmp_path)


def test_a_wrong_checksum_of_the_list_throws_the_file_away(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {NAME: BODY}
    hub.listed = [{"type": "file", "path": NAME, "size": 1, "lfs": {"oid": "0" * 64, "size": len(BODY)}}]

    line = refusal(pull(REPOSITORY))

    assert f"the SHA-256 of what came is {sha256(BODY)}, but {'0' * 64} is wanted; it was thrown away:" in line
    assert {} == contents(folder_of(tmp_path))


def test_a_wrong_checksum_of_the_caller_is_told_before_anything_is_fetched(pull: Run, hub: Hub) -> None:
    hub.files = {NAME: BODY}

    line = refusal(pull(REPOSITORY, "--sha256", "0" * 64))

    assert f"{hub.address(NAME)} has the SHA-256 {sha256(BODY)}, not the one of --sha256; check both" == line
    assert [] == hub.asked()


def test_a_checksum_that_is_none_is_refused(pull: Run) -> None:
    assert "--sha256 takes 64 hexadecimal digits, as `sha256sum FILE` prints them" == refusal(
        pull(REPOSITORY, "--sha256", "abc")
    )


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_a_size_other_than_the_listed_one_is_refused(pull: Run, hub: Hub, tmp_path: Path, size: int) -> None:
    hub.files = {NAME: BODY}
    hub.listed = [{"type": "file", "path": NAME, "size": 1, "lfs": {"oid": sha256(BODY), "size": size}}]

    line = refusal(pull(REPOSITORY))

    assert f"127.0.0.1 has a file of {len(BODY)} bytes, but {size} are expected; nothing was kept" in line
    assert {} == contents(folder_of(tmp_path))


def test_more_than_was_promised_is_refused(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.lengths = {NAME: BODY}, False
    hub.listed = [{"type": "file", "path": NAME, "size": 1, "lfs": {"oid": sha256(BODY), "size": 1000}}]

    assert "127.0.0.1 sends more than the 1000 bytes the file should have" in refusal(pull(REPOSITORY))
    assert {} == contents(folder_of(tmp_path))


def test_the_token_goes_to_the_endpoint_and_not_to_where_it_redirects(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {NAME: BODY}
    with running(Hub(files={NAME: BODY}, etag='"store"', cuts=[70_000])) as store:
        hub.redirect = store.url
        hub.linked = {"x-linked-etag": f'"{sha256(BODY)}"', "x-linked-size": str(len(BODY))}
        result = pull(REPOSITORY, env={"HF_TOKEN": TOKEN})

    assert 0 == result.exit_code, result.exception
    assert [f"Bearer {TOKEN}"] * 3 == [headers.get("authorization") for _, headers in hub.requests]
    assert [(None, None), ("bytes=70000-", None)] == store.asked("range", "authorization")
    assert TOKEN not in repr(store.requests)
    assert TOKEN not in result.output
    assert all(TOKEN.encode() not in path.read_bytes() for path in folder_of(tmp_path).iterdir())


def test_the_token_does_not_go_to_another_address(run: Run, hub: Hub, tmp_path: Path) -> None:
    with running(Hub(files={NAME: BODY})) as other:
        result = run("pull", other.address(NAME), "--endpoint", hub.url, "--to", str(tmp_path), env={"HF_TOKEN": TOKEN})

    assert 0 == result.exit_code, result.exception
    assert [(None,)] == other.asked("authorization")
    assert [] == hub.requests


def test_the_checksum_comes_with_the_redirect_where_no_list_gives_it(run: Run, hub: Hub, tmp_path: Path) -> None:
    with running(Hub(files={NAME: BODY})) as store:
        hub.redirect, hub.linked = store.url, {"x-linked-etag": f'"{"0" * 64}"'}
        address = hub.address(NAME)
        result = run("pull", address, "--endpoint", "http://127.0.0.1:1", "--to", str(tmp_path))

    assert f"but {'0' * 64} is wanted" in refusal(result)
    assert {} == contents(tmp_path)


def test_a_redirect_to_what_is_not_the_web_is_refused(pull: Run, hub: Hub) -> None:
    hub.files, hub.redirect = {NAME: BODY}, "file:///etc/passwd?"

    assert "127.0.0.1 redirects to what is no web address; check the name" == refusal(pull(REPOSITORY))


def test_redirects_without_end_are_refused(pull: Run, hub: Hub) -> None:
    hub.files, hub.redirect = {NAME: BODY}, hub.url

    assert "127.0.0.1 redirects without end; try again later, or check the address" == refusal(pull(REPOSITORY))


def test_a_page_instead_of_a_file_is_refused(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.content_type = {"page": b"<!doctype html><title>Sign in</title>"}, "text/html"

    line = refusal(pull(hub.address("page")))

    assert (
        f"what {hub.address('page')} sends is no GGUF file (it begins with '<!do'); is it the address of a page? "
        "The file's own has /resolve/ in it on Hugging Face"
    ) == line
    assert {} == contents(folder_of(tmp_path))


def test_a_page_is_refused_at_its_first_bytes(hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.hold_after = {NAME: b"<html>" * 10_000}, 1000

    with pytest.raises(Failure, match="is no GGUF file"):
        fetch_from(hub, tmp_path)

    assert not hub.go_on.is_set()


@pytest.mark.parametrize("body", [b"", b"GGU"])
def test_a_file_too_short_to_be_one_is_refused(hub: Hub, tmp_path: Path, body: bytes) -> None:
    hub.files = {NAME: body}

    with pytest.raises(Failure, match="is no GGUF file"):
        fetch_from(hub, tmp_path)

    assert {} == contents(tmp_path)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "check the name, or set HF_TOKEN to a token that may read it"),
        (403, "do that, and set HF_TOKEN to a token of the same account"),
        (404, "there is nothing under this name: check its spelling"),
        (418, "check the address"),
        (503, "run the same command again later"),
    ],
)
def test_a_refusal_of_the_endpoint_says_what_to_do(pull: Run, hub: Hub, status: int, advice: str) -> None:
    hub.statuses = [status]
    hub.status_headers = {"x-error-message": "Access is \x1b[31mrestricted."}

    line = refusal(pull(REPOSITORY))

    assert line.startswith(f"127.0.0.1 answers {status} for owner/repo: Access is ␛[31mrestricted; ")
    assert line.endswith(advice)


def test_a_busy_server_is_asked_again_and_then_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.statuses = {NAME: BODY}, [503, 429]
    assert BODY == fetch_from(hub, tmp_path, attempts=2)[0].path.read_bytes()
    hub.statuses = [503] * 3
    (tmp_path / NAME).unlink()

    with pytest.raises(Failure, match="answers 503"):
        fetch_from(hub, tmp_path, attempts=2)

    assert [] == hub.statuses


def test_an_endpoint_that_is_none_is_told(pull: Run, hub: Hub) -> None:
    hub.listed = [{"unlike": "a list"}]

    assert (
        "what 127.0.0.1 answers is no list of files; is it a Hugging Face endpoint (--endpoint, HF_ENDPOINT)?"
        == refusal(pull(REPOSITORY))
    )


def test_without_a_network_it_says_how_to_do_without() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody can answer here
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ended = subprocess.run(
            [sys.executable, "-m", "sestet.cli.main", "pull", REPOSITORY, "--endpoint", endpoint],
            capture_output=True,
            text=True,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
        )

    assert 2 == ended.returncode
    assert "" == ended.stdout
    assert (
        "sestet: 127.0.0.1 cannot be reached ([Errno 111] Connection refused); without a network here, download the "
        "GGUF file on another machine, copy it to this one, and run: sestet serve --model FILE\n"
    ) == ended.stderr


def test_what_was_never_reached_is_not_tried_again(tmp_path: Path) -> None:
    quiet = Quiet()
    with socket.socket() as taken, Web("http://127.0.0.1", None) as web:
        taken.bind(("127.0.0.1", 0))
        remote = RemoteFile(httpx2.URL(f"http://127.0.0.1:{taken.getsockname()[1]}/{NAME}"))
        with pytest.raises(Failure, match="cannot be reached"):
            fetch(web, remote, tmp_path, quiet, pauses_s=(0.0,))

    assert ([], {}) == (quiet.said, contents(tmp_path))


def test_a_name_that_is_not_found_is_told_as_such() -> None:
    error = httpx2.ConnectError("[Errno -2] whatever it says")
    error.__cause__ = socket.gaierror(-2, "whatever it says")

    assert str(unreachable(error, httpx2.URL("https://hub.example"))).startswith(
        "hub.example cannot be reached (its name is not found); without a network here, "
    )


def test_a_complete_file_is_recognised_without_fetching_it_again(pull: Run, hub: Hub) -> None:
    hub.files = {NAME: BODY}
    first = pull(REPOSITORY)
    hub.requests.clear()

    second = pull(REPOSITORY)

    assert (0, 0) == (first.exit_code, second.exit_code)
    assert first.stdout == second.stdout
    assert "Already here, complete: 0 MB.\n" == second.stderr
    assert [] == hub.asked()


def test_a_file_that_was_copied_here_is_recognised_by_its_checksum(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {NAME: BODY}
    folder_of(tmp_path).mkdir()
    (folder_of(tmp_path) / NAME).write_bytes(BODY)

    assert "Already here, complete: 0 MB.\n" == pull(REPOSITORY).stderr
    assert [] == hub.asked()


def test_a_newer_version_replaces_the_file_it_came_from(pull: Run, hub: Hub, tmp_path: Path) -> None:
    changed = gguf(len(BODY), seed=1)
    hub.files = {NAME: BODY}
    pull(REPOSITORY)
    hub.files, hub.etag = {NAME: changed}, '"v2"'

    result = pull(REPOSITORY)

    assert [f"{NAME} changed at its source; fetching it anew.", "Complete: 0 MB, its SHA-256 is right."] == (
        result.stderr.splitlines()
    )
    assert changed == (folder_of(tmp_path) / NAME).read_bytes()


def test_another_file_of_the_same_name_is_never_overwritten(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {NAME: BODY}
    folder_of(tmp_path).mkdir()
    mine = folder_of(tmp_path) / NAME
    mine.write_bytes(b"mine")

    line = refusal(pull(REPOSITORY))

    assert f"{mine} exists already and is another file; move it away, or choose another folder with --to" == line
    assert b"mine" == mine.read_bytes()


def test_a_link_in_the_place_of_the_part_is_not_followed(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {NAME: BODY}
    folder_of(tmp_path).mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    (folder_of(tmp_path) / f"{NAME}.part").symlink_to(tmp_path / "precious")

    refusal(pull(REPOSITORY))

    assert b"precious" == (tmp_path / "precious").read_bytes()


def test_two_at_once_do_not_write_the_same_file(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {NAME: BODY}
    folder_of(tmp_path).mkdir()
    with (folder_of(tmp_path) / f"{NAME}.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        line = refusal(pull(REPOSITORY))

    assert f"another `sestet pull` is fetching {NAME}; wait for it" == line


def test_what_does_not_fit_is_refused_before_it_is_fetched(pull: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.lengths = {NAME: BODY}, False
    hub.listed = [{"type": "file", "path": NAME, "size": 1, "lfs": {"oid": "0" * 64, "size": 10**17}}]

    line = refusal(pull(REPOSITORY))

    assert line.startswith(f"100,000,000,000,000,000 bytes are missing and {folder_of(tmp_path)} has room for ")
    assert {} == contents(folder_of(tmp_path))


def test_a_full_disk_keeps_what_came_and_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    hub.files = {NAME: BODY}
    command = [sys.executable, "-m", "sestet.cli.main", "pull", hub.address(NAME), "--to", str(tmp_path)]
    ended = subprocess.run(
        ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *command],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"},
    )

    assert (2, "") == (ended.returncode, ended.stdout)
    assert (
        f"sestet: {tmp_path} is full; make room and run the same command again (it goes on where it stopped), "
        "or choose another folder with --to\n"
    ) == ended.stderr
    assert {f"{NAME}.part": 102_400, f"{NAME}.part.json": 0} == contents(tmp_path)
    assert BODY == fetch_from(hub, tmp_path)[0].path.read_bytes()
    assert [("bytes=102400-",)] == hub.asked("range")[1:]


def test_ctrl_c_keeps_what_came_and_says_how_to_go_on(hub: Hub, tmp_path: Path) -> None:
    hub.files, hub.hold_after = {NAME: BODY}, 100_000
    part = tmp_path / f"{NAME}.part"
    process = subprocess.Popen(
        [sys.executable, "-m", "sestet.cli.main", "pull", hub.address(NAME), "--to", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (not part.exists() or part.stat().st_size < 100_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    hub.hold_after = None
    hub.go_on.set()

    assert (130, "") == (process.returncode, out)
    assert "\nStopped. What came is kept; the same command goes on from there.\n" == error
    assert BODY == fetch_from(hub, tmp_path)[0].path.read_bytes()
    assert [("bytes=100000-", '"v1"')] == hub.asked("range", "if-range")[1:]


@pytest.mark.parametrize(
    ("data_home", "folder"), [("{}/data", "data"), ("relative", "home/.local/share"), ("", "home/.local/share")]
)
def test_the_models_folder_is_where_data_of_programs_belongs(
    run: Run, hub: Hub, tmp_path: Path, data_home: str, folder: str
) -> None:
    hub.files = {NAME: BODY}
    env = {"HF_ENDPOINT": hub.url, "XDG_DATA_HOME": data_home.format(tmp_path), "HOME": str(tmp_path / "home")}

    run("pull", REPOSITORY, env=env)

    assert [f"{folder}/sestet/models/{NAME}"] == [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.gguf")]


def test_a_folder_that_cannot_be_made_is_told(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.files = {NAME: BODY}
    (tmp_path / "file").write_text("")

    line = refusal(run("pull", REPOSITORY, "--endpoint", hub.url, "--to", str(tmp_path / "file" / "models")))

    assert f"{tmp_path / 'file' / 'models'}: Not a directory; choose another folder with --to" == line


def test_a_name_from_the_hub_cannot_command_the_terminal(pull: Run, hub: Hub) -> None:
    hub.files = {"a\x1b]0;x\x07-Q4_K_M.gguf": gguf(10), "b-Q8_0.gguf": gguf(11)}

    result = pull(REPOSITORY)

    assert 0 == result.exit_code, result.exception
    assert "owner/repo has 2 GGUF files; taking a␛]0;x␇-Q4_K_M.gguf" == result.stderr.splitlines()[0]
    assert "\x1b" not in result.output
