"""Builds the toy problem's rows, partitions and params."""

from pathlib import Path

import numpy as np
import pandas as pd

from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import make_split
from mergeline.model.train import train
from mergeline.params import Params


def orders(month: str = "2024-01", rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Orders of one month; the larger the amount, the likelier a return."""
    rng = np.random.default_rng([seed, int(month.replace("-", ""))])
    amount = rng.gamma(2.0, 40.0, rows).clip(0, 1000).round(2)
    channel = rng.choice(["web", "shop", "phone"], rows, p=[0.6, 0.3, 0.1])
    chance = 1 / (1 + np.exp(-(amount - 80) / 40 - (channel == "web")))
    start = pd.Timestamp(f"{month}-01")
    frame = pd.DataFrame(
        {
            "order": [f"{month}-{number}" for number in range(rows)],
            "placed": start + pd.to_timedelta(rng.integers(0, 28 * 24 * 3600, rows), unit="s"),
            "region": rng.choice(["north", "south"], rows),
            "channel": channel,
            "amount": np.where(rng.random(rows) < 0.05, np.nan, amount),
            "items": rng.integers(1, 6, rows),
            "gift": rng.random(rows) < 0.2,
            "returned": rng.random(rows) < chance,
        }
    )
    return frame.sort_values("placed", ignore_index=True)


def write_months(folder: Path, months: int = 3, rows: int = 400) -> list[Path]:
    """One Parquet partition a month."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for month in range(1, months + 1):
        name = f"2024-{month:02d}"
        paths.append(folder / f"{name}.parquet")
        orders(name, rows).to_parquet(paths[-1], index=False)
    return paths


def toy_params(**sections: dict) -> Params:
    """Params of the toy problem; a section given replaces keys of that section."""
    values = {
        "name": "orders",
        "task": "binary",
        "data": {"schema": "toy.schema:Orders", "target": "returned", "id": "order", "time": "placed"},
        "validation": {"known_later": ["refunded_at"]},
        "split": {},
        "model": {"factory": "toy.model:linear", "seed": 3},
        "evaluation": {"slices": ["region"], "fairness": ["region"], "min_slice_rows": 50, "resamples": 200},
        "gate": {"metric": "roc_auc", "margin": 0.02, "slice_margin": 0.1},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section} if isinstance(section, dict) else section
    return Params.model_validate(values)


def train_toy(root: Path, **sections: dict) -> Path:
    """Train on the partitions below `root`, which are written if there are none; the model folder."""
    if not (root / "data").exists():
        write_months(root / "data")
    params = toy_params(**sections)
    split = make_split(root, params.data, params.split, load_schema(params.data))
    train(root, params, split, root / "model")
    return root / "model"
