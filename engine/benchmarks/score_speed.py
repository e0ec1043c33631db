"""Measures `mergeline score` against the pipeline's own `predict_proba` on the same rows, each in a process of its own.

    python benchmarks/score_speed.py [--rows 1000000 10000000] [--rounds 1]

The model is gradient boosting on 30 columns (27 numbers with gaps, 3 categories), 55 trees of 31 leaves, compiled. Both
go from a Parquet file to a Parquet file: ours batch by batch, every row checked, the peer as one would write it (read
with pandas, `predict_proba`, write), in parts of a million rows, since ten million do not fit into many a machine.
The time is from the start of the imports to the end of the file; CPU seconds are of all threads; the peak is of
resident memory. It exits with 1 where ours is not 5 times as fast, or takes 500 MB or more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

TIMES, MEGABYTES = 5.0, 500.0


def prepare(folder: Path) -> None:
    """The model folder, as training would write it but for what scoring does not read."""
    import numpy as np

    from mergeline.model.artifact import dump_pipeline
    from mergeline.scorer.compiling import build_scorer
    from mergeline.scorer.pipeline import to_features
    from scorer_speed import described, made_rows, pipelines

    signature = described()
    frame = made_rows(20_000)
    features = to_features(frame, signature.columns)
    target = (
        features["number_0"].fillna(0) + features["number_1"].fillna(0)
        > np.random.default_rng(1).normal(size=len(frame))
    ).to_numpy()
    pipeline = pipelines()["boosting"].fit(features, target)
    for name, content in build_scorer(pipeline, signature, features, features.head(5000)).items():
        (folder / name).write_bytes(content)
    (folder / "model.skops").write_bytes(dump_pipeline(pipeline))
    (folder / "signature.json").write_text(signature.model_dump_json())


def write_rows(path: Path, rows: int) -> None:
    """The same 500,000 rows again and again: what they hold is no matter."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from scorer_speed import made_rows

    part = pa.Table.from_pandas(made_rows(500_000), preserve_index=False)
    with pq.ParquetWriter(path, part.schema) as writer:
        for first in range(0, rows, len(part)):
            writer.write_table(part.slice(0, min(len(part), rows - first)))


def ours(folder: Path, source: Path, target: Path) -> None:
    """What the verb does."""
    from mergeline.model.artifact import LoadedModel, load_pipeline
    from mergeline.model.bulk import score_file
    from mergeline.model.bulk_files import spare_pandas
    from mergeline.scorer.signature import Signature

    spare_pandas()
    signature = Signature.model_validate_json((folder / "signature.json").read_text())
    model = LoadedModel(folder, "", signature, None, partial(load_pipeline, folder / "model.skops", ()))  # type: ignore[arg-type]
    score_file(model, source, target)


def theirs(folder: Path, source: Path, target: Path) -> None:
    """What a person would write."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    import skops.io

    path = folder / "model.skops"
    pipeline = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))
    writer = None
    for batch in pq.ParquetFile(source).iter_batches(batch_size=1_000_000):
        made = pa.Table.from_pandas(pd.DataFrame({"score": pipeline.predict_proba(batch.to_pandas())[:, 1]}))
        writer = writer or pq.ParquetWriter(target, made.schema)
        writer.write_table(made)
    if writer is not None:
        writer.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, folder, source, target = options.run
        start = time.perf_counter()
        {"ours": ours, "theirs": theirs}[name](Path(folder), Path(source), Path(target))
        used = resource.getrusage(resource.RUSAGE_SELF)
        # Not `ru_maxrss`, which a process takes over from the one that started it.
        peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
        print(json.dumps((time.perf_counter() - start, used.ru_utime + used.ru_stime, peak / 1024)))
        return 0
    missed = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        for rows in options.rows:
            write_rows(folder / "rows.parquet", rows)
            best: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                for name in ("ours", "theirs"):
                    found = measure(name, folder)
                    best[name] = min(best.get(name, found), found)
            equal(folder)
            (mine, my_cpu, peak), (other, other_cpu, other_peak) = best["ours"], best["theirs"]
            print(
                f"{rows:>11,} rows: {mine:.1f} s against {other:.1f} s, {other / mine:.1f} times as fast "
                f"(CPU {my_cpu:.1f} and {other_cpu:.1f} s, {other_cpu / my_cpu:.1f} times); "
                f"{peak:.0f} MB against {other_peak:.0f} MB",
                flush=True,
            )
            missed |= other / mine < TIMES or peak >= MEGABYTES
    return int(missed)


def measure(name: str, folder: Path) -> list[float]:
    """Wall and CPU seconds, and megabytes, of one run in a process of its own."""
    arguments = [name, str(folder), str(folder / "rows.parquet"), str(folder / f"{name}.parquet")]
    out = subprocess.run(
        [sys.executable, __file__, "--run", *arguments],
        check=True, capture_output=True, text=True, env=os.environ | {"OMP_WAIT_POLICY": "passive"},
    ).stdout  # fmt: skip
    values: list[float] = json.loads(out.splitlines()[-1])
    return values


def equal(folder: Path) -> None:
    """Refuse to compare what does not give the same scores."""
    import numpy as np
    import pyarrow.parquet as pq

    one, two = (
        pq.read_table(folder / f"{name}.parquet", columns=["score"])["score"].to_numpy() for name in ("ours", "theirs")
    )
    np.testing.assert_allclose(one, two, atol=1e-9)


if __name__ == "__main__":
    sys.exit(main())
