import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from mergeline.stats.paired import benjamini_hochberg, detection, paired_test

LOSSES = st.lists(st.floats(-5, 5).map(lambda value: round(value, 3)), min_size=2, max_size=60).map(np.array)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_q_values_are_those_of_scipy(p_values):
    assert benjamini_hochberg(np.array(p_values)) == pytest.approx(stats.false_discovery_control(p_values), abs=1e-12)


def test_no_tests_have_no_q_values():
    assert benjamini_hochberg(np.array([])).tolist() == []


@given(added=LOSSES, margin=st.floats(-0.5, 0.5), confidence=st.floats(0.5, 0.99))
def test_the_paired_test_is_students(added, margin, confidence):
    assume(added.std() > 1e-6)
    found = paired_test(added, margin, confidence)
    known = stats.ttest_1samp(added, margin, alternative="greater")
    interval = stats.ttest_1samp(added, 0).confidence_interval(confidence)
    assert found.p_value == pytest.approx(known.pvalue, abs=1e-9)
    assert (found.added, found.low, found.high) == pytest.approx((added.mean(), interval.low, interval.high))


@given(old=LOSSES, seed=st.integers(0, 1000))
def test_a_margin_a_row_is_a_paired_difference(old, seed):
    new = old + np.random.default_rng(seed).normal(0.1, 1, len(old))
    margin = 0.1 * np.abs(old)
    known = stats.ttest_rel(new - old, margin, alternative="greater")
    assert paired_test(new - old, margin, 0.95).p_value == pytest.approx(known.pvalue, abs=1e-9)


def test_rows_that_all_lose_the_same_are_certain():
    assert paired_test(np.zeros(10), 0.1, 0.95) == (0, 0, 0, 1)
    assert paired_test(np.full(10, 0.5), 0.1, 0.95).p_value == 0


@pytest.mark.parametrize(("confidence", "target"), [(0.95, 0.8), (0.9, 0.5), (0.99, 0.9)])
def test_on_the_rows_that_are_needed_the_difference_shows_as_often_as_asked_for(confidence, target):
    difference, spread = 0.1, 1.0
    needed = detection(spread / 10, 100, difference, confidence=confidence, target=target).rows_needed
    rng = np.random.default_rng(0)
    means = rng.normal(difference, spread, (2000, needed)).mean(axis=1)
    reach = stats.norm.ppf((1 + confidence) / 2) * spread / needed**0.5
    assert (means - reach > 0).mean() == pytest.approx(target, abs=0.03)
    assert detection(spread / needed**0.5, needed, difference, confidence=confidence, target=target).power == (
        pytest.approx(target, abs=0.01)
    )
