"""The reference profile: small, exact, and without a row of the data."""

import json

import numpy as np
import pandas as pd
import pytest

from mergeline.files import canonical_json
from mergeline.model.profile import BINS, MIN_COUNT, Profile, class_name, make_profile, score_names
from mergeline.params import Task
from mergeline.scorer.signature import Column, Kind, Output, Signature


def signature(numbers=("n",), categories=("c",), task=Task.BINARY, classes=(False, True)):
    columns = [Column(name=name, kind=Kind.NUMBER, nullable=True) for name in numbers]
    columns += [Column(name=name, kind=Kind.CATEGORY, nullable=True) for name in categories]
    positive = True if task is Task.BINARY else None
    output = Output(task=task, target="y", classes=classes if task.classifies else (), positive=positive, threshold=0.5)
    return Signature(name="orders", columns=tuple(columns), output=output)


def profile_of(frame: pd.DataFrame, rows=500, seed=0) -> Profile:
    rng = np.random.default_rng(seed)
    scores = rng.random(rows)
    said = np.array((scores >= 0.5).tolist(), dtype=object)
    numbers = [name for name in frame if frame[name].dtype.kind in "fib"]
    names = signature(numbers, [name for name in frame if name not in numbers])
    return make_profile(frame, scores, said, rng.random(rows) < scores, names)


def values_in(document) -> set:
    """Every number and text of a document, names and values."""
    if isinstance(document, dict):
        return set(document) | set().union(*map(values_in, document.values()), set())
    if isinstance(document, list):
        return set().union(*map(values_in, document), set())
    return {document}


def test_counts_are_those_of_the_column():
    values = np.random.default_rng(0).normal(50, 10, 5000)
    values[:100] = np.nan
    found = profile_of(pd.DataFrame({"n": values, "c": ["a", "b"] * 2500})).numbers[0]
    assert (found.rows, found.missing) == (4900, 100)
    assert sum(found.counts) == 4900
    assert len(found.counts) == len(found.ends) <= BINS + 4
    assert max(found.counts) / found.rows < 2 / BINS + 0.005  # bins of about equal mass


def test_no_category_that_is_seen_rarely_is_named():
    often, rarely = ["common"] * 100, ["secret"] * (MIN_COUNT - 1)
    found = profile_of(pd.DataFrame({"n": np.arange(119.0), "c": often + rarely}))
    assert found.categories[0].counts == {"common": 100}
    assert found.categories[0].rare == MIN_COUNT - 1
    assert "secret" not in json.dumps(found.model_dump(mode="json"))


def test_no_number_of_a_row_is_in_the_profile():
    # Values with so many digits that none can be there by chance.
    values = np.random.default_rng(1).normal(1234.5, 321.0, 3000)
    document = profile_of(pd.DataFrame({"n": values, "c": ["a"] * 3000})).model_dump(mode="json")
    assert not values_in(document) & set(values.tolist())
    stated = [document["numbers"][0][key] for key in ("minimum", "maximum")]
    assert (values < stated[0]).sum() >= MIN_COUNT
    assert (values > stated[1]).sum() >= MIN_COUNT


@pytest.mark.parametrize("rows", [15, 300, 5000, 60_000])
@pytest.mark.parametrize("kind", ["even", "counts", "skewed"])
def test_every_bin_holds_enough_rows_or_none(rows, kind):
    rng = np.random.default_rng(2)
    values = {"even": rng.random(rows), "counts": rng.poisson(3, rows).astype(float), "skewed": rng.pareto(1, rows)}
    found = profile_of(pd.DataFrame({"n": values[kind], "c": ["a"] * rows})).numbers[0]
    assert sum(found.counts) == rows
    assert all(count == 0 or count >= min(MIN_COUNT, rows) for count in found.counts)


def test_extreme_values_of_single_rows_are_not_stated():
    values = np.concatenate([np.random.default_rng(0).uniform(0, 100, 1000), [987_654.0]])
    document = profile_of(pd.DataFrame({"n": values, "c": ["a"] * 1001})).model_dump(mode="json")
    assert not [value for value in values_in(document) if isinstance(value, float) and value > 1000]


def test_thirty_columns_take_less_than_100_kilobytes():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {f"n{place}": rng.normal(size=20_000) * 10.0**place for place in range(20)}
        | {f"c{place}": rng.choice([f"a long name of value {v}" for v in range(100)], 20_000) for place in range(10)}
    )
    assert len(canonical_json(profile_of(frame).model_dump(mode="json"))) < 100_000


@pytest.mark.parametrize("values", [[np.nan] * 50, [3.0] * 50, [np.nan] * 49 + [1.0], [np.inf, -np.inf] * 25])
def test_a_column_of_nothing_or_of_one_value_has_a_profile(values):
    found = profile_of(pd.DataFrame({"n": values, "c": [None] * 50}).astype({"c": "str"})).numbers[0]
    assert found.rows + found.missing + found.infinite == 50


def test_calibration_says_what_scores_meant():
    rng = np.random.default_rng(0)
    scores = rng.random(40_000)
    truth = rng.random(40_000) < scores**2  # overconfident
    said = np.array((scores >= 0.5).tolist(), dtype=object)
    frame = pd.DataFrame({"n": [1.0] * 100, "c": ["a"] * 100})
    known = make_profile(frame, scores, said, truth, signature()).calibration[0]
    assert sum(known.rows) == 40_000
    assert np.abs(np.array(known.outcomes) - np.array(known.scores) ** 2).max() < 0.03
    assert list(known.scores) == sorted(known.scores)


def test_classes_are_profiled_one_by_one():
    task = signature(task=Task.MULTICLASS, classes=("red", "green", "blue"))
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([1, 1, 1], 600)
    said = np.array([task.output.classes[place] for place in scores.argmax(axis=1)], dtype=object)
    frame = pd.DataFrame({"n": [1.0] * 100, "c": ["a"] * 100})
    found = make_profile(frame, scores, said, said, task)
    assert [each.name for each in found.scores] == [each.name for each in found.calibration] == score_names(task)
    assert set(found.labels.counts) == {"red", "green", "blue"}


def test_a_regression_is_calibrated_by_its_errors():
    task = signature(task=Task.REGRESSION)
    truth = np.zeros(400)
    scores = np.repeat([1.0, 10.0], 200)
    frame = pd.DataFrame({"n": [1.0] * 100, "c": ["a"] * 100})
    found = make_profile(frame, scores, scores, truth, task)
    assert found.labels is None
    assert (found.calibration[0].outcomes[0], found.calibration[0].outcomes[-1]) == (1.0, 10.0)


def test_a_class_is_named_as_json_writes_it():
    assert [class_name(label) for label in (True, 3, "yes")] == ["true", "3", "yes"]
