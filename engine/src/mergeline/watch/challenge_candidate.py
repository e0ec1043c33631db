"""Compares a candidate that rolls out with the stable model, by the labels of requests that both have scored."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.compare import compare, conclude
from mergeline.evaluate.results import GateOutcome, LabelComparison
from mergeline.evaluate.scoring import Scored, class_names, threshold_of
from mergeline.journal.listing import NoJournalError
from mergeline.journal.window import Clock, Journal, Window, find_journal, held
from mergeline.params import Task
from mergeline.report.words import comparison_words
from mergeline.timing import EARLIEST
from mergeline.watch.labelled import Labelled, class_codes, read_labelled
from mergeline.watch.performance import MIN_LABELLED
from mergeline.watch.released_model import Context, Served, read_served
from mergeline.watch.shadow_comparison import Candidate, compare_accuracy, find_rivals
from mergeline.watch.window_counts import around_damage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mergeline.manifest.schema import Manifest
    from mergeline.params import Params
    from mergeline.scorer.signature import Output


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
    from mergeline.model.bin_counts import connect

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

    plain = params.model_copy(update={"evaluation": params.evaluation.model_copy(update={"slices": ()})})
    frame = pd.DataFrame(index=range(rows))
    result = compare(champion, challenger, frame, plain, digest=served.digest, version=served.version)
    gain = next((metric.gain for metric in result.metrics if metric.name == params.gate.metric), None)
    reading = f"on {rows:,} labelled requests that both scored, {comparison_words(result, params)}"
    return LabelComparison(paired=True, labelled=rows, outcome=result.outcome, gain=gain, reading=reading)


def _both(context: Context, window: Window, answered: Served, scored: Served) -> tuple[Labelled, NDArray[np.intp]]:
    """The labelled rows that one model answered, and the places of those that the other scored beside it."""
    relation = context.journal.source(window).of_digest(answered.digest).relation()
    output = answered.signature.output
    if relation is None:
        return _none(output), np.array([], dtype=np.intp)
    feedback = context.journal.feedback_since(window)
    found = read_labelled(context.connection, relation, feedback, output, shadow=scored.digest)
    usable = found.shadow_labels >= 0 if output.task is Task.MULTICLASS else np.isfinite(found.shadow_scores)
    return found, np.flatnonzero(usable)


def _none(output: Output) -> Labelled:
    width = (0, len(output.classes)) if output.task is Task.MULTICLASS else (0,)
    nothing = Scored(output.task, np.array([]), np.empty(width), class_names(output), threshold_of(output))
    return Labelled(nothing, {}, 0, 0, False, 0, np.array([]), np.array([], dtype=np.int64))


def _scored(like: Scored, truth: NDArray[np.float64], scores: NDArray[np.float64], output: Output) -> Scored:
    kind = np.float64 if output.task is Task.REGRESSION else np.int64
    return replace(like, truth=truth.astype(kind), scores=scores, threshold=threshold_of(output))


def _unpaired(context: Context, window: Window, other: Served) -> LabelComparison:
    rivals = find_rivals(context, window, Candidate(other.digest, other.signature.output))
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
