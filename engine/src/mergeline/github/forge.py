"""A forge on GitHub: pull requests, comments, checks and issues through the REST API.

Every task looks before it writes, so the same call twice makes one thing, and a task may be begun again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mergeline.errors import ForgeError
from mergeline.github.actions import Job, locate, read_job
from mergeline.github.client import GitHubClient, PullRequestsOffError, task
from mergeline.github.comment import About, Comment, compose, marker, ours, same_text
from mergeline.github.git import Git
from mergeline.github.own_branch import request_key
from mergeline.github.pull_requests import Issue, PullRequest, PullState
from mergeline.github.sanitize import COMMENT_CHARACTERS, cut_markdown

if TYPE_CHECKING:
    from github.Issue import Issue as FoundIssue
    from github.IssueComment import IssueComment
    from github.PullRequest import PullRequest as Found

PULLS, PULLS_READ, CHECKS, ISSUES = "pull-requests: write", "pull-requests: read", "checks: write", "issues: write"
_LABEL_COLOUR = "1d76db"
_CHECK_CHARACTERS = 60_000  # GitHub takes 65,535 in a check's summary
_CLOSED_LISTED = 20
_LEFT_OUT = "The rest is left out: GitHub takes no more."


def open_github(git: Git, job: Job | None = None) -> GitHubForge | None:
    """The forge of the repository that `origin` points to, or None where that is no GitHub.

    Raises:
        ForgeError: it is a GitHub, and there is no token for it.
    """
    job = job or read_job()
    code, url, _ = git.attempt("remote", "get-url", "origin")
    found = locate(url, job) if code == 0 else None
    if found is None:
        return None
    name, there = found
    return GitHubForge(GitHubClient(there, name, root=git.folder))


class GitHubForge:
    """The pull requests, checks and issues of one repository on GitHub."""

    def __init__(self, client: GitHubClient) -> None:
        self.client = client

    def open_or_update(self, branch: str, base: str, title: str, body: str, labels: Sequence[str] = ()) -> PullRequest:
        """Open the pull request of `branch` into `base`; one that is open already gets these words instead.

        Raises:
            PullRequestsOffError: the settings forbid it to workflows; an issue now asks a person to open it.
            ForgeError: a branch is missing, there is nothing between the two, or the token may not.
        """
        words = cut_markdown(body, COMMENT_CHARACTERS, _LEFT_OUT)
        try:
            return self._open_or_update(branch, base, title, words, labels)
        except PullRequestsOffError as error:
            raise self._ask_a_person(error, branch, base, title, words) from error

    @task("opening the pull request of {branch}", PULLS)
    def _open_or_update(self, branch: str, base: str, title: str, body: str, labels: Sequence[str]) -> PullRequest:
        from github import GithubException

        def look() -> Found | None:
            return next((pull for pull in self._pulls_of(branch, "open", "asc") if pull.base.ref == base), None)

        found = look()
        if found is None:
            try:
                found = self.client.repository.create_pull(base=base, head=branch, title=title, body=body)
            except GithubException as error:
                found = look()  # a race: another run opened it after we looked
                if error.status != 422 or found is None:
                    raise
        if found.title != title or not same_text(found.body or "", body):
            found.edit(title=title, body=body)
        read = _read(found)
        missing = tuple(label for label in labels if label not in read.labels)
        for label in missing:
            self._make_label(label)
        if missing:
            found.add_to_labels(*missing)
        return read.model_copy(update={"labels": read.labels + missing})

    @task("labelling pull request {number} {label!r}", PULLS)
    def label(self, number: int, label: str, *, on: bool = True) -> None:
        """Put a label on it, or take it off.

        Raises:
            ForgeError: there is no such pull request, or the token may not.
        """
        pull = self.client.repository.get_pull(number)
        there = label in {one.name for one in pull.labels}
        if on and not there:
            self._make_label(label)
            pull.add_to_labels(label)
        elif there and not on:
            pull.remove_from_labels(label)

    def _make_label(self, label: str) -> None:
        from github import GithubException, UnknownObjectException

        try:
            self.client.repository.get_label(label)
        except UnknownObjectException:
            try:
                self.client.repository.create_label(label, _LABEL_COLOUR, "kept by Mergeline")
            except GithubException as error:
                if error.status != 422:  # made by another run meanwhile
                    raise

    def _ask_a_person(
        self, error: PullRequestsOffError, branch: str, base: str, title: str, body: str
    ) -> PullRequestsOffError:
        """The error, once an issue asks a person to open the pull request."""
        link = f"{self.client.job.server_url}/{self.client.name}/compare/{base}...{branch}?expand=1"
        words = (
            f"The branch `{branch}` is ready, and this repository's settings let no workflow open its pull request.\n\n"
            f"**[Open the pull request]({link})**, and the checks will run on it.\n\n"
            f"To have it opened by itself from now on: {error.hint}\n\n---\n\n{body}"
        )
        try:
            issue = self.open_or_update_issue(request_key(branch), f"Open the pull request: {title}", words)
        except ForgeError as second:
            told = f"{error.what}; and no issue could be opened instead: {second.what}"
            return PullRequestsOffError(told, where=error.where, hint=error.hint)
        told = f"{error.what}; issue #{issue.number} asks a person to open it: {issue.url}"
        return PullRequestsOffError(told, where=error.where, hint=error.hint)

    def comment(self, number: int, key: str, body: str) -> None:
        """Write the comment `key`; one that is there already is updated in place.

        Raises:
            ForgeError: there is no such pull request, the key is no plain word, or the token may not.
        """
        self.stick(number, key, body, About(head=self.get(number).head))

    def has_comment(self, number: int, key: str) -> bool:
        """Whether our comment `key` is there.

        Raises:
            ForgeError: there is no such pull request.
        """
        return bool(ours(self.comments(number), key, self.client.me))

    @task("commenting on pull request {number}", PULLS)
    def stick(self, number: int, key: str, text: str, about: About) -> str:
        """Write the comment `key` on what `about` names, and return its address.

        A second one of ours, which two runs at once can make, is taken away.
        """
        from github import UnknownObjectException

        whole = compose(key, text, about)
        pull = self.client.repository.get_pull(number)
        found = {comment.id: comment for comment in pull.get_issue_comments()}
        mine = ours([_told(comment) for comment in found.values()], key, self.client.me)
        if not mine:
            made = pull.create_issue_comment(whole)
            found = {made.id: made} | {comment.id: comment for comment in pull.get_issue_comments()}
            mine = ours([_told(comment) for comment in found.values()], key, self.client.me) or (_told(made),)
        kept, *doubled = sorted(mine, key=lambda comment: comment.id)
        if not same_text(kept.body, whole):
            found[kept.id].edit(whole)
        for other in doubled:
            with contextlib.suppress(UnknownObjectException):  # the other run took it away
                found[other.id].delete()
        return found[kept.id].html_url

    @task("reading the comments of pull request {number}", PULLS_READ)
    def comments(self, number: int) -> tuple[Comment, ...]:
        """All comments of a pull request, oldest first.

        Raises:
            ForgeError: there is no such pull request.
        """
        return tuple(map(_told, self.client.repository.get_pull(number).get_issue_comments()))

    @task("reading pull request {number}", PULLS_READ)
    def get(self, number: int) -> PullRequest:
        """The pull request of that number.

        Raises:
            ForgeError: there is none.
        """
        return _read(self.client.repository.get_pull(number))

    @task("listing the pull requests", PULLS_READ)
    def list_open(self) -> tuple[PullRequest, ...]:
        """The open pull requests, oldest first."""
        return tuple(map(_read, self.client.repository.get_pulls(state="open", sort="created", direction="asc")))

    @task("looking for the pull request of {branch}", PULLS_READ)
    def find(self, branch: str) -> PullRequest | None:
        """The open pull request of this repository's `branch`, the oldest if it has several, or None."""
        return next(map(_read, self._pulls_of(branch, "open", "asc")), None)

    @task("looking for closed pull requests of {branch}", PULLS_READ)
    def list_declined(self, branch: str) -> tuple[PullRequest, ...]:
        """The newest pull requests of this repository's `branch` that were closed without a merge, newest first."""
        found = itertools.islice(self._pulls_of(branch, "closed", "desc"), _CLOSED_LISTED)
        return tuple(_read(pull) for pull in found if pull.merged_at is None)

    @task("looking for the pull request of {repository}:{branch}", PULLS_READ)
    def find_by_head(self, repository: str, branch: str, commit: str) -> PullRequest | None:
        """The newest pull request from a repository's branch that holds `commit`, as GitHub itself says.

        Args:
            repository: `owner/name` of the branch, a fork's mostly.
            branch: its name there.
            commit: a commit that must be one of the pull request's.
        """
        # Open ones first: the same branch may have had others that are merged or closed.
        found = self._pulls_of(branch, "all", "desc", of=repository)
        for pull in sorted(found, key=lambda pull: pull.state != "open"):
            if pull.head.sha == commit or commit in {one.sha for one in pull.get_commits()}:
                return _read(pull)
        return None

    @task("reading the commits of pull request {number}", PULLS_READ)
    def commits(self, number: int) -> tuple[str, ...]:
        """The commits of a pull request, oldest first; GitHub lists at most 250.

        Raises:
            ForgeError: there is no such pull request.
        """
        return tuple(one.sha for one in self.client.repository.get_pull(number).get_commits())

    @task("putting the check {name!r} on {commit:.12}", CHECKS)
    def check(self, commit: str, name: str, *, success: bool, title: str, summary: str) -> None:
        """Put the check `name` on a commit; one of ours that is there already gets this result instead.

        Raises:
            ForgeError: there is no such commit, or the token may not.
        """
        mine, conclusion = f"mergeline:{name}", "success" if success else "failure"
        words = cut_markdown(summary, _CHECK_CHARACTERS, _LEFT_OUT) or title
        told = {"title": title[:200], "summary": words}
        found = self.client.repository.get_commit(commit).get_check_runs(check_name=name)
        earlier = next((run for run in found if run.external_id == mine), None)
        if earlier is None:
            self.client.repository.create_check_run(
                name, commit, external_id=mine, status="completed", conclusion=conclusion, output={**told}
            )
        elif earlier.conclusion != conclusion or (earlier.output.title, earlier.output.summary) != tuple(told.values()):
            earlier.edit(status="completed", conclusion=conclusion, output=told)

    @task("opening the issue {title!r}", ISSUES)
    def open_or_update_issue(self, key: str, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
        """Open the issue `key`; one that is open already gets these words instead.

        Raises:
            ForgeError: the key is no plain word, issues are switched off, or the token may not.
        """
        whole = f"{marker(key)}\n\n{cut_markdown(body, COMMENT_CHARACTERS, _LEFT_OUT).strip()}"
        found = self._find_issue(key)
        if found is None:
            for label in labels:
                self._make_label(label)
            found = self.client.repository.create_issue(title, whole, labels=list(labels))
        elif found.title != title or not same_text(found.body or "", whole):
            found.edit(title=title, body=whole)
        return _read_issue(found, key)

    @task("closing the issue {key!r}", ISSUES)
    def close_issue(self, key: str, note: str) -> Issue | None:
        """Close the issue `key` with a last comment, and return it; None where none is open.

        Raises:
            ForgeError: the key is no plain word, or the token may not.
        """
        last, found = f"{marker(key)}\n\n{note.strip()}", self._find_issue(key)
        if found is None:
            return None
        if not any(same_text(comment.body or "", last) for comment in found.get_comments()):
            found.create_comment(last)
        found.edit(state="closed", state_reason="completed")
        return _read_issue(found, key)

    def _find_issue(self, key: str) -> FoundIssue | None:
        """The oldest open issue that begins with the marker, and that may be ours."""
        for issue in self.client.repository.get_issues(state="open", sort="created", direction="asc"):
            mine = issue.user.type == "Bot" or issue.user.login == self.client.me
            if issue.pull_request is None and mine and (issue.body or "").startswith(marker(key)):
                return issue
        return None

    def _pulls_of(self, branch: str, state: str, direction: str, of: str = "") -> Iterator[Found]:
        """The pull requests of a branch of this repository, or of the one `of`, by when they were opened."""
        repository = self.client.repository
        name = of or repository.full_name
        head = f"{name.partition('/')[0]}:{branch}"
        for pull in repository.get_pulls(state=state, head=head, sort="created", direction=direction):
            # Where a head cannot be filtered by, GitHub ignores the filter and lists everything.
            if pull.head.ref == branch and pull.head.repo is not None and pull.head.repo.full_name == name:
                yield pull


def _read(pull: Found) -> PullRequest:
    merged = pull.merged_at is not None
    state = PullState.MERGED if merged else PullState(pull.state)
    here, there = pull.base.repo, pull.head.repo
    return PullRequest(
        number=pull.number,
        branch=pull.head.ref,
        base=pull.base.ref,
        title=pull.title,
        body=pull.body or "",
        labels=tuple(label.name for label in pull.labels),
        state=state,
        head=pull.head.sha,
        merge_commit=pull.merge_commit_sha if merged else None,
        url=pull.html_url,
        fork=there is None or there.full_name != here.full_name,  # a deleted fork is a fork
        closed_at=pull.closed_at,
    )


def _told(comment: IssueComment) -> Comment:
    author = comment.user
    return Comment(
        id=comment.id,
        author=author.login if author else "",
        is_bot=bool(author) and author.type == "Bot",
        body=comment.body or "",
    )


def _read_issue(issue: FoundIssue, key: str) -> Issue:
    return Issue(
        number=issue.number,
        key=key,
        title=issue.title,
        body=(issue.body or "").removeprefix(marker(key)).strip(),
        is_open=issue.state == "open",
        url=issue.html_url,
    )
