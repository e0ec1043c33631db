"""Measures one model on the holdout, and writes what it finds: for DVC to compare, and for every report."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.evaluate.fairness import evaluate_fairness
from mergeline.evaluate.importance import importance_rows, make_probe, permutation_importance
from mergeline.evaluate.metrics import calibration_bins, estimates
from mergeline.evaluate.results import EVALUATION_FILE, Confusion, Curve, Evaluation, Holdout, Series, rounded
from mergeline.evaluate.scoring import Floats, Scored, score
from mergeline.evaluate.slices import bin_edges, evaluate_slices
from mergeline.evaluate.stress import stress_holdout
from mergeline.files import write_json
from mergeline.model.artifact import folder_bytes
from mergeline.params import Params, Task

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from mergeline.model.artifact import LoadedModel

METRICS_FILE, PLOTS_FOLDER = "metrics.json", "plots"
POINTS = 60
HISTOGRAM_BINS = 25
QUANTILE_BINS = 20
MOST_CLASSES = 10
"""Curves of a multiclass model are drawn for its most frequent classes only."""


def make_curves(scored: Scored) -> tuple[Curve, ...]:
    """What can be drawn of these rows; a ranking curve needs two classes."""
    return {Task.BINARY: _binary, Task.MULTICLASS: _multiclass, Task.REGRESSION: _regression}[scored.task](scored)


def confusion(scored: Scored) -> Confusion | None:
    """Counts at the tuned threshold, or of the likeliest class; None for a regression."""
    if scored.task is Task.REGRESSION:
        return None
    count = len(scored.classes)
    table = np.bincount(scored.truth * count + scored.labels(), minlength=count * count).reshape(count, count)
    return Confusion(
        labels=scored.classes,
        counts=tuple(tuple(int(cell) for cell in row) for row in table),
        threshold=scored.threshold,
    )


def _binary(scored: Scored) -> tuple[Curve, ...]:
    positive = scored.truth == 1
    named = [(scored.classes[1], positive, scored.scores)]
    shown = [("negative", scored.scores[~positive]), ("positive", scored.scores[positive])]
    return (
        *_ranking_curves(named),
        _calibration(scored.scores, positive.astype(np.float64), "share of positives"),
        _distribution(shown, "Scores by class", "score"),
    )


def _multiclass(scored: Scored) -> tuple[Curve, ...]:
    label = scored.labels()
    right = label == scored.truth
    confidence = scored.scores[np.arange(len(label)), label]
    counts = np.bincount(scored.truth, minlength=len(scored.classes))
    frequent = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
    named = [(scored.classes[place], scored.truth == place, scored.scores[:, place]) for place in frequent]
    shown = [("wrong", confidence[~right]), ("right", confidence[right])]
    return (
        *_ranking_curves(named),
        _calibration(confidence, right.astype(np.float64), "share of right answers"),
        _distribution(shown, "Confidence of right and wrong answers", "confidence"),
    )


def _regression(scored: Scored) -> tuple[Curve, ...]:
    order = np.argsort(scored.scores, kind="stable")
    parts = np.array_split(order, min(QUANTILE_BINS, len(order)))
    predicted = [float(scored.scores[part].mean()) for part in parts]
    actual = [float(scored.truth[part].mean()) for part in parts]
    residuals = scored.truth - scored.scores
    spread = [
        _series(name, predicted, [float(np.quantile(residuals[part], share)) for part in parts])
        for name, share in (("10th percentile", 0.1), ("median", 0.5), ("90th percentile", 0.9))
    ]
    shares = np.arange(1, POINTS) / POINTS
    quantiles = [_series("model", shares, np.quantile(residuals, shares))]
    by, at = "by quantile of the prediction", "mean prediction"
    line = [_series("model", predicted, actual)]
    return (
        _curve("predicted_actual", f"Actual value {by}", at, "mean actual value", line),
        _curve("residuals", f"Residuals {by}", at, "actual − predicted", spread),
        _curve("residual_quantiles", "Quantiles of the residuals", "share of rows", "actual − predicted", quantiles),
    )


def _ranking_curves(named: list[tuple[str, NDArray[np.bool_], Floats]]) -> list[Curve]:
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc, recall = [], []
    for name, positive, scores in named:
        if positive.all() or not positive.any():
            continue
        false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
        kept = _thin(len(false))
        roc.append(_series(name, false[kept], true[kept]))
        precision, found, _ = precision_recall_curve(positive, scores)
        # sklearn runs from full recall to the point (0, 1) that it adds by convention; the chart runs the other way.
        precision, found = precision[-2::-1], found[-2::-1]
        kept = _thin(len(found))
        recall.append(_series(name, found[kept], precision[kept]))
    if not roc:
        return []
    return [
        _curve("roc", "ROC curve", "false positive rate", "true positive rate", roc),
        _curve("precision_recall", "Precision and recall", "recall", "precision", recall),
    ]


def _calibration(confidence: Floats, hit: Floats, label: str) -> Curve:
    bins = calibration_bins(confidence)
    parts = [bins == place for place in np.unique(bins)]
    expected = [float(confidence[part].mean()) for part in parts]
    seen = [float(hit[part].mean()) for part in parts]
    return _curve("calibration", "Calibration", "mean score", label, [_series("model", expected, seen)])


def _distribution(shown: list[tuple[str, Floats]], title: str, x_label: str) -> Curve:
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    series = [
        _series(name, middles, np.histogram(values, edges)[0] / len(values)) for name, values in shown if len(values)
    ]
    return _curve("scores", title, x_label, "share of the class's rows", series)


def _thin(count: int) -> NDArray[np.intp]:
    """At most 60 places of `count`, evenly spread, with both ends."""
    return np.unique(np.linspace(0, count - 1, POINTS).round().astype(np.intp))


def _series(name: str, x: Any, y: Any) -> Series:
    return Series(name=name, x=tuple(float(value) for value in x), y=tuple(float(value) for value in y))


def _curve(name: str, title: str, x_label: str, y_label: str, series: list[Series]) -> Curve:
    return Curve(name=name, title=title, x_label=x_label, y_label=y_label, series=tuple(series))


def evaluate(model: LoadedModel, frame: pd.DataFrame, holdout: Holdout, params: Params) -> Evaluation:
    """Everything that is measured of one model; the same bytes in, the same result out.

    A metric that the holdout leaves undefined (a ranking with one class only) is left out.

    Args:
        model: the model.
        frame: the holdout rows with the target, the features, and the columns of slices and groups.
        holdout: what these rows are.
        params: what to measure; `model.seed` seeds every draw.

    Raises:
        DataError: there are no rows, or no target, or a column of slices or groups does not exist.
        ModelError: the model's scores are not numbers, or not probabilities.
    """
    from threadpoolctl import threadpool_limits

    scored = score(model, frame)
    settings, gate, seed = params.evaluation, params.gate, params.model.seed
    rows = importance_rows(len(model.signature.columns), settings.importance_rows)
    # Small batches on many threads wait more than they work, and on a busy machine take many times as long.
    with threadpool_limits(limits=1):
        importance = permutation_importance(
            make_probe(model, frame, scored, metric=gate.metric, rows=rows, seed=seed), seed, gate.confidence
        )
        stress = stress_holdout(model, frame, scored, params)
    return rounded(
        Evaluation(
            name=params.name,
            task=params.task,
            digest=model.digest,
            holdout=holdout,
            metrics=estimates(scored, resamples=settings.resamples, confidence=gate.confidence, seed=seed),
            slices=evaluate_slices(scored, frame, params),
            slice_edges={column: edges for column in settings.slices if (edges := bin_edges(frame[column]))},
            fairness=evaluate_fairness(scored, frame, params),
            importance=importance,
            stress=stress,
            curves=make_curves(scored),
            confusion=confusion(scored),
            model_bytes=folder_bytes(model.folder),
        )
    )


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `evaluation.json`, `metrics.json` and `plots/*.json` into `folder`; plots of earlier runs go."""
    shutil.rmtree(folder / PLOTS_FOLDER, ignore_errors=True)
    for name, records in plot_records(evaluation).items():
        write_json(folder / PLOTS_FOLDER / f"{name}.json", records)
    write_json(folder / METRICS_FILE, {metric.name: metric.estimate.value for metric in evaluation.metrics})
    write_json(folder / EVALUATION_FILE, evaluation.model_dump(mode="json"))


def plot_records(evaluation: Evaluation) -> dict[str, list[dict[str, Any]]]:
    """Each chart as DVC's list of records, one file for each line of it, since DVC draws one line a file."""
    files: dict[str, list[dict[str, Any]]] = {}
    for curve in evaluation.curves:
        for series in curve.series:
            name = curve.name if len(curve.series) == 1 else f"{curve.name}-{_slug(series.name)}"
            if name in files:  # two classes may be written alike once they are made fit for a file name
                name = f"{name}-{len(files)}"
            files[name] = [{"x": x, "y": y} for x, y in zip(series.x, series.y, strict=True)]
    if evaluation.importance:
        files["importance"] = [{"loss": entry.loss, "feature": entry.feature} for entry in evaluation.importance]
    return files


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "other"
