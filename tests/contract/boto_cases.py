"""What AWS's own client, which knows nothing of Anthropic's SDKs, is asked to do; the server as JSON in its first
argument. Prints what happened as JSON.
"""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

TOLD = json.loads(sys.argv[1])
MODEL = "us.anthropic.claude-3-7-sonnet-20250219-v1:0"
ONCE = Config(retries={"total_max_attempts": 1})


def runtime(secret=TOLD["pair"][1]):
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=TOLD["url"],
        region_name="us-east-1",
        aws_access_key_id=TOLD["pair"][0],
        aws_secret_access_key=secret,
        config=ONCE,
    )


def body(text, **fields):
    messages = [{"role": "user", "content": text}]
    return json.dumps(
        {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64, "messages": messages, **fields}
    ).encode()


def invoke(client, text, model=MODEL, **fields):
    answer = client.invoke_model(modelId=model, body=body(text, **fields))
    message = json.loads(answer["body"].read())
    return [message["content"][0]["text"], answer["contentType"], answer["ResponseMetadata"]["RequestId"][:4]]


def stream(client, text):
    events = []
    try:
        for event in client.invoke_model_with_response_stream(modelId=MODEL, body=body(text))["body"]:
            events.append(json.loads(event["chunk"]["bytes"]))
    except ClientError as error:
        events.append(error.response["Error"])
    return [
        event.get("delta", {}).get("text") or event.get("amazon-bedrock-invocationMetrics") or event.get("type", event)
        for event in events
    ]


def refused(call):
    try:
        call()
    except ClientError as error:
        return [
            type(error).__name__,
            error.response["Error"]["Code"],
            error.response["ResponseMetadata"]["HTTPStatusCode"],
            error.response["Error"]["Message"],
        ]
    raise AssertionError("the call was not refused")


signed, wrong = runtime(), runtime("wrong")
arn = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{MODEL}"

print(
    json.dumps(
        {
            "signed": invoke(signed, "Hi"),
            "by an ARN": invoke(signed, "Hi", arn),
            "stream": stream(signed, "Hi"),
            "half way": stream(signed, "fail half way"),
            "count": signed.count_tokens(modelId=MODEL, input={"invokeModel": {"body": body("Hi")}})["inputTokens"],
            "unknown model": refused(lambda: invoke(signed, "Hi", "none")),
            "bad request": refused(lambda: invoke(signed, "Hi", max_tokens=-1)),
            "failed at once": refused(lambda: invoke(signed, "fail at once")),
            "wrong secret": refused(lambda: invoke(wrong, "Hi")),
        }
    )
)
