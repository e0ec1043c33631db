"""How numbers and judgements are worded, the same in every report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergeline.evaluate.results import Check, Comparison, Estimate, GateCheck, GateVerdict, Holdout, Power, Status
from mergeline.params import Params
from mergeline.report.document import Line, Range, Span, bold, code, joined, line, muted

MARKS = {Status.FAIL: "❌", Status.WARN: "⚠️", Status.PASS: "✅", Status.SKIP: "➖"}
STATUS_WORDS = {Status.FAIL: "failed", Status.WARN: "warning", Status.PASS: "passed", Status.SKIP: "skipped"}


def decimals(*values: float) -> int:
    """The decimals that show four figures of the largest value, at most four."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0:
        return 4
    return min(4, max(0, 3 - math.floor(math.log10(largest))))


def figure(value: float, places: int | None = None) -> str:
    """A number as people read it: four figures, a true minus, thousands apart."""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and abs(value) < 0.001 and places is None:
        return f"{value:.2e}".replace("-", "−", 1) if value < 0 else f"{value:.2e}"
    text = f"{abs(value):,.{decimals(value) if places is None else places}f}"
    return f"−{text}" if value < 0 and any(digit in text for digit in "123456789") else text


def signed(value: float, places: int | None = None) -> str:
    """A difference, with its sign."""
    text = figure(value, places)
    return text if value <= 0 or not math.isfinite(value) or not text.strip("0.,") else f"+{text}"


def estimate(value: Estimate) -> Line:
    """A value, and its interval in brackets."""
    places = decimals(value.value)
    if value.low is None or value.high is None:
        return line(figure(value.value, places))
    return line(
        f"{figure(value.value, places)} ", muted(f"[{figure(value.low, places)}, {figure(value.high, places)}]")
    )


def gain(value: Estimate, places: int) -> Line:
    """A difference with its interval, to the decimals of what it is a difference of."""
    if value.low is None or value.high is None:
        return line(bold(signed(value.value, places)))
    interval = f"[{signed(value.low, places)}, {signed(value.high, places)}]"
    return line(bold(signed(value.value, places)), " ", muted(interval))


def reading(value: Estimate) -> Line:
    """What the interval of a gain says by itself."""
    if value.low is None or value.high is None:
        return line("–", joined(" no interval"))
    if value.low > 0:
        return line("▲", joined(" better"))
    return line("▼", joined(" worse")) if value.high < 0 else line("≈", joined(" unclear"))


def metric_name(name: str, higher_is_better: bool) -> Line:
    """A metric, and which way is better."""
    return line(code(name), joined(" ↑" if higher_is_better else " ↓"))


def probability(value: float) -> str:
    """A p-value or q-value, with its relation where it is only bounded."""
    if math.isnan(value):
        return "undefined"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float) -> str:
    """A share of one."""
    return "undefined" if math.isnan(share) else f"{100 * share:.0f} %"


def count(number: int, one: str, many: str | None = None) -> str:
    """So many things, in the singular or the plural."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def partition_words(partitions: tuple[str, ...]) -> str:
    """A run of partitions by its ends."""
    if len(partitions) < 2:
        return "".join(partitions) or "no partition"
    return f"{partitions[0]} to {partitions[-1]} ({len(partitions)} partitions)"


def rows_words(rows: int, partitions: tuple[str, ...]) -> str:
    """So many rows, and where from."""
    return f"{count(rows, 'row')} of {partition_words(partitions)}"


def holdout_words(holdout: Holdout) -> str:
    """How many rows judged the model, and from when."""
    said = rows_words(holdout.rows, holdout.partitions)
    if holdout.first is None or holdout.last is None:
        return said
    return f"{said}, {holdout.first} to {holdout.last}"


def size(number_of_bytes: int) -> str:
    """A file size."""
    if number_of_bytes < 1_000_000:
        return f"{number_of_bytes / 1000:,.1f} kB"
    return f"{number_of_bytes / 1_000_000:,.1f} MB"


def short(digest: str) -> Span:
    """Enough of a digest to tell two apart."""
    prefix, _, rest = digest.rpartition(":")
    return code(digest if len(rest) <= 12 else f"{prefix}:{rest[:12]}…".removeprefix(":"))


def ranges(estimates: Sequence[Estimate], marks: Sequence[float]) -> tuple[Line, ...]:
    """The intervals drawn on one common line that also holds `marks`; empty where there is no interval."""
    ends = [end for value in estimates for end in (value.low, value.value, value.high) if end is not None]
    finite = [end for end in [*ends, *marks] if math.isfinite(end)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    width = (high - low) or 1.0

    def place(value: float) -> float:
        return (value - low) / width

    return tuple(
        (Range(place(value.low), place(value.value), place(value.high), tuple(place(mark) for mark in marks)),)
        if value.low is not None
        and value.high is not None
        and all(map(math.isfinite, (value.low, value.value, value.high)))
        else ()
        for value in estimates
    )


_GAIN = (
    "The challenger's {metric} is {challenger:.4g}, the champion's {champion:.4g} "
    "(gain {gain:+.4f}, {confidence:.0%} interval {low:+.4f} to {high:+.4f}): "
)
SENTENCES = {
    "no champion": "Production serves no model yet, so only the absolute checks decide.",
    "same model": "The same bytes as version {version:.0f}, which production serves.",
    "champion unreadable": "Version {version:.0f} cannot be compared with: {error}.",
    "metric undefined": "The metric {metric} is undefined on these rows, so they cannot tell.",
    "no interval": (
        "The challenger's {metric} is {challenger:.4g}, the champion's {champion:.4g}, "
        "but there is no interval: too few rows of a class."
    ),
    "better": _GAIN + "the whole interval is above zero, so the challenger is better.",
    "equivalent": _GAIN
    + "the whole interval is above minus the margin of {margin:.4g}, so the challenger is equivalent.",
    "worse": _GAIN
    + "the whole interval is below zero, and reaches below minus the margin of {margin:.4g}: the challenger is worse.",
    "inconclusive": _GAIN
    + "the interval reaches from below minus the margin of {margin:.4g} to above zero, so these rows cannot tell.",
    "no DeLong": "Cross-checks the AUC of two binary models; there is none to cross-check.",
    "DeLong agrees": "DeLong's test agrees with the bootstrap's outcome ({outcome}), p = {p_value:.2g}.",
    "DeLong disagrees": "DeLong's test disagrees with the bootstrap's outcome ({outcome}), p = {p_value:.2g}.",
    "floor undefined": "{metric} is undefined on this holdout, so nothing shows that the floor is reached.",
    "floor reached": "{metric} reaches what every model must.",
    "floor missed": "{metric} is {value:.4g}, and every model must reach {floor:g}.",
    "ceiling exceeded": "{metric} is {value:.4g}, and every model must stay below {floor:g}.",
    "no slice columns": "No columns are named under evaluation.slices.",
    "no other model": "There is no other model to compare slices with.",
    "no large slice": "No slice holds {rows:.0f} rows, so nothing shows that none is worse.",
    "no worse slice": "None of {slices:.0f} slices is clearly worse.",
    "worse slices": (
        "Worse where {column} is {value}: {metric} {challenger:.4g} against {champion:.4g} on {rows:,.0f} rows "
        "(q = {q_value:.2g})"
    ),
    "no fairness columns": "No columns are named under evaluation.fairness.",
    "one group": "All rows belong to one group of {column}: there is nothing to compare.",
    "gaps undefined": "The gaps between groups of {column} could not be measured.",
    "unfair": "The groups of {column} are treated too differently: {gap}.",
    "odds undefined": (
        "Equalised odds are undefined: some groups of {column} lack a class. The other gaps are small enough."
    ),
    "fair": "The largest gap between groups of {column} is the {gap}.",
    "no probabilities": "A regression answers no probabilities.",
    "calibration undefined": "The calibration error could not be measured.",
    "calibrated": "Scores are close to the shares that came true.",
    "miscalibrated": "Scores are far from the shares that came true.",
    "no stress test": "No disturbance applies to this model's columns.",
    "raises under stress": "The model raises under {tests}: {error}.",
    "stress undefined": "{metric} is undefined on the stressed rows.",
    "stress loss": "{metric} loses most under {test}.",
    "stress beside the champion": (
        "{metric} loses most under {test}; against the champion under the same stress its loss is {excess:+.0%}."
    ),
    "small": "The model folder is small enough.",
    "large": "The model folder is too large.",
    "latency unknown": "The time to score one row could not be measured.",
    "fast": "Scoring one row is fast enough (median, on this machine).",
    "slow": "Scoring one row is too slow (median, on this machine).",
    "served by scikit-learn": "scikit-learn serves the model, far slower than a compiled one: {reason}.",
    "no scorer": "The model was made without a scorer, so scikit-learn serves it.",
    "scorer differs": (
        "On this machine the compiled model and scikit-learn differ on the holdout: train it again here."
    ),
    "compiled": (
        "Served compiled, without scikit-learn: equal on {rows:,.0f} rows and {edge_cases:,.0f} edge cases "
        "when it was built, and on this holdout."
    ),
}


def meaning(check: GateCheck) -> str:
    """What a check of the gate found, as a sentence."""
    if check.case is None:
        return check.meaning or ""
    said = SENTENCES[check.case].format(**check.numbers, **check.names)
    if check.case == "worse slices":
        return f"{said}; also {check.names['others']}." if "others" in check.names else f"{said}."
    if check.case == "inconclusive" and "rows_needed" in check.numbers:
        said += f" About {check.numbers['rows_needed']:,.0f} rows could; there are {check.numbers['rows']:,.0f}."
    if "seen" in check.names:
        return f"{said.removesuffix('.')} (the champion was trained on {check.names['seen']}, which flatters it)."
    return said


def power_words(power: Power) -> str:
    """What the holdout can show, as a sentence."""
    return (
        f"A difference of {power.difference:.3g} shows with {power.target:.0%} probability from about "
        f"{power.rows_needed:,} holdout rows on; these {power.rows:,} rows show it with {power.power:.0%}."
    )


def comparison_words(comparison: Comparison, params: Params) -> str:
    """What a paired comparison shows by the gate's metric, to be a part of another sentence."""
    from mergeline.evaluate.checks import GateFinding, comparison_case

    finding = GateFinding(comparison.outcome, comparison, comparison.champion_version)
    case, numbers = comparison_case(finding, params)
    return _inside(SENTENCES[case].format(**numbers, metric=params.gate.metric).removesuffix("."))


def _inside(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def headline(verdict: GateVerdict) -> str:
    """The verdict in a sentence or two: how it compares where it is accepted, the failures where it is not."""
    if verdict.headline is not None:
        return verdict.headline
    if not verdict.accepted:
        failed = verdict.failures
        others = f" Also failed: {', '.join(check.name for check in failed[1:])}." if failed[1:] else ""
        return f"{failed[0].name.capitalize()}: {meaning(failed[0])}{others}" if failed else "The model is rejected."
    warned = sum(check.status is Status.WARN for check in verdict.checks)
    hint = f" ({count(warned, 'warning')})" if warned else ""
    champion = meaning(verdict.checks[0]) if verdict.checks else ""
    return f"{verdict.outcome.capitalize()}{hint}: {_inside(champion)}"


def as_checks(verdict: GateVerdict) -> tuple[Check, ...]:
    """The verdict's checks with their sentences, for those who list checks of every kind."""
    return tuple(
        Check(name=check.name, status=check.status, value=check.value, bound=check.bound, meaning=meaning(check))
        for check in verdict.checks
    )
