"""A compiled scorer's program: steps on plain values that the model folder keeps, and the functions they name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, PlainValidator

Floats = NDArray[np.float64]

Operation = Callable[[Floats, Any, Any], Floats]


def _fill(x: Floats, a: Any, b: Any) -> Floats:
    del b
    return np.where(np.isnan(x), a, x)


OPERATIONS: dict[str, Operation] = {
    "fill": _fill,
    "subtract": lambda x, a, _: x - a,
    "divide": lambda x, a, _: x / a,
    "multiply": lambda x, a, _: x * a,
    "add": lambda x, a, _: x + a,
    "clip": np.clip,
}
"""What takes a parameter or two for each column. Each keeps the order of numbers, or the compiler refuses it."""

IDENTITIES: dict[str, tuple[float, float]] = {
    "fill": (float("nan"), 0.0),
    "subtract": (0.0, 0.0),
    "divide": (1.0, 0.0),
    "multiply": (1.0, 0.0),
    "add": (0.0, 0.0),
    "clip": (float("-inf"), float("inf")),
}
"""The parameters that leave a column as it is."""

UFUNCS = frozenset(
    {
        "absolute", "cbrt", "ceil", "cos", "exp", "exp2", "expm1", "floor", "log", "log10", "log1p", "log2", "negative",
        "reciprocal", "rint", "sign", "sin", "sqrt", "square", "tan", "tanh", "trunc",
    }
)  # fmt: skip
"""NumPy's functions of one number that a FunctionTransformer may name."""


def operate(kind: str, x: Floats, a: Any = 0.0, b: Any = 0.0) -> Floats:
    """Do one operation on numbers of any shape that `a` and `b` broadcast to."""
    if kind in OPERATIONS:
        return OPERATIONS[kind](x, a, b)
    if kind == "float32":  # what scikit-learn's trees read
        return x.astype(np.float32).astype(np.float64)
    if kind == "isnan":
        return np.isnan(x).astype(np.float64)
    if kind not in UFUNCS:
        raise ValueError(f"no operation {kind!r}")
    result: Floats = getattr(np, kind)(x)
    return result


def _array(dimensions: int, *kinds: type[np.generic]) -> PlainValidator:
    """Lets arrays of one of these kinds through, in C order."""

    def checked(values: Any) -> Any:
        if not isinstance(values, np.ndarray) or values.dtype not in kinds or values.ndim != dimensions:
            raise ValueError("an array of another kind")
        return np.ascontiguousarray(values)

    return PlainValidator(checked)


Vector = Annotated[Floats, _array(1, np.float64)]
Matrix = Annotated[Floats, _array(2, np.float64)]


class Part:
    """A part of a program; what is read from a file is checked, and is nothing more than its fields."""

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Lookup(Part):
    """Columns of the matrix that one column of the record decides.

    `values` has shape (keys + 2, columns): a row for each key, then for a missing and for an unseen value.
    """

    source: int
    numeric: bool
    keys: tuple[str, ...] | tuple[float, ...]
    values: Matrix


PRODUCTS = "products"
"""A step that puts new columns behind the others; every other one is an operation."""


@dataclass(frozen=True)
class Step(Part):
    """One operation on all columns, or on some; or products of columns.

    `numbers` of an operation has shape (2, columns), its two parameters for each column, and (2, 0) where it takes
    none. Of products it has shape (degree, products), the columns that are multiplied; -1 stands for 1.
    """

    kind: str
    columns: tuple[int, ...] | None
    numbers: Annotated[NDArray[Any], _array(2, np.float64, np.int64)]


@dataclass(frozen=True)
class Sums(Part):
    """Weighted sums of the matrix's `columns`, or sums over the trees in the ONNX file.

    The `weights` of linear sums have shape (columns, targets). Where trees have `leaves`, of shape (leaves, targets),
    the file answers the leaf of each of the `outputs` trees; where they are `guarded`, its last output is a number to
    add to the sums, NaN for a row that must be refused.
    """

    kind: Literal["linear", "trees"]
    columns: tuple[int, ...] | None = None
    outputs: int = 0
    by_leaf: bool = False
    guarded: bool = False
    weights: Matrix | None = None
    leaves: Matrix | None = None


@dataclass(frozen=True, eq=False)
class Calibrator(Part):
    """A calibration of one score: Platt's sigmoid (`x` holds its two numbers), or steps from `x` to `y`."""

    kind: Literal["sigmoid", "isotonic"]
    x: Vector
    y: Vector


@dataclass(frozen=True, eq=False)
class Layer(Part):
    """A layer of a neural network behind the first: weighted sums, `weights` of shape (inputs, outputs), and shifts."""

    weights: Matrix
    shifts: Vector


def _logistic(x: Floats) -> Floats:
    power = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, power) / (1 + power))


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "identity": lambda x: x,
    "logistic": _logistic,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": lambda x: np.asarray(np.tanh(x)),
}
"""What a hidden layer makes of its sums."""


UNDONE = frozenset({"identity", "exp", "logit", "half_logit", "softmax", "one_vs_rest"})
"""The links whose inverse `undo` knows."""


@dataclass(frozen=True)
class Finish(Part):
    """From sums to scores: divide, undo the link, calibrate, undo the target's transformation.

    With calibrators the targets are those of `folds` models side by side, and the mean of their calibrated answers
    counts. With layers the sums are those of a neural network's first layer.
    """

    link: str
    divisor: float = 1.0
    inverse: str = ""
    calibrators: tuple[Calibrator, ...] = ()
    folds: int = 1
    layers: tuple[Layer, ...] = ()
    activation: str = ""

    def scores(self, sums: Floats) -> Floats:
        """Scores of shape (n, targets) from sums of that shape; with calibrators of shape (n, targets / folds)."""
        for layer in self.layers:
            sums = ACTIVATIONS[self.activation](sums) @ layer.weights + layer.shifts
        made = undo(self.link, sums / self.divisor if self.divisor != 1 else sums)
        if self.calibrators:
            made = self._calibrated(made)
        return operate(self.inverse, made) if self.inverse else made

    def width(self, sums: int) -> int:
        """How many targets it makes of so many sums."""
        return len(self.layers[-1].shifts) if self.layers else sums

    def score_one(self, total: float) -> float:
        """The same for one row of a model with one target and no calibrators; twenty times as fast."""
        if self.divisor != 1:
            total /= self.divisor
        if self.link == "logit":
            return logistic(total)
        if self.link == "half_logit":
            return logistic(2 * total)
        return total

    @property
    def is_plain(self) -> bool:
        """Whether `score_one` knows all of it."""
        return (
            not self.calibrators
            and not self.inverse
            and not self.layers
            and self.link in {"identity", "logit", "half_logit"}
        )

    def _calibrated(self, made: Floats) -> Floats:
        columns = [_calibrate(calibrator, made[:, place]) for place, calibrator in enumerate(self.calibrators)]
        width = len(columns) // self.folds
        mean = np.zeros((len(made), width))
        for first in range(0, len(columns), width):
            fold = np.column_stack(columns[first : first + width])
            if width > 1:
                total = fold.sum(axis=1, keepdims=True)
                uniform = np.full_like(fold, 1 / width)
                fold = np.divide(fold, total, out=uniform, where=total != 0)
            mean += np.where((fold > 1) & (fold <= 1 + 1e-5), 1.0, fold)  # scikit-learn's own tolerance
        return mean / self.folds


def undo(link: str, sums: Floats) -> Floats:
    """The inverse of a link, row by row."""
    if link == "identity":
        return sums
    if link == "exp":
        return np.exp(sums)
    if link in {"logit", "half_logit", "one_vs_rest"}:
        shares = _logistic(2 * sums if link == "half_logit" else sums)
        if link != "one_vs_rest":
            return shares
        total = shares.sum(axis=1, keepdims=True)
        return np.where(total == 0, 1 / shares.shape[1], shares / np.where(total == 0, 1, total))
    if link == "softmax":
        powers = np.exp(sums - sums.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    raise ValueError(f"no link {link!r}")


def logistic(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    power = math.exp(x)
    return power / (1 + power)  # NaN comes here too, and stays NaN


def _calibrate(calibrator: Calibrator, x: Floats) -> Floats:
    if calibrator.kind == "sigmoid":
        a, b = calibrator.x
        return _logistic(-(a * x + b))
    # scikit-learn's isotonic regression refuses an infinite score.
    return np.where(np.isfinite(x), np.interp(x, calibrator.x, calibrator.y), np.nan)


@dataclass(frozen=True)
class Program(Part):
    """A whole scorer, but for the trees.

    The matrix begins with the columns of `lookups`, then holds the record's columns `numbers`, then what the
    steps add. `sources` counts the record's columns. The scores are `finish` of `base` plus the sums; of
    two classes, `positive` is the one whose probability is asked for.
    """

    sources: int
    lookups: tuple[Lookup, ...]
    numbers: tuple[int, ...]
    steps: tuple[Step, ...]
    sums: Sums
    base: Vector
    finish: Finish
    positive: int | None

    @property
    def width(self) -> int:
        """How many columns the encoded matrix has."""
        return sum(int(lookup.values.shape[1]) for lookup in self.lookups) + len(self.numbers)

    @property
    def final_width(self) -> int:
        """How many columns it has after the steps."""
        return self.width + sum(int(step.numbers.shape[1]) for step in self.steps if step.kind == PRODUCTS)
