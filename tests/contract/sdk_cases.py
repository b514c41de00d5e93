"""What any Python SDK is asked to do; run by an interpreter that has that SDK, with the servers' addresses as JSON
in its first argument. Prints what happened as JSON. The TypeScript SDKs do the same in typescript/cases.mjs.
"""

import json
import re
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor

import anthropic
import pydantic

SERVERS = json.loads(sys.argv[1])
MODEL = "claude-3-7-sonnet-latest"
OWN_MODEL = "scripted-20260101"
VERSIONS = ["2023-06-01", "2026-10-21"]
REDACT = SERVERS["redact"]
TOO_LARGE = "x" * (32 * 1024 * 1024 + 1)


def client(url, key="any"):
    return anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, _strict_response_validation=True)


def ask(text, **fields):
    return {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": text}], **fields}


talkative = client(SERVERS["url"])


def told(message):
    return {
        "model": message.model,
        "text": [block.text for block in message.content],
        "stop_reason": message.stop_reason,
        "stop_sequence": message.stop_sequence,
        "tokens": [message.usage.input_tokens, message.usage.output_tokens],
    }


def whole(text, **fields):
    message = talkative.messages.create(**ask(text, **fields))
    return {**told(message), "request_id": (message._request_id or "")[:4]}


def raw_stream(text, **fields):
    return [event.type for event in talkative.messages.create(**ask(text, stream=True, **fields))]


def helper(text, **fields):
    with talkative.messages.stream(**ask(text, **fields)) as stream:
        deltas = list(stream.text_stream)
        return {"deltas": deltas, **told(stream.get_final_message())}


def failed(call):
    try:
        call()
    except anthropic.APIStatusError as error:
        body = error.body
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "type": body["error"]["type"],
            "request_id": body["request_id"][:4],
            "told_in_header": error.request_id == body["request_id"],
        }
    return None


def half_way():
    deltas = []
    try:
        with talkative.messages.stream(**ask("fail half way")) as stream:
            deltas.extend(stream.text_stream)
    except anthropic.APIStatusError as error:
        return {"deltas": deltas, "type": error.body["error"]["type"]}
    return {"deltas": deltas, "type": None}


def cached():
    """The same question three times; nobody else has its system prompt."""
    handbook = secrets.token_hex(16).ljust(2000, "x")
    fields = ask("Hi", system=[{"type": "text", "text": handbook, "cache_control": {"type": "ephemeral", "ttl": "1h"}}])
    written, read = (talkative.messages.create(**fields) for _ in range(2))
    with talkative.messages.stream(**fields) as stream:
        return [caching(message.usage) for message in (written, read, stream.get_final_message())]


def caching(usage):
    split = usage.cache_creation
    written = [usage.cache_creation_input_tokens, split.ephemeral_5m_input_tokens, split.ephemeral_1h_input_tokens]
    return [usage.input_tokens, *written, usage.cache_read_input_tokens]


def headers():
    response = talkative.messages.with_raw_response.create(**ask("Hi"))
    return {
        "request_id": response.headers["request-id"][:4],
        "served_by": response.headers["sestet-served-by"],
        "text": response.parse().content[0].text,
    }


def sampling(version):
    try:
        message = talkative.messages.create(
            **ask("Hi"), extra_body={"temperature": 0.5}, extra_headers=version and {"anthropic-version": version}
        )
    except anthropic.BadRequestError as error:
        return error.body["error"]["message"].partition(":")[0]
    return message.content[0].text


def retrieved(name):
    model = talkative.models.retrieve(name)
    return {"id": model.id, "created_at": model.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"), "type": model.type}


def own(url, key="any", text="Hi", **fields):
    return lambda: client(url, key).messages.create(**ask(text, **fields))


ENABLED = {"type": "enabled", "budget_tokens": 1024}
OMITTED = {**ENABLED, "display": "omitted"}
ADAPTIVE = {"type": "adaptive"}

# Every way to say how to think: fields of the request.
FORMS = {
    "absent": {},
    "disabled": {"thinking": {"type": "disabled"}},
    "between_tools": {"thinking": {"type": "between_tools"}},
    "enabled": {"thinking": ENABLED},
    "enabled summarized": {"thinking": {**ENABLED, "display": "summarized"}},
    "enabled omitted": {"thinking": OMITTED},
    "adaptive": {"thinking": ADAPTIVE},
    "adaptive summarized": {"thinking": {**ADAPTIVE, "display": "summarized"}},
    "adaptive omitted": {"thinking": {**ADAPTIVE, "display": "omitted"}},
    "adaptive with effort": {"thinking": ADAPTIVE, "output_config": {"effort": "low"}},
    "effort without thinking": {"output_config": {"effort": "max"}},
}


def block(block):
    """A block as a test can foresee it: what is sealed is only told to be there."""
    if block.type == "thinking":
        return ["thinking", block.thinking, bool(block.signature)]
    if block.type == "redacted_thinking":
        return ["redacted_thinking", bool(block.data)]
    if block.type == "tool_use":
        return ["tool_use", block.id[:6], block.name, block.input]
    return ["text", block.text]


def thought(message):
    usage = message.usage
    return {
        "content": [block(one) for one in message.content],
        "stop": [message.stop_reason, message.stop_sequence],
        "tokens": [usage.input_tokens, usage.output_tokens, usage.output_tokens_details.thinking_tokens],
    }


def think(text, sdk=talkative, **fields):
    """The same question, whole and through the helper, whose own events are told too."""
    asked = ask(text, **{"max_tokens": 2048, **fields})
    whole = thought(sdk.messages.create(**asked))
    told_events = []
    with sdk.messages.stream(**asked) as stream:
        for event in stream:
            if event.type == "thinking" or event.type == "text":
                told_events.append([event.type, getattr(event, event.type)])
            elif event.type == "input_json":
                told_events.append(["input_json", event.partial_json])
            elif event.type == "signature":
                told_events.append(["signature", bool(event.signature)])
        message = stream.get_final_message()
    return {"whole": whole, "events": told_events, "streamed": thought(message)}


def forms(version):
    headers = {"anthropic-version": version}
    return {name: think("Hi", model=OWN_MODEL, extra_headers=headers, **form) for name, form in FORMS.items()}


# What is asked turn after turn, how, and whether through the helper.
TURNS = [
    ("First", {"thinking": ENABLED}, False),
    ("Second", {"thinking": {"type": "disabled"}}, True),
    ("Third", {"thinking": OMITTED}, True),
    ("Fourth", {"thinking": ADAPTIVE}, False),
    (f"Fifth {REDACT}", {"thinking": ENABLED}, True),
    ("Sixth", {"thinking": ENABLED}, False),
    ("Seventh", {}, True),
]


def transcript(sdk):
    """Every reply goes back as it came, and once more without what is no text."""
    history, bare, turns = [], [], []
    for text, form, streamed in TURNS:
        for messages in (history, bare):
            messages.append({"role": "user", "content": text})
        asked = {"model": OWN_MODEL, "system": "Be brief", **form}
        counts = [sdk.messages.count_tokens(messages=messages, **asked).input_tokens for messages in (history, bare)]
        if streamed:
            with sdk.messages.stream(max_tokens=2048, messages=history, **asked) as stream:
                message = stream.get_final_message()
        else:
            message = sdk.messages.create(max_tokens=2048, messages=history, **asked)
        history.append({"role": "assistant", "content": message.content})
        texts = [{"type": "text", "text": one.text} for one in message.content if one.type == "text"]
        bare.append({"role": "assistant", "content": texts})
        turns.append([[one.type for one in message.content], *counts, message.usage.input_tokens])
    return turns


FOREIGN = [
    {"type": "thinking", "thinking": "Made elsewhere", "signature": "bm90IG9uZSBvZiBvdXJz"},
    {"type": "redacted_thinking", "data": ""},
    {"type": "text", "text": "Hello"},
]


def with_history(content, **fields):
    roles = [("user", "Hi"), ("assistant", content), ("user", "Bye")]
    return {**ask(""), "messages": [{"role": role, "content": said} for role, said in roles], **fields}


def foreign():
    """How many thoughts were left out, whole and streamed, and what was counted."""
    asked = with_history(FOREIGN)
    whole = talkative.messages.with_raw_response.create(**asked)
    with talkative.messages.stream(**asked) as stream:
        streamed = stream.get_final_message().usage.input_tokens
        headers = stream.response.headers
    name = "sestet-dropped-thinking-blocks"
    return [whole.headers[name], headers[name], whole.parse().usage.input_tokens, streamed]


def changed(change):
    first = talkative.messages.create(**ask("Hi", max_tokens=2048, thinking=ENABLED))
    content = [one.model_dump(include={"type", "thinking", "signature", "text"}) for one in first.content]
    content[0] = {**content[0], **change}
    return lambda: talkative.messages.create(**with_history(content))


def failed_in_the_thought():
    told_thoughts = []
    with talkative.messages.stream(**ask("fail in the thought", max_tokens=2048, thinking=ENABLED)) as stream:
        try:
            for event in stream:
                if event.type == "thinking":
                    told_thoughts.append(event.thinking)
        except anthropic.APIStatusError as error:
            content = [block(one) for one in stream.current_message_snapshot.content]
            return {"deltas": told_thoughts, "type": error.body["error"]["type"], "content": content}
    return None


def capabilities(name):
    found = talkative.models.retrieve(name).capabilities
    found = found if isinstance(found, dict) else found.model_dump()
    return {key: found[key] for key in ("effort", "structured_outputs", "thinking")}


WEATHER, SUMS = [SERVERS["weather"]], SERVERS["sums"]
GET_TIME = {"name": "get_time", "input_schema": {"type": "object"}}


def digits():
    """Every number of a whole and of a streamed call, as they were written."""
    asked = ask("large numbers", tools=SUMS)
    message = talkative.messages.create(**asked)
    pieces = []
    with talkative.messages.stream(**asked) as stream:
        pieces.extend(event.partial_json for event in stream if event.type == "input_json")
    return [re.findall(r"\d+", text) for text in (json.dumps(message.content[0].input), "".join(pieces))]


def failed_in_the_call(text):
    told_events = []
    with talkative.messages.stream(**ask(text, tools=SUMS)) as stream:
        try:
            for event in stream:
                if event.type == "text" or event.type == "input_json":
                    told_events.append([event.type, event.text if event.type == "text" else event.partial_json])
        except anthropic.APIStatusError as error:
            content = [block(one) for one in stream.current_message_snapshot.content]
            return {"events": told_events, "type": error.body["error"]["type"], "content": content}
    return None


RESULTS = {
    "add": lambda a, b: f"the sum is {a + b}",
    "multiply": lambda a, b: f"the product is {a * b}",
    "subtract": lambda a, b: f"the difference is {a - b}",
}


def loop(streamed, **fields):
    """An agent by hand: calls are answered until there are none, and once more something is asked. Every prompt is
    counted before it is sent."""
    messages, rounds = [{"role": "user", "content": "begin the sums"}], []
    for question in ("And then?", None):
        calls = True
        while calls:
            asked = {"model": OWN_MODEL, "messages": messages, "tools": SUMS, **fields}
            counted = talkative.messages.count_tokens(**asked).input_tokens
            if streamed:
                with talkative.messages.stream(max_tokens=2048, **asked) as stream:
                    message = stream.get_final_message()
            else:
                message = talkative.messages.create(max_tokens=2048, **asked)
            calls = [one for one in message.content if one.type == "tool_use"]
            messages.append({"role": "assistant", "content": message.content})
            results = [
                {"type": "tool_result", "tool_use_id": one.id, "content": RESULTS[one.name](**one.input)}
                for one in calls
            ]
            if calls:
                messages.append({"role": "user", "content": results})
            rounds.append([[block(one) for one in message.content], message.stop_reason])
            rounds[-1].append(counted - message.usage.input_tokens)
        messages.append({"role": "user", "content": question})
    return rounds


@anthropic.beta_tool
def add(a: int, b: int) -> str:
    """To add

    Args:
        a: one number
        b: another
    """
    return RESULTS["add"](a, b)


@anthropic.beta_tool
def multiply(a: int, b: int) -> str:
    """To multiply"""
    return RESULTS["multiply"](a, b)


@anthropic.beta_tool
def subtract(a: int, b: int) -> str:
    """To subtract"""
    return RESULTS["subtract"](a, b)


def runner(streamed, **fields):
    """The SDK's own agent."""
    found = talkative.beta.messages.tool_runner(
        model=OWN_MODEL,
        max_tokens=2048,
        messages=[{"role": "user", "content": "begin the sums"}],
        tools=[add, multiply, subtract],
        stream=streamed,
        **fields,
    )
    messages = [one.get_final_message() if streamed else one for one in found]
    return [[[block(one) for one in message.content], message.stop_reason] for message in messages]


class Person(pydantic.BaseModel):
    """Who somebody is; numbers and lengths are checked by the client, which leaves them out of the schema."""

    name: str = pydantic.Field(min_length=1, max_length=40)
    age: int = pydantic.Field(ge=0, le=150)
    nickname: str | None = None
    languages: list[str] = []


def parsed(**fields):
    message = talkative.messages.parse(**ask("who is she", max_tokens=2048, output_format=Person, **fields))
    with talkative.messages.stream(**ask("who is she", max_tokens=2048, output_format=Person, **fields)) as stream:
        streamed = stream.get_final_message()
    return [
        [[block(one) for one in told.content], told.parsed_output.model_dump(include={"name", "age"}), told.stop_reason]
        for told in (message, streamed)
    ]


def formatted(**fields):
    """A format given by hand, under its name of today or the older one."""
    message = talkative.messages.create(**ask("who is she", **fields))
    return [[block(one) for one in message.content], message.stop_reason]


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "schema": PERSON}


def called(fields, results=None):
    """A conversation in which a tool was called and these results were sent back."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": 2}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": results or "Well?"},
    ]
    return lambda: talkative.messages.create(**ask("", messages=messages, tools=SUMS, **fields))


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
FORCED = {"tool_choice": {"type": "any"}, "tools": SUMS, "max_tokens": 2048}


def outcome(case):
    """What a case tells; one that breaks must not hide the others."""
    try:
        return case()
    except Exception as error:
        return {"raised": f"{type(error).__name__}: {error}"}


CASES = {
    "whole": lambda: whole("Hi"),
    "stop_sequence": lambda: whole("stop at a word", stop_sequences=["STOP"]),
    "max_tokens": lambda: whole("count to five", max_tokens=3),
    "zero_tokens": lambda: whole("Hi", max_tokens=0),
    "nothing": lambda: helper("say nothing"),
    "raw_stream": lambda: raw_stream("Hi"),
    "stream": lambda: helper("Hi"),
    "many_scripts": lambda: helper("many scripts"),
    "stopped_stream": lambda: helper("stop at a word", stop_sequences=["STOP"]),
    "silence": lambda: helper("think it over"),
    "window": lambda: told(client(SERVERS["small_window_url"]).messages.create(**ask("Hi"))),
    "count": lambda: talkative.messages.count_tokens(model=MODEL, messages=ask("Hi")["messages"]).input_tokens,
    "models": lambda: [model.id for model in talkative.models.list(limit=3)],
    "models_backwards": lambda: [
        model.id for model in talkative.models.list(limit=3, before_id="claude-3-haiku-20240307")
    ],
    "model": lambda: retrieved("claude-3-7-sonnet-latest"),
    "headers": headers,
    "own_sampling": lambda: sampling(None),
    "old_sampling": lambda: sampling("2023-06-01"),
    "right_key": lambda: client(SERVERS["keys_url"], "sk-right-key").messages.create(**ask("Hi")).content[0].text,
    "bad_request": lambda: failed(own(SERVERS["url"], max_tokens=-1)),
    "wrong_key": lambda: failed(own(SERVERS["keys_url"], "sk-wrong")),
    "unknown_model": lambda: failed(own(SERVERS["url"], model="claude-9")),
    "too_large": lambda: failed(own(SERVERS["url"], text=TOO_LARGE)),
    "overloaded": lambda: failed(own(SERVERS["busy_url"])),
    "failed_at_once": lambda: failed(lambda: helper("fail at once")),
    "failed_half_way": half_way,
    "cached": cached,
    "forms_old": lambda: forms(VERSIONS[0]),
    "forms_new": lambda: forms(VERSIONS[1]),
    "thought_on_a_card": lambda: think("Hi", thinking=ENABLED),
    "thought_of_many_scripts": lambda: think("many scripts", thinking=ENABLED),
    "thought_stopped": lambda: think("stop at a word", thinking=ENABLED, stop_sequences=["STOP"]),
    "thought_never_ended": lambda: think("never stop thinking", thinking=OMITTED),
    "no_thought": lambda: think("no thought at all", thinking=ENABLED),
    "nothing_but_a_thought": lambda: think("nothing but a thought", thinking=ENABLED),
    "redacted_on_demand": lambda: think(f"Hi {REDACT}", thinking=ENABLED),
    "redacted_always": lambda: think("Hi", client(SERVERS["redacting_url"]), thinking=OMITTED),
    "transcript": lambda: transcript(talkative),
    "redacted_transcript": lambda: transcript(client(SERVERS["redacting_url"])),
    "foreign_thoughts": foreign,
    "changed_thought": lambda: failed(changed({"thinking": "Let me see!"})),
    "changed_signature": lambda: failed(changed({"signature": "U3N0MQ=="})),
    "small_budget": lambda: failed(own(SERVERS["url"], thinking={**ENABLED, "budget_tokens": 1023}, max_tokens=2048)),
    "failed_in_the_thought": failed_in_the_thought,
    "capabilities": lambda: [capabilities(name) for name in (OWN_MODEL, MODEL, "claude-3-haiku-20240307")],
    "call": lambda: think("look at the weather", tools=WEATHER),
    "call_after_a_thought": lambda: think("look at the weather", tools=WEATHER, thinking=ENABLED),
    "two_calls": lambda: think("look twice", tools=WEATHER),
    "empty_call": lambda: think("call without a word", tools=[GET_TIME]),
    "forced_call": lambda: think("call without a word", tools=[GET_TIME], tool_choice={"type": "any"}),
    "no_call": lambda: think("Hi", tools=WEATHER, tool_choice={"type": "none"}),
    "cut_call": lambda: think("look at the weather", tools=WEATHER, max_tokens=8),
    "digits": digits,
    "failed_in_the_call": lambda: failed_in_the_call("fail in the call"),
    "broken_call": lambda: failed_in_the_call("break the call"),
    "loop": lambda: loop(False),
    "streamed_loop": lambda: loop(True),
    "thinking_loop": lambda: loop(False, thinking=ENABLED),
    "streamed_thinking_loop": lambda: loop(True, thinking=ENABLED),
    "runner": lambda: runner(False),
    "streamed_runner": lambda: runner(True),
    "thinking_runner": lambda: runner(False, thinking=ENABLED),
    "parsed": parsed,
    "parsed_after_a_thought": lambda: parsed(thinking=ENABLED),
    "formatted": lambda: formatted(output_config={"format": FORMAT}),
    "formatted_as_of_old": lambda: formatted(extra_body={"output_format": FORMAT}),
    "unanswered_call": lambda: failed(called({})),
    "answer_to_another_call": lambda: failed(
        called({}, [{"type": "tool_result", "tool_use_id": "toolu_2", "content": "3"}])
    ),
    "server_tool": lambda: failed(own(SERVERS["url"], tools=[SEARCH])),
    "forced_beside_thinking": lambda: failed(own(SERVERS["url"], thinking=ENABLED, **FORCED)),
    "wrong_schema": lambda: failed(
        own(SERVERS["url"], output_config={"format": {**FORMAT, "schema": {**PERSON, "minProperties": 1}}})
    ),
}

if __name__ == "__main__":
    with ThreadPoolExecutor(len(CASES)) as pool:
        running = {name: pool.submit(outcome, case) for name, case in CASES.items()}
    print(json.dumps({"version": anthropic.__version__, **{name: case.result() for name, case in running.items()}}))
