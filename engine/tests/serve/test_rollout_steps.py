from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from rollout_samples import BAD, BETWEEN, CANDIDATE, ERROR, ERRORS, FEW, GOOD, START, STEPS, Run, make_rollout

from mergeline.release_params import Analysis
from mergeline.serve.rollout import step
from mergeline.serve.rollout.measure import Reading
from mergeline.serve.rollout.state import (
    MOST_DECISIONS,
    MOST_MEASUREMENTS,
    MeasurementOutcome,
    Phase,
    RolloutState,
    identity_of,
    shadow_share,
    weight,
)
from mergeline.serve.rollout.step import judge

SHIFT = {**ERRORS, "name": "shift", "metric": "score_shift", "success": "<= 0.1", "failure": "> 0.25"}


def analysis_of(**keys) -> list[dict]:
    return [{**ERRORS, **keys}]


class TestSteps:
    def test_a_rollout_begins_on_its_first_step_at_once(self):
        run = Run(make_rollout())
        assert (run.weight, run.state.phase, run.kinds) == (5, Phase.PROGRESSING, ["started"])

    def test_a_step_is_held_for_its_time_and_not_longer(self):
        run = Run(make_rollout()).go(9.75)
        assert run.weight == 5
        assert run.go(0.25).weight == 25
        assert run.go(19.75).weight == 25
        assert run.go(0.25).weight == 50

    def test_after_the_last_step_the_candidate_has_passed_and_answers_all(self):
        run = Run(make_rollout()).go(60)
        assert (run.state.phase, run.weight) == (Phase.PASSED, 100)
        assert run.kinds == ["started", "advanced", "advanced", "passed"]
        assert "a pull request may make the candidate stable" in run.state.reason

    def test_without_analyses_time_alone_advances(self):
        run = Run(make_rollout(analysis=[])).go(60)
        assert run.state.phase is Phase.PASSED

    def test_a_hold_goes_on_while_the_server_is_down(self):
        run = Run(make_rollout())
        run.now += timedelta(hours=5)
        run.go(0.25)
        assert run.weight == 25
        assert run.state.step_since == run.now

    def test_a_clock_that_is_set_back_takes_nothing_back(self):
        run = Run(make_rollout()).go(10)
        run.now -= timedelta(hours=1)
        assert run.go(1).weight == 25

    def test_every_decision_has_its_time_its_weight_and_its_reason(self):
        advanced = Run(make_rollout()).go(10).state.decisions[-1]
        assert (advanced.at, advanced.weight) == (START + timedelta(minutes=10), 25)
        assert advanced.reason == "step 2 of 3: weight 25, hold 20m"


class TestMeasurements:
    @pytest.mark.parametrize(
        ("value", "outcome"),
        [
            (0.01, MeasurementOutcome.SUCCESSFUL),
            (0.0100001, MeasurementOutcome.INCONCLUSIVE),
            (0.05, MeasurementOutcome.INCONCLUSIVE),
            (0.0500001, MeasurementOutcome.FAILED),
        ],
    )
    def test_between_success_and_failure_nothing_is_concluded(self, value, outcome):
        assert judge(Analysis.model_validate(ERRORS), value) is outcome

    def test_failure_is_looked_at_before_success(self):
        both = Analysis.model_validate({**ERRORS, "success": "< 1", "failure": "> 0"})
        assert judge(both, 0.5) is MeasurementOutcome.FAILED

    def test_one_is_taken_each_interval(self):
        run = Run(make_rollout()).go(5)
        minutes = [(one.at - START).total_seconds() / 60 for one in run.state.analyses["errors"].measurements]
        assert minutes == [1, 2, 3, 4, 5]

    def test_each_has_a_window_of_its_own(self):
        run = Run(make_rollout())
        before = run.state.analyses["errors"]
        after = run.go(1).state.analyses["errors"]
        assert (after.window, after.window_since) == (before.window + 1, run.now)

    def test_a_new_step_begins_a_new_window(self):
        run = Run(make_rollout(analysis=analysis_of(interval="7m"))).go(10)
        assert run.state.analyses["errors"].window_since == run.now

    def test_an_interval_longer_than_the_hold_is_cut_short_by_it(self):
        run = Run(make_rollout(analysis=analysis_of(interval="1h"))).go(10)
        assert len(run.state.analyses["errors"].measurements) == 1
        assert run.weight == 25

    def test_it_says_what_it_makes_of_the_value(self):
        measurement = Run(make_rollout()).go(1, BETWEEN).state.analyses["errors"].measurements[-1]
        assert measurement.reason == "error_rate 0.03 is neither <= 0.01 nor > 0.05"
        assert (measurement.value, measurement.samples) == (0.03, 500)

    def test_the_newest_are_kept(self):
        run = Run(make_rollout(steps=[{"weight": 5, "hold": "1h"}])).go(40)
        assert len(run.state.analyses["errors"].measurements) == MOST_MEASUREMENTS
        assert run.state.analyses["errors"].successful == 40


class TestFailure:
    def test_one_failure_more_than_the_limit_rolls_back(self):
        run = Run(make_rollout(analysis=analysis_of(failureLimit=2))).go(2, BAD)
        assert run.state.phase is Phase.PROGRESSING
        run.go(1, BAD)
        assert (run.state.phase, run.weight) == (Phase.FAILED, 0)
        assert "errors: error_rate 0.2 is > 0.05; 3 failed, failureLimit is 2" in run.state.reason

    def test_failures_are_counted_over_the_steps(self):
        run = Run(make_rollout(analysis=analysis_of(failureLimit=1))).go(1, BAD).go(15)
        assert run.weight == 25
        assert run.go(1, BAD).state.phase is Phase.FAILED

    def test_failed_is_final(self):
        run = Run(make_rollout()).go(1, BAD)
        failed = run.state
        assert run.go(600, GOOD).state is failed

    def test_it_may_be_told_to_pause_instead(self):
        run = Run(make_rollout(onFailure="pause")).go(1, BAD)
        assert (run.state.phase, run.weight) == (Phase.PAUSED, 5)
        assert run.go(120, GOOD).state.phase is Phase.PAUSED

    def test_a_dry_run_decides_nothing(self):
        run = Run(make_rollout(analysis=analysis_of(dryRun=True))).go(60, BAD)
        assert run.state.phase is Phase.PASSED
        assert run.state.analyses["errors"].failed > 10

    def test_a_dry_run_without_samples_holds_nothing_up(self):
        assert Run(make_rollout(analysis=analysis_of(dryRun=True))).go(60, FEW).state.phase is Phase.PASSED

    def test_what_has_passed_can_still_fail(self):
        run = Run(make_rollout()).go(60).go(1, BAD)
        assert (run.state.phase, run.weight) == (Phase.FAILED, 0)

    @pytest.mark.parametrize("reading", [BETWEEN, ERROR, FEW])
    @pytest.mark.parametrize("action", ["pause", "rollback"])
    def test_what_has_passed_stays_so_whatever_else_is_measured(self, reading, action):
        run = Run(make_rollout(onError=action, onInconclusive=action)).go(60).go(30, reading)
        assert (run.state.phase, run.weight) == (Phase.PASSED, 100)

    def test_the_worse_of_two_analyses_decides(self):
        run = Run(make_rollout(analysis=[ERRORS, SHIFT])).go(1, {"errors": BETWEEN, "shift": Reading(0.5, 500)})
        assert run.state.phase is Phase.FAILED
        assert run.state.reason.startswith("analysis shift")


class TestInconclusive:
    def test_a_value_between_the_bounds_pauses_until_the_manifest_changes(self):
        run = Run(make_rollout()).go(1, BETWEEN)
        assert (run.state.phase, run.weight, run.state.lasting) == (Phase.PAUSED, 5, True)
        assert run.go(300, GOOD).state.phase is Phase.PAUSED
        assert run.kinds == ["started", "paused"]

    def test_as_many_as_the_limit_are_let_go(self):
        run = Run(make_rollout(analysis=analysis_of(inconclusiveLimit=2))).go(2, BETWEEN).go(8)
        assert run.weight == 25

    def test_it_may_be_told_to_roll_back(self):
        assert Run(make_rollout(onInconclusive="rollback")).go(1, BETWEEN).state.phase is Phase.FAILED

    def test_a_pause_can_still_fail(self):
        run = Run(make_rollout(analysis=[ERRORS, SHIFT])).go(1, {"errors": BETWEEN, "shift": Reading(0.0, 500)})
        assert run.state.phase is Phase.PAUSED
        assert run.go(1, {"shift": Reading(0.5, 500)}).state.phase is Phase.FAILED


class TestTooFewSamples:
    def test_they_are_waited_for_while_the_step_is_held(self):
        run = Run(make_rollout()).go(9.75, FEW)
        assert run.state.phase is Phase.PROGRESSING
        assert run.state.analyses["errors"].measurements == ()

    def test_the_window_goes_on_until_there_are_enough(self):
        run = Run(make_rollout()).go(5, FEW)
        assert run.state.analyses["errors"].window_since == START
        assert run.go(0.25, GOOD).state.analyses["errors"].successful == 1

    def test_no_samples_when_the_hold_is_over_are_never_good_news(self):
        run = Run(make_rollout()).go(10, Reading(None, 0))
        assert (run.state.phase, run.weight, run.state.waiting) == (Phase.PAUSED, 5, ("errors",))
        assert "0 of 100 samples when the hold was over" in run.state.reason

    def test_the_rollout_goes_on_when_they_come(self):
        run = Run(make_rollout()).go(10, FEW).go(60, FEW)
        assert run.state.phase is Phase.PAUSED
        assert run.state.analyses["errors"].inconclusive == 1
        run.go(0.25, GOOD)
        assert (run.state.phase, run.weight) == (Phase.PROGRESSING, 25)
        assert run.kinds == ["started", "paused", "resumed", "advanced"]

    def test_and_fails_if_they_are_bad(self):
        assert Run(make_rollout()).go(10, FEW).go(0.25, BAD).state.phase is Phase.FAILED

    def test_and_stays_paused_if_they_tell_nothing(self):
        run = Run(make_rollout()).go(10, FEW).go(0.25, BETWEEN)
        assert (run.state.phase, run.state.lasting) == (Phase.PAUSED, True)
        assert run.go(60, GOOD).state.phase is Phase.PAUSED

    def test_all_that_lacked_samples_must_have_them(self):
        run = Run(make_rollout(analysis=[ERRORS, SHIFT])).go(10, FEW)
        assert run.state.waiting == ("errors", "shift")
        run.go(0.25, {"errors": GOOD, "shift": FEW})
        assert (run.state.phase, run.state.waiting) == (Phase.PAUSED, ("shift",))
        assert run.go(0.25, GOOD).state.phase is Phase.PROGRESSING

    def test_a_limit_lets_the_step_go_without_them(self):
        run = Run(make_rollout(analysis=analysis_of(inconclusiveLimit=1))).go(10, FEW)
        assert run.weight == 25
        assert run.go(20, FEW).state.phase is Phase.PAUSED


class TestErrors:
    def test_more_in_a_row_than_the_limit_pause_it_and_data_mend_it(self):
        run = Run(make_rollout(analysis=analysis_of(consecutiveErrorLimit=2))).go(2, ERROR)
        assert run.state.phase is Phase.PROGRESSING
        run.go(1, ERROR)
        assert (run.state.phase, run.weight, run.state.waiting) == (Phase.PAUSED, 5, ("errors",))
        assert "the counts cannot be read" in run.state.reason
        assert run.go(1, GOOD).state.phase is Phase.PROGRESSING

    def test_one_good_measurement_begins_the_row_anew(self):
        run = Run(make_rollout(analysis=analysis_of(consecutiveErrorLimit=2)))
        for _ in range(3):
            run.go(2, ERROR).go(1, GOOD)
        assert run.state.phase is Phase.PROGRESSING

    def test_a_step_is_not_left_on_an_error(self):
        run = Run(make_rollout(analysis=analysis_of(interval="10m"))).go(10, ERROR)
        assert (run.state.phase, run.weight) == (Phase.PROGRESSING, 5)
        assert run.go(10, GOOD).weight == 25

    def test_errors_at_the_end_of_a_hold_are_an_interval_apart(self):
        run = Run(make_rollout(analysis=analysis_of(interval="10m"))).go(30, ERROR)
        assert run.state.analyses["errors"].errors == 3

    def test_a_value_that_is_no_number_is_an_error(self):
        run = Run(make_rollout()).go(1, Reading(float("nan"), 500))
        assert run.state.analyses["errors"].measurements[-1].outcome is MeasurementOutcome.ERROR

    def test_it_may_be_told_to_roll_back(self):
        run = Run(make_rollout(onError="rollback", analysis=analysis_of(consecutiveErrorLimit=0)))
        assert run.go(1, ERROR).state.phase is Phase.FAILED


class TestShadow:
    def test_the_candidate_answers_nobody_and_the_weight_is_what_it_scores(self):
        run = Run(make_rollout(strategy="shadow"))
        shares = [(run.weight, shadow_share(run.rollout, run.state))]
        for minutes in (10, 20, 30):
            run.go(minutes)
            shares.append((run.weight, shadow_share(run.rollout, run.state)))
        assert shares == [(0, 5), (0, 25), (0, 50), (0, 50)]
        assert run.state.phase is Phase.PASSED

    def test_without_steps_it_goes_on_until_the_manifest_changes(self):
        run = Run(make_rollout(strategy="shadow", steps=[])).go(600)
        assert (run.state.phase, shadow_share(run.rollout, run.state)) == (Phase.PROGRESSING, 100)

    def test_without_steps_it_can_fail(self):
        run = Run(make_rollout(strategy="shadow", steps=[])).go(1, BAD)
        assert (run.state.phase, shadow_share(run.rollout, run.state)) == (Phase.FAILED, 0)


class TestIdentity:
    def test_another_candidate_or_another_section_is_another_rollout(self):
        one = make_rollout()
        others = [make_rollout(sticky="tailnum"), make_rollout(steps=STEPS[:2]), make_rollout(onError="rollback")]
        identities = {identity_of(CANDIDATE, rollout) for rollout in (one, *others)}
        assert len(identities | {identity_of("sha256:" + "d" * 64, one)}) == 5

    def test_it_survives_being_written_and_read(self):
        state = Run(make_rollout()).go(31, GOOD).state
        assert RolloutState.model_validate_json(state.model_dump_json()) == state


READINGS = st.sampled_from([GOOD, GOOD, GOOD, BETWEEN, BAD, FEW, ERROR, Reading(None, 900), Reading(float("inf"), 900)])
ACTIONS = st.sampled_from(["rollback", "pause"])
LIMITS = st.integers(min_value=0, max_value=3)


class AnyRollout(RuleBasedStateMachine):
    """Whatever is measured, and whenever: what must hold of every rollout."""

    @initialize(
        strategy=st.sampled_from(["canary", "shadow"]),
        weights=st.lists(st.integers(min_value=1, max_value=100), min_size=1, max_size=4, unique=True),
        limits=st.lists(st.tuples(LIMITS, LIMITS, LIMITS, st.booleans()), max_size=2),
        actions=st.tuples(ACTIONS, ACTIONS, ACTIONS),
    )
    def begin(self, strategy, weights, limits, actions):
        analysis = [
            {
                **ERRORS,
                "name": str(number),
                "failureLimit": failures,
                "inconclusiveLimit": inconclusive,
                "consecutiveErrorLimit": errors,
                "dryRun": dry,
            }
            for number, (failures, inconclusive, errors, dry) in enumerate(limits)
        ]
        self.rollout = make_rollout(
            strategy=strategy,
            steps=[{"weight": one, "hold": "3m"} for one in sorted(weights)],
            analysis=analysis,
            **dict(zip(("onFailure", "onError", "onInconclusive"), actions, strict=True)),
        )
        self.now = START
        self.states = [step.start(self.rollout, CANDIDATE, START)]

    @rule(seconds=st.integers(min_value=-60, max_value=400), readings=st.lists(READINGS, min_size=2, max_size=2))
    def look(self, seconds, readings):
        self.now += timedelta(seconds=seconds)
        due = step.due(self.rollout, self.states[-1], self.now)
        given = {analysis.name: reading for analysis, reading in zip(due, readings, strict=False)}
        self.states.append(step.advance(self.rollout, self.states[-1], given, self.now))

    @rule()
    def breach(self):
        # Seldom, or hardly a rollout would get far.
        if len(self.states) % 7 == 0:
            self.states.append(step.abort(self.rollout, self.states[-1], "guard errors: for a test", self.now))

    @invariant()
    def the_weight_never_goes_back_but_to_0(self):
        for before, after in zip(self.states, self.states[1:], strict=False):
            shares = [weight(self.rollout, state) + shadow_share(self.rollout, state) for state in (before, after)]
            assert shares[1] >= shares[0] or (after.phase is Phase.FAILED and shares[1] == 0)

    @invariant()
    def failed_is_final_and_passed_can_only_fail(self):
        for before, after in zip(self.states, self.states[1:], strict=False):
            if before.phase is Phase.FAILED:
                assert after == before
            if before.phase is Phase.PASSED:
                assert after.phase in (Phase.PASSED, Phase.FAILED)

    @invariant()
    def a_step_is_never_skipped(self):
        for before, after in zip(self.states, self.states[1:], strict=False):
            assert after.step in (before.step, before.step + 1)

    @invariant()
    def every_change_of_phase_or_step_is_a_decision_with_a_reason(self):
        for before, after in zip(self.states, self.states[1:], strict=False):
            if (before.phase, before.step) != (after.phase, after.step):
                assert sum(after.decided.values()) > sum(before.decided.values())
                assert after.decisions[-1].reason

    @invariant()
    def a_share_is_a_share_and_a_shadow_answers_nobody(self):
        for state in self.states:
            assert 0 <= weight(self.rollout, state) <= 100
            assert self.rollout.strategy == "canary" or weight(self.rollout, state) == 0
            assert len(state.decisions) <= MOST_DECISIONS

    @invariant()
    def a_pause_knows_what_it_waits_for(self):
        for state in self.states:
            if state.phase is Phase.PAUSED:
                assert state.lasting or state.waiting
                assert state.reason

    @invariant()
    def the_last_state_survives_being_written(self):
        state = self.states[-1]
        assert RolloutState.model_validate_json(state.model_dump_json()) == state


AnyRollout.TestCase.settings = settings(max_examples=settings().max_examples, stateful_step_count=25, deadline=None)
TestAnyRollout = AnyRollout.TestCase
