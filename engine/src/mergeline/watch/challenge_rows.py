"""Reads the labelled rows of a journal as rows of the data: inputs as they came, the newest label of each."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mergeline.dataset.quarantine import ARRIVAL
from mergeline.journal.window import Clock, Journal, Window, find_journal, held, plausible, read_files
from mergeline.model.bin_counts import connect, quoted
from mergeline.params import Task
from mergeline.watch.window_counts import around_damage, stored_name

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from mergeline.dataset.schema import TeamSchema
    from mergeline.params import Params

_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
MEMORY_LIMIT = "1GB"
"""The rows are trained on in memory anyway."""


def read_fresh(
    journal: str, schema: TeamSchema, params: Params, until: datetime, now: datetime, *, tell: Callable[[str], None]
) -> pd.DataFrame:
    """Every labelled row before `until`, by the clock of `watch.clock`, whichever model answered it.

    An id that was answered twice counts as it was answered last, and a label that came twice as it came last.
    `tell` takes a line for each file that is left out.

    Returns:
        A column for each of the schema's, missing ones empty, and `ARRIVAL`. A row's time is its own where most rows
        sent one, else the time of its arrival.

    Raises:
        WatchError: there is no journal, or it cannot be read.
    """

    def look(files: Journal) -> pd.DataFrame:
        rows, odd = _read(connection, files, schema, params, until)
        if odd + files.implausible:
            tell(f"set aside, since their time is before 1900 or after 2199: {odd + files.implausible:,} rows")
        for path in files.unreadable:
            tell(f"left out, since it cannot be read: {path}")
        return rows

    with connect(MEMORY_LIMIT) as connection, held(journal):
        found = find_journal(connection, journal, _BEGINNING, now, Clock(params.watch.clock))
        return around_damage(connection, found, journal, look, tell)


def _read(
    connection: duckdb.DuckDBPyConnection, journal: Journal, schema: TeamSchema, params: Params, until: datetime
) -> tuple[pd.DataFrame, int]:
    """The rows, and how many of the window were left out since one of their two times is implausible."""
    import pandas as pd

    names = [column.name for column in schema.columns]
    relation = journal.source(Window(_BEGINNING, until, Clock(params.watch.clock))).relation()
    if relation is None or not journal.feedback:
        return pd.DataFrame(columns=[*names, ARRIVAL]), 0
    id_, time, target = params.data.id, params.data.time, params.data.target
    described = connection.execute(f"describe select * from {relation}").fetchall()
    there = {str(row[0]) for row in described}
    inputs = [name for name in names if name not in (id_, time, target) and stored_name(name) in there]
    values = ", ".join(f"v{place} := {quoted(stored_name(name))}" for place, name in enumerate(inputs))
    packed = f"struct_pack(event := epoch_us(_event_time), arrival := epoch_us(_time){', ' if values else ''}{values})"
    sound = f"coalesce({plausible('_event_time')}, true) and {plausible('_time')}"
    left_out = connection.execute(f"select count(*) from {relation} where not ({sound})").fetchone()
    truth = "_value" if params.task is Task.REGRESSION else "_label"
    shown = ", ".join(f"row.v{place}" for place in range(len(inputs)))
    rows = connection.execute(
        f"select _id, truth, row.event as event, row.arrival as arrival{', ' if shown else ''}{shown} from ("
        f" select p._id, arg_max(p.row, p._time) as row, arg_max(f.truth, f._time) as truth"
        f" from (select _id, _time, {packed} as row from {relation} where {sound}) p"
        # One label of each id: an id that came a thousand times on either side would be a million rows.
        f" join (select _id, max(_time) as _time, arg_max({truth}, _time) as truth"
        f" from {read_files(journal.feedback)} where {truth} is not null group by _id) f"
        " using (_id) group by p._id) order by arrival, _id"
    ).df()
    found = pd.DataFrame({name: rows[f"v{place}"] for place, name in enumerate(inputs)}, index=rows.index)
    found[target] = rows["truth"]
    found[ARRIVAL] = pd.to_datetime(rows["arrival"], unit="us")
    if id_ is not None:
        found[id_] = rows["_id"]
    if time is not None:
        sent = rows["event"].notna().mean() > 0.5  # one that sends its time does not take the others' away
        found[time] = pd.to_datetime(rows["event"] if sent else rows["arrival"], unit="us", utc=True)
    return found.reindex(columns=[*names, ARRIVAL]), int(left_out[0]) if left_out else 0
