"""What is known of a rollout between two looks at it: its phase, its step, and what was measured and decided."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum

from mergeline.documents import Frozen
from mergeline.files import canonical_json
from mergeline.manifest.schema import Rollout

MOST_DECISIONS = 100
MOST_MEASUREMENTS = 10


class Phase(StrEnum):
    """Where a rollout stands; `failed` is final."""

    PROGRESSING = "progressing"
    PAUSED = "paused"
    PASSED = "passed"
    FAILED = "failed"


class MeasurementOutcome(StrEnum):
    """What one measurement says, with Argo Rollouts' meanings."""

    SUCCESSFUL = "successful"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class DecisionKind(StrEnum):
    """What was decided."""

    STARTED = "started"
    ADVANCED = "advanced"
    PAUSED = "paused"
    RESUMED = "resumed"
    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "taken_off"


class Decision(Frozen):
    """One decision, with the candidate's share of the answers from then on, in percent."""

    at: datetime
    kind: DecisionKind
    step: int
    weight: int
    reason: str


class Measurement(Frozen):
    """One value of one analysis, and what the analysis' bounds make of it."""

    at: datetime
    step: int
    value: float | None
    samples: int
    outcome: MeasurementOutcome
    reason: str


class AnalysisProgress(Frozen):
    """One analysis so far.

    Counts are over the whole rollout; `errors` is how many came one after another. What is measured next is counted
    from `window_since` on; `window` numbers the windows. `settled_step` is the last step that this analysis let go.
    """

    window: int = 0
    window_since: datetime
    settled_step: int = -1
    successful: int = 0
    failed: int = 0
    inconclusive: int = 0
    errors: int = 0
    measurements: tuple[Measurement, ...] = ()


class RolloutState(Frozen):
    """A rollout as it stands; `step` counts from 0.

    `waiting` names the analyses that a pause waits for: they lacked data, and end the pause when they have them. A
    `lasting` pause ends only when the manifest changes.
    """

    identity: str
    candidate: str
    started: datetime
    phase: Phase
    since: datetime
    reason: str
    step: int
    step_since: datetime
    waiting: tuple[str, ...] = ()
    lasting: bool = False
    analyses: dict[str, AnalysisProgress] = {}
    decisions: tuple[Decision, ...] = ()
    decided: dict[DecisionKind, int] = {}


def identity_of(candidate: str, rollout: Rollout) -> str:
    """What makes a rollout this one: the candidate's digest, and every word of the manifest's section `rollout`."""
    content = {"candidate": candidate, "rollout": rollout.model_dump(mode="json")}
    return "sha256:" + hashlib.sha256(canonical_json(content)).hexdigest()


def weight(rollout: Rollout, state: RolloutState) -> int:
    """The share of the requests that the candidate answers, in percent.

    What has passed every step answers all of them: the last stretch before a pull request makes it stable.
    """
    if rollout.strategy != "canary" or state.phase is Phase.FAILED:
        return 0
    return 100 if state.phase is Phase.PASSED else rollout.steps[state.step].weight


def shadow_share(rollout: Rollout, state: RolloutState) -> int:
    """The share of the requests that the candidate scores beside stable, in percent."""
    if rollout.strategy != "shadow" or state.phase is Phase.FAILED:
        return 0
    return rollout.steps[state.step].weight if rollout.steps else 100
