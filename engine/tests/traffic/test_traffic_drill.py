"""A model that turns bad on request, through the same file that the server loads."""

from __future__ import annotations

import time

import numpy as np
import pytest
import skops.io
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mergeline.model import artifact
from mergeline.model.trust import untrusted
from mergeline.traffic.drill import Drill, DrillError

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 2))
TARGET = ROWS[:, 0] > 0


@pytest.fixture(scope="module")
def plain():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, TARGET)


@pytest.fixture
def loaded(plain):
    content = artifact.dump_pipeline(Drill(plain))
    names = skops.io.get_untrusted_types(data=content)
    assert untrusted(names, ()) == ["mergeline.traffic.drill.Drill"]
    return skops.io.loads(content, trusted=names)


def test_without_the_variable_it_is_the_wrapped_model(loaded, plain, monkeypatch):
    monkeypatch.delenv("MERGELINE_DRILL", raising=False)
    assert np.array_equal(loaded.predict_proba(ROWS), plain.predict_proba(ROWS))
    assert np.array_equal(loaded.predict(ROWS), plain.predict(ROWS))
    assert list(loaded.classes_) == [False, True]
    assert is_classifier(loaded)


def test_it_can_be_slow(loaded, monkeypatch):
    monkeypatch.setenv("MERGELINE_DRILL", "slow:0.1")
    start = time.perf_counter()
    loaded.predict_proba(ROWS)
    assert time.perf_counter() - start >= 0.1


def test_it_can_fail_in_that_share_of_calls(loaded, monkeypatch):
    monkeypatch.setenv("MERGELINE_DRILL", "fail:1")
    with pytest.raises(DrillError, match="MERGELINE_DRILL"):
        loaded.predict_proba(ROWS)
    monkeypatch.setenv("MERGELINE_DRILL", "fail:0.5")
    failed = 0
    for _ in range(200):
        try:
            loaded.predict(ROWS[:1])
        except DrillError:
            failed += 1
    assert 60 < failed < 140


def test_a_regression_has_no_probabilities():
    drill = clone(Drill(LinearRegression())).fit(ROWS, ROWS[:, 0])
    assert is_regressor(drill)
    assert not hasattr(drill, "predict_proba")
    assert drill.predict(ROWS) == pytest.approx(ROWS[:, 0])
