"""Asks MLflow to do one job, such as to register what is released, in a process that is ended when no server answers.

Importing MLflow takes seconds and opens the door to its logs; a request to a server that hangs cannot be taken
back. A process of its own costs neither of them here.
"""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from mergeline.errors import MergelineError, ToolError
from mergeline.evaluate.results import Evaluation, GateVerdict
from mergeline.home import Home
from mergeline.manifest.schema import Manifest, Release
from mergeline.manifest.transitions import releases
from mergeline.model.artifact import FETCHED_FOLDER, folder_digest
from mergeline.model.lineage import ModelLineage, flat
from mergeline.params import Params, TrackingParams
from mergeline.release.mlflow_worker import HOLDOUT_TAG, MODEL_ARTIFACT, MODEL_TAG
from mergeline.store.objects import configured_store

URI_VARIABLE = "MLFLOW_TRACKING_URI"
_IMPORT_SECONDS = 120.0  # of this machine, not of the server
_LOCAL_SECONDS = 300.0


@dataclass(frozen=True)
class Tracking:
    """Where MLflow keeps its runs, and how long it may take over one step of a job."""

    uri: str
    timeout_seconds: float
    database: Path | None = None

    @property
    def remote(self) -> bool:
        """Whether somebody else's machine or process answers."""
        return self.database is None and "://" in self.uri and not self.uri.startswith("file:")

    @property
    def artifacts(self) -> Path | None:
        """The folder of the artifacts, where Mergeline chooses it: beside the database."""
        return self.database.parent / "mlartifacts" if self.database else None


def tracking_place(params: TrackingParams, root: Path) -> Tracking:
    """The place that `MLFLOW_TRACKING_URI` or else `params.yaml` names.

    A relative database is in the root of the repository: all of its models share one.
    """
    uri = os.environ.get(URI_VARIABLE) or params.uri
    if not uri.startswith("sqlite:///"):
        return Tracking(uri, params.timeout_seconds)
    path, _, options = uri.removeprefix("sqlite:///").partition("?")
    database = (Home.at(root).root / path).resolve()
    return Tracking(f"sqlite:///{database}" + (f"?{options}" if options else ""), params.timeout_seconds, database)


class Worker:
    """A process that has MLflow loaded, or is about to, and does one job; `pipe` leads to its standard input."""

    def __init__(self, place: Tracking, *, early: bool = False) -> None:
        self.pipe, its = Pipe()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mergeline.release.mlflow_worker", *([place.uri] if early else [])],
                stdin=its.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(place),
            )

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self.pipe.close()


@contextlib.contextmanager
def early_worker(place: Tracking) -> Iterator[Callable[[], Worker | None]]:
    """A function that starts, once, a worker that loads MLflow while something else is done, and returns it.

    It starts none for a server: it must be reached first.
    """
    started: list[Worker] = []

    def start() -> Worker | None:
        if not started and not place.remote:
            started.append(Worker(place, early=True))
        return started[0] if started else None

    try:
        yield start
    finally:
        for worker in started:
            worker.end()


def ask(job: Mapping[str, Any], place: Tracking, worker: Worker | None = None) -> dict[str, Any]:
    """Let MLflow do one job; two processes that ask at once on one machine wait for each other.

    Args:
        job: `do`, the name of a function of the worker, and what it needs.
        place: where the runs are kept.
        worker: one that was started early, and ends with this job.

    Returns:
        What the worker answers.

    Raises:
        ToolError: MLflow refused, or did not answer in time.
    """
    artifacts = place.artifacts.as_uri() if place.artifacts else None
    request = {**job, "uri": place.uri, "artifacts": artifacts, "timeout_seconds": place.timeout_seconds}
    with _alone(place):
        worker = worker or Worker(place)
        try:
            return _answer(request, place, worker)
        finally:
            worker.end()


@contextlib.contextmanager
def _alone(place: Tracking) -> Iterator[None]:
    """One job at a time for each database; a server answers for itself."""
    if place.artifacts is None:
        yield
        return
    from filelock import FileLock, Timeout

    try:
        place.artifacts.mkdir(parents=True, exist_ok=True)
        with FileLock(place.artifacts / ".lock", timeout=_LOCAL_SECONDS):
            yield
    except Timeout:
        raise _trouble(f"another process has held it for {_LOCAL_SECONDS:.0f} s", place) from None
    except OSError as cause:
        raise _trouble(f"the folder is not writable: {cause}", place) from cause


def _answer(request: Mapping[str, Any], place: Tracking, worker: Worker) -> dict[str, Any]:
    limit = step_seconds = place.timeout_seconds if place.remote else _LOCAL_SECONDS
    try:
        worker.pipe.send(request)
        while worker.pipe.poll(limit):
            event, told = worker.pipe.recv()
            if event == "done":
                answer: dict[str, Any] = told
                return answer
            if event == "refused":
                raise _trouble(told["what"], place, told["hint"])
            limit = _IMPORT_SECONDS if event == "loading" else step_seconds
    except (EOFError, OSError) as cause:
        raise _trouble("MLflow ended before it answered", place, "see what it says: mlflow doctor") from cause
    raise _trouble(f"no answer in {limit:g} s", place)


def _environment(place: Tracking) -> dict[str, str]:
    seconds = str(math.ceil(place.timeout_seconds))
    return os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": seconds,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }


def _trouble(what: str, place: Tracking, hint: str = "") -> ToolError:
    hint = hint or f"check tracking.uri in params.yaml and {URI_VARIABLE}"
    return ToolError(what, where=f"MLflow at {_shown(place.uri)}", hint=hint)


def _shown(uri: str) -> str:
    """The address without what may be a password."""
    scheme, mark, rest = uri.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


@dataclass(frozen=True)
class Registered:
    """The registered version behind each alias; and what is missing."""

    versions: dict[str, str] = field(default_factory=dict)
    warning: str | None = None


def register(manifest: Manifest, params: Params, root: Path) -> Registered:
    """Make the registry say what the manifest says, however often it is asked for.

    Each digest has one registered version, tied to its run: the one that a proposal recorded, or else one that is made
    here from the model's files in the store, so that `mlflow.sklearn.load_model("models:/NAME@champion")` finds them.
    The alias `champion` points to the stable model, `candidate` to the candidate; an alias without a model goes away.

    Args:
        manifest: what is released.
        params: where the registry is kept.
        root: the repository; a relative SQLite database lies in it.
    """
    named, warnings = {}, []
    for role, release in releases(manifest).items():
        named[role] = {"digest": release.digest, "version": str(release.version), "source": release.source}
        try:
            named[role]["folder"] = str(_model_folder(root, release))
        except MergelineError as error:
            warnings.append(f"version {release.version} may have no files in MLflow: {error}")
    job = {"do": "register", "name": manifest.metadata.name, "releases": named}
    try:
        answer = ask(job, tracking_place(params.tracking, root))
    except ToolError as error:
        return Registered(warning=f"the model was not registered: {error}")
    return Registered(answer["versions"], warning="; ".join(warnings) or None)


def _model_folder(root: Path, release: Release) -> Path:
    """The released model's files, in a folder of their own."""
    folder = root / FETCHED_FOLDER / release.digest.removeprefix("sha256:")
    if not folder.exists() or folder_digest(folder) != release.digest:
        configured_store(root).fetch_folder(release.source, folder)
    return folder.resolve()


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
    experiment: str = "",
) -> Recorded:
    """Record the run of a model on a holdout, once however often it is asked for; its verdict is the latest.

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
        experiment: the name that `dvc exp run` gave, if it did.
    """
    place = tracking_place(params.tracking, root)
    told = {"mergeline.experiment": experiment} if experiment else {}
    if verdict is not None:
        told |= {"mergeline.outcome": verdict.outcome.value, "mergeline.accepted": str(verdict.accepted).lower()}
    tags = {
        MODEL_TAG: evaluation.digest,
        HOLDOUT_TAG: evaluation.holdout.digest,
        **{f"mergeline.{key}": getattr(lineage, key) for key in ("code", "data", "params", "environment")},
    }
    job = {
        "do": "record",
        "experiment": params.name,
        "name": f"{evaluation.digest.removeprefix('sha256:')[:12]} on {', '.join(evaluation.holdout.partitions)}"[:250],
        "tags": tags,
        "told": told,
        "params": {name: text[:_VALUE_LENGTH] for name, text in flat(lineage.training).items()},
        "metrics": _metrics(evaluation),
        "inputs": [
            {"name": "train", "context": "training", "digest": lineage.data},
            {"name": "holdout", "context": "evaluation", "digest": evaluation.holdout.digest},
        ],
        "texts": {
            "evaluation.json": evaluation.model_dump_json(indent=1),
            **{f"curves/{curve.name}.json": curve.model_dump_json(indent=1) for curve in evaluation.curves},
        },
        "files": [(str(model.resolve()), MODEL_ARTIFACT)],
        "reports": [(str(path.resolve()), f"report/{path.name}" if path.is_dir() else "report") for path in reports],
    }
    try:
        answer = ask(job, place, worker)
    except ToolError as error:
        return Recorded(None, warning=f"the run was not recorded: {error}")
    return Recorded(answer["run"], answer["new"])


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    """Each metric with the ends of its interval."""
    values: dict[str, float] = {"model_bytes": evaluation.model_bytes, "holdout_rows": evaluation.holdout.rows}
    for metric in evaluation.metrics:
        ends = {"": metric.estimate.value, ".low": metric.estimate.low, ".high": metric.estimate.high}
        values |= {metric.name + end: value for end, value in ends.items() if value is not None}
    return values
