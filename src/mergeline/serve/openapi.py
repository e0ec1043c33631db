"""Describes the server's routes in OpenAPI 3.1, with fields from the model's signature."""

from __future__ import annotations

from typing import Any

from mergeline.model.signature import Column, Kind, Output, Signature
from mergeline.params import Task
from mergeline.serve.answers import class_name
from mergeline.serve.records import MAX_ID_CHARACTERS, MAX_PROBLEMS

_TYPES = {Kind.NUMBER: "number", Kind.INTEGER: "integer", Kind.BOOLEAN: "boolean", Kind.CATEGORY: "string"}


def describe_api(signature: Signature, version: int, max_records: int) -> dict[str, Any]:
    """The OpenAPI document of a server that serves one model."""
    return {
        "openapi": "3.1.0",
        "info": {"title": signature.name, "version": str(version)},
        "paths": {
            "/predict": {"post": _predict(max_records)},
            "/status": {
                "get": {"summary": "What is served, and what went wrong last", "responses": {"200": _any_json()}}
            },
            "/livez": {"get": {"summary": "The process answers", "responses": {"200": {"description": "alive"}}}},
            "/readyz": {
                "get": {
                    "summary": "A model is loaded",
                    "responses": {"200": {"description": "ready"}, "503": {"description": "no model is loaded"}},
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Prometheus metrics",
                    "responses": {"200": {"description": "text exposition format"}},
                }
            },
        },
        "components": {
            "schemas": {
                "Record": describe_record(signature),
                "Answer": _answer(signature.output),
                "Error": _error(),
            }
        },
    }


def example_record(signature: Signature) -> dict[str, Any]:
    """A record of values that training saw."""
    return {column.name: column.example for column in signature.columns if column.example is not None}


def describe_record(signature: Signature) -> dict[str, Any]:
    """One record as JSON Schema 2020-12."""
    properties: dict[str, Any] = {column.name: _field(column) for column in signature.columns}
    if signature.id is not None:
        properties[signature.id] = {
            "type": ["string", "integer", "null"],
            "minLength": 1,
            "maxLength": MAX_ID_CHARACTERS,
            "description": "echoed as id; one is made where it is missing",
        }
    for name in (signature.time, *signature.metadata):
        if name is not None:
            properties[name] = {"type": ["string", "number", "boolean", "null"], "description": "not read by the model"}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [column.name for column in signature.columns if not column.nullable],
        "properties": properties,
        "examples": [example_record(signature)],
    }


def _field(column: Column) -> dict[str, Any]:
    kind = _TYPES[column.kind]
    field: dict[str, Any] = {"type": [kind, "null"] if column.nullable else kind}
    if column.closed:
        field["enum"] = [*column.categories, *([None] if column.nullable else [])]
    if column.minimum is not None:
        field["minimum"] = column.minimum
    if column.maximum is not None:
        field["maximum"] = column.maximum
    if column.example is not None:
        field["examples"] = [column.example]
    return field


def _predict(max_records: int) -> dict[str, Any]:
    record, answer = ({"$ref": f"#/components/schemas/{name}"} for name in ("Record", "Answer"))
    many = {"type": "array", "minItems": 1, "maxItems": max_records, "items": record}
    refusals = {
        "400": "the body is not JSON",
        "413": "the body is too large, or holds too many records",
        "415": "the content type is not application/json",
        "422": f"records are wrong; up to {MAX_PROBLEMS} problems are listed",
        "500": "the model failed",
        "503": "no model is loaded",
    }
    return {
        "summary": "Score one record, or an array of them",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [record, many]}}}},
        "responses": {
            "200": {
                "description": "an answer for each record: an object for an object, an array for an array",
                "content": {"application/json": {"schema": {"oneOf": [answer, {"type": "array", "items": answer}]}}},
            }
        }
        | {
            status: {
                "description": text,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            }
            for status, text in refusals.items()
        },
    }


def _answer(output: Output) -> dict[str, Any]:
    label: dict[str, Any] = {"enum": list(output.classes)} if output.classes else {"type": "null"}
    properties: dict[str, Any] = {
        "id": {"type": ["string", "integer"]},
        "score": {"type": "number", "description": _meaning(output)},
        "label": label,
        "version": {"type": "integer"},
        "digest": {"type": "string"},
    }
    if output.task is Task.MULTICLASS:
        names = [class_name(each) for each in output.classes]
        properties["scores"] = {"type": "object", "properties": {name: {"type": "number"} for name in names}}
    return {"type": "object", "required": list(properties), "properties": properties}


def _meaning(output: Output) -> str:
    if output.task is Task.BINARY:
        return f"probability that {output.target} is {output.positive}"
    return "probability of the label" if output.task is Task.MULTICLASS else f"{output.target}"


def _error() -> dict[str, Any]:
    problem = {
        "type": "object",
        "properties": {
            "record": {"type": "integer"},
            "field": {"type": "string"},
            "reason": {"type": "string"},
            "found": {},
        },
    }
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {"type": "string"},
            "mend": {"type": "string"},
            "problems": {"type": "array", "items": problem},
            "more": {"type": "integer", "description": "problems that are not listed"},
        },
    }


def _any_json() -> dict[str, Any]:
    return {"description": "a JSON object", "content": {"application/json": {"schema": {"type": "object"}}}}
