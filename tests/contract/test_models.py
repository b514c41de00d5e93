"""The Models API: what is listed, in which order, and that what it says is true."""

from datetime import datetime

import httpx2

from tests.contract.errors import assert_contract_error
from tests.contract.inside import OLD_VERSION, Inside, InsideRunner
from tests.contract.scenes import OWN_MODEL, SNAPSHOT, Scenes
from tests.running import RunningServer

# Every entry of the list, in its order: the weights themselves, then the family, newest first.
LISTED = [
    ("scripted-20260101", None),
    ("scripted", "scripted-20260101"),
    ("scripted-latest", "scripted-20260101"),
    ("claude-opus-4-1-20250805", None),
    ("claude-opus-4-1", "claude-opus-4-1-20250805"),
    ("claude-sonnet-4-20250514", None),
    ("claude-sonnet-4-0", "claude-sonnet-4-20250514"),
    ("claude-opus-4-20250514", None),
    ("claude-opus-4-0", "claude-opus-4-20250514"),
    ("claude-3-7-sonnet-20250219", None),
    ("anthropic/claude-3.7-sonnet", "claude-3-7-sonnet-20250219"),
    ("claude-3-7-sonnet", "claude-3-7-sonnet-20250219"),
    ("claude-3-7-sonnet-latest", "claude-3-7-sonnet-20250219"),
    ("claude-3-5-sonnet-20241022", None),
    ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
    ("claude-3-5-haiku-20241022", None),
    ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
    ("claude-3-haiku-20240307", None),
    ("claude-3-opus-20240229", None),
    ("claude-3-opus-latest", "claude-3-opus-20240229"),
]


def listed(client: httpx2.Client, **query: object) -> dict[str, object]:
    return client.get("/v1/models", params=query).json()


def test_every_card_and_every_alias_is_listed_newest_first(client: httpx2.Client) -> None:
    page = client.get("/v1/models", params={"limit": 1000}, headers=OLD_VERSION).json()

    assert LISTED == [(model["id"], model["alias_of"]) for model in page["data"]]
    assert ["data", "has_more", "first_id", "last_id"] == list(page)


def test_a_client_that_does_not_say_which_it_is_gets_what_both_look_for(client: httpx2.Client) -> None:
    """`created` is the day of the snapshot, in seconds since 1970; the rest of an entry is the contract's."""
    page, entry = client.get("/v1/models").json(), client.get(f"/v1/models/{SNAPSHOT}").json()
    own = client.get(f"/v1/models/{SNAPSHOT}", headers={"x-api-key": "any"}).json()
    refused = client.get("/v1/models/nothing")

    assert {"object": "model", "created": 1739923200, "owned_by": OWN_MODEL, **own} == entry
    assert entry == next(model for model in page["data"] if model["id"] == SNAPSHOT)
    assert ["object", "data", "has_more", "first_id", "last_id"] == list(page)
    assert ("list", False, len(LISTED)) == (page["object"], page["has_more"], len(page["data"]))
    assert_contract_error(refused, 404, "not_found_error", "model")
    assert ("model", "model_not_found") == (refused.json()["error"]["param"], refused.json()["error"]["code"])
    assert refused.headers["request-id"] == refused.headers["x-request-id"]


def test_a_list_is_paged_for_whoever_asks_for_pages_or_is_used_to_them(inside: InsideRunner) -> None:
    aliases = {f"alias-{number}": SNAPSHOT for number in range(10)}

    async def ask(server: Inside) -> list[tuple[int, bool]]:
        answers = [
            await server.client.get("/v1/models", headers=OLD_VERSION),
            await server.client.get("/v1/models"),
            await server.client.get("/v1/models?limit=3"),
        ]
        return [(len(answer.json()["data"]), answer.json()["has_more"]) for answer in answers]

    assert [(20, True), (30, False), (3, True)] == inside(ask, aliases=aliases)


def test_an_entry_is_found_by_the_id_it_is_listed_under(client: httpx2.Client) -> None:
    for model in listed(client, limit=1000)["data"]:
        found = client.get(f"/v1/models/{model['id']}").json()

        assert {**model, "id": model["alias_of"] or model["id"], "alias_of": None} == found


def test_an_alias_has_the_facts_of_its_snapshot(client: httpx2.Client) -> None:
    models = {model["id"]: model for model in listed(client, limit=1000)["data"]}
    for alias, target in ((name, model["alias_of"]) for name, model in models.items() if model["alias_of"]):
        assert {**models[target], "id": alias, "alias_of": target} == models[alias]


def test_an_entry_has_every_field_of_the_contract(client: httpx2.Client) -> None:
    model = client.get(f"/v1/models/{SNAPSHOT}", headers=OLD_VERSION).json()
    capabilities = model.pop("capabilities")

    assert {
        "type": "model",
        "id": SNAPSHOT,
        "display_name": "Claude Sonnet 3.7 (stand-in: Scripted engine)",
        "created_at": "2025-02-19T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": "sonnet",
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "served_by": OWN_MODEL,
        "alias_of": None,
    } == model
    assert [
        "batch",
        "citations",
        "code_execution",
        "context_management",
        "effort",
        "image_input",
        "pdf_input",
        "server_tools",
        "structured_outputs",
        "thinking",
    ] == sorted(capabilities)


HYBRID = ("claude-opus-4-1", "claude-sonnet-4", "claude-opus-4", "claude-3-7-sonnet", "anthropic/claude-3.7")
TYPES = {"enabled", "adaptive", "disabled", "between_tools"}
EFFORTS = {"low", "medium", "high", "xhigh", "max"}


def supported(capability: dict[str, dict[str, bool]]) -> set[str]:
    return {name for name, value in capability.items() if isinstance(value, dict) and value["supported"]}


def test_every_card_says_how_it_may_think(client: httpx2.Client) -> None:
    told, right = {}, {}
    for model in listed(client, limit=1000)["data"]:
        thinking, effort = model["capabilities"]["thinking"], model["capabilities"]["effort"]
        types, efforts = supported(thinking["types"]), supported(effort)
        told[model["id"]] = (thinking["supported"], types, effort["supported"], efforts)
        if model["line"] is None:
            right[model["id"]] = (True, TYPES, True, EFFORTS)
        elif model["id"].startswith(HYBRID):
            right[model["id"]] = (True, {"enabled", "disabled"}, False, set())
        else:
            right[model["id"]] = (False, {"disabled"}, False, set())

    assert right == told


def test_what_a_card_says_of_thinking_is_what_it_takes(client: httpx2.Client) -> None:
    told, taken = {}, {}
    ask = {"max_tokens": 2048, "messages": [{"role": "user", "content": "Hi"}]}
    for model in listed(client, limit=1000)["data"]:
        capabilities = model["capabilities"]
        told[model["id"]] = (supported(capabilities["thinking"]["types"]), supported(capabilities["effort"]))
        thinking = {kind: {"type": kind} for kind in TYPES} | {"enabled": {"type": "enabled", "budget_tokens": 1024}}
        types = {kind: {"thinking": value} for kind, value in thinking.items()}
        efforts = {effort: {"output_config": {"effort": effort}} for effort in EFFORTS}
        taken[model["id"]] = tuple(
            {
                name
                for name, fields in asked.items()
                if client.post("/v1/messages", json={**ask, "model": model["id"], **fields}).is_success
            }
            for asked in (types, efforts)
        )

    assert told == taken


def test_every_card_can_keep_to_a_schema_and_nothing_else_of_what_is_not_built(client: httpx2.Client) -> None:
    built = ("effort", "thinking")
    for model in listed(client, limit=1000)["data"]:
        can = {name: value["supported"] for name, value in model["capabilities"].items() if name not in built}

        assert ["structured_outputs"] == [name for name, value in can.items() if value], model["id"]
        assert 7 == [*can.values()].count(False)


def test_only_the_weights_themselves_are_no_stand_in(client: httpx2.Client) -> None:
    models = listed(client, limit=1000)["data"]
    named = [model["id"] for model in models if "(stand-in: Scripted engine)" not in model["display_name"]]

    assert ["scripted-20260101", "scripted", "scripted-latest"] == named
    assert {OWN_MODEL} == {model["served_by"] for model in models}


def test_the_limits_are_the_smaller_of_card_and_weights(client: httpx2.Client, scenes: Scenes) -> None:
    small = httpx2.get(f"{scenes.small_window_url}/v1/models/{SNAPSHOT}").json()
    large = client.get(f"/v1/models/{SNAPSHOT}").json()

    assert (64, 64) == (small["max_input_tokens"], small["max_tokens"])
    assert (200_000, 64_000) == (large["max_input_tokens"], large["max_tokens"])


def test_the_lifecycle_is_a_filter(client: httpx2.Client) -> None:
    def ids(query: str) -> list[str]:
        return [model["id"] for model in client.get(f"/v1/models?limit=1000&{query}").json()["data"]]

    deprecated = [
        "claude-3-5-sonnet-20241022",
        "claude-3-5-sonnet-latest",
        "claude-3-opus-20240229",
        "claude-3-opus-latest",
    ]
    everything = [name for name, _ in LISTED]
    assert deprecated == ids("lifecycle%5B%5D=deprecated")
    assert [name for name in everything if name not in deprecated] == ids("lifecycle[]=active")
    assert [] == ids("lifecycle[]=retired")
    assert everything == ids("lifecycle[]=active&lifecycle[]=deprecated")


def test_a_page_says_where_it_begins_and_ends(client: httpx2.Client) -> None:
    ids = [name for name, _ in LISTED]

    def shown(**query: object) -> tuple[object, ...]:
        page = listed(client, **query)
        return [model["id"] for model in page["data"]], page["has_more"], page["first_id"], page["last_id"]

    assert (ids[:2], True, ids[0], ids[1]) == shown(limit=2)
    assert (ids[2:5], True, ids[2], ids[4]) == shown(limit=3, after_id=ids[1])
    assert (ids[18:], False, ids[18], ids[19]) == shown(limit=2, after_id=ids[17])
    assert ([], False, None, None) == shown(after_id=ids[19])
    assert (ids[2:5], True, ids[2], ids[4]) == shown(limit=3, before_id=ids[5])
    assert (ids[:2], False, ids[0], ids[1]) == shown(before_id=ids[2])
    assert ([], False, None, None) == shown(before_id=ids[0])
    assert (ids, False, ids[0], ids[19]) == shown()


def test_a_moved_alias_points_to_its_new_snapshot(inside: InsideRunner) -> None:
    aliases = {"claude-3-7-sonnet-latest": "claude-sonnet-4-20250514", "my-favourite": "scripted-20260101"}

    async def ask(server: Inside) -> dict[str, tuple[str, str]]:
        models = (await server.client.get("/v1/models?limit=1000")).json()["data"]
        return {model["id"]: (model["alias_of"], model["created_at"][:10]) for model in models}

    models = inside(ask, aliases=aliases)

    assert ("claude-sonnet-4-20250514", "2025-05-14") == models["claude-3-7-sonnet-latest"]
    assert ("scripted-20260101", "2026-01-01") == models["my-favourite"]
    assert ("claude-3-7-sonnet-20250219", "2025-02-19") == models["claude-3-7-sonnet"]


def test_the_embedded_model_says_what_it_is(embedded_model: RunningServer) -> None:
    with httpx2.Client(base_url=embedded_model.url) as client:
        own = client.get("/v1/models/smollm2-135m-instruct").json()
        stand_in = client.get("/v1/models/claude-3-7-sonnet-latest").json()
        nobody = client.get("/v1/models/scripted-20260101")

    assert ("smollm2-135m-instruct-20250207", "SmolLM2 135M Instruct") == (own["id"], own["display_name"])
    assert "Claude Sonnet 3.7 (stand-in: SmolLM2 135M Instruct)" == stand_in["display_name"]
    assert own["id"] == own["served_by"] == stand_in["served_by"]
    assert datetime.fromisoformat("2025-02-07T00:00:00+00:00") == datetime.fromisoformat(own["created_at"])
    assert (own["max_input_tokens"], own["max_tokens"]) == (stand_in["max_input_tokens"], stand_in["max_tokens"])
    assert_contract_error(nobody, 404, "not_found_error", "model")
