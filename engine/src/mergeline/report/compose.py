"""Composes the report of one judged model: the verdict first, then its reasons, then everything behind them."""

from __future__ import annotations

from mergeline.evaluate.results import GateVerdict, Outcome, PairedMetric, Status
from mergeline.report import measures, origin, performance, slices
from mergeline.report.curves import curves
from mergeline.report.document import (
    NAME_LIMIT,
    Alert,
    Block,
    Document,
    Facts,
    Line,
    Span,
    State,
    bold,
    code,
    line,
    prose,
    visible,
)
from mergeline.report.inputs import ReportInput
from mergeline.report.words import STATUS_WORDS, count, decimals, estimate, gain, percent, short

FAILURES_ABOVE = 5
NOTICES_SHOWN = 10
EMOJI: dict[State, str] = {"accepted": "✅", "rejected": "❌", "inconclusive": "⚠️"}


def compose(subject: ReportInput) -> Document:
    """The report: a reviewer decides from its top, and finds every number below."""
    state = verdict_state(subject.verdict)
    blocks: list[Block] = [*_alerts(subject, state), _key_figures(subject)]
    blocks += performance.metrics(subject)
    blocks += performance.checks(subject)
    blocks += slices.slices(subject)
    blocks += curves(subject.evaluation.curves)
    blocks += measures.fairness(subject)
    blocks += measures.stress(subject)
    blocks += measures.importance(subject)
    blocks += measures.confusion(subject)
    blocks += origin.changed(subject)
    blocks += origin.lineage(subject)
    blocks += origin.reproduce(subject)
    return Document(_title(subject, state), line(subject.verdict.headline), state, tuple(blocks))


def verdict_state(verdict: GateVerdict) -> State:
    """Accepted; rejected, for a reason that stands; or inconclusive, where more data could still change it."""
    if verdict.accepted:
        return "accepted"
    return "inconclusive" if verdict.outcome is Outcome.INCONCLUSIVE and len(verdict.failures) <= 1 else "rejected"


def candidate_name(subject: ReportInput) -> tuple[Span, ...]:
    """The model by name, with its version where one is proposed."""
    return (
        (code(subject.name),) if subject.version is None else (code(subject.name), prose(f" version {subject.version}"))
    )


def _title(subject: ReportInput, state: State) -> Line:
    outcome, comparison = subject.verdict.outcome, subject.verdict.comparison
    champion = f"version {comparison.champion_version}" if comparison else "the champion"
    named = candidate_name(subject)
    opening = bold(f"{EMOJI[state]} {state.capitalize()}:")
    if state == "inconclusive" and comparison is not None:
        return line(opening, " these rows cannot tell whether ", *named, f" is as good as {champion}")
    if state == "inconclusive":
        return line(opening, " ", *named, " cannot be compared with the champion")
    if state == "rejected":
        judged = sum(check.status is not Status.SKIP for check in subject.verdict.checks)
        failed = f" fails {len(subject.verdict.failures)} of {count(judged, 'check')}"
        return line(opening, " ", *named, f" is worse than {champion}" if outcome is Outcome.WORSE else failed)
    ending = {
        Outcome.BETTER: f" is better than {champion}",
        Outcome.EQUIVALENT: f" is as good as {champion}" if comparison else " is the same model as the champion",
        Outcome.NO_CHAMPION: " is the first model, with no champion to beat",
    }.get(outcome, " passed the gate")
    return line(opening, " ", *named, ending)


def _alerts(subject: ReportInput, state: State) -> list[Block]:
    """Failures that the headline has no room for, and notices about the run."""
    alerts: list[Block] = []
    failures = subject.verdict.failures
    if len(failures) > 1:
        lines = [line(bold(check.name), f": {check.meaning}") for check in failures[:FAILURES_ABOVE]]
        if len(failures) > FAILURES_ABOVE:
            lines.append(line(f"{count(len(failures) - FAILURES_ABOVE, 'more failure')} in the table of checks."))
        alerts.append(Alert("CAUTION" if state == "rejected" else "WARNING", tuple(lines)))
    if subject.notices:
        alerts.append(Alert("WARNING", tuple(line(notice) for notice in subject.notices[:NOTICES_SHOWN])))
    return alerts


def _key_figures(subject: ReportInput) -> Facts:
    holdout = subject.evaluation.holdout
    verdict, metric = subject.verdict, visible(subject.gate.metric, NAME_LIMIT)
    items: list[tuple[str, Line]] = []
    paired = _gate_metric(subject)
    if paired is not None:
        places = decimals(paired.champion.value, paired.challenger.value)
        items.append((f"Gain in {metric} ({percent(subject.gate.confidence)} interval)", gain(paired.gain, places)))
    else:
        items += [
            (f"{metric} ({percent(subject.gate.confidence)} interval)", estimate(measured.estimate))
            for measured in subject.evaluation.metrics
            if measured.name == subject.gate.metric
        ]
    tally = [
        f"{sum(check.status is status for check in verdict.checks)} {STATUS_WORDS[status]}"
        for status in (Status.FAIL, Status.WARN, Status.PASS)
        if any(check.status is status for check in verdict.checks)
    ]
    items.append(("Checks", line(", ".join(tally) or "none ran")))
    items.append(("Judged on", line(origin.rows_words(holdout.rows, holdout.partitions))))
    items.append(("Model", line(short(subject.digest))))
    return Facts(tuple(items))


def _gate_metric(subject: ReportInput) -> PairedMetric | None:
    comparison = subject.verdict.comparison
    found = [paired for paired in comparison.metrics if paired.name == subject.gate.metric] if comparison else []
    return found[0] if found else None
