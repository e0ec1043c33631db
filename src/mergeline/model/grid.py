"""Cells that numbers are counted in: fine, uniform on a line, and cheap for a query engine to find."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

from mergeline.documents import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CELLS = 1022
"""Fine enough for 254 bins of equal mass, coarse enough for a count of each to be cheap."""

MIN_BEYOND = 30
"""Values that lie beyond a border at least, where there are enough."""

FULL_CELL = 1 / 64
"""A linear grid with a fuller cell than this is compared with a stretched one."""


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


def choose_grid(values: NDArray[np.float64]) -> Grid:
    """The grid for a column that holds these finite values, shape (n,); n may be 0.

    The borders are near the quantiles that leave 0.1 % of the values beyond each, and `MIN_BEYOND` values at least.
    They are blunted, so that they are no row's own value.
    """
    import numpy as np

    if not values.size:
        return Grid(scale=Scale.LINEAR, low=0.0, high=1.0)
    share = max(0.001, min(0.25, MIN_BEYOND / values.size))
    least, most, *places = np.quantile(values, (share, 1 - share, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)).tolist()
    low, high = blunted_range(least, most)
    linear = _grid(Scale.LINEAR, low, high)
    if (fullest := _fullest(linear, values)) <= FULL_CELL:
        return linear
    first, tenth, quarter, middle, three_quarters, ninetieth, last = places
    # The body of a column stands in its middle or, where it is skewed, at one of its ends.
    bodies = [(middle, (three_quarters - quarter) / 2), (first, tenth - first), (last, last - ninetieth)]
    stretched = [_stretched(low, high, centre, spread) for centre, spread in bodies if spread > 0]
    best = min(stretched, key=lambda grid: _fullest(grid, values), default=linear)
    # A column with few distinct values fills single cells on every scale: it stays as it is.
    return best if _fullest(best, values) < fullest / 2 else linear


def _stretched(low: float, high: float, centre: float, spread: float) -> Grid:
    centre, spread = blunted(centre, spread), blunted(spread, spread)
    first, last = (_rounded(math.asinh((end - centre) / spread)) for end in (low, high))
    return _grid(Scale.ASINH, first, last, centre, spread)


def blunted_range(low: float, high: float) -> tuple[float, float]:
    """Both ends blunted, inwards: no fewer values lie beyond them."""
    step = _step(high - low)
    if step is None:
        return _rounded(low), _rounded(high)
    return _rounded(math.ceil(low / step) * step), _rounded(math.floor(high / step) * step)


def blunted(value: float, width: float) -> float:
    """The value to a hundredth of `width` or so: near enough for a border, and no row's own value."""
    step = _step(width)
    return _rounded(value if step is None else round(value / step) * step)


def _step(width: float) -> float | None:
    """The power of ten next below a hundredth of a width; None where there is no width."""
    return 10.0 ** math.floor(math.log10(width / 100)) if 0 < width < math.inf else None


def _grid(scale: Scale, low: float, high: float, centre: float = 0.0, spread: float = 1.0) -> Grid:
    # A constant still needs a width, and one that is not lost beside a large value.
    width = high - low
    if not width > abs(low) * 1e-9:
        high = low + max(1.0, abs(low) * 1e-6)
    return Grid(scale=scale, low=low, high=high, centre=centre, spread=spread)


def _fullest(grid: Grid, values: NDArray[np.float64]) -> float:
    """The share of the values in the fullest cell."""
    import numpy as np

    line = values if grid.scale is Scale.LINEAR else np.arcsinh((values - grid.centre) / grid.spread)
    inside = line[(line >= grid.low) & (line <= grid.high)]
    cells = np.rint((inside - grid.low) * grid.steps).astype(np.int64)
    return float(np.bincount(cells).max() / values.size) if inside.size else 0.0


def _rounded(value: float) -> float:
    """Six digits: equal on every machine, and no row's own value."""
    return float(f"{value:.6g}")


def _sql(value: float) -> str:
    # A minus before a minus would begin a comment, and a decimal number would be computed exactly, which is slow.
    return f"({value!r})::double"
