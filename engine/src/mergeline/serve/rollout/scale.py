"""The buckets that latencies and scores are counted in: sums over workers then still give quantiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LATENCIES_A_DECADE = 24
LATENCY_DECADES = 8
LATENCIES = LATENCIES_A_DECADE * LATENCY_DECADES + 2
"""From a microsecond to 100 seconds in steps of 10 %, what is quicker, and what is slower."""

_STEP = math.log(1.2)
_LOG_MILLION = math.log(1e6)
_BELOW = math.ceil(math.log(1e18) / _STEP)  # from -1e12 to -1e-6
_LOGIT_STEP = 0.1
_LOGITS = 201  # log-odds from -20 to 20, both ends with what is beyond
_WITHIN = 2 * _LOGITS - 1
_ABOVE = math.ceil(math.log(1e12) / _STEP)  # from 1 to 1e12
SCORES = _BELOW + _WITHIN + _ABOVE


def latency_bucket(seconds: float) -> int:
    """The bucket of a duration; its upper edge is inclusive, as in Prometheus."""
    microseconds = seconds * 1e6
    if microseconds <= 1:
        return 0
    return min(math.ceil(LATENCIES_A_DECADE * math.log10(microseconds) - 1e-9), LATENCIES - 1)


def latency_edge(bucket: int) -> float:
    """The upper edge of a bucket, in seconds; the last one has none."""
    return math.inf if bucket >= LATENCIES - 1 else 1e-6 * 10 ** (bucket / LATENCIES_A_DECADE)


def latency_quantile(counts: Sequence[int], share: float) -> float | None:
    """The `share` quantile of counted durations in seconds, at most 5 % off; None where nothing was counted.

    By nearest rank, as the middle of its bucket. What is beyond 100 seconds counts as 100 seconds.
    """
    rank = max(1, math.ceil(share * sum(counts)))
    seen = 0
    for bucket, count in enumerate(counts):
        seen += count
        if count and seen >= rank:
            upper = latency_edge(min(bucket, LATENCIES - 2))
            middle = 10 ** (-0.5 / LATENCIES_A_DECADE) if 0 < bucket < LATENCIES - 1 else 1.0
            return upper * middle
    return None


def score_bucket(score: float) -> int:
    """The bucket of a finite score; buckets grow with scores.

    Probabilities are told apart by their log-odds, so that 0.001 and 0.01 are as far from each other as 0.99 and
    0.999; beyond 0 and 1, where only a regression goes, numbers are told apart by their order of size.
    """
    if 0 <= score <= 1:
        if score in (0, 1):
            return _BELOW + (_WITHIN - 1 if score else 0)
        logit = math.log(score / (1 - score))
        return _BELOW + min(max(round(logit / _LOGIT_STEP) + _LOGITS - 1, 0), _WITHIN - 1)
    if score > 1:
        return _BELOW + _WITHIN + min(int(math.log(score) / _STEP), _ABOVE - 1)
    return _BELOW - 1 - min(max(int((math.log(-score) + _LOG_MILLION) / _STEP), 0), _BELOW - 1)


def score_buckets(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """`score_bucket` of every one of n finite scores."""
    import numpy as np

    if scores.min() < 0 or scores.max() > 1:
        return np.array([score_bucket(score) for score in scores.tolist()], dtype=np.int64)
    with np.errstate(divide="ignore"):  # 0 and 1 have no odds; they get the outermost buckets
        logits = np.log(scores / (1 - scores))
    within = np.clip(np.rint(logits / _LOGIT_STEP) + _LOGITS - 1, 0, _WITHIN - 1)
    buckets: NDArray[np.int64] = (within + _BELOW).astype(np.int64)
    return buckets
