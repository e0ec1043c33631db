"""`params.yaml` as frozen types: every number and choice that a team tunes."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from mergeline.documents import Frozen, load, repeated, text_like
from mergeline.errors import ParamsError
from mergeline.files import canonical_json, write_text
from mergeline.release_params import SPAN, ReleaseParams, Span

PARAMS_FILE = Path("params.yaml")
SCHEMA_FILE = Path("deploy/params.schema.json")
PARAMS_FORMAT = 1  # the form that this engine reads; `mergeline migrate` lifts older ones to it

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Reference = Annotated[
    str, text_like(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", "a place in a package", "module:name, as orders.model:pipeline")
]
"""`module:attribute`, how params name the team's code."""


class Section(Frozen):
    """A part of the params, whose numbers are finite: no time is waited for, and no record is written, of others."""

    model_config = ConfigDict(allow_inf_nan=False)


class Task(StrEnum):
    """What the model predicts."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"

    @property
    def classifies(self) -> bool:
        """Whether the answer is a class rather than a number."""
        return self is not Task.REGRESSION


class DataParams(Section):
    """Where the data are and what each column is for."""

    path: str = "data"
    schema_: Reference = Field(alias="schema")
    target: str
    positive: bool | int | str | None = True
    id: str | None = None
    time: str | None = None
    timezone: str | None = Field(default=None, exclude_if=lambda zone: zone is None)
    metadata: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _a_zone_has_times(self) -> DataParams:
        if self.timezone is not None and self.time is None:
            raise ValueError("timezone: it is the zone of data.time, and that names no column; give null")
        return self


ColumnRule = Literal["distribution", "leak", "missing share", "empty column"]
"""A rule of the data gate that a single column can be excepted from; what the schema says has no exceptions."""


class ValidationParams(Section):
    """Bounds of the data gate; `allow` names the rules that a column need not keep."""

    known_later: tuple[str, ...] = ()
    allow: dict[str, tuple[ColumnRule, ...]] = {}
    leak_score: Share = 0.95
    max_missing_rise: Share = 0.2
    max_row_change: Positive = 0.5
    min_rows: Count = 100


class SplitParams(Section):
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


class ModelParams(Section):
    """How the model is made."""

    factory: Reference
    seed: int = Field(default=0, ge=0)
    threshold: Literal["f1", "balanced_accuracy"] | Share = "f1"
    trusted_types: tuple[str, ...] = ()
    backend: Annotated[
        str,
        text_like(
            r"^(threads|(dask|ray)://[^/:\s]+:[0-9]{1,5})$",
            "a place to train",
            "threads, dask://HOST:PORT or ray://HOST:PORT",
        ),
    ] = "threads"
    arguments: dict[str, Any] = {}

    @property
    def trusted(self) -> tuple[str, ...]:
        """What `model.skops` may name of the team's: all of its package, and what it names in `trusted_types`."""
        return (f"{self.package}.*", *self.trusted_types)

    @property
    def package(self) -> str:
        """The name of the team's package."""
        return self.factory.partition(":")[0].partition(".")[0]


class EvaluationParams(Section):
    """What is measured on the holdout."""

    slices: tuple[str, ...] = ()
    fairness: tuple[str, ...] = ()
    min_slice_rows: Count = 200
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    importance_rows: Count = 4000
    stress_rows: Count = 4000
    stress_columns: Count | None = None


class GateParams(Section):
    """What a model must show to be proposed."""

    metric: str
    margin: Positive
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    floors: dict[str, float] = {}
    slice_margin: Positive
    slice_margin_relative: bool = False
    slice_discovery_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    max_unfairness: Share = 0.3
    max_calibration_error: Share = 0.1
    max_stress_loss: Positive = 0.3
    stress_margin: Positive | None = None
    max_model_mb: Positive = 50
    max_latency_ms: Positive = 100


class TrackingParams(Section):
    """Where runs are recorded when `MLFLOW_TRACKING_URI` is not set."""

    uri: str = "sqlite:///mlflow.db"
    timeout_seconds: Positive = 10


class GuardParams(Section):
    """What takes a candidate off at once, whatever its analysis says."""

    max_error_rate: Share = 0.05
    max_invalid_rate: Share = 0.01
    max_latency_ms: Positive = 500
    max_latency_ratio: Annotated[float, Field(ge=1)] = 10
    max_disagreement: Positive = 0.5


class JournalParams(Section):
    """How answered predictions are kept."""

    seal_seconds: Positive = 60
    keep_days: Count = 90
    keep_gb: Positive = 20
    when_full: Literal["stop_journal", "stop_answering"] = "stop_journal"
    fsync: bool = False
    drop: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    sync: str | None = None

    @model_validator(mode="after")
    def _columns_are_dropped_or_hashed(self) -> JournalParams:
        both = sorted(set(self.drop) & set(self.hash))
        if both:
            raise ValueError(f"hash: column {both[0]!r} is dropped already; name it in `drop` or in `hash`")
        return self


class ServeParams(Section):
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


class DriftParams(Section):
    """From where on a difference counts as drift."""

    discovery_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    min_effect: Annotated[float, Field(gt=0, lt=1)] = 0.03
    min_share_change: Annotated[float, Field(gt=0, lt=1)] = 0.02
    min_meaning_change: Annotated[float, Field(gt=0, lt=1)] = 0.05
    min_importance: Share = 0.01
    min_detectable: Share = 0.1
    min_auc: Annotated[float, Field(gt=0.5, lt=1)] = 0.55


class WatchParams(Section):
    """How production is watched."""

    journal: str = "journal"
    engine: Annotated[
        str,
        text_like(
            r"^(duckdb|(postgres|spark|bigquery|trino|snowflake)://.*)$",
            "an engine",
            "duckdb, or an address that begins with postgres://, spark://, bigquery://, trino:// or snowflake://",
        ),
    ] = "duckdb"
    window: Span = "7d"
    clock: Literal["arrival", "event"] = "arrival"
    label_delay: Annotated[str, text_like(r"^[0-9]{1,6}[mhdw]$", *SPAN)] = "0d"
    references: Annotated[tuple[str, ...], Field(min_length=1)] = ("training",)
    sample_rows: Annotated[int, Field(ge=200, le=100_000)] = 5000
    max_silence: Span = "1d"
    max_volume_change: Positive = 0.5
    max_duplicates: Share = 0.01
    drift: DriftParams = DriftParams()

    @model_validator(mode="after")
    def _engine_names_no_password(self) -> WatchParams:
        if re.match(r"\w+://[^/@]*:[^/@]*@", self.engine):
            raise ValueError("engine: it holds a password, and this file is in git; give it as PGPASSWORD or the like")
        return self


class RetrainParams(Section):
    """When production's labelled rows become a new model's data."""

    judge_days: Count = 10
    min_labels: Count = 1000
    min_gain: Annotated[float, Field(ge=0, lt=1)] = 0.005
    min_gain_relative: bool = False
    max_quarantine: Share = 0.05
    cool_down: Span = "3d"
    max_per_week: Count = 2


class Params(Section):
    """Everything in `params.yaml`."""

    format: int = PARAMS_FORMAT
    name: Annotated[
        str,
        text_like(r"^[a-z][a-z0-9-]{0,62}$", "a name of a model", "small letters, digits and -, as late-orders"),
    ]
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

    @model_validator(mode="before")
    @classmethod
    def _format_is_known(cls, data: Any) -> Any:
        found = data.get("format", PARAMS_FORMAT) if isinstance(data, dict) else PARAMS_FORMAT
        if found != PARAMS_FORMAT:
            told = f"the file has format {found}, and this engine reads format {PARAMS_FORMAT}"
            raise ValueError(f"format: {told}; hint: mergeline {'migrate' if found == 0 else 'upgrade'}")
        return data

    @model_validator(mode="after")
    def _sections_agree(self) -> Params:
        twice = repeated(sorted(filter(None, (self.data.target, self.data.id, self.data.time, *self.data.metadata))))
        if twice:
            raise ValueError(
                f"data.metadata: column {twice!r} has two roles; name it once among target, id, time and metadata"
            )
        if self.task is Task.BINARY and self.data.positive is None:
            raise ValueError("data.positive: a binary task needs the class that a score is the probability of")
        if self.split.kind == "stratified" and not self.task.classifies:
            raise ValueError("split.kind: stratified needs classes, and a regression has none; take random or groups")
        known = METRICS[self.task]
        for key, name in [("gate.metric", self.gate.metric), *(("gate.floors", floor) for floor in self.gate.floors)]:
            if name not in known:
                raise ValueError(
                    f"{key}: no metric {name!r} for a {self.task} task; there are {', '.join(sorted(known))}"
                )
        return self

    def training(self) -> dict[str, Any]:
        """The part that the trained bytes depend on."""
        kept = {"task", "data", "split", "model"}
        return self.model_dump(mode="json", by_alias=True, include=kept, exclude={"model": {"backend"}})

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


def params_schema() -> str:
    """`params.yaml` as JSON Schema 2020-12, for editors: the text of `deploy/params.schema.json`, a section a line.

    Rules over several keys are left to `read_params`.
    """
    schema = Params.model_json_schema(by_alias=True)
    sections = [f"  {json.dumps(name)}: {json.dumps(section)}" for name, section in sorted(schema.pop("$defs").items())]
    whole = json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    return whole.removesuffix("}") + ',\n "$defs": {\n' + ",\n".join(sections) + "\n }\n}\n"


if __name__ == "__main__":
    write_text(SCHEMA_FILE, params_schema())


def release_in(folder: Path) -> ReleaseParams:
    """The section `release` of a home's params; in a folder without params, what stands for it."""
    file = folder / PARAMS_FILE
    return read_params(file).release if file.exists() else ReleaseParams()
