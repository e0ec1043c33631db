"""The stages of the pipeline, as DVC runs them: each reads files and writes files, and says in one line what it did."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.process import exit_code
from mergeline.warm import Forks, hand_over

if TYPE_CHECKING:
    from mergeline.evaluate.results import Evaluation
    from mergeline.model.artifact import LoadedModel
    from mergeline.params import Params


FORMATS_FILE = Path("build/formats.json")


def environment() -> str:
    """Write down what the model's bytes depend on beside data, params and code."""
    from mergeline.files import write_bytes
    from mergeline.model.environment import TRAINING_FORMAT

    for path, content in environment_files(Path()).items():
        write_bytes(path, content)
    return f"environment: training format {TRAINING_FORMAT}"


def environment_files(root: Path) -> dict[Path, bytes]:
    """The files that the stage writes, as this engine and the installed libraries make them.

    `environment.json` is what training depends on, and `formats.json` what validation and evaluation do: a new
    engine that measures more evaluates again, and trains nothing.

    Args:
        root: the home.

    Raises:
        ParamsError: `params.yaml` is wrong.
        CodeError: the team's package, or a library that it imports, is not installed.
        VersionError: a library is not in the version that `uv.lock` names.
    """
    from mergeline.dataset import VALIDATION_FORMAT
    from mergeline.evaluate import EVALUATION_FORMAT
    from mergeline.home import Home
    from mergeline.model.environment import ENVIRONMENT_FILE, LOCK_OF_LIBRARIES, installed_environment, require_locked
    from mergeline.params import PARAMS_FILE, read_params

    environment = installed_environment(read_params(root / PARAMS_FILE).model.factory)
    lock = Home.at(root).root / LOCK_OF_LIBRARIES
    if lock.exists():
        require_locked(environment, lock.read_text(encoding="utf-8"))
    formats = {"validation": VALIDATION_FORMAT, "evaluation": EVALUATION_FORMAT}
    documents = {ENVIRONMENT_FILE: environment.document(), FORMATS_FILE: formats}
    return {
        path: (json.dumps(document, sort_keys=True, indent=1) + "\n").encode() for path, document in documents.items()
    }


def validate() -> str:
    """Check every partition of the data, and divide them into training rows and holdout."""
    from mergeline.dataset.schema import load_schema
    from mergeline.dataset.split import SPLIT_FILE, make_split, read_parts, require_judgeable
    from mergeline.dataset.validate import VALIDATION_FILE, require_valid
    from mergeline.dataset.validate import validate as check
    from mergeline.files import write_json
    from mergeline.params import read_params

    params = read_params()
    report = check(Path(), params)
    require_valid(report)
    schema = load_schema(params.data)
    split = make_split(Path(), params.data, params.split, schema)
    holdout = read_parts(split.holdout, Path(), schema, params.data)
    require_judgeable(holdout, params)
    write_json(VALIDATION_FILE, report.model_dump(mode="json"))
    write_json(SPLIT_FILE, split.model_dump(mode="json"))
    rows = sum(partition.rows for partition in report.partitions)
    names = [", ".join(part.partition for part in parts) for parts in (split.train, split.holdout)]
    judged = f"train on {names[0]}, judge on {names[1]}"
    if params.split.kind != "time":
        judged = f"judge on {len(holdout):,} rows of all partitions (split.kind: {params.split.kind})"
    return f"valid: {len(report.partitions)} partitions, {rows:,} rows, {report.columns} columns; {judged}"


def train() -> str:
    """Fit the pipeline and write the model folder."""
    from mergeline.dataset.split import SPLIT_FILE, read_split
    from mergeline.model.artifact import MODEL_FOLDER
    from mergeline.model.environment import ENVIRONMENT_FILE, installed_environment, read_environment, require_installed
    from mergeline.model.train import train as fit
    from mergeline.params import read_params

    params = read_params()
    require_installed(read_environment(ENVIRONMENT_FILE), installed_environment(params.model.factory))
    return f"trained: {fit(Path().resolve(), params, read_split(SPLIT_FILE), MODEL_FOLDER)}"


def evaluate() -> str:
    """Measure the model on the holdout."""
    from mergeline.dataset.split import SPLIT_FILE, read_split
    from mergeline.evaluate.evaluate import evaluate as measure
    from mergeline.evaluate.evaluate import write_evaluation
    from mergeline.evaluate.results import EVALUATION_FOLDER
    from mergeline.evaluate.scoring import read_holdout
    from mergeline.model.artifact import MODEL_FOLDER, load_model
    from mergeline.params import read_params

    params = read_params()
    model = load_model(MODEL_FOLDER, trusted_types=params.model.trusted)
    rows, holdout = read_holdout(Path(), params, read_split(SPLIT_FILE))
    result = measure(model, rows, holdout, params)
    write_evaluation(result, EVALUATION_FOLDER)
    if "DVC_EXP_BASELINE_REV" in os.environ:
        _record_experiment(result, model, params)
    value = next((m.estimate.value for m in result.metrics if m.name == params.gate.metric), float("nan"))
    return f"evaluated: {params.gate.metric} {value:.4f} on {holdout.rows:,} rows of {', '.join(holdout.partitions)}"


def _record_experiment(result: Evaluation, model: LoadedModel, params: Params) -> None:
    """Record what `dvc exp run` tries, as a proposal is recorded; in the repository, wherever DVC works."""
    from mergeline.release.mlflow_client import record

    root, name = Path(os.environ.get("DVC_ROOT", "")), os.environ.get("DVC_EXP_NAME", "")
    recorded = record(result, model.lineage, params, root.resolve(), model.folder, experiment=name)
    if recorded.warning:
        sys.stderr.write(f"· warning: {recorded.warning}\n")


STAGES: Mapping[str, Callable[[], str]] = {
    "environment": environment,
    "validate": validate,
    "train": train,
    "evaluate": evaluate,
}

_MODULES = (
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.metrics",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "skops.io",
    "pandera.pandas",
    "mergeline.dataset.validate",
    "mergeline.evaluate.evaluate",
    "mergeline.evaluate.gate",
    "mergeline.model.train",
)
"""What the stages import: seconds for each process. None of it starts threads that a fork would lack.

What others import comes first: the steps are short, and where no stage runs the one that has begun is waited for.
"""


def run(stage: str) -> None:
    """Run a stage, and say what it did."""
    sys.stderr.write(f"· {STAGES[stage]()}\n")
    sys.stderr.flush()


def run_by_dvc(stage: str) -> int:
    """Run a stage in a fork of the process that proposes, where there is one; else here. Returns the exit code."""
    if stage != "environment":  # it imports nothing of what is shared
        code = hand_over(stage)
        if code is not None:
            return code
    return exit_code(lambda: run(stage))


def imports(modules: Iterable[str] = ()) -> Iterator[Callable[[], None]]:
    """Steps that import what the stages need, and more modules; what is not installed the stage that needs it says."""
    for module in (*_MODULES, *modules):
        yield functools.partial(_import, module)


def _import(module: str) -> None:
    with contextlib.suppress(ImportError):
        importlib.import_module(module)


if __name__ == "__main__":
    with Forks(run, imports()) as forks:
        forks.serve_who_started()
