from __future__ import annotations

import threading
import time

import pytest

from mergeline.errors import ModelError
from mergeline.serve import model_loading as attempts_module
from mergeline.serve.model_loading import Key, ModelLoader, TooSlowError, UnfinishedError

KEY, OTHER = Key("sha256:a", "stable"), Key("sha256:b", "stable")


class Work:
    """Work that ends when a test says so, and counts how often it was begun."""

    def __init__(self) -> None:
        self.end, self.begun = threading.Event(), 0

    def __call__(self, tell) -> str:
        self.begun += 1
        tell("at work")
        self.end.wait(30)
        return "done"


@pytest.fixture
def work():
    made = Work()
    yield made
    made.end.set()


def test_what_is_quick_is_there_at_once():
    assert ModelLoader(5).run(KEY, "spec.stable", lambda tell: 7) == 7


def test_what_the_work_raises_is_raised_and_the_next_attempt_is_a_new_one():
    loader, results = ModelLoader(5), [ModelError("broken"), ModelError("still broken")]

    def fail(tell):
        raise results.pop(0)

    for text in ("broken", "still broken"):
        with pytest.raises(ModelError, match=f"^{text}"):
            loader.run(KEY, "spec.stable", fail)


def test_what_takes_too_long_is_told_with_what_it_is_at(work):
    with pytest.raises(TooSlowError, match=r"not ready after 0.05 seconds, and is still at work") as caught:
        ModelLoader(0.05).run(KEY, "spec.candidate", work)
    assert caught.value.where == "spec.candidate"


def test_what_hangs_is_begun_once_and_told_at_once_however_often_it_is_asked_for(work):
    loader = ModelLoader(0.05)
    with pytest.raises(TooSlowError):
        loader.run(KEY, "spec.candidate", work)
    start = time.monotonic()
    for _ in range(100):
        with pytest.raises(TooSlowError):
            loader.run(KEY, "spec.candidate", work)
    assert time.monotonic() - start < 2
    assert work.begun == 1


def test_what_was_only_slow_is_taken_when_it_comes(work):
    loader = ModelLoader(0.05)
    with pytest.raises(TooSlowError):
        loader.run(KEY, "spec.candidate", work)
    work.end.set()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            assert loader.run(KEY, "spec.candidate", work) == "done"
            break
        except TooSlowError:
            time.sleep(0.01)
    assert work.begun == 1


def test_while_its_time_is_not_up_the_caller_looks_elsewhere_now_and_then(work, monkeypatch):
    monkeypatch.setattr(attempts_module, "UPDATE_SECONDS", 0.05)
    loader = ModelLoader(30)
    start = time.monotonic()
    with pytest.raises(UnfinishedError):
        loader.run(KEY, "spec.stable", work)
    assert loader.run(OTHER, "spec.stable", lambda tell: "another") == "another"
    assert time.monotonic() - start < 10
    work.end.set()
    assert ModelLoader(30).run(KEY, "spec.stable", work) == "done"


def test_a_result_that_nobody_wants_any_more_is_given_up(work):
    loader = ModelLoader(0.05)
    with pytest.raises(TooSlowError):
        loader.run(KEY, "spec.candidate", work)
    work.end.set()
    time.sleep(0.2)
    loader.forget({OTHER.digest})
    assert loader.run(KEY, "spec.candidate", work) == "done"
    assert work.begun == 2
