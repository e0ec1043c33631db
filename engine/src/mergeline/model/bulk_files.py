"""Reads Parquet and CSV files batch by batch, and writes such files whole or not at all."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mergeline.dataset import Kind
from mergeline.documents import nearest, repeated
from mergeline.errors import DataError
from mergeline.files import naming

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from mergeline.scorer.signature import Signature

BATCH_ROWS = 16_384
_CSV_BYTES, _WINDOW_BYTES = 8_000_000, 1_000_000


class _NoPandas:
    """Finds no pandas; what is imported otherwise is left to others."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def spare_pandas() -> None:
    """Keep pyarrow from importing pandas, which it looks for at its first conversion and which takes a quarter second.

    For a process that scores with a compiled model and ends: pyarrow does not know a Series from a list afterwards.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(_NoPandas)


class Batch(NamedTuple):
    """A part of the input: rows with their numbers in the file, from 1, and what is no row, with the reason."""

    numbers: NDArray[np.int64]
    rows: pa.RecordBatch
    broken: list[tuple[int, str]]


def read_batches(path: Path, signature: Signature) -> Iterator[Batch]:
    """The file's batches; a file that cannot be read says so in one sentence."""
    import pyarrow as pa

    try:
        yield from _read_csv(path, signature) if path.suffix == ".csv" else _read_parquet(path, signature)
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), hint="check the name") from None
    except (pa.ArrowException, OSError, UnicodeError) as cause:
        what = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        raise DataError(f"the file is damaged: {what}", where=str(path), hint="write it again") from cause


def _read_parquet(path: Path, signature: Signature) -> Iterator[Batch]:
    import pyarrow.parquet as pq

    texts = [column.name for column in signature.columns if column.kind is Kind.CATEGORY]
    # Column by column through a small window: a row group of a million rows is never in memory as a whole.
    with pq.ParquetFile(path, read_dictionary=texts, buffer_size=_WINDOW_BYTES, pre_buffer=False) as file:
        _require_columns(file.schema_arrow.names, signature, path)
        first = 1
        for rows in file.iter_batches(batch_size=BATCH_ROWS):
            yield Batch(np.arange(first, first + len(rows)), rows, [])
            first += len(rows)


def _read_csv(path: Path, signature: Signature) -> Iterator[Batch]:
    import pyarrow as pa
    from pyarrow import csv

    broken: list[tuple[int, str]] = []

    def set_aside(row: Any) -> str:
        broken.append((row.number - 1, f"{row.actual_columns} cells, the header has {row.expected_columns}"))
        return "skip"

    with path.open(encoding="utf-8-sig") as stream:
        header = next(iter(_cells(stream.readline())), [])
        names = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(header)]  # as pandas reads it
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
    first = told = 0
    for rows in reader:
        for start in range(0, len(rows), BATCH_ROWS):
            part, found = rows.slice(start, BATCH_ROWS), broken[told:]
            yield Batch(_numbers(first, len(part), broken), part, found)
            first, told = first + len(part), told + len(found)
    if told < len(broken):
        nothing = pa.RecordBatch.from_pylist([], schema=reader.schema)
        yield Batch(np.zeros(0, dtype=np.int64), nothing, broken[told:])


def _numbers(first: int, count: int, broken: list[tuple[int, str]]) -> NDArray[np.int64]:
    """The numbers of so many rows in a file, of which `first` rows came before them; broken ones count as well."""
    places = np.arange(first + 1, first + count + 1)
    lost = np.array([number for number, _ in broken], dtype=np.int64)
    return places + np.searchsorted(lost - np.arange(len(lost)), places, side="right")


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


class _Csv:
    """Writes a table's texts in quotes only where one of them needs it: Arrow puts all into quotes, or none."""

    def __init__(self, path: Path) -> None:
        self._stream = path.open("wb")

    def write_table(self, table: pa.Table) -> None:
        import csv

        import pyarrow as pa
        from pyarrow.csv import WriteOptions, write_csv

        def written(quotes: str) -> pa.Buffer:
            sink = pa.BufferOutputStream()
            # Without a header, Arrow 25 writes zero bytes where a table begins with an empty chunk.
            write_csv(table.combine_chunks(), sink, WriteOptions(include_header=False, quoting_style=quotes))
            return sink.getvalue()

        if not self._stream.tell():
            header = io.StringIO()
            csv.writer(header, lineterminator="\n").writerow(table.column_names)
            self._stream.write(header.getvalue().encode())
        try:
            content = written("none")
        except pa.ArrowInvalid:  # a comma, a quote or a line's end in a text
            content = written("needed")
        self._stream.write(content)

    def close(self) -> None:
        self._stream.close()


class WholeFile:
    """Writes tables to a file that takes its place when all of it is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft: Path | None = None
        self._file: Any = None

    def __enter__(self) -> WholeFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk, which whoever wrote was told
                self._file.close()
        if self._draft is not None:
            self._draft.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Write rows; the first table says what columns there are."""
        with naming(self._path):
            if self._file is None:
                self._open(table.schema)
            self._file.write_table(table)

    def keep(self) -> None:
        """Put the whole file where it belongs."""
        if self._file is None or self._draft is None:
            return
        with naming(self._path):
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
            self._file = _Csv(self._draft)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            # A dictionary of scores and row numbers, which hardly repeat, would be made in vain.
            texts = [field.name for field in schema if not pa.types.is_primitive(field.type)]
            self._file = pq.ParquetWriter(self._draft, schema, use_dictionary=texts)
