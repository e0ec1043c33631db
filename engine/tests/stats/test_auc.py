import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from mergeline.stats.paired import delong, resample, share_below
from mergeline.stats.two_samples import RUNS, auc_of_runs


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


@settings(max_examples=settings().max_examples // 5)
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
    truth, champion, challenger = pair(1000, 8, gain=0.1)

    def area(scores):
        def measured(counts):
            drawn = [(np.repeat(scores, row), np.repeat(truth, row) == 1) for row in counts]
            return {"auc": np.array([share_below(s[yes], np.sort(s[~yes])).mean() for s, yes in drawn])}

        return measured

    old, new = resample([area(champion), area(challenger)], 1000, resamples=300, seed=1)
    assert np.std(new["auc"] - old["auc"]) == pytest.approx(delong(truth, champion, challenger, 0.95).error, rel=0.15)


@settings(max_examples=settings().max_examples // 5)
@given(seed=st.integers(0, 10_000), levels=st.integers(2, 40))
def test_the_area_of_each_model_is_scikit_learns(seed, levels):
    rng = np.random.default_rng(seed)
    truth = np.arange(80) % 3 == 0
    champion, challenger = (rng.integers(0, levels, 80) + truth for _ in range(2))
    gain = roc_auc_score(truth, challenger) - roc_auc_score(truth, champion)
    assert delong(truth.astype(int), champion, challenger, 0.95).gain == pytest.approx(gain, abs=1e-12)
    assert auc_of_runs(challenger.astype(float), truth)[0] == pytest.approx(roc_auc_score(truth, challenger))


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20).map(np.array),
    st.lists(st.integers(0, 9), min_size=1, max_size=20).map(np.array),
)
def test_the_share_below_counts_ties_by_half(values, others):
    counted = [np.mean((others < value) + 0.5 * (others == value)) for value in values]
    assert share_below(values, np.sort(others)) == pytest.approx(counted)


def test_the_p_value_of_runs_is_near_that_of_delong_for_independent_rows():
    rng = np.random.default_rng(7)
    positive = np.arange(4000) < 2000
    ours, theirs = [], []
    for _ in range(40):
        scores = rng.normal(size=4000) + 0.03 * positive
        auc, p_value = auc_of_runs(scores, positive)
        # Against a model that tells nothing, DeLong's gain in AUC is the AUC itself less 0.5.
        error = delong(positive.astype(int), np.zeros(4000), scores, 0.95).error
        ours.append(p_value)
        theirs.append(stats.norm.sf((auc - 0.5) / error))
    assert np.mean(np.abs(np.array(ours) - theirs)) < 0.05
    assert stats.spearmanr(ours, theirs).statistic > 0.95


def test_the_p_value_of_runs_is_students():
    rng = np.random.default_rng(6)
    positive = np.arange(900) < 400
    scores = rng.normal(size=900) + 0.1 * positive
    auc, p_value = auc_of_runs(scores, positive)
    above = share_below(scores[positive], np.sort(scores[~positive]))
    below = 1 - share_below(scores[~positive], np.sort(scores[positive]))
    means = [[part.mean() for part in np.array_split(shares, RUNS)] for shares in (above, below)]
    error = np.sqrt(sum(np.var(each, ddof=1) for each in means) / RUNS)
    assert p_value == pytest.approx(stats.t.sf((auc - 0.5) / error, RUNS - 1), abs=1e-3)


def test_rows_that_cannot_be_told_apart_have_an_area_of_one_half():
    assert auc_of_runs(np.zeros(100), np.arange(100) < 50) == (0.5, 1.0)
