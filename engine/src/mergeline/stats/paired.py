"""Two models on the same rows: DeLong's and Student's tests, resampling, false discoveries, and what rows can show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Measure = Callable[[NDArray[Any]], dict[str, Floats]]
"""Statistics by name, each of shape (b,), of a batch of row weights of shape (b, n)."""

STREAM = 20_130_607
"""Keeps these draws apart from every other use of the model's seed."""

CELLS = 2**18
"""Counts drawn at once: small enough to stay in the processor's cache."""

DEFINED_SHARE = 0.95
"""An interval needs a value in at least this share of the resamples."""


def resample(measures: Sequence[Measure], rows: int, *, resamples: int, seed: int) -> list[dict[str, Floats]]:
    """Every statistic of every model on the same resamples of the rows (Efron, 1979).

    Rows are drawn with replacement, so they are taken as independent.

    Args:
        measures: one for each model.
        rows: how many there are, n.
        resamples: how many.
        seed: of the draws; the answer depends on nothing else, the number of threads included.

    Returns:
        For each model and statistic an array of shape (resamples,), NaN where a resample leaves it undefined.
    """
    from threadpoolctl import threadpool_limits

    found: list[list[dict[str, Floats]]] = [[] for _ in measures]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, STREAM])))
    size = max(1, CELLS // rows)
    # Threads of the matrix product would only wait for each other at these sizes, and change the last bits.
    with threadpool_limits(limits=1, user_api="blas"):
        for start in range(0, resamples, size):
            counts = draw_counts(rng, min(size, resamples - start), rows)
            for answers, measured in zip(found, measures, strict=True):
                answers.append(measured(counts))
    return [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]} for parts in found]


def draw_counts(rng: np.random.Generator, resamples: int, rows: int) -> NDArray[Any]:
    """How often each row is drawn in each resample, shape (resamples, rows)."""
    # A row is drawn once on average: beyond 255 draws of one row of many are less likely than a broken processor.
    kind = np.uint8 if rows > 255 else np.uint16
    counts = np.empty((resamples, rows), dtype=kind)
    for place in range(resamples):
        drawn = rng.integers(0, rows, size=rows, dtype=np.uint32)
        counts[place] = np.bincount(drawn, minlength=rows)
    return counts


def percentile_interval(draws: Floats, confidence: float) -> tuple[float, float] | None:
    """The percentile interval (Efron, 1979) of the draws that are defined; None where those are too few."""
    defined = draws[np.isfinite(draws)]
    if len(defined) < DEFINED_SHARE * len(draws) or len(defined) == 0:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


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
    return share_below(above, np.sort(below)), 1 - share_below(below, np.sort(above))


def share_below(values: Floats, ascending: Floats) -> Floats:
    """The share of `ascending` that is below each value, ties counted by half."""
    ranks = np.searchsorted(ascending, values, side="left") + np.searchsorted(ascending, values, side="right")
    return np.asarray(ranks / (2 * len(ascending)))
