"""`params.yaml` as frozen types: every number and choice that a team tunes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mergeline.documents import Frozen, load
from mergeline.errors import ParamsError
from mergeline.files import canonical_json

PARAMS_FILE = Path("params.yaml")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""`module:attribute`, how params name the team's code."""


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


class ValidationParams(Frozen):
    """Bounds of the data gate."""

    known_later: tuple[str, ...] = ()
    leak_score: Share = 0.95
    max_missing_rise: Share = 0.2
    max_row_change: Positive = 0.5
    min_rows: Count = 100


class SplitParams(Frozen):
    """How the data are divided by time."""

    holdout: Count = 1
    holdout_share: Share = 0.2
    train: Count | None = None


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


class ReleaseParams(Frozen):
    """How a proposal becomes what production serves."""

    signing: SigningParams = SigningParams()


class TrackingParams(Frozen):
    """Where runs are recorded when `MLFLOW_TRACKING_URI` is not set."""

    uri: str = "sqlite:///mlflow.db"
    timeout_seconds: Positive = 10


class ServeParams(Frozen):
    """How the server behaves."""

    poll_seconds: Positive = 2
    max_records: Count = 1000
    max_body_mb: Positive = 10


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
