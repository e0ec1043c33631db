"""Builds data, signatures and pipelines that scorers are tested with."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import skops.io

from mergeline.dataset import Kind
from mergeline.model import artifact
from mergeline.params import Task
from mergeline.scorer.compiling import Refusal, compile_scorer, difference
from mergeline.scorer.equivalence import mixed_rows, prove, rows_of, single_cases, to_rows
from mergeline.scorer.pipeline import to_features
from mergeline.scorer.runtime import Scorer
from mergeline.scorer.signature import Column, Output, Signature
from mergeline.scorer.stored import scorer_files

TEXTS, NUMBERS, WHOLE = ["colour", "town"], ["size", "weight", "age"], ["rooms", "new"]
KINDS = {
    "colour": Kind.CATEGORY, "size": Kind.NUMBER, "rooms": Kind.INTEGER, "town": Kind.CATEGORY, "weight": Kind.NUMBER,
    "new": Kind.BOOLEAN, "age": Kind.NUMBER,
}  # fmt: skip


def houses(rows: int = 400, seed: int = 0, missing: float = 0.1) -> pd.DataFrame:
    """Features of every kind; the numbers have gaps, and so have the texts."""
    rng = np.random.default_rng(seed)
    towns = np.array([f"town {number}" for number in range(12)])
    frame = pd.DataFrame(
        {
            "colour": rng.choice(["red", "green", "blue", "grey"], rows, p=[0.5, 0.3, 0.18, 0.02]),
            "size": rng.gamma(2.0, 30.0, rows).round(1),
            "rooms": rng.integers(1, 7, rows),
            "town": towns[rng.zipf(1.8, rows).clip(1, 12) - 1],
            "weight": rng.normal(0, 1, rows),
            "new": rng.random(rows) < 0.4,
            "age": rng.integers(0, 40, rows).astype(float),
        }
    )
    for name in (*NUMBERS, *TEXTS):
        frame[name] = frame[name].mask(rng.random(rows) < missing)
    return to_features(frame, columns())


def columns() -> tuple[Column, ...]:
    return tuple(Column(name=name, kind=kind, nullable=True) for name, kind in KINDS.items())


def target(frame: pd.DataFrame, task: Task, seed: int = 0) -> np.ndarray:
    """What depends on every kind of column."""
    rng = np.random.default_rng([seed, 1])
    value = (
        frame["size"].fillna(40) / 30
        + (frame["colour"] == "red")
        + frame["weight"].fillna(0)
        + frame["rooms"] / 4
        + frame["town"].isna()
        + rng.normal(0, 0.5, len(frame))
    ).to_numpy()
    if task is Task.REGRESSION:
        return value
    if task is Task.BINARY:
        return value > np.median(value)
    return np.digitize(value, np.quantile(value, [0.3, 0.6])).astype(str)


def signature(task: Task, positive: bool = True) -> Signature:
    classes = {Task.BINARY: (False, True), Task.MULTICLASS: ("0", "1", "2"), Task.REGRESSION: ()}[task]
    output = Output(task=task, target="y", classes=classes, positive=positive if task is Task.BINARY else None)
    return Signature(name="houses", columns=columns(), output=output)


def compiled(pipeline, described):
    """The compiled pipeline; fails with the reason where there is none."""
    made = compile_scorer(pipeline, described)
    assert not isinstance(made, Refusal), made.reason
    return made


def assert_equal(pipeline, described, frame):
    """Fail unless the pipeline compiles, is proven on these rows and its own hard cases, and compiles so again.

    Returns the scorer.
    """
    made = compiled(pipeline, described)
    proof = prove(made, pipeline, described, [frame])
    assert not isinstance(proof, Refusal), proof.reason
    assert proof.hard_cases > 100
    with tempfile.TemporaryDirectory() as folder:
        for name, content in scorer_files(made.program, made.graph, proof).items():
            Path(folder, name).write_bytes(content)
        stored = artifact.dump_pipeline(pipeline)
        loaded = skops.io.loads(stored, trusted=skops.io.get_untrusted_types(data=stored))
        assert difference(Path(folder), loaded, described) == ""
    scorer = Scorer(made.program, made.graph)
    if made.graph is not None:
        typical, cases = to_rows(frame, described.columns), single_cases(made, described)
        matrix = scorer.encode([*typical, *rows_of(cases, typical), *mixed_rows(cases, typical)])
        many_rows = Scorer(made.program, made.graph, many_rows=True).score(np.asfortranarray(matrix))
        np.testing.assert_array_equal(many_rows, scorer.score(matrix))
    return scorer


def by_row(scorer, frame, described):
    """Each row scored on its own."""
    rows = to_rows(frame, described.columns)
    return np.concatenate([scorer.score(scorer.encode([row])) for row in rows])
