"""The gate's checks, each one reason for or against a model."""

from __future__ import annotations

from mergeline.evaluate.compare import UNITLESS
from mergeline.evaluate.fairness import ODDS
from mergeline.evaluate.results import Check, Comparison, Evaluation, Fairness, Outcome, Status, StressResult
from mergeline.evaluate.serving import Served
from mergeline.params import METRICS, Params, Task

NOTHING = "–"
TOLERANCE = 1e-9


def floor_checks(evaluation: Evaluation, params: Params) -> list[Check]:
    """One check for each of `gate.floors`; a metric that the holdout leaves undefined fails."""
    checks = []
    for name, floor in params.gate.floors.items():
        better = METRICS[params.task][name]
        value = next((metric.estimate.value for metric in evaluation.metrics if metric.name == name), None)
        reached = value is not None and (value >= floor if better else value <= floor)
        if value is None:
            meaning = f"{name} is undefined on this holdout, so nothing shows that the floor is reached."
        elif reached:
            meaning = f"{name} reaches what every model must."
        else:
            meaning = f"{name} is {value:.4g}, and every model must {'reach' if better else 'stay below'} {floor:g}."
        checks.append(_check(f"floor {name}", reached, value, f"{'≥' if better else '≤'} {floor:g}", meaning))
    return checks


def comparison_check(outcome: Outcome, reason: str, params: Params) -> Check:
    """The paired comparison as a check: only better and equivalent pass, and no champion is skipped."""
    passed = Status.SKIP if outcome is Outcome.NO_CHAMPION else Status.PASS if outcome.passes else Status.FAIL
    bound = f"better, or worse by less than {params.gate.margin:g}"
    if _relative(params):
        bound = f"better, or worse by less than {params.gate.margin:.2%}"
    meaning = f"{reason[:1].upper()}{reason[1:]}."
    return Check(name="champion", status=passed, value=str(outcome), bound=bound, meaning=meaning)


def delong_check(comparison: Comparison | None) -> Check:
    """Whether DeLong's test comes to the same outcome; a disagreement warns that the outcome hangs by a hair."""
    found = comparison.delong if comparison else None
    if comparison is None or found is None:
        return _skip(
            "delong", "same outcome", "Cross-checks the AUC of two binary models; there is none to cross-check."
        )
    gain = found.gain
    agrees = "agrees" if found.agrees else "disagrees"
    return Check(
        name="delong",
        status=Status.PASS if found.agrees else Status.WARN,
        value=f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]",
        bound="same outcome",
        meaning=f"DeLong's test {agrees} with the bootstrap's outcome ({comparison.outcome}), p = {found.p_value:.2g}.",
    )


def slices_check(comparison: Comparison | None, params: Params) -> Check:
    """No slice may be worse than the champion's beyond the margin."""
    unit = "of the champion's error" if params.task is Task.REGRESSION else "log loss"
    margin = f"{params.gate.slice_margin:.2%}" if params.task is Task.REGRESSION else f"{params.gate.slice_margin:g}"
    bound = f"none worse by more than {margin} {unit}"
    if not params.evaluation.slices:
        return _skip("slices", bound, "No columns are named under evaluation.slices.")
    if comparison is None:
        return _skip("slices", bound, "There is no other model to compare slices with.")
    if not comparison.slices:
        meaning = f"No slice holds {params.evaluation.min_slice_rows} rows, so nothing shows that none is worse."
        return _check("slices", False, None, bound, meaning)
    worse = sorted((change for change in comparison.slices if change.worse), key=lambda change: change.gain.value)
    count = len(comparison.slices)
    if not worse:
        return _told("slices", Status.PASS, f"0 of {count}", bound, f"None of {count} slices is clearly worse.")
    first = worse[0]
    meaning = (
        f"Worse where {first.column} is {first.value}: {first.metric} {first.challenger:.4g} "
        f"against {first.champion:.4g} on {first.rows:,} rows (q = {first.q_value:.2g})"
    )
    others = [f"{change.column} = {change.value}" for change in worse[1:6]]
    more = f"; also {', '.join(others)}" if others else ""
    return _told("slices", Status.FAIL, f"{len(worse)} of {count}", bound, f"{meaning}{more}.")


def fairness_checks(evaluation: Evaluation, params: Params) -> list[Check]:
    """One check for each of `evaluation.fairness`."""
    if not params.evaluation.fairness:
        return [
            _skip("fairness", f"≤ {params.gate.max_unfairness:g}", "No columns are named under evaluation.fairness.")
        ]
    measured = {entry.column: entry for entry in evaluation.fairness}
    return [_fairness(column, measured.get(column), params) for column in params.evaluation.fairness]


def _fairness(column: str, entry: Fairness | None, params: Params) -> Check:
    name, bound = f"fairness {column}", f"≤ {params.gate.max_unfairness:g}"
    if entry is not None and len(entry.groups) == 1:
        return _skip(name, bound, f"All rows belong to one group of {column}: there is nothing to compare.")
    if entry is None or not entry.gaps:
        return _check(name, False, None, bound, f"The gaps between groups of {column} could not be measured.")
    gap, value = max(entry.gaps.items(), key=lambda item: item[1])
    words = gap.replace("_", " ")
    if value > params.gate.max_unfairness:
        return _check(name, False, value, bound, f"The groups of {column} are treated too differently: {words}.")
    if params.task.classifies and ODDS not in entry.gaps:
        meaning = (
            f"Equalised odds are undefined: some groups of {column} lack a class. The other gaps are small enough."
        )
        return _told(name, Status.WARN, f"{value:.4g}", bound, meaning)
    return _check(name, True, value, bound, f"The largest gap between groups of {column} is the {words}.")


def calibration_check(evaluation: Evaluation, params: Params) -> Check:
    """Scores must mean what they say."""
    bound = f"≤ {params.gate.max_calibration_error:g}"
    if not params.task.classifies:
        return _skip("calibration", bound, "A regression answers no probabilities.")
    found = [metric.estimate.value for metric in evaluation.metrics if metric.name == "calibration_error"]
    if not found:
        return _check("calibration", False, None, bound, "The calibration error could not be measured.")
    passed = found[0] <= params.gate.max_calibration_error
    meaning = (
        "Scores are close to the shares that came true." if passed else "Scores are far from the shares that came true."
    )
    return _check("calibration", passed, found[0], bound, meaning)


def stress_check(evaluation: Evaluation, params: Params) -> Check:
    """The worst stress test; a model that raises, or whose metric cannot be had under stress, fails."""
    share = " of its value" if _relative(params) else ""
    bound = f"loses ≤ {params.gate.max_stress_loss:g}{share}"
    if not evaluation.stress:
        return _skip("stress", bound, "No disturbance can befall this model's columns.")
    broken = [result for result in evaluation.stress if result.error is not None]
    if broken:
        meaning = f"The model raises under {', '.join(result.name for result in broken)}: {broken[0].error}."
        return _told("stress", Status.FAIL, "error", bound, meaning)
    losses = {result.name: _stress_loss(result, params) for result in evaluation.stress}
    known = {name: loss for name, loss in losses.items() if loss is not None}
    if len(known) < len(losses):
        return _check("stress", False, None, bound, f"{params.gate.metric} is undefined on the stressed rows.")
    name, worst = max(known.items(), key=lambda item: item[1])
    passed = worst <= params.gate.max_stress_loss
    return _check("stress", passed, worst, bound, f"{params.gate.metric} loses most under {name}.")


def size_check(evaluation: Evaluation, params: Params) -> Check:
    """The model folder must fit."""
    size = evaluation.model_bytes / 1e6
    passed = size <= params.gate.max_model_mb
    meaning = "The model folder is small enough." if passed else "The model folder is too large."
    return _told("size", _status(passed), f"{size:.3g} MB", f"≤ {params.gate.max_model_mb:g} MB", meaning)


def latency_check(latency_ms: float | None, params: Params) -> Check:
    """One row must be scored fast enough; a time that could not be measured fails."""
    bound = f"≤ {params.gate.max_latency_ms:g} ms"
    if latency_ms is None:
        return _check("latency", False, None, bound, "The time to score one row could not be measured.")
    passed = latency_ms <= params.gate.max_latency_ms
    meaning = f"Scoring one row is {'fast enough' if passed else 'too slow'} (median, on this machine)."
    return _told("latency", _status(passed), f"{latency_ms:.3g} ms", bound, meaning)


def serving_check(served: Served) -> Check:
    """How the model will be served: compiled and still equal, or by scikit-learn, with the reason."""
    bound = f"equal within {TOLERANCE:g}"
    if served.reason is not None:
        meaning = f"scikit-learn serves the model, far slower than a compiled one: {served.reason.rstrip('.')}."
        return _told("serving", Status.WARN, "scikit-learn", bound, meaning)
    if served.proof is None or served.difference is None:
        return _skip("serving", bound, "The model was made without a scorer, so scikit-learn serves it.")
    if not served.difference <= TOLERANCE:
        meaning = "On this machine the compiled model and scikit-learn differ on the holdout: train it again here."
        return _told("serving", Status.FAIL, f"{served.difference:.2g}", bound, meaning)
    proof = served.proof
    meaning = (
        f"Served compiled, without scikit-learn: equal on {proof.rows:,} rows and {proof.hard_cases:,} hard cases "
        "when it was built, and on this holdout."
    )
    return _told("serving", Status.PASS, "compiled", bound, meaning)


def _relative(params: Params) -> bool:
    return params.task is Task.REGRESSION and params.gate.metric not in UNITLESS


def _stress_loss(result: StressResult, params: Params) -> float | None:
    """The loss, for the errors of a regression as a share of the undisturbed error."""
    if result.loss is None or result.value is None or not _relative(params):
        return result.loss
    undisturbed = result.value - result.loss
    return result.loss / undisturbed if undisturbed > 0 else None


def _check(name: str, passed: bool, value: float | None, bound: str, meaning: str) -> Check:
    return _told(name, _status(passed), NOTHING if value is None else f"{value:.4g}", bound, meaning)


def _skip(name: str, bound: str, meaning: str) -> Check:
    return _told(name, Status.SKIP, NOTHING, bound, meaning)


def _told(name: str, status: Status, value: str, bound: str, meaning: str) -> Check:
    return Check(name=name, status=status, value=value, bound=bound, meaning=meaning)


def _status(passed: bool) -> Status:
    return Status.PASS if passed else Status.FAIL
