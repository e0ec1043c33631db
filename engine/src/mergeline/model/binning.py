"""Cells that numbers are counted in: fine, uniform on a line, and cheap for a query engine to find."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from mergeline.documents import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CELLS = 1022
"""Fine enough for 254 bins of equal mass, coarse enough for a count of each to be cheap."""


class Scale(StrEnum):
    """How values are laid on the line: as they are, or by asinh, which keeps the body of a skewed column apart."""

    LINEAR = "linear"
    ASINH = "asinh"


class Grid(Frozen):
    """`CELLS` cells of equal width on the scale, and a tail on each side.

    The middle of the first cell is `low`, that of the last one `high`. For `asinh` a value is first moved by `centre`
    and divided by `spread`; `low` and `high` are then asinh values.
    """

    scale: Scale
    low: float
    high: float
    centre: float = 0.0
    spread: float = 1.0

    def expression(self, column: str) -> str:
        """SQL for the place of a value of `column`, which must be quoted, in steps from the middle of the first cell.

        It is rounded to the nearest cell, which is what a cast does for nothing. Null stands for what is missing, what
        is not finite, and what is too far away for a small integer; `count_far` tells them apart.
        """
        value = f"{column}::double"
        moved = f"asinh(({value} - {_sql(self.centre)}) * {_sql(1 / self.spread)})"
        inner = value if self.scale is Scale.LINEAR else moved
        return f"try_cast(({inner} - {_sql(self.low)}) * {_sql(self.steps)} as smallint)"

    @property
    def steps(self) -> float:
        """Cells for one unit of the scale."""
        return (CELLS - 1) / (self.high - self.low)

    @property
    def middle(self) -> float:
        """A value that is in no tail: those too far away are below it or above it."""
        return (self.low + self.high) / 2 if self.scale is Scale.LINEAR else self.centre

    def edges(self) -> NDArray[np.float64]:
        """The values at the cells' borders, ascending, shape (CELLS + 1,)."""
        import numpy as np

        line = self.low + (np.arange(CELLS + 1) - 0.5) / self.steps
        return np.asarray(line if self.scale is Scale.LINEAR else self.centre + self.spread * np.sinh(line))


def _sql(value: float) -> str:
    # A minus before a minus would begin a comment, and a decimal number would be computed exactly, which is slow.
    return f"({value!r})::double"
