"""Judges what was found of a window's data, a line for each thing that was looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mergeline.evaluate.results import Check, Status
from mergeline.watch.data_quality import MIN_BEYOND, Quality
from mergeline.watch.window import length

if TYPE_CHECKING:
    from mergeline.params import WatchParams

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


def _files(quality: Quality) -> Check:
    damaged = len(quality.unreadable)
    if not quality.files and not damaged:
        return Check(name="files", status=Status.SKIP, value="none", bound="none damaged", meaning="there is no file")
    return Check(
        name="files",
        status=Status.WARN if damaged else Status.PASS,
        value=f"{damaged} of {quality.files + damaged} cannot be read" if damaged else f"{quality.files} read",
        bound="none damaged",
        meaning=f"left out, the rest is used: {listed(quality.unreadable)}" if damaged else "every file was read",
    )


def _answers(quality: Quality) -> Check:
    """Whether the model that is watched is the one that answers."""
    none = not quality.answered
    return Check(
        name="answers",
        status=Status.WARN if none else Status.PASS,
        value=f"{quality.answered:,} of {quality.rows:,} rows",
        bound="some by the model that the manifest calls stable",
        meaning="all were answered by other models: has the server taken the manifest?"
        if none
        else "the model of the manifest answers",
    )


def _schema(quality: Quality) -> Check:
    broken = [f"{name} is absent" for name in quality.absent]
    broken += [f"{name} came as {kind}" for name, kind in quality.retyped.items()]
    odd = [f"{name} is missing in files with {share:.0%} of the rows" for name, share in quality.partly.items()]
    odd += [f"{name} is new" for name in quality.new]
    status = Status.FAIL if broken else Status.WARN if odd else Status.PASS
    return Check(
        name="schema",
        status=status,
        value=f"{len(broken)} broken, {len(odd)} odd" if broken or odd else "as the model's signature",
        bound="every input is there, as the type that the model takes",
        meaning=f"the journal holds something else: {listed([*broken, *odd])}"
        if broken or odd
        else "the journal holds what the model takes",
    )


def _volume(quality: Quality, most: float) -> Check:
    if not quality.rows_before:
        begins = quality.rows_before is None
        return Check(
            name="volume",
            status=Status.SKIP,
            value=f"{quality.rows:,} rows",
            bound="nothing to compare with",
            meaning="the journal does not reach back so far" if begins else "the window before was empty",
        )
    change = quality.rows / quality.rows_before - 1
    far = abs(change) > most
    return Check(
        name="volume",
        status=Status.WARN if far else Status.PASS,
        value=f"{quality.rows:,} rows, {change:+.0%}",
        bound=f"within {most:.0%} of the {quality.rows_before:,} rows of the window before",
        meaning=f"there is far {'more' if change > 0 else 'less'} traffic than before"
        if far
        else "traffic is as before",
    )


def _freshness(quality: Quality, end: datetime, most: str) -> Check:
    if quality.newest is None:
        return Check(
            name="freshness",
            status=Status.WARN,
            value="no row",
            bound=f"silent for at most {most}",
            meaning=f"nothing was journalled in the window; {_elsewhere(quality.newest_of_all)}",
        )
    silence = max(timedelta(0), end - quality.newest)
    late = silence > length(most)
    return Check(
        name="freshness",
        status=Status.WARN if late else Status.PASS,
        value=f"newest row {_words(silence)} before the end",
        bound=f"at most {most}",
        meaning="the journal has stopped, or its newest rows are not sealed yet" if late else "the journal is fresh",
    )


def _elsewhere(newest: datetime | None) -> str:
    if newest is None:
        return "is the server up, and does it write there? Rows show once their file is sealed"
    return f"the newest row of the journal is of {newest:%Y-%m-%d %H:%M}"


def _duplicates(quality: Quality, most: float) -> Check:
    many = quality.repeated > most
    return Check(
        name="duplicates",
        status=Status.WARN if many else Status.PASS,
        value=f"{quality.repeated:.2%} of the rows",
        bound=f"at most {most:.2%}",
        meaning="ids come again: callers retry, or the id does not name a row" if many else "ids name rows",
    )


def _clock(quality: Quality) -> Check:
    odd = []
    if quality.future:
        odd.append(f"{quality.future:,} rows are of a time to come")
    if quality.implausible:
        odd.append(f"{quality.implausible:,} rows are of a time before 1900 or after 2199")
    if quality.timeless:
        odd.append(f"{quality.timeless:,} rows have no time")
    return Check(
        name="clock",
        status=Status.WARN if odd else Status.PASS,
        value="; ".join(odd) or "no row of the future",
        bound="every row has a time, and it has come",
        meaning="such rows are in no window: set the clocks of the servers, or send the time with each record"
        if odd
        else "the clocks agree",
    )


def _range(quality: Quality) -> Check:
    found = [
        f"{each.column} ({each.share:.1%} of the values, {each.before:.1%} in training)" for each in quality.beyond
    ]
    return Check(
        name="range",
        status=Status.WARN if found else Status.PASS,
        value=f"columns that reach further than in training: {len(found)}" if found else "as in training",
        bound=f"at most {MIN_BEYOND:.1%} more of the values beyond training's outermost",
        meaning=f"more values than before lie far out: {listed(found)}"
        if found
        else "values lie where the training rows' lie",
    )


def _words(silence: timedelta) -> str:
    hours = silence.total_seconds() / 3600
    if hours < 2:
        return f"{hours * 60:.0f} minutes"
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours"
