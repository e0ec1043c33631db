import contextlib
import multiprocessing
import shutil
import socket
import sqlite3
import threading
import time

import pytest
from bundle_examples import verdict_of
from release_examples import (
    evaluation,
    files_below,
    lineage,
    model_folder,
    params,
    release,
    sha256,
    stored_release,
)

from mergeline.documents import parse
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.manifest.schema import Manifest
from mergeline.model.artifact import load_model
from mergeline.release.mlflow_client import URI_VARIABLE, record, register
from mergeline.scorer.pipeline import to_features
from toy_data import orders, train_toy


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv(URI_VARIABLE, raising=False)


def write(root, model="model 1", holdout="holdout", verdict=None, **changes):
    folder = root / "model"
    if not folder.exists():
        model_folder(folder)
    (root / "report.md").write_text("# Report")
    tracking = {"tracking": changes} if changes else {}
    return record(
        evaluation(model, holdout), lineage(), params(**tracking), root, folder,
        verdict=verdict, reports=[root / "report.md"],
    )  # fmt: skip


def query(root, text, *values):
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as database:
        return database.execute(text, values).fetchall()


def _write(root, holdout):
    assert write(root, holdout=holdout).run


def manifest(*versions, candidate=None):
    text = empty_manifest("flights")
    for version in versions:
        text = promote(text, release(version))
    made = parse(text, Manifest, "manifest")
    if candidate is None:
        return made
    rollout = made.spec.rollout.model_copy(update={"strategy": "canary"})
    spec = made.spec.model_copy(update={"candidate": release(candidate), "rollout": rollout})
    return made.model_copy(update={"spec": spec})


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A database with one run, which costs the import of MLflow; tests that write to it take a copy."""
    root = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(URI_VARIABLE, raising=False)
        return root, write(root)


@pytest.mark.slow
def test_a_run_holds_params_metrics_inputs_and_files(recorded):
    root, run = recorded

    assert (run.new, run.warning) == (True, None)
    assert dict(query(root, "SELECT key, value FROM params")) == {
        "task": "binary",
        "model.seed": "7",
        "model.arguments.depth": "3",
        "model.arguments.scale": "null",
    }
    assert dict(query(root, "SELECT key, value FROM metrics")) == {
        "roc_auc": 0.75,
        "roc_auc.low": 0.7,
        "roc_auc.high": 0.8,
        "log_loss": 0.5,
        "model_bytes": 1234,
        "holdout_rows": 40,
    }
    assert dict(query(root, "SELECT name, digest FROM datasets")) == {
        "train": lineage().data.removeprefix("md5:"),
        "holdout": sha256("holdout").removeprefix("sha256:")[:36],
    }
    tags = dict(query(root, "SELECT key, value FROM tags"))
    assert tags["mergeline.model"] == sha256("model 1")
    assert tags["mergeline.holdout"] == sha256("holdout")
    assert files_below(root / "mlartifacts" / run.run / "artifacts") == {
        "curves/roc.json",
        "evaluation.json",
        "report/report.md",
        *(f"model/{name}" for name in files_below(root / "model")),
    }
    assert not (root / "mlruns").exists()


@pytest.mark.slow
def test_a_run_that_is_known_is_found_and_not_written_again(recorded):
    root, run = recorded

    again = write(root)

    assert (again.run, again.new) == (run.run, False)
    assert len(query(root, "SELECT run_uuid FROM runs")) == 1


@pytest.mark.slow
def test_a_model_that_was_rejected_and_is_accepted_later_is_accepted_in_its_run(recorded, tmp_path):
    shutil.copytree(recorded[0], tmp_path, dirs_exist_ok=True)
    digest = evaluation("model 1", "holdout").digest

    runs = [write(tmp_path, verdict=verdict_of(digest, accepted=accepted)).run for accepted in (False, True, True)]

    assert set(runs) == {recorded[1].run}
    told = query(tmp_path, "SELECT value FROM tags WHERE key = 'mergeline.accepted'")
    assert told == [("true",)]


@pytest.mark.slow
def test_a_run_that_was_left_unfinished_is_written_to_its_end_quietly(recorded, tmp_path, capfd):
    root, run = recorded
    shutil.copy(root / "mlflow.db", tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE runs SET status = 'RUNNING', end_time = NULL")

    again = write(tmp_path)

    assert (again.run, again.new, again.warning) == (run.run, True, None)
    assert query(tmp_path, "SELECT status FROM runs") == [("FINISHED",)]
    assert len(query(tmp_path, "SELECT * FROM inputs")) == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_experiment_that_was_deleted_is_named_with_how_to_restore_it(recorded, tmp_path):
    root, _ = recorded
    shutil.copy(root / "mlflow.db", tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = 'flights'")

    again = write(tmp_path, holdout="another")

    assert again.run is None
    assert "the run was not recorded" in again.warning
    assert "'flights' was deleted" in again.warning
    assert "mlflow experiments restore --experiment-id 1" in again.warning
    assert "tracking.uri" not in again.warning


@pytest.mark.slow
def test_processes_at_once_write_one_run_for_each_holdout(tmp_path):
    model_folder(tmp_path / "model")
    context = multiprocessing.get_context("spawn")
    holdouts = ("march", "march", "april")
    processes = [context.Process(target=_write, args=(tmp_path, holdout)) for holdout in holdouts]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert query(tmp_path, "SELECT status FROM runs") == [("FINISHED",), ("FINISHED",)]


@pytest.mark.slow
def test_the_registry_says_what_the_manifest_says(recorded, tmp_path):
    root, run = recorded
    shutil.copy(root / "mlflow.db", tmp_path)

    rolling = register(manifest(1, candidate=2), params(), tmp_path)
    finished = register(manifest(1, 2), params(), tmp_path)

    assert rolling.versions == {"champion": "1", "candidate": "2"}
    assert finished.versions == {"champion": "2"}
    assert query(tmp_path, "SELECT alias, version FROM registered_model_aliases") == [("champion", 2)]
    versions = query(tmp_path, "SELECT version, source, run_id FROM model_versions ORDER BY version")
    assert versions == [(1, f"runs:/{run.run}/model", run.run), (2, f"dvc://{release(2).source}", None)]


@pytest.mark.slow
class TestLoading:
    """What the registry names is what MLflow loads."""

    @pytest.fixture
    def champion(self, tmp_path):
        """A model in the store that no run holds, registered by an engine that could not let MLflow load it."""
        folder = train_toy(tmp_path)
        (tmp_path / ".dvc").mkdir()
        (tmp_path / ".dvc" / "config").write_text(
            "[core]\n    remote = store\n['remote \"store\"']\n    url = ../store\n"
        )
        released = stored_release(tmp_path / "store", folder, 1)
        made = parse(promote(empty_manifest("flights"), released), Manifest, "manifest")
        (tmp_path / "store").rename(tmp_path / "elsewhere")
        assert "may have no files in MLflow" in register(made, params(), tmp_path).warning
        (tmp_path / "elsewhere").rename(tmp_path / "store")
        return made, folder

    def test_mlflow_loads_the_champion_and_it_says_the_same(self, champion, tmp_path, monkeypatch):
        import mlflow

        made, folder = champion
        assert register(made, params(), tmp_path).versions == {"champion": "2"}
        assert register(made, params(), tmp_path).versions == {"champion": "2"}
        monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
        # `mlflow.set_tracking_uri` would set it for every test that comes after this one.
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
        own = load_model(folder)
        features = to_features(orders("2024-03"), own.signature.columns)
        expected = own.pipeline.predict(features)
        plain = mlflow.sklearn.load_model("models:/flights@champion")
        function = mlflow.pyfunc.load_model("models:/flights@champion")
        for found in (plain, function):
            assert (found.predict(features) == expected).all()


class TestServers:
    def test_one_that_is_down_costs_a_warning_and_hardly_any_time(self, tmp_path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started = time.monotonic()

        recorded = write(tmp_path, uri=f"http://127.0.0.1:{port}", timeout_seconds=5)

        assert time.monotonic() - started < 5
        assert recorded.run is None
        assert "refused" in recorded.warning
        assert "tracking.uri" in recorded.warning

    def test_one_that_takes_the_connection_and_hangs_costs_the_timeout(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as server:
            started = time.monotonic()

            recorded = write(tmp_path, uri=f"http://127.0.0.1:{server.getsockname()[1]}", timeout_seconds=1.5)

            assert time.monotonic() - started < 4
        assert "the run was not recorded" in recorded.warning
        assert "no answer in 1.5 s" in recorded.warning or "timed out" in recorded.warning

    def test_one_that_drips_one_byte_a_time_costs_the_timeout(self, tmp_path):
        def drip(server):
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                while True:
                    connection.sendall(b"H")
                    time.sleep(0.2)

        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=drip, args=(server,), daemon=True).start()
            started = time.monotonic()

            recorded = write(tmp_path, uri=f"http://127.0.0.1:{server.getsockname()[1]}", timeout_seconds=1.5)

            assert time.monotonic() - started < 4
        assert "no answer in 1.5 s" in recorded.warning

    @pytest.mark.slow
    def test_one_that_hangs_after_a_sign_of_life_costs_the_timeout_too(self, tmp_path):
        def greet_and_hang(server):
            kept = []
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
                while True:
                    kept.append(server.accept())

        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=greet_and_hang, args=(server,), daemon=True).start()

            recorded = write(tmp_path, uri=f"http://127.0.0.1:{server.getsockname()[1]}", timeout_seconds=1)

        assert recorded.run is None
        assert "timed out" in recorded.warning.lower() or "no answer in 1 s" in recorded.warning

    def test_the_variable_goes_before_the_params(self, tmp_path, monkeypatch):
        monkeypatch.setenv(URI_VARIABLE, "http://user:secret@127.0.0.1:9")

        recorded = write(tmp_path)

        assert "http://127.0.0.1:9" in recorded.warning
        assert "secret" not in recorded.warning
        assert not (tmp_path / "mlflow.db").exists()

    def test_the_registry_warns_as_well(self, tmp_path, monkeypatch):
        monkeypatch.setenv(URI_VARIABLE, "http://127.0.0.1:9")

        registered = register(manifest(1), params(), tmp_path)

        assert registered.versions == {}
        assert "the model was not registered" in registered.warning

    def test_a_database_in_a_folder_that_cannot_be_made_is_a_warning(self, tmp_path):
        (tmp_path / "file").write_text("x")

        assert "not writable" in write(tmp_path, uri="sqlite:///file/mlflow.db").warning
