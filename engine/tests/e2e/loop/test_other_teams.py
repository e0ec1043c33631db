"""Another team's data, brought in by editing params and their package only."""

import numpy as np
import pandas as pd
import pytest
from loop_project import make_project

from mergeline.evaluate.results import named, read_evaluation
from mergeline.manifest.schema import read_manifest
from mergeline.model.artifact import load_model

pytestmark = pytest.mark.slow

WIDE_SCHEMA = """
import pandera.pandas as pa
Rows = pa.DataFrameSchema({
    "machine": pa.Column(str),
    **{f"sensor {n}": pa.Column(float, nullable=True) for n in range(198)},
    "wear": pa.Column(float),
})
"""
WIDE_MODEL = """
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
def make(seed, **arguments):
    text = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((text, make_column_selector(dtype_include="str")), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingRegressor(random_state=seed, **arguments))
"""
PLANT_SCHEMA = """
import pandas as pd
import pandera.pandas as pa
class Plants(pa.DataFrameModel):
    Gemessen: pd.Timestamp
    Länge: float = pa.Field(nullable=True, ge=0)
    Boden: str = pa.Field(nullable=True)
    Art: str = pa.Field(isin=["Rose", "Nelke", "Tulpe"])
"""
PLANT_MODEL = """
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
def make(seed):
    columns = make_column_transformer(
        (SimpleImputer(), ["Länge"]), (OneHotEncoder(handle_unknown="ignore"), ["Boden"])
    )
    return make_pipeline(columns, LogisticRegression(random_state=seed))
"""


def write_package(folder, schema, model):
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "schema.py").write_text(schema)
    (folder / "model.py").write_text(model)
    return folder


def params_of(name, task, schema, target, metric, **sections):
    return {
        "name": name,
        "task": task,
        "data": {"schema": f"{name}.schema:{schema}", "target": target, **sections.pop("data", {})},
        "model": {"factory": f"{name}.model:make", **sections.pop("model", {})},
        "gate": {"metric": metric, "margin": 0.02, "slice_margin": 0.2, "max_stress_loss": 2},
        "validation": {},
        "split": {},
        "tracking": {"uri": "http://127.0.0.1:9"},
        **sections,
    }


def test_a_regression_on_200_columns_in_one_csv_file_without_id_or_time(tmp_path):
    rng = np.random.default_rng(0)
    sensors = rng.normal(size=(2000, 198))
    frame = pd.DataFrame(sensors, columns=[f"sensor {n}" for n in range(198)])
    frame["wear"] = 10 + 3 * sensors[:, 0] + np.abs(sensors[:, 1]) + rng.normal(size=2000)
    frame.insert(0, "machine", rng.choice(["a|b", "c`d", "@everyone"], 2000))
    frame = frame.mask(rng.random(frame.shape) < 0.02).assign(machine=frame["machine"], wear=frame["wear"])
    (tmp_path / "work" / "data").mkdir(parents=True)
    frame.to_csv(tmp_path / "work" / "data" / "everything.csv", index=False)
    package = write_package(tmp_path / "machines", WIDE_SCHEMA, WIDE_MODEL)
    params = params_of(
        "machines", "regression", "Rows", "wear", "rmse",
        model={"arguments": {"max_iter": 20}}, evaluation={"slices": ["machine"], "resamples": 200},
    )  # fmt: skip
    project = make_project(tmp_path / "work", package, params)
    project.mergeline("propose")
    model = load_model(project.root / "model")
    assert len(model.signature.columns) == 199
    evaluation = read_evaluation(project.root / "evaluation")
    assert evaluation.holdout.rows == 400
    assert named(evaluation.metrics, "r2").estimate.value > 0.5
    report = (project.root / "report" / "report.md").read_text()
    assert len(report) < 60_000
    assert "@everyone" not in report
    project.mergeline("verify")


def test_three_classes_in_csv_partitions_with_umlauts_and_missing_values(tmp_path):
    rng = np.random.default_rng(1)
    data = tmp_path / "work" / "data"
    data.mkdir(parents=True)
    for month in range(1, 4):
        kind = rng.integers(0, 3, 600)
        frame = pd.DataFrame(
            {
                "Gemessen": pd.date_range(f"2024-{month:02d}-01", periods=600, freq="h"),
                "Länge": np.where(rng.random(600) < 0.1, np.nan, (kind + rng.normal(0, 0.7, 600) + 3)),
                "Boden": np.where(rng.random(600) < 0.1, None, np.array(["Sand", "Lehm", "Torf"])[kind]),
                "Art": np.array(["Rose", "Nelke", "Tulpe"])[(kind + (rng.random(600) < 0.2)) % 3],
            }
        )
        frame.to_csv(data / f"2024-{month:02d}.csv", index=False)
    package = write_package(tmp_path / "plants", PLANT_SCHEMA, PLANT_MODEL)
    params = params_of(
        "plants", "multiclass", "Plants", "Art", "log_loss",
        data={"time": "Gemessen"}, evaluation={"slices": ["Boden", "Länge"], "fairness": ["Boden"], "resamples": 200},
        gate={"metric": "log_loss", "margin": 0.02, "slice_margin": 0.2, "max_unfairness": 1.0},
    )  # fmt: skip
    project = make_project(tmp_path / "work", package, params)
    project.mergeline("propose")
    assert load_model(project.root / "model").signature.output.classes == ("Nelke", "Rose", "Tulpe")
    assert named(read_evaluation(project.root / "evaluation").metrics, "accuracy").estimate.value > 0.6
    assert read_manifest(project.root / "deploy" / "manifest.yaml").spec.stable.version == 1
