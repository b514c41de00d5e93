"""No field that a client invents reaches an engine (T05): refused in the body, without effect elsewhere."""

import asyncio
import copy
import json
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx2

from sestet.config import Config
from sestet.contract.deltas import Generation, Sampling
from sestet.engines.scripted import Record, ScriptedEngine
from sestet.server.compose import build
from tests.faults.wire import HEADERS, body
from tests.faults.wiretap import wiretap
from tests.running import start_server

NAMES = re.findall(
    r"\S+",
    """
    n best_of bypass_filter n_discard n_keep n_predict n_probs id_slot slot_id cache_prompt cache_reuse
    return_progress return_tokens t_max_predict_ms timings_per_token post_sampling_probs samplers sampler_seq
    seed grammar grammar_lazy grammar_triggers grammar_type json_schema response_format response_fields
    chat_template chat_template_kwargs chat_parser add_generation_prompt continue_final_message
    add_special_tokens parse_special preserved_tokens enable_thinking reasoning_format reasoning_budget
    thinking_forced_open guided_json guided_regex guided_choice guided_grammar guided_decoding_backend
    structured_outputs cache_salt logit_bias logprobs top_logprobs prompt_logprobs echo suffix prompt input_ids
    prompt_token_ids prompt_embeds input_prefix input_suffix input_extra image_data mm_processor_kwargs lora
    lora_name lora_path adapter min_p typical_p top_n_sigma xtc_probability xtc_threshold dynatemp_range
    mirostat mirostat_tau mirostat_eta dry_multiplier repeat_penalty repeat_last_n presence_penalty
    frequency_penalty repetition_penalty length_penalty ignore_eos stop_token_ids min_tokens skip_special_tokens
    truncate_prompt_tokens allowed_token_ids bad_words use_beam_search speculative api_base api_key base_url
    api_version organization custom_llm_provider headers extra_headers extra_body extra_query timeout
    num_retries mock_response model_path model_url hf_repo weights engine backend kv_transfer_params priority
    request_id data_parallel_rank user_role bypass debug __proto__ constructor
    """,
)

VALUES: tuple[object, ...] = (1, "sentinel-of-a-parameter", None)

REQUEST: dict[str, Any] = {
    **body(),
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Again"},
    ],
    "metadata": {"user_id": "u"},
}


def test_there_are_enough_names() -> None:
    assert len(set(NAMES)) >= 80
    assert len(set(NAMES)) == len(NAMES)


def test_no_parameter_at_any_level_of_the_body_is_taken() -> None:
    async def post_all() -> tuple[list[tuple[str, str, int, str]], list[Record]]:
        found = []
        async with application() as (client, engine):
            for name in NAMES:
                for place, request in injected(name, VALUES[0]):
                    answer = await client.post("/v1/messages", json=request)
                    found.append((name, place, answer.status_code, answer.json()["error"]["message"]))
        return found, list(engine.records)

    found, records = asyncio.run(post_all())

    assert len(NAMES) * len(list(injected("x", 1))) == len(found)
    assert [] == [case for case in found if case[2] != 400]
    assert [] == [case for case in found if f"{case[1]}{case[0]}: " not in case[3]]
    assert [] == list(records)


def test_an_invented_field_that_is_null_or_text_is_refused_too() -> None:
    async def post_all() -> list[int]:
        async with application() as (client, _):
            return [
                (await client.post(path, json={**REQUEST, name: value})).status_code
                for name in NAMES
                for value in VALUES
                for path in ("/v1/messages", "/v1/messages/count_tokens")
            ]

    assert [400] * len(NAMES) * len(VALUES) * 2 == asyncio.run(post_all())


def test_no_parameter_in_the_query_or_in_a_header_changes_what_the_engine_is_sent() -> None:
    async def post_all() -> tuple[set[int], list[Record]]:
        statuses = set()
        async with application() as (client, engine):
            await client.post("/v1/messages", json=REQUEST)
            for name in NAMES:
                spellings = {name, f"x-{name}", f"x-sestet-{name}", f"anthropic-{name}", name.replace("_", "-")}
                for answer in (
                    await client.post("/v1/messages", params={name: "7"}, json=REQUEST),
                    await client.post("/v1/messages", headers=dict.fromkeys(spellings, "7"), json=REQUEST),
                ):
                    statuses.add(answer.status_code)
        return statuses, list(engine.records)

    statuses, records = asyncio.run(post_all())
    sent = {(record.prompt, record.job.max_tokens, record.job.sampling) for record in records}

    assert {200} == statuses
    assert 2 * len(NAMES) + 1 == len(records)
    assert 1 == len(sent)


CLOUDS = {
    f"/model/{REQUEST['model']}/invoke": {"anthropic_version": "bedrock-2023-05-31"},
    f"/v1/projects/p/locations/l/publishers/anthropic/models/{REQUEST['model']}:rawPredict": {
        "anthropic_version": "vertex-2023-10-16"
    },
}


def test_no_parameter_is_taken_at_the_paths_of_the_clouds_either() -> None:
    async def post_all() -> tuple[set[int], set[int], list[Record]]:
        refused, taken = set(), set()
        plain = {key: value for key, value in REQUEST.items() if key != "model"}
        async with application() as (client, engine):
            await client.post("/v1/messages", json=REQUEST)
            for path, version in CLOUDS.items():
                request = {**plain, **version}
                for name in NAMES:
                    spellings = {f"x-amzn-{name}", f"x-goog-{name}", f"anthropic-{name}", name.replace("_", "-")}
                    headers = dict.fromkeys(spellings, "7")
                    refused.add((await client.post(path, json={**request, name: 1})).status_code)
                    taken.add((await client.post(path, params={name: "7"}, headers=headers, json=request)).status_code)
        return refused, taken, list(engine.records)

    refused, taken, records = asyncio.run(post_all())
    sent = {(record.prompt, record.job.max_tokens, record.job.sampling) for record in records}

    assert ({400}, {200}) == (refused, taken)
    assert 2 * len(NAMES) + 1 == len(records)
    assert 1 == len(sent)


def test_what_an_engine_is_sent_holds_numbers_an_id_of_ours_the_profiles_texts_and_a_checked_grammar_alone() -> None:
    assert [
        ("request_id", str),
        ("prompt", tuple[int, ...]),
        ("max_tokens", int),
        ("sampling", Sampling),
        ("forbidden", tuple[int, ...]),
        ("shown", tuple[str, ...]),
        ("keep_tokens", bool),
        ("grammar", str | None),
        ("stop", tuple[str, ...]),
    ] == [(field.name, field.type) for field in fields(Generation)]
    assert [("temperature", float), ("top_p", float), ("top_k", int)] == [
        (field.name, field.type) for field in fields(Sampling)
    ]


def test_the_child_of_llamacpp_is_sent_known_fields_and_numbers_alone(tmp_path: Path) -> None:
    """On the wire: everything that goes into the child's socket is written down."""
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        server = start_server(
            tmp_path,
            config="[engine]\nslots = 1\nthreads = 1\nwindow = 512\n",
            environment={"TMPDIR": temporary},
        )
        try:
            jobs = asyncio.run(record_jobs(server.url, Path(temporary)))
        finally:
            server.stop()

    assert ["/completion", "/completion"] == [path for path, _ in jobs if path != "/tokenize"]
    assert {("content", "add_special", "parse_special")} == {tuple(job) for path, job in jobs if path == "/tokenize"}
    for path, job in jobs:
        if path == "/completion":
            assert [
                "n_predict",
                "temperature",
                "top_p",
                "top_k",
                "min_p",
                "samplers",
                "return_tokens",
                "preserved_tokens",
                "logit_bias",
                "stop",
                "prompt",
                "id_slot",
                "cache_prompt",
                "stream",
                "return_progress",
            ] == list(job)
            assert (False, [], [], []) == tuple(
                job[name] for name in ("return_tokens", "preserved_tokens", "logit_bias", "stop")
            )
            assert all(isinstance(token, int) for token in job["prompt"])
            assert (3, 0.5, ["top_k", "top_p", "temperature"]) == (
                job["n_predict"],
                job["temperature"],
                job["samplers"],
            )


async def record_jobs(url: str, temporary: Path) -> list[tuple[str, dict[str, Any]]]:
    request = {**REQUEST, "model": "smollm2-135m-instruct", "max_tokens": 3, "temperature": 0.5}
    names = {name.replace("_", "-"): "7" for name in NAMES}
    async with wiretap(temporary) as heard, httpx2.AsyncClient(base_url=url, headers=HEADERS, timeout=60) as client:
        for answer in (
            await client.post("/v1/messages", json=request),
            await client.post("/v1/messages", json=request, params=dict.fromkeys(NAMES, "7"), headers=names),
        ):
            assert 200 == answer.status_code
        return [(path, json.loads(content)) for path, content in heard]


@asynccontextmanager
async def application() -> AsyncIterator[tuple[httpx2.AsyncClient, ScriptedEngine]]:
    """The whole application in this process, with the engine it talks to."""
    built = await build(Config.model_validate({"engine": {"kind": "scripted"}, "log": {"level": "error"}}))
    (served,) = built.served.values()
    assert isinstance(served.engine, ScriptedEngine)
    transport = httpx2.ASGITransport(app=built.asgi)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=HEADERS) as client:
        yield client, served.engine
    await built.stop()


def injected(name: str, value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """The request with one more field, in each of its objects; and the path of that object."""
    for place in (
        (),
        ("system", 0),
        ("system", 0, "cache_control"),
        ("messages", 0),
        ("messages", 0, "content", 0),
        ("messages", 0, "content", 0, "cache_control"),
        ("messages", 1),
        ("metadata",),
    ):
        request = copy.deepcopy(REQUEST)
        target: Any = request
        for step in place:
            target = target[step]
        target[name] = value
        yield "".join(f"{step}." for step in place), request
