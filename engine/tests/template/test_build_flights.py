"""The script that builds the flights partitions: the recorded rows, or nothing."""

import shutil

import pandas as pd
import pytest

from mergeline.recipes.flights import data as build_flights

pytestmark = pytest.mark.slow


def test_it_builds_the_recorded_rows(tmp_path):
    build_flights.build(tmp_path, 2, 2)
    rows = pd.read_parquet(tmp_path / "2013-02.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["2013-02.parquet"]
    assert len(rows) == 24951
    assert rows["flight_id"].is_unique
    assert round(rows["late"].mean(), 4) == 0.2709


def test_it_writes_nothing_where_one_month_differs(tmp_path, monkeypatch):
    recorded = tmp_path / "flights.sha256"
    shutil.copy(build_flights.RECORDED, recorded)
    lines = recorded.read_text().splitlines(keepends=True)
    lines[2] = "0" * 64 + lines[2][64:]
    recorded.write_text("".join(lines))
    monkeypatch.setattr(build_flights, "RECORDED", recorded)
    with pytest.raises(SystemExit, match="2013-03 differs from flights.sha256; nothing was written"):
        build_flights.build(tmp_path / "data", 1, 3)
    assert not (tmp_path / "data").exists()
