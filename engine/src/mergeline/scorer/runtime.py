"""Scores a request's rows in microseconds, without pandas and scikit-learn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.scorer.operations import Floats, operate
from mergeline.scorer.program import Elementwise, LinearSums, Program, TreeSums
from mergeline.scorer.rows import Row, TextColumn, encode_columns, make_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

INPUT, OUTPUT = "x", "y"


class Scorer:
    """A compiled pipeline: the same scores as `LoadedModel.predict`, proven when it was built.

    A row that the pipeline would refuse gets NaN. Safe to call from several threads.
    """

    def __init__(self, program: Program, graph: bytes | None) -> None:
        self._program = program
        self._encode = make_encoder(program)
        self._run = None if graph is None else _session(graph).run
        self._first_base = float(program.base[0])
        self._single = len(program.base) == 1 and program.finish.is_plain

    def encode(self, rows: Sequence[Row]) -> Floats:
        """The rows as a matrix of shape (n, k); a row has a value for each of the signature's columns, in its order.

        A missing number is NaN, a missing category None.
        """
        return self._encode(rows)

    def encode_columns(self, columns: Sequence[Floats | TextColumn]) -> Floats:
        """Whole columns as that matrix: one for each of the signature's columns, in its order."""
        return encode_columns(self._program, columns)

    def score(self, matrix: Floats) -> Floats:
        """Scores of encoded rows.

        Returns:
            Shape (n,): the probability of the positive class, or the value. Shape (n, classes) for a
            multiclass task.
        """
        program = self._program
        if isinstance(program.sums, TreeSums):
            if program.steps:
                with np.errstate(all="ignore"):
                    matrix = _prepare(program, matrix)
            sums = self._tree_sums(program.sums, matrix)
        else:
            with np.errstate(all="ignore"):
                sums = _linear_sums(program.sums, _prepare(program, matrix))
        if self._single and len(sums) == 1:
            score = program.finish.score_one(sums.item() + self._first_base)
            return np.array([1 - score if program.positive == 0 else score])
        with np.errstate(all="ignore"):
            scores = program.finish.scores(sums + program.base)
        if scores.shape[1] > 1:
            return scores
        return np.ascontiguousarray(1 - scores[:, 0] if program.positive == 0 else scores[:, 0])

    def _tree_sums(self, sums: TreeSums, matrix: Floats) -> Floats:
        assert self._run is not None  # noqa: S101 - `load_scorer` reads the file whenever the sums are of trees
        answer: Floats = self._run([OUTPUT], {INPUT: matrix})[0]
        if sums.leaves is None:
            return answer
        trees = answer[:, :-1] if sums.guarded else answer
        made: Floats = sums.leaves.take(trees.astype(np.intp), axis=0).sum(axis=1)
        return made + answer[:, -1:] if sums.guarded else made


def _prepare(program: Program, matrix: Floats) -> Floats:
    """The matrix after the program's steps; the one given is left as it is."""
    for step in program.steps:
        if isinstance(step, Elementwise):
            if step.columns is None:
                matrix = operate(step.kind, matrix, step.a, step.b)
            else:
                chosen = list(step.columns)
                matrix = matrix.copy()
                matrix[:, chosen] = operate(step.kind, matrix[:, chosen])
        else:
            with_one = np.concatenate([matrix, np.ones((len(matrix), 1))], axis=1)  # column -1 is 1
            product = with_one[:, step.factors[-1]]
            for factors in step.factors[-2::-1]:
                product = with_one[:, factors] * product
            matrix = np.concatenate([matrix, product], axis=1)
    return matrix


def _linear_sums(sums: LinearSums, matrix: Floats) -> Floats:
    """Weighted sums; NaN for rows that hold something else than finite numbers, as scikit-learn refuses them."""
    if sums.columns is not None:
        matrix = matrix[:, list(sums.columns)]
    made: Floats = matrix @ sums.weights
    finite = math.isfinite(made.item()) if made.size == 1 else bool(np.isfinite(made).all())
    if not finite:
        made[~np.isfinite(matrix).all(axis=1)] = np.nan
    return made


def _session(graph: bytes) -> Any:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # there is one node
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
