"""Merges commits without a work tree, as GitHub does, and with generated files taken from the base branch."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mergeline.documents import parse
from mergeline.errors import ForgeError, ManifestError
from mergeline.github.git import Git
from mergeline.github.git_objects import contains, entry_at, files_below, homes_in, tree_of, with_entries
from mergeline.manifest.schema import Manifest, is_manifest
from mergeline.store.dvc_lock import LOCK_FILE

_OLDEST = (2, 38)  # the first git whose merge-tree writes the merged tree


def merged_with_base(git: Git, base: str, head: str, store: str | None = None) -> str:
    """The tree of `head` with `base` merged into it, where a proposal can begin.

    What machines write is made again from it, so a conflict there is none: `dvc.lock` is the base's in any case,
    the manifest, the signatures and the embedded store where both sides changed them.

    Args:
        git: the repository.
        base: the newest commit of the base branch.
        head: the commit of the branch.
        store: the embedded store's folder, where there is one.

    Raises:
        ForgeError: people's files conflict, or git is older than 2.38.
    """
    if contains(git, head, base):
        return tree_of(git, head)
    tree, conflicts = merge_tree(git, base, head)
    homes = homes_in(git, tree).values()
    places = [
        *(home.path(name) for home in homes for name in (LOCK_FILE, "deploy/signatures")),
        *([store] if store else []),
    ]
    theirs = [
        path
        for path in conflicts
        if not is_manifest(path) and not any(PurePosixPath(path).is_relative_to(place) for place in places)
    ]
    if theirs:
        raise conflict(git, "main", theirs)
    taken = {*(home.path(LOCK_FILE) for home in homes), *conflicts}
    deploy = (path for home in homes for path in files_below(git, tree, home.path("deploy")))
    taken |= {path for path in deploy if is_manifest(path) and path not in taken and not _can_be_read(git, tree, path)}
    return with_entries(git, tree, {path: entry_at(git, base, path) for path in taken})


def conflicts_with(git: Git, base: str, head: str) -> tuple[str, ...]:
    """The paths in which two commits conflict."""
    return tuple(merge_tree(git, base, head)[1])


def _can_be_read(git: Git, tree: str, path: str) -> bool:
    """Whether a manifest can be read after the merge: two changes that fit as text may not fit as a whole."""
    content = git.blob(f"{tree}:{path}")
    if content is None:
        return True
    try:
        parse(content.decode(), Manifest, path, ManifestError)
    except (ManifestError, UnicodeDecodeError):
        return False
    return True


def merge_tree(git: Git, tip: str, head: str) -> tuple[str, list[str]]:
    """The merged tree, and the paths that conflict in it.

    Raises:
        ForgeError: git is older than 2.38, or there is no such commit.
    """
    command = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", tip, head)
    code, out, words = git.attempt(*command)
    parts = [part for part in out.split("\0") if part.strip("\n")]
    if code in (0, 1) and parts:
        return parts[0], list(dict.fromkeys(parts[1:]))
    version = git.run("version")
    found = re.search(r"(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < _OLDEST:
        raise ForgeError(
            f"{version} cannot merge without a work tree", where=str(git.folder), hint="install git 2.38 or newer"
        )
    raise git.error(command, words)


def conflict(git: Git, base: str, paths: list[str]) -> ForgeError:
    """The error of a branch that conflicts with its base in these paths."""
    return ForgeError(
        f"the branch conflicts with {base} in {', '.join(paths)}",
        where=str(git.folder),
        hint=f"merge {base} into the branch and resolve the conflict, or propose again from {base}",
    )
