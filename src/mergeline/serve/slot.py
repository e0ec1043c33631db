"""Holds what is being served: one immutable state, replaced whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from mergeline.errors import MergelineError, ModelError
from mergeline.model.artifact import LoadedModel
from mergeline.model.signature import Column, Kind
from mergeline.serve.answers import Answer, encode, make_answers
from mergeline.serve.records import Batch, RecordReader, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


@dataclass(frozen=True)
class ServedModel:
    """One loaded model and what the manifest calls it; `since` is when it began to answer."""

    version: int
    model: LoadedModel
    since: datetime

    @cached_property
    def reader(self) -> RecordReader:
        """Reads records as this model's signature asks."""
        return RecordReader(self.model.signature)

    def answer(self, batch: Batch) -> list[Answer]:
        """Predict every row of `batch` at once.

        Raises:
            ModelError: the pipeline raised, or gave something that is not a score for each row.
        """
        try:
            scores = self.model.predict(to_frame(batch.rows, self.model.signature.columns))
        except Exception as cause:
            raise ModelError(
                f"the model failed: {type(cause).__name__}: {cause}",
                where="predict",
                mend="see what the records hold that training never saw",
            ) from cause
        return make_answers(
            batch.ids, scores, self.model.signature.output, version=self.version, digest=self.model.digest
        )

    def warm_up(self) -> None:
        """Answer the signature's example once, so that nothing is made, or fails, in a real request first.

        Raises:
            ModelError: the model cannot answer its own example, or its signature cannot be read by.
        """
        _ = self.reader
        row = tuple(_example(column) for column in self.model.signature.columns)
        encode(self.answer(Batch(("example",), (row,), many=False)), many=False)


@dataclass(frozen=True)
class Serving:
    """Everything that one manifest puts into service; `manifest` is the sha256 of its bytes."""

    name: str
    manifest: str
    stable: ServedModel


@dataclass(frozen=True)
class Failure:
    """Why the newest manifest is not in service, and since when."""

    error: MergelineError
    since: datetime


@dataclass(frozen=True)
class State:
    """What is served, if anything, and what keeps the newest manifest out, if anything."""

    serving: Serving | None = None
    failure: Failure | None = None


@dataclass
class Slot:
    """The current state: readers take `state` once a request, the reloader assigns it whole."""

    state: State = field(default_factory=State)


def to_frame(rows: Sequence[tuple[Value, ...]], columns: Sequence[Column]) -> pd.DataFrame:
    """The rows of one request as one frame, a column each."""
    import pandas as pd

    return pd.DataFrame(dict(zip((column.name for column in columns), zip(*rows, strict=True), strict=True)))


def _example(column: Column) -> Value:
    if column.example is not None:
        return column.example
    return None if column.kind is Kind.CATEGORY else float("nan")
