"""Watches production once: reads the journal's window, compares it with every reference, and gives a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mergeline.errors import MergelineError
from mergeline.journal.window import Clock, Window, find_journal, held, length, read_window
from mergeline.params import Params

if TYPE_CHECKING:
    from mergeline.dataset.partitions import Partition
    from mergeline.journal.window import Journal, Source
    from mergeline.manifest.schema import Manifest
    from mergeline.scorer.signature import Signature
    from mergeline.watch.drift import Compared, Finding
    from mergeline.watch.engine_counts import Engine
    from mergeline.watch.released_model import Context, Served
    from mergeline.watch.results import Watched, WholeRow
    from mergeline.watch.window_counts import Observation

Tell = Callable[[str], None]

TRAINING = "training"
BACK_TESTS = 4
"""Earlier windows that the estimate is tried on."""


@dataclass(frozen=True)
class Request:
    """What to look at: a journal, a stretch of time, and the moment that counts as now."""

    journal: str
    window: Window
    now: datetime


def make_request(
    root: Path,
    params: Params,
    now: datetime,
    *,
    window: str | None = None,
    end: datetime | None = None,
    journal: str | None = None,
) -> Request:
    """The request that options and params ask for.

    Raises:
        WatchError: the window is not a length of time.
    """
    found = read_window(window or params.watch.window, end or now, Clock(params.watch.clock))
    return Request(journal_of(root, params, journal), found, now)


def journal_of(root: Path, params: Params, given: str | None) -> str:
    """The folder or address of the journal: the one given, else the params'; a local one is looked for from `root`."""
    place = given or params.watch.journal
    return place if "://" in place else str(root / place)


def watch(root: Path, params: Params, manifest: Manifest, request: Request, tell: Tell) -> Watched:
    """Judge one window of production.

    Args:
        root: the repository.
        params: of the repository.
        manifest: says which model is watched.
        request: what to look at.
        tell: takes a line of progress.

    Raises:
        WatchError: there is no stable model, no journal, or a reference that does not exist.
        ModelError: the model's profile cannot be read.
        StoreError: the model is not in the store.
        DataError: the data behind a reference cannot be read.
    """
    from mergeline.model.bin_counts import connect
    from mergeline.watch.engine_counts import open_engine
    from mergeline.watch.reference import chosen_partitions
    from mergeline.watch.released_model import Context, read_stable
    from mergeline.watch.window_counts import around_damage

    served = read_stable(root, params, manifest)
    partitions = chosen_partitions(root, params, params.watch.references, request.window)
    candidate = _candidate(root, params, manifest, tell)
    window = request.window
    matured = window.earlier(length(params.watch.label_delay))
    back_tests = [matured.earlier((window.end - window.start) * place) for place in range(1, BACK_TESTS + 1)]
    with connect() as connection, held(request.journal):
        journal = find_journal(connection, request.journal, back_tests[-1].start, request.now, window.clock)
        engine = open_engine(params.watch.engine)

        def look(files: Journal) -> Watched:
            context = Context(connection, files, served, params)
            return _Look(root, request, context, partitions, candidate, tell, engine).take(matured, back_tests)

        return around_damage(connection, journal, request.journal, look, tell)


def _candidate(root: Path, params: Params, manifest: Manifest, tell: Tell) -> Served | None:
    """The manifest's candidate; None where there is none, or it cannot be had."""
    from mergeline.watch.released_model import read_served

    release = manifest.spec.candidate
    if release is None:
        return None
    try:
        return read_served(root, params, release)
    except MergelineError as error:
        tell(f"the candidate's signature cannot be had ({error.what}); it is taken to answer as stable does")
        return None


@dataclass(frozen=True)
class _Look:
    """One look at the journal, while a connection is open."""

    root: Path
    request: Request
    context: Context
    partitions: dict[str, list[Partition]]
    candidate: Served | None
    tell: Tell
    engine: Engine | None

    def take(self, matured: Window, back_tests: Sequence[Window]) -> Watched:
        """What the journal shows; its files can all be read."""
        from mergeline.watch.data_quality import data_checks, measure_quality
        from mergeline.watch.distributions import distributions
        from mergeline.watch.live import estimate_window, read_live, stretch_of
        from mergeline.watch.results import Watched
        from mergeline.watch.rivals import find_rivals
        from mergeline.watch.verdict import decide
        from mergeline.watch.window_counts import count_rows, observe, observe_answers

        context, window = self.context, self.request.window
        connection, journal, served, params = context.connection, context.journal, context.served, context.params
        source, before = journal.source(window), journal.source(window.before())
        observed = observe(connection, source, served, self.engine)
        self.tell(f"read {observed.rows:,} rows of {len(source.files)} files")
        rows_before = count_rows(connection, *before.relations())
        known = rows_before if journal.reaches(before.window) else None
        quality = measure_quality(context, source, observed, known)
        findings = self._findings(observed)
        _, answers_before = observe_answers(connection, before, served, self.engine)
        live = read_live(context, matured)
        whole = self._whole_rows(source, observed, before, rows_before)
        verdict = decide(
            observed.rows,
            params,
            quality=data_checks(quality, window.end, params.watch),
            findings=findings,
            whole_rows=whole,
            live=live,
        )
        training = [name for name in params.watch.references if name == TRAINING]
        return Watched(
            name=params.name,
            task=params.task,
            version=served.version,
            digest=served.digest,
            outcome=verdict.outcome,
            headline=verdict.headline,
            reasons=verdict.reasons,
            made_at=self.request.now,
            stretch=stretch_of(window),
            rows=observed.rows,
            answered=observed.answered,
            references=(*training, *self.partitions),
            quality=quality,
            findings=findings,
            answers_before=self._answers_before(observed.answers, answers_before),
            whole_rows=tuple(whole),
            distributions=distributions([*observed.inputs, *observed.answers], findings),
            live=live,
            estimated=estimate_window(context, window, observed.answers, back_tests),
            rivals=find_rivals(context, matured, self.candidate),
            notices=_notices(served),
        )

    def _findings(self, observed: Observation) -> tuple[Finding, ...]:
        """What differs from every reference; scores and labels have one reference, the holdout."""
        from mergeline.watch.drift import find_drift, least_drift
        from mergeline.watch.reference import recount

        context = self.context
        bounds, importance = context.params.watch.drift, context.served.importance
        unused = context.served.unused(bounds.min_importance)
        found = []
        if TRAINING in context.params.watch.references:
            found.append(find_drift([*observed.inputs, *observed.answers], importance, bounds, TRAINING, unused))
        for name, files in self.partitions.items():
            columns = recount(context.connection, files, observed.inputs, context.served.signature)
            found.append(find_drift([*columns, *observed.answers], importance, bounds, name, unused))
        return least_drift(found)

    def _answers_before(self, now: Sequence[Compared], before: Sequence[Compared]) -> tuple[Finding, ...]:
        from mergeline.watch.drift import find_drift
        from mergeline.watch.reference import as_reference

        columns = as_reference(now, before)
        return find_drift(columns, {}, self.context.params.watch.drift, "the window before") if columns else ()

    def _whole_rows(self, source: Source, observed: Observation, before: Source, rows_before: int) -> list[WholeRow]:
        """The whole-row tests against the window before and, where the data are at hand, against training rows."""
        from mergeline.watch.multivariate_drift import MIN_ROWS, Table, compare_rows, sample
        from mergeline.watch.reference import earlier_rows
        from mergeline.watch.window_counts import as_numbers, relation_of

        context, watched = self.context, self.context.params.watch
        signature = _used(context.served, watched.drift.min_importance)
        relation = relation_of(source, signature)
        tables = earlier_rows(context, self.root, signature, before, rows_before)
        # A column that the journal lacks would tell the samples apart by itself, and is told as such.
        absent = set(observed.absent) & set(signature.names)
        if relation is None or not signature.columns or absent or not tables or observed.rows < MIN_ROWS:
            return []
        readable = as_numbers(relation, observed.retyped)
        current = Table(readable, observed.rows, key="_id", time=self.request.window.clock.column)
        now = sample(context.connection, current, signature, watched.sample_rows)
        found = []
        for table in tables:
            rows = sample(context.connection, table, signature, watched.sample_rows)
            found.append(compare_rows(now, rows, signature, table.against, watched.drift.min_auc))
        return [each for each in found if each is not None]


def _used(served: Served, min_importance: float) -> Signature:
    """The signature's columns that the model uses; all of them where that is not known."""
    unused = served.unused(min_importance)
    kept = tuple(each for each in served.signature.columns if each.name not in unused)
    return served.signature.model_copy(update={"columns": kept}) if kept else served.signature


def _notices(served: Served) -> tuple[str, ...]:
    found = []
    if served.evaluation is None:
        found.append(
            "The evaluation in this work tree is missing, or of another model: inputs are ranked by their change alone,"
            " and the holdout's metrics are the manifest's, without intervals. To have it: dvc pull evaluation."
        )
    if served.redacted:
        found.append(
            f"Not compared, since the journal drops or hashes them (serve.journal): {', '.join(served.redacted)}."
        )
    return tuple(found)
