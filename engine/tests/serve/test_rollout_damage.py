"""Rollouts whose state, counts or disk are lost or damaged: stable answers alone, and it is said."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest
from rollout_samples import ERRORS, FAILING, Worker, make_served, make_serving

from mergeline.serve.rollout.state import STATE_FILE, Phase
from mergeline.serve.state import State


@pytest.fixture
def serving(tmp_path):
    stable, candidate = make_served(tmp_path), make_served(tmp_path, version=2)
    steps = [{"weight": 20, "hold": "1m"}, {"weight": 50, "hold": "1m"}]
    return make_serving(stable, candidate, steps=steps, analysis=[{**ERRORS, "interval": "30s", "minSamples": 20}])


@pytest.mark.parametrize("error", [IndexError("tuple index out of range"), SystemExit(3)])
def test_a_look_that_fails_is_told_once_and_in_the_status(tmp_path, serving, caplog, monkeypatch, error):
    worker = Worker(tmp_path, serving)

    def fail():
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(worker.controller._store, "lead", fail)
        monkeypatch.setattr("mergeline.serve.rollout.controller.UPDATE_SECONDS", 0.01)
        worker.controller.start()
        time.sleep(0.2)
        assert type(error).__name__ in worker.told()["rollout_problem"]
    time.sleep(0.2)
    assert worker.told()["rollout_problem"] is None
    assert caplog.text.count("cannot be looked at") == 1
    worker.controller.stop()


@pytest.mark.parametrize("how", ["deleted", "emptied"])
def test_without_the_counts_no_step_is_left_and_it_is_said(tmp_path, serving, how):
    blind = replace(serving, rollout=serving.rollout.model_copy(update={"analysis": ()}))
    worker = Worker(tmp_path, blind).go(1)
    (counted,) = (tmp_path / "run-1").glob("*.counts")
    if how == "deleted":
        counted.unlink()
    else:
        (tmp_path / "run-1" / "empty.counts").touch()
    worker.go(3600, requests=0, every=60)
    assert (worker.weight, worker.controller.state.step) == (20, 0)
    assert "nothing is judged" in worker.told()["rollout_problem"]


@pytest.mark.parametrize("length", [0, 1, 200, -1])
def test_after_a_state_that_is_cut_off_stable_answers_alone_and_it_is_said(tmp_path, serving, length, caplog):
    worker = Worker(tmp_path, serving).go(5, candidate=FAILING)
    worker.controller.stop()
    path = tmp_path / "state" / STATE_FILE
    path.write_bytes(path.read_bytes()[:length])
    again = Worker(tmp_path, serving, run="run-2").go(30)
    assert (again.controller.state, again.weight, again.controller.plan.candidate) == (None, 0, None)
    told = again.told()
    assert (told["rollout"]["phase"], told["rollout"]["weights"]) == ("paused", {"stable": 100, "candidate": 0})
    assert "cannot be read" in told["rollout"]["reason"]
    assert "cannot be read" in told["rollout_problem"]
    assert caplog.text.count("unreadable, stable answers alone") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"step": 99}, {"step": -1}, {"step": 2**70}, {"analyses": {}}, {"step_since": "2026-01-01T00:00:00"},
        {"started": "+99999-01-01T00:00:00Z"}, {"phase": "glorious"}, {"decided": {"started": "\ud800"}},
    ],
)  # fmt: skip
def test_after_a_state_that_cannot_be_stable_answers_alone_and_it_is_said(tmp_path, serving, change):
    worker = Worker(tmp_path, serving).go(1)
    worker.controller.stop()
    path = tmp_path / "state" / STATE_FILE
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    leader, follower = (Worker(tmp_path, serving, run="run-2").go(2) for _ in range(2))
    assert (leader.weight, follower.weight) == (0, 0)
    assert "cannot be read" in leader.told()["rollout_problem"]
    path.unlink()
    assert (leader.go(1).weight, follower.go(1).weight) == (20, 20)


@pytest.mark.parametrize("put", [lambda path: (path.touch(), os.truncate(path, 1 << 40)), os.mkfifo])
def test_a_state_of_holes_or_one_that_is_no_file_is_not_read(tmp_path, serving, put):
    path = tmp_path / "state" / STATE_FILE
    path.parent.mkdir()
    put(path)
    worker = Worker(tmp_path, serving).go(1)
    assert worker.weight == 0
    assert "cannot be read" in worker.told()["rollout_problem"]


def test_a_lost_state_ends_with_its_file_with_another_candidate_or_without_one(tmp_path, serving):
    path = tmp_path / "state" / STATE_FILE
    path.parent.mkdir()
    path.write_text("{")
    worker = Worker(tmp_path, serving).go(1)
    assert worker.weight == 0
    path.unlink()
    assert worker.go(1).weight == 20
    path.write_text("{")
    worker.controller.stop()
    worker = Worker(tmp_path, serving).go(1)
    assert worker.weight == 0
    other = make_served(tmp_path, version=3)
    worker.current.state = State(replace(serving, candidate=other, rolling_out=other.model.digest))
    assert worker.go(1).weight == 20
    worker.current.state = State(make_serving(serving.stable, None))
    worker.go(1)
    assert not path.exists()


def test_followers_of_a_lost_state_send_the_candidate_nothing(tmp_path, serving):
    leader, follower = Worker(tmp_path, serving), Worker(tmp_path, serving)
    assert leader.weight == 20
    (tmp_path / "state" / STATE_FILE).write_text("{")
    assert follower.go(1).weight == 0


def test_on_a_full_disk_a_failed_candidate_gets_nothing_in_any_worker_nor_after_a_restart(tmp_path, full_disk, serving):
    (tmp_path / "state").symlink_to(full_disk.folder)
    leader, follower = Worker(tmp_path, serving), Worker(tmp_path, serving)
    for _ in range(20):  # what becomes free is taken at once
        full_disk.fill()
        leader.go(0.25, candidate=FAILING)
    assert (leader.phase, leader.weight, follower.go(1).weight) == (Phase.FAILED, 0, 0)
    assert "No space left on device" in leader.told()["rollout_problem"]
    for worker in (leader, follower):
        worker.controller.stop()
    again = Worker(tmp_path, serving, run="run-2").go(5)
    assert again.weight == 0
    assert "cannot be read" in again.told()["rollout_problem"]


def test_a_rollout_that_begins_on_a_full_disk_gets_nothing_after_a_restart(tmp_path, full_disk, serving):
    (tmp_path / "state").symlink_to(full_disk.folder)
    full_disk.fill()
    worker = Worker(tmp_path, serving).go(5, candidate=FAILING)
    assert worker.phase is Phase.FAILED
    worker.controller.stop()
    assert Worker(tmp_path, serving, run="run-2").go(5).weight == 0


def test_what_could_not_be_written_is_when_there_is_room_again(tmp_path, full_disk, serving):
    (tmp_path / "state").symlink_to(full_disk.folder)
    worker = Worker(tmp_path, serving)
    full_disk.fill()
    worker.go(61)
    full_disk.make_room()
    assert worker.go(0.25).told()["rollout_problem"] is None
    worker.controller.stop()
    assert Worker(tmp_path, serving, run="run-2", now=worker.now).weight == 50


def test_a_folder_that_cannot_be_written_is_said_and_the_rollout_goes_on(tmp_path, serving):
    (tmp_path / "state").write_text("a file where the folder should be")
    worker = Worker(tmp_path, serving).go(61)
    assert worker.weight == 50
    assert "cannot be kept" in worker.told()["rollout_problem"]
