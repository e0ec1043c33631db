"""The metrics of scored rows on bootstrap resamples, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from mergeline.evaluate.metrics import measure, prepare
from mergeline.evaluate.results import Estimate, Metric
from mergeline.evaluate.scoring import Floats, Scored
from mergeline.params import METRICS
from mergeline.stats import bootstrap


def resample(models: Sequence[Scored], resamples: int, seed: int) -> list[dict[str, Floats]]:
    """Every metric of every model on the same resamples of the rows, as `stats.bootstrap.resample`.

    Args:
        models: truth and scores of the same n rows.
        resamples: how many.
        seed: of the draws.
    """
    measures = [prepare(scored) for scored in models]
    return bootstrap.resample(measures, len(models[0].truth), resamples=resamples, seed=seed)


def interval(value: float, draws: Floats, confidence: float) -> Estimate:
    """The value with the percentile interval of its draws; without one where too few draws are defined."""
    ends = bootstrap.percentile_interval(draws, confidence)
    return Estimate(value=value) if ends is None else Estimate(value=value, low=ends[0], high=ends[1])


def estimates(scored: Scored, *, resamples: int, confidence: float, seed: int) -> tuple[Metric, ...]:
    """Every metric that is defined on these rows, with its interval."""
    values = measure(scored)
    if not values:
        return ()
    (draws,) = resample([scored], resamples, seed)
    return tuple(
        Metric(name=name, estimate=interval(value, draws[name], confidence), higher_is_better=better)
        for name, better in METRICS[scored.task].items()
        if (value := values.get(name)) is not None
    )
