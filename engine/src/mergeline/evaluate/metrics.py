"""The metrics of each task, for many weightings of the same rows at once.

Every metric is computed for a batch of row weights of shape (b, n): one row of ones measures the holdout, and
rows of bootstrap counts measure its resamples, by the same code. Weights are frequencies: a row with weight 2
counts as two equal rows. What a weighting leaves undefined (a ranking without two classes, an R² of a constant
target) is NaN in a batch, and left out of `measure`.

Sources: the area under the ROC curve by midranks (Hanley and McNeil, 1982); average precision as the step-wise
sum over distinct scores, without interpolation; the Brier score (Brier, 1950), for more than two classes
the sum over all of them; the expected calibration error over `BINS` bins of equal mass (Naeini, Cooper and
Hauskrecht, 2015), whose bins are cut once on the whole holdout. It is never negative, so noise alone keeps it, and
its resamples more so, above zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergeline.evaluate.results import Estimate, Metric
from mergeline.evaluate.scoring import Floats, Scored
from mergeline.params import METRICS, Task
from mergeline.stats import paired

Batch = NDArray[Any]
Measure = Callable[[Batch], dict[str, Floats]]

BINS = 10
"""Bins of the calibration error, of equal mass."""

LOSS = {Task.BINARY: "log_loss", Task.MULTICLASS: "log_loss", Task.REGRESSION: "mae"}
"""The metric of each task that is a mean over rows, sensitive and defined on every slice."""


def measure(scored: Scored, weights: NDArray[Any] | None = None) -> dict[str, float]:
    """The metrics that are defined on these rows, in the order of `METRICS`.

    Args:
        scored: truth and scores of n rows.
        weights: shape (n,), how often each row counts; None counts each once.
    """
    if len(scored.truth) == 0:
        return {}
    batch = np.ones((1, len(scored.truth))) if weights is None else np.asarray(weights)[np.newaxis]
    found = prepare(scored)(batch)
    return {name: float(found[name][0]) for name in METRICS[scored.task] if np.isfinite(found[name][0])}


def prepare(scored: Scored) -> Measure:
    """Sort and tabulate once; the answer measures any batch of weights, each metric as shape (b,)."""
    return {Task.BINARY: _binary, Task.MULTICLASS: _multiclass, Task.REGRESSION: _regression}[scored.task](scored)


def row_losses(scored: Scored) -> Floats:
    """Each row's share of `LOSS`: negative log-likelihood in nats, or absolute error in the target's unit."""
    if scored.task is Task.REGRESSION:
        return np.asarray(np.abs(scored.scores - scored.truth))
    if scored.task is Task.BINARY:
        given = np.where(scored.truth == 1, scored.scores, 1 - scored.scores)
    else:
        given = scored.scores[np.arange(len(scored.truth)), scored.truth]
    return np.asarray(-np.log(np.maximum(given, np.finfo(np.float64).eps)))


def calibration_bins(confidence: Floats) -> NDArray[np.intp]:
    """The bin of each row: `BINS` of equal mass; rows of one score share one bin, so there may be fewer."""
    edges = np.quantile(confidence, np.arange(1, BINS) / BINS)
    return np.searchsorted(edges, confidence, side="right")


def _binary(scored: Scored) -> Measure:
    truth, scores = scored.truth.astype(np.float64), scored.scores
    predicted = scored.labels().astype(np.float64)
    ranking = Ranking(scored.truth == 1, scores)
    squares, gaps = (scores - truth) ** 2, _gap_columns(scores, truth)
    table = np.column_stack(
        [np.ones_like(truth), row_losses(scored), squares, truth, predicted, truth * predicted, *gaps]
    )

    def measured(batch: Batch) -> dict[str, Floats]:
        sums = (batch.astype(np.float64) @ table).T
        total, loss, square, actual, labelled, hits = sums[:6]
        rejected = total - actual - labelled + hits
        auc, precision = ranking.measure(batch)
        return {
            "roc_auc": auc,
            "average_precision": precision,
            "log_loss": ratio(loss, total),
            "brier": ratio(square, total),
            "calibration_error": ratio(np.abs(sums[6:]).sum(axis=0), total),
            "accuracy": ratio(hits + rejected, total),
            "balanced_accuracy": (ratio(hits, actual) + ratio(rejected, total - actual)) / 2,
            "f1": ratio(2 * hits, actual + labelled),
        }

    return measured


def _multiclass(scored: Scored) -> Measure:
    rows, count = scored.scores.shape
    label = scored.labels()
    actual, predicted = np.eye(count)[scored.truth], np.eye(count)[label]
    confidence, right = scored.scores[np.arange(rows), label], (label == scored.truth).astype(np.float64)
    rankings = [Ranking(scored.truth == place, scored.scores[:, place]) for place in range(count)]
    squares = ((scored.scores - actual) ** 2).sum(axis=1)
    first = np.column_stack([np.ones(rows), row_losses(scored), squares, right])
    table = np.column_stack([first, actual, predicted, actual * predicted, *_gap_columns(confidence, right)])

    def measured(batch: Batch) -> dict[str, Floats]:
        sums = (batch.astype(np.float64) @ table).T
        total, loss, square, correct = sums[:4]
        are, labelled, hits = sums[4 : 4 + 3 * count].reshape(3, count, len(batch))
        return {
            "roc_auc": _mean_defined(np.array([ranking.measure(batch)[0] for ranking in rankings])),
            "log_loss": ratio(loss, total),
            "brier": ratio(square, total),
            "calibration_error": ratio(np.abs(sums[4 + 3 * count :]).sum(axis=0), total),
            "accuracy": ratio(correct, total),
            "balanced_accuracy": np.where((are > 0).sum(axis=0) > 1, _mean_defined(ratio(hits, are)), np.nan),
            "f1": _mean_defined(ratio(2 * hits, are + labelled)),
        }

    return measured


def _regression(scored: Scored) -> Measure:
    truth = scored.truth - scored.truth.mean()
    errors = row_losses(scored)
    order = np.argsort(errors, kind="stable")
    ascending = errors[order]
    table = np.column_stack([np.ones_like(truth), errors, errors**2, truth, truth**2])

    def measured(batch: Batch) -> dict[str, Floats]:
        total, absolute, squares, first, second = (batch.astype(np.float64) @ table).T
        spread = second - ratio(first**2, total)
        spread = np.where(spread > 1e-12 * second, spread, 0.0)
        cumulative = np.cumsum(batch[:, order], axis=1, dtype=np.float64)
        return {
            "mae": ratio(absolute, total),
            "rmse": np.sqrt(ratio(squares, total)),
            "r2": 1 - ratio(squares, spread),
            "median_absolute_error": order_statistic(ascending, cumulative, 0.5),
            "p90_absolute_error": order_statistic(ascending, cumulative, 0.9),
        }

    return measured


def ratio(above: Floats, below: Floats) -> Floats:
    """`above / below`, NaN where `below` is zero."""
    undefined = np.full(np.broadcast(above, below).shape, np.nan)
    return np.asarray(np.divide(above, below, out=undefined, where=below != 0))


def _gap_columns(confidence: Floats, hit: Floats) -> list[Floats]:
    """For each calibration bin, each row's distance between what came and what was expected."""
    bins = calibration_bins(confidence)
    return [np.where(bins == place, hit - confidence, 0.0) for place in np.unique(bins)]


def _mean_defined(values: Floats) -> Floats:
    """The mean over the first axis of what is defined."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0).astype(np.float64))


Numbers = NDArray[Any]


class Ranking:
    """One sort by falling score, from which any weighting gives ROC AUC and average precision.

    Only groups of tied scores that hold a positive row matter: for each of them it keeps where the group begins
    and ends, among all rows and among the positive ones, so that a weighting costs one cumulative sum over each.

    Args:
        positive: shape (n,), whether each row is positive.
        scores: shape (n,), higher where positive is likelier.
    """

    def __init__(self, positive: NDArray[np.bool_], scores: Floats) -> None:
        order = np.argsort(-scores, kind="stable")
        ranked, falling = positive[order], scores[order]
        places = np.flatnonzero(ranked)
        self._order, self._positives = order.astype(np.int32), places.astype(np.int32)
        starts = np.concatenate([[0], np.flatnonzero(np.diff(falling) != 0) + 1, [len(falling)]])
        group = np.searchsorted(starts, places, side="right") - 1
        held = np.unique(group)
        before = np.concatenate([[0], np.cumsum(ranked)])
        self._start, self._end = starts[held], starts[held + 1]
        self._positive_start, self._positive_end = before[self._start], before[self._end]
        self._tied = len(held) < len(places) or bool((self._end - self._start > 1).any())

    def measure(self, batch: Numbers) -> tuple[Floats, Floats]:
        """AUC and average precision of each weighting; NaN where it leaves no positive or no negative row.

        Args:
            batch: shape (b, n), the weights.
        """
        number = np.int32 if batch.dtype.kind in "ui" else np.float64
        ranked: Numbers = np.take(batch, self._order, axis=1)
        weight: Numbers = np.take(ranked, self._positives, axis=1)
        above: Numbers = np.cumsum(ranked, axis=1, dtype=number)
        hits: Numbers = np.cumsum(weight, axis=1, dtype=number)
        total = above[:, -1].astype(np.float64)
        positive = hits[:, -1].astype(np.float64) if hits.shape[1] else np.zeros(len(batch))
        negative = total - positive
        if self._tied:
            above, hits = _led_by_zero(above), _led_by_zero(hits)
            here, hits_before = hits[:, self._positive_end], hits[:, self._positive_start]
            taken, taken_before = above[:, self._end], above[:, self._start]
            weight = here - hits_before
            misses = (taken - here).astype(np.float64) + (taken_before - hits_before)
        else:
            here, taken = hits, np.take(above, self._positives, axis=1)
            misses = 2.0 * (taken - here)
        wrong = np.einsum("ij,ij->i", weight, misses) / 2
        precision = here / np.maximum(taken, np.finfo(np.float64).tiny)
        gained = np.einsum("ij,ij->i", weight, precision)
        both = (positive > 0) & (negative > 0)
        pairs = np.where(both, positive * negative, 1.0)
        auc = np.where(both, 1 - wrong / pairs, np.nan)
        return auc, np.where(both, gained / np.where(both, positive, 1.0), np.nan)


def order_statistic(ascending: Floats, cumulative: Floats, share: float) -> Floats:
    """The quantile `share` of each weighting, interpolated linearly between its neighbours (Hyndman and Fan's type 7).

    Args:
        ascending: shape (n,), the sorted values.
        cumulative: shape (b, n), the cumulative weights in that order; weights are frequencies.
        share: between 0 and 1.
    """
    place = share * (cumulative[:, -1] - 1)
    lower, upper = (
        np.array([np.searchsorted(row, at, side="right") for row, at in zip(cumulative, edge, strict=True)])
        for edge in (np.floor(place), np.ceil(place))
    )
    last = len(ascending) - 1
    low, high = ascending[np.minimum(lower, last)], ascending[np.minimum(upper, last)]
    return np.asarray(low + (high - low) * (place - np.floor(place)))


def _led_by_zero(sums: Numbers) -> Numbers:
    return np.concatenate([np.zeros((len(sums), 1), dtype=sums.dtype), sums], axis=1)


def resample(models: Sequence[Scored], resamples: int, seed: int) -> list[dict[str, Floats]]:
    """Every metric of every model on the same resamples of the rows, as `stats.paired.resample`.

    Args:
        models: truth and scores of the same n rows.
        resamples: how many.
        seed: of the draws.
    """
    measures = [prepare(scored) for scored in models]
    return paired.resample(measures, len(models[0].truth), resamples=resamples, seed=seed)


def interval(value: float, draws: Floats, confidence: float) -> Estimate:
    """The value with the percentile interval of its draws; without one where too few draws are defined."""
    ends = paired.percentile_interval(draws, confidence)
    return Estimate(value=value) if ends is None else Estimate(value=value, low=ends[0], high=ends[1])


def estimates(scored: Scored, *, resamples: int, confidence: float, seed: int) -> tuple[Metric, ...]:
    """Every metric that is defined on these rows, with its interval."""
    values = measure(scored)
    if not values:
        return ()
    (draws,) = resample([scored], resamples, seed)
    return tuple(
        Metric(name=name, estimate=interval(value, draws[name], confidence), higher_is_better=better)
        for name, better in METRICS[scored.task].items()
        if (value := values.get(name)) is not None
    )
