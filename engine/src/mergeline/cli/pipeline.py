"""The stages of the pipeline."""

from __future__ import annotations

from pathlib import Path

from mergeline.cli.app import app
from mergeline.cli.output import progress


@app.command()
def validate() -> None:
    """Check every partition of the data (a pipeline stage)."""
    from mergeline.dataset.validate import VALIDATION_FILE, require_valid
    from mergeline.dataset.validate import validate as check
    from mergeline.files import write_json
    from mergeline.params import read_params

    report = check(Path(), read_params())
    require_valid(report)
    write_json(VALIDATION_FILE, report.model_dump(mode="json"))
    rows = sum(partition.rows for partition in report.partitions)
    progress(f"valid: {len(report.partitions)} partitions, {rows:,} rows, {report.columns} columns")


@app.command()
def split() -> None:
    """Divide the data by time into training rows and holdout (a pipeline stage)."""
    from mergeline.dataset.schema import load_schema
    from mergeline.dataset.split import SPLIT_FILE, make_split
    from mergeline.files import write_json
    from mergeline.params import read_params

    params = read_params()
    result = make_split(Path(), params.data, params.split, load_schema(params.data))
    write_json(SPLIT_FILE, result.model_dump(mode="json"))
    progress(
        f"split: train on {', '.join(part.partition for part in result.train)}; "
        f"judge on {', '.join(part.partition for part in result.holdout)}"
    )


@app.command()
def train() -> None:
    """Fit the pipeline and write the model folder (a pipeline stage)."""
    from mergeline.dataset.split import SPLIT_FILE, read_split
    from mergeline.model.artifact import MODEL_FOLDER
    from mergeline.model.train import train as fit
    from mergeline.params import read_params

    digest = fit(Path().resolve(), read_params(), read_split(SPLIT_FILE), MODEL_FOLDER)
    progress(f"trained: {digest}")


@app.command()
def evaluate() -> None:
    """Measure the model on the holdout (a pipeline stage)."""
    from mergeline.dataset.split import SPLIT_FILE, read_split
    from mergeline.evaluate.evaluate import evaluate as measure
    from mergeline.evaluate.evaluate import write_evaluation
    from mergeline.evaluate.evaluation_files import EVALUATION_FOLDER
    from mergeline.evaluate.scoring import read_holdout
    from mergeline.model.artifact import MODEL_FOLDER, load_model
    from mergeline.params import read_params

    params = read_params()
    model = load_model(MODEL_FOLDER, trusted_types=params.model.trusted_types)
    rows, holdout = read_holdout(Path(), params, read_split(SPLIT_FILE))
    result = measure(model, rows, holdout, params)
    write_evaluation(result, EVALUATION_FOLDER)
    value = next((m.estimate.value for m in result.metrics if m.name == params.gate.metric), float("nan"))
    progress(f"evaluated: {params.gate.metric} {value:.4f} on {holdout.rows:,} rows of {', '.join(holdout.partitions)}")
