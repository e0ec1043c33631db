"""Keeps issues on GitHub that the automation finds again by a hidden marker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mergeline.github.client import GitHubClient
from mergeline.github.comment_marker import marker, same_text
from mergeline.github.errors import Task
from mergeline.github.pull_requests import Issue
from mergeline.github.sanitize import COMMENT_CHARACTERS, cut_markdown

if TYPE_CHECKING:
    from github.Issue import Issue as Found

ISSUES = "issues: write"


class GitHubIssues:
    """The issues of one repository that we opened."""

    def __init__(self, client: GitHubClient) -> None:
        self._client = client

    def open_or_update(
        self, key: str, title: str, body: str, labels: Sequence[str], make_label: Callable[[str], None]
    ) -> Issue:
        """Open the issue `key`; one that is open already gets these words instead.

        Raises:
            ForgeError: the key is no plain word, issues are switched off, or the token may not.
        """
        words = cut_markdown(body, COMMENT_CHARACTERS, "The rest is left out: GitHub takes no more.")
        whole = f"{marker(key)}\n\n{words.strip()}"

        def work() -> Issue:
            found = self._find(key)
            if found is None:
                for label in labels:
                    make_label(label)
                found = self._client.repository.create_issue(title, whole, labels=list(labels))
            elif found.title != title or not same_text(found.body or "", whole):
                found.edit(title=title, body=whole)
            return _read(found, key)

        return self._client.run(Task(doing=f"opening the issue {title!r}", permission=ISSUES), work)

    def close(self, key: str, note: str) -> Issue | None:
        """Close the issue `key` with a last comment, and return it; None where none is open.

        Raises:
            ForgeError: the key is no plain word, or the token may not.
        """
        last = f"{marker(key)}\n\n{note.strip()}"

        def work() -> Issue | None:
            found = self._find(key)
            if found is None:
                return None
            if not any(same_text(comment.body or "", last) for comment in found.get_comments()):
                found.create_comment(last)
            found.edit(state="closed", state_reason="completed")
            return _read(found, key)

        return self._client.run(Task(doing=f"closing the issue {key!r}", permission=ISSUES), work)

    def _find(self, key: str) -> Found | None:
        """The oldest open issue that begins with the marker, and that may be ours."""
        first = marker(key)
        me = self._client.me
        for issue in self._client.repository.get_issues(state="open", sort="created", direction="asc"):
            mine = issue.user.type == "Bot" or issue.user.login == me
            if issue.pull_request is None and mine and (issue.body or "").startswith(first):
                return issue
        return None


def _read(issue: Found, key: str) -> Issue:
    return Issue(
        number=issue.number,
        key=key,
        title=issue.title,
        body=(issue.body or "").removeprefix(marker(key)).strip(),
        is_open=issue.state == "open",
        url=issue.html_url,
    )
