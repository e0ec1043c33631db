"""Statistics of sorted rows, for many weightings of the rows after one sort."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[Any]


class Ranking:
    """One sort by falling score, from which any weighting gives ROC AUC and average precision.

    Only groups of tied scores that hold a positive row matter: for each of them it keeps where the group begins
    and ends, among all rows and among the positive ones, so that a weighting costs one cumulative sum over each.

    Args:
        positive: shape (n,), whether each row is positive.
        scores: shape (n,), higher where positive is likelier.
    """

    def __init__(self, positive: NDArray[np.bool_], scores: Floats) -> None:
        order = np.argsort(-scores, kind="stable")
        ranked, falling = positive[order], scores[order]
        places = np.flatnonzero(ranked)
        self._order, self._positives = order.astype(np.int32), places.astype(np.int32)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(falling) != 0) + 1, [len(falling)]])
        group = np.searchsorted(starts, places, side="right") - 1
        held = np.unique(group)
        before = np.concatenate([[0], np.cumsum(ranked)])
        self._start, self._end = starts[held], starts[held + 1]
        self._positive_start, self._positive_end = before[self._start], before[self._end]
        self._tied = len(held) < len(places) or bool((self._end - self._start > 1).any())

    def measure(self, batch: Numbers) -> tuple[Floats, Floats]:
        """AUC and average precision of each weighting; NaN where it leaves no positive or no negative row.

        Args:
            batch: shape (b, n), the weights.
        """
        number = np.int32 if batch.dtype.kind in "ui" else np.float64
        ranked: Numbers = np.take(batch, self._order, axis=1)
        weight: Numbers = np.take(ranked, self._positives, axis=1)
        above: Numbers = np.cumsum(ranked, axis=1, dtype=number)
        hits: Numbers = np.cumsum(weight, axis=1, dtype=number)
        total = above[:, -1].astype(np.float64)
        positive = hits[:, -1].astype(np.float64) if hits.shape[1] else np.zeros(len(batch))
        negative = total - positive
        if self._tied:
            above, hits = _led_by_zero(above), _led_by_zero(hits)
            here, hits_before = hits[:, self._positive_end], hits[:, self._positive_start]
            taken, taken_before = above[:, self._end], above[:, self._start]
            weight = here - hits_before
            misses = (taken - here).astype(np.float64) + (taken_before - hits_before)
        else:
            here, taken = hits, np.take(above, self._positives, axis=1)
            misses = 2.0 * (taken - here)
        wrong = np.einsum("ij,ij->i", weight, misses) / 2
        precision = here / np.maximum(taken, np.finfo(np.float64).tiny)
        gained = np.einsum("ij,ij->i", weight, precision)
        both = (positive > 0) & (negative > 0)
        pairs = np.where(both, positive * negative, 1.0)
        auc = np.where(both, 1 - wrong / pairs, np.nan)
        return auc, np.where(both, gained / np.where(both, positive, 1.0), np.nan)


def order_statistic(ascending: Floats, cumulative: Floats, share: float) -> Floats:
    """The quantile `share` of each weighting, interpolated linearly between its neighbours (Hyndman and Fan's type 7).

    Args:
        ascending: shape (n,), the sorted values.
        cumulative: shape (b, n), the cumulative weights in that order; weights are frequencies.
        share: between 0 and 1.
    """
    place = share * (cumulative[:, -1] - 1)
    lower, upper = (
        np.array([np.searchsorted(row, at, side="right") for row, at in zip(cumulative, edge, strict=True)])
        for edge in (np.floor(place), np.ceil(place))
    )
    last = len(ascending) - 1
    low, high = ascending[np.minimum(lower, last)], ascending[np.minimum(upper, last)]
    return np.asarray(low + (high - low) * (place - np.floor(place)))


def _led_by_zero(sums: Numbers) -> Numbers:
    return np.concatenate([np.zeros((len(sums), 1), dtype=sums.dtype), sums], axis=1)
