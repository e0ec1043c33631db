"""The arithmetic on columns of numbers, one function for the compiler and for the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
