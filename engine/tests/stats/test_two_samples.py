"""Tests and effect sizes of two samples, against independent implementations."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import special, stats
from scipy.spatial import distance

from mergeline.stats.two_samples import (
    chi_squared,
    chi_squared_survival,
    detectable_distance,
    fisher_exact,
    grouped,
    jensen_shannon,
    kolmogorov_smirnov,
    kolmogorov_survival,
    shares_differ,
    stability_index,
    wasserstein,
)


def pair():
    """Counts of the same bins in two samples."""
    return st.integers(2, 30).flatmap(
        lambda bins: st.tuples(*[st.lists(st.integers(0, 400), min_size=bins, max_size=bins).map(np.array)] * 2)
    )


@given(value=st.floats(0.001, 5000), freedom=st.integers(1, 400))
def test_the_tail_of_chi_squared_is_scipys(value, freedom):
    assert chi_squared_survival(value, freedom) == pytest.approx(stats.chi2.sf(value, freedom), rel=1e-7, abs=1e-12)


@given(value=st.floats(0, 10))
def test_the_tail_of_kolmogorovs_limit_is_scipys(value):
    assert kolmogorov_survival(value) == pytest.approx(special.kolmogorov(value), abs=1e-9)


@given(st.integers(40, 300), st.integers(40, 300), st.integers(0, 10_000))
def test_kolmogorov_smirnov_is_scipys(n, m, seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=n), rng.normal(0.3, 1, size=m)
    places = np.unique(np.concatenate([first, second]))
    bins = [np.bincount(np.searchsorted(places, each), minlength=len(places)) for each in (first, second)]
    found, known = kolmogorov_smirnov(*bins), stats.ks_2samp(first, second, method="asymp")
    assert found.effect == pytest.approx(known.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(known.pvalue, abs=0.05)


@given(pair())
def test_chi_squared_is_scipys_where_nothing_is_rare(both):
    first, second = (each + 20 for each in both)
    found = chi_squared(first, second)
    known = stats.chi2_contingency(np.array([first, second]), correction=False)
    rare = known.expected_freq < 5
    assume(not rare.any())
    assert found.statistic == pytest.approx(known.statistic, rel=1e-9, abs=1e-9)
    assert found.p_value == pytest.approx(known.pvalue, rel=1e-6, abs=1e-10)


def test_cramers_v_of_equal_samples_is_the_usual_one():
    first, second = np.array([300, 500, 200]), np.array([400, 400, 200])
    usual = stats.contingency.association(np.array([first, second]), method="cramer")
    assert chi_squared(first, second).effect == pytest.approx(usual, rel=1e-9)


def test_rare_categories_are_pooled():
    first, second = np.array([500, 2, 0, 2, 1, 2]), np.array([490, 1, 3, 1, 1, 0])
    found = chi_squared(first, second)
    pooled = stats.chi2_contingency(np.array([[500, 7], [490, 6]]), correction=False)
    assert found.statistic == pytest.approx(pooled.statistic, rel=1e-9)


def test_categories_that_are_all_rare_cannot_differ():
    assert chi_squared(np.array([1, 1, 0]), np.array([0, 1, 1])).p_value == 1.0


@given(st.integers(50, 5000), st.integers(50, 5000), st.floats(0.1, 0.9), st.floats(0.1, 0.9))
def test_shares_are_tested_as_scipy_does(n, m, p, q):
    first, second = round(p * n), round(q * m)
    found = shares_differ(first, n, second, m)
    table = np.array([[first, n - first], [second, m - second]])
    assume(stats.contingency.expected_freq(table).min() >= 5)
    assert found.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-6, abs=1e-12)


@given(st.integers(1, 60), st.integers(1, 3000), st.floats(0, 1), st.floats(0, 1))
def test_rare_shares_are_tested_by_fishers_exact_test(n, m, p, q):
    first, second = round(p * n), round(q * m)
    table = np.array([[first, n - first], [second, m - second]])
    assume(0 < first + second < n + m)
    assert fisher_exact(first, n, second, m) == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-6, abs=1e-14)
    assert fisher_exact(second, m, first, n) == pytest.approx(fisher_exact(first, n, second, m), rel=1e-9)
    if stats.contingency.expected_freq(table).min() < 5:
        assert shares_differ(first, n, second, m).p_value == fisher_exact(first, n, second, m)


def test_one_row_with_a_null_among_many_is_no_news():
    assert shares_differ(160, 8000, 1, 1).p_value == pytest.approx(0.02, rel=0.01)


def test_equal_shares_do_not_differ():
    assert shares_differ(0, 10, 0, 20).p_value == shares_differ(10, 10, 20, 20).p_value == 1.0


@given(pair())
def test_jensen_shannon_is_scipys_but_for_its_bias(both):
    first, second = both
    assume(first.sum() > 0 and second.sum() > 0)
    found, known = jensen_shannon(first, second), distance.jensenshannon(first, second, base=2)
    used = ((first + second) > 0).sum()
    bias = (used - 1) * (1 / first.sum() + 1 / second.sum()) / (8 * np.log(2))
    assert found**2 == pytest.approx(max(0.0, np.nan_to_num(known) ** 2 - bias), abs=1e-9)


@given(pair())
def test_wasserstein_is_scipys_in_standard_deviations(both):
    first, second = both
    assume(first.sum() > 1 and second.sum() > 0)
    values = np.linspace(-3, 5, len(first))
    spread = np.sqrt(np.average((values - np.average(values, weights=first)) ** 2, weights=first))
    assume(spread > 1e-6)
    known = stats.wasserstein_distance(values, values, first, second) / spread
    assert wasserstein(first, second, values) == pytest.approx(known, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("rows", [500, 5000])
def test_corrected_effects_are_small_where_nothing_changed(rows):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(50))
    pairs = [(rng.multinomial(20_000, shares), rng.multinomial(rows, shares)) for _ in range(200)]
    for measure in (kolmogorov_smirnov, chi_squared):
        found = np.array([measure(*both) for both in pairs])
        assert np.mean(found[:, 3] ** 2) < np.mean(found[:, 2] ** 2) / 2  # most of what chance shows is taken off
    assert np.mean([stability_index(*both) for both in pairs]) < 2 * 9 / rows


def test_a_change_is_seen_whatever_the_sample_size():
    shares = np.full(10, 0.1)
    moved = np.array([0.15, 0.05, *[0.1] * 8])
    sizes = [2000, 200_000]
    found = [chi_squared((shares * 1e6).astype(int), (moved * size).astype(int)).corrected for size in sizes]
    assert found[0] == pytest.approx(found[1], abs=0.02)


@given(pair(), st.integers(2, 12))
def test_the_stability_index_is_its_definition_less_its_bias(both, bins):
    first, second = both
    assume(first.sum() > 0 and second.sum() > 0)
    p, q = (0.5 + each for each in grouped(first, second, bins))
    index = np.sum((q / q.sum() - p / p.sum()) * np.log((q / q.sum()) / (p / p.sum())))
    bias = (len(p) - 1) * (1 / first.sum() + 1 / second.sum())
    assert stability_index(first, second, bins) == pytest.approx(max(0.0, index - bias), abs=1e-9)


def test_a_sample_without_a_row_has_a_finite_stability_index():
    assert np.isfinite(stability_index(np.array([5, 5]), np.array([0, 0])))


@given(pair())
def test_corrected_effects_are_never_negative_nor_above_the_plain_ones(both):
    first, second = both
    assume(first.sum() > 0 and second.sum() > 0)
    for measure in (kolmogorov_smirnov, chi_squared):
        found = measure(first, second)
        assert 0 <= found.corrected <= found.effect + 1e-12
        assert 0 <= found.p_value <= 1


@given(pair())
def test_equal_samples_show_no_effect(both):
    counts = both[0]
    assume(counts.sum() > 0)
    for measure in (kolmogorov_smirnov, chi_squared):
        assert (measure(counts, counts).effect, measure(counts, counts).p_value) == (0.0, 1.0)
    assert jensen_shannon(counts, counts) == stability_index(counts, counts) == 0.0


@given(pair())
def test_cramers_v_is_scipys_of_samples_of_equal_size(both):
    first = both[0] + 20
    second = np.roll(first, 1)
    usual = stats.contingency.association(np.array([first, second]), method="cramer")
    assert chi_squared(first, second).effect == pytest.approx(usual, abs=1e-9)


def test_groups_have_about_equal_mass():
    reference = np.full(1000, 7)
    first, second = grouped(reference, reference * 2, 10)
    assert len(first) == 10
    assert first.min() >= 690
    assert (second == 2 * first).all()


def test_what_can_be_detected_is_detected():
    rows, tests = 2000, 60
    gap = detectable_distance(100_000, rows, tests)
    rng = np.random.default_rng(0)
    reference = np.array([50_000, 50_000])
    hits = 0
    for _ in range(300):
        below = rng.binomial(rows, 0.5 + gap)
        hits += kolmogorov_smirnov(reference, np.array([below, rows - below])).p_value <= 0.05 / tests
    assert 0.7 < hits / 300 < 0.95


def test_nothing_can_be_detected_without_rows():
    assert detectable_distance(0, 10, 5) == detectable_distance(10, 0, 5) == 1.0
