"""Compares a shadow or a canary with the stable model, on what both have answered in production."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mergeline.evaluate.compare import compare, conclude, margin_in
from mergeline.evaluate.metrics import estimates
from mergeline.evaluate.results import Estimate, GateOutcome, Metric
from mergeline.evaluate.scoring import threshold_of
from mergeline.model.bin_counts import literal
from mergeline.params import Task
from mergeline.report.words import comparison_words
from mergeline.stats.paired import paired_test
from mergeline.watch.labelled import class_codes, read_labelled
from mergeline.watch.performance import MIN_LABELLED, Level, LiveMetric, compare_unpaired
from mergeline.watch.results import Agreement, Rival
from mergeline.watch.window_counts import count_rows

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

    from mergeline.evaluate.scoring import Scored
    from mergeline.journal.window import Source, Window
    from mergeline.params import Params
    from mergeline.scorer.signature import Output
    from mergeline.watch.released_model import Context, Served

_READINGS = {
    Level.WORSE: "worse than stable beyond the margin",
    Level.HELD: "not worse than stable beyond the margin",
    Level.UNCLEAR: "these rows cannot tell",
}


@dataclass(frozen=True)
class Candidate:
    """The manifest's candidate, and what it answers."""

    digest: str
    output: Output


def find_rivals(context: Context, window: Window, candidate: Candidate | None) -> tuple[Rival, ...]:
    """The models that answered beside the stable one in the window.

    Args:
        context: what to read from.
        window: the newest one whose labels have had time to come.
        candidate: of the manifest; a model that it does not name is taken to answer as the stable one does.
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


def _judge_shadow(context: Context, window: Window, digest: str, candidate: Candidate | None) -> Rival:
    connection, served, params = context.connection, context.served, context.params
    relation = context.own(window).relation() or ""
    output = served.signature.output
    slices = [name for name in params.evaluation.slices if name in served.signature.names]
    feedback = context.journal.feedback_since(window)
    found = read_labelled(connection, relation, feedback, output, slices, shadow=digest)
    both = np.flatnonzero(np.isfinite(found.shadow_scores))
    agreement = _agreement(connection, relation, digest)
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
    named = candidate is not None and candidate.digest == digest
    threshold = threshold_of(candidate.output) if candidate is not None and named else champion.threshold
    challenger = replace(champion, scores=found.shadow_scores[both], threshold=threshold)
    result = compare(
        champion,
        challenger,
        found.frame.iloc[both].reset_index(drop=True),
        params.model_copy(update={"evaluation": params.evaluation.model_copy(update={"slices": tuple(slices)})}),
        digest=served.digest,
        version=served.version,
    )
    gain = next((metric.gain for metric in result.metrics if metric.name == params.gate.metric), None)
    return rival.model_copy(update={"comparison": result, "gain": gain, "reading": comparison_words(result, params)})


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
    promised = next((metric.estimate.value for metric in served.metrics if metric.name == params.gate.metric), None)
    margin = margin_in("accuracy", float(old.mean()), params, gate_metric=promised)
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


def _judge_canary(context: Context, window: Window, digest: str, candidate: Candidate | None) -> Rival:
    connection, served, params = context.connection, context.served, context.params
    source = context.journal.source(window)
    relation = source.of_digest(digest).relation() or ""
    output = candidate.output if candidate is not None and candidate.digest == digest else served.signature.output
    feedback = context.journal.feedback_since(window)
    found = read_labelled(connection, relation, feedback, output)
    rival = Rival(
        digest=digest,
        role="candidate",
        paired=False,
        requests=count_rows(connection, relation),
        labelled=found.labelled,
        reading="too few labels",
    )
    own = context.own(window).relation()
    if (
        own is None
        or len(found.scored.truth) < MIN_LABELLED
        or class_codes(output) != class_codes(served.signature.output)
    ):
        return rival
    stable = read_labelled(connection, own, feedback, served.signature.output)
    if len(stable.scored.truth) < MIN_LABELLED:
        return rival
    metrics = _side_by_side(found.scored, stable.scored, params)
    judged = next((metric for metric in metrics if metric.name == params.gate.metric), None)
    if judged is None or judged.change is None or judged.change.low is None or judged.change.high is None:
        return rival.model_copy(update={"metrics": metrics, "reading": "the gate's metric is undefined on these rows"})
    sign = 1 if judged.higher_is_better else -1
    ends = sorted((sign * judged.change.low, sign * judged.change.high))
    gain = Estimate(value=sign * judged.change.value, low=ends[0], high=ends[1])
    reading = f"{_READINGS[judged.level]}; the two answered different requests, so the test is unpaired"
    return rival.model_copy(update={"metrics": metrics, "gain": gain, "reading": reading})


def _side_by_side(candidate: Scored, stable: Scored, params: Params) -> tuple[LiveMetric, ...]:
    """The candidate's metrics as the live ones, the stable model's in the place of the holdout's."""
    settings = {"confidence": params.gate.confidence, "seed": params.model.seed}
    resamples = max(200, min(params.evaluation.resamples, 20_000_000 // max(len(candidate.truth), len(stable.truth))))

    def measured(scored: Scored) -> tuple[Metric, ...]:
        return estimates(scored, resamples=resamples, **settings)  # type: ignore[arg-type]

    return compare_unpaired(measured(candidate), measured(stable), params)
