"""Makes what the watching benchmarks watch: a project with a model's profile, and journals of any size.

    python benchmarks/watch_samples.py FOLDER [--rows 1000000]

20 numbers (normal, skewed, heavy-tailed, whole, with nulls, with many equal values) and 10 categories (2 to 500 values,
evenly or by Zipf's law), drawn independently; ids are random. Run alone it writes a project into FOLDER, to look at.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mergeline.files import canonical_json, write_bytes, write_json, write_text
from mergeline.model.artifact import LINEAGE_FILE, PROFILE_FILE, SIGNATURE_FILE, folder_digest
from mergeline.model.lineage import ModelLineage
from mergeline.model.profile import make_profile
from mergeline.params import Task
from mergeline.scorer.signature import Column, Kind, Output, Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

NUMBERS = [f"n{place:02d}" for place in range(20)]
CATEGORIES = [f"c{place:02d}" for place in range(10)]
LEVELS = (2, 3, 4, 5, 8, 12, 20, 50, 120, 500)
TRAINING_ROWS, HOLDOUT_ROWS = 200_000, 50_000
CHUNK, ROW_GROUP = 100_000, 32_768
END = datetime(2026, 3, 8, tzinfo=UTC)
DAYS = 7

PARAMS = """\
name: bench
task: binary
data: {schema: "bench.schema:Rows", target: y}
validation: {}
split: {}
model: {factory: "bench.model:pipeline"}
evaluation: {}
gate: {metric: roc_auc, margin: 0.005, slice_margin: 0.02}
"""
MANIFEST = """\
apiVersion: mergeline/v1
kind: ModelDeployment
metadata: {{name: bench}}
spec:
  stable:
    version: 1
    digest: {digest}
    source: files/md5/00/000000000000000000000000000000.dir
    lineage: {{code: "{zeros}", data: "md5:{md5}.dir", params: "sha256:{sha}", environment: "sha256:{sha}"}}
    evidence: {{metrics: {{roc_auc: 0.75}}, gate: "sha256:{sha}"}}
"""

Columns = dict[str, "NDArray[np.float64] | NDArray[np.object_]"]


def draw(rng: np.random.Generator, rows: int) -> Columns:
    """The inputs of so many rows: numbers with NaN where they are missing, categories as text."""
    found: Columns = {}
    for place, name in enumerate(NUMBERS):
        kind = place % 5
        if kind == 0:
            values = rng.normal(50, 10, rows)
        elif kind == 1:
            values = rng.lognormal(3, 1, rows).round(2)
        elif kind == 2:
            values = rng.standard_t(3, rows).round(3)
        elif kind == 3:
            values = rng.poisson(6, rows).astype(np.float64)
        else:
            values = np.where(rng.random(rows) < 0.6, 0.0, rng.exponential(2, rows).round(2))
        if place % 4 == 0:
            values[rng.random(rows) < 0.02] = np.nan
        found[name] = values
    for place, (name, levels) in enumerate(zip(CATEGORIES, LEVELS, strict=True)):
        found[name] = names_of(levels)[rng.choice(levels, rows, p=shares_of(place))]
    return found


def names_of(levels: int) -> NDArray[np.object_]:
    """The values of a category."""
    return np.array([f"value {level}" for level in range(levels)], dtype=object)


def shares_of(place: int) -> NDArray[np.float64]:
    """How often the values of the category at this place come: evenly, or by Zipf's law."""
    levels = LEVELS[place]
    weights = np.ones(levels) if place % 2 == 0 else 1 / np.arange(1, levels + 1)
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def scores_of(columns: Columns) -> NDArray[np.float64]:
    """What the model of the benchmark answers: a logistic function of three columns."""
    first = np.nan_to_num(np.asarray(columns["n00"], dtype=np.float64), nan=50.0)
    second = np.asarray(columns["n05"], dtype=np.float64)
    third = (np.asarray(columns["c00"]) == "value 0").astype(np.float64)
    return np.asarray(1 / (1 + np.exp(-((first - 50) / 10 + (second - 50) / 20 + third - 1))))


def make_project(folder: Path, seed: int = 1) -> str:
    """A folder that `mergeline watch` runs in, without data; returns the model's digest."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    training, holdout = pd.DataFrame(draw(rng, TRAINING_ROWS)), draw(rng, HOLDOUT_ROWS)
    signature = Signature(
        name="bench",
        columns=tuple(
            [Column(name=name, kind=Kind.NUMBER, nullable=True) for name in NUMBERS]
            + [Column(name=name, kind=Kind.CATEGORY, nullable=True) for name in CATEGORIES]
        ),
        output=Output(task=Task.BINARY, target="y", classes=(False, True), positive=True, threshold=0.5),
    )
    scores = scores_of(holdout)
    truth = rng.random(HOLDOUT_ROWS) < scores
    said = np.array((scores >= 0.5).tolist(), dtype=object)
    profile = make_profile(training, scores, said, truth, signature)
    write_json(folder / "model" / SIGNATURE_FILE, signature.model_dump(mode="json"))
    write_bytes(folder / "model" / PROFILE_FILE, canonical_json(profile.model_dump(mode="json")))
    lineage = ModelLineage(
        code="", data="", params="", environment="", training={}, partitions=(), rows=TRAINING_ROWS, seed=0,
        processor="", libraries={},
    )  # fmt: skip
    write_json(folder / "model" / LINEAGE_FILE, lineage.model_dump(mode="json"))
    digest = folder_digest(folder / "model")
    zeros = "0" * 64
    write_text(
        folder / "deploy/manifest.yaml", MANIFEST.format(digest=digest, zeros=zeros[:40], md5=zeros[:32], sha=zeros)
    )
    write_text(folder / "params.yaml", PARAMS)
    return digest


def write_journal(journal: Path, digest: str, rows: int, seed: int = 2, end: datetime = END) -> None:
    """So many answered predictions of the seven days before `end`, a file for each day."""
    rng = np.random.default_rng(seed)
    left = rows
    for day in range(DAYS):
        today = left // (DAYS - day)
        left -= today
        start = end - timedelta(days=DAYS - day)
        write_day(journal, digest, today, start, rng)


def write_day(journal: Path, digest: str, rows: int, start: datetime, rng: np.random.Generator) -> None:
    """One file of one day's answered predictions."""
    folder = journal / "predictions" / f"day={start:%Y-%m-%d}" / f"digest={digest[7:19]}"
    folder.mkdir(parents=True, exist_ok=True)
    writer = None
    for first in range(0, rows, CHUNK):
        number = min(CHUNK, rows - first)
        columns = draw(rng, number)
        offsets = (np.arange(first, first + number) * (86_400_000_000 // rows)).astype("timedelta64[us]")
        table = answered(columns, digest, np.datetime64(start.replace(tzinfo=None), "us") + offsets, rng)
        writer = writer or pq.ParquetWriter(
            folder / "made-0.parquet",
            table.schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=[*CATEGORIES, "_digest", "_role", "_label"],  # as the server's journal is written
        )
        writer.write_table(table, row_group_size=ROW_GROUP)
    if writer is not None:
        writer.close()


def answered(columns: Columns, digest: str, times: NDArray[np.datetime64], rng: np.random.Generator) -> pa.Table:
    """The rows as the server's journal has them."""
    rows = len(times)
    scores = scores_of(columns)
    ids = [f"{number:016x}" for number in rng.integers(0, 2**63, rows)]
    nothing = pa.nulls(rows)
    fixed = {
        "_id": pa.array(ids, pa.string()),
        "_time": pa.array(times, pa.timestamp("us", tz="UTC")),
        "_event_time": nothing.cast(pa.timestamp("us", tz="UTC")),
        "_digest": pa.array([digest]).take(pa.array(np.zeros(rows, dtype=np.int32))),
        "_version": pa.array(np.ones(rows, dtype=np.int32)),
        "_role": pa.array(["stable"]).take(pa.array(np.zeros(rows, dtype=np.int32))),
        "_score": pa.array(scores),
        "_label": pa.array(np.where(scores >= 0.5, "true", "false")),
        "_scores": nothing.cast(pa.list_(pa.float64())),
        "_shadow_digest": nothing.cast(pa.string()),
        "_shadow_score": nothing.cast(pa.float64()),
        "_shadow_label": nothing.cast(pa.string()),
    }
    given = {name: pa.array(columns[name], from_pandas=True) for name in (*NUMBERS, *CATEGORIES)}
    return pa.table(fixed | given)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.folder is None:
        print("this one is used by the others; give it a folder to write a project into")
        return
    digest = make_project(given.folder)
    write_journal(given.folder / "journal", digest, given.rows)
    print(f"made {given.rows:,} rows in {given.folder}; watch them with: mergeline watch --end {END:%Y-%m-%d}")


if __name__ == "__main__":
    main()
