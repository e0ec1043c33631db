"""One bare repository of the local GitHub, and what git says about it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mergeline.github.git import Git

NOTHING = "0" * 40
# GitHub's own two: what protects a branch is decided beforehand, and an App's token changes no workflow file that no
# other branch has (docs.github.com, "scopes for OAuth apps", workflow).
_UPDATE_HOOK = r"""#!/bin/sh
refused=$(printf '%s\n' "$LOCAL_GITHUB_REFUSED" | sed -n "s|^$1	||p")
if [ -n "$refused" ]; then
  echo "error: GH013: Repository rule violations found for $1." >&2
  echo "- $refused" >&2
  exit 1
fi
if [ -n "$LOCAL_GITHUB_APP" ] && [ "$3" != 0000000000000000000000000000000000000000 ]; then
  known=$(git for-each-ref --format='%(objectname)' refs/heads | while read -r tip; do
    git ls-tree -r "$tip" .github/workflows; done)
  git ls-tree -r "$3" .github/workflows | while read -r line; do
    case "$known" in *"$line"*) ;; *) echo "$line" | cut -f2; exit 1 ;; esac
  done > /dev/null || {
    echo "refusing to allow a GitHub App to create or update workflow without \`workflows\` permission" >&2
    exit 1
  }
fi
"""


class Change(NamedTuple):
    """A ref that moved; a side that is not there is NOTHING."""

    ref: str
    old: str
    new: str


class ChangedFile(NamedTuple):
    """One file between two commits, as a pull request lists it."""

    path: str
    status: str
    additions: int
    deletions: int
    patch: str


class Bare:
    """The repository at `folder`, whose full name is `name`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.git = folder, name, Git(folder)

    @classmethod
    def create(cls, folder: Path, name: str, *, like: Bare | None = None) -> Bare:
        """Make it: empty, or a copy of another one's branches."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(folder)], check=True)
        made = cls(folder, name)
        settings = (
            ("http", "receivepack", "true"),
            ("gc", "auto", "0"),
            ("receive", "autogc", "false"),
            ("uploadpack", "allowFilter", "true"),
        )
        lines = (f"[{section}]\n\t{key} = {value}\n" for section, key, value in settings)
        with (folder / "config").open("a") as config:
            config.writelines(lines)
        hook = folder / "hooks" / "update"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(_UPDATE_HOOK)
        hook.chmod(0o755)
        if like:
            made.git.run("fetch", "--quiet", str(like.folder), "+refs/heads/*:refs/heads/*")
        return made

    def refs(self) -> dict[str, str]:
        """Every branch and tag with its object."""
        lines = self.git.run("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")
        return dict(line.split(" ") for line in lines.splitlines())

    def changes_since(self, before: Mapping[str, str]) -> list[Change]:
        """What moved between `before` and now."""
        now = self.refs()
        names = sorted({*before, *now})
        moved = (Change(name, before.get(name, NOTHING), now.get(name, NOTHING)) for name in names)
        return [change for change in moved if change.old != change.new]

    def tip(self, branch: str) -> str | None:
        """The newest commit of a branch."""
        return self.git.find(f"refs/heads/{branch}")

    def contains(self, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` is in the history of `commit`."""
        return self.git.attempt("merge-base", "--is-ancestor", ancestor, commit)[0] == 0

    def bring(self, other: Bare, commit: str) -> None:
        """Take a commit and what it needs from another repository."""
        if other.folder != self.folder and self.git.find(commit) is None:
            self.git.run("fetch", "--quiet", str(other.folder), commit)

    def point(self, ref: str, commit: str | None) -> None:
        """Let a ref name this commit, or take it away."""
        self.git.run("update-ref", *(["-d", ref] if commit is None else [ref, commit]))

    def merged_tree(self, base: str, head: str) -> str | None:
        """The tree of the two merged, or None where they conflict."""
        code, out, words = self.git.attempt("merge-tree", "--write-tree", "--no-messages", base, head)
        if code > 1:
            raise self.git.error(("merge-tree", base, head), words)
        return out.splitlines()[0] if code == 0 else None

    def commit_tree(self, tree: str, parents: list[str], message: str, author: str) -> str:
        """Write a commit by `author` with GitHub as the committer."""
        flags = [part for parent in parents for part in ("-p", parent)]
        settings = {"author.name": author, "author.email": f"{author}@users.noreply.github.com",
                    "committer.name": "GitHub", "committer.email": "noreply@github.com"}  # fmt: skip
        return self.git.run("commit-tree", tree, *flags, "-F", "-", stdin=message, settings=settings)

    def files(self, base: str, head: str) -> list[ChangedFile]:
        """What `head` changes since it left `base`."""
        span = f"{base}...{head}"
        words = {"A": "added", "D": "removed", "M": "modified", "T": "changed"}
        kinds = self._fields("diff", "--no-renames", "--name-status", "-z", span)
        status = {path: words[kind] for kind, path in zip(kinds[::2], kinds[1::2], strict=True)}
        found = []
        for line in self._fields("diff", "--no-renames", "--numstat", "-z", span):
            added, removed, path = line.split("\t", 2)
            patch = "" if added == "-" else self.git.run("diff", "--no-renames", span, "--", path)
            body = patch[patch.find("@@") :] if "@@" in patch else ""
            numbers = (0, 0) if added == "-" else (int(added), int(removed))
            found.append(ChangedFile(path, status[path], *numbers, body))
        return found

    def commits(self, base: str, head: str) -> list[str]:
        """The commits that `head` has and `base` has not, oldest first."""
        return self.git.run("rev-list", "--reverse", "--topo-order", f"{base}..{head}").split()

    def _fields(self, *command: str) -> list[str]:
        return [field for field in self.git.run(*command).split("\0") if field]
