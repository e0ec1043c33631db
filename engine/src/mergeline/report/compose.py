"""Composes the report of one judged model: the verdict first, then its reasons, then everything behind them."""

from __future__ import annotations

from collections.abc import Sequence

from mergeline.evaluate.results import GateCheck, GateOutcome, GateVerdict, PairedMetric, Status, named
from mergeline.model.lineage import Change
from mergeline.report import document, measures, words
from mergeline.report.curves import evaluation_curves
from mergeline.report.document import Block, Cell, Line, Span, bold, code, joined, line, muted, prose, table, visible
from mergeline.report.inputs import ReportInput

FAILURES_ABOVE = 5
NOTICES_SHOWN = 10
EMOJI: dict[document.State, str] = {"accepted": "✅", "rejected": "❌", "inconclusive": "⚠️"}


def compose(subject: ReportInput) -> document.Document:
    """The report: a reviewer decides from its top, and finds every number below."""
    state = verdict_state(subject.verdict)
    blocks: list[Block] = [*_alerts(subject, state), _key_figures(subject)]
    blocks += metrics(subject)
    blocks += checks(subject)
    blocks += measures.slices(subject)
    blocks += _curves(subject)
    blocks += measures.fairness(subject)
    blocks += measures.stress(subject)
    blocks += measures.importance(subject)
    blocks += measures.confusion(subject)
    blocks += changed(subject)
    blocks += lineage(subject)
    blocks += reproduce(subject)
    return document.Document(_title(subject, state), line(_why(subject.verdict)), state, tuple(blocks))


def _curves(subject: ReportInput) -> list[Block]:
    own, comparison = subject.evaluation.curves, subject.verdict.comparison
    if comparison is None:
        return evaluation_curves(own, metric=subject.gate.metric)
    return evaluation_curves(own, comparison.curves, comparison.champion_version, subject.gate.metric)


def _why(verdict: GateVerdict) -> str:
    """The sentence below the title; of several failures only the names, since an alert has their sentences."""
    failures = verdict.failures
    if len(failures) > 1 and verdict.headline is None:
        return f"Failed: {', '.join(check.name for check in failures)}."
    return words.headline(verdict)


def verdict_state(verdict: GateVerdict) -> document.State:
    """Accepted; rejected, for a reason that stands; or inconclusive, where more data could still change it."""
    if verdict.accepted:
        return "accepted"
    return "inconclusive" if verdict.inconclusive else "rejected"


def candidate_name(subject: ReportInput) -> tuple[Span, ...]:
    """The model by name, with its version where one is proposed."""
    return (
        (code(subject.name),) if subject.version is None else (code(subject.name), prose(f" version {subject.version}"))
    )


def _title(subject: ReportInput, state: document.State) -> Line:
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
        failed = f" fails {len(subject.verdict.failures)} of {words.count(judged, 'check')}"
        return line(opening, " ", *named, f" is worse than {champion}" if outcome is GateOutcome.WORSE else failed)
    ending = {
        GateOutcome.BETTER: f" is better than {champion}",
        GateOutcome.EQUIVALENT: f" is as good as {champion}" if comparison else " is the same model as the champion",
        GateOutcome.NO_CHAMPION: " is the first model, with no champion to beat",
    }.get(outcome, " passed the gate")
    return line(opening, " ", *named, ending)


def _alerts(subject: ReportInput, state: document.State) -> list[Block]:
    """Failures that one sentence has no room for, and notices about the run."""
    alerts: list[Block] = []
    failures = subject.verdict.failures
    if len(failures) > 1:
        lines = [line(bold(check.name), f": {words.meaning(check)}") for check in failures[:FAILURES_ABOVE]]
        if len(failures) > FAILURES_ABOVE:
            lines.append(line(f"{words.count(len(failures) - FAILURES_ABOVE, 'more failure')} in the table of checks."))
        alerts.append(document.Alert("CAUTION" if state == "rejected" else "WARNING", tuple(lines)))
    if subject.notices:
        alerts.append(document.Alert("WARNING", tuple(line(notice) for notice in subject.notices[:NOTICES_SHOWN])))
    return alerts


def _key_figures(subject: ReportInput) -> document.Facts:
    holdout = subject.evaluation.holdout
    verdict, metric = subject.verdict, visible(subject.gate.metric, document.NAME_LIMIT)
    level, paired = words.percent(subject.gate.confidence), _gate_metric(subject)
    if paired is not None:
        places = words.decimals(paired.champion.value, paired.challenger.value)
        items = [(f"Gain in {metric} ({level} interval)", words.gain(paired.gain, places))]
    else:
        own = [measured.estimate for measured in subject.evaluation.metrics if measured.name == subject.gate.metric]
        items = [(f"{metric} ({level} interval)", words.estimate(value)) for value in own]
    counts = {status: sum(check.status is status for check in verdict.checks) for status in Status}
    told = (Status.FAIL, Status.WARN, Status.PASS)
    tally = [f"{counts[status]} {words.STATUS_WORDS[status]}" for status in told if counts[status]]
    items.append(("Checks", line(", ".join(tally) or "none ran")))
    items.append(("Judged on", line(words.rows_words(holdout.rows, holdout.partitions))))
    if verdict.comparison is not None and verdict.comparison.power is not None:
        items.append(("Power", line(words.power_words(verdict.comparison.power))))
    items.append(("Model", line(words.short(subject.digest))))
    return document.Facts(tuple(items))


def _gate_metric(subject: ReportInput) -> PairedMetric | None:
    comparison = subject.verdict.comparison
    return named(comparison.metrics, subject.gate.metric) if comparison else None


CHECKS_SHOWN = 12


def metrics(subject: ReportInput) -> list[Block]:
    """Every metric with its interval, beside the champion's on the same rows."""
    comparison, gate = subject.verdict.comparison, subject.gate
    level = words.percent(gate.confidence)
    if comparison is None:
        own = sorted(subject.evaluation.metrics, key=lambda metric: metric.name != gate.metric)
        alone = [(words.metric_name(one.name, one.higher_is_better), words.estimate(one.estimate)) for one in own]
        heads = ("Metric", f"This model, {level} interval>")
        why = document.Paragraph(line(_why_alone(subject.verdict.outcome)))
        return [document.Heading(line("Metrics")), why, table(f"Metrics with {level} intervals", heads, alone)]
    rows: list[list[Cell]] = []
    for metric in sorted(comparison.metrics, key=lambda metric: metric.name != gate.metric):
        places = words.decimals(metric.champion.value, metric.challenger.value)
        champion, own_value = (words.figure(one.value, places) for one in (metric.champion, metric.challenger))
        name = words.metric_name(metric.name, metric.higher_is_better)
        rows.append([name, champion, own_value, words.gain(metric.gain, places), words.reading(metric.gain)])
    caption = f"Metrics of champion and challenger with {level} intervals of the gain"
    version = f"Champion (v{comparison.champion_version})>"
    said = (
        f"Both models scored the same {words.count(subject.evaluation.holdout.rows, 'row')}; a gain above zero "
        f"means that this model is better. The gate compares by {gate.metric}."
    )
    return [
        document.Heading(line("Metrics")),
        table(caption, ("Metric", version, "This model>", f"Gain, {level} interval>", "Reading"), rows),
        document.Paragraph(line(muted(said))),
    ]


def _why_alone(outcome: GateOutcome) -> str:
    if outcome is GateOutcome.NO_CHAMPION:
        return "There is no champion yet, so the checks judge these numbers by themselves."
    if outcome is GateOutcome.EQUIVALENT:
        return "The champion is the same model, so its numbers are the same."
    return "There are no numbers of the champion to put beside these: it could not be compared with."


def checks(subject: ReportInput) -> list[Block]:
    """What failed and what warns in the open, what passed folded."""
    order = (Status.FAIL, Status.WARN)
    open_checks = [check for status in order for check in subject.verdict.checks if check.status is status]
    quiet = [check for check in subject.verdict.checks if check.status not in order]
    said = _said_above(subject.verdict)
    blocks: list[Block] = [document.Heading(line("Checks"))]
    if open_checks:
        blocks += document.first_open(
            open_checks,
            CHECKS_SHOWN,
            lambda found: _check_table("Checks that failed or warn", found, said),
            lambda number: f"{words.count(number, 'more check')} that failed or warn",
            rank=95,
        )
    if quiet:
        passed = sum(check.status is Status.PASS for check in quiet)
        skipped = f", {len(quiet) - passed} skipped" if len(quiet) > passed else ""
        summary = line(f"✅ {words.count(passed, 'check')} passed{skipped}")
        blocks.append(document.Details(summary, (_check_table("Checks that passed", quiet, said),), rank=90))
    return blocks


def _said_above(verdict: GateVerdict) -> set[str]:
    """The checks whose sentences stand at the top of the report."""
    above = verdict.checks[:1] if verdict.accepted else verdict.failures[:FAILURES_ABOVE]
    return {check.name for check in above}


def _check_table(caption: str, found: Sequence[GateCheck], said: set[str]) -> document.Table:
    rows: list[list[Cell]] = []
    for check in found:
        result = line(words.MARKS[check.status], joined(f" {words.STATUS_WORDS[check.status]}"))
        meant = muted("as stated above") if check.name in said else words.meaning(check)
        rows.append([result, bold(check.name), check.value, check.bound, meant])
    return table(caption, ("Result", "Check", "Found", "Asked for", "Meaning"), rows)


CHANGES_SHOWN = 10
KINDS = {"params": "⚙️ params", "data": "🗂️ data", "code": "✏️ code", "libraries": "📦 libraries"}


def changed(subject: ReportInput) -> list[Block]:
    """What differs from the champion's origin."""
    heading = document.Heading(line("What changed"))
    if subject.verdict.outcome is GateOutcome.NO_CHAMPION:
        return [
            heading,
            document.Paragraph(line("This is the first model, so there is nothing to compare its origin with.")),
        ]
    if not subject.changes:
        said = "Nothing: the champion was made from the same params, data, code and libraries."
        return [heading, document.Paragraph(line(said))]
    return [
        heading,
        *document.first_open(
            subject.changes, CHANGES_SHOWN, _change_block, lambda number: words.count(number, "more change"), rank=80
        ),
    ]


def _change_block(found: Sequence[Change]) -> Block:
    rows = [
        (KINDS[change.kind], code(change.what), _side(change, change.before), _side(change, change.after))
        for change in found
    ]
    return table("What changed since the champion", ("Kind", "What", "Champion", "This model"), rows)


def _side(change: Change, value: str) -> Span:
    is_digest = change.kind == "code" or value.startswith(("md5:", "sha256:"))
    return words.short(value) if is_digest else code(value)


def lineage(subject: ReportInput) -> list[Block]:
    """Every digest that names what the model was made from."""
    made = subject.lineage
    rows: list[tuple[Cell, Cell]] = [
        ("Model", code(subject.digest)),
        ("Size", words.size(subject.evaluation.model_bytes)),
        ("Code (git tree)", code(made.code)),
        ("Data", code(made.data)),
        ("Params", code(made.params)),
        ("Environment", code(made.environment)),
        ("Trained on", words.rows_words(made.rows, made.partitions)),
        ("Judged on", words.holdout_words(subject.evaluation.holdout)),
        ("Holdout", code(subject.evaluation.holdout.digest)),
        ("Seed", str(made.seed)),
        ("Processor", code(made.processor)),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in made.libraries.items())),
    ]
    if subject.base_commit is not None:
        rows.append(("Base commit", code(subject.base_commit)))
    return [document.Details(line("🧬 Lineage"), (table("Lineage", ("Part", "Identity"), rows),), rank=70)]


def reproduce(subject: ReportInput) -> list[Block]:
    """The commands that make the same bytes again."""
    if not subject.commands:
        return []
    said = line("These commands make the model again; its digest must come out as ", words.short(subject.digest), ".")
    blocks = (
        document.Paragraph(said),
        document.CodeBlock("bash", tuple(visible(command, document.COMMAND_LIMIT) for command in subject.commands)),
    )
    return [document.Details(line("💻 Reproduce it on your machine"), blocks, rank=75)]
