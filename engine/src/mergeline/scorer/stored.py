"""Keeps a scorer in the model folder, and reads it with everything checked."""

from __future__ import annotations

import copy
import io
import json
import math
import zipfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mergeline.dataset import Kind
from mergeline.documents import Frozen, parse_json
from mergeline.errors import DocumentError, ModelError
from mergeline.files import pack_zip
from mergeline.params import Task
from mergeline.scorer.program import ACTIVATIONS, OPERATIONS, PRODUCTS, UFUNCS, UNDONE, Program, Step
from mergeline.scorer.protobuf import check_ensemble, read_ensemble
from mergeline.scorer.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mergeline.scorer.runtime import Scorer
    from mergeline.scorer.signature import Signature

FORMAT: Literal[1] = 1


class Proof(Frozen):
    """What a scorer was compared with scikit-learn on, when it was built.

    `rows` counts real rows, `hard_cases` made ones, `refused` those of both that either way gives no score
    for. No difference was beyond `largest_difference`, a power of ten, which is at most `tolerance`; a
    difference of values beyond 1 is taken as a share of them.
    """

    rows: int
    hard_cases: int
    refused: int
    tolerance: float
    largest_difference: float


class ScorerDocument(Frozen):
    """`scorer.json`: how the model is scored, and the proof; or, without a program, the reason why there is none."""

    format: Literal[1] = FORMAT
    reason: str | None = None
    proof: Proof | None = None
    program: dict[str, Any] | None = None


SCORER_FILE, ARRAYS_FILE, GRAPH_FILE = "scorer.json", "scorer.npz", "scorer.onnx"


def refusal_files(reason: str) -> dict[str, bytes]:
    """The files of a model that scikit-learn serves."""
    return {SCORER_FILE: _json(ScorerDocument(reason=reason))}


def scorer_files(program: Program, graph: bytes | None, proof: Proof) -> dict[str, bytes]:
    """The files of a proven scorer, the same bytes for the same scorer."""
    tree = asdict(program)
    arrays = {name: part.pop(key) for part, key, name in _arrays(tree)}
    tree["sums"] = {key: value for key, value in tree["sums"].items() if key not in {"weights", "leaves"}}
    finish = tree["finish"]
    finish["layers"] = len(finish["layers"])
    for key in ("layers", "activation"):  # older scorers have neither
        if not finish[key]:
            del finish[key]
    files = {
        SCORER_FILE: _json(ScorerDocument(proof=proof, program=tree)),
        ARRAYS_FILE: pack_zip({f"{name}.npy": _npy(values) for name, values in arrays.items()}),
    }
    return files if graph is None else {**files, GRAPH_FILE: graph}


def read_document(folder: Path) -> ScorerDocument | None:
    """What `scorer.json` says, or None for a model that was made before there were scorers.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / SCORER_FILE
    if not path.exists():
        return None
    try:
        return ScorerDocument.model_validate(parse_json(path.read_bytes(), SCORER_FILE))
    except (DocumentError, ValidationError) as cause:
        raise _damaged(path, cause) from cause


def load_scorer(folder: Path, signature: Signature, *, many_rows: bool = False) -> Scorer | None:
    """The scorer of a model folder, or None where scikit-learn serves the model.

    Args:
        folder: the model folder.
        signature: what its records hold.
        many_rows: make one for thousands of rows at a time.

    Raises:
        ModelError: a part is missing or damaged, or it is made for other records than `signature` describes.
    """
    read = read_scorer(folder, signature)
    if read is None:
        return None
    from mergeline.scorer.runtime import Scorer

    return Scorer(*read, many_rows=many_rows)


def read_scorer(folder: Path, signature: Signature) -> tuple[Program, bytes | None] | None:
    """The checked program of a model folder with the file of its trees, or None where scikit-learn serves the model.

    Raises:
        ModelError: as `load_scorer`.
    """
    document = read_document(folder)
    if document is None or document.program is None:
        return None
    try:
        arrays = read_numbers(ARRAYS_FILE, (folder / ARRAYS_FILE).read_bytes())
        program = _program(document.program, arrays)
        check_program(program, signature)
        graph = None
        if program.sums.kind == "trees":
            graph = (folder / GRAPH_FILE).read_bytes()
            leaves = None if program.sums.leaves is None else len(program.sums.leaves)
            check_ensemble(
                read_ensemble(graph),
                width=program.final_width,
                outputs=program.sums.outputs,
                leaves=leaves,
                guarded=program.sums.guarded,
            )
    except (OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, zipfile.BadZipFile) as cause:
        raise _damaged(folder / SCORER_FILE, cause) from cause
    return program, graph


def read_numbers(name: str, content: bytes) -> dict[str, Any]:
    """The numbers in a scorer's file of this name: those of its trees, or its other arrays."""
    if name == GRAPH_FILE:
        return read_ensemble(content)
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {member: archive[member] for member in archive.files}


def _program(document: dict[str, Any], arrays: dict[str, Any]) -> Program:
    tree = copy.deepcopy(document)
    finish = tree["finish"]
    finish["layers"] = [{} for _ in range(min(finish.get("layers", 0), len(arrays)))]
    for part, key, name in _arrays(tree):
        part[key] = arrays[name]
    return TypeAdapter(Program).validate_python(tree)


def _arrays(tree: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    """Where each array of a program belongs: a part of its tree, the key there, and the array's name in the file."""
    finish, sums = tree["finish"], tree["sums"]
    yield tree, "base", "base"
    for parts, keys, name in (
        (tree["lookups"], {"values": ""}, "lookup"),
        (tree["steps"], {"numbers": ""}, "step"),
        (finish["calibrators"], {"x": "-x", "y": "-y"}, "calibrator"),
        (finish["layers"], {"weights": "-weights", "shifts": "-shifts"}, "layer"),
    ):
        for place, part in enumerate(parts):
            for key, ending in keys.items():
                yield part, key, f"{name}-{place}{ending}"
    if sums["kind"] == "linear":
        yield sums, "weights", "weights"
    elif sums["by_leaf"]:
        yield sums, "leaves", "leaves"


def _npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    array = np.asarray(values)
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _json(document: ScorerDocument) -> bytes:
    values = document.model_dump(mode="json")
    return (json.dumps(values, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _damaged(path: Path, cause: Exception) -> ModelError:
    return ModelError(f"the scorer cannot be used: {cause}"[:500], where=str(path), hint="fetch the model again")


def check_program(program: Program, signature: Signature) -> None:
    """See that the program reads the signature's columns, gives its scores, and refers to nothing that is not there.

    Raises:
        ValueError: it does not, with the reason.
    """
    _check_scores(program, signature)
    _check_columns(program, signature)
    width = program.width
    for step in program.steps:
        _check_step(step, width)
        width += step.numbers.shape[1] if step.kind == PRODUCTS else 0
    _check_sums(program, width)


def _check_scores(program: Program, signature: Signature) -> None:
    output, finish = signature.output, program.finish
    targets = finish.width(len(program.base))
    wanted = len(output.classes) if output.task is Task.MULTICLASS else 1
    positive = None
    if output.task is Task.BINARY and output.positive is not None:
        positive = output.classes.index(output.positive)
    _must(finish.folds >= 1 and targets == wanted * finish.folds, "it gives another number of scores")
    _must(program.positive == positive, "it gives the probability of another class")
    _must(finish.link in UNDONE, "an unknown link")
    _must(not finish.inverse or finish.inverse in UFUNCS, "an unknown function")
    _must(math.isfinite(finish.divisor) and finish.divisor != 0, "an impossible divisor")
    _must(len(finish.calibrators) in {0, targets}, "other calibrations than scores")
    _must(not finish.layers or finish.activation in ACTIVATIONS, "an unknown activation")
    inputs = len(program.base)
    for layer in finish.layers:
        _must(layer.weights.shape == (inputs, len(layer.shifts)), "a layer of another shape")
        _must(bool(np.isfinite(layer.weights).all() and np.isfinite(layer.shifts).all()), "a layer that is no number")
        inputs = len(layer.shifts)
    for calibrator in finish.calibrators:
        x, y, steps = calibrator.x, calibrator.y, calibrator.kind == "isotonic"
        _must(bool(np.isfinite(x).all() and np.isfinite(y).all()), "a calibration that is no number")
        shapes = len(x) > 0 and len(y) == len(x) if steps else (len(x), len(y)) == (2, 0)
        _must(shapes, "a calibration of another shape")
        _must(not steps or bool((np.diff(x) >= 0).all()), "a calibration out of order")
    _must(bool(np.isfinite(program.base).all()), "a score begins from what is no number")


def _check_columns(program: Program, signature: Signature) -> None:
    columns = signature.columns
    _must(program.sources == len(columns), "it reads other columns than the signature names")
    for lookup in program.lookups:
        _must(0 <= lookup.source < len(columns), "a lookup of a column that is not there")
        _must(lookup.numeric != (columns[lookup.source].kind is Kind.CATEGORY), "a lookup of another kind of column")
        _must(lookup.values.shape[0] == len(lookup.keys) + 2, "a lookup with other values than keys")
        _must(not np.isinf(lookup.values).any(), "a lookup of what is no number")
    for place in program.numbers:
        _must(0 <= place < len(columns), "a number of a column that is not there")
        _must(columns[place].kind is not Kind.CATEGORY, "a number of a column of text")


def _check_step(step: Step, width: int) -> None:
    numbers = step.numbers
    if step.kind == PRODUCTS:
        there = numbers.dtype == np.int64 and len(numbers) and ((numbers >= -1) & (numbers < width)).all()
        _must(bool(there), "a product of columns that are not there")
    elif step.columns is None:
        known = step.kind in OPERATIONS and numbers.dtype == np.float64 and numbers.shape == (2, width)
        _must(known, f"a step {step.kind!r} of another shape")
    else:
        _must(step.kind in UFUNCS | {"float32", "isnan"}, f"an unknown step {step.kind!r}")
        _must(all(0 <= place < width for place in step.columns), "a step on columns that are not there")


def _check_sums(program: Program, width: int) -> None:
    sums, targets = program.sums, len(program.base)
    if sums.weights is not None:
        used = width if sums.columns is None else len(sums.columns)
        _must(sums.weights.shape == (used, targets), "weights of another shape")
        _must(bool(np.isfinite(sums.weights).all()), "a weight that is no number")
        _must(all(0 <= place < width for place in sums.columns or ()), "sums of columns that are not there")
    elif sums.leaves is None:
        _must(sums.outputs == targets and not sums.guarded, "trees with other outputs")
    else:
        _must(sums.leaves.shape[1] == targets, "leaves of another shape")
        _must(bool(np.isfinite(sums.leaves).all()), "a leaf that is no number")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
