"""Builds a project with a served model, and a journal of what it answered, without training anything."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mergeline.evaluate.metrics import estimates
from mergeline.evaluate.results import Evaluation, Holdout, Importance
from mergeline.evaluate.scoring import Scored, class_names
from mergeline.evaluate.slices import bin_edges, evaluate_slices
from mergeline.files import canonical_json, write_bytes, write_json
from mergeline.manifest.schema import Manifest
from mergeline.model.artifact import LINEAGE_FILE, PROFILE_FILE, SIGNATURE_FILE, folder_digest
from mergeline.model.lineage import ModelLineage
from mergeline.model.profile import class_name, make_profile
from mergeline.params import Params, Task
from mergeline.scorer.signature import Column, Kind, Output, Signature
from mergeline.watch.results import Watched
from mergeline.watch.watch import make_request, watch
from verb_calls import call_verb

START = datetime(2026, 3, 1, tzinfo=UTC)
"""The window of the tests is the week from here on."""
END = START + timedelta(days=7)
CLASSES = {Task.BINARY: (False, True), Task.MULTICLASS: ("red", "green", "blue"), Task.REGRESSION: ()}
SHADOW = "sha256:" + "ab" * 32
CANARY = "sha256:" + "cd" * 32


def draw(rng: np.random.Generator, rows: int, shift: float = 0.0) -> pd.DataFrame:
    """Inputs: `amount` (moved by `shift` standard deviations), `age`, a truth value and two categories."""
    return pd.DataFrame(
        {
            "amount": rng.normal(50 + 10 * shift, 10, rows),
            "age": np.where(rng.random(rows) < 0.02, np.nan, rng.integers(18, 80, rows).astype(float)),
            "gift": (rng.random(rows) < 0.3).astype(float),
            "region": rng.choice(["north", "south", "east"], rows, p=[0.5, 0.3, 0.2]),
            "it's odd": rng.choice(["a b", 'c "d"', "e'f", "g;h"], rows),
        }
    )


def score(task: Task, frame: pd.DataFrame) -> np.ndarray:
    """What the model answers."""
    line = (frame["amount"].to_numpy() - 50) / 10 + (frame["region"] == "north").to_numpy() - 0.5
    if task is Task.REGRESSION:
        return np.asarray(line)
    if task is Task.BINARY:
        return np.asarray(1 / (1 + np.exp(-line)))
    odds = np.exp(np.column_stack([line, np.zeros_like(line), -line]))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def outcome(task: Task, scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Truths that the scores are calibrated for."""
    if task is Task.REGRESSION:
        return np.asarray(scores + rng.normal(0, 1, len(scores)))
    if task is Task.BINARY:
        return np.asarray(rng.random(len(scores)) < scores)
    picks = (rng.random(len(scores))[:, None] > scores.cumsum(axis=1)).sum(axis=1)
    return np.array(CLASSES[task], dtype=object)[np.minimum(picks, 2)]


def say(task: Task, scores: np.ndarray) -> list[Any]:
    """The labels that scores mean."""
    if task is Task.REGRESSION:
        return [None] * len(scores)
    if task is Task.BINARY:
        return (scores >= 0.5).tolist()
    return [CLASSES[task][place] for place in scores.argmax(axis=1)]


_MADE: dict[str, tuple[dict[Path, bytes], Signature, Params, str, Any]] = {}
"""The files and values of each production that a test has asked for: making them takes longer than most tests."""


@dataclass
class Production:
    """A repository whose manifest serves one model, and its journal."""

    root: Path
    task: Task = Task.BINARY
    evaluated: bool = True
    sections: dict[str, Any] = field(default_factory=dict)
    digest: str = ""
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))
    number: int = 0

    def __post_init__(self) -> None:
        key = repr((self.task, self.evaluated, self.sections))
        if key not in _MADE:
            self._make()
            files = {path.relative_to(self.root): path.read_bytes() for path in self.root.rglob("*.json")}
            _MADE[key] = files, self.signature, self.params, self.digest, self.rng.bit_generator.state
        files, self.signature, self.params, self.digest, self.rng.bit_generator.state = _MADE[key]
        for path, content in files.items():
            write_bytes(self.root / path, content)

    def _make(self) -> None:
        kinds = {"gift": Kind.BOOLEAN, "region": Kind.CATEGORY, "it's odd": Kind.CATEGORY}
        training, holdout = draw(self.rng, 8000), draw(self.rng, 6000)
        columns = tuple(Column(name=n, kind=kinds.get(n, Kind.NUMBER), nullable=True) for n in training)
        binary = self.task is Task.BINARY
        self.signature = Signature(
            name="orders",
            columns=columns,
            output=Output(
                task=self.task,
                target="returned",
                classes=CLASSES[self.task],
                positive=True if binary else None,
                threshold=0.5 if binary else None,
            ),
            id="order",
            time="placed",
        )
        scores = score(self.task, holdout)
        truth = outcome(self.task, scores, self.rng)
        said = np.array(say(self.task, scores), dtype=object)
        profile = make_profile(training, scores, said, truth, self.signature)
        folder = self.root / "model"
        lineage = ModelLineage(
            code="", data="", params="", environment="", training={}, partitions=("2026-01",), rows=8000, seed=0,
            processor="", libraries={},
        )  # fmt: skip
        write_json(folder / SIGNATURE_FILE, self.signature.model_dump(mode="json"))
        write_json(folder / LINEAGE_FILE, lineage.model_dump(mode="json"))
        write_bytes(folder / PROFILE_FILE, canonical_json(profile.model_dump(mode="json")))
        self.digest = folder_digest(folder)
        self.params = self.make_params(**self.sections)
        if self.evaluated:
            self._write_evaluation(holdout, scores, truth)

    def make_params(self, **sections: Any) -> Params:
        metric = {Task.BINARY: "roc_auc", Task.MULTICLASS: "log_loss", Task.REGRESSION: "mae"}[self.task]
        values: dict[str, Any] = {
            "name": "orders",
            "task": self.task.value,
            "data": {"schema": "toy.schema:Orders", "target": "returned", "id": "order", "time": "placed"},
            "validation": {},
            "split": {},
            "model": {"factory": "toy.model:linear"},
            "evaluation": {"slices": ["region"], "resamples": 200},
            "gate": {"metric": metric, "margin": 0.02, "slice_margin": 0.1},
            "watch": {},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section}
        return Params.model_validate(values)

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    @property
    def manifest(self) -> Manifest:
        zeros = "0" * 64
        release = {
            "version": 3,
            "digest": self.digest,
            "source": f"files/md5/00/{zeros[:30]}.dir",
            "lineage": {"code": zeros[:40], "data": f"md5:{zeros[:32]}.dir", "params": f"sha256:{zeros}",
                        "environment": f"sha256:{zeros}"},
            "evidence": {"metrics": {self.params.gate.metric: 0.75}, "gate": f"sha256:{zeros}"},
        }  # fmt: skip
        return Manifest.model_validate(
            {"apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "orders"},
             "spec": {"stable": release}}
        )  # fmt: skip

    def _write_evaluation(self, holdout: pd.DataFrame, scores: np.ndarray, truth: np.ndarray) -> None:
        classes = class_names(self.signature.output)
        if self.task is Task.BINARY:
            codes = truth.astype(np.int64)
        else:
            codes = truth if self.task is Task.REGRESSION else np.array([classes.index(label) for label in truth])
        scored = Scored(self.task, codes, scores, classes, 0.5 if self.task is Task.BINARY else None)
        loss = {"amount": 0.2, "region": 0.05, "age": 0.0, "gift": 0.0, "it's odd": 0.0}
        result = Evaluation(
            name="orders",
            task=self.task,
            digest=self.digest,
            holdout=Holdout(digest="", partitions=("2026-02",), rows=len(codes), first=None, last=None),
            metrics=estimates(scored, resamples=200, confidence=0.95, seed=0),
            slices=evaluate_slices(scored, holdout, self.params),
            slice_edges={name: bin_edges(holdout[name]) for name in self.params.evaluation.slices},
            fairness=(),
            importance=tuple(Importance(feature=name, loss=value, deviation=0.0) for name, value in loss.items()),
            stress=(),
            curves=(),
            confusion=None,
            model_bytes=1,
        )
        write_json(self.root / "evaluation" / "evaluation.json", result.model_dump(mode="json"))

    def answer(
        self,
        start: datetime,
        end: datetime,
        rows: int,
        *,
        frame: pd.DataFrame | None = None,
        ids: list[str] | None = None,
        digest: str | None = None,
        role: str = "stable",
        shadow: np.ndarray | None = None,
        events: list[datetime] | None = None,
        without: tuple[str, ...] = (),
        retyped: dict[str, pa.DataType] | None = None,
        arrivals: list[datetime] | None = None,
        scores: np.ndarray | None = None,
    ) -> pd.DataFrame:
        """Journal rows spread evenly from `start` to `end`, a file a day; returns them with id and scores."""
        inputs = draw(self.rng, rows) if frame is None else frame
        rows = len(inputs)
        scores = score(self.task, inputs) if scores is None else scores
        times = arrivals or [start + (end - start) * place / max(1, rows) for place in range(rows)]
        names = ids or [f"{self.number}-{place}" for place in range(rows)]
        self.number += 1
        single = scores if scores.ndim == 1 else scores.max(axis=1)
        said = [None if label is None else class_name(label) for label in say(self.task, scores)]
        shown = None if shadow is None else shadow if shadow.ndim == 1 else shadow.max(axis=1)
        shadow_said = [None] * rows if shadow is None else [class_name(each) for each in say(self.task, shadow)]
        kinds = {Kind.CATEGORY: pa.string(), Kind.BOOLEAN: pa.bool_()}
        own = {
            "_id": pa.array(names, pa.string()),
            "_time": pa.array(times, pa.timestamp("us", tz="UTC")),
            "_event_time": pa.array(events or [None] * rows, pa.timestamp("us", tz="UTC")),
            "_digest": pa.array([digest or self.digest] * rows),
            "_version": pa.array([3] * rows, pa.int32()),
            "_role": pa.array([role] * rows),
            "_score": pa.array(single, pa.float64()),
            "_label": pa.array(said, pa.string()),
            "_scores": pa.array([None] * rows if scores.ndim == 1 else scores.tolist(), pa.list_(pa.float64())),
            "_shadow_digest": pa.array([None if shadow is None else SHADOW] * rows, pa.string()),
            "_shadow_score": pa.array([None] * rows if shown is None else shown, pa.float64()),
            "_shadow_label": pa.array(shadow_said, pa.string()),
        }
        given = {}
        for column in self.signature.columns:
            if column.name in inputs and column.name not in without:
                values = inputs[column.name]
                hashed = column.kind is not Kind.CATEGORY and pd.api.types.is_string_dtype(values)
                if column.kind is Kind.BOOLEAN:
                    values = [None if np.isnan(value) else bool(value) for value in values]
                kind = pa.string() if hashed else kinds.get(column.kind, pa.float64())
                made = pa.array(values, kind, from_pandas=column.kind is Kind.CATEGORY)
                given[column.name] = made.cast(retyped[column.name]) if retyped and column.name in retyped else made
        given |= {name: pa.array(inputs[name]) for name in inputs if name not in self.signature.names}
        table = pa.table(own | given)
        days = np.array([str(time.astimezone(UTC).date()) for time in times])
        part = f"digest={(digest or self.digest)[7:19]}"
        for day in np.unique(days):
            folder = self.journal / "predictions" / f"day={day}" / part
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.filter(pa.array(days == day)), folder / f"made-{self.number}.parquet")
        self.journal.mkdir(exist_ok=True)
        return inputs.assign(_id=names, _score=list(scores), _time=times)

    def label(self, rows: pd.DataFrame, truth: Any = None, delay: timedelta = timedelta(hours=1)) -> None:
        """Journal feedback for these rows, each so long after its answer; by chance as the scores promise."""
        scores = np.array(rows["_score"].tolist())
        values = outcome(self.task, scores, self.rng) if truth is None else truth
        classifies = self.task.classifies
        times = [time + delay for time in rows["_time"]]
        table = pa.table(
            {
                "_id": pa.array(rows["_id"].to_list(), pa.string()),
                "_time": pa.array(times, pa.timestamp("us", tz="UTC")),
                "_label": pa.array(
                    [class_name(v.item() if hasattr(v, "item") else v) if classifies else None for v in values],
                    pa.string(),
                ),
                "_value": pa.array([None if classifies else float(v) for v in values], pa.float64()),
            }
        )
        self.number += 1
        days = np.array([str(time.astimezone(UTC).date()) for time in times])
        for day in np.unique(days):
            folder = self.journal / "feedback" / f"day={day}"
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.filter(pa.array(days == day)), folder / f"made-{self.number}.parquet")

    def look(self, *, window: str = "7d", end: datetime = END, now: datetime | None = None, **sections: Any) -> Watched:
        """Watch it."""
        params = self.make_params(**{**self.sections, **sections})
        request = make_request(self.root, params, now or end, window=window, end=end)
        return watch(self.root, params, self.manifest, request, lambda line: None)

    def call(self, *arguments: str, apart: bool = False) -> subprocess.CompletedProcess[str]:
        """Run `mergeline watch` in the repository; `apart` in a process of its own."""
        write_json(self.root / "params.yaml", self.params.model_dump(mode="json", by_alias=True))
        write_json(self.root / "deploy" / "manifest.yaml", self.manifest.model_dump(mode="json", exclude_none=True))
        if not apart:
            return call_verb(self.root, "watch", *arguments)
        command = [sys.executable, "-m", "mergeline.cli", "watch", *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, timeout=120, check=False)


def reason(watched: Watched, name: str) -> Any:
    """The reason of that name."""
    return next(check for check in watched.reasons if check.name == name)


def finding(watched: Watched, column: str, change: str = "values") -> Any:
    """The finding of that column."""
    return next(found for found in watched.findings if (found.column, found.change) == (column, change))
