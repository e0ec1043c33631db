"""Merges one branch into another inside a bare repository, as GitHub does."""

from __future__ import annotations

import re

from mergeline.errors import ForgeError
from mergeline.forge.git import Git

_OLDEST = (2, 38)  # the first git whose merge-tree writes the merged tree
_ATTEMPTS = 5


def merge_branch(git: Git, head: str, base: str, message: str, *, squash: bool = False) -> str:
    """Merge the commit `head` into the branch `base` without a work tree.

    The branch moves only from the commit that was merged with: a push that comes between makes the merge
    start again on what was pushed.

    Args:
        git: the repository.
        head: the commit to merge.
        base: the branch that takes it.
        message: the new commit's message.
        squash: make one commit with one parent, instead of a merge commit.

    Returns:
        The new commit on `base`.

    Raises:
        ForgeError: the two conflict, there is nothing to merge, or git is older than 2.38.
    """
    for _ in range(_ATTEMPTS):
        tip = git.run("rev-parse", "--verify", f"refs/heads/{base}")
        tree = _merged_tree(git, tip, head, base)
        if tree == git.run("rev-parse", f"{tip}^{{tree}}"):
            raise ForgeError(
                f"{base} holds these changes already", where=str(git.folder), mend="close the pull request"
            )
        parents = [tip] if squash else [tip, head]
        arguments = [part for parent in parents for part in ("-p", parent)]
        commit = git.run("commit-tree", tree, *arguments, "-F", "-", stdin=message, settings=git.identity())
        moved = ("update-ref", f"refs/heads/{base}", commit, tip)
        code, _, words = git.attempt(*moved)
        if code == 0:
            return commit
        if git.find(f"refs/heads/{base}") == tip:
            raise git.error(moved, words)
    raise ForgeError(f"{base} moved {_ATTEMPTS} times during the merge", where=str(git.folder), mend="merge again")


def _merged_tree(git: Git, tip: str, head: str, base: str) -> str:
    command = ("merge-tree", "--write-tree", "--name-only", "--no-messages", tip, head)
    code, out, words = git.attempt(*command)
    lines = out.splitlines()
    if code == 0:
        return lines[0]
    if code == 1 and lines:
        raise ForgeError(
            f"the branch conflicts with {base} in {', '.join(lines[1:])}",
            where=str(git.folder),
            mend=f"merge {base} into the branch and resolve the conflict, or propose again from {base}",
        )
    version = git.run("version")
    found = re.search(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < _OLDEST:
        raise ForgeError(
            f"{version} cannot merge without a work tree", where=str(git.folder), mend="install git 2.38 or newer"
        )
    raise git.error(command, words)
