"""GET and DELETE /v1/cache: what is kept of prompts, seen by whom, forgotten by whom, and counted in the metrics."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from sestet.config import ConfigError
from sestet.gate.directory import DEFAULT_WORKSPACE, Scope, Workspace
from sestet.gate.keys import new_key
from sestet.server.compose import Application, now_us
from tests.unit.in_process import OWN_ID, Answer, application, ask
from tests.unit.server.test_access import stored

PROMPT = "A long sentinel beginning." * 10
OTHER = "Another sentinel beginning." * 20
NONCE = "x-anthropic-billing-header: cc_version=2.1.{}; cch={};"
RESEARCH = "wrkspc_research"
KEYS: dict[str, tuple[str | None, Scope]] = {
    "default": (DEFAULT_WORKSPACE, "inference"),
    "research": (RESEARCH, "inference"),
    "operator": (None, "operations"),
    "operator of research": (RESEARCH, "operations"),
    "reader of reports": (None, "usage"),
}

T = TypeVar("T")
Play = Callable[["Site"], Awaitable[T]]


class Site:
    """A server with keys, by what they are for."""

    def __init__(self, app: Application, keys: dict[str, str]) -> None:
        self.app = app
        self._keys = keys

    async def ask(self, key: str, method: str, path: str, query: str = "", body: Any = None) -> Answer:
        headers = {"x-api-key": self._keys[key]}
        return await ask(self.app, method, path, body, headers=headers, query=query)

    async def say(self, key: str, system: str, lifetime: str = "5m", **fields: Any) -> Answer:
        """A request whose system prompt is cached."""
        marked = {"type": "text", "text": system, "cache_control": {"type": "ephemeral", "ttl": lifetime}}
        return await self.send(key, [marked], **fields)

    async def send(self, key: str, system: object, **fields: Any) -> Answer:
        body = {"model": OWN_ID, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}], "system": system}
        answer = await self.ask(key, "POST", "/v1/messages", body={**body, **fields})
        assert 200 == answer.status, answer.body
        return answer

    async def listed(self, key: str, query: str = "") -> Any:
        return (await self.ask(key, "GET", "/v1/cache", query)).json

    async def tokens(self, key: str, query: str = "") -> list[tuple[str, int]]:
        return [(one["workspace_id"], one["tokens"]) for one in (await self.listed(key, query))["data"]]


@pytest.fixture
def at_site(tmp_path: Path) -> Callable[[Play[T]], T]:
    """Plays on a server of its own, which keeps its cache below `tmp_path`."""

    async def visit(play: Play[T]) -> T:
        store = {"url": f"sqlite:///{tmp_path}/sestet.db", "outbox": tmp_path / "outbox"}
        app = await application(store=store, cache={"folder": tmp_path / "cache", "disk": 1})
        app.stored.directories.add_workspace(Workspace(RESEARCH, "Research", now_us()))
        keys = {name: new_key() for name in KEYS}
        for number, (name, (workspace, scope)) in enumerate(KEYS.items()):
            key = stored(keys[name], number, workspace_id=workspace, scopes=frozenset((scope,)))
            app.stored.directories.add_key(key)
        await app.upkeep.look()
        try:
            return await play(Site(app, keys))
        finally:
            await app.stop()

    return lambda play: asyncio.run(visit(play))


async def three_entries(site: Site) -> None:
    await site.say("default", PROMPT, "1h")
    await site.say("default", OTHER)
    await site.say("research", PROMPT)
    await site.say("research", PROMPT)


def system_tokens(system: str) -> int:
    """The scripted engine's tokens are characters."""
    return len("<|im_start|>system\n") + len(system)


SHORT, LONG = system_tokens(PROMPT), system_tokens(OTHER)


def test_an_entry_is_told_with_its_size_its_time_and_its_reads_and_without_its_text(at_site: Any) -> None:
    async def play(site: Site) -> tuple[Any, bytes]:
        await site.say("research", PROMPT)
        await site.say("research", PROMPT, "5m")
        answer = await site.ask("operator", "GET", "/v1/cache")
        return answer.json, answer.body

    listed, body = at_site(play)
    entry = listed["data"][0]

    assert {
        "data": [
            {
                "type": "cache_entry",
                "id": entry["id"],
                "weights": OWN_ID,
                "workspace_id": RESEARCH,
                "model": OWN_ID,
                "tokens": SHORT,
                "bytes": 4 * SHORT,
                "lifetime": "5m",
                "expires_in_s": entry["expires_in_s"],
                "hits": 1,
            }
        ],
        "has_more": False,
        "total": {"entries": 1, "bytes": 4 * SHORT, "budget_bytes": 2**30},
    } == listed
    assert re.fullmatch("[0-9a-f]{16}", entry["id"])
    assert 240 < entry["expires_in_s"] < 300
    assert b"sentinel" not in body


def test_a_snapshot_of_several_entries_is_counted_once_and_an_entry_is_as_large_as_its_smallest(at_site: Any) -> None:
    async def play(site: Site) -> tuple[Any, list[int]]:
        prompts = []
        for text in ("hi" * 40, "a longer hi" * 40):
            said = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
            usage = (await site.say("research", PROMPT, messages=[{"role": "user", "content": said}])).json["usage"]
            prompts.append(usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"])
        return await site.listed("operator", "limit=3"), prompts

    listed, (first, second) = at_site(play)

    assert [(first, 4 * first, 0), (second, 4 * second, 0), (SHORT, 4 * first, 1)] == sorted(
        ((one["tokens"], one["bytes"], one["hits"]) for one in listed["data"]), key=lambda one: one[2]
    )
    assert {"entries": 3, "bytes": 4 * (first + second), "budget_bytes": 2**30} == listed["total"]


def test_the_id_of_an_entry_is_not_its_key(at_site: Any) -> None:
    async def play(site: Site) -> tuple[str, str]:
        await site.say("research", PROMPT)
        cache = site.app.served[OWN_ID].cache
        assert cache is not None
        return (await site.listed("operator"))["data"][0]["id"], cache.entries[0].key.hex()

    shown, key = at_site(play)

    assert shown not in key


def test_entries_of_all_workspaces_are_listed_those_that_expire_first_before_others(at_site: Any) -> None:
    async def play(site: Site) -> tuple[Any, ...]:
        await three_entries(site)
        listed = await site.listed("operator", "limit=2")
        return (
            await site.tokens("operator"),
            [one["tokens"] for one in listed["data"]],
            listed["has_more"],
            listed["total"]["entries"],
            await site.tokens("operator", f"workspace_id={RESEARCH}&beta=true"),
            await site.tokens("operator", "workspace_id=nobody"),
        )

    entries, of_two, has_more, count, of_research, of_nobody = at_site(play)

    assert [(DEFAULT_WORKSPACE, LONG), (RESEARCH, SHORT), (DEFAULT_WORKSPACE, SHORT)] == entries
    assert ([LONG, SHORT], True, 3) == (of_two, has_more, count)
    assert [(RESEARCH, SHORT)] == of_research
    assert [] == of_nobody


def test_a_key_of_a_workspace_has_to_do_with_its_own_alone(at_site: Any) -> None:
    async def play(site: Site) -> tuple[Any, ...]:
        await three_entries(site)
        key = "operator of research"
        listed = await site.listed(key)
        others = await site.tokens(key, f"workspace_id={DEFAULT_WORKSPACE}")
        nothing = await site.ask(key, "DELETE", "/v1/cache", f"workspace_id={DEFAULT_WORKSPACE}")
        own = await site.ask(key, "DELETE", "/v1/cache")
        return listed, others, nothing.json, own.json, await site.tokens("operator")

    listed, others, nothing, own, left = at_site(play)

    assert [RESEARCH] == [one["workspace_id"] for one in listed["data"]]
    assert {"entries": 1, "bytes": 4 * SHORT, "budget_bytes": 2**30} == listed["total"]
    assert [] == others
    assert [{"type": "cache_cleared", "entries": count} for count in (0, 1)] == [nothing, own]
    assert [(DEFAULT_WORKSPACE, LONG), (DEFAULT_WORKSPACE, SHORT)] == left


@pytest.mark.parametrize("key", ["default", "research", "reader of reports"])
def test_other_keys_read_and_clear_nothing(at_site: Any, key: str) -> None:
    async def play(site: Site) -> tuple[list[Answer], Any]:
        await three_entries(site)
        refused = [await site.ask(key, method, "/v1/cache") for method in ("GET", "DELETE", "HEAD", "POST")]
        return refused, await site.tokens("operator")

    refused, left = at_site(play)

    assert 4 * [403] == [answer.status for answer in refused]
    assert 4 * ["this API key lacks the scope `operations`"] == [one.json["error"]["message"] for one in refused]
    assert 3 == len(left)


@pytest.mark.parametrize(
    ("query", "cleared", "left"),
    [
        ("", 3, []),
        (f"workspace_id={RESEARCH}", 1, [(DEFAULT_WORKSPACE, LONG), (DEFAULT_WORKSPACE, SHORT)]),
        ("workspace_id=nobody", 0, [(DEFAULT_WORKSPACE, LONG), (RESEARCH, SHORT), (DEFAULT_WORKSPACE, SHORT)]),
    ],
)
def test_what_is_cleared_is_written_anew(at_site: Any, query: str, cleared: int, left: list[tuple[str, int]]) -> None:
    async def play(site: Site) -> tuple[Any, Any, Any, int]:
        await three_entries(site)
        answer = await site.ask("operator", "DELETE", "/v1/cache", query)
        remaining = await site.tokens("operator")
        usage = (await site.say("research", PROMPT)).json["usage"]
        return answer.json, remaining, usage, len(await site.tokens("operator", f"workspace_id={RESEARCH}"))

    answer, remaining, usage, again = at_site(play)
    read = SHORT if (RESEARCH, SHORT) in left else 0

    assert {"type": "cache_cleared", "entries": cleared} == answer
    assert left == remaining
    assert (read, SHORT - read) == (usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"])
    assert 1 == again


@pytest.mark.parametrize(
    ("method", "query", "parameter"),
    [
        ("GET", "limit=0", "limit"),
        ("GET", "limit=1001", "limit"),
        ("GET", "limit=few", "limit"),
        ("GET", "limit=1&limit=2", "limit"),
        ("GET", "workspace_id=", "workspace_id"),
        ("GET", "workspace_id=a&workspace_id=b", "workspace_id"),
        ("GET", "colour=red", "colour"),
        ("DELETE", "workspace_id=", "workspace_id"),
        ("DELETE", "limit=1", "limit"),
        ("DELETE", "workspace=a", "workspace"),
    ],
)
def test_a_query_that_cannot_be_is_refused_by_its_parameter(
    at_site: Any, method: str, query: str, parameter: str
) -> None:
    async def play(site: Site) -> tuple[Answer, int]:
        await three_entries(site)
        return await site.ask("operator", method, "/v1/cache", query), len(await site.tokens("operator"))

    refused, left = at_site(play)

    assert (400, "invalid_request_error") == (refused.status, refused.json["error"]["type"])
    assert refused.json["error"]["message"].startswith(f"{parameter}:")
    assert 3 == left


def test_who_names_a_workspace_in_a_body_does_not_clear_all(at_site: Any) -> None:
    async def play(site: Site) -> tuple[Answer, int]:
        await three_entries(site)
        refused = await site.ask("operator", "DELETE", "/v1/cache", body={"workspace_id": RESEARCH})
        return refused, len(await site.tokens("operator"))

    refused, left = at_site(play)

    assert (400, 3) == (refused.status, left)


def test_a_server_that_keeps_nothing_says_so(tmp_path: Path) -> None:
    async def play() -> tuple[Any, Any, str]:
        app = await application(cache={"disk": 0, "folder": tmp_path / "cache"})
        listed, cleared = await ask(app, "GET", "/v1/cache"), await ask(app, "DELETE", "/v1/cache")
        metrics = (await ask(app, "GET", "/metrics")).body.decode()
        await app.stop()
        return listed.json, cleared.json, metrics

    listed, cleared, metrics = asyncio.run(play())

    assert {"data": [], "has_more": False, "total": {"entries": 0, "bytes": 0, "budget_bytes": 0}} == listed
    assert {"type": "cache_cleared", "entries": 0} == cleared
    assert [] == re.findall(r"^sestet_cache_\w+\{", metrics, re.MULTILINE)


def test_metrics_tell_of_the_cache_by_weights(at_site: Any) -> None:
    async def play(site: Site) -> str:
        await three_entries(site)
        cache = site.app.served[OWN_ID].cache
        assert cache is not None
        cache.counts.expired, cache.shelf.evicted, cache.shelf.failed, cache.shelf.unusable = 4, 5, 6, 7
        return (await site.ask("operator", "GET", "/metrics")).body.decode()

    text = at_site(play)

    assert [
        ("entries", "3.0"),
        ("bytes", f"{4.0 * (SHORT + LONG + SHORT)}"),
        ("budget_bytes", "1.073741824e+09"),
        ("hits_total", "1.0"),
        ("misses_total", "3.0"),
        ("read_tokens_total", f"{float(SHORT)}"),
        ("written_tokens_total", f"{float(SHORT + LONG + SHORT)}"),
        ("expired_total", "4.0"),
        ("evicted_total", "5.0"),
        ("failed_total", "6.0"),
        ("unusable_total", "7.0"),
    ] == re.findall(rf'^sestet_cache_(\w+)\{{weights="{OWN_ID}"\}} (\S+)$', text, re.MULTILINE)
    assert {f"sestet_cache_{name}" for name in ("entries", "bytes", "budget_bytes")} == set(
        re.findall(r"^# TYPE (sestet_cache_\w+) gauge$", text, re.MULTILINE)
    )


def test_tokens_are_counted_by_kind_and_told_in_the_log(at_site: Any) -> None:
    async def play(site: Site) -> tuple[str, list[Any], int]:
        with capture_logs() as lines:
            await site.say("default", PROMPT, "1h")
            await site.say("default", OTHER)
            last = await site.say("default", PROMPT, "1h")
        told = [(one["cache_read_tokens"], one["cache_write_tokens"]) for one in lines if one["event"] == "reply"]
        text = (await site.ask("operator", "GET", "/metrics")).body.decode()
        return text, told, last.json["usage"]["input_tokens"]

    text, told, rest = at_site(play)

    assert [(0, SHORT), (0, LONG), (SHORT, 0)] == told
    assert [
        ("input", 3.0 * rest),
        ("cache_write_5m", float(LONG)),
        ("cache_write_1h", float(SHORT)),
        ("cache_read", float(SHORT)),
        ("output", 3.0),
    ] == [
        (kind, float(value))
        for kind, value in re.findall(rf'^sestet_tokens_total\{{kind="(\w+)",model="{OWN_ID}"\}} (\S+)$', text, re.M)
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (f"{NONCE.format(1, 'a')}\n{PROMPT}", [b"dropped"]),
        ([{"type": "text", "text": NONCE.format(1, "a")}, {"type": "text", "text": PROMPT}], [b"dropped"]),
        (PROMPT, []),
        ([{"type": "text", "text": PROMPT}, {"type": "text", "text": NONCE.format(1, "a")}], []),
    ],
    ids=["in a string", "a block", "none", "in the second block"],
)
def test_a_header_says_that_a_line_of_the_system_prompt_was_left_out(
    at_site: Any, system: object, expected: list[bytes], stream: bool
) -> None:
    answer = at_site(lambda site: site.send("default", system, stream=stream))

    assert expected == answer.headers.get(b"sestet-volatile-system-line", [])


def test_a_nonce_in_the_first_line_does_not_break_the_prefix(at_site: Any) -> None:
    async def play(site: Site) -> list[tuple[int, int]]:
        blocks = [await site.say("default", f"{NONCE.format(at, at * 'b')}\n{PROMPT}") for at in range(2)]
        return [
            (one.json["usage"]["cache_creation_input_tokens"], one.json["usage"]["cache_read_input_tokens"])
            for one in blocks
        ]

    assert [(SHORT, 0), (0, SHORT)] == at_site(play)


def test_a_rule_for_lines_that_is_no_regular_expression_stops_the_start_by_its_path(tmp_path: Path) -> None:
    lines = ["fine.*", "unfinished("]
    with pytest.raises(ConfigError) as refused:
        asyncio.run(application(cache={"folder": tmp_path / "cache", "volatile_lines": lines}))

    assert str(refused.value).startswith("cache.volatile_lines.1: it is no regular expression")
