"""What an upstream change does to a number's values is told from a population that changes."""

import numpy as np
import pandas as pd
import pytest

from mergeline.model.bin_counts import connect, count
from mergeline.model.profile import make_profile
from mergeline.params import Task
from mergeline.scorer.signature import Column, Kind, Output, Signature
from mergeline.watch.patterns import patterns

rng = np.random.default_rng(3)
HOURS = np.array([1, 3, 6, 8, 8, 6, 5, 5, 5, 5, 6, 7, 8, 9, 8, 5, 3, 1.5, 0.5])
TRAINING = {
    "amount": rng.normal(50, 10, 20_000),
    "hour": rng.choice(np.arange(5.0, 24.0), 20_000, p=HOURS / HOURS.sum()),
    "price": rng.lognormal(3, 1, 20_000).round(2),
    "gift": (rng.random(20_000) < 0.3).astype(float),
}
WINDOW = {name: rng.choice(values, 3000) for name, values in TRAINING.items()}
SOME = rng.random(3000) < 0.3


@pytest.fixture(scope="module")
def found():
    """Gives what is found of a column that holds these values."""
    output = Output(task=Task.REGRESSION, target="y")
    columns = tuple(Column(name=name, kind=Kind.NUMBER, nullable=True) for name in TRAINING)
    scores = rng.normal(size=1000)
    signature = Signature(name="orders", columns=columns, output=output)
    profile = make_profile(pd.DataFrame(TRAINING), scores, scores, scores, signature)
    profiles = {each.name: each for each in profile.numbers}

    def look(name, values):
        with connect() as connection:
            connection.register("rows", pd.DataFrame({name: values}))
            counts = count(connection, "rows", {name: profiles[name].grid}, {}).numbers[name]
        return patterns(profiles[name], counts)

    return look


@pytest.mark.parametrize(
    ("column", "values", "pattern", "value"),
    [
        ("amount", WINDOW["amount"] + 10, "offset", 10),
        ("amount", WINDOW["amount"] * 10, "beyond", 1),
        ("amount", np.where(SOME, -999, WINDOW["amount"]), "piled", 0.3),
        ("amount", np.where(SOME, 0, WINDOW["amount"]), "piled", 0.3),
        ("amount", np.full(3000, 50.0), "piled", 1),
        ("hour", (WINDOW["hour"] + 5) % 24, "turned", 5),
        ("hour", (WINDOW["hour"] - 5) % 24, "offset", -5),
        ("hour", np.full(3000, 12.0), "piled", 0.95),
        ("price", WINDOW["price"] + 20, "offset", 20),
        ("price", np.where(SOME, -1, WINDOW["price"]), "piled", 0.3),
        ("gift", np.zeros(3000), "piled", 0.3),
    ],
)
def test_a_change_upstream_is_told(found, column, values, pattern, value):
    told = found(column, values)
    assert told.keys() == {pattern}
    assert told[pattern] == pytest.approx(value, rel=0.1)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        *WINDOW.items(),
        ("amount", 50 + (WINDOW["amount"] - 50) * 1.5),
        ("amount", np.sort(WINDOW["amount"])[:1500]),
        ("price", WINDOW["price"] * 1.3),
        ("hour", WINDOW["hour"][WINDOW["hour"] > 12]),
        ("gift", (np.arange(3000) % 10 < 5).astype(float)),
    ],
)
def test_a_population_that_changes_looks_like_none_of_them(found, column, values):
    assert found(column, values) == {}
