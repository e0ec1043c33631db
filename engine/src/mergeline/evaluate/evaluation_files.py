"""The files of an evaluation: what DVC compares between commits, and the whole of it for every report."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mergeline.errors import DataError
from mergeline.evaluate.results import Evaluation
from mergeline.files import write_json

EVALUATION_FOLDER = Path("evaluation")
EVALUATION_FILE, METRICS_FILE, PLOTS_FOLDER = "evaluation.json", "metrics.json", "plots"


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `evaluation.json`, `metrics.json` and `plots/*.json` into `folder`; plots of earlier runs go."""
    shutil.rmtree(folder / PLOTS_FOLDER, ignore_errors=True)
    for name, records in plot_records(evaluation).items():
        write_json(folder / PLOTS_FOLDER / f"{name}.json", records)
    write_json(folder / METRICS_FILE, {metric.name: metric.estimate.value for metric in evaluation.metrics})
    write_json(folder / EVALUATION_FILE, evaluation.model_dump(mode="json"))


def read_evaluation(folder: Path) -> Evaluation:
    """Read what `write_evaluation` wrote.

    Raises:
        DataError: the file is missing or is not an evaluation.
    """
    path = folder / EVALUATION_FILE
    try:
        return Evaluation.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError("there is no evaluation", where=str(path), hint="make it: dvc repro") from None
    except (ValueError, ValidationError) as cause:
        raise DataError(f"not an evaluation: {cause}", where=str(path), hint="make it again: dvc repro") from cause


def plot_records(evaluation: Evaluation) -> dict[str, list[dict[str, Any]]]:
    """Each chart as DVC's list of records, one file for each line of it, since DVC draws one line a file."""
    files: dict[str, list[dict[str, Any]]] = {}
    for curve in evaluation.curves:
        for series in curve.series:
            name = curve.name if len(curve.series) == 1 else f"{curve.name}-{_slug(series.name)}"
            if name in files:  # two classes may be written alike once they are made fit for a file name
                name = f"{name}-{len(files)}"
            files[name] = [{"x": x, "y": y} for x, y in zip(series.x, series.y, strict=True)]
    if evaluation.importance:
        files["importance"] = [{"loss": entry.loss, "feature": entry.feature} for entry in evaluation.importance]
    return files


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "other"
