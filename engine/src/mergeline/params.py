"""`params.yaml` as frozen types: every number and choice that a team tunes."""
# ruff: noqa: N815 - what goes into the manifest is written as there, as in Argo Rollouts

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mergeline.documents import Frozen, load, nearest
from mergeline.errors import ParamsError
from mergeline.files import canonical_json

PARAMS_FILE = Path("params.yaml")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Span = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[mhdw]$")]
"""A length of time: minutes, hours, days or weeks."""
Reference = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""`module:attribute`, how params name the team's code."""
Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}(s|m|h|d)$")]
Bound = Annotated[str, Field(pattern=r"^(<|<=|>|>=) -?[0-9]+(\.[0-9]+)?$")]
Whole = Annotated[int, Field(strict=True)]  # strict, so that the manifest's JSON Schema refuses what the types refuse
Flag = Annotated[bool, Field(strict=True)]

EnvironmentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]

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


class Task(StrEnum):
    """What the model predicts."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"

    @property
    def classifies(self) -> bool:
        """Whether the answer is a class rather than a number."""
        return self is not Task.REGRESSION


class DataParams(Frozen):
    """Where the data are and what each column is for."""

    path: str = "data"
    schema_: Reference = Field(alias="schema")
    target: str
    positive: bool | int | str = True
    id: str | None = None
    time: str | None = None
    metadata: tuple[str, ...] = ()


ColumnRule = Literal["distribution", "leak", "missing share", "empty column"]
"""A rule of the data gate that a single column can be excepted from; what the schema says has no exceptions."""


class ValidationParams(Frozen):
    """Bounds of the data gate; `allow` names the rules that a column need not keep."""

    known_later: tuple[str, ...] = ()
    allow: dict[str, tuple[ColumnRule, ...]] = {}
    leak_score: Share = 0.95
    max_missing_rise: Share = 0.2
    max_row_change: Positive = 0.5
    min_rows: Count = 100


class SplitParams(Frozen):
    """How the data are divided into rows to train on and rows to judge on.

    `time` holds the newest partitions out; the other kinds draw `holdout_share` of all rows. A draw depends on the rows
    alone, so a row stays on its side when data are added.
    """

    kind: Literal["time", "stratified", "random", "groups"] = Field(
        default="time", exclude_if=lambda kind: kind == "time"
    )
    groups: str | None = Field(default=None, exclude_if=lambda column: column is None)
    holdout: Count = 1
    holdout_share: Share = 0.2
    train: Count | None = None

    @model_validator(mode="after")
    def _keys_go_with_the_kind(self) -> SplitParams:
        if (self.kind == "groups") != (self.groups is not None):
            raise ValueError("groups: name the column whose values stay together, with kind: groups and no other")
        if self.train is not None and self.kind != "time":
            raise ValueError(f"train: newest partitions go with kind: time; with kind: {self.kind} give null")
        return self


class ModelParams(Frozen):
    """How the model is made."""

    factory: Reference
    seed: int = Field(default=0, ge=0)
    threshold: Literal["f1", "balanced_accuracy"] | Share = "f1"
    trusted_types: tuple[str, ...] = ()
    arguments: dict[str, Any] = {}


class EvaluationParams(Frozen):
    """What is measured on the holdout."""

    slices: tuple[str, ...] = ()
    fairness: tuple[str, ...] = ()
    min_slice_rows: Count = 200
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    importance_rows: Count = 4000
    stress_rows: Count = 4000


class GateParams(Frozen):
    """What a model must show to be proposed."""

    metric: str
    margin: Positive
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    floors: dict[str, float] = {}
    slice_margin: Positive
    slice_discovery_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    max_unfairness: Share = 0.3
    max_calibration_error: Share = 0.1
    max_stress_loss: Positive = 0.3
    max_model_mb: Positive = 50
    max_latency_ms: Positive = 100


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
    status: str | None = Field(default=None, pattern=r"^https?://\S+$")
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


class TrackingParams(Frozen):
    """Where runs are recorded when `MLFLOW_TRACKING_URI` is not set."""

    uri: str = "sqlite:///mlflow.db"
    timeout_seconds: Positive = 10


class GuardParams(Frozen):
    """What takes a candidate off at once, whatever its analysis says."""

    max_error_rate: Share = 0.05
    max_invalid_rate: Share = 0.01
    max_latency_ms: Positive = 500
    max_latency_ratio: Annotated[float, Field(ge=1)] = 10
    max_disagreement: Positive = 0.5


class JournalParams(Frozen):
    """How answered predictions are kept."""

    seal_seconds: Positive = 60
    keep_days: Count = 90
    keep_gb: Positive = 20
    when_full: Literal["stop_journal", "stop_answering"] = "stop_journal"
    drop: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    sync: str | None = None

    @model_validator(mode="after")
    def _columns_are_dropped_or_hashed(self) -> JournalParams:
        both = sorted(set(self.drop) & set(self.hash))
        if both:
            raise ValueError(f"hash: column {both[0]!r} is dropped already; name it in `drop` or in `hash`")
        return self


class ServeParams(Frozen):
    """How the server behaves."""

    poll_seconds: Positive = 2
    load_seconds: Positive = 60
    workers: Count = 1
    max_records: Count = 1000
    max_body_mb: Positive = 10
    max_seconds: Positive = 10
    max_waiting: Count = 128
    drain_seconds: Annotated[float, Field(ge=0)] = 1
    guard: GuardParams = GuardParams()
    journal: JournalParams = JournalParams()


class DriftParams(Frozen):
    """From where on a difference counts as drift."""

    discovery_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    min_effect: Annotated[float, Field(gt=0, lt=1)] = 0.03
    min_share_change: Annotated[float, Field(gt=0, lt=1)] = 0.02
    min_meaning_change: Annotated[float, Field(gt=0, lt=1)] = 0.05
    min_importance: Share = 0.01
    min_detectable: Share = 0.1
    min_auc: Annotated[float, Field(gt=0.5, lt=1)] = 0.55


class WatchParams(Frozen):
    """How production is watched."""

    journal: str = "journal"
    window: Span = "7d"
    clock: Literal["arrival", "event"] = "arrival"
    label_delay: Annotated[str, Field(pattern=r"^[0-9]{1,6}[mhdw]$")] = "0d"
    references: Annotated[tuple[str, ...], Field(min_length=1)] = ("training",)
    sample_rows: Annotated[int, Field(ge=200, le=100_000)] = 5000
    max_silence: Span = "1d"
    max_volume_change: Positive = 0.5
    max_duplicates: Share = 0.01
    drift: DriftParams = DriftParams()


class RetrainParams(Frozen):
    """When production's labelled rows become a new model's data."""

    judge_days: Count = 10
    min_labels: Count = 1000
    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.005
    max_quarantine: Share = 0.05
    cool_down: Span = "3d"
    max_per_week: Count = 2


class Params(Frozen):
    """Everything in `params.yaml`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")
    task: Task
    data: DataParams
    validation: ValidationParams
    split: SplitParams
    model: ModelParams
    evaluation: EvaluationParams
    gate: GateParams
    release: ReleaseParams = ReleaseParams()
    tracking: TrackingParams = TrackingParams()
    serve: ServeParams = ServeParams()
    watch: WatchParams = WatchParams()
    retrain: RetrainParams = RetrainParams()

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> Params:
        roles = [self.data.target, self.data.id, self.data.time, *self.data.metadata]
        named = [role for role in roles if role is not None]
        twice = sorted({role for role in named if named.count(role) > 1})
        if twice:
            raise ValueError(
                f"data.metadata: column {twice[0]!r} has two roles; name it once among target, id, time and metadata"
            )
        return self

    @model_validator(mode="after")
    def _the_split_goes_with_the_task(self) -> Params:
        if self.split.kind == "stratified" and not self.task.classifies:
            raise ValueError("split.kind: stratified needs classes, and a regression has none; take random or groups")
        return self

    @model_validator(mode="after")
    def _metrics_exist(self) -> Params:
        known = METRICS[self.task]
        for key, name in [("gate.metric", self.gate.metric), *(("gate.floors", floor) for floor in self.gate.floors)]:
            if name not in known:
                raise ValueError(
                    f"{key}: no metric {name!r} for a {self.task} task; there are {', '.join(sorted(known))}"
                )
        return self

    def training(self) -> dict[str, Any]:
        """The part that the trained bytes depend on."""
        return self.model_dump(mode="json", by_alias=True, include={"task", "data", "split", "model"})

    def training_json(self) -> bytes:
        """The part that the trained bytes depend on, one byte string for one value."""
        return canonical_json(self.training())


METRICS: dict[Task, dict[str, bool]] = {
    Task.BINARY: {
        "roc_auc": True, "average_precision": True, "log_loss": False, "brier": False,
        "calibration_error": False, "accuracy": True, "balanced_accuracy": True, "f1": True,
    },
    Task.MULTICLASS: {
        "roc_auc": True, "log_loss": False, "brier": False, "calibration_error": False,
        "accuracy": True, "balanced_accuracy": True, "f1": True,
    },
    Task.REGRESSION: {
        "mae": False, "rmse": False, "r2": True, "median_absolute_error": False, "p90_absolute_error": False,
    },
}  # fmt: skip
"""The metrics of each task, and whether more is better."""


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check `params.yaml`.

    Raises:
        ParamsError: with file, line, key and the nearest right key.
    """
    return load(path, Params, ParamsError)
