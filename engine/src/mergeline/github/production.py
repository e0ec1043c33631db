"""Reads production's history from git, and publishes pages on a branch of their own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mergeline.errors import ForgeError
from mergeline.github.git import Git
from mergeline.github.git_objects import (
    FILE,
    commit_tree,
    differing,
    empty_tree,
    files_below,
    push_commit,
    store_files,
    store_text,
    tree_of,
    with_entries,
)
from mergeline.manifest.schema import MANIFEST_FILE
from mergeline.release.history import Revision

PAGES_BRANCH = "gh-pages"
_VERSION = re.compile(r"(?:^ *|[{,] *)version: *(\d{1,9})\b", re.MULTILINE)
_NO_JEKYLL = ".nojekyll"  # the pages are finished HTML
_ATTEMPTS = 5


def read_revisions(git: Git, revision: str = "HEAD", path: str = MANIFEST_FILE.as_posix()) -> tuple[Revision, ...]:
    """The states of a manifest along the first parents of `revision`, oldest first.

    Args:
        git: the repository.
        revision: the newest commit.
        path: the manifest's, from the root of the repository.

    Raises:
        ForgeError: there is no such revision, or the history was cut off when it was cloned.
    """
    if git.run("rev-parse", "--is-shallow-repository") == "true":
        raise ForgeError(
            "the history of production is not here whole",
            where=str(git.folder),
            hint="fetch it (git fetch --unshallow); in a workflow: fetch-depth: 0 at actions/checkout",
        )
    log = git.run("log", "--first-parent", "--reverse", "-z", "--format=%H%x1f%ct%x1f%P%x1f%s", revision, "--", path)
    entries = [entry.split("\x1f", 3) for entry in log.split("\0") if entry]
    return tuple(
        Revision(
            commit=commit,
            when=datetime.fromtimestamp(int(seconds), tz=UTC),
            subject=subject,
            text=git.show(commit, path),
            merge=" " in parents,
        )
        for commit, seconds, parents, subject in entries
    )


def highest_version(git: Git, revision: str, name: str, paths: Sequence[str]) -> int:
    """The highest version that the manifests of the model `name` have named along the first parents of `revision`.

    It looks at lines, and parses nothing: a thousand releases take no time. In a clone whose history was cut off it is
    the highest that can be seen; the job that writes a proposal sees all of it.
    """
    commits = git.run("log", "--first-parent", "--format=%H", revision, "--", *paths).split()
    if not commits:
        return 0
    code, out, words = git.attempt("grep", "-z", "-E", "-e", "name:", "-e", "version:", *commits, "--", *paths)
    if code > 1:
        raise git.error(("grep", revision), words)
    highest = 0
    lines = [line.partition("\0") for line in out.splitlines()]
    for _, found in itertools.groupby(lines, key=lambda line: line[0]):  # by commit and path
        text = "\n".join(line for _, _, line in found)
        if re.search(rf"\bname: *[\"']?{re.escape(name)}\b(?!-)", text):
            highest = max([highest, *(int(number) for number in _VERSION.findall(text))])
    return highest


def changed_paths(git: Git, before: str) -> tuple[str, ...] | None:
    """The paths that differ between `before` and HEAD; None where that commit is not known here.

    A push that makes a branch has zeros for the commit before it, and one after a forced push may be gone.
    """
    if git.find(before) is None:
        return None
    return differing(git, before, "HEAD")


def published(git: Git, remote: str) -> tuple[str, ...]:
    """The files that the pages' branch of the remote has."""
    tip = _fetched(git, remote)
    return tuple(files_below(git, tip)) if tip else ()


def publish(git: Git, remote: str, folder: Path, message: str) -> str:
    """Put the files of `folder` over those of the pages' branch; what is there and not in `folder` stays.

    The work tree and its branch are left alone. A push that comes between makes it start again on what was pushed.

    Returns:
        The commit on the branch; the present one where nothing differs.

    Raises:
        ForgeError: the remote refused, or the branch moved again and again.
    """
    blobs = store_files(git, sorted(path for path in folder.rglob("*") if path.is_file()))
    pages = {path.relative_to(folder.resolve()).as_posix(): f"{FILE} blob {blob}" for path, blob in blobs.items()}
    pages[_NO_JEKYLL] = f"{FILE} blob {store_text(git, '')}"
    for _ in range(_ATTEMPTS):
        tip = _fetched(git, remote)
        tree = with_entries(git, tree_of(git, tip) if tip else empty_tree(git), pages)
        if tip is not None and tree == tree_of(git, tip):
            return tip
        commit = commit_tree(git, tree, [tip] if tip else [], message)
        if push_commit(git, remote, commit, PAGES_BRANCH, expected=tip):
            return commit
    raise ForgeError(
        f"{PAGES_BRANCH} moved {_ATTEMPTS} times while it was written", where=remote, hint="publish the page again"
    )


def _fetched(git: Git, remote: str) -> str | None:
    """The newest commit of the pages' branch, brought here; None where there is no such branch."""
    tip = git.remote_head(remote, PAGES_BRANCH)
    if tip is not None:
        git.run("fetch", "--quiet", remote, f"refs/heads/{PAGES_BRANCH}")
    return tip
