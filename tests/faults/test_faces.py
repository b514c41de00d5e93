"""One policy at every face: no dialect and no form of a credential gets more than another (RELIABILITY.md T02), and
nothing that a client invents reaches the engine through any of them (T05)."""

import asyncio
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from sestet.catalog.card import family_cards
from sestet.contract.deltas import Generation
from sestet.engines.scripted import ScriptedReply
from sestet.gate.directory import SCOPES, Allowance, Directory, Key, Workspace
from sestet.gate.keys import Keyring, digest_of, hint_of
from sestet.gate.spend import day_of
from tests.faces import DIALECTS
from tests.faults.test_internal_parameters import NAMES
from tests.unit.gates import Door, door
from tests.unit.in_process import NOW_US, House, ask, house
from tests.unit.keyrings import PEPPER

MODEL = "claude-3-7-sonnet-20250219"
CLASS = next(card.rate_class for card in family_cards() if card.id == MODEL)
REQUEST: Mapping[str, Any] = {
    "model": MODEL,
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "Hi"}],
    "system": "Be brief.",
    "tools": [
        {"name": "weather", "description": "About weather", "input_schema": {"type": "object", "properties": {}}}
    ],
}

LONG_AGO, NEVER = 1, None
OURS, SPENT, SLOW, CLOSED = "wrkspc_ours", "wrkspc_spent", "wrkspc_slow", "wrkspc_closed"


@dataclass(frozen=True)
class Case:
    """A key, and the status that a client of the contract gets with it."""

    status: int
    key: Mapping[str, Any] | None = None


CASES: Mapping[str, Case] = {
    "good": Case(200, {}),
    "unknown": Case(401),
    "revoked": Case(401, {"status": "archived"}),
    "put to rest": Case(401, {"status": "inactive"}),
    "expired": Case(401, {"expires_at": LONG_AGO}),
    "of an archived workspace": Case(401, {"workspace_id": CLOSED}),
    "without the scope": Case(403, {"scopes": frozenset({"usage"})}),
    "for another model": Case(403, {"models": frozenset({"claude-3-haiku-20240307"})}),
    "for this model": Case(200, {"models": frozenset({MODEL})}),
    "that has spent all": Case(400, {"workspace_id": SPENT}),
    "that asks too often": Case(429, {"workspace_id": SLOW}),
}

# What a refusal is called where a dialect has a status of its own for it.
STATUSES: Mapping[str, Mapping[int, int]] = {"bedrock": {401: 403}}


def clear(name: str) -> str:
    return "sk-sestet-" + name.replace(" ", "-")


def stored(name: str, case: Case) -> Key:
    key = clear(name)
    first = Key(
        name,
        name,
        digest_of(PEPPER, key.encode()),
        hint_of(key),
        OURS,
        SCOPES - {"admin"},
        None,
        "active",
        0,
        None,
        NEVER,
    )
    return replace(first, **(case.key or {}))


def directory() -> Directory:
    spent = Allowance(spend={"daily": 1_000})
    slow = Allowance(rates={CLASS: {"requests": 1}})
    workspaces = (
        Workspace(OURS, "ours", 0),
        Workspace(SPENT, "spent", 0, spent),
        Workspace(SLOW, "slow", 0, slow),
        Workspace(CLOSED, "closed", 0, archived_at=LONG_AGO),
    )
    keys = tuple(stored(name, case) for name, case in CASES.items() if case.key is not None)
    return Directory(1, "org", "", Allowance(), {one.id: one for one in workspaces}, keys)


def guarded() -> tuple[House, Door]:
    known = directory()
    of = house(directory=known)
    of.quotas.spending.put({(SPENT, day_of(NOW_US)): 1_000})
    ring = Keyring((PEPPER,), {})
    ring.load(known)
    return of, door(of, ring)


def forms(key: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    yield "x-api-key", {"x-api-key": key}
    yield "bearer", {"authorization": f"Bearer {key}"}
    yield "lower case", {"authorization": f"bearer {key}"}
    yield "both", {"x-api-key": key, "authorization": f"Bearer {key}"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_whoever_asks_gets_the_same_by_every_form_of_a_credential(dialect: str, stream: bool) -> None:
    async def decisions() -> tuple[dict[tuple[str, str], int], int]:
        found = {}
        of, at = guarded()
        spelled = DIALECTS[dialect]({**REQUEST, "stream": stream})
        await ask(at, "POST", spelled.path, spelled.body, headers=dict(forms(clear("that asks too often")))["bearer"])
        of.engine.records.clear()
        for name in CASES:
            for form, headers in forms(clear(name)):
                answer = await ask(at, "POST", spelled.path, spelled.body, headers={**spelled.headers, **headers})
                found[name, form] = answer.status
        return found, len(of.engine.records)

    found, answered = asyncio.run(decisions())
    spoken = STATUSES.get(dialect, {})

    assert {
        (name, form): spoken.get(case.status, case.status) for name, case in CASES.items() for form, _ in forms("")
    } == found
    assert sum(case.status == 200 for case in CASES.values()) * len(list(forms(""))) == answered


OTHERS: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "two different ones": {"x-api-key": clear("good"), "authorization": f"Bearer {clear('for this model')}"},
    "a good one beside a bad one": {"x-api-key": clear("good"), "authorization": "Bearer nonsense"},
    "another scheme": {"authorization": f"Basic {clear('good')}"},
    "an unsigned signature": {
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/bedrock/aws4_request"
    },
    "a good one beside a signature": {"x-api-key": clear("good"), "authorization": "AWS4-HMAC-SHA256 Credential=AKIA"},
    "a header of another service": {"api-key": clear("good"), "x-goog-api-key": clear("good")},
}


@pytest.mark.parametrize("given", OTHERS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_no_credential_opens_no_face(dialect: str, given: str) -> None:
    of, at = guarded()
    spelled = DIALECTS[dialect](REQUEST)
    answer = asyncio.run(ask(at, "POST", spelled.path, spelled.body, headers={**spelled.headers, **OTHERS[given]}))
    in_query = asyncio.run(
        ask(at, "POST", spelled.path, spelled.body, query=f"key={clear('good')}&x-api-key={clear('good')}")
    )

    assert [STATUSES.get(dialect, {}).get(401, 401)] * 2 == [answer.status, in_query.status]
    assert [] == list(of.engine.records)


def places(body: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where in a body there are objects, but for schemas, whose keys are the client's."""
    match body:
        case dict():
            yield at
            for key, inner in body.items():
                if key not in ("input_schema", "parameters"):
                    yield from places(inner, (*at, key))
        case list():
            for position, inner in enumerate(body):
                yield from places(inner, (*at, position))


def injected(body: Mapping[str, Any], at: tuple[str | int, ...], name: str, value: object) -> Mapping[str, Any] | None:
    """The body with one more field in one of its objects; None where it is there already."""
    changed = copy.deepcopy(dict(body))
    target: Any = changed
    for step in at:
        target = target[step]
    if name in target:
        return None
    target[name] = value
    return changed


def sent(of: House) -> list[Generation]:
    return [replace(record.job, request_id="") for record in of.engine.records]


@pytest.mark.parametrize("value", [1, "sentinel-of-a-parameter"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_invented_field_reaches_the_engine(dialect: str, value: object) -> None:
    of = house(ScriptedReply(say=["Hi"]))
    at = door(of)
    spelled = DIALECTS[dialect](REQUEST)

    async def post_all() -> list[tuple[str, Any]]:
        await ask(at, "POST", spelled.path, spelled.body, headers=spelled.headers)
        (usual,) = sent(of)
        wrong = []
        for place in places(spelled.body):
            for name in NAMES:
                body = injected(spelled.body, place, name, value)
                if body is None:
                    continue
                of.engine.records.clear()
                answer = await ask(at, "POST", spelled.path, body, headers=spelled.headers)
                if (answer.status, sent(of)) not in ((400, []), (200, [usual])):
                    wrong.append((name, place))
        return wrong

    assert [] == asyncio.run(post_all())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_query_and_no_header_reaches_the_engine(dialect: str) -> None:
    of = house(ScriptedReply(say=["Hi"]))
    at = door(of)
    spelled = DIALECTS[dialect](REQUEST)

    async def post_all() -> set[int]:
        statuses = set()
        for name in NAMES:
            spellings = {name, f"x-{name}", f"x-sestet-{name}", f"anthropic-{name}", name.replace("_", "-")}
            given = {**spelled.headers, **dict.fromkeys(spellings, "7")}
            statuses.add((await ask(at, "POST", spelled.path, spelled.body, query=f"{name}=7")).status)
            statuses.add((await ask(at, "POST", spelled.path, spelled.body, headers=given)).status)
        return statuses

    assert {200} == asyncio.run(post_all())
    assert 1 == len({repr(job) for job in sent(of)})
