"""Talks to one repository on GitHub through PyGithub, waits out what passes by itself, and explains what stands.

What is tried again is a whole task that looks before it writes, never a single request: GitHub may answer a write
with 502 and have done it all the same.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from mergeline.documents import Frozen
from mergeline.errors import ForgeError
from mergeline.github.actions import Job
from mergeline.timing import backoff_seconds

if TYPE_CHECKING:
    from github.Repository import Repository

    from github import Github

PATIENCE_SECONDS = 120.0
"""How long one process waits for GitHub in all, over every task."""
TIMEOUT_SECONDS = 20
"""How long one answer may take; GitHub itself gives up after 10 s."""
_LIMITED = re.compile(r"rate limit|abuse detection", re.IGNORECASE)
_SECONDARY_SECONDS = 60.0
"""GitHub asks for a minute where a secondary limit names no time (docs, "Rate limits for the REST API")."""
_NO_PULLS = re.compile(r"not permitted to create (or approve )?pull requests", re.IGNORECASE)

Result = TypeVar("Result")
Given = ParamSpec("Given")


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

    @functools.cached_property
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

    @functools.cached_property
    def repository(self) -> Repository:
        """The repository under its present name: a renamed one answers writes with a redirect."""
        return self.github.get_repo(self.name)

    @functools.cached_property
    def me(self) -> str | None:
        """The person whom the token belongs to, or None: a job's token belongs to nobody who can be asked for."""
        from github import GithubException

        try:
            return self.github.get_user().login
        except GithubException as error:
            if error.status in {401, 403, 404}:
                return None
            raise

    def run(self, doing: str, permission: str, work: Callable[[], Result]) -> Result:
        """Do a task that may be begun again from the start.

        Args:
            doing: what it is, in words, for the error.
            permission: what it takes, for the error.
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
                raise explain(refusal, doing, permission, self.job, self.name, self._declared()) from cause
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


class HasClient(Protocol):
    """What does its tasks through a client."""

    client: GitHubClient


Owner = TypeVar("Owner", bound=HasClient)
Method = Callable[Concatenate[Owner, Given], Result]


def task(doing: str, permission: str) -> Callable[[Method[Owner, Given, Result]], Method[Owner, Given, Result]]:
    """Make a method a task of its client: it may be begun again from the start.

    Args:
        doing: what it is, in words, with the method's arguments in braces.
        permission: what it takes.
    """

    def decorate(work: Method[Owner, Given, Result]) -> Method[Owner, Given, Result]:
        signature = inspect.signature(work)

        @functools.wraps(work)
        def run(self: Owner, /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
            words = doing.format_map(signature.bind(self, *args, **kwargs).arguments)
            return self.client.run(words, permission, lambda: work(self, *args, **kwargs))

        return run

    return decorate


def _first_words(error: Exception) -> str:
    """What a connection's error says, without the chain of objects that the library wraps it in."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return f"{type(error).__name__}: {cause}"[:300]


class Refusal(Frozen):
    """What GitHub answered; `status` 0 means that there was no answer."""

    status: int
    message: str
    headers: dict[str, str]
    codes: tuple[str, ...] = ()


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


def explain(  # noqa: PLR0917 - all that the error tells
    refusal: Refusal, doing: str, permission: str, job: Job, repository: str, declared: str = ""
) -> ForgeError:
    """The error for a refusal that stands.

    Args:
        refusal: what GitHub answered.
        doing: what was tried, as in "commenting on pull request 7".
        permission: what it takes, spelt as in a workflow file: `pull-requests: write`.
        job: where this runs.
        repository: `owner/name`.
        declared: the permissions that the workflow file gives the job, where they could be read.
    """
    told = f"{doing}: GitHub says {refusal.message!r}"
    kind: type[ForgeError] = ForgeError
    if refusal.status == 0:
        told = f"{doing}: no answer from {job.api_url}: {refusal.message}"
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
        needed = needed_permissions(refusal.headers.get("x-accepted-github-permissions", ""), permission)
        told = f"{told}: the token lacks `{needed}`"
        hint = _grant(needed, job, declared)
    elif refusal.status == 404:
        told = f"{told}: it is not there, or the token may not see it"
        hint = f"check the name; a private repository shows itself only to a token with `{permission}`"
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
