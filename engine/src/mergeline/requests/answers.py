"""Turns a model's scores into the answers of a request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from mergeline.errors import ModelError
from mergeline.params import Task
from mergeline.requests.problems import RecordId
from mergeline.scorer.signature import Label, Output

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class InvalidScoreError(ModelError):
    """A model gave something that is no score."""


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one record gets.

    `score` is the probability of the positive class (binary), that of the label (multiclass), or the
    value (regression, which has no label); `scores` gives every class of a multiclass task its
    probability. `digest` is the identity of the model that answered.
    """

    id: RecordId
    score: float
    label: Label | None
    version: int
    digest: str
    scores: dict[str, float] | None = None


class AnswerMaker:
    """Makes the answers of one model.

    Args:
        output: what its scores mean.
        version: of the model, for people.
        digest: of the model, its identity.

    Raises:
        ModelError: (when it is made) a binary output has no threshold, or not two classes.
    """

    def __init__(self, output: Output, *, version: int, digest: str) -> None:
        self._version, self._digest = version, digest
        self._classes = output.classes
        self._names = [class_name(label) for label in output.classes]
        self._make = self._values
        if output.task is Task.BINARY:
            self._positive = output.positive
            self._threshold, self._negative = _two_classes(output)
            self._make = self._binary
        self._is_multiclass = output.task is Task.MULTICLASS

    def make(self, ids: Sequence[RecordId], scores: NDArray[np.float64]) -> list[Answer]:
        """One answer for each id, in order.

        Args:
            ids: n of them.
            scores: of shape (n,), or (n, k) for a multiclass task with k classes.

        Raises:
            ModelError: the scores have another shape, or one is not a finite number.
        """
        expected = (len(ids), len(self._classes)) if self._is_multiclass else (len(ids),)
        if scores.shape != expected:
            raise InvalidScoreError(
                f"the model gave scores of shape {scores.shape}, expected {expected}",
                where="predict",
                hint="the pipeline must score every row; see the signature's output",
            )
        if self._is_multiclass:
            return self._multiclass(ids, scores.tolist())
        values: list[float] = scores.tolist()
        if not all(map(math.isfinite, values)):
            raise _not_finite(next(row for row, value in enumerate(values) if not math.isfinite(value)))
        return self._make(ids, values)

    def _values(self, ids: Sequence[RecordId], values: list[float]) -> list[Answer]:
        version, digest = self._version, self._digest
        return [Answer(key, value, None, version, digest) for key, value in zip(ids, values, strict=True)]

    def _binary(self, ids: Sequence[RecordId], values: list[float]) -> list[Answer]:
        version, digest = self._version, self._digest
        positive, negative, threshold = self._positive, self._negative, self._threshold
        return [
            Answer(key, value, positive if value >= threshold else negative, version, digest)
            for key, value in zip(ids, values, strict=True)
        ]

    def _multiclass(self, ids: Sequence[RecordId], rows: list[list[float]]) -> list[Answer]:
        answers = []
        for number, (key, row) in enumerate(zip(ids, rows, strict=True)):
            if not all(map(math.isfinite, row)):
                raise _not_finite(number)
            best = row.index(max(row))
            named = dict(zip(self._names, row, strict=True))
            answers.append(Answer(key, row[best], self._classes[best], self._version, self._digest, named))
        return answers


def class_name(label: Label) -> str:
    """A class as a key of `scores`: JSON's keys are strings."""
    return str(label).lower() if isinstance(label, bool) else str(label)


_encoder = msgspec.json.Encoder()


def encode(answers: Sequence[Answer], *, many: bool) -> bytes:
    """The answers as JSON: an array for an array, an object for an object."""
    return _encoder.encode(answers if many else answers[0])


def _not_finite(record: int) -> InvalidScoreError:
    return InvalidScoreError(
        "the model gave a score that is not a finite number",
        where=f"record {record}",
        hint="see what the record holds that training never saw",
    )


def _two_classes(output: Output) -> tuple[float, Label]:
    """The threshold, and the class below it."""
    others = [label for label in output.classes if label != output.positive]
    if output.threshold is None or len(others) != 1:
        raise ModelError(
            "a binary signature needs a threshold and two classes", where="signature.json", hint="train the model again"
        )
    return output.threshold, others[0]
