"""Compares a shadow or a candidate with the stable model, on what they have answered in production."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.compare import compare, conclude, margin_in
from mergeline.evaluate.results import Comparison, Estimate, GateOutcome, LabelComparison, named
from mergeline.evaluate.scoring import Scored, threshold_of
from mergeline.journal.listing import NoJournalError
from mergeline.journal.window import Clock, Journal, Window, find_journal, held
from mergeline.model.bin_counts import connect, literal
from mergeline.params import Task
from mergeline.report.words import comparison_words
from mergeline.stats.paired import paired_test
from mergeline.timing import EARLIEST
from mergeline.watch.labelled import Labelled, class_codes, read_labelled
from mergeline.watch.performance import MIN_LABELLED, Level, compare_unpaired
from mergeline.watch.released_model import Context, Served, read_served
from mergeline.watch.results import Agreement, Rival
from mergeline.watch.window_counts import around_damage

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    from numpy.typing import NDArray

    from mergeline.journal.window import Source
    from mergeline.manifest.schema import Manifest
    from mergeline.params import Params
    from mergeline.scorer.signature import Output

_READINGS = {
    Level.WORSE: "worse than stable beyond the margin",
    Level.HELD: "not worse than stable beyond the margin",
    Level.UNCLEAR: "these rows cannot tell",
}


def find_rivals(context: Context, window: Window, candidate: Served | None) -> tuple[Rival, ...]:
    """The models that answered beside the stable one in the window.

    Args:
        context: what to read from.
        window: the newest one whose labels have had time to come.
        candidate: of the manifest; any other model is taken to answer as the stable one does.
    """
    connection, source = context.connection, context.journal.source(window)
    shadow = _shadow(connection, context.own(window))
    rivals = [] if shadow is None else [_judge_shadow(context, window, shadow, candidate)]
    others = _candidates(connection, source, context.served.digest)
    return (*rivals, *(_judge_canary(context, window, digest, candidate) for digest in others))


def _shadow(connection: duckdb.DuckDBPyConnection, source: Source) -> str | None:
    """The digest of the shadow that answered last; None where none did."""
    relation = source.relation()
    if relation is None or not any(file.shadowed for file in source.files):
        return None
    found = connection.execute(
        f"select arg_max(_shadow_digest, _time) from {relation} where _shadow_digest is not null"
    ).fetchone()
    return found[0] if found else None


def _candidates(connection: duckdb.DuckDBPyConnection, source: Source, stable: str) -> list[str]:
    """The digests of the candidates that answered in the window."""
    part = f"/digest={stable.removeprefix('sha256:')[:12]}/"
    relation = replace(source, files=tuple(file for file in source.files if part not in file.path)).relation()
    if relation is None:
        return []
    rows = connection.execute(f"select distinct _digest from {relation} where _role = 'candidate'").fetchall()
    return sorted(digest for (digest,) in rows if digest)


def _output(context: Context, digest: str, candidate: Served | None) -> Output:
    known = candidate if candidate is not None and candidate.digest == digest else context.served
    return known.signature.output


def _judge_shadow(context: Context, window: Window, digest: str, candidate: Served | None) -> Rival:
    served, params = context.served, context.params
    output = served.signature.output
    slices = [name for name in params.evaluation.slices if name in served.signature.names]
    found = read_labelled(context, window, served.digest, output, slices, shadow=digest)
    both = np.flatnonzero(np.isfinite(found.shadow_scores))
    agreement = _agreement(context.connection, context.own(window).relation() or "", digest)
    rival = Rival(
        digest=digest,
        role="shadow",
        paired=True,
        requests=agreement.rows if agreement else 0,
        labelled=len(both),
        agreement=agreement,
        reading="too few labels of requests that both answered",
    )
    if len(both) < MIN_LABELLED:
        return rival
    champion = found.scored.take(both)
    if output.task is Task.MULTICLASS:
        # The journal has the shadow's class, not its scores: only the share of right answers can be compared.
        right = champion.labels() == champion.truth, found.shadow_labels[both] == champion.truth
        hits, _, reading = compare_accuracy(*right, served, params)
        return rival.model_copy(update={"gain": hits, "reading": reading})
    threshold = threshold_of(_output(context, digest, candidate))
    challenger = replace(champion, scores=found.shadow_scores[both], threshold=threshold)
    frame = found.frame.iloc[both].reset_index(drop=True)
    result, gain = _compared(champion, challenger, frame, slices, context)
    return rival.model_copy(update={"comparison": result, "gain": gain, "reading": comparison_words(result, params)})


def _compared(
    champion: Scored, challenger: Scored, frame: pd.DataFrame, slices: Sequence[str], context: Context
) -> tuple[Comparison, Estimate | None]:
    """The gate's paired test, with some slices of its own, and the gain in the gate's metric."""
    params, served = context.params, context.served
    evaluation = params.evaluation.model_copy(update={"slices": tuple(slices)})
    settings = params.model_copy(update={"evaluation": evaluation})
    result = compare(champion, challenger, frame, settings, digest=served.digest, version=served.version)
    judged = named(result.metrics, params.gate.metric)
    return result, judged.gain if judged is not None else None


def compare_accuracy(
    old: NDArray[np.bool_], new: NDArray[np.bool_], served: Served, params: Params
) -> tuple[Estimate, GateOutcome, str]:
    """The paired gain of the share of right answers, its outcome by the gate's margin, and both in words.

    Args:
        old: whether the stable model was right on each row, shape (n,).
        new: whether the other was.
        served: the stable model; the gate's margin is scaled by what was promised of it.
        params: the gate's.
    """
    promised = named(served.metrics, params.gate.metric)
    gate_metric = promised.estimate.value if promised is not None else None
    margin = margin_in("accuracy", float(old.mean()), params, gate_metric=gate_metric)
    tested = paired_test(old.astype(np.float64) - new, margin, params.gate.confidence)
    gain = Estimate(value=-tested.added, low=-tested.high, high=-tested.low)
    reading = (
        f"accuracy {new.mean():.4f} against stable's {old.mean():.4f}, gain {gain.value:+.4f} "
        f"[{gain.low:+.4f}, {gain.high:+.4f}]"
    )
    return gain, conclude(gain, margin), reading


def _agreement(connection: duckdb.DuckDBPyConnection, relation: str, digest: str) -> Agreement | None:
    row = connection.execute(
        "select count(*), avg((_label is not distinct from _shadow_label)::int), avg(abs(_shadow_score - _score)),"
        " corr(_shadow_score, _score), count(_label)"
        f" from {relation} where _shadow_digest = {literal(digest)} and isfinite(_shadow_score) and isfinite(_score)"
    ).fetchone()
    if row is None or not row[0]:
        return None
    rows, same, difference, correlation, labelled = row
    finite = correlation is not None and np.isfinite(correlation)
    return Agreement(
        rows=rows,
        same_label=float(same) if labelled else None,
        mean_difference=float(difference),
        correlation=float(correlation) if finite else None,
    )


def _judge_canary(context: Context, window: Window, digest: str, candidate: Served | None) -> Rival:
    served, params, output = context.served, context.params, _output(context, digest, candidate)
    found = read_labelled(context, window, digest, output)
    rival = Rival(
        digest=digest,
        role="candidate",
        paired=False,
        requests=found.answered,
        labelled=found.labelled,
        reading="too few labels",
    )
    if len(found.scored.truth) < MIN_LABELLED or class_codes(output) != class_codes(served.signature.output):
        return rival
    stable = read_labelled(context, window, served.digest, served.signature.output)
    if len(stable.scored.truth) < MIN_LABELLED:
        return rival
    metrics = compare_unpaired(found.scored, stable.scored, params)
    judged = named(metrics, params.gate.metric)
    if judged is None or judged.change is None or judged.change.low is None or judged.change.high is None:
        return rival.model_copy(update={"metrics": metrics, "reading": "the gate's metric is undefined on these rows"})
    sign = 1 if judged.higher_is_better else -1
    ends = sorted((sign * judged.change.low, sign * judged.change.high))
    gain = Estimate(value=sign * judged.change.value, low=ends[0], high=ends[1])
    reading = f"{_READINGS[judged.level]}; the two answered different requests, so the test is unpaired"
    return rival.model_copy(update={"metrics": metrics, "gain": gain, "reading": reading})


def try_candidate(
    root: Path, params: Params, manifest: Manifest, journal: str, *, since: datetime, now: datetime
) -> LabelComparison | None:
    """Judge the candidate by the labels that came for what was answered from `since` on.

    In a shadow rollout the candidate scored what stable answered; in a canary stable scored beside it what it answered.
    Both count. Only where there are too few of those are the answers of one compared with others of the other.

    Returns:
        None where there is no candidate. Where there is no journal it says so, and nothing of the candidate.

    Raises:
        WatchError: the journal does not answer, or cannot be read.
        StoreError: a model is not in the store.
        ModelError: a model cannot be read.
    """
    stable, rolling = manifest.spec.stable, manifest.spec.candidate
    if stable is None or rolling is None:
        return None
    served, other = read_served(root, params, stable), read_served(root, params, rolling)
    since = min(max(since, EARLIEST), now)  # a server may say that it began at any time
    window = Window(since, now, Clock.ARRIVAL)
    with connect() as connection, held(journal):
        try:
            found = find_journal(connection, journal, since, now, Clock.ARRIVAL)
        except NoJournalError as error:
            reading = f"not looked at: {error.what}"
            return LabelComparison(paired=False, labelled=0, reading=reading)
        context = Context(connection, found, served, params)
        if class_codes(served.signature.output) != class_codes(other.signature.output):
            reading = "the two models answer different classes, and are not compared"
            return LabelComparison(paired=False, labelled=0, reading=reading)

        def compared(files: Journal) -> LabelComparison:
            seen = replace(context, journal=files)
            trial = _paired(seen, window, other) or _unpaired(seen, window, other)
            reading = trial.reading
            if files.implausible:
                reading += f"; {files.implausible:,} rows are set aside, as their time is before 1900 or after 2199"
            if files.unreadable:
                reading += f"; {len(files.unreadable)} of the journal's files could not be read"
            return trial.model_copy(update={"reading": reading})

        return around_damage(connection, found, journal, compared)


def _paired(context: Context, window: Window, other: Served) -> LabelComparison | None:
    """The gate's paired test on the requests that both scored; None where too few of them have a label."""
    served, params = context.served, context.params
    one, both = _both(context, window, served, other)
    two, again = _both(context, window, other, served)
    truth = np.concatenate([one.scored.truth[both], two.scored.truth[again]])
    rows = len(truth)
    if rows < MIN_LABELLED:
        return None
    if params.task is Task.MULTICLASS:  # the journal has the other model's class alone: right answers are counted
        right = np.concatenate([one.scored.labels()[both], two.shadow_labels[again]]) == truth
        theirs = np.concatenate([one.shadow_labels[both], two.scored.labels()[again]]) == truth
        hits, outcome, told = compare_accuracy(right, theirs, served, params)
        reading = f"on {rows:,} labelled requests that both scored, {told}"
        return LabelComparison(paired=True, labelled=rows, outcome=outcome, gain=hits, reading=reading)
    old = np.concatenate([one.scored.scores[both], two.shadow_scores[again]])
    new = np.concatenate([one.shadow_scores[both], two.scored.scores[again]])
    champion = _scored(one.scored, truth, old, served.signature.output)
    challenger = _scored(one.scored, truth, new, other.signature.output)
    import pandas as pd

    result, gain = _compared(champion, challenger, pd.DataFrame(index=range(rows)), (), context)
    reading = f"on {rows:,} labelled requests that both scored, {comparison_words(result, params)}"
    return LabelComparison(paired=True, labelled=rows, outcome=result.outcome, gain=gain, reading=reading)


def _both(context: Context, window: Window, answered: Served, scored: Served) -> tuple[Labelled, NDArray[np.intp]]:
    """The labelled rows that one model answered, and the places of those that the other scored beside it."""
    output = answered.signature.output
    found = read_labelled(context, window, answered.digest, output, shadow=scored.digest)
    usable = found.shadow_labels >= 0 if output.task is Task.MULTICLASS else np.isfinite(found.shadow_scores)
    return found, np.flatnonzero(usable)


def _scored(like: Scored, truth: NDArray[np.float64], scores: NDArray[np.float64], output: Output) -> Scored:
    kind = np.float64 if output.task is Task.REGRESSION else np.int64
    return replace(like, truth=truth.astype(kind), scores=scores, threshold=threshold_of(output))


def _unpaired(context: Context, window: Window, other: Served) -> LabelComparison:
    rivals = find_rivals(context, window, other)
    found = next((rival for rival in rivals if rival.digest == other.digest and rival.role == "candidate"), None)
    if found is None or found.gain is None:
        labelled = found.labelled if found else 0
        reading = f"{labelled:,} labels of what the candidate answered: too few to compare"
        return LabelComparison(paired=False, labelled=labelled, reading=reading)
    judged = next(metric for metric in found.metrics if metric.name == context.params.gate.metric)
    outcome = conclude(found.gain, judged.margin)
    # The labels of other requests are a weak test: what they cannot tell stays open.
    certain = outcome if outcome is not GateOutcome.INCONCLUSIVE else None
    return LabelComparison(
        paired=False, labelled=found.labelled, outcome=certain, gain=found.gain, reading=found.reading
    )
