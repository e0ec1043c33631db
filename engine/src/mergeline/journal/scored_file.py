"""Writes the rows of a scored file to the journal, as the server writes those that it answers."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mergeline.dataset import Kind
from mergeline.dataset.findings import shorten
from mergeline.errors import MergelineError
from mergeline.files import naming
from mergeline.journal.folders import (
    PREDICTIONS,
    day_folder,
    digest_part,
    exclusive,
    partitions,
    sealed_name,
    sync_folder,
)
from mergeline.journal.merge import sources_of
from mergeline.journal.redaction import hashed, is_missing, plan, redaction_key
from mergeline.journal.tables import TableWriter, as_event_time, as_text, prediction_schema
from mergeline.journal.wal_format import stored_name
from mergeline.journal.window import held
from mergeline.model.bulk_files import ReadColumn
from mergeline.requests.answers import class_name
from mergeline.requests.records import is_event_time
from mergeline.scorer.runtime import TextColumn
from mergeline.timing import EARLIEST, LATEST

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from mergeline.manifest.schema import Release
    from mergeline.model.bulk import ScoredRows
    from mergeline.model.bulk_files import Batch
    from mergeline.params import JournalParams
    from mergeline.scorer.signature import Column, Signature

SCORING, SCORING_LOCK = "scoring", "scoring.lock"
_IDENTITY_DIGITS = 16


@contextlib.contextmanager
def record_file(
    folder: Path, settings: JournalParams, signature: Signature, release: Release, source: Path, *, now: datetime
) -> Iterator[FileRecorder]:
    """What journals the rows of one file: all of them in one Parquet file of the journal, or none.

    The file is named by what `source` holds and the model's digest, and is there once: what is written when the
    scoring is interrupted does not count, and what is there already is not written again. An id that a row lacks is
    made from the same name and the row's number, so it is the same at each attempt.

    Args:
        folder: the journal; made where there is none.
        settings: `serve.journal` of the params: what is dropped and hashed.
        signature: of the model.
        release: of the model, in the manifest.
        source: the file that is scored.
        now: when the rows are answered: one time for all, as for the records of one request.

    Raises:
        MergelineError: another process scores into this journal.
        OSError: the file cannot be read, or the journal cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / SCORING_LOCK) as alone:
        if not alone:
            raise MergelineError(
                "another `mergeline score` writes to this journal",
                where=str(folder),
                hint="wait until it has ended, or give another folder",
            )
        place = folder / SCORING  # not where the rows belong: the keeper deletes what is half written there
        _empty(place)
        recorder = FileRecorder(folder, settings, signature, release, _identity(source, release.digest), now=now)
        try:
            yield recorder
        finally:
            recorder.close()
            _empty(place)


def _empty(place: Path) -> None:
    """Delete what an interrupted scoring left."""
    for draft in place.glob("*") if place.is_dir() else ():
        draft.unlink()
    with contextlib.suppress(FileNotFoundError):
        place.rmdir()


def _identity(source: Path, digest: str) -> str:
    with source.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashlib.sha256(f"{digest}\n{content}".encode()).hexdigest()[:_IDENTITY_DIGITS]


class FileRecorder:
    """Turns scored rows into rows of the journal, and writes them; see `record_file`.

    `known`: the rows are in the journal already, and nothing is written.
    """

    def __init__(
        self,
        folder: Path,
        settings: JournalParams,
        signature: Signature,
        release: Release,
        identity: str,
        *,
        now: datetime,
    ) -> None:
        self._signature, self._release, self._identity, self._now = signature, release, identity, now
        self._layout, redaction = plan(signature, settings)
        self._hashed = frozenset(settings.hash) if redaction is not None else frozenset()
        self._key = redaction_key(folder, os.environ) if self._hashed else b""
        name = sealed_name(f"scored-{identity}")
        self._table, self._part = folder / PREDICTIONS, digest_part(release.digest)
        self._path = day_folder(self._table, now.astimezone(UTC).date()) / self._part / name
        self._draft = folder / SCORING / name
        self._schema = prediction_schema(self._layout)
        self._writer: TableWriter | None = None
        self._seen: list[NDArray[np.int64]] = []
        with held(str(folder)):
            self.known = _is_there(folder, self._part, name)

    def refused(self, batch: Batch) -> dict[int, str]:
        """Rows whose own time no window can hold, as `POST /predict` refuses them, or whose id a row before has."""
        time, name, given = self._signature.time, self._signature.id, batch.rows
        found: dict[int, str] = {}
        if time is not None and time in given.schema.names:
            values = given.column(time)
            wrong = ~np.asarray(values.is_null(nan_is_null=True)) & np.asarray(_event_times(values).is_null())
            right = f"a time in ISO 8601, from {EARLIEST.year} to {LATEST.year - 1}, is right"
            for place in np.flatnonzero(wrong).tolist():
                found[place] = f"{time} is {shorten(values[place].as_py())}, {right}"
        if name is not None and name in given.schema.names:
            ids = _as_ids(given.column(name))
            for place in self._repeats(ids):
                told = f"{name} is {shorten(ids[place].as_py())}, as in a row before"
                found[place] = f"{found[place]}; {told}" if place in found else told
        return found

    def _repeats(self, ids: pa.Array) -> list[int]:
        """The places of ids that were there before.

        Of each id 8 bytes of its hash are kept, in sorted runs: of ten million ids two have the same by chance in one
        of 370,000 files.
        """
        places = np.flatnonzero(np.asarray(ids.is_valid()))
        hashes = np.fromiter(map(hash, ids.drop_null().to_pylist()), dtype=np.int64, count=len(places))
        fresh, first = np.unique(hashes, return_index=True)
        repeated = np.ones(len(places), dtype=bool)
        repeated[first] = False
        for run in self._seen:
            repeated |= run[np.minimum(np.searchsorted(run, hashes), len(run) - 1)] == hashes
        if len(fresh):
            self._seen.append(fresh)
        while len(self._seen) > 1 and len(self._seen[-2]) <= 2 * len(self._seen[-1]):
            self._seen.append(np.sort(np.concatenate([self._seen.pop(), self._seen.pop()])))
        found: list[int] = places[repeated].tolist()
        return found

    def ids(self, batch: Batch) -> pa.Array:
        """The id of each row: its own, or one that is made from the file and the row's number."""
        import pyarrow as pa
        import pyarrow.compute as pc

        name = self._signature.id
        own = _as_ids(batch.rows.column(name)) if name is not None and name in batch.rows.schema.names else None
        if own is not None and not own.null_count:
            return own
        made = pa.array([f"{self._identity}-{number}" for number in batch.numbers.tolist()], pa.string())
        return made if own is None else pc.coalesce(own, made)

    def table(self, rows: ScoredRows) -> pa.Table:
        """The rows of `prediction_schema`."""
        import pyarrow as pa

        count, classes = len(rows.places), self._signature.output.classes
        if self.known or not count:
            return self._schema.empty_table()
        places = pa.array(rows.places)
        ids = self.ids(rows.batch).take(places)
        if self._signature.id in self._hashed:
            ids = pa.array([hashed(value, self._key) for value in ids.to_pylist()], pa.string())
        made = dict.fromkeys(self._schema.names) | {
            "_id": ids,
            "_time": self._all(count, self._now),
            "_digest": self._all(count, self._release.digest),
            "_version": self._all(count, self._release.version),
            "_role": self._all(count, "stable"),
            "_score": pa.array(rows.scores if rows.scores.ndim == 1 else rows.scores.max(axis=1)),
        }
        if rows.chosen is not None:
            made["_label"] = pa.array(list(map(class_name, classes)), pa.string()).take(pa.array(rows.chosen))
        if rows.scores.ndim > 1:
            ends = np.arange(count + 1, dtype=np.int32) * len(classes)
            made["_scores"] = pa.ListArray.from_arrays(pa.array(ends), pa.array(rows.scores.ravel()))
        given = {name: rows.batch.rows.column(name) for name in rows.batch.rows.schema.names}
        for column, read in zip(self._signature.columns, rows.columns, strict=True):
            if stored_name(column.name) in made:
                made[stored_name(column.name)] = self._values(column, read, given[column.name]).take(places)
        for place, name in enumerate(self._layout.unread):
            if name not in given:
                continue
            if self._layout.timed and place == 0:
                made["_event_time"] = _event_times(given[name].take(places))
            else:
                made[stored_name(name)] = self._texts(name, given[name].take(places))
        return pa.table(
            [
                pa.nulls(count, field.type) if made[field.name] is None else made[field.name].cast(field.type)
                for field in self._schema
            ],
            schema=self._schema,
        )

    def write(self, table: pa.Table) -> None:
        """Add rows to the file that does not count yet."""
        if self.known or not len(table):
            return
        with naming(self._path):
            if self._writer is None:
                self._writer = TableWriter(self._draft, self._schema)
            self._writer.write_table(table)

    def finish(self) -> None:
        """Make all rows count at once."""
        if self._writer is None:
            return
        with naming(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer.finish(self._path)
        self._writer = None
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Let go of a file that was not finished."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _all(self, count: int, value: Any) -> pa.Array:
        import pyarrow as pa

        return pa.repeat(pa.scalar(value), count)

    def _values(self, column: Column, read: ReadColumn, given: pa.Array) -> pa.Array:
        """A column of the model, with null for what is missing."""
        import pyarrow as pa

        if column.name in self._hashed:
            return _by_value(given, lambda words: self._hashes(column, words))
        if isinstance(read.values, TextColumn):
            codes = read.values.codes
            texts = pa.array(read.values.texts, pa.string())
            return texts.take(pa.array(codes, mask=codes < 0))
        if column.kind is Kind.BOOLEAN:
            return pa.array(read.values == 1, mask=np.isnan(read.values))
        return pa.array(read.values, from_pandas=True)

    def _hashes(self, column: Column, words: pa.Array) -> list[str | None]:
        """The hash of each value as the server reads it from JSON: a whole number exactly, a truth value as one."""
        read = ReadColumn(column, words).values
        given = words.to_pylist()
        if isinstance(read, TextColumn):
            return [None if value is None else hashed(value, self._key) for value in given]
        values: list[Any] = read.tolist()
        if column.kind is Kind.BOOLEAN:
            values = [None if np.isnan(value) else bool(value) for value in values]
        elif column.kind is Kind.INTEGER:
            values = [_exactly(word, value) for word, value in zip(given, values, strict=True)]
        return [None if is_missing(value) else hashed(value, self._key) for value in values]

    def _texts(self, name: str, given: pa.Array) -> pa.Array:
        """A column that the model does not read, as text."""
        key = self._key if name in self._hashed else None

        def texts(words: pa.Array) -> list[str | None]:
            values = [_as_sent(value) for value in words.to_pylist()]
            return [None if value is None else hashed(value, key) if key else as_text(value) for value in values]

        return _by_value(given, texts)


def _is_there(folder: Path, part: str, name: str) -> bool:
    """Whether a file is in the journal, on any day; or another that it was merged into."""
    places = [place for _, place in partitions(folder, PREDICTIONS) if place.name == part]
    return any((place / name).exists() for place in places) or any(
        name in sources_of(path) for place in places for path in place.glob("merged-*.parquet")
    )


def _by_value(given: pa.Array, texts: Callable[[pa.Array], list[str | None]]) -> pa.Array:
    """What becomes of each value, asked once for values that are there several times; null of what is no single one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_nested(given.type) or pa.types.is_null(given.type):
        return pa.nulls(len(given), pa.string())
    if not pa.types.is_dictionary(given.type):
        given = pc.dictionary_encode(given)
    return pa.array(texts(given.dictionary), pa.string()).take(given.indices)


def _as_ids(given: pa.Array) -> pa.Array:
    """Ids as text: 5.0 is 5, as JSON has it; empty ones are missing."""
    return _by_value(given, lambda words: [_id_text(word) for word in words.to_pylist()])


def _id_text(value: Any) -> str | None:
    value = _as_sent(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return as_text(value) or None


def _as_sent(value: Any) -> Any:
    """A value as a client sends it: a time in ISO 8601, NaN as null."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _exactly(word: Any, value: float) -> Any:
    """A whole number that a float does not hold exactly, as it is written."""
    text = str(word).strip()
    return int(text) if text.lstrip("+-").isdecimal() else value


def _event_times(given: pa.Array) -> pa.Array:
    """The rows' own times as the journal takes them: UTC where there is no zone, null where no window can hold them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    time = pa.timestamp("us", tz="UTC")
    if pa.types.is_timestamp(given.type) or pa.types.is_date(given.type):
        made = given.cast(pa.timestamp("us", tz=getattr(given.type, "tz", None)), safe=False).cast(time)
    elif pa.types.is_string(given.type) or pa.types.is_large_string(given.type) or pa.types.is_dictionary(given.type):
        words = given if pa.types.is_dictionary(given.type) else pc.dictionary_encode(given)
        times = [as_event_time(word) if is_event_time(word) else None for word in words.dictionary.to_pylist()]
        made = pa.array(times, pa.int64()).cast(time).take(words.indices)
    else:
        return pa.nulls(len(given), time)
    fits = pc.and_(pc.greater_equal(made, pa.scalar(EARLIEST, time)), pc.less(made, pa.scalar(LATEST, time)))
    return pc.if_else(fits, made, pa.scalar(None, time))
