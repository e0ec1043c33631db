"""Makes the proposal of a branch as it would be after its merge, and writes it into a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from mergeline.ci.build_proposal import Asked, Made, Say, differing, make, told
from mergeline.ci.bundle import HandedState, Handover, Trouble, read_proposal, write_proposal
from mergeline.errors import ForgeError, HandoverError, MergelineError
from mergeline.github.base import BASE_BRANCH, REMOTE, refresh_base
from mergeline.github.git import Git
from mergeline.github.merge import merged_with_base
from mergeline.params import PARAMS_FILE, read_params
from mergeline.store.objects import embedded_store

_NO_COMMIT = "0" * 40
_OUTPUTS = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")  # the job's are written once, by the process that it started


def hand_over(  # noqa: PLR0917 - what the verb is given
    root: Path, folder: Path, pull: int | None, base: str | None, say: Say, ingest: Path | None = None
) -> Handover:
    """Make the proposal of the commit in the work tree, and write it into `folder`, whatever it comes to.

    A branch that has not got the base branch's newest commit is taken as it would be with it merged in. The work
    tree is put back as it was; nothing is pushed, signed, or stored.

    Args:
        root: the repository; tracked files must be as they were committed.
        folder: where to write it; an earlier proposal there goes away.
        pull: the pull request that it is made for.
        base: what to be merged into; None takes the remote's base branch, freshly fetched.
        say: takes a line for each step.
        ingest: a folder of fresh partitions to put beside those of the base branch, which must be checked out.

    Returns:
        What `proposal.json` says; an error is the state `failed`.

    Raises:
        HandoverError: the folder holds something else than a proposal.
        OSError: it cannot be written.
    """
    asked = Asked(root, folder, _NO_COMMIT, _NO_COMMIT, pull, ingest)
    try:
        asked = _asked(asked, base, say)
        made = _in_merged_tree(asked, say)
    except HandoverError:
        raise
    except MergelineError as error:
        made = _failed(asked, Trouble.of(error))
    except Exception as error:
        # Whoever reads the pull request must hear of it too; the traceback is for the log.
        made = _failed(asked, Trouble(what=f"{type(error).__name__}: {error}"[:1000], hint="see the log of this job"))
        _write(made, folder)
        raise
    if made is None:
        return read_proposal(folder).proposal
    _write(made, folder)
    return made.proposal


def _asked(asked: Asked, base: str | None, say: Say) -> Asked:
    git = Git(asked.root)
    head = git.find("HEAD")
    if head is None:
        raise ForgeError("there is no commit to propose", where=str(asked.root), hint="commit what you have changed")
    stale = None if base else refresh_base(asked.root)
    if stale:
        say(f"warning: {stale}")
    names = [base] if base else [f"{REMOTE}/{BASE_BRANCH}", BASE_BRANCH]
    found = next(filter(None, map(git.find, names)), None)
    if found is None:
        raise ForgeError(f"there is no {' or '.join(names)}", where=str(asked.root), hint=f"git fetch {REMOTE}")
    return replace(asked, head=head, base=found)


def _in_merged_tree(asked: Asked, say: Say) -> Made | None:
    """Make the proposal; None where a process of its own has written it."""
    git = Git(asked.root)
    tree = merged_with_base(git, asked.base, asked.head, embedded_store(asked.root))
    if not differing(git, tree):
        return make(asked, tree, say)
    changed = differing(git, asked.head)
    if changed:
        raise ForgeError(
            f"not committed: {', '.join(changed[:5])}", where=str(asked.root), hint="commit it, or go back to what was"
        )
    if asked.ingest is not None:
        raise ForgeError(
            f"{BASE_BRANCH} moved on since the rows were laid out",
            where=str(asked.ingest),
            hint=f"lay them out again on {BASE_BRANCH}'s newest commit: run watch.yml again, or mergeline retrain",
        )
    if differing(git, tree, asked.head, paths=["uv.lock"]):
        raise ForgeError(
            f"{BASE_BRANCH} has other libraries in uv.lock than the ones that this branch was installed from",
            where="uv.lock",
            hint=f"merge {BASE_BRANCH} into the branch, and push it",
        )
    say(f"merging {BASE_BRANCH} in: {asked.base[:12]}")
    # The merge brings other code too: it runs in a process that has loaded none of the old.
    git.run("read-tree", "-m", "-u", asked.head, tree)
    try:
        write_proposal(asked.folder, _failed(asked, Trouble(what="the merged code did not run")).proposal)
        pull = ["--pull", str(asked.pull)] if asked.pull else []
        command = ["ci", "bundle", str(asked.folder.absolute()), "--base", asked.base, *pull]
        subprocess.run(
            [sys.executable, "-m", "mergeline.cli", *command],
            cwd=asked.root,
            env={name: value for name, value in os.environ.items() if name not in _OUTPUTS},
            stdout=subprocess.DEVNULL,
            check=False,
        )
    finally:
        git.run("read-tree", "--reset", "-u", asked.head)
    return None


def _failed(asked: Asked, error: Trouble) -> Made:
    try:
        name = read_params(asked.root / PARAMS_FILE).name
    except MergelineError:
        name = "unknown"  # params.yaml is what failed, and the error says so
    words = told(asked, name, HandedState.FAILED, headline=error.what.splitlines()[0][:2000], error=error)
    return Made(words, failure_report(error), {})


def failure_report(error: Trouble) -> str:
    """What the report says where no model could be judged."""
    fence = "`" * 6  # longer than any in an error's text that people write
    parts = [f"{fence}text\n{text.replace(fence, '')}\n{fence}" for text in (error.what, error.hint) if text]
    where = f"\n\nWhere: `{error.where.replace('`', '')}`" if error.where else ""
    hint = f"\n\nHow to fix it:\n\n{parts[1]}" if len(parts) > 1 else ""
    return f"## No proposal: an error stopped it\n\n{parts[0]}{where}{hint}\n"


def _write(made: Made, folder: Path) -> None:
    write_proposal(folder, made.proposal, report=made.report, files=made.files)
