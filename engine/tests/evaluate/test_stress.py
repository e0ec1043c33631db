import numpy as np
import pandas as pd
import pytest
from judged_models import COLUMNS, OUTPUTS, fitted, rows, wrap

from mergeline.evaluate.importance import make_probe
from mergeline.evaluate.scoring import score
from mergeline.evaluate.stress import UNSEEN, stress_tests
from mergeline.scorer.signature import Column, Kind, Signature


class Recorder:
    """A pipeline that keeps the rows that it is given, and may refuse some of them."""

    def __init__(self, refuse=None):
        self.seen, self.refuse = [], refuse

    def predict_proba(self, features):
        if self.refuse is not None and self.refuse(features):
            raise ValueError("cannot digest this\nsecond line")
        self.seen.append(features)
        positive = 1 / (1 + np.exp(-features["amount"].fillna(0).to_numpy()))
        return np.column_stack([1 - positive, positive])


def stressed(pipeline, folder, columns=COLUMNS, frame=None, most=None):
    """The results by name, and the rows that the pipeline saw under each disturbance."""
    model = wrap(pipeline, Signature(name="orders", columns=columns, output=OUTPUTS["binary"]), folder)
    frame = rows("binary") if frame is None else frame
    probe = make_probe(model, frame, score(model, frame), metric="roc_auc", rows=600, seed=1)
    pipeline.seen.clear()
    results = {result.name: result for result in stress_tests(probe, 1, most)}
    return results, dict(zip(results, pipeline.seen, strict=False)), probe.features


def with_change(name, **change):
    return tuple(column.model_copy(update=change) if column.name == name else column for column in COLUMNS)


def test_only_columns_that_may_be_empty_are_emptied(tmp_path):
    _, seen, _ = stressed(Recorder(), tmp_path, with_change("amount", nullable=True))
    missing = seen["missing values"].isna().mean()
    assert missing["amount"] == pytest.approx(0.2, abs=0.05)
    assert missing.drop("amount").sum() == 0


def test_a_model_without_columns_that_may_be_empty_is_not_tested_for_it(tmp_path):
    assert "missing values" not in stressed(Recorder(), tmp_path)[0]


def test_whole_numbers_stay_whole_and_inside_their_bounds(tmp_path):
    _, seen, _ = stressed(Recorder(), tmp_path)
    for name in ("shifted inputs", "noisy inputs"):
        items = seen[name]["items"]
        assert (items == items.round()).all()
        assert items.between(0, 9).all()


def test_shifted_numbers_stay_inside_their_bounds(tmp_path):
    _, seen, before = stressed(Recorder(), tmp_path, with_change("amount", maximum=1.0))
    inside = before["amount"] <= 1.0
    assert seen["shifted inputs"]["amount"][inside].max() == 1.0


def test_shifted_numbers_are_half_a_deviation_higher(tmp_path):
    _, seen, before = stressed(Recorder(), tmp_path)
    shift = seen["shifted inputs"]["noise"] - before["noise"]
    assert shift.to_numpy() == pytest.approx(before["noise"].std(ddof=0) / 2)


def test_booleans_stay_booleans_and_few_flip(tmp_path):
    _, seen, before = stressed(Recorder(), tmp_path)
    gift = seen["noisy inputs"]["gift"]
    assert set(gift.unique()) == {0.0, 1.0}
    assert (gift != before["gift"]).mean() == pytest.approx(0.05, abs=0.03)


def test_out_of_range_values_leave_the_range(tmp_path):
    _, seen, before = stressed(Recorder(), tmp_path)
    outside = ~seen["out-of-range values"]["amount"].between(before["amount"].min(), before["amount"].max())
    assert outside.mean() == pytest.approx(0.05, abs=0.03)


def test_out_of_range_values_stay_inside_the_bounds_that_the_server_enforces(tmp_path):
    _, seen, before = stressed(Recorder(), tmp_path, with_change("amount", maximum=5.0))
    assert before["amount"].max() < seen["out-of-range values"]["amount"].max() == 5.0
    assert seen["out-of-range values"]["items"].between(0, 9).all()


@pytest.mark.parametrize("most", [1, 2])
def test_no_row_breaks_in_more_columns_than_may_break_at_once(tmp_path, most):
    _, seen, before = stressed(Recorder(), tmp_path, most=most)
    changed = seen["shifted inputs"].ne(before).sum(axis=1)
    assert changed.max() == most
    assert set(seen["shifted inputs"].columns[seen["shifted inputs"].ne(before).any()]) == {"amount", "noise", "items"}


def test_unseen_categories_reach_open_columns_only(tmp_path):
    results, seen, _ = stressed(Recorder(), tmp_path)
    assert (seen["unseen categories"]["channel"] == UNSEEN).mean() == pytest.approx(0.2, abs=0.05)
    closed, _, _ = stressed(Recorder(), tmp_path, with_change("channel", closed=True))
    assert "unseen categories" in results
    assert "unseen categories" not in closed


def test_the_loss_is_what_the_metric_falls_by(tmp_path):
    results, _, _ = stressed(Recorder(), tmp_path)
    calm = results["shifted inputs"]
    assert calm.loss == pytest.approx(0, abs=1e-12)  # a shift of the one column that is read changes no order
    assert results["out-of-range values"].loss > 0.005


def test_a_model_that_raises_is_a_result_with_its_first_line(tmp_path):
    results, _, _ = stressed(Recorder(lambda features: (features["channel"] == UNSEEN).any()), tmp_path)
    result = results["unseen categories"]
    assert result.error == "ValueError: cannot digest this"
    assert (result.value, result.loss) == (None, None)
    assert results["noisy inputs"].error is None


def test_scores_that_are_not_numbers_are_an_error_of_that_test(tmp_path):
    class Fragile(Recorder):
        def predict_proba(self, features):
            answer = super().predict_proba(features)
            return np.where((features["channel"] == UNSEEN).to_numpy()[:, None], np.nan, answer)

    results, _, _ = stressed(Fragile(), tmp_path)
    assert results["unseen categories"].error.startswith("ModelError:")


def test_an_empty_column_is_survived(tmp_path):
    frame = rows("binary").assign(noise=np.nan)
    results, _, _ = stressed(Recorder(), tmp_path, frame=frame)
    assert all(result.error is None for result in results.values())


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_real_model_of_each_task_is_stressed_the_same_way_every_time(tmp_path, task):
    model, frame = fitted(task, tmp_path), rows(task)
    metric = "mae" if task == "regression" else "roc_auc"
    probe = make_probe(model, frame, score(model, frame), metric=metric, rows=500, seed=1)
    first, second = stress_tests(probe, 1), stress_tests(probe, 1)
    assert first == second
    assert [result.name for result in first] == [
        "out-of-range values",
        "shifted inputs",
        "noisy inputs",
        "unseen categories",
    ]
    assert next(result.loss for result in first if result.name == "out-of-range values") > 0


def test_a_category_of_numbers_is_renamed_too(tmp_path):
    column = Column(name="code", kind=Kind.CATEGORY, nullable=True, categories=("1", "2"))
    frame = rows("binary").assign(code=pd.Series(["1", None] * 600, dtype="str"))
    _, seen, _ = stressed(Recorder(), tmp_path, (*COLUMNS, column), frame)
    assert UNSEEN in set(seen["unseen categories"]["code"].dropna())
