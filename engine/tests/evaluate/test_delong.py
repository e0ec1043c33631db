import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mergeline.evaluate.bootstrap import resample
from mergeline.evaluate.delong import delong
from mergeline.evaluate.scoring import Scored
from mergeline.params import Task


def pair(count, seed, *, gain=0.0, digits=None):
    """Two models whose noise is shared for the most part."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(count) < 0.4).astype(int)
    shared = rng.normal(size=count)
    scores = [skill * truth + 0.9 * shared + 0.435 * rng.normal(size=count) for skill in (1.0, 1.0 + gain)]
    return truth, *(score if digits is None else score.round(digits) for score in scores)


def by_definition(truth, champion, challenger):
    """Variance of the AUC difference from the whole kernel, as DeLong, DeLong and Clarke-Pearson write it."""
    kernels = []
    for scores in (challenger, champion):
        above, below = scores[truth == 1][:, None], scores[truth == 0][None, :]
        kernels.append((above > below) + 0.5 * (above == below))
    components = [(kernel.mean(axis=1), kernel.mean(axis=0)) for kernel in kernels]
    positive = np.cov(components[0][0], components[1][0])
    negative = np.cov(components[0][1], components[1][1])
    matrix = positive / (truth == 1).sum() + negative / (truth == 0).sum()
    contrast = np.array([1, -1])
    return kernels[0].mean() - kernels[1].mean(), (contrast @ matrix @ contrast) ** 0.5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), digits=st.sampled_from([None, 1, 0]))
def test_gain_and_error_follow_the_definition(seed, digits):
    truth, champion, challenger = pair(60, seed, gain=0.3, digits=digits)
    gain, error = by_definition(truth, champion, challenger)
    found = delong(truth, champion, challenger, 0.95)
    assert (found.gain, found.error) == pytest.approx((gain, error), abs=1e-12)


def test_the_interval_and_the_chance_are_those_of_a_normal():
    found = delong(*pair(300, 1, gain=0.2), 0.9)
    low, high = stats.norm.interval(0.9, found.gain, found.error)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(found.gain / found.error)))


def test_swapping_the_models_turns_the_gain_around():
    truth, champion, challenger = pair(200, 3, gain=0.3)
    there, back = delong(truth, champion, challenger, 0.95), delong(truth, challenger, champion, 0.95)
    assert there.gain == pytest.approx(-back.gain)
    assert there.p_value == pytest.approx(back.p_value)


def test_the_same_model_twice_gains_nothing():
    truth, champion, _ = pair(100, 4)
    found = delong(truth, champion, champion, 0.95)
    assert (found.gain, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_one_positive_row_is_too_few():
    truth = np.array([1, 0, 0, 0])
    assert delong(truth, np.arange(4.0), np.arange(4.0), 0.95) is None


def test_equal_models_seem_to_differ_in_one_case_of_twenty():
    alarms = sum(delong(*pair(300, seed), 0.95).p_value < 0.05 for seed in range(400))
    assert stats.binomtest(alarms, 400, 0.05).pvalue > 0.001


def test_the_error_is_that_of_the_paired_bootstrap():
    truth, champion, challenger = pair(3000, 8, gain=0.1)
    models = [
        Scored(Task.BINARY, truth, 1 / (1 + np.exp(-scores)), ("no", "yes"), 0.5) for scores in (champion, challenger)
    ]
    old, new = resample(models, 1000, 1)
    assert np.std(new["roc_auc"] - old["roc_auc"]) == pytest.approx(
        delong(truth, champion, challenger, 0.95).error, rel=0.1
    )
