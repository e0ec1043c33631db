"""Takes the metrics of a rollout's analysis from what was counted."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from mergeline.serve.rollout.counts import (
    DIFFERENT,
    FAILED,
    INVALID,
    RECORDS,
    REQUESTS,
    SCORE_SQUARES,
    SCORE_SUM,
    Counts,
    Role,
    latency_quantile,
)
from mergeline.stats.two_samples import deviation, stability_index

Scorer = Literal["candidate", "shadow"]


class Reading(NamedTuple):
    """A metric as it stands: no value where there is nothing to take it from; `error` where taking it failed."""

    value: float | None
    samples: int
    error: str = ""


def measure(metric: str, counts: Counts, role: Scorer) -> Reading:
    """The value of `metric` over the window `counts`, and how many requests, records or pairs it rests on.

    Args:
        metric: one of `release.manifest.ROLLOUT_METRICS`.
        counts: what was counted in the window.
        role: how the candidate scored: in its own requests, or beside stable.
    """
    return MEASURES[metric](counts, role)


def disagreement(counts: Counts) -> Reading:
    """Over the records that both models scored: the share that got another label.

    For a regression, whose answers have no label: the mean absolute difference of the two values, in standard
    deviations of stable's values.
    """
    pairs = counts.pairs
    if pairs == 0:
        return Reading(None, 0)
    value = int(counts.common[DIFFERENT]) / pairs
    if counts.distance:
        spread = spread_of(counts, "stable", "mirror")
        value = counts.distance / pairs / spread if spread else math.inf
    return Reading(min(value, 1e9), pairs)


def scored(counts: Counts, role: Role) -> int:
    """How many usable scores `role` gave."""
    return int(counts.scores(role).sum())


def spread_of(counts: Counts, *roles: Role) -> float:
    """The standard deviation of all that these roles scored; stable scores as `mirror` beside the candidate."""
    return deviation(
        sum(scored(counts, role) for role in roles),
        sum(counts.sum_of(role, SCORE_SUM) for role in roles),
        sum(counts.sum_of(role, SCORE_SQUARES) for role in roles),
    )


def _share(counts: Counts, role: Role, part: int, whole: int) -> Reading:
    total = counts.of(role, whole)
    return Reading(counts.of(role, part) / total if total else None, total)


def _latency(counts: Counts, role: Role, share: float) -> Reading:
    seconds = latency_quantile(counts.latencies(role), share)
    return Reading(None if seconds is None else seconds * 1e3, counts.of(role, REQUESTS))


def _compare(candidate: Reading, stable: Reading, combine: Callable[[float, float], float]) -> Reading:
    """The candidate's value against stable's; the poorer of the two tells how much they rest on."""
    samples = min(candidate.samples, stable.samples)
    if candidate.value is None or stable.value is None:
        return Reading(None, samples)
    return Reading(combine(candidate.value, stable.value), samples)


def _score_shift(counts: Counts, role: Role) -> Reading:
    samples = min(scored(counts, role), scored(counts, "stable"))
    if samples == 0:
        return Reading(None, 0)
    return Reading(stability_index(counts.scores("stable"), counts.scores(role)), samples)


def _mean_shift(counts: Counts, role: Role) -> Reading:
    candidate, stable = scored(counts, role), scored(counts, "stable")
    samples = min(candidate, stable)
    if samples == 0:
        return Reading(None, 0)
    difference = counts.sum_of(role, SCORE_SUM) / candidate - counts.sum_of("stable", SCORE_SUM) / stable
    spread = deviation(stable, counts.sum_of("stable", SCORE_SUM), counts.sum_of("stable", SCORE_SQUARES))
    if spread == 0:
        return Reading(0.0 if difference == 0 else 1e9, samples)
    return Reading(abs(difference) / spread, samples)


def _against_stable(
    read: Callable[[Counts, Role], Reading], combine: Callable[[float, float], float]
) -> Callable[[Counts, Scorer], Reading]:
    return lambda counts, role: _compare(read(counts, role), read(counts, "stable"), combine)


_p50, _p99 = partial(_latency, share=0.5), partial(_latency, share=0.99)
_error_rate = partial(_share, part=FAILED, whole=REQUESTS)

MEASURES: dict[str, Callable[[Counts, Scorer], Reading]] = {
    "error_rate": _error_rate,
    "error_rate_difference": _against_stable(_error_rate, operator.sub),
    "invalid_rate": partial(_share, part=INVALID, whole=RECORDS),
    "p50_ms": _p50,
    "p99_ms": _p99,
    "p50_ratio": _against_stable(_p50, operator.truediv),
    "p99_ratio": _against_stable(_p99, operator.truediv),
    "disagreement": lambda counts, _: disagreement(counts),
    "score_shift": _score_shift,
    "mean_shift": _mean_shift,
}
