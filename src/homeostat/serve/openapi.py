"""Describes the HTTP interface of a system in OpenAPI 3.1, from its declarations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from homeostat.declare.schema import EventSchema, Field
from homeostat.declare.system import System
from homeostat.serve.answer import Answer, ModelStatus, Readiness, Record
from homeostat.serve.former_fields import FormerFields, former_names
from homeostat.serve.needs import Needs
from homeostat.serve.push import Pushed
from homeostat.serve.requests import LIMIT

__all__ = ["describe", "foreign"]

_KINDS: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": {"type": "number"},
    "boolean": {"type": "boolean"},
    "timestamp": {"type": "string", "format": "date-time"},
}


def describe(
    system: System,
    needs: Callable[[str], Needs],
    former: Callable[[str], FormerFields] | None = None,
) -> dict[str, Any]:
    """Return the OpenAPI document: a path per deployed model and source, and the fixed ones.

    `needs` says what requests to a model must bring now, `former` which other names they may have.
    """
    places, schemas = msgspec.json.schema_components(
        [Answer, Record, ModelStatus, Readiness, Pushed], ref_template="#/components/schemas/{name}"
    )
    answer, record, status, readiness, pushed = places
    paths: dict[str, Any] = {
        "/models": {"get": _operation("Versions in service", {"models": _array(status)})},
        "/health": {"get": _operation("Whether the process is alive", {})},
        "/ready": {"get": {"summary": "Whether requests can be answered",
                           "responses": {"200": _json(readiness), "503": _json(readiness)}}},
        "/metrics": {"get": {"summary": "Counts and latencies, for Prometheus",
                             "responses": {"200": {"description": "Text"}}}},
        "/predictions/{id}": {"get": {
            "summary": "A recent prediction and what it was made from",
            "parameters": [{"name": "id", "in": "path", "required": True,
                            "schema": {"type": "string"}}],
            "responses": {"200": _json(record), "404": _error()},
        }},
    }  # fmt: skip
    for deployment in system.deployments:
        model = deployment.model
        name = f"{model.name}_request"
        schema = model.label.predicts.schema
        names = former_names(schema) if former is None else former(model.name).names
        schemas[name] = _request(schema, needs(model.name), names)
        paths[f"/predict/{model.name}"] = {"post": _predict(name, answer)}
    for source in system.sources:
        name = f"{source.name}_event"
        required = {f.name: False for f in source.schema.fields if not f.nullable}
        schemas[name] = _event(source.schema, required)
        paths[f"/events/{source.name}"] = {"post": _events(name, pushed)}
    return {
        "openapi": "3.1.0",
        "info": {"title": system.name, "version": system.hash[:12]},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def foreign(summary: str) -> dict[str, Any]:
    """Return the description of a path whose bodies another protocol defines."""
    return {
        "post": {
            "summary": summary,
            "requestBody": _content({"type": "object"}),
            "responses": {"200": _json({"type": "object"}), "422": _error()},
        }
    }


def _predict(request: str, answer: dict[str, Any]) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{request}"}
    rows = {**_array(one), "minItems": 1, "maxItems": LIMIT}
    many = {
        "type": "object",
        "description": "Several requests: each has the deadline of one, and none harms another",
        "required": ["requests"],
        "properties": {"requests": rows},
        "additionalProperties": False,
    }
    answers = {"type": "object", "properties": {"predictions": _array(answer)}}
    reasons = {"name": "reasons", "in": "query", "schema": {"type": "boolean"}}
    return {
        "summary": "Score one request, or several; the same one again has the same answer",
        "parameters": [reasons],
        "requestBody": _content({"oneOf": [one, many]}),
        "responses": {
            "200": _json({"oneOf": [answer, answers]}),
            "400": _error(), "409": _error(), "413": _error(), "422": _error(),
        },
    }  # fmt: skip


def _events(event: str, pushed: dict[str, Any]) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{event}"}
    packed = {
        "name": "Content-Encoding", "in": "header", "schema": {"enum": ["gzip", "identity"]},
    }  # fmt: skip
    body = _content({"oneOf": [one, _array(one)]})
    body["content"]["application/x-ndjson"] = {"schema": one}
    wait = {"description": "Seconds until there should be room", "schema": {"type": "integer"}}
    behind = {"description": "The fold is behind: nothing was taken", "headers": {
        "Retry-After": wait,
    }}  # fmt: skip
    return {
        "summary": "Append events to the log",
        "parameters": [packed],
        "requestBody": body,
        "responses": {
            "202": _json(pushed), "400": _error(), "404": _error(), "413": _error(),
            "415": _error(), "422": _error(), "429": behind,
        },
    }  # fmt: skip


def _event(schema: EventSchema, required: Needs) -> dict[str, Any]:
    return {
        "type": "object",
        "description": schema.doc,
        "properties": {f.name: _field(f, required.get(f.name, True)) for f in schema.fields},
        "required": [f.name for f in schema.fields if f.name in required and f.default is None],
        "additionalProperties": False,
    }


def _request(schema: EventSchema, required: Needs, former: Mapping[str, str]) -> dict[str, Any]:
    """Return the description of a request; what was renamed or is gone is deprecated."""
    made = _event(schema, required)
    present, properties = set(schema.names()), made["properties"]
    read_as = {name: now for name, now in former.items() if now in present}
    for name in former:
        kind = properties[read_as[name]] if name in read_as else {}
        properties[name] = {**kind, "deprecated": True}
    needed = [name for name in made["required"] if name not in read_as.values()]
    either = [
        {"anyOf": [{"required": [n]} for n in (now, *(a for a in read_as if read_as[a] == now))]}
        for now in made["required"]
        if now not in needed
    ]
    return {**made, "required": needed, **({"allOf": either} if either else {})}


def _field(field: Field, nullable: bool) -> dict[str, Any]:
    kind = _KINDS[field.kind]
    if nullable:
        return {**kind, "type": [kind["type"], "null"]}
    return kind


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": "The answer", **_content(schema)}


def _error() -> dict[str, Any]:
    return {"description": "Refused: the error names the field, what was found, what is allowed"}


def _operation(summary: str, properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {"200": _json({"type": "object", "properties": properties})},
    }
