"""A local forge with GitHub's buttons: *Merge* and *Close*. Without GitHub people merge with git itself."""

from __future__ import annotations

from datetime import UTC, datetime

from mergeline.errors import ForgeError
from mergeline.github.git import Git
from mergeline.github.git_objects import commit_tree, contains, tree_of
from mergeline.github.local_forge import LocalForge
from mergeline.github.merge import conflict, merge_tree
from mergeline.github.pull_requests import PullState

_ATTEMPTS = 5


class ForgeWithButtons(LocalForge):
    """The forge of the demo and of tests, which press what people press on GitHub."""

    def merge(self, number: int, *, squash: bool = False) -> str:
        """Merge it, and return the new commit on the base branch.

        One whose commits reached the base in another way counts as merged, as on GitHub.

        Raises:
            ForgeError: it is not open, its branch is gone, it conflicts, or git is older than 2.38.
        """
        with self._lock():
            pull = self._read(number)
            if pull.state is not PullState.OPEN:
                raise ForgeError(
                    f"the pull request is {pull.state}", where=f"pull request {number}", hint="open a new one"
                )
            head, tip = self._tip(pull.branch), self._tip(pull.base)
            if contains(self.git, tip, head):
                commit = tip
            else:
                title = f"{pull.title} (#{number})" if squash else f"Merge pull request #{number} from {pull.branch}"
                message = f"{title}\n\n{pull.body if squash else pull.title}\n"
                commit = merge_branch(self.git, head, pull.base, message, squash=squash)
            self._write(pull.model_copy(update={"state": PullState.MERGED, "head": head, "merge_commit": commit}))
            return commit

    def close(self, number: int) -> None:
        """Close it without merging; a closed one stays closed.

        Raises:
            ForgeError: there is no such pull request, or it is merged.
        """
        with self._lock():
            pull = self._read(number)
            if pull.state is PullState.MERGED:
                raise ForgeError(
                    "the pull request is merged", where=f"pull request {number}", hint="revert it by a new one"
                )
            if pull.state is PullState.OPEN:
                closed = {"state": PullState.CLOSED, "head": self.get(number).head, "closed_at": datetime.now(UTC)}
                self._write(pull.model_copy(update=closed))


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
        tree, conflicts = merge_tree(git, tip, head)
        if conflicts:
            raise conflict(git, base, conflicts)
        if tree == tree_of(git, tip):
            raise ForgeError(
                f"{base} holds these changes already", where=str(git.folder), hint="close the pull request"
            )
        commit = commit_tree(git, tree, [tip] if squash else [tip, head], message)
        moved = ("update-ref", f"refs/heads/{base}", commit, tip)
        code, _, words = git.attempt(*moved)
        if code == 0:
            return commit
        if git.find(f"refs/heads/{base}") == tip:
            raise git.error(moved, words)
    raise ForgeError(f"{base} moved {_ATTEMPTS} times during the merge", where=str(git.folder), hint="merge again")
