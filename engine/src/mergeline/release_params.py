"""The section `release` of params.yaml: the environments, how a model takes over in each, and its signature."""
# ruff: noqa: N815 - what goes into the manifest is written as there, as in Argo Rollouts

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from mergeline.documents import Frozen, nearest, text_like

SPAN = "a length of time", "a whole number and its unit (m, h, d or w), as 90m, 24h, 7d"
Span = Annotated[str, text_like(r"^[1-9][0-9]{0,5}[mhdw]$", *SPAN)]
"""A length of time: minutes, hours, days or weeks."""
Duration = Annotated[
    str,
    text_like(
        r"^[1-9][0-9]{0,5}(s|m|h|d)$", "a length of time", "a whole number and its unit (s, m, h or d), as 30s, 15m, 2h"
    ),
]
Bound = Annotated[
    str,
    text_like(
        r"^(<|<=|>|>=) -?[0-9]+(\.[0-9]+)?$", "a bound", 'a comparison, a space and a number, as "<= 0.01" or "> 0.05"'
    ),
]
Whole = Annotated[int, Field(strict=True)]  # strict, so that the manifest's JSON Schema refuses what the types refuse
Flag = Annotated[bool, Field(strict=True)]

EnvironmentName = Annotated[
    str,
    text_like(
        r"^[a-z][a-z0-9-]{0,30}$", "a name of an environment", "at most 31 small letters, digits and dashes, as staging"
    ),
]

ONE_ENVIRONMENT = ("production",)
DEPLOY_FOLDERS = frozenset({"kubernetes", "observability", "service", "signatures"})
"""What else is in `deploy/`, where each environment but the last has a folder of its own."""

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


class SigningParams(Frozen):
    """Whether a model folder must be signed."""

    policy: Literal["off", "required"] = "off"
    public_key: str = "deploy/signing.pub"


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


class EnvironmentParams(Frozen):
    """What one environment has of its own.

    `rollout` is how models take over there, `status` the address of its server's GET /status, `journal` where that
    server keeps what it answered.
    """

    rollout: Rollout | None = None
    status: Annotated[str, text_like(r"^https?://\S+$", "an address", "one as https://host/status")] | None = None
    journal: str | None = None


class ReleaseParams(Rollout):
    """How a proposal becomes what production serves: environments, the rollout in each, and the model's signature.

    The environments are in the order in which a model goes through them: a proposal writes the first one's manifest,
    and the last one is production. A model is promoted after it has served for `soak`.
    """

    environments: tuple[EnvironmentName, ...] = Field(default=ONE_ENVIRONMENT, min_length=1, max_length=9)
    soak: Span = "1d"
    in_environment: dict[EnvironmentName, EnvironmentParams] = {}
    signing: SigningParams = SigningParams()

    @model_validator(mode="after")
    def _a_canary_has_steps(self) -> ReleaseParams:
        for rollout in (self, *(one.rollout for one in self.in_environment.values() if one.rollout)):
            if rollout.strategy == "canary" and not rollout.steps:
                raise ValueError("steps: a canary needs at least one step, as {weight: 5, hold: 15m}")
        return self

    @model_validator(mode="after")
    def _environments_are_known(self) -> ReleaseParams:
        if len(set(self.environments)) < len(self.environments):
            raise ValueError(f"environments: each is named once, found {', '.join(self.environments)}")
        taken = sorted(set(self.environments) & DEPLOY_FOLDERS)
        if taken:
            raise ValueError(f"environments: deploy/{taken[0]}/ has another use; choose another name")
        for name in self.in_environment:
            if name not in self.environments:
                guess = nearest(name, self.environments)
                hint = f"did you mean `{guess}`?" if guess else f"there are {', '.join(self.environments)}"
                raise ValueError(f"in_environment: {name!r} is not one of release.environments; {hint}")
        return self

    @property
    def rollout(self) -> Rollout:
        """How a proposed model takes over, in the first environment."""
        return self.rollout_in(self.environments[0])

    def rollout_in(self, environment: str) -> Rollout:
        """How a model takes over in an environment: as is said for it, else as for all."""
        own = self.in_environment.get(environment, EnvironmentParams()).rollout
        return own or Rollout.model_validate({name: getattr(self, name) for name in Rollout.model_fields})
