"""Tests of many slices on paired rows: Student's test against a margin, and the false discovery rate of them all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class PairedTest(NamedTuple):
    """The mean loss that is added, its interval, and the p-value of the test against the margin."""

    added: float
    low: float
    high: float
    p_value: float


def paired_test(added: Floats, margin: Floats | float, confidence: float) -> PairedTest:
    """Student's (1908) one-sided paired test that the mean of `added` exceeds that of `margin`; a two-sided interval.

    Assumes independent rows, and enough of them that their mean is about normal.

    Args:
        added: shape (n,), n ≥ 2: what the challenger loses more than the champion on each row.
        margin: what it may lose more, one number or one a row.
        confidence: of the interval around the mean of `added`.
    """
    from scipy.special import stdtr, stdtrit

    rows = len(added)
    mean, beyond = float(added.mean()), added - margin
    reach = float(stdtrit(rows - 1, (1 + confidence) / 2)) * float(added.std(ddof=1)) / rows**0.5
    error = float(beyond.std(ddof=1)) / rows**0.5
    excess = float(beyond.mean())
    p_value = float(stdtr(rows - 1, -excess / error)) if error > 0 else float(excess <= 0)
    return PairedTest(mean, mean - reach, mean + reach, p_value)


def benjamini_hochberg(p_values: Floats) -> Floats:
    """The q-value of each p-value (Benjamini and Hochberg, 1995); assumes independence or positive dependence."""
    count = len(p_values)
    order: NDArray[np.intp] = np.argsort(-p_values, kind="stable")
    scaled = p_values[order] * count / np.arange(count, 0, -1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return adjusted
