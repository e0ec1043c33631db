"""The verbs of one model: the stages that make it, score, and the registry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergeline.cli.app import Json, app
from mergeline.cli.output import progress, say, say_json, short_path

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mergeline.journal.scored_file import FileRecorder
    from mergeline.model.artifact import LoadedModel


@app.command()
def score(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A Parquet or CSV file of rows.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .parquet or .csv file that the scores go to.")],
    work_tree: Annotated[bool, typer.Option("--work-tree", help="Score with model/, not with the champion.")] = False,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Write the rows to the journal in this folder too, as the server does; each file once for a model.",
            file_okay=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Score a file of any size with the model that production serves; rows that break the schema are set aside."""
    from mergeline import load_champion
    from mergeline.model.artifact import MODEL_FOLDER, is_compiled, load_model
    from mergeline.model.bulk import score_file
    from mergeline.model.bulk_files import spare_pandas
    from mergeline.params import read_params

    if work_tree and journal is not None:
        raise typer.BadParameter("the journal is of what production serves: leave --work-tree out")
    if work_tree:
        model = load_model(MODEL_FOLDER, trusted_types=read_params().model.trusted, defer=True)
    else:
        model = load_champion(defer=True)
    if is_compiled(model.folder):
        spare_pandas()
    with ExitStack() as stack:
        recorder = stack.enter_context(_record(journal, model, source)) if journal is not None else None
        result = score_file(model, source, target, stack.enter_context(_progress_bar()), recorder)
    if journal is not None:
        from mergeline.journal.compactor import keep_and_copy

        keep_and_copy(journal.absolute(), read_params().serve.journal)
    known = recorder is not None and recorder.known
    if json:
        aside = str(result.refused_file) if result.refused_file else None
        told = {"digest": model.digest, "scored": result.scored, "refused": result.refused, "refused_file": aside}
        say_json(told if journal is None else told | {"journalled": 0 if known else result.scored})
        return
    say(f"scored: {result.scored:,} rows with {model.digest[:19]}, written to {target}")
    if journal is not None:
        say(f"journal: {short_path(journal)} has them{' already, from an earlier run' if known else ''}")
    if result.refused_file:
        progress(f"{result.refused:,} rows break the schema, with the reasons in {short_path(result.refused_file)}")


def _record(folder: Path, model: LoadedModel, source: Path) -> AbstractContextManager[FileRecorder]:
    from mergeline.errors import DataError
    from mergeline.journal.scored_file import record_file
    from mergeline.manifest.schema import read_manifest
    from mergeline.params import read_params

    stable = read_manifest().spec.stable
    assert stable is not None  # noqa: S101 - the champion was loaded by it
    if not source.is_file():
        raise DataError("there is no such file", where=str(source), hint="check the name")
    settings = read_params().serve.journal
    return record_file(folder.absolute(), settings, model.signature, stable, source, now=datetime.now(UTC))


@contextmanager
def _progress_bar() -> Iterator[Callable[[int], object]]:
    """Takes the number of rows that are done; shows nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    words = (TextColumn("{task.completed:,} rows"), TimeElapsedColumn())
    with Progress(*words, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda rows: bar.update(task, completed=rows)


STAGES = {
    "environment": "Write down the training format and the libraries that models are made with",
    "validate": "Check every partition of the data, and divide them by time",
    "train": "Fit the pipeline and write the model folder",
    "evaluate": "Measure the model on the holdout",
}


def _add_stage(name: str, does: str) -> None:
    @app.command(name, help=f"{does} (a pipeline stage).")
    def stage() -> None:
        from mergeline.release import stages

        stages.run(name)


for _name, _does in STAGES.items():
    _add_stage(_name, _does)
