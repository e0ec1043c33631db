"""A forge on GitHub: pull requests, comments, checks and issues through the REST API.

Every task looks before it writes, so the same call twice makes one thing, and a task may be begun again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from mergeline.errors import ForgeError
from mergeline.github.actions import Job, locate, read_job
from mergeline.github.client import GitHubClient
from mergeline.github.comment_marker import About, Comment, compose, ours, same_text
from mergeline.github.errors import PullRequestsOffError, Task
from mergeline.github.git import Git
from mergeline.github.issues import GitHubIssues
from mergeline.github.own_branch import request_key
from mergeline.github.pull_requests import Issue, PullRequest, PullState
from mergeline.github.sanitize import COMMENT_CHARACTERS, cut_markdown

if TYPE_CHECKING:
    from github.IssueComment import IssueComment
    from github.PullRequest import PullRequest as Found

PULLS, CHECKS = "pull-requests: write", "checks: write"
_LABEL_COLOUR = "1d76db"
_CHECK_CHARACTERS = 60_000  # GitHub takes 65,535 in a check's summary
_MERGE_ATTEMPTS = 5
_CLOSED_LISTED = 20


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

    @cached_property
    def issues(self) -> GitHubIssues:
        """The issues that the automation keeps."""
        return GitHubIssues(self.client)

    def open_or_update(self, branch: str, base: str, title: str, body: str, labels: Sequence[str] = ()) -> PullRequest:
        """Open the pull request of `branch` into `base`; one that is open already gets these words instead.

        Raises:
            PullRequestsOffError: the settings forbid it to workflows; an issue now asks a person to open it.
            ForgeError: a branch is missing, there is nothing between the two, or the token may not.
        """
        task = Task(doing=f"opening the pull request of {branch}", permission=PULLS)
        words = cut_markdown(body, COMMENT_CHARACTERS, "The rest is left out: GitHub takes no more.")
        try:
            return self.client.run(task, lambda: self._open_or_update(branch, base, title, words, labels))
        except PullRequestsOffError as error:
            raise self._ask_a_person(error, branch, base, title, words) from error

    def _open_or_update(self, branch: str, base: str, title: str, body: str, labels: Sequence[str]) -> PullRequest:
        from github import GithubException

        found = next((pull for pull in self._open_pulls(branch) if pull.base.ref == base), None)
        if found is None:
            try:
                found = self.client.repository.create_pull(base=base, head=branch, title=title, body=body)
            except GithubException as error:
                # A race: another run opened it after we looked.
                found = next((pull for pull in self._open_pulls(branch) if pull.base.ref == base), None)
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

    def label(self, number: int, label: str, *, on: bool = True) -> None:
        """Put a label on it, or take it off.

        Raises:
            ForgeError: there is no such pull request, or the token may not.
        """
        task = Task(doing=f"labelling pull request {number} {label!r}", permission=PULLS)
        self.client.run(task, lambda: self._label(number, label, on=on))

    def _label(self, number: int, label: str, *, on: bool) -> None:
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

    def stick(self, number: int, key: str, text: str, about: About) -> str:
        """Write the comment `key` on what `about` names, and return its address.

        A second one of ours, which two runs at once can make, is taken away.
        """
        whole = compose(key, text, about)
        task = Task(doing=f"commenting on pull request {number}", permission=PULLS)
        return self.client.run(task, lambda: self._stick(number, key, whole))

    def _stick(self, number: int, key: str, whole: str) -> str:
        from github import UnknownObjectException

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
            try:
                found[other.id].delete()
            except UnknownObjectException:
                continue  # the other run took it away
        return found[kept.id].html_url

    def comments(self, number: int) -> tuple[Comment, ...]:
        """All comments of a pull request, oldest first.

        Raises:
            ForgeError: there is no such pull request.
        """
        task = Task(doing=f"reading the comments of pull request {number}", permission="pull-requests: read")
        return self.client.run(
            task, lambda: tuple(map(_told, self.client.repository.get_pull(number).get_issue_comments()))
        )

    def get(self, number: int) -> PullRequest:
        """The pull request of that number.

        Raises:
            ForgeError: there is none.
        """
        task = Task(doing=f"reading pull request {number}", permission="pull-requests: read")
        return self.client.run(task, lambda: _read(self.client.repository.get_pull(number)))

    def list_open(self) -> tuple[PullRequest, ...]:
        """The open pull requests, oldest first."""
        task = Task(doing="listing the pull requests", permission="pull-requests: read")
        return self.client.run(
            task,
            lambda: tuple(
                _read(pull) for pull in self.client.repository.get_pulls(state="open", sort="created", direction="asc")
            ),
        )

    def find(self, branch: str) -> PullRequest | None:
        """The open pull request of this repository's `branch`, the oldest if it has several, or None."""
        task = Task(doing=f"looking for the pull request of {branch}", permission="pull-requests: read")
        found = self.client.run(task, lambda: [_read(pull) for pull in self._open_pulls(branch)])
        return found[0] if found else None

    def list_declined(self, branch: str) -> tuple[PullRequest, ...]:
        """The newest pull requests of this repository's `branch` that were closed without a merge, newest first."""
        task = Task(doing=f"looking for closed pull requests of {branch}", permission="pull-requests: read")

        def closed() -> tuple[PullRequest, ...]:
            found = itertools.islice(self._pulls_of(branch, "closed", "desc"), _CLOSED_LISTED)
            return tuple(_read(pull) for pull in found if pull.merged_at is None)

        return self.client.run(task, closed)

    def find_by_head(self, repository: str, branch: str, commit: str) -> PullRequest | None:
        """The newest pull request from a repository's branch that holds `commit`, as GitHub itself says.

        Args:
            repository: `owner/name` of the branch, a fork's mostly.
            branch: its name there.
            commit: a commit that must be one of the pull request's.
        """
        task = Task(doing=f"looking for the pull request of {repository}:{branch}", permission="pull-requests: read")
        return self.client.run(task, lambda: self._find_by_head(repository, branch, commit))

    def _find_by_head(self, repository: str, branch: str, commit: str) -> PullRequest | None:
        head = f"{repository.partition('/')[0]}:{branch}"
        # Open ones first: the same branch may have had others that are merged or closed.
        found = [
            pull
            for pull in self.client.repository.get_pulls(state="all", head=head, sort="created", direction="desc")
            # Where a head cannot be filtered by, GitHub ignores the filter and lists everything.
            if pull.head.repo is not None and pull.head.repo.full_name == repository and pull.head.ref == branch
        ]
        for pull in sorted(found, key=lambda pull: pull.state != "open"):
            if pull.head.sha == commit or commit in {one.sha for one in pull.get_commits()}:
                return _read(pull)
        return None

    def commits(self, number: int) -> tuple[str, ...]:
        """The commits of a pull request, oldest first; GitHub lists at most 250.

        Raises:
            ForgeError: there is no such pull request.
        """
        task = Task(doing=f"reading the commits of pull request {number}", permission="pull-requests: read")
        return self.client.run(
            task, lambda: tuple(one.sha for one in self.client.repository.get_pull(number).get_commits())
        )

    def check(self, commit: str, name: str, *, success: bool, title: str, summary: str) -> None:
        """Put the check `name` on a commit; one of ours that is there already gets this result instead.

        Raises:
            ForgeError: there is no such commit, or the token may not.
        """
        task = Task(doing=f"putting the check {name!r} on {commit[:12]}", permission=CHECKS)
        words = cut_markdown(summary, _CHECK_CHARACTERS, "The rest is left out: GitHub takes no more.")
        self.client.run(task, lambda: self._check(commit, name, success=success, title=title[:200], summary=words))

    def _check(self, commit: str, name: str, *, success: bool, title: str, summary: str) -> None:
        mine = f"mergeline:{name}"
        conclusion = "success" if success else "failure"
        told = {"title": title, "summary": summary or title}
        found = self.client.repository.get_commit(commit).get_check_runs(check_name=name)
        earlier = next((run for run in found if run.external_id == mine), None)
        if earlier is None:
            self.client.repository.create_check_run(
                name, commit, external_id=mine, status="completed", conclusion=conclusion, output={**told}
            )
        elif earlier.conclusion != conclusion or (earlier.output.title, earlier.output.summary) != tuple(told.values()):
            earlier.edit(status="completed", conclusion=conclusion, output=told)

    def open_or_update_issue(self, key: str, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
        """Open the issue `key`; one that is open already gets these words instead.

        Raises:
            ForgeError: the key is no plain word, issues are switched off, or the token may not.
        """
        return self.issues.open_or_update(key, title, body, labels, self._make_label)

    def close_issue(self, key: str, note: str) -> Issue | None:
        """Close the issue `key` with a last comment, and return it; None where none is open.

        Raises:
            ForgeError: the key is no plain word, or the token may not.
        """
        return self.issues.close(key, note)

    def merge(self, number: int, *, squash: bool = False) -> str:
        """Merge it, and return the new commit on the base branch; a merged one returns the commit it has.

        Raises:
            ForgeError: it is closed, it conflicts, a rule of the branch stands against it, or the token may not.
        """
        task = Task(doing=f"merging pull request {number}", permission="contents: write")
        return self.client.run(task, lambda: self._merge(number, squash=squash))

    def _merge(self, number: int, *, squash: bool, attempts: int = _MERGE_ATTEMPTS) -> str:
        from github import GithubException

        pull = self.client.repository.get_pull(number)
        if pull.merged:
            return str(pull.merge_commit_sha)
        if pull.state != "open":
            raise ForgeError("the pull request is closed", where=pull.html_url, hint="open a new one")
        try:
            return str(pull.merge(merge_method="squash" if squash else "merge", sha=pull.head.sha).sha)
        except GithubException as error:
            # Somebody pushed to the branch or to its base: look again.
            moved = error.status == 409 or "was modified" in str(error.data)
            if moved and attempts > 1:
                return self._merge(number, squash=squash, attempts=attempts - 1)
            raise

    def close(self, number: int) -> None:
        """Close it without merging; a closed one stays closed.

        Raises:
            ForgeError: there is no such pull request, it is merged, or the token may not.
        """
        task = Task(doing=f"closing pull request {number}", permission=PULLS)
        self.client.run(task, lambda: self._close(number))

    def _close(self, number: int) -> None:
        pull = self.client.repository.get_pull(number)
        if pull.merged:
            raise ForgeError("the pull request is merged", where=pull.html_url, hint="revert it by a new one")
        if pull.state == "open":
            pull.edit(state="closed")

    def _open_pulls(self, branch: str) -> list[Found]:
        """The open pull requests of this repository's branch, oldest first."""
        return list(self._pulls_of(branch, "open", "asc"))

    def _pulls_of(self, branch: str, state: str, direction: str) -> Iterator[Found]:
        """The pull requests of this repository's branch, by when they were opened."""
        repository = self.client.repository
        head = f"{repository.owner.login}:{branch}"
        for pull in repository.get_pulls(state=state, head=head, sort="created", direction=direction):
            # Where a head cannot be filtered by, GitHub ignores the filter and lists everything.
            if pull.head.ref == branch and pull.head.repo is not None and pull.head.repo.id == repository.id:
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
