"""Decides how a rollout ends, from what the servers say of it and from the labels that came."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from mergeline.documents import Frozen
from mergeline.evaluate.results import GateOutcome
from mergeline.manifest.schema import Manifest, Rollout
from mergeline.rollout.status import Seen
from mergeline.watch.label_comparison import LabelComparison


class Ending(StrEnum):
    """What there is to do."""

    NOTHING = "nothing"  # no model rolls out
    WAIT = "wait"  # steps are still to come, or the servers have not taken the manifest yet
    FINISH = "finish"  # the candidate may become stable
    ABORT = "abort"  # the candidate is taken off, and held
    ATTENTION = "attention"  # it goes on by no machine's decision


class Conclusion(Frozen):
    """What there is to do, the reason that goes into the manifest and the titles, and a line for each thing seen."""

    ending: Ending
    reason: str
    reasons: tuple[str, ...] = ()


def decide(manifest: Manifest, seen: Sequence[Seen], labels: LabelComparison | None) -> Conclusion:
    """What the servers and the labels say of the manifest's rollout.

    One server that failed it is enough to end it; to pass, all of them must have passed. A candidate that has passed
    every step is still taken off where its labels say that it is worse. Where labels of the same requests cannot tell,
    the manifest's `onInconclusive` counts; labels of different requests, a weak test, only take away.

    Args:
        manifest: of the base branch.
        seen: what each server says.
        labels: None where no labels are looked at.
    """
    candidate, rollout = manifest.spec.candidate, manifest.spec.rollout
    if candidate is None:
        return Conclusion(ending=Ending.NOTHING, reason="nothing rolls out")
    if not seen:
        return Conclusion(ending=Ending.ATTENTION, reason="no server says anything of the rollout")
    reasons = tuple(_told(one) for one in seen)
    if labels is not None:
        reasons = (*reasons, f"labels: {labels.reading}")

    ending, reason = _by_servers(seen)
    if ending is Ending.FINISH and labels is not None:
        ending, reason = _by_labels(labels, rollout)
    return Conclusion(ending=ending, reason=reason, reasons=reasons)


def _by_servers(seen: Sequence[Seen]) -> tuple[Ending, str]:
    """What there is to do as far as the servers know."""
    failed = [one for one in seen if one.current and one.phase == "failed"]
    behind = [one for one in seen if not one.current]
    stuck = [one for one in seen if one.phase in {"paused", "refused"}]
    going = [one for one in seen if one.phase != "passed"]
    if failed:
        return Ending.ABORT, failed[0].reason or "the rollout failed"
    if behind:
        return Ending.WAIT, f"{behind[0].where} does not roll out what the manifest asks for yet"
    if stuck:
        return Ending.ATTENTION, f"{stuck[0].phase}: {stuck[0].reason or 'no reason given'}"
    if going:
        return Ending.WAIT, f"{going[0].phase or 'not begun'}{f', {going[0].step}' if going[0].step else ''}"
    return Ending.FINISH, "every step is passed"


def _by_labels(labels: LabelComparison, rollout: Rollout) -> tuple[Ending, str]:
    """What there is to do with a candidate that has passed every step."""
    if labels.outcome is GateOutcome.WORSE:
        return Ending.ABORT, f"worse by its labels: {labels.reading}"
    if labels.paired and labels.outcome is GateOutcome.INCONCLUSIVE:
        ending = Ending.ABORT if rollout.onInconclusive == "rollback" else Ending.ATTENTION
        return ending, f"every step is passed, and the labels cannot tell: {labels.reading}"
    return Ending.FINISH, "every step is passed"


def _told(one: Seen) -> str:
    if not one.current:
        return f"{one.where}: another manifest's"
    step = f", {one.step}" if one.step else ""
    return f"{one.where}: {one.phase}{step}{f': {one.reason}' if one.reason else ''}"
