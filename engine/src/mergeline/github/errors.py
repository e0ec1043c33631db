"""Reads GitHub's refusals: which ones pass by themselves, what a permission is called, and what helps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mergeline.documents import Frozen
from mergeline.errors import ForgeError
from mergeline.github.actions import Job
from mergeline.timing import backoff_seconds

_LIMITED = re.compile(r"rate limit|abuse detection", re.IGNORECASE)
_SECONDARY_SECONDS = 60.0
"""GitHub asks for a minute where a secondary limit names no time (docs, "Rate limits for the REST API")."""
_NO_PULLS = re.compile(r"not permitted to create (or approve )?pull requests", re.IGNORECASE)


class Refusal(Frozen):
    """What GitHub answered; `status` 0 means that there was no answer."""

    status: int
    message: str
    headers: dict[str, str]
    codes: tuple[str, ...] = ()


class Task(Frozen):
    """What is asked of GitHub: in words, as in "commenting on pull request 7", and the permission that it takes.

    The permission is spelt as in a workflow file: `pull-requests: write`.
    """

    doing: str
    permission: str


class PullRequestsOffError(ForgeError):
    """The repository's settings let no workflow open a pull request; an issue asks a person to, if it could."""


def read_refusal(status: int, data: Any, headers: Mapping[str, str] | None) -> Refusal:
    """A refusal from an answer's parts; header names become small letters."""
    body = data if isinstance(data, Mapping) else {}
    errors = [error for error in body.get("errors") or [] if isinstance(error, Mapping | str)]
    words = [str(error.get("message") or "") if isinstance(error, Mapping) else error for error in errors]
    fields = [
        f"{error.get('field')} is {error.get('code')}"
        for error in errors
        if isinstance(error, Mapping) and error.get("field") and not error.get("message")
    ]
    said = str(body.get("message") or (data if isinstance(data, str) else "") or f"status {status}")
    return Refusal(
        status=status,
        message="; ".join(dict.fromkeys(part for part in (said, *words, *fields) if part))[:500],
        headers={str(name).lower(): str(value) for name, value in (headers or {}).items()},
        codes=tuple(str(error.get("code")) for error in errors if isinstance(error, Mapping)),
    )


def wait_seconds(refusal: Refusal, attempt: int, now: datetime) -> float | None:
    """How long to wait before the same is tried again, or None where waiting does not help.

    Args:
        refusal: what GitHub answered.
        attempt: how often it was tried before: 0, 1, ...
        now: the time.
    """
    backoff = backoff_seconds(attempt, first=1, longest=30)
    if refusal.status == 0 or refusal.status >= 500:
        return max(backoff, _retry_after(refusal, now) or 0.0)
    if not _is_limit(refusal):
        return None
    told = _retry_after(refusal, now)
    if told is not None:
        return max(told, backoff)
    reset = refusal.headers.get("x-ratelimit-reset", "")
    if refusal.headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        # The reset is told in whole seconds, and it is not told when in that second it happens.
        return max(int(reset) - now.timestamp() + 1, backoff)
    return max(_SECONDARY_SECONDS, backoff)


def explain(refusal: Refusal, task: Task, job: Job, repository: str, declared: str = "") -> ForgeError:
    """The error for a refusal that stands.

    Args:
        refusal: what GitHub answered.
        task: what was tried.
        job: where this runs.
        repository: `owner/name`.
        declared: the permissions that the workflow file gives the job, where they could be read.
    """
    told = f"{task.doing}: GitHub says {refusal.message!r}"
    kind: type[ForgeError] = ForgeError
    if refusal.status == 0:
        told = f"{task.doing}: no answer from {job.api_url}: {refusal.message}"
        hint = "check the network and GITHUB_API_URL, and run it again"
    elif _is_limit(refusal):
        told = f"{told}; {_until(refusal)}"
        hint = "wait until then and run the job again; a GitHub App's token has a limit of its own"
    elif refusal.status >= 500:
        told = f"{told} (status {refusal.status})"
        hint = "GitHub is not well (see githubstatus.com): run the job again"
    elif _NO_PULLS.search(refusal.message):
        kind, hint = PullRequestsOffError, pulls_setting(job, repository)
    elif refusal.status == 401:
        hint = "the token is wrong or has expired: set GITHUB_TOKEN anew"
    elif refusal.status == 403:
        needed = needed_permissions(refusal.headers.get("x-accepted-github-permissions", ""), task.permission)
        told = f"{told}: the token lacks `{needed}`"
        hint = _grant(needed, job, declared)
    elif refusal.status == 404:
        told = f"{told}: it is not there, or the token may not see it"
        hint = f"check the name; a private repository shows itself only to a token with `{task.permission}`"
        hint += _declares(job, declared)
    else:
        told = f"{told} (status {refusal.status})"
        hint = "fix what GitHub names, and try again"
    return kind(told, where=f"{repository} on {job.server_url}", hint=hint)


def needed_permissions(header: str, expected: str) -> str:
    """What the token lacks, spelt as in a workflow file.

    GitHub's header lists alternatives: `issues=write; pull_requests=write,contents=read`.

    Args:
        header: `X-Accepted-GitHub-Permissions`, or an empty string.
        expected: the permission that we thought of; the alternative that has it is the one to name.
    """
    told = []
    for alternative in header.split(";"):
        pairs = (part.strip().split("=", 1) for part in alternative.split(",") if "=" in part)
        told.append(", ".join(f"{name.replace('_', '-')}: {level}" for name, level in pairs))
    return next((one for one in told if expected in one), told[0] or expected)


def pulls_setting(job: Job, repository: str) -> str:
    """How to let workflows open pull requests."""
    page = f"{job.server_url}/{repository}/settings/actions"
    return (
        f"tick 'Allow GitHub Actions to create and approve pull requests' in {page}"
        f", or run: gh api -X PUT repos/{repository}/actions/permissions/workflow"
        " -f default_workflow_permissions=read -F can_approve_pull_request_reviews=true"
    )


def _is_limit(refusal: Refusal) -> bool:
    if refusal.status == 429:
        return True
    limited = "retry-after" in refusal.headers or refusal.headers.get("x-ratelimit-remaining") == "0"
    return refusal.status == 403 and (limited or bool(_LIMITED.search(refusal.message)))


def _retry_after(refusal: Refusal, now: datetime) -> float | None:
    """The header's seconds; it may name a date instead (RFC 9110)."""
    value = refusal.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (when - now).total_seconds())


def _until(refusal: Refusal) -> str:
    reset = refusal.headers.get("x-ratelimit-reset", "")
    if refusal.headers.get("retry-after"):
        return f"it asks to wait {refusal.headers['retry-after']} s, longer than is waited here"
    if reset.isdecimal():
        return f"the limit is lifted at {datetime.fromtimestamp(int(reset), UTC):%H:%M:%S} UTC"
    return "it was waited out in vain"


def _grant(needed: str, job: Job, declared: str) -> str:
    if not job.actions:
        return f"give the token `{needed}` (a classic token: the scope `repo`)"
    place = f"`permissions:` of the job `{job.job}` in {job.workflow_file or 'its workflow file'}"
    return f"add `{needed}` to {place}{_declares(job, declared)}"


def _declares(job: Job, declared: str) -> str:
    return f"; the job `{job.job}` declares {declared}" if declared and job.job else ""
