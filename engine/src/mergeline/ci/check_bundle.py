"""Checks a proposal's bundle, and computes the manifest that it leads to.

Everything in the bundle was written by a branch's own code. What counts is what can be computed again from the base
branch, the branch's files and the objects' bytes: digest, lineage, version and manifest are. The rest is refused, or
is text for people.
"""

from __future__ import annotations

import functools
import math
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mergeline.ci.bundle import LOCK, PROPOSAL_FILE, REPORT, VERDICT, ProposalBundle, read_object, refusal
from mergeline.documents import parse_json, parse_plain
from mergeline.errors import DocumentError, ModelError
from mergeline.evaluate.results import GateOutcome, GateVerdict, named
from mergeline.manifest import transitions
from mergeline.manifest.edit import promote, starting_text
from mergeline.manifest.schema import GAIN, Evidence, Lineage, Manifest, Release, parse_manifest
from mergeline.manifest.transitions import AT_ONCE, find_release, new_release, same_models, short
from mergeline.model.artifact import LINEAGE_FILE, folder_digest, read_part
from mergeline.model.check import check_model
from mergeline.model.lineage import ModelLineage, flat
from mergeline.release.inputs import require_outputs, stage_definitions
from mergeline.release.proposal import Base, ProposalStatus, verdict_digest
from mergeline.release_params import Rollout
from mergeline.store.dvc_lock import canonical_lock, locked_outputs, locked_stages, model_object, require_commands
from mergeline.store.objects import Read, fetch_folder, listing, object_path, objects_of, require_md5

_STATED = {"task", "data.target", "data.positive", "data.id", "data.time"}
"""Params that say what a model answers, and which of its lineage the signature is compared with."""
_SHOWN = 1e-3
"""Evidence has four decimals of a metric, and a verdict six digits: what is further apart is not the same figure."""


@dataclass(frozen=True)
class Expected:
    """What is known without the bundle.

    `name` is the model's, `base` has the base branch's manifests and `base_model` the object that its lock names;
    `here` and `pipeline` are the manifest and the `dvc.yaml` of the branch with the base merged in. `read` gives an
    object of the branch or of the store, `has` tells whether there is one. `own` says that the automation wrote the
    branch's manifest, from a verdict that it had checked. `rollout` is how a new model takes over, as the branch's
    params say. `data` is the base branch's data, to which fresh rows may be added, and `trained_on` the branch's own.
    `stated` are the branch's params, and `trusted` names the team's types that its model may hold.
    """

    name: str
    head: str
    pull: int | None
    base: Base
    base_model: str
    here: str | None
    pipeline: str
    read: Read
    has: Callable[[str], bool]
    own: bool = False
    rollout: Rollout = AT_ONCE
    data: DataFile | None = None
    trained_on: DataFile | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckedProposal:
    """A proposal that may be committed: `new` says whether it changes what serves, or how a model rolls out.

    `judged` is the digest of the verdict in the bundle, where it brings another model. `data` is the text of the
    data's `.dvc` file, where fresh rows come along.
    """

    release: Release
    manifest: str
    lock: str
    new: bool
    judged: str | None = None
    data: str | None = None


def check_bundle(bundle: ProposalBundle, expected: Expected) -> CheckedProposal:
    """Check a bundle against what is known without it.

    Raises:
        BundleError: it was made for something else, or holds what cannot be.
        MergelineError: what it would do is refused: a hold, a missing object, wrong bytes.
    """
    require_addressee(bundle, expected.head, expected.pull)
    if bundle.summary.name != expected.name:
        raise refusal(f"it is a proposal of {bundle.summary.name}, not of {expected.name}", PROPOSAL_FILE)
    lock = bundle.text(LOCK)
    if lock is None:
        raise refusal(f"there is no {LOCK}", str(bundle.folder))
    stages = locked_stages(lock, LOCK)
    require_commands(stages, stage_definitions(expected.pipeline), LOCK)
    require_outputs(locked_outputs(stages, LOCK), expected.pipeline)
    lock = canonical_lock(lock, LOCK)
    read = read_object(bundle, expected.read)
    data = fresh_data(bundle.summary.data, expected.data, read, bundle.sizes) if bundle.summary.data else None
    _require_objects(bundle, expected, stages, read, data)
    base = expected.base.manifest
    if expected.here is not None:
        parse_plain(expected.here, str(expected.base.path))  # within bounds, before it is read as a manifest
    start = starting_text(expected.here, expected.base.text)
    source = model_object(lock, LOCK)
    if bundle.state is not ProposalStatus.PROPOSED:
        stable = _require_no_new_model(base, source, expected, read)
        if data is not None:
            require_trained_on(data, stages, stable)
        return CheckedProposal(stable, start, lock, new=False, data=data.text if data else None)
    release = _release(bundle, source, read, expected)
    place = data or expected.trained_on
    if place is not None and place.md5:
        require_trained_on(place, stages, release)
    mine, manifest = _with_own_evidence(release, start, base, expected)
    if new_release(base, after := parse_manifest(manifest)) is None and after.spec.rollout == base.spec.rollout:
        raise refusal("the state is proposed, and the base branch has this model already", PROPOSAL_FILE)
    return CheckedProposal(mine, manifest, lock, True, release.evidence.gate, data.text if data else None)


def require_addressee(bundle: ProposalBundle, head: str, pull: int | None) -> None:
    """Check that a proposal was made of the commit `head`, for the pull request `pull` or for none.

    Raises:
        BundleError: it was made for another one.
    """
    summary = bundle.summary
    for what, found, right in (("commit", summary.head, head), ("pull request", summary.pull, pull)):
        if found != right:
            raise refusal(f"it was made for {what} {found}, not for {right}", PROPOSAL_FILE)


def _release(bundle: ProposalBundle, source: str, read: Read, expected: Expected) -> Release:
    """The release of the model that the lock names, which can be served, and which the gate must have accepted."""
    digest, lineage = _model(source, read, expected)
    expected.base.refuse_held(digest)
    gate = _accepting_verdict(bundle, digest, expected)
    evidence = Evidence(pull=expected.pull, metrics=bundle.summary.metrics, gate=gate)
    version = expected.base.version_for(digest)
    return Release(version=version, digest=digest, source=source, lineage=lineage, evidence=evidence)


def _with_own_evidence(release: Release, start: str, base: Manifest, expected: Expected) -> tuple[Release, str]:
    """The release and its manifest; a branch that proposes it already keeps what it says.

    A latency in the verdict differs each time, so the same proposal would be another commit each time. But where the
    release was written on somebody's machine, or typed, nobody here has seen that verdict: this one takes its place.
    """
    here = parse_manifest(expected.here) if expected.here is not None else base
    mine = find_release(here, release.digest)
    if mine is None or expected.here is None or not _promotes(here, base, mine, release, expected.rollout):
        return release, promote(start, release, expected.rollout)
    gate = {"gate": mine.evidence.gate} if expected.own else {}
    if mine.evidence == release.evidence.model_copy(update=gate):
        return mine, expected.here
    mine = mine.model_copy(update={"evidence": release.evidence})
    return mine, promote(expected.here, mine, expected.rollout)


def _promotes(here: Manifest, base: Manifest, mine: Release, release: Release, rollout: Rollout) -> bool:
    """Whether the branch's manifest is the promotion of `release`, but for evidence and signature."""
    same = {"evidence": release.evidence, "signature": release.signature}
    if mine.model_copy(update=same) != release:
        return False
    expected = transitions.promote(base, mine, rollout)
    return same_models(here, expected) and (expected.spec.candidate is None or here.spec.rollout == rollout)


def _require_no_new_model(base: Manifest, source: str, expected: Expected, read: Read) -> Release:
    """The stable release, where the lock names its model, or the one that the base branch's lock names."""
    stable = base.spec.stable
    if stable is None:
        raise refusal("no model is proposed, and none is served yet", PROPOSAL_FILE)
    if source not in {stable.source, expected.base_model}:
        raise refusal(f"dvc.lock names the model {source or 'none'}, the manifest {stable.source}", LOCK)
    if source == stable.source:
        digest, lineage = _model(source, read)
        if (digest, lineage) != (stable.digest, stable.lineage):
            raise refusal(f"the model's digest is {digest}, the manifest says {stable.digest}", LOCK)
    return stable


def _require_objects(
    bundle: ProposalBundle, expected: Expected, stages: Mapping[str, dict[str, Any]], read: Read, data: DataFile | None
) -> None:
    """Every object that the lock names is there with the right bytes, and no other one comes along."""
    for name in bundle.objects:
        require_md5(name, bundle.folder / "objects" / name)
    named = (*objects_of(locked_outputs(stages, LOCK), read), *(data.objects if data else ()))
    own = frozenset(bundle.objects)
    missing = [name for name in named if name not in own and not expected.has(name)]
    if missing:
        raise refusal(f"dvc.lock names objects that are nowhere: {', '.join(missing[:3])}", LOCK)
    for name in sorted(own - set(named)):
        raise refusal("dvc.lock does not name this object", name)


def _model(source: str, read: Read, new: Expected | None = None) -> tuple[str, Lineage]:
    """The digest and the lineage of a stored model, from its bytes; of a new one all that can be checked is."""
    if not source.endswith(".dir"):
        raise refusal(f"dvc.lock names the model {source or 'none'}, which is no folder", LOCK)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        fetch_folder(source, read, folder)
        try:
            own = read_part(folder / LINEAGE_FILE, ModelLineage)
            lineage = Lineage(**{name: getattr(own, name) for name in Lineage.model_fields})
        except (OSError, ValueError, ModelError):
            raise refusal(f"the model has no {LINEAGE_FILE} that can be read", source) from None
        if new is not None:
            check_model(folder, name=new.name, own=new.trusted)
            stated, training = flat(dict(new.stated)), flat(own.training)
            for key in _STATED & stated.keys() & training.keys():
                if stated[key] != training[key]:
                    raise refusal(f"the model was trained for {key} {training[key]}, params say {stated[key]}", source)
        return folder_digest(folder), lineage


def _accepting_verdict(bundle: ProposalBundle, digest: str, expected: Expected) -> str:
    """The digest of the bundle's verdict, by which the gate has accepted the model `digest` beside the stable one."""
    content = bundle.text(VERDICT)
    if content is None or bundle.report is None:
        raise refusal(f"there is no {VERDICT if content is None else REPORT}", str(bundle.folder))
    try:
        verdict = GateVerdict.model_validate(parse_json(content, VERDICT))
    except (ValidationError, DocumentError):
        raise refusal("not the gate's verdict", VERDICT) from None
    if not verdict.accepted or verdict.challenger_digest != digest:
        raise refusal("the gate has not accepted this model", VERDICT)
    metric = str(flat(dict(expected.stated)).get("gate.metric"))
    if wrong := _contradiction(verdict, expected.base.manifest.spec.stable, bundle.summary.metrics, metric):
        raise refusal(f"its verdict is none that the gate gives: {wrong}", VERDICT)
    return verdict_digest(verdict)


def _contradiction(verdict: GateVerdict, stable: Release | None, metrics: Mapping[str, float], gate: str) -> str:
    """What in an accepting verdict is not so, by what else is known; empty where nothing is.

    Args:
        verdict: as the branch's own code gives it.
        stable: what the base branch serves: the one model that it can have been compared with.
        metrics: what the proposal says that the model reaches.
        gate: the metric whose gain the gate judges by.
    """
    compared, outcome = verdict.comparison, verdict.outcome
    if verdict.failures or not outcome.passes:
        return f"it is {outcome}, with {len(verdict.failures)} failed checks, and accepted"
    if (stable is None) != (compared is None) or (outcome is GateOutcome.NO_CHAMPION) != (stable is None):
        return f"it is {outcome}, and {'a' if stable else 'no'} model is served"
    if compared is None or stable is None:
        return ""
    if (compared.champion_digest, compared.outcome) != (stable.digest, outcome):
        return f"compared is {short(compared.champion_digest)[:80]}, and {short(stable.digest)} is served"
    measured = {metric.name: metric.challenger.value for metric in compared.metrics}
    judged = named(compared.metrics, gate)
    measured |= {GAIN: judged.gain.value} if judged is not None else {}
    other = [
        name
        for name, value in metrics.items()
        if name in measured and not math.isclose(value, measured[name], rel_tol=_SHOWN, abs_tol=_SHOWN)
    ]
    if judged is None:
        other = [f"{gate[:80]}, by which it compares nothing"]
    if other or not metrics.keys() & measured.keys():
        return f"the proposal says other metrics: {', '.join(other) or 'none of those that were compared'}"
    return ""


MAX_NEW = 100
"""Partitions that one retraining may bring: it makes two."""
_PARTITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,80}\.parquet")
_DATA_AGAIN = "run watch.yml again: the retraining is made anew"


_data_refusal = functools.partial(refusal, hint=_DATA_AGAIN)


@dataclass(frozen=True)
class DataFile:
    """DVC's file beside the data: the data's path, and the file's text; with fresh rows also the objects behind it."""

    path: str
    text: str
    objects: tuple[str, ...] = ()

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """What it names."""
        outs = parse_plain(self.text, f"{self.path}.dvc").get("outs")
        return [out if isinstance(out, dict) else {} for out in outs] if isinstance(outs, list) else []

    @property
    def md5(self) -> str:
        """The digest of the data; empty where it names no folder."""
        md5 = str(self.outputs[0].get("md5", "")) if self.outputs else ""
        return md5 if md5.endswith(".dir") else ""


def fresh_data(digest: str, base: DataFile | None, read: Read, sizes: Mapping[str, int]) -> DataFile:
    """The data that a proposal would make of the base branch's.

    Partitions may come, and all of them after those that are there; none may change or go. The file's text is worked
    out from the base's: nothing of it is taken from the proposal but the digest.

    Args:
        digest: of the data folder, as `md5:….dir`.
        base: the base branch's; None where nothing may be brought.
        read: gives an object of the proposal or of the store.
        sizes: of the proposal's files, in bytes.

    Raises:
        BundleError: it changes more than that.
        StoreError: a listing is not there, or is not one.
    """
    md5 = digest.removeprefix("md5:")
    if base is None:
        raise _data_refusal("fresh data come on a branch of the automation's own alone", PROPOSAL_FILE)
    old = base.outputs[0] if len(base.outputs) == 1 else {}
    if old.get("path") != base.path.rsplit("/", 1)[-1] or not base.md5:
        raise _data_refusal(f"{base.path}.dvc does not name one folder", f"{base.path}.dvc")
    before = dict(listing(object_path(base.md5), read))
    after = dict(listing(object_path(md5), read))
    new = sorted(after.keys() - before.keys())
    changed = sorted(path for path, found in before.items() if after.get(path) != found)
    newest = max((path.rsplit(".", 1)[0] for path in before), default="")
    if changed:
        raise _data_refusal(f"it changes or takes away {changed[0][:200]}", base.path)
    if not new or len(new) > MAX_NEW:
        raise _data_refusal(f"it brings {len(new)} partitions", base.path)
    for path in new:
        if not _PARTITION.fullmatch(path) or path.removesuffix(".parquet") <= newest:
            raise _data_refusal(f"{path[:200]!r} is no partition that comes after {newest}", base.path)
    brought = [f"objects/{object_path(after[path])}" for path in new]
    if not all(name in sizes for name in brought):
        raise _data_refusal("a new partition is not in the proposal", base.path)
    size = int(old.get("size", 0)) + sum(sizes[name] for name in brought)
    text = _edited(base, {"md5": md5, "size": str(size), "nfiles": str(len(after))})
    return DataFile(base.path, text, (object_path(md5), *map(object_path, after.values())))


def require_trained_on(data: DataFile, stages: Mapping[str, Mapping[str, Any]], release: Release) -> None:
    """Check that the lock and the model's lineage name these data.

    Raises:
        BundleError: one of them names others.
    """
    refused = _data_refusal if data.objects else refusal
    for name, stage in stages.items():
        deps = stage.get("deps") or ()
        found = [dep.get("md5") for dep in deps if isinstance(dep, Mapping) and dep.get("path") == data.path]
        if any(md5 != data.md5 for md5 in found):
            raise refused(f"stage {name} was run on other data", LOCK)
    if release.lineage.data != f"md5:{data.md5}":
        raise refused(f"the model was trained on {release.lineage.data}, and not on {data.path}.dvc", LOCK)


def _edited(base: DataFile, values: Mapping[str, str]) -> str:
    """The base's text with other values of some keys of its one output."""
    text = base.text
    for key, value in values.items():
        text, count = re.subn(rf"^(- |  ){key}: .*$", rf"\g<1>{key}: {value}", text, flags=re.MULTILINE)
        if count != 1 and key != "size":
            raise _data_refusal(f"{base.path}.dvc is laid out in another way than DVC does", f"{base.path}.dvc")
    return text
