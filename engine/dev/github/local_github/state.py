"""What the local GitHub knows beside git and the emulator: settings, what happened, and what ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Event:
    """Something that may start workflows: `name` and `action` are GitHub's words."""

    repository: str
    name: str
    action: str | None
    payload: Mapping[str, Any]
    ref: str  # what GITHUB_REF is
    commit: str  # the commit whose workflow files count, and that is checked out
    head: str  # the commit that the checks are shown on
    branch: str  # what `branches:` filters look at
    actor: str
    fork: bool = False


class JobResult(NamedTuple):
    """How one job of a run ended."""

    name: str
    conclusion: str  # success, failure, cancelled or skipped
    seconds: float


@dataclass
class Run:
    """One run of a workflow."""

    number: int
    workflow: str
    file: str
    event: Event
    jobs: list[JobResult] = field(default_factory=list)
    conclusion: str = "success"
    seconds: float = 0.0
    log: str = ""
    summary: str = ""

    def job(self, name: str) -> JobResult:
        """The job of that name.

        Raises:
            KeyError: there is none.
        """
        for found in self.jobs:
            if found.name == name:
                return found
        raise KeyError(f"{name}; there are: {', '.join(job.name for job in self.jobs)}")


@dataclass
class Settings:
    """What a repository's administrator has set."""

    rulesets: list[dict[str, Any]] = field(default_factory=list)
    actions_enabled: bool = True
    actions_may_open_pulls: bool = True
    default_token: str = "read"  # noqa: S105 - GitHub's word for the permissions of a job that names none
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
