"""Builds what every server in the comparison serves: one HistGradientBoosting pipeline on 30 named columns."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import yaml
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mergeline.files import write_json, write_text
from mergeline.model import artifact
from mergeline.model.artifact import LINEAGE_FILE, MODEL_FILE, SIGNATURE_FILE, folder_digest
from mergeline.model.lineage import ModelLineage
from mergeline.params import Task
from mergeline.scorer.compiling import build_scorer
from mergeline.scorer.pipeline import to_features
from mergeline.scorer.signature import Column, Kind, Output, Signature

NUMBERS = [f"number_{index:02d}" for index in range(22)]
CATEGORIES = [f"category_{index:02d}" for index in range(8)]
NAMES = [*NUMBERS, *CATEGORIES]
VALUES = [f"value {letter}" for letter in "abcdefghijkl"]
ROWS = 20_000


class Release(NamedTuple):
    """A model in the store."""

    digest: str
    source: str
    lineage: ModelLineage
    version: int


def make_rows(rows: int, seed: int) -> pd.DataFrame:
    """Rows with gaps: one number in twenty is missing."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for name in NUMBERS:
        values = rng.normal(50, 20, rows).round(3)
        columns[name] = np.where(rng.random(rows) < 0.05, np.nan, values)
    for name in CATEGORIES:
        columns[name] = rng.choice(VALUES, rows)
    return pd.DataFrame(columns)


def make_target(rows: pd.DataFrame, seed: int) -> np.ndarray:
    """A target that depends on some of each kind."""
    rng = np.random.default_rng([seed, 1])
    logit = (rows["number_00"].fillna(50) - rows["number_01"].fillna(50)) / 20 + (rows["category_00"] < "value e")
    return np.asarray(logit + rng.normal(0, 1, len(rows)) > 0.5)


def fit(seed: int) -> tuple[Pipeline, pd.DataFrame]:
    """The pipeline that all serve, and the rows that it was fitted on."""
    rows = make_rows(ROWS, seed)
    pipeline = make_pipeline(
        make_column_transformer(
            (SimpleImputer(strategy="median"), NUMBERS),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORIES),
        ),
        HistGradientBoostingClassifier(max_iter=100, random_state=seed),
    )
    return pipeline.fit(rows, make_target(rows, seed)), rows


def make_signature() -> Signature:
    """What the pipeline takes and gives."""
    return Signature(
        name="bench",
        columns=(
            *(Column(name=name, kind=Kind.NUMBER, nullable=True, example=50.0) for name in NUMBERS),
            *(
                Column(name=name, kind=Kind.CATEGORY, nullable=False, categories=tuple(VALUES), example=VALUES[0])
                for name in CATEGORIES
            ),
        ),
        output=Output(task=Task.BINARY, target="bought", classes=(False, True), positive=True, threshold=0.5),
        id="customer",
        time=None,
    )


def write_bodies(path: Path, records: int, *, wrap: str = "", many: bool = False, lines: int = 200) -> None:
    """One body a line; `wrap` puts the records under that key, as MLflow wants them."""
    rows = make_rows(records * lines, seed=99)
    listed = json.loads(rows.to_json(orient="records"))
    with path.open("w") as stream:
        for start in range(0, len(listed), records):
            part: Any = listed[start : start + records]
            body = {wrap: part} if wrap else part if many or records > 1 else part[0]
            stream.write(json.dumps(body) + "\n")


class Project:
    """A store with models, and the folders of servers that take them from there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pipeline: Pipeline | None = None

    def release(self, seed: int, number: int, *, compiled: bool = True) -> Release:
        """Train a model and put it into the store, with its scorer or without."""
        pipeline, rows = fit(seed)
        if self.pipeline is None:
            self.pipeline = pipeline
            joblib.dump(pipeline, self.root / "pipeline.joblib")
        signature = make_signature()
        features = to_features(rows, signature.columns)
        folder = self.root / f"model-{seed}"
        folder.mkdir(parents=True)
        lineage = ModelLineage(
            code="a" * 40, data=f"md5:{seed:032x}.dir", params="sha256:" + "b" * 64, environment="sha256:" + "c" * 64,
            training={}, partitions=("one",), rows=len(rows), seed=seed, processor="x86_64",
            libraries={"scikit-learn": version("scikit-learn")},
        )  # fmt: skip
        (folder / MODEL_FILE).write_bytes(artifact.dump_pipeline(pipeline))
        write_json(folder / SIGNATURE_FILE, signature.model_dump(mode="json"))
        write_json(folder / LINEAGE_FILE, lineage.model_dump(mode="json"))
        if compiled:
            for name, part in build_scorer(pipeline, signature, features, features.iloc[:2000]).items():
                (folder / name).write_bytes(part)
        return Release(folder_digest(folder), self._push(folder), lineage, number)

    def deploy(
        self, folder: Path, stable: Release, candidate: Release | None = None, rollout: dict[str, Any] | None = None
    ) -> None:
        """Make `folder` one that `mergeline serve` starts in, or write its manifest anew."""
        spec: dict[str, Any] = {"stable": _entry(stable)}
        if candidate is not None:
            spec |= {"candidate": _entry(candidate), "rollout": rollout}
        document = {
            "apiVersion": "mergeline/v1", "kind": "ModelDeployment", "metadata": {"name": "bench"}, "spec": spec,
        }  # fmt: skip
        params = {
            "name": "bench", "task": "binary", "data": {"schema": "bench:Schema", "target": "bought"},
            "model": {"factory": "bench:pipeline"}, "validation": {}, "split": {}, "evaluation": {},
            "gate": {"metric": "roc_auc", "margin": 0.01, "slice_margin": 0.02},
        }  # fmt: skip
        write_text(folder / "params.yaml", yaml.safe_dump(params))
        write_text(folder / "deploy" / "manifest.yaml", yaml.safe_dump(document, sort_keys=False))

    def _push(self, folder: Path) -> str:
        listing = [{"md5": self._put(path.read_bytes()), "relpath": path.name} for path in sorted(folder.iterdir())]
        md5 = self._put(json.dumps(listing).encode(), ".dir")
        return f"files/md5/{md5[:2]}/{md5[2:]}.dir"

    def _put(self, content: bytes, suffix: str = "") -> str:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        path = self.root / "store" / "files" / "md5" / md5[:2] / (md5[2:] + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return md5


def _entry(release: Release) -> dict[str, Any]:
    return {
        "version": release.version, "digest": release.digest, "source": release.source,
        "lineage": {part: getattr(release.lineage, part) for part in ("code", "data", "params", "environment")},
        "evidence": {"metrics": {"roc_auc": 0.75}, "gate": "sha256:" + "d" * 64},
    }  # fmt: skip
