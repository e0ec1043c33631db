from __future__ import annotations

import errno
import fcntl
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from rollout_samples import ERRORS, FAILING, START, Worker, make_served, make_serving

from mergeline.errors import ModelError
from mergeline.serve.metrics import RolloutCollector
from mergeline.serve.rollout.state import STATE_FILE, Phase
from mergeline.serve.state import Failure, State


@pytest.fixture
def models(tmp_path):
    return make_served(tmp_path), make_served(tmp_path, version=2)


@pytest.fixture
def serving(models):
    stable, candidate = models
    steps = [{"weight": 20, "hold": "1m"}, {"weight": 50, "hold": "1m"}]
    return make_serving(stable, candidate, steps=steps, analysis=[{**ERRORS, "interval": "30s", "minSamples": 20}])


class TestRollout:
    def test_a_candidate_that_does_well_passes(self, tmp_path, serving):
        worker = Worker(tmp_path, serving)
        assert worker.weight == 20
        assert worker.go(59).weight == 20
        assert worker.go(2).weight == 50
        assert worker.go(60).weight == 100
        assert worker.phase is Phase.PASSED

    def test_one_that_fails_its_analysis_goes(self, tmp_path, serving):
        # Slower than stable, and yet within the guard's bounds.
        p99 = [
            {**ERRORS, "metric": "p99_ratio", "success": "<= 2", "failure": "> 5", "interval": "30s", "minSamples": 20}
        ]
        slow = replace(serving, rollout=make_serving(serving.stable, serving.candidate, analysis=p99).rollout)
        worker = Worker(tmp_path, slow).go(31, requests=30, candidate={"seconds": 0.03})
        assert (worker.phase, worker.weight) == (Phase.FAILED, 0)
        assert "analysis errors: p99_ratio 1" in worker.controller.state.reason

    def test_no_traffic_is_no_good_news(self, tmp_path, serving):
        worker = Worker(tmp_path, serving).go(120, requests=0)
        assert (worker.phase, worker.weight) == (Phase.PAUSED, 20)

    def test_a_candidate_that_is_not_loaded_begins_when_it_is(self, tmp_path, serving):
        worker = Worker(tmp_path, replace(serving, candidate=None)).go(300)
        assert (worker.weight, worker.controller.state) == (0, None)
        worker.current.state = State(serving)
        assert worker.go(0.25).controller.state.started == worker.now


class TestGuard:
    @pytest.mark.parametrize(
        ("candidate", "rule"),
        [
            (FAILING, "errors"),
            ({"seconds": 3.0}, "latency"),
            ({"scores": (float("nan"),)}, "invalid"),
            ({"scores": (0.5,)}, "constant"),
        ],
    )
    def test_a_candidate_goes_within_five_seconds(self, tmp_path, serving, candidate, rule):
        worker = Worker(tmp_path, serving).go(20, requests=20).go(5, requests=20, candidate=candidate)
        assert (worker.phase, worker.weight) == (Phase.FAILED, 0)
        assert worker.controller.state.reason.startswith(f"guard {rule}: ")

    def test_disagreement_takes_it_off_too(self, tmp_path, serving):
        worker = Worker(tmp_path, serving).go(5)
        worker.controller.counters.pair(90, 100)
        assert worker.go(0.25).phase is Phase.FAILED

    def test_with_few_requests_three_failures_are_enough(self, tmp_path, serving):
        worker = Worker(tmp_path, serving)
        for _ in range(3):
            assert worker.phase is Phase.PROGRESSING
            worker.controller.counters.add("candidate", 1, 0.002, failed=True)
            worker.go(10, requests=0)
        assert worker.phase is Phase.FAILED

    def test_it_watches_what_has_passed(self, tmp_path, serving):
        worker = Worker(tmp_path, serving).go(130)
        assert worker.phase is Phase.PASSED
        assert worker.go(5, candidate=FAILING).phase is Phase.FAILED

    def test_it_never_takes_stable_off(self, tmp_path, serving):
        worker = Worker(tmp_path, serving)
        for _ in range(200):
            worker.controller.counters.add("stable", 1, 3.0, failed=True)
        worker.go(5, requests=0)
        assert worker.controller.plan.stable is serving.stable
        assert worker.phase is Phase.PROGRESSING


class TestRestart:
    def test_the_same_manifest_goes_on_where_it_was(self, tmp_path, serving):
        before = Worker(tmp_path, serving).go(70)
        before.controller.stop()
        after = Worker(tmp_path, serving, run="run-2", now=before.now)
        assert after.weight == 50
        assert after.controller.state == before.controller.state

    def test_failed_stays_failed(self, tmp_path, serving):
        before = Worker(tmp_path, serving).go(5, candidate=FAILING)
        before.controller.stop()
        after = Worker(tmp_path, serving, run="run-2", now=before.now + timedelta(days=3)).go(300)
        assert (after.phase, after.weight) == (Phase.FAILED, 0)

    def test_another_section_begins_anew(self, tmp_path, serving):
        worker = Worker(tmp_path, serving).go(5, candidate=FAILING)
        other = replace(serving, rollout=make_serving(serving.stable, serving.candidate, onError="rollback").rollout)
        worker.current.state = State(other)
        assert worker.go(0.25).phase is Phase.PROGRESSING

    def test_another_candidate_begins_anew_and_is_not_blamed_for_the_one_before(self, tmp_path, serving):
        worker = Worker(tmp_path, serving).go(70).go(5, candidate=FAILING)
        other = make_served(tmp_path, version=3)
        worker.current.state = State(replace(serving, candidate=other, rolling_out=other.model.digest))
        worker.go(10)
        assert (worker.phase, worker.weight) == (Phase.PROGRESSING, 20)

    def test_a_new_stable_model_does_not_begin_it_anew(self, tmp_path, serving):
        worker = Worker(tmp_path, serving).go(70)
        stable = make_served(tmp_path, version=4)
        worker.current.state = State(replace(serving, stable=stable))
        worker.go(0.25)
        assert (worker.controller.plan.stable, worker.weight) == (stable, 50)

    def test_without_a_candidate_the_state_goes(self, tmp_path, serving):
        worker = Worker(tmp_path, serving).go(5)
        worker.current.state = State(make_serving(serving.stable, None))
        worker.go(0.25)
        assert not (tmp_path / "state" / STATE_FILE).exists()
        assert (worker.controller.state, worker.controller.plan.candidate) == (None, None)

    def test_a_candidate_that_cannot_be_loaded_again_keeps_its_state(self, tmp_path, serving):
        worker = Worker(tmp_path, serving).go(5, candidate=FAILING)
        worker.current.state = State(replace(serving, candidate=None))
        worker.go(5)
        worker.current.state = State(serving)
        assert worker.go(1).phase is Phase.FAILED


class TestSeveralWorkers:
    def test_one_leads_and_the_others_follow(self, tmp_path, serving):
        leader, follower = Worker(tmp_path, serving), Worker(tmp_path, serving)
        leader.go(61)
        follower.now = leader.now
        follower.controller.update()
        assert (leader.weight, follower.weight) == (50, 50)
        assert follower.controller.state == leader.controller.state

    def test_what_fails_in_one_worker_takes_the_candidate_off_in_all(self, tmp_path, serving):
        leader, follower = Worker(tmp_path, serving), Worker(tmp_path, serving)
        follower.go(1, candidate=FAILING, requests=20)
        leader.go(1, requests=0)
        follower.go(0.25, requests=0)
        assert (leader.weight, follower.weight) == (0, 0)

    def test_the_next_leads_when_the_leader_ends(self, tmp_path, serving):
        leader, follower = Worker(tmp_path, serving), Worker(tmp_path, serving)
        leader.controller.stop()
        follower.go(61)
        assert follower.weight == 50

    def test_a_follower_that_has_another_manifest_sends_the_candidate_nothing(self, tmp_path, serving):
        Worker(tmp_path, serving)
        other = make_served(tmp_path, version=3)
        follower = Worker(tmp_path, replace(serving, candidate=other, rolling_out=other.model.digest))
        assert follower.weight == 0

    def test_who_has_no_candidate_lets_one_lead_that_has_it(self, tmp_path, serving):
        leader, follower = Worker(tmp_path, serving), Worker(tmp_path, serving)
        leader.current.state = State(replace(serving, candidate=None))
        leader.go(0.25, requests=0)
        follower.go(1, candidate=FAILING, requests=20)
        assert (follower.phase, follower.weight) == (Phase.FAILED, 0)

    def test_a_failed_candidate_stays_failed_where_no_state_can_be_kept(self, tmp_path, serving):
        (tmp_path / "state").write_text("a file where the folder should be")
        worker = Worker(tmp_path, serving).go(5, candidate=FAILING)
        assert worker.phase is Phase.FAILED
        worker.current.state = State(replace(serving, candidate=None))
        worker.go(0.25, requests=0)
        worker.current.state = State(serving)
        assert worker.go(0.25, requests=0).phase is Phase.FAILED

    def test_a_drive_without_locks_is_said_and_the_rollout_goes_on(self, tmp_path, serving, monkeypatch):
        def refuse(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
        worker = Worker(tmp_path, serving).go(61)
        assert worker.weight == 50
        assert "No locks available" in worker.told()["rollout_problem"]

    def test_the_lock_of_a_killed_leader_is_free(self, tmp_path, serving):
        code = (
            "import sys, time; from pathlib import Path; from mergeline.serve.rollout.state import StateStore\n"
            "store = StateStore(Path(sys.argv[1])); print(store.lead(), flush=True); time.sleep(60)"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "state")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout.readline() == "True\n"
            worker = Worker(tmp_path, serving).go(1)
            assert worker.controller.state is None
            other.send_signal(signal.SIGKILL)
            other.wait(10)
            assert worker.go(0.25).phase is Phase.PROGRESSING


class TestTelling:
    def test_status_tells_step_weights_analysis_and_decisions(self, tmp_path, serving):
        told = Worker(tmp_path, serving).go(70).told()
        rollout = told["rollout"]
        assert told["candidate"]["digest"] == serving.rolling_out
        assert (rollout["phase"], rollout["weights"]) == ("progressing", {"stable": 50, "candidate": 50})
        assert (rollout["step"]["number"], rollout["step"]["of"]) == (2, 2)
        assert rollout["step"]["seconds_left"] == pytest.approx(50, abs=1)
        (analysis,) = rollout["analysis"]
        assert (analysis["name"], analysis["outcome"], analysis["value"]) == ("errors", "successful", 0.0)
        assert analysis["measurements"][0]["samples"] >= 20
        assert [decision["kind"] for decision in rollout["decisions"]] == ["started", "advanced"]
        assert all(decision["reason"] and decision["at"] for decision in rollout["decisions"])
        assert told["counts"]["candidate"]["requests"] > 50

    def test_without_a_candidate_there_is_none(self, tmp_path, serving):
        told = Worker(tmp_path, make_serving(serving.stable, None)).told()
        assert (told["candidate"], told["rollout"]) == (None, None)

    def test_a_refused_candidate_says_why(self, tmp_path, serving):
        refused = replace(serving, candidate=None, refused=Failure(ModelError("it is broken", where="x"), START))
        told = Worker(tmp_path, refused).told()["rollout"]
        assert (told["phase"], told["reason"], told["candidate"]) == ("refused", "x: it is broken", serving.rolling_out)

    def test_metrics_are_what_status_says(self, tmp_path, serving):
        from prometheus_client import CollectorRegistry, generate_latest

        worker = Worker(tmp_path, serving).go(70)
        registry = CollectorRegistry()
        registry.register(RolloutCollector(worker.controller))
        generate_latest(registry)
        value = registry.get_sample_value
        assert value("mergeline_weight", {"role": "candidate"}) == 50
        assert value("mergeline_rollout_step", {}) == 2
        assert value("mergeline_rollout_phase", {"phase": "progressing"}) == 1
        assert value("mergeline_rollout_phase", {"phase": "failed"}) == 0
        assert value("mergeline_rollout_decisions_total", {"decision": "advanced"}) == 1
        requests = value("mergeline_role_requests_total", {"role": "stable"})
        assert requests == worker.told()["counts"]["stable"]["requests"]
        assert value("mergeline_role_seconds_count", {"role": "stable"}) == requests
        assert value("mergeline_role_seconds_bucket", {"role": "stable", "le": "0.001"}) == 0
        assert value("mergeline_role_seconds_bucket", {"role": "stable", "le": "0.00316228"}) == requests
        assert value("mergeline_analysis_value", {"analysis": "errors"}) == 0
