"""Keeps a scorer in the model folder, and reads it with everything checked."""

from __future__ import annotations

import io
import json
import math
import zipfile
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from mergeline.dataset import Kind
from mergeline.documents import Frozen, parse_json
from mergeline.errors import DocumentError, ModelError
from mergeline.files import pack_zip
from mergeline.params import Task
from mergeline.scorer.link import ACTIVATIONS, Calibrator, Finish, Layer
from mergeline.scorer.program import OPERATIONS, UFUNCS, Elementwise, LinearSums, Lookup, Products, Program, TreeSums
from mergeline.scorer.protobuf import check_ensemble, read_ensemble
from mergeline.scorer.signature import Signature

if TYPE_CHECKING:
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


class LookupDocument(Frozen):
    """A lookup without its values."""

    source: int
    numeric: bool
    keys: tuple[str, ...] | tuple[float, ...]


class StepDocument(Frozen):
    """A step without its parameters."""

    kind: str
    columns: tuple[int, ...] | None = None


class SumsDocument(Frozen):
    """What is summed, without weights and leaves."""

    kind: Literal["linear", "trees"]
    columns: tuple[int, ...] | None = None
    outputs: int = 0
    by_leaf: bool = False
    guarded: bool = False


class CalibratorDocument(Frozen):
    """A calibration without its numbers."""

    kind: Literal["sigmoid", "isotonic"]


class FinishDocument(Frozen):
    """From sums to scores."""

    link: Literal["identity", "exp", "logit", "half_logit", "softmax", "one_vs_rest"]
    divisor: float = 1.0
    inverse: str = ""
    calibrators: tuple[CalibratorDocument, ...] = ()
    folds: int = 1
    layers: int = Field(default=0, exclude_if=lambda count: not count)
    activation: str = Field(default="", exclude_if=lambda name: not name)


class ProgramDocument(Frozen):
    """A program without its arrays."""

    sources: int
    lookups: tuple[LookupDocument, ...]
    numbers: tuple[int, ...]
    steps: tuple[StepDocument, ...]
    sums: SumsDocument
    finish: FinishDocument
    positive: int | None


class ScorerDocument(Frozen):
    """`scorer.json`: how the model is scored, and the proof; or, without a program, the reason why there is none."""

    format: Literal[1] = FORMAT
    reason: str | None = None
    proof: Proof | None = None
    program: ProgramDocument | None = None


SCORER_FILE, ARRAYS_FILE, GRAPH_FILE = "scorer.json", "scorer.npz", "scorer.onnx"


def refusal_files(reason: str) -> dict[str, bytes]:
    """The files of a model that scikit-learn serves."""
    return {SCORER_FILE: _json(ScorerDocument(reason=reason))}


def scorer_files(program: Program, graph: bytes | None, proof: Proof) -> dict[str, bytes]:
    """The files of a proven scorer, the same bytes for the same scorer."""
    sums, finish = program.sums, program.finish
    arrays: dict[str, Any] = {"base": program.base}
    for place, lookup in enumerate(program.lookups):
        arrays[f"lookup-{place}"] = lookup.values
    steps = []
    for place, step in enumerate(program.steps):
        if isinstance(step, Products):
            arrays[f"step-{place}"] = step.factors
            steps.append(StepDocument(kind="products"))
        else:
            arrays[f"step-{place}"] = np.stack([step.a, step.b])
            steps.append(StepDocument(kind=step.kind, columns=step.columns))
    for place, calibrator in enumerate(finish.calibrators):
        arrays[f"calibrator-{place}-x"], arrays[f"calibrator-{place}-y"] = calibrator.x, calibrator.y
    for place, layer in enumerate(finish.layers):
        arrays[f"layer-{place}-weights"], arrays[f"layer-{place}-shifts"] = layer.weights, layer.shifts
    if isinstance(sums, LinearSums):
        arrays["weights"] = sums.weights
        described = SumsDocument(kind="linear", columns=sums.columns)
    else:
        if sums.leaves is not None:
            arrays["leaves"] = sums.leaves
        described = SumsDocument(
            kind="trees", outputs=sums.outputs, by_leaf=sums.leaves is not None, guarded=sums.guarded
        )
    document = ProgramDocument(
        sources=program.sources,
        lookups=tuple(LookupDocument(source=one.source, numeric=one.numeric, keys=one.keys) for one in program.lookups),
        numbers=program.numbers,
        steps=tuple(steps),
        sums=described,
        finish=FinishDocument(
            link=finish.link,
            divisor=finish.divisor,
            inverse=finish.inverse,
            calibrators=tuple(CalibratorDocument(kind=one.kind) for one in finish.calibrators),
            folds=finish.folds,
            layers=len(finish.layers),
            activation=finish.activation,
        ),
        positive=program.positive,
    )
    files = {
        SCORER_FILE: _json(ScorerDocument(proof=proof, program=document)),
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
        if isinstance(program.sums, TreeSums):
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


def _program(document: ProgramDocument, arrays: dict[str, Any]) -> Program:
    finish, sums = document.finish, document.sums
    steps: list[Elementwise | Products] = []
    for place, step in enumerate(document.steps):
        values = arrays[f"step-{place}"]
        if step.kind == "products":
            steps.append(Products(_array(values, np.int64, 2)))
        else:
            a, b = _array(values, np.float64, 2)
            steps.append(Elementwise(step.kind, step.columns, a, b))
    calibrators = tuple(
        Calibrator(
            one.kind, tuple(arrays[f"calibrator-{place}-x"].tolist()), tuple(arrays[f"calibrator-{place}-y"].tolist())
        )
        for place, one in enumerate(finish.calibrators)
    )
    layers = tuple(
        Layer(
            _array(arrays[f"layer-{place}-weights"], np.float64, 2),
            _array(arrays[f"layer-{place}-shifts"], np.float64, 1),
        )
        for place in range(finish.layers)
    )
    if sums.kind == "linear":
        made: LinearSums | TreeSums = LinearSums(sums.columns, _array(arrays["weights"], np.float64, 2))
    else:
        made = TreeSums(sums.outputs, _array(arrays["leaves"], np.float64, 2) if sums.by_leaf else None, sums.guarded)
    return Program(
        sources=document.sources,
        lookups=tuple(
            Lookup(one.source, one.numeric, one.keys, _array(arrays[f"lookup-{place}"], np.float64, 2))
            for place, one in enumerate(document.lookups)
        ),
        numbers=document.numbers,
        steps=tuple(steps),
        sums=made,
        base=_array(arrays["base"], np.float64, 1),
        finish=Finish(
            finish.link, finish.divisor, finish.inverse, calibrators, finish.folds, layers, finish.activation
        ),
        positive=document.positive,
    )


def _array(values: Any, kind: Any, dimensions: int) -> Any:
    if values.dtype != kind or values.ndim != dimensions:
        raise ValueError("an array of another kind")
    return np.ascontiguousarray(values)


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
        if isinstance(step, Products):
            _must(
                bool(((step.factors >= -1) & (step.factors < width)).all()), "a product of columns that are not there"
            )
            width += step.factors.shape[1]
        else:
            _check_step(step, width)
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
        numbers = (*calibrator.x, *calibrator.y)
        _must(all(map(math.isfinite, numbers)), "a calibration that is no number")
        steps = calibrator.kind == "isotonic"
        _must(len(calibrator.y) == (len(calibrator.x) if steps else 0), "a calibration of another shape")
        _must(len(calibrator.x) > 0 if steps else len(calibrator.x) == 2, "a calibration of another shape")
        _must(not steps or list(calibrator.x) == sorted(calibrator.x), "a calibration out of order")
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


def _check_step(step: Elementwise, width: int) -> None:
    if step.columns is None:
        _must(step.kind in OPERATIONS and step.a.shape == (width,), f"a step {step.kind!r} of another shape")
    else:
        _must(step.kind in UFUNCS | {"float32", "isnan"}, f"an unknown step {step.kind!r}")
        _must(all(0 <= place < width for place in step.columns), "a step on columns that are not there")


def _check_sums(program: Program, width: int) -> None:
    sums, targets = program.sums, len(program.base)
    if isinstance(sums, LinearSums):
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
