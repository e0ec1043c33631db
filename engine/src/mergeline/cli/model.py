"""The verbs of one model: the stages that make it, score, and the registry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import progress, say, say_json, short_path


@app.command()
def score(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A Parquet or CSV file of rows.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .parquet or .csv file that the scores go to.")],
    work_tree: Annotated[bool, typer.Option("--work-tree", help="Score with model/, not with the champion.")] = False,
    json: Json = False,
) -> None:
    """Score a file of any size with the model that production serves; rows that break the schema are set aside."""
    from mergeline import load_champion
    from mergeline.model.artifact import MODEL_FOLDER, load_model
    from mergeline.model.bulk import score_file
    from mergeline.params import read_params

    if work_tree:
        model = load_model(MODEL_FOLDER, trusted_types=read_params().model.trusted, defer=True)
    else:
        model = load_champion(defer=True)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress, TextColumn, TimeElapsedColumn

        words = (TextColumn("{task.completed:,} rows"), TimeElapsedColumn())
        with Progress(*words, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            result = score_file(model, source, target, lambda rows: bar.update(task, completed=rows))
    else:
        result = score_file(model, source, target)
    if json:
        aside = str(result.refused_file) if result.refused_file else None
        say_json({"digest": model.digest, "scored": result.scored, "refused": result.refused, "refused_file": aside})
        return
    say(f"scored: {result.scored:,} rows with {model.digest[:19]}, written to {target}")
    if result.refused_file:
        progress(f"{result.refused:,} rows break the schema, with the reasons in {short_path(result.refused_file)}")


@app.command()
def environment() -> None:
    """Write down the training format and the libraries that models are made with (a pipeline stage)."""
    from mergeline.release import stages

    stages.run("environment")


@app.command()
def validate() -> None:
    """Check every partition of the data, and divide them by time (a pipeline stage)."""
    from mergeline.release import stages

    stages.run("validate")


@app.command()
def train() -> None:
    """Fit the pipeline and write the model folder (a pipeline stage)."""
    from mergeline.release import stages

    stages.run("train")


@app.command()
def evaluate() -> None:
    """Measure the model on the holdout (a pipeline stage)."""
    from mergeline.release import stages

    stages.run("evaluate")
