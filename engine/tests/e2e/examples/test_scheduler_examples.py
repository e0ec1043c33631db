"""The schedule as Airflow and Kubeflow have it, read by the tools themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from isolated import EXAMPLES, ran

pytestmark = pytest.mark.slow

READ = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[1])
tasks = bag.dags["mergeline"].tasks if "mergeline" in bag.dags else []
told = {task.task_id: [task.bash_command, sorted(task.downstream_task_ids)] for task in tasks}
print(json.dumps([bag.import_errors, told]))
"""


def options(verb: str) -> str:
    """What `mergeline VERB --help` says."""
    start = [Path(sys.executable).with_name("mergeline"), verb, "--help"]
    return subprocess.run(start, capture_output=True, text=True, check=True, env={"COLUMNS": "200"}).stdout


def test_airflow_reads_the_dag_and_its_tasks_call_verbs_that_there_are(tmp_path):
    home = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    told = ran(
        "python", "-c", READ, str(EXAMPLES / "airflow"), packages=("apache-airflow==3.3.2",), cwd=tmp_path, **home
    )
    errors, tasks = json.loads(told.splitlines()[-1])
    assert errors == {}
    assert {name: after for name, (_, after) in tasks.items()} == {
        "pull": ["watch"],
        "watch": ["retrain"],
        "retrain": [],
    }
    assert "mergeline watch --all" in tasks["watch"][0]
    assert "mergeline retrain --all --pull-request" in tasks["retrain"][0]
    assert "--all" in options("watch")
    assert {"--all", "--pull-request"} <= set(options("retrain").split())


def test_kubeflow_compiles_the_pipeline_and_retraining_comes_after_watching(tmp_path):
    packages = ("kfp==2.17.3", "kfp-kubernetes")
    ran("python", EXAMPLES / "kubeflow" / "pipeline.py", packages=packages, cwd=tmp_path)
    pipeline, platform = yaml.safe_load_all((tmp_path / "mergeline.yaml").read_text())
    tasks = pipeline["root"]["dag"]["tasks"]
    assert tasks["retrain"]["dependentTasks"] == ["watch"]
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks.values())
    containers = {name: each["container"] for name, each in pipeline["deploymentSpec"]["executors"].items()}
    assert "mergeline retrain --all --pull-request" in containers["exec-retrain"]["command"][-1]
    secrets = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {name: each["secretAsEnv"][0]["keyToEnv"][0]["envVar"] for name, each in secrets.items()} == {
        "exec-retrain": "GITHUB_TOKEN", "exec-watch": "GITHUB_TOKEN",
    }  # fmt: skip
