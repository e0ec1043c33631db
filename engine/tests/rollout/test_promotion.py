"""Whether a model may go on to the next environment, as a pure function, and what its pull request writes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from release_examples import release

from mergeline.documents import parse
from mergeline.evaluate.results import Status
from mergeline.manifest.edit import add_hold, empty_manifest, promote, started_from
from mergeline.manifest.schema import Manifest
from mergeline.release_params import Rollout
from mergeline.rollout.promote import Condition, Facts, Outcome, Promotion, decide
from mergeline.rollout.status import Serving

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CANARY = Rollout.model_validate({"strategy": "canary", "steps": [{"weight": 5, "hold": "15m"}]})


def serving(*versions, candidate=None):
    """A manifest after these releases, with one more that rolls out."""
    text = empty_manifest("flights")
    for version in versions:
        text = promote(text, release(version))
    if candidate is not None:
        text = promote(text, release(candidate), CANARY)
    return parse(text, Manifest, "manifest")


def facts(**changes):
    """Version 3 has been in staging for two days, its server says so, and production serves version 1."""
    values = {
        "source": serving(1, 2, 3),
        "target": serving(1),
        "since": NOW - 2 * DAY,
        "serving": Serving(digest=release(3).digest, ready=True),
        "watched": "steady",
    }
    return Facts(**(values | changes))


def to_production(verdict, model=""):
    """The step from staging to production on which the verdict is."""
    return Promotion("staging", "production", verdict, model=model)


def failed(verdict):
    return [finding.condition for finding in verdict.findings if finding.status is Status.FAIL]


class TestOneCondition:
    def test_a_model_that_has_proven_itself_goes_on(self):
        verdict = decide(facts(), DAY, NOW)
        assert (verdict.outcome, verdict.release) == (Outcome.PROMOTE, release(3))
        assert {finding.status for finding in verdict.findings} == {Status.PASS}

    @pytest.mark.parametrize(
        ("changes", "condition", "outcome"),
        [
            ({"source": serving()}, Condition.RELEASED, Outcome.NOTHING),
            ({"target": serving(1, 3)}, Condition.RELEASED, Outcome.NOTHING),
            ({"target": serving(1, candidate=3)}, Condition.RELEASED, Outcome.NOTHING),
            ({"target": serving(1, 4)}, Condition.NEWER, Outcome.REFUSE),
            ({"holders": ("production",)}, Condition.HOLDS, Outcome.REFUSE),
            ({"watched": "degraded"}, Condition.WATCH, Outcome.REFUSE),
            ({"serving": Serving(digest=release(2).digest, ready=True)}, Condition.SERVES, Outcome.WAIT),
            ({"serving": Serving(digest=release(3).digest, ready=False)}, Condition.SERVES, Outcome.WAIT),
            ({"serving": Serving(problem="no answer: refused")}, Condition.SERVES, Outcome.WAIT),
            ({"since": NOW - timedelta(hours=23)}, Condition.SOAK, Outcome.WAIT),
            ({"since": None}, Condition.SOAK, Outcome.WAIT),
            ({"target": serving(1, candidate=2)}, Condition.TARGET, Outcome.WAIT),
        ],
    )
    def test_each_that_is_not_so_stops_it_by_itself(self, changes, condition, outcome):
        verdict = decide(facts(**changes), DAY, NOW)
        assert (failed(verdict), verdict.outcome) == ([condition], outcome)

    def test_how_long_it_has_served_is_told_in_units_that_people_take(self):
        def told(served, soak):
            return to_production(decide(facts(since=NOW - served), soak, NOW)).reason

        assert told(timedelta(seconds=20), timedelta(minutes=1)).startswith("20 seconds of 60 seconds: ")
        assert told(timedelta(hours=5), 3 * DAY).startswith("5.0 hours of 3.0 days: ")

    def test_a_model_that_still_rolls_out_there_is_waited_for(self):
        verdict = decide(facts(source=serving(1, candidate=2), target=serving(1)), DAY, NOW)
        assert verdict.outcome is Outcome.WAIT
        assert Condition.ROLLOUT in failed(verdict)
        assert to_production(verdict).reason == "version 2 rolls out in staging: it is not stable yet"

    def test_a_newer_one_that_rolls_out_keeps_nothing_that_is_stable_back(self):
        assert decide(facts(source=serving(1, 2, 3, candidate=4)), DAY, NOW).outcome is Outcome.PROMOTE

    @pytest.mark.parametrize(("changes", "name"), [({"serving": None}, "serves"), ({"watched": ""}, "watch")])
    def test_what_nobody_looked_at_is_reported_and_stops_nothing(self, changes, name):
        verdict = decide(facts(**changes), DAY, NOW)
        (check,) = [one for one in to_production(verdict).checks if one.name == name]
        assert (verdict.outcome, check.status, check.value) == (Outcome.PROMOTE, Status.SKIP, "not checked")

    @pytest.mark.parametrize("watched", ["drift", "inconclusive"])
    def test_drift_that_costs_nothing_yet_is_a_warning(self, watched):
        verdict = decide(facts(watched=watched), DAY, NOW)
        (finding,) = [one for one in verdict.findings if one.condition is Condition.WATCH]
        assert (verdict.outcome, finding.status) == (Outcome.PROMOTE, Status.WARN)

    def test_an_older_model_is_named_with_the_way_back(self):
        verdict = decide(facts(target=serving(1, 4)), DAY, NOW)
        assert "mergeline rollback --environment production --to 3" in to_production(verdict).reason
        told = to_production(verdict, model="fraud").reason
        assert "mergeline rollback --model fraud --environment production --to 3" in told


class TestAllOfThem:
    @given(
        source=st.lists(st.integers(1, 4), unique=True).map(sorted),
        target=st.lists(st.integers(1, 4), unique=True).map(sorted),
        rolling=st.sampled_from([(None, None), (5, None), (None, 5), (5, 6)]),
        holders=st.sampled_from([(), ("staging",), ("staging", "production")]),
        hours=st.one_of(st.none(), st.floats(0, 100)),
        soak=st.integers(1, 100),
        server=st.one_of(
            st.none(), st.builds(lambda version, ready: Serving(digest=release(version).digest, ready=ready),
                                 st.integers(1, 4), st.booleans())
        ),
        watched=st.sampled_from(["", "steady", "drift", "inconclusive", "degraded"]),
    )  # fmt: skip
    def test_what_goes_on_was_served_long_enough_and_is_held_by_nobody(  # noqa: PLR0917 - as hypothesis gives them
        self, source, target, rolling, holders, hours, soak, server, watched
    ):
        here = serving(*source, candidate=rolling[0] if source else None)
        there = serving(*target, candidate=rolling[1] if target else None)
        since = None if hours is None else NOW - timedelta(hours=hours)
        known = Facts(source=here, target=there, holders=holders, since=since, serving=server, watched=watched)
        verdict = decide(known, timedelta(hours=soak), NOW)
        assert len(to_production(verdict).checks) == len(verdict.findings)
        assert to_production(verdict).reason
        if verdict.outcome is not Outcome.PROMOTE:
            assert failed(verdict)
            return
        release_ = here.spec.stable
        assert verdict.release == release_
        assert not holders
        assert watched != "degraded"
        assert hours is not None
        assert hours >= soak - 1e-6
        assert there.spec.candidate is None
        assert server is None or (server.ready and server.digest == release_.digest)
        after = promote(_text(there), release_)  # what is written is a release of the target like any other
        assert parse(after, Manifest, "after").spec.stable == release_
        assert parse(after, Manifest, "after").spec.previous == there.spec.stable


def _text(manifest):
    text = empty_manifest("flights")
    for one in (manifest.spec.previous, manifest.spec.stable):
        text = promote(text, one) if one else text
    return text


class TestTheFirstManifestOfAnEnvironment:
    def test_it_is_production_s_with_its_own_name_and_nothing_that_rolls_out(self):
        text = promote(promote(promote(empty_manifest("flights"), release(1)), release(2)), release(3), CANARY)
        text = add_hold(text.replace("annotations: {}", "annotations: {owner: us}"), release(9).digest, "it was slow")
        made = started_from(text, "staging")
        found, production = parse(made, Manifest, "staging"), parse(text, Manifest, "production")
        assert (found.spec.stable, found.spec.previous) == (production.spec.stable, production.spec.previous)
        assert found.spec.candidate is None
        assert found.spec.holds == production.spec.holds
        assert found.metadata == production.metadata
        assert "# What staging serves." in made
        assert "$schema=../manifest.schema.json" in made
