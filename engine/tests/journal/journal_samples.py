"""Records, answers and journals that the tests of the journal are built from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
from serve_samples import make_signature

from mergeline.journal.folders import sealed_files
from mergeline.journal.journal import Journal
from mergeline.params import JournalParams
from mergeline.requests.answers import Answer
from mergeline.requests.records import Batch

SIGNATURE = make_signature()
DIGESTS = {"stable": "sha256:" + "a" * 64, "candidate": "sha256:" + "b" * 64}
NOON = 1_767_268_800 * 10**9
"""2026-01-01 12:00 UTC, in nanoseconds since 1970."""
DAY = 86_400 * 10**9
ROW = (12.5, 8, False, "JFK", "UA")


def settings(**values) -> JournalParams:
    return JournalParams(**{"seal_seconds": 3600, **values})


def batch(
    ids: Sequence[str | int], rows: Sequence[tuple] | None = None, unread: Sequence[tuple] | None = None
) -> Batch:
    return Batch(
        tuple(ids),
        tuple(rows or [ROW] * len(ids)),
        len(ids) > 1,
        tuple(unread or [("2013-07-01T05:00:00", "N14228")] * len(ids)),
    )


def answers(ids: Sequence[str | int], role: str = "stable", score: float = 0.25, label: object = False) -> list[Answer]:
    return [Answer(key, score, label, 3, DIGESTS[role]) for key in ids]


def append(recorder, ids: Sequence[str | int], *, time_ns: int = NOON, role: str = "stable", score: float = 0.25):
    """Journal one request of records `ids`, all answered by one model."""
    return recorder.append(batch(ids), answers(ids, role, score), (role,) * len(ids), time_ns)


def written(folder: Path, *requests: Sequence[str | int], **values) -> Path:
    """A journal with these requests, closed; returns its one segment."""
    journal = Journal(folder, settings(**values))
    recorder = journal.recorder(SIGNATURE)
    for ids in requests:
        append(recorder, ids)
    journal.close()
    (segment,) = (folder / "live").glob("*.log")
    return segment


def rows(folder: Path, table: str = "predictions") -> list[dict]:
    """Every row of a table of the sealed files."""
    found = []
    for file in sealed_files(folder):
        if table in file.path.parts:
            found += pq.ParquetFile(file.path).read().to_pylist()
    return found


def ids(folder: Path, table: str = "predictions") -> list[str]:
    """The ids of every row, sorted: one that is there twice is there twice."""
    return sorted(row["_id"] for row in rows(folder, table))


def is_root() -> bool:
    return os.geteuid() == 0
