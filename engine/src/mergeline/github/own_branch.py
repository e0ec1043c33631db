"""Keeps a branch of the automation's own, made anew on the base branch, and the pull request that goes with it."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mergeline.errors import ForgeError
from mergeline.github.base import BASE_BRANCH, REMOTE
from mergeline.github.client import PullRequestsOffError
from mergeline.github.git import Git
from mergeline.github.git_objects import commit_tree, contains, push_commit, tree_of
from mergeline.github.pull_requests import PullRequest, Pulls, made_again

# GitHub starts no run for a push to a branch that conflicts with main, so that pushing alone does not help.
RUN_AGAIN = "run model.yml (Actions → model → Run workflow, with the pull request's number) to make the proposal anew"
TRAILER = "Mergeline"
"""Marks the automation's commits, with what was made and its tree: a commit that a person has amended has another.

Those commits may be made again; people's are not thrown away.
"""

DEPENDABOT = "[dependabot skip]"
"""Lets Dependabot go on rebasing a branch of its own: it leaves alone what others have committed to otherwise."""


_ATTEMPTS = 3
Result = TypeVar("Result")


class OutdatedError(ForgeError):
    """The branch or the base branch moved on since something was made for it."""


class PeopleError(OutdatedError):
    """People have committed to the automation's branch: it is left to them."""


class UnopenedError(ForgeError):
    """The branch was pushed as `commit`, and its pull request must be opened by a person."""

    commit: str = ""


@dataclass(frozen=True)
class Words:
    """What the pull request of a branch says; `made` goes into the commit's message, to tell what was made."""

    branch: str
    title: str
    body: str
    made: str
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Kept:
    """The pull request and its commit; `new` says whether anything was pushed."""

    pull: PullRequest
    commit: str
    new: bool


def keep_branch(git: Git, forge: Pulls, main: str, words: Words, tree: Callable[[int | None], str]) -> Kept:
    """Bring the branch and its pull request up to date.

    Args:
        git: a clone of the repository.
        forge: where the pull request is.
        main: the base branch's commit to build on.
        words: the branch, and what its pull request says.
        tree: makes the tree to commit for the number of the pull request, which is not known before it is opened.

    Raises:
        PeopleError: people have committed to the branch.
        OutdatedError: somebody pushes to it at this moment.
        UnopenedError: the branch was pushed, and the repository's settings let no workflow open its pull request.
        ForgeError: git or the forge refused.
    """
    found, tip = forge.find(words.branch), own_tip(git, words.branch, main)
    number = found.number if found else None
    made = tree(number)
    if found and tip and tree_of(git, tip) == made and contains(git, tip, main):
        close_request(forge, found)
        made_again(forge, found, main)
        return Kept(found, tip, new=False)
    commit = push(git, words.branch, made, [main], message(words.title, words.made, made), expected=tip)
    try:
        pull = forge.open_or_update(words.branch, BASE_BRANCH, words.title, words.body, words.labels)
    except PullRequestsOffError as cause:
        error = UnopenedError(cause.what, where=cause.where, hint=cause.hint)
        error.commit = commit
        raise error from cause
    close_request(forge, pull)
    if pull.number != number:  # it stands in what is committed, and is known only now
        made = tree(pull.number)
        commit = push(git, words.branch, made, [main], message(words.title, words.made, made), expected=commit)
    made_again(forge, pull, main)
    return Kept(pull, commit, new=True)


def undisturbed(work: Callable[[], Result]) -> Result:
    """The result of what looks first and pushes then; done again where another run pushed at this moment.

    Raises:
        OutdatedError: others pushed again and again, or people have committed to the branch.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return work()
        except PeopleError:
            raise
        except OutdatedError:
            continue  # what the other run made is found by looking again
    return work()


def request_key(branch: str) -> str:
    """The key of the issue that asks a person to open the pull request of a branch."""
    plain = re.sub(r"[^a-z0-9]+", "-", branch.lower()).strip("-")[:40]
    return f"open-{plain}-{zlib.crc32(branch.encode()):08x}"


def close_request(forge: Pulls, pull: PullRequest) -> None:
    """Close the issue that asked for a pull request, now that there is one."""
    with contextlib.suppress(ForgeError):  # the issue is a courtesy: issues may be switched off, or not ours to write
        forge.close_issue(request_key(pull.branch), f"The pull request is open: {pull.url}")


def own_tip(git: Git, branch: str, main: str) -> str | None:
    """The remote branch's commit, or None where there is none.

    Raises:
        PeopleError: people have committed to it.
    """
    tip = git.remote_head(REMOTE, branch)
    if tip is None:
        return None
    git.fetch(REMOTE, branch)
    commits = git.run("log", "-z", "--format=%T %B", f"{main}..{tip}").split("\0")
    if any(commit and not _is_own(*commit.split(" ", 1)) for commit in commits):
        raise PeopleError(
            "people have committed to the branch, and their work is not thrown away",
            where=branch,
            hint=f"merge its pull request, or delete the branch, and it is made again on {BASE_BRANCH}",
        )
    return tip


def push(git: Git, branch: str, tree: str, parents: Sequence[str], text: str, *, expected: str | None) -> str:
    """Commit a tree and make it the remote's branch, if that is still where it is expected.

    Raises:
        OutdatedError: somebody moved the branch in between; nothing was written.
    """
    if branch.startswith("dependabot/"):
        text = f"{text}\n{DEPENDABOT}\n"
    commit = commit_tree(git, tree, parents, text)
    if not push_commit(git, REMOTE, commit, branch, expected=expected):
        raise OutdatedError("somebody pushed to the branch at this moment", where=branch, hint="run this again")
    return commit


def message(title: str, made: str, tree: str) -> str:
    """The message of one of the automation's commits."""
    return f"{title}\n\n{TRAILER}: {made}, tree {tree}\n"


def is_own(git: Git, commit: str) -> bool:
    """Whether a commit is the automation's, and as the automation made it."""
    return _is_own(*git.run("log", "-1", "--format=%T %B", commit).split(" ", 1))


def _is_own(tree: str, text: str) -> bool:
    return re.search(rf"^{TRAILER}: .*, tree {tree}$", text, re.MULTILINE) is not None
