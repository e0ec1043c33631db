"""What a scorer does with a record: plain values that the model folder keeps and the server follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mergeline.scorer.link import Finish
    from mergeline.scorer.operations import Floats


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
