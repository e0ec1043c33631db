"""Ranks the likely causes of what production shows: data first, then the model and its release, then serving."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta

from mergeline.evaluate.results import GateOutcome, named
from mergeline.params import Params
from mergeline.watch.causes import Cause, Evidence, Load, Ruling, Server, Suspect
from mergeline.watch.drift import Change, Finding, Part, Status
from mergeline.watch.performance import MIN_LABELLED, Level
from mergeline.watch.results import Outcome, Rival, Watched

FEWEST_REQUESTS = 100
"""With fewer, one slow or failed request is a 99th percentile or a percent."""
NOTICED_MS = 100.0
"""A p99 below it slows nobody down (Nielsen, 1993, "Usability Engineering", chapter 5)."""
SLOWER = 3.0
"""A candidate's p99 in units of stable's, from where on it is slow by itself."""
BUSY = 0.5
"""Share of the queue's places from where on it is starved: from 1 on, requests get 429."""
MIN_FACTOR = 1.3
MIN_UNIT_EFFECT = 0.3
"""A change of unit moves nearly all of a column; D is at least this where the median moves by `MIN_FACTOR`."""
FEWEST_LABELS = 0.01
"""Share of the answers that have a label, below which labels have stopped."""
UNWATCHED = timedelta(days=14)
"""How long a release is recent where no watch says how long a window is."""
_UNITS = (10, 100, 1000, 1e6, 60, 3600, 24, 1024, 2.54, 3.2808, 1.6093, 0.4536, 3.6, 1.9438)
_UNIT_TOLERANCE = 0.05
_SHAPES = ("beyond", "offset", "piled", "turned")


def evidence_of(
    watched: Watched | None,
    metric: str,
    released: datetime | None,
    server: Server | None,
    now: datetime,
    *,
    history: bool,
    candidate: str | None = None,
) -> Evidence:
    """Gather what the rules need.

    Args:
        watched: the newest look at the stable model.
        metric: the gate's.
        released: when the stable model replaced another; None where it is the first one.
        server: its load.
        now: the time.
        history: whether the manifest's history could be read.
        candidate: the digest of the manifest's candidate; None where nothing rolls out.
    """
    if watched is None:
        recent = released is not None and released >= now - UNWATCHED
        return Evidence(server=server, release_recent=recent if history else None)
    live = watched.live
    judged = named(live.metrics, metric) if live else None
    known = judged is not None and judged.change is not None and judged.level is not Level.UNCLEAR
    rival = next((each for each in watched.rivals if candidate is not None and each.digest == candidate), None)
    stretch = live.stretch if live else watched.stretch
    since = stretch.start - (stretch.end - stretch.start)
    return Evidence(
        outcome=watched.outcome,
        findings=tuple(each for each in watched.findings if each.part is Part.INPUT),
        absent=watched.quality.absent,
        rows=watched.rows,
        rows_before=watched.quality.rows_before,
        repeated=watched.quality.repeated,
        candidate_worse=_is_worse(rival, metric) if rival is not None else None,
        candidate_change=rival.gain.value if rival is not None and rival.gain is not None else None,
        answered=live.answered if live else None,
        labelled=live.labelled if live else 0,
        labels_before=bool(watched.estimated and watched.estimated.back_tests),
        worse=judged.level is Level.WORSE if judged is not None and known else None,
        meaning=any(each.changed for each in live.meaning) if live and live.meaning else None,
        quality_change=judged.change.value if judged is not None and judged.change is not None else None,
        release_recent=(released is not None and released >= since) if history else None,
        server=server,
    )


def _is_worse(rival: Rival, metric: str) -> bool | None:
    """Whether labels show it worse than stable beyond the gate's margin; None where they cannot tell."""
    if rival.comparison is not None:
        outcome = rival.comparison.outcome
        return None if outcome is GateOutcome.INCONCLUSIVE else outcome is GateOutcome.WORSE
    judged = named(rival.metrics, metric)
    return None if judged is None or judged.level is Level.UNCLEAR else judged.level is Level.WORSE


def diagnose(evidence: Evidence, params: Params) -> tuple[Suspect, ...]:
    """Judge every cause.

    Returns:
        The suspected ones, the likeliest first, then those that cannot be told, then those that are cleared: each
        cause at least once, and a cause of columns once for each column that it shows in.
    """
    data = (*_data(evidence), *_rows(evidence, params))
    moved = any(each.ruling is Ruling.SUSPECTED and each.cause not in (Cause.SILENT, Cause.REPEATED) for each in data)
    found = (*data, *_quality(evidence, moved=moved), *_serving(evidence, params), _release(evidence, params))
    order = list(Ruling)
    return tuple(sorted(found, key=lambda each: (order.index(each.ruling), -each.score)))


def conclusion(suspects: tuple[Suspect, ...], outcome: Outcome | None) -> Ruling:
    """What all of it comes to: `cleared` only where every cause is, and the look found nothing wrong either."""
    first = suspects[0].ruling
    unexplained = outcome is not Outcome.STEADY and first is Ruling.CLEARED
    return Ruling.INCONCLUSIVE if unexplained else first


def _judge(cause: Cause, score: float, numbers: dict[str, float], *missing: str) -> Suspect:
    """Suspected from the first bit of score on; else cleared, if nothing is missing."""
    if score > 0:
        return Suspect(cause=cause, ruling=Ruling.SUSPECTED, score=round(score, 3), numbers=numbers)
    ruling = Ruling.INCONCLUSIVE if missing else Ruling.CLEARED
    return Suspect(cause=cause, ruling=ruling, numbers=numbers, missing=missing)


def _data(evidence: Evidence) -> Iterator[Suspect]:
    findings = evidence.findings or ()
    suspects = [_of_column(each) for each in findings if each.status is Status.DRIFT]
    found = [each for each in suspects if each is not None]
    found += [
        Suspect(cause=Cause.NULLED, ruling=Ruling.SUSPECTED, score=0.95, column=column, numbers={"missing_after": 1.0})
        for column in evidence.absent
    ]
    # A nulled column or a new category changes the values as well: one cause is enough.
    explained = {each.column for each in found if each.cause is not Cause.INPUTS}
    found = [each for each in found if each.cause is not Cause.INPUTS or each.column not in explained]
    yield from found
    few = any(each.status is Status.FEW for each in findings)
    missing = ("a watch with enough rows",) if few or not findings else ()
    for cause in (Cause.UNIT, Cause.SHIFTED, Cause.PILED, Cause.NULLED, Cause.CATEGORIES, Cause.INPUTS):
        if all(each.cause is not cause for each in found):
            yield _judge(cause, 0.0, {}, *missing)


def _of_column(finding: Finding) -> Suspect | None:
    before, after = finding.before, finding.after
    numbers = {"effect": finding.effect}
    cause, score = Cause.INPUTS, 0.4 + 0.15 * min(1.0, finding.effect)
    if finding.change is Change.MISSING:
        if before is None or after is None or after <= before:
            return None
        numbers |= {"missing_before": before, "missing_after": after}
        cause, score = Cause.NULLED, 0.6 + 0.35 * (after - before)
    elif finding.change is Change.NEW:
        numbers |= {} if before is None or after is None else {"new_before": before, "new_after": after}
        cause, score = Cause.CATEGORIES, 0.65
    else:
        shape = {name: value for name, value in finding.measures.items() if name in _SHAPES}
        factor = 0.0
        if before and after and not shape.keys() & {"beyond", "piled"}:
            factor = after / before
        if before and after and factor > 0:
            numbers |= {"median_before": before, "median_after": after, "factor": factor}
        numbers |= shape
        large = finding.effect >= MIN_UNIT_EFFECT
        if "piled" in shape:
            cause, score = Cause.PILED, 0.88
        elif "turned" in shape or (large and "offset" in shape):  # another unit would have changed the spread as well
            cause, score = Cause.SHIFTED, 0.86
        elif large and ("beyond" in shape or (factor > 0 and _is_unit(factor))):
            cause, score = Cause.UNIT, 0.9
        elif large and factor > 0 and not 1 / MIN_FACTOR < factor < MIN_FACTOR:
            cause, score = Cause.UNIT, 0.7
    return Suspect(cause=cause, ruling=Ruling.SUSPECTED, score=round(score, 3), column=finding.column, numbers=numbers)


def _rows(evidence: Evidence, params: Params) -> Iterator[Suspect]:
    """What the number of rows says, whatever is in them."""
    rows, before = evidence.rows, evidence.rows_before
    lacking = () if rows is not None else ("a look at the stable model",)
    fell = 1 - rows / before if rows is not None and before else 0.0
    numbers = {"rows": float(rows or 0), "rows_before": float(before)} if before else {}
    stopped = before is not None and before >= FEWEST_REQUESTS and fell > params.watch.max_volume_change
    yield _judge(Cause.SILENT, (0.3 + 0.6 * fell) * stopped, numbers, *lacking)
    many = evidence.repeated > params.watch.max_duplicates
    yield _judge(
        Cause.REPEATED, 0.5 + 0.3 * evidence.repeated if many else 0.0, {"repeated": evidence.repeated}, *lacking
    )


def _is_unit(factor: float) -> bool:
    """Whether one unit is another one's multiple by about this factor."""
    near = math.log1p(_UNIT_TOLERANCE)
    return any(abs(abs(math.log(factor)) - abs(math.log(unit))) <= near for unit in _UNITS)


def _quality(evidence: Evidence, *, moved: bool) -> Iterator[Suspect]:
    numbers = {} if evidence.quality_change is None else {"quality_change": evidence.quality_change}
    worse, meaning = bool(evidence.worse), bool(evidence.meaning)
    # Inputs that moved explain a worse metric, and not that a score means something else.
    score = (0.3 if meaning else 0.0) if moved else 0.7 * (worse or meaning)
    missing = () if evidence.worse is not None and evidence.meaning is not None else ("enough labels",)
    # Without a look at the inputs, what fell may as well be explained by them.
    if not evidence.findings:
        score, missing = 0.0, (*missing, "a watch with enough rows")
    yield _judge(Cause.CONCEPT, score, numbers, *missing)

    answered = evidence.answered or 0
    share = evidence.labelled / answered if answered else 0.0
    stopped = answered >= MIN_LABELLED and share < FEWEST_LABELS
    known = {"answered": float(answered), "labelled": float(evidence.labelled)}
    lacking = ("answers in the window",) if answered < MIN_LABELLED else ("labels of earlier windows",) * stopped
    yield _judge(Cause.LABELS, 0.75 * (stopped and evidence.labels_before), known, *lacking)


def _serving(evidence: Evidence, params: Params) -> Iterator[Suspect]:
    server = evidence.server
    if server is None:
        worse = 0.8 * bool(evidence.candidate_worse)
        for cause in (Cause.CANDIDATE, Cause.BAD_CANDIDATE, Cause.FAILING, Cause.STARVED):
            known = (worse, _change_of_candidate(evidence)) if cause is Cause.BAD_CANDIDATE else (0.0, {})
            yield _judge(cause, *known, "the server's status")
        return
    yield from _candidate(evidence, server, params)
    load = _load(server, params)
    failing, strained = _is_failing(server.stable, params), _is_strained(server, params)
    few = ("enough requests",) if server.stable.requests < FEWEST_REQUESTS else ()
    if (failing or strained) and evidence.release_recent is None:
        yield _judge(Cause.FAILING, 0.0, load, "the manifest's history")
        yield _judge(Cause.STARVED, 0.0, load, "the manifest's history")
        return
    before = not evidence.release_recent
    # Where requests wait or are late, those that fail may be the late ones.
    yield _judge(Cause.FAILING, 0.65 * (failing and before and not strained), load, *few)
    yield _judge(Cause.STARVED, 0.6 * (strained and before), load, *few)


def _candidate(evidence: Evidence, server: Server, params: Params) -> Iterator[Suspect]:
    stable, candidate = server.stable, server.candidate
    slow, failing, unknown = False, False, False
    latencies: dict[str, float] = {}
    numbers = _change_of_candidate(evidence)
    if candidate is not None:
        few = candidate.requests < FEWEST_REQUESTS
        unknown = few or candidate.p99_ms is None or stable.p99_ms is None
        if candidate.p99_ms is not None and stable.p99_ms is not None and not unknown:
            latencies = {"candidate_p99_ms": candidate.p99_ms, "stable_p99_ms": stable.p99_ms}
            slow = candidate.p99_ms >= max(NOTICED_MS, SLOWER * stable.p99_ms)
        if not few:
            failing = _is_failing(candidate, params)
            numbers |= {"candidate_failed_share": candidate.failed / candidate.requests}
    missing = ("enough requests of the candidate",) * unknown
    bad = max(0.85 * failing, 0.8 * bool(evidence.candidate_worse))
    yield _judge(Cause.CANDIDATE, 0.85 * slow, latencies, *missing)
    yield _judge(Cause.BAD_CANDIDATE, bad, numbers, *missing)


def _change_of_candidate(evidence: Evidence) -> dict[str, float]:
    return {} if evidence.candidate_change is None else {"gain_over_stable": evidence.candidate_change}


def _release(evidence: Evidence, params: Params) -> Suspect:
    server = evidence.server
    if evidence.release_recent is False:
        return _judge(Cause.RELEASE, 0.0, {})
    numbers = _load(server, params) if server is not None else {}
    strained = server is not None and (_is_strained(server, params) or _is_failing(server.stable, params))
    if evidence.quality_change is not None:
        numbers |= {"quality_change": evidence.quality_change}
    missing = [
        name
        for name, is_missing in (
            ("the manifest's history", evidence.release_recent is None),
            ("enough labels", evidence.worse is None),
            ("the server's status", server is None or server.stable.requests < FEWEST_REQUESTS),
        )
        if is_missing
    ]
    bad = evidence.release_recent is True and (bool(evidence.worse) or strained)
    return _judge(Cause.RELEASE, 0.8 * bad, numbers, *missing)


def _is_strained(server: Server, params: Params) -> bool:
    """Whether requests wait, or stable takes longer than a candidate ever may."""
    slow = (server.stable.p99_ms or 0.0) > params.serve.guard.max_latency_ms
    return (server.stable.requests >= FEWEST_REQUESTS and slow) or server.waiting >= BUSY * params.serve.max_waiting


def _is_failing(load: Load, params: Params) -> bool:
    return load.requests >= FEWEST_REQUESTS and load.failed > params.serve.guard.max_error_rate * load.requests


def _load(server: Server, params: Params) -> dict[str, float]:
    stable = server.stable
    numbers = {"waiting_share": server.waiting / params.serve.max_waiting}
    numbers["failed_share"] = stable.failed / max(1, stable.requests)
    return numbers if stable.p99_ms is None else numbers | {"stable_p99_ms": stable.p99_ms}
