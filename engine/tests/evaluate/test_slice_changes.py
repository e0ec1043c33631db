import dataclasses

import numpy as np
import pandas as pd
import pytest
from judged_models import params
from scipy import stats
from scored_examples import binary, regression

from mergeline.evaluate.slices import compare_slices
from mergeline.stats.paired import benjamini_hochberg, paired_test


def worse_in_the_south(rows=3000, flatten=0.0):
    """A champion, and a challenger whose scores in the south are pulled to 0.5."""
    champion = binary(rows, seed=1, skill=2.0)
    region = np.random.default_rng(2).choice(["north", "south", "west"], rows)
    pulled = np.where(region == "south", champion.scores + flatten * (0.5 - champion.scores), champion.scores)
    return champion, dataclasses.replace(champion, scores=pulled), pd.DataFrame({"region": region})


def test_a_slice_that_loses_beyond_the_margin_is_called_worse():
    champion, challenger, frame = worse_in_the_south(flatten=0.9)
    changes = {change.value: change for change in compare_slices(champion, challenger, frame, params("binary"))}
    assert [value for value, change in changes.items() if change.worse] == ["south"]
    assert changes["south"].gain.high < -0.1
    assert changes["north"].gain.value == 0


def test_a_slice_that_loses_less_than_the_margin_is_not():
    champion, challenger, frame = worse_in_the_south(flatten=0.2)
    changes = {change.value: change for change in compare_slices(champion, challenger, frame, params("binary"))}
    assert changes["south"].gain.high < 0
    assert not changes["south"].worse


def test_the_values_are_mean_losses_and_the_gain_is_their_difference():
    champion, challenger, frame = worse_in_the_south(flatten=0.5)
    for change in compare_slices(champion, challenger, frame, params("binary")):
        assert change.metric == "log_loss"
        assert change.gain.value == pytest.approx(change.champion - change.challenger)


def test_the_margin_of_a_number_is_a_share_of_the_champions_error():
    champion = regression(2000)
    frame = pd.DataFrame({"region": np.repeat(["a", "b"], 1000)})
    worse = dataclasses.replace(champion, scores=champion.truth + 1.08 * (champion.scores - champion.truth))
    far_worse = dataclasses.replace(champion, scores=champion.truth + 1.2 * (champion.scores - champion.truth))
    margin = params("regression")
    assert not any(change.worse for change in compare_slices(champion, worse, frame, margin))
    assert all(change.worse for change in compare_slices(champion, far_worse, frame, margin))
    scaled = [
        dataclasses.replace(model, truth=60 * model.truth, scores=60 * model.scores) for model in (champion, worse)
    ]
    assert not any(change.worse for change in compare_slices(*scaled, frame, margin))


def test_slices_with_too_few_rows_are_not_compared():
    champion, challenger, _ = worse_in_the_south(300)
    frame = pd.DataFrame({"region": ["north"] * 290 + ["south"] * 10})
    changes = compare_slices(champion, challenger, frame, params("binary"))
    assert [change.value for change in changes] == ["north"]


def test_slices_worse_by_exactly_the_margin_are_rarely_called_worse():
    false_alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        p_values = np.array([paired_test(rng.normal(0.02, 0.2, 200), 0.02, 0.95).p_value for _ in range(10)])
        false_alarms += (benjamini_hochberg(p_values) < 0.05).any()
    assert stats.binomtest(false_alarms, 300, 0.05, alternative="greater").pvalue > 0.001


def test_a_relative_margin_is_a_share_of_the_champions_loss():
    champion, challenger, frame = worse_in_the_south(flatten=0.2)
    south = {change.value: change for change in compare_slices(champion, challenger, frame, params("binary"))}["south"]
    share = -south.gain.value / south.champion
    for margin, worse in ((0.3 * share, True), (1.5 * share, False)):
        settings = params("binary", gate={"slice_margin": margin, "slice_margin_relative": True})
        changes = {change.value: change for change in compare_slices(champion, challenger, frame, settings)}
        assert changes["south"].worse is worse
