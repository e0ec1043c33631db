"""DeLong's test of two correlated areas under the ROC curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.evaluate.scoring import Floats

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def _components(positive: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    """For each positive row the share of negatives below it, for each negative the share of positives above it."""
    above, below = scores[positive], scores[~positive]
    return _share_below(above, np.sort(below)), 1 - _share_below(below, np.sort(above))


def _share_below(values: Floats, ascending: Floats) -> Floats:
    """The share of `ascending` that is below each value, ties counted by half."""
    ranks = np.searchsorted(ascending, values, side="left") + np.searchsorted(ascending, values, side="right")
    return np.asarray(ranks / (2 * len(ascending)))
