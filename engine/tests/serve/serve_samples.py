"""Models, stores and manifests that the tests of the server are built from."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from mergeline.files import write_json
from mergeline.model import artifact
from mergeline.model.artifact import LINEAGE_FILE, MODEL_FILE, SIGNATURE_FILE, folder_digest, load_model
from mergeline.model.lineage import ModelLineage
from mergeline.params import Task
from mergeline.scorer.compiling import build_scorer
from mergeline.scorer.pipeline import to_features
from mergeline.scorer.signature import Column, Kind, Output, Signature

COLUMNS = (
    Column(name="temp", kind=Kind.NUMBER, nullable=True, minimum=-50, maximum=60, example=12.5),
    Column(name="hour", kind=Kind.INTEGER, nullable=False, minimum=0, maximum=23, example=8),
    Column(name="holiday", kind=Kind.BOOLEAN, nullable=True, example=False),
    Column(name="origin", kind=Kind.CATEGORY, nullable=False, categories=("JFK", "EWR"), closed=True, example="JFK"),
    Column(name="carrier", kind=Kind.CATEGORY, nullable=True, categories=("UA", "AA"), example="UA"),
)
PARAMS = {
    "name": "flights",
    "task": "binary",
    "data": {"schema": "flights.schema:Flights", "target": "late"},
    "model": {"factory": "flights.model:pipeline"},
    "validation": {},
    "split": {},
    "evaluation": {},
    "gate": {"metric": "roc_auc", "margin": 0.01, "slice_margin": 0.02},
}
"""The fewest that a repository's params.yaml must hold."""
RECORD = {"temp": 12.5, "hour": 8, "holiday": False, "origin": "JFK", "carrier": "UA"}


def make_signature(task: Task = Task.BINARY, name: str = "flights", columns: tuple[Column, ...] = COLUMNS) -> Signature:
    outputs = {
        Task.BINARY: Output(task=task, target="late", classes=(False, True), positive=True, threshold=0.5),
        Task.MULTICLASS: Output(task=task, target="kind", classes=("a", "b", "c")),
        Task.REGRESSION: Output(task=task, target="delay"),
    }
    return Signature(
        name=name, columns=columns, output=outputs[task], id="flight_id", time="scheduled_at", metadata=("tailnum",)
    )


def make_model(
    folder: Path,
    *,
    seed: int = 0,
    task: Task = Task.BINARY,
    name: str = "flights",
    columns: tuple[Column, ...] = COLUMNS,
    compiled: bool = False,
    estimator: Any = None,
) -> ModelLineage:
    """Train a small pipeline on rows that follow from `seed`, and write a model folder that says it takes `columns`.

    It ends in `estimator`, or in a linear model.
    """
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "temp": random.uniform(-20, 40, 200),
            "hour": random.integers(0, 24, 200),
            "holiday": random.random(200) < 0.1,
            "origin": random.choice(["JFK", "EWR"], 200),
            "carrier": random.choice(["UA", "AA"], 200),
        }
    )
    targets = {
        Task.BINARY: rows["hour"] + random.normal(0, 4, 200) > 12,
        Task.MULTICLASS: np.array(["a", "b", "c"])[(rows["hour"] // 8).to_numpy()],
        Task.REGRESSION: rows["hour"] * 2.0 + rows["temp"],
    }
    linear = LinearRegression() if task is Task.REGRESSION else LogisticRegression(max_iter=1000)
    pipeline = make_pipeline(
        make_column_transformer(
            (SimpleImputer(), ["temp", "hour", "holiday"]),
            (OneHotEncoder(handle_unknown="ignore"), ["origin", "carrier"]),
        ),
        linear if estimator is None else estimator,
    ).fit(to_features(rows, COLUMNS), np.asarray(targets[task]))
    lineage = ModelLineage(
        code="a" * 40,
        data=f"md5:{seed:032x}.dir",
        params="sha256:" + "b" * 64,
        environment="sha256:" + "c" * 64,
        training={},
        partitions=("2013-01",),
        rows=200,
        seed=seed,
        processor="x86_64",
        libraries={"scikit-learn": version("scikit-learn")},
    )
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(artifact.dump_pipeline(pipeline))
    write_json(folder / SIGNATURE_FILE, make_signature(task, name, columns).model_dump(mode="json"))
    write_json(folder / LINEAGE_FILE, lineage.model_dump(mode="json"))
    if compiled:
        features = to_features(rows, COLUMNS)
        for part, content in build_scorer(pipeline, make_signature(task, name), features, features).items():
            (folder / part).write_bytes(content)
    return lineage


def wrap_pipeline(folder: Path, wrap: Callable[[Any], Any]) -> None:
    """Put the pipeline of a model folder into another object; see `mergeline.traffic.drill.Drill`."""
    (folder / MODEL_FILE).write_bytes(artifact.dump_pipeline(wrap(load_model(folder).pipeline)))


def push(folder: Path, store: Path) -> str:
    """Put a folder into a DVC remote's layout; returns the object that lists it."""

    def put(content: bytes, suffix: str = "") -> str:
        md5 = hashlib.md5(content).hexdigest()  # noqa: S324 - DVC's layout names objects so
        path = store / "files" / "md5" / md5[:2] / (md5[2:] + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return md5

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = [{"md5": put(path.read_bytes()), "relpath": path.relative_to(folder).as_posix()} for path in files]
    md5 = put(json.dumps(listing).encode(), ".dir")
    return f"files/md5/{md5[:2]}/{md5[2:]}.dir"


@dataclass(frozen=True)
class Pushed:
    """A model in the store, as a release names it."""

    digest: str
    source: str
    lineage: ModelLineage

    def release(self, number: int) -> dict:
        return {
            "version": number,
            "digest": self.digest,
            "source": self.source,
            "lineage": {part: getattr(self.lineage, part) for part in ("code", "data", "params", "environment")},
            "evidence": {"metrics": {"roc_auc": 0.75}, "gate": "sha256:" + "d" * 64},
        }


@dataclass(frozen=True)
class Production:
    """A repository's deployment files: a store, a manifest that is not there yet, a cache."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def manifest(self) -> Path:
        return self.root / "deploy" / "manifest.yaml"

    def push(self, **model) -> Pushed:
        folder = Path(tempfile.mkdtemp(dir=self.root)) / "model"
        lineage = make_model(folder, **model)
        return Pushed(folder_digest(folder), push(folder, self.store), lineage)

    def release(self, model: Pushed | None, number: int = 1, name: str = "flights") -> str:
        """Write a manifest that makes `model` the stable one, atomically; returns its text."""
        document = {
            "apiVersion": "mergeline/v1",
            "kind": "ModelDeployment",
            "metadata": {"name": name},
            "spec": {"stable": model.release(number)} if model else {},
        }
        text = yaml.safe_dump(document, sort_keys=False)
        self.write(text)
        return text

    def write(self, text: str) -> None:
        self.manifest.parent.mkdir(parents=True, exist_ok=True)
        draft = self.manifest.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.manifest)

    def object_of(self, model: Pushed, name: str) -> Path:
        """The file in the store that holds the part `name` of a model."""
        listing = json.loads((self.store / model.source).read_text())
        md5 = next(entry["md5"] for entry in listing if entry["relpath"] == name)
        return self.store / "files" / "md5" / md5[:2] / md5[2:]


def flip_a_bit(path: Path) -> bytes:
    """Change one bit in the middle of a file; returns the bytes that were there."""
    good = path.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    path.write_bytes(bytes(bad))
    return good
