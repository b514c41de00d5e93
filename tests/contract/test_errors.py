"""Every way to be refused, over real HTTP, in the one shape of the contract."""

from collections.abc import Iterator
from urllib.parse import quote

import httpx2
import pytest

from sestet.contract.requests import UNSUPPORTED, UNSUPPORTED_BLOCKS
from tests.contract.errors import assert_contract_error
from tests.contract.scenes import MODEL, WINDOW, Scenes, rendered

MEBIBYTE = 1024 * 1024
BODY_BYTES_MAX = 32 * MEBIBYTE

HELLO = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
CACHED = {"type": "ephemeral"}
USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Well"}
SYSTEM = {"role": "system", "content": "Be brief"}
THOUGHT = {"type": "thinking", "thinking": "Hm", "signature": ""}
REDACTED = {"type": "redacted_thinking", "data": ""}
THINKING = {"type": "enabled", "budget_tokens": 1024}
ADAPTIVE = {"type": "adaptive"}
OLDER_MODELS = [
    "claude-3-5-haiku-latest",
    "claude-3-opus-latest",
    "claude-3-5-sonnet-latest",
    "claude-3-haiku-20240307",
]
HYBRID_MODELS = ["claude-3-7-sonnet-latest", "claude-sonnet-4-0", "claude-opus-4-0", "claude-opus-4-1"]
EFFORTS = ["low", "medium", "high", "xhigh", "max"]

# What a client might send in each field that this server does not take yet.
UNSUPPORTED_VALUES = {
    "container": "container_1",
    "inference_geo": "us",
    "speed": "fast",
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    "mcp_servers": [{"type": "url", "name": "x", "url": "https://example.com"}],
    "compaction": {"type": "summarize"},
    "fallbacks": "default",
    "fallback_credit_token": "token",
    "thread": {"type": "create"},
    "billing_policy": {"type": "billing_policy", "bill_to": "self"},
}

# Values that ask for nothing are taken.
NEUTRAL_VALUES = {
    "tools": [],
    "tool_choice": {"type": "none"},
    "thinking": {"type": "disabled"},
    "output_config": {"effort": None, "format": None, "task_budget": None},
    "output_format": None,
    "container": None,
    "inference_geo": "not_available",
    "speed": "standard",
    "diagnostics": None,
    "context_management": {"edits": []},
    "mcp_servers": [],
    "compaction": None,
    "fallbacks": [],
    "fallback_credit_token": None,
    "thread": None,
    "billing_policy": None,
    "cache_control": CACHED,
    "metadata": {"user_id": "u" * 256},
    "service_tier": "auto",
}

# Changes to a request that says hello (`...` removes a field), and the path each refusal names.
WRONG_FIELDS = [
    ("model", {"model": ...}),
    ("model", {"model": None}),
    ("model", {"model": ""}),
    ("model", {"model": 7}),
    ("model", {"model": "m" * 257}),
    ("max_tokens", {"max_tokens": ...}),
    ("max_tokens", {"max_tokens": -1}),
    ("max_tokens", {"max_tokens": "64"}),
    ("max_tokens", {"max_tokens": 6.5}),
    ("max_tokens", {"max_tokens": True}),
    ("max_tokens", {"max_tokens": 2**31}),
    ("max_tokens", {"max_tokens": 64_001}),
    ("max_tokens", {"max_tokens": 0, "stream": True}),
    ("messages", {"messages": ...}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "Hi"}),
    ("messages.0", {"messages": ["Hi"]}),
    ("messages.0.role", {"messages": [{"content": "Hi"}]}),
    ("messages.0.role", {"messages": [{"role": "tool", "content": "Hi"}]}),
    ("messages.0.role", {"messages": [ASSISTANT]}),
    ("messages.0.role", {"messages": [SYSTEM, USER]}),
    ("messages.0.name", {"messages": [{**USER, "name": "x"}]}),
    ("messages.0.content", {"messages": [{"role": "user"}]}),
    ("messages.0.content", {"messages": [{"role": "user", "content": 7}]}),
    ("messages.0.content", {"messages": [{"role": "user", "content": None}]}),
    ("messages.0.content", {"messages": [{"role": "user", "content": ""}]}),
    ("messages.0.content", {"messages": [{"role": "user", "content": []}]}),
    ("messages.0.content.0", {"messages": [{"role": "user", "content": ["Hi"]}]}),
    ("messages.0.content.0.type", {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}),
    ("messages.0.content.0.type", {"messages": [{"role": "user", "content": [{"type": "sound"}]}]}),
    ("messages.0.content.0.text", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
    ("messages.0.content.0.text", {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
    (
        "messages.0.content.1.text",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": 7}]}]},
    ),
    (
        "messages.0.content.0.cache_control.ttl",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Hi", "cache_control": {**CACHED, "ttl": "2h"}}],
                }
            ]
        },
    ),
    (
        "messages.0.content.0.citations",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "citations": [{}]}]}]},
    ),
    ("messages.1.content", {"messages": [USER, {"role": "assistant", "content": ""}, USER]}),
    ("messages.1.content", {"messages": [USER, {"role": "assistant", "content": "So "}]}),
    ("messages", {"messages": [USER, SYSTEM, USER]}),
    ("messages", {"messages": [USER, ASSISTANT, SYSTEM]}),
    ("system", {"system": 7}),
    ("system.0.type", {"system": [{"type": "image", "source": {}}]}),
    ("system.0.text", {"system": [{"type": "text", "text": ""}]}),
    ("stream", {"stream": "yes"}),
    ("stop_sequences", {"stop_sequences": "STOP"}),
    ("stop_sequences.1", {"stop_sequences": ["STOP", " \n"]}),
    ("stop_sequences.0", {"stop_sequences": ["x" * 1001]}),
    ("stop_sequences", {"stop_sequences": ["x"] * 1001}),
    ("temperature", {"temperature": 1.1}),
    ("temperature", {"temperature": -0.1}),
    ("temperature", {"temperature": "warm"}),
    ("top_p", {"top_p": 2}),
    ("top_k", {"top_k": -1}),
    ("top_k", {"top_k": 1.5}),
    ("temperature", {"model": "claude-opus-4-1", "temperature": 0.5, "top_p": 0.5}),
    ("metadata.user_id", {"metadata": {"user_id": "u" * 257}}),
    ("metadata.name", {"metadata": {"name": "x"}}),
    ("service_tier", {"service_tier": "first"}),
    ("cache_control.type", {"cache_control": {"type": "forever"}}),
    ("max_token", {"max_token": 1}),
]

BAD_BODIES = {
    "empty": b"",
    "cut": b'{"model": "m"',
    "not an object": b"[1]",
    "not UTF-8": b'{"model": "\xff"}',
    "constant": b'{"model": "m", "max_tokens": NaN}',
    "deep": b"[" * 100_000,
    "many digits": b'{"model": "m", "max_tokens": ' + b"9" * 5000 + b"}",
    "key twice": b'{"model": "a", "model": "b"}',
}


# A lone surrogate in each place where text may stand, and the path that its refusal names.
LONE_SURROGATES = [
    ("messages.0.content", r'"messages": [{"role": "user", "content": "a\ud800"}]'),
    ("messages.0.content.0.text", r'"messages": [{"role": "user", "content": [{"type": "text", "text": "\udfff"}]}]'),
    ("system", r'"messages": [{"role": "user", "content": "a"}], "system": "\ud800 b"'),
    ("stop_sequences.0", r'"messages": [{"role": "user", "content": "a"}], "stop_sequences": ["\ud800"]'),
    ("metadata.user_id", r'"messages": [{"role": "user", "content": "a"}], "metadata": {"user_id": "\ud800"}'),
]


def think(**fields: object) -> dict[str, object]:
    return {"max_tokens": 2048, "thinking": THINKING, **fields}


def said(*blocks: dict[str, object], by: str = "assistant") -> dict[str, object]:
    """A conversation in which these blocks were said."""
    return {"messages": [USER, {"role": by, "content": [*blocks]}, *([USER] if by != "system" else [])]}


# What the contract refuses about thinking: changes to a request that says hello, and the whole text of the refusal.
WRONG_THINKING = [
    ("thinking.enabled.budget_tokens: Field required", think(thinking={"type": "enabled"})),
    (
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        think(thinking={**THINKING, "budget_tokens": 1023}),
    ),
    (
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024",
        think(thinking={**THINKING, "budget_tokens": -1}),
    ),
    (
        "thinking.enabled.budget_tokens: Input should be a valid integer",
        think(thinking={**THINKING, "budget_tokens": "1024"}),
    ),
    (
        "thinking.enabled.budget_tokens: Input should be a valid integer",
        think(thinking={**THINKING, "budget_tokens": True}),
    ),
    (
        "thinking.enabled.display: Input should be 'summarized' or 'omitted'",
        think(thinking={**THINKING, "display": "updates"}),
    ),
    ("thinking.enabled.effort: Extra inputs are not permitted", think(thinking={**THINKING, "effort": "low"})),
    (
        "thinking.disabled.display: Extra inputs are not permitted",
        think(thinking={"type": "disabled", "display": "omitted"}),
    ),
    (
        "thinking.disabled.budget_tokens: Extra inputs are not permitted",
        think(thinking={"type": "disabled", "budget_tokens": 1024}),
    ),
    (
        "thinking.between_tools.display: Extra inputs are not permitted",
        think(thinking={"type": "between_tools", "display": "omitted"}),
    ),
    (
        "thinking.adaptive.budget_tokens: Extra inputs are not permitted",
        think(thinking={**ADAPTIVE, "budget_tokens": 1024}),
    ),
    (
        "thinking.adaptive.block_binding: this is not supported by this server yet",
        think(thinking={**ADAPTIVE, "block_binding": {"prefix_mismatch_behavior": "error"}}),
    ),
    (
        "thinking: Input tag 'always' found using 'type' does not match any of the expected tags: "
        "'enabled', 'adaptive', 'disabled', 'between_tools'",
        think(thinking={"type": "always"}),
    ),
    ("thinking: Unable to extract tag using discriminator 'type'", think(thinking={"budget_tokens": 1024})),
    ("thinking: Input should be an object", think(thinking="enabled")),
    ("max_tokens: `max_tokens` must be greater than `thinking.budget_tokens`", think(max_tokens=1024)),
    ("max_tokens: `max_tokens` must be greater than `thinking.budget_tokens`", think(max_tokens=1)),
    (
        "max_tokens: 0 reads the prompt and writes nothing, so there is nothing to think about",
        think(max_tokens=0, stream=False),
    ),
    ("max_tokens: 0 reads the prompt and writes nothing, so it cannot be streamed", think(max_tokens=0, stream=True)),
    ("temperature: `temperature` may only be set to 1 when thinking is enabled", think(temperature=0.9)),
    ("temperature: `temperature` may only be set to 1 when thinking is enabled", think(temperature=0)),
    ("top_k: `top_k` must be unset when thinking is enabled", think(top_k=40)),
    ("top_k: `top_k` must be unset when thinking is enabled", think(top_k=0)),
    ("top_p: `top_p` must be greater than or equal to 0.95 or unset when thinking is enabled", think(top_p=0.94)),
    *[
        (
            "messages.1.content: a reply cannot be begun for the model when `thinking` is enabled; end with a user "
            "message, or disable thinking",
            think(messages=[USER, {"role": "assistant", "content": content}]),
        )
        for content in ("Well", "", [{"type": "text", "text": "Well"}], [THOUGHT], [REDACTED])
    ],
    (
        "messages.0.content.0.type: `thinking` blocks may only be in `assistant` messages",
        {"messages": [{"role": "user", "content": [THOUGHT]}]},
    ),
    (
        "messages.1.content.1.type: `redacted_thinking` blocks may only be in `assistant` messages",
        said({"type": "text", "text": "Look"}, REDACTED, by="user"),
    ),
    (
        "messages.1.content.0.type: `thinking` blocks may only be in `assistant` messages",
        said(THOUGHT, by="system"),
    ),
    ("system.0.type: Input should be 'text'", {"system": [THOUGHT]}),
    ("system.1.type: Input should be 'text'", {"system": [{"type": "text", "text": "Be brief"}, REDACTED]}),
    (
        "messages.1.content.0.cache_control: Extra inputs are not permitted",
        said({**THOUGHT, "cache_control": CACHED}),
    ),
    (
        "messages.1.content.0.cache_control: Extra inputs are not permitted",
        said({**REDACTED, "cache_control": CACHED}),
    ),
    ("messages.1.content.0.signature: Field required", said({"type": "thinking", "thinking": "Hm"})),
    ("messages.1.content.0.signature: Input should be a valid string", said({**THOUGHT, "signature": None})),
    ("messages.1.content.0.thinking: Field required", said({"type": "thinking", "signature": ""})),
    ("messages.1.content.0.data: Field required", said({"type": "redacted_thinking"})),
    ("messages.1.content.0.text: Extra inputs are not permitted", said({**THOUGHT, "text": "Hm"})),
    ("output_config: Input should be an object", {"output_config": "high"}),
    (
        "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
        {"output_config": {"effort": "huge"}},
    ),
    ("output_config.verbosity: Extra inputs are not permitted", {"output_config": {"verbosity": "low"}}),
    (
        "output_config.task_budget: this is not supported by this server yet",
        {"output_config": {"task_budget": {"type": "tokens", "total": 1}}},
    ),
    *[
        ("thinking.type: adaptive thinking is not supported on this model", think(model=model, thinking=ADAPTIVE))
        for model in HYBRID_MODELS
    ],
    *[
        (
            'thinking.type: "thinking.type.between_tools" is not supported for this model. It takes disabled, enabled.',
            think(model=model, thinking={"type": "between_tools"}),
        )
        for model in HYBRID_MODELS
    ],
    *[
        (
            f"output_config.effort: This model does not support the effort parameter `{effort}`. Leave it out.",
            {"model": model, "output_config": {"effort": effort}},
        )
        for model, effort in zip((*HYBRID_MODELS, OLDER_MODELS[0]), EFFORTS, strict=True)
    ],
]


def changed(changes: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**HELLO, **changes}.items() if value is not ...}


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1/messages/", "/v1/messages/batches", "/v2/messages", "/v1//messages", "/v1"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_route_is_not_found(client: httpx2.Client, method: str, path: str) -> None:
    assert_contract_error(client.request(method, path), 404, "not_found_error")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/messages", "POST"),
        ("PUT", "/v1/messages", "POST"),
        ("OPTIONS", "/v1/messages", "POST"),
        ("GET", "/v1/messages/count_tokens", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/claude-3-7-sonnet-latest", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(client: httpx2.Client, method: str, path: str, allowed: str) -> None:
    refused = client.request(method, path)

    assert_contract_error(refused, 405, "invalid_request_error")
    assert allowed == refused.headers.get("allow")


@pytest.mark.parametrize(
    "model", ["claude-9", "../../etc/passwd", "claude-3-7-sonnet-latest ", "CLAUDE-3-HAIKU-20240307", "%", "\u2028"]
)
def test_an_unknown_model_is_not_found(client: httpx2.Client, model: str) -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        body = changed({"model": model, "max_tokens": ... if path.endswith("tokens") else 1})

        assert_contract_error(client.post(path, json=body), 404, "not_found_error", "model")
    assert_contract_error(client.get(f"/v1/models/{quote(model, safe='')}"), 404, "not_found_error", "model")


def test_a_close_miss_is_told_the_nearest_name(client: httpx2.Client) -> None:
    refused = client.post("/v1/messages", json=changed({"model": "claude-3-7-sonet-latest"}))

    assert "`claude-3-7-sonnet-latest`" in assert_contract_error(refused, 404, "not_found_error", "model")


@pytest.mark.parametrize(
    ("path", "changes"), WRONG_FIELDS, ids=[f"{path}-{n}" for n, (path, _) in enumerate(WRONG_FIELDS)]
)
def test_a_wrong_field_is_refused_by_its_path(client: httpx2.Client, path: str, changes: dict[str, object]) -> None:
    headers = {"anthropic-version": "2023-06-01"}

    for stream in (False, True):
        body = changed({"stream": stream, **changes})
        assert_contract_error(
            client.post("/v1/messages", json=body, headers=headers), 400, "invalid_request_error", path
        )


@pytest.mark.parametrize(
    ("message", "changes"),
    WRONG_THINKING,
    ids=[f"{text.partition(':')[0]}-{n}" for n, (text, _) in enumerate(WRONG_THINKING)],
)
def test_what_the_contract_refuses_about_thinking_is_told_by_path_and_text(
    client: httpx2.Client, message: str, changes: dict[str, object]
) -> None:
    headers = {"anthropic-version": "2023-06-01"}

    for stream in (False, True):
        refused = client.post("/v1/messages", json=changed({"stream": stream, **changes}), headers=headers)
        assert message == assert_contract_error(refused, 400, "invalid_request_error")


ONLY_OF_A_REPLY = ("max_tokens", "temperature", "top_k", "top_p")


@pytest.mark.parametrize(
    ("message", "changes"),
    [case for case in WRONG_THINKING if not case[0].startswith(ONLY_OF_A_REPLY)],
)
def test_a_count_is_refused_as_the_reply_is(client: httpx2.Client, message: str, changes: dict[str, object]) -> None:
    body = changed({**changes, "max_tokens": ..., "stream": ...})

    refused = client.post("/v1/messages/count_tokens", json=body)
    assert message == assert_contract_error(refused, 400, "invalid_request_error")


@pytest.mark.parametrize("model", OLDER_MODELS)
def test_a_model_that_does_not_think_is_not_asked_to(client: httpx2.Client, model: str) -> None:
    snapshot = client.get(f"/v1/models/{model}").json()["id"]
    for thinking in (THINKING, ADAPTIVE, {"type": "between_tools"}):
        body = changed(think(model=model, thinking=thinking))
        message = assert_contract_error(client.post("/v1/messages", json=body), 400, "invalid_request_error")

        assert f"thinking.type: '{snapshot}' does not support thinking." == message
    assert (
        200 == client.post("/v1/messages", json=changed({"model": model, "thinking": {"type": "disabled"}})).status_code
    )


@pytest.mark.parametrize(
    ("budget", "max_tokens", "betas", "path"),
    [
        (63_999, 64_000, "", None),
        (127_999, 128_000, "", "max_tokens"),
        (127_999, 128_000, "output-128k-2025-02-19", None),
        (128_000, 128_000, "output-128k-2025-02-19", "max_tokens"),
        (127_999, 128_001, "output-128k-2025-02-19", "max_tokens"),
        (2048, 2048, "", "max_tokens"),
        (2048, 2048, "interleaved-thinking-2025-05-14", None),
        (128_000, 128_000, "output-128k-2025-02-19, interleaved-thinking-2025-05-14", None),
        (200_000, 64, "interleaved-thinking-2025-05-14", None),
        (1023, 64, "interleaved-thinking-2025-05-14", "thinking.enabled.budget_tokens"),
    ],
)
def test_a_budget_may_be_as_large_as_the_card_and_its_betas_let_it(
    client: httpx2.Client, budget: int, max_tokens: int, betas: str, path: str | None
) -> None:
    body = changed(think(thinking={**THINKING, "budget_tokens": budget}, max_tokens=max_tokens))
    answer = client.post("/v1/messages", json=body, headers={"anthropic-beta": betas} if betas else {})

    told = (answer.status_code, answer.json().get("error", {}).get("message", "").partition(":")[0] or None)
    assert (400 if path else 200, path) == told


@pytest.mark.parametrize("changes", [{"temperature": 1}, {"top_p": 0.95}, {"temperature": 1, "top_p": 1}])
def test_sampling_that_changes_little_may_stand_beside_thinking(
    client: httpx2.Client, changes: dict[str, object]
) -> None:
    answer = client.post("/v1/messages", json=changed(think(**changes)), headers={"anthropic-version": "2023-06-01"})

    assert ["thinking", "text"] == [block["type"] for block in answer.json()["content"]]


@pytest.mark.parametrize(("field", "value"), [("temperature", 0.5), ("top_p", 0.5), ("top_k", 5)])
def test_under_the_new_version_nobody_is_told_a_value_for_sampling_beside_thinking(
    client: httpx2.Client, field: str, value: float
) -> None:
    body = changed(think(**{field: value}))
    refused = client.post("/v1/messages", json=body, headers={"anthropic-version": "2026-10-21"})

    message = assert_contract_error(refused, 400, "invalid_request_error", field)
    assert "not accepted under anthropic-version 2026-10-21" in message


@pytest.mark.parametrize("field", sorted(UNSUPPORTED))
def test_a_field_that_is_not_supported_yet_is_refused_by_its_path(client: httpx2.Client, field: str) -> None:
    for path, changes in (("/v1/messages", {}), ("/v1/messages/count_tokens", {"max_tokens": ...})):
        body = changed({**changes, field: UNSUPPORTED_VALUES[field]})

        assert_contract_error(client.post(path, json=body), 400, "invalid_request_error", field)


def test_a_thread_is_refused_with_the_code_that_lets_clients_go_on_without_one(client: httpx2.Client) -> None:
    """The agents of the newest SDKs begin with a thread, and leave it out once they are told this."""
    for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}):
        refused = client.post("/v1/messages", json=changed({"thread": thread}))

        assert_contract_error(refused, 400, "invalid_request_error", "thread")
        assert "thread_unsupported_request" == refused.json()["error"].get("details", {}).get("error_code")


def test_values_that_ask_for_nothing_are_taken(client: httpx2.Client) -> None:
    assert [] == sorted(UNSUPPORTED.keys() - NEUTRAL_VALUES.keys())
    for field, value in NEUTRAL_VALUES.items():
        assert (field, 200) == (field, client.post("/v1/messages", json=changed({field: value})).status_code)


@pytest.mark.parametrize("kind", sorted(UNSUPPORTED_BLOCKS))
def test_a_block_that_is_not_supported_yet_is_refused_by_its_path(client: httpx2.Client, kind: str) -> None:
    content = [{"type": "text", "text": "Look:"}, {"type": kind}]
    body = changed({"messages": [{"role": "user", "content": content}]})
    refused = client.post("/v1/messages", json=body)

    message = assert_contract_error(refused, 400, "invalid_request_error", "messages.0.content.1.type")
    assert f"`{kind}`" in message


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_body_that_is_not_json_as_the_contract_wants_it_is_refused(client: httpx2.Client, body: bytes) -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        assert_contract_error(client.post(path, content=body), 400, "invalid_request_error")


@pytest.mark.parametrize(("path", "fields"), LONE_SURROGATES, ids=[path for path, _ in LONE_SURROGATES])
def test_a_lone_surrogate_is_refused_by_its_path(client: httpx2.Client, path: str, fields: str) -> None:
    body = f'{{"model": "{MODEL}", "max_tokens": 9, {fields}}}'

    assert_contract_error(client.post("/v1/messages", content=body.encode()), 400, "invalid_request_error", path)


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit"),
        ("after_id=claude-9", "after_id"),
        ("before_id=claude-9", "before_id"),
        ("after_id=scripted-20260101&before_id=scripted-20260101", "before_id"),
        ("lifecycle[]=alive", "lifecycle"),
        ("page=2", "page"),
    ],
)
def test_a_wrong_query_parameter_is_refused_by_its_name(client: httpx2.Client, query: str, path: str) -> None:
    assert_contract_error(client.get(f"/v1/models?{query}"), 400, "invalid_request_error", path)


def test_an_unknown_version_is_refused(client: httpx2.Client) -> None:
    for version in ("2023-01-01", "", "2026-10-21, 2023-06-01"):
        refused = client.post("/v1/messages", json=HELLO, headers={"anthropic-version": version})

        assert_contract_error(refused, 400, "invalid_request_error", "anthropic-version")


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k"])
def test_sampling_is_refused_under_the_new_version_even_at_its_default(client: httpx2.Client, field: str) -> None:
    refused = client.post("/v1/messages", json=changed({field: 1}), headers={"anthropic-version": "2026-10-21"})

    assert_contract_error(refused, 400, "invalid_request_error", field)


def test_a_compressed_body_is_refused(client: httpx2.Client) -> None:
    refused = client.post("/v1/messages", content=b"{}", headers={"content-encoding": "gzip"})

    assert_contract_error(refused, 400, "invalid_request_error", "content-encoding")
    assert {"error_code": "request_body_encoding_unsupported"} == refused.json()["error"]["details"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_body_of_one_byte_too_many_is_too_large(client: httpx2.Client, path: str) -> None:
    body = b'{"model": "' + b"m" * (BODY_BYTES_MAX - 13) + b'"}'

    def in_chunks(content: bytes) -> Iterator[bytes]:
        for start in range(0, len(content), MEBIBYTE):
            yield content[start : start + MEBIBYTE]

    assert BODY_BYTES_MAX == len(body)
    assert_contract_error(client.post(path, content=body), 400, "invalid_request_error", "model")
    assert_contract_error(client.post(path, content=body + b" "), 413, "request_too_large")
    assert_contract_error(client.post(path, content=in_chunks(body + b" ")), 413, "request_too_large")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_cannot_fit_is_told_by_how_much(scenes: Scenes, stream: bool) -> None:
    text = "x" * 20
    tokens = len(rendered(("user", text)))
    body = changed({"messages": [{"role": "user", "content": text}], "stream": stream})
    refused = httpx2.post(f"{scenes.small_window_url}/v1/messages", json=body)

    message = assert_contract_error(refused, 400, "invalid_request_error")
    assert f"prompt is too long: {tokens} tokens > {WINDOW - 1} maximum ({tokens - WINDOW + 1} too many)" == message


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_server_says_when_to_come_back(scenes: Scenes, stream: bool) -> None:
    refused = httpx2.post(f"{scenes.busy_url}/v1/messages", json=changed({"stream": stream}))

    assert_contract_error(refused, 529, "overloaded_error")
    assert 1 <= int(refused.headers["retry-after"]) <= 60


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_fails_before_the_first_token_is_a_status(client: httpx2.Client, stream: bool) -> None:
    body = changed({"messages": [{"role": "user", "content": "fail at once"}], "stream": stream})

    assert_contract_error(client.post("/v1/messages", json=body), 500, "api_error")


@pytest.mark.parametrize("text", ["fail half way", "end without a word"])
def test_an_engine_that_fails_half_way_fails_a_whole_reply(client: httpx2.Client, text: str) -> None:
    body = changed({"messages": [{"role": "user", "content": text}]})

    assert_contract_error(client.post("/v1/messages", json=body), 500, "api_error")


def test_every_answer_has_a_request_id_of_its_own(client: httpx2.Client) -> None:
    answers = [client.post("/v1/messages", json=HELLO) for _ in range(3)]
    answers += [client.get(path) for path in ("/healthz", "/v1/models", "/openapi.json", "/", "/nothing", "/metrics")]
    ids = [answer.headers.get_list("request-id") for answer in answers]

    assert [1] * len(answers) == [len(values) for values in ids]
    assert len(answers) == len({values[0] for values in ids})
