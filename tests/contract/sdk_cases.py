"""What any Python SDK is asked to do; run by an interpreter that has that SDK, with the servers' addresses as JSON
in its first argument. Prints what happened as JSON. The TypeScript SDKs do the same in typescript/cases.mjs.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import anthropic

SERVERS = json.loads(sys.argv[1])
MODEL = "claude-3-7-sonnet-latest"
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
}

if __name__ == "__main__":
    with ThreadPoolExecutor(len(CASES)) as pool:
        running = {name: pool.submit(case) for name, case in CASES.items()}
    print(json.dumps({"version": anthropic.__version__, **{name: case.result() for name, case in running.items()}}))
