from __future__ import annotations

import pytest
from serve_samples import make_signature

from mergeline.journal.labels import Feedback, read_feedback
from mergeline.params import Task
from mergeline.requests.problems import RequestError
from mergeline.scorer.signature import Output

BINARY, MULTICLASS, REGRESSION = (
    make_signature(task).output for task in (Task.BINARY, Task.MULTICLASS, Task.REGRESSION)
)
NUMBERED = Output(task=Task.MULTICLASS, target="digit", classes=(0, 1, 2))


def read(document, output=BINARY, most=10):
    return read_feedback(document, output, most)


def problems(document, output=BINARY):
    with pytest.raises(RequestError) as caught:
        read(document, output)
    assert caught.value.status == 422
    return [tuple(problem) for problem in caught.value.problems]


def test_one_label_is_an_object_and_many_are_an_array():
    assert read({"id": "a", "label": True}) == (Feedback("a", "true", None),)
    assert read([{"id": "a", "label": True}, {"id": 5, "label": False}]) == (
        Feedback("a", "true", None),
        Feedback(5, "false", None),
    )


@pytest.mark.parametrize(
    ("output", "sent", "kept"),
    [
        (BINARY, False, Feedback("a", "false", None)),
        (MULTICLASS, "b", Feedback("a", "b", None)),
        (NUMBERED, 1, Feedback("a", "1", None)),
        (NUMBERED, 1.0, Feedback("a", "1", None)),
        (REGRESSION, 2, Feedback("a", None, 2.0)),
        (REGRESSION, -1.5, Feedback("a", None, -1.5)),
    ],
)
def test_a_label_is_what_the_answers_say(output, sent, kept):
    assert read({"id": "a", "label": sent}, output) == (kept,)


@pytest.mark.parametrize(
    ("output", "sent"),
    [
        (BINARY, 1),
        (BINARY, "true"),
        (BINARY, None),
        (MULTICLASS, "d"),
        (MULTICLASS, ["a"]),
        (NUMBERED, True),
        (NUMBERED, "1"),
        (NUMBERED, 3),
        (NUMBERED, 0.5),
    ],
)
def test_what_is_no_class_is_refused_with_the_classes(output, sent):
    ((record, field, reason, _),) = problems({"id": "a", "label": sent}, output)
    assert (record, field) == (0, "label")
    assert reason.startswith("must be one of the classes: ")


@pytest.mark.parametrize("sent", ["2.5", None, True, {}, 10**400, float("inf"), float("nan")])
def test_what_is_no_finite_number_is_refused_in_a_regression(sent):
    ((record, field, reason, _),) = problems({"id": "a", "label": sent}, REGRESSION)
    assert (record, field) == (0, "label")
    assert "number" in reason


def test_every_problem_is_told_by_record_and_field():
    found = problems([{"id": "a", "label": True}, {"id": "", "label": 7}, {"labl": True}, 3])
    assert [(record, field, reason) for record, field, reason, _ in found] == [
        (1, "label", "must be one of the classes: false, true"),
        (1, "id", "must be of 1 to 200 characters"),
        (2, "labl", "unknown field; did you mean `label`?"),
        (2, "label", "is missing"),
        (2, "id", "is missing"),
        (3, "", "a label must be a JSON object"),
    ]


@pytest.mark.parametrize("key", [None, True, 1.5, [], "x" * 201, "\ud800", 2**63])
def test_an_id_is_a_string_or_a_whole_number(key):
    ((record, field, _, _),) = problems({"id": key, "label": True})
    assert (record, field) == (0, "id")


def test_a_number_without_a_fraction_is_whole():
    assert read({"id": 5.0, "label": True})[0].id == 5


def test_an_empty_array_is_refused():
    assert problems([]) == []


def test_too_many_labels_are_refused():
    with pytest.raises(RequestError) as caught:
        read([{"id": "a", "label": True}] * 11)
    assert caught.value.status == 413


def test_problems_beyond_the_first_are_counted():
    with pytest.raises(RequestError) as caught:
        read_feedback([{"id": "a", "label": 9}] * 30, BINARY, 100)
    assert (len(caught.value.problems), caught.value.more) == (20, 10)
