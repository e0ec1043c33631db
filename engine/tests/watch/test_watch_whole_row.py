"""The classifier two-sample test, and the trees that it learns with."""

import numpy as np
import pytest

from mergeline.params import Task
from mergeline.scorer.signature import Column, Kind, Output, Signature
from mergeline.watch.multivariate_drift import BINS, MIN_ROWS, boost, compare_rows

SIGNATURE = Signature(
    name="orders",
    columns=(
        *(Column(name=f"n{place}", kind=Kind.NUMBER, nullable=True) for place in range(6)),
        *(Column(name=f"c{place}", kind=Kind.CATEGORY, nullable=True) for place in range(3)),
    ),
    output=Output(task=Task.BINARY, target="y"),
)


def rows(rng, number, shift=0.0, correlation=0.0):
    numbers = rng.normal(size=(number, 6))
    numbers[:, 1] = correlation * numbers[:, 0] + np.sqrt(1 - correlation**2) * numbers[:, 1]
    numbers[:, 2] += shift
    texts = rng.integers(0, 40, (number, 3))
    found = [(*a.tolist(), *(f"value {b}" for b in c)) for a, c in zip(numbers, texts, strict=True)]
    return [(None, *row[1:-1], None) if place % 30 == 0 else row for place, row in enumerate(found)]


def test_samples_of_one_population_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    found = [compare_rows(rows(rng, 800), rows(rng, 800), SIGNATURE, "training", 0.55) for _ in range(40)]
    p_values = np.array([each.p_value for each in found])
    assert (p_values <= 0.1).mean() < 0.25
    assert abs(np.mean([each.auc for each in found]) - 0.5) < 0.015
    assert sum(each.differs for each in found) <= 2


@pytest.mark.parametrize("change", [{"shift": 0.6}, {"correlation": 0.8}])
def test_changed_rows_are_told_apart(change):
    rng = np.random.default_rng(1)
    found = compare_rows(rows(rng, 2000, **change), rows(rng, 2000), SIGNATURE, "training", 0.55)
    assert found.differs
    assert found.p_value < 1e-6
    first = next(iter(found.features))
    assert first in {"n2"} if "shift" in change else first in {"n0", "n1"}


def test_a_larger_sample_is_thinned():
    rng = np.random.default_rng(2)
    assert compare_rows(rows(rng, 5000), rows(rng, 300), SIGNATURE, "training", 0.55).rows == 300


def test_few_rows_are_not_compared():
    rng = np.random.default_rng(3)
    assert compare_rows(rows(rng, MIN_ROWS - 1), rows(rng, 5000), SIGNATURE, "training", 0.55) is None


def test_what_rows_of_one_hour_share_does_not_tell_samples_apart():
    # Twenty rows of each hour share the weather: remembering it would name the sample of every one of them.
    rng = np.random.default_rng(4)

    def hourly():
        return [row for hour in rows(rng, 100) for row in [hour] * 20]

    found = [compare_rows(hourly(), hourly(), SIGNATURE, "training", 0.55) for _ in range(25)]
    assert sum(each.differs for each in found) <= 2


def test_the_trees_learn_as_scikit_learns_do():
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(5)
    codes = rng.integers(0, BINS, (4000, 8))
    line = (codes[:, 0] - 16) / 8 + (codes[:, 1] > 20) * (codes[:, 2] < 10) * 2
    truth = rng.random(4000) < 1 / (1 + np.exp(-line))
    learn = np.arange(4000) < 2000
    ours = boost(codes[learn], truth[learn]).score(codes[~learn])
    theirs = HistGradientBoostingClassifier(max_iter=60).fit(codes[learn], truth[learn])
    known = roc_auc_score(truth[~learn], theirs.predict_proba(codes[~learn])[:, 1])
    assert roc_auc_score(truth[~learn], ours) > known - 0.02
