"""Holds what is being served: one immutable state, replaced whole."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mergeline.errors import MergelineError, ModelError
from mergeline.model.artifact import LoadedModel
from mergeline.release_params import Rollout
from mergeline.requests.answers import Answer, AnswerMaker, encode
from mergeline.requests.decode import BodyReader
from mergeline.requests.problems import RecordId, Value
from mergeline.scorer.signature import Column, Kind
from mergeline.serve.model_process import ModelProcess, describe_failure, score_rows

if TYPE_CHECKING:
    from collections.abc import Sequence


def describe(state: State, *, ready: bool) -> dict[str, Any]:
    """The name, the models, the manifest's digest, and what keeps the newest manifest out of service."""
    serving, failure = state.serving, state.failure
    return {
        "name": serving.name if serving else None,
        "ready": ready,
        "stable": _model(serving.stable) if serving else None,
        "models": [served.model.digest for served in serving.models] if serving else [],
        "manifest": serving.manifest if serving else None,
        "error": _failure(failure) if failure else None,
    }


def _model(served: ServedModel) -> dict[str, Any]:
    since = served.since.isoformat(timespec="milliseconds")
    scoring = "compiled" if served.is_compiled else "scikit-learn"
    told = {"version": served.version, "digest": served.model.digest, "since": since, "scoring": scoring}
    return {**told, "changed_code": list(served.changed)} if served.changed else told


def _failure(failure: Failure) -> dict[str, Any]:
    error, since = failure.error, failure.since.isoformat(timespec="milliseconds")
    return {"what": error.what, "where": error.where, "hint": error.hint, "since": since}


@dataclass(frozen=True)
class ServedModel:
    """One loaded model and what the manifest calls it; `since` is when it began to answer.

    `takes` is for a candidate: which values of a row, read as stable's signature says, are its columns; None takes
    the row as it is. `process` scores in this one's place: whatever is not compiled, and what is only tried. `changed`
    is what it calls of the team's package, where that is not the one that it was trained with.
    """

    version: int
    model: LoadedModel
    since: datetime
    takes: tuple[int, ...] | None = None
    process: ModelProcess | None = None
    changed: tuple[str, ...] = ()

    @cached_property
    def reader(self) -> BodyReader:
        """Reads bodies as this model's signature asks."""
        return BodyReader(self.model.signature)

    @cached_property
    def maker(self) -> AnswerMaker:
        """Makes answers of this model's scores."""
        return AnswerMaker(self.model.signature.output, version=self.version, digest=self.model.digest)

    @property
    def is_compiled(self) -> bool:
        """Whether it scores in microseconds, so that an event loop may do it."""
        return self.model.scorer is not None

    def answer(self, ids: Sequence[RecordId], rows: Sequence[tuple[Value, ...]]) -> list[Answer]:
        """Predict every row at once; one id belongs to each.

        Raises:
            ModelError: the model raised, or gave something that is not a score for each row.
        """
        if self.takes is not None:
            rows = [tuple([row[place] for place in self.takes]) for row in rows]
        try:
            scores = self.process.score(rows) if self.process else score_rows(self.model, rows)
        except ModelError:
            raise
        except BaseException as cause:  # whatever it raises, SystemExit too, is its own failure and nobody else's
            raise describe_failure(cause) from cause
        return self.maker.make(ids, scores)

    def warm_up(self) -> None:
        """Answer the signature's example once, so that nothing is made, or fails, in a real request first.

        Raises:
            ModelError: the model cannot answer its own example, or its signature cannot be read by.
        """
        _ = self.reader, self.maker
        row = tuple(_example(column) for column in self.model.signature.columns)
        encode(replace(self, takes=None).answer(("example",), (row,)), many=False)


@dataclass(frozen=True)
class Failure:
    """Why the newest manifest, or its candidate, is not in service, and since when."""

    error: MergelineError
    since: datetime


@dataclass(frozen=True)
class Serving:
    """Everything that one manifest puts into service; `manifest` is the sha256 of its bytes.

    `rolling_out` is the candidate's digest as the manifest names it; where the candidate could not be loaded beside
    stable, `refused` says why.
    """

    name: str
    manifest: str
    stable: ServedModel
    candidate: ServedModel | None = None
    rollout: Rollout = field(default_factory=Rollout)
    rolling_out: str | None = None
    refused: Failure | None = None

    @property
    def models(self) -> list[ServedModel]:
        """Stable, and the candidate if there is one."""
        return [model for model in (self.stable, self.candidate) if model]


@dataclass(frozen=True)
class State:
    """What is served, if anything, and what keeps the newest manifest out, if anything."""

    serving: Serving | None = None
    failure: Failure | None = None


@dataclass
class CurrentState:
    """The current state: readers take `state` once a request, the reloader assigns it whole."""

    state: State = field(default_factory=State)


def _example(column: Column) -> Value:
    if column.example is not None:
        return column.example
    return None if column.kind is Kind.CATEGORY else float("nan")
