"""Tests on paired rows: Student's against a margin, the false discovery rate of many, and what rows can show."""

from __future__ import annotations

import math
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


class Detection(NamedTuple):
    """The probability that a difference shows, and the number of rows from which on it shows with the one asked for."""

    power: float
    rows_needed: int


def detection(error: float, rows: int, difference: float, *, confidence: float, target: float) -> Detection:
    """How well paired rows show a difference: a power analysis of the normal test (Cohen, 1988).

    The difference shows where the two-sided interval of the estimate lies above zero. A challenger that is equal to the
    champion is shown to be no worse than by `difference` with the same probability. Assumes an estimate that is about
    normal, with an error that falls with the root of the rows.

    Args:
        error: the estimate's standard error on `rows` rows, above 0.
        rows: how many there are.
        difference: above 0, in the estimate's unit.
        confidence: of the interval.
        target: the probability that is asked for, as 0.8.
    """
    from scipy.special import ndtr, ndtri

    reach = float(ndtri((1 + confidence) / 2))
    needed = rows * ((reach + float(ndtri(target))) * error / difference) ** 2
    return Detection(float(ndtr(difference / error - reach)), max(2, math.ceil(needed)))
