"""Writes what was found as metrics, for the textfile collector of Prometheus' node exporter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mergeline.evaluate.results import Status
from mergeline.watch.drift import Status as Found
from mergeline.watch.results import Outcome

if TYPE_CHECKING:
    from mergeline.evaluate.results import Estimate
    from mergeline.watch.results import Watched

Sample = tuple[dict[str, str], float]

_LEVELS = {Status.PASS: 0.0, Status.SKIP: 0.0, Status.WARN: 1.0, Status.FAIL: 2.0}


def render(watched: Watched) -> str:
    """The whole file, in the text format 0.0.4; every sample carries the model's name."""
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} gauge\n"
        + "".join(f"{name}{_labels({'model': watched.name} | labels)} {_number(value)}\n" for labels, value in samples)
        for name, text, samples in _families(watched)
        if samples
    )


def _families(watched: Watched) -> Iterator[tuple[str, str, list[Sample]]]:
    start, end = watched.stretch.start.timestamp(), watched.stretch.end.timestamp()
    yield (
        "mergeline_watch_info",
        "The model that was watched",
        [({"version": str(watched.version), "digest": watched.digest}, 1.0)],
    )
    yield (
        "mergeline_watch_verdict",
        "1 for the verdict of the window, 0 for the others",
        [({"outcome": outcome.value}, float(outcome is watched.outcome)) for outcome in Outcome],
    )
    yield "mergeline_watch_timestamp_seconds", "When production was watched", [({}, watched.made_at.timestamp())]
    yield "mergeline_watch_window_start_timestamp_seconds", "Start of the window", [({}, start)]
    yield "mergeline_watch_window_end_timestamp_seconds", "End of the window", [({}, end)]
    newest = watched.quality.newest
    yield (
        "mergeline_watch_newest_row_timestamp_seconds",
        "Time of the newest row in the window",
        [] if newest is None else [({}, newest.timestamp())],
    )
    live = watched.live
    rows = [("window", watched.rows), ("answered", watched.answered)]
    rows += [] if live is None else [("judged", live.answered), ("labelled", live.labelled)]
    yield (
        "mergeline_watch_rows",
        "Rows in the window, answered by the watched model, old enough to be judged, and labelled",
        [({"kind": kind}, float(number)) for kind, number in rows],
    )
    yield (
        "mergeline_watch_check",
        "Each reason of the verdict: 0 passed or skipped, 1 warned, 2 failed",
        [({"check": check.name}, _LEVELS[check.status]) for check in watched.reasons],
    )
    named = [
        ({"column": f.column, "part": f.part.value, "change": f.change.value, "against": f.against}, f)
        for f in watched.findings
    ]
    yield (
        "mergeline_watch_drift_effect",
        "Corrected effect of each change: D, Cramer's V, or the change of a share",
        [(labels, finding.effect) for labels, finding in named],
    )
    yield (
        "mergeline_watch_drift_found",
        "1 where the change counts as drift",
        [(labels, float(finding.status is Found.DRIFT)) for labels, finding in named],
    )
    yield (
        "mergeline_watch_whole_row_auc",
        "How well a classifier tells rows of the window from others",
        [({"against": found.against}, found.auc) for found in watched.whole_rows],
    )
    metrics = () if live is None else live.metrics
    yield (
        "mergeline_watch_live_metric",
        "Metrics by labels, with their intervals",
        [sample for metric in metrics for sample in _estimate(metric.name, metric.live)],
    )
    yield (
        "mergeline_watch_holdout_metric",
        "What the holdout promised",
        [({"metric": metric.name}, metric.holdout.value) for metric in metrics if metric.holdout is not None],
    )
    estimated = {} if watched.estimated is None else watched.estimated.metrics
    yield (
        "mergeline_watch_estimated_metric",
        "Metrics estimated without labels",
        [({"metric": name}, value) for name, value in estimated.items()],
    )


def _estimate(name: str, value: Estimate) -> Iterator[Sample]:
    for bound, number in (("value", value.value), ("low", value.low), ("high", value.high)):
        if number is not None:
            yield {"metric": name, "bound": bound}, number


def _labels(labels: dict[str, str]) -> str:
    written = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{written}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return repr(float(value))
