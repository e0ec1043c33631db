"""Decides how a rollout ends, from what the servers say of it and from the labels that came."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from mergeline.documents import Frozen
from mergeline.evaluate.results import GateOutcome
from mergeline.manifest.schema import Manifest
from mergeline.release_params import Rollout
from mergeline.rollout.status import ServerStatus

if TYPE_CHECKING:
    from mergeline.evaluate.results import LabelComparison


class Ending(StrEnum):
    """What there is to do."""

    NOTHING = "nothing"  # no model rolls out
    WAIT = "wait"  # steps are still to come, or the servers have not taken the manifest yet
    FINISH = "finish"  # the candidate may become stable
    ABORT = "abort"  # the candidate is removed, and held
    ATTENTION = "attention"  # a person must decide


class Decision(Frozen):
    """What there is to do, the reason that goes into the manifest and the titles, and a line for each thing seen."""

    ending: Ending
    reason: str
    reasons: tuple[str, ...] = ()


def decide(manifest: Manifest, seen: Sequence[ServerStatus], comparison: LabelComparison | None) -> Decision:
    """What the servers and the labels say of the manifest's rollout.

    One server that failed it is enough to end it; to pass, all of them must have passed. A candidate that has passed
    every step is still aborted where its labels say that it is worse. Where labels of the same requests cannot tell,
    the manifest's `onInconclusive` counts; labels of different requests, a weak test, only take away.

    Args:
        manifest: of the base branch.
        seen: what each server says.
        comparison: None where no labels are read.
    """
    candidate, rollout = manifest.spec.candidate, manifest.spec.rollout
    if candidate is None:
        return Decision(ending=Ending.NOTHING, reason="nothing rolls out")
    if not seen:
        return Decision(ending=Ending.ATTENTION, reason="no server says anything of the rollout")
    reasons = tuple(_reported(one) for one in seen)
    if comparison is not None:
        reasons = (*reasons, f"labels: {comparison.reading}")

    ending, reason = _by_servers(seen)
    if ending is Ending.FINISH and comparison is not None:
        ending, reason = _by_labels(comparison, rollout)
    return Decision(ending=ending, reason=reason, reasons=reasons)


def _by_servers(seen: Sequence[ServerStatus]) -> tuple[Ending, str]:
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


def _by_labels(comparison: LabelComparison, rollout: Rollout) -> tuple[Ending, str]:
    """What there is to do with a candidate that has passed every step."""
    if comparison.outcome is GateOutcome.WORSE:
        return Ending.ABORT, f"worse by its labels: {comparison.reading}"
    if comparison.paired and comparison.outcome is GateOutcome.INCONCLUSIVE:
        ending = Ending.ABORT if rollout.onInconclusive == "rollback" else Ending.ATTENTION
        return ending, f"every step is passed, and the labels cannot tell: {comparison.reading}"
    return Ending.FINISH, "every step is passed"


def _reported(one: ServerStatus) -> str:
    if not one.current:
        return f"{one.where}: another manifest's"
    step = f", {one.step}" if one.step else ""
    return f"{one.where}: {one.phase}{step}{f': {one.reason}' if one.reason else ''}"
