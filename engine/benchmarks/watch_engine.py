"""Counts one window by DuckDB and by another engine, and says whether every count is equal; run where Ibis is.

    python benchmarks/watch_engine.py FOLDER ENGINE      FOLDER as `watch_samples.py` makes it

Prints, as JSON: the rows; for each engine seconds, and CPU seconds with those of every process that it started; how
long the engine took to start; and the columns whose counts differ.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from mergeline.journal.window import Clock, Window, find_journal
from mergeline.model.artifact import PROFILE_FILE, SIGNATURE_FILE, folder_digest
from mergeline.model.bin_counts import connect
from mergeline.model.profile import Profile
from mergeline.scorer.signature import Signature
from mergeline.watch.engine_counts import open_engine
from mergeline.watch.released_model import Served
from mergeline.watch.window_counts import observe
from watch_samples import DAYS, END


def cpu_seconds() -> float:
    """Of this process and of every one that it started and that still runs: Spark's driver and its workers."""
    ticks, started_by = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        number = int(path.parent.name)
        ticks[number], started_by[number] = sum(map(int, fields[11:15])), int(fields[1])
    ours = {os.getpid()}
    while more := {number for number, parent in started_by.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks[number] for number in ours) / os.sysconf("SC_CLK_TCK")


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    started, cpu = time.monotonic(), cpu_seconds()
    found = work()
    return found, {"seconds": time.monotonic() - started, "cpu": cpu_seconds() - cpu}


def counts_of(observed: Any) -> dict[str, Any]:
    """Every count of every column, by its name."""
    return {
        f"{each.part} {each.profile.name}": {
            key: value.tolist() if hasattr(value, "tolist") else value
            for key, value in dataclasses.asdict(each.counts).items()
        }
        for each in (*observed.inputs, *observed.answers)
    }


def main(folder: Path, address: str) -> None:
    model = folder / "model"
    profile = Profile.model_validate_json((model / PROFILE_FILE).read_text())
    signature = Signature.model_validate_json((model / SIGNATURE_FILE).read_text())
    served = Served(0, folder_digest(model), signature, profile, (), (), None)
    window = Window(END - timedelta(days=DAYS), END, Clock.ARRIVAL)
    engine, start = timed(lambda: open_engine(address))
    with connect() as connection:
        journal = find_journal(connection, str(folder / "journal"), window.start, window.end, window.clock)
        source = journal.source(window)
        rows: set[int] = set()

        def count_by(which: Any) -> dict[str, Any]:
            observed = observe(connection, source, served, which)
            rows.add(observed.rows)
            return counts_of(observed)

        here, duckdb = timed(lambda: count_by(None))
        there, other = timed(lambda: count_by(engine))
    differ = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    found = {"rows": max(rows), "duckdb": duckdb, "engine": other, "start": start, "differ": differ}
    sys.stdout.write(json.dumps(found | {"columns": len(here)}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
