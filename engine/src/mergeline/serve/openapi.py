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
            "/predict": {
                "post": _post(
                    "Score one record, or an array of them",
                    _one_or_many("Record", settings.max_records),
                    "an answer for each record: an object for an object, an array for an array",
                    _one_or_many("Answer"),
                    _CANNOT_PREDICT,
                )
            },
            "/feedback": {
                "post": _post(
                    "Say what became of answers, by id",
                    _one_or_many("Label", settings.max_records),
                    "what is known of each id: an object for an object, an array for an array",
                    _one_or_many("Outcome"),
                    {"503": "no model is loaded, or the journal cannot be written"},
                )
            },
            "/status": {"get": _get("What is served, how the rollout stands, and what went wrong last")},
            "/openapi.json": {"get": _get("This document", unready=True)},
            "/livez": {"get": _probe("The process answers", "alive")},
            "/readyz": {"get": _probe("A model is loaded, and the server is not about to end", "ready", unready=True)},
            "/metrics": {"get": _probe("Prometheus metrics", "text exposition format")},
            **_inference(signature.name),
        },
        "components": {
            "schemas": {
                "Record": describe_record(signature),
                "Answer": _answer(signature.output),
                "Label": _label(signature.output),
                "Outcome": _OUTCOME,
                "Error": _ERROR,
                "InferenceRequest": _inference_request(signature),
                "InferenceResponse": _INFERENCE_RESPONSE,
            }
        },
    }
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


def _inference(name: str) -> dict[str, Any]:
    """The routes of the Open Inference Protocol."""
    model = f"/v2/models/{name}"
    infer = _post(
        "Score records as tensors: one input a column",
        _reference("InferenceRequest"),
        "a tensor for each part of the answers",
        _reference("InferenceResponse"),
        _CANNOT_PREDICT,
    )
    return {
        "/v2": {"get": _get("The server, in the Open Inference Protocol's words")},
        "/v2/health/live": {"get": _get("The process answers")},
        "/v2/health/ready": {"get": _get("Requests may be sent here", unready=True)},
        model: {"get": _get("The tensors that the model takes and gives", unready=True)},
        f"{model}/ready": {"get": _get("The model answers", unready=True)},
        f"{model}/infer": {"post": infer},
    }


def _post(
    summary: str, asked: dict[str, Any], answer: str, answers: dict[str, Any], failures: dict[str, str]
) -> dict[str, Any]:
    refusals = {status: _refusal(text) for status, text in (_REFUSALS | failures).items()}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": _json(asked)},
        "responses": {"200": {"description": answer, "content": _json(answers)}} | refusals,
    }


def _get(summary: str, *, unready: bool = False) -> dict[str, Any]:
    responses = {"200": {"description": "a JSON object", "content": _json({"type": "object"})}}
    return {"summary": summary, "responses": responses | ({"503": _refusal("no model is loaded")} if unready else {})}


def _probe(summary: str, state: str, *, unready: bool = False) -> dict[str, Any]:
    responses = {"200": {"description": state, "content": {"text/plain": {}}}}
    if unready:
        responses["503"] = {"description": f"not {state}", "content": {"text/plain": {}}}
    return {"summary": summary, "responses": responses}


def _refusal(text: str) -> dict[str, Any]:
    return {"description": text, "content": _json(_reference("Error"))}


def _one_or_many(name: str, most: int = 0) -> dict[str, Any]:
    many: dict[str, Any] = {"type": "array", "items": _reference(name)}
    if most:  # no maxItems: what it forbids would be expected to be malformed (422), and is too large (413)
        many |= {"minItems": 1, "description": f"at most {most}"}
    return {"oneOf": [_reference(name), many]}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _id() -> dict[str, Any]:
    return {"type": ["string", "integer"], "minLength": 1, "maxLength": MAX_ID_CHARACTERS, **_WHOLE}


def _label(output: Output) -> dict[str, Any]:
    label: dict[str, Any] = {"enum": list(output.classes)} if output.classes else {"type": "number"}
    example = {"id": "a-record-7", "label": output.classes[0] if output.classes else 12.5}
    described = _object(["id", "label"], id={**_id(), "description": "of the answer"}, label=label)
    return {**described, "additionalProperties": False, "examples": [example]}


def _answer(output: Output) -> dict[str, Any]:
    label: dict[str, Any] = {"enum": list(output.classes)} if output.classes else {"type": "null"}
    score = {"type": "number", "description": _meaning(output)}
    properties: dict[str, Any] = {"id": _ANY_ID, "score": score, "label": label, "version": _INTEGER, "digest": _STRING}
    if output.task is Task.MULTICLASS:
        names = [class_name(each) for each in output.classes]
        properties["scores"] = {"type": "object", "properties": {name: {"type": "number"} for name in names}}
    return _object(list(properties), **properties)


def _inference_request(signature: Signature) -> dict[str, Any]:
    example = example_record(signature)
    inputs = [
        {**tensor, "shape": [1], "data": [example[tensor["name"]]]}
        for tensor in input_types(signature)
        if tensor["name"] in example
    ]
    outputs = {"type": "array", "items": {"type": "object", "required": ["name"]}}
    described = _object(["inputs"], id=_STRING, inputs={**_TENSORS, "minItems": 1}, outputs=outputs)
    return {**described, "examples": [{"inputs": inputs}]}


def _meaning(output: Output) -> str:
    if output.task is Task.BINARY:
        return f"probability that {output.target} is {output.positive}"
    return "probability of the label" if output.task is Task.MULTICLASS else f"{output.target}"


_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}
_ANY_ID = {"type": ["string", "integer"]}
_TENSORS = {
    "type": "array",
    "items": _object(
        ["name", "shape", "datatype", "data"],
        name=_STRING,
        shape={"type": "array", "items": _INTEGER},
        datatype=_STRING,
        data={"type": "array"},
    ),
}
_INFERENCE_RESPONSE = _object(
    ["model_name", "model_version", "outputs"], model_name=_STRING, model_version=_STRING, id=_STRING, outputs=_TENSORS
)
_KNOWN = "unknown: no such answer is remembered; the label is kept, the answer may be older"
_OUTCOME = _object(
    ["id", "outcome"], id=_ANY_ID, outcome={"enum": ["recorded", "repeated", "unknown"], "description": _KNOWN}
)
_PROBLEM = {"record": _INTEGER, "field": _STRING, "reason": _STRING, "found": {}}
_ERROR = _object(
    ["error"],
    error=_STRING,
    hint=_STRING,
    problems={"type": "array", "items": {"type": "object", "properties": _PROBLEM}},
    more={**_INTEGER, "description": "problems that are not listed"},
)
_CANNOT_PREDICT = {"500": "the model failed", "503": "no model is loaded, or the answer would have come too late"}
_REFUSALS = {
    "400": "the body is not JSON",
    "408": "the body did not come in time",
    "413": "the body is too large, or holds too many records",
    "415": "the content type is not application/json",
    "422": f"records are wrong; up to {MAX_PROBLEMS} problems are listed",
    "429": "too many requests are waiting; come back after the seconds in Retry-After",
}
