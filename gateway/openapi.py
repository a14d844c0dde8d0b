"""The API as OpenAPI 3.1, made of the table of operations and the models of the contract."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema

from gateway.operations import ID, OPERATIONS, Operation
from gateway.tokens import TokenAsked
from gateway.tracking import KINDS, MOST_CALLS
from headwater.consent import Consent
from headwater.events import Event, Item
from headwater.identities import Identity
from headwater.recommendations import Receipt, Recommendation, Request
from headwater.users import User
from headwater.wire import MAX_PACKED_EVENTS

__all__ = ["document"]

REF = "#/components/schemas/"
TEXT = {"type": "string"}
OBJECT_OR_NONE = {"type": ["object", "null"]}
TEXT_OR_WHOLE = {"type": ["string", "integer", "null"]}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"{REF}{name}"}


def _one_or_many(name: str) -> dict[str, Any]:
    return {"oneOf": [_ref(name), {"type": "array", "maxItems": MAX_PACKED_EVENTS, "items": _ref(name)}]}


OWN: dict[str, dict[str, Any]] = {
    "Events": _one_or_many("Event"),
    "Items": _one_or_many("Item"),
    "Users": _one_or_many("User"),
    "Accepted": {
        "type": "object",
        "required": ["accepted"],
        "properties": {
            "accepted": {"type": "integer", "description": "Records or events that were taken."},
            "ignored": {"type": "integer", "description": "Calls that say nothing of an item."},
            "why": {"type": "array", "items": TEXT, "description": "Why, a few of them."},
            "after": {"type": "string", "description": "Give it to a request: the answer knows of what was sent here."},
        },
    },
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string", "description": "A short, stable word."},
                    "message": {"type": "string", "description": "What is wrong, and what to do."},
                    "accepted": {"type": "integer", "description": "Of a stream: what was taken before the error."},
                },
            }
        },
    },
    "TrackerCall": {
        "type": "object",
        "properties": {
            "userId": TEXT_OR_WHOLE, "anonymousId": TEXT_OR_WHOLE, "event": {**TEXT, "minLength": 1},
            "properties": OBJECT_OR_NONE, "traits": OBJECT_OR_NONE, "messageId": {}, "timestamp": {}, "sentAt": {},
        },
    },
    "TrackerBatch": {
        "type": "object",
        "required": ["batch"],
        "properties": {
            "sentAt": {},
            "batch": {
                "type": "array",
                "maxItems": MOST_CALLS,
                "items": {"type": "object", "required": ["type"], "properties": {"type": {"enum": list(KINDS)}}},
            }
        },
    },
    "Token": {
        "type": "object",
        "required": ["token", "expires_time"],
        "properties": {"token": TEXT, "expires_time": {"type": "integer", "description": "Epoch ms."}},
    },
    "Stream": {"type": "string", "description": "Events `list`, each with a Recommendation as its data; `problem`."},
}  # fmt: skip


@cache
def document() -> dict[str, Any]:
    """All of it, ready to be written as JSON."""
    inputs: tuple[type[Any], ...] = (Event, Item, User, Identity, Consent, TokenAsked, Request)
    outputs = (Recommendation, Receipt)
    _, found = models_json_schema(
        [*((model, "validation") for model in inputs), *((model, "serialization") for model in outputs)],
        ref_template=REF + "{model}",
    )
    schemas = {**found["$defs"], **OWN}
    schemas["Asked"] = _with_text_after(schemas.pop("Request"))
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headwater",
            "version": "1",
            "description": "Recommendations before the next page.",
        },
        "security": [{"key": []}, {}],  # on loopback nobody is asked for one, as long as there has been none
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "`headwater keys create`"}},
        },
    }


def _with_text_after(request: dict[str, Any]) -> dict[str, Any]:
    properties = {**request["properties"], "after": {"anyOf": [TEXT, {"type": "object"}, {"type": "null"}]}}
    properties["after"]["description"] = "What an answer to events gave, or partition -> offset."
    return {**request, "title": "Asked", "properties": properties}


def _operation(one: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": one.name, "summary": one.says}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": ID} for name in re.findall(r"{(\w+)}", one.path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": schema, "description": says} for name, schema, says in one.query
    ]
    if parameters:
        told["parameters"] = parameters
    if one.takes is not None:
        body = {"application/json": {"schema": _ref(one.takes)}}
        if one.takes == "Events":
            body["application/x-ndjson"] = {"schema": {"type": "string", "description": "An Event a line."}}
        told["requestBody"] = {"required": True, "content": body}
    answer: dict[str, Any] = {"description": "Done."}
    if one.gives is not None:
        kind = "text/event-stream" if one.gives == "Stream" else "application/json"
        answer["content"] = {kind: {"schema": _ref(one.gives)}}
    error = {
        "description": "What is wrong, and what to do.",
        "content": {"application/json": {"schema": _ref("Error")}},
    }
    told["responses"] = {str(one.status): answer}
    if one.scope is None:
        told["security"] = []
        if one.name == "readyz":
            told["responses"]["503"] = {"description": "Not now, and why."}
    else:
        told["responses"]["default"] = error
        told["x-scope"] = one.scope
    return told
