from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergeline.errors import ModelError
from mergeline.params import Task
from mergeline.requests.answers import AnswerMaker, encode
from mergeline.scorer.signature import Output

BINARY = Output(task=Task.BINARY, target="late", classes=("no", "yes"), positive="yes", threshold=0.3)
CLASSES = Output(task=Task.MULTICLASS, target="kind", classes=(1, 2, 3))
VALUE = Output(task=Task.REGRESSION, target="delay")


def answers(scores, output: Output, ids=None):
    scores = np.asarray(scores, dtype=float)
    ids = ids or [str(n) for n in range(len(scores))]
    return AnswerMaker(output, version=7, digest="sha256:ab").make(ids, scores)


def test_a_binary_score_is_labelled_from_the_threshold_on():
    assert [answer.label for answer in answers([0.29, 0.3, 0.9], BINARY)] == ["no", "yes", "yes"]


def test_the_positive_class_may_come_first():
    output = BINARY.model_copy(update={"positive": "no"})
    assert [answer.label for answer in answers([0.2, 0.8], output)] == ["yes", "no"]


def test_a_multiclass_answer_is_the_likeliest_class_with_its_probability():
    (answer,) = answers([[0.2, 0.5, 0.3]], CLASSES)
    assert (answer.label, answer.score) == (2, 0.5)
    assert answer.scores == {"1": 0.2, "2": 0.5, "3": 0.3}


def test_a_regression_has_no_label():
    assert json.loads(encode(answers([12.5], VALUE, ["a"]), many=False)) == {
        "id": "a", "score": 12.5, "label": None, "version": 7, "digest": "sha256:ab",
    }  # fmt: skip


def test_an_array_is_answered_by_an_array():
    assert isinstance(json.loads(encode(answers([0.5], BINARY), many=True)), list)
    assert isinstance(json.loads(encode(answers([0.5], BINARY), many=False)), dict)


def test_ids_come_back_in_order():
    assert [answer.id for answer in answers([0.1, 0.2, 0.3], BINARY, ["c", 1, "a"])] == ["c", 1, "a"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("output", "scores"), [(BINARY, [0.5, 0.5]), (CLASSES, [[0.2, 0.5, 0.3]] * 2)])
def test_a_score_that_is_not_finite_is_an_error_that_names_the_record(output, scores, bad):
    scores = np.array(scores)
    scores.reshape(2, -1)[1, -1] = bad
    with pytest.raises(ModelError, match="record 1"):
        answers(scores, output)


@pytest.mark.parametrize(
    ("output", "shape"), [(BINARY, (3,)), (BINARY, (2, 2)), (CLASSES, (2,)), (CLASSES, (2, 2)), (VALUE, (1,))]
)
def test_scores_of_another_shape_are_an_error(output, shape):
    with pytest.raises(ModelError, match="shape"):
        answers(np.zeros(shape), output, ["a", "b"])


@pytest.mark.parametrize("update", [{"threshold": None}, {"classes": ("yes",)}, {"classes": ("yes", "no", "so")}])
def test_a_binary_output_without_a_threshold_or_a_second_class_is_an_error(update):
    with pytest.raises(ModelError, match="threshold and two classes"):
        answers([0.5], BINARY.model_copy(update=update))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_json_brings_back_every_bit_of_a_score(scores):
    sent = json.loads(encode(answers(scores, VALUE), many=True))
    assert [answer["score"] for answer in sent] == scores
