"""Scores Parquet and CSV files of any size, batch by batch, with the scorer that serves."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.dataset import Kind
from mergeline.documents import nearest, repeated
from mergeline.errors import DataError, ModelError
from mergeline.model.read_columns import ReadColumn
from mergeline.params import Task
from mergeline.scorer.runtime import TextColumn
from mergeline.scorer.stored import load_scorer

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from mergeline.model.artifact import LoadedModel
    from mergeline.scorer.program import Floats
    from mergeline.scorer.signature import Signature

BATCH_ROWS = 16_384
_ROW, _REASON = "row", "reason"
_CSV_BYTES, _WINDOW_BYTES = 8_000_000, 1_000_000


@dataclass(frozen=True)
class BulkResult:
    """How many rows were scored, and how many were set aside, where."""

    scored: int
    refused: int
    refused_file: Path | None


class _Batch(NamedTuple):
    """A part of the input: its first row's number, its rows, and those that are no rows at all, with the reason."""

    first: int
    rows: pa.RecordBatch
    broken: list[str]


def score_file(
    model: LoadedModel, source: Path, target: Path, progress: Callable[[int], object] = lambda _: None
) -> BulkResult:
    """Score every row of a file.

    The answer holds the id where the model has one and the file too, else the row's number from 0; then `score` and
    `label`, or `score_CLASS` for each class, or `score` alone for a number. Rows that break the signature are written
    to a file beside it, with the reason. A file is written whole or not at all.

    Args:
        model: the model.
        source: a Parquet file, or a CSV file with a header.
        target: where the answers go, a `.parquet` or `.csv` file.
        progress: is told how many rows are done.

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
    score = _Scoring(model)
    np.empty(32_000_000, dtype=np.uint8)  # glibc, when it has freed so much, keeps what is freed batch after batch
    aside = target.with_name(f"{target.stem}.refused{target.suffix}")
    scored = refused = 0
    with ExitStack() as stack:
        answers, refusals = (stack.enter_context(_Writer(path)) for path in (target, aside))
        for good, bad in _in_turn(score, _read(source, model.signature)):
            answers.write(good)
            if len(bad):
                refusals.write(bad)
            scored, refused = scored + len(good), refused + len(bad)
            progress(scored + refused)
        if not scored and not refused:
            raise DataError("there are no rows in it", where=str(source), hint="give a file with rows")
        if refused:
            refusals.keep()
        else:
            aside.unlink(missing_ok=True)  # of an earlier run
        answers.keep()
    return BulkResult(scored, refused, aside if refused else None)


def _in_turn(score: _Scoring, batches: Iterable[_Batch]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """The answers in the order of the batches, a few of which are worked on at once."""
    workers = max(1, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[tuple[pa.Table, pa.Table]]] = deque()
        for batch in batches:
            waiting.append(pool.submit(score, batch))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read(path: Path, signature: Signature) -> Iterator[_Batch]:
    """The file's batches; a file that cannot be read says so in one sentence."""
    import pyarrow as pa

    try:
        yield from _read_csv(path, signature) if path.suffix == ".csv" else _read_parquet(path, signature)
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), hint="check the name") from None
    except (pa.ArrowException, OSError, UnicodeError) as cause:
        what = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise DataError(f"the file is damaged: {what}", where=str(path), hint="write it again") from cause


def _read_parquet(path: Path, signature: Signature) -> Iterator[_Batch]:
    import pyarrow.parquet as pq

    texts = [column.name for column in signature.columns if column.kind is Kind.CATEGORY]
    # Column by column through a small window: a row group of a million rows is never in memory as a whole.
    with pq.ParquetFile(path, read_dictionary=texts, buffer_size=_WINDOW_BYTES, pre_buffer=False) as file:
        _require_columns(file.schema_arrow.names, signature, path)
        first = 0
        for rows in file.iter_batches(batch_size=BATCH_ROWS):
            yield _Batch(first, rows, [])
            first += len(rows)


def _read_csv(path: Path, signature: Signature) -> Iterator[_Batch]:
    import pyarrow as pa
    from pyarrow import csv

    broken: list[str] = []

    def set_aside(row: Any) -> str:
        where = f" at line {row.number}" if row.number is not None else ""
        broken.append(f"{row.actual_columns} cells{where}, the header has {row.expected_columns}")
        return "skip"

    with path.open(encoding="utf-8-sig") as stream:
        names = [name.strip() for name in next(iter(_cells(stream.readline())), [])]
        if len(names) == 1:
            from mergeline.dataset.partitions import require_commas

            require_commas(names, path, stream)
    _require_columns(names, signature, path)
    reader = csv.open_csv(
        path,
        read_options=csv.ReadOptions(use_threads=False, block_size=_CSV_BYTES, column_names=names, skip_rows=1),
        parse_options=csv.ParseOptions(invalid_row_handler=set_aside, newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""],
            quoted_strings_can_be_null=True,
        ),
    )  # fmt: skip
    first = 0
    for rows in reader:
        for start in range(0, len(rows), BATCH_ROWS):
            part, found = rows.slice(start, BATCH_ROWS), broken.copy()
            broken.clear()
            yield _Batch(first, part, found)
            first += len(part)
    if broken:
        yield _Batch(first, pa.RecordBatch.from_pylist([], schema=reader.schema), broken)


def _cells(line: str) -> Iterator[list[str]]:
    import csv

    yield from csv.reader([line])


def _require_columns(names: list[str], signature: Signature, path: Path) -> None:
    twice = repeated(names)
    if twice is not None:
        raise DataError(f"the column {twice!r} is there twice", where=str(path), hint="keep one of them")
    missing = [name for name in signature.names if name not in names]
    if missing:
        guess = nearest(missing[0], [name for name in names if name not in signature.names])
        hint = f"did you mean `{guess}`?" if guess else f"the model reads {', '.join(signature.names)}"
        raise DataError(f"there is no column {', '.join(missing[:5])}", where=str(path), hint=hint)


class _Scoring:
    """Checks and scores one batch; safe to call from several threads."""

    def __init__(self, model: LoadedModel) -> None:
        self._model, self._signature = model, model.signature
        times = [column.name for column in self._signature.columns if column.kind is Kind.TIME]
        if times:
            raise ModelError(f"column {times[0]!r} is a time, which no model takes", where=str(model.folder))
        self._scorer = load_scorer(model.folder, model.signature, many_rows=True)

    def __call__(self, batch: _Batch) -> tuple[pa.Table, pa.Table]:
        """The answers of a batch, and its refused rows."""
        rows = batch.rows
        columns = [ReadColumn(column, rows.column(column.name)) for column in self._signature.columns]
        bad = np.zeros(len(rows), dtype=bool)
        wrong = [(column, column.bad) for column in columns if column.bad is not None]
        for _, places in wrong:
            bad |= places
        found = self._scores(rows, columns, bad)
        unscored = ~np.isfinite(found.reshape(len(rows), -1)).all(axis=1) & ~bad
        reasons = {
            int(place): "; ".join(column.reason(int(place)) for column, places in wrong if places[place])
            or "the model gives no score for it"
            for place in np.flatnonzero(bad | unscored)
        }
        return self._answers(batch, found, ~(bad | unscored)), self._refused(batch, reasons)

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

    def _answers(self, batch: _Batch, found: Floats, good: NDArray[np.bool_]) -> pa.Table:
        import pyarrow as pa

        output, made = self._signature.output, self._names_of(batch, np.flatnonzero(good))
        found = found[good]
        if output.task is Task.MULTICLASS:
            made |= {f"score_{label}": pa.array(found[:, place]) for place, label in enumerate(output.classes)}
            chosen = found.argmax(axis=1) if len(found) else np.zeros(0, dtype=np.int64)
        else:
            made["score"] = pa.array(found)
            positive = output.classes.index(output.positive) if output.positive is not None else 0
            chosen = np.where(found >= (output.threshold or 0.0), positive, 1 - positive)
        if output.task is not Task.REGRESSION:
            made["label"] = pa.array(list(output.classes)).take(pa.array(chosen))
        return pa.table(made)

    def _names_of(self, batch: _Batch, places: NDArray[np.intp]) -> dict[str, Any]:
        import pyarrow as pa

        name = self._signature.id
        if name is not None and name in batch.rows.schema.names:
            return {name: _plain(batch.rows.column(name).take(pa.array(places)))}
        return {_ROW: pa.array(batch.first + places)}

    @staticmethod
    def _refused(batch: _Batch, reasons: dict[int, str]) -> pa.Table:
        import pyarrow as pa

        places = list(reasons)
        kept = batch.rows.take(pa.array(places, type=pa.int64()))
        own = {name: _plain(kept.column(name)) for name in kept.schema.names if name not in {_ROW, _REASON}}
        numbers = pa.array([batch.first + place for place in places], type=pa.int64())
        table = pa.table({_ROW: numbers, _REASON: pa.array(list(reasons.values()), type=pa.string()), **own})
        if not batch.broken:
            return table
        lost = {
            name: pa.nulls(len(batch.broken), field.type)
            for name, field in zip(own, list(table.schema)[2:], strict=True)
        }
        nowhere = pa.nulls(len(batch.broken), pa.int64())
        return pa.concat_tables([table, pa.table({_ROW: nowhere, _REASON: pa.array(batch.broken), **lost})])


def _plain(values: pa.Array) -> pa.Array:
    import pyarrow as pa

    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


class _Writer:
    """Writes tables to a file that takes its place when all of it is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft: Path | None = None
        self._file: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._draft is not None:
            self._draft.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Write rows; the first table says what columns there are."""
        if self._file is None:
            self._open(table.schema)
        self._file.write_table(table)

    def keep(self) -> None:
        """Put the whole file where it belongs."""
        if self._file is None or self._draft is None:
            return
        self._file.close()
        self._file = None
        with self._draft.open("rb") as stream:
            os.fsync(stream.fileno())
        self._draft.replace(self._path)

    def _open(self, schema: pa.Schema) -> None:
        handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        os.close(handle)
        self._draft = Path(name)
        self._draft.chmod(0o644)
        if self._path.suffix == ".csv":
            from pyarrow import csv

            self._file = csv.CSVWriter(self._draft, schema)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            # A dictionary of scores and row numbers, which hardly repeat, would be made in vain.
            texts = [field.name for field in schema if not pa.types.is_primitive(field.type)]
            self._file = pq.ParquetWriter(self._draft, schema, use_dictionary=texts)
