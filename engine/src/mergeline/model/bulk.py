"""Scores Parquet and CSV files of any size, batch by batch, with the scorer that serves."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from mergeline.dataset import Kind
from mergeline.errors import DataError, ModelError
from mergeline.model.bulk_files import Batch, ReadColumn, WholeFile, read_batches
from mergeline.params import Task
from mergeline.scorer.pipeline import chosen
from mergeline.scorer.runtime import TextColumn
from mergeline.scorer.stored import load_scorer

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from mergeline.model.artifact import LoadedModel
    from mergeline.scorer.program import Floats

_ROW, _ID, _REASON = "row", "id", "reason"


@dataclass(frozen=True)
class BulkResult:
    """How many rows were scored, and how many were set aside, where."""

    scored: int
    refused: int
    refused_file: Path | None


class ScoredRows(NamedTuple):
    """The rows of a batch that got a score: `places` of shape (n,), `scores` of shape (n,) or (n, classes).

    `chosen` are their classes as places in the signature's list; None for a regression.
    """

    batch: Batch
    columns: list[ReadColumn]
    places: NDArray[np.intp]
    scores: Floats
    chosen: NDArray[np.intp] | None


class Recorder(Protocol):
    """Keeps what was scored; `ids` and `table` are called from several threads."""

    def refused(self, batch: Batch) -> dict[int, str]:
        """The places of rows that cannot be kept, each with the reason; called in the order of the rows."""

    def ids(self, batch: Batch) -> pa.Array:
        """The id of each row of a batch, as text."""

    def table(self, rows: ScoredRows) -> pa.Table:
        """The rows as they are kept."""

    def write(self, table: pa.Table) -> None:
        """Keep them; called in the order of the rows."""

    def finish(self) -> None:
        """Everything was scored: put what is kept where it belongs."""


class _Made(NamedTuple):
    """What became of a batch: its answers, its refused rows, and what is kept of it."""

    answers: pa.Table
    refused: pa.Table
    kept: pa.Table | None


def score_file(
    model: LoadedModel,
    source: Path,
    target: Path,
    progress: Callable[[int], object] = lambda _: None,
    recorder: Recorder | None = None,
) -> BulkResult:
    """Score every row of a file.

    The answer holds the id where the model has one and the file too, else the row's number from 1 (and with a recorder
    the id that it gave the row); then `score` and `label`, or `score_CLASS` for each class, or `score` alone for a
    number. Rows that break the signature, or that the recorder refuses, are written to a file beside it, with the
    reason. A file is written whole or not at all.

    Args:
        model: the model.
        source: a Parquet file, or a CSV file with a header.
        target: where the answers go, a `.parquet` or `.csv` file.
        progress: is told how many rows are done.
        recorder: keeps what was scored, before the answers are where they belong.

    Raises:
        DataError: the input cannot be read, or lacks a column, or the target is of no known kind.
        ModelError: the model takes a kind of column that files do not hold.
        OSError: the target cannot be written; nothing is.
    """
    if target.suffix not in {".parquet", ".csv"} or source.suffix not in {".parquet", ".csv"}:
        wrong = target if source.suffix in {".parquet", ".csv"} else source
        raise DataError("neither a Parquet nor a CSV file", where=str(wrong), hint="name it *.parquet or *.csv")
    if target.resolve() == source.resolve():
        raise DataError("the answers would replace the rows", where=str(target), hint="name another file")
    score = _Scoring(model, recorder)
    np.empty(32_000_000, dtype=np.uint8)  # glibc, when it has freed so much, keeps what is freed batch after batch
    aside = target.with_name(f"{target.stem}.refused{target.suffix}")
    scored = refused = 0
    with ExitStack() as stack:
        answers, refusals = (stack.enter_context(WholeFile(path)) for path in (target, aside))
        for made in _in_turn(score, read_batches(source, model.signature), recorder):
            answers.write(made.answers)
            if len(made.refused):
                refusals.write(made.refused)
            if recorder is not None and made.kept is not None:
                recorder.write(made.kept)
            scored, refused = scored + len(made.answers), refused + len(made.refused)
            progress(scored + refused)
        if not scored and not refused:
            raise DataError("there are no rows in it", where=str(source), hint="give a file with rows")
        if recorder is not None:
            recorder.finish()
        if refused:
            refusals.keep()
        else:
            aside.unlink(missing_ok=True)  # of an earlier run
        answers.keep()
    return BulkResult(scored, refused, aside if refused else None)


def _in_turn(score: _Scoring, batches: Iterable[Batch], recorder: Recorder | None) -> Iterator[_Made]:
    """The answers in the order of the batches, a few of which are worked on at once."""
    workers = max(1, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[_Made]] = deque()
        for batch in batches:
            waiting.append(pool.submit(score, batch, recorder.refused(batch) if recorder is not None else {}))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Scoring:
    """Checks and scores one batch; safe to call from several threads."""

    def __init__(self, model: LoadedModel, recorder: Recorder | None) -> None:
        self._model, self._signature, self._recorder = model, model.signature, recorder
        times = [column.name for column in self._signature.columns if column.kind is Kind.TIME]
        if times:
            raise ModelError(f"column {times[0]!r} is a time, which no model takes", where=str(model.folder))
        self._scorer = load_scorer(model.folder, model.signature, many_rows=True)

    def __call__(self, batch: Batch, refused: Mapping[int, str]) -> _Made:
        """Check and score the rows of a batch; those at the places `refused` are set aside with their reasons."""
        rows = batch.rows
        columns = [ReadColumn(column, rows.column(column.name)) for column in self._signature.columns]
        bad = np.zeros(len(rows), dtype=bool)
        bad[list(refused)] = True
        wrong = [(column, column.bad) for column in columns if column.bad is not None]
        for _, found_bad in wrong:
            bad |= found_bad
        found = self._scores(rows, columns, bad)
        unscored = ~np.isfinite(found.reshape(len(rows), -1)).all(axis=1) & ~bad
        reasons = {
            place: "; ".join([column.reason(place) for column, found in wrong if found[place]] + told)
            or "the model gives no score for it"
            for place in np.flatnonzero(bad | unscored).tolist()
            for told in [[refused[place]] if place in refused else []]
        }
        places = np.flatnonzero(~(bad | unscored))
        output, scores = self._signature.output, found[places]
        said = chosen(scores, output) if output.task.classifies else None
        scored = ScoredRows(batch, columns, places, scores, said)
        kept = self._recorder.table(scored) if self._recorder is not None else None
        return _Made(self._answers(scored), self._refused(batch, reasons), kept)

    def _scores(self, rows: pa.RecordBatch, columns: list[ReadColumn], bad: NDArray[np.bool_]) -> Floats:
        if self._scorer is not None:
            return self._scorer.score(self._scorer.encode_columns([column.values for column in columns]))
        import pandas as pd

        made = {
            column.name: read.values
            if not isinstance(read.values, TextColumn)
            else np.array([*read.values.texts, None], dtype=object)[read.values.codes]
            for column, read in zip(self._signature.columns, columns, strict=True)
        }
        frame, output = pd.DataFrame(made), self._signature.output
        shape = (len(rows), len(output.classes)) if output.task is Task.MULTICLASS else (len(rows),)
        found = np.full(shape, np.nan)
        if not bad.all():
            found[~bad] = self._model.predict(frame.loc[~bad])
        return found

    def _answers(self, rows: ScoredRows) -> pa.Table:
        import pyarrow as pa

        output, made = self._signature.output, self._names_of(rows)
        if output.task is Task.MULTICLASS:
            made |= {f"score_{label}": pa.array(rows.scores[:, place]) for place, label in enumerate(output.classes)}
        else:
            made["score"] = pa.array(rows.scores)
        if rows.chosen is not None:
            made["label"] = pa.array(list(output.classes)).take(pa.array(rows.chosen))
        return pa.table(made)

    def _names_of(self, rows: ScoredRows) -> dict[str, Any]:
        import pyarrow as pa

        name, given = self._signature.id, rows.batch.rows
        if name is not None and name in given.schema.names:
            return {name: _plain(given.column(name).take(pa.array(rows.places)))}
        numbers = {_ROW: pa.array(rows.batch.numbers[rows.places])}
        if self._recorder is None:
            return numbers
        return numbers | {_ID: self._recorder.ids(rows.batch).take(pa.array(rows.places))}

    @staticmethod
    def _refused(batch: Batch, reasons: dict[int, str]) -> pa.Table:
        import pyarrow as pa

        places = list(reasons)
        kept = batch.rows.take(pa.array(places, type=pa.int64()))
        own = {name: _plain(kept.column(name)) for name in kept.schema.names if name not in {_ROW, _REASON}}
        numbers = pa.array(batch.numbers[places])
        table = pa.table({_ROW: numbers, _REASON: pa.array(list(reasons.values()), type=pa.string()), **own})
        if not batch.broken:
            return table
        lost = {
            name: pa.nulls(len(batch.broken), field.type)
            for name, field in zip(own, list(table.schema)[2:], strict=True)
        }
        where, why = map(pa.array, zip(*batch.broken, strict=True))
        return pa.concat_tables([table, pa.table({_ROW: where, _REASON: why, **lost})])


def _plain(values: pa.Array) -> pa.Array:
    import pyarrow as pa

    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
