"""The team's schema as a suite, run by Great Expectations."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
from isolated import EXAMPLES, ROOT, ran

pytestmark = pytest.mark.slow

GOOD = {
    "flight_id": "UA1545-EWR-20130101", "scheduled_at": pd.Timestamp("2013-01-01 05:15"), "carrier": "UA",
    "origin": "EWR", "dest": "IAH", "hour": 5, "weekday": 1, "distance": 1400.0, "temp": 39.0, "dewp": 28.0,
    "humid": 64.0, "wind_dir": 260.0, "wind_speed": 12.0, "precip": 0.0, "pressure": 1011.0, "visib": 10.0,
    "plane_year": 1999.0, "seats": 149.0, "late": False,
}  # fmt: skip
BAD = {
    "expect_column_values_to_be_in_set": {"origin": "ORD"},
    "expect_column_values_to_be_between": {"temp": 500.0},
    "expect_column_values_to_not_be_null": {"carrier": None},
    "expect_column_values_to_be_unique": {"flight_id": "UA1-EWR-20130102"},
}
CHECK = """
import json, sys
import great_expectations as gx
import pandas as pd

context = gx.get_context(mode="ephemeral")
suite = context.suites.add(gx.ExpectationSuite(**json.load(open("suite.json"))))
batch = context.data_sources.add_pandas("rows").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
told = {}
for name in sys.argv[1:]:
    found = batch.get_batch({"dataframe": pd.read_parquet(f"{name}.parquet")}).validate(suite)
    told[name] = [each.expectation_config.type for each in found.results if not each.success]
print(json.dumps(told))
"""


def test_good_rows_pass_and_each_kind_of_bad_ones_fails_its_expectation(tmp_path):
    export = [sys.executable, str(EXAMPLES / "great_expectations" / "export_suite.py")]
    (tmp_path / "suite.json").write_text(
        subprocess.run(export, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    )
    good = pd.DataFrame([{**GOOD, "flight_id": f"UA{number}-EWR-20130101"} for number in range(5)])
    good.to_parquet(tmp_path / "good.parquet")
    for name, change in BAD.items():
        bad = pd.concat([good, pd.DataFrame([{**GOOD, **change}] * (2 if "unique" in name else 1))])
        if "unique" not in name:
            bad = bad.reset_index(drop=True)
        bad.to_parquet(tmp_path / f"{name}.parquet", index=False)
    good.drop(columns="dest").to_parquet(tmp_path / "lacking.parquet")
    off = {"GX_ANALYTICS_ENABLED": "false"}
    told = ran(
        "python",
        "-c",
        CHECK,
        "good",
        *BAD,
        "lacking",
        packages=("great-expectations==1.24.1", "pyarrow"),
        cwd=tmp_path,
        **off,
    )
    found = json.loads(told.splitlines()[-1])
    assert found.pop("good") == []
    assert "expect_table_columns_to_match_set" in found.pop("lacking")
    assert found == {name: [name] for name in BAD}
