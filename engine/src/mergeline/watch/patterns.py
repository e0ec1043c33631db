"""Finds in a number's counts what an upstream change leaves: values moved as a whole, or piled on one of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.model.bin_counts import NumberCounts
    from mergeline.model.profile import NumberProfile

MOST_LEFT = 0.05
"""What is left of the distance D once the values are moved back: a change of shape leaves more."""
LEAST_MOVED = 0.1
"""A distance below it may be of any shape."""
LEAST_COVERED = 0.4
"""Share of the training rows that must be seen on both sides of the move."""
LEAST_PILED, LEAST_PILED_FAR = 0.1, 0.2
"""What one cell, or a tail, holds more than before: no change of a population gathers there."""
CONSTANT = 0.98
"""Share of the values that are all alike where nothing else is said any more."""
FEWEST_VALUES = 5
"""With fewer, a share that moves looks like all of these."""
MOST_WHOLE = 1000
"""Whole numbers that are looked at one by one."""
CYCLES = ((24, 0), (7, 0), (7, 1), (12, 1), (60, 0))
"""Values that begin anew, as hours do: how many, and the first."""


def patterns(profile: NumberProfile, counts: NumberCounts) -> dict[str, float]:
    """What the window's values look like beside those of training.

    Returns:
        `beyond`: the share that is further out than training's grid, from one half on, where the median is not known;
        `piled`: the share that one value gained while the others stayed; `offset`: by how much all values moved;
        `turned`: by how many places on a cycle, as that of hours. A key is there only where the window looks so.
    """
    cells, training = counts.cells, np.asarray(profile.counts, dtype=np.float64)
    total, known = float(cells.sum()), float(training.sum())
    if not total or not known:
        return {}
    beyond = float(max(cells[0], cells[-1])) / total
    if beyond >= 0.5:
        return {"beyond": beyond}
    piled = _piled(profile, cells / total, training / known)
    if piled is not None:
        return {"piled": piled}
    if np.count_nonzero(training) < FEWEST_VALUES:
        return {}
    moved = _Moved(profile, cells / total, training / known)
    for name, found in (("offset", moved.on_a_line()), ("turned", moved.on_a_cycle())):
        if found is not None:
            return {name: found}
    return {}


def _piled(profile: NumberProfile, cells: NDArray[np.float64], training: NDArray[np.float64]) -> float | None:
    """The share that one cell has more than its whole bin had, where what is beside it is as it was."""
    ends = np.asarray(profile.ends)
    bins = np.searchsorted(ends, np.arange(cells.size))
    rise = cells - training[bins]
    place = int(np.argmax(rise))
    least = LEAST_PILED_FAR if place in (0, cells.size - 1) else LEAST_PILED
    gained = rise[place] >= max(least, 3 * training[bins[place]])
    if not gained and not (cells[place] >= CONSTANT and rise[place] >= least):
        return None
    now, before = np.bincount(bins, cells), training.copy()
    now[bins[place]] = before[bins[place]] = 0.0
    rest = now.sum()
    if rest > MOST_LEFT:  # else nothing else is left
        distance = np.abs(np.cumsum(now) / rest - np.cumsum(before) / max(before.sum(), 1e-9)).max()
        if distance > MOST_LEFT:
            return None
    return float(rise[place])


class _Moved:
    """Both distribution functions: training's at the ends of its bins, the window's at those of the cells."""

    def __init__(self, profile: NumberProfile, cells: NDArray[np.float64], training: NDArray[np.float64]) -> None:
        self.edges = profile.grid.edges()
        self.now = np.cumsum(cells)[:-1]
        self.ends = self.edges[np.minimum(np.asarray(profile.ends[:-1]), self.edges.size - 1)]
        self.before = np.cumsum(training)[:-1]

    def on_a_line(self) -> float | None:
        """By how much the window is training moved along."""
        there = np.abs(np.interp(self.ends, self.edges, self.now) - self.before).max()
        middles = [float(np.interp(0.5, *each)) for each in ((self.now, self.edges), (self.before, self.ends))]
        guess = middles[0] - middles[1]
        if not math.isfinite(guess):
            return None
        # Between whole numbers, where there are only such, both functions are flat.
        last = min(np.floor(self.ends[-1]), np.floor(self.ends[0]) + MOST_WHOLE)
        between = np.arange(np.floor(self.ends[0]), last) + 0.5
        for offset, points in ((guess, self.ends), (float(round(guess)), between)):
            moved, before = points + offset, np.interp(points, self.ends, self.before)
            seen = (moved >= self.edges[0]) & (moved <= self.edges[-1])
            if not seen.any() or np.ptp(before[seen]) < LEAST_COVERED:
                continue
            places = moved[seen]
            left = np.abs(np.interp(places, self.edges, self.now) - before[seen]).max()
            if offset and left <= MOST_LEFT and there >= LEAST_MOVED:
                return offset
        return None

    def on_a_cycle(self) -> float | None:
        """By how many places whole numbers are turned, as the hours of another time zone are."""
        low, high = self.edges[0], self.edges[-1]
        for period, first in CYCLES:
            values = np.arange(first, first + period)
            if low < first - 1 or high > first + period or high - low < period / 2:
                continue
            before, now = (self._shares(values, *each) for each in ((self.ends, self.before), (self.edges, self.now)))
            unseen = (values < low) | (values > high)
            turned = [self._left(np.roll(before, step), now, unseen) for step in range(period)]
            step = int(np.argmin(turned))
            if step and turned[step] <= 2 * MOST_LEFT and turned[0] >= 3 * turned[step]:
                return float(step if step <= period / 2 else step - period)
        return None

    @staticmethod
    def _shares(
        values: NDArray[np.int_], places: NDArray[np.float64], held: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Of whole numbers, by a distribution function; what lies in its tails is nobody's."""
        return np.diff(np.interp(np.append(values - 0.5, values[-1] + 0.5), places, held))

    @staticmethod
    def _left(before: NDArray[np.float64], now: NDArray[np.float64], unseen: NDArray[np.bool_]) -> float:
        """Half the sum of what differs; values that lie in a tail count as one."""
        apart = np.abs(before - now)[~unseen].sum() + abs(before[unseen].sum() - (1 - now[~unseen].sum()))
        return float(apart) / 2
