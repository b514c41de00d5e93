"""The OpenAPI document, from the request types themselves."""

import re
from typing import Any, get_args

import orjson
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sestet import __version__
from sestet.contract.events import StopReason
from sestet.contract.requests import CountTokensRequest, MessagesRequest
from sestet.dialects.openai_requests import ChatRequest
from sestet.dialects.responses_requests import InputTokensRequest, ResponsesRequest
from sestet.server import caching, openapi_clouds, organization, reports

_REF = "#/components/schemas/{model}"


_REQUESTS: tuple[type[BaseModel], ...] = (
    MessagesRequest,
    CountTokensRequest,
    ResponsesRequest,
    InputTokensRequest,
    ChatRequest,
    *organization.REQUESTS,
)


def openapi_document() -> bytes:
    _, definitions = models_json_schema([(model, "validation") for model in _REQUESTS], ref_template=_REF)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Sestet",
            "version": __version__,
            "description": "The Claude Messages API for models you run yourself.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"x-api-key": []}, {"bearer": []}, {}],
        "paths": {**_paths(), **openapi_clouds.paths(), **organization.PATHS, **reports.PATHS, **caching.PATHS},
        "components": {
            "schemas": {
                **_without_sources(definitions["$defs"]),
                **openapi_clouds.schemas(definitions["$defs"]),
                **_SCHEMAS,
                **organization.SCHEMAS,
                **caching.SCHEMAS,
            },
            "securitySchemes": {
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "parameters": _PARAMETERS,
            "responses": {
                "Error": {
                    "description": "Any failure; its status is the kind's (see the manual)",
                    "content": _json({"$ref": _REF.format(model="Error")}),
                },
                "OpenAIError": {
                    "description": "The same failures as OpenAI's clients know them",
                    "content": _json({"$ref": _REF.format(model="OpenAIError")}),
                },
            },
        },
    }
    return orjson.dumps(document)


def _without_sources(schemas: dict[str, Any]) -> dict[str, Any]:
    """Our docstrings name the source of a rule; readers of the API have no such file."""
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = re.sub(r" \(WIRE\.md[^)]*\)", "", schema["description"])
    return schemas


def _paths() -> dict[str, Any]:
    versioned = [
        {"$ref": "#/components/parameters/anthropic-version"},
        {"$ref": "#/components/parameters/anthropic-beta"},
    ]
    return {
        "/v1/messages": {
            "post": {
                "operationId": "createMessage",
                "summary": "One reply, whole or streamed",
                "parameters": versioned,
                "requestBody": {
                    "required": True,
                    "content": _json({"$ref": _REF.format(model="MessagesRequest")}),
                },
                "responses": {
                    "200": {
                        "description": "The message; with `stream` its events",
                        "content": {
                            **_json({"$ref": _REF.format(model="Message")}),
                            "text/event-stream": {"schema": {"type": "string"}},
                        },
                    },
                    "default": _ERROR,
                },
            }
        },
        "/v1/messages/count_tokens": {
            "post": {
                "operationId": "countTokens",
                "summary": "The input tokens a request would have",
                "parameters": versioned,
                "requestBody": {
                    "required": True,
                    "content": _json({"$ref": _REF.format(model="CountTokensRequest")}),
                },
                "responses": {
                    "200": {
                        "description": "The count",
                        "content": _json({"$ref": _REF.format(model="TokenCount")}),
                    },
                    "default": _ERROR,
                },
            }
        },
        **_responses_paths(),
        "/v1/chat/completions": {
            "post": {
                "operationId": "createChatCompletion",
                "summary": "One reply as OpenAI's clients ask for it, whole or streamed",
                "requestBody": {
                    "required": True,
                    "content": _json({"$ref": _REF.format(model="ChatRequest")}),
                },
                "responses": {
                    "200": {
                        "description": "The completion; with `stream` its chunks",
                        "content": {
                            **_json({"$ref": _REF.format(model="ChatCompletion")}),
                            "text/event-stream": {"schema": {"type": "string"}},
                        },
                    },
                    "default": {"$ref": "#/components/responses/OpenAIError"},
                },
            }
        },
        "/v1/models": {
            "get": {
                "operationId": "listModels",
                "summary": "Every model and alias, newest first",
                "parameters": [
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}),
                    _query("after_id", {"type": "string"}),
                    _query("before_id", {"type": "string"}),
                    _query(
                        "lifecycle[]",
                        {"type": "array", "items": {"enum": ["active", "deprecated", "retired"]}},
                    ),
                ],
                "responses": {
                    "200": {
                        "description": "A page",
                        "content": _json({"$ref": _REF.format(model="ModelPage")}),
                    },
                    "default": _ERROR,
                },
            }
        },
        "/v1/models/{model_id}": {
            "get": {
                "operationId": "getModel",
                "summary": "One model; aliases and platform ids resolve to their snapshot",
                "parameters": [{"name": "model_id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {
                    "200": {
                        "description": "The model",
                        "content": _json({"$ref": _REF.format(model="Model")}),
                    },
                    "default": _ERROR,
                },
            }
        },
        "/healthz": _operation("healthz", "The process answers", public=True),
        "/readyz": _operation("readyz", "A request sent now would be answered", public=True),
        "/metrics": _operation("metrics", "Prometheus text"),
        "/openapi.json": _operation("openapi", "This document", public=True),
        "/": _operation("page", "The API, to browse and to try", public=True),
    }


def _responses_paths() -> dict[str, Any]:
    """OpenAI's Responses."""
    refused = {"$ref": "#/components/responses/OpenAIError"}
    return {
        "/v1/responses": {
            "post": {
                "operationId": "createResponse",
                "summary": "One reply in the shape of OpenAI's Responses, whole or streamed",
                "requestBody": {
                    "required": True,
                    "content": _json({"$ref": _REF.format(model="ResponsesRequest")}),
                },
                "responses": {
                    "200": {
                        "description": "The response; with `stream` its events",
                        "content": {
                            **_json({"$ref": _REF.format(model="Response")}),
                            "text/event-stream": {"schema": {"type": "string"}},
                        },
                    },
                    "default": refused,
                },
            }
        },
        "/v1/responses/input_tokens": {
            "post": {
                "operationId": "countInputTokens",
                "summary": "The input tokens such a request would have",
                "requestBody": {
                    "required": True,
                    "content": _json({"$ref": _REF.format(model="InputTokensRequest")}),
                },
                "responses": {
                    "200": {
                        "description": "The count",
                        "content": _json({"$ref": _REF.format(model="InputTokens")}),
                    },
                    "default": refused,
                },
            }
        },
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _operation(name: str, summary: str, *, public: bool = False) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": summary}, "default": _ERROR},
    }
    if public:
        operation["security"] = []
    return {"get": operation}


_ERROR = {"$ref": "#/components/responses/Error"}

_PARAMETERS = {
    "anthropic-version": {
        "name": "anthropic-version",
        "in": "header",
        "required": False,
        "schema": {"enum": ["2023-06-01", "2026-10-21"]},
    },
    "anthropic-beta": {
        "name": "anthropic-beta",
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
    },
}


def _block(kind: str, *texts: str) -> dict[str, Any]:
    """A content block of a reply, which has nothing but texts."""
    fields = {text: {"type": "string"} for text in texts}
    return {"type": "object", "required": ["type", *texts], "properties": {"type": {"const": kind}, **fields}}


_COUNT = {"type": "integer", "minimum": 0}

_SCHEMAS: dict[str, Any] = {
    "Message": {
        "type": "object",
        "required": ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"],
        "properties": {
            "id": {"type": "string"},
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": {"type": "string", "description": "The snapshot that answered"},
            "content": {
                "type": "array",
                "items": {
                    "oneOf": [
                        _block("text", "text"),
                        _block("thinking", "thinking", "signature"),
                        _block("redacted_thinking", "data"),
                        {
                            "type": "object",
                            "required": ["type", "id", "name", "input"],
                            "properties": {
                                "type": {"const": "tool_use"},
                                "id": {"type": "string"},
                                "name": {"type": "string"},
                                "input": {"type": "object"},
                            },
                        },
                    ]
                },
            },
            "stop_reason": {"enum": [*get_args(StopReason)]},
            "stop_sequence": {"type": ["string", "null"]},
            "usage": {"$ref": _REF.format(model="Usage")},
        },
    },
    "Usage": {
        "type": "object",
        "required": ["input_tokens", "output_tokens"],
        "properties": {
            "input_tokens": _COUNT,
            "output_tokens": _COUNT,
            "output_tokens_details": {"type": "object", "properties": {"thinking_tokens": _COUNT}},
            "cache_creation_input_tokens": _COUNT,
            "cache_read_input_tokens": _COUNT,
            "service_tier": {"enum": ["standard", "priority", "batch"]},
        },
    },
    "TokenCount": {"type": "object", "required": ["input_tokens"], "properties": {"input_tokens": _COUNT}},
    "Response": {
        "type": "object",
        "required": ["id", "object", "created_at", "status", "model", "output", "usage"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "response"},
            "created_at": _COUNT,
            "status": {"enum": ["in_progress", "completed", "incomplete", "failed"]},
            "model": {"type": "string", "description": "The snapshot that answered"},
            "output": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["type", "id", "status"],
                    "properties": {"type": {"enum": ["reasoning", "message", "function_call"]}},
                },
            },
            "usage": {"type": ["object", "null"]},
        },
    },
    "InputTokens": {
        "type": "object",
        "required": ["object", "input_tokens"],
        "properties": {"object": {"const": "response.input_tokens"}, "input_tokens": _COUNT},
    },
    "OpenAIError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
    "Model": {
        "type": "object",
        "required": [
            "type",
            "id",
            "display_name",
            "created_at",
            "lifecycle",
            "max_input_tokens",
            "max_tokens",
            "served_by",
            "alias_of",
        ],
        "properties": {
            "type": {"const": "model"},
            "id": {"type": "string"},
            "display_name": {"type": "string"},
            "created_at": {"type": "string", "format": "date-time"},
            "lifecycle": {"enum": ["active", "deprecated", "retired"]},
            "line": {"type": ["string", "null"]},
            "max_input_tokens": _COUNT,
            "max_tokens": _COUNT,
            "capabilities": {"type": "object"},
            "served_by": {"type": "string", "description": "The weights that answer"},
            "alias_of": {"type": ["string", "null"], "description": "The snapshot an alias points to"},
        },
    },
    "ModelPage": {
        "type": "object",
        "required": ["data", "has_more", "first_id", "last_id"],
        "properties": {
            "data": {"type": "array", "items": {"$ref": _REF.format(model="Model")}},
            "has_more": {"type": "boolean"},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
        },
    },
    "ChatCompletion": {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "message", "finish_reason"],
                    "properties": {
                        "index": {"const": 0},
                        "message": {"$ref": _REF.format(model="AssistantMessage")},
                        "finish_reason": {"enum": ["stop", "length", "tool_calls"]},
                    },
                },
            },
            "usage": {"type": "object"},
        },
    },
    "Error": {
        "type": "object",
        "required": ["type", "error", "request_id"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
            },
            "request_id": {"type": "string"},
        },
    },
}
