"""`mergeline score --journal` on a released model: killed half way, run again, watched, and joined with labels."""

import json
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from loop_project import kill_when

from mergeline.journal.journal import Journal
from mergeline.journal.labels import Feedback
from mergeline.journal.parquet_export import seal_all
from mergeline.params import JournalParams
from toy_data import orders

ROWS = 150_000


def journalled(root):
    return [pq.read_table(path) for path in sorted((root / "journal" / "predictions").glob("*/*/*.parquet"))]


def watch(project):
    return json.loads(project.mergeline("watch", "--json", "--window", "1d").stdout)


def write_rows(path: Path) -> pd.DataFrame:
    frame = orders("2024-05", ROWS)
    frame.drop(columns="returned").to_parquet(path, index=False, row_group_size=10_000)
    return frame


def test_a_killed_run_counts_for_nothing_and_the_next_one_once(released):
    root = released.root
    frame = write_rows(root / "rows.parquet")
    verb = ("score", "rows.parquet", "scores.parquet", "--journal", "journal")

    def half_way(_):
        return any(draft.stat().st_size > 1000 for draft in (root / "journal" / "scoring").glob(".*.draft"))

    kill_when(released, half_way, *verb)
    assert not (root / "scores.parquet").exists()
    assert journalled(root) == []

    told = json.loads(released.mergeline(*verb, "--json").stdout)
    assert told["journalled"] == ROWS
    (table,) = journalled(root)
    assert (
        table["_id"].to_pylist()
        == frame["order"].tolist()
        == pq.read_table(root / "scores.parquet")["order"].to_pylist()
    )
    again = released.mergeline(*verb)
    assert "has them already" in again.stdout
    assert sum(map(len, journalled(root))) == ROWS
    assert not (root / "journal" / "scoring").exists()

    assert watch(released)["answered"] == ROWS
    journal = Journal(root / "journal", JournalParams())
    labels = frame.sample(2000, random_state=0)
    said = [
        Feedback(key, str(bool(value)).lower(), None)
        for key, value in zip(labels["order"], labels["returned"], strict=True)
    ]
    journal.feedback(said, time.time_ns())
    journal.close()
    seal_all(root / "journal")
    assert watch(released)["live"]["labelled"] == 2000
