"""Training on a cluster ends when the cluster falls silent, and at no other time."""

import threading
import time

import pytest

from mergeline.model import backend
from mergeline.model.backend import ClusterLost, ended_when_lost, within


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(backend, "LOST_SECONDS", 0.2)
    monkeypatch.setattr(backend, "LOOK_SECONDS", 0.02)


def fails():
    raise OSError("nobody there")


@pytest.mark.parametrize("workers", [list, fails, lambda: threading.Event().wait(5)], ids=["none", "error", "hangs"])
def test_a_silent_cluster_interrupts_a_wait_without_a_limit(workers):
    started = time.monotonic()
    with pytest.raises(ClusterLost), ended_when_lost(workers):
        threading.Event().wait(5)
    assert time.monotonic() - started < 1


def test_a_cluster_that_comes_back_is_not_lost():
    answers = iter([[], ["one"], [], ["one"]] * 100)
    with ended_when_lost(lambda: next(answers)):
        time.sleep(0.4)


def test_what_is_done_before_is_not_interrupted_after():
    with ended_when_lost(list):
        pass
    time.sleep(0.3)


def test_an_error_of_the_work_stays_what_it_is():
    with pytest.raises(KeyError), ended_when_lost(lambda: ["one"]):
        raise KeyError("column")


def test_a_thread_has_no_signals_and_is_not_watched():
    def work():
        with ended_when_lost(list):
            time.sleep(0.3)
        return "done"

    assert within(2, work) == "done"


def test_within_its_time_a_call_returns_or_raises_and_else_it_is_left_alone():
    assert within(1, lambda: 5) == 5
    with pytest.raises(OSError, match="nobody there"):
        within(1, fails)
    with pytest.raises(TimeoutError):
        within(0.05, lambda: time.sleep(0.5))
