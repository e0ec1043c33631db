"""Trains a challenger on fresh labelled rows, and asks whether it proves a gain on the newest ones."""
# ruff: noqa: S608 - names and values are quoted; SQL has no other way to name a column

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.dataset.quarantine import (
    ARRIVAL,
    FreshPart,
    Ingested,
    KnownData,
    SortedRows,
    divide_fresh,
    read_known,
    sort_out,
    summarise,
)
from mergeline.documents import Frozen
from mergeline.errors import DataError, MergelineError, WatchError
from mergeline.evaluate.results import Check, Comparison, Estimate, GateOutcome, Status, make_check, named
from mergeline.journal.window import Clock, Journal, Window, find_journal, held, plausible, read_files
from mergeline.model.bin_counts import connect, quoted
from mergeline.params import PARAMS_FILE, Params, Task
from mergeline.report.words import comparison_words
from mergeline.watch.window_counts import around_damage, stored_name

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

    from mergeline.dataset.schema import TeamSchema
    from mergeline.evaluate.gate import Champion
    from mergeline.manifest.schema import Manifest

CHALLENGE_FILE = "challenge.json"
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
MEMORY_LIMIT = "1GB"
"""The rows are trained on in memory anyway."""

Tell = Callable[[str], None]


class Proof(StrEnum):
    """What the newest labelled rows say of a challenger."""

    PROVEN = "proven"
    NOT_PROVEN = "not proven"
    TOO_FEW = "too few labels"


class Challenged(Frozen):
    """One challenge: what it came to, on which rows, and by how much. `format` changes with the meaning of a key.

    `missing` is how many labels are wanting where there are too few. `ingested` says what the fresh rows would become.
    """

    format: int = 1
    name: str
    version: int
    digest: str
    proof: Proof
    headline: str
    reasons: tuple[Check, ...]
    trained: int
    judged: int
    missing: int
    first: datetime | None
    last: datetime | None
    metric: str
    champion: Estimate | None
    challenger: Estimate | None
    gain: Estimate | None
    ingested: Ingested
    made_at: datetime


@dataclass(frozen=True)
class Challenge:
    """What was found, and the rows that it was found on."""

    result: Challenged
    parts: tuple[FreshPart, ...]
    rows: SortedRows


def challenge(
    root: Path, params: Params, manifest: Manifest, journal: str, *, until: datetime, now: datetime, tell: Tell
) -> Challenge:
    """Compare what would be trained now with what serves, on the newest labelled rows.

    The challenger is what a retraining would propose: it is trained on the data and the fresh rows but the newest days,
    by the same code.

    Args:
        root: the repository, with its data.
        params: of the repository.
        manifest: names the champion.
        journal: the journal's folder or address.
        until: rows that came later are left alone, since their labels may be on the way.
        now: the present time.
        tell: takes a line of progress.

    Raises:
        WatchError: nothing is served, there is no journal, or it does not hold a column of the data as it came.
        DataError: the data cannot be read, or all partitions would be held out.
        CodeError: the team's pipeline raised.
    """
    from mergeline.dataset.schema import load_schema

    stable = manifest.spec.stable
    if stable is None:
        raise WatchError("nothing is served", where="deploy/manifest.yaml", hint="propose a first model")
    schema = load_schema(params.data)
    _check_columns(schema, params)
    fresh = read_fresh(journal, schema, params, until, now, tell=tell)
    tell(f"{len(fresh):,} labelled rows in the journal")
    known = read_known(root, params, schema)
    rows = sort_out(fresh, known, schema, params, now)
    if rows.known or rows.late:
        tell(f"of them {rows.known:,} are in the data already, and {rows.late:,} are older than the newest data")
    parts = divide_fresh(rows, known, params)
    judge = parts[-1].rows if parts else None
    trained, comparison, few = 0, None, missing_labels(judge, params)
    if judge is not None and not few:
        from mergeline.evaluate.champion import fetch_champion

        training = training_rows(known, parts, params)
        trained = len(training)
        tell(f"training a challenger on {trained:,} rows, to be judged on {len(judge):,}")
        champion = fetch_champion(root, params, stable)
        comparison = compare_fresh(training, judge, champion, schema, params)
    proof, headline, reasons = prove(comparison, judge, few, params)
    ingested = summarise(parts, rows)
    metric = proving_metric(params)
    paired = named(comparison.metrics, metric) if comparison is not None else None
    times = None if judge is None or params.data.time is None else judge[params.data.time]
    result = Challenged(
        name=params.name,
        version=stable.version,
        digest=stable.digest,
        proof=proof,
        headline=headline,
        reasons=(*reasons, *_quarantine(ingested, params)),
        trained=trained,
        judged=0 if judge is None else len(judge),
        missing=few,
        first=None if times is None else times.min().to_pydatetime(),
        last=None if times is None else times.max().to_pydatetime(),
        metric=metric,
        champion=paired.champion if paired else None,
        challenger=paired.challenger if paired else None,
        gain=paired.gain if paired else None,
        ingested=ingested,
        made_at=now,
    )
    return Challenge(result, parts, rows)


def _quarantine(ingested: Ingested, params: Params) -> tuple[Check, ...]:
    """What the schema did not let in, if anything."""
    if not ingested.quarantined:
        return ()
    bound = params.retrain.max_quarantine
    reason, rows = next(iter(ingested.reasons.items()), ("no reason is known", 0))
    status = Status.FAIL if ingested.bad_share > bound else Status.WARN
    value = f"{ingested.quarantined:,} of {ingested.offered:,} rows"
    meaning = f"they break the schema, {rows:,} of them: {reason}"
    return (make_check("quarantine", status, value, f"at most {bound:.0%}", meaning),)


def proving_metric(params: Params) -> str:
    """What a gain is proven in: a loss that every row has a share of, so that small gains can be seen."""
    return "mae" if params.task is Task.REGRESSION else "log_loss"


def missing_labels(judge: pd.DataFrame | None, params: Params) -> int:
    """How many labelled rows are wanting before anything can be proven; a class that has none counts as one row."""
    if judge is None:
        return params.retrain.min_labels
    missing = max(0, params.retrain.min_labels - len(judge))
    one_class = params.task.classifies and judge[params.data.target].nunique() < 2
    return max(missing, int(one_class))


def training_rows(known: KnownData, parts: tuple[FreshPart, ...], params: Params) -> pd.DataFrame:
    """What the pipeline would train on once `parts` are partitions: all but those that it holds out.

    Raises:
        DataError: it would hold out all of them.
    """
    import pandas as pd

    named = [*known.partitions, *((part.name, part.rows) for part in parts)]
    kept = named[: -max(1, params.split.holdout)]
    if not kept:
        raise DataError(
            f"{params.split.holdout} partitions would be held out, and there are {len(named)} with the fresh rows",
            where=f"{PARAMS_FILE}: split.holdout",
            hint="hold out fewer, or wait for more data",
        )
    if params.split.train:
        kept = kept[-params.split.train :]
    return pd.concat([rows for _, rows in kept], ignore_index=True)


def compare_fresh(
    training: pd.DataFrame, judge: pd.DataFrame, champion: Champion, schema: TeamSchema, params: Params
) -> Comparison:
    """Train on some rows, and compare with the champion on others, by the gate's paired test.

    Raises:
        WatchError: the champion cannot be loaded, or answers another question.
        CodeError: the team's pipeline raised.
    """
    from mergeline.evaluate.compare import align, compare
    from mergeline.evaluate.scoring import score, score_pipeline
    from mergeline.model.fit import fit, make_signature
    from mergeline.scorer.pipeline import to_features

    signature = make_signature(training, schema, params)
    pipeline = fit(to_features(training, signature.columns), training[params.data.target], params)
    challenger = score_pipeline(pipeline, signature, judge)
    hint = "propose a model by hand: mergeline propose --pull-request"
    if champion.model is None:
        raise WatchError(f"the champion cannot be loaded: {champion.unreadable}", where="challenge", hint=hint)
    try:
        old = align(score(champion.model, judge), challenger)
    except MergelineError as cause:
        raise WatchError(f"the champion cannot judge these rows: {cause.what}", where="challenge", hint=hint) from cause
    plain = params.model_copy(update={"evaluation": params.evaluation.model_copy(update={"slices": ()})})
    return compare(old, challenger, judge, plain, digest=champion.digest, version=champion.version)


def prove(
    comparison: Comparison | None, judge: pd.DataFrame | None, missing: int, params: Params
) -> tuple[Proof, str, tuple[Check, ...]]:
    """What a comparison proves.

    A gain is proven where the whole bootstrap interval of the loss's paired difference is above zero, and its value is
    `min_gain` or more: what is certain and what is worth a release are two things.

    Args:
        comparison: None where there was none.
        judge: the rows that it is on.
        missing: labels that are wanting.
        params: the bounds.
    """
    settings = params.retrain
    rows = 0 if judge is None else len(judge)
    classes = " of two classes or more," if params.task.classifies else ""
    bound = f"at least {settings.min_labels:,} labelled rows,{classes} in the newest days"
    if comparison is None or judge is None or missing:
        what = f"{missing:,} more label{'s are' if missing > 1 else ' is'} needed"
        if rows >= settings.min_labels:
            what = "labels of another class are needed"
        check = make_check("labels", Status.SKIP, f"{rows:,} rows", bound, what)
        return Proof.TOO_FEW, f"{rows:,} fresh labelled rows to judge on: {what}", (check,)
    labels = make_check("labels", Status.PASS, f"{rows:,} rows", bound, "enough to tell")
    name = proving_metric(params)
    paired = named(comparison.metrics, name)
    if paired is None or paired.gain.low is None or paired.gain.high is None:
        meaning = f"{name} is undefined on these rows"
        return Proof.NOT_PROVEN, meaning, (labels, make_check(name, Status.FAIL, "-", "", meaning))
    relative = settings.min_gain_relative or params.task is Task.REGRESSION
    least = settings.min_gain * (paired.champion.value if relative else 1.0)
    gain = paired.gain
    certain, worth = paired.gain.low > 0, gain.value >= least
    told = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
    reading = {
        (True, True): "the gain is certain, and worth a release",
        (True, False): "the gain is certain, and too small for a release",
        (False, True): "the gain may be chance",
        (False, False): "there is no gain to speak of",
    }[certain, worth]
    proven, bound = certain and worth, f"interval above 0, value at least {least:.4g}"
    check = make_check(f"gain in {name}", Status.PASS if proven else Status.FAIL, told, bound, reading)
    status = Status.WARN if comparison.outcome is GateOutcome.WORSE else Status.PASS
    words = comparison_words(comparison, params)
    beside = make_check(f"gate's {params.gate.metric}", status, comparison.outcome, "", words)
    proof = Proof.PROVEN if proven else Proof.NOT_PROVEN
    headline = f"{name} {paired.challenger.value:.4f}, the champion's {paired.champion.value:.4f}: {told}, {reading}"
    return proof, headline, (labels, check, beside)


def _check_columns(schema: TeamSchema, params: Params) -> None:
    """Refuse a journal that was told to leave columns of the data out, or to write other values in their place."""
    kept = params.serve.journal
    hidden = sorted({column.name for column in schema.columns} & {*kept.drop, *kept.hash})
    if hidden:
        raise WatchError(
            f"the journal does not hold these columns as they came: {', '.join(hidden)}",
            where=f"{PARAMS_FILE}: serve.journal",
            hint="take them out of `drop` and `hash`, or train on rows from where they are whole, by a pull request",
        )


def read_fresh(
    journal: str, schema: TeamSchema, params: Params, until: datetime, now: datetime, *, tell: Tell
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
