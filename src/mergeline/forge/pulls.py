"""What every place that keeps pull requests offers."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from mergeline.documents import Frozen


class PullState(StrEnum):
    """How a pull request stands."""

    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


class PullRequest(Frozen):
    """One pull request: `head` is the commit that would be merged, or was; `url` is where a person reads it."""

    number: int
    branch: str
    base: str
    title: str
    body: str
    labels: tuple[str, ...]
    state: PullState
    head: str
    merge_commit: str | None
    url: str


class Pulls(Protocol):
    """A place that keeps pull requests. Every refusal is a ForgeError."""

    def open_or_update(self, branch: str, base: str, title: str, body: str, labels: Sequence[str] = ()) -> PullRequest:
        """Open the pull request of `branch` into `base`; one that is open already gets these words instead."""
        ...

    def comment(self, number: int, key: str, body: str) -> None:
        """Write the comment `key`; one that is there already is updated in place."""
        ...

    def get(self, number: int) -> PullRequest:
        """The pull request of that number."""
        ...

    def list_open(self) -> tuple[PullRequest, ...]:
        """The open pull requests, oldest first."""
        ...

    def merge(self, number: int, *, squash: bool = False) -> str:
        """Merge it, and return the new commit on the base branch."""
        ...

    def close(self, number: int) -> None:
        """Close it without merging; a closed one stays closed."""
        ...
