"""Turns a copy of the template, as GitHub's "Use this template" makes it, into a team's repository, in place."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from mergeline.errors import ToolError
from mergeline.github.git import Git
from mergeline.template.new import ANSWERS_FILE, Answers, finish, is_unfinished, make_draft, read_answers

ENGINE = "engine"
MADE = ("data", "model", "evaluation", "report", "build", "journal", "demo", "mlflow.db", "mlartifacts",
        ".dvc/cache", ".dvc/tmp")  # fmt: skip
"""What the template's own model, its demo and its tools leave in a clone; git ignores it."""


def is_copy(root: Path) -> bool:
    """Whether the repository holds the template itself, which no team's repository does."""
    return (root / "copier.yml").is_file() and (root / ENGINE / "pyproject.toml").is_file()


def adopt(
    root: Path, name: str, data: Mapping[str, str], *, defaults: bool, say: Callable[[str], None]
) -> tuple[Answers, str]:
    """Make the repository a team's own: what `mergeline new` makes, in place of the template.

    Nothing is deleted before everything that takes its place is there. The commit before stays in git. What fails
    afterwards goes on with the same command, called from the new environment.

    Args:
        root: a clone of the repository, with nothing to commit.
        name: the model's name.
        data: answers that are known, by the names of copier.yml's questions.
        defaults: ask nothing; what is not known takes its default.
        say: takes a line for each step.

    Returns:
        The answers, and the commit that was there before.

    Raises:
        ToolError: it is no copy of the template, there are changes or data that no commit holds, or a program failed.
        CodeError: the name cannot name a package or a model.
    """
    git = Git(root)
    before = git.find("HEAD") or ""
    if is_unfinished(root):
        say("going on with what was begun")
        answers = read_answers(root, data)
    elif not is_copy(root):
        made = (root / ANSWERS_FILE).is_file()
        what = "it is a team's own repository already" if made else "it is no copy of the template"
        raise ToolError(what, where=str(root), hint="nothing to do" if made else "mergeline new DIR makes a repository")
    else:
        _refuse_what_would_be_lost(root, git)
        with tempfile.TemporaryDirectory(dir=git.run("rev-parse", "--absolute-git-dir"), prefix="adopt-") as scratch:
            draft = Path(scratch) / "draft"
            answers = make_draft(draft, {**data, "name": name}, defaults=defaults, say=say)
            say("taking the template's own files away")
            _replace(root, git, draft)
    finish(root, answers, say)
    return answers, before


def _refuse_what_would_be_lost(root: Path, git: Git) -> None:
    """Stop where files that no commit and no store holds would go.

    Raises:
        ToolError: there are such files.
    """
    changed = git.changed()
    if changed:
        hint = "commit them, or put them away: git stash --include-untracked"
        raise ToolError(f"there are changes: {', '.join(changed[:3])}", where=str(root), hint=hint)
    if (root / "data").exists():
        known = subprocess.run(
            [sys.executable, "-m", "dvc", "status", "--quiet", "data.dvc"], cwd=root, capture_output=True, check=False
        )
        if known.returncode:
            hint = "move it out of the repository, then: --data recipe=blank --data file=PATH"
            raise ToolError("it holds data that are not the template's", where="data/", hint=hint)


def _replace(root: Path, git: Git, draft: Path) -> None:
    """Put the draft in place of every tracked file.

    This program may run from the engine that goes: whatever is called afterwards is imported by now.
    """
    tracked = [Path(path) for path in git.run("ls-files", "-z").split("\0") if path]
    for path in tracked:
        (root / path).unlink(missing_ok=True)
    for name in (*MADE, ENGINE):
        place = root / name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    for folder in sorted({parent for path in tracked for parent in path.parents if parent.parts}, reverse=True):
        with contextlib.suppress(OSError):  # something else is in it
            (root / folder).rmdir()
    shutil.copytree(draft, root, dirs_exist_ok=True)
