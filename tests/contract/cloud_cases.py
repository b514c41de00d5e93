"""What a Python SDK is asked to do through its clients for the clouds; run by an interpreter that has that SDK, with
the server and the conversations as JSON in its first argument. Prints what happened as JSON. The TypeScript SDKs do the
same in typescript/clouds.mjs.
"""

import json
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import anthropic

TOLD = json.loads(sys.argv[1])
URL, KEY, PAIR, WEATHER = TOLD["url"], TOLD["key"], TOLD["pair"], TOLD["weather"]
# One for all: what is slow about a client is its reading of certificates.
OPTIONS = {"max_retries": 0, "http_client": anthropic.DefaultHttpxClient()}
STRICT = {**OPTIONS, "_strict_response_validation": True}
BEDROCK = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
ARN = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{BEDROCK}"
VERTEX = "claude-3-7-sonnet@20250219"
OWN = "claude-3-7-sonnet-latest"
ENABLED = {"type": "enabled", "budget_tokens": 1024}


def pair(secret=PAIR[1]):
    return {"aws_access_key": PAIR[0], "aws_secret_key": secret, "aws_region": "us-east-1"}


def bedrock(**credentials):
    return anthropic.AnthropicBedrock(base_url=URL, **{"aws_region": "eu-west-1", **credentials}, **STRICT)


def mantle(**credentials):
    return anthropic.AnthropicBedrockMantle(
        base_url=f"{URL}/anthropic", **{"aws_region": "eu-west-1", **credentials}, **STRICT
    )


def vertex(key=KEY, path="/v1"):
    return anthropic.AnthropicVertex(
        access_token=key, project_id="p", region="us-east5", base_url=f"{URL}{path}", **STRICT
    )


def foundry(key=KEY):
    return anthropic.AnthropicFoundry(api_key=key, base_url=f"{URL}/anthropic", **OPTIONS)


def aws(key=KEY):
    return anthropic.AnthropicAWS(
        api_key=key, aws_region="eu-west-1", workspace_id="any", base_url=f"{URL}/anthropic", **OPTIONS
    )


# Of each: a client that is let in, one that is not, and what it calls the model.
CLIENTS = {
    "bedrock": (bedrock(api_key=KEY), bedrock(api_key="sk-wrong"), BEDROCK),
    "bedrock signed": (bedrock(**pair()), bedrock(**pair("wrong")), ARN),
    "vertex": (vertex(), vertex("sk-wrong"), VERTEX),
    "vertex without v1": (vertex(path=""), vertex("sk-wrong", path=""), OWN),
    "mantle": (mantle(api_key=KEY), mantle(api_key="sk-wrong"), BEDROCK.removeprefix("us.")),
    "mantle signed": (mantle(**pair()), mantle(**pair("wrong")), OWN),
    "foundry": (foundry(), foundry("sk-wrong"), OWN),
    "aws": (aws(), aws("sk-wrong"), OWN),
}


def ask(model, text, **fields):
    return {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": text}], **fields}


def told(message):
    content = []
    for block in message.content:
        if block.type == "thinking":
            content.append(["thinking", block.thinking, bool(block.signature)])
        elif block.type == "tool_use":
            content.append(["tool_use", block.name, block.input])
        else:
            content.append([block.type, block.text])
    return {
        "content": content,
        "stop": message.stop_reason,
        "model": message.model,
        "tokens": [message.usage.input_tokens, message.usage.output_tokens],
    }


def whole(client, model, text, **fields):
    message = client.messages.create(**ask(model, text, **fields))
    return {**told(message), "request_id": (message._request_id or "")[:4]}


def streamed(client, model, text, **fields):
    types = []
    with client.messages.stream(**ask(model, text, **fields)) as stream:
        for event in stream:
            if event.type in ("content_block_delta", "message_start", "message_stop"):
                types.append(event.delta.type if event.type == "content_block_delta" else event.type)
        return {"types": types, **told(stream.get_final_message())}


def half_way(client, model):
    deltas = []
    try:
        with client.messages.stream(**ask(model, "fail half way")) as stream:
            deltas.extend(stream.text_stream)
    except anthropic.APIStatusError as error:
        return {"deltas": deltas, "type": error.body["error"]["type"], "message": error.body["error"]["message"]}
    except ValueError as error:  # what the old SDK makes of an exception frame
        return {"deltas": deltas, "type": type(error).__name__, "message": "modelStreamErrorException" in str(error)}
    raise AssertionError("the stream did not fail")


def failed(client, model, text="Hi", **fields):
    try:
        client.messages.create(**ask(model, text, **fields))
    except anthropic.APIStatusError as error:
        told_id = error.response.headers["request-id"]
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "message": error.body.get("message") or error.body["error"]["message"],
            "request_id": told_id[:4],
        }
    raise AssertionError("the call did not fail")


def counted(client, model):
    return client.messages.count_tokens(model=model, messages=[{"role": "user", "content": "Hi"}]).input_tokens


def cases(client, wrong, model):
    thinking = {"thinking": ENABLED, "max_tokens": 2048}
    return {
        "whole": lambda: whole(client, model, "Hi"),
        "streamed": lambda: streamed(client, model, "Hi"),
        "many scripts": lambda: streamed(client, model, "many scripts", **thinking),
        "thought": lambda: whole(client, model, "Hi", **thinking),
        "call": lambda: whole(client, model, "look at the weather", tools=[WEATHER]),
        "streamed call": lambda: streamed(client, model, "look at the weather", tools=[WEATHER]),
        "older version": lambda: whole(client, model, "Hi", extra_body=TOLD["older"].get(type(client).__name__, {})),
        "beta": lambda: client.beta.messages.create(**ask(model, "Hi"), betas=["a-1", "b-2"]).content[0].text,
        "silence": lambda: streamed(client, model, "think it over"),
        "half way": lambda: half_way(client, model),
        "fails at once": lambda: failed(client, model, "fail at once"),
        "unknown model": lambda: failed(client, "none"),
        "bad request": lambda: failed(client, model, max_tokens=-1),
        "wrong credentials": lambda: failed(wrong, model),
        "count": lambda: counted(client, model),
    }


def outcome(case):
    try:
        return case()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of the model, which is a stand-in anyway
    with ThreadPoolExecutor(32) as pool:
        running = {
            name: {case: pool.submit(outcome, call) for case, call in cases(*client).items()}
            for name, client in CLIENTS.items()
        }
        found = {name: {case: call.result() for case, call in calls.items()} for name, calls in running.items()}
    print(json.dumps({"version": anthropic.__version__, **found}))
