"""Compares what the labels of a window say with what the holdout promised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from mergeline.documents import Frozen
from mergeline.evaluate.compare import margin_in
from mergeline.evaluate.metrics import estimates
from mergeline.evaluate.results import Estimate, Metric
from mergeline.params import Task
from mergeline.stats.two_samples import chi_squared_survival
from mergeline.watch.estimate import expected_outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.evaluate.scoring import Scored
    from mergeline.model.profile import Calibration
    from mergeline.params import Params

MIN_LABELLED = 100
"""With fewer labels an interval says little, and a resample often holds one class only."""

RESAMPLED_ROWS = 20_000_000
"""Rows drawn in all; with many rows fewer resamples do."""

GROWS_IN_SMALL_SAMPLES = frozenset({"calibration_error"})
"""Metrics whose mean depends on the number of rows: few rows are no worse than many for that. What the scores mean is
tested by `meaning_changes`."""

MEANING_LEVEL = 0.01
"""The chance that scores which mean what they meant are said not to."""


class Level(StrEnum):
    """How the live value stands to the holdout's: `unclear` where the interval holds both."""

    HELD = "held"
    WORSE = "worse"
    UNCLEAR = "unclear"


class LiveMetric(Frozen):
    """One metric of the window beside the holdout's; `change` is live less holdout, with its interval.

    `expected` is what these rows' scores alone would make it if they meant what they meant on the holdout: from the
    holdout's value to it the inputs explain the change, from there to the live value they do not.
    """

    name: str
    higher_is_better: bool
    live: Estimate
    holdout: Estimate | None
    expected: float | None
    change: Estimate | None
    margin: float
    level: Level


class MeaningChange(Frozen):
    """Whether scores still mean what they meant: outcomes by score bin against the profile's calibration.

    `gap` is the mean absolute difference, weighted by the window's rows and without its bias, in the outcome's unit;
    `before` and `after` are the mean outcome by the calibration and by the labels.
    """

    name: str
    rows: int
    before: float
    after: float
    gap: float
    bound: float
    p_value: float
    changed: bool


def live_metrics(
    scored: Scored,
    promised: tuple[Metric, ...],
    promised_rows: int,
    params: Params,
    expected: Mapping[str, float] | None = None,
) -> tuple[LiveMetric, ...]:
    """Every metric of the window, and how it stands to the holdout's.

    The two are of different rows: their intervals are joined as those of independent estimates, each taken as symmetric
    in the mean of its two halves. A metric is worse where the whole interval of its change lies beyond the gate's
    margin, held where none of it does. One that depends on the number of rows is not compared.

    Args:
        scored: truth and scores of the labelled rows.
        promised: what the evaluation measured of the same model.
        promised_rows: on so many rows; where a promise has no interval, the window's is scaled to them.
        params: the gate's margin and confidence, the number of resamples and the seed.
        expected: estimates of the same rows without their labels.
    """
    rows = len(scored.truth)
    if rows < MIN_LABELLED:
        return ()
    found = _measured(scored, rows, params)
    known = {metric.name: metric.estimate for metric in promised}
    scale = math.sqrt(rows / max(1, promised_rows))
    guessed = expected or {}
    return tuple(_against(metric, known, scale, guessed.get(metric.name), params) for metric in found)


def compare_unpaired(candidate: Scored, stable: Scored, params: Params) -> tuple[LiveMetric, ...]:
    """The candidate's metrics against those of the stable model on other rows, both with intervals."""
    rows = max(len(candidate.truth), len(stable.truth))
    known = {metric.name: metric.estimate for metric in _measured(stable, rows, params)}
    return tuple(_against(metric, known, 1.0, None, params) for metric in _measured(candidate, rows, params))


def _measured(scored: Scored, rows: int, params: Params) -> tuple[Metric, ...]:
    """Every metric with its interval, from fewer resamples where there are many rows."""
    resamples = max(200, min(params.evaluation.resamples, RESAMPLED_ROWS // rows))
    return estimates(scored, resamples=resamples, confidence=params.gate.confidence, seed=params.model.seed)


def meaning_changes(
    scored: Scored, calibration: tuple[Calibration, ...], min_change: float
) -> tuple[MeaningChange, ...]:
    """Test each class's outcomes, or a regression's errors, by score bin.

    The sum over bins of (observed - expected)² / variance is chi-squared under the null (after Hosmer and Lemeshow,
    1980), with the variance of both the window's bin and the profile's. What a bin's scores promise is interpolated, so
    that a shift of the scores within a bin is no change of their meaning.

    Args:
        scored: truth and scores of the labelled rows.
        calibration: one for each column of the scores, in their order.
        min_change: the smallest change that counts, in probability, or as a share of a regression's mean error.
    """
    rows = len(scored.truth)
    if rows < MIN_LABELLED:
        return ()
    columns = scored.scores.reshape(rows, -1)
    found = []
    for place, known in enumerate(calibration):
        if scored.task is Task.REGRESSION:
            outcomes = np.abs(scored.scores - scored.truth)
        elif scored.task is Task.BINARY:
            outcomes = scored.truth.astype(np.float64)
        else:
            outcomes = (scored.truth == place).astype(np.float64)
        found.append(_meaning(columns[:, place], outcomes, known, min_change, task=scored.task, tests=len(calibration)))
    return tuple(found)


def _against(
    metric: Metric, known: Mapping[str, Estimate], scale: float, expected: float | None, params: Params
) -> LiveMetric:
    live, promised, gate = metric.estimate, known.get(metric.name), known.get(params.gate.metric)
    base = live.value if promised is None else promised.value
    margin = margin_in(metric.name, base, params, gate_metric=None if gate is None else gate.value)
    change, level = None, Level.UNCLEAR
    comparable = metric.name not in GROWS_IN_SMALL_SAMPLES
    if comparable and promised is not None and live.low is not None and live.high is not None:
        own = (live.high - live.low) / 2
        bounded = promised.low is not None and promised.high is not None
        other = (promised.high - promised.low) / 2 if bounded else own * scale  # type: ignore[operator]
        reach, gap = math.hypot(own, other), live.value - promised.value
        change = Estimate(value=gap, low=gap - reach, high=gap + reach)
        lost = -gap if metric.higher_is_better else gap
        level = Level.WORSE if lost - reach > margin else Level.HELD if lost + reach <= margin else Level.UNCLEAR
    return LiveMetric(
        name=metric.name,
        higher_is_better=metric.higher_is_better,
        live=live,
        holdout=promised,
        expected=expected,
        change=change,
        margin=margin,
        level=level,
    )


def _meaning(
    scores: NDArray[np.float64],
    outcomes: NDArray[np.float64],
    known: Calibration,
    min_change: float,
    *,
    task: Task,
    tests: int,
) -> MeaningChange:
    borders = (np.array(known.scores[1:]) + np.array(known.scores[:-1])) / 2
    bins = np.searchsorted(borders, scores)
    counts = np.bincount(bins, minlength=len(known.scores)).astype(np.float64)
    expected = np.bincount(bins, weights=expected_outcome(scores, known), minlength=counts.size)
    observed = np.bincount(bins, weights=outcomes, minlength=counts.size)
    squares = np.bincount(bins, weights=outcomes**2, minlength=counts.size)
    enough = counts >= 20  # a normal limit needs some rows
    before, after = float(expected.sum() / counts.sum()), float(outcomes.mean())
    bound = min_change * (before if task is Task.REGRESSION else 1.0)
    gap, p_value = 0.0, 1.0
    if enough.any():
        n, sizes = counts[enough], np.array(known.rows, dtype=np.float64)[enough]
        mean, promise = observed[enough] / n, expected[enough] / n
        if task is Task.REGRESSION:
            spread = np.maximum(squares[enough] / n - mean**2, 0.0)
        else:  # by what is expected: a bin without a single hit has no spread of its own
            pooled = np.clip(
                (observed[enough] + promise * sizes) / (n + sizes), 0.5 / (n + sizes), 1 - 0.5 / (n + sizes)
            )
            spread = pooled * (1 - pooled)
        variance = np.maximum(spread * (1 / n + 1 / sizes), np.finfo(np.float64).tiny)
        gaps = mean - promise
        p_value = chi_squared_survival(float((gaps**2 / variance).sum()), int(enough.sum()))
        gap = float((np.sqrt(np.maximum(0.0, gaps**2 - variance)) * n).sum() / n.sum())
    return MeaningChange(
        name=known.name,
        rows=len(scores),
        before=before,
        after=after,
        gap=gap,
        bound=bound,
        p_value=p_value,
        changed=p_value * tests <= MEANING_LEVEL and gap >= bound,  # one test a class (Bonferroni)
    )
