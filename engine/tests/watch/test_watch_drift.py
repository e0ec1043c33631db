"""What is found of a number's values, from the training rows to the finding."""

import json

import numpy as np
import pandas as pd
import pytest

from mergeline.evaluate.results import Evaluation, Importance
from mergeline.model.bin_counts import connect, count
from mergeline.model.profile import make_profile
from mergeline.params import DriftParams, Task
from mergeline.scorer.signature import Column, Kind, Output, Signature
from mergeline.watch.drift import Change, Compared, Finding, Part, Status, find_drift
from mergeline.watch.released_model import Served

ROWS = 5000


def finding(before: np.ndarray, now: np.ndarray) -> Finding:
    """What is found of the values of a column that held `before` in training."""
    output = Output(task=Task.REGRESSION, target="y")
    signature = Signature(name="orders", columns=(Column(name="n", kind=Kind.NUMBER, nullable=True),), output=output)
    said = np.zeros(100)
    profile = make_profile(pd.DataFrame({"n": before}), said, said, said, signature).numbers[0]
    with connect(threads=1) as connection:
        connection.register("rows", pd.DataFrame({"n": now}))
        counts = count(connection, "rows", {"n": profile.grid}, {}).numbers["n"]
    found = find_drift([Compared(Part.INPUT, profile, counts)], {}, DriftParams(), "training")
    return next(each for each in found if each.change is Change.VALUES)


def sentinels(rng: np.random.Generator, values: np.ndarray, sentinel: float) -> np.ndarray:
    return np.where(rng.random(len(values)) < 0.02, sentinel, values)


@pytest.mark.parametrize("sentinel", [-999.0, 999.0, -99_999.0, 1e6, np.finfo(np.float64).max])
def test_a_body_that_moves_beside_a_sentinel_drifts(sentinel):
    rng = np.random.default_rng(0)
    before = sentinels(rng, rng.uniform(0, 1, ROWS), sentinel)
    now = sentinels(rng, rng.uniform(0.4, 1, ROWS), sentinel)
    found = finding(before, now)
    assert found.status is Status.DRIFT
    assert (found.before, found.after) == pytest.approx((np.median(before), np.median(now)), abs=0.02)
    assert finding(before, before[::-1]).status is Status.STEADY


@pytest.mark.parametrize(("value", "now"), [(0.0, 2.4e-4), (1e-4, 4e-4), (2025.0, 2026.0), (2025.0, 2020.0)])
def test_a_constant_that_changes_drifts(value, now):
    found = finding(np.full(ROWS, value), np.full(ROWS, now))
    assert found.status is Status.DRIFT
    assert (found.before, found.after) == pytest.approx((value, now), rel=0.05)


@pytest.mark.parametrize(
    "values",
    [
        np.full(ROWS, -1e308),
        np.linspace(-1, 1, ROWS) * 1.7e308,
        np.linspace(0, 1e-310, ROWS),
        np.where(np.arange(ROWS) % 50 == 0, np.finfo(np.float64).max, np.where(np.arange(ROWS) % 50 == 1, -1e308, 5.0)),
    ],
)
def test_what_is_found_of_extreme_numbers_is_finite(values):
    found = finding(values, values)
    assert found.status is Status.STEADY
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


class TestUnused:
    """Which columns the model is known not to use."""

    def unused(self, **intervals):
        entries = tuple(
            Importance(feature=name, loss=loss, deviation=0.0, low=low, high=high)
            for name, (low, loss, high) in intervals.items()
        )
        evaluation = Evaluation.model_construct(importance=entries)
        served = Served(1, "", Signature.model_construct(), None, (), (), evaluation)
        return served.unused(0.01)

    def test_what_may_be_important_is_not_unused(self):
        found = self.unused(age=(0.1, 0.2, 0.3), zip=(-0.05, 0.0, 0.05), noise=(-0.001, 0.0, 0.001))
        assert found == {"noise"}

    def test_without_intervals_the_value_decides(self):
        assert self.unused(age=(None, 0.2, None), zip=(None, 0.0, None)) == {"zip"}

    def test_where_nothing_is_known_nothing_is_unused(self):
        assert self.unused(zip=(None, 0.0, None)) == frozenset()
