"""Talks to one repository on GitHub through PyGithub, and waits out what passes by itself.

What is tried again is a whole task that looks before it writes, never a single request: GitHub may answer a write
with 502 and have done it all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mergeline.errors import ForgeError
from mergeline.github.actions import Job
from mergeline.github.errors import Refusal, Task, explain, read_refusal, wait_seconds

if TYPE_CHECKING:
    from github.Repository import Repository

    from github import Github

PATIENCE_SECONDS = 120.0
"""How long one process waits for GitHub in all, over every task."""
TIMEOUT_SECONDS = 20
"""How long one answer may take; GitHub itself gives up after 10 s."""

Result = TypeVar("Result")


class GitHubClient:
    """One repository, one token, and a limited patience."""

    def __init__(
        self,
        job: Job,
        repository: str,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        timeout_seconds: int = TIMEOUT_SECONDS,
        root: Path | None = None,
    ) -> None:
        if not job.token:
            raise ForgeError(
                "there is no token for GitHub",
                where=f"{repository} on {job.server_url}",
                hint="set GITHUB_TOKEN; in a workflow: env: GITHUB_TOKEN: ${{ github.token }}; "
                "on your machine: export GITHUB_TOKEN=$(gh auth token)",
            )
        self.job = job
        self.name = repository
        self._root = root
        self._patience = patience_seconds
        self._timeout = timeout_seconds

    @cached_property
    def github(self) -> Github:
        """PyGithub's client, without its own retries: they repeat single writes and know no limit in all."""
        from github import Auth, Github

        return Github(
            auth=Auth.Token(self.job.token),
            base_url=self.job.api_url,
            timeout=self._timeout,
            retry=None,
            per_page=100,
            seconds_between_requests=None,
            seconds_between_writes=None,
            verify=os.environ.get("SSL_CERT_FILE") or True,
            user_agent="mergeline",
        )

    @cached_property
    def repository(self) -> Repository:
        """The repository under its present name: a renamed one answers writes with a redirect."""
        return self.github.get_repo(self.name)

    @cached_property
    def me(self) -> str | None:
        """The person whom the token belongs to, or None: a job's token belongs to nobody who can be asked for."""
        from github import GithubException

        try:
            return self.github.get_user().login
        except GithubException as error:
            if error.status in {401, 403, 404}:
                return None
            raise

    def run(self, task: Task, work: Callable[[], Result]) -> Result:
        """Do a task that may be begun again from the start.

        Args:
            task: what it is, for the error.
            work: looks at what is there and writes what is missing.

        Raises:
            ForgeError: GitHub refused, or did not answer until the patience was used up.
        """
        from requests.exceptions import RequestException

        from github import GithubException

        attempt = 0
        while True:
            try:
                return work()
            except GithubException as error:
                refusal, cause = read_refusal(error.status, error.data, error.headers), error
            except (RequestException, OSError) as error:
                refusal, cause = Refusal(status=0, message=_first_words(error), headers={}), error  # type: ignore[assignment]
            wait = wait_seconds(refusal, attempt, datetime.now(UTC))
            if wait is None or wait > self._patience:
                raise explain(refusal, task, self.job, self.name, self._declared()) from cause
            self._patience -= wait
            attempt += 1
            time.sleep(wait)

    def ask(self, path: str) -> Any:
        """What GitHub answers to GET on a path below the repository, such as `/rulesets`, or `/` for itself.

        Raises:
            github.GithubException: it refused.
        """
        url = f"/repos/{self.name}{path.rstrip('/')}"
        return self.github.requester.requestJsonAndCheck("GET", url)[1]

    def _declared(self) -> str:
        """The permissions that the workflow file gives this job, where the file lies here and can be read."""
        if not (self.job.actions and self.job.workflow_file and self._root):
            return ""
        import yaml

        try:
            tree = yaml.safe_load((self._root / self.job.workflow_file).read_text(encoding="utf-8"))
            found = tree["jobs"][self.job.job].get("permissions", tree.get("permissions"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            return ""  # the error that is being told is the more important one
        if isinstance(found, dict):
            return ", ".join(f"`{name}: {level}`" for name, level in found.items()) or "none"
        return f"`{found}`" if found is not None else ""


def _first_words(error: Exception) -> str:
    """What a connection's error says, without the chain of objects that the library wraps it in."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return f"{type(error).__name__}: {cause}"[:300]
