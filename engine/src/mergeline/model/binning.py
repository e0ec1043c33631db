"""Cells that numbers are counted in, fine and uniform on a line, and the choice of that line for a column."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

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


MIN_BEYOND = 30
"""Values that lie beyond a border at least, where there are enough; a value that so many rows hold is no row's own."""

FULL_CELL = 1 / 64
"""A cell blurs no more than this share of the values; a grid with a fuller one is compared with others."""

TRIMS = (0.005, 0.01)
"""Shares of the values that are left to a tail where all of them together would make the cells too wide."""

MOST_TRIMMED = 0.4
"""No more of the values than this are left to a tail: what moves within a tail is not seen."""

PEELS = 3
"""Values that stand for something else, as -999 does, and are left to each tail at most."""

FAR = 1e307
"""Values beyond are in the tails: the widths of cells could not be computed there."""

NARROW = 1e-12
"""A range narrower than this, for its distance from 0, is a constant: the rest is rounding."""

NARROWEST = 1e-300
"""Nothing is narrower: there would be infinitely many cells for one unit."""


class _Column(NamedTuple):
    """A column's finite values, ascending; those that many rows hold and how many do; and the rest without these."""

    values: NDArray[np.float64]
    common: NDArray[np.float64]
    held: NDArray[np.int64]
    loose: NDArray[np.float64]


def choose_grid(values: NDArray[np.float64]) -> Grid:
    """The grid for a column that holds these finite values, shape (n,); n may be 0.

    What moves within a cell is not seen, so no cell may hold many different values. The borders are near the quantiles
    that leave 0.1 % of the values beyond each, and `MIN_BEYOND` values at least, as long as the cells between them are
    narrow enough for the body; where single values far away (-999, say) or long tails would make them too wide, first
    an asinh scale is tried and then borders further in. What lies beyond is still counted, in the tails.
    The borders are blunted, so that they are no row's own value.
    """
    least, best = math.inf, Grid(scale=Scale.LINEAR, low=0.0, high=1.0)
    if not values.size:
        return best
    column = _column(values)
    for first, last in _ranges(column):
        linear = _linear(column, first, last)
        if (blur := _blur(linear, column)) <= 1:
            return linear
        tried = [(blur, linear), *((_blur(grid, column), grid) for grid in _stretched(column, first, last))]
        blur, grid = min(tried, key=lambda pair: pair[0])
        if blur < least:
            least, best = blur, grid
        if least <= 1:
            break
    return best


def blunted_range(low: float, middle: float, high: float) -> tuple[float, float]:
    """Both ends blunted, inwards: no fewer values lie beyond them.

    Each to the width of its own side of the middle, so that neither passes the body when the other is far away.
    """
    return _inwards(low, middle), _inwards(high, middle)


def blunted(value: float, width: float) -> float:
    """The value to a hundredth of `width` or so: near enough for a border, and no row's own value."""
    step = _step(width)
    return _rounded(value) if step is None else _multiple(round(value / step), step)


def _column(values: NDArray[np.float64]) -> _Column:
    import numpy as np

    ordered = np.sort(np.clip(values, -FAR, FAR))
    distinct, counts = np.unique(ordered, return_counts=True)
    common = counts >= max(2.0, ordered.size / 1000)
    often = distinct[counts >= max(2.0, ordered.size / 200)]
    return _Column(ordered, distinct[common], counts[common], ordered[~np.isin(ordered, often)])


def _ranges(column: _Column) -> Iterator[tuple[int, int]]:
    """The ranks of the least and the greatest value between the tails; those that leave out the fewest come first."""
    values = column.values
    lows, highs = _ranks(values), _ranks(-values[::-1])
    pairs = [(low, values.size - 1 - high) for low in lows for high in highs]
    yield from sorted((pair for pair in pairs if pair[0] <= pair[1]), key=lambda pair: (pair[0] - pair[1], pair))


def _ranks(values: NDArray[np.float64]) -> list[int]:
    """How many of the values, ascending, may be left to the lower tail."""
    import numpy as np

    size = values.size
    least = int(_least(size) * (size - 1))
    found = {least}
    place = least
    for _ in range(PEELS):
        start, end = (int(np.searchsorted(values, values[place], side)) for side in ("left", "right"))
        if end - start < MIN_BEYOND or (place := end + least) > MOST_TRIMMED * size:
            break
        found.add(place)
    return sorted(found | {int(share * (size - 1)) for share in TRIMS if share * (size - 1) > least})


def _least(size: int) -> float:
    """The share of so many values that lies beyond a border at least."""
    return max(0.001, min(0.25, MIN_BEYOND / size))


def _linear(column: _Column, first: int, last: int) -> Grid:
    values = column.values
    low, middle, high = (float(values[place]) for place in (first, (first + last) // 2, last))
    if not high - low > max(NARROW * max(abs(low), abs(high)), NARROWEST):
        return _around(middle if _is_common(column, middle) else _rounded(middle))
    least, most = (end if _is_common(column, end) else _inwards(end, middle) for end in (low, high))
    if not most > least:
        least, most = low, high
    return Grid(scale=Scale.LINEAR, low=least, high=most)


def _around(value: float) -> Grid:
    """The grid of a constant: cells that are as fine as rounding allows beside it, and show changes of any size."""
    spread = abs(value) * 1e-8 if abs(value) > NARROWEST * 1e10 else 1e-12
    reach = min(max(abs(value) * 1e6, 1e12), FAR)
    low = -_rounded(math.asinh(reach / spread))
    middle = CELLS // 2 - 1  # the cell whose middle is the value
    return Grid(scale=Scale.ASINH, low=low, high=low - low / middle * (CELLS - 1), centre=value, spread=spread)


def _stretched(column: _Column, first: int, last: int) -> Iterator[Grid]:
    """Grids by asinh around what may be the body."""
    import numpy as np

    inner = column.values[first : last + 1]
    low, middle, high = (float(inner[place]) for place in (0, inner.size // 2, -1))
    start, end = np.searchsorted(column.loose, [low, high])
    bodies = dict.fromkeys([*_bodies(inner), *_bodies(column.loose[start:end])])
    for body in bodies:
        centre, spread = blunted(*body), blunted(body[1], body[1])
        line = [math.asinh((value - centre) / spread) for value in (low, middle, high)]
        least, most = (
            _rounded(place) if _is_common(column, value) else _inwards(place, line[1])
            for place, value in ((line[0], low), (line[2], high))
        )
        if math.isfinite(least) and math.isfinite(most) and most - least > 1e-6:
            yield Grid(scale=Scale.ASINH, low=least, high=most, centre=centre, spread=spread)


def _bodies(values: NDArray[np.float64]) -> Iterator[tuple[float, float]]:
    """Where the body of a column may stand, and how wide: in its middle or, where it is skewed, at one of its ends."""
    if not values.size:
        return

    def at(share: float) -> float:
        return float(values[round(share * (values.size - 1))])

    for centre, low, high, part in (
        (0.5, 0.25, 0.75, 0.5),
        (0.5, 0.45, 0.55, 0.5),
        (0.01, 0.01, 0.1, 1),
        (0.01, 0.01, 0.03, 1),
        (0.99, 0.9, 0.99, 1),
        (0.99, 0.97, 0.99, 1),
    ):
        spread = (at(high) - at(low)) * part
        if spread > max(NARROW * abs(at(centre)), NARROWEST):
            yield at(centre), spread


def _blur(grid: Grid, column: _Column) -> float:
    """How much a single cell or tail hides, where 1 is still allowed: the values that are not its commonest one."""
    import numpy as np

    borders = grid.edges()
    size = column.values.size
    inside = np.diff(np.concatenate([[0], np.searchsorted(column.values, borders), [size]]))
    commonest = np.zeros_like(inside)
    np.maximum.at(commonest, np.searchsorted(borders, column.common, side="right"), column.held)
    hidden = (inside - commonest) / size
    tails = max(hidden[0], hidden[-1]) / max(FULL_CELL, 2 * _least(size))
    return float(max(tails, hidden[1:-1].max() / max(FULL_CELL, 5 / size)))


def _is_common(column: _Column, value: float) -> bool:
    """Whether so many rows hold this value that it is no row's own."""
    import numpy as np

    start, end = (int(np.searchsorted(column.values, value, side)) for side in ("left", "right"))
    return end - start >= MIN_BEYOND


def _inwards(end: float, middle: float) -> float:
    """The end blunted towards the middle."""
    step = _step(abs(middle - end))
    if step is None:
        return _rounded(end)
    return _multiple(math.ceil(end / step) if end < middle else math.floor(end / step), step)


def _step(width: float) -> float | None:
    """The power of ten next below a hundredth of a width; None where there is no width."""
    return 10.0 ** math.floor(math.log10(width / 100)) if NARROWEST < width < math.inf else None


def _multiple(times: int, step: float) -> float:
    """So many steps, a power of ten, without the digits that a product of binary numbers adds."""
    return round(times * step, -round(math.log10(step)))


def _rounded(value: float) -> float:
    """Six digits: equal on every machine, and no row's own value."""
    return float(f"{value:.6g}")
