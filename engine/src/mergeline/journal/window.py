"""Finds the journal's files of a stretch of time, and says what cannot be read."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.errors import WatchError
from mergeline.journal.folders import KEEPER_LOCK, READING_LOCK, exclusive, shared
from mergeline.journal.listing import list_journal, read_at_address
from mergeline.journal.merge import recover
from mergeline.model.bin_counts import literal, quoted
from mergeline.timing import EARLIEST, LATEST, duration

if TYPE_CHECKING:
    import duckdb

_LONGEST = timedelta(days=3653)
LARGE, ROWS_AT_ONCE = 10_000_000, 1_000_000
"""Rows of a journal from which on it is read in parts, and those of a part. DuckDB holds the ends of the files that a
query reads, once for each column, and its cache those of all files: 700 of them are a third of a gigabyte."""


class Clock(StrEnum):
    """Which time orders the rows: when a request came, or the record's own time."""

    ARRIVAL = "arrival"
    EVENT = "event"

    @property
    def column(self) -> str:
        """The journal's column that holds it."""
        return "_time" if self is Clock.ARRIVAL else "_event_time"


@dataclass(frozen=True)
class Window:
    """From `start` on and before `end`, by `clock`; both in UTC."""

    start: datetime
    end: datetime
    clock: Clock

    def before(self) -> Window:
        """The window of the same length that ends where this one starts."""
        return self.earlier(self.end - self.start)

    def earlier(self, delay: timedelta) -> Window:
        """The window of the same length that ended so long ago.

        Raises:
            WatchError: no calendar has a time so long ago.
        """
        return Window(back(self.start, delay), back(self.end, delay), self.clock)


def read_window(text: str, end: datetime, clock: Clock) -> Window:
    """The window that `text` names, such as 7d, before `end`.

    Raises:
        WatchError: it is not a number with m, h, d or w after it, or is too long, or begins before the calendar does.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,5}[mhdw]", text):
        raise WatchError(f"{text!r} is not a length of time", where="--window", hint="write it as 90m, 24h, 7d or 4w")
    return Window(back(end, length(text)), end, clock)


def length(text: str) -> timedelta:
    """The length of time that a number with m, h, d or w after it names.

    Raises:
        WatchError: it is longer than ten years: earlier windows of that length would be before all time.
    """
    found = duration(text)
    if found > _LONGEST:
        raise WatchError(f"{text} is longer than ten years", where="a length of time", hint="ask for less, as 7d or 4w")
    return found


def read_moment(text: str) -> datetime:
    """The moment that an ISO 8601 text names; UTC where it has no zone.

    Raises:
        WatchError: it is not such a text.
    """
    error = WatchError(
        f"{text!r} is not a time", where="--end", hint="write it as 2026-03-08 or 2026-03-08T12:00:00+01:00"
    )
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # in UTC it may lie beyond the calendar's end
        raise error from None


def back(moment: datetime, delay: timedelta) -> datetime:
    """The moment so long before another.

    Raises:
        WatchError: no calendar has it.
    """
    try:
        return moment - delay
    except OverflowError:
        raise WatchError(
            f"the windows before {moment.date()} would begin before the year 1",
            where="--end",
            hint="let it end later, or ask for a shorter --window",
        ) from None


_DAY = re.compile(r"day=(\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True)
class JournalFile:
    """One sealed file: its rows, and their first and last time by the window's clock.

    `first` and `last` are None where the file does not say; `timeless` rows have no time. `shadowed` is whether a
    shadow answered beside the model in any of its rows.
    """

    path: str
    rows: int
    first: datetime | None
    last: datetime | None
    timeless: int = 0
    shadowed: bool = False

    def touches(self, window: Window) -> bool:
        """Whether it may hold rows of the window."""
        if self.first is None or self.last is None:
            return self.timeless < self.rows
        return self.first < window.end and self.last >= window.start

    def lies_in(self, window: Window) -> bool:
        """Whether all of its rows are the window's."""
        return (
            self.first is not None
            and self.last is not None
            and not self.timeless
            and window.start <= self.first
            and self.last < window.end
        )

    def rows_after(self, moment: datetime) -> int | None:
        """How many of its rows are later; None where the file does not say."""
        if self.first is None or self.last is None:
            return None if self.timeless < self.rows else 0
        if self.last <= moment:
            return 0
        return self.rows - self.timeless if self.first > moment else None


def is_large(files: Sequence[JournalFile]) -> bool:
    """Whether a journal of these files is read in parts."""
    return sum(file.rows for file in files) > LARGE


@dataclass(frozen=True)
class Source:
    """The files that touch a window; `in_parts` where the journal is large."""

    window: Window
    files: tuple[JournalFile, ...]
    in_parts: bool = False

    def of_digest(self, digest: str) -> Source:
        """The rows that one model answered."""
        part = f"/digest={digest.removeprefix('sha256:')[:12]}/"
        return replace(self, files=tuple(file for file in self.files if part in file.path))

    def relations(self) -> list[str]:
        """SQL as of `relation`, for each part of what is read in parts; empty where there are no files."""
        parts: dict[int, tuple[JournalFile, ...]] = {}
        before = 0
        for file in self.files:
            place = before // ROWS_AT_ONCE if self.in_parts else 0
            parts[place] = (*parts.get(place, ()), file)
            before += file.rows
        return [sql for part in parts.values() if (sql := replace(self, files=part).relation()) is not None]

    def relation(self) -> str | None:
        """SQL that can stand after FROM and gives the window's rows; None where there are no files.

        Only files that reach beyond the window are filtered: a condition would be looked at once for each column.
        """
        whole = [file.path for file in self.files if file.lies_in(self.window)]
        edges = [file.path for file in self.files if not file.lies_in(self.window)]
        parts = [f"select * from {read_files(whole)}"] if whole else []
        if edges:
            time = quoted(self.window.clock.column)
            inside = f"{time} >= {_moment(self.window.start)} and {time} < {_moment(self.window.end)}"
            parts.append(f"select * from {read_files(edges)} where {inside}")
        return f"({' union all by name '.join(parts)})" if parts else None


@dataclass(frozen=True)
class Journal:
    """What was found of a journal: its files with their times, those of feedback, and what cannot be read of either.

    `unreadable` are files, and folders whose files are not even known. `future` counts rows of days that have not
    begun, or by the event clock of moments; `newest` is the newest time in any file that was looked at. `implausible`
    counts rows of a time before 1900 or after 2199, which are in no window.
    """

    files: tuple[JournalFile, ...]
    feedback: tuple[str, ...]
    unreadable: tuple[str, ...] = ()
    future: int = 0
    newest: datetime | None = None
    implausible: int = 0

    def source(self, window: Window) -> Source:
        """The files that may hold rows of the window."""
        return Source(window, tuple(file for file in self.files if file.touches(window)), is_large(self.files))

    def without(self, paths: Sequence[str]) -> Journal:
        """The same without some files, which are damaged."""
        return replace(
            self,
            files=tuple(file for file in self.files if file.path not in paths),
            feedback=tuple(path for path in self.feedback if path not in paths),
            unreadable=(*self.unreadable, *paths),
        )

    def reaches(self, window: Window) -> bool:
        """Whether it was kept from about the start of the window on."""
        first = min((file.first for file in self.files if file.first is not None), default=window.end)
        return first <= window.start + (window.end - window.start) / 10

    def feedback_since(self, window: Window) -> list[str]:
        """The files that may hold labels of the window's rows: a label comes after its prediction."""
        if window.clock is Clock.EVENT:
            return list(self.feedback)
        first = window.start.astimezone(UTC).date()
        return [path for path in self.feedback if (day := day_of(path)) is None or day >= first]


def find_journal(
    connection: duckdb.DuckDBPyConnection, place: str, since: datetime, now: datetime, clock: Clock
) -> Journal:
    """The journal's files that may hold rows from `since` on.

    Args:
        connection: see `counting.connect`.
        place: the journal's folder, or its address as fsspec has it.
        since: files of earlier days are left out, unless events are watched, which may be of any day.
        now: rows of later days, or by the event clock of later moments, are counted as rows of the future.
        clock: which time the files are asked for.

    Raises:
        NoJournalError: there is no such folder.
        WatchError: it does not answer, or nothing of it may be read.
    """
    listed = list_journal(connection, place)
    first = since.astimezone(UTC).date()

    def wanted(path: str) -> bool:
        return clock is Clock.EVENT or (day := day_of(path)) is None or day >= first

    connection.execute("set parquet_metadata_cache = false")
    files, damaged = _measure(connection, list(filter(wanted, listed.predictions)), clock.column)
    unreadable = (*damaged, *filter(wanted, listed.unreadable))
    late = _to_come(connection, files, now, clock)
    newest = max((file.last for file in files if file.last is not None), default=None)
    odd = [file.path for file in files if (file.first is None or file.last is None) and file.timeless < file.rows]
    condition = f"not {plausible(clock.column)}"
    implausible = _count(connection, odd, condition)
    # Each column is a query of its own, and reads the files' ends again where they are not kept.
    connection.execute(f"set parquet_metadata_cache = {not is_large(files)}")
    return Journal(tuple(files), listed.feedback, unreadable, late, newest, implausible)


@contextmanager
def held(place: str) -> Iterator[None]:
    """Keep the server from merging or deleting files of a local journal meanwhile.

    What a killed server began is ended first, so that no row is missing. A folder that cannot be written (a copy, a
    read-only mount) is read as it is, without a lock.
    """
    folder = Path(place)
    with ExitStack() as stack:
        if "://" not in place and folder.is_dir():
            with suppress(OSError):
                # Not beside a keeper: it may be writing the drafts that `recover` deletes.
                with exclusive(folder / KEEPER_LOCK) as keeper, exclusive(folder / READING_LOCK) as alone:
                    if keeper and alone:
                        recover(folder)
                stack.enter_context(shared(folder / READING_LOCK))
        yield


def day_of(path: str) -> date | None:
    """The day that a file's folder names, in UTC."""
    found = _DAY.search(path)
    if found is None:
        return None
    try:
        return date.fromisoformat(found[1])
    except ValueError:
        return None


def read_files(paths: Sequence[str]) -> str:
    """SQL that can stand after FROM and gives the rows of Parquet files, which may differ in their columns."""
    return f"read_parquet([{', '.join(map(literal, paths))}], union_by_name = true, hive_partitioning = false)"


def _measure(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[str], time: str, *, again: bool = False
) -> tuple[list[JournalFile], list[str]]:
    """Each file's rows and times, from the footers; and the files that have none that can be read.

    Raises:
        WatchError: the store that holds them does not answer.
    """
    import duckdb

    if not paths:
        return [], []
    listed = ", ".join(map(literal, paths))
    ours = f"filter (path_in_schema = {literal(time)})"
    query = (
        f"select file_name, sum(row_group_num_rows) {ours}, epoch_us(min(try_cast(stats_min_value as timestamptz))"
        f" {ours}), epoch_us(max(try_cast(stats_max_value as timestamptz)) {ours}),"
        f" coalesce(sum(stats_null_count) {ours}, 0),"
        " bool_or(path_in_schema = '_shadow_digest' and coalesce(stats_null_count, 0) < num_values)"
        f" from parquet_metadata([{listed}]) where path_in_schema in ({literal(time)}, '_shadow_digest') group by 1"
        f" having count(*) {ours} > 0"
    )
    try:
        rows = connection.execute(query).fetchall()
        others = sorted(set(paths) - {row[0] for row in rows})
        if others:  # without a row group, or without the journal's time
            ends = f"parquet_file_metadata([{', '.join(map(literal, others))}])"
            empty = connection.execute(f"select file_name from {ends} where num_rows = 0").fetchall()
            others = sorted(set(others) - {path for (path,) in empty})
    except duckdb.Error:
        answered = read_at_address(paths[0])
        if len(paths) == 1:
            return _measure(connection, paths, time, again=True) if answered and not again else ([], list(paths))
        middle = len(paths) // 2
        left, right = _measure(connection, paths[:middle], time), _measure(connection, paths[middle:], time)
        return left[0] + right[0], left[1] + right[1]
    files = [
        JournalFile(path, int(number), read_time(first), read_time(last), int(nulls), shadowed)
        for path, number, first, last, nulls, shadowed in sorted(rows)
    ]
    return files, others


def _to_come(connection: duckdb.DuckDBPyConnection, files: Sequence[JournalFile], now: datetime, clock: Clock) -> int:
    """The rows that are in no window yet. A row arrives in its day's folder; its own time may be any."""
    if clock is Clock.ARRIVAL:
        today = now.astimezone(UTC).date()
        return sum(file.rows for file in files if (day := day_of(file.path)) is not None and day > today)
    known = {file.path: file.rows_after(now) for file in files}
    asked = [path for path, rows in known.items() if rows is None]
    later = f"{quoted(clock.column)} > {_moment(now)} and {plausible(clock.column)}"
    return sum(rows or 0 for rows in known.values()) + _count(connection, asked, later)


def plausible(time: str) -> str:
    """SQL that is true where a column's time is between `EARLIEST` and `LATEST`."""
    return f"({quoted(time)} >= {_moment(EARLIEST)} and {quoted(time)} < {_moment(LATEST)})"


def _count(connection: duckdb.DuckDBPyConnection, paths: Sequence[str], condition: str) -> int:
    """The rows of some files where a condition holds; those of a file whose pages are damaged do not count."""
    import duckdb

    if not paths:
        return 0
    query = f"select count(*) from {read_files(paths)} where {condition}"
    try:
        found = connection.execute(query).fetchone()
    except duckdb.Error:
        middle = len(paths) // 2
        halves = (paths[:middle], paths[middle:]) if middle else ()
        return sum(_count(connection, half, condition) for half in halves)
    return int(found[0]) if found else 0


def read_time(microseconds: int | None) -> datetime | None:
    """The moment that DuckDB's `epoch_us` gives; None for one that is not between `EARLIEST` and `LATEST`."""
    if microseconds is None or not EARLIEST.timestamp() <= microseconds / 1e6 < LATEST.timestamp():
        return None
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def _moment(time: datetime) -> str:
    return f"{literal(time.astimezone(UTC).isoformat())}::timestamptz"
