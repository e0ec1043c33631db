"""What `dvc exp run` tries is in MLflow, and the one that is applied is proposed; the registry follows main alone."""

import contextlib
import sqlite3

import pytest

pytestmark = pytest.mark.slow


def query(project, text):
    with contextlib.closing(sqlite3.connect(project.root / "mlflow.db")) as database:
        return database.execute(text).fetchall()


def test_experiments_are_recorded_and_the_one_that_is_applied_is_proposed(released, tmp_path):
    # An experiment is committed in a clone of DVC's own, by whoever git says it is.
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = a scientist\n\temail = scientist@example.com\n")
    here = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "HOME": str(tmp_path)}
    for arguments in (
        ["-n", "half", "-S", "++model.arguments.C=0.5"],
        ["--queue", "-n", "third", "-S", "++model.arguments.C=0.3"],
    ):
        done = released.run("dvc", "exp", "run", *arguments, settings=here)
        assert done.returncode == 0, done.stderr
    done = released.run("dvc", "exp", "run", "--run-all", settings=here)
    assert done.returncode == 0, done.stderr

    named = query(released, "SELECT value FROM tags WHERE key = 'mergeline.experiment'")
    assert sorted(named) == [("half",), ("third",)]

    assert released.run("dvc", "exp", "apply", "half", settings=here).returncode == 0
    released.mergeline("propose", settings=here)
    told = "SELECT COUNT(*) FROM tags JOIN tags AS named ON named.run_uuid = tags.run_uuid WHERE named.value = 'half'"
    assert query(released, f"{told} AND tags.key = 'mergeline.accepted' AND tags.value = 'true'") == [(1,)]

    # Proposed and not merged, it is nobody's champion.
    released.mergeline("register", settings=here)
    assert query(released, "SELECT value FROM model_version_tags WHERE key = 'mergeline.version'") == [("1",)]
