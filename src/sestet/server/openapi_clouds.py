"""The part of the OpenAPI document that tells of Bedrock's and Vertex' paths, from what these dialects take."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sestet.dialects import bedrock, vertex

_REF = "#/components/schemas/{model}"
_STRING: Final[dict[str, Any]] = {"type": "string"}


def schemas(contract: Mapping[str, Any]) -> dict[str, Any]:
    """The bodies: the contract's own, of these `$defs`, but for what a path tells, with the version inside."""
    message, count = contract["MessagesRequest"], contract["CountTokensRequest"]
    betas = {"anthropic_beta": {"type": "array", "items": _STRING}}
    return {
        "BedrockRequest": _body(message, ("model", "stream"), bedrock.VERSIONS, betas),
        "BedrockCountRequest": _object(input=_object(invokeModel=_object(body={**_STRING, "format": "byte"}))),
        "BedrockTokenCount": _object(inputTokens={"type": "integer", "minimum": 0}),
        "BedrockError": _object(message=_STRING),
        "VertexRequest": _body(message, ("model",), vertex.VERSIONS, {}),
        "VertexCountRequest": _body(count, (), vertex.VERSIONS, {}),
    }


def paths() -> dict[str, Any]:
    whole, frames = _json("Message"), {bedrock.EventStream.content_type.decode(): {"schema": _STRING}}
    events = {"text/event-stream": {"schema": _STRING}}
    refused = {"description": "Any failure", "content": _json("BedrockError")}
    error = {"$ref": "#/components/responses/Error"}
    told: dict[str, Any] = {}
    for path in bedrock.DIALECT.replies:
        answer = whole if path.endswith("/invoke") else frames
        told |= _operation(path, "One reply, as Bedrock tells it", "BedrockRequest", answer, refused)
    for path in bedrock.DIALECT.counts:
        summary, answer = "The input tokens an invocation would have", _json("BedrockTokenCount")
        told |= _operation(path, summary, "BedrockCountRequest", answer, refused)
    for path in vertex.DIALECT.replies:
        told |= _operation(path, "One reply, whole or streamed", "VertexRequest", {**whole, **events}, error)
    for path in vertex.DIALECT.counts:
        summary, answer = "The input tokens a request would have", _json("TokenCount")
        told |= _operation(path, summary, "VertexCountRequest", answer, error)
    return told


def _operation(
    route: str, summary: str, body: str, answer: Mapping[str, Any], error: Mapping[str, Any]
) -> dict[str, Any]:
    path = route.replace(":path}", "}")
    return {
        path: {
            "post": {
                "operationId": re.sub(r"\W+", "_", path).strip("_"),
                "summary": summary,
                "parameters": [
                    {"name": name, "in": "path", "required": True, "schema": _STRING}
                    for name in re.findall(r"\{(\w+)\}", path)
                ],
                "requestBody": {"required": True, "content": _json(body)},
                "responses": {"200": {"description": summary, "content": answer}, "default": error},
            }
        }
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=schema)}}}


def _body(
    contract: Mapping[str, Any], without: Iterable[str], versions: Iterable[str], more: Mapping[str, Any]
) -> dict[str, Any]:
    fields = {name: field for name, field in contract["properties"].items() if name not in set(without)}
    return {
        **contract,
        "properties": {"anthropic_version": {"enum": [*versions]}, **more, **fields},
        "required": ["anthropic_version", *(name for name in contract["required"] if name in fields)],
    }


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*fields], "properties": fields}
