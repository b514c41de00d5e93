"""The prompt cache among neighbours, restarts, kills, full disks and damaged files: what is said to have been read was
read, nobody learns of another's prompts, and no file is left behind (T37, T39)."""

import json
import os
import random
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx2
import pytest

from tests.contract.scenes import scripted_reply
from tests.faults.wire import gauge, wait_for
from tests.ledger_check import check as check_ledger
from tests.lengths import length
from tests.running import RunningServer, start_server

pytestmark = pytest.mark.slow

OWN, CARD = "scripted", "claude-3-7-sonnet-20250219"
KEY, ADMIN = "sk-of-the-caching-tests", "sk-admin-of-the-caching-tests"
SAYS = {"odd": "Odd it is.", "even": "Even it is."}
REPLIES = "".join(scripted_reply(when=f"{word}: ", say=[said]) for word, said in SAYS.items())
KEYS = f'[access]\nkeys = ["{KEY}"]\nadmin_keys = ["{ADMIN}"]\n'

PREFILL_PER_S = 100_000
MISS = 2_000  # tokens, that take 20 ms

BEGIN, END = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"

Fields = dict[str, Any]
Result = TypeVar("Result")


class Told(NamedTuple):
    """Of a reply: what it says, and how many tokens of its prompt were neither, written, and read."""

    said: str
    rest: int
    written: int
    read: int


def asking(number: int, characters: int = 1_000, *, name: str = "", ttl: str = "5m", model: str = OWN) -> Fields:
    """A prompt that differs from all of another number or name from its beginning on, and is as long."""
    control = {"type": "ephemeral", "ttl": ttl}
    words = f"{number:05} {name} {'odd' if number % 2 else 'even'}: ".ljust(characters, "x")
    content = [{"type": "text", "text": words, "cache_control": control}]
    return {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": content}]}


def kept(fields: Fields) -> int:
    return len(BEGIN + fields["messages"][0]["content"][0]["text"])


def wrote(fields: Fields) -> Told:
    """What a reply must say that computes its prompt."""
    return Told(_words(fields), len(END), kept(fields), 0)


def found(fields: Fields) -> Told:
    """What a reply must say that reads its prompt from the cache."""
    return Told(_words(fields), len(END), 0, kept(fields))


def _words(fields: Fields) -> str:
    asked = fields["messages"][0]["content"][0]["text"]
    return next(said for word, said in SAYS.items() if f"{word}: " in asked)


@dataclass
class Site:
    """A server and the folder of its data."""

    server: RunningServer
    folder: Path
    http: httpx2.Client

    def post(self, fields: Fields, key: str = KEY) -> httpx2.Response:
        return self.http.post(f"{self.server.url}/v1/messages", json=fields, headers={"x-api-key": key})

    def ask(self, fields: Fields, key: str = KEY) -> Told:
        answer = self.post(fields, key)
        assert 200 == answer.status_code, answer.text
        body = answer.json()
        numbers = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        return Told(body["content"][0]["text"], *(body["usage"][name] for name in numbers))

    def first_token_s(self, fields: Fields, key: str) -> tuple[float, int]:
        """Seconds until the first word of the reply, and the tokens that it says were read from the cache."""
        started = time.perf_counter()
        first_s = 0.0
        heard = b""
        body = {**fields, "stream": True}
        url = f"{self.server.url}/v1/messages"
        with self.http.stream("POST", url, json=body, headers={"x-api-key": key}) as answer:
            for piece in answer.iter_bytes():
                heard += piece
                if not first_s and b"text_delta" in heard:
                    first_s = time.perf_counter() - started
        start = json.loads(heard.partition(b"data: ")[2].partition(b"\n")[0])
        return first_s, start["message"]["usage"]["cache_read_input_tokens"]

    def administrate(self, method: str, path: str, body: object = None) -> Any:
        answer = self.http.request(method, f"{self.server.url}{path}", json=body, headers={"x-api-key": ADMIN})
        assert 200 == answer.status_code, answer.text
        return answer.json()

    def key(self, workspace: str) -> str:
        body = {"name": "k", "workspace_id": workspace, "scopes": ["inference", "operations"]}
        return str(self.administrate("POST", "/v1/organizations/api_keys", body)["key"])

    def workspace(self, name: str) -> str:
        return str(self.administrate("POST", "/v1/organizations/workspaces", {"name": name})["id"])

    def entries(self, key: str = ADMIN) -> list[Fields]:
        answer = self.http.get(f"{self.server.url}/v1/cache", headers={"x-api-key": key})
        data: list[Fields] = answer.json()["data"]
        return data

    @property
    def cache(self) -> Path:
        """Its own folder of snapshots."""
        (one,) = (self.folder / "sestet" / "cache").glob("*/0")
        return one

    def snapshots(self) -> set[str]:
        """What is in it but for our own files."""
        return {path.stem for path in self.cache.iterdir()} - {"key", "lock"}

    def new_snapshot(self, fields: Fields, key: str = KEY) -> Path:
        """The file that a request has written, as soon as it counts."""
        before = self.snapshots()
        assert wrote(fields) == self.ask(fields, key)
        (name,) = soon(lambda: {path.stem for path in self.cache.glob("*.json")} - before)
        return self.cache / name


def soon(look: Callable[[], Result], timeout_s: float = 5.0) -> Result:
    """What is there as soon as anything is. Nothing tells of files, so they are looked at."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return seen


@contextmanager
def site(folder: Path, script: str, config: str = KEYS) -> Iterator[Site]:
    folder.mkdir(exist_ok=True)
    with httpx2.Client(timeout=30) as http:
        opened = Site(start_server(folder, script=script + REPLIES, config=config), folder, http)
        try:
            yield opened
        finally:
            opened.server.stop()


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Takes its time to read, and has a place for every prompt."""
    with site(tmp_path_factory.mktemp("paced"), f"prefill_tokens_per_s = {PREFILL_PER_S}\n") as opened:
        yield opened


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One place, so that only a snapshot can bring back what was asked before the last question, with more in it than
    the engine needs; and prices."""
    script = "slots = 1\nwindow = 3_000_000\nsnapshot_bytes_per_token = 8\n"
    own = '[own_prices."scripted-20260101"]\ninput = 0.12345\noutput = 1.1\n'
    with site(tmp_path_factory.mktemp("narrow"), script, KEYS + own) as opened:
        yield opened


# A leak shows as a 1; among so many of each kind, chance alone leaves this bound once in 10,000 times.
PROBES = length(25, 60)
CHANCE = 4 * ((2 * PROBES + 1) / (12 * PROBES * PROBES)) ** 0.5


def auc(one: Sequence[float], other: Sequence[float]) -> float:
    """How often a time of the one is longer than one of the other; one half where they tell nothing."""
    return sum((a > b) + (a == b) / 2 for a in one for b in other) / (len(one) * len(other))


def check_neighbours(opened: Site) -> None:
    """We ask; then they ask the same, or what nobody has asked, and both times they are told the same, as late."""
    ours, theirs = (opened.key(opened.workspace(name)) for name in ("Ours", "Theirs"))
    warm, cold, others = (
        [asking(number, MISS, name=name) for number in range(PROBES)] for name in ("warm", "cold", "else")
    )
    pairs = [("warm", one, one) for one in warm] + [("cold", *both) for both in zip(others, cold, strict=True)]
    random.Random(37).shuffle(pairs)
    times: dict[str, list[float]] = {"warm": [], "cold": [], "again": []}
    read: dict[str, set[int]] = {"warm": set(), "cold": set(), "again": set()}

    def probe(kind: str, fields: Fields, key: str) -> None:
        first_s, tokens = opened.first_token_s(fields, key)
        times[kind].append(first_s)
        read[kind].add(tokens)

    for kind, before, fields in pairs:
        opened.ask(before, ours)
        probe(kind, fields, theirs)
    for fields in warm:
        probe("again", fields, ours)

    assert {"warm": {0}, "cold": {0}, "again": {kept(warm[0])}} == read
    assert 0.5 - CHANCE < auc(times["warm"], times["cold"]) < 0.5 + CHANCE
    assert 0.9 < auc(times["warm"], times["again"])


def test_neither_usage_nor_time_tells_of_a_neighbours_prompts(paced: Site) -> None:
    check_neighbours(paced)


def test_nor_does_a_place_that_a_neighbour_has_just_left(tmp_path: Path) -> None:
    with site(tmp_path, f"slots = 1\nprefill_tokens_per_s = {PREFILL_PER_S}\n") as opened:
        check_neighbours(opened)


def test_keys_of_one_workspace_share_what_another_does_not_see(paced: Site) -> None:
    shared, other = paced.workspace("Shared"), paced.workspace("Other")
    first, second, stranger = paced.key(shared), paced.key(shared), paced.key(other)
    fields = asking(1, name="shared")
    told = [paced.ask(fields, key) for key in (first, second, stranger, stranger)]
    listed = [(one["workspace_id"], one["tokens"], one["hits"]) for one in paced.entries()]

    assert [wrote(fields), found(fields), wrote(fields), found(fields)] == told
    assert {(shared, kept(fields), 1), (other, kept(fields), 1)} <= set(listed)
    assert [[shared], [other]] == [[one["workspace_id"] for one in paced.entries(key)] for key in (first, stranger)]


def test_many_identical_first_requests_write_one_entry(paced: Site) -> None:
    workspace = paced.workspace("At once")
    key = paced.key(workspace)
    fields = asking(1, 20_000, name="at once")
    before = paced.snapshots()
    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(lambda _: paced.ask(fields, key), range(20)))
    soon(lambda: len(paced.snapshots() - before) == 1)
    (name,) = paced.snapshots() - before

    assert {wrote(fields)} <= set(told) <= {wrote(fields), found(fields)}
    assert found(fields) == paced.ask(fields, key)
    assert [kept(fields)] == [one["tokens"] for one in paced.entries(key)]
    assert (paced.cache / f"{name}.json").exists()


@pytest.mark.parametrize("same", [2**20, 0], ids=["the first megabyte", "nothing"])
def test_prompts_that_differ_in_their_last_character_share_no_entry(narrow: Site, same: int) -> None:
    one, other = asking(1, 100 + same, name=f"long {same}"), asking(1, 100 + same, name=f"long {same}")
    block = other["messages"][0]["content"][0]
    block["text"] = block["text"][:-1] + "y"

    assert [wrote(one), wrote(other)] == [narrow.ask(one), narrow.ask(other)]
    assert [found(one), found(other)] == [narrow.ask(one), narrow.ask(other)]


def flipped(path: Path, _other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def cut(path: Path, _other: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def emptied(path: Path, _other: Path) -> None:
    os.truncate(path, 0)


def gone(path: Path, _other: Path) -> None:
    path.unlink()


def of_another(path: Path, other: Path) -> None:
    shutil.copyfile(other, path)


def linked_to_another(path: Path, other: Path) -> None:
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("damage", [flipped, cut, emptied, gone, of_another, linked_to_another])
def test_a_damaged_snapshot_is_computed_again(narrow: Site, damage: Callable[[Path, Path], None]) -> None:
    fields, other = (asking(1, name=f"{name} {damage.__name__}") for name in ("damaged", "whole"))
    path, others = narrow.new_snapshot(fields), narrow.new_snapshot(other)
    damage(path, others)
    told = [narrow.ask(one) for one in (fields, other, fields)]

    assert [wrote(fields), found(other), found(fields)] == told
    assert [path.name] == [line["snapshot"] for line in log(narrow.server) if line["event"] == "snapshot_unusable"][-1:]
    assert soon(lambda: not path.is_symlink() and not path.exists())


def log(server: RunningServer) -> list[Fields]:
    return [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]


@contextmanager
def no_room(server: RunningServer, bytes_max: int) -> Iterator[None]:
    """No file of the server may be longer."""
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))


def test_a_full_disk_loses_entries_and_no_reply(narrow: Site) -> None:
    earlier, fields, last = asking(1, name="earlier"), asking(2, 500_000, name="large"), asking(3, name="last")
    narrow.new_snapshot(earlier)
    before = narrow.snapshots()
    failed = gauge(narrow.server, "sestet_cache_failed_total", ADMIN)
    with no_room(narrow.server, 1_000_000):
        full = [narrow.ask(one) for one in (fields, last, fields, earlier)]
        soon(lambda: len(narrow.snapshots() - before) == 1)
    afterwards = [narrow.ask(one) for one in (fields, last, fields)]

    assert [wrote(fields), wrote(last), wrote(fields), found(earlier)] == full
    assert failed + 2 == gauge(narrow.server, "sestet_cache_failed_total", ADMIN)
    assert [wrote(fields), found(last), found(fields)] == afterwards


LIMIT = 60_000  # tokens a minute
SLACK = 1_000  # what is told is rounded, and all prompts have a rest


def test_what_is_read_from_the_cache_is_free_of_limits(narrow: Site) -> None:
    workspace = narrow.workspace("Limited")
    key = narrow.key(workspace)
    listed = narrow.administrate("GET", "/v1/organizations/rate_limits")["data"]
    (rate,) = [one["id"] for one in listed if CARD in one["models"]]
    limits = [{"type": "input_tokens_per_minute_cache_aware", "value": LIMIT}]
    path = f"/v1/organizations/workspaces/{workspace}/rate_limits/{rate}"
    narrow.administrate("POST", path, {"limits": limits})
    fields = asking(1, 20_000, name="limited", model=CARD)

    def remaining() -> int:
        answer = narrow.post(fields, key)
        assert 200 == answer.status_code, answer.text
        return int(answer.headers["anthropic-ratelimit-input-tokens-remaining"])

    started = time.monotonic()
    snapshot = narrow.new_snapshot(fields, key)
    after_write, *after_reads = [remaining() for _ in range(4)]
    flipped(snapshot, snapshot)
    narrow.ask(asking(2, name="limited"))
    remaining()  # is told as it was let in, before the snapshot was looked at
    after_damage = remaining()
    refilled = (time.monotonic() - started) * LIMIT / 60
    writes = LIMIT - kept(fields), LIMIT - 2 * kept(fields)

    assert writes[0] - SLACK < after_write < writes[0] + refilled + SLACK
    assert [] == [left for left in after_reads if left < after_write - SLACK]
    assert writes[1] - SLACK < after_damage < writes[1] + refilled + SLACK


def test_the_ledger_has_what_was_written_and_read_at_its_price(narrow: Site) -> None:
    short, hour = (asking(1, 3_000, name=f"billed {ttl}", ttl=ttl, model=CARD) for ttl in ("5m", "1h"))
    for fields in (short, hour, short, hour):
        narrow.ask(fields)
    wait_for(narrow.server, "sestet_ledger_running", 0.0, 5, ADMIN)
    rows = check_ledger(f"sqlite:///{narrow.folder}/sestet/sestet.db")[-4:]
    columns = ("input", "cache_write_5m", "cache_write_1h", "cache_read")
    prices = ("price_input", "price_cache_write_5m", "price_cache_write_1h", "price_cache_read", "price_output")
    tokens = kept(short)
    own = round((tokens + len(END)) * 0.12345 + 1.1)

    assert [
        (len(END), tokens, 0, 0),
        (len(END), 0, tokens, 0),
        (len(END), 0, 0, tokens),
        (len(END), 0, 0, tokens),
    ] == [tuple(row[f"{column}_tokens"] for column in columns) for row in rows]
    assert {(3_000_000, 3_750_000, 6_000_000, 300_000, 15_000_000)} == {
        tuple(row[price] for price in prices) for row in rows
    }
    assert [round(len(END) * 3 + tokens * price + 15) for price in (3.75, 6.0, 0.3, 0.3)] == [
        row["cost"] for row in rows
    ]
    assert [own] * 4 == [row["own_cost"] for row in rows]


SNAPSHOT_BYTES = 2**20
BYTES_PER_TOKEN = 1_024
TOKENS = SNAPSHOT_BYTES // BYTES_PER_TOKEN - len(BEGIN)
FIT = 4
BUDGET_BYTES = int((FIT + 0.5) * SNAPSHOT_BYTES)
TIGHT = f"prefill_tokens_per_s = {PREFILL_PER_S}\nsnapshot_bytes_per_token = {BYTES_PER_TOKEN}\n"


def size(folder: Path) -> dict[str, int]:
    """Bytes by file; what goes while one looks is left out."""
    sizes = {}
    with os.scandir(folder) as files:
        for file in files:
            with suppress(FileNotFoundError):
                sizes[file.name] = file.stat().st_size
    return sizes


@contextmanager
def looks(folder: Path) -> Iterator[list[int]]:
    """Looks at a folder all the time: its bytes at every look. Only files that two looks on end have seen count, for
    they were there together."""
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        before = size(folder)
        while not done.is_set():
            now = size(folder)
            seen.append(sum(min(before[name], now[name]) for name in before.keys() & now.keys()))
            before = now

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def small(budget_bytes: int) -> str:
    return f"{KEYS}[cache]\ndisk = {budget_bytes / 2**30}\n"


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Has disk for a few snapshots, and places for all prompts."""
    with site(tmp_path_factory.mktemp("tight"), TIGHT, small(BUDGET_BYTES)) as opened:
        yield opened


def test_the_oldest_go_when_there_is_no_more_room(tight: Site) -> None:
    old, young = (
        [asking(number, TOKENS, name="one by one") for number in numbers]
        for numbers in (range(FIT), range(FIT, 2 * FIT))
    )
    with looks(tight.cache) as seen:
        first = [tight.ask(fields) for fields in [*old, *young]]
        again = [tight.ask(fields) for fields in young[1:]]
        # This pushes out the one that was not used again, and then the one that was used again first.
        instead = [tight.ask(fields) for fields in (*old[:2], young[0], young[1])]

    assert [wrote(fields) for fields in [*old, *young]] == first
    assert [found(fields) for fields in young[1:]] == again
    assert [wrote(fields) for fields in (*old[:2], young[0], young[1])] == instead
    assert FIT * SNAPSHOT_BYTES <= max(seen) <= BUDGET_BYTES


def test_the_folder_keeps_its_size_whoever_writes_at_once(tight: Site) -> None:
    prompts = [asking(number, TOKENS, name="at once") for number in range(10 * FIT)]
    with looks(tight.cache) as seen, ThreadPoolExecutor(10) as pool:
        told = list(pool.map(tight.ask, prompts))

    assert [wrote(fields) for fields in prompts] == told
    assert max(seen) <= BUDGET_BYTES


def test_a_prompt_that_is_larger_than_the_budget_pushes_nothing_out(tight: Site) -> None:
    fits, too_large = asking(1, TOKENS, name="fits"), asking(2, (FIT + 1) * TOKENS, name="too large")
    told = [tight.ask(fields) for fields in (fits, too_large, too_large, fits)]

    assert [wrote(fits), wrote(too_large), wrote(too_large), found(fits)] == told


def kill(server: RunningServer) -> None:
    server.process.kill()
    server.wait(10)


def ask_to_end(server: RunningServer) -> None:
    server.terminate()
    server.wait(10)


def test_the_oldest_go_first_after_a_restart_too(tight: Site) -> None:
    first, *others, fresh = (asking(number, TOKENS, name="restarted") for number in range(FIT))
    second = asking(FIT, TOKENS, name="restarted", ttl="1h")  # it would live longest, and was not used for longest
    before = [tight.ask(fields) for fields in (first, second, *others, first)]
    ask_to_end(tight.server)
    tight.server = start_server(tight.folder, script=TIGHT + REPLIES, config=small(BUDGET_BYTES))
    after = [tight.ask(fields) for fields in (fresh, first, *others, second)]

    assert [*map(wrote, (first, second, *others)), found(first)] == before
    assert [wrote(fresh), *map(found, (first, *others)), wrote(second)] == after


def lifetimes(opened: Site) -> list[int]:
    """The seconds that entries have left, the shortest prompt first."""
    return [one["expires_in_s"] for one in sorted(opened.entries(), key=lambda one: int(one["tokens"]))]


def test_entries_and_their_lifetimes_go_on_after_the_server(tmp_path: Path) -> None:
    short, hour = asking(1, 1_000), asking(2, 2_000, ttl="1h")
    with site(tmp_path, "") as opened:
        started = time.monotonic()
        written = [opened.ask(short), opened.ask(hour)]
        soon(lambda: len(list(opened.cache.glob("*.json"))) == 2)
        left = [lifetimes(opened)]
        for end in (ask_to_end, kill):
            end(opened.server)
            opened.server = start_server(tmp_path, script=REPLIES, config=KEYS)
            left.append(lifetimes(opened))
        time.sleep(max(0.0, started + 4 - time.monotonic()))
        left.append(lifetimes(opened))
        passed_s = time.monotonic() - started
        read = [opened.ask(short), opened.ask(hour)]
        renewed = lifetimes(opened)

    assert [wrote(short), wrote(hour)] == written
    assert [found(short), found(hour)] == read
    for lifetime_s, at in ((300, 0), (3_600, 1)):
        seconds = [each[at] for each in left]
        assert sorted(seconds, reverse=True) == seconds
        assert lifetime_s - passed_s - 2 <= seconds[-1] <= lifetime_s - 4
        assert lifetime_s - 2 <= renewed[at]


def test_two_servers_on_one_folder_keep_apart(narrow: Site, tmp_path: Path) -> None:
    base = narrow.folder / "sestet" / "cache"
    fields, between = asking(1, name="two"), asking(2, name="two")
    with site(tmp_path, "slots = 1\n", f'{KEYS}[cache]\nfolder = "{base}"\n') as other:
        told = [one.ask(words) for words in (fields, between, fields) for one in (narrow, other)]
        folders = sorted(path.name for path in base.glob("*/*"))
    told += [narrow.ask(words) for words in (between, fields)]

    assert [*[wrote(fields)] * 2, *[wrote(between)] * 2, *[found(fields)] * 2, found(between), found(fields)] == told
    assert ["0", "1"] == folders


KILLS = length(4, 50)
CLIENTS = 4
PROMPTS = 10
LARGE_BYTES = 4 * SNAPSHOT_BYTES
BUDGETS_BYTES = (int(7.5 * LARGE_BYTES), int(4.5 * LARGE_BYTES))  # in turn, as operators change their minds


def stray(folder: Path) -> list[str]:
    """Files that no manifest speaks of, and manifests that speak of nothing."""
    names = {path.name for path in folder.iterdir()} - {"key", "lock"}
    files, manifests = ({name for name in names if name.endswith(".json") == ends} for ends in (False, True))
    return sorted(files ^ {name.removesuffix(".json") for name in manifests})


def test_servers_that_are_killed_leave_nothing_that_is_wrong(tmp_path: Path) -> None:
    chance = random.Random(50)
    script = f"slots = {CLIENTS}\nsnapshot_bytes_per_token = {LARGE_BYTES // SNAPSHOT_BYTES * BYTES_PER_TOKEN}\n"
    prompts = [asking(number, TOKENS) for number in range(PROMPTS)]
    wrong: list[tuple[Fields, Told]] = []
    left: list[tuple[list[str], list[str], bool]] = []
    reads = 0

    def check(opened: Site, fields: Fields) -> Told:
        told = opened.ask(fields)
        if told not in (wrote(fields), found(fields)):
            wrong.append((fields, told))
        return told

    def client(opened: Site, seed: float) -> None:
        own = random.Random(seed)
        with suppress(httpx2.TransportError):
            while True:
                check(opened, own.choice(prompts))

    for number in range(KILLS):
        budget_bytes = BUDGETS_BYTES[number % 2]
        with site(tmp_path, script, small(budget_bytes)) as opened:
            folders = [path.name for path in opened.cache.parent.iterdir()]
            left.append((folders, stray(opened.cache), sum(size(opened.cache).values()) <= budget_bytes))
            reads += sum(check(opened, fields).read > 0 for fields in prompts)
            with ThreadPoolExecutor(CLIENTS) as pool:
                clients = [pool.submit(client, opened, chance.random()) for _ in range(CLIENTS)]
                time.sleep(chance.uniform(0.02, 0.5))
                kill(opened.server)
            for one in clients:
                one.result()
            (opened.cache / f"{number:032x}").write_bytes(b"half a snapshot")
            (opened.cache / f"{number + KILLS:032x}.json").write_bytes(b'{"mac":"')

    assert [] == wrong
    assert [(["0"], [], True)] * KILLS == left
    assert 0 < reads
