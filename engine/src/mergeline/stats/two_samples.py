"""Two samples compared by their counts: tests, and effect sizes without the bias that small samples give them."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mergeline.stats.paired import share_below

Counts = NDArray[np.int64]

RUNS = 25
"""Runs of neighbouring rows that are taken as independent of each other."""


class Tested(NamedTuple):
    """`effect` is what the samples show; `corrected` leaves out what chance alone would show at these sizes."""

    statistic: float
    p_value: float
    effect: float
    corrected: float


def kolmogorov_smirnov(reference: Counts, current: Counts) -> Tested:
    """The two-sample Kolmogorov-Smirnov test on ordered bins.

    The effect is D, the largest distance of the distribution functions, from 0 to 1. The p-value is Kolmogorov's limit
    (Smirnov, 1948) at the size n·m / (n + m) with Stephens' (1970) correction for finite samples; with ties, as bins
    have them, it is conservative. The corrected effect is the root of D² less π² / 12 / size, the mean of D² under the
    null (the second moment of Kolmogorov's limit).

    Args:
        reference: counts of the bins, shape (b,), with a sum above 0.
        current: the same bins counted in the other sample, with a sum above 0.
    """
    size = _size(reference, current)
    gaps = np.abs(np.cumsum(reference) / reference.sum() - np.cumsum(current) / current.sum())
    distance = float(gaps.max())
    root = math.sqrt(size)
    statistic = (root + 0.12 + 0.11 / root) * distance
    corrected = math.sqrt(max(0.0, distance**2 - math.pi**2 / 12 / size))
    return Tested(distance, kolmogorov_survival(statistic), distance, corrected)


def kolmogorov_survival(value: float) -> float:
    """The chance that Kolmogorov's limit is at least `value` (Kolmogorov, 1933)."""
    if value < 0.2:  # the series below has not settled there, and the chance is 1 to ten digits
        return 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * k * k * value * value) for k in range(1, 101))
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def chi_squared(reference: Counts, current: Counts) -> Tested:
    """Pearson's (1900) test of homogeneity on unordered bins, with Cramér's V as its effect.

    Bins whose expected count is below 5 in either sample are pooled (Cochran, 1954). V (Cramér, 1946) is taken as if
    the samples were of equal size, since V of unequal ones shrinks with their ratio: V² is half the sum of
    (p - q)² / (p + q). Corrected, it loses what the null gives it on average (after Bergsma, 2013).

    Args:
        reference: counts of the bins, shape (b,), with a sum above 0.
        current: the same bins counted in the other sample, with a sum above 0.
    """
    first, second = _pooled(reference, current)
    n, m = first.sum(), second.sum()
    freedom = first.size - 1
    if freedom == 0:
        return Tested(0.0, 1.0, 0.0, 0.0)
    total = first + second
    expected_first, expected_second = total * (n / (n + m)), total * (m / (n + m))
    statistic = float(
        ((first - expected_first) ** 2 / expected_first).sum()
        + ((second - expected_second) ** 2 / expected_second).sum()
    )
    p, q = first / n, second / m
    squared = float(((p - q) ** 2 / (p + q)).sum() / 2)
    pooled = total / (n + m)
    # Under the null p - q has the variance pooled (1 - pooled) (1/n + 1/m) in each bin.
    bias = float((1 - pooled).sum() * (1 / n + 1 / m) / 4)
    return Tested(
        statistic, chi_squared_survival(statistic, freedom), math.sqrt(squared), math.sqrt(max(0.0, squared - bias))
    )


def chi_squared_survival(value: float, freedom: int) -> float:
    """The chance that a chi-squared variable with `freedom` degrees is at least `value`.

    The regularised upper incomplete gamma function, by its series below its mean and by Lentz's continued fraction
    above (Abramowitz and Stegun, 1964, 6.5.29 and 6.5.31).
    """
    if value <= 0:
        return 1.0
    shape, x = freedom / 2, value / 2
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1 / shape
        for step in range(1, 10_000):
            term *= x / (shape + step)
            total += term
            if term < total * 1e-16:
                break
        return max(0.0, 1 - front * total)
    tiny = 1e-300
    b = x + 1 - shape
    c, d = 1 / tiny, 1 / b
    fraction = d
    for step in range(1, 10_000):
        numerator = -step * (step - shape)
        b += 2
        d = 1 / (numerator * d + b or tiny)
        c = b + numerator / c or tiny
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return min(1.0, front * fraction)


def shares_differ(first: int, n: int, second: int, m: int) -> Tested:
    """Whether two shares differ: the z-test with pooled variance; the effect is the difference of the shares.

    For expected counts below 5 the p-value is that of Fisher's (1922) exact test.
    """
    p, q = first / n, second / m
    pooled = (first + second) / (n + m)
    variance = pooled * (1 - pooled) * (1 / n + 1 / m)
    if variance == 0:
        return Tested(0.0, 1.0, 0.0, 0.0)
    rare = min(pooled, 1 - pooled) * min(n, m) < 5
    z = abs(p - q) / math.sqrt(variance)
    p_value = fisher_exact(first, n, second, m) if rare else math.erfc(z / math.sqrt(2))
    corrected = math.sqrt(max(0.0, (p - q) ** 2 - variance))
    return Tested(z, p_value, abs(p - q), corrected)


def fisher_exact(first: int, n: int, second: int, m: int) -> float:
    """The chance of two shares at least as unlikely as `first` of n and `second` of m, if they are of one kind.

    Both sides count (Fisher, 1922): all tables with the same sums that are no likelier than this one. For rare or
    nearly certain events, whose tables are few.
    """
    if n > m:
        first, n, second, m = second, m, first, n
    if first + second > (n + m) / 2:
        first, second = n - first, m - second
    total = first + second
    lowest, highest = max(0, total - m), min(n, total)
    taken = np.arange(lowest, highest)
    steps = np.log(total - taken) + np.log(n - taken) - np.log(taken + 1) - np.log(m - total + taken + 1)
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    chances = np.exp(logs - logs.max())
    as_rare = chances <= chances[first - lowest] * (1 + 1e-7)
    return min(1.0, float(chances[as_rare].sum() / chances.sum()))


def stability_index(reference: Counts, current: Counts, bins: int = 10) -> float:
    """The population stability index on about `bins` ordered bins of equal reference mass, without its bias.

    PSI is the sum of (q - p) ln(q / p); under the null its mean is (bins - 1)(1/n + 1/m) (Yurdakul, 2018), which is
    taken off. Half a row is put into each bin, so that an empty one does not make it infinite.

    Args:
        reference: counts of the bins, shape (b,), with a sum above 0.
        current: the same bins counted in the other sample; its sum may be 0.
        bins: into how many the counts are put together.
    """
    first, second = grouped(reference, current, bins)
    p, q = (first + 0.5) / (first + 0.5).sum(), (second + 0.5) / (second + 0.5).sum()
    bias: float = (p.size - 1) * (1 / int(reference.sum()) + 1 / max(1, int(current.sum())))
    return max(0.0, float(np.sum((q - p) * np.log(q / p))) - bias)


def grouped(reference: Counts, current: Counts, bins: int) -> tuple[Counts, Counts]:
    """Both samples' counts in at most `bins` runs of about equal reference mass, none of them empty in both."""
    groups = np.minimum((np.cumsum(reference) - reference / 2) * bins // reference.sum(), bins - 1).astype(np.int64)
    first, second = (np.bincount(groups, weights=counts).astype(np.int64) for counts in (reference, current))
    keep = (first + second) > 0
    return first[keep], second[keep]


def jensen_shannon(reference: Counts, current: Counts) -> float:
    """The Jensen-Shannon distance in base 2 (Lin, 1991; Endres and Schindelin, 2003), from 0 to 1, without its bias.

    Under the null the divergence is about (b - 1)(1/n + 1/m) / (8 ln 2) on average, by its second-order expansion.
    """
    keep = (reference + current) > 0
    p, q = reference[keep] / reference.sum(), current[keep] / current.sum()
    middle = (p + q) / 2
    divergence = 0.5 * (_entropy(p, middle) + _entropy(q, middle))
    bias = (p.size - 1) * (1 / reference.sum() + 1 / current.sum()) / (8 * math.log(2))
    return math.sqrt(max(0.0, divergence - bias))


def wasserstein(reference: Counts, current: Counts, values: NDArray[np.float64]) -> float:
    """The first Wasserstein distance (Kantorovich, 1942), in standard deviations of the reference.

    Args:
        reference: counts of the bins, shape (b,).
        current: the same bins counted in the other sample.
        values: a value for each bin, ascending.

    Returns:
        The area between the distribution functions over the reference's standard deviation; 0 where that is 0.
    """
    gaps = np.abs(np.cumsum(reference) / reference.sum() - np.cumsum(current) / current.sum())
    area = float((gaps[:-1] * np.diff(values)).sum())
    weights = reference / reference.sum()
    mean = float((weights * values).sum())
    deviation = math.sqrt(float((weights * (values - mean) ** 2).sum()))
    return area / deviation if deviation > 0 else 0.0


def detectable_distance(n: int, m: int, tests: int, discovery_rate: float = 0.05, power: float = 0.8) -> float:
    """The smallest distance D that the test would find with this power, as the only one of `tests` that is true.

    The lone true alternative is judged at `discovery_rate` / `tests`; around a distance D the empirical one has at most
    the standard deviation 1 / (2 √size).
    """
    if not n or not m:
        return 1.0
    size = n * m / (n + m)
    level = discovery_rate / max(1, tests)
    critical = math.sqrt(-math.log(level / 2) / 2)
    return min(1.0, (critical + NormalDist().inv_cdf(power) / 2) / math.sqrt(size))


def _size(reference: Counts, current: Counts) -> float:
    n, m = int(reference.sum()), int(current.sum())
    return n * m / (n + m)


def _pooled(reference: Counts, current: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both samples' counts, with the rare bins put together."""
    n, m = reference.sum(), current.sum()
    total = reference + current
    rare = total * (min(n, m) / (n + m)) < 5
    first, second = reference[~rare].astype(np.float64), current[~rare].astype(np.float64)
    if total[rare].sum() > 0:
        first, second = np.append(first, reference[rare].sum()), np.append(second, current[rare].sum())
        # What was pooled may still be too little; it then joins the smallest of the others.
        if (first[-1] + second[-1]) * (min(n, m) / (n + m)) < 5 and first.size > 1:
            smallest = int((first + second)[:-1].argmin())
            for counts in (first, second):
                counts[smallest] += counts[-1]
            first, second = first[:-1], second[:-1]
    return first, second


def _entropy(p: NDArray[np.float64], middle: NDArray[np.float64]) -> float:
    keep = p > 0
    return float((p[keep] * np.log2(p[keep] / middle[keep])).sum())


def binomial_tail(hits: int, trials: int, share: float) -> float:
    """The probability of `hits` or more in `trials` independent trials that each hit with probability `share`.

    The p-value of the exact binomial test (Clopper and Pearson, 1934) that the true share is not above `share`. Where
    the hits are no more than expected it is given as 1.

    Args:
        hits: how often it happened.
        trials: how often it could have.
        share: strictly between 0 and 1, or 0, where any hit is impossible, or 1, where none is surprising.
    """
    if hits <= trials * share:
        return 1.0
    if share <= 0:
        return 0.0
    ways = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    term = math.exp(ways + hits * math.log(share) + (trials - hits) * math.log1p(-share))
    total = 0.0
    # Above the expected number the terms fall from one to the next.
    while hits <= trials and term > total * 1e-12:
        total += term
        term *= (trials - hits) / (hits + 1) * share / (1 - share)
        hits += 1
    return total


def deviation(count: int, total: float, squares: float) -> float:
    """The standard deviation of `count` numbers from their sum and their sum of squares; 0 where there are none."""
    if count == 0:
        return 0.0
    mean = total / count
    return math.sqrt(max(0.0, squares / count - mean * mean))


def auc_of_runs(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, float]:
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
