"""The likeliest cause of what production shows is named first, and what is missing is never good news."""

from datetime import UTC, datetime, timedelta

import pytest
from production_journal import END, START, draw

from mergeline.errors import WatchError
from mergeline.rollout.status import read_load
from mergeline.watch.diagnose import (
    Action,
    Cause,
    Evidence,
    Limits,
    Load,
    Ruling,
    Server,
    conclusion,
    diagnose,
    evidence_of,
)
from mergeline.watch.drift import Change, Finding, Part, Status
from mergeline.watch.results import Outcome

LIMITS = Limits(max_waiting=128, max_latency_ms=500, max_error_rate=0.05)
QUICK = Load(requests=10_000, failed=3, p99_ms=8)
SLOW = Load(requests=10_000, failed=3, p99_ms=900)
WEEK = timedelta(days=7)


def finding(change=Change.VALUES, *, status=Status.DRIFT, effect=0.6, before=None, after=None):
    return Finding(
        column="amount", part=Part.INPUT, change=change, status=status, against="training", effect=effect, bound=0.03,
        q_value=0.0, before=before, after=after, importance=0.3, measures={},
    )  # fmt: skip


STEADY = finding(status=Status.STEADY, effect=0.01, before=50, after=50.5)
NOTHING = Evidence(
    outcome=Outcome.STEADY, findings=(STEADY,), answered=5000, labelled=4800, labels_before=True, worse=False,
    meaning=False, quality_change=-0.001, release_recent=False, server=Server(stable=QUICK, candidate=None, waiting=0),
)  # fmt: skip
WORSE = {"worse": True, "quality_change": -0.06, "outcome": Outcome.DEGRADED}
UNLABELLED = {"labelled": 0, "worse": None, "meaning": None, "quality_change": None}


def server(stable=QUICK, candidate=None, waiting=0):
    return {"server": Server(stable=stable, candidate=candidate, waiting=waiting)}


def drifted(*findings):
    return {"findings": findings, "outcome": Outcome.DRIFT}


INJECTED = {
    "metres become kilometres": (drifted(finding(before=5000, after=5)), Cause.UNIT, Action.MEND),
    "miles become kilometres, and quality falls": (
        drifted(finding(before=10, after=16.1)) | WORSE, Cause.UNIT, Action.MEND),
    "Fahrenheit becomes Celsius": (drifted(finding(before=60, after=15.6)), Cause.UNIT, Action.MEND),
    "a column is nulled, and its rest moves": (
        drifted(finding(Change.MISSING, before=0.01, after=0.9), finding(before=50, after=44)) | WORSE,
        Cause.NULLED, Action.MEND),
    "a column is absent": ({"absent": ("amount",), "outcome": Outcome.DRIFT}, Cause.NULLED, Action.MEND),
    "new categories come": (
        drifted(finding(Change.NEW, effect=0.2, before=0.0, after=0.2), finding(effect=0.2)),
        Cause.CATEGORIES, Action.MEND),
    "the population moves a little": (drifted(finding(effect=0.1, before=50, after=55)), Cause.INPUTS, Action.RETRAIN),
    "quality falls alone": (WORSE, Cause.CONCEPT, Action.RETRAIN),
    "scores mean something else": (WORSE | {"meaning": True}, Cause.CONCEPT, Action.RETRAIN),
    "a candidate is slow": (server(candidate=SLOW), Cause.CANDIDATE, Action.ROLL_BACK),
    "a slow candidate fills the queue": (server(candidate=SLOW, waiting=120), Cause.CANDIDATE, Action.ROLL_BACK),
    "everything is slow": (server(stable=SLOW, candidate=SLOW), Cause.STARVED, Action.SCALE),
    "requests wait": (server(waiting=128), Cause.STARVED, Action.SCALE),
    "quality falls after a release": (WORSE | {"release_recent": True}, Cause.RELEASE, Action.ROLL_BACK),
    "errors come with a release": (
        server(stable=Load(requests=1000, failed=200, p99_ms=8)) | {"release_recent": True},
        Cause.RELEASE, Action.ROLL_BACK),
    "labels stop": (UNLABELLED, Cause.LABELS, Action.WAIT),
}  # fmt: skip


@pytest.mark.parametrize("name", INJECTED)
def test_the_injected_cause_is_first(name):
    change, cause, action = INJECTED[name]
    first = diagnose(NOTHING.model_copy(update=change), LIMITS)[0]
    assert (first.ruling, first.cause, first.action) == (Ruling.SUSPECTED, cause, action)


def test_where_nothing_is_wrong_nothing_is_named():
    suspects = diagnose(NOTHING, LIMITS)
    assert {each.cause for each in suspects} == set(Cause)
    assert {each.ruling for each in suspects} == {Ruling.CLEARED}
    assert conclusion(suspects, Outcome.STEADY) is Ruling.CLEARED


def test_a_release_that_changed_nothing_is_no_suspect():
    suspects = diagnose(NOTHING.model_copy(update={"release_recent": True}), LIMITS)
    assert conclusion(suspects, Outcome.STEADY) is Ruling.CLEARED


def test_a_change_that_no_cause_explains_is_not_told_as_none():
    assert conclusion(diagnose(NOTHING, LIMITS), Outcome.DRIFT) is Ruling.INCONCLUSIVE


def test_without_any_input_nothing_is_cleared():
    suspects = diagnose(Evidence(), LIMITS)
    assert {each.ruling for each in suspects} == {Ruling.INCONCLUSIVE}
    assert all(each.missing for each in suspects)


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        ({"server": None}, {Cause.CANDIDATE, Cause.STARVED}),
        ({"findings": ()}, {Cause.UNIT, Cause.NULLED, Cause.CATEGORIES, Cause.INPUTS, Cause.CONCEPT}),
        ({"findings": (finding(status=Status.FEW),)}, {Cause.UNIT, Cause.NULLED, Cause.CATEGORIES, Cause.INPUTS}),
        (server(waiting=128) | {"release_recent": None}, {Cause.STARVED, Cause.RELEASE}),
        (UNLABELLED | {"labels_before": False}, {Cause.CONCEPT, Cause.LABELS}),
        ({"release_recent": True, "worse": None}, {Cause.RELEASE, Cause.CONCEPT}),
        (server(candidate=Load(requests=5, failed=0, p99_ms=4)), {Cause.CANDIDATE}),
    ],
)
def test_what_is_missing_makes_what_needs_it_inconclusive(change, unknown):
    suspects = diagnose(NOTHING.model_copy(update=change), LIMITS)
    assert {each.cause for each in suspects if each.ruling is Ruling.INCONCLUSIVE} == unknown
    assert conclusion(suspects, Outcome.STEADY) is Ruling.INCONCLUSIVE


def test_a_real_look_at_a_column_in_another_unit_is_diagnosed(production):
    frame = draw(production.rng, 3000)
    frame["amount"] *= 1000
    production.answer(START, END, 0, frame=frame)
    evidence = evidence_of(production.look(), "roc_auc", None, None, END, history=True)
    first = diagnose(evidence, LIMITS)[0]
    assert (first.cause, first.column) == (Cause.UNIT, "amount")


def test_a_release_is_recent_in_the_window_and_in_the_one_before(production):
    production.answer(START, END, 300)
    look = production.look()
    length = END - START
    for released, recent in ((END, True), (START - length / 2, True), (START - 2 * length, False), (None, False)):
        found = evidence_of(look, "roc_auc", released, None, END, history=True)
        assert found.release_recent is recent
    assert evidence_of(look, "roc_auc", END, None, END, history=False).release_recent is None
    now = datetime(2026, 3, 8, tzinfo=UTC)
    assert evidence_of(None, "roc_auc", now - WEEK, None, now, history=True).release_recent


def test_the_load_is_read_from_the_status_of_a_server():
    counts = {"requests": 200, "failed": 1, "p99_ms": 7.5, "p50_ms": 1.0}
    told = {"rollout": None, "waiting": 3, "counts": {"stable": counts, "candidate": counts}}
    assert read_load(told, "here") == Server(stable=Load(requests=200, failed=1, p99_ms=7.5), candidate=None, waiting=3)
    for strange in ([], {}, {"rollout": None, "waiting": 0, "counts": None}):
        with pytest.raises(WatchError, match="nothing of the load"):
            read_load(strange, "here")
