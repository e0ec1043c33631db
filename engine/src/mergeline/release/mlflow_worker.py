"""Does one job on MLflow for `mlflow_client`, which is told how far it came.

It is a program, whose standard input is a pipe of `multiprocessing`: the job comes in, and pairs go out, `loading` and
`step` as it goes on, `done` with the answer, or `refused` with why.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import sys
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mergeline.fetch import FetchError, fetch
from mergeline.warm import hand_over

WORKER = "mlflow"
"""What a process that has MLflow loaded is asked for, to do this program's work."""

MODEL_TAG, HOLDOUT_TAG, VERSION_TAG, SOURCE_TAG = (
    f"mergeline.{name}" for name in ("model", "holdout", "version", "source")
)
MODEL_ARTIFACT = "model"
ALIASES = {"stable": "champion", "candidate": "candidate"}
_ELSEWHERE = "dvc://"  # a source that names the store, which MLflow cannot read
_DIGEST_LENGTH = 36  # MLflow's column for a data set's digest


class Client:
    """MLflow's client; who waits is told of each of its answers."""

    def __init__(self, client: Any, told: Callable[[], object]) -> None:
        self._client, self._told = client, told

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def ask(*arguments: Any, **named: Any) -> Any:
            answer = getattr(self._client, name)(*arguments, **named)
            self._told()
            return answer

        return ask


class DeletedError(Exception):
    """Somebody deleted the experiment; MLflow keeps its name until it is restored or purged."""

    def __init__(self, name: str, experiment: str) -> None:
        super().__init__(f"the experiment {name!r} was deleted")
        self.hint = f"restore it: mlflow experiments restore --experiment-id {experiment}; then propose again"


def record(client: Client, job: Mapping[str, Any]) -> dict[str, Any]:
    """Write one run for the job's model and holdout, or find the one that was written.

    A run that was left unfinished is written to its end.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    experiment = _experiment(client, job)
    tags: dict[str, str] = job["tags"]
    which = " and ".join(f"tags.`{name}` = '{tags[name]}'" for name in (MODEL_TAG, HOLDOUT_TAG))
    found = client.search_runs([experiment], which, max_results=10)
    finished = [run for run in found if run.info.status == "FINISHED"]
    told: dict[str, str] = job.get("told", {})
    if finished:
        if not told.items() <= finished[0].data.tags.items():
            _tell(client, finished[0].info.run_id, job)
        return {"run": finished[0].info.run_id, "new": False}
    run = found[0] if found else client.create_run(experiment, tags=tags, run_name=job["name"])
    name, when = run.info.run_id, run.info.start_time
    client.log_batch(
        name,
        metrics=[Metric(key, value, when, 0) for key, value in job["metrics"].items()],
        params=[Param(key, value) for key, value in job["params"].items()],
    )
    client.log_inputs(
        name,
        datasets=[
            DatasetInput(
                Dataset(
                    name=data["name"],
                    digest=data["digest"].partition(":")[2][:_DIGEST_LENGTH],
                    source_type="dvc",
                    source=json.dumps({"digest": data["digest"]}),
                ),
                [InputTag("mlflow.data.context", data["context"])],
            )
            for data in job.get("inputs", ())
        ],
    )
    for path, text in job.get("texts", {}).items():
        client.log_text(name, text, path)
    _log_files(client, name, job.get("files", ()))
    _tell(client, name, job)
    client.set_terminated(name)
    return {"run": name, "new": True}


def _tell(client: Client, run: str, job: Mapping[str, Any]) -> None:
    """Write into a run what may be told of it later: the reports, and tags as the latest gate's verdict."""
    from mlflow.entities import RunTag

    _log_files(client, run, job.get("reports", ()))
    client.log_batch(run, tags=[RunTag(key, value) for key, value in job.get("told", {}).items()])


def _log_files(client: Client, run: str, files: Iterable[tuple[str, str]]) -> None:
    for path, target in files:
        (client.log_artifacts if Path(path).is_dir() else client.log_artifact)(run, path, target)


def register(client: Client, job: Mapping[str, Any]) -> dict[str, Any]:
    """Make a registered version for each release that has none, and let the aliases point where the manifest says."""
    from mlflow.exceptions import MlflowException

    name = job["name"]
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        model = client.create_registered_model(name)
    versions = {}
    for role, alias in ALIASES.items():
        release = job["releases"].get(role)
        if release is not None:
            versions[alias] = _version(client, job, release)
            if str(model.aliases.get(alias)) != versions[alias]:
                client.set_registered_model_alias(name, alias, versions[alias])
        elif alias in model.aliases:
            client.delete_registered_model_alias(name, alias)
    return {"versions": versions}


def _version(client: Client, job: Mapping[str, Any], release: Mapping[str, str]) -> str:
    """The registered version of a release, made where there is none that MLflow can load."""
    name, folder = job["name"], release.get("folder")
    found = client.search_model_versions(f"name = '{name}' and tags.`{MODEL_TAG}` = '{release['digest']}'")
    loadable = [version for version in found if not folder or not version.source.startswith(_ELSEWHERE)]
    if loadable:
        return str(min(int(version.version) for version in loadable))
    experiment = _experiment(client, {**job, "experiment": name})
    which = f"tags.`{MODEL_TAG}` = '{release['digest']}' and attributes.status = 'FINISHED'"
    runs = client.search_runs([experiment], which, max_results=1)
    run = runs[0].info.run_id if runs else None
    if run is None and folder:
        tags = {MODEL_TAG: release["digest"], SOURCE_TAG: release["source"]}
        run = client.create_run(experiment, tags=tags, run_name=f"version {release['version']}").info.run_id
        client.log_artifacts(run, folder, MODEL_ARTIFACT)
        client.set_terminated(run)
    made = client.create_model_version(
        name,
        source=f"runs:/{run}/{MODEL_ARTIFACT}" if run else f"{_ELSEWHERE}{release['source']}",
        run_id=run,
        tags={MODEL_TAG: release["digest"], VERSION_TAG: release["version"], SOURCE_TAG: release["source"]},
        description=f"Version {release['version']} in deploy/manifest.yaml.",
    )
    return str(made.version)


def _experiment(client: Client, job: Mapping[str, Any]) -> str:
    from mlflow.exceptions import MlflowException

    name = job["experiment"]
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=job["artifacts"]))
        except MlflowException:  # another machine was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise DeletedError(name, found.experiment_id)
    return str(found.experiment_id)


def _reach(uri: str, timeout_seconds: float) -> None:
    """Ask a server for a sign of life: cheaper than to load MLflow for one that is down."""
    parts = urllib.parse.urlsplit(uri)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/health")
    try:
        fetch(place.geturl(), seconds=timeout_seconds, max_bytes=1_000_000)  # any answer is a sign of life
    except FetchError as error:
        if isinstance(error.__cause__, ssl.SSLError):
            return  # certificates are MLflow's to judge: it may have been told to take this one
        raise ConnectionError(f"the server is not there: {error.what}") from error


def _prepare(uri: str) -> None:
    """Load MLflow, and open the database that is there, while the job is still being made."""
    from mlflow.tracking import MlflowClient

    if Path(urllib.parse.urlsplit(uri).path).is_file():  # making one is for whoever holds the lock
        with contextlib.suppress(Exception):  # the job will say what is wrong with it
            MlflowClient(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)


def main() -> None:
    """Take a job, do it, and say how it went."""
    pipe = Connection(os.dup(0))
    warnings.simplefilter("ignore")
    job = pipe.recv()
    try:
        if job["uri"].startswith(("http://", "https://")):
            _reach(job["uri"], job["timeout_seconds"])
        pipe.send(("loading", None))
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=job["uri"], registry_uri=job["uri"])
        pipe.send(("step", None))
        verb = {"record": record, "register": register}[job["do"]]
        pipe.send(("done", verb(Client(client, lambda: pipe.send(("step", None))), job)))
    except Exception as error:  # noqa: BLE001 - whatever went wrong is what to report
        what = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        pipe.send(("refused", {"what": what, "hint": getattr(error, "hint", "")}))


if __name__ == "__main__":
    if (code := hand_over(WORKER)) is not None:
        sys.exit(code)
    if sys.argv[1:]:
        _prepare(sys.argv[1])
    main()
