import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mergeline.stats.two_samples import binomial_tail, deviation


@given(trials=st.integers(1, 20_000), share=st.floats(0.001, 0.999), data=st.data())
def test_the_binomial_tail_is_scipys(trials, share, data):
    hits = data.draw(st.integers(0, trials))
    known = stats.binomtest(hits, trials, share, alternative="greater").pvalue if hits > trials * share else 1.0
    assert binomial_tail(hits, trials, share) == pytest.approx(known, rel=1e-6, abs=1e-200)


@pytest.mark.parametrize(("share", "tail"), [(0.0, 0.0), (1.0, 1.0)])
def test_the_binomial_tail_at_the_ends(share, tail):
    assert binomial_tail(3, 3, share) == tail


@given(st.lists(st.floats(-1e3, 1e3), max_size=50))
def test_the_deviation_from_sums_is_numpys(values):
    found = deviation(len(values), math.fsum(values), math.fsum(value * value for value in values))
    assert found == pytest.approx(float(np.std(values)) if values else 0.0, abs=1e-4)
