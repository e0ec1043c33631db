"""Shadow and canary beside the stable model."""

import numpy as np
import pytest
from production_journal import CANARY, END, SHADOW, START, Production, draw, outcome, score

from mergeline.evaluate.results import GateOutcome
from mergeline.params import Task


def shadowed(production, noise, rows=3000):
    """Rows whose shadow answers as the stable model does, but for noise."""
    frame = draw(production.rng, rows)
    scores = score(production.task, frame)
    shadow = scores + production.rng.normal(0, noise, scores.shape)
    if production.task.classifies:
        shadow = np.clip(shadow, 0.001, 0.999)
    return production.answer(START, END, 0, frame=frame, shadow=shadow)


@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
def test_a_worse_shadow_is_found_worse_on_the_same_requests(tmp_path, task):
    production = Production(tmp_path, task)
    production.label(shadowed(production, 0.4 if task is Task.BINARY else 2.0))
    (rival,) = production.look().rivals
    assert (rival.role, rival.paired, rival.digest) == ("shadow", True, SHADOW)
    assert rival.labelled == rival.requests == 3000
    assert rival.comparison.outcome is GateOutcome.WORSE
    assert rival.gain.high < 0


def test_a_shadow_that_answers_alike_is_equivalent(production):
    production.label(shadowed(production, 0.001))
    (rival,) = production.look().rivals
    assert rival.comparison.outcome.passes
    assert rival.agreement.same_label > 0.99
    assert rival.agreement.correlation > 0.99


def test_several_classes_are_compared_by_their_right_answers(tmp_path):
    production = Production(tmp_path, Task.MULTICLASS)
    production.label(shadowed(production, 0.5))
    (rival,) = production.look().rivals
    assert rival.gain.high < 0
    assert "accuracy" in rival.reading


def test_without_labels_only_the_agreement_is_told(production):
    shadowed(production, 0.2)
    (rival,) = production.look().rivals
    assert rival.comparison is None
    assert rival.agreement.rows == 3000
    assert 0.5 < rival.agreement.same_label < 1
    assert "too few labels" in rival.reading


def test_a_canary_is_compared_unpaired_and_says_so(production):
    production.label(production.answer(START, END, 3000))
    rows = production.answer(START, END, 3000, digest=CANARY, role="candidate")
    production.label(rows, production.rng.random(3000) < 0.5)
    found = production.look()
    (rival,) = found.rivals
    assert (rival.role, rival.paired, rival.requests) == ("candidate", False, 3000)
    assert "unpaired" in rival.reading
    assert "worse than stable" in rival.reading
    assert rival.gain.high < 0
    assert found.answered == 3000  # the candidate's answers are not the stable model's
    assert found.rows == 6000


def test_no_rival_is_none(production):
    production.label(production.answer(START, END, 500))
    assert production.look().rivals == ()


def test_a_model_that_was_stable_before_is_no_rival(production):
    rows = production.answer(START, END, 500, digest=CANARY, role="stable")
    production.label(rows, outcome(Task.BINARY, np.array(rows["_score"].to_list()), production.rng))
    production.answer(START, END, 500)
    assert production.look().rivals == ()
