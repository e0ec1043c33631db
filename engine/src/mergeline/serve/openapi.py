"""Describes the server's routes in OpenAPI 3.1, with fields from the model's signature."""

from __future__ import annotations

from typing import Any

from mergeline.params import Task
from mergeline.requests.answers import class_name
from mergeline.requests.problems import MAX_ID_CHARACTERS, MAX_PROBLEMS, MAX_WHOLE
from mergeline.scorer.signature import Column, Kind, Output, Signature
from mergeline.serve.inference_protocol import input_types
from mergeline.serve.settings import Settings

_WHOLE = {"minimum": 1 - MAX_WHOLE, "maximum": MAX_WHOLE - 1}
_TYPES = {Kind.NUMBER: "number", Kind.INTEGER: "integer", Kind.BOOLEAN: "boolean", Kind.CATEGORY: "string"}


def describe_api(signature: Signature, version: int, settings: Settings) -> dict[str, Any]:
    """The OpenAPI document of a server that serves one model."""
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": signature.name, "version": str(version)},
        "paths": {
            "/predict": {"post": _predict(settings.max_records)},
            "/feedback": {"post": _feedback(settings.max_records)},
            "/status": {"get": _get("What is served, how the rollout stands, and what went wrong last")},
            "/openapi.json": {"get": _get("This document", unready=True)},
            "/livez": {"get": _probe("The process answers", "alive")},
            "/readyz": {"get": _probe("A model is loaded, and the server is not about to end", "ready", unready=True)},
            "/metrics": {
                "get": {
                    "summary": "Prometheus metrics",
                    "responses": {"200": {"description": "text exposition format", "content": {"text/plain": {}}}},
                }
            },
        },
        "components": {
            "schemas": {
                "Record": describe_record(signature),
                "Answer": _answer(signature.output),
                "Label": _label(signature.output),
                "Outcome": _outcome(),
                "Error": _error(),
                "InferenceRequest": _inference_request(signature),
                "InferenceResponse": _inference_response(),
            }
        },
    }
    document["paths"] |= _inference(signature.name)
    if settings.api_key:
        _ask_for_key(document)
    return document


def _ask_for_key(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    for path, methods in document["paths"].items():
        if path not in {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}:
            for operation in methods.values():
                operation["security"] = [{"bearer": []}, {"key": []}]
                operation["responses"]["401"] = _refusal("the API key is missing or wrong")


def example_record(signature: Signature) -> dict[str, Any]:
    """A record of values that training saw."""
    return {column.name: column.example for column in signature.columns if column.example is not None}


def describe_record(signature: Signature) -> dict[str, Any]:
    """One record as JSON Schema 2020-12."""
    properties: dict[str, Any] = {column.name: _field(column) for column in signature.columns}
    if signature.id is not None:
        properties[signature.id] = {
            **_id(),
            "type": ["string", "integer", "null"],
            "description": "echoed as id; one is made where it is missing",
        }
    for name in signature.metadata:
        properties[name] = {"type": ["string", "number", "boolean", "null"], "description": "not read by the model"}
    if signature.time is not None:
        properties[signature.time] = {
            "type": ["string", "null"],
            "format": "date-time",
            "pattern": "^(19|2[01])[0-9]{2}",
            "description": "the record's own time, UTC where it names no zone; not read by the model",
        }
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
    if column.kind is Kind.INTEGER:
        field |= _WHOLE
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
    return _post(
        "Score one record, or an array of them",
        max_records,
        item="Record",
        result="Answer",
        answer="an answer for each record: an object for an object, an array for an array",
        failures={"500": "the model failed", "503": "no model is loaded, or the answer would have come too late"},
    )


def _inference(name: str) -> dict[str, Any]:
    """The routes of the Open Inference Protocol."""
    model = f"/v2/models/{name}"
    infer = _post(
        "Score records as tensors: one input a column",
        0,
        item="InferenceRequest",
        result="InferenceResponse",
        answer="a tensor for each part of the answers",
        failures={"500": "the model failed", "503": "no model is loaded, or the answer would have come too late"},
    )
    for content in (infer["requestBody"], infer["responses"]["200"]):
        content["content"]["application/json"]["schema"] = content["content"]["application/json"]["schema"]["oneOf"][0]
    return {
        "/v2": {"get": _get("The server, in the Open Inference Protocol's words")},
        "/v2/health/live": {"get": _get("The process answers")},
        "/v2/health/ready": {"get": _get("Requests may be sent here", unready=True)},
        model: {"get": _get("The tensors that the model takes and gives", unready=True)},
        f"{model}/ready": {"get": _get("The model answers", unready=True)},
        f"{model}/infer": {"post": infer},
    }


def _feedback(max_records: int) -> dict[str, Any]:
    return _post(
        "Say what became of answers, by id",
        max_records,
        item="Label",
        result="Outcome",
        answer="what is known of each id: an object for an object, an array for an array",
        failures={"503": "no model is loaded, or the journal cannot be written"},
    )


def _post(
    summary: str, max_records: int, *, item: str, result: str, answer: str, failures: dict[str, str]
) -> dict[str, Any]:
    one, many = _one_or_many(item)
    # No maxItems: what it forbids would be expected to be malformed (422), and is too large (413).
    many |= {"minItems": 1, "description": f"at most {max_records}"}
    answers = _one_or_many(result)
    refusals = {
        "400": "the body is not JSON",
        "408": "the body did not come in time",
        "413": "the body is too large, or holds too many records",
        "415": "the content type is not application/json",
        "422": f"records are wrong; up to {MAX_PROBLEMS} problems are listed",
        "429": "too many requests are waiting; come back after the seconds in Retry-After",
    }
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [one, many]}}}},
        "responses": {
            "200": {"description": answer, "content": {"application/json": {"schema": {"oneOf": [*answers]}}}}
        }
        | {status: _refusal(text) for status, text in (refusals | failures).items()},
    }


def _get(summary: str, *, unready: bool = False) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    responses = {"200": {"description": "a JSON object", "content": content}}
    return {"summary": summary, "responses": responses | ({"503": _refusal("no model is loaded")} if unready else {})}


def _probe(summary: str, state: str, *, unready: bool = False) -> dict[str, Any]:
    responses = {"200": {"description": state, "content": {"text/plain": {}}}}
    if unready:
        responses["503"] = {"description": f"not {state}", "content": {"text/plain": {}}}
    return {"summary": summary, "responses": responses}


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": _reference("Error")}}}


def _one_or_many(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return _reference(name), {"type": "array", "items": _reference(name)}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _id() -> dict[str, Any]:
    return {"type": ["string", "integer"], "minLength": 1, "maxLength": MAX_ID_CHARACTERS, **_WHOLE}


def _label(output: Output) -> dict[str, Any]:
    label: dict[str, Any] = {"enum": list(output.classes)} if output.classes else {"type": "number"}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["id", "label"],
        "properties": {"id": {**_id(), "description": "of the answer"}, "label": label},
        "examples": [{"id": "a-record-7", "label": output.classes[0] if output.classes else 12.5}],
    }


def _outcome() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "outcome"],
        "properties": {
            "id": {"type": ["string", "integer"]},
            "outcome": {
                "enum": ["recorded", "repeated", "unknown"],
                "description": "unknown: no such answer is remembered; the label is kept, the answer may be older",
            },
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


def _tensor() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"type": "string"},
            "data": {"type": "array"},
        },
    }


def _inference_request(signature: Signature) -> dict[str, Any]:
    example = example_record(signature)
    inputs = [
        {**tensor, "shape": [1], "data": [example[tensor["name"]]]}
        for tensor in input_types(signature)
        if tensor["name"] in example
    ]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "minItems": 1, "items": _tensor()},
            "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        },
        "examples": [{"inputs": inputs}],
    }


def _inference_response() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": _tensor()},
        },
    }


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
            "hint": {"type": "string"},
            "problems": {"type": "array", "items": problem},
            "more": {"type": "integer", "description": "problems that are not listed"},
        },
    }
