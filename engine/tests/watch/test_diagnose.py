"""The likeliest cause of what production shows is named first, and what is missing is never good news."""

from datetime import UTC, datetime, timedelta

import pytest
from production_journal import END, START, draw

from mergeline.errors import WatchError
from mergeline.rollout.status import read_load
from mergeline.watch.causes import Action, Cause, Evidence, Load, Ruling, Server
from mergeline.watch.diagnose import conclusion, diagnose, evidence_of
from mergeline.watch.drift import Change, Finding, Part, Status
from mergeline.watch.results import Outcome
from toy_data import toy_params

PARAMS = toy_params()
QUICK = Load(requests=10_000, failed=3, p99_ms=8)
SLOW = Load(requests=10_000, failed=3, p99_ms=900)
WEEK = timedelta(days=7)
OF_COLUMNS = {Cause.UNIT, Cause.SHIFTED, Cause.PILED, Cause.NULLED, Cause.CATEGORIES, Cause.INPUTS}


def finding(change=Change.VALUES, *, status=Status.DRIFT, effect=0.6, before=None, after=None, **measures):
    return Finding(
        column="amount", part=Part.INPUT, change=change, status=status, against="training", effect=effect, bound=0.03,
        q_value=0.0, before=before, after=after, importance=0.3, measures=measures,
    )  # fmt: skip


STEADY = finding(status=Status.STEADY, effect=0.01, before=50, after=50.5)
NOTHING = Evidence(
    outcome=Outcome.STEADY, findings=(STEADY,), rows=5000, rows_before=5000, answered=5000, labelled=4800,
    labels_before=True, worse=False, meaning=False, quality_change=-0.001, release_recent=False,
    server=Server(stable=QUICK, candidate=None, waiting=0),
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
    "a unit so large that nobody knows the median": (
        drifted(finding(before=50, after=77, beyond=1.0)), Cause.UNIT, Action.MEND),
    "times come from another zone": (drifted(finding(effect=0.15, turned=5.0)), Cause.SHIFTED, Action.MEND),
    "a sensor is off by a constant": (
        drifted(finding(effect=0.4, before=50, after=60, offset=10.0)), Cause.SHIFTED, Action.MEND),
    "all values moved as far as from miles to knots": (
        drifted(finding(effect=0.4, before=20, after=38.6, offset=18.6)), Cause.SHIFTED, Action.MEND),
    "a default stands for what is missing": (
        drifted(finding(effect=0.3, before=50, after=44, piled=0.3)) | WORSE, Cause.PILED, Action.MEND),
    "rows come twice": ({"repeated": 0.5, "rows": 6000, "rows_before": 3000}, Cause.REPEATED, Action.MEND),
    "requests stop": (
        {"rows": 0, "rows_before": 3000, "findings": (), "outcome": Outcome.INCONCLUSIVE}, Cause.SILENT, Action.FIND),
    "the population moves a little, all of it": (
        drifted(finding(effect=0.15, before=50, after=53, offset=3.0)), Cause.INPUTS, Action.RETRAIN),
    "a unit changes while a candidate is slow": (
        drifted(finding(before=5000, after=5)) | server(candidate=SLOW), Cause.UNIT, Action.MEND),
    "a unit changes after a release": (
        drifted(finding(before=5000, after=5)) | WORSE | {"release_recent": True}, Cause.UNIT, Action.MEND),
    "the population moves a little": (drifted(finding(effect=0.1, before=50, after=55)), Cause.INPUTS, Action.RETRAIN),
    "quality falls alone": (WORSE, Cause.CONCEPT, Action.RETRAIN),
    "scores mean something else": (WORSE | {"meaning": True}, Cause.CONCEPT, Action.RETRAIN),
    "a candidate is slow": (server(candidate=SLOW), Cause.CANDIDATE, Action.ROLL_BACK),
    "a slow candidate fills the queue": (server(candidate=SLOW, waiting=120), Cause.CANDIDATE, Action.ROLL_BACK),
    "a candidate fails": (
        server(candidate=Load(requests=3000, failed=600, p99_ms=9)), Cause.BAD_CANDIDATE, Action.ROLL_BACK),
    "labels show a worse candidate": (
        server(candidate=QUICK) | {"candidate_worse": True}, Cause.BAD_CANDIDATE, Action.ROLL_BACK),
    "requests fail, and nothing waits": (
        server(stable=Load(requests=1000, failed=300, p99_ms=8)), Cause.FAILING, Action.MEND),
    "requests fail since they wait": (
        server(stable=Load(requests=1000, failed=300, p99_ms=8), waiting=120), Cause.STARVED, Action.SCALE),
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
    first = diagnose(NOTHING.model_copy(update=change), PARAMS)[0]
    assert (first.ruling, first.cause, first.action) == (Ruling.SUSPECTED, cause, action)


def test_where_nothing_is_wrong_nothing_is_named():
    suspects = diagnose(NOTHING, PARAMS)
    assert {each.cause for each in suspects} == set(Cause)
    assert {each.ruling for each in suspects} == {Ruling.CLEARED}
    assert conclusion(suspects, Outcome.STEADY) is Ruling.CLEARED


def test_a_release_that_changed_nothing_is_no_suspect():
    suspects = diagnose(NOTHING.model_copy(update={"release_recent": True}), PARAMS)
    assert conclusion(suspects, Outcome.STEADY) is Ruling.CLEARED


def test_a_change_that_no_cause_explains_is_not_told_as_none():
    assert conclusion(diagnose(NOTHING, PARAMS), Outcome.DRIFT) is Ruling.INCONCLUSIVE


def test_without_any_input_nothing_is_cleared():
    suspects = diagnose(Evidence(), PARAMS)
    assert {each.ruling for each in suspects} == {Ruling.INCONCLUSIVE}
    assert all(each.missing for each in suspects)


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        ({"server": None}, {Cause.CANDIDATE, Cause.BAD_CANDIDATE, Cause.FAILING, Cause.STARVED}),
        ({"findings": ()}, {*OF_COLUMNS, Cause.CONCEPT}),
        ({"findings": (finding(status=Status.FEW),)}, OF_COLUMNS),
        (server(waiting=128) | {"release_recent": None}, {Cause.STARVED, Cause.FAILING, Cause.RELEASE}),
        (UNLABELLED | {"labels_before": False}, {Cause.CONCEPT, Cause.LABELS}),
        ({"release_recent": True, "worse": None}, {Cause.RELEASE, Cause.CONCEPT}),
        (server(candidate=Load(requests=5, failed=5, p99_ms=4)), {Cause.CANDIDATE, Cause.BAD_CANDIDATE}),
    ],
)
def test_what_is_missing_makes_what_needs_it_inconclusive(change, unknown):
    suspects = diagnose(NOTHING.model_copy(update=change), PARAMS)
    assert {each.cause for each in suspects if each.ruling is Ruling.INCONCLUSIVE} == unknown
    assert conclusion(suspects, Outcome.STEADY) is Ruling.INCONCLUSIVE


def test_a_real_look_at_a_column_in_another_unit_is_diagnosed(production):
    frame = draw(production.rng, 3000)
    frame["amount"] *= 1000
    production.answer(START, END, 0, frame=frame)
    evidence = evidence_of(production.look(), "roc_auc", None, None, END, history=True)
    first = diagnose(evidence, PARAMS)[0]
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
