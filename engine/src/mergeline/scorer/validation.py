"""Checks that a stored scorer fits its signature, and that its parts fit together."""

from __future__ import annotations

import math

import numpy as np

from mergeline.dataset.kinds import Kind
from mergeline.params import Task
from mergeline.scorer.link import ACTIVATIONS
from mergeline.scorer.program import OPERATIONS, UFUNCS, Elementwise, LinearSums, Products, Program
from mergeline.scorer.signature import Signature


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
