"""Estimates how well a model does before any label has come, from what its scores meant on the holdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.scoring import threshold_of
from mergeline.model.profile import Calibration, NumberProfile
from mergeline.params import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.model.bin_counts import NumberCounts
    from mergeline.model.profile import Profile
    from mergeline.scorer.signature import Output


def expected_outcome(scores: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    """What scores like these meant on the holdout, shape of `scores`: the class's share, or the mean absolute error.

    Between the bins' mean scores the outcome is interpolated; beyond them it stays as it is in the last bin.
    """
    return np.interp(scores, calibration.scores, calibration.outcomes)


def estimate_binary(
    scores: NDArray[np.float64], weights: NDArray[np.float64], calibration: Calibration, threshold: float
) -> dict[str, float]:
    """Confidence-based performance estimation (CBPE, Kivimäki et al., 2024) of a binary model.

    Each row is taken for a share p of a positive and 1 - p of a negative, with p from the calibration. It assumes
    that what a score means has not changed (no concept drift), so it sees only what a shift of the inputs explains.

    Args:
        scores: distinct scores, ascending, shape (b,).
        weights: how many rows have them, shape (b,).
        calibration: of the positive class.
        threshold: from which score on a row is labelled positive.

    Returns:
        Estimated roc_auc, log_loss, brier and accuracy; empty without rows, roc_auc missing where one class is.
    """
    total = float(weights.sum())
    if total == 0:
        return {}
    chance = expected_outcome(scores, calibration)
    positive, negative = weights * chance, weights * (1 - chance)
    clipped = np.clip(scores, 1e-15, 1 - 1e-15)
    hits = np.where(scores >= threshold, positive, negative)
    found = {
        "log_loss": float(-(positive * np.log(clipped) + negative * np.log1p(-clipped)).sum()) / total,
        "brier": float((positive * (1 - scores) ** 2 + negative * scores**2).sum()) / total,
        "accuracy": float(hits.sum()) / total,
    }
    pairs = float(positive.sum() * negative.sum())
    if pairs > 0:
        below = np.cumsum(negative) - negative / 2
        found["roc_auc"] = float((positive * below).sum()) / pairs
    return found


def estimate_multiclass(scores: NDArray[np.float64], calibration: tuple[Calibration, ...]) -> dict[str, float]:
    """Confidence-based performance estimation of a model with several classes, as `estimate_binary`.

    Args:
        scores: shape (n, k).
        calibration: of each class, in the order of the scores.

    Returns:
        Estimated accuracy, log_loss and brier; empty without rows.
    """
    if not len(scores):
        return {}
    chance = np.column_stack([expected_outcome(scores[:, place], known) for place, known in enumerate(calibration)])
    chance /= np.maximum(chance.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    clipped = np.clip(scores, 1e-15, 1.0)
    squares = (scores**2).sum(axis=1, keepdims=True) - 2 * scores + 1  # of the distance to each class's corner
    return {
        "log_loss": float(-(chance * np.log(clipped)).sum(axis=1).mean()),
        "brier": float((chance * squares).sum(axis=1).mean()),
        "accuracy": float(chance[np.arange(len(scores)), scores.argmax(axis=1)].mean()),
    }


def estimate_error(scores: NDArray[np.float64], weights: NDArray[np.float64], calibration: Calibration) -> float | None:
    """Direct loss estimation (DLE, NannyML, 2022) of a regression's mean absolute error, in the target's unit.

    The loss of a row is what rows with such a prediction lost on the holdout, a lookup where NannyML fits a model.
    """
    total = float(weights.sum())
    return float((weights * expected_outcome(scores, calibration)).sum()) / total if total else None


def estimate_scores(scores: NDArray[np.float64], profile: Profile, output: Output) -> dict[str, float]:
    """The estimated metrics of rows with these scores, shapes as in `Scored.scores`."""
    if output.task is Task.MULTICLASS:
        return estimate_multiclass(scores, profile.calibration)
    values, weights = np.unique(scores, return_counts=True)
    return estimate_weighted(values, weights.astype(np.float64), profile, output)


def estimate_weighted(
    scores: NDArray[np.float64], weights: NDArray[np.float64], profile: Profile, output: Output
) -> dict[str, float]:
    """The estimated metrics of a binary model or a regression, from distinct scores, ascending, and their counts."""
    known = profile.calibration[0]
    if output.task is Task.BINARY:
        return estimate_binary(scores, weights, known, threshold_of(output) or 0.0)
    error = estimate_error(scores, weights, known)
    return {} if error is None else {"mae": error}


def counted_scores(profile: NumberProfile, counts: NumberCounts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The scores of a window as values and weights, from their counts in the grid's cells."""
    edges = profile.grid.edges()
    middles = np.concatenate([edges[:1], (edges[:-1] + edges[1:]) / 2, edges[-1:]])
    filled = counts.cells > 0
    return middles[filled], counts.cells[filled].astype(np.float64)
