import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_examples import EXAMPLES, binary, multiclass, regression
from sklearn import metrics as sk

from mergeline.evaluate.metrics import BINS, measure, prepare, row_losses
from mergeline.evaluate.scoring import Scored
from mergeline.params import METRICS, Task


@pytest.mark.parametrize("digits", [None, 2, 1])
def test_binary_metrics_agree_with_sklearn_with_weights_and_ties(digits):
    scored = binary(500, seed=1, digits=digits)
    weights = np.random.default_rng(2).gamma(2, size=500)
    label = scored.scores >= scored.threshold
    truth, scores = scored.truth, scored.scores
    found = measure(scored, weights)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(truth, scores, sample_weight=weights))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(truth, scores, sample_weight=weights))
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth, scores, sample_weight=weights))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(truth, scores, sample_weight=weights))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, label, sample_weight=weights))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, label, sample_weight=weights))
    assert found["f1"] == pytest.approx(sk.f1_score(truth, label, sample_weight=weights))


@pytest.mark.parametrize("classes", [3, 5])
def test_multiclass_metrics_agree_with_sklearn_with_weights(classes):
    scored = multiclass(500, classes)
    weights = np.random.default_rng(3).gamma(2, size=500)
    truth, scores, label = scored.truth, scored.scores, scored.scores.argmax(axis=1)
    expected_auc = np.mean(
        [sk.roc_auc_score(truth == place, scores[:, place], sample_weight=weights) for place in range(classes)]
    )
    found = measure(scored, weights)
    assert found["roc_auc"] == pytest.approx(expected_auc)
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth, scores, sample_weight=weights))
    assert found["brier"] == pytest.approx(sk.brier_score_loss(truth, scores, sample_weight=weights))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, label, sample_weight=weights))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, label, sample_weight=weights))
    assert found["f1"] == pytest.approx(sk.f1_score(truth, label, average="macro", sample_weight=weights))


def test_multiclass_auc_is_sklearns_macro_one_against_the_rest():
    scored = multiclass(300, 4)
    expected = sk.roc_auc_score(scored.truth, scored.scores, multi_class="ovr", average="macro")
    assert measure(scored)["roc_auc"] == pytest.approx(expected)


def test_regression_metrics_agree_with_sklearn_and_numpy():
    scored = regression(501)
    errors = np.abs(scored.truth - scored.scores)
    found = measure(scored)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(scored.truth, scored.scores))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(scored.truth, scored.scores))
    assert found["r2"] == pytest.approx(sk.r2_score(scored.truth, scored.scores))
    assert found["median_absolute_error"] == pytest.approx(sk.median_absolute_error(scored.truth, scored.scores))
    assert found["p90_absolute_error"] == pytest.approx(np.quantile(errors, 0.9))


def test_weighted_means_of_a_regression_agree_with_sklearn():
    scored, weights = regression(200), np.random.default_rng(4).gamma(2, size=200)
    found = measure(scored, weights)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(scored.truth, scored.scores, sample_weight=weights))
    assert found["r2"] == pytest.approx(sk.r2_score(scored.truth, scored.scores, sample_weight=weights))


def test_calibration_error_is_the_mass_weighted_gap_over_ten_bins_of_equal_mass():
    scored = binary(1000, seed=5)
    order = np.argsort(scored.scores)
    gaps = [
        len(part) / 1000 * abs(scored.truth[part].mean() - scored.scores[part].mean())
        for part in np.array_split(order, BINS)
    ]
    assert measure(scored)["calibration_error"] == pytest.approx(sum(gaps))


def test_calibration_error_of_many_classes_is_that_of_the_likeliest_class():
    scored = multiclass(1000)
    order = np.argsort(scored.scores.max(axis=1))
    right = scored.scores.argmax(axis=1) == scored.truth
    confidence = scored.scores.max(axis=1)
    gaps = [abs(right[part].mean() - confidence[part].mean()) / BINS for part in np.array_split(order, BINS)]
    assert measure(scored)["calibration_error"] == pytest.approx(sum(gaps))


@settings(max_examples=settings().max_examples // 5)
@given(task=st.sampled_from(sorted(EXAMPLES)), seed=st.integers(0, 1000), count=st.integers(30, 80))
def test_a_weight_counts_as_so_many_equal_rows(task, seed, count):
    scored = EXAMPLES[task](count, seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, count)
    weights[:3] = 1
    repeated = scored.take(np.repeat(np.arange(count), weights))
    found, expected = measure(scored, weights), measure(repeated)
    # the calibration bins are cut on the rows at hand, and repeating rows moves the cuts
    found.pop("calibration_error", None), expected.pop("calibration_error", None)
    assert found == pytest.approx(expected)


@settings(max_examples=settings().max_examples // 5)
@given(seed=st.integers(0, 1000), power=st.floats(0.2, 5))
def test_ranking_metrics_do_not_change_under_a_rising_transformation(seed, power):
    scored = binary(100, seed=seed, digits=3)
    bent = dataclasses.replace(scored, scores=scored.scores**power)
    for name in ("roc_auc", "average_precision"):
        assert measure(bent).get(name) == pytest.approx(measure(scored).get(name))


@settings(max_examples=settings().max_examples // 5)
@given(seed=st.integers(0, 1000))
def test_reversing_the_scores_reverses_the_auc(seed):
    scored = binary(60, seed=seed, digits=2)
    reversed_ = dataclasses.replace(scored, scores=1 - scored.scores)
    assert measure(reversed_)["roc_auc"] == pytest.approx(1 - measure(scored)["roc_auc"])


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_row_losses_average_to_the_slice_metric(task):
    scored = EXAMPLES[task](200)
    name = {"binary": "log_loss", "multiclass": "log_loss", "regression": "mae"}[task]
    assert row_losses(scored).mean() == pytest.approx(measure(scored)[name])


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_every_metric_that_params_may_name_is_measured_in_the_same_order(task):
    assert list(measure(EXAMPLES[task](300))) == list(METRICS[Task(task)])


def test_one_class_leaves_out_what_needs_two():
    scored = dataclasses.replace(binary(50), truth=np.zeros(50, dtype=np.int64))
    assert set(measure(scored)) >= {"log_loss", "brier", "accuracy", "calibration_error"}
    assert not {"roc_auc", "average_precision", "balanced_accuracy"} & set(measure(scored))


def test_one_class_of_many_leaves_out_what_needs_two():
    scored = dataclasses.replace(multiclass(50), truth=np.zeros(50, dtype=np.int64))
    assert not {"roc_auc", "balanced_accuracy"} & set(measure(scored))


def test_constant_scores_rank_nothing():
    scored = dataclasses.replace(binary(50), scores=np.full(50, 0.3))
    assert measure(scored)["roc_auc"] == 0.5
    assert measure(scored)["average_precision"] == pytest.approx(scored.truth.mean())
    assert measure(scored)["f1"] == 0


def test_no_predicted_and_no_actual_positive_leaves_f1_undefined():
    scored = Scored(Task.BINARY, np.zeros(5, dtype=np.int64), np.full(5, 0.1), ("no", "yes"), 0.5)
    assert "f1" not in measure(scored)


def test_a_constant_target_leaves_r2_out():
    scored = dataclasses.replace(regression(20), truth=np.full(20, 50.0))
    assert "r2" not in measure(scored)
    assert "mae" in measure(scored)


def test_certain_and_wrong_scores_cost_a_finite_log_loss():
    scored = Scored(Task.BINARY, np.array([0, 1]), np.array([1.0, 0.0]), ("no", "yes"), 0.5)
    assert measure(scored)["log_loss"] == pytest.approx(sk.log_loss([0, 1], [1.0, 0.0]))


def test_no_rows_measure_nothing():
    assert measure(binary(10).take(np.array([], dtype=np.intp))) == {}


def test_counts_of_a_byte_and_floats_measure_alike():
    scored = binary(300, digits=2)
    counts = np.random.default_rng(0).integers(0, 5, (4, 300)).astype(np.uint8)
    whole, broken = prepare(scored)(counts), prepare(scored)(counts.astype(np.float64))
    for name, values in whole.items():
        assert values == pytest.approx(broken[name])
