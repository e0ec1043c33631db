"""The gate's checks, each one reason for or against a model: numbers and a case, without a sentence."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

from mergeline.evaluate import results
from mergeline.evaluate.compare import has_unit, loss_of, margin_of
from mergeline.evaluate.fairness import ODDS
from mergeline.evaluate.results import CheckCase, Comparison, Evaluation, GateCheck, GateOutcome, Status, StressResult
from mergeline.params import METRICS, Params, Task
from mergeline.scorer.stored import Proof, read_document

if TYPE_CHECKING:
    import pandas as pd

    from mergeline.model.artifact import LoadedModel

NOTHING = "–"
TOLERANCE = 1e-9
SLICES_NAMED = 6
"""So many slices that are worse are named; the report's table has them all."""


class GateFinding(NamedTuple):
    """The result of the comparison with the champion.

    `comparison` is None where none was made, `version` where there is no champion. `unreadable` says why a champion
    cannot be compared with, and `seen` names the holdout's partitions that it alone was trained on.
    `stress` is the champion's under the same stress, where that counts.
    """

    outcome: GateOutcome
    comparison: Comparison | None = None
    version: int | None = None
    unreadable: str = ""
    seen: tuple[str, ...] = ()
    stress: tuple[StressResult, ...] = ()


def champion_check(finding: GateFinding, params: Params) -> GateCheck:
    """The paired comparison as a check: only better and equivalent pass, and no champion is skipped."""
    outcome = finding.outcome
    margin = f"{params.gate.margin:.2%}" if has_unit(params) else f"{params.gate.margin:g}"
    case, numbers = comparison_case(finding, params)
    names = {"metric": params.gate.metric, "error": finding.unreadable, "seen": ", ".join(finding.seen)}
    known = {name: text for name, text in names.items() if text}
    status = Status.SKIP if outcome is GateOutcome.NO_CHAMPION else outcome.passes
    return _check("champion", status, str(outcome), f"better, or worse by less than {margin}", case, numbers, known)


def comparison_case(finding: GateFinding, params: Params) -> tuple[CheckCase, dict[str, float]]:
    """The situation of the paired comparison, and its numbers."""
    comparison = finding.comparison
    if finding.version is None:
        return "no champion", {}
    if comparison is None:
        return "champion unreadable" if finding.unreadable else "same model", {"version": finding.version}
    judged = results.named(comparison.metrics, params.gate.metric)
    if judged is None:
        return "metric undefined", {}
    numbers = {"challenger": judged.challenger.value, "champion": judged.champion.value, "gain": judged.gain.value}
    if judged.gain.low is None or judged.gain.high is None:
        return "no interval", numbers
    reach = {"low": judged.gain.low, "high": judged.gain.high, "confidence": params.gate.confidence}
    margin = {"margin": margin_of(params, judged.champion.value)}
    if comparison.power is not None:
        margin |= {"rows": comparison.power.rows, "rows_needed": comparison.power.rows_needed}
    return finding.outcome.value, {**numbers, **reach, **margin}


def delong_check(comparison: Comparison | None) -> GateCheck:
    """Whether DeLong's test comes to the same outcome; a disagreement warns that the outcome is borderline."""
    found = comparison.delong if comparison else None
    if comparison is None or found is None:
        return _skip("delong", "same outcome", "no DeLong")
    value = f"{found.gain.value:+.4f} [{found.gain.low:+.4f}, {found.gain.high:+.4f}]"
    status = Status.PASS if found.agrees else Status.WARN
    case: CheckCase = "DeLong agrees" if found.agrees else "DeLong disagrees"
    numbers, names = {"p_value": found.p_value}, {"outcome": comparison.outcome.value}
    return _check("delong", status, value, "same outcome", case, numbers, names)


def floor_checks(evaluation: Evaluation, params: Params) -> list[GateCheck]:
    """One check for each of `gate.floors`; a metric that the holdout leaves undefined fails."""
    checks = []
    for name, floor in params.gate.floors.items():
        better = METRICS[params.task][name]
        found = results.named(evaluation.metrics, name)
        value = found.estimate.value if found else None
        reached = value is not None and (value >= floor if better else value <= floor)
        case: CheckCase = "floor reached" if reached else "floor missed" if better else "ceiling exceeded"
        numbers = {"floor": floor} if value is None else {"value": value, "floor": floor}
        bound = f"{'≥' if better else '≤'} {floor:g}"
        case = "floor undefined" if value is None else case
        checks.append(_check(f"floor {name}", reached, value, bound, case, numbers, {"metric": name}))
    return checks


def slices_check(comparison: Comparison | None, params: Params) -> GateCheck:
    """No slice may be worse than the champion's beyond the margin."""
    relative = params.gate.slice_margin_relative or params.task is Task.REGRESSION
    loss = "error" if params.task is Task.REGRESSION else "log loss"
    unit = f"of the champion's {loss}" if relative else loss
    margin = f"{params.gate.slice_margin:.2%}" if relative else f"{params.gate.slice_margin:g}"
    bound = f"none worse by more than {margin} {unit}"
    if not params.evaluation.slices:
        return _skip("slices", bound, "no slice columns")
    if comparison is None:
        return _skip("slices", bound, "no other model")
    if not comparison.slices:
        rows: dict[str, float] = {"rows": params.evaluation.min_slice_rows}
        return _check("slices", False, None, bound, "no large slice", rows)
    worse = sorted((change for change in comparison.slices if change.worse), key=lambda change: change.gain.value)
    count = len(comparison.slices)
    value = f"{len(worse)} of {count}"
    if not worse:
        return _check("slices", True, value, bound, "no worse slice", {"slices": count})
    first = worse[0]
    others = ", ".join(f"{change.column} = {change.value}" for change in worse[1:SLICES_NAMED])
    numbers = {"challenger": first.challenger, "champion": first.champion, "rows": first.rows, "q_value": first.q_value}
    names = {"column": first.column, "value": first.value, "metric": first.metric}
    return _check(
        "slices", False, value, bound, "worse slices", numbers, names | ({"others": others} if others else {})
    )


def fairness_checks(evaluation: Evaluation, params: Params) -> list[GateCheck]:
    """One check for each of `evaluation.fairness`."""
    if not params.evaluation.fairness:
        return [_skip("fairness", f"≤ {params.gate.max_unfairness:g}", "no fairness columns")]
    measured = {entry.column: entry for entry in evaluation.fairness}
    return [_fairness(column, measured.get(column), params) for column in params.evaluation.fairness]


def _fairness(column: str, entry: results.Fairness | None, params: Params) -> GateCheck:
    name, bound, names = f"fairness {column}", f"≤ {params.gate.max_unfairness:g}", {"column": column}
    if entry is not None and len(entry.groups) == 1:
        return _skip(name, bound, "one group", names)
    if entry is None or not entry.gaps:
        return _check(name, False, None, bound, "gaps undefined", names=names)
    gap, value = max(entry.gaps.items(), key=lambda item: item[1])
    names["gap"] = gap.replace("_", " ")
    if value > params.gate.max_unfairness:
        return _check(name, False, value, bound, "unfair", names=names)
    if params.task.classifies and ODDS not in entry.gaps:
        return _check(name, Status.WARN, value, bound, "odds undefined", names=names)
    return _check(name, True, value, bound, "fair", names=names)


def calibration_check(evaluation: Evaluation, params: Params) -> GateCheck:
    """Scores must mean what they say."""
    if not params.task.classifies:
        return _skip("calibration", f"≤ {params.gate.max_calibration_error:g}", "no probabilities")
    found = results.named(evaluation.metrics, "calibration_error")
    value, most = found.estimate.value if found else None, params.gate.max_calibration_error
    return _at_most("calibration", value, most, "", ("calibrated", "miscalibrated", "calibration undefined"))


def stress_check(evaluation: Evaluation, params: Params, champion: tuple[StressResult, ...] = ()) -> GateCheck:
    """The worst stress test; a model that raises, or whose metric is undefined under stress, fails.

    A model that loses more than `max_stress_loss` passes a test where the champion is known under the same stress, and
    the model is worse than it there by no more than `stress_margin`, a share of the champion's loss: who predicts
    better has more to lose, and production is no worse off.
    """
    share, margin = " of its value" if has_unit(params) else "", params.gate.stress_margin
    bound = f"loses ≤ {params.gate.max_stress_loss:g}{share}"
    if margin is not None and champion:
        bound += f", or is worse than the champion under it by ≤ {margin:.3g} of its loss"
    if not evaluation.stress:
        return _skip("stress", bound, "no stress test")
    names = {"metric": params.gate.metric}
    broken = [result for result in evaluation.stress if result.error is not None]
    if broken:
        tests = ", ".join(result.name for result in broken)
        raised = {"tests": tests, "error": broken[0].error or ""}
        return _check("stress", False, "error", bound, "raises under stress", names=raised)
    losses = {result.name: _stress_loss(result, params) for result in evaluation.stress}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    if len(known) < len(losses):
        return _check("stress", False, None, bound, "stress undefined", names=names)
    excess = _stress_excess(evaluation.stress, champion, params)
    high = {name: loss for name, loss in known.items() if loss > params.gate.max_stress_loss}
    failed = {name: loss for name, loss in high.items() if not excess.get(name, float("inf")) <= (margin or 0.0)}
    name, worst = max((failed or high or known).items(), key=lambda item: item[1])
    names["test"] = name
    if name in excess and name in high:
        numbers = {"excess": excess[name]}
        return _check("stress", not failed, worst, bound, "stress beside the champion", numbers, names)
    return _check("stress", not failed, worst, bound, "stress loss", names=names)


def _stress_excess(
    challenger: tuple[StressResult, ...], champion: tuple[StressResult, ...], params: Params
) -> dict[str, float]:
    """By how much the challenger's loss under each stress is above the champion's, as a share of that."""
    known = {result.name: result.value for result in champion if result.value is not None}
    pairs = {
        one.name: (one.value, known[one.name]) for one in challenger if one.value is not None and one.name in known
    }
    losses = {
        name: tuple(loss_of(params.gate.metric, value, params.task) for value in pair) for name, pair in pairs.items()
    }
    return {name: new / old - 1 for name, (new, old) in losses.items() if old > 0}


def size_check(evaluation: Evaluation, params: Params) -> GateCheck:
    """The model folder must fit."""
    return _at_most("size", evaluation.model_bytes / 1e6, params.gate.max_model_mb, " MB", ("small", "large", "large"))


def latency_check(latency_ms: float | None, params: Params) -> GateCheck:
    """One row must be scored fast enough; a time that could not be measured fails."""
    return _at_most("latency", latency_ms, params.gate.max_latency_ms, " ms", ("fast", "slow", "latency unknown"))


def serving_check(served: Served) -> GateCheck:
    """How the model will be served: compiled and still equal, or by scikit-learn, with the reason."""
    bound = f"equal within {TOLERANCE:g}"
    if served.reason is not None:
        why = {"reason": served.reason.rstrip(".")}
        return _check("serving", Status.WARN, "scikit-learn", bound, "served by scikit-learn", names=why)
    if served.proof is None or served.difference is None:
        return _skip("serving", bound, "no scorer")
    if not served.difference <= TOLERANCE:
        return _check("serving", False, f"{served.difference:.2g}", bound, "scorer differs")
    numbers: dict[str, float] = {"rows": served.proof.rows, "edge_cases": served.proof.hard_cases}
    return _check("serving", True, "compiled", bound, "compiled", numbers)


def _stress_loss(result: StressResult, params: Params) -> float | None:
    """The loss, for the errors of a regression as a share of the undisturbed error."""
    if result.loss is None or result.value is None or not has_unit(params):
        return result.loss
    undisturbed = result.value - result.loss
    return result.loss / undisturbed if undisturbed > 0 else None


def _check(  # noqa: PLR0917 - a row of the report's table, in its order
    name: str,
    passed: bool | Status,
    value: float | str | None,
    bound: str,
    case: CheckCase,
    numbers: dict[str, float] | None = None,
    names: dict[str, str] | None = None,
) -> GateCheck:
    status = passed if isinstance(passed, Status) else Status.PASS if passed else Status.FAIL
    shown = NOTHING if value is None else value if isinstance(value, str) else f"{value:.4g}"
    return GateCheck(
        name=name, status=status, value=shown, bound=bound, case=case, numbers=numbers or {}, names=names or {}
    )


def _at_most(
    name: str, value: float | None, most: float, unit: str, cases: tuple[CheckCase, CheckCase, CheckCase]
) -> GateCheck:
    """A value that has a bound; `cases` are within it, above it, and unknown, which fails."""
    passed = value is not None and value <= most
    shown = None if value is None else f"{value:.3g}{unit}" if unit else value
    return _check(name, passed, shown, f"≤ {most:g}{unit}", cases[2] if value is None else cases[not passed])


def _skip(name: str, bound: str, case: CheckCase, names: dict[str, str] | None = None) -> GateCheck:
    return _check(name, Status.SKIP, None, bound, case, names=names)


class Served(NamedTuple):
    """How a model will be served.

    `reason` says why scikit-learn must; `proof` is the scorer's, as it was built, and `difference` the
    largest one on the holdout, on this machine. All three are None for a model made before there were scorers.
    """

    reason: str | None
    proof: Proof | None
    difference: float | None


def how_served(model: LoadedModel, frame: pd.DataFrame) -> Served:
    """Look at a model's scorer, and compare it with the pipeline on every row of the holdout.

    Raises:
        ModelError: the scorer is damaged.
    """
    document = read_document(model.folder)
    scorer = model.scorer
    if document is None or scorer is None:
        return Served(None if document is None else document.reason, None, None)
    from mergeline.scorer.equivalence import largest_difference
    from mergeline.scorer.pipeline import to_features

    features = to_features(frame, model.signature.columns)
    return Served(None, document.proof, largest_difference(scorer, model.pipeline, model.signature, features))


REPEATS, WARM_UPS = 50, 5


def single_row_ms(model: LoadedModel, frame: pd.DataFrame) -> float:
    """The median time of scoring one row, in milliseconds, over 50 rows of the holdout and after a warm-up.

    On one thread, as the server does it: threads that wait for each other on a busy machine tell nothing of the model.
    """
    from threadpoolctl import threadpool_limits

    from mergeline.scorer.equivalence import to_rows
    from mergeline.scorer.pipeline import to_features

    scorer = model.scorer
    columns = model.signature.columns
    requests = [[row] for row in to_rows(to_features(frame.head(REPEATS), columns), columns)] if scorer else []
    taken = []
    with threadpool_limits(1):
        for repeat in range(WARM_UPS + REPEATS):
            row = frame.iloc[[repeat % len(frame)]]
            start = time.perf_counter()
            if scorer is None:
                model.predict(row)
            else:
                scorer.score(scorer.encode(requests[repeat % len(requests)]))
            taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken[WARM_UPS:])
