"""How a candidate takes over from the stable model: the types that params.yaml and the manifest share."""
# ruff: noqa: N815 - what goes into the manifest is written as there, as in Argo Rollouts

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mergeline.documents import Frozen, nearest

Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}(s|m|h|d)$")]
Bound = Annotated[str, Field(pattern=r"^(<|<=|>|>=) -?[0-9]+(\.[0-9]+)?$")]
Whole = Annotated[int, Field(strict=True)]  # strict, so that the manifest's JSON Schema refuses what the types refuse
Flag = Annotated[bool, Field(strict=True)]

ROLLOUT_METRICS = (
    "error_rate",
    "error_rate_difference",
    "invalid_rate",
    "p50_ms",
    "p99_ms",
    "p50_ratio",
    "p99_ratio",
    "disagreement",
    "score_shift",
    "mean_shift",
)
"""What the server can measure while a rollout runs; docs/rollout.md says what each means."""


class Step(Frozen):
    """A share of the traffic, and how long to hold it."""

    weight: Whole = Field(ge=0, le=100)
    hold: Duration


class Analysis(Frozen):
    """One metric that is judged while a rollout runs, in Argo Rollouts' words."""

    name: str
    metric: str = Field(json_schema_extra={"enum": list(ROLLOUT_METRICS)})
    interval: Duration
    success: Bound
    failure: Bound
    failureLimit: Whole = Field(default=0, ge=0)
    consecutiveErrorLimit: Whole = Field(default=4, ge=0)
    inconclusiveLimit: Whole = Field(default=0, ge=0)
    minSamples: Whole = Field(default=200, ge=1)
    dryRun: Flag = False

    @field_validator("metric")
    @classmethod
    def _metric_exists(cls, metric: str) -> str:
        if metric not in ROLLOUT_METRICS:
            guess = nearest(metric, ROLLOUT_METRICS)
            hint = f"did you mean `{guess}`?" if guess else f"there are {', '.join(ROLLOUT_METRICS)}"
            raise ValueError(f"the server measures no such metric; {hint}")
        return metric


class Rollout(Frozen):
    """How a candidate takes over."""

    strategy: Literal["replace", "canary", "shadow"] = "replace"
    steps: tuple[Step, ...] = ()
    sticky: str | None = None
    analysis: tuple[Analysis, ...] = ()
    onFailure: Literal["rollback", "pause"] = "rollback"
    onError: Literal["rollback", "pause"] = "pause"
    onInconclusive: Literal["rollback", "pause"] = "pause"

    @model_validator(mode="after")
    def _weights_grow(self) -> Rollout:
        weights = [step.weight for step in self.steps]
        if weights != sorted(set(weights)):
            raise ValueError(f"the weights must grow from step to step, found {weights}")
        if self.strategy == "shadow" and weights[:1] == [0]:
            raise ValueError("steps: weight 0 in a shadow rollout scores no request, so nothing could be measured")
        names = [analysis.name for analysis in self.analysis]
        if len(names) != len(set(names)):
            raise ValueError(f"analysis: each needs a name of its own, found {names}")
        return self
