"""Commits a proposal to its branch, or refuses it and writes nothing.

It runs with the base branch's code. The branch is fetched as git objects, and none of its code is run.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path

from mergeline.ci.apply_commit import Draft, Target, Workspace
from mergeline.ci.bundle import (
    EVIDENCE,
    LOCK,
    VERDICT,
    ApplyOutcome,
    ApplyResult,
    ErrorInfo,
    ProposalBundle,
    read_bundle,
    write_outcome,
)
from mergeline.ci.check_bundle import CheckedProposal, require_addressee
from mergeline.ci.comment_text import CommentContext, say
from mergeline.documents import parse
from mergeline.errors import BundleError, DocumentError, ForgeError, ManifestError, MergelineError
from mergeline.github.actions import read_job
from mergeline.github.base import BASE_BRANCH, REMOTE, branch_manifest, read_environments
from mergeline.github.git import Git
from mergeline.github.git_objects import FILE, contains, entry_at, store_text, tree_of, with_entries
from mergeline.github.merge import merged_with_base
from mergeline.github.open_proposal import LABEL, open_forge
from mergeline.github.own_branch import (
    RUN_AGAIN,
    OutdatedError,
    PeopleError,
    UnopenedError,
    Words,
    close_request,
    is_own,
    keep_branch,
    message,
    own_tip,
    push,
)
from mergeline.github.pull_requests import PullRequest, Pulls, PullState
from mergeline.github.sanitize import defuse
from mergeline.github.served_releases import lost_objects
from mergeline.manifest.schema import Manifest, Release, manifest_path
from mergeline.manifest.transitions import releases
from mergeline.release.inputs import PIPELINE_FILE, compared_files
from mergeline.store.dvc_lock import LOCK_FILE
from mergeline.store.objects import embedded_store

RETRAINING = "retraining"
"""Labels the pull request of a retraining, and names its comment."""
RETRAIN_BRANCH = "retrain/"
"""How the name of its branch begins."""
RETRAINED = ", retrained"
"""How the title of such a pull request ends: its merge is found again by it."""


def apply(root: Path, folder: Path, *, head: str, pull: int | None = None, branch: str = "") -> ApplyResult:
    """Check the proposal in `folder`, commit it and push it.

    Args:
        root: the repository, with the base branch checked out.
        folder: what `mergeline ci bundle` wrote.
        head: the commit that the proposal must have been made of.
        pull: the pull request whose branch takes it.
        branch: where there is none, a branch of the automation's own: it is made anew on the base branch, and its
            pull request is opened or updated.

    Returns:
        The outcome, which is also written beside the folder. Where a proposal is refused, nothing was written
        anywhere else, and the outcome says why.
    """
    try:
        bundle = read_bundle(folder)
        applied = _on_branch(root, bundle, head, branch) if pull is None else _on_pull(root, bundle, head, pull)
    except OutdatedError as error:
        applied = ApplyResult(outcome=ApplyOutcome.OUTDATED, pull=pull, error=ErrorInfo.of(error))
    except MergelineError as error:
        applied = ApplyResult(outcome=ApplyOutcome.REFUSED, pull=pull, error=ErrorInfo.of(error))
    except Exception as error:
        # The pull request must hear of it too; the traceback is for the log.
        trouble = ErrorInfo(what=f"{type(error).__name__}: {error}"[:1000], hint="see the log of this job")
        write_outcome(folder, ApplyResult(outcome=ApplyOutcome.REFUSED, pull=pull, error=trouble))
        raise
    write_outcome(folder, applied)
    return applied


def _on_pull(root: Path, bundle: ProposalBundle, head: str, number: int) -> ApplyResult:
    """Put it onto the branch of a pull request."""
    git = Git(root)
    require_addressee(bundle, head, number)
    forge = open_forge(git)
    pull = forge.get(number)
    if pull.fork:
        return ApplyResult(outcome=ApplyOutcome.NOTHING, pull=number)
    if not _brings_files(bundle):
        return _put_back(git, root, bundle, pull, head)
    if pull.base != BASE_BRANCH:
        raise BundleError(
            f"the pull request asks for a merge into {pull.base}, not into {BASE_BRANCH}",
            where=f"pull request {number}",
            hint=f"change its base to {BASE_BRANCH}",
        )
    if pull.state is not PullState.OPEN:
        raise OutdatedError(f"the pull request is {pull.state}", where=f"pull request {number}", hint="open a new one")
    git.fetch(REMOTE, BASE_BRANCH, pull.branch)
    tip = git.run("rev-parse", f"refs/remotes/{REMOTE}/{pull.branch}")
    store = embedded_store(root)
    if git.find(head) is None or not contains(git, tip, head):
        raise OutdatedError("the branch has lost that commit", where=head, hint=RUN_AGAIN)
    if is_own(git, head):
        close_request(forge, pull)  # a person has opened what no workflow may open
    main = _unmoved_main(git, bundle, head)
    parents = (head,) if contains(git, head, main) else (head, main)
    target = Target(pull.branch, tip, parents, merged_with_base(git, main, head, store), main, number)
    workspace = Workspace(root, store)
    checked = workspace.check(bundle, target, head, number)
    draft = workspace.draft(bundle, target, checked)
    if draft.tree == tree_of(git, head) and tip == head:
        return _applied(ApplyOutcome.NOTHING, bundle, number, head, checked, draft.release)
    if tip != head:
        written = _written_before(git, tip, head, draft)
        if written is not None:
            return _applied(ApplyOutcome.NOTHING, bundle, number, tip, checked, written)
        raise OutdatedError(
            "somebody pushed to the branch while the proposal was made", where=pull.branch, hint=RUN_AGAIN
        )
    workspace.keep_objects(bundle)
    text = message(_title(bundle, checked), draft.release.digest, draft.tree)
    commit = push(git, pull.branch, draft.tree, parents, text, expected=head)
    return _applied(ApplyOutcome.APPLIED, bundle, number, commit, checked, draft.release)


def _put_back(git: Git, root: Path, bundle: ProposalBundle, pull: PullRequest, head: str) -> ApplyResult:
    """Put back what a reverted commit takes away though it is needed: objects that would be served, and a manifest.

    Another environment may serve the model whose release is reverted, and a server of the first environment follows its
    manifest, which came with the first proposal.
    """
    nothing = ApplyResult(outcome=ApplyOutcome.NOTHING, pull=pull.number, commit=head)
    if not bundle.state.passes or pull.base != BASE_BRANCH or pull.state is not PullState.OPEN:
        return nothing
    git.fetch(REMOTE, BASE_BRANCH, pull.branch)
    main, tip = (git.run("rev-parse", f"refs/remotes/{REMOTE}/{name}") for name in (BASE_BRANCH, pull.branch))
    tree = merged_with_base(git, main, head, embedded_store(root))
    names, lost = read_environments(git, tree), lost_objects(git, root, tree, main)
    for name in names[:-1]:
        path, text = manifest_path(names, name).as_posix(), branch_manifest(git, main, tree, names, name)
        if text is not None and entry_at(git, tree, path) is None:
            lost[path] = f"{FILE} blob {store_text(git, text)}"
    if not lost:
        return nothing
    made = with_entries(git, tree, lost)
    if tree_of(git, tip) == made:
        return nothing.model_copy(update={"commit": tip})
    parents = (head,) if contains(git, head, main) else (head, main)
    text = message(f"{bundle.summary.name}: objects of released models stay", "objects of released models", made)
    commit = push(git, pull.branch, made, parents, text, expected=head)
    return ApplyResult(outcome=ApplyOutcome.APPLIED, pull=pull.number, commit=commit)


def _written_before(git: Git, tip: str, head: str, draft: Draft) -> Release | None:
    """The release of this draft as an earlier run of the same job put it onto `head`, or None where none did.

    What a gate measures differs each time it measures, so the evidence may be another.
    """
    if git.find(f"{tip}^1") != head:
        return None
    if tree_of(git, tip) == draft.tree:
        return draft.release
    manifest = manifest_path(read_environments(git, tip))
    text = git.show(tip, manifest.as_posix())
    if text is None or not is_own(git, tip):
        return None
    named = releases(parse(text, Manifest, str(manifest), ManifestError)).values()
    mine = next((one for one in named if one.digest == draft.release.digest), None)
    same = mine is not None and mine.model_copy(update={"evidence": draft.release.evidence}) == draft.release
    lock = LOCK_FILE.as_posix()
    return mine if same and entry_at(git, tip, lock) == entry_at(git, draft.tree, lock) else None


def _on_branch(root: Path, bundle: ProposalBundle, head: str, branch: str) -> ApplyResult:
    """Put it onto a branch of the automation's own, made anew on the base branch, and open its pull request."""
    git = Git(root)
    require_addressee(bundle, head, None)
    if branch in ("", BASE_BRANCH):
        raise BundleError("no branch of its own is named", where="--branch", hint="name one, as propose/retrain")
    forge = open_forge(git)
    trouble = _tell_people(forge, bundle, branch)
    if not _brings_files(bundle):
        return ApplyResult(outcome=ApplyOutcome.NOTHING, error=trouble)
    git.fetch(REMOTE, BASE_BRANCH)
    main = _unmoved_main(git, bundle, head)
    if not contains(git, main, head):
        raise BundleError(f"it was not made of a commit of {BASE_BRANCH}", where=head, hint="make it there")
    workspace = Workspace(root, embedded_store(root))
    target = Target(branch, None, (main,), tree_of(git, main), main, None)
    checked = workspace.check(bundle, target, head, None)
    if workspace.draft(bundle, target, checked).tree == target.tree:
        return ApplyResult(outcome=ApplyOutcome.NOTHING)
    workspace.keep_objects(bundle)
    labels = [LABEL] if checked.data is None else [LABEL, RETRAINING]
    words = Words(branch, _title(bundle, checked), _body(bundle, branch), labels, checked.release.digest)
    try:
        tip = own_tip(git, branch, main)
    except PeopleError as error:
        tell_left_alone(forge, branch, error)
        raise

    def tree(number: int | None) -> str:
        return workspace.draft(bundle, replace(target, tip=tip, pull=number), checked).tree

    try:
        kept = keep_branch(git, forge, main, words, tree)
    except UnopenedError as error:
        pushed = _applied(ApplyOutcome.PUSHED, bundle, None, error.commit, checked, checked.release)
        return pushed.model_copy(update={"error": ErrorInfo.of(error)})
    outcome = ApplyOutcome.APPLIED if kept.new else ApplyOutcome.NOTHING
    return _applied(outcome, bundle, kept.pull.number, kept.commit, checked, checked.release)


def tell_left_alone(forge: Pulls, branch: str, error: PeopleError) -> None:
    """Tell the pull request of a branch that it is left to the people who committed to it."""
    pull = forge.find(branch)
    if pull is not None:
        words = f"There is something newer for this branch, and it is left alone: {error.what}.\n\n{error.hint}.\n"
        forge.comment(pull.number, RETRAINING, words)


def _tell_people(forge: Pulls, bundle: ProposalBundle, branch: str) -> ErrorInfo | None:
    """Tell in an issue that what the base branch makes cannot be released, as there is no pull request to tell.

    Returns:
        Why it could not be told.
    """
    retrained = branch.startswith(RETRAIN_BRANCH)
    short = branch if retrained else branch.rsplit("/", 1)[-1]
    key = re.sub(r"[^a-z0-9]+", "-", short.lower()).strip("-")[:60] or "proposal"
    if bundle.state.passes:
        with contextlib.suppress(ForgeError):  # issues may be switched off, and then there is none to close
            forge.close_issue(key, f"What {BASE_BRANCH} makes can be released: {bundle.summary.head}.")
        return None
    said = say(bundle.summary, bundle.report, None, CommentContext(run_url=read_job().run_url))
    if retrained:
        first = f"A model that was trained on fresh rows of production cannot be released: {bundle.state}."
        title = f"{bundle.summary.name}: a retrained model is {bundle.state}"
    else:
        first = (
            f"What {BASE_BRANCH} makes at {bundle.summary.head} is not the model that production serves, and it "
            f"cannot be released: {bundle.state}."
        )
        title = f"{bundle.summary.name}: what {BASE_BRANCH} makes is {bundle.state}"
    body = f"{first} Production keeps its model.\n\n---\n\n{said.text}\n"
    try:
        forge.open_or_update_issue(key, title, body, [LABEL])
    except ForgeError as error:
        return ErrorInfo.of(error)
    return None


def _brings_files(bundle: ProposalBundle) -> bool:
    return bundle.state.passes and LOCK in bundle.sizes


def _unmoved_main(git: Git, bundle: ProposalBundle, head: str) -> str:
    """The base branch's newest commit, if nothing that counts has changed there since the model was judged."""
    main, made_on = git.run("rev-parse", f"refs/remotes/{REMOTE}/{BASE_BRANCH}"), git.find(bundle.summary.base)
    if made_on is None or not contains(git, main, made_on):
        raise BundleError(
            f"it was made against {bundle.summary.base}, which is no commit of {BASE_BRANCH}",
            where="proposal.json",
            hint=RUN_AGAIN,
        )
    names: tuple[str, ...] = (manifest_path(read_environments(git, main)).as_posix(),)
    try:
        for commit in (main, head):  # a file that only the branch's pipeline reads counts too
            pipeline = (git.blob(f"{commit}:{PIPELINE_FILE}") or b"").decode()
            names = (*names, *compared_files(pipeline))
    except (DocumentError, UnicodeDecodeError):
        names = ()  # only DVC knows what counts there, so everything does
    moved = git.run("diff", "--name-only", "--no-renames", "-z", made_on, main, "--", *names).split("\0")
    if any(moved):
        raise OutdatedError(
            f"{BASE_BRANCH} moved on since the model was judged: {', '.join(filter(None, moved[:5]))} changed",
            where=f"{BASE_BRANCH} at {main[:12]}",
            hint=RUN_AGAIN,
        )
    return main


def _title(bundle: ProposalBundle, checked: CheckedProposal) -> str:
    what = f"version {checked.release.version}" if checked.new else f"generated files as {BASE_BRANCH} has them"
    return f"{bundle.summary.name}: {what}{RETRAINED if checked.data is not None else ''}"


def _body(bundle: ProposalBundle, branch: str) -> str:
    kept = f"`{branch}` is kept up to date by itself until somebody commits to it. Made of {bundle.summary.head}.\n"
    evidence = bundle.text(EVIDENCE)
    if bundle.summary.data is not None:
        first = (
            "Trained on fresh rows of production. The report is in the comment; merging this releases the model.\n\n"
        )
        return f"{first}{defuse(evidence or '')}\n\n{kept}"
    return (
        f"What is on {BASE_BRANCH} makes a model that production does not serve yet. The report is in the comment, "
        f"and merging this releases the model.\n\n{kept}"
    )


def _applied(  # noqa: PLR0917 - what the outcome says
    outcome: ApplyOutcome,
    bundle: ProposalBundle,
    number: int | None,
    commit: str,
    checked: CheckedProposal,
    release: Release,
) -> ApplyResult:
    return ApplyResult(
        outcome=outcome,
        pull=number,
        commit=commit,
        digest=checked.release.digest if checked.new else None,
        predicate=str(bundle.folder / VERDICT) if checked.judged == release.evidence.gate else None,
    )
