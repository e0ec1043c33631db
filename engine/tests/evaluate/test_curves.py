import dataclasses

import numpy as np
import pytest
from scored_examples import EXAMPLES, binary, multiclass, regression
from sklearn import metrics as sk

from mergeline.evaluate.evaluate import POINTS, confusion, make_curves
from mergeline.evaluate.metrics import measure


def curves(scored):
    return {curve.name: curve for curve in make_curves(scored)}


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("binary", ["roc", "precision_recall", "calibration", "scores"]),
        ("multiclass", ["roc", "precision_recall", "calibration", "scores"]),
        ("regression", ["predicted_actual", "residuals", "residual_quantiles"]),
    ],
)
def test_each_task_has_its_charts_of_at_most_sixty_points(task, names):
    drawn = make_curves(EXAMPLES[task](3000))
    assert [curve.name for curve in drawn] == names
    assert all(len(series.x) == len(series.y) <= POINTS for curve in drawn for series in curve.series)


def test_the_area_under_the_thinned_roc_curve_is_the_auc():
    scored = binary(5000)
    (series,) = curves(scored)["roc"].series
    assert (series.x[0], series.y[0], series.x[-1], series.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(series.y, series.x) == pytest.approx(measure(scored)["roc_auc"], abs=0.005)


def test_recall_rises_along_its_curve_to_one_where_precision_is_the_share_of_positives():
    scored = binary(2000)
    (series,) = curves(scored)["precision_recall"].series
    assert list(series.x) == sorted(series.x)
    assert (series.x[-1], series.y[-1]) == (1, pytest.approx(scored.truth.mean()))


def test_a_calibrated_model_lies_on_the_diagonal():
    (series,) = curves(binary(20000))["calibration"].series
    assert series.y == pytest.approx(series.x, abs=0.05)


def test_the_scores_of_each_class_sum_to_one():
    for series in curves(binary(500))["scores"].series:
        assert sum(series.y) == pytest.approx(1)


def test_many_classes_have_a_roc_curve_each():
    assert [series.name for series in curves(multiclass(500, 4))["roc"].series] == ["a", "b", "c", "d"]


def test_one_class_has_no_ranking_curves():
    scored = dataclasses.replace(binary(50), truth=np.zeros(50, dtype=np.int64))
    assert set(curves(scored)) == {"calibration", "scores"}


def test_constant_scores_can_be_drawn():
    drawn = curves(dataclasses.replace(binary(50), scores=np.full(50, 0.3)))
    assert len(drawn["calibration"].series[0].x) == 1


def test_one_row_of_a_regression_can_be_drawn():
    assert len(curves(regression(1))["predicted_actual"].series[0].x) == 1


def test_binary_counts_are_taken_at_the_threshold():
    scored = binary(500)
    found = confusion(scored)
    assert found.counts == tuple(map(tuple, sk.confusion_matrix(scored.truth, scored.scores >= 0.45).tolist()))
    assert (found.labels, found.threshold) == (("no", "yes"), 0.45)


def test_multiclass_counts_are_of_the_likeliest_class():
    scored = multiclass(500)
    found = confusion(scored)
    assert found.counts == tuple(map(tuple, sk.confusion_matrix(scored.truth, scored.scores.argmax(axis=1)).tolist()))
    assert found.threshold is None


def test_a_regression_has_no_confusion():
    assert confusion(regression(10)) is None
