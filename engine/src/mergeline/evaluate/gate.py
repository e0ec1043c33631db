"""Decides whether a model may be proposed: by the champion of the base branch, and by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergeline.errors import DataError, ModelError
from mergeline.evaluate import checks
from mergeline.evaluate.checks import GateFinding, Served, how_served, single_row_ms
from mergeline.evaluate.compare import align, compare
from mergeline.evaluate.evaluate import make_curves
from mergeline.evaluate.results import (
    Evaluation,
    GateOutcome,
    GateVerdict,
    Holdout,
    Status,
    StressResult,
)
from mergeline.evaluate.scoring import Scored, score
from mergeline.evaluate.stress import stress_holdout
from mergeline.model.artifact import LoadedModel
from mergeline.params import Params

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Champion:
    """What production serves; `model` is None where it cannot be loaded, and `unreadable` says why."""

    model: LoadedModel | None
    version: int
    digest: str
    unreadable: str = ""


def judge(  # noqa: PLR0917 - a champion beside a challenger, an evaluation beside its rows: the order reads itself
    challenger: LoadedModel,
    champion: Champion | None,
    evaluation: Evaluation,
    frame: pd.DataFrame,
    holdout: Holdout,
    params: Params,
) -> GateVerdict:
    """Score both models on the holdout, time the challenger, and decide.

    Args:
        challenger: the model that is judged.
        champion: what production serves, None where it serves nothing.
        evaluation: what was measured of the challenger on this holdout.
        frame: the holdout rows.
        holdout: what these rows are.
        params: what the model must show.

    Raises:
        DataError: the evaluation is of other rows, or a slice column does not exist.
        ModelError: the evaluation is of another model, or the challenger's scores are no scores.
    """
    if evaluation.digest != challenger.digest:
        raise ModelError(
            f"the evaluation is of {evaluation.digest[:19]}…, not of {challenger.digest[:19]}…",
            where="evaluation.json",
            hint="evaluate the model again: dvc repro",
        )
    if evaluation.holdout.digest != holdout.digest:
        raise DataError("the evaluation is of other rows", where="evaluation.json", hint="evaluate again: dvc repro")
    finding = find(challenger, champion, frame, holdout, params)
    return decide(evaluation, finding, _latency(challenger, frame), params, how_served(challenger, frame))


def find(
    challenger: LoadedModel, champion: Champion | None, frame: pd.DataFrame, holdout: Holdout, params: Params
) -> GateFinding:
    """Compare with the champion, where there is one that can be compared with."""
    if champion is None:
        return GateFinding(GateOutcome.NO_CHAMPION)
    if champion.digest == challenger.digest:
        return GateFinding(GateOutcome.EQUIVALENT, version=champion.version)
    new = score(challenger, frame)
    old = _score_champion(champion, new, frame)
    if isinstance(old, str):
        return GateFinding(GateOutcome.INCONCLUSIVE, version=champion.version, unreadable=old)
    comparison = compare(old, new, frame, params, digest=champion.digest, version=champion.version)
    comparison = comparison.model_copy(update={"curves": make_curves(old)})
    seen = _seen_in_training(champion, challenger, holdout)
    stress = _champion_stress(champion, frame, old, params)
    return GateFinding(comparison.outcome, comparison, champion.version, seen=seen, stress=stress)


def _champion_stress(
    champion: Champion, frame: pd.DataFrame, scored: Scored, params: Params
) -> tuple[StressResult, ...]:
    """The champion under the same stress, where `gate.stress_margin` asks for it."""
    if params.gate.stress_margin is None or champion.model is None:
        return ()
    return stress_holdout(champion.model, frame, scored, params)


def _seen_in_training(champion: Champion, challenger: LoadedModel, holdout: Holdout) -> tuple[str, ...]:
    """The partitions that the champion was trained on and is judged on, and that the challenger was not trained on.

    It happens when more partitions are held out than before. One file is both trained on and held out from.
    """
    trained = set(champion.model.lineage.partitions) if champion.model is not None else set()
    return tuple(sorted((trained - set(challenger.lineage.partitions)) & set(holdout.partitions)))


def decide(
    evaluation: Evaluation,
    finding: GateFinding,
    latency_ms: float | None,
    params: Params,
    served: Served | None = None,
) -> GateVerdict:
    """The verdict: accepted when the outcome passes and no check fails.

    What is asked for and cannot be computed fails; what is not asked for, or has nothing to be compared with,
    is skipped.

    Args:
        evaluation: of the challenger.
        finding: of the comparison with the champion.
        latency_ms: median time to score one row; None where it could not be measured.
        params: the bounds.
        served: how the model will be served; None where there is no model to look at.
    """
    comparison = finding.comparison
    reasons = (
        checks.champion_check(finding, params),
        checks.delong_check(comparison),
        *checks.floor_checks(evaluation, params),
        checks.slices_check(comparison, params),
        *checks.fairness_checks(evaluation, params),
        checks.calibration_check(evaluation, params),
        checks.stress_check(evaluation, params, finding.stress),
        checks.size_check(evaluation, params),
        checks.latency_check(latency_ms, params),
        *([checks.serving_check(served)] if served else []),
    )
    return GateVerdict(
        accepted=finding.outcome.passes and not any(check.status is Status.FAIL for check in reasons),
        outcome=finding.outcome,
        checks=reasons,
        comparison=comparison,
        challenger_digest=evaluation.digest,
        holdout=evaluation.holdout,
    )


def _score_champion(champion: Champion, challenger: Scored, frame: pd.DataFrame) -> Scored | str:
    """The champion's scores beside the challenger's, or why there are none."""
    if champion.model is None:
        return champion.unreadable or "it could not be loaded"
    try:
        return align(score(champion.model, frame), challenger)
    except Exception as cause:  # noqa: BLE001 - an old model may fail in any way; the verdict names it
        what = cause.what if isinstance(cause, DataError | ModelError) else f"{type(cause).__name__}: {cause}"
        return what.splitlines()[0][:300]


def _latency(model: LoadedModel, frame: pd.DataFrame) -> float | None:
    try:
        return single_row_ms(model, frame)
    except Exception:  # noqa: BLE001 - a pipeline that cannot score one row fails the latency check
        return None
