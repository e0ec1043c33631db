"""Builds small fitted models of each task, their holdouts and their params."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mergeline.evaluate.results import Holdout
from mergeline.model.artifact import LoadedModel
from mergeline.model.lineage import ModelLineage
from mergeline.params import Params
from mergeline.scorer.pipeline import to_features
from mergeline.scorer.signature import Column, Kind, Output, Signature

HOLDOUT = Holdout(digest="sha256:" + "0" * 64, partitions=("2024-01",), rows=1200, first=None, last=None)

COLUMNS = (
    Column(name="amount", kind=Kind.NUMBER, nullable=False, minimum=-10.0, maximum=10.0),
    Column(name="noise", kind=Kind.NUMBER, nullable=False),
    Column(name="items", kind=Kind.INTEGER, nullable=False, minimum=0, maximum=9),
    Column(name="gift", kind=Kind.BOOLEAN, nullable=False),
    Column(name="channel", kind=Kind.CATEGORY, nullable=False, categories=("web", "shop", "phone")),
)

OUTPUTS = {
    "binary": Output(task="binary", target="target", classes=(False, True), positive=True, threshold=0.4),
    "multiclass": Output(task="multiclass", target="target", classes=("low", "middle", "high")),
    "regression": Output(task="regression", target="target"),
}


def rows(task: str, count: int = 1200, seed: int = 0) -> pd.DataFrame:
    """Rows whose target follows `amount` most, then `items` and `channel`, and `noise` not at all."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "amount": rng.normal(size=count),
            "noise": rng.normal(size=count),
            "items": rng.integers(0, 10, count),
            "gift": rng.random(count) < 0.3,
            "channel": rng.choice(["web", "shop", "phone"], count, p=[0.6, 0.3, 0.1]),
            "region": rng.choice(["north", "south", "west"], count),
        }
    )
    signal = 1.5 * frame["amount"] + 0.2 * frame["items"] + 0.5 * (frame["channel"] == "web") - 1.5
    if task == "binary":
        frame["target"] = rng.random(count) < 1 / (1 + np.exp(-signal))
    elif task == "multiclass":
        levels = np.digitize(signal + rng.logistic(size=count), [-1.0, 1.0])
        frame["target"] = np.array(["low", "middle", "high"])[levels]
    else:
        frame["target"] = 10 + signal + rng.normal(size=count)
    return frame


def params(task: str, **sections: dict) -> Params:
    """Params that fit these rows; a section given replaces keys of that section."""
    values = {
        "name": "orders",
        "task": task,
        "data": {"schema": "a.b:C", "target": "target"},
        "model": {"factory": "a.b:c", "seed": 5},
        "evaluation": {
            "slices": ["region"],
            "fairness": ["channel"],
            "min_slice_rows": 50,
            "resamples": 300,
            "importance_rows": 500,
            "stress_rows": 500,
        },
        "validation": {},
        "split": {},
        "gate": {
            "metric": "mae" if task == "regression" else "roc_auc",
            "margin": 0.05 if task == "regression" else 0.02,
            "slice_margin": 0.1,
            "max_unfairness": 0.6,
            "max_stress_loss": 2.0 if task == "regression" else 0.3,
        },
    }
    for name, section in sections.items():
        values[name] = {**values[name], **section}
    return Params.model_validate(values)


def fitted(task: str, folder: Path, *, letter: str = "a", train: pd.DataFrame | None = None, used=None) -> LoadedModel:
    """A linear model of this task, trained on other rows than `rows(task)`; `used` names the columns it reads."""
    signature = Signature(name="orders", columns=COLUMNS, output=OUTPUTS[task])
    train = rows(task, 1500, seed=99) if train is None else train
    features = to_features(train, COLUMNS)
    numbers = [name for name in ("amount", "noise", "items", "gift") if used is None or name in used]
    encode = OneHotEncoder(handle_unknown="ignore")
    parts = [("numbers", "passthrough", numbers)] + ([] if used else [("channel", encode, ["channel"])])
    last = LinearRegression() if task == "regression" else LogisticRegression(max_iter=500)
    pipeline = make_pipeline(ColumnTransformer(parts), last)
    if task == "multiclass":
        pipeline.fit(features, train["target"].to_numpy())
        places = [str(name) for name in pipeline.classes_]
        signature = signature.model_copy(update={"output": signature.output.model_copy(update={"classes": places})})
    else:
        pipeline.fit(features, train["target"].to_numpy())
    return wrap(pipeline, signature, folder, letter)


def wrap(pipeline: object, signature: Signature, folder: Path, letter: str = "a") -> LoadedModel:
    """A loaded model around any pipeline, with a folder of 1,000 bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.skops").write_bytes(b"m" * 1000)
    lineage = ModelLineage(
        code="0" * 40,
        data="md5:" + "0" * 32 + ".dir",
        params="sha256:" + "0" * 64,
        environment="sha256:" + "0" * 64,
        training={},
        partitions=("2023-12",),
        rows=1500,
        seed=5,
        processor="any",
        libraries={},
    )
    return LoadedModel(folder, "sha256:" + letter * 64, signature, lineage, lambda: pipeline)
