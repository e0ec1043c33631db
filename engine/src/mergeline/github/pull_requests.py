"""What every place that keeps pull requests offers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from mergeline.documents import Frozen
from mergeline.errors import ForgeError

STALE = "stale"
"""Labels an open pull request that was judged against what the base branch no longer serves, and names its comment."""


class PullState(StrEnum):
    """How a pull request stands."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class PullRequest(Frozen):
    """One pull request: `head` is the commit that would be merged, or was; `url` is where a person reads it.

    `fork` says that the branch is another repository's, so that nothing of ours can push to it. `closed_at` is None
    while it is open.
    """

    number: int
    branch: str
    base: str
    title: str
    body: str
    labels: tuple[str, ...]
    state: PullState
    head: str
    merge_commit: str | None = None
    url: str
    fork: bool = False
    closed_at: datetime | None = None


class Issue(Frozen):
    """One issue that the automation keeps, found again by its key."""

    number: int
    key: str
    title: str
    body: str
    is_open: bool
    url: str


_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def require_key(key: str, thing: str) -> None:
    """See that comments, checks and issues are named by plain words: a key is a file's name, or part of a marker.

    Raises:
        ForgeError: it is none.
    """
    if not _KEY.fullmatch(key):
        raise ForgeError(f"{key!r} cannot name {thing}", where="forge", hint="use small letters, digits and -")


class Pulls(Protocol):
    """A place that keeps pull requests. Every refusal is a ForgeError."""

    def open_or_update(self, branch: str, base: str, title: str, body: str, labels: Sequence[str] = ()) -> PullRequest:
        """Open the pull request of `branch` into `base`; one that is open already gets these words instead."""
        ...

    def comment(self, number: int, key: str, body: str) -> None:
        """Write the comment `key`; one that is there already is updated in place."""
        ...

    def has_comment(self, number: int, key: str) -> bool:
        """Whether the comment `key` is there."""
        ...

    def label(self, number: int, label: str, *, on: bool = True) -> None:
        """Put a label on it, or take it off."""
        ...

    def get(self, number: int) -> PullRequest:
        """The pull request of that number."""
        ...

    def list_open(self) -> tuple[PullRequest, ...]:
        """The open pull requests, oldest first."""
        ...

    def find(self, branch: str) -> PullRequest | None:
        """The open pull request of this repository's `branch`, the oldest if it has several, or None."""
        ...

    def list_declined(self, branch: str) -> tuple[PullRequest, ...]:
        """The newest pull requests of this repository's `branch` that were closed without a merge, newest first."""
        ...

    def check(self, commit: str, name: str, *, success: bool, title: str, summary: str) -> None:
        """Put the check `name` on a commit; one of ours that is there already gets this result instead."""
        ...

    def open_or_update_issue(self, key: str, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
        """Open the issue `key`; one that is open already gets these words instead."""
        ...

    def close_issue(self, key: str, note: str) -> Issue | None:
        """Close the issue `key` with a last comment, and return it; None where none is open."""
        ...


def made_again(forge: Pulls, pull: PullRequest, main: str) -> None:
    """Take the mark of an outdated pull request off, once it was judged against the base branch as it is now."""
    if STALE in pull.labels:
        forge.label(pull.number, STALE, on=False)
        forge.comment(pull.number, STALE, f"It is up to date again: it was made again on {main[:12]}.\n")
