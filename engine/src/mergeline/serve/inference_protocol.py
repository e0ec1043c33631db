"""The Open Inference Protocol (V2): a tensor for each column in, a tensor for each part of the answers out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from mergeline.documents import repeated
from mergeline.params import Task
from mergeline.requests.answers import class_name
from mergeline.requests.problems import RequestError, check_values, too_many
from mergeline.scorer.signature import Kind, Output, Signature
from mergeline.serve.state import ServedModel

PREFIX, INFER = "/v2/models/", "/infer"
DATATYPES = {Kind.NUMBER: "FP64", Kind.INTEGER: "INT64", Kind.BOOLEAN: "BOOL", Kind.CATEGORY: "BYTES"}
_MAX_DIMENSIONS = 8


class Tensor(msgspec.Struct):
    """One input: `data` is flat or nested, in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class Requested(msgspec.Struct):
    """One output that the caller wants."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceRequest(msgspec.Struct):
    """The body of `infer`."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[Requested] = []
    parameters: dict[str, Any] = {}


class Inference(NamedTuple):
    """An inference request as `/predict` knows it: the body, and what the answers are wrapped in."""

    records: bytes
    request: InferenceRequest


def model_of(path: str) -> str:
    """The model's name in the path of an `infer` request."""
    return path[len(PREFIX) : -len(INFER)]


def check_name(name: str, served: str) -> None:
    """See that the model that is asked for is the one that serves.

    Raises:
        RequestError: 404, it is another.
    """
    if name != served:
        raise RequestError(404, f"there is no model {name[:80]!r} here", hint=f"ask for {served!r}")


def read_inference(body: bytes, served: ServedModel, max_records: int) -> Inference:
    """The records that the tensors of a request hold.

    Whether a column exists, and whether a value fits it, is for the reader of `/predict` to say.

    Raises:
        RequestError: the body is no such request, tensors differ in length or are too long, or an output is unknown.
    """
    check_values(body, max_records * served.reader.fields)
    try:
        request = msgspec.json.decode(body, type=InferenceRequest)
    except msgspec.ValidationError as cause:
        raise _wrong(f"no inference request: {cause}") from None
    except (msgspec.DecodeError, RecursionError) as cause:
        raise RequestError(400, f"the body is not JSON: {cause}", hint="send one JSON object") from None
    names = [tensor.name for tensor in request.inputs]
    twice = repeated(names)
    if twice is not None or not names:
        what = f"input {twice[:80]!r} is given twice" if twice is not None else "there are no inputs"
        raise _wrong(what)
    known = [name for name, _ in output_types(served.model.signature.output)]
    for wanted in request.outputs:
        if wanted.name not in known:
            raise RequestError(422, f"there is no output {wanted.name[:80]!r}", hint=f"outputs are {', '.join(known)}")
    columns = [_values(tensor) for tensor in request.inputs]
    rows = len(columns[0])
    for name, column in zip(names, columns, strict=True):
        if len(column) != rows:
            raise _wrong(f"input {name[:80]!r} has {len(column)} values, {names[0][:80]!r} has {rows}")
    if rows > max_records:
        raise too_many(rows, max_records, "record")
    records = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return Inference(msgspec.json.encode(records), request)


def write_inference(answers: bytes, inference: Inference, name: str, output: Output) -> bytes:
    """The answers of `/predict` as an inference response; each record's model is in `version` and `digest`."""
    rows: list[dict[str, Any]] = msgspec.json.decode(answers)
    wanted = {each.name for each in inference.request.outputs}
    tensors = [
        {"name": part, "shape": [len(rows), *width], "datatype": datatype, "data": list(_column(part, rows, output))}
        for part, (datatype, width) in output_types(output)
        if not wanted or part in wanted
    ]
    response: dict[str, Any] = {"model_name": name, "model_version": str(rows[0]["version"]), "outputs": tensors}
    if inference.request.id is not None:
        response["id"] = inference.request.id
    return msgspec.json.encode(response)


def describe_model(name: str, served: ServedModel) -> dict[str, Any]:
    """The model's metadata: its inputs, and what it answers."""
    signature = served.model.signature
    return {
        "name": name,
        "versions": [str(served.version)],
        "platform": "mergeline",
        "inputs": input_types(signature),
        "outputs": [
            {"name": part, "datatype": datatype, "shape": [-1, *width]}
            for part, (datatype, width) in output_types(signature.output)
        ],
    }


def input_types(signature: Signature) -> list[dict[str, Any]]:
    """A tensor for each column that the model reads; those that requests may carry besides are left out."""
    return [{"name": column.name, "datatype": DATATYPES[column.kind], "shape": [-1]} for column in signature.columns]


def output_types(output: Output) -> list[tuple[str, tuple[str, list[int]]]]:
    """The outputs in order: their datatype, and what follows the number of records in their shape."""
    parts: list[tuple[str, tuple[str, list[int]]]] = [("id", ("BYTES", [])), ("score", ("FP64", []))]
    if output.task is not Task.REGRESSION:
        parts.append(("label", ("BYTES", [])))
    if output.task is Task.MULTICLASS:
        parts.append(("scores", ("FP64", [len(output.classes)])))
    return [*parts, ("version", ("INT64", [])), ("digest", ("BYTES", []))]


def _values(tensor: Tensor) -> list[Any]:
    """The tensor's values, one for each record.

    Raises:
        RequestError: its shape is not one value a record, or not that of its data.
    """
    if not tensor.shape or any(size != 1 for size in tensor.shape[1:]):
        raise _wrong(f"input {tensor.name[:80]!r} has shape {tensor.shape[:8]}, expected [n] or [n, 1]")
    values = _flat(tensor.data)
    if len(values) != tensor.shape[0]:
        raise _wrong(f"input {tensor.name[:80]!r} has {len(values)} values, its shape says {tensor.shape[0]}")
    return values


def _wrong(what: str) -> RequestError:
    hint = "one input a column, each with the same first dimension; GET /v2/models/NAME lists them"
    return RequestError(422, what, hint=hint)


def _flat(data: list[Any]) -> list[Any]:
    """The values of a nested list; what nests deeper than any tensor stays a list, and is no single value."""
    for _ in range(_MAX_DIMENSIONS):
        if not any(isinstance(value, list) for value in data):
            break
        data = [inner for value in data for inner in (value if isinstance(value, list) else [value])]
    return data


def _column(part: str, rows: list[dict[str, Any]], output: Output) -> Iterator[Any]:
    """One part of every answer, as its datatype has it: classes and ids are text."""
    for row in rows:
        value = row[part]
        if part == "scores":
            yield from (value[class_name(each)] for each in output.classes)
        elif part in {"id", "label"}:
            yield class_name(value)
        else:
            yield value
