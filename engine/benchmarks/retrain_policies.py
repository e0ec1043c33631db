"""Replays months of labelled production, and compares what triggers a retraining: how often, and what it gains.

    python benchmarks/retrain_policies.py [--evidently] [--only flights|census]

Flights: a model of January to March serves April, and from then on each policy decides at the end of a month, when
its labels are there, whether the next month is served by a new model. Every policy is given the same new model, the one
that Mergeline would propose: trained on all rows but those of the newest ten days, which are for the gate. So policies
differ in when they retrain alone. "Monthly" is what can be had; shares are of its gain over "never".

Census (US Census ACS employment in Massachusetts, 2015 to 2018, from the wheel of NannyML 0.13.1) does not change: a
retraining is a false alarm there. A model of 2015 serves the quarters of 2016 to 2018.

Mergeline's policy is the engine's own code, `mergeline.watch.challenge`, with the params of this repository. Evidently
is run in an environment of its own with its defaults, on samples of 20,000 rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from mergeline.dataset import Kind
from mergeline.dataset.schema import SchemaColumn, TeamSchema, load_schema
from mergeline.evaluate.gate import Champion
from mergeline.evaluate.metrics import measure
from mergeline.evaluate.scoring import score
from mergeline.image.build import find_uv
from mergeline.model.artifact import LoadedModel
from mergeline.model.fit import fit, make_signature
from mergeline.params import Params, read_params
from mergeline.scorer.pipeline import to_features
from mergeline.watch.challenge import Proof, compare_fresh, prove

HERE = Path(__file__).resolve().parent
PARAMS = HERE.parents[1] / "params.yaml"
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]

PSI_BOUND = 0.25
FALL = 0.02
SAMPLE = 20_000


@dataclass
class World:
    """Windows of labelled rows, oldest first; `judged[w]` marks the newest part of a window, kept for the gate."""

    name: str
    params: Params
    schema: TeamSchema
    windows: list[pd.DataFrame]
    judged: list[np.ndarray]
    first: int
    models: dict[int, LoadedModel] = field(default_factory=dict)
    measured: dict[tuple[int, int], dict[str, float]] = field(default_factory=dict)

    def training(self, window: int) -> pd.DataFrame:
        """The rows that a model made at the end of a window is trained on."""
        parts = [*self.windows[:window], self.windows[window][~self.judged[window]]]
        return pd.concat(parts, ignore_index=True)

    def judge(self, window: int) -> pd.DataFrame:
        """The newest rows of a window."""
        return self.windows[window][self.judged[window]].reset_index(drop=True)

    def model(self, window: int) -> LoadedModel:
        """The model that is made at the end of a window."""
        if window not in self.models:
            rows = self.training(window)
            signature = make_signature(rows, self.schema, self.params)
            features = to_features(rows, signature.columns)
            pipeline = fit(features, rows[self.params.data.target], self.params)
            nothing: Any = None
            self.models[window] = LoadedModel(Path(), f"model {window}", signature, nothing, pipeline)
        return self.models[window]

    def values(self, model: int, window: int) -> dict[str, float]:
        """The metrics of a model in a window."""
        if (model, window) not in self.measured:
            self.measured[model, window] = measure(score(self.model(model), self.windows[window]))
        return self.measured[model, window]


Policy = Callable[[World, int, int], bool]
"""Whether to retrain at the end of a window, when the model of an earlier one serves."""


def never(_world: World, _model: int, _window: int) -> bool:
    return False


def monthly(_world: World, _model: int, _window: int) -> bool:
    return True


def by_psi(world: World, model: int, window: int) -> bool:
    """Any feature's population stability index is above 0.25, by deciles of the training rows or by category."""
    before, now = world.training(model), world.windows[window]
    return any(
        psi(before[column.name], now[column.name], numeric=column.kind is not Kind.CATEGORY) > PSI_BOUND
        for column in world.schema.features(world.params.data)
    )


def psi(before: pd.Series, now: pd.Series, *, numeric: bool) -> float:
    if numeric:
        edges = np.unique(np.nanquantile(before.astype(float), np.arange(0.1, 1.0, 0.1)))
        old, new = (np.where(s.isna(), -1, np.searchsorted(edges, s.astype(float))) for s in (before, now))
    else:
        old, new = (s.astype("str").fillna("missing").to_numpy() for s in (before, now))
    cells = np.unique(np.concatenate([old, new]))
    p, q = (np.array([np.mean(values == cell) for cell in cells]).clip(1e-4) for values in (old, new))
    return float(((q - p) * np.log(q / p)).sum())


def by_fallen_auc(world: World, model: int, window: int) -> bool:
    """The AUC of the window is 0.02 below what the model had on its own held-out rows."""
    promised = measure(score(world.model(model), world.judge(model)))["roc_auc"]
    return world.values(model, window)["roc_auc"] < promised - FALL


def by_challenger(world: World, model: int, window: int) -> bool:
    """Mergeline's: a challenger proves a gain on the newest labelled rows."""
    judge = world.judge(window)
    champion = Champion(world.model(model), version=1, digest=f"model {model}")
    compared = compare_fresh(world.training(window), judge, champion, world.schema, world.params)
    return prove(compared, judge, 0, world.params)[0] is Proof.PROVEN


def by_evidently(world: World, model: int, window: int) -> bool:
    """Evidently's dataset drift with its defaults, on samples."""
    features = world.schema.features(world.params.data)
    names = {
        column.name: f"{'c' if column.kind is Kind.CATEGORY else 'n'}{place}" for place, column in enumerate(features)
    }
    with tempfile.TemporaryDirectory() as scratch:
        for name, rows in (("before", world.training(model)), ("now", world.windows[window])):
            some = rows.sample(min(SAMPLE, len(rows)), random_state=0)
            some[list(names)].rename(columns=names).to_parquet(Path(scratch, f"{name}.parquet"), index=False)
        command = [find_uv(), "run", "--isolated", "--no-project", "--python", sys.executable]
        command += ["--with", "evidently==0.7.23", "--with", "pandas<3", "--with", "pyarrow", "python"]
        command += [str(HERE / "watch_peers" / "evidently_drift.py"), "before.parquet", "now.parquet"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=True)
    return bool(json.loads(done.stdout.splitlines()[0])["dataset"])


def replay(world: World, policy: Policy) -> tuple[list[int], dict[str, float]]:
    """The windows at whose ends it retrained, and the means of the metrics over all windows that were served."""
    model, retrained, found = world.first, [], []
    for window in range(world.first + 1, len(world.windows)):
        found.append(world.values(model, window))
        if window + 1 < len(world.windows) and policy(world, model, window):
            model = window
            retrained.append(window)
    return retrained, {name: float(np.mean([values[name] for values in found])) for name in ("roc_auc", "log_loss")}


def flights() -> World:
    from mergeline.recipes.flights.data import build_year, source_folder

    params = read_params(PARAMS)
    year = build_year(source_folder())
    windows = [year[year["scheduled_at"].dt.month == month].reset_index(drop=True) for month in range(1, 13)]
    judged = []
    for rows in windows:
        days = rows["scheduled_at"].dt.normalize()
        judged.append((days >= sorted(days.unique())[-params.retrain.judge_days]).to_numpy(dtype=bool))
    return World("flights", params, load_schema(params.data), windows, judged, first=2)


def census() -> World:
    with tempfile.TemporaryDirectory() as scratch:
        command = [find_uv(), "pip", "install", "--quiet", "--no-deps", "--target", scratch, "--python", sys.executable]
        subprocess.run([*command, "nannyml==0.13.1"], check=True)
        folder = Path(scratch, "nannyml", "datasets", "data")
        known, later, labels = (
            pd.read_parquet(folder / f"employment_MA_{part}.pq")
            for part in ("reference", "analysis", "analysis_target")
        )
    rows = pd.concat([known, later.merge(labels, on="id")], ignore_index=True)
    rows = rows.drop(columns=["prediction", "predicted_probability"]).sort_values("id", ignore_index=True)
    rows["employed"] = rows["employed"].astype(bool)
    texts = [name for name in rows if isinstance(rows[name].dtype, pd.CategoricalDtype)]
    rows[texts] = rows[texts].astype("str")
    kinds = dict.fromkeys(texts, Kind.CATEGORY) | {
        "id": Kind.INTEGER,
        "AGEP": Kind.NUMBER,
        "employed": Kind.BOOLEAN,
    }
    columns = tuple(SchemaColumn(name, kind, True, None, None, ()) for name, kind in kinds.items())
    nothing: Any = None
    years = [rows[rows["year"] == year].reset_index(drop=True) for year in (2015, 2016, 2017, 2018)]
    quarters = [part.iloc[places] for part in years[1:] for places in np.array_split(np.arange(len(part)), 4)]
    windows = [part.reset_index(drop=True) for part in (years[0], *quarters)]
    judged = [np.arange(len(part)) >= len(part) * 2 // 3 for part in windows]
    here = read_params(PARAMS).model_dump(mode="json", by_alias=True)
    data = {"schema": "retrain_policies:none", "target": "employed", "id": "id", "time": None, "metadata": []}
    model = here["model"] | {"factory": "retrain_policies:census_pipeline"}
    evaluation = here["evaluation"] | {"slices": [], "fairness": []}
    params = Params.model_validate(here | {"name": "census", "data": data, "model": model, "evaluation": evaluation})
    return World("census", params, TeamSchema(nothing, columns), windows, judged, first=0)


def census_pipeline(seed: int, **arguments: Any) -> Pipeline:
    """Trees on all columns, as the flights have."""
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    texts = lambda frame: [name for name in frame if frame[name].dtype == "str"]  # noqa: E731 - sklearn takes a function
    columns = ColumnTransformer([("categories", encode, texts)], remainder="passthrough")
    return Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(random_state=seed, **arguments))])


def report(world: World, policies: dict[str, Policy]) -> None:
    found = {name: replay(world, policy) for name, policy in policies.items()}
    low, high = found["never"][1], found["monthly"][1]
    print(f"\n{world.name}: {len(world.windows) - world.first - 1} windows served, each after the other")
    print(f"| {'policy':<34} | retrainings | mean log loss | mean AUC | share of the gain: log loss | AUC |")
    print("|---|---|---|---|---|---|")
    for name, (retrained, means) in found.items():
        shares = [
            (means[metric] - low[metric]) / (high[metric] - low[metric])
            if high[metric] != low[metric]
            else float("nan")
            for metric in ("log_loss", "roc_auc")
        ]
        told = " | ".join(f"{share + 0.0:.0%}" for share in shares)
        print(f"| {name:<34} | {len(retrained)} | {means['log_loss']:.4f} | {means['roc_auc']:.4f} | {told} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evidently", action="store_true", help="also Evidently's dataset drift (some minutes)")
    parser.add_argument("--only", choices=["flights", "census"])
    asked = parser.parse_args()
    policies: dict[str, Policy] = {
        "never": never,
        "monthly": monthly,
        f"any feature's PSI > {PSI_BOUND}": by_psi,
        f"AUC fell by {FALL}": by_fallen_auc,
        "mergeline: a challenger proves it": by_challenger,
    }
    if asked.evidently:
        policies["Evidently's dataset drift"] = by_evidently
    for make in (flights, census):
        if asked.only in (None, make.__name__):
            report(make(), policies)


if __name__ == "__main__":
    main()
