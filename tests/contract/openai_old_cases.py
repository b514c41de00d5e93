"""What `openai` before 1.0 is asked to do; the arguments are the address and the key. Prints what happened as JSON."""

import json
import sys

import openai

openai.api_base, openai.api_key = sys.argv[1:]
ASK = {"model": "claude-3-7-sonnet-latest", "messages": [{"role": "user", "content": "Hi"}]}


def whole():
    reply = openai.ChatCompletion.create(**ASK)
    return [reply.object, reply.model, reply.choices[0].message.content, reply.choices[0].finish_reason]


def streamed(text):
    deltas = []
    try:
        for chunk in openai.ChatCompletion.create(
            model=ASK["model"], messages=[{"role": "user", "content": text}], stream=True
        ):
            deltas.append(chunk.choices[0].delta.get("content"))
    except openai.error.OpenAIError as error:
        deltas.append(type(error).__name__)
    return deltas


def failed(**fields):
    try:
        openai.ChatCompletion.create(**{**ASK, **fields})
    except openai.error.OpenAIError as error:
        return [type(error).__name__, error.http_status, getattr(error, "param", None), error.request_id[:4]]


def models():
    return [len(openai.Model.list().data), openai.Model.retrieve("claude-3-7-sonnet-latest").id]


print(
    json.dumps(
        {
            "version": openai.version.VERSION,
            "whole": whole(),
            "streamed": streamed("Hi"),
            "failed half way": streamed("fail half way"),
            "refused": failed(n=2),
            "unknown model": failed(model="nothing"),
            "wrong key": failed(api_key="sk-wrong"),
            "models": models(),
        }
    )
)
