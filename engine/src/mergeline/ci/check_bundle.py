"""Checks a proposal that was handed over, before any of it is written down.

Everything in the folder was written by a branch's own code. What counts is what can be worked out again from the
base branch, the branch's files and the objects' bytes; the rest is refused, or is text for people.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mergeline.ci.bundle import LOCK, MANIFEST, REPORT, RUN_AGAIN, VERDICT, HandedState, Parcel
from mergeline.ci.check_bundle_data import DataFile, FreshData, fresh_data, require_trained_on
from mergeline.documents import parse, parse_plain
from mergeline.errors import HandoverError, ManifestError
from mergeline.evaluate.results import GateVerdict
from mergeline.manifest import transitions
from mergeline.manifest.edit import promote, starting_text
from mergeline.manifest.schema import Lineage, Manifest, Release, Rollout
from mergeline.manifest.transitions import AT_ONCE, new_release, same_models, version_for
from mergeline.model.artifact import LINEAGE_FILE, folder_digest
from mergeline.model.lineage import ModelLineage
from mergeline.release.inputs import pipeline_stages
from mergeline.release.proposal import verdict_digest
from mergeline.store.dvc_lock import locked_outputs, locked_stages, model_object
from mergeline.store.new_objects import require_run_entry, run_entries
from mergeline.store.objects import (
    Read,
    fetch_folder,
    objects_of,
    overlaid,
    require_md5,
)


@dataclass(frozen=True)
class Known:
    """What is known without the folder.

    `name` is the model's, `base` the base branch's manifest and `base_model` the object that its lock names; `here`
    and `pipeline` are the manifest and the `dvc.yaml` of the branch with the base merged in. `read` gives an object
    of the branch or of the store, `has` tells whether there is one. `own` says that the automation wrote the branch's
    manifest, from a verdict that it had checked. `rollout` is how a new model takes over, as the branch's params say.
    `data` is the base branch's data, where fresh rows may come beside it.
    """

    name: str
    head: str
    pull: int | None
    base: str
    base_model: str
    here: str | None
    pipeline: str
    read: Read
    has: Callable[[str], bool]
    own: bool = False
    rollout: Rollout = AT_ONCE
    data: DataFile | None = None


@dataclass(frozen=True)
class Examined:
    """A proposal that may be written down: `new` says whether it changes what serves, or how a model rolls out.

    `judged` is the digest of the verdict in the folder, where it brings another model. `data` is the text of the data's
    `.dvc` file, where fresh rows come along.
    """

    release: Release
    manifest: str
    lock: str
    new: bool
    judged: str | None = None
    data: str | None = None


def examine(parcel: Parcel, known: Known) -> Examined:
    """Check a proposal against what is known.

    Raises:
        HandoverError: it is another one's, or says what cannot be.
        MergelineError: what it would do cannot be done: a hold, a missing object, wrong bytes, a taken version.
    """
    require_addressee(parcel, known.head, known.pull)
    if parcel.proposal.name != known.name:
        raise _refusal(f"it is a proposal of {parcel.proposal.name}, not of {known.name}", "proposal.json")
    lock, manifest = parcel.text(LOCK), parcel.text(MANIFEST)
    if lock is None or manifest is None:
        raise _refusal("dvc.lock or the manifest is missing", str(parcel.folder))
    release, new = _released(parcel, known, manifest)
    stages = locked_stages(lock, LOCK)
    foreign = sorted({name.partition("@")[0] for name in stages} - pipeline_stages(known.pipeline))
    if foreign:
        raise _refusal(f"the branch's dvc.yaml has no stage {', '.join(foreign)[:200]}", LOCK)
    read = overlaid(parcel, known.read)
    data = fresh_data(parcel.proposal.data, known.data, read, parcel.sizes) if parcel.proposal.data else None
    if data is not None:
        require_trained_on(data, stages, release)
    _require_objects(parcel, known, stages, read, data)
    source = model_object(lock, LOCK)
    if source != release.source and (new or source != known.base_model):
        raise _refusal(f"dvc.lock names the model {source or 'none'}, the manifest {release.source}", LOCK)
    if source == release.source:
        _require_model(release, read)
    judged = _require_verdict(parcel, release) if new else None
    if judged is not None and judged != release.evidence.gate:
        if manifest != known.here:
            raise _refusal("the evidence names another verdict of the gate", MANIFEST)
        if not known.own:
            # Made on somebody's machine, or typed: what was judged there nobody here has seen.
            evidence = release.evidence.model_copy(update={"gate": judged, "pull": known.pull})
            release = release.model_copy(update={"evidence": evidence})
            manifest = promote(manifest, release, known.rollout)
    return Examined(release, manifest, lock, new, judged, data.text if data else None)


def require_addressee(parcel: Parcel, head: str, pull: int | None) -> None:
    """Check that a proposal was made of the commit `head`, for the pull request `pull` or for none.

    Raises:
        HandoverError: it was made for another one.
    """
    told = parcel.proposal
    for what, found, right in (("commit", told.head, head), ("pull request", told.pull, pull)):
        if found != right:
            raise _refusal(f"it was made for {what} {found}, not for {right}", "proposal.json")


def _released(parcel: Parcel, known: Known, text: str) -> tuple[Release, bool]:
    """The release that the handed manifest is about, and whether anything changes by it in what serves.

    The manifest must be, to the byte, what promoting this one release makes of the branch's; or the branch's own.
    """
    for yaml in (text, known.here or text):
        parse_plain(yaml, MANIFEST)  # within bounds, before it is read as a manifest
    manifest = parse(text, Manifest, MANIFEST, ManifestError)
    base = parse(known.base, Manifest, "manifest of the base branch", ManifestError)
    if manifest.metadata.name != known.name:
        raise _refusal(f"the manifest is that of {manifest.metadata.name}, not of {known.name}", MANIFEST)
    if manifest.spec.stable is None:
        raise _refusal("the manifest serves nothing", MANIFEST)
    start = starting_text(known.here, known.base)
    release = new_release(base, manifest)
    if release is None and manifest.spec.candidate is not None and manifest.spec.rollout != base.spec.rollout:
        release = manifest.spec.candidate  # the same model, that goes on in another way
    if (release is not None) != (parcel.state is HandedState.PROPOSED):
        raise _refusal(f"the state is {parcel.state}, and the manifest says otherwise", MANIFEST)
    if release is None:
        if text != start:
            raise _refusal("the manifest is not the base branch's", MANIFEST)
        return manifest.spec.stable, False
    version = version_for(base, release.digest)
    if release.version != version:
        raise _refusal(f"the version is {release.version}, the next one is {version}", MANIFEST)
    settled = text == known.here and _is_promotion(base, manifest, release, known.rollout)
    if not settled and (text != promote(start, release, known.rollout) or release.evidence.pull != known.pull):
        raise _refusal("the manifest says more than the promotion of one release would", MANIFEST)
    return release, True


def _is_promotion(base: Manifest, manifest: Manifest, release: Release, rollout: Rollout) -> bool:
    expected = transitions.promote(base, release, rollout)
    candidates = expected.spec.candidate is None or manifest.spec.rollout == expected.spec.rollout
    return same_models(manifest, expected) and candidates


def _require_objects(
    parcel: Parcel, known: Known, stages: Mapping[str, dict[str, Any]], read: Read, data: FreshData | None
) -> None:
    """Every object that the lock names is there with the right bytes, and no other one comes along."""
    for name in parcel.objects:
        if name.startswith("files/"):
            require_md5(name, parcel.folder / "objects" / name)
    named = (*objects_of(locked_outputs(stages, LOCK), read), *(data.objects if data else ()))
    own, entries = frozenset(parcel.objects), run_entries(stages)
    missing = [name for name in named if name not in own and not known.has(name)]
    if missing:
        raise _refusal(f"dvc.lock names objects that are nowhere: {', '.join(missing[:3])}", LOCK)
    for name in sorted(own - set(named)):
        if name.startswith("files/"):
            raise _refusal("dvc.lock does not name this object", name)
        require_run_entry(name, parcel.text(f"objects/{name}") or "", entries)


def _require_model(release: Release, read: Read) -> None:
    """The model's bytes have the digest and the origin that the manifest gives them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        fetch_folder(release.source, read, folder)
        found = folder_digest(folder)
        if found != release.digest:
            raise _refusal(f"the model's digest is {found}, the manifest says {release.digest}", MANIFEST)
        try:
            own = ModelLineage.model_validate_json((folder / LINEAGE_FILE).read_bytes())
        except (OSError, ValueError):
            raise _refusal(f"the model has no {LINEAGE_FILE} that can be read", release.source) from None
    wrong = [key for key in Lineage.model_fields if getattr(own, key) != getattr(release.lineage, key)]
    if wrong:
        raise _refusal(f"the manifest's lineage is not the model's own in {', '.join(wrong)}", MANIFEST)


def _require_verdict(parcel: Parcel, release: Release) -> str:
    """The gate has accepted this model; returns the verdict's digest.

    A branch that proposes the model already names the verdict of the first time: a latency in it differs each time.
    """
    content = parcel.text(VERDICT)
    if content is None or parcel.report is None:
        raise _refusal(f"there is no {VERDICT if content is None else REPORT}", str(parcel.folder))
    try:
        verdict = GateVerdict.model_validate_json(content)
    except (ValidationError, ValueError):
        raise _refusal("not the gate's verdict", VERDICT) from None
    if not verdict.accepted or verdict.challenger_digest != release.digest:
        raise _refusal("the gate has not accepted this model", VERDICT)
    return verdict_digest(verdict)


def _refusal(what: str, where: str) -> HandoverError:
    return HandoverError(f"the proposal is refused: {what}", where=where, hint=RUN_AGAIN)
