"""Commits a proposal to its branch, or refuses it and writes nothing.

It runs with the base branch's code. The branch is fetched as git objects, and none of its code is run.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mergeline.ci.apply_commit import Part, Target, put_back
from mergeline.ci.bundle import (
    EVIDENCE,
    LOCK,
    ApplyOutcome,
    ApplyResult,
    ErrorInfo,
    ProposalBundle,
    bundle_folders,
    read_bundle,
    write_outcomes,
)
from mergeline.ci.check_bundle import require_addressee
from mergeline.ci.comment_text import CommentContext, say
from mergeline.errors import BundleError, DocumentError, ForgeError, MergelineError
from mergeline.github.actions import read_job
from mergeline.github.base import BASE_BRANCH, REMOTE, fetch_main, read_environments
from mergeline.github.git import Git
from mergeline.github.git_objects import contains, differing, homes_in, tree_of
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
from mergeline.github.pull_requests import Pulls, PullState
from mergeline.github.sanitize import foreign
from mergeline.home import Home
from mergeline.manifest.schema import parse_manifest
from mergeline.manifest.transitions import find_release
from mergeline.release.inputs import PIPELINE_FILE, compared_files
from mergeline.store.objects import embedded_store

RETRAINING = "retraining"
"""Labels the pull request of a retraining, and names its comment."""
RETRAIN_BRANCH = "retrain/"
"""How the name of its branch begins."""
RETRAINED = ", retrained"
"""How the title of such a pull request ends: its merge is found again by it."""


def apply(root: Path, folder: Path, *, head: str, pull: int | None = None, branch: str = "") -> dict[str, ApplyResult]:
    """Check the proposals in `folder`, commit them at once and push the commit.

    Args:
        root: the home of the proposal; of several, the repository. The base branch is checked out.
        folder: what `mergeline ci bundle` wrote: one bundle, or one for each model.
        head: the commit that the proposals must have been made of.
        pull: the pull request whose branch takes them.
        branch: where there is none, a branch of the automation's own: it is made anew on the base branch, and its
            pull request is opened or updated.

    Returns:
        The outcome of each by its model's name, or an empty one where the folder is a bundle itself; it is also
        written beside the folder. Where one is refused, nothing of any was written anywhere else.
    """
    names = {"": folder}
    try:
        names = bundle_folders(folder)
        bundles = {name: read_bundle(place) for name, place in names.items()}
        for bundle in bundles.values():
            require_addressee(bundle, head, pull)
        applied = _on_branch(root, bundles, head, branch) if pull is None else _on_pull(root, bundles, head, pull)
    except Exception as error:
        # Whoever reads the pull request must hear of it; the traceback of what is no error of ours is for the log.
        outcome = ApplyOutcome.OUTDATED if isinstance(error, OutdatedError) else ApplyOutcome.REFUSED
        applied = dict.fromkeys(names, ApplyResult(outcome=outcome, pull=pull, error=ErrorInfo.of(error)))
        write_outcomes(folder, applied)
        if not isinstance(error, MergelineError):
            raise
        return applied
    write_outcomes(folder, applied)
    return applied


def _on_pull(root: Path, bundles: Mapping[str, ProposalBundle], head: str, number: int) -> dict[str, ApplyResult]:
    """Put them onto the branch of a pull request."""
    git = Git(Home.at(root).root)
    forge = open_forge(git)
    pull = forge.get(number)
    nothing = ApplyResult(outcome=ApplyOutcome.NOTHING, pull=number, commit=None if pull.fork else head)
    results = dict.fromkeys(bundles, nothing)
    if pull.fork:
        return results
    if not any(map(_brings_files, bundles.values())):
        return dict.fromkeys(bundles, put_back(git, bundles, pull, head))
    if pull.base != BASE_BRANCH:
        raise BundleError(
            f"the pull request asks for a merge into {pull.base}, not into {BASE_BRANCH}",
            where=f"pull request {number}",
            hint=f"change its base to {BASE_BRANCH}",
        )
    if pull.state is not PullState.OPEN:
        raise OutdatedError(f"the pull request is {pull.state}", where=f"pull request {number}", hint="open a new one")
    main = fetch_main(git, pull.branch)
    tip = git.run("rev-parse", f"refs/remotes/{REMOTE}/{pull.branch}")
    if git.find(head) is None or not contains(git, tip, head):
        raise OutdatedError("the branch has lost that commit", where=head, hint=RUN_AGAIN)
    if is_own(git, head):
        close_request(forge, pull)  # a person has opened what no workflow may open
    parents = (head,) if contains(git, head, main) else (head, main)
    parts = _parts(root, bundles, main, head)
    tree = merged_with_base(git, main, head, embedded_store(root))
    target = Target(pull.branch, tip, parents, tree, main, number)
    for part in parts.values():
        part.check(target, head, number)
    tree = _draft(parts, target)
    commit, outcome = tip, ApplyOutcome.NOTHING
    if tip != head:
        if not _was_written(git, tip, head, parts, tree):
            raise OutdatedError(
                "somebody pushed to the branch while the proposal was made", where=pull.branch, hint=RUN_AGAIN
            )
    elif tree != tree_of(git, head):
        for part in parts.values():
            part.keep_objects()
        text = message(_title(parts), _made(parts), tree)
        commit, outcome = push(git, pull.branch, tree, parents, text, expected=head), ApplyOutcome.APPLIED
    return results | {name: part.result(outcome, number, commit) for name, part in parts.items()}


def _parts(root: Path, bundles: Mapping[str, ProposalBundle], main: str, head: str) -> dict[str, Part]:
    """The bundles that bring files, each with its home on the base branch, or in the commit that it was made of.

    Raises:
        BundleError: there is no such model.
        OutdatedError: what counts for one of them has changed on the base branch since it was judged.
    """
    here = Home.at(root)
    homes = {"": here, **homes_in(Git(here.root), main), **homes_in(Git(here.root), head)}
    found = {}
    for name, bundle in bundles.items():
        if name not in homes:
            raise BundleError(f"there is no model {name[:100]!r}", where=str(bundle.folder), hint=RUN_AGAIN)
        if _brings_files(bundle):
            found[name] = Part(bundle, homes[name], embedded_store(root))
            _require_unmoved(found[name], main, head)
    return found


def _draft(parts: Mapping[str, Part], target: Target) -> str:
    """The tree with every part in it."""
    for part in parts.values():
        target = replace(target, tree=part.draft(target))
    return target.tree


def _was_written(git: Git, tip: str, head: str, parts: Mapping[str, Part], tree: str) -> bool:
    """Whether an earlier run of the same job put these drafts onto `head`; then its releases take the drafts' place.

    What a gate measures differs each time it measures, so the verdict's digest may be another.
    """
    if git.find(f"{tip}^1") != head:
        return False
    if tree_of(git, tip) == tree:
        return True
    found, manifests = {}, set()
    for name, part in parts.items():
        draft, manifest = part.release, read_environments(git, part.home, tip).path()
        manifests.add(manifest)
        text = git.show(tip, manifest)
        if text is None or not is_own(git, tip):
            return False
        mine = find_release(parse_manifest(text, manifest), draft.digest)
        if mine is None or text.replace(mine.evidence.gate, draft.evidence.gate) != git.show(tree, manifest):
            return False
        found[name] = mine
    # Anybody can write the words by which the automation knows its commits: nothing else may differ in it.
    if not set(differing(git, tip, tree)) <= manifests:
        return False
    for name, part in parts.items():
        part.release = found[name]
    return True


def _on_branch(root: Path, bundles: Mapping[str, ProposalBundle], head: str, branch: str) -> dict[str, ApplyResult]:
    """Put them onto a branch of the automation's own, made anew on the base branch, and open its pull request."""
    git = Git(Home.at(root).root)
    if branch in ("", BASE_BRANCH):
        raise BundleError("no branch of its own is named", where="--branch", hint="name one, as propose/retrain")
    forge = open_forge(git)
    results = {
        name: ApplyResult(outcome=ApplyOutcome.NOTHING, error=_tell_people(forge, bundle, branch, name))
        for name, bundle in bundles.items()
    }
    if not any(map(_brings_files, bundles.values())):
        return results
    main = fetch_main(git)
    if git.find(head) is None or not contains(git, main, head):
        raise BundleError(f"it was not made of a commit of {BASE_BRANCH}", where=head, hint="make it there")
    target = Target(branch, None, (main,), tree_of(git, main), main, None)
    parts = _parts(root, bundles, main, head)
    for part in parts.values():
        part.check(target, head, None)
    if _draft(parts, target) == target.tree:
        return results | {name: ApplyResult(outcome=ApplyOutcome.NOTHING) for name in parts}
    for part in parts.values():
        part.keep_objects()
    labels = [LABEL, RETRAINING] if any(part.checked.data is not None for part in parts.values()) else [LABEL]
    words = Words(branch, _title(parts), _body(parts, branch), _made(parts), labels)
    try:
        tip = own_tip(git, branch, main)
    except PeopleError as error:
        tell_left_alone(forge, branch, error)
        raise

    def draft(number: int | None) -> str:
        return _draft(parts, replace(target, tip=tip, pull=number))

    number: int | None = None
    trouble = None
    try:
        kept = keep_branch(git, forge, main, words, draft)
        outcome = ApplyOutcome.APPLIED if kept.new else ApplyOutcome.NOTHING
        number, commit = kept.pull.number, kept.commit
    except UnopenedError as error:
        outcome, commit, trouble = ApplyOutcome.PUSHED, error.commit, ErrorInfo.of(error)
    return results | {name: part.result(outcome, number, commit, trouble) for name, part in parts.items()}


def tell_left_alone(forge: Pulls, branch: str, error: PeopleError) -> None:
    """Tell the pull request of a branch that it is left to the people who committed to it."""
    pull = forge.find(branch)
    if pull is not None:
        words = f"There is something newer for this branch, and it is left alone: {error.what}.\n\n{error.hint}.\n"
        forge.comment(pull.number, RETRAINING, words)


def _tell_people(forge: Pulls, bundle: ProposalBundle, branch: str, model: str) -> ErrorInfo | None:
    """Tell in an issue that what the base branch makes cannot be released, as there is no pull request to tell.

    Returns:
        Why it could not be told.
    """
    retrained = branch.startswith(RETRAIN_BRANCH)
    short = branch if retrained else f"{branch.rsplit('/', 1)[-1]}{f'-{model}' if model else ''}"
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


def _require_unmoved(part: Part, main: str, head: str) -> None:
    """Check that nothing that counts for a model has changed on the base branch since it was judged.

    Args:
        part: the model's proposal.
        main: the base branch's newest commit.
        head: the commit that the proposal was made of.

    Raises:
        BundleError: it was made against no commit of the base branch.
        OutdatedError: something has changed there.
    """
    git, home, base = part.git, part.home, part.bundle.summary.base
    made_on = git.find(base)
    if made_on is None or not contains(git, main, made_on):
        raise BundleError(
            f"it was made against {base}, which is no commit of {BASE_BRANCH}", where="proposal.json", hint=RUN_AGAIN
        )
    names: tuple[str, ...] = (read_environments(git, home, main, head).path(),)
    try:
        for commit in (main, head):  # a file that only the branch's pipeline reads counts too
            pipeline = git.blob(f"{commit}:{home.path(PIPELINE_FILE)}")
            if pipeline is not None or not home.model:
                names = (*names, *compared_files((pipeline or b"").decode(), home))
    except (DocumentError, UnicodeDecodeError):
        names = ()  # only DVC knows what counts there, so everything does
    moved = differing(git, made_on, main, paths=names)
    if moved:
        raise OutdatedError(
            f"{BASE_BRANCH} moved on since the model was judged: {', '.join(moved[:5])} changed",
            where=f"{BASE_BRANCH} at {main[:12]}",
            hint=RUN_AGAIN,
        )


def _title(parts: Mapping[str, Part]) -> str:
    words = []
    for part in parts.values():
        new, retrained = part.checked.new, RETRAINED if part.checked.data is not None else ""
        what = f"version {part.release.version}" if new else f"generated files as {BASE_BRANCH} has them"
        words.append(f"{part.bundle.summary.name}: {what}{retrained}")
    return ", ".join(words)


def _made(parts: Mapping[str, Part]) -> str:
    return " ".join(part.release.digest for part in parts.values())


def _body(parts: Mapping[str, Part], branch: str) -> str:
    bundle = next(iter(parts.values())).bundle
    kept = f"`{branch}` is kept up to date by itself until somebody commits to it. Made of {bundle.summary.head}.\n"
    evidence = bundle.text(EVIDENCE)
    if bundle.summary.data is not None:
        first = (
            "Trained on fresh rows of production. The report is in the comment; merging this releases the model.\n\n"
        )
        return f"{first}{foreign(evidence or '')}\n\n{kept}"
    return (
        f"What is on {BASE_BRANCH} makes a model that production does not serve yet. The report is in the comment, "
        f"and merging this releases the model.\n\n{kept}"
    )
