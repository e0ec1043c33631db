"""Journals the toy problem's rows as the server does."""

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def turned(rows):
    """The world has turned: what was returned is kept, and the other way round."""
    return rows.assign(returned=~rows["returned"])


def write_journal(
    root, rows, *, day="2024-04-28", labels=True, delay="1h", truth=None, name="a", event=None, more=None
):
    """Rows as the server journals them, answered in their own time, and feedback with their labels.

    `event` is the time of their own that all of them send instead, NaT for none; `more` are further columns.
    """
    arrival = pd.to_datetime(rows["placed"]).dt.tz_localize("UTC")
    kinds = {"region": pa.string(), "channel": pa.string(), "gift": pa.bool_()}
    given = {
        column: pa.array(rows[column].astype("float64") if column not in kinds else rows[column], kinds.get(column))
        for column in ("region", "channel", "amount", "items", "gift")
    }
    stamp = pa.timestamp("us", tz="UTC")
    own = {
        "_id": pa.array(rows["order"], pa.string()),
        "_time": pa.array(arrival, stamp),
        "_event_time": pa.array(arrival, stamp) if event is None else pa.array([_sent(event)] * len(rows), stamp),
        "_digest": pa.array(["sha256:" + "a" * 64] * len(rows)),
        "_version": pa.array([1] * len(rows), pa.int32()),
        "_role": pa.array(["stable"] * len(rows)),
        "_score": pa.array([0.5] * len(rows)),
        "_label": pa.array(["true"] * len(rows)),
    }
    put(
        root / "journal" / "predictions" / f"day={day}" / "digest=aaaaaaaaaaaa" / f"{name}.parquet",
        own | given | (more or {}),
    )
    if labels:
        said = rows["returned"] if truth is None else truth
        feedback = {
            "_id": own["_id"],
            "_time": pa.array(arrival + pd.Timedelta(delay), stamp),
            "_label": pa.array([str(bool(value)).lower() for value in said]),
            "_value": pa.array([None] * len(rows), pa.float64()),
        }
        put(root / "journal" / "feedback" / f"day={day}" / f"{name}.parquet", feedback)
    return rows


def _sent(event):
    return None if pd.isna(event) else event.tz_localize("UTC").to_pydatetime()


def put(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
