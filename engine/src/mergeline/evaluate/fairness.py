"""How alike a model treats the groups of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.evaluate.results import Fairness, GroupRates
from mergeline.evaluate.scoring import Floats, Scored
from mergeline.evaluate.slices import slice_column
from mergeline.params import Params, Task

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Rates = dict[str, Floats]
"""Each rate by its name, of each group, shape (groups,)."""

PARITY, ODDS = "demographic_parity_difference", "equalized_odds_difference"
ACCURACY, ERROR = "accuracy_difference", "relative_error_gap"


def evaluate_fairness(scored: Scored, frame: pd.DataFrame, params: Params) -> tuple[Fairness, ...]:
    """Rates and gaps between the groups of every configured column; groups too small to judge are pooled.

    The gaps are differences between the largest and the smallest group. Binary: of the share that is labelled
    positive (demographic parity), and the larger of the differences in true and false positive rate (equalised odds;
    Hardt, Price and Srebro, 2016). Multiclass: the largest of those over the classes, each against the rest, and of
    the accuracy. Regression: of the mean absolute error, over that of all rows. A rate that a group leaves undefined
    (no positive row, no negative row) is left out, and so is a gap with fewer than two groups to compare.

    Raises:
        DataError: a configured column does not exist.
    """
    return tuple(_column(scored, frame, column, params) for column in params.evaluation.fairness)


def _column(scored: Scored, frame: pd.DataFrame, column: str, params: Params) -> Fairness:
    parts = slice_column(frame, column, params.evaluation.min_slice_rows, "evaluation.fairness")
    groups = [scored.take(part.rows) for part in parts]
    measured = {Task.BINARY: _binary, Task.MULTICLASS: _multiclass, Task.REGRESSION: _regression}[scored.task]
    rates, gaps = measured(groups, scored)
    shown = [{name: float(values[place]) for name, values in rates.items()} for place in range(len(parts))]
    return Fairness(
        column=column,
        groups=tuple(
            GroupRates(group=part.value, rows=len(part.rows), rates=_finite(own))
            for part, own in zip(parts, shown, strict=True)
        ),
        gaps=_finite(gaps),
    )


def _binary(groups: Sequence[Scored], _all: Scored) -> tuple[Rates, dict[str, float]]:
    rates = _class_rates(groups, 1)
    return rates, _class_gaps(rates)


def _multiclass(groups: Sequence[Scored], scored: Scored) -> tuple[Rates, dict[str, float]]:
    rates = {"accuracy": np.array([_mean(group.labels() == group.truth) for group in groups])}
    gaps: dict[str, list[float]] = {ACCURACY: [_gap(rates["accuracy"])], PARITY: [], ODDS: []}
    for place, name in enumerate(scored.classes):
        one = _class_rates(groups, place)
        rates[f"selection_rate of {name}"] = one["selection_rate"]
        for gap, value in _class_gaps(one).items():
            gaps[gap].append(value)
    return rates, {name: max(filter(np.isfinite, found), default=np.nan) for name, found in gaps.items()}


def _regression(groups: Sequence[Scored], scored: Scored) -> tuple[Rates, dict[str, float]]:
    rates = {
        "mean_absolute_error": np.array([_mean(np.abs(group.scores - group.truth)) for group in groups]),
        "mean_prediction": np.array([_mean(group.scores) for group in groups]),
    }
    overall = _mean(np.abs(scored.scores - scored.truth))
    return rates, {ERROR: _gap(rates["mean_absolute_error"]) / overall if overall > 0 else 0.0}


def _class_rates(groups: Sequence[Scored], label: int) -> Rates:
    """How often each group is labelled so: of all rows, of those of the class, and of the others."""
    told = [(group.truth == label, group.labels() == label) for group in groups]
    return {
        "selection_rate": np.array([_mean(labelled) for _, labelled in told]),
        "true_positive_rate": np.array([_mean(labelled[actual]) for actual, labelled in told]),
        "false_positive_rate": np.array([_mean(labelled[~actual]) for actual, labelled in told]),
    }


def _class_gaps(rates: Rates) -> dict[str, float]:
    odds = [_gap(rates[name]) for name in ("true_positive_rate", "false_positive_rate")]
    return {PARITY: _gap(rates["selection_rate"]), ODDS: float(np.max(odds))}


def _gap(rates: Floats) -> float:
    known = rates[np.isfinite(rates)]
    return float(known.max() - known.min()) if len(known) > 1 else np.nan


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else np.nan


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
