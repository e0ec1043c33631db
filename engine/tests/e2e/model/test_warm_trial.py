"""The verb `try`: by a process that stays, so that the next trial imports nothing."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from toy_data import toy_params, write_months

PACKAGES = Path(__file__).parents[2] / "packages"


@pytest.fixture
def project(tmp_path):
    """A team's repository whose pipeline is a file in it, and where MLflow keeps its runs in it."""
    write_months(tmp_path / "data")
    params = toy_params(model={"factory": "team_pipeline:make"}).model_dump(mode="json", by_alias=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


@pytest.fixture
def address(tmp_path):
    """Longer than the address of a socket may be."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    return folder / "warm"


@pytest.fixture
def attempt(project, address):
    """Runs the verb; the process that stays is ended with the test."""
    environment = {**os.environ, "PYTHONPATH": f"{project}:{PACKAGES}", "MERGELINE_WARM": str(address)}

    def run(factory, *words):
        (project / "team_pipeline.py").write_text(f"from toy.model import {factory} as make\n")
        program = [sys.executable, "-c", "from mergeline.cli import main; main()", "try", "--rows", "150", *words]
        return subprocess.run(
            program, cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False
        )

    yield run
    for process in staying(address):
        process.kill()


def staying(address):
    """The processes that listen there."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(address) in process.cmdline():
                found.append(process)
    return found


class TestStaying:
    def test_the_second_trial_imports_nothing_and_reads_the_pipeline_as_it_is_now(self, attempt, address):
        first = attempt("linear", "--json", "--no-log")
        assert first.returncode == 0, first.stderr
        (stays,) = staying(address)
        second = attempt("boosted", "--json", "--no-log")
        assert staying(address) == [stays]
        made, other = json.loads(first.stdout), json.loads(second.stdout)
        assert made["metrics"]["roc_auc"] != other["metrics"]["roc_auc"]
        assert other["seconds"]["fit"] < 1

    def test_it_is_recorded_and_what_is_wrong_is_told(self, attempt, project):
        done = attempt("linear")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert "roc_auc" in done.stdout
        with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as database:
            assert database.execute("select status, name from runs").fetchall() == [("FINISHED", "try: 134 rows")]
        done = attempt("no_such_model")
        assert done.returncode == 1
        assert "no_such_model" in done.stderr

    def test_where_nothing_can_listen_it_is_tried_all_the_same(self, attempt, address):
        address.parent.rmdir()
        done = attempt("linear", "--no-log")
        assert done.returncode == 0, done.stderr
        assert "tried: 134 rows" in done.stdout

    def test_one_that_was_killed_is_replaced(self, attempt, address):
        attempt("linear", "--no-log")
        (stays,) = staying(address)
        stays.kill()
        done = attempt("linear", "--no-log")
        assert done.returncode == 0, done.stderr
        assert len(staying(address)) == 1
