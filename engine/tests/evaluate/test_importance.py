import numpy as np
import pytest
from judged_models import COLUMNS, fitted, rows, wrap
from sklearn.inspection import permutation_importance as sklearn_importance

from mergeline.evaluate import importance
from mergeline.evaluate.importance import make_probe, permutation_importance, sample_by_class, sample_rows
from mergeline.evaluate.metrics import measure
from mergeline.evaluate.scoring import score
from mergeline.scorer.pipeline import to_features

METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}


def importances(task, folder, *, frame=None, count=800, seed=1):
    model = fitted(task, folder)
    frame = rows(task) if frame is None else frame
    probe = make_probe(model, frame, score(model, frame), metric=METRIC[task], rows=count, seed=seed)
    return permutation_importance(probe, seed, 0.95)


@pytest.mark.parametrize("task", sorted(METRIC))
def test_the_feature_that_the_target_follows_matters_most_and_noise_matters_not(tmp_path, task):
    found = importances(task, tmp_path)
    assert found[0].feature == "amount"
    losses = {importance.feature: importance.loss for importance in found}
    assert abs(losses["noise"]) < 0.05 * losses["amount"]


def test_losses_agree_with_sklearns(tmp_path):
    model, frame = fitted("binary", tmp_path), rows("binary", 3000)
    found = {entry.feature: entry.loss for entry in importances("binary", tmp_path, frame=frame, count=3000)}
    features = to_features(frame, COLUMNS)
    theirs = sklearn_importance(
        model.pipeline, features, frame["target"], scoring="roc_auc", n_repeats=5, random_state=0
    )
    expected = dict(zip(features.columns, theirs.importances_mean, strict=True))
    assert found == pytest.approx(expected, abs=0.01)


def test_the_same_seed_gives_the_same_importances(tmp_path):
    assert importances("binary", tmp_path) == importances("binary", tmp_path)


def test_a_constant_feature_has_none(tmp_path):
    found = importances("binary", tmp_path, frame=rows("binary").assign(items=3))
    assert next(entry for entry in found if entry.feature == "items").loss == 0


def test_a_sample_with_one_class_has_no_importances(tmp_path):
    frame = rows("binary")
    assert importances("binary", tmp_path, frame=frame[frame["target"]]) == ()


def test_a_sample_repeats_no_row_and_keeps_the_order():
    chosen = sample_rows(1000, 100, seed=1)
    assert len(np.unique(chosen)) == 100
    assert (np.diff(chosen) > 0).all()


def test_fewer_rows_than_asked_are_all_taken():
    assert sample_rows(5, 100, seed=1).tolist() == [0, 1, 2, 3, 4]


def test_a_wide_table_is_judged_on_fewer_rows(tmp_path, monkeypatch):
    frame = rows("binary")
    monkeypatch.setattr(importance, "SCORED_ROWS", 1)
    seen = []

    class Watching:
        def __init__(self, inner):
            self.inner = inner

        def predict_proba(self, features):
            seen.append(len(features))
            return self.inner.predict_proba(features)

    model = fitted("binary", tmp_path)
    model = wrap(Watching(model.pipeline), model.signature, tmp_path)
    few = importance.importance_rows(len(COLUMNS), 800)
    probe = make_probe(model, frame, score(model, frame), metric="roc_auc", rows=few, seed=1)
    found = permutation_importance(probe, 1, 0.95)
    assert found[0].feature == "amount"
    assert seen[-1] == importance.FEWEST_ROWS * importance.MOST_REPEATS


def rare(count=40_000, share=0.005):
    """Rows of which few are positive."""
    frame = rows("binary", count)
    kept = ~frame["target"] | (np.random.default_rng(1).random(count) < share)
    return frame[kept].reset_index(drop=True)


def test_a_rare_class_is_drawn_more_often_and_the_metric_stays_what_it_is(tmp_path):
    model, frame = fitted("binary", tmp_path), rare()
    scored = score(model, frame)
    chosen, weights = sample_by_class(scored, 1000, seed=1)
    positives = int(scored.truth.sum())
    assert positives < 200
    assert scored.truth[chosen].sum() == positives
    assert len(chosen) == pytest.approx(1000, abs=2)
    assert weights.sum() == pytest.approx(len(frame), rel=0.01)
    found, whole = measure(scored.take(chosen), weights), measure(scored)
    assert (found["roc_auc"], found["log_loss"]) == pytest.approx((whole["roc_auc"], whole["log_loss"]), abs=0.02)


def test_classes_that_are_not_rare_are_drawn_as_they_come(tmp_path):
    model, frame = fitted("binary", tmp_path), rows("binary", 5000)
    chosen, weights = sample_by_class(score(model, frame), 1000, seed=1)
    assert weights is None
    assert chosen.tolist() == sample_rows(5000, 1000, seed=1).tolist()


@pytest.mark.parametrize("task", sorted(METRIC))
def test_the_interval_holds_the_loss_and_is_narrow_where_rows_are_many(tmp_path, task):
    few, many = (importances(task, tmp_path, frame=rows(task, count), count=count) for count in (150, 2400))
    widths = [found[0].high - found[0].low for found in (few, many)]
    assert widths[1] < 0.5 * widths[0]
    for entry in (*few, *many):
        assert entry.low <= entry.loss <= entry.high
    noise = next(entry for entry in many if entry.feature == "noise")
    assert noise.low < 0.02 * many[0].loss
    assert many[0].low > 0
