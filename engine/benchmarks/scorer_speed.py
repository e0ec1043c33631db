"""Measures a compiled scorer against the scikit-learn pipeline that it was made of, in turn.

    python benchmarks/scorer_speed.py [--rounds 5]

The model is gradient boosting on 30 columns (27 numbers with gaps, 3 categories), beside a logistic regression on the
same. Ours is timed from a request's rows to the scores, on one thread. The pipeline is timed from a DataFrame that is
there already, which favours it; what making the DataFrame costs is told too. onnxruntime alone is the floor: the same
trees on a matrix that is there already. Every model is proven equal first. Nothing is written.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from mergeline.dataset import Kind
from mergeline.params import Task
from mergeline.scorer.compiling import build_scorer
from mergeline.scorer.equivalence import to_rows
from mergeline.scorer.pipeline import scores, to_features
from mergeline.scorer.runtime import Scorer
from mergeline.scorer.signature import Column, Output, Signature
from mergeline.scorer.stored import GRAPH_FILE, load_scorer, read_document

NUMBERS, TEXTS = [f"number_{place}" for place in range(27)], ["colour", "town", "shop"]
SIZES = (1, 100, 1000)
SECONDS = 0.4
TARGETS = {1: 100.0, 100: 5.0, 1000: 2.0}
"""The least that ours must be faster than the pipeline by, for boosting, by the number of records."""


def made_rows(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, len(NUMBERS))), columns=NUMBERS).mask(rng.random((rows, 27)) < 0.05)
    for name, size in zip(TEXTS, (4, 100, 30), strict=True):
        frame[name] = rng.choice([f"{name} {place}" for place in range(size)], rows)
    return frame


def described() -> Signature:
    columns = [Column(name=name, kind=Kind.NUMBER, nullable=True) for name in NUMBERS]
    columns += [Column(name=name, kind=Kind.CATEGORY, nullable=True) for name in TEXTS]
    output = Output(task=Task.BINARY, target="y", classes=(False, True), positive=True, threshold=0.5)
    return Signature(name="bench", columns=tuple(columns), output=output)


def pipelines() -> dict[str, Any]:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    boosted = ColumnTransformer([("texts", codes, TEXTS), ("numbers", "passthrough", NUMBERS)])
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    linear = ColumnTransformer(
        [("texts", OneHotEncoder(handle_unknown="ignore"), TEXTS), ("numbers", numbers, NUMBERS)]
    )
    return {
        "boosting": make_pipeline(boosted, HistGradientBoostingClassifier(random_state=0)),
        "logistic": make_pipeline(linear, LogisticRegression(max_iter=1000)),
    }


def seconds(action: Callable[[], object]) -> float:
    """The mean time of a call, over calls that take about 0.4 s together."""
    action()
    start = time.perf_counter()
    action()
    repeats = max(3, int(SECONDS / max(time.perf_counter() - start, 1e-7)))
    start = time.perf_counter()
    for _ in range(repeats):
        action()
    return (time.perf_counter() - start) / repeats


def bare_runtime(graph: Path) -> Callable[[Any], Any]:
    """The scorer's file in onnxruntime, with nothing around it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda matrix: session.run(["y"], {"x": matrix})


def measure(pipeline: Any, signature: Signature, frame: pd.DataFrame, folder: Path, rounds: int) -> dict[int, float]:
    """Print a line for each size; returns how many times faster ours is."""
    truth = frame[NUMBERS[0]].fillna(0) + frame[NUMBERS[1]].fillna(0) ** 2 + (frame["colour"] == "colour 1") > 0.8
    features = to_features(frame, signature.columns)
    pipeline.fit(features, truth.to_numpy())
    for name, content in build_scorer(pipeline, signature, features, features.iloc[:0]).items():
        (folder / name).write_bytes(content)
    document, scorer = read_document(folder), load_scorer(folder, signature)
    if document is None or document.proof is None or not isinstance(scorer, Scorer):
        raise SystemExit(f"not compiled: {document and document.reason}")
    proof = document.proof
    print(f"  equal on {proof.rows:,} rows and {proof.hard_cases:,} hard cases, within {proof.largest_difference:g}")
    alone = bare_runtime(folder / GRAPH_FILE) if (folder / GRAPH_FILE).exists() else None
    print("  records    ours µs   of it encoding   onnxruntime alone   scikit-learn µs   DataFrame µs   times faster")
    ratios = {}
    for size in SIZES:
        part = features.iloc[:size]
        rows = to_rows(part, signature.columns)
        matrix = scorer.encode(rows)
        columns = {name: list(values) for name, values in zip(signature.names, zip(*rows, strict=True), strict=True)}
        ways: dict[str, Callable[[], object]] = {
            "ours": lambda rows=rows: scorer.score(scorer.encode(rows)),
            "encode": lambda rows=rows: scorer.encode(rows),
            "sklearn": lambda part=part: scores(pipeline, part, signature),
            "frame": lambda columns=columns: to_features(pd.DataFrame(columns), signature.columns),
        }
        if alone is not None:
            ways["alone"] = lambda matrix=matrix: alone(matrix)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                taken[name].append(1e6 * seconds(way))
        median = {name: statistics.median(times) for name, times in taken.items()}
        ratios[size] = median["sklearn"] / median["ours"]
        told = f"{median['alone']:19.1f}" if "alone" in median else f"{'–':>19}"
        print(
            f"  {size:7,} {median['ours']:10.1f} {median['encode']:16.1f} {told} {median['sklearn']:17.0f} "
            f"{median['frame']:14.0f} {ratios[size]:14.1f}"
        )
    return ratios


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, in turn; medians are shown")
    rounds = parser.parse_args().rounds
    frame, signature = made_rows(5000), described()
    met = True
    for name, pipeline in pipelines().items():
        print(f"{name}, {len(signature.columns)} columns, one thread")
        with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
            ratios = measure(pipeline, signature, frame, Path(folder), rounds)
        if name == "boosting":
            met = all(ratios[size] >= least for size, least in TARGETS.items())
    bounds = ", ".join(f"{least:g} times at {size:,}" for size, least in TARGETS.items())
    print(f"targets for boosting ({bounds}): {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
