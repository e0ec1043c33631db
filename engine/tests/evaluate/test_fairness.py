import numpy as np
import pytest
from fairlearn import metrics as fairlearn
from judged_models import fitted, params, rows
from scored_examples import binary, multiclass, regression

from mergeline.errors import DataError
from mergeline.evaluate.fairness import ACCURACY, ERROR, ODDS, PARITY, evaluate_fairness
from mergeline.evaluate.scoring import Scored, score
from mergeline.params import Task


def frame_of(groups):
    frame = rows("binary", len(groups))
    frame["channel"] = groups
    return frame


def test_the_gaps_of_a_binary_model_are_fairlearns(tmp_path):
    frame = rows("binary", 800)
    scored = score(fitted("binary", tmp_path), frame)
    (found,) = evaluate_fairness(scored, frame, params("binary"))
    arguments = {"sensitive_features": frame["channel"]}
    assert found.gaps[PARITY] == pytest.approx(
        fairlearn.demographic_parity_difference(scored.truth, scored.labels(), **arguments)
    )
    assert found.gaps[ODDS] == pytest.approx(
        fairlearn.equalized_odds_difference(scored.truth, scored.labels(), **arguments)
    )


def test_each_group_shows_its_rates(tmp_path):
    frame = rows("binary", 800)
    scored = score(fitted("binary", tmp_path), frame)
    (found,) = evaluate_fairness(scored, frame, params("binary"))
    web = next(group for group in found.groups if group.group == "web")
    here = (frame["channel"] == "web").to_numpy()
    assert web.rows == here.sum()
    assert web.rates["selection_rate"] == pytest.approx(scored.labels()[here].mean())
    assert web.rates["true_positive_rate"] == pytest.approx(scored.labels()[here & (scored.truth == 1)].mean())


def test_a_group_without_a_positive_row_has_no_true_positive_rate_and_leaves_the_gap_undefined():
    truth = np.array([0] * 100 + [0, 1] * 50)
    scored = Scored(Task.BINARY, truth, np.linspace(0, 1, 200), ("no", "yes"), 0.5)
    (found,) = evaluate_fairness(scored, frame_of(["a"] * 100 + ["b"] * 100), params("binary"))
    assert "true_positive_rate" not in found.groups[0].rates
    assert set(found.gaps) == {PARITY}


def test_small_groups_are_pooled():
    groups = ["a"] * 200 + ["b"] * 150 + ["c"] * 30 + ["d"] * 20
    (found,) = evaluate_fairness(binary(400), frame_of(groups), params("binary"))
    assert [(group.group, group.rows) for group in found.groups] == [("a", 200), ("b", 150), ("other", 50)]


def test_one_group_has_no_gaps():
    (found,) = evaluate_fairness(binary(200), frame_of(["a"] * 200), params("binary"))
    assert found.gaps == {}


def test_missing_groups_are_a_group():
    (found,) = evaluate_fairness(binary(200), frame_of(["a"] * 100 + [None] * 100), params("binary"))
    assert [group.group for group in found.groups] == ["a", "missing"]


def test_many_classes_are_judged_one_against_the_rest():
    scored = multiclass(600)
    groups = np.random.default_rng(8).choice(["a", "b"], 600)
    (found,) = evaluate_fairness(scored, frame_of(groups), params("multiclass"))
    label = scored.scores.argmax(axis=1)

    def one_against_rest(place):
        return (scored.truth == place).astype(int), (label == place).astype(int)

    parity = max(
        fairlearn.demographic_parity_difference(*one_against_rest(place), sensitive_features=groups)
        for place in range(3)
    )
    odds = max(
        fairlearn.equalized_odds_difference(*one_against_rest(place), sensitive_features=groups) for place in range(3)
    )
    right = label == scored.truth
    assert found.gaps[PARITY] == pytest.approx(parity)
    assert found.gaps[ODDS] == pytest.approx(odds)
    assert found.gaps[ACCURACY] == pytest.approx(abs(right[groups == "a"].mean() - right[groups == "b"].mean()))


def test_the_gap_of_a_regression_is_a_share_of_its_error():
    scored = regression(300)
    groups = np.repeat(["a", "b"], 150)
    (found,) = evaluate_fairness(scored, frame_of(groups), params("regression"))
    errors = np.abs(scored.scores - scored.truth)
    assert found.gaps[ERROR] == pytest.approx(abs(errors[:150].mean() - errors[150:].mean()) / errors.mean())


def test_a_column_that_does_not_exist_names_the_nearest():
    with pytest.raises(DataError, match=r"evaluation\.fairness.*\n.*did you mean 'channel'"):
        evaluate_fairness(binary(50), frame_of(["a"] * 50), params("binary", evaluation={"fairness": ["chanel"]}))
