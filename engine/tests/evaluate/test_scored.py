import numpy as np
import pandas as pd
import pytest
from judged_models import COLUMNS, OUTPUTS, fitted, rows, wrap

from mergeline.errors import DataError, ModelError
from mergeline.evaluate.scoring import read_truth, score
from mergeline.scorer.signature import Output, Signature


class Answers:
    """A pipeline that answers what it was given."""

    def __init__(self, answer):
        self.answer = np.asarray(answer, dtype=float)

    def predict(self, features):
        return self.answer

    def predict_proba(self, features):
        return self.answer


def answering(task, answer, folder):
    return wrap(Answers(answer), Signature(name="orders", columns=COLUMNS, output=OUTPUTS[task]), folder)


def test_the_truth_of_a_binary_task_is_one_for_the_positive_class():
    output = Output(task="binary", target="answer", classes=("no", "yes"), positive="no", threshold=0.5)
    assert read_truth(pd.DataFrame({"answer": ["yes", "no", "yes"]}), output).tolist() == [0, 1, 0]


def test_the_truth_of_many_classes_is_their_place_in_the_signature():
    output = Output(task="multiclass", target="answer", classes=(3, 1, 2))
    assert read_truth(pd.DataFrame({"answer": [1, 2, 3]}), output).tolist() == [1, 2, 0]


def test_a_model_is_scored_beside_its_truth(tmp_path):
    frame = rows("binary", 50)
    scored = score(fitted("binary", tmp_path), frame)
    assert scored.truth.tolist() == frame["target"].astype(int).tolist()
    assert (scored.classes, scored.threshold) == (("False", "True"), 0.4)


def test_labels_begin_at_the_threshold(tmp_path):
    scored = score(answering("binary", [[0.6, 0.4], [0.61, 0.39]], tmp_path), rows("binary", 2))
    assert scored.labels().tolist() == [1, 0]


def test_a_holdout_without_rows_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        score(fitted("binary", tmp_path), rows("binary", 10).iloc[:0])


def test_a_missing_target_column_names_the_nearest(tmp_path):
    with pytest.raises(DataError, match="did you mean 'targets'"):
        score(fitted("binary", tmp_path), rows("binary", 10).rename(columns={"target": "targets"}))


def test_rows_without_a_target_are_an_error(tmp_path):
    frame = rows("regression", 10)
    frame.loc[3, "target"] = np.nan
    with pytest.raises(DataError, match="1 of 10 holdout rows have no target"):
        score(fitted("regression", tmp_path), frame)


def test_a_class_that_training_never_saw_is_an_error(tmp_path):
    frame = rows("multiclass", 10)
    frame.loc[3, "target"] = "enormous"
    with pytest.raises(DataError, match="'enormous'"):
        score(fitted("multiclass", tmp_path), frame)


def test_scores_that_are_not_numbers_are_an_error(tmp_path):
    model = answering("binary", [[0.5, 0.5], [np.nan, np.nan]], tmp_path)
    with pytest.raises(ModelError, match="1 of 2 scores are not finite"):
        score(model, rows("binary", 2))


def test_scores_that_are_not_probabilities_are_an_error(tmp_path):
    model = answering("binary", [[-1.0, 2.0], [0.5, 0.5]], tmp_path)
    with pytest.raises(ModelError, match="between 0 and 1"):
        score(model, rows("binary", 2))


def test_scores_for_too_few_classes_are_an_error(tmp_path):
    model = answering("multiclass", [[0.5, 0.5], [0.5, 0.5]], tmp_path)
    with pytest.raises(ModelError, match=r"shape \(2, 2\), expected \(2, 3\)"):
        score(model, rows("multiclass", 2))


def test_a_regression_may_answer_any_number(tmp_path):
    assert score(answering("regression", [-3.0, 40.0], tmp_path), rows("regression", 2)).scores.tolist() == [-3.0, 40.0]
