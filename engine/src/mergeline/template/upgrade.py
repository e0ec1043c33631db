"""Brings a team's repository up to date with the template it was made from, and says what that does to the model.

Params of older formats are lifted by steps, each a pure function of the file's text. `deploy/manifest.yaml` has had one
format, `mergeline/v1`, since the first edition, so that there is no step for it.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mergeline.documents import parse
from mergeline.errors import ForgeError, ParamsError, ToolError
from mergeline.files import write_text
from mergeline.github.base import BASE_BRANCH, fetch_main
from mergeline.github.forge import GitHubForge
from mergeline.github.git import Git
from mergeline.github.git_objects import tree_of
from mergeline.github.open_proposal import open_forge
from mergeline.github.own_branch import PeopleError, Words, keep_branch
from mergeline.github.sanitize import code_block, defuse
from mergeline.image.build import find_uv
from mergeline.params import PARAMS_FILE, Params
from mergeline.template.new import ANSWERS_FILE, build_wheel, copier_worker, environment_of, recorded_answers, run

BRANCH, ISSUE, LABEL = "upgrade/template", "upgrade-template", "template"
HERE = ".tools/bin/uv run --group upgrade mergeline upgrade"
COMMAND = f"{HERE} --pull-request"
CONFLICT = re.compile(r"^<{7} ", re.MULTILINE)
_WHEEL = re.compile(r"vendor/mergeline-[^\"]+\.whl")
_PIN = re.compile(r"(mergeline\[[a-z,]+\]==)[^\"]+")


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade comes to: commits of the template, files with conflicts, the gate's words, and the tree."""

    source: str
    before: str
    after: str
    conflicts: tuple[str, ...] = ()
    verdict: str = ""
    stat: str = ""
    tree: str = ""

    @property
    def is_new(self) -> bool:
        """Whether anything differs."""
        return bool(self.tree)


@dataclass(frozen=True)
class Told:
    """Where people find an upgrade: a pull request, or an issue that asks for one."""

    upgrade: Upgrade
    url: str = ""
    number: int | None = None
    note: str = ""


def upgrade_here(root: Path, source: str, say: Callable[[str], None]) -> Upgrade:
    """Upgrade the work tree; nothing is committed, and where something fails nothing is changed.

    Args:
        root: the repository, with nothing to commit.
        source: the template, as an address or a folder; empty takes the recorded one.
        say: takes a line for each step.

    Raises:
        ToolError: it was not made from the template, there are changes, or a program failed.
        ForgeError: git refused.
    """
    git = Git(root)
    if git.changed():
        raise ToolError(
            "there are changes", where=str(root), hint="commit them first: an upgrade is a commit of its own"
        )
    found = _upgrade(git, "HEAD", source, say)
    if found.is_new:
        git.run("read-tree", "-m", "-u", "HEAD", found.tree)
    return found


def upgrade_by_pull_request(root: Path, source: str, say: Callable[[str], None]) -> Told:
    """Upgrade the base branch on a branch of its own, and open or update the one pull request for it.

    Raises:
        ToolError: it was not made from the template, or a program failed.
        ForgeError: git or the forge refused.
    """
    git = Git(root)
    forge = open_forge(git)
    main = fetch_main(git)
    found = _upgrade(git, main, source, say)
    if not found.is_new:
        with contextlib.suppress(ForgeError):  # issues may be switched off
            forge.close_issue(ISSUE, "The template has nothing newer.")
        return Told(found)
    words = Words(
        branch=BRANCH,
        title=f"Upgrade the template to {found.after}",
        body=body(found),
        labels=[LABEL],
        made=f"upgrade to {found.after}",
    )
    try:
        kept = keep_branch(git, forge, main, words, lambda _: found.tree)
    except PeopleError as error:
        pull = forge.find(BRANCH)
        if pull is None:
            raise
        return Told(found, pull.url, pull.number, f"left alone: {error.what}")
    except ForgeError as error:
        if "workflow" not in error.what:
            raise
        # GitHub takes changes of workflow files from a job's own token never.
        asks = (
            "The token of this job may not push workflow files. Upgrade on your machine, from a clone with nothing to "
            f"commit:\n\n{code_block(COMMAND)}\n\nor give `template.yml` a token that may: docs/upgrade.md.\n\n"
        )
        issue = forge.open_or_update_issue(ISSUE, words.title, asks + words.body, [LABEL])
        return Told(found, issue.url, note="an issue asks for it: the token may not push workflow files")
    with contextlib.suppress(ForgeError):
        forge.close_issue(ISSUE, f"The pull request is open: {kept.pull.url}")
    note = _judge_on_github(forge, kept.pull.number) if kept.new else "unchanged"
    return Told(found, kept.pull.url, kept.pull.number, note)


def _judge_on_github(forge: object, number: int) -> str:
    """Start model.yml for the pull request, since one that a job's token opened starts nothing; else what to do."""
    if not isinstance(forge, GitHubForge):
        return ""
    from github import GithubException

    try:
        judge = forge.client.repository.get_workflow("model.yml")
        judge.create_dispatch(BASE_BRANCH, {"pull": str(number)}, throw=True)
    except (GithubException, OSError) as error:
        return f"open, and not judged: start model.yml with pull={number} ({error})"
    return ""


def body(found: Upgrade) -> str:
    """The pull request's text."""
    parts = [
        f"Brings this repository from `{found.before}` of the template to `{found.after}` ({defuse(found.source)}): "
        "engine, workflows, docs, deploy files. What is yours stays: `src/`, `tests/`, `params.yaml`, data, manifest.",
        defuse(found.verdict),
    ]
    if found.conflicts:
        listed = "\n".join(f"- `{path}`" for path in found.conflicts)
        parts.append(
            f"**{_count(found.conflicts)}**, marked inline (`<<<<<<<`). You and the template changed "
            f"the same lines: choose on this branch, and commit there.\n\n{listed}"
        )
    parts.append(f"<details><summary>What changes</summary>\n\n{code_block(found.stat)}\n\n</details>")
    return "\n\n".join(parts) + "\n"


def _upgrade(git: Git, commit: str, source: str, say: Callable[[str], None]) -> Upgrade:
    """Upgrade a commit in a work tree of its own, and judge what came of it."""
    with _work_tree(git, commit) as folder:
        before = _recorded(folder)
        if source and source != before["_src_path"]:
            text = (folder / ANSWERS_FILE).read_text(encoding="utf-8")
            write_text(folder / ANSWERS_FILE, re.sub(r"(?m)^_src_path: .*$", lambda _: f"_src_path: {source}", text))
            Git(folder).commit("Another address of the template", ANSWERS_FILE)
        say(f"comparing with {source or before['_src_path']}")
        _apply(folder, say)
        after = _recorded(folder)
        here = Git(folder)
        if after == before or (after["_commit"] == before["_commit"] and not here.changed()):
            return Upgrade(after["_src_path"], before["_commit"], after["_commit"])
        conflicts = tuple(path for path in here.changed() if _has_conflict(folder / path))
        verdict = _judge(folder, conflicts, say)
        here.run("add", "--all")
        tree = here.run("write-tree")
        if tree == tree_of(git, commit):
            return Upgrade(after["_src_path"], before["_commit"], after["_commit"])
        stat = here.run("diff", "--stat=100", commit, tree, "--", ":!uv.lock", ":!vendor", ":!store")
        return Upgrade(after["_src_path"], before["_commit"], after["_commit"], conflicts, verdict, stat, tree)


@contextlib.contextmanager
def _work_tree(git: Git, commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "upgrade"
        git.run("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            yield folder
        finally:
            git.attempt("worktree", "remove", "--force", str(folder))


def _recorded(folder: Path) -> dict[str, str]:
    """Where the template is, and the commit of it that the repository has.

    Raises:
        ToolError: nothing is recorded.
    """
    known = recorded_answers(folder)
    if not {"_src_path", "_commit"} <= known.keys():
        raise ToolError(
            "it is not recorded which commit of the template this repository was made from",
            where=ANSWERS_FILE,
            hint="only what `mergeline new` or `mergeline adopt` made can be upgraded",
        )
    return {key: known[key] for key in ("_src_path", "_commit", "engine") if key in known}


def _apply(folder: Path, say: Callable[[str], None]) -> None:
    """Let copier merge the template's changes in, and put its engine in.

    Raises:
        ToolError: copier is not installed, or the template cannot be reached.
    """
    settings = {"dst_path": folder, "defaults": True, "overwrite": True, "conflict": "inline"}
    with copier_worker(ANSWERS_FILE, "name the template: mergeline upgrade --source URL", **settings) as worker:
        with contextlib.redirect_stderr(io.StringIO()):  # that there are no tags, three times
            worker.run_update()
        project, checkout = folder / "pyproject.toml", worker.template.local_abspath
        text = project.read_text(encoding="utf-8")
        if _WHEEL.search(text):
            say("building the engine's wheel")
            text = _WHEEL.sub(f"vendor/{build_wheel(checkout, folder / 'vendor')}", text)
        else:
            version = re.search(r'(?m)^version = "([^"]+)"', (checkout / "engine/pyproject.toml").read_text("utf-8"))
            text = _PIN.sub(lambda found: found[1] + (version[1] if version else ""), text)
        write_text(project, text)


def _count(conflicts: Sequence[str]) -> str:
    return "1 file has conflicts" if len(conflicts) == 1 else f"{len(conflicts)} files have conflicts"


def _has_conflict(path: Path) -> bool:
    try:
        return CONFLICT.search(path.read_text(encoding="utf-8")) is not None
    except (OSError, UnicodeDecodeError):
        return False


def _judge(folder: Path, conflicts: tuple[str, ...], say: Callable[[str], None]) -> str:
    """What the gate says of the upgraded repository, in its own environment, as a paragraph of Markdown."""
    say("locking and installing the libraries")
    try:
        run(folder, find_uv(), "lock", "--quiet", "--upgrade-package", "mergeline")
        run(folder, find_uv(), "sync", "--locked", "--quiet")
        run(folder, "mergeline", "migrate")
        say("reproducing the champion with the new engine")
        run(folder, "dvc", "pull")
        done = subprocess.run(
            [folder / ".venv" / "bin" / "mergeline", "propose"], cwd=folder, env=environment_of(folder),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except ToolError as error:
        because = f" ({_count(conflicts)})" if conflicts else ""
        return f"**Not judged yet**{because}: {error.what.splitlines()[-1][:300]}"
    said = [line for line in done.stdout.splitlines() if re.match(r"unchanged: |accepted\. |rejected\. ", line)]
    if done.returncode not in {0, 3, 4} or not said:
        words = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        # A hint is the last line, what it is about stands above it, and what another program said above that.
        return f"**The model cannot be made with it**: {'; '.join(map(str.strip, words[-3:]))[:600]}"
    if said[-1].startswith("unchanged: "):
        return f"**The champion's bytes are unchanged.** {said[-1].removeprefix('unchanged: ').capitalize()}."
    if done.returncode:
        return f"**New bytes, and the gate refuses them.** {said[-1]}"
    return f"**New bytes: this proposes them as a release.** {said[-1]}"


Step = Callable[[str], str]
_FORMAT = re.compile(r"^format:[ \t]*(\d+)", re.MULTILINE)
_FIRST_KEY = re.compile(r"^(?=[a-z])", re.MULTILINE)


def name_the_format(text: str) -> str:
    """From the first edition, which named no format, to format 1: the keys are the same."""
    line = "format: 1                            # the form of this file: `mergeline migrate` lifts older ones\n"
    return _FIRST_KEY.sub(line, text, count=1)


STEPS: tuple[Step, ...] = (name_the_format,)
"""The step at place n lifts format n to n + 1; a file without a format has format 0."""


def migrate_params(text: str, steps: Sequence[Step] = STEPS) -> tuple[str, int]:
    """Lift the text of `params.yaml`.

    Args:
        text: the file.
        steps: the steps from format 0 on.

    Returns:
        The text in the newest format, and the format that it had.

    Raises:
        ParamsError: it is of a newer format than this engine knows.
    """
    named = _FORMAT.search(text)
    found = int(named[1]) if named else 0
    if found > len(steps):
        what = f"the file has format {found}, and this engine reads format {len(steps)}"
        raise ParamsError(what, where=str(PARAMS_FILE), hint="mergeline upgrade")
    for step in steps[found:]:
        text = step(text)
    return text, found


def checked_params(text: str) -> tuple[str, int]:
    """As `migrate_params`, and what comes out is valid.

    Raises:
        ParamsError: it is of a newer format, or not valid.
    """
    lifted, found = migrate_params(text)
    parse(lifted, Params, str(PARAMS_FILE), ParamsError)
    return lifted, found
