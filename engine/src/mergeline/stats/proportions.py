"""Statistics of running counts and sums, without an array: what a rollout is judged by."""

from __future__ import annotations

import math


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
