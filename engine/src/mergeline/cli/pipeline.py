"""The stages of the pipeline."""

from __future__ import annotations

from mergeline.cli.app import app


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
