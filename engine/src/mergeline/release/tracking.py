"""Records one MLflow run for each model on each holdout."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergeline.errors import ToolError
from mergeline.evaluate.results import Evaluation, GateVerdict
from mergeline.files import canonical_json
from mergeline.model.lineage import ModelLineage
from mergeline.params import Params
from mergeline.release.mlflow_client import Tracking, Worker, ask, tracking_place
from mergeline.release.mlflow_worker import HOLDOUT_TAG, MODEL_ARTIFACT, MODEL_TAG

_VALUE_LENGTH = 6000  # MLflow's limit for a parameter's value


@dataclass(frozen=True)
class Recorded:
    """The run's id, and whether it was written now; or why there is none."""

    run: str | None
    new: bool = False
    warning: str | None = None


def record(
    evaluation: Evaluation,
    lineage: ModelLineage,
    params: Params,
    root: Path,
    model: Path,
    *,
    verdict: GateVerdict | None = None,
    reports: Sequence[Path] = (),
    worker: Worker | None = None,
) -> Recorded:
    """Record the run of a model on a holdout, once however often it is asked for.

    A server that is down or hangs costs `tracking.timeout_seconds` and a warning, never an error.

    Args:
        evaluation: what was measured; names the model and the holdout.
        lineage: what the model was made from.
        params: the model's name, and where runs are kept.
        root: the repository; a relative SQLite database lies in it, its artifacts in `mlartifacts/` beside it.
        model: the model folder.
        verdict: the gate's, where it has spoken.
        reports: files and folders to keep with the run.
        worker: one that `early_worker` started.
    """
    place = tracking_place(params.tracking, root)
    known = _known(place, params.name, evaluation)
    if known is not None:
        return Recorded(known)
    tags = {
        MODEL_TAG: evaluation.digest,
        HOLDOUT_TAG: evaluation.holdout.digest,
        "mergeline.code": lineage.code,
        "mergeline.data": lineage.data,
        "mergeline.params": lineage.params,
        "mergeline.environment": lineage.environment,
    }
    if verdict is not None:
        tags |= {"mergeline.outcome": verdict.outcome.value, "mergeline.accepted": str(verdict.accepted).lower()}
    job = {
        "do": "record",
        "experiment": params.name,
        "name": f"{evaluation.digest.removeprefix('sha256:')[:12]} on {', '.join(evaluation.holdout.partitions)}"[:250],
        "tags": tags,
        "params": _flat(lineage.training),
        "metrics": _metrics(evaluation),
        "inputs": [
            {"name": "train", "context": "training", "digest": lineage.data},
            {"name": "holdout", "context": "evaluation", "digest": evaluation.holdout.digest},
        ],
        "texts": {
            "evaluation.json": evaluation.model_dump_json(indent=1),
            **{f"curves/{curve.name}.json": curve.model_dump_json(indent=1) for curve in evaluation.curves},
        },
        "files": [
            (str(model.resolve()), MODEL_ARTIFACT),
            *((str(path.resolve()), f"report/{path.name}" if path.is_dir() else "report") for path in reports),
        ],
    }
    try:
        answer = ask(job, place, worker)
    except ToolError as error:
        return Recorded(None, warning=f"the run was not recorded: {error}")
    return Recorded(answer["run"], answer["new"])


def _known(place: Tracking, experiment: str, evaluation: Evaluation) -> str | None:
    """The finished run, if the database has it: asked for without MLflow, which takes seconds to load.

    A database that cannot be read this way is left to MLflow.
    """
    if place.database is None or not place.database.exists():
        return None
    query = """
        SELECT runs.run_uuid FROM runs
        JOIN experiments ON experiments.experiment_id = runs.experiment_id
        JOIN tags AS model ON model.run_uuid = runs.run_uuid AND model.key = ? AND model.value = ?
        JOIN tags AS holdout ON holdout.run_uuid = runs.run_uuid AND holdout.key = ? AND holdout.value = ?
        WHERE experiments.name = ? AND runs.status = 'FINISHED' AND runs.lifecycle_stage = 'active'
        ORDER BY runs.start_time LIMIT 1
    """
    values = (MODEL_TAG, evaluation.digest, HOLDOUT_TAG, evaluation.holdout.digest, experiment)
    try:
        with contextlib.closing(sqlite3.connect(f"{place.database.as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute(query, values).fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    """Each metric with the ends of its interval."""
    values: dict[str, float] = {"model_bytes": evaluation.model_bytes, "holdout_rows": evaluation.holdout.rows}
    for metric in evaluation.metrics:
        ends = {"": metric.estimate.value, ".low": metric.estimate.low, ".high": metric.estimate.high}
        values |= {metric.name + end: value for end, value in ends.items() if value is not None}
    return values


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested values as dotted names and texts."""
    if isinstance(value, dict):
        nested = (_flat(child, f"{prefix}.{name}" if prefix else str(name)) for name, child in value.items())
        return {key: text for part in nested for key, text in part.items()}
    return {prefix: (value if isinstance(value, str) else canonical_json(value).decode())[:_VALUE_LENGTH]}
