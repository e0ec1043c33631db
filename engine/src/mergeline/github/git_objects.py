"""Makes trees and commits without an index or a work tree."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mergeline.errors import ForgeError
from mergeline.github.git import Git
from mergeline.home import MODELS, Home, name_in
from mergeline.params import PARAMS_FILE

FILE = "100644"


def store_files(git: Git, files: Iterable[Path]) -> dict[Path, str]:
    """Put the bytes of files into the repository as they are; the blob of each."""
    paths = [file.resolve() for file in files]
    if not paths:
        return {}
    listed = "".join(f"{path}\n" for path in paths)
    blobs = git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=listed).split()
    return dict(zip(paths, blobs, strict=True))


def store_text(git: Git, text: str) -> str:
    """Put a text into the repository; its blob."""
    return git.run("hash-object", "-w", "--no-filters", "--stdin", stdin=text)


def entry_at(git: Git, tree: str, path: str) -> str | None:
    """What lies at `path` in a tree, as `<mode> <kind> <object>`; None where nothing does."""
    out = git.run("ls-tree", "-z", tree, "--", path.rstrip("/")).rstrip("\0")
    return out.split("\t", 1)[0] if out else None


def homes_in(git: Git, tree: str) -> dict[str, Home]:
    """The homes in a tree by the name of their model, the root first; the root alone where there is none."""
    folders = git.run("ls-tree", "-d", "-z", "--name-only", tree, "--", f"{MODELS}/").split("\0")
    homes = [Home(git.folder), *(Home(git.folder, PurePosixPath(folder)) for folder in folders if folder)]
    named = {home.path(PARAMS_FILE): home for home in homes}
    found = git.run("ls-tree", "-z", "--name-only", tree, "--", *named).split("\0")
    homes = [home for path, home in named.items() if path in found] or homes[:1]
    return {home.model or name_in(git.text(tree, str(PARAMS_FILE))): home for home in homes}


def files_below(git: Git, tree: str, *folders: str) -> dict[str, str]:
    """The files below folders of a tree, or all of them, by their paths, as `<mode> <kind> <object>` each."""
    out = git.run("ls-tree", "-r", "-z", tree, "--", *(f"{folder.rstrip('/')}/" for folder in folders))
    return {path: entry for entry, _, path in (line.partition("\t") for line in out.split("\0") if line)}


def with_entries(git: Git, tree: str, entries: Mapping[str, str | None]) -> str:
    """The tree with these entries instead of what is there.

    Args:
        git: the repository.
        tree: the tree to change.
        entries: `<mode> blob <object>` by path, or None to take what is there away.
    """
    if not entries:
        return tree
    lines = []
    for path, entry in entries.items():
        if entry is None:  # a file in place of what is there, so that a folder of that name goes too
            lines += [f"{FILE} blob {'1' * len(tree)}\t{path}\0", f"0 {'0' * len(tree)}\t{path}\0"]
        else:
            lines.append(f"{entry}\t{path}\0")
    with tempfile.TemporaryDirectory() as scratch:
        apart = Git(git.folder, Path(scratch, "index"))
        apart.run("read-tree", tree)
        apart.run("update-index", "-z", "--replace", "--index-info", stdin="".join(lines))
        return apart.run("write-tree", "--missing-ok")


def differing(git: Git, *trees: str, paths: Sequence[str] = ()) -> tuple[str, ...]:
    """The tracked paths, of all or of some, that differ between two trees, or between one and the work tree.

    `A...B` compares B with what it has in common with A.
    """
    out = git.run("diff", "--name-only", "--no-renames", "-z", *trees, "--", *paths)
    return tuple(path for path in out.split("\0") if path)


def require_committed(git: Git, commit: str) -> None:
    """Refuse a work tree whose tracked files are not those of the commit.

    Raises:
        ForgeError: with some that differ.
    """
    if changed := differing(git, commit):
        told = f"not committed: {', '.join(changed[:5])}"
        raise ForgeError(told, where=str(git.folder), hint="commit it, or go back to what was")


def empty_tree(git: Git) -> str:
    """The tree that holds nothing."""
    return git.run("mktree", "-z", stdin="")


def tree_of(git: Git, revision: str) -> str:
    """The tree of a commit."""
    return git.run("rev-parse", "--verify", "--end-of-options", f"{revision}^{{tree}}")


def commit_tree(git: Git, tree: str, parents: Iterable[str], message: str) -> str:
    """A commit of a tree on these parents; no branch moves."""
    arguments = [part for parent in parents for part in ("-p", parent)]
    return git.run("commit-tree", tree, *arguments, "-F", "-", stdin=message, settings=git.identity())


def push_commit(git: Git, remote: str, commit: str, branch: str, *, expected: str | None) -> bool:
    """Make `commit` the remote's `branch`, only if that is still at `expected` (None: only if it is not there).

    Returns:
        Whether it was; false where somebody moved the branch in between.

    Raises:
        ForgeError: the remote refused for another reason.
    """
    target = f"refs/heads/{branch}"
    command = ("push", "--quiet", f"--force-with-lease={target}:{expected or ''}", remote, f"{commit}:{target}")
    code, out, words = git.attempt(*command)
    if code == 0:
        return True
    found = git.remote_head(remote, branch)
    if found == commit:
        return True  # it arrived, and the answer was lost on its way
    if found != expected:
        return False
    raise git.error(command, words or out)


def contains(git: Git, commit: str, ancestor: str) -> bool:
    """Whether `ancestor` is in the history of `commit`."""
    return git.attempt("merge-base", "--is-ancestor", ancestor, commit)[0] == 0
