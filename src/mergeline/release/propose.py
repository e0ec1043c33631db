"""Proposes a release: reproduces, judges, records, reports, and writes the manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from filelock import FileLock

from mergeline.documents import parse
from mergeline.errors import ManifestError
from mergeline.files import canonical_json, write_json, write_text
from mergeline.model.artifact import MODEL_FOLDER, folder_digest
from mergeline.model.lineage import sha256
from mergeline.params import Params
from mergeline.release.edit import promote, with_models_of
from mergeline.release.judge import Judged, judge_work_tree
from mergeline.release.manifest import MANIFEST_FILE, Evidence, Lineage, Manifest, Release
from mergeline.release.mlflow_client import Worker, early_worker, tracking_place
from mergeline.release.reproduce import model_source, push, reproduce, require_added, restore, snapshot
from mergeline.release.sign import sign_folder
from mergeline.release.tracking import record
from mergeline.release.transitions import next_version, refuse_held
from mergeline.report.inputs import ReportInput
from mergeline.report.write import Reports, write_reports

REPORT_FOLDER = Path("report")
VERDICT_FILE = REPORT_FOLDER / "verdict.json"
COMMANDS = ("make install", ".tools/bin/uv run dvc repro --pull", ".tools/bin/uv run mergeline gate")


class State(StrEnum):
    """What a proposal came to."""

    UNCHANGED = "unchanged"
    PROPOSED = "proposed"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Base:
    """What the proposal is made against: the base branch's manifest, and the commit it was read from."""

    text: str
    commit: str | None = None

    @property
    def manifest(self) -> Manifest:
        """The manifest, checked."""
        return parse(self.text, Manifest, f"{MANIFEST_FILE} of the base branch", ManifestError)


@dataclass(frozen=True)
class Proposal:
    """A judged model; `judged` and `reports` are None where the model is the one that is served already."""

    state: State
    digest: str
    version: int | None
    judged: Judged | None = None
    reports: Reports | None = None
    notices: tuple[str, ...] = ()


def propose(root: Path, params: Params, base: Base, say: Callable[[str], None]) -> Proposal:
    """Reproduce the pipeline and propose what it makes.

    A model that the gate rejects, or an error, leaves `dvc.lock`, the manifest and the store as they were;
    only the report is written.

    Args:
        root: the repository.
        params: everything that the team tunes.
        base: what production serves.
        say: takes a line for each step.

    Raises:
        DataError: the data folder is not what its `.dvc` file names.
        HoldError: the model is under a hold.
        ToolError: a stage failed, or the store took no objects.
        MergelineError: what the stages and the gate raise.
    """
    manifest = base.manifest
    (root / "build").mkdir(exist_ok=True)
    with FileLock(root / "build" / "propose.lock"):
        require_added(root, params.data.path)
        before = snapshot(root)
        try:
            say("reproducing the pipeline")
            reproduce(root)
            proposal = _propose(root, params, base, manifest, say)
        except BaseException:
            restore(root, before)
            raise
        if proposal.state is State.REJECTED:
            restore(root, before)
        elif proposal.state is State.UNCHANGED and snapshot(root) != before:
            push(root)
        return proposal


def _propose(root: Path, params: Params, base: Base, manifest: Manifest, say: Callable[[str], None]) -> Proposal:
    digest = folder_digest(root / MODEL_FOLDER)
    refuse_held(manifest, digest)
    text = _starting_text(root, base, manifest)
    if manifest.spec.stable is not None and manifest.spec.stable.digest == digest:
        _write_manifest(root, text)
        return Proposal(State.UNCHANGED, digest, manifest.spec.stable.version)
    say("judging the model against the champion" if manifest.spec.stable else "judging the model; no champion yet")
    with early_worker(tracking_place(params.tracking, root)) as worker:
        judged = judge_work_tree(root, params, manifest)
        version = next_version(manifest) if judged.verdict.accepted else None
        say("writing the report and recording the run")
        reports, notices = _report(root, params, base, judged, version, worker)
    if version is None:
        return Proposal(State.REJECTED, digest, None, judged, reports, notices)
    release = _release(root, params, judged, version)
    proposed = None if _proposes(root, release, manifest) else promote(text, release)
    say("putting the model into the store")
    push(root)
    if proposed is not None:
        _write_manifest(root, proposed)
    return Proposal(State.PROPOSED, digest, version, judged, reports, notices)


def _starting_text(root: Path, base: Base, manifest: Manifest) -> str:
    """The manifest to edit: the work tree's, with what people changed in it, but the base's models."""
    path = root / MANIFEST_FILE
    if not path.exists():
        return base.text
    text = path.read_text(encoding="utf-8")
    here = parse(text, Manifest, str(MANIFEST_FILE), ManifestError)
    first = manifest.spec.previous is None and here.spec.previous is not None
    return base.text if first or here.metadata.name != manifest.metadata.name else with_models_of(text, manifest)


def _proposes(root: Path, release: Release, base: Manifest) -> bool:
    """Whether the work tree's manifest proposes this release already, on this base."""
    path = root / MANIFEST_FILE
    if not path.exists():
        return False
    spec = parse(path.read_text(encoding="utf-8"), Manifest, str(MANIFEST_FILE), ManifestError).spec
    if spec.stable is None or spec.previous != base.spec.stable:
        return False
    # The gate's digest holds a measured latency, and the pull request's number comes after: neither is new here.
    return spec.stable.model_copy(update={"evidence": release.evidence}) == release


def _release(root: Path, params: Params, judged: Judged, version: int) -> Release:
    lineage = judged.model.lineage
    named = dict.fromkeys((params.gate.metric, *params.gate.floors))
    found = {metric.name: metric.estimate.value for metric in judged.evaluation.metrics}
    signed = params.release.signing.policy == "required"
    return Release(
        version=version,
        digest=judged.model.digest,
        source=model_source(root),
        lineage=Lineage(code=lineage.code, data=lineage.data, params=lineage.params, environment=lineage.environment),
        evidence=Evidence(
            metrics={name: round(found[name], 4) for name in named if name in found},
            gate=sha256(canonical_json(judged.verdict.model_dump(mode="json"))),
        ),
        signature=sign_folder(root / MODEL_FOLDER, root, params.release.signing) if signed else None,
    )


def write_report(
    root: Path, params: Params, base: Base, judged: Judged, *, version: int | None, notices: tuple[str, ...] = ()
) -> Reports:
    """Write the reports and the verdict of a judged model into `report/`."""
    write_json(root / VERDICT_FILE, judged.verdict.model_dump(mode="json"))
    subject = ReportInput(
        name=params.name,
        version=version,
        digest=judged.model.digest,
        evaluation=judged.evaluation,
        verdict=judged.verdict,
        gate=params.gate,
        lineage=judged.model.lineage,
        changes=judged.changes,
        base_commit=base.commit,
        commands=COMMANDS,
        notices=notices,
    )
    return write_reports(subject, root / REPORT_FOLDER)


def _report(  # noqa: PLR0917 - what `write_report` takes, and the worker
    root: Path, params: Params, base: Base, judged: Judged, version: int | None, worker: Worker | None
) -> tuple[Reports, tuple[str, ...]]:
    """Write the reports and record the run; a run that was not recorded is told in the reports."""
    reports = write_report(root, params, base, judged, version=version)
    recorded = record(
        judged.evaluation,
        judged.model.lineage,
        params,
        root,
        root / MODEL_FOLDER,
        verdict=judged.verdict,
        reports=[*reports, root / VERDICT_FILE],
        worker=worker,
    )
    if recorded.warning is None:
        return reports, ()
    notices = (recorded.warning,)
    return write_report(root, params, base, judged, version=version, notices=notices), notices


def _write_manifest(root: Path, text: str) -> None:
    path = root / MANIFEST_FILE
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
