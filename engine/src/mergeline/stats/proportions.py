"""The few statistics that a rollout is judged by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GROUPS = 10


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


def stability_index(reference: NDArray[np.int64], current: NDArray[np.int64]) -> float:
    """How far `current` is from `reference`: the population stability index, with its bias taken off.

    The finest buckets are pooled into at most ten groups that hold about the same share of `reference`. Under no
    change the index is about chi-square distributed, with a mean of (groups - 1) (1/n + 1/m) for n and m scores
    (Yurdakul, 2018); that mean is subtracted, and what is then below 0 is 0. Half a score is added to each group, so
    that an empty one has a logarithm.

    Args:
        reference: counts by bucket, of shape (k,), at least one score.
        current: counts by the same buckets.
    """
    import numpy as np

    total = reference.sum()
    # A bucket goes into the group that its middle falls in, so a bucket of many scores stays alone.
    middles = np.cumsum(reference) - reference / 2
    group = np.minimum((middles * GROUPS / total).astype(np.int64), GROUPS - 1)
    _, group = np.unique(group, return_inverse=True)
    groups = int(group.max()) + 1
    before = np.bincount(group, reference, groups) + 0.5
    after = np.bincount(group, current, groups) + 0.5
    before, after = before / before.sum(), after / after.sum()
    index = float(((after - before) * np.log(after / before)).sum())
    return max(0.0, index - (groups - 1) * (1 / int(total) + 1 / max(int(current.sum()), 1)))


def deviation(count: int, total: float, squares: float) -> float:
    """The standard deviation of `count` numbers from their sum and their sum of squares; 0 where there are none."""
    if count == 0:
        return 0.0
    mean = total / count
    return math.sqrt(max(0.0, squares / count - mean * mean))
