"""Areas under the ROC curve: DeLong's test of two on the same rows, and one on rows that come in runs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RUNS = 25
"""Runs of neighbouring rows that are taken as independent of each other."""


class AucDifference(NamedTuple):
    """The gain in AUC, its standard error, its interval, and the two-sided chance of one as large without any."""

    gain: float
    error: float
    low: float
    high: float
    p_value: float


def delong(truth: NDArray[Any], champion: Floats, challenger: Floats, confidence: float) -> AucDifference | None:
    """Compare two AUCs on the same rows (DeLong, DeLong and Clarke-Pearson, 1988).

    The structural components come from sorting, as in Sun and Xu (2014), in O(n log n). Assumes independent rows
    and enough of each class for the normal distribution to hold.

    Args:
        truth: shape (n,), 1 for positive rows.
        champion: shape (n,), scores.
        challenger: shape (n,), scores; a positive gain means that it is better.
        confidence: of the interval.

    Returns:
        None where either class has fewer than two rows.
    """
    from scipy.special import ndtr, ndtri

    positive = truth == 1
    if positive.sum() < 2 or (~positive).sum() < 2:
        return None
    pairs = zip(_components(positive, challenger), _components(positive, champion), strict=True)
    of_positive, of_negative = (new - old for new, old in pairs)
    gain = float(of_positive.mean())
    error = float(np.sqrt(of_positive.var(ddof=1) / len(of_positive) + of_negative.var(ddof=1) / len(of_negative)))
    reach = float(ndtri((1 + confidence) / 2)) * error
    if error == 0:
        return AucDifference(gain, 0.0, gain, gain, float(gain == 0))
    return AucDifference(gain, error, gain - reach, gain + reach, float(2 * ndtr(-abs(gain) / error)))


def auc_of_runs(scores: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """The AUC of rows that stand in the order of their time, and the chance of one as high where nothing differs.

    Neighbouring rows are no independent witnesses: the AUC's error is that of `RUNS` runs of them, as of clusters
    (Obuchowski, 1997), judged by Student's t with Abramowitz and Stegun's (1964, 26.7.8) approximation.

    Args:
        scores: shape (n,).
        positive: shape (n,), with at least `RUNS` rows of each kind.
    """
    ours, theirs = scores[positive], scores[~positive]
    above, below = share_below(ours, np.sort(theirs)), 1 - share_below(theirs, np.sort(ours))
    auc = float(above.mean())
    runs = [[float(part.mean()) for part in np.array_split(shares, RUNS)] for shares in (above, below)]
    variance = sum(float(np.var(means, ddof=1)) for means in runs) / RUNS
    if variance == 0:
        return auc, 1.0 if auc <= 0.5 else 0.0
    t, freedom = (auc - 0.5) / math.sqrt(variance), RUNS - 1
    z = t * (1 - 1 / (4 * freedom)) / math.sqrt(1 + t * t / (2 * freedom))
    return auc, math.erfc(z / math.sqrt(2)) / 2


def _components(positive: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """For each positive row the share of negatives below it, for each negative the share of positives above it."""
    above, below = scores[positive], scores[~positive]
    return share_below(above, np.sort(below)), 1 - share_below(below, np.sort(above))


def share_below(values: Floats, ascending: Floats) -> Floats:
    """The share of `ascending` that is below each value, ties counted by half."""
    ranks = np.searchsorted(ascending, values, side="left") + np.searchsorted(ascending, values, side="right")
    return np.asarray(ranks / (2 * len(ascending)))
