import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mergeline.stats.paired import draw_counts, percentile_interval, resample


def mean_of(values):
    """The mean as a statistic of row weights."""
    return lambda counts: {"mean": counts @ values / counts.sum(axis=1)}


@settings(max_examples=settings().max_examples // 5)
@given(rows=st.integers(1, 400), seed=st.integers(0, 2**31))
def test_each_resample_has_as_many_rows_as_the_holdout(rows, seed):
    counts = draw_counts(np.random.default_rng(seed), 3, rows)
    assert counts.shape == (3, rows)
    assert (counts.sum(axis=1, dtype=int) == rows).all()


def test_counts_follow_a_poisson_of_mean_one():
    counts = draw_counts(np.random.default_rng(0), 50, 2000)
    seen = np.bincount(counts.ravel(), minlength=5)[:5] / counts.size
    assert seen == pytest.approx(stats.poisson.pmf(range(5), 1), abs=0.005)


@settings(max_examples=settings().max_examples // 5)
@given(seed=st.integers(0, 1000))
def test_the_interval_of_a_mean_is_that_of_scipys_bootstrap(seed):
    values = np.random.default_rng(seed).exponential(size=200)
    (draws,) = resample([mean_of(values)], 200, resamples=4000, seed=seed)
    known = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=seed).confidence_interval
    assert percentile_interval(draws["mean"], 0.95) == pytest.approx((known.low, known.high), abs=0.03)


@given(values=st.lists(st.floats(-10, 10), min_size=2, max_size=100), confidence=st.floats(0.1, 0.99))
def test_the_percentile_interval_is_numpys_quantiles(values, confidence):
    draws = np.array(values)
    tail = 100 * (1 - confidence) / 2
    assert percentile_interval(draws, confidence) == pytest.approx(tuple(np.percentile(draws, [tail, 100 - tail])))


@settings(max_examples=settings().max_examples // 5)
@given(rows=st.integers(2, 60), seed=st.integers(0, 1000), gain=st.floats(-1, 1))
def test_models_are_measured_on_the_same_rows(rows, seed, gain):
    values = np.random.default_rng(seed).normal(size=rows)
    old, new = resample([mean_of(values), mean_of(values + gain)], rows, resamples=20, seed=seed)
    assert new["mean"] - old["mean"] == pytest.approx(np.full(20, gain))


def test_too_few_draws_that_are_defined_have_no_interval():
    draws = np.arange(100.0)
    draws[:6] = np.nan
    assert percentile_interval(draws, 0.9) is None
    assert percentile_interval(np.array([]), 0.9) is None
