"""Finds the commit whose deployment was the last to succeed, and whether a commit's release is still the newest."""

from __future__ import annotations

from typing import Any

from mergeline.errors import ForgeError
from mergeline.github.base import BASE_BRANCH, REMOTE
from mergeline.github.client import GitHubClient
from mergeline.github.errors import Task
from mergeline.github.git import Git
from mergeline.github.git_objects import contains
from mergeline.manifest.schema import MANIFEST_FILE

DEPLOY_FILE = "deploy.yml"
_RUNS = 100  # one page: further back, everything is done again


def last_deployed(git: Git, client: GitHubClient) -> str | None:
    """The newest commit before HEAD whose deployment succeeded, whole; None where none is found.

    What a deployment that failed has left undone is then still to be done by the next one.

    Raises:
        ForgeError: GitHub does not answer, or the token may not read runs.
    """
    task = Task(doing="looking for the last deployment that succeeded", permission="actions: read")
    query = f"branch={BASE_BRANCH}&event=push&status=success&per_page={_RUNS}"
    answer = client.run(task, lambda: client.ask(f"/actions/workflows/{DEPLOY_FILE}/runs?{query}"))
    here = git.run("rev-parse", "HEAD")
    before = [
        commit
        for commit in _succeeded(answer)
        if commit != here and git.find(commit) is not None and contains(git, here, commit)
    ]
    if not before:
        return None
    # Deployments may end in another order than they began: the commit that contains the others is the newest.
    return max(before, key=lambda commit: int(git.run("rev-list", "--count", "--first-parent", commit)))


def is_still_released(git: Git) -> bool:
    """Whether the base branch still has the manifest that HEAD has: else a later deployment tells the newer one.

    Raises:
        ForgeError: the remote does not answer.
    """
    git.fetch(REMOTE, BASE_BRANCH)
    path = MANIFEST_FILE.as_posix()
    return git.blob(f"refs/remotes/{REMOTE}/{BASE_BRANCH}:{path}") == git.blob(f"HEAD:{path}")


def _succeeded(answer: Any) -> tuple[str, ...]:
    try:
        return tuple(str(run["head_sha"]) for run in answer["workflow_runs"] if run["conclusion"] == "success")
    except (KeyError, TypeError) as cause:
        raise ForgeError(
            "GitHub's list of runs has another form than expected", where=DEPLOY_FILE, hint="run the job again"
        ) from cause
