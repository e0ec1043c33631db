"""Decides what a window shows, and gives a reason a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mergeline.documents import Frozen
from mergeline.evaluate.results import Check, Status, make_check, named
from mergeline.watch.data_quality import listed
from mergeline.watch.drift import Change, Finding, Part
from mergeline.watch.drift import Status as Found
from mergeline.watch.performance import GROWS_IN_SMALL_SAMPLES, MEANING_LEVEL, MIN_LABELLED, Level, LiveMetric
from mergeline.watch.results import Live, Outcome, Watched, WholeRow

if TYPE_CHECKING:
    from mergeline.params import Params


class Verdict(NamedTuple):
    """What the window shows, in a word, in a sentence, and by its reasons."""

    outcome: Outcome
    headline: str
    reasons: tuple[Check, ...]


def decide(
    rows: int,
    params: Params,
    *,
    quality: Sequence[Check],
    findings: Sequence[Finding],
    whole_rows: Sequence[WholeRow],
    live: Live | None,
) -> Verdict:
    """The verdict of a window.

    `degraded`: labels say that the gate's metric is worse than on the holdout, beyond the margin and both
    uncertainties. `drift`: a column that the model uses, its answers, the whole row against training, the schema, or
    what scores mean has changed. `inconclusive`: there are no rows, or so few that a change could not be seen in most
    columns. Else `steady`. What was measured without labels never makes a window degraded.

    Args:
        rows: in the window.
        params: bounds.
        quality: as `data_checks` gives them.
        findings: as `find_drift` gives them, for every reference at once.
        whole_rows: the whole-row tests; only the one against training rows counts.
        live: what the labels say; None where the model answered nothing.
    """
    if not rows:
        meaning = "the window is empty: no data is no good news"
        checks = (*quality, make_check("rows", Status.WARN, "0 rows", "some traffic", meaning))
        return Verdict(Outcome.INCONCLUSIVE, "the window holds no rows, so there is nothing to conclude from", checks)
    inputs = [finding for finding in findings if finding.part is Part.INPUT]
    answers = [finding for finding in findings if finding.part is not Part.INPUT]
    drift = [
        _drifted("inputs", inputs, params),
        _drifted("predictions", answers, params),
        *(_whole(found, params) for found in whole_rows),
        *_meaning(live),
    ]
    quality_live = _live(live, params)
    reasons = (quality_live, *drift, *quality)
    changed = [check for check in (*drift, *quality) if check.status is Status.FAIL]
    if quality_live.status is Status.FAIL:
        said = f"the labels show a worse model than was released: {quality_live.meaning}"
        return Verdict(Outcome.DEGRADED, said, reasons)
    if changed:
        return Verdict(Outcome.DRIFT, "; ".join(check.meaning for check in changed), reasons)
    values = [finding for finding in inputs if finding.change is Change.VALUES]
    few = [finding for finding in values if finding.status is Found.FEW]
    if not values or 2 * len(few) > len(values):
        return Verdict(
            Outcome.INCONCLUSIVE,
            f"{rows:,} rows are too few to tell: only a change beyond {params.watch.drift.min_detectable:g} would show",
            reasons,
        )
    said = "nothing that the model uses has changed"
    if few:
        said += f", as far as can be told: {len(few)} of {len(values)} columns have too few rows"
    return Verdict(Outcome.STEADY, f"{said}{_quality_words(live, params)}", reasons)


def _quality_words(live: Live | None, params: Params) -> str:
    judged = gate_metric(live, params)
    if live is None or not live.labelled:
        return "; without labels nothing is known of its quality"
    if judged is None:
        return "; its labels tell nothing of its quality"
    if judged.level is Level.HELD:
        return f", and {judged.name} holds what the holdout promised"
    return f"; whether {judged.name} holds, these labels cannot tell"


def gate_metric(live: Live | None, params: Params) -> LiveMetric | None:
    """The gate's metric in the window; None where there are too few labels."""
    return named(live.metrics, params.gate.metric) if live is not None else None


def _drifted(name: str, findings: Sequence[Finding], params: Params) -> Check:
    bounds = params.watch.drift
    bound = f"q ≤ {bounds.discovery_rate:g} and effect ≥ {bounds.min_effect:g}, shares {bounds.min_share_change:g}"
    drifted = [finding for finding in findings if finding.status is Found.DRIFT]
    noted = [finding for finding in findings if finding.status is Found.NOTE]
    few = [finding for finding in findings if finding.status is Found.FEW]
    if not findings:
        return make_check(name, Status.SKIP, "none", bound, f"no {name} to compare")
    if drifted:
        columns, worst = list(dict.fromkeys(finding.column for finding in drifted)), drifted[0]
        value = f"{len(columns)} of {len({finding.column for finding in findings})} changed"
        first = f"first of all {worst.column} ({worst.change}, effect {worst.effect:.3f})"
        return make_check(name, Status.FAIL, value, bound, f"{name} changed: {listed(columns)}; {first}")
    status, said = Status.PASS, "none that the model uses has changed" if noted else "none has changed"
    if few:
        status, said = Status.WARN, "there are too few rows to tell"
    if noted:
        said += f"; changed, but hardly used: {listed(list(dict.fromkeys(finding.column for finding in noted)))}"
    return make_check(name, status, "0 changed", bound, said)


def _whole(found: WholeRow, params: Params) -> Check:
    alarming = found.differs and found.against == "training"
    told = f"a classifier tells {found.rows:,} rows of each side apart with AUC {found.auc:.3f}"
    led = f", by {listed(list(found.features))}" if found.differs and found.features else ""
    return make_check(
        f"whole rows, {found.against}",
        Status.FAIL if alarming else Status.WARN if found.differs else Status.PASS,
        f"AUC {found.auc:.3f}",
        f"below {params.watch.drift.min_auc:g}, or by chance ({_chance(found.p_value)})",
        f"{told}{led}" if found.differs else f"whole rows look like those of {found.against}",
    )


def _meaning(live: Live | None) -> list[Check]:
    """Concept drift: the same scores stand for other outcomes."""
    found = live.meaning if live is not None else ()
    if not found:
        return []
    worst = max(found, key=lambda change: (change.changed, change.gap))
    said = (
        f"scores{'' if worst.name == 'score' else f' of {worst.name}'} mean something else: of these rows"
        f" {worst.before:.3f} was expected by their scores and {worst.after:.3f} came"
        if worst.changed
        else "scores mean about what they meant"
        if worst.p_value <= MEANING_LEVEL
        else "scores mean what they meant"
    )
    value, bound = (
        f"mean gap {worst.gap:.4f} ({_chance(worst.p_value)})",
        f"a gap below {worst.bound:.3g}, or by chance",
    )
    return [make_check("meaning of scores", Status.FAIL if worst.changed else Status.PASS, value, bound, said)]


def _chance(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _unjudged(live: Live, judged: LiveMetric | None, metric: str) -> str:
    """Why the labels there are say nothing of the gate's metric."""
    if live.rows < MIN_LABELLED:
        unknown = f"; {live.unknown:,} more are of no class that the model knows, or no number" if live.unknown else ""
        return f"too few labels to judge by{unknown}"
    if judged is None:
        return f"{metric} cannot be had from these labels, as where all are of one class"
    if metric in GROWS_IN_SMALL_SAMPLES:
        return f"{metric} depends on the number of rows, and is not compared; the meaning of scores is"
    return f"there is no {metric} of the holdout to compare with"


def _live(live: Live | None, params: Params) -> Check:
    if live is None or not live.answered:
        meaning = "the served model answered nothing in the window whose labels should have come"
        return make_check("live quality", Status.SKIP, "no answers", "", meaning)
    about = "about " if live.sampled else ""
    share = f"{about}{live.labelled:,} of {live.answered:,} rows have a label ({live.labelled / live.answered:.1%})"
    judged = gate_metric(live, params)
    if judged is None or judged.change is None:
        status, meaning = Status.WARN if live.unknown else Status.SKIP, _unjudged(live, judged, params.gate.metric)
        return make_check("live quality", status, share, f"at least {MIN_LABELLED} labels", meaning)
    told = (
        f"{judged.name} is {judged.live.value:.4f}, {judged.holdout.value:.4f} on the holdout" if judged.holdout else ""
    )
    change = f"change {judged.change.value:+.4f} [{judged.change.low:+.4f}, {judged.change.high:+.4f}]"
    status, words = {
        Level.WORSE: (Status.FAIL, "worse beyond the margin and both uncertainties"),
        Level.HELD: (Status.PASS, "it holds"),
        Level.UNCLEAR: (Status.WARN, "these labels cannot tell whether it holds"),
    }[judged.level]
    bound = f"worse by at most {judged.margin:.4g}"
    return make_check(f"live {judged.name}", status, f"{change}; {share}", bound, f"{told}: {words}")


_MOVED = (Found.DRIFT, Found.NOTE)


class SharedFinding(Frozen):
    """A column that changed in the same way in several models, with its effect in each; `steady` has it unchanged.

    It is known by its name: models of one repository that read a column of one name read it from one place.
    """

    column: str
    change: Change
    effects: dict[str, float]
    steady: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """What was found, and whose it is."""
        told = ", ".join(f"{model} ({effect:.3f})" for model, effect in self.effects.items())
        but = f"; it is steady in {', '.join(self.steady)}" if self.steady else ""
        return (
            f"{self.column}: its {self.change.value} changed in {told} at once{but}. One cause upstream is likelier "
            f"than {len(self.effects)}: look where the column comes from before a model is retrained"
        )


def shared_findings(watched: Mapping[str, Watched]) -> tuple[SharedFinding, ...]:
    """The columns that moved in two models or more, in one of them as drift, in windows that overlap.

    Args:
        watched: what the look at each model found, by its name.

    Returns:
        One finding for each column and kind of change, those of the most models first.
    """
    effects: dict[tuple[str, Change], dict[str, float]] = {}
    drifted: set[tuple[str, Change]] = set()
    steady: dict[tuple[str, Change], list[str]] = {}
    for model, look in watched.items():
        for finding in look.findings:
            key = (finding.column, finding.change)
            if finding.part is not Part.INPUT:
                continue
            if finding.status in _MOVED:
                effects.setdefault(key, {})[model] = finding.effect
                drifted |= {key} if finding.status is Found.DRIFT else set()
            elif finding.status is Found.STEADY:
                steady.setdefault(key, []).append(model)
    found = [
        SharedFinding(column=key[0], change=key[1], effects=moved, steady=tuple(steady.get(key, ())))
        for key, moved in effects.items()
        if key in drifted and len(moved) > 1 and _overlap([watched[model] for model in moved])
    ]
    return tuple(sorted(found, key=lambda one: (-len(one.effects), one.column, one.change)))


def _overlap(looks: list[Watched]) -> bool:
    """Whether there is a time that all windows hold."""
    return max(look.stretch.start for look in looks) < min(look.stretch.end for look in looks)
