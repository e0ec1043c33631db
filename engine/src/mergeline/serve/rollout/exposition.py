"""Tells Prometheus of the models and the rollout, from what all workers have counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mergeline.serve.rollout.controller import RolloutController
from mergeline.serve.rollout.counts import (
    DIFFERENT,
    DROPPED,
    FAILED,
    FALLBACKS,
    INVALID,
    LATENCIES_A_DECADE,
    RECORDS,
    REQUESTS,
    ROLES,
    SECONDS,
    Counts,
    latency_edge,
)
from mergeline.serve.rollout.state import DecisionKind, Phase, RolloutState, weight

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from mergeline.serve.state import Serving

_EVERY = LATENCIES_A_DECADE // 4
"""Of the 24 buckets a decade Prometheus gets each sixth edge; sums over them stay exact."""


class RolloutCollector:
    """A collector for prometheus_client's registry; any worker gives the numbers of all."""

    def __init__(self, controller: RolloutController) -> None:
        self._controller = controller

    def collect(self) -> Iterable[Metric]:
        """The families as they stand."""
        from prometheus_client.core import GaugeMetricFamily

        counts = self._controller.counts()
        if counts is not None:
            yield from _counted(counts)
        yield from _rolled_out(self._controller.serving, self._controller.state)
        unknown = GaugeMetricFamily(
            "mergeline_rollout_state_unreadable", "1 while the rollout's state cannot be read, and stable answers alone"
        )
        unknown.add_metric([], int(bool(self._controller.unknown)))
        yield unknown


def _counted(counts: Counts) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    wholes = (
        ("mergeline_role_requests", "Requests that a model scored, or failed to", REQUESTS),
        ("mergeline_role_errors", "Requests that a model gave no usable scores for", FAILED),
        ("mergeline_role_records", "Records that a model was asked for", RECORDS),
        ("mergeline_role_invalid_scores", "Scores that were no finite number", INVALID),
    )
    for name, text, what in wholes:
        family = CounterMetricFamily(name, text, labels=["role"])
        for role in ROLES:
            family.add_metric([role], counts.of(role, what))
        yield family
    histogram = HistogramMetricFamily("mergeline_role_seconds", "How long a model took for a request", labels=["role"])
    for role in ROLES:
        histogram.add_metric([role], _buckets(counts.latencies(role)), counts.sum_of(role, SECONDS))
    yield histogram
    commons = (
        ("mergeline_fallbacks", "Records that stable answered since the candidate could not", FALLBACKS),
        ("mergeline_shadow_dropped", "Records that were not scored beside since the queue was full", DROPPED),
        ("mergeline_pairs_different", "Records that both models scored, with different labels", DIFFERENT),
    )
    for name, text, what in commons:
        yield CounterMetricFamily(name, text, value=int(counts.common[what]))
    yield CounterMetricFamily("mergeline_pairs", "Records that both models scored", value=counts.pairs)


def _buckets(latencies: list[int]) -> list[tuple[str, float]]:
    edges = range(_EVERY, len(latencies) - 1, _EVERY)
    buckets = [(f"{latency_edge(edge):.6g}", float(sum(latencies[: edge + 1]))) for edge in edges]
    return [*buckets, ("+Inf", float(sum(latencies)))]


def _rolled_out(serving: Serving | None, state: RolloutState | None) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    answered = weight(serving.rollout, state) if serving and serving.candidate and state else 0
    family = GaugeMetricFamily(
        "mergeline_weight", "Share of the requests that a model answers, in percent", labels=["role"]
    )
    family.add_metric(["stable"], 100 - answered)
    family.add_metric(["candidate"], answered)
    yield family
    step = GaugeMetricFamily("mergeline_rollout_step", "The rollout's step, from 1; 0 where nothing rolls out")
    step.add_metric([], state.step + 1 if state else 0)
    yield step
    phases = GaugeMetricFamily("mergeline_rollout_phase", "1 for the phase that the rollout is in", labels=["phase"])
    for phase in Phase:
        phases.add_metric([phase], int(state is not None and state.phase is phase))
    yield phases
    refused = GaugeMetricFamily("mergeline_candidate_refused", "1 while the manifest's candidate cannot be loaded")
    refused.add_metric([], int(serving is not None and serving.refused is not None))
    yield refused
    decided = CounterMetricFamily("mergeline_rollout_decisions", "Decisions of this rollout", labels=["decision"])
    for kind in DecisionKind:
        decided.add_metric([kind], state.decided.get(kind, 0) if state else 0)
    yield decided
    values = GaugeMetricFamily("mergeline_analysis_value", "What an analysis measured last", labels=["analysis"])
    for name, progress in state.analyses.items() if state else ():
        if progress.measurements and progress.measurements[-1].value is not None:
            values.add_metric([name], progress.measurements[-1].value)
    yield values
