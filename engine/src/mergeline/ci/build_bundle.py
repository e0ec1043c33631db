"""Builds a proposal's bundle: reproduces and judges a branch as it would be after its merge."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mergeline.ci.bundle import (
    CARD,
    EVIDENCE,
    LOCK,
    PAGE,
    VERDICT,
    ErrorInfo,
    ProposalSummary,
    read_bundle,
    write_bundle,
)
from mergeline.dataset.partitions import data_digest, list_partitions
from mergeline.errors import BundleError, DataError, DocumentError, ForgeError, MergelineError
from mergeline.github.base import BASE_BRANCH, REMOTE, Environments, read_base, refresh_base
from mergeline.github.effects import merging
from mergeline.github.git import Git
from mergeline.github.git_objects import differing, require_committed
from mergeline.github.merge import merged_with_base
from mergeline.github.served_releases import known_states
from mergeline.home import Home
from mergeline.manifest.schema import Manifest, manifest_path, parse_manifest, read_manifest
from mergeline.manifest.transitions import Change, change_of, find_release
from mergeline.params import PARAMS_FILE, Params, read_params
from mergeline.release.inputs import PIPELINE_FILE, compared_files
from mergeline.release.mlflow_client import URI_VARIABLE
from mergeline.release.proposal import VERDICT_FILE, Delivery, Proposal, ProposalStatus
from mergeline.release.propose import propose
from mergeline.release.reproduce import add, fetch
from mergeline.release.verify import model_in_lock
from mergeline.report.words import headline as headline_of
from mergeline.store.dvc_lock import LOCK_FILE, LockedOutput, locked_outputs, locked_stages, model_object
from mergeline.store.objects import configured_store, embedded_store, new_objects, object_path

Say = Callable[[str], None]
_NO_CHANGE = "no model is changed"
PARTITIONS = "partitions"
"""The folder with fresh partitions, in what a retraining prepares."""
_NO_COMMIT = "0" * 40
_OUTPUTS = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")  # the job's are written once, by the process that it started


@dataclass(frozen=True)
class BundleRequest:
    """What to propose: the commit `head`, against `base`, for the pull request `pull` if there is one.

    `root` is the home whose model is made.

    `ingest` is a folder of partitions that are added to those of the base branch first.
    """

    root: Path
    folder: Path
    head: str
    base: str
    pull: int | None
    ingest: Path | None = None

    @property
    def home(self) -> Home:
        """The home whose model is made."""
        return Home.at(self.root)

    @property
    def git(self) -> Git:
        """The repository."""
        return Git(self.home.root)

    def write(
        self,
        name: str,
        state: ProposalStatus,
        headline: str,
        *,
        report: str | None = None,
        files: Mapping[str, Path | bytes] | None = None,
        **more: Any,
    ) -> ProposalSummary:
        """Write the bundle; returns what `proposal.json` says, with `more` in it."""
        told = {"pull": self.pull, "head": self.head, "base": self.base, "headline": headline[:2000], **more}
        summary = ProposalSummary(name=name, state=state, **told)
        write_bundle(self.folder, summary, report=report, files=files)
        return summary


def build_bundle(  # noqa: PLR0917 - what the verb is given
    root: Path, folder: Path, pull: int | None, base: str | None, say: Say, ingest: Path | None = None
) -> ProposalSummary:
    """Make the proposal of the commit in the work tree, and write its bundle into `folder`, whatever the result.

    A branch that lacks the base branch's newest commit is taken as it would be with that merged in. The work tree
    is restored; nothing is pushed, signed, or stored.

    Args:
        root: the home whose model is made; the repository's tracked files must be as they were committed.
        folder: where to write the bundle; an earlier one there is replaced.
        pull: the pull request that it is made for.
        base: what it is to be merged into; None takes the remote's base branch, freshly fetched.
        say: takes a line for each step.
        ingest: a folder of fresh partitions to add to those of the base branch, which must be checked out.

    Returns:
        The summary in `proposal.json`; an error is the state `failed`.

    Raises:
        BundleError: the folder holds something else than a proposal.
        OSError: it cannot be written.
    """
    request = BundleRequest(root, folder, _NO_COMMIT, _NO_COMMIT, pull, ingest)
    try:
        request = _request(request, base, say)
        return _in_merged_tree(request, say)
    except BundleError:
        raise
    except Exception as error:
        # Whoever reads the pull request must hear of it; the traceback of what is no error of ours is for the log.
        failed = _failed(request, ErrorInfo.of(error))
        if not isinstance(error, MergelineError):
            raise
        return failed


def _request(request: BundleRequest, base: str | None, say: Say) -> BundleRequest:
    git = request.git
    head = git.find("HEAD")
    if head is None:
        raise ForgeError("there is no commit to propose", where=str(request.root), hint="commit what you have changed")
    stale = None if base else refresh_base(request.root)
    if stale:
        say(f"warning: {stale}")
    names = [base] if base else [f"{REMOTE}/{BASE_BRANCH}", BASE_BRANCH]
    found = next(filter(None, map(git.find, names)), None)
    if found is None:
        raise ForgeError(f"there is no {' or '.join(names)}", where=str(request.root), hint=f"git fetch {REMOTE}")
    return replace(request, head=head, base=found)


def _in_merged_tree(request: BundleRequest, say: Say) -> ProposalSummary:
    """Make the proposal, in a process of its own where the base branch is merged in."""
    git = request.git
    tree = merged_with_base(git, request.base, request.head, embedded_store(request.root))
    if not differing(git, tree):
        return _build(request, tree, say)
    require_committed(git, request.head)
    if request.ingest is not None:
        raise ForgeError(
            f"{BASE_BRANCH} moved on since the rows were laid out",
            where=str(request.ingest),
            hint=f"lay them out again on {BASE_BRANCH}'s newest commit: run watch.yml again, or mergeline retrain",
        )
    if differing(git, tree, request.head, paths=["uv.lock"]):
        raise ForgeError(
            f"{BASE_BRANCH} has other libraries in uv.lock than the ones that this branch was installed from",
            where="uv.lock",
            hint=f"merge {BASE_BRANCH} into the branch, and push it",
        )
    say(f"merging {BASE_BRANCH} in: {request.base[:12]}")
    # The merge brings other code too: it runs in a process that has loaded none of the old.
    git.run("read-tree", "-m", "-u", request.head, tree)
    try:
        _failed(request, ErrorInfo(what="the merged code did not run"))
        pull = ["--pull", str(request.pull)] if request.pull else []
        command = ["ci", "bundle", str(request.folder.absolute()), "--base", request.base, *pull]
        subprocess.run(
            [sys.executable, "-m", "mergeline.cli", *command],
            cwd=request.root,
            env={name: value for name, value in os.environ.items() if name not in _OUTPUTS},
            stdout=subprocess.DEVNULL,
            check=False,
        )
    finally:
        git.run("read-tree", "--reset", "-u", request.head)
    return read_bundle(request.folder).summary


def _failed(request: BundleRequest, error: ErrorInfo) -> ProposalSummary:
    try:
        name = read_params(request.root / PARAMS_FILE).name
    except MergelineError:
        name = "unknown"  # params.yaml is what failed, and the error says so
    return request.write(name, ProposalStatus.FAILED, error.what.splitlines()[0], error=error)


def _build(request: BundleRequest, tree: str, say: Say) -> ProposalSummary:
    """Make the proposal of the work tree, whose tracked files are those of `tree`."""
    git, root = request.git, request.root
    params = read_params(root / PARAMS_FILE)
    places = Environments(git, request.home, params.release.environments)
    first = places.names[0]
    base = read_base(root, params.name, request.base, places.names)
    text = places.text(request.base, tree, first)
    here = parse_manifest(text, places.path()) if text else base.manifest
    place = change_of(base.manifest, here, lambda: known_states(places, request.base, params.name, first))
    own = request.head != request.base  # on the base branch itself, its own pending model is what is request for
    if own and place is not Change.OTHER and same_inputs(git, request.home, request.base, tree):
        say(f"no input of the model differs from {BASE_BRANCH}: nothing to reproduce")
        return _unchanged(request, params, base.manifest, here)
    if own and place is Change.ROLLBACK and _locks(request, tree, here):
        say("the branch goes back to a model that was served, with its own inputs: nothing to judge")
        return _unchanged(request, params, base.manifest, here)
    base_lock = (git.blob(f"{request.base}:{request.home.path(LOCK_FILE)}") or b"").decode()
    delivery = Delivery(
        pull=request.pull,
        push=False,
        record=bool(os.environ.get(URI_VARIABLE)),
        sign=False,
        known=model_object(base_lock) if own and place is Change.SAME else "",
    )
    with _with_partitions(request, params, tree, say) as data:
        proposal = propose(root, params, base, say, delivery)
        return _bundle_of(request, params, tree, proposal, data)


@contextlib.contextmanager
def _with_partitions(request: BundleRequest, params: Params, tree: str, say: Say) -> Iterator[str | None]:
    """The work tree with the fresh partitions in it, and the digest of its data then; it is put back afterwards.

    What was made lies in the folder of the proposal, and nowhere else.
    """
    root, added = request.root, []
    try:
        if request.ingest is None:
            yield None
            return
        if request.head != request.base:
            raise BundleError(
                f"fresh rows are taken in on {BASE_BRANCH} alone",
                where=str(request.ingest),
                hint=f"check out {BASE_BRANCH}'s newest commit",
            )
        folder = root / params.data.path
        fetch(root, params.data.path)
        for partition in list_partitions(request.ingest / PARTITIONS):
            target = folder / partition.path.name
            if target.exists():
                raise DataError("the partition is there already", where=str(target), hint="ingest anew")
            added.append(target)
            shutil.copyfile(partition.path, target)
        say(f"taking in {', '.join(path.stem for path in added)}")
        add(root, params.data.path)
        yield data_digest(folder)
    finally:
        for path in added:
            path.unlink(missing_ok=True)
        request.git.run("read-tree", "--reset", "-u", tree)


def same_inputs(git: Git, home: Home, base: str, tree: str) -> bool:
    """Whether the files that decide about the model of a home are those of the base, byte for byte."""
    pipeline = git.blob(f"{tree}:{home.path(PIPELINE_FILE)}")
    try:
        names = compared_files((pipeline or b"").decode(), home)
    except (DocumentError, UnicodeDecodeError):
        return False
    return not differing(git, base, tree, paths=names)


def _locks(request: BundleRequest, tree: str, here: Manifest) -> bool:
    """Whether `dvc.lock` names what the manifest serves, as after a release's commit was reverted with its inputs."""
    lock = model_object((request.git.blob(f"{tree}:{request.home.path(LOCK_FILE)}") or b"").decode())
    return lock in {release.source for release in here.spec.serving}


def _unchanged(request: BundleRequest, params: Params, base: Manifest, here: Manifest) -> ProposalSummary:
    """A branch that changes no model: it may be that what the base branch makes is under a hold."""
    stable, headline = here.spec.stable, merging(base, here, params.release.environments[0])
    digest = model_in_lock(request.root, {release.source: release.digest for release in base.spec.serving})
    held = {hold.digest: hold.reason for hold in (*base.spec.holds, *here.spec.holds)}
    if digest in held:
        headline = f"{headline}; what {BASE_BRANCH} makes is under a hold: {held[digest]}"
        return request.write(params.name, ProposalStatus.HELD, headline, digest=digest)
    served: dict[str, Any] = {"version": stable.version, "digest": stable.digest} if stable else {}
    return request.write(params.name, ProposalStatus.UNCHANGED, headline, **served)


def _bundle_of(
    request: BundleRequest, params: Params, tree: str, proposal: Proposal, data: str | None
) -> ProposalSummary:
    """Write the bundle after a proposal was made in the work tree."""
    root, state = request.root, proposal.state
    headline = headline_of(proposal.judged.verdict) if proposal.judged else _NO_CHANGE
    metrics = _metrics(root / manifest_path(params.release.environments), proposal)
    made: dict[str, Any] = {"version": proposal.version, "digest": proposal.digest, "data": data, "metrics": metrics}
    files: dict[str, Path | bytes] = {}
    report = None
    if request.ingest is not None and (request.ingest / EVIDENCE).exists():
        files[EVIDENCE] = request.ingest / EVIDENCE
    if proposal.reports is not None:
        report = proposal.reports.markdown.read_text(encoding="utf-8")
        files |= {PAGE: proposal.reports.page, CARD: proposal.reports.card, VERDICT: root / VERDICT_FILE}
    generated = [request.home.path(path) for path in (LOCK_FILE, manifest_path(params.release.environments))]
    if state is ProposalStatus.PROPOSED or (state.passes and differing(request.git, tree, paths=generated)):
        lock = (root / LOCK_FILE).read_text(encoding="utf-8")
        files[LOCK] = lock.encode()
        outputs = [*locked_outputs(locked_stages(lock))]
        if data is not None:
            outputs.append(LockedOutput("data", params.data.path, object_path(data.removeprefix("md5:"))))
        found = new_objects(root, outputs, configured_store(root))
        files |= {f"objects/{name}": file for name, file in found.items()}
    return request.write(params.name, state, headline, report=report, files=files, **made)


def _metrics(manifest: Path, proposal: Proposal) -> dict[str, float]:
    """The model's metrics on the holdout, as the manifest that the proposal wrote names them."""
    if proposal.state is not ProposalStatus.PROPOSED:
        return {}
    found = find_release(read_manifest(manifest), proposal.digest)
    return found.evidence.metrics if found else {}
