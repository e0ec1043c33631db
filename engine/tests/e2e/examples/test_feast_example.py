"""Feast, run on partitions as the flights repository has them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from isolated import EXAMPLES, ran

pytestmark = pytest.mark.slow

FEAST = ("feast==0.67.0", "pandas<3")
WEATHER = ["temp", "dewp", "humid", "wind_speed", "precip", "visib"]
ASK = """
import json, sys
import pandas as pd
from feast import FeatureStore

store = FeatureStore("feature_repo")
names = [f"weather:{name}" for name in json.loads(sys.argv[1])] + ["derived:dew_point_spread"]
flights = pd.read_parquet("flights.parquet")
told = store.get_historical_features(flights.rename(columns={"scheduled_at": "event_timestamp"}), names).to_df()
told["scheduled_at"] = told.pop("event_timestamp").dt.tz_localize(None)
told.to_parquet("joined.parquet")
store.materialize(flights["scheduled_at"].min() - pd.Timedelta(hours=1), flights["scheduled_at"].max().to_pydatetime())
airports = [{"origin": name} for name in ("EWR", "JFK", "LGA")]
print(json.dumps(store.get_online_features(names, airports).to_dict()))
"""


def make_partitions(folder) -> pd.DataFrame:
    """Two months of flights; the weather is the airport's, hour by hour, as in the flights data."""
    random = np.random.default_rng(3)
    folder.mkdir()
    months = []
    for month in ("2013-01", "2013-02"):
        hours = pd.date_range(f"{month}-01", periods=24 * 7, freq="h")
        weather = pd.DataFrame(
            [(origin, hour) for origin in ("EWR", "JFK", "LGA") for hour in hours], columns=["origin", "scheduled_at"]
        )
        for name in WEATHER:
            weather[name] = random.normal(50, 10, len(weather)).round(2)
        weather.loc[weather.sample(20, random_state=1).index, "temp"] = None
        flights = weather.sample(400, replace=True, random_state=2)
        flights["scheduled_at"] = flights["scheduled_at"].astype("datetime64[us]")
        flights.insert(0, "flight_id", [f"{month}-{number}" for number in range(len(flights))])
        flights.to_parquet(folder / f"{month}.parquet", index=False)
        months.append(flights)
    return pd.concat(months)


def test_the_point_in_time_join_and_the_on_demand_view_give_what_training_reads(tmp_path):
    shutil.copytree(EXAMPLES / "feast", tmp_path / "feature_repo")
    rows = make_partitions(tmp_path / "data").sort_values("flight_id")
    rows[["origin", "scheduled_at"]].drop_duplicates().to_parquet(tmp_path / "flights.parquet", index=False)
    off = {"FEAST_USAGE": "False", "PYTHONPATH": str(tmp_path / "feature_repo")}
    ran("feast", "-c", "feature_repo", "apply", packages=FEAST, cwd=tmp_path, **off)
    online = ran("python", "-c", ASK, json.dumps(WEATHER), packages=FEAST, cwd=tmp_path, **off)

    told = pd.read_parquet(tmp_path / "joined.parquet")
    told["scheduled_at"] = told["scheduled_at"].astype(rows["scheduled_at"].dtype)
    joined = rows[["flight_id", "origin", "scheduled_at"]].merge(told, on=["origin", "scheduled_at"], validate="m:1")
    training = rows[["flight_id", *WEATHER]].assign(dew_point_spread=rows["temp"] - rows["dewp"])
    pd.testing.assert_frame_equal(
        joined[list(training)].reset_index(drop=True), training.reset_index(drop=True), check_dtype=False
    )
    newest = training.assign(origin=rows["origin"], at=rows["scheduled_at"]).sort_values("at").groupby("origin").last()
    online = json.loads(online[online.index("{") :])
    assert online["origin"] == ["EWR", "JFK", "LGA"]
    for name in ("dewp", "visib"):
        assert online[name] == pytest.approx(newest[name].tolist())
