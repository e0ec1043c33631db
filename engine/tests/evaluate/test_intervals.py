import dataclasses

import numpy as np
import pytest
from scipy import stats
from scored_examples import EXAMPLES, binary, regression
from threadpoolctl import threadpool_limits

from mergeline.evaluate.metrics import estimates, interval, measure, resample
from mergeline.stats import paired
from mergeline.stats.paired import draw_counts


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_a_resample_measures_what_its_rows_measure(task):
    scored = EXAMPLES[task](300)
    (draws,) = resample([scored], 3, seed=9)
    seeds = np.random.SeedSequence([9, paired.STREAM])
    counts = draw_counts(np.random.Generator(np.random.PCG64(seeds)), 3, 300)
    for place in range(3):
        drawn = measure(scored.take(np.repeat(np.arange(300), counts[place])))
        drawn.pop("calibration_error", None)
        assert {name: draws[name][place] for name in drawn} == pytest.approx(drawn)


def test_one_seed_gives_one_answer_and_another_seed_another():
    scored = binary(200)
    first, again, other = (resample([scored], 20, seed)[0]["roc_auc"] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_answer_does_not_depend_on_the_number_of_threads():
    scored = binary(2000)
    answers = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            answers.append(resample([scored], 200, 1)[0])
    for name, values in answers[0].items():
        assert (values == answers[1][name]).all()


def test_the_answer_does_not_depend_on_the_size_of_a_batch(monkeypatch):
    scored = binary(300)
    large = resample([scored], 50, 1)[0]
    monkeypatch.setattr(paired, "CELLS", 1)
    small = resample([scored], 50, 1)[0]
    for name, values in large.items():
        assert values == pytest.approx(small[name])


def test_the_same_model_twice_never_differs():
    scored = binary(300)
    first, second = resample([scored, scored], 30, 1)
    for name, values in first.items():
        assert (values == second[name]).all()


def test_a_mean_has_the_interval_of_scipys_bootstrap():
    scored = regression(400)
    errors = np.abs(scored.truth - scored.scores)
    theirs = stats.bootstrap(
        (errors,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    (ours,) = [
        metric.estimate for metric in estimates(scored, resamples=4000, confidence=0.95, seed=1) if metric.name == "mae"
    ]
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_intervals_cover_the_true_auc_about_as_often_as_they_say():
    true = stats.norm.cdf(1 / 2**0.5)
    covered = 0
    for seed in range(200):
        (draws,) = resample([binary(300, seed=seed)], 200, seed)
        found = interval(0.0, draws["roc_auc"], 0.9)
        covered += found.low <= true <= found.high
    assert stats.binomtest(covered, 200, 0.9).pvalue > 0.001


def test_a_lower_confidence_gives_a_narrower_interval():
    draws = np.random.default_rng(0).normal(size=1000)
    wide, narrow = interval(0.0, draws, 0.99), interval(0.0, draws, 0.8)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_metric_that_most_resamples_leave_undefined_has_no_interval():
    truth = np.zeros(100, dtype=np.int64)
    truth[0] = 1
    scored = dataclasses.replace(binary(100), truth=truth)
    found = {metric.name: metric.estimate for metric in estimates(scored, resamples=200, confidence=0.95, seed=1)}
    assert found["roc_auc"].low is None
    assert found["log_loss"].low is not None


def test_a_metric_that_is_undefined_is_left_out():
    scored = dataclasses.replace(binary(100), truth=np.ones(100, dtype=np.int64))
    names = [metric.name for metric in estimates(scored, resamples=100, confidence=0.95, seed=1)]
    assert "roc_auc" not in names
    assert "log_loss" in names


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_the_value_lies_inside_its_interval(task):
    for metric in estimates(EXAMPLES[task](500), resamples=300, confidence=0.95, seed=1):
        if metric.name != "calibration_error":  # resampling adds noise to an absolute value, which pushes it up
            assert metric.estimate.low <= metric.estimate.value <= metric.estimate.high
