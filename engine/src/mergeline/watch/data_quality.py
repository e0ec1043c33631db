"""Says what is wrong with a window's data beside their distributions."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from mergeline.documents import Frozen
from mergeline.evaluate.results import Check, Status, make_check
from mergeline.journal.window import length, read_time
from mergeline.model.bin_counts import NumberCounts, literal, quoted
from mergeline.model.profile import NumberProfile
from mergeline.stats.two_samples import shares_differ
from mergeline.timing import in_words

if TYPE_CHECKING:
    import duckdb

    from mergeline.journal.window import Source
    from mergeline.params import WatchParams
    from mergeline.watch.drift import Compared
    from mergeline.watch.released_model import Context
    from mergeline.watch.window_counts import Observation

_WITHIN = re.compile(r"(?<![^/])(?:predictions/day=.*|feedback(?:/day=.*)?)$")
ID_SAMPLE = 100_000
"""Rows that repeated ids are counted on."""

MIN_BEYOND = 0.005
"""Values beyond the training rows' 0.1 % borders are told from this share more on."""


class Beyond(Frozen):
    """A number with more values than before beyond the borders that 0.1 % of the training rows lie beyond.

    `lowest` and `highest` are of the window's files, None where they do not say; `minimum` and `maximum` of training.
    """

    column: str
    share: float
    before: float
    lowest: float | None
    highest: float | None
    minimum: float | None
    maximum: float | None


class Quality(Frozen):
    """What was found of a window's data.

    `unreadable` are paths within the journal, of files and folders. `rows_before` is of the window before, None where
    the journal does not reach back so far; `answered` those that the watched model answered; `newest` the newest time
    in the window, `newest_of_all` that in any file looked at; `repeated` the share of rows whose id came before in it;
    `future` counts rows of a time to come, `timeless` those without a time of their own, `implausible` those of a time
    before 1900 or after 2199. `absent` inputs are in no file, `partly` those that some files lack, with the share of
    rows in such files; `retyped` numbers came as another type; `new` columns are not the model's.
    """

    files: int
    unreadable: tuple[str, ...]
    rows: int
    answered: int
    rows_before: int | None
    newest: datetime | None
    newest_of_all: datetime | None
    repeated: float
    future: int
    implausible: int = 0
    timeless: int
    absent: tuple[str, ...]
    partly: dict[str, float]
    retyped: dict[str, str]
    new: tuple[str, ...]
    beyond: tuple[Beyond, ...]


def measure_quality(context: Context, source: Source, observed: Observation, rows_before: int | None) -> Quality:
    """Gather what the counts and the files' statistics say, and count repeated ids on a sample.

    Args:
        context: where the window's files are.
        source: the window's files.
        observed: what they hold.
        rows_before: rows of the window before; None where the journal does not reach back so far.
    """
    connection, journal = context.connection, context.journal
    beyond = [found for column in observed.inputs if (found := _beyond(column)) is not None]
    extremes = _extremes(connection, source, [each.column for each in beyond])
    return Quality(
        files=len(source.files),
        unreadable=tuple(sorted(map(_name_within, journal.unreadable))),
        rows=observed.rows,
        answered=observed.answered,
        rows_before=rows_before,
        newest=_newest(connection, source) if observed.rows else None,
        newest_of_all=journal.newest,
        repeated=_repeated(connection, source, observed.rows),
        future=journal.future,
        implausible=journal.implausible,
        timeless=sum(file.timeless for file in journal.files),
        absent=observed.absent,
        partly=dict(observed.partly),
        retyped=dict(observed.retyped),
        new=observed.new,
        beyond=tuple(
            each.model_copy(
                update=dict(zip(("lowest", "highest"), extremes.get(each.column, (None, None)), strict=True))
            )
            for each in beyond
        ),
    )


def _name_within(path: str) -> str:
    """A file's path from the journal's folder on."""
    found = _WITHIN.search(path)
    return path if found is None else found[0]


def _newest(connection: duckdb.DuckDBPyConnection, source: Source) -> datetime | None:
    """The newest time in the window: what reaches past its end says nothing of the rows before it."""
    times = [file.last for file in source.files if file.last is not None and file.last < source.window.end]
    over = tuple(file for file in source.files if file.last is None or file.last >= source.window.end)
    relation = replace(source, files=over).relation()
    if relation is not None:
        time = quoted(source.window.clock.column)
        found = connection.execute(f"select epoch_us(max({time})) from {relation}").fetchone()
        times += [moment] if found and (moment := read_time(found[0])) is not None else []
    return max(times, default=None)


def _beyond(column: Compared) -> Beyond | None:
    """What the tails of a number hold more than in training; None where that is nothing to speak of."""
    profile, counts = column.profile, column.counts
    if not isinstance(profile, NumberProfile) or not isinstance(counts, NumberCounts):
        return None
    n, m = profile.rows, int(counts.cells.sum())
    # A tail that is part of a wider bin is not known by itself.
    low = profile.ends[0] == 0
    high = len(profile.ends) > 1 and profile.ends[-2] == counts.cells.size - 2
    if not n or not m or not (low or high):
        return None
    old = profile.counts[0] * low + profile.counts[-1] * high
    new = int(counts.cells[0]) * low + int(counts.cells[-1]) * high
    if new / m - old / n < MIN_BEYOND or shares_differ(old, n, new, m).p_value > 0.001:
        return None
    return Beyond(
        column=profile.name,
        share=round(new / m, 6),
        before=round(old / n, 6),
        lowest=None,
        highest=None,
        minimum=profile.minimum,
        maximum=profile.maximum,
    )


def _extremes(
    connection: duckdb.DuckDBPyConnection, source: Source, columns: Sequence[str]
) -> Mapping[str, tuple[float | None, float | None]]:
    """The lowest and the highest value of some columns, by the files' own statistics."""
    if not columns or not source.files:
        return {}
    names, files = ", ".join(map(literal, columns)), ", ".join(literal(file.path) for file in source.files)
    rows = connection.execute(
        "select path_in_schema, min(try_cast(stats_min_value as double)), max(try_cast(stats_max_value as double))"
        f" from parquet_metadata([{files}]) where path_in_schema in ({names}) group by 1"
    ).fetchall()
    return {name: (low, high) for name, low, high in rows}


def _repeated(connection: duckdb.DuckDBPyConnection, source: Source, rows: int) -> float:
    """The share of rows whose id came before, on a sample by the ids' hashes: it holds all rows of an id, or none."""
    parts = max(1, rows // ID_SAMPLE)
    queries = [
        f"select hash(_id) as id from {each} where _id is not null and hash(_id) % {parts} = 0"
        for each in source.relations()
    ]
    found = [np.asarray(connection.execute(query).fetchnumpy()["id"]) for query in queries]
    ids = np.sort(np.concatenate(found)) if found else np.zeros(0)
    return round(np.count_nonzero(ids[1:] == ids[:-1]) / len(ids), 6) if len(ids) else 0.0


NAMED = 5


def data_checks(quality: Quality, end: datetime, params: WatchParams) -> tuple[Check, ...]:
    """A line for each thing that was looked at.

    Only a broken schema fails: it is a difference between what the model takes and what it gets, whatever the numbers
    say. The rest are warnings. What rows would have to show is left out where there are none.
    """
    held = (_schema(quality), _duplicates(quality, params.max_duplicates), _range(quality)) if quality.rows else ()
    return (
        _files(quality),
        *((_answers(quality),) if quality.rows else ()),
        _volume(quality, params.max_volume_change),
        _freshness(quality, end, params.max_silence),
        _clock(quality),
        *held,
    )


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    shown = ", ".join(names[:NAMED])
    return f"{shown} and {len(names) - NAMED} more" if len(names) > NAMED else shown


def _warned(name: str, value: str, bound: str, wrong: str, right: str) -> Check:
    """A check that warns where something is wrong; `wrong` says what it means, and is empty where nothing is."""
    status = Status.WARN if wrong else Status.PASS
    return make_check(name, status, value, bound, wrong or right)


def _files(quality: Quality) -> Check:
    damaged = len(quality.unreadable)
    if not quality.files and not damaged:
        return make_check("files", Status.SKIP, "none", "none damaged", "there is no file")
    value = f"{damaged} of {quality.files + damaged} cannot be read" if damaged else f"{quality.files} read"
    wrong = f"left out, the rest is used: {listed(quality.unreadable)}" if damaged else ""
    return _warned("files", value, "none damaged", wrong, "every file was read")


def _answers(quality: Quality) -> Check:
    """Whether the model that is watched is the one that answers."""
    value = f"{quality.answered:,} of {quality.rows:,} rows"
    wrong = "" if quality.answered else "all were answered by other models: has the server taken the manifest?"
    bound = "some by the model that the manifest calls stable"
    return _warned("answers", value, bound, wrong, "the model of the manifest answers")


def _schema(quality: Quality) -> Check:
    broken = [f"{name} is absent" for name in quality.absent]
    broken += [f"{name} came as {kind}" for name, kind in quality.retyped.items()]
    odd = [f"{name} is missing in files with {share:.0%} of the rows" for name, share in quality.partly.items()]
    odd += [f"{name} is new" for name in quality.new]
    status = Status.FAIL if broken else Status.WARN if odd else Status.PASS
    value, meaning = "as the model's signature", "the journal holds what the model takes"
    if broken or odd:
        value = f"{len(broken)} broken, {len(odd)} odd"
        meaning = f"the journal holds something else: {listed([*broken, *odd])}"
    return make_check("schema", status, value, "every input is there, as the type that the model takes", meaning)


def _volume(quality: Quality, most: float) -> Check:
    if not quality.rows_before:
        begins = quality.rows_before is None
        meaning = "the journal does not reach back so far" if begins else "the window before was empty"
        return make_check("volume", Status.SKIP, f"{quality.rows:,} rows", "nothing to compare with", meaning)
    change = quality.rows / quality.rows_before - 1
    value = f"{quality.rows:,} rows, {change:+.0%}"
    bound = f"within {most:.0%} of the {quality.rows_before:,} rows of the window before"
    wrong = f"there is far {'more' if change > 0 else 'less'} traffic than before" if abs(change) > most else ""
    return _warned("volume", value, bound, wrong, "traffic is as before")


def _freshness(quality: Quality, end: datetime, most: str) -> Check:
    if quality.newest is None:
        wrong = f"nothing was journalled in the window; {_elsewhere(quality.newest_of_all)}"
        return _warned("freshness", "no row", f"silent for at most {most}", wrong, "")
    silence = max(timedelta(0), end - quality.newest)
    late = "the journal has stopped, or its newest rows are not sealed yet" * (silence > length(most))
    value = f"newest row {in_words(silence)} before the end"
    return _warned("freshness", value, f"at most {most}", late, "the journal is fresh")


def _elsewhere(newest: datetime | None) -> str:
    if newest is None:
        return "is the server up, and does it write there? Rows show once their file is sealed"
    return f"the newest row of the journal is of {newest:%Y-%m-%d %H:%M}"


def _duplicates(quality: Quality, most: float) -> Check:
    wrong = "ids come again: callers retry, or the id does not name a row" * (quality.repeated > most)
    return _warned("duplicates", f"{quality.repeated:.2%} of the rows", f"at most {most:.2%}", wrong, "ids name rows")


def _clock(quality: Quality) -> Check:
    kinds = {
        "are of a time to come": quality.future,
        "are of a time before 1900 or after 2199": quality.implausible,
        "have no time": quality.timeless,
    }
    odd = "; ".join(f"{rows:,} rows {what}" for what, rows in kinds.items() if rows)
    wrong = "such rows are in no window: set the clocks of the servers, or send the time with each record" * bool(odd)
    return _warned(
        "clock", odd or "no row of the future", "every row has a time, and it has come", wrong, "the clocks agree"
    )


def _range(quality: Quality) -> Check:
    found = [
        f"{each.column} ({each.share:.1%} of the values, {each.before:.1%} in training)" for each in quality.beyond
    ]
    return _warned(
        "range",
        f"columns that reach further than in training: {len(found)}" if found else "as in training",
        f"at most {MIN_BEYOND:.1%} more of the values beyond training's outermost",
        f"more values than before lie far out: {listed(found)}" if found else "",
        "values lie where the training rows' lie",
    )
