"""Limits, spending, tiers and idempotency through the gate: what is refused, what is told, what is billed once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from sestet.config import Config
from sestet.gate.directory import DEFAULT_WORKSPACE, Key, Period, RateKind
from sestet.gate.keys import digest_of, hint_of, new_key
from sestet.server.compose import Application, now_us, peppers_of
from tests.unit.in_process import Answer, application, ask

BODY: dict[str, Any] = {
    "model": "claude-3-7-sonnet-20250219",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}  # 52 tokens of input, 6 of output
SONNET = "claude-3-7-sonnet-20250219"
COST = 52 * 3 + 6 * 15  # micro-dollars

Play = Callable[[Application], Awaitable[Any]]


def play(act: Play, **sections: Mapping[str, Any]) -> Any:
    async def run() -> Any:
        app = await application(**sections)
        try:
            return await act(app)
        finally:
            await app.stop()

    return asyncio.run(run())


@pytest.fixture
def store(tmp_path: Any) -> dict[str, Any]:
    return {"store": {"url": f"sqlite:///{tmp_path}/sestet.db", "outbox": tmp_path / "outbox"}}


async def limit(app: Application, kind: RateKind, value: int, workspace: str | None = DEFAULT_WORKSPACE) -> None:
    app.stored.directories.set_rates(workspace, SONNET, {kind: value})
    await app.upkeep.look()


async def spend_limit(app: Application, period: Period, amount: int, workspace: str | None) -> None:
    app.stored.directories.set_spend("spl_1", workspace, period, amount, now_us())
    await app.upkeep.look()


async def send(app: Application, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
    return await ask(app, "POST", "/v1/messages", {**BODY, **fields}, headers=headers)


def rate_headers(answer: Answer) -> dict[str, str]:
    return {
        name.decode().removeprefix("anthropic-"): values[0].decode()
        for name, values in sorted(answer.headers.items())
        if name.startswith(b"anthropic-") and not name.endswith(b"-reset")
    }


def rows(app: Application) -> list[tuple[Any, ...]]:
    with app.stored.database.reading() as connection:
        found = connection.exec_driver_sql(
            "SELECT state, tier, input_tokens, output_tokens, cost FROM ledger ORDER BY started_at"
        )
        return [tuple(row) for row in found]


def test_a_reply_is_one_row_at_the_prices_of_its_card(store: dict[str, Any]) -> None:
    async def act(app: Application) -> tuple[Answer, list[tuple[Any, ...]]]:
        return await send(app), rows(app)

    answer, written = play(act, **store)

    assert (200, {}) == (answer.status, rate_headers(answer))
    assert [("finished", "standard", 52, 6, COST)] == written


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("requests", {"ratelimit-requests-limit": "2", "ratelimit-requests-remaining": "0"}),
        ("input_tokens", {"ratelimit-input-tokens-limit": "104", "ratelimit-input-tokens-remaining": "0"}),
        ("output_tokens", {"ratelimit-output-tokens-limit": "12", "ratelimit-output-tokens-remaining": "0"}),
    ],
)
@pytest.mark.parametrize("workspace", [DEFAULT_WORKSPACE, None])
def test_what_is_used_up_is_refused_with_when_to_come_back(
    store: dict[str, Any], kind: RateKind, told: dict[str, str], workspace: str | None
) -> None:
    async def act(app: Application) -> Sequence[Answer]:
        await limit(app, kind, {"requests": 2, "input_tokens": 104, "output_tokens": 12}[kind], workspace)
        return [await send(app) for _ in range(3)]

    answers = play(act, **store)

    assert [200, 200, 429] == [answer.status for answer in answers]
    assert "rate_limit_error" == answers[-1].json["error"]["type"]
    assert told == rate_headers(answers[-1])
    # The bucket fills while the test runs: a slow start takes seconds off what is still to wait for.
    waited = {"requests": 30, "input_tokens": 30, "output_tokens": 5}[kind]
    assert waited - 4 <= int(answers[-1].headers[b"retry-after"][0]) <= waited


def test_what_was_used_before_a_restart_stays_used(store: dict[str, Any]) -> None:
    async def act(app: Application) -> list[int]:
        await limit(app, "requests", 3)
        return [(await send(app)).status for _ in range(2)]

    assert [200, 200] == play(act, **store)
    assert [200, 429] == play(act, **store)


@pytest.mark.parametrize(
    ("workspace", "status", "kind", "code"),
    [
        (DEFAULT_WORKSPACE, 400, "invalid_request_error", None),
        (None, 429, "rate_limit_error", {"error_code": "enforced_spend_limit_reached"}),
    ],
)
@pytest.mark.parametrize("period", ["daily", "monthly"])
def test_what_may_be_spent_is_not_exceeded(
    store: dict[str, Any], workspace: str | None, status: int, kind: str, code: Any, period: Period
) -> None:
    async def act(app: Application) -> Sequence[Answer]:
        await spend_limit(app, period, COST + 1, workspace)
        return [await send(app) for _ in range(3)]

    answers = play(act, **store)

    assert [200, 200, status] == [answer.status for answer in answers]
    assert (kind, code) == (answers[-1].json["error"]["type"], answers[-1].json["error"].get("details"))
    assert b"retry-after" not in answers[-1].headers
    assert ([b"false"] if workspace is None else None) == answers[-1].headers.get(b"x-should-retry")


def test_what_was_spent_before_a_restart_is_spent(store: dict[str, Any]) -> None:
    async def act(app: Application) -> int:
        await spend_limit(app, "monthly", COST, DEFAULT_WORKSPACE)
        return (await send(app)).status

    assert 200 == play(act, **store)
    assert 400 == play(act, **store)


def test_priority_is_used_while_there_is_some_and_unless_it_is_declined(store: dict[str, Any]) -> None:
    async def act(app: Application) -> list[str]:
        app.stored.directories.change_workspace(
            DEFAULT_WORKSPACE, {"priority_input_tokens_per_minute": 120, "priority_output_tokens_per_minute": 1000}
        )
        await app.upkeep.look()
        asked = ({"service_tier": "standard_only"}, {}, {"service_tier": "auto"}, {})
        return [(await send(app, **fields)).json["usage"]["service_tier"] for fields in asked]

    assert ["standard", "priority", "priority", "standard"] == play(act, **store)


def test_a_card_without_priority_is_served_as_any(store: dict[str, Any]) -> None:
    async def act(app: Application) -> str:
        app.stored.directories.change_workspace(
            DEFAULT_WORKSPACE, {"priority_input_tokens_per_minute": 120, "priority_output_tokens_per_minute": 1000}
        )
        await app.upkeep.look()
        return str((await send(app, model="claude-3-haiku-20240307")).json["usage"]["service_tier"])

    assert "standard" == play(act, **store)


def test_so_many_requests_at_once_and_no_more(store: dict[str, Any], tmp_path: Any) -> None:
    script = tmp_path / "script.toml"
    script.write_text("[[reply]]\nsay = ['a']\nrepeat = 20\ndelay_s = 0.005\n")

    async def act(app: Application) -> list[int]:
        app.stored.directories.change_workspace(DEFAULT_WORKSPACE, {"concurrency": 2})
        await app.upkeep.look()
        together = await asyncio.gather(*(send(app) for _ in range(4)))
        return [*sorted(answer.status for answer in together), (await send(app)).status]

    assert [200, 200, 429, 429, 200] == play(act, engine={"kind": "scripted", "script": script}, **store)


# Idempotency (R07).

KEY = {"idempotency-key": "once"}


def test_the_same_request_is_answered_and_billed_once(store: dict[str, Any]) -> None:
    async def act(app: Application) -> tuple[Sequence[Answer], int]:
        together = await asyncio.gather(*(send(app, KEY) for _ in range(100)))
        return [*together, await send(app, KEY)], len(rows(app))

    answers, billed = play(act, **store)
    said = {answer.body for answer in answers if answer.status == 200}

    assert (1, 1) == (len(said), billed)
    assert {200, 409} >= {answer.status for answer in answers}
    assert [b"true"] == answers[-1].headers[b"idempotent-replayed"]


def test_an_answer_that_is_kept_outlives_a_restart(store: dict[str, Any]) -> None:
    async def act(app: Application) -> tuple[bytes, int]:
        return (await send(app, KEY)).body, len(rows(app))

    assert play(act, **store) == play(act, **store)


def test_a_key_is_for_one_request(store: dict[str, Any]) -> None:
    async def act(app: Application) -> Sequence[Answer]:
        return [await send(app, KEY), await send(app, KEY, max_tokens=99), await send(app, KEY, stream=True)]

    answers = play(act, **store)

    assert [200, 400, 400] == [answer.status for answer in answers]
    assert "idempotency-key: this key was used for a different request" == answers[1].json["error"]["message"]


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_that_is_none_is_refused(store: dict[str, Any], key: str) -> None:
    async def act(app: Application) -> int:
        return (await send(app, {"idempotency-key": key})).status

    assert 400 == play(act, **store)


def test_what_failed_is_tried_again(store: dict[str, Any], tmp_path: Any) -> None:
    script = tmp_path / "script.toml"
    script.write_text("[[reply]]\nsay = ['a']\nthen = 'error'\n")

    async def act(app: Application) -> tuple[list[int], list[str]]:
        statuses = [(await send(app, KEY)).status for _ in range(2)]
        while app.books.backlog:  # noqa: ASYNC110 - nobody waits for the bill of what failed
            await asyncio.sleep(0.01)
        return statuses, [row[0] for row in rows(app)]

    statuses, states = play(act, engine={"kind": "scripted", "script": script}, **store)

    assert ([500, 500], ["failed", "failed"]) == (statuses, states)


# Keys that may do some of it.


def test_a_key_sees_and_uses_the_cards_it_was_given(store: dict[str, Any]) -> None:
    key = new_key()

    async def act(app: Application) -> tuple[list[str], list[int]]:
        digest = digest_of(peppers_of(Config())[0], key.encode())
        app.stored.directories.add_key(
            Key(
                id="apikey_1",
                name="one",
                digest=digest,
                hint=hint_of(key),
                workspace_id=DEFAULT_WORKSPACE,
                scopes=frozenset(("inference",)),
                models=frozenset((SONNET,)),
                status="active",
                created_at=now_us(),
            )
        )
        await app.upkeep.look()
        headers = {"authorization": f"Bearer {key}"}
        listed = await ask(app, "GET", "/v1/models", headers=headers)
        other = "claude-3-haiku-20240307"
        answers = [
            await send(app, headers),
            await send(app, headers, model="claude-3-7-sonnet-latest"),
            await send(app, headers, model=other),
            await send(app, headers, model="scripted"),
            await ask(app, "GET", f"/v1/models/{other}", headers=headers),
            await ask(app, "GET", f"/v1/models/{SONNET}", headers=headers),
            await ask(app, "GET", "/v1/organizations/me", headers=headers),
            await ask(app, "GET", "/v1/organizations/cost_report", headers=headers),
            await ask(app, "GET", "/metrics", headers=headers),
            await send(app),
        ]
        return sorted({one["alias_of"] or one["id"] for one in listed.json["data"]}), [one.status for one in answers]

    listed, statuses = play(act, **store)

    assert [SONNET] == listed
    assert [200, 200, 403, 403, 403, 200, 403, 403, 403, 401] == statuses
