"""Gives each job a token of its own, with what it declares and no more; act knows one token for all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from local_github.expressions import in_expressions
from local_github.inline import HIDDEN, Permissions, Workflow, flat_jobs
from local_github.triggers import triggers

# These are no permissions of the REST API that is emulated here.
_NOT_REST = {"id-token", "discussions", "models", "security-events", "repository-projects", "artifact-metadata"}
_TOKEN = re.compile(r"\b(github\.token|secrets\.GITHUB_TOKEN)\b")


class Prepared(NamedTuple):
    """A workflow that is ready to run: its file's name, act's name of each job with GitHub's, and what each may do."""

    file: str
    jobs: Mapping[str, str]
    granted: Mapping[str, Mapping[str, str]]


def clamp(permissions: Permissions, *, fork: bool) -> dict[str, str]:
    """What a token gets of the permissions of a job: in a fork's run it may only read."""
    kept = {name: level for name, level in permissions.items() if level != "none" and name not in _NOT_REST}
    return dict.fromkeys(kept, "read") if fork else kept


def prepare(
    folder: Path, file: str, default: Permissions, mint: Callable[[Permissions], str], *, fork: bool
) -> Prepared:
    """Write a copy of a workflow in which every job has its own token.

    Args:
        folder: .github/workflows of a checkout.
        file: the workflow's file.
        default: what a job may do where nothing is declared.
        mint: makes a token with these permissions.
        fork: whether the run belongs to a fork's pull request.

    Raises:
        InvalidWorkflowError: GitHub would not start it.
    """

    def read(name: str) -> Workflow:
        return dict(yaml.safe_load((folder / name).read_text(encoding="utf-8")))

    workflow = read(file)
    title = str(workflow.get("name", file))
    jobs = flat_jobs(workflow, read, default)
    granted = {key: clamp(job["permissions"], fork=fork) for key, job in jobs.items()}
    ready = {key: _with_token(job, mint(granted[key])) for key, job in jobs.items()}
    copy = {name: part for name, part in workflow.items() if name not in {True, "on", "jobs"}}
    # JSON is YAML, and leaves no question how a value is read.
    text = json.dumps({**copy, "name": title, "on": dict(triggers(workflow)), "jobs": ready}, indent=1)
    (folder / f"run-{file}").write_text(text, encoding="utf-8")
    shown = {f"{title}/{job['name']}": job["name"] for job in ready.values()}
    return Prepared(f"run-{file}", shown, {ready[key]["name"]: found for key, found in granted.items()})


def is_shown(name: str) -> bool:
    """Whether GitHub has a job of that name: some only hold a call together here."""
    return not name.startswith(HIDDEN)


def _with_token(job: dict[str, Any], token: str) -> dict[str, Any]:
    return dict(in_expressions(job, lambda expression: _TOKEN.sub(f"'{token}'", expression)))
