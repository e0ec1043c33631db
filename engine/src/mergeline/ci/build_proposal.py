"""Makes the proposal of a work tree that holds a branch with the base branch merged in."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mergeline.ci.bundle import CARD, EVIDENCE, LOCK, MANIFEST, PAGE, VERDICT, HandedState, Handover, Trouble
from mergeline.dataset.partitions import data_digest, list_partitions
from mergeline.documents import parse
from mergeline.errors import DataError, DocumentError, HandoverError, ManifestError
from mergeline.evaluate.results import GateOutcome
from mergeline.github.base import BASE_BRANCH, read_base
from mergeline.github.git import Git
from mergeline.github.served_releases import known_releases
from mergeline.manifest.change import Change, change_of, model_in_lock
from mergeline.manifest.schema import MANIFEST_FILE, Manifest
from mergeline.params import PARAMS_FILE, Params, read_params
from mergeline.release.inputs import PIPELINE_FILE, compared_files
from mergeline.release.mlflow_client import URI_VARIABLE
from mergeline.release.proposal import VERDICT_FILE, Base, Delivery, Proposal, State
from mergeline.release.propose import propose
from mergeline.release.reproduce import add, fetch
from mergeline.report.verdict_words import headline as headline_of
from mergeline.store.dvc_lock import LOCK_FILE, LockedOutput, locked_outputs, locked_stages, model_object
from mergeline.store.new_objects import new_objects
from mergeline.store.objects import configured_store, object_path

Say = Callable[[str], None]
_GENERATED = (LOCK_FILE.as_posix(), MANIFEST_FILE.as_posix())
_NO_CHANGE = "no model is changed"
PARTITIONS = "partitions"
"""The folder with fresh partitions, in what a retraining hands on."""


@dataclass(frozen=True)
class Made:
    """What was made of a branch: what `proposal.json` says, the report, and the other files of the folder."""

    proposal: Handover
    report: str | None
    files: dict[str, Path | bytes]


@dataclass(frozen=True)
class Asked:
    """Which proposal is asked for: of the commit `head`, against `base`, for a pull request if it has one.

    `ingest` is a folder of partitions that are put beside those of the base branch first.
    """

    root: Path
    folder: Path
    head: str
    base: str
    pull: int | None
    ingest: Path | None = None


def make(asked: Asked, tree: str, say: Say) -> Made:
    """Make the proposal of the work tree, whose tracked files are those of `tree`."""
    git, root = Git(asked.root), asked.root
    params = read_params(root / PARAMS_FILE)
    base = read_base(root, params.name, asked.base)
    text = git.blob(f"{tree}:{MANIFEST_FILE.as_posix()}")
    here = parse(text.decode(), Manifest, str(MANIFEST_FILE), ManifestError) if text else base.manifest
    place = change_of(base.manifest, here, lambda: known_releases(git, asked.base, params.name))
    own = asked.head != asked.base  # on the base branch itself, its own pending model is what is asked for
    if own and place is not Change.OTHER and _same_inputs(git, asked.base, tree):
        say(f"no input of the model differs from {BASE_BRANCH}: nothing to reproduce")
        return _unchanged(asked, params, base.manifest, here)
    if own and place is Change.ROLLBACK and _locks(git, tree, here):
        say("the branch goes back to a model that was served, with its own inputs: nothing to judge")
        return _unchanged(asked, params, base.manifest, here)
    base_lock = (git.blob(f"{asked.base}:{LOCK_FILE.as_posix()}") or b"").decode()
    delivery = Delivery(
        pull=asked.pull,
        push=False,
        record=bool(os.environ.get(URI_VARIABLE)),
        sign=False,
        known=model_object(base_lock) if own and place is Change.SAME else "",
    )
    with _taken_in(asked, params, tree, say) as data:
        proposal = propose(root, params, Base(base.text, asked.base), say, delivery)
        return _handed(asked, params, tree, proposal, data)


@contextlib.contextmanager
def _taken_in(asked: Asked, params: Params, tree: str, say: Say) -> Iterator[str | None]:
    """The work tree with the fresh partitions in it, and the digest of its data then; it is put back afterwards.

    What was made lies in the folder of the proposal, and nowhere else.
    """
    root, added = asked.root, []
    try:
        if asked.ingest is None:
            yield None
            return
        if asked.head != asked.base:
            raise HandoverError(
                f"fresh rows are taken in on {BASE_BRANCH} alone",
                where=str(asked.ingest),
                hint=f"check out {BASE_BRANCH}'s newest commit",
            )
        folder = root / params.data.path
        fetch(root, params.data.path)
        for partition in list_partitions(asked.ingest / PARTITIONS):
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
        Git(root).run("read-tree", "--reset", "-u", tree)


def _same_inputs(git: Git, base: str, tree: str) -> bool:
    """Whether the files that decide about the model are those of the base, byte for byte."""
    pipeline = git.blob(f"{tree}:{PIPELINE_FILE}")
    try:
        names = compared_files((pipeline or b"").decode())
    except (DocumentError, UnicodeDecodeError):
        return False
    return not differing(git, base, tree, paths=names)


def _locks(git: Git, tree: str, here: Manifest) -> bool:
    """Whether `dvc.lock` names the stable model, as after a release's commit was reverted with its inputs."""
    lock = git.blob(f"{tree}:{LOCK_FILE.as_posix()}") or b""
    return here.spec.stable is not None and model_object(lock.decode()) == here.spec.stable.source


def _unchanged(asked: Asked, params: Params, base: Manifest, here: Manifest) -> Made:
    """A branch that changes no model: it may be that what the base branch makes is under a hold."""
    was, stable = base.spec.stable, here.spec.stable
    headline = _NO_CHANGE
    candidate = base.spec.candidate
    if candidate is not None and stable == candidate:
        headline = f"{_NO_CHANGE}: version {stable.version}, which rolls out, becomes stable"
    elif candidate is not None and here.spec.candidate is None:
        headline = f"{_NO_CHANGE}: version {candidate.version}, which rolls out, is taken off"
    elif was is not None and stable is not None and was.digest != stable.digest:
        headline = f"takes version {was.version} off, and goes back to version {stable.version}"
    digest = model_in_lock(asked.root, {release.source: release.digest for release in (was, candidate) if release})
    held = {hold.digest: hold.reason for hold in (*base.spec.holds, *here.spec.holds)}
    if digest in held:
        headline = f"{headline}; what {BASE_BRANCH} makes is under a hold: {held[digest]}"
        return Made(told(asked, params.name, HandedState.HELD, digest=digest, headline=headline[:2000]), None, {})
    words = told(
        asked,
        params.name,
        HandedState.UNCHANGED,
        version=stable.version if stable else None,
        digest=stable.digest if stable else None,
        headline=headline,
    )
    return Made(words, None, {})


def _handed(asked: Asked, params: Params, tree: str, proposal: Proposal, data: str | None) -> Made:
    """The folder's contents after a proposal was made in the work tree."""
    root, state = asked.root, _state(proposal)
    headline = headline_of(proposal.judged.verdict) if proposal.judged else _NO_CHANGE
    words = told(asked, params.name, state, version=proposal.version, digest=proposal.digest, headline=headline[:2000])
    words = words.model_copy(update={"data": data})
    files: dict[str, Path | bytes] = {}
    report = None
    if asked.ingest is not None and (asked.ingest / EVIDENCE).exists():
        files[EVIDENCE] = asked.ingest / EVIDENCE
    if proposal.reports is not None:
        report = proposal.reports.markdown.read_text(encoding="utf-8")
        files |= {PAGE: proposal.reports.page, CARD: proposal.reports.card, VERDICT: root / VERDICT_FILE}
    if state is HandedState.PROPOSED or (state.passes and differing(Git(root), tree, paths=_GENERATED)):
        lock = (root / LOCK_FILE).read_text(encoding="utf-8")
        stages = locked_stages(lock)
        files |= {LOCK: lock.encode(), MANIFEST: (root / MANIFEST_FILE).read_bytes()}
        outputs = [*locked_outputs(stages)]
        if data is not None:
            outputs.append(LockedOutput("data", params.data.path, object_path(data.removeprefix("md5:"))))
        found = new_objects(root, stages, outputs, configured_store(root))
        files |= {f"objects/{name}": file for name, file in found.items()}
    return Made(words, report, files)


def _state(proposal: Proposal) -> HandedState:
    if proposal.state is State.REJECTED and proposal.judged is not None:
        inconclusive = proposal.judged.verdict.outcome is GateOutcome.INCONCLUSIVE
        return HandedState.INCONCLUSIVE if inconclusive else HandedState.REJECTED
    return HandedState(proposal.state.value)


def told(
    asked: Asked,
    name: str,
    state: HandedState,
    *,
    version: int | None = None,
    digest: str | None = None,
    headline: str = "",
    error: Trouble | None = None,
) -> Handover:
    """What `proposal.json` says of the proposal that was asked for."""
    return Handover(
        name=name,
        state=state,
        pull=asked.pull,
        head=asked.head,
        base=asked.base,
        version=version,
        digest=digest,
        headline=headline,
        error=error,
    )


def differing(git: Git, *trees: str, paths: Sequence[str] = ()) -> tuple[str, ...]:
    """The tracked paths, of all or of some, that differ between two trees, or between one and the work tree."""
    out = git.run("diff", "--name-only", "--no-renames", "-z", *trees, "--", *paths)
    return tuple(path for path in out.split("\0") if path)
