"""The workflow files and the actions of this repository, for the tests that read them."""

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
MAIN = "${{ github.event.repository.default_branch }}"


class Job(NamedTuple):
    file: str
    key: str
    body: dict

    @property
    def steps(self):
        return self.body.get("steps", [])

    @property
    def writes(self):
        return {name for name, level in self.body["permissions"].items() if level == "write"}

    def uses(self, action):
        return [step for step in self.steps if step.get("uses", "").startswith(action)]


def load(path):
    return yaml.safe_load(path.read_text())


def triggers(workflow):
    return workflow[True]  # YAML 1.1 reads the key `on` as true


def jobs():
    return [Job(path.name, key, body) for path in WORKFLOWS for key, body in load(path)["jobs"].items()]


def all_steps():
    steps = [step for job in jobs() for step in job.steps]
    return steps + [step for path in ACTIONS for step in load(path)["runs"]["steps"]]


JOBS = jobs()
WITH_STEPS = [job for job in JOBS if job.steps]
each_job = pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job.file}:{job.key}")
each_job_with_steps = pytest.mark.parametrize("job", WITH_STEPS, ids=lambda job: f"{job.file}:{job.key}")
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
