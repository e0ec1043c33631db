"""How alike a model treats the groups of a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.evaluate.results import Fairness, GroupRates
from mergeline.evaluate.scoring import Scored
from mergeline.evaluate.slices import slice_column
from mergeline.params import Params, Task

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    Rates = pd.DataFrame

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
    groups = np.empty(len(frame), dtype=object)
    for part in parts:
        groups[part.rows] = part.value
    measured = {Task.BINARY: _binary, Task.MULTICLASS: _multiclass, Task.REGRESSION: _regression}[scored.task]
    rates, gaps = measured(scored, groups)
    return Fairness(
        column=column,
        groups=tuple(
            GroupRates(
                group=part.value,
                rows=len(part.rows),
                rates={
                    str(name): rate for name in rates.columns if np.isfinite(rate := float(rates[name][part.value]))
                },
            )
            for part in parts
        ),
        gaps={name: gap for name, gap in gaps.items() if np.isfinite(gap)},
    )


def _binary(scored: Scored, groups: NDArray[Any]) -> tuple[Rates, dict[str, float]]:
    rates = _class_rates(scored.truth, scored.labels(), groups)
    return rates, _class_gaps(rates)


def _multiclass(scored: Scored, groups: NDArray[Any]) -> tuple[Rates, dict[str, float]]:
    import pandas as pd
    from sklearn.metrics import accuracy_score

    label = scored.labels()
    rates = _by_group({"accuracy": accuracy_score}, scored.truth, label, groups)
    gaps: dict[str, list[float]] = {ACCURACY: [_gap(rates["accuracy"])], PARITY: [], ODDS: []}
    for place, name in enumerate(scored.classes):
        one = _class_rates((scored.truth == place).astype(np.int64), (label == place).astype(np.int64), groups)
        rates = pd.concat([rates, one[["selection_rate"]].add_suffix(f" of {name}")], axis=1)
        for gap, value in _class_gaps(one).items():
            gaps[gap].append(value)
    return rates, {
        name: max((gap for gap in found if np.isfinite(gap)), default=np.nan) for name, found in gaps.items()
    }


def _regression(scored: Scored, groups: NDArray[Any]) -> tuple[Rates, dict[str, float]]:
    from fairlearn.metrics import mean_prediction
    from sklearn.metrics import mean_absolute_error

    metrics = {"mean_absolute_error": mean_absolute_error, "mean_prediction": mean_prediction}
    rates = _by_group(metrics, scored.truth, scored.scores, groups)
    overall = float(np.abs(scored.scores - scored.truth).mean())
    return rates, {ERROR: _gap(rates["mean_absolute_error"]) / overall if overall > 0 else 0.0}


def _class_rates(truth: NDArray[Any], predicted: NDArray[Any], groups: NDArray[Any]) -> Rates:
    from fairlearn.metrics import false_positive_rate, selection_rate, true_positive_rate

    metrics = {
        "selection_rate": selection_rate,
        "true_positive_rate": _defined(true_positive_rate, 1),
        "false_positive_rate": _defined(false_positive_rate, 0),
    }
    return _by_group(metrics, truth, predicted, groups)


def _defined(rate: Callable[..., float], label: int) -> Callable[..., float]:
    """The rate, NaN in a group without a row of class `label`: fairlearn calls it 0, which would be a gap."""

    def measured(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
        return rate(truth, predicted, pos_label=1) if (np.asarray(truth) == label).any() else float("nan")

    return measured


def _by_group(
    metrics: dict[str, Callable[..., float]], truth: NDArray[Any], predicted: NDArray[Any], groups: NDArray[Any]
) -> Rates:
    from fairlearn.metrics import MetricFrame

    measured = MetricFrame(metrics=metrics, y_true=truth, y_pred=predicted, sensitive_features=groups)
    rates: Rates = measured.by_group.astype(float)
    return rates


def _class_gaps(rates: Rates) -> dict[str, float]:
    odds = [_gap(rates[name]) for name in ("true_positive_rate", "false_positive_rate")]
    return {PARITY: _gap(rates["selection_rate"]), ODDS: float(np.max(odds))}


def _gap(rates: pd.Series[float]) -> float:
    known = rates.dropna()
    return float(known.max() - known.min()) if len(known) > 1 else float("nan")
