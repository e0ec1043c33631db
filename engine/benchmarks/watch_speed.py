"""Measures `mergeline watch` as a whole process beside a bare scan of the same columns, and beside other tools.

    python benchmarks/watch_speed.py [--rows 1000000 10000000] [--rounds 5] [--peers] [--spark [ENGINE]] [--quick]

A window of so many rows and 30 columns, 7 files a million rows, is watched against a stored profile. The bare scan is
DuckDB in a process of its own that takes the greatest value of every column that watching reads. Both are run in turn;
the figures are medians of CPU seconds, imports included, and the largest memory. From 20 million rows on, files are
links to files of a tenth of the rows, so ids repeat. `--peers` runs Evidently, NannyML and whylogs on the million rows,
each in an environment of its own, against a sample of 200,000 training rows; `--spark` counts each window by Spark too,
a local cluster of two workers if not told otherwise, and says whether every count is equal; `--quick` takes 100,000
rows and one round, to show that it all runs. Needs 10 GB of temporary disk for 100 million rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from mergeline.image.build import find_uv
from watch_samples import CATEGORIES, END, NUMBERS, TRAINING_ROWS, draw, make_project, write_journal

READ = [*NUMBERS, *CATEGORIES, "_id", "_score", "_label"]
SCAN = """
import duckdb, sys
columns = ", ".join(f'max("{name}")' for name in sys.argv[2:])
settings = {"memory_limit": "200MB", "preserve_insertion_order": False}
duckdb.connect(config=settings).execute(f"select {columns} from read_parquet('{sys.argv[1]}')").fetchall()
"""
PEERS = {
    "evidently_drift": ["evidently==0.7.23", "pandas<3", "pyarrow"],
    "nannyml_drift": ["nannyml==0.13.1", "statsmodels"],
    "whylogs_drift": ["whylogs[viz]==1.6.4", "numpy<2", "pandas<3", "pyarrow<20"],
}
IBIS = "ibis-framework[pyspark]==12.0.0"
TIMED = ("start", "engine", "duckdb")
QUIET = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1", "WHYLOGS_NO_ANALYTICS": "True"}


class Cost(NamedTuple):
    """What one process took."""

    cpu: float
    wall: float
    megabytes: float
    first_line: float


LAUNCH = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
with open(sys.argv[1], "w") as stream:
    json.dump([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024], stream)
"""
"""A process begins with the memory of the one that started it, so a small one starts what is measured."""


def measure(command: list[str], folder: Path) -> Cost:
    """Run a command to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    result = folder / "cost.json"
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(result), *command],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stderr is None:
            raise RuntimeError("no pipe")
        first = process.stderr.readline()
        first_line = time.perf_counter() - started
        rest = process.stderr.read()
    wall = time.perf_counter() - started
    code, cpu, megabytes = json.loads(result.read_text())
    if code:
        raise RuntimeError(f"{command[0]} failed: {first}{rest}")
    return Cost(cpu, wall, megabytes, first_line)


def grow(folder: Path, digest: str, rows: int) -> None:
    """The journal with so many rows."""
    shutil.rmtree(folder / "journal", ignore_errors=True)
    times = 10 if rows >= 20_000_000 else 1
    write_journal(folder / "journal", digest, rows // times)
    for file in list((folder / "journal").glob("predictions/*/*/*.parquet")):
        for copy in range(1, times):
            os.link(file, file.with_name(f"made-{copy}.parquet"))


def ours_and_scan(folder: Path, rounds: int) -> tuple[list[Cost], list[Cost]]:
    """Both in turn, after one run of each that fills the caches."""
    watch = [str(Path(sys.executable).with_name("mergeline")), "watch", "--end", END.date().isoformat()]
    scan = [sys.executable, "-c", SCAN, "journal/predictions/*/*/*.parquet", *READ]
    ours, bare = [], []
    for _ in range(rounds + 1):
        bare.append(measure(scan, folder))
        ours.append(measure(watch, folder))
    return ours[1:], bare[1:]


def by_engine(folder: Path, address: str) -> str:
    """The same window, counted by another engine, count by count; Ibis and Spark come for this run alone."""
    script = Path(__file__).with_name("watch_engine.py")
    with_ibis = ["run", "--quiet", "--project", str(script.parents[1]), "--locked", "--with", IBIS]
    done = subprocess.run(
        [find_uv(), *with_ibis, "python", str(script), str(folder), address],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{address} failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    told = {name: f"{found[name]['seconds']:.1f} s, {found[name]['cpu']:.1f} CPU s" for name in TIMED}
    equal = f"differ in {found['differ']}" if found["differ"] else f"all {found['columns']} columns equal"
    return f"started in {told['start']}, counted in {told['engine']}; DuckDB counted in {told['duckdb']}; {equal}"


def median(costs: list[Cost], name: str) -> float:
    return statistics.median(getattr(cost, name) for cost in costs)


def run_peer(name: str, folder: Path, reference: Path, windows: list[Path]) -> list[dict[str, object]]:
    """The lines that a peer prints; the last one is what its process took, its environment not counted."""
    packages = [part for package in PEERS[name] for part in ("--with", package)]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    script = Path(__file__).resolve().parent / "watch_peers" / f"{name}.py"
    command = [
        find_uv(),
        "run",
        "--isolated",
        "--no-project",
        "--python",
        python,
        *packages,
        "python",
        "-P",
        str(script),
    ]
    skipped = ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "PYTHONPATH")
    environment = {key: value for key, value in os.environ.items() if key not in skipped}
    done = subprocess.run(
        [*command, str(reference), *map(str, windows)],
        cwd=folder,
        env=environment | QUIET,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--spark", nargs="?", const="spark://local-cluster[2,1,1024]", default="")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.quick:
        given.rows, given.rounds = [100_000], 1
    compared = given.rows[0] if given.quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="watch-speed-") as place:
        folder = Path(place)
        digest = make_project(folder)
        ours_at_compared = 0.0
        for rows in given.rows:
            grow(folder, digest, rows)
            ours, bare = ours_and_scan(folder, given.rounds if rows < 50_000_000 else 1)
            cpu, scan = median(ours, "cpu"), median(bare, "cpu")
            ours_at_compared = cpu if rows == compared else ours_at_compared
            print(
                f"{rows:>11,} rows: watch {cpu:.2f} CPU s, {median(ours, 'wall'):.1f} s,"
                f" {median(ours, 'megabytes'):.0f} MB, first line after {median(ours, 'first_line'):.2f} s;"
                f" scan {scan:.2f} CPU s, {median(bare, 'megabytes'):.0f} MB: {cpu / scan:.2f} times the scan",
                flush=True,
            )
            if given.spark:
                print(f"{rows:>11,} rows: {given.spark} {by_engine(folder, given.spark)}", flush=True)
        if given.peers:
            rng = np.random.default_rng(9)
            reference, window = folder / "reference.parquet", folder / "window.parquet"
            pd.DataFrame(draw(rng, TRAINING_ROWS)).to_parquet(reference)
            pd.DataFrame(draw(rng, compared)).to_parquet(window)
            for name in PEERS:
                used = run_peer(name, folder, reference, [window])[-1]
                ratio = f", {used['cpu'] / ours_at_compared:.0f} times ours" if ours_at_compared else ""  # type: ignore[operator]
                print(f"{name}, {compared:,} rows: {used['cpu']:.1f} CPU s, {used['mb']:.0f} MB{ratio}", flush=True)


if __name__ == "__main__":
    main()
