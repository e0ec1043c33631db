"""Scores a request's rows in microseconds, without pandas and scikit-learn."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from mergeline.scorer.expressions import MISSING, UNSEEN
from mergeline.scorer.program import OPERATIONS, PRODUCTS, Floats, Program, Step, Sums, operate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.scorer.leaf_masks import LeafMasks

Value = float | int | bool | str | None
Row = tuple[Value, ...]
RowEncoder = Callable[[Any], bytes]


def make_encoder(program: Program) -> Callable[[Sequence[Row]], Floats]:
    """A function from rows, one value for each of the record's columns, to a matrix of shape (n, width).

    A row becomes the bytes of its numbers at once: each text is looked up as the bytes of its columns, the
    numbers are packed together. No Python code runs for a single value unless numbers are looked up.
    """
    encode_row, width = _row_encoder(program), program.width

    def encode(rows: Sequence[Row]) -> Floats:
        content = encode_row(rows[0]) if len(rows) == 1 else b"".join([encode_row(row) for row in rows])
        return np.frombuffer(content, dtype=np.float64).reshape(len(rows), width)

    return encode


def _row_encoder(program: Program) -> RowEncoder:
    texts = [lookup for lookup in program.lookups if not lookup.numeric]
    tables = [
        {None: lookup.values[MISSING].tobytes()}
        | {key: row.tobytes() for key, row in zip(lookup.keys, lookup.values, strict=False)}
        for lookup in texts
    ]
    unseen = [lookup.values[UNSEEN].tobytes() for lookup in texts]
    text_values = _taker([lookup.source for lookup in texts])
    number_values = _taker(program.numbers)
    pack = struct.Struct(f"={len(program.numbers)}d").pack
    numeric = [
        (
            lookup.source,
            {key: row.tobytes() for key, row in zip(lookup.keys, lookup.values, strict=False)},
            lookup.values[UNSEEN].tobytes(),
            lookup.values[MISSING].tobytes(),
        )
        for lookup in program.lookups
        if lookup.numeric
    ]
    get, join = dict.get, b"".join

    def numbers_only(row: Row) -> bytes:
        return pack(*number_values(row))

    def texts_and_numbers(row: Row) -> bytes:
        return join(map(get, tables, text_values(row), unseen)) + pack(*number_values(row))

    def everything(row: Row) -> bytes:
        looked_up = [
            table.get(row[source], other) if row[source] == row[source] else missing
            for source, table, other, missing in numeric
        ]
        return join(map(get, tables, text_values(row), unseen)) + join(looked_up) + pack(*number_values(row))

    if numeric:
        return everything
    return texts_and_numbers if texts else numbers_only


def _taker(places: Sequence[int]) -> Callable[[Row], tuple[Any, ...]]:
    """A function that takes these places of a row, as a tuple whatever their number."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda row: tuple(row[place] for place in places)


class TextColumn(NamedTuple):
    """A column of text as places in a list of its values; -1 where it is missing."""

    codes: NDArray[np.int32]
    texts: Sequence[str]


def encode_columns(program: Program, columns: Sequence[Floats | TextColumn], order: Literal["C", "F"] = "C") -> Floats:
    """The matrix that `make_encoder` makes, of whole columns: numbers with NaN where missing, or texts."""
    rows = len(columns[0].codes if isinstance(columns[0], TextColumn) else columns[0])
    matrix, place = np.empty((rows, program.width), order=order), 0
    for lookup in program.lookups:
        column, width = columns[lookup.source], int(lookup.values.shape[1])
        if isinstance(column, TextColumn):
            known: dict[Any, int] = {key: row for row, key in enumerate(lookup.keys)}
            found = np.array([*(known.get(text, UNSEEN) for text in column.texts), MISSING])[column.codes]
        else:
            found = _find_numbers(column, np.array(lookup.keys, dtype=np.float64))
        matrix[:, place : place + width] = lookup.values[found]
        place += width
    for source in program.numbers:
        matrix[:, place] = columns[source]
        place += 1
    return matrix


def _find_numbers(values: Floats, keys: Floats) -> NDArray[np.intp]:
    order = np.argsort(keys)
    if not len(keys):
        return np.where(np.isnan(values), MISSING, UNSEEN)
    near = order[np.searchsorted(keys, values, sorter=order).clip(max=len(keys) - 1)]
    return np.where(np.isnan(values), MISSING, np.where(keys[near] == values, near, UNSEEN))


INPUT, OUTPUT = "x", "y"


class Scorer:
    """A compiled pipeline: the same scores as `LoadedModel.predict`, proven when it was built.

    A row that the pipeline would refuse gets NaN. Safe to call from several threads. With `many_rows` it is made for
    thousands of rows at a time, and gives the same scores.
    """

    def __init__(self, program: Program, graph: bytes | None, *, many_rows: bool = False) -> None:
        self._program = program
        self._encode = make_encoder(program)
        self._masks = _leaf_masks(graph) if graph is not None and many_rows else None
        self._run = None if graph is None or self._masks else _session(graph).run
        self._steps = [_function(step) for step in program.steps]
        self._first_base = float(program.base[0])
        self._single = len(program.base) == 1 and program.finish.is_plain

    def encode(self, rows: Sequence[Row]) -> Floats:
        """The rows as a matrix of shape (n, k); a row has a value for each of the signature's columns, in its order.

        A missing number is NaN, a missing category None.
        """
        return self._encode(rows)

    def encode_columns(self, columns: Sequence[Floats | TextColumn]) -> Floats:
        """Whole columns as that matrix: one for each of the signature's columns, in its order."""
        return encode_columns(self._program, columns, "F" if self._masks else "C")

    def score(self, matrix: Floats) -> Floats:
        """Scores of encoded rows.

        Returns:
            Shape (n,): the probability of the positive class, or the value. Shape (n, classes) for a
            multiclass task.
        """
        program = self._program
        if program.sums.kind == "trees":
            if self._steps:
                with np.errstate(all="ignore"):
                    matrix = self._prepared(matrix)
            sums = self._tree_sums(program.sums, matrix)
        else:
            with np.errstate(all="ignore"):
                sums = _linear_sums(program.sums, self._prepared(matrix))
        if self._single and len(sums) == 1:
            score = program.finish.score_one(sums.item() + self._first_base)
            return np.array([1 - score if program.positive == 0 else score])
        with np.errstate(all="ignore"):
            scores = program.finish.scores(sums + program.base)
        if scores.shape[1] > 1:
            return scores
        return np.ascontiguousarray(1 - scores[:, 0] if program.positive == 0 else scores[:, 0])

    def _prepared(self, matrix: Floats) -> Floats:
        for step in self._steps:
            matrix = step(matrix)
        return matrix

    def _tree_sums(self, sums: Sums, matrix: Floats) -> Floats:
        answer: Floats
        if self._masks is not None:
            answer = self._masks.sums(matrix)
        else:
            assert self._run is not None  # noqa: S101 - `load_scorer` reads the file whenever the sums are of trees
            answer = self._run([OUTPUT], {INPUT: matrix})[0]
        if sums.leaves is None:
            return answer
        trees = answer[:, :-1] if sums.guarded else answer
        made: Floats = sums.leaves.take(trees.astype(np.intp), axis=0).sum(axis=1)
        return made + answer[:, -1:] if sums.guarded else made


def _function(step: Step) -> Callable[[Floats], Floats]:
    """A step as a function from matrix to matrix; the one given is left as it is."""
    if step.kind == PRODUCTS:

        def multiplied(matrix: Floats) -> Floats:
            with_one = np.concatenate([matrix, np.ones((len(matrix), 1))], axis=1)  # column -1 is 1
            product = with_one[:, step.numbers[-1]]
            for factors in step.numbers[-2::-1]:
                product = with_one[:, factors] * product
            return np.concatenate([matrix, product], axis=1)

        return multiplied
    if step.columns is None:
        operation, (a, b) = OPERATIONS[step.kind], step.numbers
        return lambda matrix: operation(matrix, a, b)
    chosen = list(step.columns)

    def changed(matrix: Floats) -> Floats:
        matrix = matrix.copy()
        matrix[:, chosen] = operate(step.kind, matrix[:, chosen])
        return matrix

    return changed


def _linear_sums(sums: Sums, matrix: Floats) -> Floats:
    """Weighted sums; NaN for rows that hold something else than finite numbers, as scikit-learn refuses them."""
    if sums.columns is not None:
        matrix = matrix[:, list(sums.columns)]
    assert sums.weights is not None  # noqa: S101 - linear sums have weights
    made: Floats = matrix @ sums.weights
    finite = math.isfinite(made.item()) if made.size == 1 else bool(np.isfinite(made).all())
    if not finite:
        made[~np.isfinite(matrix).all(axis=1)] = np.nan
    return made


def _leaf_masks(graph: bytes) -> LeafMasks | None:
    from mergeline.scorer.leaf_masks import LeafMasks
    from mergeline.scorer.protobuf import read_ensemble

    return LeafMasks.of(read_ensemble(graph))


def _session(graph: bytes) -> Any:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # there is one node
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
