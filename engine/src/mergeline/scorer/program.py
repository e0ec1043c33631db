"""A compiled scorer's program: steps on plain values that the model folder keeps, and the functions they name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mergeline.scorer.link import Finish

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


@dataclass(frozen=True)
class Lookup:
    """Columns of the matrix that one column of the record decides.

    `values` has shape (keys + 2, columns): a row for each key, then for a missing and for an unseen value.
    """

    source: int
    numeric: bool
    keys: tuple[str, ...] | tuple[float, ...]
    values: Floats


@dataclass(frozen=True)
class Elementwise:
    """One operation on all columns, or on some; `a` and `b` hold a parameter for each."""

    kind: str
    columns: tuple[int, ...] | None
    a: Floats
    b: Floats


@dataclass(frozen=True)
class Products:
    """New columns behind the others: products of `factors`, of shape (degree, columns); -1 stands for 1."""

    factors: NDArray[np.int64]


@dataclass(frozen=True)
class LinearSums:
    """Sums of the matrix's `columns` by `weights`, of shape (columns, targets)."""

    columns: tuple[int, ...] | None
    weights: Floats


@dataclass(frozen=True)
class TreeSums:
    """Sums over the trees in the ONNX file.

    With `leaves`, of shape (leaves, targets), the file answers the leaf of each of the `outputs` trees; with
    `guarded`, its last output is a number to add to the sums, NaN for a row that must be refused.
    """

    outputs: int
    leaves: Floats | None
    guarded: bool


@dataclass(frozen=True)
class Program:
    """A whole scorer, but for the trees.

    The matrix begins with the columns of `lookups`, then holds the record's columns `numbers`, then what the
    steps add. `sources` counts the record's columns. The scores are `finish` of `base` plus the sums; of
    two classes, `positive` is the one whose probability is asked for.
    """

    sources: int
    lookups: tuple[Lookup, ...]
    numbers: tuple[int, ...]
    steps: tuple[Elementwise | Products, ...]
    sums: LinearSums | TreeSums
    base: Floats
    finish: Finish
    positive: int | None

    @property
    def width(self) -> int:
        """How many columns the encoded matrix has."""
        return sum(int(lookup.values.shape[1]) for lookup in self.lookups) + len(self.numbers)

    @property
    def final_width(self) -> int:
        """How many columns it has after the steps."""
        return self.width + sum(int(step.factors.shape[1]) for step in self.steps if isinstance(step, Products))
