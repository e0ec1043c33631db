"""Lays what a column held before and now over the same places, to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.results import Series
from mergeline.evaluate.slices import free_name
from mergeline.model.bin_counts import CategoryCounts, NumberCounts
from mergeline.model.binning import CELLS
from mergeline.model.profile import CategoryProfile, NumberProfile
from mergeline.watch.drift import Compared, Finding, Status, near
from mergeline.watch.results import Distribution

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.model.binning import Grid

Floats = tuple[float, ...]

DRAWN = 6
PLACES = 30
NAMED = 12
FEW_VALUES = 15
"""A number with no more values than these is shown value by value."""


def distributions(columns: Sequence[Compared], findings: Sequence[Finding]) -> tuple[Distribution, ...]:
    """The columns of the top findings that changed, at most `DRAWN`."""
    known = {(each.part, each.profile.name): each for each in columns}
    wanted = [
        (finding.part, finding.column)
        for finding in findings
        if finding.status in (Status.DRIFT, Status.NOTE) and (finding.part, finding.column) in known
    ]
    return tuple(_distribution(known[key]) for key in list(dict.fromkeys(wanted))[:DRAWN])


def _distribution(column: Compared) -> Distribution:
    profile, counts = column.profile, column.counts
    if isinstance(profile, NumberProfile) and isinstance(counts, NumberCounts):
        if (cells := _single_cells(profile, counts)).size:
            return _values(profile, counts, cells)
        places = _places(profile.grid)
        return _drawn(profile.name, places, _shares(_spread(profile)), _shares(counts.cells.astype(np.float64)))
    if not isinstance(profile, CategoryProfile) or not isinstance(counts, CategoryCounts):
        raise TypeError(f"{profile.name}: the profile and the counts are of different kinds")
    taken = {*profile.counts, *counts.named}
    others, missing = free_name("(others)", taken), free_name("(missing)", taken)
    before = profile.counts | {others: profile.rare, missing: profile.missing}
    now = counts.named | {others: counts.other, missing: counts.missing}
    old, new = max(1, sum(before.values())), max(1, sum(now.values()))
    shares = {name: (count / old, now.get(name, 0) / new) for name, count in before.items()}
    named = sorted(shares, key=lambda name: (-abs(shares[name][0] - shares[name][1]), name))[:NAMED]
    earlier, later = zip(*(shares[name] for name in named), strict=True)
    return _named(profile.name, named, earlier, later)


def _drawn(column: str, places: Floats, before: Floats, now: Floats, named: Sequence[str] = ()) -> Distribution:
    old, new = Series(name="before", x=places, y=before), Series(name="now", x=places, y=now)
    return Distribution(column=column, before=old, now=new, named=tuple(named))


def _named(column: str, named: Sequence[str], before: Sequence[float], now: Sequence[float]) -> Distribution:
    """The shares of values that have a name each."""
    places = tuple(map(float, range(len(named))))
    old, new = (tuple(round(share, 6) for share in shares) for shares in (before, now))
    return _drawn(column, places, old, new, named)


def _single_cells(profile: NumberProfile, counts: NumberCounts) -> NDArray[np.intp]:
    """The cells that hold all values of a number with few of them; none for another number, or one that has tails."""
    last = np.asarray(profile.ends)
    single = np.diff(np.concatenate([[-1], last])) == 1
    before = last[single & (np.asarray(profile.counts) > 0)]
    cells = np.union1d(before, np.flatnonzero(counts.cells))
    tails = cells.size and (cells[0] == 0 or cells[-1] == CELLS + 1)
    return np.zeros(0, dtype=np.intp) if tails or cells.size > FEW_VALUES else cells


def _values(profile: NumberProfile, counts: NumberCounts, cells: NDArray[np.intp]) -> Distribution:
    """A number with few values, value by value."""
    edges = profile.grid.edges()
    old, new = _spread(profile), counts.cells.astype(np.float64)
    held = [(float(edges[cell - 1]), float(edges[cell])) for cell in cells]
    named = [f"{near((low + high) / 2, high - low):g}" for low, high in held]
    before, now = ((each[cells] / max(1.0, each.sum())).tolist() for each in (old, new))
    return _named(profile.name, named, before, now)


def _spread(profile: NumberProfile) -> NDArray[np.float64]:
    """The profile's counts by cell, each bin's spread evenly over its cells, shape (CELLS + 2,)."""
    last = np.asarray(profile.ends)
    widths = np.diff(np.concatenate([[-1], last]))
    return np.repeat(np.asarray(profile.counts) / widths, widths)


def _places(grid: Grid) -> tuple[float, ...]:
    """The middle of each group of cells."""
    edges = grid.edges()
    groups = np.array_split(np.arange(CELLS), PLACES)
    return tuple(float(f"{(edges[group[0]] + edges[group[-1] + 1]) / 2:.6g}") for group in groups)


def _shares(cells: NDArray[np.float64]) -> tuple[float, ...]:
    """The share of the values in each group of cells; the tails belong to the outer ones."""
    inner = cells[1:-1].copy()
    inner[0] += cells[0]
    inner[-1] += cells[-1]
    total = max(1.0, float(inner.sum()))
    return tuple(round(float(group.sum()) / total, 6) for group in np.array_split(inner, PLACES))
