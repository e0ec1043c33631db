"""Proposes a release: reproduces, judges, records, reports, and writes the manifest."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from mergeline.documents import read_text
from mergeline.errors import DigestError, StoreError
from mergeline.evaluate.champion import Judged, judge_work_tree
from mergeline.evaluate.results import named
from mergeline.files import write_json, write_text
from mergeline.home import Home
from mergeline.manifest.edit import promote, starting_text
from mergeline.manifest.schema import GAIN, Evidence, Lineage, Manifest, Release, parse_manifest
from mergeline.manifest.signatures import sign_folder, sign_release, signature_path
from mergeline.manifest.transitions import find_release, refuse_held, releases
from mergeline.model.artifact import MODEL_FOLDER, folder_digest
from mergeline.model.environment import team_package
from mergeline.model.lineage import git_tree, sha256
from mergeline.params import PARAMS_FILE, Params
from mergeline.release.mlflow_client import Worker, early_worker, record, tracking_place
from mergeline.release.proposal import (
    REPORT_FOLDER,
    VERDICT_FILE,
    Base,
    Delivery,
    Proposal,
    ProposalStatus,
    judged_by,
    verdict_digest,
)
from mergeline.release.push import push
from mergeline.release.reproduce import model_source, named_data, reproduce, require_added, restore, resume, snapshot
from mergeline.report.inputs import ReportInput
from mergeline.report.words import headline
from mergeline.report.write import Reports, write_reports
from mergeline.store.objects import configured_store

COMMANDS = ("make install", ".tools/bin/uv run dvc repro --pull", ".tools/bin/uv run mergeline gate")


def propose(
    root: Path, params: Params, base: Base, say: Callable[[str], None], delivery: Delivery | None = None
) -> Proposal:
    """Reproduce the pipeline and propose what it makes.

    A model that the gate rejects, or an error, leaves `dvc.lock`, the manifest and the store as they were; only the
    report is written, and the signatures of what is released already, where the policy asks for them.

    Args:
        root: the repository.
        params: everything that the team tunes.
        base: what production serves.
        say: takes a line for each step.
        delivery: what is done with the model; None does everything.

    Raises:
        DataError: the data folder is not what its `.dvc` file names.
        HoldError: the model is under a hold.
        SignatureError: something must be signed, and cannot be.
        ToolError: a stage failed, or the store took no objects.
        MergelineError: what the stages and the gate raise.
    """
    manifest, delivery = base.manifest, delivery or Delivery()
    lock = Home.at(root).root / "build" / "propose.lock"  # DVC's own lock is the repository's, and does not wait
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock), early_worker(tracking_place(params.tracking, root)) as start_worker:
        require_added(root, params.data.path)
        signed = sign_released(root, params, base, say) if delivery.sign else ()
        before = snapshot(root)
        try:
            say("reproducing the pipeline")
            trains = not _is_released(root, params, manifest)
            if trains:
                resume(root, before)
            reproduce(root, start_worker if delivery.record else None, trains=trains)
            proposal = _propose(root, params, base, manifest, say, delivery, start_worker)
        except BaseException:
            restore(root, before)
            raise
        if not proposal.state.passes:
            restore(root, before)
        elif proposal.state is not ProposalStatus.PROPOSED and delivery.push and snapshot(root) != before:
            push(root, say)
        return replace(proposal, signed=signed)


def _propose(  # noqa: PLR0917 - what `propose` takes, and the worker
    root: Path,
    params: Params,
    base: Base,
    manifest: Manifest,
    say: Callable[[str], None],
    delivery: Delivery,
    start_worker: Callable[[], Worker | None],
) -> Proposal:
    digest, path = folder_digest(root / MODEL_FOLDER), root / base.path
    here = path.read_text(encoding="utf-8") if path.exists() else None
    known = bool(delivery.known) and model_source(root) == delivery.known
    if known and base.holds(digest):
        return Proposal(ProposalStatus.HELD, digest, None)
    base.refuse_held(digest)
    if here is not None and manifest.metadata.name == parse_manifest(here).metadata.name:
        refuse_held(parse_manifest(here), digest)
    text, stable = starting_text(here, base.text), manifest.spec.stable
    candidate = manifest.spec.candidate
    same = known or (candidate is not None and candidate.digest == digest)
    if stable is not None and (stable.digest == digest or (same and not _goes_on(manifest, digest, params))):
        _write_manifest(path, text)
        return Proposal(ProposalStatus.UNCHANGED, stable.digest, stable.version)
    say("judging the model against the champion" if stable else "judging the model; no champion yet")
    worker = start_worker() if delivery.record else None
    judged = judge_work_tree(root, params, manifest)
    version = base.version_for(digest) if judged.verdict.accepted else None
    say("writing the report and recording the run" if delivery.record else "writing the report")
    with ThreadPoolExecutor(1) as beside:
        pushed = beside.submit(push, root, say) if version is not None and delivery.push else None
        notices = (*changed_judge(root, base), *against_the_others(root, params, base, judged))
        reports = write_report(root, params, base, judged, version=version, notices=notices)
        if delivery.record and (warning := _record(root, judged, params, reports, worker)) is not None:
            notices = (*notices, warning)
            reports = write_report(root, params, base, judged, version=version, notices=notices)
        if version is None:
            refused = ProposalStatus.INCONCLUSIVE if judged.verdict.inconclusive else ProposalStatus.REJECTED
            return Proposal(refused, digest, None, judged, reports, notices)
        release = _release(root, params, judged, version, delivery)
        proposed = promote(text, release, params.release.rollout)
        if here is not None and _proposes(here, proposed, release.digest, delivery):
            proposed = here
        if pushed is not None:
            say("putting the model into the store")
            pushed.result()
    _write_manifest(path, proposed)
    return Proposal(ProposalStatus.PROPOSED, digest, version, judged, reports, notices)


def _is_released(root: Path, params: Params, manifest: Manifest) -> bool:
    """Whether a released model was made from the code, data and params that are here; DVC asks for the libraries."""
    here = (
        git_tree(team_package(params.model.factory)),
        named_data(root, params.data.path),
        sha256(params.training_json()),
    )
    made = (one.lineage for one in releases(manifest).values())
    return any(here == (lineage.code, lineage.data, lineage.params) for lineage in made)


def _goes_on(manifest: Manifest, digest: str, params: Params) -> bool:
    """Whether params ask that the candidate goes on in another way, as from a shadow to a canary."""
    candidate = manifest.spec.candidate
    if candidate is None or candidate.digest != digest:
        return False
    return params.release.rollout.strategy == "replace" or manifest.spec.rollout != params.release.rollout


def _proposes(here: str, proposed: str, digest: str, delivery: Delivery) -> bool:
    """Whether the work tree's manifest proposes this release already, on this base."""
    mine, made = parse_manifest(here), parse_manifest(proposed)
    own, new = find_release(mine, digest), find_release(made, digest)
    if own is None or new is None:
        return False
    # The gate's digest holds a measured latency, and the pull request's number comes after: neither is new here.
    # A signature is, but for who cannot sign.
    told: dict[str, object] = {"evidence": own.evidence}
    if not delivery.sign:
        told["signature"] = own.signature
    known = {role: one.model_copy(update=told) if one == new else one for role, one in releases(made).items()}
    return known == releases(mine) and mine.spec.rollout == made.spec.rollout


def _release(root: Path, params: Params, judged: Judged, version: int, delivery: Delivery) -> Release:
    lineage = judged.model.lineage
    names = dict.fromkeys((params.gate.metric, *params.gate.floors, GAIN))
    found = {metric.name: metric.estimate.value for metric in judged.evaluation.metrics}
    comparison = judged.verdict.comparison
    paired = named(comparison.metrics, params.gate.metric) if comparison is not None else None
    found |= {GAIN: paired.gain.value} if paired is not None else {}
    signed = delivery.sign and params.release.signing.policy == "required"
    return Release(
        version=version,
        digest=judged.model.digest,
        source=model_source(root),
        lineage=Lineage(code=lineage.code, data=lineage.data, params=lineage.params, environment=lineage.environment),
        evidence=Evidence(
            pull=delivery.pull,
            metrics={name: round(found[name], 4) for name in names if name in found},
            gate=verdict_digest(judged.verdict),
        ),
        signature=sign_folder(root / MODEL_FOLDER, root, params.release.signing) if signed else None,
    )


def sign_released(root: Path, params: Params, base: Base, say: Callable[[str], None]) -> tuple[int, ...]:
    """Sign the models that the base's manifests name and that have no good signature, if the policy asks for them.

    They were released before it did, or before the key was replaced. One whose bytes cannot be had is passed over.

    Returns:
        The versions of those that were signed.

    Raises:
        SignatureError: there is no private key, or it is not the public key's other half.
    """
    signing, signed = params.release.signing, []
    if signing.policy == "off":
        return ()
    manifests = (base.manifest, *base.others.values())
    for release in {one.digest: one for manifest in manifests for one in releases(manifest).values()}.values():
        path = root / signature_path(release.digest)
        before = path.read_bytes() if path.exists() else b""
        try:
            sign_release(release, root, signing, configured_store(root).fetch_folder)
        except (StoreError, DigestError) as error:
            say(f"warning: version {release.version} is not signed: {error.what}")
            continue
        if path.read_bytes() != before:
            say(f"signed: version {release.version}, which is released already")
            signed.append(release.version)
    return tuple(signed)


def changed_judge(root: Path, base: Base) -> tuple[str, ...]:
    """What a proposal changes of the params that it is judged by, in one sentence; none for a first model."""
    if base.manifest.spec.stable is None or not base.params:
        return ()
    told = judged_by(base.params, read_text(root / PARAMS_FILE))
    return (told,) if told else ()


def against_the_others(root: Path, params: Params, base: Base, judged: Judged) -> tuple[str, ...]:
    """How the model compares with what the environments after the first serve, where that is another model."""
    notices: dict[str, str] = {}
    first = base.manifest.spec.stable
    for environment, manifest in base.others.items():
        stable = manifest.spec.stable
        if first is None or stable is None or stable.digest in (first.digest, judged.verdict.challenger_digest):
            continue
        if stable.digest not in notices:
            verdict = judge_work_tree(root, params, manifest).verdict
            notices[stable.digest] = (
                f"{params.release.environments[0]} serves version {first.version}, and {environment} version "
                f"{stable.version}; against version {stable.version}: {headline(verdict)}"
            )
    return tuple(notices.values())


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


def _record(root: Path, judged: Judged, params: Params, reports: Reports, worker: Worker | None) -> str | None:
    """Record the run; why it was not, where it was not."""
    lineage, told = judged.model.lineage, [*reports, root / VERDICT_FILE]
    folder, verdict = root / MODEL_FOLDER, judged.verdict
    done = record(judged.evaluation, lineage, params, root, folder, verdict=verdict, reports=told, worker=worker)
    return done.warning


def _write_manifest(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
