"""Tries the team's pipeline on a sample: fitted, validated and scored in seconds, with no gate and no store."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergeline.errors import MergelineError, ToolError
from mergeline.params import Params

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 5


@dataclass(frozen=True)
class Trial:
    """What came of it.

    `findings` are, in words, the rows of the sample that break the schema and why `propose` would refuse the pipeline;
    `served` says how such a model would be served; `seconds` are of the fit and of everything after the imports.
    """

    trained_on: int
    scored_on: int
    metrics: dict[str, float]
    findings: tuple[str, ...]
    served: str
    seconds: dict[str, float]


def try_out(root: Path, params: Params, rows: int) -> Trial:
    """Fit the pipeline on some of the training rows, and score some of the holdout's.

    Args:
        root: the repository.
        params: name data, split and pipeline.
        rows: at most so many of either, evenly spread.

    Raises:
        DataError: a partition cannot be read, or there are too few rows.
        CodeError: the pipeline raised, or cannot do what the task needs.
    """
    from mergeline.dataset.rules import check_schema
    from mergeline.dataset.schema import load_schema
    from mergeline.dataset.split import make_split, read_parts
    from mergeline.evaluate.metrics import measure
    from mergeline.evaluate.scoring import score_pipeline
    from mergeline.model.fit import fit, make_signature
    from mergeline.model.train import canonical
    from mergeline.scorer.compiling import Refusal, compile_scorer
    from mergeline.scorer.pipeline import to_features

    start = time.perf_counter()
    schema = load_schema(params.data)
    split = make_split(root, params.data, params.split, schema)
    training, holdout = (
        _spread(read_parts(parts, root, schema, params.data), rows) for parts in (split.train, split.holdout)
    )
    findings = [str(found) for frame in (training, holdout) for found in check_schema("the sample", frame, schema)]
    signature = make_signature(training, schema, params)
    ready = time.perf_counter()
    pipeline = fit(to_features(training, signature.columns), training[params.data.target], params)
    fitted = time.perf_counter()
    measured = measure(score_pipeline(pipeline, signature, holdout))
    compiled = compile_scorer(pipeline, signature)
    try:
        canonical(pipeline, params)
    except MergelineError as error:
        findings.insert(0, f"propose would refuse it: {error}")
    return Trial(
        trained_on=len(training),
        scored_on=len(holdout),
        metrics={name: value for name, value in measured.items() if value == value},  # noqa: PLR0124 - NaN: undefined
        findings=tuple(findings),
        served=f"by scikit-learn: {compiled.reason}" if isinstance(compiled, Refusal) else "compiled",
        seconds={"read": ready - start, "fit": fitted - ready, "score": time.perf_counter() - fitted},
    )


def log(trial: Trial, root: Path, params: Params) -> str | None:
    """Record a trial as a run of its own in MLflow, marked as one; returns why there is none."""
    from mergeline.release.mlflow_client import ask, tracking_place
    from mergeline.release.mlflow_worker import HOLDOUT_TAG, MODEL_TAG

    job: dict[str, Any] = {
        "do": "record",
        "experiment": params.name,
        "name": f"try: {trial.trained_on:,} rows",
        "tags": {MODEL_TAG: f"try-{uuid.uuid4().hex}", HOLDOUT_TAG: "sample", "mergeline.try": "true"},
        "params": {
            "seed": str(params.model.seed),
            "factory": params.model.factory,
            **{f"arguments.{name}": str(value)[:500] for name, value in params.model.arguments.items()},
        },
        "metrics": trial.metrics | {f"{name}_seconds": value for name, value in trial.seconds.items()},
    }
    try:
        ask(job, tracking_place(params.tracking, root))
    except ToolError as error:
        return f"the trial was not recorded: {error.what}"
    return None


def _spread(frame: pd.DataFrame, rows: int) -> pd.DataFrame:
    return frame.iloc[:: max(1, -(-len(frame) // rows))].reset_index(drop=True)
